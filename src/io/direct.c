/* SPDX-License-Identifier: BSD-2-Clause
 *
 * direct.c - receiving, sending and accepting by a system call at once, see engine.h.
 *
 * All that the epoll engine does, and what the io_uring engine does with listeners (loop_uring.c
 * says why) and with large bodies: bytes that
 * are received and sent on in one go are still in the cache, while completions of twenty sockets
 * that arrive together are not (measured: 1 MB bodies took 1.4 times the CPU through the ring).
 */
#include <errno.h>
#include <sys/socket.h>

#include "base/check.h"
#include "base/poison.h"
#include "io/engine.h"

#define MAX_IOVECS  16
/* Reads of one socket before others have their turn: 4 * 64 KiB. */
#define MAX_READS   4
/* Connections of one listener before others have their turn. */
#define MAX_ACCEPTS 64u

/* --- receiving ------------------------------------------------------------------------------- */

static struct block *
take_spare(struct loop *l, unsigned i)
{
    struct block *b = l->spare[i];

    if (b == NULL)
        return block_take(l->blocks, i ? BLOCK_BULK : BLOCK_RX);
    l->spare[i] = NULL;
    MC_UNPOISON(b->data, b->cap);
    return b;
}

/* What a callback left, or what was not used. */
static void
put_spare(struct loop *l, unsigned i, struct block *b)
{
    if (b == NULL)
        return;
    if (l->spare[i]) {
        block_give(l->blocks, &b);
        return;
    }
    b->off = BLOCK_HEADROOM;
    b->len = 0;
    l->spare[i] = b;
    MC_POISON(b->data, b->cap); /* whoever left it must not look at it again */
}

void
direct_free_spare(struct loop *l)
{
    for (unsigned i = 0; i < MC_COUNT(l->spare); i++)
        block_give(l->blocks, &l->spare[i]);
}

/* A read returned no bytes: the end, nothing yet, or an error. */
static void
read_nothing(struct sock *s, int err)
{
    if (err == EINTR)
        return;
    s->flags &= ~(uint32_t)(SF_READABLE | SF_BULK);
    if (err == 0)
        s->flags |= SF_EOF;
    else if (err != EAGAIN)
        sock_broken(s, err);
}

/* hot: once per event */
static void
read_once(struct sock *s)
{
    unsigned bulk = !!(s->flags & SF_BULK);
    struct block *b = take_spare(s->loop, bulk);
    size_t room = b->cap - BLOCK_HEADROOM - BLOCK_TAILROOM;
    ssize_t n = recv(s->fd, block_at(b), room, MSG_DONTWAIT);

    if (n <= 0) {
        read_nothing(s, n < 0 ? errno : 0);
        put_spare(s->loop, bulk, b);
        return;
    }
    if ((size_t)n < room && !(s->flags & SF_EP_HUP))
        s->flags &= ~(uint32_t)SF_READABLE;
    s->flags = n >= BLOCK_RX ? s->flags | SF_BULK : s->flags & ~(uint32_t)SF_BULK;
    b->len = (uint32_t)n;
    sock_tell_recv(s, &b);
    put_spare(s->loop, bulk, b);
}

/* hot: once per event */
bool
direct_read(struct sock *s)
{
    MC_ASSERT(!(s->flags & SF_UR_RECV)); /* or bytes would overtake each other */
    for (unsigned i = 0;
         i < MAX_READS && sock_wants(s) && (s->flags & SF_READABLE) && sock_its_turn(s); i++)
        read_once(s);
    if (s->flags & SF_EOF)
        sock_tell_held(s);
    if (!sock_wants(s) || !(s->flags & SF_READABLE))
        return false;
    sock_queue(s); /* others first */
    return true;
}

/* --- sending --------------------------------------------------------------------------------- */

/* hot: once per send.  Like send(2): bytes taken of `want`, or -1. */
static ssize_t
send_some(struct sock *s, size_t *want)
{
    struct iovec v[MAX_IOVECS];
    struct msghdr m = {.msg_iov = v};

    m.msg_iovlen = sock_iovecs(s, v, MAX_IOVECS, want);
    if (m.msg_iovlen == 1)
        return send(s->fd, v[0].iov_base, v[0].iov_len, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sendmsg(s->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* hot: once per send */
bool
direct_send(struct sock *s)
{
    while (s->unsent_bytes > 0) {
        size_t want;
        ssize_t n;

        if (s->flags & (SF_CONNECTING | SF_DEAD))
            return s->flags & SF_CONNECTING; /* not full, only not yet */
        n = send_some(s, &want);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN) {
            sock_broken(s, errno);
            return false;
        }
        if (n > 0)
            sock_sent(s, (size_t)n);
        if (n < (ssize_t)want)
            return false;
    }
    return true;
}

/* --- accepting ------------------------------------------------------------------------------- */

uint32_t
direct_accept(struct sock *s, uint32_t tries)
{
    uint32_t got = 0;

    while (got < tries && (s->flags & (SF_ACCEPT | SF_CLOSED)) == SF_ACCEPT) {
        /* cppcheck-suppress nullPointer; who it is may be asked later, by getpeername(2) */
        int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            got++;
            sock_accepted(s, fd);
        } else if (errno == EAGAIN) {
            return got ? got : 1;
        } else if (sock_accept_error_lasts(errno)) {
            sock_accept_failed(s, errno);
            return tries;
        }
    }
    return tries < MAX_ACCEPTS ? tries * 2 : MAX_ACCEPTS;
}
