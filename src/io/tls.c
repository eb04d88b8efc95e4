/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tls.c - a stream with TLS: between a socket, which has records, and an owner, who has plain text.
 *
 * OpenSSL reads from the block that the socket has just brought, and writes into the socket's send
 * queue, through a BIO of our own; there is no buffer in between.  What it does not read because
 * the owner wants no more stays in `in`, and the socket brings nothing until that is used up: so
 * the back-pressure of either side passes through.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "io/tls_priv.h"

/* A peer that makes OpenSSL answer (key updates) and does not read is not read from either.  Far
 * above what an owner lets gather. */
#define UNSENT_MAX (1u << 20)
#define OUT_BYTES  BLOCK_RX /* small pieces that share a record; a record holds no more */

static const struct sock_ops tls_sock_ops;

static struct tls *
tls_of(struct sock *s)
{
    struct tls *t = container_of(s, struct stream, sock)->tls;

    MC_CHECK(t, TLS_MAGIC);
    return t;
}

static struct sock *
sock_of(struct tls *t)
{
    return &t->stream->sock;
}

static struct block_pool *
blocks_of(struct tls *t)
{
    return loop_blocks(t->turns->loop);
}

/* --- the end that is not meant -------------------------------------------------------------------
 */

/* Not from inside a call of the owner's.  A stream of stream_connect() that has not been told of
 * its beginning is told now that there is none. */
static void
tell_error(struct tls *t, int err)
{
    const bool begun = t->begun;

    t->state = TLS_TOLD;
    t->begun = true;
    if (!begun && t->ops->on_connect != NULL)
        t->ops->on_connect(sock_of(t), err);
    else if (begun && t->ops->on_error != NULL)
        t->ops->on_error(sock_of(t), err);
}

/* OpenSSL has given up, and perhaps queued an alert, which goes first.  What comes now is nothing
 * to us. */
void
tls_fail(struct tls *t)
{
    if (t->state < TLS_FAILED) {
        tls_fault_openssl(t);
        t->state = TLS_FAILED;
        if (sock_unsent(sock_of(t)) == 0)
            loop_defer(t->turns->loop, &t->later);
    }
    ERR_clear_error();
}

/* --- receiving -----------------------------------------------------------------------------------
 */

/* The socket's block goes back, or one that was kept is used up. */
static void
drop_used(struct tls *t)
{
    if (t->in == NULL || t->in->len > 0)
        return;
    if (t->lent)
        t->in = NULL;
    else
        block_give(blocks_of(t), &t->in);
}

static void
end_received(struct tls *t)
{
    t->eof = true;
    if (t->ops->on_eof != NULL)
        t->ops->on_eof(sock_of(t));
}

/* Reads one piece of plain text into b; false: there is none now, and why was seen to. */
static bool
read_piece(struct tls *t, struct block *b)
{
    size_t n = 0;

    b->off = BLOCK_HEADROOM;
    tls_errors_clear();
    if (SSL_read_ex(t->ssl, block_at(b), b->cap - BLOCK_HEADROOM - BLOCK_TAILROOM, &n) == 1) {
        b->len = (uint32_t)n;
        return true;
    }
    switch (SSL_get_error(t->ssl, 0)) {
    case SSL_ERROR_WANT_READ: break;
    case SSL_ERROR_ZERO_RETURN: end_received(t); break;
    default: tls_fail(t);
    }
    return false;
}

/* Bytes wait here, in whole records or parts of them.  Without any OpenSSL need not be asked, which
 * would take a buffer for a record first. */
static bool
has_pending(struct tls *t)
{
    return (t->in != NULL && t->in->len > 0) || SSL_pending(t->ssl) > 0;
}

static bool
may_deliver(struct tls *t)
{
    return t->state == TLS_OPEN && t->want && !t->eof && sock_is_open(sock_of(t));
}

/* Delivers what there is while the owner wants it. */
static void
deliver(struct tls *t)
{
    struct block *b = NULL;

    while (may_deliver(t) && has_pending(t)) {
        if (b == NULL)
            b = block_take(blocks_of(t), BLOCK_RX);
        if (!read_piece(t, b))
            break;
        t->ops->on_recv(sock_of(t), &b);
    }
    block_give(blocks_of(t), &b);
}

/* The socket brings more when all that was there is used up, and it is wanted. */
static bool
wants_more(struct tls *t)
{
    if (t->in != NULL || sock_unsent(sock_of(t)) > UNSENT_MAX)
        return false;
    return t->state == TLS_SHAKING ||
           (t->state == TLS_OPEN && t->want && !t->eof && SSL_pending(t->ssl) == 0);
}

static void
set_reception(struct tls *t)
{
    if (sock_is_open(sock_of(t)))
        sock_recv(sock_of(t), wants_more(t));
}

void
tls_go_on(struct tls *t)
{
    deliver(t);
    if (!sock_is_open(sock_of(t)))
        return;
    if (t->eof || t->state > TLS_OPEN)
        block_give(blocks_of(t), &t->in);
    drop_used(t);
    set_reception(t);
}

/* hot: once per received block */
static void
on_sock_recv(struct sock *s, struct block **b)
{
    struct tls *t = tls_of(s);

    MC_ASSERT(t->in == NULL);
    if (t->state == TLS_SHAKING) {
        t->in = *b;
        *b = NULL;
        sock_recv(s, false);
        tls_shake(t);
        return;
    }
    if (t->state > TLS_OPEN)
        return;
    t->in = *b;
    t->lent = true;
    deliver(t);
    t->lent = false;
    if (t->in == NULL) /* closed */
        return;
    if (t->in->len > 0 && t->state == TLS_OPEN && !t->eof)
        *b = NULL;
    else
        t->in = NULL;
    set_reception(t);
}

static void
note_closed(struct tls *t)
{
    if (t->state != TLS_SHAKING)
        return;
    tls_fault_count(t, TLS_FAILURE_CLOSED);
    tls_fault_tell(t, TLS_FAILURE_CLOSED, "the server closed the connection in the handshake");
}

/* FIN, where close_notify should have come before. */
static void
on_sock_eof(struct sock *s)
{
    struct tls *t = tls_of(s);

    if (t->eof || t->state > TLS_OPEN)
        return;
    note_closed(t);
    if (t->state == TLS_OPEN)
        stat_add(&t->stats->truncated, 1);
    tell_error(t, ECONNRESET);
}

static void
on_sock_error(struct sock *s, int err)
{
    struct tls *t = tls_of(s);

    note_closed(t);
    if (t->state != TLS_TOLD)
        tell_error(t, err);
}

static void
on_sock_drained(struct sock *s)
{
    struct tls *t = tls_of(s);

    if (t->state == TLS_FAILED) {
        tell_error(t, EPROTO);
        return;
    }
    if (t->out != NULL) { /* it makes the queue anew */
        tls_push(t->stream);
        return;
    }
    set_reception(t); /* it may have been off for what was unsent */
    if (!t->sent)
        return;
    t->sent = false;
    if (t->ops->on_drained != NULL)
        t->ops->on_drained(s);
}

/* --- sending -------------------------------------------------------------------------------------
 */

/* Clients use a ticket once (RFC 8446 C.4), so one a connection gives each its next connection; a
 * second would cost 5 % of a handshake.  Nor is it worth a segment of its own: OpenSSL writes it
 * before the bytes that come now. */
static void
ask_for_ticket(struct tls *t)
{
    t->ticket_due = false;
    SSL_new_session_ticket(t->ssl);
}

/* Encrypts into the socket's queue. */
static void
encrypt(struct tls *t, const char *p, size_t n)
{
    size_t done;

    if (n == 0 || t->state != TLS_OPEN || t->mute)
        return;
    t->sent = true;
    tls_errors_clear();
    if (t->ticket_due)
        ask_for_ticket(t);
    if (SSL_write_ex(t->ssl, p, n, &done) != 1)
        tls_fail(t);
}

void
tls_push(struct stream *s)
{
    struct tls *t = s->tls;
    struct block *b = t->out;

    if (b == NULL)
        return;
    t->out = NULL;
    encrypt(t, block_at(b), b->len);
    block_give(blocks_of(t), &b);
}

/* In the next turn: what was not pushed, received or told. */
static void
on_later(struct task *task)
{
    struct tls *t = container_of(task, struct tls, later);

    tls_push(t->stream);
    if (t->state == TLS_FAILED && sock_unsent(sock_of(t)) == 0)
        tell_error(t, EPROTO);
    else if (t->state == TLS_OPEN)
        tls_go_on(t);
}

/* Of `out`: whole records, and room behind them as every block has it. */
static size_t
out_room(const struct tls *t)
{
    return block_room(t->out) - BLOCK_TAILROOM;
}

char *
tls_reserve(struct stream *s, size_t n)
{
    struct tls *t = s->tls;

    MC_ASSERT(!t->finished);
    if (t->out != NULL && out_room(t) < n)
        tls_push(s);
    if (t->out == NULL)
        t->out = block_take(blocks_of(t), n > OUT_BYTES ? n : OUT_BYTES);
    return block_at(t->out) + t->out->len;
}

void
tls_commit(struct stream *s, size_t n)
{
    struct tls *t = s->tls;

    MC_ASSERT(t->out != NULL && n <= out_room(t));
    t->out->len += (uint32_t)n;
    loop_defer(t->turns->loop, &t->later);
}

void
tls_write(struct stream *s, const void *p, size_t n)
{
    memcpy(tls_reserve(s, n), p, n);
    tls_commit(s, n);
}

void
tls_send(struct stream *s, struct block **b)
{
    struct tls *t = s->tls;

    MC_ASSERT(!t->finished);
    if (t->out != NULL && out_room(t) >= (*b)->len) {
        tls_write(s, block_at(*b), (*b)->len);
    } else {
        tls_push(s);
        encrypt(t, block_at(*b), (*b)->len);
    }
    block_give(blocks_of(t), b);
}

uint32_t
tls_unsent(const struct stream *s)
{
    return sock_unsent(&s->sock) + (s->tls->out != NULL ? s->tls->out->len : 0);
}

void
tls_recv(struct stream *s, bool on)
{
    struct tls *t = s->tls;

    t->want = on;
    if (t->state != TLS_OPEN)
        return;
    if (on && !t->lent && has_pending(t))
        loop_defer(t->turns->loop, &t->later);
    else if (!t->lent)
        set_reception(t);
}

/* --- the end -------------------------------------------------------------------------------------
 */

void
tls_finish(struct stream *s)
{
    struct tls *t = s->tls;

    if (t->finished || t->state != TLS_OPEN || t->mute)
        return;
    tls_push(s);
    if (t->state != TLS_OPEN)
        return;
    t->finished = t->sent = true;
    tls_errors_clear();
    if (SSL_shutdown(t->ssl) < 0)
        tls_fail(t);
}

void
tls_shutdown(struct stream *s)
{
    tls_finish(s);
    s->tls->mute = true; /* a record that answers one of the client's, say */
    sock_shutdown(&s->sock);
}

void
tls_close(struct stream *s, bool reset)
{
    struct tls *t = s->tls;

    tls_fault_count(t, TLS_FAILURE_UNFINISHED);
    t->mute = true;
    list_remove(&t->link);
    loop_undefer(t->turns->loop, &t->later);
    if (t->lent)
        t->in = NULL; /* the socket has it back */
    block_give(blocks_of(t), &t->in);
    block_give(blocks_of(t), &t->out);
    sock_close(&s->sock, reset);
}

static void
on_sock_connect(struct sock *s, int err)
{
    struct tls *t = tls_of(s);

    if (err != 0) {
        tell_error(t, err);
        return;
    }
    t->state = TLS_SHAKING;
    tls_shake(t);
}

static void
destroy(struct tls *t)
{
    if (t->client != NULL && t->state != TLS_FAILED && t->fault == NULL)
        SSL_set_shutdown(t->ssl, SSL_SENT_SHUTDOWN); /* else its session could not be resumed */
    SSL_free(t->ssl);
    tls_domain_unref(&t->domain);
    tls_client_unref(&t->client);
    free((char *)t->facts.alpn.p);
    free((char *)t->facts.sni.p);
    free((char *)t->facts.client_cert.p);
    free(t->fault);
    free(t->name);
    t->magic = 0;
    t->stream->tls = NULL;
    free(t);
}

static void
on_sock_closed(struct sock *s)
{
    struct tls *t = tls_of(s);
    const struct sock_ops *ops = t->ops;

    destroy(t);
    ops->on_closed(s);
}

static const struct sock_ops tls_sock_ops = {
    .on_recv = on_sock_recv,
    .on_eof = on_sock_eof,
    .on_drained = on_sock_drained,
    .on_connect = on_sock_connect,
    .on_error = on_sock_error,
    .on_closed = on_sock_closed,
};

/* --- the beginning -------------------------------------------------------------------------------
 */

static struct tls *
new_tls(struct stream *s, const struct sock_ops *ops, struct tls_turns *turns, SSL_CTX *ctx)
{
    struct tls *t = mc_alloc(sizeof(*t));

    t->magic = TLS_MAGIC;
    t->stream = s;
    t->ops = ops;
    t->turns = turns;
    t->later.fn = on_later;
    list_init(&t->link);
    t->ssl = SSL_new(ctx);
    MC_ASSERT(t->ssl != NULL);
    tls_bio_use(t);
    s->tls = t;
    return t;
}

static struct tls *
new_server(struct stream *s, const struct sock_ops *ops, struct tls_domain *domain,
           struct tls_turns *turns)
{
    struct tls *t = new_tls(s, ops, turns, domain->ctx);

    t->state = TLS_SHAKING;
    t->begun = true;
    t->stats = &turns->stats;
    t->domain = tls_domain_ref(domain);
    SSL_set_accept_state(t->ssl);
    return t;
}

void
tls_open(struct stream *s, struct loop *l, int fd, const struct sock_ops *ops,
         struct tls_domain *domain, struct tls_turns *turns)
{
    MC_ASSERT(turns->loop == l);
    new_server(s, ops, domain, turns);
    sock_open(&s->sock, l, fd, &tls_sock_ops);
    sock_recv(&s->sock, true);
}

void
tls_secure(struct stream *s, struct block **rest, struct tls_domain *domain,
           struct tls_turns *turns)
{
    struct tls *t;

    MC_ASSERT(s->tls == NULL && turns->loop == s->sock.loop);
    t = new_server(s, s->sock.ops, domain, turns);
    t->want = true;
    s->sock.ops = &tls_sock_ops;
    if (*rest != NULL && (*rest)->len > 0) {
        t->in = *rest;
        *rest = NULL;
        tls_shake(t);
    }
    block_give(blocks_of(t), rest);
    sock_recv(&s->sock, t->in == NULL);
}

enum mc_err
tls_connect(struct stream *s, struct loop *l, const struct addr *a, const struct sock_ops *ops,
            const struct tls_target *to)
{
    struct tls *t = new_tls(s, ops, to->turns, tls_client_ctx(to->client));
    enum mc_err rv;

    MC_ASSERT(to->turns->loop == l);
    t->state = TLS_DIALLING;
    t->stats = &to->turns->up_stats;
    t->client = tls_client_ref(to->client);
    t->name = to->name != NULL ? mc_strdup(to->name) : NULL;
    t->server = to->server;
    tls_client_aim(t);
    rv = sock_connect(&s->sock, l, a, &tls_sock_ops);
    if (rv != MC_OK) {
        const int err = errno;

        destroy(t);
        errno = err;
    }
    return rv;
}

/* --- what is known -------------------------------------------------------------------------------
 */

const struct tls_facts *
tls_facts(const struct stream *s)
{
    return s->tls->state < TLS_OPEN ? NULL : &s->tls->facts;
}

const struct tls_fault *
tls_fault(const struct stream *s)
{
    return s->tls->fault;
}

bool
tls_is_shaking(const struct stream *s)
{
    return s->tls->state == TLS_SHAKING;
}
