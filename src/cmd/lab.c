/* SPDX-License-Identifier: BSD-2-Clause
 *
 * lab.c - `meercat lab`: laboratories of namespaces from a topology file.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/near.h"
#include "cmd/cmd.h"
#include "cmd/table.h"
#include "lab/lab.h"
#include "lab/probe.h"
#include "lab/space.h"

struct options {
    const char *name, *dir, *signal;
    bool json, all, one_way, host;
};

/* words: what follows the options, NULL at the end. */
typedef int lab_f(const struct options *, int n, char **words);

static lab_f lab_probe, lab_check, lab_up_file, lab_down_one, lab_status, lab_names, lab_exec,
    lab_shell, lab_start, lab_stop, lab_cut, lab_heal, lab_kill, lab_loss, lab_delay, lab_slow,
    lab_freeze, lab_thaw;

static const struct {
    const char *name;
    lab_f *fn;
    int least, most; /* words; -1: any number */
    const char *args, *help;
} verbs[] = {
    {"probe", lab_probe, 0, 0, "", "what this machine can do of it"},
    {"check", lab_check, 1, 1, "FILE", "check a topology, tell every fault"},
    {"up", lab_up_file, 1, 1, "[--name NAME] [--dir DIR] FILE", "bring a laboratory up"},
    {"down", lab_down_one, 0, 0, "[--all]", "take it down; with --all every one"},
    {"list", lab_names, 0, 0, "", "the laboratories that are up"},
    {"status", lab_status, 0, 0, "[--json]", "its hosts, programs and faults"},
    {"exec", lab_exec, 2, -1, "HOST COMMAND [ARGUMENT ...]", "run a command on a host"},
    {"shell", lab_shell, 1, 1, "HOST", "a shell on a host"},
    {"start", lab_start, 1, 2, "HOST [PROGRAM]", "start what is not running"},
    {"stop", lab_stop, 1, 2, "HOST [PROGRAM]", "end it by SIGTERM"},
    {"kill", lab_kill, 1, 2, "[--signal NAME] HOST [PROGRAM]", "end it by SIGKILL"},
    {"cut", lab_cut, 1, 2, "[--one-way] A [B]",
     "let nothing pass from and to A, or between A and B"},
    {"loss", lab_loss, 2, 2, "A PERCENT", "lose that share of what passes A"},
    {"freeze", lab_freeze, 1, 2, "[--host] HOST [PROGRAM]",
     "stop it by SIGSTOP, or all of the host"},
    {"thaw", lab_thaw, 1, 2, "HOST [PROGRAM]", "let it go on"},
    {"slow", lab_slow, 2, 2, "HOST PERCENT", "give it so much of a core; 0 is as much as there is"},
    {"delay", lab_delay, 2, 2, "A TIME", "let packets take so much longer through A, each way"},
    {"heal", lab_heal, 0, 1, "[A]", "take all of that back, but for what has ended"},
};

static int
complain(const char *text)
{
    fprintf(stderr, "meercat lab: %s\n", text);
    return 1;
}

/* Others see none of them: none is up, as far as they know. */
static bool
is_root(void)
{
    if (geteuid() == 0)
        return true;
    complain("laboratories are root's: run as root");
    return false;
}

/* Whom a command is for: who is named, or else the only one that is up. */
static char *
find_lab(const struct options *o)
{
    const char *name = o->name ? o->name : getenv("MEERCAT_LAB");
    char **names, *found = NULL;
    unsigned n;

    if (!is_root())
        return NULL;
    if (name != NULL && !lab_name_is_good(name)) {
        fprintf(stderr, "meercat lab: \"%s\" is no name, expected letters and digits\n", name);
        return NULL;
    }
    if (name != NULL)
        return mc_strdup(name);
    n = lab_list(&names);
    if (n == 0)
        complain("no laboratory is up");
    else if (n > 1)
        complain("several are up, expected --name; `meercat lab list` has them");
    else
        found = mc_strdup(names[0]);
    lab_list_free(names, n);
    return found;
}

/* Asks the warden; true when it agreed. */
static bool
ask(const struct options *o, unsigned n, const char *const words[], struct lab_reply *r)
{
    char *name = find_lab(o), *copy[8];
    struct errbuf e;
    bool ok = false;

    *r = (struct lab_reply){0};
    if (name == NULL)
        return false;
    MC_ASSERT(n <= MC_COUNT(copy));
    for (unsigned i = 0; i < n; i++)
        copy[i] = (char *)words[i];
    if (lab_ask(name, n, copy, r, &e) != MC_OK)
        complain(e.text);
    else if (!r->ok)
        complain(r->text.p ? r->text.p : "refused");
    else
        ok = true;
    free(name);
    return ok;
}

/* An order without an answer; words up to the first NULL. */
static int
order(const struct options *o, const char *a, const char *b, const char *c, const char *d)
{
    const char *words[] = {a, b, c, d};
    struct lab_reply r;
    unsigned n = 0;
    bool ok;

    while (n < MC_COUNT(words) && words[n] != NULL)
        n++;
    ok = ask(o, n, words, &r);
    lab_reply_free(&r);
    return ok ? 0 : 1;
}

/* --- what can be done --------------------------------------------------------------------------
 */

static int
lab_probe(const struct options *o, int n, char **words)
{
    struct probe probes[PROBES_MAX];
    unsigned n_probes = probe_all(probes);
    struct table t = {0};
    int rv = 0;

    table_init(&t, "PART WORKS USED-FOR FOUND");
    for (unsigned i = 0; i < n_probes; i++) {
        const struct probe *p = &probes[i];

        table_add(&t, TABLE_PLAIN, "%s", p->name);
        table_add(&t, p->works ? TABLE_GOOD : TABLE_BAD, p->works ? "yes" : "no");
        table_add(&t, TABLE_PLAIN, "%s", p->used_for);
        table_add(&t, TABLE_PLAIN, "%s", p->why.text[0] ? p->why.text : "-");
        if (p->needed && !p->works)
            rv = 1;
    }
    table_print(&t, stdout);
    table_free(&t);
    return rv;
}

/* --- up and down -------------------------------------------------------------------------------
 */

/* NULL when it has faults, which are told; warnings are told, too. */
static struct topology *
load(const char *path)
{
    struct conf_faults faults = {0};
    struct buf text = {0};
    struct topology *t;

    topology_load(path, &t, &faults);
    conf_faults_text(&faults, &text);
    if (text.n > 0)
        fwrite(text.p, 1, text.n, stderr);
    conf_faults_free(&faults);
    buf_free(&text);
    return t;
}

static int
lab_check(const struct options *o, int n, char **words)
{
    struct topology *t = load(words[0]);

    if (t == NULL)
        return 1;
    printf("%s: ok\n", words[0]);
    topology_free(&t);
    return 0;
}

/* "three" of "lab/three.conf" */
static char *
name_of(const char *path)
{
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    size_t n = strlen(base);

    if (n > 5 && strcmp(base + n - 5, ".conf") == 0)
        n -= 5;
    return str_dup((struct str){base, n});
}

static int
bring_up(const struct options *o, const struct topology *t, const char *name)
{
    char meercat[PATH_MAX] = "", dir[PATH_MAX];
    struct lab_up up = {.name = name, .meercat = meercat};
    struct errbuf e;

    if (!lab_name_is_good(name)) {
        fprintf(stderr, "meercat lab: \"%s\" is no name, expected --name with letters and digits\n",
                name);
        return 2;
    }
    if (readlink("/proc/self/exe", meercat, sizeof(meercat) - 1) < 0)
        return complain(strerror(errno));
    if (o->dir != NULL) {
        mkdir(o->dir, 0755);
        if (realpath(o->dir, dir) == NULL) {
            fprintf(stderr, "meercat lab: %s: %s\n", o->dir, strerror(errno));
            return 1;
        }
        up.dir = dir;
    }
    return lab_up(&up, t, &e) == MC_OK ? 0 : complain(e.text);
}

static int
lab_up_file(const struct options *o, int n, char **words)
{
    char *path = realpath(words[0], NULL), *name;
    struct topology *t = load(path ? path : words[0]);
    int rv;

    if (t == NULL) {
        free(path);
        return 1;
    }
    name = o->name ? mc_strdup(o->name) : name_of(path);
    rv = bring_up(o, t, name);
    free(name);
    free(path);
    topology_free(&t);
    return rv;
}

static int
lab_down_one(const struct options *o, int n, char **words)
{
    char **names, *name;
    struct errbuf e;
    unsigned n_names;
    int rv = 0;

    if (!o->all) {
        name = find_lab(o);
        if (name == NULL)
            return 1;
        rv = lab_down(name, &e) == MC_OK ? 0 : complain(e.text);
        free(name);
        return rv;
    }
    if (!is_root())
        return 1;
    n_names = lab_list(&names);
    for (unsigned i = 0; i < n_names; i++)
        if (lab_down(names[i], &e) != MC_OK)
            rv = complain(e.text);
    lab_list_free(names, n_names);
    lab_sweep();
    return rv;
}

static int
lab_names(const struct options *o, int n, char **words)
{
    char **names;
    unsigned n_names;

    if (!is_root())
        return 1;
    n_names = lab_list(&names);
    for (unsigned i = 0; i < n_names; i++)
        printf("%s\n", names[i]);
    lab_list_free(names, n_names);
    return 0;
}

/* --- status ------------------------------------------------------------------------------------
 */

static char *
addresses_of(json_t *host)
{
    struct buf b = {0};
    json_t *link, *address;
    size_t i, k;

    json_array_foreach(json_object_get(host, "links"), i, link)
        json_array_foreach(json_object_get(link, "addresses"), k, address)
            buf_printf(&b, "%s%s", b.n > 0 ? " " : "", json_string_value(address));
    json_array_foreach(json_object_get(host, "addresses"), k, address)
        buf_printf(&b, "%slo:%s", b.n > 0 ? " " : "", json_string_value(address));
    return b.p != NULL ? b.p : mc_strdup("-");
}

static enum table_colour
colour_of(const char *state)
{
    if (strcmp(state, "running") == 0)
        return TABLE_GOOD;
    return strcmp(state, "off") == 0 ? TABLE_DIM : TABLE_BAD;
}

static void
add_host(struct table *t, json_t *host)
{
    json_t *programs = json_object_get(host, "programs"), *p;
    char *addresses = addresses_of(host);
    bool frozen = json_is_true(json_object_get(host, "frozen"));
    double cpu = json_number_value(json_object_get(host, "cpu_percent"));
    size_t i = 0;

    table_add(t, TABLE_PLAIN, "%s", json_string_value(json_object_get(host, "name")));
    table_add(t, TABLE_PLAIN, "%s", json_string_value(json_object_get(host, "role")));
    table_add(t, frozen ? TABLE_BAD : TABLE_PLAIN, frozen ? "frozen" : cpu > 0 ? "%g%%" : "-", cpu);
    table_add(t, TABLE_PLAIN, "%s", addresses);
    json_array_foreach(programs, i, p)
    {
        const char *state = json_string_value(json_object_get(p, "state"));

        for (unsigned k = 0; i > 0 && k < 4; k++)
            table_add(t, TABLE_PLAIN, "%s", "");
        table_add(t, TABLE_PLAIN, "%s", json_string_value(json_object_get(p, "name")));
        table_add(t, colour_of(state), "%s", state);
    }
    if (json_array_size(programs) == 0) {
        table_add(t, TABLE_DIM, "-");
        table_add(t, TABLE_DIM, "-");
    }
    free(addresses);
}

static void
print_cuts(json_t *cuts)
{
    json_t *c;
    size_t i;

    json_array_foreach(cuts, i, c)
    {
        const char *a = json_string_value(json_object_get(c, "a"));
        const char *b = json_string_value(json_object_get(c, "b"));
        const char *way = json_string_value(json_object_get(c, "way"));

        if (strcmp(way, "both") == 0)
            printf("cut: %s%s%s\n", a, b ? " and " : "", b ? b : "");
        else if (b != NULL)
            printf("cut: what %s sends to %s\n", a, b);
        else
            printf("cut: what %s\n", strcmp(way, "from") == 0 ? "comes from" : "goes to");
    }
}

/* Links that are worse than a good cable. */
static void
print_weather(json_t *hosts)
{
    json_t *host, *link;
    size_t i, k;

    json_array_foreach(hosts, i, host)
    {
        json_array_foreach(json_object_get(host, "links"), k, link)
        {
            double loss = json_number_value(json_object_get(link, "loss_percent"));
            double delay = json_number_value(json_object_get(link, "delay_ms"));

            if (loss > 0 || delay > 0)
                printf("link: %s.%s: %g %% lost, %g ms later\n",
                       json_string_value(json_object_get(host, "name")),
                       json_string_value(json_object_get(link, "network")), loss, delay);
        }
    }
}

static void
print_status(json_t *root)
{
    struct table t = {0};
    json_t *hosts = json_object_get(root, "hosts"), *host;
    size_t i;

    printf("%s: %s, files in %s\n", json_string_value(json_object_get(root, "name")),
           json_string_value(json_object_get(root, "topology")),
           json_string_value(json_object_get(root, "dir")));
    table_init(&t, "HOST ROLE CPU ADDRESSES PROGRAM STATE");
    json_array_foreach(hosts, i, host) add_host(&t, host);
    table_print(&t, stdout);
    table_free(&t);
    print_cuts(json_object_get(root, "cuts"));
    print_weather(hosts);
}

static int
lab_status(const struct options *o, int n, char **words)
{
    static const char *const asked[] = {"status"};
    struct lab_reply r;
    json_t *root;
    bool ok = ask(o, 1, asked, &r);

    if (ok && o->json) {
        printf("%s\n", r.text.p);
    } else if (ok) {
        root = json_loads(r.text.p, 0, NULL);
        ok = root != NULL;
        if (ok)
            print_status(root);
        json_decref(root);
    }
    lab_reply_free(&r);
    return ok ? 0 : 1;
}

/* --- on a host ---------------------------------------------------------------------------------
 */

/* In the child: the host's namespaces and control groups, the directory we were in; then the
 * command. */
static _Noreturn void
become(const struct lab_reply *r, char **argv)
{
    struct space host = {.net = r->fds[0], .mnt = r->fds[1], .uts = r->fds[2]};
    struct errbuf e;
    char cwd[PATH_MAX] = "";

    if (getcwd(cwd, sizeof(cwd)) == NULL)
        cwd[0] = '\0';
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (unsigned i = 4; i < r->n_fds; i++)
        if (write(r->fds[i], "0", 1) < 0)
            complain("control group");
    if (space_enter(&host, &e) != MC_OK) {
        complain(e.text);
        _exit(125);
    }
    /* the root of its mounts is where setns(2) left us */
    if (chdir(cwd) < 0 && chdir(r->text.p) < 0) {
        complain(strerror(errno));
        _exit(125);
    }
    setenv("LAB_DIR", r->text.p, 1);
    lab_set_path();
    execvp(argv[0], argv);
    fprintf(stderr, "meercat lab: %s: %s\n", argv[0], strerror(errno));
    _exit(errno == ENOENT ? 127 : 126);
}

static volatile pid_t child_pid; /* for the signal handler */

static void
pass_on(int sig)
{
    kill(child_pid, sig);
}

/* A child in a PID namespace.  The process itself stays where it is, and so do its later children.
 */
static pid_t
fork_into(int pid_ns)
{
    int own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    pid_t pid = -1;

    fflush(NULL);
    if (own >= 0 && setns(pid_ns, CLONE_NEWPID) == 0) {
        pid = fork();
        if (pid != 0 && setns(own, CLONE_NEWPID) < 0)
            complain(strerror(errno));
    }
    if (own >= 0)
        close(own);
    return pid;
}

/* Runs a command on a host; its exit status, or 128 and the signal that ended it. */
static int
run_on(const struct lab_reply *r, char **argv)
{
    pid_t pid = fork_into(r->fds[3]);
    int status;

    if (pid < 0) {
        complain(strerror(errno));
        return 125;
    }
    if (pid == 0)
        become(r, argv);
    child_pid = pid;
    /* the terminal tells both of us of these; the child decides */
    signal(SIGINT, SIG_IGN);
    signal(SIGQUIT, SIG_IGN);
    signal(SIGTERM, pass_on);
    signal(SIGHUP, pass_on);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return 1;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int
lab_exec(const struct options *o, int n, char **words)
{
    const char *const asked[] = {"enter", words[0]};
    struct lab_reply r;
    int rv = 125;

    if (ask(o, 2, asked, &r))
        rv = r.n_fds >= 4 ? run_on(&r, words + 1) : complain("the warden gave no namespaces");
    lab_reply_free(&r);
    return rv;
}

static int
lab_shell(const struct options *o, int n, char **words)
{
    char *shell = getenv("SHELL");
    char plain[] = "/bin/sh", *both[] = {words[0], plain, NULL};

    if (shell != NULL && shell[0] == '/')
        both[1] = shell;
    return lab_exec(o, 2, both);
}

/* --- orders ------------------------------------------------------------------------------------
 */

static int
lab_start(const struct options *o, int n, char **words)
{
    return order(o, "start", words[0], words[1], NULL);
}

static int
lab_stop(const struct options *o, int n, char **words)
{
    return order(o, "stop", words[0], words[1], NULL);
}

static int
lab_kill(const struct options *o, int n, char **words)
{
    const char *sig = o->signal ? o->signal : "KILL";

    if (strncmp(sig, "SIG", 3) == 0)
        sig += 3;
    return order(o, "kill", sig, words[0], words[1]);
}

static int
lab_cut(const struct options *o, int n, char **words)
{
    return order(o, "cut", o->one_way ? "one" : "both", words[0], words[1]);
}

static int
lab_loss(const struct options *o, int n, char **words)
{
    return order(o, "loss", words[0], words[1], NULL);
}

static int
lab_delay(const struct options *o, int n, char **words)
{
    return order(o, "delay", words[0], words[1], NULL);
}

static int
lab_slow(const struct options *o, int n, char **words)
{
    return order(o, "slow", words[0], words[1], NULL);
}

static int
lab_freeze(const struct options *o, int n, char **words)
{
    return order(o, "freeze", o->host ? "host" : "processes", words[0], words[1]);
}

static int
lab_thaw(const struct options *o, int n, char **words)
{
    return order(o, "thaw", words[0], words[1], NULL);
}

static int
lab_heal(const struct options *o, int n, char **words)
{
    return order(o, "heal", words[0], NULL, NULL);
}

/* --- the command line --------------------------------------------------------------------------
 */

static int
help(FILE *f)
{
    fprintf(f, "usage: meercat lab COMMAND [--name NAME] [OPTION ...] ...\n\n");
    for (unsigned i = 0; i < MC_COUNT(verbs); i++)
        fprintf(f, "  %-7s %-32s %s\n", verbs[i].name, verbs[i].args, verbs[i].help);
    fprintf(f, "\nA and B are HOST, NETWORK or HOST.NETWORK; meercat-lab(8) tells more.\n");
    return f == stdout ? 0 : 2;
}

static int
unknown(const char *verb)
{
    struct near near = {.asked = str_of(verb)};

    for (unsigned i = 0; i < MC_COUNT(verbs); i++)
        near_offer(&near, verbs[i].name);
    if (near.best == NULL)
        return help(stderr);
    fprintf(stderr, "meercat lab: no command \"%s\", did you mean \"%s\"?\n", verb, near.best);
    return 2;
}

/* Options up to the first word that is none, so that those of a command on a host are left alone.
 * False: there was one that is unknown. */
static bool
read_options(int argc, char **argv, struct options *o)
{
    static const struct option known[] = {
        {"name", required_argument, NULL, 'n'},   {"dir", required_argument, NULL, 'd'},
        {"signal", required_argument, NULL, 's'}, {"json", no_argument, NULL, 'j'},
        {"all", no_argument, NULL, 'a'},          {"one-way", no_argument, NULL, '1'},
        {"host", no_argument, NULL, 'h'},         {0}};
    bool exec = strcmp(argv[0], "exec") == 0;
    int opt;

    while ((opt = getopt_long(argc, argv, exec ? "+n:" : "n:d:s:j", known, NULL)) != -1) {
        switch (opt) {
        case 'n': o->name = optarg; break;
        case 'd': o->dir = optarg; break;
        case 's': o->signal = optarg; break;
        case 'j': o->json = true; break;
        case 'a': o->all = true; break;
        case '1': o->one_way = true; break;
        case 'h': o->host = true; break;
        default: return false;
        }
    }
    return true;
}

int
cmd_lab(int argc, char **argv)
{
    struct options o = {0};
    unsigned v = 0;
    int n;

    if (argc < 2)
        return help(stderr);
    if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0)
        return help(stdout);
    while (v < MC_COUNT(verbs) && strcmp(verbs[v].name, argv[1]) != 0)
        v++;
    if (v == MC_COUNT(verbs))
        return unknown(argv[1]);
    argc--, argv++;
    if (!read_options(argc, argv, &o))
        return 2;
    n = argc - optind;
    if (n < verbs[v].least || (verbs[v].most >= 0 && n > verbs[v].most)) {
        fprintf(stderr, "usage: meercat lab %s %s\n", verbs[v].name, verbs[v].args);
        return 2;
    }
    return verbs[v].fn(&o, n, argv + optind);
}

/* Hidden: the keys of a topology for meercat-lab(8), see man/update. */
int
cmd_lab_keys(int argc, char **argv)
{
    struct buf text = {0};

    topology_keys_mdoc(&text);
    fwrite(text.p, 1, text.n, stdout);
    buf_free(&text);
    return 0;
}
