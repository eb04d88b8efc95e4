/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Streams that dial with TLS on both engines, against a server that is OpenSSL's own.
 */
#include "io/tls_harness.h"

struct near {
    struct stream s; /* ours */
    struct tls_turns turns;
    struct buf in;
    unsigned n_connect, n_eof, n_error, n_drained, n_closed;
    int connect_err, err;
    int lfd, fd; /* the server's */
    struct addr at;
    SSL_CTX *ctx;
    SSL *ssl; /* NULL: nobody has come */
    struct buf got;
    char sni[64];
};

static char *ca_path; /* of the good certificate */

static struct near *
near_of(struct sock *s)
{
    return container_of(s, struct near, s.sock);
}

static void
near_connect(struct sock *s, int err)
{
    near_of(s)->n_connect++;
    near_of(s)->connect_err = err;
    if (err == 0)
        stream_recv(&near_of(s)->s, true);
}

static void
near_recv(struct sock *s, struct block **b)
{
    buf_add(&near_of(s)->in, block_at(*b), (*b)->len);
}

static void
near_eof(struct sock *s)
{
    near_of(s)->n_eof++;
}

static void
near_error(struct sock *s, int err)
{
    near_of(s)->n_error++;
    near_of(s)->err = err;
}

static void
near_drained(struct sock *s)
{
    near_of(s)->n_drained++;
}

static void
near_closed(struct sock *s)
{
    near_of(s)->n_closed++;
}

static const struct sock_ops near_ops = {
    .on_connect = near_connect,
    .on_recv = near_recv,
    .on_eof = near_eof,
    .on_error = near_error,
    .on_drained = near_drained,
    .on_closed = near_closed,
};

/* Believes the authority of the tests. */
static struct tls_client *
make_client(void)
{
    struct tls_client *c = tls_client_new();
    struct errbuf e;

    assert_true(tls_client_add_ca(c, ca_path, &e));
    return c;
}

static struct tls_client *
sealed_client(void)
{
    struct tls_client *c = make_client();

    tls_client_seal(c);
    return c;
}

static int
on_sni(SSL *ssl, int *alert, void *arg)
{
    struct near *n = arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

    snprintf(n->sni, sizeof(n->sni), "%s", name != NULL ? name : "");
    return SSL_TLSEXT_ERR_OK;
}

/* A server with this certificate. */
static void
near_begin(struct near *n, X509 *cert, EVP_PKEY *key)
{
    memset(n, 0, sizeof(*n));
    n->lfd = listen_on(&n->at);
    n->fd = -1;
    n->ctx = SSL_CTX_new(TLS_server_method());
    assert_int_equal(SSL_CTX_use_certificate(n->ctx, cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(n->ctx, key), 1);
    SSL_CTX_set_tlsext_servername_callback(n->ctx, on_sni);
    SSL_CTX_set_tlsext_servername_arg(n->ctx, n);
    SSL_CTX_set_session_id_context(n->ctx, (const unsigned char *)"t", 1);
    tls_turns_init(&n->turns, L);
}

static void
near_dial(struct near *n, struct tls_client *c, const char *name)
{
    struct tls_target to = {.client = c, .name = name, .server = 7, .turns = &n->turns};

    n->n_connect = n->n_closed = n->n_eof = n->n_error = 0;
    assert_int_equal(stream_connect(&n->s, L, &n->at, &near_ops, &to), MC_OK);
}

/* The server goes on: accepts, shakes hands, reads. */
static void
near_serve(struct near *n)
{
    char chunk[20000];
    size_t len;

    if (n->ssl == NULL) {
        n->fd = accept4(n->lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (n->fd < 0)
            return;
        n->ssl = SSL_new(n->ctx);
        SSL_set_fd(n->ssl, n->fd);
        SSL_set_accept_state(n->ssl);
    }
    while (SSL_read_ex(n->ssl, chunk, sizeof(chunk), &len) == 1)
        buf_add(&n->got, chunk, len);
    ERR_clear_error();
}

static bool
near_has_end(struct near *n)
{
    near_serve(n);
    return n->n_connect == 1;
}

static void
near_open(struct near *n, struct tls_client *c, const char *name)
{
    near_dial(n, c, name);
    UNTIL(near_has_end(n));
    if (n->connect_err != 0)
        fail_msg("%s: %s", name, stream_fault(&n->s) ? stream_fault(&n->s)->text : "");
    assert_null(stream_fault(&n->s));
}

/* The handshake fails, and these are the words. */
static void
near_fails(struct near *n, struct tls_client *c, const char *name, enum tls_failure why,
           const char *words)
{
    const struct tls_fault *f;

    near_dial(n, c, name);
    UNTIL(near_has_end(n));
    assert_int_not_equal(n->connect_err, 0);
    f = stream_fault(&n->s);
    if (f == NULL || f->why != why || strstr(f->text, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", f != NULL ? f->text : "", words);
    assert_int_equal(n->n_error, 0);
    assert_int_equal(stat_get(&n->turns.up_stats.failures[why]), 1);
}

/* Both sides of the connection go; the server stays. */
static void
near_hang_up(struct near *n)
{
    if (sock_is_open(&n->s.sock))
        stream_close(&n->s, false);
    UNTIL(n->n_closed == 1);
    assert_null(n->s.tls);
    if (n->ssl != NULL)
        SSL_set_shutdown(n->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(n->ssl);
    n->ssl = NULL;
    if (n->fd >= 0)
        close(n->fd);
    n->fd = -1;
    n->in.n = n->got.n = 0;
}

static void
near_end(struct near *n)
{
    near_hang_up(n);
    close(n->lfd);
    tls_turns_fini(&n->turns);
    SSL_CTX_free(n->ctx);
    buf_free(&n->in);
    buf_free(&n->got);
    ERR_clear_error();
}

static void
server_says(struct near *n, const char *text)
{
    size_t len;

    UNTIL(SSL_write_ex(n->ssl, text, strlen(text), &len) == 1); /* its handshake may end later */
}

static bool
buf_is(const struct buf *b, const char *text)
{
    return b->n == strlen(text) && memcmp(b->p, text, b->n) == 0;
}

static X509 *good; /* its own authority */

static X509 *
good_cert(void)
{
    X509_up_ref(good);
    return good;
}

static int
client_setup(void **state)
{
    loop_setup(state);
    good = make_cert(ec, "a.test", "DNS:a.test,DNS:*.b.test,IP:127.0.0.1,IP:::1", -3600, 86400);
    ca_path = write_pem("ca.pem", good, NULL);
    return 0;
}

static int
client_teardown(void **state)
{
    X509_free(good);
    free(ca_path);
    return loop_teardown(state);
}

#define CLIENT_TEST(fn) cmocka_unit_test_setup_teardown(fn, client_setup, client_teardown)

/* --- what is good --------------------------------------------------------------------------------
 */

static void
both_sides_talk(void **state)
{
    struct tls_client *c = sealed_client();
    X509 *x = good_cert();
    struct near n;

    near_begin(&n, x, ec);
    near_open(&n, c, "a.test");
    assert_string_equal(n.sni, "a.test");
    assert_string_equal(stream_facts(&n.s)->version, "TLSv1.3");
    assert_false(stream_facts(&n.s)->resumed);
    stream_write(&n.s, "ping", 4);
    UNTIL((near_serve(&n), buf_is(&n.got, "ping")));
    server_says(&n, "pong");
    UNTIL(buf_is(&n.in, "pong"));
    assert_int_equal(stat_get(&n.turns.up_stats.handshakes[1][0]), 1);
    assert_int_equal(stat_get(&n.turns.stats.handshakes[1][0]), 0);
    near_end(&n);
    tls_client_unref(&c);
    X509_free(x);
}

static void
a_preface_goes_before_the_handshake(void **state)
{
    struct tls_client *c = sealed_client();
    X509 *x = good_cert();
    struct near n;
    char first[9];

    near_begin(&n, x, ec);
    near_dial(&n, c, "a.test");
    stream_preface(&n.s, "PROXY x\r\n", sizeof(first));
    UNTIL((n.fd = accept4(n.lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0);
    UNTIL(recv(n.fd, first, sizeof(first), 0) == sizeof(first));
    assert_memory_equal(first, "PROXY x\r\n", sizeof(first));
    n.ssl = SSL_new(n.ctx);
    SSL_set_fd(n.ssl, n.fd);
    SSL_set_accept_state(n.ssl);
    UNTIL(near_has_end(&n));
    assert_int_equal(n.connect_err, 0);
    assert_int_equal(n.n_drained, 0); /* the owner has sent nothing yet */
    near_end(&n);
    tls_client_unref(&c);
    X509_free(x);
}

static void
a_name_or_an_address_may_be_expected(void **state)
{
    static const char *const names[] = {"a.test", "A.TEST", "x.b.test", "127.0.0.1", "::1"};
    struct tls_client *c = sealed_client();
    X509 *x = good_cert();
    struct near n;

    near_begin(&n, x, ec);
    for (size_t i = 0; i < MC_COUNT(names); i++) {
        near_open(&n, c, names[i]);
        assert_string_equal(n.sni, i < 3 ? names[i] : "");
        near_hang_up(&n);
    }
    near_end(&n);
    tls_client_unref(&c);
    X509_free(x);
}

static void
who_trusts_all_needs_no_name(void **state)
{
    struct tls_client *c = tls_client_new();
    X509 *x = make_cert(ec2, "nobody", NULL, -7200, -3600);
    struct near n;

    tls_client_trust_all(c);
    tls_client_seal(c);
    near_begin(&n, x, ec2);
    near_open(&n, c, NULL);
    near_end(&n);
    tls_client_unref(&c);
    X509_free(x);
}

/* --- what is not ---------------------------------------------------------------------------------
 */

/* One dial to a server with this certificate. */
static void
certificate_fails(X509 *x, EVP_PKEY *key, const char *name, const char *words)
{
    struct tls_client *c = sealed_client();
    struct near n;

    near_begin(&n, x, key);
    near_fails(&n, c, name, TLS_FAILURE_SERVER_CERTIFICATE, words);
    near_end(&n);
    tls_client_unref(&c);
    X509_free(x);
}

static void
certificates_are_checked(void **state)
{
    X509 *old = make_cert(ec, "a.test", "DNS:a.test", -7200, -3600);
    struct tls_client *c = tls_client_new();
    char *pem = write_pem("old-ca.pem", old, NULL);
    struct errbuf e;
    struct near n;

    certificate_fails(good_cert(), ec, "c.test", "hostname mismatch");
    certificate_fails(good_cert(), ec, "x.y.b.test", "hostname mismatch");
    certificate_fails(good_cert(), ec, "127.0.0.2", "IP address mismatch");
    certificate_fails(make_cert(ec2, "a.test", "DNS:a.test", -3600, 86400), ec2, "a.test",
                      "self-signed");
    assert_true(tls_client_add_ca(c, pem, &e));
    tls_client_seal(c);
    near_begin(&n, old, ec);
    near_fails(&n, c, "a.test", TLS_FAILURE_SERVER_CERTIFICATE, "expired");
    near_end(&n);
    tls_client_unref(&c);
    X509_free(old);
    free(pem);
}

static void
a_server_that_does_not_speak_tls_is_told_apart(void **state)
{
    struct tls_client *c = sealed_client();
    X509 *x = good_cert();
    struct near n;

    near_begin(&n, x, ec);
    near_dial(&n, c, "a.test");
    UNTIL((n.fd = accept4(n.lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0);
    put(n.fd, "HTTP/1.1 400 Bad Request\r\n\r\n");
    UNTIL(n.n_connect == 1);
    assert_int_equal(n.connect_err, EPROTO);
    assert_int_equal(stream_fault(&n.s)->why, TLS_FAILURE_NOT_TLS);
    near_end(&n);
    tls_client_unref(&c);
    X509_free(x);
}

static void
a_server_that_hangs_up_is_told_apart(void **state)
{
    struct tls_client *c = sealed_client();
    X509 *x = good_cert();
    struct near n;

    near_begin(&n, x, ec);
    near_dial(&n, c, "a.test");
    UNTIL((n.fd = accept4(n.lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0);
    UNTIL(stream_is_shaking(&n.s));
    close(n.fd);
    n.fd = -1;
    UNTIL(n.n_connect == 1);
    assert_int_equal(n.connect_err, ECONNRESET);
    assert_int_equal(stream_fault(&n.s)->why, TLS_FAILURE_CLOSED);
    near_end(&n);
    tls_client_unref(&c);
    X509_free(x);
}

static void
nobody_who_listens_is_no_fault_of_tls(void **state)
{
    struct tls_client *c = sealed_client();
    X509 *x = good_cert();
    struct near n;

    near_begin(&n, x, ec);
    close(n.lfd);
    near_dial(&n, c, "a.test");
    UNTIL(n.n_connect == 1);
    assert_int_equal(n.connect_err, ECONNREFUSED);
    assert_null(stream_fault(&n.s));
    near_hang_up(&n);
    n.lfd = listen_on(&n.at);
    near_end(&n);
    tls_client_unref(&c);
    X509_free(x);
}

static void
an_alert_is_told(void **state)
{
    struct tls_client *c = sealed_client();
    X509 *x = good_cert();
    struct near n;

    near_begin(&n, x, ec);
    SSL_CTX_set_max_proto_version(n.ctx, TLS1_1_VERSION);
    SSL_CTX_set_security_level(n.ctx, 0);
    near_fails(&n, c, "a.test", TLS_FAILURE_ALERT, "alert: protocol version");
    assert_int_equal(stream_fault(&n.s)->alert, SSL_AD_PROTOCOL_VERSION);
    near_end(&n);
    tls_client_unref(&c);
    X509_free(x);
}

/* With TLS 1.3 our side of the handshake has ended by then. */
static void
a_client_certificate_that_is_missing_is_told_late(void **state)
{
    struct tls_client *c = sealed_client();
    X509 *x = good_cert();
    struct near n;

    near_begin(&n, x, ec);
    SSL_CTX_set_verify(n.ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    near_open(&n, c, "a.test");
    UNTIL((near_serve(&n), n.n_error == 1));
    assert_int_equal(stream_fault(&n.s)->why, TLS_FAILURE_ALERT);
    assert_int_equal(stream_fault(&n.s)->alert, SSL_AD_CERTIFICATE_REQUIRED);
    near_end(&n);
    tls_client_unref(&c);
    X509_free(x);
}

static void
a_cut_does_not_look_whole(void **state)
{
    struct tls_client *c = sealed_client();
    X509 *x = good_cert();
    struct near n;

    near_begin(&n, x, ec);
    near_open(&n, c, "a.test");
    server_says(&n, "half");
    UNTIL(buf_is(&n.in, "half"));
    close(n.fd);
    n.fd = -1;
    UNTIL(n.n_error == 1);
    assert_int_equal(n.n_eof, 0);
    assert_int_equal(stat_get(&n.turns.up_stats.truncated), 1);
    near_hang_up(&n);
    near_open(&n, c, "a.test");
    server_says(&n, "whole");
    SSL_shutdown(n.ssl);
    UNTIL(n.n_eof == 1);
    assert_true(buf_is(&n.in, "whole"));
    near_end(&n);
    tls_client_unref(&c);
    X509_free(x);
}

/* --- sessions ------------------------------------------------------------------------------------
 */

/* Dials, says a word each way so that tickets come in, and hangs up; was the session an old one? */
static bool
dial_once(struct near *n, struct tls_client *c, const char *name)
{
    bool resumed;

    near_open(n, c, name);
    resumed = stream_facts(&n->s)->resumed;
    stream_write(&n->s, "ping", 4);
    UNTIL((near_serve(n), buf_is(&n->got, "ping")));
    server_says(n, "pong");
    UNTIL(buf_is(&n->in, "pong"));
    near_hang_up(n);
    return resumed;
}

static void
resume_with(int version)
{
    struct tls_client *c = sealed_client(), *same = sealed_client(), *other = make_client();
    X509 *x = good_cert();
    struct near n;

    tls_client_set_min_version(other, 2);
    tls_client_seal(other);
    assert_true(tls_client_id(c) != 0 && tls_client_id(c) == tls_client_id(same));
    assert_true(tls_client_id(c) != tls_client_id(other));
    near_begin(&n, x, ec);
    SSL_CTX_set_max_proto_version(n.ctx, version);
    assert_false(dial_once(&n, c, "a.test"));
    assert_true(dial_once(&n, c, "a.test"));
    assert_true(dial_once(&n, same, "a.test"));
    assert_false(dial_once(&n, other, "a.test"));   /* judged by other rules */
    assert_false(dial_once(&n, c, "other.b.test")); /* or under another name */
    assert_true(dial_once(&n, c, "a.test"));
    near_end(&n);
    tls_client_unref(&c);
    tls_client_unref(&same);
    tls_client_unref(&other);
    X509_free(x);
}

static void
sessions_are_resumed_under_the_same_rules(void **state)
{
    resume_with(TLS1_2_VERSION);
    resume_with(TLS1_3_VERSION);
}

static void
a_ticket_is_used_once(void **state)
{
    struct tls_client *c = sealed_client();
    X509 *x = good_cert();
    struct near n;

    near_begin(&n, x, ec);
    SSL_CTX_set_num_tickets(n.ctx, 1);
    assert_false(dial_once(&n, c, "a.test"));
    near_open(&n, c, "a.test"); /* takes the only one, and gets none before it hangs up */
    assert_true(stream_facts(&n.s)->resumed);
    near_hang_up(&n);
    near_open(&n, c, "a.test");
    assert_false(stream_facts(&n.s)->resumed);
    near_end(&n);
    tls_client_unref(&c);
    X509_free(x);
}

static void
servers_that_were_not_dialled_for_long_are_forgotten(void **state)
{
    struct tls_client *c = tls_client_new();
    X509 *x = good_cert();
    struct near n;

    tls_client_trust_all(c);
    tls_client_seal(c);
    near_begin(&n, x, ec);
    for (unsigned i = 0; i < 1100; i++) {
        char name[32];

        snprintf(name, sizeof(name), "n%u.test", i);
        assert_false(dial_once(&n, c, name));
    }
    assert_int_equal(n.turns.sessions.by_key.n, 1024);
    assert_true(dial_once(&n, c, "n1099.test"));
    assert_false(dial_once(&n, c, "n0.test"));
    near_end(&n);
    tls_client_unref(&c);
    X509_free(x);
}

static void
settings_are_checked(void **state)
{
    struct tls_client *c = tls_client_new();
    struct notes n = {0};
    struct errbuf e;

    assert_false(tls_client_add_ca(c, "/nowhere.pem", &e));
    assert_non_null(strstr(e.text, "/nowhere.pem"));
    assert_false(tls_client_set_ciphers(c, "NO-SUCH-THING", &e));
    assert_false(tls_client_set_ciphersuites(c, "TLS_NOTHING", &e));
    assert_false(tls_client_set_certificate(c, ca_path, on_note, &n)); /* no key */
    assert_false(tls_client_add_crl(c, ca_path, on_note, &n));
    assert_int_equal(n.n_bad, 2);
    tls_client_unref(&c);
    assert_int_equal(tls_client_id(NULL), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        CLIENT_TEST(both_sides_talk),
        CLIENT_TEST(a_preface_goes_before_the_handshake),
        CLIENT_TEST(a_name_or_an_address_may_be_expected),
        CLIENT_TEST(who_trusts_all_needs_no_name),
        CLIENT_TEST(certificates_are_checked),
        CLIENT_TEST(a_server_that_does_not_speak_tls_is_told_apart),
        CLIENT_TEST(a_server_that_hangs_up_is_told_apart),
        CLIENT_TEST(nobody_who_listens_is_no_fault_of_tls),
        CLIENT_TEST(an_alert_is_told),
        CLIENT_TEST(a_client_certificate_that_is_missing_is_told_late),
        CLIENT_TEST(a_cut_does_not_look_whole),
        CLIENT_TEST(sessions_are_resumed_under_the_same_rules),
        CLIENT_TEST(a_ticket_is_used_once),
        CLIENT_TEST(servers_that_were_not_dialled_for_long_are_forgotten),
        CLIENT_TEST(settings_are_checked),
    };
    int bad;

    make_keys();
    bad = RUN_ON_BOTH(tests);
    drop_keys();
    return bad;
}
