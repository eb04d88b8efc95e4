/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tls_shake.c - the handshakes of a loop.
 *
 * A handshake costs as much as a hundred requests.  Those of a loop stand in lines: the clients of
 * each listener in one, and all servers in one.  A turn does a step of one of them, and more only
 * while they together took less than TURN_NS.  The lines go round, so that a flood of handshakes
 * on one listener is not before those of the others.
 */
#include <stdlib.h>

#include <openssl/x509.h>

#include "base/check.h"
#include "io/engine.h"
#include "io/tls_priv.h"

/* Others wait for one handshake at most, and for short steps together hardly longer than for one
 * with a P-256 signature. */
#define TURN_NS (100 * MC_US)

/* --- what was agreed -----------------------------------------------------------------------------
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
learn_client(struct tls *t)
{
    const char *sni = SSL_get_servername(t->ssl, TLSEXT_NAMETYPE_host_name);

    t->facts.sni = keep_text(sni, sni != NULL ? strlen(sni) : 0);
    t->facts.client_cert = cert_field(SSL_get0_peer_certificate(t->ssl));
    t->ticket_due = t->domain->tickets != NULL && SSL_version(t->ssl) == TLS1_3_VERSION;
}

static void
learn_facts(struct tls *t)
{
    const unsigned char *alpn;
    unsigned n_alpn;

    SSL_get0_alpn_selected(t->ssl, &alpn, &n_alpn);
    t->facts.version = SSL_get_version(t->ssl);
    t->facts.cipher = SSL_get_cipher_name(t->ssl);
    t->facts.alpn = keep_text((const char *)alpn, n_alpn);
    t->facts.resumed = SSL_session_reused(t->ssl) == 1;
    if (t->client == NULL)
        learn_client(t);
}

/* --- turns ---------------------------------------------------------------------------------------
 */

static void
shake_done(struct tls *t)
{
    const unsigned version = SSL_version(t->ssl) == TLS1_3_VERSION;

    learn_facts(t);
    stat_add(&t->stats->handshakes[version][t->facts.resumed], 1);
    t->state = TLS_OPEN;
    t->begun = true;
    if (t->ops->on_connect != NULL)
        t->ops->on_connect(&t->stream->sock, 0);
    if (sock_is_open(&t->stream->sock))
        tls_go_on(t);
}

static void
step(struct tls *t)
{
    int rv;

    tls_errors_clear();
    rv = SSL_do_handshake(t->ssl);
    if (rv == 1) {
        shake_done(t);
        return;
    }
    if (SSL_get_error(t->ssl, rv) != SSL_ERROR_WANT_READ)
        tls_fail(t);
    tls_go_on(t);
}

struct line {
    struct list link;
    const struct tls_domain *domain; /* of the listener; NULL: servers */
    struct list waiting;             /* struct tls, oldest first */
};

/* There are as many as there are listeners with handshakes under way. */
static struct line *
line_of(struct tls_turns *w, const struct tls_domain *domain)
{
    struct line *line;

    LIST_FOREACH (it, &w->lines) {
        line = LIST_ENTRY(it, struct line, link);
        if (line->domain == domain)
            return line;
    }
    line = mc_alloc(sizeof(*line));
    line->domain = domain;
    list_init(&line->waiting);
    list_push_back(&w->lines, &line->link);
    return line;
}

/* The oldest of the line whose turn it is; NULL: nobody waits. */
static struct tls *
next(struct tls_turns *w)
{
    while (!list_empty(&w->lines)) {
        struct line *line = LIST_ENTRY(w->lines.next, struct line, link);
        struct list *first = line->waiting.next;

        list_remove(&line->link);
        if (!list_empty(&line->waiting)) {
            list_push_back(&w->lines, &line->link);
            list_remove(first);
            return LIST_ENTRY(first, struct tls, link);
        }
        free(line); /* its last has gone on, or was closed */
    }
    return NULL;
}

static void
on_turn(struct task *task)
{
    struct tls_turns *w = container_of(task, struct tls_turns, task);
    struct tls *t;
    mc_ns until;

    loop_flush(w->loop);
    until = units_clock_ns() + TURN_NS;
    while ((t = next(w)) != NULL) {
        step(t);
        if (units_clock_ns() >= until)
            break;
    }
    if (!list_empty(&w->lines))
        loop_defer(w->loop, &w->task);
}

void
tls_shake(struct tls *t)
{
    list_push_back(&line_of(t->turns, t->domain)->waiting, &t->link);
    loop_defer(t->turns->loop, &t->turns->task);
}

void
tls_turns_init(struct tls_turns *w, struct loop *l)
{
    *w = (struct tls_turns){.loop = l, .task.fn = on_turn};
    list_init(&w->lines);
    list_init(&w->sessions.lru);
}

void
tls_turns_fini(struct tls_turns *w)
{
    MC_ASSERT(next(w) == NULL);
    loop_undefer(w->loop, &w->task);
    tls_sessions_fini(&w->sessions);
}
