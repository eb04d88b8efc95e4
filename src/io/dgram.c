/* SPDX-License-Identifier: BSD-2-Clause
 *
 * dgram.c - see dgram.h.
 *
 * Readiness by a watch, on both engines alike: a cluster's few thousand datagrams a second need no
 * receive of their own in io_uring, and recvmmsg(2) takes those of a turn in one call.
 */
#include "io/dgram.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/check.h"

#define DGRAM_MAGIC      0x64677261u
#define QUEUE_DEFAULT    256
#define PER_TURN_DEFAULT 256
#define BATCH            32 /* datagrams a recvmmsg(2); 64 KiB of buffers */

/* One of a batch: where the kernel puts it. */
struct in_slot {
    struct addr from;
    struct iovec iov;
    uint8_t p[DGRAM_RECV_MAX];
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(uint32_t))];
};

struct out_slot {
    struct addr to;
    struct iovec iov;
    uint8_t p[DGRAM_BYTES_MAX];
};

struct dgram {
    unsigned magic;
    bool delivering, deaf;
    struct loop *loop;
    struct watch watch;
    struct task flush;
    dgram_f *fn;
    void *arg;
    struct addr addr;
    unsigned recv_buf_bytes;
    unsigned per_turn;
    unsigned n_queued, queue;
    uint32_t kernel_dropped; /* as it said last: only grows, and wraps */
    struct mmsghdr in_msg[BATCH], *out_msg;
    struct in_slot in[BATCH];
    struct out_slot *out;
    struct dgram_stats stats;
};

/* --- receiving ------------------------------------------------------------------------------- */

static void
offer_slots(struct dgram *d, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct in_slot *s = &d->in[i];

        s->iov = (struct iovec){.iov_base = s->p, .iov_len = sizeof(s->p)};
        d->in_msg[i].msg_hdr = (struct msghdr){
            .msg_name = &s->from.u,
            .msg_namelen = sizeof(s->from.u),
            .msg_iov = &s->iov,
            .msg_iovlen = 1,
            .msg_control = s->control,
            .msg_controllen = sizeof(s->control),
        };
    }
}

/* What the kernel had dropped when this datagram came. */
static void
count_dropped(struct dgram *d, struct msghdr *m)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
        uint32_t n;

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SO_RXQ_OVFL)
            continue;
        memcpy(&n, CMSG_DATA(c), sizeof(n));
        stat_add(&d->stats.in_dropped, (uint32_t)(n - d->kernel_dropped));
        d->kernel_dropped = n;
    }
}

static void
deliver(struct dgram *d, struct mmsghdr *m, struct in_slot *s)
{
    stat_add(&d->stats.in, 1);
    stat_add(&d->stats.in_bytes, m->msg_len);
    count_dropped(d, &m->msg_hdr);
    if (m->msg_hdr.msg_flags & MSG_TRUNC) {
        stat_add(&d->stats.in_long, 1);
        return;
    }
    s->from.len = m->msg_hdr.msg_namelen;
    d->fn(d->arg, &s->from, s->p, m->msg_len);
}

/* How many came; fewer than n: there are no more now. */
static unsigned
receive_batch(struct dgram *d, unsigned n)
{
    int got;

    offer_slots(d, n);
    got = recvmmsg(d->watch.fd, d->in_msg, n, MSG_DONTWAIT, NULL);
    if (got < 0) {
        if (errno != EAGAIN && errno != EINTR)
            stat_add(&d->stats.in_errors, 1);
        return 0;
    }
    for (int i = 0; i < got; i++)
        deliver(d, &d->in_msg[i], &d->in[i]);
    return (unsigned)got;
}

static void
on_readable(struct watch *w, unsigned revents)
{
    struct dgram *d = container_of(w, struct dgram, watch);
    unsigned left = d->per_turn, wanted, got;

    d->delivering = true;
    do {
        wanted = left < BATCH ? left : BATCH;
        got = receive_batch(d, wanted);
        left -= got;
    } while (got == wanted && left > 0 && !d->deaf);
    d->delivering = false;
    if (!d->deaf)
        watch_arm(w, POLLIN); /* fires at once when something is left */
}

/* --- sending --------------------------------------------------------------------------------- */

/* Does an error concern the socket, not only the datagram that met it? */
static bool
is_full(int err)
{
    return err == EAGAIN || err == ENOBUFS || err == ENOMEM;
}

/* From the queue's datagram `at` on; how many are done with. */
static unsigned
send_some(struct dgram *d, unsigned at)
{
    unsigned left = d->n_queued - at;
    int sent = sendmmsg(d->watch.fd, d->out_msg + at, left, MSG_DONTWAIT | MSG_NOSIGNAL);

    stat_add(&d->stats.out_calls, 1);
    if (sent < 0) {
        unsigned lost = is_full(errno) ? left : errno == EINTR ? 0 : 1;

        stat_add(&d->stats.out_dropped, lost);
        return lost;
    }
    for (int i = 0; i < sent; i++)
        stat_add(&d->stats.out_bytes, d->out_msg[at + (unsigned)i].msg_len);
    stat_add(&d->stats.out, (uint64_t)sent);
    return (unsigned)sent;
}

static void
flush(struct task *t)
{
    struct dgram *d = container_of(t, struct dgram, flush);
    unsigned at = 0;

    while (at < d->n_queued)
        at += send_some(d, at);
    d->n_queued = 0;
}

void
dgram_send(struct dgram *d, const struct addr *to, const void *p, size_t n)
{
    struct out_slot *s;

    MC_CHECK(d, DGRAM_MAGIC);
    MC_ASSERT(n <= DGRAM_BYTES_MAX);
    if (d->n_queued == d->queue) {
        stat_add(&d->stats.out_full, 1);
        return;
    }
    s = &d->out[d->n_queued];
    s->to = *to;
    s->iov = (struct iovec){.iov_base = s->p, .iov_len = n};
    if (n > 0)
        memcpy(s->p, p, n);
    d->out_msg[d->n_queued++].msg_hdr = (struct msghdr){
        .msg_name = &s->to.u, .msg_namelen = s->to.len, .msg_iov = &s->iov, .msg_iovlen = 1};
    loop_defer(d->loop, &d->flush);
}

/* --- birth and death ------------------------------------------------------------------------- */

static bool
set_option(int fd, int level, int name, int value, const char *what, struct errbuf *eb)
{
    if (setsockopt(fd, level, name, &value, sizeof(value)) == 0)
        return true;
    err_sys(eb, what);
    return false;
}

static bool
set_options(int fd, const struct dgram_conf *conf, struct errbuf *eb)
{
    int bytes = (int)conf->recv_buf_bytes;

    if (conf->bind.u.sa.sa_family == AF_INET6 &&
        !set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1, "IPV6_V6ONLY", eb))
        return false;
    if (bytes > 0 && !set_option(fd, SOL_SOCKET, SO_RCVBUF, bytes, "SO_RCVBUF", eb))
        return false;
    return set_option(fd, SOL_SOCKET, SO_RXQ_OVFL, 1, "SO_RXQ_OVFL", eb);
}

static int
inherit_socket(const struct dgram_conf *conf, struct addr *bound, struct errbuf *eb)
{
    bound->len = sizeof(bound->u);
    if (getsockname(*conf->inherited, &bound->u.sa, &bound->len) == 0)
        return *conf->inherited;
    err_sys(eb, "inherited udp socket");
    return -1;
}

static int
open_socket(const struct dgram_conf *conf, struct addr *bound, struct errbuf *eb)
{
    const struct addr *a = &conf->bind;
    char text[ADDR_TEXT];
    int fd = socket(a->u.sa.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        err_sys(eb, "socket");
        goto fail;
    }
    if (!set_options(fd, conf, eb))
        goto fail_close;
    bound->len = sizeof(bound->u);
    if (bind(fd, &a->u.sa, a->len) < 0 || getsockname(fd, &bound->u.sa, &bound->len) < 0) {
        err_sys(eb, "bind");
        goto fail_close;
    }
    return fd;

fail_close:
    close(fd);
fail:
    err_wrap(eb, "udp %s", addr_text(a, text));
    return -1;
}

static unsigned
recv_buf_of(int fd)
{
    int bytes = 0;
    socklen_t n = sizeof(bytes);

    MC_ASSERT(getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, &n) == 0);
    return (unsigned)bytes;
}

struct dgram *
dgram_new(struct loop *l, const struct dgram_conf *conf, struct errbuf *eb)
{
    struct addr bound;
    int fd = conf->inherited ? inherit_socket(conf, &bound, eb) : open_socket(conf, &bound, eb);
    struct dgram *d;

    if (fd < 0)
        return NULL;
    d = mc_alloc(sizeof(*d));
    d->magic = DGRAM_MAGIC;
    d->loop = l;
    d->fn = conf->fn;
    d->arg = conf->arg;
    d->addr = bound;
    d->recv_buf_bytes = recv_buf_of(fd);
    d->per_turn = conf->per_turn ? conf->per_turn : PER_TURN_DEFAULT;
    d->queue = conf->queue ? conf->queue : QUEUE_DEFAULT;
    MC_ASSERT(d->queue <= DGRAM_QUEUE_MAX);
    d->out = mc_alloc(d->queue * sizeof(*d->out));
    d->out_msg = mc_alloc(d->queue * sizeof(*d->out_msg));
    d->flush.fn = flush;
    watch_init(&d->watch, l, fd, on_readable);
    d->deaf = true;
    dgram_listen(d, !conf->deaf);
    return d;
}

void
dgram_listen(struct dgram *d, bool on)
{
    MC_CHECK(d, DGRAM_MAGIC);
    if (on == !d->deaf)
        return;
    d->deaf = !on;
    if (!on)
        watch_drop(&d->watch);
    else if (!d->delivering)
        watch_arm(&d->watch, POLLIN);
}

void
dgram_free(struct dgram **dp)
{
    struct dgram *d = *dp;

    if (d == NULL)
        return;
    MC_CHECK(d, DGRAM_MAGIC);
    MC_ASSERT(!d->delivering);
    flush(&d->flush);
    loop_undefer(d->loop, &d->flush);
    dgram_listen(d, false);
    close(d->watch.fd);
    free(d->out);
    free(d->out_msg);
    d->magic = 0;
    free(d);
    *dp = NULL;
}

int
dgram_fd(const struct dgram *d)
{
    MC_CHECK(d, DGRAM_MAGIC);
    return d->watch.fd;
}

const struct addr *
dgram_addr(const struct dgram *d)
{
    MC_CHECK(d, DGRAM_MAGIC);
    return &d->addr;
}

const struct dgram_stats *
dgram_stats(const struct dgram *d)
{
    MC_CHECK(d, DGRAM_MAGIC);
    return &d->stats;
}

unsigned
dgram_recv_buf_bytes(const struct dgram *d)
{
    MC_CHECK(d, DGRAM_MAGIC);
    return d->recv_buf_bytes;
}
