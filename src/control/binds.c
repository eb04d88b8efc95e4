/* SPDX-License-Identifier: BSD-2-Clause
 *
 * binds.c - the sockets that clients connect to.
 */
#include "control/binds.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "io/sock.h"

struct bound {
    struct addr addr;
    uint64_t id;
    int *fds;       /* [n_workers]; of a unix socket all the same */
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
    int *closing; /* descriptors that lead nowhere, see binds_let_go() */
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

/* How many of n descriptors are not the same. */
static unsigned
n_different(const struct bound *e, unsigned n)
{
    return is_unix(e) && n > 1 ? 1 : n;
}

static void
bound_free(struct bound *e, unsigned n_fds)
{
    if (is_unix(e))
        remove_own_file(e);
    for (unsigned i = 0; i < n_different(e, n_fds); i++)
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
    if (is_unix(e))
        remove_own_file(e);
    for (unsigned i = 0; i < n_different(e, b->n_workers); i++)
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
        bound_free(b->v[i], b->n_workers);
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

static enum mc_err
open_sockets(struct bound *e, unsigned n_workers, const struct binds_how *how, struct errbuf *err)
{
    struct sock_listen_opts opts = {
        .reuseport = true, .unix_mode = how->unix_mode, .absent = how->absent};
    struct stat st;

    for (unsigned i = 0; i < n_workers; i++) {
        e->fds[i] = i > 0 && is_unix(e) ? e->fds[0] : sock_listen_fd(&e->addr, &opts, err);
        if (e->fds[i] < 0) {
            bound_free(e, i);
            return MC_ESYS;
        }
    }
    if (is_unix(e) && lstat(e->addr.u.un.sun_path, &st) == 0) {
        e->file_dev = st.st_dev;
        e->file_ino = st.st_ino;
    }
    return MC_OK;
}

static enum mc_err
bind_new(struct binds *b, const struct addr *a, const struct binds_how *how, struct bound **out,
         struct errbuf *err)
{
    struct bound *e = mc_alloc(sizeof(*e));
    enum mc_err rv;

    e->addr = *a;
    e->fds = mc_alloc(b->n_workers * sizeof(*e->fds));
    rv = open_sockets(e, b->n_workers, how, err);
    if (rv != MC_OK)
        return rv;
    e->id = ++b->last_id;
    e->is_new = true;
    b->v = mc_realloc(b->v, (b->n + 1) * sizeof(struct bound *));
    b->v[b->n++] = e;
    *out = e;
    return MC_OK;
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
    e->wanted = true;
    out->addr = e->addr;
    out->id = e->id;
    out->fds = mc_alloc(b->n_workers * sizeof(*out->fds));
    memcpy(out->fds, e->fds, b->n_workers * sizeof(*out->fds));
    return MC_OK;
}

void
binds_give_up(struct binds *b)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < b->n; i++) {
        if (b->v[i]->is_new)
            bound_free(b->v[i], b->n_workers);
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
