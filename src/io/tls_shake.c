/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tls_shake.c - the handshakes of a loop.
 *
 * A handshake costs as much as a hundred requests.  Those of a loop, with clients and with servers
 * alike, stand in a queue, of which a turn does one, and more only while they together took less
 * than TURN_NS.
 */
#include <openssl/x509.h>

#include "base/check.h"
#include "io/tls_priv.h"

/* Others wait for one handshake at most, and for short ones together no longer than for one with
 * RSA 2048 (0.7 ms) would take.  A guess below that. */
#define TURN_NS (250 * MC_US)

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
tls_shake(struct tls *t)
{
    list_push_back(&t->turns->waiting, &t->link);
    loop_defer(t->turns->loop, &t->turns->task);
}

void
tls_turns_init(struct tls_turns *w, struct loop *l)
{
    *w = (struct tls_turns){.loop = l, .task.fn = on_turn};
    list_init(&w->waiting);
    list_init(&w->sessions.lru);
}

void
tls_turns_fini(struct tls_turns *w)
{
    MC_ASSERT(list_empty(&w->waiting));
    loop_undefer(w->loop, &w->task);
    tls_sessions_fini(&w->sessions);
}
