/* SPDX-License-Identifier: BSD-2-Clause
 *
 * upgrade_new.c - the process that comes, see upgrade.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/pack.h"
#include "control/heritage.h"
#include "control/node.h"
#include "control/notify.h"
#include "control/takeover_node.h"
#include "io/rights.h"
#include "proxy/pass.h"

/* What it sends was sent before we were started. */
#define RIGHTS_WAIT_S 10
/* Of connections in a row, before others have their turn. */
#define BATCH         64

/* --- what we get --------------------------------------------------------------------------------
 */

struct rights {
    int *fds;
    unsigned n, all;
};

static void
drop(const int *fds, unsigned n)
{
    while (n > 0)
        close(fds[--n]);
}

/* One message; false: why is in e. */
static bool
receive_some(int from, struct rights *r, struct errbuf *e)
{
    uint8_t text[64];
    int fds[RIGHTS_FDS_MAX];
    unsigned n;
    ssize_t got = rights_recv(from, text, sizeof(text), fds, &n);
    struct pack_in in = {.p = text, .n = got > 0 ? (size_t)got : 0};
    bool ours = unpack_u8(&in) == UPGRADE_SAYS_RIGHTS && unpack_u8(&in) == HERITAGE_VERSION;
    unsigned all = unpack_u16(&in);

    if (got < 0) {
        err_sys(e, "what the process before leaves");
    } else if (in.bad || !ours || n == 0 || all > HERITAGE_FDS || r->n + n > all) {
        err_set(e, "what the process before leaves makes no sense to this release");
    } else {
        r->fds = mc_realloc(r->fds, (r->n + n) * sizeof(*fds));
        memcpy(r->fds + r->n, fds, n * sizeof(*fds));
        r->n += n;
        r->all = all;
        return true;
    }
    drop(fds, n);
    return false;
}

static enum mc_err
receive(int from, struct heritage **out, struct errbuf *e)
{
    static const struct timeval wait = {.tv_sec = RIGHTS_WAIT_S};
    struct rights r = {.all = 1};
    enum mc_err rv = MC_EINVAL;
    bool ok = true;

    (void)setsockopt(from, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    while (ok && r.n < r.all)
        ok = receive_some(from, &r, e);
    if (ok)
        rv = heritage_read(r.fds, r.n, out, e);
    else
        drop(r.fds, r.n);
    free(r.fds);
    return rv;
}

/* A unix socket that keeps messages apart, and no more than that: who starts us may say anything.
 */
static bool
is_channel(int fd)
{
    int domain = 0, type = 0;
    socklen_t n = sizeof(int), m = sizeof(int);

    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) == 0 && domain == AF_UNIX &&
           getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &m) == 0 && type == SOCK_SEQPACKET;
}

enum mc_err
upgrade_inherit(int *fd, struct heritage **out, struct errbuf *e)
{
    const char *text = getenv(UPGRADE_ENV);
    uint64_t number;
    enum mc_err rv;

    *fd = -1;
    *out = NULL;
    if (text == NULL)
        return MC_OK;
    if (!str_u64(str_of(text), &number) || number > INT32_MAX || !is_channel((int)number)) {
        err_set(e, UPGRADE_ENV ": \"%s\" is no socket of a process before this one", text);
        return MC_EINVAL;
    }
    *fd = (int)number;
    unsetenv(UPGRADE_ENV);
    (void)fcntl(*fd, F_SETFD, FD_CLOEXEC);
    notify_take_watchdog();
    rv = privs_keep_lent(e);
    return rv == MC_OK ? receive(*fd, out, e) : rv;
}

/* --- what we tell, and hear ----------------------------------------------------------------------
 */

void
upgrade_fail(int fd, const char *why)
{
    char text[250];
    int n = snprintf(text, sizeof(text), "%c%s", UPGRADE_SAYS_FAILED, why);

    (void)rights_send(fd, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1, NULL, 0);
}

static void
take_place(struct node *n, bool orphaned)
{
    if (n->upgrade.went)
        return;
    n->upgrade.went = true;
    log_info("upgrade: this process (%ld) serves in the place of %ld", (long)getpid(),
             (long)n->upgrade.before);
    node_take_place(n, orphaned);
}

/* We are between two processes, and our workers may be about to end. */
static bool
pass_further(const struct node *n, const uint8_t *p, size_t size, int fd)
{
    return upgrade_is_over(n) && rights_send(n->upgrade.watch.fd, p, size, &fd, 1);
}

static void
take_connection(struct node *n, const uint8_t *p, size_t size, int fd)
{
    struct passed *c;

    if (pass_further(n, p, size, fd)) {
        close(fd);
        return;
    }
    c = pass_read(p, size, fd);
    if (c == NULL) {
        log_warn("upgrade: a connection that is passed on makes no sense, and is closed");
        return;
    }
    worker_pass(n->workers[n->upgrade.next++ % n->n_workers], &c);
}

enum taken { TOOK, LATER, GONE };

static enum taken
take_message(struct node *n, int from)
{
    uint8_t text[PASS_MAX];
    int fds[RIGHTS_FDS_MAX];
    unsigned n_fds;
    ssize_t got = rights_recv(from, text, sizeof(text), fds, &n_fds);

    if (got < 0)
        return errno == EAGAIN ? LATER : errno == EMSGSIZE ? TOOK : GONE;
    if (got > 0 && text[0] == PASS_KIND && n_fds == 1) {
        take_connection(n, text, (size_t)got, fds[0]);
        return TOOK;
    }
    drop(fds, n_fds);
    if (got > 0 && text[0] == UPGRADE_SAYS_GO)
        take_place(n, false);
    return got > 0 ? TOOK : GONE;
}

static void
forget(struct watch *w)
{
    watch_drop(w);
    close(w->fd);
    w->loop = NULL;
}

static void
on_message(struct watch *w, unsigned revents)
{
    struct node *n = container_of(w, struct node, upgrade.from);
    enum taken what = TOOK;

    for (unsigned i = 0; i < BATCH && what == TOOK; i++)
        what = take_message(n, w->fd);
    if (what != GONE) {
        watch_arm(w, POLLIN);
        return;
    }
    take_place(n, true); /* it may have died before it could say so */
    takeover_node_be_alone(n);
    upgrade_look_at_queues(n);
    log_info("upgrade: the process before (%ld) has ended", (long)n->upgrade.before);
    forget(w);
    leave_look(n); /* we may have been there for its connections only */
}

bool
upgrade_is_last(const struct node *n)
{
    return n->upgrade.from.loop == NULL;
}

void
upgrade_refuse(struct node *n)
{
    struct watch *w = &n->upgrade.from;

    if (w->loop == NULL || !n->upgrade.went)
        return;
    (void)shutdown(w->fd, SHUT_RD);
    while (take_message(n, w->fd) == TOOK)
        ;
    forget(w);
}

void
upgrade_ready(struct node *n, int fd)
{
    unsigned ifindex[GUARD_INTERFACES_MAX];
    unsigned n_interfaces = takeover_node_interfaces(n, ifindex);
    uint8_t text[2 + 4 * GUARD_INTERFACES_MAX];
    struct pack_out o = {.p = text, .cap = sizeof(text)};

    pack_u8(&o, UPGRADE_SAYS_READY);
    pack_u8(&o, (uint8_t)n_interfaces);
    for (unsigned i = 0; i < n_interfaces; i++)
        pack_u32(&o, ifindex[i]);
    n->upgrade.before = getppid();
    (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    watch_init(&n->upgrade.from, n->loop, fd, on_message);
    watch_arm(&n->upgrade.from, POLLIN);
    (void)rights_send(fd, text, o.n, NULL, 0);
}
