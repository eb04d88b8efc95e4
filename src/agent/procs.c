/* SPDX-License-Identifier: BSD-2-Clause
 *
 * procs.c - CPU and memory of some processes and of their children.
 *
 * Who belongs to them is found out by walking through /proc, now and then; what they use is read
 * for each of them at every sample, by the CPU clock of the process (clock_getcpuclockid(3): in
 * nanoseconds, where /proc/PID/stat has ticks of 10 ms).  A child that is born and dies between two
 * walks is not seen: a service that forks for each request is better measured by its cgroup.
 */
#include "agent/procs.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "agent/files.h"
#include "agent/port.h"
#include "base/check.h"

/* New children are noticed so late.  pace_done() stretches it where /proc is large. */
#define WALK_EVERY_NS   MC_SEC
#define MEMORY_EVERY_NS (500 * MC_MS)

struct proc {
    int pid, ppid;
    uint64_t start; /* since boot, in ticks: tells a pid that was used again */
    bool ours;
    double cpu_seconds; /* at the last reading */
};

struct procs {
    const char *root;
    struct procs_conf conf;
    struct proc *known; /* by pid, ours only */
    unsigned n_known;
    double cpu_seconds, mem_bytes;
    struct pace walk_pace, mem_pace;
    double walked_s; /* since the host's boot, of the last walk; below zero: none yet */
};

/* --- one process --------------------------------------------------------------------------------
 */

/* Fields of /proc/PID/stat behind the name, which may hold blanks and brackets: proc_pid_stat(5).
 * The first one is the state, number 3. */
static bool
stat_fields(const char *root, int pid, uint64_t *out, const int *wanted, unsigned n)
{
    char path[4096];
    struct str s;
    const char *bracket;
    unsigned at = 0;

    snprintf(path, sizeof(path), "%s/proc/%d/stat", root, pid);
    s = file_read_path(path);
    bracket = s.p != NULL ? memrchr(s.p, ')', s.n) : NULL;
    if (bracket == NULL)
        return false;
    s = (struct str){bracket + 1, (size_t)(s.p + s.n - bracket - 1)};
    for (int field = 3; at < n; field++) {
        struct str word = file_word(&s);

        if (word.n == 0)
            return false;
        if (field == wanted[at] && !str_u64(word, &out[at++]))
            return false;
    }
    return true;
}

static bool
read_proc(const char *root, int pid, struct proc *p)
{
    static const int wanted[] = {4, 22}; /* ppid, starttime */
    uint64_t v[2];

    if (!stat_fields(root, pid, v, wanted, 2))
        return false;
    *p = (struct proc){.pid = pid, .ppid = (int)v[0], .start = v[1]};
    return true;
}

static bool
cpu_by_stat(const char *root, int pid, double *out)
{
    static const int wanted[] = {14, 15}; /* utime, stime */
    uint64_t v[2];

    if (!stat_fields(root, pid, v, wanted, 2))
        return false;
    *out = (double)(v[0] + v[1]) / (double)sysconf(_SC_CLK_TCK);
    return true;
}

static bool
cpu_of(const char *root, int pid, double *out)
{
    clockid_t clock;
    struct timespec ts;

    if (root[0] != '\0')
        return cpu_by_stat(root, pid, out); /* a tree of files has no clocks */
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &ts) != 0)
        return false;
    *out = (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
    return true;
}

static double
resident(const char *root, int pid)
{
    char path[4096];
    struct str s;
    uint64_t pages;

    snprintf(path, sizeof(path), "%s/proc/%d/statm", root, pid);
    s = file_read_path(path);
    file_word(&s);
    return str_u64(file_word(&s), &pages) ? (double)pages * (double)sysconf(_SC_PAGESIZE) : 0;
}

/* --- who belongs to them ------------------------------------------------------------------------
 */

static int
by_pid(const void *a, const void *b)
{
    return ((const struct proc *)a)->pid - ((const struct proc *)b)->pid;
}

static struct proc *
find(struct proc *all, unsigned n, int pid)
{
    struct proc key = {.pid = pid};

    return n > 0 ? bsearch(&key, all, n, sizeof(*all), by_pid) : NULL;
}

/* Every process there is, by pid. */
static unsigned
list_all(const char *root, struct proc **out)
{
    char path[4096];
    unsigned n = 0, cap = 0;
    struct dirent *e;
    DIR *d;

    *out = NULL;
    snprintf(path, sizeof(path), "%s/proc", root);
    d = opendir(path);
    while (d != NULL && (e = readdir(d)) != NULL) {
        uint64_t pid;

        if (!str_u64(str_of(e->d_name), &pid) || pid > INT32_MAX)
            continue;
        if (n == cap)
            *out = mc_realloc(*out, (cap = cap ? 2 * cap : 256) * sizeof(**out));
        n += read_proc(root, (int)pid, &(*out)[n]);
    }
    if (d != NULL)
        closedir(d);
    if (n > 1)
        qsort(*out, n, sizeof(**out), by_pid);
    return n;
}

static void
mark(struct proc *all, unsigned n, int pid)
{
    struct proc *p = find(all, n, pid);

    if (p != NULL)
        p->ours = true;
}

static void
mark_given(struct procs *ps, struct proc *all, unsigned n)
{
    int listening[PROCS_GIVEN_MAX];
    unsigned n_listening;
    uint64_t pid;

    for (unsigned i = 0; i < ps->conf.n_pids; i++)
        mark(all, n, ps->conf.pids[i]);
    if (ps->conf.pid_file != NULL) {
        struct str s = file_read_path(ps->conf.pid_file);

        if (s.p != NULL && str_u64(file_word(&s), &pid) && pid <= INT32_MAX)
            mark(all, n, (int)pid);
    }
    if (ps->conf.port == 0)
        return;
    n_listening = port_listeners(ps->root, ps->conf.port, listening, PROCS_GIVEN_MAX);
    for (unsigned i = 0; i < n_listening; i++)
        mark(all, n, listening[i]);
}

/* A child may have a lower pid than its parent: until nothing changes. */
static void
mark_children(struct proc *all, unsigned n)
{
    bool more = true;

    while (more) {
        more = false;
        for (unsigned i = 0; i < n; i++) {
            struct proc *parent = all[i].ours ? NULL : find(all, n, all[i].ppid);

            if (parent != NULL && parent->ours)
                more = all[i].ours = true;
        }
    }
}

static double
uptime_s(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* What one of ours used before it was seen counts when it was born since the last walk; one that we
 * only now learn of is counted from here on. */
static void
set_baseline(const struct procs *ps, struct proc *p)
{
    double born_s = (double)p->start / (double)sysconf(_SC_CLK_TCK);

    p->cpu_seconds = 0;
    if (ps->walked_s < 0 || born_s < ps->walked_s)
        cpu_of(ps->root, p->pid, &p->cpu_seconds);
}

static void
keep_ours(struct procs *ps, struct proc *all, unsigned n)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < n && kept < PROCS_MAX; i++) {
        struct proc *before;

        if (!all[i].ours)
            continue;
        before = find(ps->known, ps->n_known, all[i].pid);
        if (before != NULL && before->start == all[i].start)
            all[i].cpu_seconds = before->cpu_seconds;
        else
            set_baseline(ps, &all[i]);
        all[kept++] = all[i];
    }
    free(ps->known);
    ps->known = mc_realloc(all, (kept ? kept : 1) * sizeof(*all));
    ps->n_known = kept;
}

static void
walk(struct procs *ps, mc_ns now)
{
    struct proc *all;
    unsigned n;

    pace_begin(&ps->walk_pace);
    n = list_all(ps->root, &all);
    mark_given(ps, all, n);
    mark_children(all, n);
    keep_ours(ps, all, n);
    ps->walked_s = uptime_s();
    pace_done(&ps->walk_pace, now, WALK_EVERY_NS);
}

/* --- reading ------------------------------------------------------------------------------------
 */

struct procs *
procs_new(const char *root, const struct procs_conf *conf)
{
    struct procs *ps = mc_alloc(sizeof(*ps));

    ps->root = root;
    ps->conf = *conf;
    ps->walked_s = -1;
    return ps;
}

void
procs_free(struct procs **pp)
{
    if (*pp == NULL)
        return;
    free((*pp)->known);
    free(*pp);
    *pp = NULL;
}

static void
read_cpu(struct procs *ps)
{
    for (unsigned i = 0; i < ps->n_known; i++) {
        struct proc *p = &ps->known[i];
        double now;

        if (!cpu_of(ps->root, p->pid, &now))
            continue; /* it has ended: the next walk sees who came in its place */
        if (now > p->cpu_seconds)
            ps->cpu_seconds += now - p->cpu_seconds;
        p->cpu_seconds = now;
    }
}

void
procs_read(struct procs *ps, mc_ns now, struct procs_reading *r)
{
    if (pace_is_due(&ps->walk_pace, now))
        walk(ps, now);
    read_cpu(ps);
    if (pace_is_due(&ps->mem_pace, now)) {
        pace_begin(&ps->mem_pace);
        ps->mem_bytes = 0;
        for (unsigned i = 0; i < ps->n_known; i++)
            ps->mem_bytes += resident(ps->root, ps->known[i].pid);
        pace_done(&ps->mem_pace, now, MEMORY_EVERY_NS);
    }
    *r = (struct procs_reading){.n = ps->n_known,
                                .first_pid = ps->n_known ? ps->known[0].pid : 0,
                                .cpu_seconds = ps->cpu_seconds,
                                .mem_bytes = ps->mem_bytes};
}
