/* SPDX-License-Identifier: BSD-2-Clause
 *
 * work.c - what runs on hosts: started, waited for, signalled.
 *
 * A program is a session: whatever it forks belongs to it as long as it does not begin a session of
 * its own, and it runs as long as one of those runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "lab/run.h"
#include "lab/warden.h"

#define READY_PAUSE_MS 5 /* between two looks at whether a program is up */
#define END_WAIT_MS    10000
#define LOG_TAIL_BYTES 400

/* --- preparing ---------------------------------------------------------------------------------
 */

static enum mc_err
run_line(struct warden *w, struct warden_host *h, const struct topology_line *l, struct errbuf *e)
{
    char *command = warden_line(w, h, l);
    const char *argv[] = {"/bin/sh", "-c", command, NULL};
    enum mc_err rv = run_all(h ? &h->space : NULL, h ? h->dir : w->dir, argv, STR_NONE, e);

    if (rv != MC_OK)
        err_wrap(e, "%s:%u: prepare", l->file, l->line);
    free(command);
    return rv;
}

enum mc_err
work_prepare(struct warden *w, struct errbuf *e)
{
    enum mc_err rv = MC_OK;

    for (unsigned i = 0; i < w->topology->prepare.n && rv == MC_OK; i++)
        rv = run_line(w, NULL, &w->topology->prepare.v[i], e);
    for (unsigned i = 0; i < w->topology->n_hosts; i++)
        for (unsigned k = 0; k < w->hosts[i].conf->prepare.n && rv == MC_OK; k++)
            rv = run_line(w, &w->hosts[i], &w->hosts[i].conf->prepare.v[k], e);
    return rv;
}

/* --- starting ----------------------------------------------------------------------------------
 */

static char *
log_path(const struct warden_host *h, const struct topology_start *s)
{
    return mc_printf("%s/%s.log", h->dir, s->name);
}

/* In the child. */
static _Noreturn void
become(struct warden *w, struct warden_host *h, const struct topology_start *s)
{
    char *log = log_path(h, s), *command = warden_line(w, h, &s->command);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644), fds[GROUP_N_CONTROLLERS];
    struct errbuf e;

    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    setsid();
    run_reset_signals();
    for (unsigned i = group_open(&w->groups, h->group, fds); i > 0; i--)
        if (write(fds[i - 1], "0", 1) < 0)
            perror("control group");
    if (space_enter(&h->space, &e) != MC_OK || chdir(h->dir) < 0) {
        fprintf(stderr, "%s\n", strerror(errno));
        _exit(127);
    }
    execl("/bin/sh", "sh", "-c", command, (char *)NULL);
    _exit(127);
}

static enum mc_err
spawn(struct warden *w, struct warden_host *h, struct warden_proc *p, struct errbuf *e)
{
    pid_t pid = fork();

    if (pid == 0)
        become(w, h, p->conf);
    if (pid < 0)
        return err_sys(e, p->conf->name);
    p->session = pid;
    p->ended = false;
    return MC_OK;
}

void
work_ended(struct warden *w, pid_t pid, int status)
{
    for (unsigned i = 0; i < w->topology->n_hosts; i++) {
        struct warden_host *h = &w->hosts[i];

        for (unsigned k = 0; k < h->conf->n_starts; k++) {
            if (h->procs[k].session != pid)
                continue;
            h->procs[k].ended = true;
            h->procs[k].status = status;
        }
    }
}

bool
work_runs(const struct warden_host *h, const struct warden_proc *p, const struct proc *procs,
          unsigned n)
{
    for (unsigned i = 0; i < n && p->session > 0; i++)
        if (procs[i].session == p->session && strcmp(procs[i].net, h->net) == 0)
            return true;
    return false;
}

static bool
runs_now(struct warden *w, const struct warden_host *h, const struct warden_proc *p)
{
    struct proc *procs;
    unsigned n = procs_scan(w->outer_proc, w->pid_ns, &procs);
    bool runs = work_runs(h, p, procs, n);

    free(procs);
    return runs;
}

/* --- waiting -----------------------------------------------------------------------------------
 */

/* Does a table of /proc/net have somebody who listens on the port? */
static bool
table_has(const char *path, unsigned port)
{
    FILE *f = fopen(path, "re");
    char line[512], want[16];
    bool found = false;

    snprintf(want, sizeof(want), ":%04X", port);
    while (f != NULL && !found && fgets(line, sizeof(line), f) != NULL) {
        char local[64], state[8];

        found = sscanf(line, "%*s %63s %*s %7s", local, state) == 2 && strcmp(state, "0A") == 0 &&
                strrchr(local, ':') != NULL && strcmp(strrchr(local, ':'), want) == 0;
    }
    if (f != NULL)
        fclose(f);
    return found;
}

static bool
port_is_open(struct warden *w, struct warden_host *h, unsigned port)
{
    const struct space net = {h->space.net, -1, -1}, home = {w->home.net, -1, -1};
    struct errbuf e;
    bool open;

    if (space_enter(&net, &e) != MC_OK)
        return false;
    open = table_has("/proc/self/net/tcp", port) || table_has("/proc/self/net/tcp6", port);
    MC_ASSERT(space_enter(&home, &e) == MC_OK);
    return open;
}

static bool
is_up(struct warden *w, struct warden_host *h, const struct topology_start *s)
{
    const char *argv[] = {"/bin/sh", "-c", NULL, NULL};
    char *command;
    struct errbuf e;
    bool up;

    if (s->port > 0 && !port_is_open(w, h, s->port))
        return false;
    if (s->ready.text == NULL)
        return true;
    command = warden_line(w, h, &s->ready);
    argv[2] = command;
    up = run_all(&h->space, h->dir, argv, STR_NONE, &e) == MC_OK;
    free(command);
    return up;
}

/* The last that a program said, on one line. */
static void
add_log_tail(const struct warden_host *h, const struct topology_start *s, struct errbuf *e)
{
    char *path = log_path(h, s), tail[LOG_TAIL_BYTES + 1];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
    ssize_t n = 0;

    if (size > 0)
        n = pread(fd, tail, LOG_TAIL_BYTES, size > LOG_TAIL_BYTES ? size - LOG_TAIL_BYTES : 0);
    if (n > 0) {
        struct str said = str_trim((struct str){tail, (size_t)n});

        while (said.n > 0 && said.p[said.n - 1] == '\n')
            said.n--;
        err_wrap(e, "%s: " STR_FMT, h->conf->name, STR_ARG(said));
    } else {
        err_wrap(e, "%s", h->conf->name);
    }
    if (fd >= 0)
        close(fd);
    free(path);
}

static void
tell_end(int status, struct errbuf *e, const char *name)
{
    if (WIFSIGNALED(status))
        err_set(e, "%s ended by signal %d", name, WTERMSIG(status));
    else
        err_set(e, "%s ended with status %d", name, WEXITSTATUS(status));
}

/* Until the program is up.  One that goes into the background may end when it is. */
static enum mc_err
wait_up(struct warden *w, struct warden_host *h, struct warden_proc *p, struct errbuf *e)
{
    const struct topology_start *s = p->conf;
    mc_ns until = units_clock_ns() + s->within_ns;
    char text[UNITS_TEXT];

    while (!is_up(w, h, s)) {
        if (p->ended && p->status != 0) {
            tell_end(p->status, e, s->name);
            add_log_tail(h, s, e);
            return MC_ESYS;
        }
        if (units_clock_ns() > until) {
            err_set(e, "%s is not up after %s (%s:%u)", s->name,
                    units_duration_text(s->within_ns, text), s->at.file, s->at.line);
            add_log_tail(h, s, e);
            return MC_ETIME;
        }
        if (warden_pause(w, READY_PAUSE_MS, e) != MC_OK)
            return MC_ESYS;
    }
    return MC_OK;
}

static bool
is_meant(const struct warden_proc *p, const char *name)
{
    return name != NULL ? strcmp(p->conf->name, name) == 0 : !p->conf->by_hand;
}

static enum mc_err
no_program(const struct warden_host *h, const char *name, struct errbuf *e)
{
    err_set(e, "%s has no program \"%s\"%s%s", h->conf->name, name,
            h->conf->n_starts > 0 ? ", expected " : "",
            h->conf->n_starts > 0 ? h->conf->starts[0].name : "");
    return MC_ENOENT;
}

/* Those that do not run yet; returns how many were meant. */
static enum mc_err
spawn_meant(struct warden *w, struct warden_host *h, const char *name, unsigned *meant,
            struct errbuf *e)
{
    for (unsigned i = 0; i < h->conf->n_starts; i++) {
        struct warden_proc *p = &h->procs[i];

        if (!is_meant(p, name))
            continue;
        (*meant)++;
        if ((p->session == 0 || !runs_now(w, h, p)) && spawn(w, h, p, e) != MC_OK)
            return MC_ESYS;
    }
    return MC_OK;
}

static enum mc_err
wait_meant(struct warden *w, struct warden_host *h, const char *name, struct errbuf *e)
{
    enum mc_err rv = MC_OK;

    for (unsigned i = 0; i < h->conf->n_starts && rv == MC_OK; i++)
        if (is_meant(&h->procs[i], name))
            rv = wait_up(w, h, &h->procs[i], e);
    return rv;
}

enum mc_err
work_start(struct warden *w, struct warden_host *h, const char *name, struct errbuf *e)
{
    unsigned meant = 0;
    enum mc_err rv = spawn_meant(w, h, name, &meant, e);

    if (rv == MC_OK && meant == 0 && name != NULL)
        return no_program(h, name, e);
    return rv == MC_OK ? wait_meant(w, h, name, e) : rv;
}

/* Hosts of one role side by side. */
static enum mc_err
start_role(struct warden *w, enum topology_role role, struct errbuf *e)
{
    enum mc_err rv = MC_OK;
    unsigned meant = 0;

    for (unsigned i = 0; i < w->topology->n_hosts && rv == MC_OK; i++)
        if (w->hosts[i].conf->role == role)
            rv = spawn_meant(w, &w->hosts[i], NULL, &meant, e);
    for (unsigned i = 0; i < w->topology->n_hosts && rv == MC_OK; i++)
        if (w->hosts[i].conf->role == role)
            rv = wait_meant(w, &w->hosts[i], NULL, e);
    return rv;
}

enum mc_err
work_start_all(struct warden *w, struct errbuf *e)
{
    /* those who are asked before those who ask */
    static const enum topology_role order[] = {TOPOLOGY_SERVER, TOPOLOGY_ROUTER, TOPOLOGY_BALANCER,
                                               TOPOLOGY_CLIENT};
    enum mc_err rv = MC_OK;

    static_assert(MC_COUNT(order) == TOPOLOGY_N_ROLES, "every role is started");
    for (unsigned i = 0; i < MC_COUNT(order) && rv == MC_OK; i++)
        rv = start_role(w, order[i], e);
    return rv;
}

/* --- signals -----------------------------------------------------------------------------------
 */

/* NULL with an error when the host has no such program. */
static enum mc_err
find_program(struct warden_host *h, const char *name, struct warden_proc **out, struct errbuf *e)
{
    *out = NULL;
    for (unsigned i = 0; i < h->conf->n_starts && name != NULL; i++)
        if (strcmp(h->conf->starts[i].name, name) == 0)
            *out = &h->procs[i];
    return name == NULL || *out != NULL ? MC_OK : no_program(h, name, e);
}

/* Signals once all that are meant; returns how many there were. */
static unsigned
signal_meant(struct warden *w, const struct warden_host *h, const struct warden_proc *p, int sig)
{
    struct proc *procs;
    unsigned n = procs_scan(w->outer_proc, w->pid_ns, &procs), hit = 0;

    for (unsigned i = 0; i < n; i++) {
        if (strcmp(procs[i].net, h->net) != 0 || (p != NULL && procs[i].session != p->session))
            continue;
        hit++;
        if (sig > 0)
            kill(procs[i].pid, sig);
    }
    free(procs);
    return hit;
}

enum mc_err
work_signal(struct warden *w, struct warden_host *h, const char *name, int sig, bool ends,
            struct errbuf *e)
{
    mc_ns until = units_clock_ns() + END_WAIT_MS * MC_MS;
    struct warden_proc *p;
    enum mc_err rv = find_program(h, name, &p, e);

    if (rv != MC_OK)
        return rv;
    if (signal_meant(w, h, p, sig) == 0 && !ends) {
        err_set(e, "nothing runs on %s%s%s", h->conf->name, name ? " as " : "", name ? name : "");
        return MC_ENOENT;
    }
    /* what a control group holds cannot even be killed; of what is dying nothing runs on */
    if (sig == SIGKILL && h->is_frozen && work_freeze(w, h, false, e) != MC_OK)
        return MC_ESYS;
    while (ends && signal_meant(w, h, p, sig == SIGKILL ? SIGKILL : 0) > 0) {
        if (warden_pause(w, 2, e) != MC_OK)
            return MC_ESYS;
        if (units_clock_ns() > until) {
            err_set(e, "%s: still running after %d s", h->conf->name, END_WAIT_MS / 1000);
            return MC_ETIME;
        }
    }
    return MC_OK;
}

/* --- time and CPU ------------------------------------------------------------------------------
 */

enum mc_err
work_freeze(struct warden *w, struct warden_host *h, bool frozen, struct errbuf *e)
{
    enum mc_err rv = MC_OK;

    if (h->is_frozen != frozen)
        rv = group_freeze(&w->groups, h->group, frozen, e);
    if (rv == MC_OK)
        h->is_frozen = frozen;
    return rv;
}

enum mc_err
work_slow(struct warden *w, struct warden_host *h, uint32_t ppm, struct errbuf *e)
{
    enum mc_err rv = MC_OK;

    if (h->cpu_ppm != ppm)
        rv = group_cpu(&w->groups, h->group, ppm, e);
    if (rv == MC_OK)
        h->cpu_ppm = ppm;
    return rv;
}
