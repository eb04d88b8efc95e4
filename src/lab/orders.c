/* SPDX-License-Identifier: BSD-2-Clause
 *
 * orders.c - what a warden can be asked and told: one function an order, named in one table.
 */
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/near.h"
#include "lab/warden.h"

#define DELAY_MAX_NS (60 * MC_SEC)

typedef enum mc_err order_f(struct warden *, unsigned n, char *const words[], struct order_reply *,
                            struct errbuf *);

static enum mc_err
find_host(struct warden *w, const char *name, struct warden_host **out, struct errbuf *e)
{
    const struct topology_host *h = topology_host_find(w->topology, str_of(name));
    struct near near = {.asked = str_of(name)};

    if (h != NULL) {
        *out = &w->hosts[h - w->topology->hosts];
        return MC_OK;
    }
    for (unsigned i = 0; i < w->topology->n_hosts; i++)
        near_offer(&near, w->topology->hosts[i].name);
    if (near.best != NULL)
        err_set(e, "no host \"%s\", expected \"%s\" perhaps", name, near.best);
    else
        err_set(e, "no host \"%s\"; `meercat lab status` lists them", name);
    return MC_ENOENT;
}

/* --- status ------------------------------------------------------------------------------------
 */

static json_t *
lines_json(const struct topology_lines *ls)
{
    json_t *a = json_array();

    for (unsigned i = 0; i < ls->n; i++)
        json_array_append_new(a, json_string(ls->v[i].text));
    return a;
}

static json_t *
links_json(const struct warden *w, unsigned host)
{
    json_t *a = json_array();

    for (unsigned i = 0; i < w->n_ports; i++) {
        const struct warden_port *p = &w->ports[i];

        if (p->host != host)
            continue;
        json_array_append_new(
            a, json_pack("{s:s, s:o, s:s, s:f, s:f, s:I}", "network", p->link->name, "addresses",
                         lines_json(&p->link->addresses), "port", p->bridged, "loss_percent",
                         p->loss_ppm / 1e4, "delay_ms", (double)p->delay_ns / 1e6, "bits_per_s",
                         (json_int_t)p->link->weather.bits_per_s));
    }
    return a;
}

/* What became of a program, in a word: "running", "stopped", "exited 1", "killed by 9", "off". */
static void
proc_state(const struct warden_host *h, const struct warden_proc *p, const struct proc *procs,
           unsigned n, struct buf *b)
{
    bool stopped = false;

    for (unsigned i = 0; i < n; i++)
        if (p->session > 0 && procs[i].session == p->session && strcmp(procs[i].net, h->net) == 0)
            stopped |= procs[i].state == 'T';
    if (p->session == 0)
        buf_printf(b, "off");
    else if (work_runs(h, p, procs, n))
        buf_printf(b, stopped ? "stopped" : "running");
    else if (WIFSIGNALED(p->status))
        buf_printf(b, "killed by %d", WTERMSIG(p->status));
    else
        buf_printf(b, "exited %d", WEXITSTATUS(p->status));
}

static json_t *
pids_json(const struct warden_host *h, const struct proc *procs, unsigned n, pid_t session)
{
    json_t *a = json_array();

    for (unsigned i = 0; i < n; i++)
        if (strcmp(procs[i].net, h->net) == 0 && (session < 0 || procs[i].session == session))
            json_array_append_new(a, json_integer(procs[i].outer));
    return a;
}

static json_t *
programs_json(const struct warden_host *h, const struct proc *procs, unsigned n)
{
    json_t *a = json_array();

    for (unsigned i = 0; i < h->conf->n_starts; i++) {
        const struct warden_proc *p = &h->procs[i];
        struct buf state = {0};
        char *log = mc_printf("%s/%s.log", h->dir, p->conf->name);

        proc_state(h, p, procs, n, &state);
        json_array_append_new(
            a, json_pack("{s:s, s:s, s:o, s:s}", "name", p->conf->name, "state", state.p, "pids",
                         p->session > 0 ? pids_json(h, procs, n, p->session) : json_array(), "log",
                         log));
        buf_free(&state);
        free(log);
    }
    return a;
}

static json_t *
host_json(const struct warden *w, unsigned i, const struct proc *procs, unsigned n)
{
    const struct warden_host *h = &w->hosts[i];
    char *net = mc_printf("/proc/%d/fd/%d", (int)w->outer_pid, h->space.net);
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:b, s:f, s:I}", "name",
                          h->conf->name, "role", topology_role_name(h->conf->role), "dir", h->dir,
                          "net", net, "addresses", lines_json(&h->conf->addresses), "links",
                          links_json(w, i), "programs", programs_json(h, procs, n), "pids",
                          pids_json(h, procs, n, -1), "frozen", h->is_frozen, "cpu_percent",
                          h->cpu_ppm / 1e4, "memory_bytes", (json_int_t)h->conf->memory_bytes);

    free(net);
    return o;
}

static json_t *
cuts_json(const struct warden *w)
{
    json_t *a = json_array();

    for (unsigned i = 0; i < w->faults.n_cuts; i++) {
        const struct fault_cut *c = &w->faults.cuts[i];
        struct buf from = {0}, to = {0};

        fault_target_text(w->topology, c->a, &from);
        if (c->has_b)
            fault_target_text(w->topology, c->b, &to);
        json_array_append_new(a, json_pack("{s:s, s:s?, s:s}", "a", from.p, "b", to.p, "way",
                                           c->from && c->to ? "both"
                                           : c->from        ? "from"
                                                            : "to"));
        buf_free(&from);
        buf_free(&to);
    }
    return a;
}

static enum mc_err
order_status(struct warden *w, unsigned n_words, char *const words[], struct order_reply *r,
             struct errbuf *e)
{
    struct proc *procs;
    unsigned n = procs_scan(w->outer_proc, w->pid_ns, &procs);
    json_t *hosts = json_array(), *o;
    char *text;

    for (unsigned i = 0; i < w->topology->n_hosts; i++)
        json_array_append_new(hosts, host_json(w, i, procs, n));
    o = json_pack("{s:s, s:s, s:s, s:i, s:o, s:o}", "name", w->name, "topology", w->topology->path,
                  "dir", w->dir, "warden", (int)w->outer_pid, "hosts", hosts, "cuts", cuts_json(w));
    text = json_dumps(o, JSON_COMPACT);
    MC_ASSERT(text != NULL);
    buf_str(&r->text, str_of(text));
    free(text);
    json_decref(o);
    free(procs);
    return MC_OK;
}

/* --- entering ----------------------------------------------------------------------------------
 */

/* Descriptors of all namespaces of a host, its own first, then those of its control groups. */
static enum mc_err
order_enter(struct warden *w, unsigned n, char *const words[], struct order_reply *r,
            struct errbuf *e)
{
    struct warden_host *h;
    int ours[4];

    if (find_host(w, words[1], &h, e) != MC_OK)
        return MC_ENOENT;
    ours[0] = h->space.net;
    ours[1] = h->space.mnt;
    ours[2] = h->space.uts;
    for (unsigned i = 0; i < 3; i++)
        r->fds[r->n_fds++] = fcntl(ours[i], F_DUPFD_CLOEXEC, 0);
    r->fds[r->n_fds++] = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    static_assert(4 + GROUP_N_CONTROLLERS <= LAB_FDS_MAX, "all fit into one message");
    r->n_fds += group_open(&w->groups, h->group, r->fds + r->n_fds);
    for (unsigned i = 0; i < r->n_fds; i++)
        if (r->fds[i] < 0)
            return err_sys(e, "namespaces");
    buf_printf(&r->text, "%s", h->dir);
    return MC_OK;
}

/* --- programs ----------------------------------------------------------------------------------
 */

static enum mc_err
order_start(struct warden *w, unsigned n, char *const words[], struct order_reply *r,
            struct errbuf *e)
{
    struct warden_host *h;

    if (find_host(w, words[1], &h, e) != MC_OK)
        return MC_ENOENT;
    return work_start(w, h, words[2], e);
}

static enum mc_err
order_stop(struct warden *w, unsigned n, char *const words[], struct order_reply *r,
           struct errbuf *e)
{
    struct warden_host *h;

    if (find_host(w, words[1], &h, e) != MC_OK)
        return MC_ENOENT;
    return work_signal(w, h, words[2], SIGTERM, true, e);
}

static const struct {
    const char *name;
    int number;
} signals[] = {
    {"KILL", SIGKILL}, {"TERM", SIGTERM}, {"INT", SIGINT},   {"QUIT", SIGQUIT},
    {"HUP", SIGHUP},   {"USR1", SIGUSR1}, {"USR2", SIGUSR2}, {"STOP", SIGSTOP},
    {"CONT", SIGCONT}, {"ABRT", SIGABRT}, {"SEGV", SIGSEGV},
};

/* kill SIGNAL HOST [PROC]: SIGKILL waits until they have ended. */
static enum mc_err
order_kill(struct warden *w, unsigned n, char *const words[], struct order_reply *r,
           struct errbuf *e)
{
    struct warden_host *h;

    if (find_host(w, words[2], &h, e) != MC_OK)
        return MC_ENOENT;
    for (unsigned i = 0; i < MC_COUNT(signals); i++)
        if (strcmp(signals[i].name, words[1]) == 0)
            return work_signal(w, h, words[3], signals[i].number, signals[i].number == SIGKILL, e);
    err_set(e, "no signal \"%s\", expected one like KILL, TERM or USR2", words[1]);
    return MC_EINVAL;
}

/* freeze HOW HOST [PROC]: "host" by its control group, "processes" by SIGSTOP. */
static enum mc_err
order_freeze(struct warden *w, unsigned n, char *const words[], struct order_reply *r,
             struct errbuf *e)
{
    struct warden_host *h;

    if (find_host(w, words[2], &h, e) != MC_OK)
        return MC_ENOENT;
    if (strcmp(words[1], "host") != 0)
        return work_signal(w, h, words[3], SIGSTOP, false, e);
    if (words[3] != NULL) {
        err_set(e, "--host stops all that is on %s: expected no program", words[2]);
        return MC_EINVAL;
    }
    return work_freeze(w, h, true, e);
}

static enum mc_err
order_thaw(struct warden *w, unsigned n, char *const words[], struct order_reply *r,
           struct errbuf *e)
{
    struct warden_host *h;
    enum mc_err rv;

    if (find_host(w, words[1], &h, e) != MC_OK)
        return MC_ENOENT;
    if (!h->is_frozen)
        return work_signal(w, h, words[2], SIGCONT, false, e);
    rv = work_freeze(w, h, false, e);
    if (rv == MC_OK)
        (void)work_signal(w, h, words[2], SIGCONT, false, NULL); /* nothing need run there */
    return rv;
}

/* "20%" in millionths, at most so many percent. */
static enum mc_err
read_percent(const char *text, double most, uint32_t *ppm, struct errbuf *e)
{
    char *end;
    double percent = strtod(text, &end);

    if (end == text || (*end != '\0' && strcmp(end, "%") != 0) ||
        !(percent >= 0 && percent <= most)) {
        err_set(e, "\"%s\" is no share, expected 0%% to %g%%", text, most);
        return MC_EINVAL;
    }
    *ppm = (uint32_t)(percent * 1e4 + .5);
    return MC_OK;
}

/* slow HOST PERCENT; 0% takes the limit away. */
static enum mc_err
order_slow(struct warden *w, unsigned n, char *const words[], struct order_reply *r,
           struct errbuf *e)
{
    struct warden_host *h;
    uint32_t ppm;

    if (find_host(w, words[1], &h, e) != MC_OK)
        return MC_ENOENT;
    if (read_percent(words[2], 6400, &ppm, e) != MC_OK)
        return MC_EINVAL;
    return work_slow(w, h, ppm, e);
}

/* --- networks ----------------------------------------------------------------------------------
 */

/* Each target of a list "lb1,lb2"; at most `max`. */
static enum mc_err
read_targets(struct warden *w, const char *list, struct fault_target *out, unsigned max,
             unsigned *n, struct errbuf *e)
{
    struct str rest = str_of(list);

    *n = 0;
    while (rest.p != NULL) {
        if (*n == max) {
            err_set(e, "too many names, expected at most %u", max);
            return MC_EFULL;
        }
        if (fault_target_parse(w->topology, str_cut(&rest, ','), &out[(*n)++], e) != MC_OK)
            return MC_ENOENT;
    }
    return MC_OK;
}

/* cut WAY A [B]: both or one; A and B are lists, each of the one from each of the other. */
static enum mc_err
order_cut(struct warden *w, unsigned n_words, char *const words[], struct order_reply *r,
          struct errbuf *e)
{
    struct fault_target a[TOPOLOGY_HOSTS_MAX], b[TOPOLOGY_HOSTS_MAX];
    unsigned n_a, n_b = 0, before = w->faults.n_cuts;
    bool one_way = strcmp(words[1], "one") == 0;
    enum mc_err rv = read_targets(w, words[2], a, MC_COUNT(a), &n_a, e);

    if (rv == MC_OK && words[3] != NULL)
        rv = read_targets(w, words[3], b, MC_COUNT(b), &n_b, e);
    for (unsigned i = 0; i < n_a && rv == MC_OK; i++) {
        if (n_b == 0)
            rv = faults_cut(&w->faults, w->topology, a[i], NULL, one_way, e);
        for (unsigned k = 0; k < n_b && rv == MC_OK; k++)
            rv = faults_cut(&w->faults, w->topology, a[i], &b[k], one_way, e);
    }
    if (rv == MC_OK)
        rv = build_rules(w, e);
    if (rv != MC_OK)
        w->faults.n_cuts = before;
    return rv;
}

static enum mc_err
order_loss(struct warden *w, unsigned n_words, char *const words[], struct order_reply *r,
           struct errbuf *e)
{
    struct fault_target target;
    uint32_t ppm;

    if (read_percent(words[2], 100, &ppm, e) != MC_OK)
        return MC_EINVAL;
    if (fault_target_parse(w->topology, str_of(words[1]), &target, e) != MC_OK)
        return MC_ENOENT;
    for (unsigned i = 0; i < w->n_ports; i++)
        if (fault_target_has(target, w->ports[i].host, w->ports[i].network))
            w->ports[i].loss_ppm = ppm;
    return build_rules(w, e);
}

/* delay A 20ms: a packet takes so much longer through each of the links, each way. */
static enum mc_err
order_delay(struct warden *w, unsigned n_words, char *const words[], struct order_reply *r,
            struct errbuf *e)
{
    struct fault_target target;
    enum mc_err rv = MC_OK;
    mc_ns delay;

    if (!units_parse_duration(str_of(words[2]), &delay) || delay > DELAY_MAX_NS) {
        err_set(e, "\"%s\" is no delay, expected 0 to 60s, like 20ms", words[2]);
        return MC_EINVAL;
    }
    if (fault_target_parse(w->topology, str_of(words[1]), &target, e) != MC_OK)
        return MC_ENOENT;
    for (unsigned i = 0; i < w->n_ports && rv == MC_OK; i++)
        if (fault_target_has(target, w->ports[i].host, w->ports[i].network))
            rv = build_delay(w, &w->ports[i], delay, e);
    return rv == MC_OK ? build_rules(w, e) : rv;
}

/* Of a host: what is slow or frozen. */
static enum mc_err
heal_host(struct warden *w, struct warden_host *h, struct errbuf *e)
{
    enum mc_err rv = work_freeze(w, h, false, e);

    if (rv == MC_OK)
        rv = work_slow(w, h, h->conf->cpu_ppm, e);
    if (rv == MC_OK && work_signal(w, h, NULL, SIGCONT, false, NULL) == MC_ESYS)
        rv = MC_ESYS;
    return rv;
}

/* Takes everything back that orders did, but for programs that ended; of one target or of all. */
static enum mc_err
order_heal(struct warden *w, unsigned n_words, char *const words[], struct order_reply *r,
           struct errbuf *e)
{
    struct fault_target target = {FAULTS_ANY, FAULTS_ANY};
    enum mc_err rv = MC_OK;

    if (words[1] != NULL && fault_target_parse(w->topology, str_of(words[1]), &target, e) != MC_OK)
        return MC_ENOENT;
    faults_heal(&w->faults, words[1] != NULL ? &target : NULL);
    for (unsigned i = 0; i < w->n_ports && rv == MC_OK; i++) {
        struct warden_port *p = &w->ports[i];

        if (!fault_target_has(target, p->host, p->network))
            continue;
        p->loss_ppm = p->link->weather.loss_ppm;
        rv = build_delay(w, p, p->link->weather.delay_ns, e);
    }
    for (unsigned i = 0; i < w->topology->n_hosts && rv == MC_OK; i++)
        if (target.network == FAULTS_ANY && fault_target_has(target, i, FAULTS_ANY))
            rv = heal_host(w, &w->hosts[i], e);
    return rv == MC_OK ? build_rules(w, e) : rv;
}

/* --- the table ---------------------------------------------------------------------------------
 */

static const struct {
    const char *name;
    order_f *fn;
    unsigned least, most; /* words after the order */
} orders[] = {
    {"status", order_status, 0, 0}, {"enter", order_enter, 1, 1}, {"start", order_start, 1, 2},
    {"stop", order_stop, 1, 2},     {"kill", order_kill, 2, 3},   {"cut", order_cut, 2, 3},
    {"loss", order_loss, 2, 2},     {"delay", order_delay, 2, 2}, {"slow", order_slow, 2, 2},
    {"freeze", order_freeze, 2, 3}, {"thaw", order_thaw, 1, 2},   {"heal", order_heal, 0, 1},
};

enum mc_err
order_run(struct warden *w, unsigned n, char *const words[], struct order_reply *r,
          struct errbuf *e)
{
    for (unsigned i = 0; i < MC_COUNT(orders) && n > 0; i++) {
        if (strcmp(orders[i].name, words[0]) != 0)
            continue;
        if (n - 1 < orders[i].least || n - 1 > orders[i].most)
            break;
        return orders[i].fn(w, n, words, r, e);
    }
    err_set(e, "no such order");
    return MC_EINVAL;
}
