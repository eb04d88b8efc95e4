/* SPDX-License-Identifier: BSD-2-Clause
 *
 * loop_uring.c - the completion engine: io_uring.
 *
 * 1. Receives choose their buffers from a ring of blocks, so an idle socket holds none.  A calm
 *    connection has one multishot receive: nothing is asked again per request.
 * 2. Turning reception off only parks the operation: the next bytes are held and only then is it
 *    cancelled, so that an owner that turns it off and on for each request pays nothing.
 * 3. One send is in the kernel per socket, for the whole queue; its blocks stay until it is back.
 * 4. Large bodies are received and sent directly, see direct.c: after a receive that has filled its
 *    block, and when much is queued.
 * 5. Listeners are in an epoll set, which the ring polls, and accepted from directly.  An accept in
 *    the ring would keep a listener open until the ring is gone, which the kernel gets round to 7
 *    to 16 ms after a process was killed, others 1 to 5: all who connect meanwhile are reset.
 * 6. All that a turn asks for is submitted by the call that waits for the next completions.
 *
 * Sockets are named by their descriptors and not registered with the ring.  A registered one saves
 * 40 of 370 ns of an operation while all is in the cache, but has one more line of kernel memory to
 * miss: 75 ns dearer in a cold cache.  A proxy's requests cost the same with 64 connections and 1
 * to 2 % more with 1,000.  (And before Linux 6.13 a file that has left the table is kept until all
 * older operations on registered files are over: no FIN while some connection is idle.)
 *
 * user_data is the address of the socket (or of a watch's node) and what the operation was.  A
 * closed socket lives until `pending` operations have come back, so the address is always good.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/check.h"
#include "io/uring.h"

#define MAX_IOVECS    16
/* Receives below BLOCK_RX in a row until a socket counts as calm.  A guess: more than the requests
 * of most short connections, few among those of a pooled one. */
#define CALM_RECVS    8
/* Queues from this size on are sent directly first. */
#define DIRECT_BYTES  BLOCK_RX
/* What the kernel completes before it comes back, although more is there (since Linux 6.13). */
#define KERNEL_BATCH  20
/* Listeners that are looked at in a turn. */
#define MAX_LISTENERS 16

enum tag { TAG_NONE, TAG_RECV, TAG_SEND, TAG_CONNECT, TAG_POLL_IN, TAG_POLL_OUT, TAG_WATCH };
#define TAG_MASK 7ull
static_assert(_Alignof(struct sock) >= 8, "a tag fits below the address");

/* A watch's poll in the kernel; it may outlive the watch. */
struct watch_node {
    struct watch *watch; /* NULL: dropped */
    struct list link;    /* all of the loop's */
};

static struct uring_state *
state_of(const struct sock *s)
{
    return s->loop->state;
}

/* --- starting operations --------------------------------------------------------------------- */

static uint64_t
tagged(const void *p, enum tag tag)
{
    return (uint64_t)(uintptr_t)p | tag;
}

/* An entry for an operation of s that will come back; `flag` is set as long as it is out. */
static struct io_uring_sqe *
start_op(struct sock *s, enum tag tag, uint32_t flag)
{
    struct uring_state *u = state_of(s);
    struct io_uring_sqe *sqe = uring_sqe(u);

    MC_ASSERT(!(s->flags & flag));
    s->flags |= flag;
    s->pending++;
    s->engine_slot = u->batch;
    sqe->user_data = tagged(s, tag); /* the preparations below do not touch it */
    return sqe;
}

static void
end_op(struct sock *s, uint32_t flag)
{
    MC_ASSERT(s->pending > 0 && (s->flags & flag));
    s->flags &= ~flag;
    s->pending--;
}

/* Told on failure only, and then to nobody: the operation had come back by itself. */
static void
cancel(struct uring_state *u, uint64_t user_data)
{
    struct io_uring_sqe *sqe = uring_sqe(u);

    io_uring_prep_cancel64(sqe, user_data, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = TAG_NONE;
}

/* --- polling ---------------------------------------------------------------------------------- */

static bool
uring_ready(const struct sock *s, unsigned events)
{
    return !(s->flags & (events == POLLIN ? SF_UR_POLL_IN : SF_UR_POLL_OUT));
}

static void
uring_await(struct sock *s, unsigned events)
{
    bool in = events == POLLIN;
    struct io_uring_sqe *sqe;

    if (!uring_ready(s, events))
        return;
    sqe = start_op(s, in ? TAG_POLL_IN : TAG_POLL_OUT, in ? SF_UR_POLL_IN : SF_UR_POLL_OUT);
    io_uring_prep_poll_add(sqe, s->fd, in ? POLLIN | POLLRDHUP : POLLOUT);
}

/* --- receiving ------------------------------------------------------------------------------- */

/* A socket that has been calm gets one multishot operation for all that comes, which saves a tenth
 * of a small request.  But in one go that takes up to 32 blocks out of a busy socket, whether its
 * reader can go on or would rather splice; so the others are asked for one block at a time, and
 * where large bodies come it is only asked when. */
static void
arm_recv(struct sock *s)
{
    struct io_uring_sqe *sqe;

    if (s->flags & (SF_BULK | SF_UR_POLLED)) {
        uring_await(s, POLLIN);
        return;
    }
    sqe = start_op(s, TAG_RECV, SF_UR_RECV);
    if (s->calm >= CALM_RECVS) {
        io_uring_prep_recv_multishot(sqe, s->fd, NULL, 0, 0);
    } else {
        io_uring_prep_recv(sqe, s->fd, NULL, 0, 0);
        sqe->ioprio |= s->flags & SF_READABLE ? 0 : IORING_RECVSEND_POLL_FIRST;
    }
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = URING_BUF_GROUP;
}

static void
cancel_recv(struct sock *s)
{
    if ((s->flags & (SF_UR_RECV | SF_UR_RECV_CANCEL)) != SF_UR_RECV)
        return;
    s->flags |= SF_UR_RECV_CANCEL;
    cancel(state_of(s), tagged(s, TAG_RECV));
}

/* What the kernel receives costs 2 us before it is known whose it is, a poll a quarter of that: so
 * where there are many who have to wait, it is only asked who has something.  A connection to a
 * server that lies idle is of no line, and stays as it was. */
static void
note_crowd(struct sock *s)
{
    if (sock_is_crowded(s))
        s->flags |= SF_UR_POLLED;
    else if (s->line != NULL)
        s->flags &= ~(uint32_t)SF_UR_POLLED;
}

/* An operation that is in the kernel may still bring bytes, also behind a failed send: true. */
static bool
uring_receive(struct sock *s)
{
    if (s->flags & (SF_UR_RECV | SF_UR_POLL_IN))
        return true;
    if (!sock_wants(s))
        return false;
    if (s->flags & SF_RECV_ERROR) {
        s->flags &= ~(uint32_t)SF_RECV_ERROR;
        sock_broken(s, s->err);
        return false;
    }
    note_crowd(s);
    if ((s->flags & (SF_BULK | SF_UR_POLLED)) && direct_read(s))
        return true;
    if (sock_wants(s))
        arm_recv(s);
    return !!(s->flags & (SF_UR_RECV | SF_UR_POLL_IN));
}

static void
note_size(struct sock *s, size_t n)
{
    if (n >= BLOCK_RX) {
        s->calm = 0;
        s->flags |= SF_BULK;
    } else {
        s->calm += s->calm < CALM_RECVS;
        s->flags &= ~(uint32_t)SF_BULK;
    }
}

/* hot: once per received block */
static void
recv_data(struct sock *s, unsigned id, size_t n)
{
    struct uring_state *u = state_of(s);
    struct block *b = uring_buf_claim(u, id, n);

    note_size(s, n);
    if (s->flags & SF_CLOSED)
        ; /* nobody wants it */
    else if (sock_wants(s) && s->held == NULL && sock_its_turn(s))
        sock_tell_recv(s, &b);
    else {
        sock_keep(s, &b);
        cancel_recv(s);
    }
    uring_buf_return(u, s->loop->blocks, id, b);
}

static void
recv_failed(struct sock *s, int err)
{
    switch (err) {
    case ENOBUFS: /* starved: the buffers are back when the turn ends */
        s->flags |= SF_READABLE;
        break;
    case ECANCELED:
    case EINTR:
    case EAGAIN: break;
    default:
        /* Waits behind what is held, and until somebody asks. */
        s->flags |= SF_RECV_ERROR;
        s->err = s->flags & SF_ERROR_DUE ? s->err : (uint16_t)err;
    }
}

/* More of a large body is read at once.  At the end of the turn: armed again, or its end told. */
static void
recv_ended(struct sock *s)
{
    if ((s->flags & (SF_BULK | SF_READABLE)) == (SF_BULK | SF_READABLE) && s->held == NULL)
        direct_read(s);
    sock_queue(s);
}

/* hot: once per received block */
static void
recv_done(struct sock *s, int res, unsigned flags)
{
    bool last = !(flags & IORING_CQE_F_MORE);

    if (last)
        end_op(s, SF_UR_RECV);
    s->flags &= ~(uint32_t)SF_READABLE;
    if (flags & IORING_CQE_F_SOCK_NONEMPTY)
        s->flags |= SF_READABLE;
    if (flags & IORING_CQE_F_BUFFER)
        recv_data(s, flags >> IORING_CQE_BUFFER_SHIFT, res > 0 ? (size_t)res : 0);
    if (res == 0)
        s->flags |= SF_EOF;
    else if (res < 0)
        recv_failed(s, -res);
    if (last) {
        s->flags &= ~(uint32_t)SF_UR_RECV_CANCEL;
        recv_ended(s);
    }
}

static void
poll_in_done(struct sock *s)
{
    end_op(s, SF_UR_POLL_IN);
    s->flags |= SF_READABLE;
    if (s->held == NULL)
        direct_read(s);
    sock_queue(s);
}

static void
poll_out_done(struct sock *s)
{
    end_op(s, SF_UR_POLL_OUT);
    sock_queue(s);
}

/* --- sending --------------------------------------------------------------------------------- */

/* hot: once per send */
static void
uring_flush(struct sock *s)
{
    struct io_uring_sqe *sqe;
    struct iovec v[MAX_IOVECS];
    struct msghdr *m;
    size_t bytes;
    unsigned n;

    if (s->unsent_bytes == 0 || (s->flags & (SF_UR_SEND | SF_HELD | SF_CONNECTING | SF_DEAD)))
        return;
    if (s->unsent_bytes >= DIRECT_BYTES && (direct_send(s) || (s->flags & SF_DEAD)))
        return;
    n = sock_iovecs(s, v, MAX_IOVECS, &bytes);
    if (n > 1) { /* before the entry is taken: may submit */
        m = uring_scratch(state_of(s), sizeof(*m) + n * sizeof(v[0]));
        *m = (struct msghdr){.msg_iov = (struct iovec *)(m + 1), .msg_iovlen = n};
        memcpy(m->msg_iov, v, n * sizeof(v[0]));
    }
    sqe = start_op(s, TAG_SEND, SF_UR_SEND);
    if (n > 1)
        io_uring_prep_sendmsg(sqe, s->fd, m, MSG_NOSIGNAL | MSG_WAITALL);
    else
        io_uring_prep_send(sqe, s->fd, v[0].iov_base, v[0].iov_len, MSG_NOSIGNAL | MSG_WAITALL);
}

/* hot: once per send */
static void
send_done(struct sock *s, int res)
{
    end_op(s, SF_UR_SEND);
    if (s->flags & SF_CLOSED)
        return;
    if (s->flags & SF_DEAD) {
        sock_drop_queue(s);
        sock_queue(s);
    } else if (res < 0 && res != -EINTR && res != -EAGAIN) {
        sock_broken(s, -res);
    } else {
        if (res > 0)
            sock_sent(s, (size_t)res);
        if (!(s->flags & SF_DRAIN_DUE))
            uring_flush(s); /* may send the rest directly, and so empty the queue */
        if (s->flags & SF_DRAIN_DUE)
            sock_tell_drained(s);
    }
}

/* --- connecting and accepting ---------------------------------------------------------------- */

static void
uring_connect(struct sock *s, const struct addr *a)
{
    struct addr *copy = uring_scratch(state_of(s), sizeof(*copy));
    struct io_uring_sqe *sqe = start_op(s, TAG_CONNECT, SF_UR_CONNECT);

    *copy = *a;
    io_uring_prep_connect(sqe, s->fd, &copy->u.sa, copy->len);
}

static void
connect_done(struct sock *s, int res)
{
    end_op(s, SF_UR_CONNECT);
    if (!(s->flags & SF_CLOSED))
        sock_connected(s, -res);
}

static void
uring_accept(struct sock *s, bool on)
{
    struct uring_state *u = state_of(s);
    struct epoll_event ev = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.ptr = s};

    s->calm = 1; /* of a listener: how often to try */
    if (epoll_ctl(u->accept_fd, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, s->fd, &ev) < 0 && on)
        sock_accept_refused(s, errno);
    if (on && u->accept_watch.engine == NULL)
        watch_arm(&u->accept_watch, POLLIN);
}

/* Some of each listener that has connections; who has more is told of again.  One that is closed
 * meanwhile stays where it is until the end of the turn. */
static void
accept_all(struct watch *w, unsigned revents)
{
    struct uring_state *u = container_of(w, struct uring_state, accept_watch);
    struct epoll_event ev[MAX_LISTENERS];
    int n = epoll_wait(u->accept_fd, ev, MAX_LISTENERS, 0);

    for (int i = 0; i < n; i++) {
        struct sock *s = ev[i].data.ptr;

        s->calm = (uint16_t)direct_accept(s, s->calm);
    }
    watch_arm(w, POLLIN);
}

/* --- splice ---------------------------------------------------------------------------------- */

static bool
uring_quiesce(struct sock *s)
{
    cancel_recv(s);
    return !(s->flags & SF_UR_RECV);
}

/* --- closing --------------------------------------------------------------------------------- */

static const struct {
    uint32_t flag;
    enum tag tag;
} ops[] = {
    {SF_UR_RECV, TAG_RECV},       {SF_UR_SEND, TAG_SEND},         {SF_UR_CONNECT, TAG_CONNECT},
    {SF_UR_POLL_IN, TAG_POLL_IN}, {SF_UR_POLL_OUT, TAG_POLL_OUT},
};

/* Entries that were not submitted yet name the descriptor by its number, which must not be given to
 * another file before: then the close goes behind them in the same queue.  Operations in the kernel
 * hold the file itself; FIN is sent when they have been cancelled. */
static void
uring_close(struct sock *s)
{
    struct uring_state *u = state_of(s);

    if (s->flags & SF_ACCEPT)
        uring_accept(s, false);
    for (unsigned i = 0; s->pending > 0 && i < MC_COUNT(ops); i++)
        if (s->flags & ops[i].flag)
            cancel(u, tagged(s, ops[i].tag));
    if (s->engine_slot == u->batch) {
        struct io_uring_sqe *sqe = uring_sqe(u);

        io_uring_prep_close(sqe, s->fd);
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
        sqe->user_data = TAG_NONE;
    } else {
        close(s->fd);
    }
    s->fd = -1;
}

/* --- watches --------------------------------------------------------------------------------- */

static void
uring_watch_drop(struct watch *w)
{
    struct watch_node *node = w->engine;

    node->watch = NULL;
    w->engine = NULL;
    cancel(w->loop->state, tagged(node, TAG_WATCH));
}

static void
uring_watch_arm(struct watch *w, unsigned events)
{
    struct uring_state *u = w->loop->state;
    struct watch_node *node;
    struct io_uring_sqe *sqe;

    if (w->engine)
        uring_watch_drop(w);
    node = mc_alloc(sizeof(*node));
    node->watch = w;
    w->engine = node;
    list_push_back(&u->watch_nodes, &node->link);
    sqe = uring_sqe(u);
    io_uring_prep_poll_add(sqe, w->fd, events);
    sqe->user_data = tagged(node, TAG_WATCH);
}

static void
watch_done(struct watch_node *node, int res)
{
    struct watch *w = node->watch;

    list_remove(&node->link);
    free(node);
    if (w == NULL)
        return;
    w->engine = NULL;
    w->events = 0;
    w->fn(w, res < 0 ? POLLERR : (unsigned)res);
}

/* --- completions ----------------------------------------------------------------------------- */

/* hot: once per completion */
static void
sock_done(struct sock *s, enum tag tag, const struct io_uring_cqe *c)
{
    MC_CHECK(s, SOCK_MAGIC);
    switch (tag) {
    case TAG_RECV: recv_done(s, c->res, c->flags); break;
    case TAG_SEND: send_done(s, c->res); break;
    case TAG_CONNECT: connect_done(s, c->res); break;
    case TAG_POLL_IN: poll_in_done(s); break;
    case TAG_POLL_OUT: poll_out_done(s); break;
    default: MC_NEVER("tag of an operation");
    }
    if ((s->flags & SF_CLOSED) && s->pending == 0)
        sock_ended(s);
}

/* Those that are there now; an entry is given back before its callback, which may submit more. */
static void
deliver(struct uring_state *u, unsigned n)
{
    for (; n > 0; n--) {
        struct io_uring_cq *cq = &u->ring.cq;
        struct io_uring_cqe c = cq->cqes[*cq->khead & *cq->kring_mask];
        void *p = (void *)(uintptr_t)(c.user_data & ~TAG_MASK);
        enum tag tag = c.user_data & TAG_MASK;

        io_uring_cq_advance(&u->ring, 1);
        if (tag == TAG_WATCH)
            watch_done(p, c.res);
        else if (tag != TAG_NONE)
            sock_done(p, tag, &c);
    }
}

static void
uring_wait(struct loop *l, mc_ns wait)
{
    struct uring_state *u = l->state;
    unsigned n;

    uring_enter(u, wait);
    l->now_ns = units_clock_ns();
    n = io_uring_cq_ready(&u->ring);
    l->more = n >= KERNEL_BATCH;
    deliver(u, n);
}

/* --- birth and death ------------------------------------------------------------------------- */

static bool
uring_start(struct loop *l, const struct loop_conf *conf, struct errbuf *note)
{
    struct uring_state *u = mc_alloc(sizeof(*u));

    u->accept_fd = epoll_create1(EPOLL_CLOEXEC);
    if (u->accept_fd < 0) {
        err_sys(note, "epoll_create1");
        goto fail;
    }
    if (!uring_ring_open(u, note))
        goto fail_accept;
    if (!uring_bufs_open(u, l->blocks, note))
        goto fail_ring;
    list_init(&u->watch_nodes);
    watch_init(&u->accept_watch, l, u->accept_fd, accept_all);
    l->state = u;
    return true;

fail_ring:
    uring_ring_close(u);
fail_accept:
    close(u->accept_fd);
fail:
    free(u);
    return false;
}

/* The last entries, when the loop is not turned any more: answers and closes. */
static void
uring_submit_rest(struct loop *l)
{
    uring_submit(l->state);
}

/* May be called by another thread than turned the loop.  No socket is left, so nothing in the
 * kernel knows our memory but by name: the polls of watches end with the ring. */
static void
uring_stop(struct loop *l)
{
    struct uring_state *u = l->state;

    uring_ring_close(u);
    while (!list_empty(&u->watch_nodes)) {
        struct watch_node *node = LIST_ENTRY(u->watch_nodes.next, struct watch_node, link);

        list_remove(&node->link);
        free(node);
    }
    uring_bufs_close(u, l->blocks);
    close(u->accept_fd);
    free(u);
    l->state = NULL;
}

const struct engine engine_uring = {
    .name = "uring",
    .start = uring_start,
    .stop = uring_stop,
    .wait = uring_wait,
    .submit = uring_submit_rest,
    .accept = uring_accept,
    .connect = uring_connect,
    .flush = uring_flush,
    .receive = uring_receive,
    .quiesce = uring_quiesce,
    .await = uring_await,
    .ready = uring_ready,
    .close = uring_close,
    .watch_arm = uring_watch_arm,
    .watch_drop = uring_watch_drop,
};
