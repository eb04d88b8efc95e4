/* SPDX-License-Identifier: BSD-2-Clause
 *
 * sock.c - see sock.h: queues, flags and the order of callbacks; the bytes are moved by an engine.
 *
 * Calls of the interface only note what is wanted and queue the socket; the loop calls sock_run()
 * for each queued socket at the end of the turn, so no callback is made from inside a call.
 */
#include "io/sock.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "io/engine.h"

static_assert(sizeof(struct sock) <= 128, "two cache lines per connection end");

#define LARGE_BYTES BLOCK_RX
/* What one socket may bring in a row, direct.c. */
#define FLUSH_BYTES (4 * BLOCK_BULK)

/* --- opening and closing --------------------------------------------------------------------- */

void
sock_open(struct sock *s, struct loop *l, int fd, const struct sock_ops *ops)
{
    MC_CHECK(l, LOOP_MAGIC);
    MC_ASSERT(fd >= 0 && ops->on_closed != NULL);
    *s = (struct sock){.ops = ops, .loop = l, .fd = fd, .magic = SOCK_MAGIC};
    /* Not known to be empty: the first read is tried before anybody is asked. */
    s->flags = SF_READABLE;
    list_init(&s->link);
    list_init(&s->turn);
    l->n_socks++;
}

enum mc_err
sock_connect(struct sock *s, struct loop *l, const struct addr *a, const struct sock_ops *ops)
{
    int fd = socket(a->u.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;

    if (fd < 0)
        return MC_ESYS;
    if (a->u.sa.sa_family != AF_UNIX)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    sock_open(s, l, fd, ops);
    s->flags = SF_CONNECTING;
    l->engine->connect(s, a);
    return MC_OK;
}

void
sock_user_timeout(int fd, mc_ns ns)
{
    mc_ns ms = (ns + MC_MS - 1) / MC_MS;
    unsigned value = ms < INT32_MAX ? (unsigned)ms : INT32_MAX;

    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &value, sizeof(value));
}

/* The kernel counts in seconds here. */
static int
seconds(mc_ns ns)
{
    return ns < MC_SEC ? 1 : ns < 32767 * MC_SEC ? (int)(ns / MC_SEC) : 32767;
}

void
sock_watch_peer(int fd, mc_ns ns)
{
    int on = 1, idle = seconds(ns / 2), every = seconds(ns / 4);

    sock_user_timeout(fd, ns);
    if (ns == 0)
        return;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof(every));
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

bool
sock_is_open(const struct sock *s)
{
    return s->magic == SOCK_MAGIC && !(s->flags & SF_CLOSED);
}

static void
drop_held(struct sock *s)
{
    while (s->held) {
        struct block *b = s->held;

        s->held = b->next;
        block_give(s->loop->blocks, &b);
    }
}

void
sock_close(struct sock *s, bool reset)
{
    static const struct linger no_linger = {.l_onoff = 1, .l_linger = 0};

    MC_CHECK(s, SOCK_MAGIC);
    MC_ASSERT(!(s->flags & SF_CLOSED));
    s->flags |= SF_CLOSED;
    s->flags &= ~(uint32_t)SF_QUEUED;
    list_remove(&s->link);
    if (s->loop->large == s)
        s->loop->large = NULL;
    if (s->source_of)
        splice_abandon(s->source_of);
    if (s->sink_of)
        splice_abandon(s->sink_of);
    sock_leave_turns(s);
    drop_held(s);
    if (reset)
        (void)setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &no_linger, sizeof(no_linger));
    s->loop->engine->close(s);
    if (!(s->flags & SF_UR_SEND))
        sock_drop_queue(s);
    if (s->pending == 0)
        sock_ended(s);
}

void
sock_ended(struct sock *s)
{
    MC_ASSERT((s->flags & SF_CLOSED) && s->pending == 0);
    sock_drop_queue(s);
    list_remove(&s->link);
    list_push_back(&s->loop->ended, &s->link);
}

/* --- the loop's side ------------------------------------------------------------------------- */

/* What was deferred to be first leaves before. */
static void
flush_behind(struct sock *s)
{
    loop_run_first(s->loop);
    s->loop->engine->flush(s);
}

/* hot: several times per request */
void
sock_queue(struct sock *s)
{
    if (s->flags & (SF_QUEUED | SF_CLOSED))
        return;
    s->flags |= SF_QUEUED;
    list_remove(&s->link);
    list_push_back(&s->loop->work, &s->link);
}

static void
send_fin(struct sock *s)
{
    s->flags |= SF_SHUT_DONE;
    (void)shutdown(s->fd, SHUT_WR);
}

static void
tell_connect(struct sock *s)
{
    s->flags &= ~(uint32_t)(SF_CONNECT_DUE | SF_CONNECTING);
    if (s->err)
        s->flags |= SF_DEAD;
    else if ((s->flags & SF_SHUT) && s->unsent_bytes == 0)
        send_fin(s);
    if (s->ops->on_connect)
        s->ops->on_connect(s, s->err);
}

static void
tell_error(struct sock *s)
{
    s->flags &= ~(uint32_t)(SF_ERROR_DUE | SF_RECV);
    if (s->source_of)
        splice_failed(s->source_of, s->err, true);
    else if (s->sink_of)
        splice_failed(s->sink_of, s->err, false);
    else if (s->ops->on_error)
        s->ops->on_error(s, s->err);
}

/* hot: once per queued socket and turn.  Connected, sent, drained, received, broken: in this order,
 * so that what had arrived before a connection broke is delivered before its end is told. */
void
sock_run(struct sock *s)
{
    bool more = false;

    MC_CHECK(s, SOCK_MAGIC);
    list_remove(&s->link);
    s->flags &= ~(uint32_t)SF_QUEUED;
    if (s->flags & SF_CONNECT_DUE)
        tell_connect(s);
    if (s->unsent_bytes > 0 && !(s->flags & SF_CLOSED))
        flush_behind(s);
    if (s->flags & SF_DRAIN_DUE)
        sock_tell_drained(s);
    if (s->source_of)
        splice_run(s->source_of);
    if (s->sink_of)
        splice_run(s->sink_of);
    if (s->flags & SF_RECV)
        more = sock_tell_held(s) && s->loop->engine->receive(s);
    if ((s->flags & (SF_QUIET | SF_CLOSED)) == SF_QUIET && s->loop->engine->quiesce(s)) {
        s->flags &= ~(uint32_t)SF_QUIET;
        s->ops->on_quiet(s);
    }
    if ((s->flags & (SF_ERROR_DUE | SF_CLOSED | SF_WAITS)) == SF_ERROR_DUE && !more)
        tell_error(s);
}

void
sock_connected(struct sock *s, int err)
{
    s->err = (uint16_t)err;
    s->flags |= SF_CONNECT_DUE;
    sock_queue(s);
}

void
sock_broken(struct sock *s, int err)
{
    if (s->flags & (SF_DEAD | SF_CLOSED))
        return;
    s->err = (uint16_t)err;
    s->flags |= SF_DEAD | SF_ERROR_DUE | SF_READABLE | SF_EP_HUP;
    (void)shutdown(s->fd, SHUT_RD); /* a receive ends now, with what had arrived */
    if (!(s->flags & SF_UR_SEND))
        sock_drop_queue(s);
    sock_queue(s);
}

/* --- receiving ------------------------------------------------------------------------------- */

void
sock_recv(struct sock *s, bool on)
{
    MC_CHECK(s, SOCK_MAGIC);
    MC_ASSERT(!(s->flags & SF_CLOSED));
    if (!on) {
        s->flags &= ~(uint32_t)SF_RECV;
        return;
    }
    if ((s->flags & (SF_DEAD | SF_ERROR_DUE)) == SF_DEAD)
        return; /* its end was told already */
    s->flags &= ~(uint32_t)SF_QUIET;
    s->flags |= SF_RECV;
    sock_queue(s);
}

void
sock_quiet(struct sock *s)
{
    MC_CHECK(s, SOCK_MAGIC);
    MC_ASSERT(!(s->flags & SF_CLOSED) && s->ops->on_quiet != NULL);
    sock_accept(s, false);
    s->flags &= ~(uint32_t)SF_RECV;
    s->flags |= SF_QUIET;
    sock_queue(s);
}

bool
sock_rest(const struct sock *s, void *p, size_t max, size_t *n)
{
    uint8_t *out = p;

    *n = 0;
    for (const struct block *b = s->held; b; b = b->next) {
        if (b->len > max - *n)
            return false;
        memcpy(out + *n, b->data + b->off, b->len);
        *n += b->len;
    }
    return !(s->flags & (SF_EOF | SF_DEAD | SF_ERROR_DUE | SF_RECV_ERROR | SF_CLOSED));
}

/* hot: once per received block */
void
sock_tell_recv(struct sock *s, struct block **b)
{
    s->ops->on_recv(s, b);
}

void
sock_keep(struct sock *s, struct block **b)
{
    struct block **end = &s->held;

    while (*end)
        end = &(*end)->next;
    (*b)->next = NULL;
    *end = *b;
    *b = NULL;
}

static bool
may_tell(const struct sock *s)
{
    return (s->flags & (SF_RECV | SF_CLOSED | SF_CONNECTING | SF_WAITS)) == SF_RECV &&
           s->source_of == NULL;
}

bool
sock_tell_held(struct sock *s)
{
    while (s->held && may_tell(s)) {
        struct block *b = s->held;

        s->held = b->next;
        b->next = NULL;
        sock_tell_recv(s, &b);
        block_give(s->loop->blocks, &b);
    }
    if (may_tell(s) && (s->flags & (SF_EOF | SF_EOF_TOLD | SF_ERROR_DUE)) == SF_EOF) {
        s->flags |= SF_EOF_TOLD;
        if (s->ops->on_eof)
            s->ops->on_eof(s);
    }
    return sock_wants(s);
}

/* --- sending --------------------------------------------------------------------------------- */

void
sock_drop_queue(struct sock *s)
{
    while (s->send_head) {
        struct block *b = s->send_head;

        s->send_head = b->next;
        block_give(s->loop->blocks, &b);
    }
    s->send_tail = NULL;
    s->unsent_bytes = 0;
}

/* hot: once per send */
void
sock_sent(struct sock *s, size_t n)
{
    MC_ASSERT(n <= s->unsent_bytes);
    s->unsent_bytes -= (uint32_t)n;
    while (s->send_head && n >= s->send_head->len) {
        struct block *b = s->send_head;

        n -= b->len;
        s->send_head = b->next;
        block_give(s->loop->blocks, &b);
    }
    if (n > 0)
        block_skip(s->send_head, n);
    if (s->send_head == NULL) {
        s->send_tail = NULL;
        s->flags |= SF_DRAIN_DUE;
    }
}

unsigned
sock_iovecs(const struct sock *s, struct iovec *v, unsigned max, size_t *bytes)
{
    unsigned n = 0;

    *bytes = 0;
    for (struct block *b = s->send_head; b && n < max; b = b->next) {
        if (b->len == 0)
            continue;
        v[n++] = (struct iovec){block_at(b), b->len};
        *bytes += b->len;
    }
    return n;
}

void
sock_tell_drained(struct sock *s)
{
    s->flags &= ~(uint32_t)SF_DRAIN_DUE;
    if (s->unsent_bytes > 0 || (s->flags & (SF_CLOSED | SF_DEAD)))
        return;
    if ((s->flags & (SF_SHUT | SF_SHUT_DONE)) == SF_SHUT)
        send_fin(s);
    if (s->sink_of)
        sock_queue(s); /* what was to go first has gone */
    else if (s->ops->on_drained)
        s->ops->on_drained(s);
}

void
sock_shutdown(struct sock *s)
{
    MC_CHECK(s, SOCK_MAGIC);
    if (s->flags & (SF_SHUT | SF_DEAD | SF_CLOSED))
        return;
    s->flags |= SF_SHUT;
    if (s->unsent_bytes == 0 && !(s->flags & (SF_DRAIN_DUE | SF_CONNECTING)))
        send_fin(s);
}

/* A queue that has become large is sent while its bytes are in the cache, but not before the reader
 * of the other side has gone on elsewhere: one send of 100 KB costs much less than three. */
static void
queue_is_large(struct sock *s)
{
    struct loop *l = s->loop;

    if (l->large != s && l->large != NULL)
        flush_behind(l->large);
    l->large = s;
    if (s->unsent_bytes >= FLUSH_BYTES)
        flush_behind(s);
}

/* Bytes were added to the queue. */
static void
queue_grew(struct sock *s, size_t n)
{
    s->unsent_bytes += (uint32_t)n;
    if (s->flags & SF_DEAD) {
        if (!(s->flags & SF_UR_SEND))
            sock_drop_queue(s);
        return;
    }
    sock_queue(s);
    if (s->unsent_bytes >= LARGE_BYTES)
        queue_is_large(s);
}

static void
link_block(struct sock *s, struct block *b)
{
    b->next = NULL;
    if (s->send_tail)
        s->send_tail->next = b;
    else
        s->send_head = b;
    s->send_tail = b;
}

void
sock_queue_block(struct sock *s, struct block *b)
{
    link_block(s, b);
    queue_grew(s, b->len);
}

static void
check_may_send(const struct sock *s)
{
    MC_CHECK(s, SOCK_MAGIC);
    MC_ASSERT(!(s->flags & (SF_CLOSED | SF_SHUT)));
    MC_ASSERT(s->sink_of == NULL);
}

void
sock_flush(struct sock *s)
{
    check_may_send(s);
    if (s->unsent_bytes > 0 && !(s->flags & (SF_DEAD | SF_CONNECTING)))
        s->loop->engine->flush(s);
}

void
sock_hold(struct sock *s, bool on)
{
    MC_CHECK(s, SOCK_MAGIC);
    MC_ASSERT(!(s->flags & SF_CLOSED));
    if (on) {
        s->flags |= SF_HELD;
        return;
    }
    s->flags &= ~(uint32_t)SF_HELD;
    if (s->unsent_bytes > 0 || s->sink_of)
        sock_queue(s);
}

/* hot: once per block of a body */
void
sock_send(struct sock *s, struct block **bp)
{
    struct block *b = *bp;

    check_may_send(s);
    if (b->len == 0) {
        block_give(s->loop->blocks, bp);
        return;
    }
    *bp = NULL;
    sock_queue_block(s, b);
}

/* hot: once per head */
char *
sock_reserve(struct sock *s, size_t n)
{
    struct block *b = s->send_tail;

    check_may_send(s);
    if (b == NULL || block_room(b) < n) {
        b = block_take(s->loop->blocks, n);
        link_block(s, b);
    }
    return block_at(b) + b->len;
}

void
sock_commit(struct sock *s, size_t n)
{
    struct block *b = s->send_tail;

    if (n == 0)
        return;
    MC_ASSERT(b != NULL && n <= block_room(b));
    b->len += (uint32_t)n;
    queue_grew(s, n);
}

const char *
sock_tail(const struct sock *s, size_t n)
{
    struct block *b = s->send_tail;

    MC_ASSERT((s->flags & SF_HELD) && b != NULL && n <= b->len);
    return block_at(b) + b->len - n;
}

/* hot: once per head.  Fills what is left of the last block, then takes new ones. */
void
sock_write(struct sock *s, const void *bytes, size_t n)
{
    const char *p = bytes;

    check_may_send(s);
    while (n > 0) {
        size_t room = s->send_tail ? block_room(s->send_tail) : 0;
        size_t part = room > 0 && room < n ? room : n < BLOCK_BULK ? n : BLOCK_BULK;

        memcpy(sock_reserve(s, part), p, part);
        sock_commit(s, part);
        p += part;
        n -= part;
    }
}

/* --- accepting ------------------------------------------------------------------------------- */

void
sock_accept(struct sock *s, bool on)
{
    MC_CHECK(s, SOCK_MAGIC);
    MC_ASSERT(!(s->flags & SF_CLOSED));
    if (on == !!(s->flags & SF_ACCEPT))
        return;
    s->flags ^= SF_ACCEPT;
    s->loop->engine->accept(s, on);
}

void
sock_accepted(struct sock *s, int fd)
{
    s->ops->on_accept(s, fd);
}

/* Anything else concerns the one connection that was to be accepted (accept(2), "Error handling").
 */
bool
sock_accept_error_lasts(int err)
{
    switch (err) {
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case EBADF:
    case EINVAL:
    case ENOTSOCK: return true;
    default: return false;
    }
}

void
sock_accept_failed(struct sock *s, int err)
{
    if (s->flags & SF_ACCEPT)
        sock_accept(s, false);
    if (s->ops->on_error)
        s->ops->on_error(s, err);
}

void
sock_accept_refused(struct sock *s, int err)
{
    s->flags &= ~(uint32_t)SF_ACCEPT;
    s->flags |= SF_ERROR_DUE;
    s->err = (uint16_t)err;
    sock_queue(s);
}
