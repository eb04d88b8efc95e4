/* SPDX-License-Identifier: BSD-2-Clause
 *
 * cgroup.c - one control group: Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst of the
 * kernel.
 *
 * A limit of a group above counts as its own, up to where the tree is mounted: in a container that
 * is the container's group.
 */
#include "agent/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/mounts.h"
#include "base/check.h"

/* Limits change by hand, cached memory slowly, and reading either walks through the kernel's
 * per-CPU counters. */
#define LIMITS_EVERY_NS (5 * MC_SEC)
#define CACHE_EVERY_NS  MC_SEC
/* v1 says "no limit" with the largest multiple of a page below 2^63. */
#define V1_NO_LIMIT     0x7000000000000000u
#define UNIT_DEPTH_MAX  6

struct cgroup {
    char *dir[CG_N_TREES];        /* NULL: the tree has it not */
    size_t mount_len[CG_N_TREES]; /* the part of dir above which nothing is ours */
    struct file cpu_usage, cpu_stat, mem_usage, mem_stat, pressure[3];
    struct pace limits_pace, cache_pace;
    double cores, mem_limit, inactive_bytes;
    bool cpu_v2, mem_v2;
};

/* --- limits -------------------------------------------------------------------------------------
 */

static struct str
read_in(const char *dir, size_t dir_len, const char *name)
{
    char path[4096];

    snprintf(path, sizeof(path), "%.*s/%s", (int)dir_len, dir, name);
    return file_read_path(path);
}

/* min of what is allowed, where 0 is no limit. */
static void
lower(double *limit, double to)
{
    if (to > 0 && (*limit == 0 || to < *limit))
        *limit = to;
}

static double
quota_v2(const char *dir, size_t len)
{
    struct str s = read_in(dir, len, "cpu.max"); /* "max 100000" or "50000 100000" */
    uint64_t quota, period;

    if (!str_u64(file_word(&s), &quota) || !str_u64(file_word(&s), &period) || period == 0)
        return 0;
    return (double)quota / (double)period;
}

static double
quota_v1(const char *dir, size_t len)
{
    struct str s = read_in(dir, len, "cpu.cfs_quota_us"); /* -1: none */
    uint64_t quota, period;

    if (!str_u64(file_word(&s), &quota))
        return 0;
    s = read_in(dir, len, "cpu.cfs_period_us");
    if (!str_u64(file_word(&s), &period) || period == 0)
        return 0;
    return (double)quota / (double)period;
}

static double
cpuset_v2(const char *dir, size_t len)
{
    return file_list_count(read_in(dir, len, "cpuset.cpus.effective"));
}

static double
cpuset_v1(const char *dir, size_t len)
{
    struct str s = read_in(dir, len, "cpuset.effective_cpus");

    return file_list_count(s.n > 1 ? s : read_in(dir, len, "cpuset.cpus"));
}

static double
memory_v2(const char *dir, size_t len)
{
    struct str s = read_in(dir, len, "memory.max");
    uint64_t v;

    return str_u64(file_word(&s), &v) ? (double)v : 0;
}

static double
memory_v1(const char *dir, size_t len)
{
    struct str s = read_in(dir, len, "memory.limit_in_bytes");
    uint64_t v;

    return str_u64(file_word(&s), &v) && v < V1_NO_LIMIT ? (double)v : 0;
}

/* The lowest of the group's limits and of those above it. */
static double
lowest(const struct cgroup *g, enum cg_tree tree, double (*limit_of)(const char *, size_t))
{
    const char *dir = g->dir[tree];
    double limit = 0;
    size_t len;

    if (dir == NULL)
        return 0;
    for (len = strlen(dir); len >= g->mount_len[tree]; len--)
        if (dir[len] == '\0' || dir[len] == '/')
            lower(&limit, limit_of(dir, len));
    return limit;
}

static void
read_limits(struct cgroup *g, mc_ns now)
{
    pace_begin(&g->limits_pace);
    g->cores = g->mem_limit = 0;
    lower(&g->cores, lowest(g, CG_UNIFIED, quota_v2));
    lower(&g->cores, lowest(g, CG_CPU, quota_v1));
    lower(&g->cores, lowest(g, CG_UNIFIED, cpuset_v2));
    lower(&g->cores, lowest(g, CG_CPUSET, cpuset_v1));
    lower(&g->mem_limit, lowest(g, CG_UNIFIED, memory_v2));
    lower(&g->mem_limit, lowest(g, CG_MEMORY, memory_v1));
    pace_done(&g->limits_pace, now, LIMITS_EVERY_NS);
}

/* --- use ----------------------------------------------------------------------------------------
 */

static void
read_cpu(struct cgroup *g, struct cgroup_reading *r)
{
    struct str s;
    uint64_t v;

    if (!g->cpu_v2 && file_number(&g->cpu_usage, &v)) {
        r->has_cpu = true;
        r->cpu_seconds = (double)v / 1e9;
    }
    s = file_read(&g->cpu_stat);
    if (s.p == NULL)
        return;
    if (g->cpu_v2 && file_key(s, "usage_usec", &v)) {
        r->has_cpu = true;
        r->cpu_seconds = (double)v / 1e6;
    }
    r->has_throttled = file_key(s, g->cpu_v2 ? "throttled_usec" : "throttled_time", &v);
    if (r->has_throttled)
        r->throttled_seconds = (double)v / (g->cpu_v2 ? 1e6 : 1e9);
}

/* The kernel gives inactive file pages back before anything is refused, so they are not used. */
static void
read_memory(struct cgroup *g, mc_ns now, struct cgroup_reading *r)
{
    uint64_t used, inactive;

    if (!file_number(&g->mem_usage, &used))
        return;
    if (pace_is_due(&g->cache_pace, now)) {
        struct str s;

        pace_begin(&g->cache_pace);
        s = file_read(&g->mem_stat);
        if (s.p != NULL &&
            file_key(s, g->mem_v2 ? "inactive_file" : "total_inactive_file", &inactive))
            g->inactive_bytes = (double)inactive;
        pace_done(&g->cache_pace, now, CACHE_EVERY_NS);
    }
    r->has_mem = true;
    r->mem_bytes = (double)used > g->inactive_bytes ? (double)used - g->inactive_bytes : 0;
}

void
cgroup_read(struct cgroup *g, mc_ns now, struct cgroup_reading *r)
{
    *r = (struct cgroup_reading){0};
    if (pace_is_due(&g->limits_pace, now))
        read_limits(g, now);
    r->cores = g->cores;
    r->mem_limit = g->mem_limit;
    read_cpu(g, r);
    read_memory(g, now, r);
}

struct file *
cgroup_pressure(struct cgroup *g, unsigned which)
{
    return &g->pressure[which];
}

const char *
cgroup_kind(const struct cgroup *g)
{
    bool v1 = g->cpu_usage.path || (g->mem_usage.path && !g->mem_v2);
    bool v2 = g->cpu_v2 || g->mem_v2 || g->pressure[0].path;

    return v1 && v2 ? "v1 and v2" : v2 ? "v2" : "v1";
}

/* --- opening ------------------------------------------------------------------------------------
 */

static bool
exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* False: the tree has no such file. */
static bool
offer(struct file *f, const struct cgroup *g, enum cg_tree tree, const char *name)
{
    char *path;

    if (f->path != NULL || g->dir[tree] == NULL)
        return false;
    path = mc_printf("%s/%s", g->dir[tree], name);
    if (!exists(path)) {
        free(path);
        return false;
    }
    file_set(f, path);
    return true;
}

/* v1 first: where a v1 controller is mounted, the v2 tree does not have it. */
static void
choose_files(struct cgroup *g)
{
    if (offer(&g->cpu_usage, g, CG_CPUACCT, "cpuacct.usage"))
        offer(&g->cpu_stat, g, CG_CPU, "cpu.stat");
    else
        g->cpu_v2 = offer(&g->cpu_stat, g, CG_UNIFIED, "cpu.stat");
    if (offer(&g->mem_usage, g, CG_MEMORY, "memory.usage_in_bytes"))
        offer(&g->mem_stat, g, CG_MEMORY, "memory.stat");
    else if ((g->mem_v2 = offer(&g->mem_usage, g, CG_UNIFIED, "memory.current")))
        offer(&g->mem_stat, g, CG_UNIFIED, "memory.stat");
    offer(&g->pressure[0], g, CG_UNIFIED, "cpu.pressure");
    offer(&g->pressure[1], g, CG_UNIFIED, "memory.pressure");
    offer(&g->pressure[2], g, CG_UNIFIED, "io.pressure");
}

/* The directory of the group in a tree.  Its path is told from the tree's root, of which the mount
 * may show only a part (a container without a namespace for cgroups). */
static void
set_dir(struct cgroup *g, const struct cg_mount *m, enum cg_tree tree, struct str path)
{
    struct str shown = str_of(m->root);
    struct stat st;

    if (m->dir == NULL)
        return;
    if (shown.n > 1 && str_starts(path, shown) && (path.n == shown.n || path.p[shown.n] == '/'))
        path = (struct str){path.p + shown.n, path.n - shown.n};
    while (path.n > 0 && path.p[path.n - 1] == '/')
        path.n--;
    g->mount_len[tree] = strlen(m->dir);
    g->dir[tree] = mc_printf("%s" STR_FMT, m->dir, STR_ARG(path));
    if (stat(g->dir[tree], &st) != 0 || !S_ISDIR(st.st_mode)) {
        free(g->dir[tree]);
        g->dir[tree] = NULL;
    }
}

static enum mc_err
finish(struct cgroup *g, struct cgroup **out, struct errbuf *e, const char *what)
{
    choose_files(g);
    if (g->cpu_usage.path || g->cpu_stat.path || g->mem_usage.path) {
        *out = g;
        return MC_OK;
    }
    err_set(e, "%s: no control group of that name", what);
    cgroup_free(&g);
    return MC_ENOENT;
}

enum mc_err
cgroup_open(const char *root, const char *path, struct cgroup **out, struct errbuf *e)
{
    struct cgroup *g = mc_alloc(sizeof(*g));
    struct cg_mounts m;

    cg_mounts_read(&m, root);
    for (unsigned t = 0; t < CG_N_TREES; t++)
        set_dir(g, &m.tree[t], (enum cg_tree)t, str_of(path));
    cg_mounts_free(&m);
    return finish(g, out, e, path);
}

enum mc_err
cgroup_open_pid(const char *root, int pid, struct cgroup **out, struct errbuf *e)
{
    struct cgroup *g = mc_alloc(sizeof(*g));
    struct cg_mounts m;
    struct str path;
    char what[32] = "our own";

    if (pid != 0)
        snprintf(what, sizeof(what), "process %d", pid);
    cg_mounts_read(&m, root);
    for (unsigned t = 0; t < CG_N_TREES; t++)
        if (cg_path_of_pid(root, pid, (enum cg_tree)t, &path))
            set_dir(g, &m.tree[t], (enum cg_tree)t, path);
    cg_mounts_free(&m);
    return finish(g, out, e, what);
}

void
cgroup_free(struct cgroup **gp)
{
    struct cgroup *g = *gp;

    if (g == NULL)
        return;
    *gp = NULL;
    for (unsigned t = 0; t < CG_N_TREES; t++)
        free(g->dir[t]);
    for (unsigned i = 0; i < 3; i++)
        file_close(&g->pressure[i]);
    file_close(&g->cpu_usage);
    file_close(&g->cpu_stat);
    file_close(&g->mem_usage);
    file_close(&g->mem_stat);
    free(g);
}

/* --- units and containers -----------------------------------------------------------------------
 */

/* Path below top of a directory of that name, malloc'd. */
static char *
find_below(const char *top, const char *below, const char *name, unsigned depth)
{
    char *dir = mc_printf("%s%s", top, below), *found = NULL;
    DIR *d = opendir(dir);
    struct dirent *e;

    free(dir);
    while (d != NULL && found == NULL && (e = readdir(d)) != NULL) {
        char *next;

        if (e->d_name[0] == '.' || (e->d_type != DT_DIR && e->d_type != DT_UNKNOWN))
            continue;
        next = mc_printf("%s/%s", below, e->d_name);
        if (strcmp(e->d_name, name) == 0)
            found = mc_strdup(next);
        else if (depth < UNIT_DEPTH_MAX)
            found = find_below(top, next, name, depth + 1);
        free(next);
    }
    if (d != NULL)
        closedir(d);
    return found;
}

char *
cgroup_find_unit(const char *root, const char *unit)
{
    static const enum cg_tree order[] = {CG_UNIFIED, CG_SYSTEMD, CG_MEMORY, CG_CPUACCT};
    char *name = mc_printf("%s%s", unit, strchr(unit, '.') ? "" : ".service");
    char *found = NULL;
    struct cg_mounts m;

    cg_mounts_read(&m, root);
    for (unsigned i = 0; i < MC_COUNT(order) && found == NULL; i++)
        if (m.tree[order[i]].dir != NULL)
            found = find_below(m.tree[order[i]].dir, "", name, 0);
    cg_mounts_free(&m);
    free(name);
    return found;
}

/* The host's root group has no cpu.max and no memory.max; in v1 it has files of limits, unset. */
bool
cgroup_is_contained(const char *root)
{
    struct cgroup *g;
    struct cg_mounts m;
    bool contained = false;
    char path[4096];

    cg_mounts_read(&m, root);
    if (m.tree[CG_UNIFIED].dir != NULL) {
        snprintf(path, sizeof(path), "%s/cpu.max", m.tree[CG_UNIFIED].dir);
        contained = exists(path);
        snprintf(path, sizeof(path), "%s/memory.max", m.tree[CG_UNIFIED].dir);
        contained = contained || exists(path);
    }
    cg_mounts_free(&m);
    if (contained || cgroup_open(root, "/", &g, NULL) != MC_OK)
        return contained;
    read_limits(g, 0);
    contained = lowest(g, CG_CPU, quota_v1) > 0 || lowest(g, CG_MEMORY, memory_v1) > 0;
    cgroup_free(&g);
    return contained;
}
