/* SPDX-License-Identifier: BSD-2-Clause
 *
 * loop_epoll.c - the readiness engine: edge-triggered epoll, asked as rarely as possible.
 *
 * 1. A socket is not registered before a read or a write has found nothing to do, and then not
 *    before the loop would sleep (the "lazy" list): a connection that is accepted, read, answered
 *    and closed within a few turns never meets epoll_ctl(2).
 * 2. Registered once for reading, edge-triggered; writing is added the first time that the kernel
 *    takes less than it was given.  From then on the flags SF_READABLE and SF_EP_FULL follow the
 *    edges and no call is made to change the registration.
 * 3. A read that fills less than its block has drained the socket, so the read that would return
 *    EAGAIN is left out, unless EPOLLRDHUP or EPOLLHUP said that a FIN waits behind the data: then
 *    no new edge would come.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "io/engine.h"

#define MAX_EVENTS 256
/* Reads of one socket before others have their turn: 4 * 64 KiB. */
#define MAX_READS  4
/* Turns that a socket may stay unregistered while the loop has no time to sleep; but none when the
 * loop has no time since others are crowding in. */
#define LAZY_TURNS 4

/* In epoll_event.data: a socket's address, or a watch's with this bit. */
#define TAG_WATCH  1ull

struct epoll_state {
    int fd;
    bool no_pwait2;              /* the kernel is older than 5.11 or forbids it */
    unsigned n_events, at_event; /* the batch being delivered */
    uint32_t turn;
    struct list lazy;       /* unregistered sockets that wait to read, oldest first */
    struct block *spare[2]; /* for the next read: BLOCK_RX, BLOCK_BULK */
    struct epoll_event events[MAX_EVENTS];
};

static struct epoll_state *
state_of(const struct sock *s)
{
    return s->loop->state;
}

/* --- registration ---------------------------------------------------------------------------- */

static void
control(struct sock *s, uint32_t add_flag)
{
    int op = s->flags & SF_EP_IN ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = s};

    s->flags |= add_flag | SF_EP_IN;
    if (s->flags & SF_EP_OUT)
        ev.events |= EPOLLOUT;
    if (epoll_ctl(state_of(s)->fd, op, s->fd, &ev) < 0)
        sock_broken(s, errno);
}

/* Edges are reported from registration on, the state at that moment included: nothing is missed. */
static void
register_in(struct sock *s)
{
    if (!(s->flags & SF_EP_IN))
        control(s, 0);
}

static void
register_out(struct sock *s)
{
    if (!(s->flags & SF_EP_OUT))
        control(s, SF_EP_OUT);
}

/* The socket has nothing to read now; somebody must tell when it has.  engine_slot keeps the turn
 * of the first time, so that a socket that is turned off and on all the time is registered too. */
static void
await_in(struct sock *s)
{
    struct epoll_state *e = state_of(s);

    if (s->flags & (SF_EP_IN | SF_QUEUED))
        return; /* queued: asked again when it is run */
    if (s->engine_slot == 0)
        s->engine_slot = e->turn;
    list_remove(&s->link);
    if (e->turn - s->engine_slot >= LAZY_TURNS || sock_goes_first(s))
        register_in(s);
    else
        list_push_back(&e->lazy, &s->link);
}

static void
register_lazy(struct epoll_state *e, bool all)
{
    while (!list_empty(&e->lazy)) {
        struct sock *s = LIST_ENTRY(e->lazy.next, struct sock, link);

        if (!all && e->turn - s->engine_slot < LAZY_TURNS)
            return;
        list_remove(&s->link);
        if (sock_wants(s))
            register_in(s);
    }
}

/* --- receiving and sending -------------------------------------------------------------------- */

static bool
epoll_receive(struct sock *s)
{
    bool more = direct_read(s);

    if (!more && sock_wants(s))
        await_in(s);
    return more;
}

static void
epoll_flush(struct sock *s)
{
    if (s->flags & (SF_EP_FULL | SF_HELD))
        return;
    if (!direct_send(s) && !(s->flags & SF_DEAD)) {
        s->flags |= SF_EP_FULL;
        register_out(s);
    }
}

/* --- connecting ------------------------------------------------------------------------------ */

static bool
is_near(const struct addr *a)
{
    switch (a->u.sa.sa_family) {
    case AF_INET: return ntohl(a->u.in.sin_addr.s_addr) >> 24 == 127;
    case AF_INET6: return IN6_IS_ADDR_LOOPBACK(&a->u.in6.sin6_addr);
    default: return true;
    }
}

static void
connect_progress(struct sock *s)
{
    int err = 0;
    socklen_t len = sizeof(err);

    if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
        err = errno;
    sock_connected(s, err);
}

/* A connection on this host is established as soon as connect(2) has returned, although that said
 * EINPROGRESS: a look saves the registration. */
static void
epoll_connect(struct sock *s, const struct addr *a)
{
    struct pollfd p = {.fd = s->fd, .events = POLLOUT};

    if (connect(s->fd, &a->u.sa, a->len) == 0) {
        sock_connected(s, 0);
    } else if (errno != EINPROGRESS && errno != EINTR) {
        sock_connected(s, errno);
    } else if (is_near(a) && poll(&p, 1, 0) == 1) {
        if (p.revents & (POLLERR | POLLHUP))
            connect_progress(s);
        else
            sock_connected(s, 0);
    } else {
        register_out(s);
    }
}

/* --- accepting ------------------------------------------------------------------------------- */

/* Level-triggered, and where several loops share a descriptor only one is woken. */
static void
epoll_accept(struct sock *s, bool on)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.ptr = s};
    int op = on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL;

    if (on && s->engine_slot == 0)
        s->engine_slot = 1;
    if (epoll_ctl(state_of(s)->fd, op, s->fd, &ev) < 0 && on)
        sock_accept_refused(s, errno);
}

/* --- splice ---------------------------------------------------------------------------------- */

static bool
epoll_quiesce(struct sock *s)
{
    return true;
}

static bool
epoll_ready(const struct sock *s, unsigned events)
{
    return events == POLLIN ? !!(s->flags & SF_READABLE) : !(s->flags & SF_EP_FULL);
}

static void
epoll_await(struct sock *s, unsigned events)
{
    if (events == POLLIN) {
        s->flags &= ~(uint32_t)SF_READABLE;
        register_in(s);
    } else {
        s->flags |= SF_EP_FULL;
        register_out(s);
    }
}

/* --- watches --------------------------------------------------------------------------------- */

/* One-shot registrations that stay until the watch is dropped; w->engine is set while one is there.
 */
static void
epoll_watch_arm(struct watch *w, unsigned events)
{
    struct epoll_state *e = w->loop->state;
    int op = w->engine ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    struct epoll_event ev = {.events = EPOLLONESHOT, .data.u64 = (uintptr_t)w | TAG_WATCH};

    ev.events |= (events & POLLIN ? EPOLLIN : 0u) | (events & POLLOUT ? EPOLLOUT : 0u);
    if (epoll_ctl(e->fd, op, w->fd, &ev) < 0 &&
        !(errno == ENOENT && epoll_ctl(e->fd, EPOLL_CTL_ADD, w->fd, &ev) == 0))
        mc_panic(__FILE__, __LINE__, __func__, strerror(errno));
    w->engine = w;
}

static void
epoll_watch_drop(struct watch *w)
{
    struct epoll_state *e = w->loop->state;

    (void)epoll_ctl(e->fd, EPOLL_CTL_DEL, w->fd, NULL); /* fd may be closed already */
    for (unsigned i = e->at_event; i < e->n_events; i++)
        if (e->events[i].data.u64 == ((uintptr_t)w | TAG_WATCH))
            e->events[i].data.u64 = 0;
}

static void
watch_event(struct watch *w, uint32_t ev)
{
    unsigned revents = (ev & EPOLLIN ? POLLIN : 0u) | (ev & EPOLLOUT ? POLLOUT : 0u) |
                       (ev & EPOLLERR ? POLLERR : 0u) | (ev & EPOLLHUP ? POLLHUP : 0u);

    w->events = 0;
    w->fn(w, revents);
}

/* --- the wait -------------------------------------------------------------------------------- */

/* hot: once per event */
static void
sock_event(struct sock *s, uint32_t ev)
{
    MC_CHECK(s, SOCK_MAGIC);
    if (s->flags & SF_CLOSED)
        return;
    if (s->flags & SF_ACCEPT) {
        s->engine_slot = direct_accept(s, s->engine_slot);
        return;
    }
    if (ev & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        s->flags |= SF_READABLE;
    if (ev & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        s->flags |= SF_EP_HUP;
    if (ev & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        s->flags &= ~(uint32_t)SF_EP_FULL;
    if (s->flags & SF_CONNECTING) {
        if (!(s->flags & SF_CONNECT_DUE))
            connect_progress(s);
        return;
    }
    if (s->unsent_bytes > 0 || s->source_of || s->sink_of)
        sock_queue(s);
    if (sock_wants(s))
        epoll_receive(s);
}

static void
deliver(struct epoll_state *e, int n)
{
    e->n_events = n > 0 ? (unsigned)n : 0;
    for (e->at_event = 0; e->at_event < e->n_events;) {
        struct epoll_event *ev = &e->events[e->at_event++];
        uint64_t tag = ev->data.u64;

        if (tag & TAG_WATCH)
            watch_event((struct watch *)(uintptr_t)(tag & ~TAG_WATCH), ev->events);
        else if (tag)
            sock_event((struct sock *)(uintptr_t)tag, ev->events);
    }
    e->n_events = 0;
}

static int
wait_events(struct epoll_state *e, mc_ns wait)
{
    struct timespec ts = {.tv_sec = wait / MC_SEC, .tv_nsec = wait % MC_SEC};
    int ms;

    if (!e->no_pwait2 && wait > 0 && wait < MC_NEVER_NS) {
        int n = epoll_pwait2(e->fd, e->events, MAX_EVENTS, &ts, NULL);

        if (n >= 0 || errno == EINTR)
            return n;
        e->no_pwait2 = true;
    }
    ms = wait >= INT32_MAX * MC_MS ? -1 : (int)((wait + MC_MS - 1) / MC_MS);
    return epoll_wait(e->fd, e->events, MAX_EVENTS, ms);
}

static void
epoll_engine_wait(struct loop *l, mc_ns wait)
{
    struct epoll_state *e = l->state;
    int n = 0;

    e->turn++;
    if (!list_empty(&e->lazy)) {
        if (wait > 0)
            n = wait_events(e, 0);
        register_lazy(e, wait > 0 && n <= 0);
    }
    if (n <= 0)
        n = wait_events(e, wait);
    l->now_ns = units_clock_ns();
    l->more = n == MAX_EVENTS;
    deliver(e, n);
}

static void
epoll_submit(struct loop *l)
{
}

/* --- birth and death ------------------------------------------------------------------------- */

static bool
epoll_start(struct loop *l, const struct loop_conf *conf, struct errbuf *note)
{
    struct epoll_state *e;
    int fd = epoll_create1(EPOLL_CLOEXEC);

    if (fd < 0) {
        err_sys(note, "epoll_create1");
        return false;
    }
    e = mc_alloc(sizeof(*e));
    e->fd = fd;
    list_init(&e->lazy);
    l->state = e;
    return true;
}

static void
epoll_stop(struct loop *l)
{
    struct epoll_state *e = l->state;

    close(e->fd);
    free(e);
    l->state = NULL;
}

/* Only closing the last reference of a socket takes it out of epoll, and another process may hold
 * one: who was given the descriptor, or a child between its fork and its exec.  An event of it that
 * is in the batch already finds SF_CLOSED, since the struct lives until the end of the turn. */
static void
epoll_close(struct sock *s)
{
    if (s->flags & SF_ACCEPT)
        epoll_accept(s, false);
    else if (s->flags & SF_EP_IN)
        (void)epoll_ctl(state_of(s)->fd, EPOLL_CTL_DEL, s->fd, NULL);
    close(s->fd);
    s->fd = -1;
}

const struct engine engine_epoll = {
    .name = "epoll",
    .start = epoll_start,
    .stop = epoll_stop,
    .wait = epoll_engine_wait,
    .submit = epoll_submit,
    .accept = epoll_accept,
    .connect = epoll_connect,
    .flush = epoll_flush,
    .receive = epoll_receive,
    .quiesce = epoll_quiesce,
    .await = epoll_await,
    .ready = epoll_ready,
    .close = epoll_close,
    .watch_arm = epoll_watch_arm,
    .watch_drop = epoll_watch_drop,
};
