/* SPDX-License-Identifier: BSD-2-Clause
 *
 * state.c - directories and locks of laboratories, see state.h.
 */
#include "lab/state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "base/units.h"

#define GONE_WAIT_MS 2000 /* a control group is busy for a moment after its last process */

/* Where all of them are; malloc'd. */
static char *
base_dir(void)
{
    const char *tmp = getenv("TMPDIR");
    char *dir = mc_strdup("/run/meercat-lab");

    if ((mkdir(dir, 0700) == 0 || errno == EEXIST) && access(dir, W_OK) == 0)
        return dir;
    free(dir);
    dir = mc_printf("%s/meercat-lab", tmp != NULL && tmp[0] == '/' ? tmp : "/tmp");
    mkdir(dir, 0700);
    return dir;
}

char *
state_dir(const char *name)
{
    char *base = base_dir(), *dir = mc_printf("%s/%s", base, name);

    free(base);
    return dir;
}

static char *
path_in(const char *name, const char *file)
{
    char *dir = state_dir(name), *path = mc_printf("%s/%s", dir, file);

    free(dir);
    return path;
}

static void
pause_ms(unsigned ms)
{
    struct timespec ts = {ms / 1000, (long)(ms % 1000) * 1000000};

    nanosleep(&ts, NULL);
}

/* --- locks -------------------------------------------------------------------------------------
 */

/* Nobody claims or sweeps meanwhile; -1 when it cannot be. */
static int
lock_base(void)
{
    char *base = base_dir(), *path = mc_printf("%s/.lock", base);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd >= 0 && flock(fd, LOCK_EX) < 0) {
        close(fd);
        fd = -1;
    }
    free(path);
    free(base);
    return fd;
}

static bool
is_locked(int fd)
{
    return flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

int
state_watch(const char *name)
{
    char *path = path_in(name, "lock");
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    free(path);
    if (fd >= 0 && !is_locked(fd)) {
        close(fd);
        return -1;
    }
    return fd;
}

bool
state_is_held(const char *name)
{
    int fd = state_watch(name);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* The janitor's last act is to end: what it removes is gone then, the file that we watch, too. */
bool
state_wait_gone(int watch, unsigned ms)
{
    mc_ns until = units_clock_ns() + (mc_ns)ms * MC_MS;
    bool gone;

    while (!(gone = !is_locked(watch)) && units_clock_ns() < until)
        pause_ms(2);
    close(watch);
    return gone;
}

/* --- one laboratory ----------------------------------------------------------------------------
 */

static enum mc_err
claim(const char *name, int *lock, struct errbuf *e)
{
    char *dir = state_dir(name), *path = path_in(name, "lock");
    enum mc_err rv = MC_OK;
    int fd = -1;

    if (state_is_held(name)) {
        err_set(e, "\"%s\" is up: meercat lab down --name %s, or --name for another", name, name);
        rv = MC_EEXIST;
    } else if (mkdir(dir, 0700) < 0) {
        rv = err_sys(e, dir);
    } else {
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
            rv = err_sys(e, path);
    }
    if (rv != MC_OK && fd >= 0)
        close(fd);
    if (rv == MC_OK)
        *lock = fd;
    free(path);
    free(dir);
    return rv;
}

enum mc_err
state_claim(const char *name, int *lock, struct errbuf *e)
{
    int base;
    enum mc_err rv;

    state_sweep();
    base = lock_base();
    if (base < 0)
        return err_sys(e, "the directory of laboratories");
    rv = claim(name, lock, e);
    close(base);
    return rv;
}

pid_t
state_janitor(const char *name)
{
    char *path = path_in(name, "pid");
    struct buf b = {0};
    uint64_t pid = 0;

    if (file_load(path, 16, &b) && b.n > 0)
        str_u64(str_trim((struct str){b.p, b.n}), &pid);
    buf_free(&b);
    free(path);
    return (pid_t)pid;
}

bool
state_put_janitor(const char *name, pid_t pid)
{
    char *path = path_in(name, "pid");
    struct buf b = {0};
    bool ok;

    buf_printf(&b, "%d", (int)pid);
    ok = file_replace(path, &b);
    buf_free(&b);
    free(path);
    return ok;
}

/* --- the end -----------------------------------------------------------------------------------
 */

static int
remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    remove(path);
    return 0;
}

static void
remove_all(const char *name, const struct groups *g)
{
    char *dir = state_dir(name);

    for (unsigned ms = 0; !group_remove(g, name) && ms < GONE_WAIT_MS; ms += 10)
        pause_ms(10);
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    free(dir);
}

/* Nobody claims the name before all is gone. */
void
state_remove(const char *name, const struct groups *g)
{
    int base = lock_base();

    remove_all(name, g);
    if (base >= 0)
        close(base);
}

void
state_each(void (*fn)(const char *name, void *arg), void *arg)
{
    char *base = base_dir();
    DIR *d = opendir(base);
    struct dirent *entry;

    while (d != NULL && (entry = readdir(d)) != NULL)
        if (entry->d_name[0] != '.')
            fn(entry->d_name, arg);
    if (d != NULL)
        closedir(d);
    free(base);
}

static void
sweep_one(const char *name, void *arg)
{
    struct groups *g = arg;

    if (state_is_held(name))
        return;
    group_thaw_all(g, name);
    remove_all(name, g);
}

void
state_sweep(void)
{
    int base = lock_base();
    struct groups g;

    if (base < 0)
        return;
    groups_find("", &g);
    state_each(sweep_one, &g);
    groups_free(&g);
    close(base);
}
