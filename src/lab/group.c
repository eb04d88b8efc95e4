/* SPDX-License-Identifier: BSD-2-Clause
 *
 * group.c - control groups, see group.h.
 */
#include "lab/group.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/file.h"

#define PARENT        "meercat-lab"

/* A short period: what is slow is slow evenly, and not stopped for 80 ms of each 100.  The kernel
 * takes no quota below 1 ms. */
#define PERIOD_US     10000
#define QUOTA_MIN_US  1000
#define PERIOD_MAX_US 1000000

static const char *const names[] = {
#define X(id, name) name,
    GROUP_CONTROLLERS(X)
#undef X
};

const char *
group_controller_name(enum group_controller c)
{
    return names[c];
}

/* --- where they are ----------------------------------------------------------------------------
 */

/* Is the word among those of a line that are separated so? */
static bool
has_word(const char *line, const char *word, char separator)
{
    struct str rest = str_of(line);

    while (rest.p != NULL)
        if (str_eq(str_cut(&rest, separator), str_of(word)))
            return true;
    return false;
}

/* The tree at a mount point, malloc'd; NULL when no groups can be made there, as in a container
 * that sees its own read-only. */
static char *
tree_at(const char *root, const char *dir)
{
    char *path = mc_printf("%s%s", root, dir);

    if (access(path, W_OK) == 0)
        return path;
    free(path);
    return NULL;
}

/* Version 2: which controllers its root offers. */
static void
find_v2(const char *root, const char *dir, struct groups *g)
{
    char *path = mc_printf("%s%s/cgroup.controllers", root, dir);
    struct buf text = {0};

    if (file_load(path, 4096, &text)) {
        char *line = str_dup(str_trim((struct str){text.p ? text.p : "", text.n}));

        line[strcspn(line, "\n")] = '\0';
        for (unsigned i = 0; i < GROUP_N_CONTROLLERS; i++) {
            /* freezing is no controller in version 2: every group can */
            if (g->tree[i].path != NULL || (i != GROUP_FREEZER && !has_word(line, names[i], ' ')))
                continue;
            g->tree[i].path = tree_at(root, dir);
            g->tree[i].v2 = true;
        }
        free(line);
    }
    buf_free(&text);
    free(path);
}

void
groups_find(const char *root, struct groups *g)
{
    char *mounts = mc_printf("%s/proc/self/mounts", root), *v2 = NULL;
    FILE *f = setmntent(mounts, "re");
    struct mntent *m;

    *g = (struct groups){0};
    while (f != NULL && (m = getmntent(f)) != NULL) {
        if (strcmp(m->mnt_type, "cgroup2") == 0 && v2 == NULL)
            v2 = mc_strdup(m->mnt_dir);
        for (unsigned i = 0; strcmp(m->mnt_type, "cgroup") == 0 && i < GROUP_N_CONTROLLERS; i++)
            if (g->tree[i].path == NULL && has_word(m->mnt_opts, names[i], ','))
                g->tree[i].path = tree_at(root, m->mnt_dir);
    }
    if (f != NULL)
        endmntent(f);
    if (v2 != NULL)
        find_v2(root, v2, g);
    free(v2);
    free(mounts);
}

void
groups_free(struct groups *g)
{
    for (unsigned i = 0; i < GROUP_N_CONTROLLERS; i++)
        free(g->tree[i].path);
    *g = (struct groups){0};
}

/* --- one of them -------------------------------------------------------------------------------
 */

/* In one write, as the kernel wants it. */
static bool
put(const char *dir, const char *file, const char *text)
{
    char *path = mc_printf("%s/%s", dir, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_TRUNC);
    size_t n = strlen(text);
    bool ok = fd >= 0 && write(fd, text, n) == (ssize_t)n;
    int err = errno;

    if (fd >= 0)
        close(fd);
    free(path);
    errno = err;
    return ok;
}

static enum mc_err
write_to(const struct groups *g, enum group_controller c, const char *name, const char *file,
         const char *text, struct errbuf *e)
{
    char *dir;
    enum mc_err rv = MC_OK;

    if (g->tree[c].path == NULL) {
        err_set(e, "no control groups for %s on this machine", names[c]);
        return MC_ENOTSUP;
    }
    dir = mc_printf("%s/" PARENT "/%s", g->tree[c].path, name);
    if (!put(dir, file, text)) {
        err_sys(e, file);
        err_wrap(e, "control group %s", name);
        rv = MC_ESYS;
    }
    free(dir);
    return rv;
}

/* Version 2 gives a controller to the groups in a group only when it is told. */
static void
hand_down(const char *dir, enum group_controller c)
{
    char *word = mc_printf("+%s", names[c]);

    if (c != GROUP_FREEZER)
        put(dir, "cgroup.subtree_control", word);
    free(word);
}

/* Each directory on the way to a group. */
static bool
make_path(const char *tree, bool v2, enum group_controller c, const char *name)
{
    char *path = mc_printf("%s/" PARENT "/%s", tree, name);
    bool ok = true;

    if (v2)
        hand_down(tree, c);
    for (char *p = path + strlen(tree) + 1; ok; p++) {
        bool last = *p == '\0';

        if (!last && *p != '/')
            continue;
        *p = '\0';
        ok = mkdir(path, 0755) == 0 || errno == EEXIST;
        if (last)
            break;
        if (v2)
            hand_down(path, c);
        *p = '/';
    }
    free(path);
    return ok;
}

enum mc_err
group_make(const struct groups *g, const char *name, struct errbuf *e)
{
    for (unsigned i = 0; i < GROUP_N_CONTROLLERS; i++)
        if (g->tree[i].path != NULL && !make_path(g->tree[i].path, g->tree[i].v2, i, name)) {
            err_sys(e, g->tree[i].path);
            err_wrap(e, "control group %s", name);
            return MC_ESYS;
        }
    return MC_OK;
}

unsigned
group_open(const struct groups *g, const char *name, int fds[GROUP_N_CONTROLLERS])
{
    unsigned n = 0;

    for (unsigned i = 0; i < GROUP_N_CONTROLLERS; i++) {
        char *path;

        if (g->tree[i].path == NULL)
            continue;
        path = mc_printf("%s/" PARENT "/%s/cgroup.procs", g->tree[i].path, name);
        fds[n] = open(path, O_WRONLY | O_CLOEXEC);
        n += fds[n] >= 0;
        free(path);
    }
    return n;
}

enum mc_err
group_cpu(const struct groups *g, const char *name, uint32_t ppm, struct errbuf *e)
{
    uint64_t period = PERIOD_US, quota = period * ppm / 1000000;
    bool v2 = g->tree[GROUP_CPU].v2;
    char text[64];
    enum mc_err rv;

    if (ppm > 0 && quota < QUOTA_MIN_US) {
        quota = QUOTA_MIN_US;
        period = quota * 1000000 / ppm;
        period = period < PERIOD_MAX_US ? period : PERIOD_MAX_US;
    }
    if (v2) {
        snprintf(text, sizeof(text), ppm ? "%llu %llu" : "max", (unsigned long long)quota,
                 (unsigned long long)period);
        return write_to(g, GROUP_CPU, name, "cpu.max", text, e);
    }
    snprintf(text, sizeof(text), "%llu", (unsigned long long)period);
    rv = write_to(g, GROUP_CPU, name, "cpu.cfs_period_us", text, e);
    snprintf(text, sizeof(text), "%lld", ppm ? (long long)quota : -1LL);
    return rv != MC_OK ? rv : write_to(g, GROUP_CPU, name, "cpu.cfs_quota_us", text, e);
}

enum mc_err
group_memory(const struct groups *g, const char *name, uint64_t bytes, struct errbuf *e)
{
    bool v2 = g->tree[GROUP_MEMORY].v2;
    char text[32];

    snprintf(text, sizeof(text), "%llu", (unsigned long long)bytes);
    if (bytes == 0)
        strcpy(text, v2 ? "max" : "-1");
    return write_to(g, GROUP_MEMORY, name, v2 ? "memory.max" : "memory.limit_in_bytes", text, e);
}

enum mc_err
group_freeze(const struct groups *g, const char *name, bool frozen, struct errbuf *e)
{
    if (g->tree[GROUP_FREEZER].v2)
        return write_to(g, GROUP_FREEZER, name, "cgroup.freeze", frozen ? "1" : "0", e);
    return write_to(g, GROUP_FREEZER, name, "freezer.state", frozen ? "FROZEN" : "THAWED", e);
}

/* --- the end -----------------------------------------------------------------------------------
 */

void
group_thaw_all(const struct groups *g, const char *lab)
{
    const char *tree = g->tree[GROUP_FREEZER].path;
    char *path = tree != NULL ? mc_printf("%s/" PARENT "/%s", tree, lab) : NULL;
    DIR *d = path != NULL ? opendir(path) : NULL;
    struct dirent *entry;

    while (d != NULL && (entry = readdir(d)) != NULL) {
        char *name = mc_printf("%s/%s", lab, entry->d_name);

        if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
            group_freeze(g, name, false, NULL);
        free(name);
    }
    if (d != NULL)
        closedir(d);
    free(path);
}

/* The groups in one, then it; the parent of all only when it was the last. */
static bool
remove_tree(const char *tree, const char *lab)
{
    char *path = mc_printf("%s/" PARENT "/%s", tree, lab);
    char *parent = mc_printf("%s/" PARENT, tree);
    DIR *d = opendir(path);
    struct dirent *entry;
    bool gone;

    while (d != NULL && (entry = readdir(d)) != NULL)
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
            unlinkat(dirfd(d), entry->d_name, AT_REMOVEDIR);
    if (d != NULL)
        closedir(d);
    gone = rmdir(path) == 0 || errno == ENOENT;
    rmdir(parent);
    free(parent);
    free(path);
    return gone;
}

bool
group_remove(const struct groups *g, const char *lab)
{
    bool gone = true;

    for (unsigned i = 0; i < GROUP_N_CONTROLLERS; i++)
        if (g->tree[i].path != NULL)
            gone &= remove_tree(g->tree[i].path, lab);
    return gone;
}
