/* SPDX-License-Identifier: BSD-2-Clause
 *
 * stream.h - what a connection reads and writes: a socket, with TLS on it or without.
 *
 * The owner gives struct sock_ops and gets their callbacks with &stream->sock, under the rules of
 * sock.h.  Without TLS all of this is the socket itself.  With TLS what is delivered is plain text,
 * and
 *   - on_connect(s, 0) tells that the handshake has ended well; nothing but on_error comes before.
 *     A stream that was to be connected is told of every failure before that by on_connect(s, err);
 *   - on_eof means close_notify.  A connection that ends without it is broken, on_error with
 *     ECONNRESET: what came over it must not look whole (RFC 8446 6.1);
 *   - small pieces wait for stream_push() or the next turn, to share a record.
 * The loop's thread.
 */
#ifndef MC_IO_STREAM_H
#define MC_IO_STREAM_H

#include "io/sock.h"
#include "io/tls.h"

struct stream {
    struct sock sock; /* sock_is_open() and loops may be asked of it; nothing else by the owner */
    struct tls *tls;  /* NULL: plain */
};

/* As sock_open().  domain NULL: plain; else TLS as a server, with a reference of its own on the
 * domain, and handshakes take their turns with the others of `turns`. */
static inline void
stream_open(struct stream *s, struct loop *l, int fd, const struct sock_ops *ops,
            struct tls_domain *domain, struct tls_turns *turns)
{
    s->tls = NULL;
    if (domain != NULL)
        tls_open(s, l, fd, ops, domain, turns);
    else
        sock_open(&s->sock, l, fd, ops);
}

/* As sock_connect().  With to->client TLS as a client; on_connect(s, 0) comes after the handshake.
 * When it failed, stream_fault() may know why.  to, and what it points to, need not stay, but for
 * the turns.  to NULL: plain. */
static inline enum mc_err
stream_connect(struct stream *s, struct loop *l, const struct addr *a, const struct sock_ops *ops,
               const struct tls_target *to)
{
    s->tls = NULL;
    return to != NULL && to->client != NULL ? tls_connect(s, l, a, ops, to)
                                            : sock_connect(&s->sock, l, a, ops);
}

/* Bytes that go before all else, before the handshake too: right after stream_connect(). */
static inline void
stream_preface(struct stream *s, const void *p, size_t n)
{
    sock_write(&s->sock, p, n);
}

/* Plain so far, from here on TLS as a server, as with stream_open(): on_connect() tells that the
 * handshake has ended well.  rest: what has been received already of it, if anything (may point to
 * NULL); taken.  Reception is on.  From within on_recv, too. */
static inline void
stream_secure(struct stream *s, struct block **rest, struct tls_domain *domain,
              struct tls_turns *turns)
{
    tls_secure(s, rest, domain, turns);
}

/* hot, as all that follows: once per call that sock.h says so of */
static inline void
stream_recv(struct stream *s, bool on)
{
    if (s->tls != NULL)
        tls_recv(s, on);
    else
        sock_recv(&s->sock, on);
}

static inline void
stream_send(struct stream *s, struct block **b)
{
    if (s->tls != NULL)
        tls_send(s, b);
    else
        sock_send(&s->sock, b);
}

static inline void
stream_write(struct stream *s, const void *p, size_t n)
{
    if (s->tls != NULL)
        tls_write(s, p, n);
    else
        sock_write(&s->sock, p, n);
}

static inline char *
stream_reserve(struct stream *s, size_t n)
{
    return s->tls != NULL ? tls_reserve(s, n) : sock_reserve(&s->sock, n);
}

static inline void
stream_commit(struct stream *s, size_t n)
{
    if (s->tls != NULL)
        tls_commit(s, n);
    else
        sock_commit(&s->sock, n);
}

/* There is no more to come soon: what waits for company goes. */
static inline void
stream_push(struct stream *s)
{
    if (s->tls != NULL)
        tls_push(s);
}

/* What was given and the kernel has not taken; with TLS bytes of records. */
static inline uint32_t
stream_unsent(const struct stream *s)
{
    return s->tls != NULL ? tls_unsent(s) : sock_unsent(&s->sock);
}

/* The last word of an orderly end, close_notify, is queued; nothing may be sent after it. */
static inline void
stream_finish(struct stream *s)
{
    if (s->tls != NULL)
        tls_finish(s);
}

/* stream_finish(), and FIN once the queue has drained. */
static inline void
stream_shutdown(struct stream *s)
{
    if (s->tls != NULL)
        tls_shutdown(s);
    else
        sock_shutdown(&s->sock);
}

/* As sock_close(); without a stream_finish() that has drained, the peer knows that it was cut. */
static inline void
stream_close(struct stream *s, bool reset)
{
    if (s->tls != NULL)
        tls_close(s, reset);
    else
        sock_close(&s->sock, reset);
}

/* The socket whose bytes are the stream's bytes, for splicing; NULL with TLS. */
static inline struct sock *
stream_raw(struct stream *s)
{
    return s->tls != NULL ? NULL : &s->sock;
}

/* What the handshake agreed on, from on_connect to on_closed; NULL without TLS. */
static inline const struct tls_facts *
stream_facts(const struct stream *s)
{
    return s->tls != NULL ? tls_facts(s) : NULL;
}

/* What TLS has to say of a failure that on_connect or on_error told of, to on_closed; NULL:
 * nothing. Of streams that were connected only. */
static inline const struct tls_fault *
stream_fault(const struct stream *s)
{
    return s->tls != NULL ? tls_fault(s) : NULL;
}

/* There is a connection, but its handshake has not ended. */
static inline bool
stream_is_shaking(const struct stream *s)
{
    return s->tls != NULL && tls_is_shaking(s);
}

#endif
