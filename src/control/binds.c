/* SPDX-License-Identifier: BSD-2-Clause
 *
 * binds.c - the sockets that clients connect to.
 */
#include "control/binds.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "io/sock.h"

struct bound {
    struct addr addr;
    uint64_t id;
    int *fds;       /* [n_fds] */
    unsigned n_fds; /* one for each worker or more, one of a unix socket */
    bool is_new;    /* bound for the set that is being asked for */
    bool wanted;    /* by that set, or by the one that was kept last */
    dev_t file_dev; /* of a unix socket, so that only our own file is removed */
    ino_t file_ino;
};

struct binds {
    unsigned n_workers;
    uint64_t last_id;
    struct bound **v;
    unsigned n;
    bool handed_over; /* another process has the sockets, too, and their files */
    int *closing;     /* descriptors that lead nowhere, see binds_let_go() */
    unsigned n_closing;
};

struct binds *
binds_new(unsigned n_workers)
{
    struct binds *b = mc_alloc(sizeof(*b));

    b->n_workers = n_workers;
    return b;
}

static bool
is_unix(const struct bound *e)
{
    return e->addr.u.sa.sa_family == AF_UNIX;
}

static void
remove_own_file(const struct bound *e)
{
    const char *path = e->addr.u.un.sun_path;
    struct stat st;

    if (lstat(path, &st) == 0 && st.st_dev == e->file_dev && st.st_ino == e->file_ino)
        unlink(path);
}

static void
bound_free(const struct binds *b, struct bound *e)
{
    if (is_unix(e) && !b->handed_over)
        remove_own_file(e);
    for (unsigned i = 0; i < e->n_fds; i++)
        close(e->fds[i]);
    free(e->fds);
    free(e);
}

/* The number stays, what is behind it goes.  Where no socket can be had, the number goes too. */
static void
lead_nowhere(struct binds *b, int fd)
{
    int nowhere = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (nowhere < 0 || dup3(nowhere, fd, O_CLOEXEC) < 0) {
        close(fd);
    } else {
        b->closing = mc_realloc(b->closing, (b->n_closing + 1) * sizeof(*b->closing));
        b->closing[b->n_closing++] = fd;
    }
    if (nowhere >= 0)
        close(nowhere);
}

static void
bound_let_go(struct binds *b, struct bound *e)
{
    if (is_unix(e) && !b->handed_over)
        remove_own_file(e);
    for (unsigned i = 0; i < e->n_fds; i++)
        lead_nowhere(b, e->fds[i]);
    free(e->fds);
    free(e);
}

void
binds_free(struct binds **bp)
{
    struct binds *b = *bp;

    if (b == NULL)
        return;
    *bp = NULL;
    for (unsigned i = 0; i < b->n; i++)
        bound_free(b, b->v[i]);
    binds_close_retired(b);
    free(b->v);
    free(b);
}

void
binds_begin(struct binds *b)
{
    for (unsigned i = 0; i < b->n; i++)
        b->v[i]->wanted = b->v[i]->is_new = false;
}

static struct bound *
find(const struct binds *b, const struct addr *a)
{
    for (unsigned i = 0; i < b->n; i++)
        if (addr_eq(&b->v[i]->addr, a))
            return b->v[i];
    return NULL;
}

static void
note_file(struct bound *e)
{
    struct stat st;

    if (is_unix(e) && lstat(e->addr.u.un.sun_path, &st) == 0) {
        e->file_dev = st.st_dev;
        e->file_ino = st.st_ino;
    }
}

/* As many as there are to be; those that were opened stay when one cannot be. */
static enum mc_err
open_sockets(struct bound *e, unsigned n, const struct binds_how *how, struct errbuf *err)
{
    struct sock_listen_opts opts = {
        .reuseport = true, .unix_mode = how->unix_mode, .absent = how->absent};

    while (e->n_fds < n) {
        int fd = sock_listen_fd(&e->addr, &opts, err);

        if (fd < 0)
            return MC_ESYS;
        e->fds[e->n_fds++] = fd;
    }
    return MC_OK;
}

static struct bound *
bound_new(const struct addr *a, unsigned most)
{
    struct bound *e = mc_alloc(sizeof(*e));

    e->addr = *a;
    e->fds = mc_alloc(most * sizeof(*e->fds));
    return e;
}

static void
add(struct binds *b, struct bound *e)
{
    e->id = ++b->last_id;
    note_file(e);
    b->v = mc_realloc(b->v, (b->n + 1) * sizeof(struct bound *));
    b->v[b->n++] = e;
}

static enum mc_err
bind_new(struct binds *b, const struct addr *a, const struct binds_how *how, struct bound **out,
         struct errbuf *err)
{
    struct bound *e = bound_new(a, b->n_workers);
    enum mc_err rv = open_sockets(e, is_unix(e) ? 1 : b->n_workers, how, err);

    if (rv != MC_OK) {
        bound_free(b, e);
        return rv;
    }
    e->is_new = true;
    add(b, e);
    *out = e;
    return MC_OK;
}

/* Each worker should have one of its own.  Where the kernel refuses more of them (they belong to
 * another user), workers share those that there are. */
void
binds_inherit(struct binds *b, const struct addr *a, const int *fds, unsigned n)
{
    struct bound *e = bound_new(a, n > b->n_workers ? n : b->n_workers);
    static const struct binds_how how = {.absent = true}; /* if it is here is for who made them */
    struct errbuf why;

    MC_ASSERT(n > 0);
    memcpy(e->fds, fds, n * sizeof(*fds));
    e->n_fds = n;
    if (!is_unix(e) && open_sockets(e, b->n_workers, &how, &why) != MC_OK)
        log_warn("%s: %u workers share %u sockets", why.text, b->n_workers, e->n_fds);
    add(b, e);
}

unsigned
binds_show(const struct binds *b, unsigned i, struct addr *a, const int **fds)
{
    if (i >= b->n)
        return 0;
    *a = b->v[i]->addr;
    *fds = b->v[i]->fds;
    return b->v[i]->n_fds;
}

void
binds_hand_over(struct binds *b)
{
    b->handed_over = true;
}

void
binds_give(const struct binds *b, uid_t uid, gid_t gid)
{
    for (unsigned i = 0; i < b->n; i++)
        for (unsigned k = 0; k < b->v[i]->n_fds && !is_unix(b->v[i]); k++)
            if (fchown(b->v[i]->fds[k], uid, gid) != 0)
                log_warn("sockets: cannot be given to another user: %s", strerror(errno));
}

enum mc_err
binds_take(struct binds *b, const struct addr *a, const struct binds_how *how, struct bind_fd *out,
           struct errbuf *err)
{
    struct bound *e = find(b, a);

    if (e == NULL) {
        enum mc_err rv = bind_new(b, a, how, &e, err);

        if (rv != MC_OK)
            return rv;
    } else if (is_unix(e) && chmod(e->addr.u.un.sun_path, how->unix_mode) != 0) {
        log_warn("%s: mode cannot be changed", e->addr.u.un.sun_path);
    }
    for (unsigned i = 0; i < e->n_fds && !is_unix(e); i++)
        sock_user_timeout(e->fds[i], how->user_timeout_ns);
    e->wanted = true;
    out->addr = e->addr;
    out->id = e->id;
    out->n_fds = e->n_fds;
    out->n_workers = b->n_workers;
    out->fds = mc_alloc(e->n_fds * sizeof(*out->fds));
    memcpy(out->fds, e->fds, e->n_fds * sizeof(*out->fds));
    return MC_OK;
}

void
binds_give_up(struct binds *b)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < b->n; i++) {
        if (b->v[i]->is_new)
            bound_free(b, b->v[i]);
        else
            b->v[kept++] = b->v[i];
    }
    b->n = kept;
}

void
binds_let_go(struct binds *b)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < b->n; i++) {
        if (!b->v[i]->wanted)
            bound_let_go(b, b->v[i]);
        else
            b->v[kept++] = b->v[i];
    }
    b->n = kept;
}

void
binds_close_retired(struct binds *b)
{
    for (unsigned i = 0; i < b->n_closing; i++)
        close(b->closing[i]);
    free(b->closing);
    b->closing = NULL;
    b->n_closing = 0;
}
