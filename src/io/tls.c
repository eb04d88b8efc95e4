/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tls.c - a stream with TLS: between a socket, which has records, and an owner, who has plain text.
 *
 * OpenSSL reads from the block that the socket has just brought, and writes into the socket's send
 * queue, through a BIO of our own; there is no buffer in between.  What it does not read because
 * the owner wants no more stays in `in`, and the socket brings nothing until that is used up: so
 * the back-pressure of either side passes through.
 *
 * A handshake costs as much as a hundred requests.  Those of a loop stand in a queue, of which a
 * turn does one, and more only while they together took less than TURN_NS.
 */
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "io/stream.h"
#include "io/tls_priv.h"

#define TLS_MAGIC  0x544c5321u
/* Others wait for one handshake at most, and for short ones together no longer than for one with
 * RSA 2048 (0.7 ms) would take.  A guess below that. */
#define TURN_NS    (250 * MC_US)
/* A client that makes OpenSSL answer (key updates) and does not read is not read from either.  Far
 * above what an owner lets gather. */
#define UNSENT_MAX (1u << 20)
#define OUT_BYTES  BLOCK_RX /* small pieces that share a record; a record holds no more */

enum tls_state {
    HANDSHAKE,
    OPEN,
    FAILED, /* the owner is told when the alert has gone */
    TOLD,   /* it was told of the end */
};

struct tls {
    uint32_t magic;
    uint8_t state;
    bool want;     /* the owner wants to receive */
    bool lent;     /* `in` is the socket's */
    bool mute;     /* nothing may be sent any more */
    bool eof;      /* close_notify has come */
    bool finished; /* and ours is queued */
    bool sent;     /* the owner has sent since it was last told that all has gone */
    SSL *ssl;
    struct stream *stream;
    const struct sock_ops *ops; /* the owner's */
    struct tls_domain *domain;
    struct tls_turns *turns;
    struct list link;  /* in turns->waiting */
    struct task later; /* what could not be done inside a call of the owner's */
    struct block *in;  /* records, or parts of them, not yet read */
    struct block *out; /* plain text that waits for company */
    struct tls_facts facts;
};

static const struct sock_ops tls_sock_ops;
static BIO_METHOD *bio_method;

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

/* --- the BIO -------------------------------------------------------------------------------------
 */

static int
bio_read(BIO *b, char *p, int max)
{
    struct tls *t = BIO_get_data(b);
    uint32_t n;

    BIO_clear_retry_flags(b);
    if (t->in == NULL || t->in->len == 0) {
        BIO_set_retry_read(b);
        return -1;
    }
    n = t->in->len < (uint32_t)max ? t->in->len : (uint32_t)max;
    memcpy(p, block_at(t->in), n);
    block_skip(t->in, n);
    return (int)n;
}

/* Always takes everything: who sends looks at stream_unsent(). */
static int
bio_write(BIO *b, const char *p, int n)
{
    struct tls *t = BIO_get_data(b);

    BIO_clear_retry_flags(b);
    if (!t->mute)
        sock_write(sock_of(t), p, (size_t)n);
    return n;
}

static long
bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
    return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

static int
bio_create(BIO *b)
{
    BIO_set_init(b, 1);
    return 1;
}

static void __attribute__((constructor)) make_bio_method(void)
{
    bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "meercat stream");
    MC_ASSERT(bio_method != NULL);
    BIO_meth_set_read(bio_method, bio_read);
    BIO_meth_set_write(bio_method, bio_write);
    BIO_meth_set_ctrl(bio_method, bio_ctrl);
    BIO_meth_set_create(bio_method, bio_create);
}

/* --- failures ------------------------------------------------------------------------------------
 */

const char *
tls_failure_label(enum tls_failure f)
{
    static const char *const labels[] = {
#define X(name, label, help) label,
        TLS_FAILURES(X)
#undef X
    };

    return labels[f];
}

static const struct {
    int reason;
    enum tls_failure failure;
} reasons[] = {
    {SSL_R_HTTP_REQUEST, TLS_FAILURE_NOT_TLS},
    {SSL_R_HTTPS_PROXY_REQUEST, TLS_FAILURE_NOT_TLS},
    {SSL_R_WRONG_VERSION_NUMBER, TLS_FAILURE_NOT_TLS},
    {SSL_R_UNKNOWN_PROTOCOL, TLS_FAILURE_NOT_TLS},
    {SSL_R_PACKET_LENGTH_TOO_LONG, TLS_FAILURE_NOT_TLS},
    {SSL_R_UNSUPPORTED_PROTOCOL, TLS_FAILURE_VERSION},
    {SSL_R_VERSION_TOO_LOW, TLS_FAILURE_VERSION},
    {SSL_R_NO_SHARED_CIPHER, TLS_FAILURE_CIPHER},
    {SSL_R_NO_SHARED_GROUPS, TLS_FAILURE_CIPHER},
    {SSL_R_NO_SUITABLE_KEY_SHARE, TLS_FAILURE_CIPHER},
    {SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, TLS_FAILURE_CIPHER},
    {SSL_R_NO_APPLICATION_PROTOCOL, TLS_FAILURE_ALPN},
    {SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, TLS_FAILURE_CLIENT_CERTIFICATE},
    {SSL_R_CERTIFICATE_VERIFY_FAILED, TLS_FAILURE_CLIENT_CERTIFICATE},
};

static enum tls_failure
failure_of(int reason)
{
    for (size_t i = 0; i < MC_COUNT(reasons); i++)
        if (reasons[i].reason == reason)
            return reasons[i].failure;
    return reason > SSL_AD_REASON_OFFSET ? TLS_FAILURE_ALERT : TLS_FAILURE_OTHER;
}

static void
count_failure(struct tls *t, enum tls_failure why)
{
    if (t->state == HANDSHAKE)
        stat_add(&t->turns->stats.failures[why], 1);
}

/* Not from inside a call of the owner's. */
static void
tell_error(struct tls *t, int err)
{
    t->state = TOLD;
    if (t->ops->on_error != NULL)
        t->ops->on_error(sock_of(t), err);
}

/* OpenSSL has given up, and perhaps queued an alert, which goes first.  What comes now is nothing
 * to us. */
static void
fail(struct tls *t)
{
    const int reason = ERR_GET_REASON(ERR_peek_error());

    ERR_clear_error();
    if (t->state == FAILED || t->state == TOLD)
        return;
    count_failure(t, failure_of(reason));
    t->state = FAILED;
    if (sock_unsent(sock_of(t)) == 0)
        loop_defer(t->turns->loop, &t->later);
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
    ERR_clear_error();
    if (SSL_read_ex(t->ssl, block_at(b), b->cap - BLOCK_HEADROOM - BLOCK_TAILROOM, &n) == 1) {
        b->len = (uint32_t)n;
        return true;
    }
    switch (SSL_get_error(t->ssl, 0)) {
    case SSL_ERROR_WANT_READ: break;
    case SSL_ERROR_ZERO_RETURN: end_received(t); break;
    default: fail(t);
    }
    return false;
}

static bool
may_deliver(struct tls *t)
{
    return t->state == OPEN && t->want && !t->eof && sock_is_open(sock_of(t));
}

/* Delivers what there is while the owner wants it. */
static void
deliver(struct tls *t)
{
    struct block *b = NULL;

    while (may_deliver(t)) {
        if (b == NULL)
            b = block_take(blocks_of(t), BLOCK_RX);
        if (!read_piece(t, b))
            break;
        t->ops->on_recv(sock_of(t), &b);
    }
    block_give(blocks_of(t), &b);
}

/* Bytes wait here, in whole records or parts of them. */
static bool
has_pending(struct tls *t)
{
    return (t->in != NULL && t->in->len > 0) || SSL_pending(t->ssl) > 0;
}

/* The socket brings more when all that was there is used up, and it is wanted. */
static bool
wants_more(struct tls *t)
{
    if (t->in != NULL || sock_unsent(sock_of(t)) > UNSENT_MAX)
        return false;
    return t->state == HANDSHAKE ||
           (t->state == OPEN && t->want && !t->eof && SSL_pending(t->ssl) == 0);
}

static void
set_reception(struct tls *t)
{
    if (sock_is_open(sock_of(t)))
        sock_recv(sock_of(t), wants_more(t));
}

static void
go_on(struct tls *t)
{
    deliver(t);
    if (!sock_is_open(sock_of(t)))
        return;
    if (t->eof || t->state > OPEN)
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
    if (t->state == HANDSHAKE) {
        t->in = *b;
        *b = NULL;
        sock_recv(s, false);
        list_push_back(&t->turns->waiting, &t->link);
        loop_defer(t->turns->loop, &t->turns->task);
        return;
    }
    if (t->state > OPEN)
        return;
    t->in = *b;
    t->lent = true;
    deliver(t);
    t->lent = false;
    if (t->in == NULL) /* closed */
        return;
    if (t->in->len > 0 && t->state == OPEN && !t->eof)
        *b = NULL;
    else
        t->in = NULL;
    set_reception(t);
}

/* FIN, where close_notify should have come before. */
static void
on_sock_eof(struct sock *s)
{
    struct tls *t = tls_of(s);

    if (t->eof || t->state > OPEN)
        return;
    count_failure(t, TLS_FAILURE_CLOSED);
    if (t->state == OPEN)
        stat_add(&t->turns->stats.truncated, 1);
    tell_error(t, ECONNRESET);
}

static void
on_sock_error(struct sock *s, int err)
{
    struct tls *t = tls_of(s);

    count_failure(t, TLS_FAILURE_CLOSED);
    if (t->state != TOLD)
        tell_error(t, err);
}

static void
on_sock_drained(struct sock *s)
{
    struct tls *t = tls_of(s);

    if (t->state == FAILED) {
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

/* --- handshakes ----------------------------------------------------------------------------------
 */

static struct str
keep_text(const char *p, size_t n)
{
    struct str s = {p, n};

    return n == 0 ? STR_NONE : (struct str){str_dup(s), n};
}

/* RFC 9440 2.1: the certificate in DER, as a byte sequence of RFC 8941 3.3.5. */
static struct str
cert_field(X509 *leaf)
{
    unsigned char *der = NULL;
    int n = leaf != NULL ? i2d_X509(leaf, &der) : 0;
    char *text;
    size_t len;

    if (n <= 0)
        return STR_NONE;
    text = mc_alloc(((size_t)n + 2) / 3 * 4 + 3);
    text[0] = ':';
    len = (size_t)EVP_EncodeBlock((unsigned char *)text + 1, der, n) + 1;
    text[len++] = ':';
    OPENSSL_free(der);
    return (struct str){text, len};
}

static void
learn_facts(struct tls *t)
{
    const char *sni = SSL_get_servername(t->ssl, TLSEXT_NAMETYPE_host_name);
    const unsigned char *alpn;
    unsigned n_alpn;

    SSL_get0_alpn_selected(t->ssl, &alpn, &n_alpn);
    t->facts.version = SSL_get_version(t->ssl);
    t->facts.cipher = SSL_get_cipher_name(t->ssl);
    t->facts.alpn = keep_text((const char *)alpn, n_alpn);
    t->facts.sni = keep_text(sni, sni != NULL ? strlen(sni) : 0);
    t->facts.client_cert = cert_field(SSL_get0_peer_certificate(t->ssl));
}

static void
handshake_done(struct tls *t)
{
    const unsigned version = SSL_version(t->ssl) == TLS1_3_VERSION;

    stat_add(&t->turns->stats.handshakes[version][SSL_session_reused(t->ssl) == 1], 1);
    t->state = OPEN;
    learn_facts(t);
    if (t->ops->on_connect != NULL)
        t->ops->on_connect(sock_of(t), 0);
    if (sock_is_open(sock_of(t)))
        go_on(t);
}

static void
step(struct tls *t)
{
    int rv;

    ERR_clear_error();
    rv = SSL_do_handshake(t->ssl);
    if (rv == 1) {
        handshake_done(t);
        return;
    }
    if (SSL_get_error(t->ssl, rv) != SSL_ERROR_WANT_READ)
        fail(t);
    if (t->state == FAILED)
        block_give(blocks_of(t), &t->in);
    drop_used(t);
    set_reception(t);
}

static void
on_turn(struct task *task)
{
    struct tls_turns *w = container_of(task, struct tls_turns, task);
    const mc_ns until = units_clock_ns() + TURN_NS;

    while (!list_empty(&w->waiting)) {
        struct tls *t = LIST_ENTRY(w->waiting.next, struct tls, link);

        list_remove(&t->link);
        step(t);
        if (units_clock_ns() >= until)
            break;
    }
    if (!list_empty(&w->waiting))
        loop_defer(w->loop, &w->task);
}

void
tls_turns_init(struct tls_turns *w, struct loop *l)
{
    *w = (struct tls_turns){.loop = l, .task.fn = on_turn};
    list_init(&w->waiting);
}

void
tls_turns_fini(struct tls_turns *w)
{
    MC_ASSERT(list_empty(&w->waiting));
    loop_undefer(w->loop, &w->task);
}

/* --- sending -------------------------------------------------------------------------------------
 */

/* Encrypts into the socket's queue. */
static void
encrypt(struct tls *t, const char *p, size_t n)
{
    size_t done;

    if (n == 0 || t->state != OPEN || t->mute)
        return;
    t->sent = true;
    ERR_clear_error();
    if (SSL_write_ex(t->ssl, p, n, &done) != 1)
        fail(t);
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
    if (t->state == FAILED && sock_unsent(sock_of(t)) == 0)
        tell_error(t, EPROTO);
    else if (t->state == OPEN)
        go_on(t);
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
    if (t->state != OPEN)
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

    if (t->finished || t->state != OPEN || t->mute)
        return;
    tls_push(s);
    if (t->state != OPEN)
        return;
    t->finished = t->sent = true;
    ERR_clear_error();
    if (SSL_shutdown(t->ssl) < 0)
        fail(t);
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

    count_failure(t, TLS_FAILURE_UNFINISHED);
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
on_sock_closed(struct sock *s)
{
    struct tls *t = tls_of(s);
    const struct sock_ops *ops = t->ops;

    SSL_free(t->ssl);
    tls_domain_unref(&t->domain);
    free((char *)t->facts.alpn.p);
    free((char *)t->facts.sni.p);
    free((char *)t->facts.client_cert.p);
    t->magic = 0;
    t->stream->tls = NULL;
    free(t);
    ops->on_closed(s);
}

static const struct sock_ops tls_sock_ops = {
    .on_recv = on_sock_recv,
    .on_eof = on_sock_eof,
    .on_drained = on_sock_drained,
    .on_error = on_sock_error,
    .on_closed = on_sock_closed,
};

void
tls_open(struct stream *s, struct loop *l, int fd, const struct sock_ops *ops,
         struct tls_domain *domain, struct tls_turns *turns)
{
    struct tls *t = mc_alloc(sizeof(*t));
    BIO *bio = BIO_new(bio_method);

    MC_ASSERT(turns->loop == l && bio != NULL);
    t->magic = TLS_MAGIC;
    t->stream = s;
    t->ops = ops;
    t->turns = turns;
    t->domain = tls_domain_ref(domain);
    t->later.fn = on_later;
    list_init(&t->link);
    t->ssl = SSL_new(domain->ctx);
    MC_ASSERT(t->ssl != NULL);
    BIO_set_data(bio, t);
    SSL_set_bio(t->ssl, bio, bio);
    SSL_set_accept_state(t->ssl);
    s->tls = t;
    sock_open(&s->sock, l, fd, &tls_sock_ops);
    sock_recv(&s->sock, true);
}

const struct tls_facts *
tls_facts(const struct stream *s)
{
    return s->tls->state == HANDSHAKE ? NULL : &s->tls->facts;
}
