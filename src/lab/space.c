/* SPDX-License-Identifier: BSD-2-Clause
 *
 * space.c - namespaces of hosts, see space.h.
 */
#include "lab/space.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/str.h"

static const struct {
    const char *path;
    int type;
} kinds[] = {
    {"/proc/self/ns/net", CLONE_NEWNET},
    {"/proc/self/ns/mnt", CLONE_NEWNS},
    {"/proc/self/ns/uts", CLONE_NEWUTS},
};

static int *
fd_of(struct space *s, unsigned kind)
{
    int *fds[] = {&s->net, &s->mnt, &s->uts};

    return fds[kind];
}

static void
close_space(struct space *s)
{
    for (unsigned i = 0; i < MC_COUNT(kinds); i++)
        if (*fd_of(s, i) >= 0)
            close(*fd_of(s, i));
    *s = SPACE_NONE;
}

enum mc_err
space_open(struct space *out, struct errbuf *e)
{
    struct space s = SPACE_NONE;

    for (unsigned i = 0; i < MC_COUNT(kinds); i++) {
        int fd = open(kinds[i].path, O_RDONLY | O_CLOEXEC);

        if (fd < 0) {
            err_sys(e, kinds[i].path);
            close_space(&s);
            return MC_ESYS;
        }
        *fd_of(&s, i) = fd;
    }
    *out = s;
    return MC_OK;
}

enum mc_err
space_enter(const struct space *s, struct errbuf *e)
{
    struct space copy = *s;

    /* a thread that shares its working directory with another may not change its mounts */
    if (unshare(CLONE_FS) < 0)
        return err_sys(e, "unshare");
    for (unsigned i = 0; i < MC_COUNT(kinds); i++)
        if (*fd_of(&copy, i) >= 0 && setns(*fd_of(&copy, i), kinds[i].type) < 0)
            return err_sys(e, "setns");
    return MC_OK;
}

/* --- mounts ------------------------------------------------------------------------------------
 */

/* A tree of mounts taken out of the name space; -1 when the path is not there. */
static int
take_tree(const char *path)
{
    return open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
}

static bool
put_tree(int tree, const char *path)
{
    return tree < 0 || move_mount(tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) == 0;
}

static void
make_directories(const char *path)
{
    char *copy = mc_strdup(path);

    for (char *p = copy + 1; *p != '\0'; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        mkdir(copy, 0755);
        *p = '/';
    }
    mkdir(copy, 0755);
    free(copy);
}

/* /sys is that of the network namespace it is mounted in; what hangs below it is put back. */
static enum mc_err
mount_sys(struct errbuf *e)
{
    int cgroups = take_tree("/sys/fs/cgroup");
    enum mc_err rv = MC_OK;

    if (mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        rv = err_sys(e, "mount /sys");
    else if (!put_tree(cgroups, "/sys/fs/cgroup"))
        rv = err_sys(e, "mount /sys/fs/cgroup");
    if (cgroups >= 0)
        close(cgroups);
    /* without BPF in the kernel there is no such directory, and nobody who misses it */
    if (rv == MC_OK && access("/sys/fs/bpf", F_OK) == 0 &&
        mount("bpf", "/sys/fs/bpf", "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0)
        rv = err_sys(e, "mount /sys/fs/bpf");
    return rv;
}

static enum mc_err
mount_run(const char *keep, struct errbuf *e)
{
    int kept = take_tree(keep);
    enum mc_err rv = MC_OK;

    if (kept < 0)
        return err_sys(e, keep);
    if (mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=64m") < 0) {
        rv = err_sys(e, "mount /run");
    } else if (str_starts(str_of(keep), STR("/run/"))) {
        make_directories(keep);
        if (!put_tree(kept, keep))
            rv = err_sys(e, keep);
    }
    close(kept);
    return rv;
}

static enum mc_err
mount_all(const char *keep, const char *hosts, struct errbuf *e)
{
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return err_sys(e, "mounts of its own");
    if (mount(hosts, "/etc/hosts", NULL, MS_BIND, NULL) < 0)
        return err_sys(e, "mount /etc/hosts");
    if (mount_sys(e) != MC_OK)
        return MC_ESYS;
    return mount_run(keep, e);
}

/* --- a host ------------------------------------------------------------------------------------
 */

enum mc_err
space_new(const char *name, const char *keep, const char *hosts, const struct space *home,
          struct space *out, struct errbuf *e)
{
    struct space s = SPACE_NONE;
    struct errbuf back;
    enum mc_err rv;

    if (unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWUTS) < 0)
        return err_sys(e, "namespaces");
    if (sethostname(name, strlen(name)) < 0)
        rv = err_sys(e, "host name");
    else
        rv = mount_all(keep, hosts, e);
    if (rv == MC_OK)
        rv = space_open(&s, e);
    /* whoever cannot go home is lost: the caller ends */
    if (space_enter(home, &back) != MC_OK && rv == MC_OK) {
        *e = back;
        rv = MC_ESYS;
    }
    if (rv != MC_OK) {
        close_space(&s);
        return rv;
    }
    *out = s;
    return MC_OK;
}
