/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Streams with TLS on both engines, against a client that is OpenSSL's own, and what is made of
 * files.
 */
#include "io/tls_harness.h"

/* The file is refused, or warned of, with these words. */
static void
assert_said(char *path, bool good, const char *words)
{
    struct tls_domain *d = tls_domain_new("x");
    struct notes n = {0};

    assert_int_equal(tls_domain_add(d, path, true, on_note, &n), good);
    assert_int_equal(n.n_bad, good ? 0 : 1);
    if (strstr(n.last, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", n.last, words);
    assert_non_null(strstr(n.last, path));
    tls_domain_unref(&d);
    free(path);
}

static void
bad_files_are_named(void **state)
{
    X509 *x = make_cert(ec, "a.test", NULL, -3600, 86400);
    EVP_PKEY *weak = EVP_RSA_gen(1024);

    assert_said(path_of("none.pem"), false, "No such file");
    assert_said(write_pem("key-only.pem", NULL, ec), false, "no certificate in it");
    assert_said(write_pem("no-key.pem", x, NULL), false, "no private key");
    assert_said(write_pem("other-key.pem", x, ec2), false, "not that of the first certificate");
    assert_said(make_file("no-name.pem", ec, "x", "email:x@a.test"), false, "no name");
    assert_said(make_file("weak.pem", weak, "a.test", NULL), false, "small");
    EVP_PKEY_free(weak);
    X509_free(x);
}

static void
a_key_behind_a_password_is_refused(void **state)
{
    X509 *x = make_cert(ec, "a.test", NULL, -3600, 86400);
    char *path = write_pem("locked.pem", x, NULL);
    FILE *f = fopen(path, "ae");

    PEM_write_PKCS8PrivateKey(f, ec, EVP_aes_256_cbc(), "secret", 6, NULL, NULL);
    fclose(f);
    X509_free(x);
    assert_said(path, false, "without a password");
}

static void
dates_are_warned_of(void **state)
{
    X509 *old = make_cert(ec, "a.test", NULL, -7200, -3600);
    X509 *young = make_cert(ec, "a.test", NULL, 3600, 7200);

    assert_said(write_pem("old.pem", old, ec), true, "expired");
    assert_said(write_pem("young.pem", young, ec), true, "not valid before");
    X509_free(old);
    X509_free(young);
}

static void
a_bad_ocsp_response_is_not_stapled(void **state)
{
    char *pem = make_file("stapled.pem", ec, "a.test", NULL), *ocsp = path_of("stapled.pem.ocsp");
    FILE *f = fopen(ocsp, "we");
    struct notes n = {0};
    struct tls_domain *d = tls_domain_new("x");

    fputs("nonsense", f);
    fclose(f);
    assert_true(tls_domain_add(d, pem, true, on_note, &n));
    assert_int_equal(n.n_warnings, 1);
    assert_non_null(strstr(n.last, "no OCSP response"));
    assert_true(tls_domain_add(d, pem, false, on_note, &n));
    tls_domain_unref(&d);
    free(ocsp);
    free(pem);
}

static void
names_are_exact_or_wild(void **state)
{
    char *pem = make_file("names.pem", ec, "cn.test", "DNS:A.test,DNS:*.b.test,DNS:x.b.test");
    struct tls_domain *d = tls_domain_new("x");
    struct notes n = {0};

    assert_true(tls_domain_add(d, pem, false, on_note, &n));
    assert_int_equal(tls_domain_names(d), 3);
    assert_true(tls_domain_knows(d, "a.TEST"));
    assert_true(tls_domain_knows(d, "a.test."));
    assert_true(tls_domain_knows(d, "y.b.test"));
    assert_true(tls_domain_knows(d, "x.b.test"));
    assert_false(tls_domain_knows(d, "b.test"));
    assert_false(tls_domain_knows(d, "x.y.b.test"));
    assert_false(tls_domain_knows(d, "*.b.test"));
    assert_false(tls_domain_knows(d, "cn.test")); /* alternative names stand in its place */
    assert_false(tls_domain_knows(d, ""));
    assert_false(tls_domain_knows(d, "."));
    tls_domain_unref(&d);
    free(pem);
}

static void
ten_thousand_names_are_found(void **state)
{
    struct buf names = {0};
    struct tls_domain *d = tls_domain_new("x");
    struct notes n = {0};
    char name[32], *pem;

    for (unsigned i = 0; i < 10000; i++)
        buf_printf(&names, "%sDNS:n%u.test", i ? "," : "", i);
    pem = make_file("many.pem", ec, "x", names.p);
    assert_true(tls_domain_add(d, pem, false, on_note, &n));
    assert_int_equal(tls_domain_names(d), 10000);
    for (unsigned i = 0; i < 10000; i++) {
        snprintf(name, sizeof(name), "n%u.test", i);
        assert_true(tls_domain_knows(d, name));
    }
    assert_false(tls_domain_knows(d, "n10000.test"));
    tls_domain_unref(&d);
    buf_free(&names);
    free(pem);
}

static void
a_directory_is_taken_in_order(void **state)
{
    char *sub = path_of("many.d"), *a, *b, *other;
    struct tls_domain *d = tls_domain_new("x");
    struct notes n = {0};

    assert_int_equal(mkdir(sub, 0700), 0);
    assert_false(tls_domain_add(d, sub, false, on_note, &n));
    assert_non_null(strstr(n.last, ".pem"));
    a = make_file("many.d/1.pem", ec, "a.test", NULL);
    b = make_file("many.d/2.pem", ec2, "a.test", NULL);
    other = make_file("many.d/readme.txt", ec2, "c.test", NULL);
    n = (struct notes){0};
    assert_true(tls_domain_add(d, sub, false, on_note, &n));
    assert_int_equal(n.n_warnings, 1);
    assert_non_null(strstr(n.last, "has a certificate of"));
    assert_int_equal(tls_domain_names(d), 1);
    tls_domain_unref(&d);
    free(sub);
    free(a);
    free(b);
    free(other);
}

static void
ciphers_are_checked(void **state)
{
    struct tls_domain *d = tls_domain_new("x");
    struct errbuf e;

    assert_true(tls_domain_set_ciphers(d, "ECDHE+AESGCM", &e));
    assert_false(tls_domain_set_ciphers(d, "NO-SUCH-THING", &e));
    assert_non_null(strstr(e.text, "expected"));
    assert_true(tls_domain_set_ciphersuites(d, "TLS_AES_128_GCM_SHA256", &e));
    assert_false(tls_domain_set_ciphersuites(d, "TLS_NOTHING", &e));
    assert_false(tls_domain_add_client_ca(d, "/nowhere", &e));
    assert_non_null(strstr(e.text, "/nowhere"));
    tls_domain_unref(&d);
}

/* --- a stream and its client ---------------------------------------------------------------------
 */

struct far {
    struct stream s; /* ours */
    struct tls_turns turns;
    struct buf in;
    unsigned n_open, n_eof, n_error, n_drained, n_closed, n_recv;
    bool lazy;                     /* takes one piece, then turns reception off */
    struct tls_domain *after_line; /* plain first: TLS begins behind the first line */
    struct buf line;
    SSL_CTX *ctx;
    SSL *ssl; /* the client */
    int fd;
    struct buf got;
    bool got_close; /* close_notify */
};

static struct far *
far_of(struct sock *s)
{
    return container_of(s, struct far, s.sock);
}

static void
far_connect(struct sock *s, int err)
{
    assert_int_equal(err, 0);
    far_of(s)->n_open++;
}

/* What came behind the line is handed on, whether it is in the same block or comes later. */
static void
far_plain(struct far *f, struct block *b)
{
    const char *nl = memchr(block_at(b), '\n', b->len);
    const size_t n = nl != NULL ? (size_t)(nl + 1 - block_at(b)) : b->len;
    struct block *rest = NULL;

    buf_add(&f->line, block_at(b), n);
    if (nl == NULL)
        return;
    if (b->len > n)
        block_append(loop_blocks(L), &rest, nl + 1, b->len - n);
    stream_secure(&f->s, &rest, f->after_line, &f->turns);
    assert_null(rest);
    f->after_line = NULL;
}

static void
far_recv(struct sock *s, struct block **b)
{
    struct far *f = far_of(s);

    if (f->after_line != NULL) {
        far_plain(f, *b);
        return;
    }
    assert_int_equal(f->n_open, 1);
    assert_true((*b)->off >= BLOCK_HEADROOM && block_room(*b) >= BLOCK_TAILROOM);
    buf_add(&f->in, block_at(*b), (*b)->len);
    f->n_recv++;
    if (f->lazy)
        stream_recv(&f->s, false);
}

static void
far_eof(struct sock *s)
{
    far_of(s)->n_eof++;
}

static void
far_error(struct sock *s, int err)
{
    far_of(s)->n_error++;
}

static void
far_drained(struct sock *s)
{
    far_of(s)->n_drained++;
}

static void
far_closed(struct sock *s)
{
    far_of(s)->n_closed++;
}

static const struct sock_ops far_ops = {
    .on_connect = far_connect,
    .on_recv = far_recv,
    .on_eof = far_eof,
    .on_error = far_error,
    .on_drained = far_drained,
    .on_closed = far_closed,
};

static struct tls_domain *domain;
static struct tls_tickets *tickets;

static struct tls_domain *
make_domain(enum tls_verify verify)
{
    static const uint8_t alpn[] = "\x08http/1.1";
    struct tls_domain *d = tls_domain_new("web");
    char *a = make_file("a-ec.pem", ec, "a.test", NULL);
    char *b = make_file("a-rsa.pem", rsa, "a.test", NULL);
    char *c = make_file("b.pem", ec2, "b", "DNS:*.b.test");
    struct notes n = {0};

    assert_true(tls_domain_add(d, a, false, on_note, &n));
    assert_true(tls_domain_add(d, b, false, on_note, &n));
    assert_true(tls_domain_add(d, c, false, on_note, &n));
    assert_int_equal(n.n_warnings, 0);
    if (verify != TLS_VERIFY_NONE)
        assert_true(tls_domain_add_client_ca(d, c, NULL));
    tls_domain_set_verify(d, verify);
    tls_domain_set_alpn(d, alpn, 9);
    tls_domain_seal(d, tickets);
    free(a);
    free(b);
    free(c);
    return d;
}

static struct tls_ticket_key
ticket_key(uint8_t fill)
{
    struct tls_ticket_key k;

    memset(&k, fill, sizeof(k));
    return k;
}

static int
tls_setup(void **state)
{
    struct tls_ticket_key k = ticket_key(1);

    loop_setup(state);
    tickets = tls_tickets_new();
    tls_tickets_set(tickets, &k, 1);
    domain = make_domain(TLS_VERIFY_NONE);
    return 0;
}

static int
tls_teardown(void **state)
{
    tls_domain_unref(&domain);
    tls_tickets_free(&tickets);
    return loop_teardown(state);
}

#define TLS_TEST(fn) cmocka_unit_test_setup_teardown(fn, tls_setup, tls_teardown)

static void
far_begin(struct far *f, struct tls_domain *d)
{
    int fd[2];

    memset(f, 0, sizeof(*f));
    tcp_pair(fd);
    f->fd = fd[0];
    f->ctx = SSL_CTX_new(TLS_client_method());
    f->ssl = SSL_new(f->ctx);
    SSL_set_fd(f->ssl, f->fd);
    SSL_set_connect_state(f->ssl);
    tls_turns_init(&f->turns, L);
    stream_open(&f->s, L, fd[1], &far_ops, d, &f->turns);
    stream_recv(&f->s, true);
}

/* Lets the client read what there is; SSL_get_error of the last read. */
static int
far_read(struct far *f)
{
    char chunk[20000];
    size_t n;

    while (SSL_read_ex(f->ssl, chunk, sizeof(chunk), &n) == 1)
        buf_add(&f->got, chunk, n);
    f->got_close |= SSL_get_shutdown(f->ssl) & SSL_RECEIVED_SHUTDOWN;
    return SSL_get_error(f->ssl, 0);
}

static bool
far_handshake(struct far *f)
{
    int rv = SSL_do_handshake(f->ssl);

    return rv == 1 && f->n_open == 1;
}

static void
far_open(struct far *f, struct tls_domain *d)
{
    far_begin(f, d);
    SSL_set_tlsext_host_name(f->ssl, "a.test");
    UNTIL(far_handshake(f));
    assert_int_equal(f->n_error, 0);
}

static void
far_end(struct far *f)
{
    if (f->fd >= 0)
        close(f->fd);
    if (sock_is_open(&f->s.sock))
        stream_close(&f->s, false);
    UNTIL(f->n_closed == 1);
    assert_null(f->s.tls);
    tls_turns_fini(&f->turns);
    SSL_set_shutdown(f->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); /* spares the session */
    SSL_free(f->ssl);
    SSL_CTX_free(f->ctx);
    buf_free(&f->in);
    buf_free(&f->line);
    buf_free(&f->got);
    ERR_clear_error();
}

static void
far_say(struct far *f, const char *text)
{
    size_t n;

    assert_int_equal(SSL_write_ex(f->ssl, text, strlen(text), &n), 1);
}

static void
say(struct far *f, const char *text)
{
    stream_write(&f->s, text, strlen(text));
}

static bool
buf_is(const struct buf *b, const char *text)
{
    return b->n == strlen(text) && memcmp(b->p, text, b->n) == 0;
}

static void
both_sides_talk(void **state)
{
    const struct tls_facts *facts;
    struct far f;

    far_open(&f, domain);
    far_say(&f, "ping");
    UNTIL(buf_is(&f.in, "ping"));
    say(&f, "po");
    say(&f, "ng");
    assert_int_equal(stream_unsent(&f.s), 4);
    UNTIL((far_read(&f), buf_is(&f.got, "pong")));
    UNTIL(f.n_drained == 1);
    assert_int_equal(stream_unsent(&f.s), 0);
    facts = stream_facts(&f.s);
    assert_string_equal(facts->version, "TLSv1.3");
    assert_true(str_eq(facts->sni, STR("a.test")));
    assert_int_equal(facts->alpn.n, 0);
    assert_int_equal(facts->client_cert.n, 0);
    assert_int_equal(stat_get(&f.turns.stats.handshakes[1][0]), 1);
    assert_null(stream_raw(&f.s));
    far_end(&f);
}

/* The line comes in pieces of this size, the last one with the ClientHello in it or without. */
static void
assert_secured(size_t piece, bool together)
{
    BIO *hello = BIO_new(BIO_s_mem());
    struct buf out = {0};
    struct far f;
    size_t n_hello;
    char *bytes;

    far_begin(&f, NULL);
    f.after_line = domain;
    SSL_set_tlsext_host_name(f.ssl, "a.test");
    SSL_set0_wbio(f.ssl, hello);
    assert_int_equal(SSL_do_handshake(f.ssl), -1);
    n_hello = (size_t)BIO_get_mem_data(hello, &bytes);
    buf_add(&out, "PROXY this\r\n", 12);
    if (together)
        buf_add(&out, bytes, n_hello);
    for (size_t i = 0; i < out.n; i += piece) {
        const size_t n = out.n - i < piece ? out.n - i : piece;

        assert_int_equal(send(f.fd, out.p + i, n, 0), n);
        if (piece < out.n)
            settle();
    }
    if (!together) {
        UNTIL(f.line.n == 12);
        assert_int_equal(send(f.fd, bytes, n_hello, 0), n_hello);
    }
    SSL_set0_wbio(f.ssl, BIO_new_socket(f.fd, BIO_NOCLOSE));
    UNTIL(far_handshake(&f));
    assert_true(buf_is(&f.line, "PROXY this\r\n"));
    far_say(&f, "ping");
    UNTIL(buf_is(&f.in, "ping"));
    say(&f, "pong");
    UNTIL((far_read(&f), buf_is(&f.got, "pong")));
    buf_free(&out);
    far_end(&f);
}

static void
tls_may_begin_behind_something_plain(void **state)
{
    assert_secured(SIZE_MAX, true);
    assert_secured(SIZE_MAX, false);
    assert_secured(5, true);
    assert_secured(1, true);
}

static void
pieces_share_a_record_when_pushed(void **state)
{
    struct far f;
    char chunk[64];
    size_t n;

    far_open(&f, domain);
    say(&f, "head ");
    say(&f, "body");
    stream_push(&f.s);
    UNTIL(SSL_read_ex(f.ssl, chunk, sizeof(chunk), &n) == 1);
    assert_int_equal(n, 9); /* SSL_read gives one record at most */
    far_end(&f);
}

static void
an_orderly_end_is_told_both_ways(void **state)
{
    struct far f;

    far_open(&f, domain);
    say(&f, "last");
    stream_finish(&f.s);
    UNTIL(f.n_drained > 0);
    stream_close(&f.s, false);
    UNTIL((far_read(&f), f.got_close));
    assert_true(buf_is(&f.got, "last"));
    far_end(&f);

    far_open(&f, domain);
    SSL_shutdown(f.ssl);
    UNTIL(f.n_eof == 1);
    assert_int_equal(f.n_error, 0);
    say(&f, "still"); /* half-close: the other direction lives on */
    UNTIL((far_read(&f), buf_is(&f.got, "still")));
    far_end(&f);
}

static void
a_cut_does_not_look_whole(void **state)
{
    struct far f;

    far_open(&f, domain);
    far_say(&f, "half");
    shutdown(f.fd, SHUT_WR);
    UNTIL(f.n_error == 1);
    assert_int_equal(f.n_eof, 0);
    assert_true(buf_is(&f.in, "half"));
    assert_int_equal(stat_get(&f.turns.stats.truncated), 1);
    far_end(&f);

    far_open(&f, domain);
    say(&f, "half");
    UNTIL((far_read(&f), buf_is(&f.got, "half")));
    stream_close(&f.s, false);
    UNTIL(far_read(&f) != SSL_ERROR_WANT_READ);
    assert_false(f.got_close);
    far_end(&f);
}

/* What the kernel holds of a connection is little, whatever this machine was told. */
static void
small_buffers(struct far *f)
{
    int small = 65536;

    setsockopt(f->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    setsockopt(f->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    setsockopt(f->s.sock.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    setsockopt(f->s.sock.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
}

/* Nothing is received that the owner does not want, and nothing is lost. */
static void
back_pressure_reaches_the_client(void **state)
{
    enum { PIECES = 600, PIECE = 16000 };
    char *piece = mc_alloc(PIECE);
    unsigned sent = 0, stuck = 0;
    struct far f;
    size_t n;

    far_open(&f, domain);
    small_buffers(&f);
    f.lazy = true;
    while (sent < PIECES && stuck < 50) {
        pattern_fill(piece, PIECE, (uint64_t)sent * PIECE);
        if (SSL_write_ex(f.ssl, piece, PIECE, &n) == 1) {
            sent++;
            stuck = 0;
        } else {
            stuck++;
        }
        loop_turn(L, 0);
    }
    assert_true(sent < PIECES); /* it has to wait */
    assert_int_equal(f.n_recv, 1);
    f.lazy = false;
    stream_recv(&f.s, true);
    while (sent < PIECES) {
        pattern_fill(piece, PIECE, (uint64_t)sent * PIECE);
        UNTIL(SSL_write_ex(f.ssl, piece, PIECE, &n) == 1);
        sent++;
    }
    UNTIL(f.in.n == (size_t)PIECES * PIECE);
    pattern_check(f.in.p, f.in.n, 0);
    free(piece);
    far_end(&f);
}

static void
a_lazy_owner_gets_it_piece_by_piece(void **state)
{
    struct far f;

    far_open(&f, domain);
    f.lazy = true;
    far_say(&f, "one ");
    far_say(&f, "two ");
    far_say(&f, "three");
    UNTIL(f.n_recv == 1);
    settle();
    assert_true(buf_is(&f.in, "one "));
    stream_recv(&f.s, true);
    stream_recv(&f.s, false);
    settle();
    assert_int_equal(f.n_recv, 1);
    stream_recv(&f.s, true);
    UNTIL(f.n_recv == 2);
    stream_recv(&f.s, true);
    UNTIL(buf_is(&f.in, "one two three"));
    far_end(&f);
}

static void
a_slow_reader_makes_the_queue_grow_and_drain(void **state)
{
    enum { BLOCKS = 200 };
    struct far f;

    far_open(&f, domain);
    small_buffers(&f);
    for (unsigned i = 0; i < BLOCKS; i++) {
        struct block *b = block_take(loop_blocks(L), BLOCK_BULK);

        b->len = BLOCK_BULK;
        pattern_fill(block_at(b), b->len, (uint64_t)i * BLOCK_BULK);
        stream_send(&f.s, &b);
        assert_null(b);
    }
    settle();
    assert_true(stream_unsent(&f.s) > 0);
    assert_int_equal(f.n_drained, 0);
    UNTIL((far_read(&f), f.got.n == (size_t)BLOCKS * BLOCK_BULK));
    pattern_check(f.got.p, f.got.n, 0);
    UNTIL(f.n_drained == 1);
    far_end(&f);
}

static void
an_owner_may_close_from_its_callback(void **state)
{
    struct far f;

    far_open(&f, domain);
    far_say(&f, "bye");
    say(&f, "waits for company");
    stream_close(&f.s, true);
    UNTIL(f.n_closed == 1);
    assert_int_equal(f.n_recv, 0);
    far_end(&f);
}

/* It asks for answers and never reads. */
static void
key_updates_do_not_fill_the_memory(void **state)
{
    struct far f;
    uint32_t most = 0;
    int rv = 1;

    far_open(&f, domain);
    small_buffers(&f);
    for (unsigned i = 0; i < 100000 && rv == 1; i++) {
        assert_int_equal(SSL_key_update(f.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        rv = SSL_do_handshake(f.ssl);
        if (i % 256 == 0)
            loop_turn(L, 0);
        most = stream_unsent(&f.s) > most ? stream_unsent(&f.s) : most;
    }
    assert_true(most < (2u << 20));
    assert_int_equal(f.n_error, 0);
    far_end(&f);
}

/* --- what clients ask for ------------------------------------------------------------------------
 */

static int
server_key_kind(struct far *f)
{
    X509 *x = SSL_get0_peer_certificate(f->ssl);

    return EVP_PKEY_get_base_id(X509_get0_pubkey(x));
}

static bool
server_is(struct far *f, EVP_PKEY *key)
{
    return EVP_PKEY_eq(X509_get0_pubkey(SSL_get0_peer_certificate(f->ssl)), key) == 1;
}

static void
the_name_chooses_the_certificate(void **state)
{
    static const struct {
        const char *sni;
        bool second;
    } asked[] = {{"a.test", false}, {"x.b.test", true},   {"X.B.TEST", true},
                 {"b.test", false}, {"none.test", false}, {NULL, false}};

    for (size_t i = 0; i < MC_COUNT(asked); i++) {
        struct far f;

        far_begin(&f, domain);
        if (asked[i].sni != NULL)
            SSL_set_tlsext_host_name(f.ssl, asked[i].sni);
        UNTIL(far_handshake(&f));
        assert_true(server_is(&f, asked[i].second ? ec2 : ec));
        far_end(&f);
    }
}

static void
rsa_and_ecdsa_stand_side_by_side(void **state)
{
    static const char *const algs[] = {"ECDSA+SHA256", "rsa_pss_rsae_sha256:RSA+SHA256"};
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

    for (size_t v = 0; v < MC_COUNT(versions); v++) {
        for (size_t i = 0; i < MC_COUNT(algs); i++) {
            struct far f;

            far_begin(&f, domain);
            SSL_set_max_proto_version(f.ssl, versions[v]);
            SSL_set_tlsext_host_name(f.ssl, "a.test");
            assert_int_equal(SSL_set1_sigalgs_list(f.ssl, algs[i]), 1);
            UNTIL(far_handshake(&f));
            assert_int_equal(server_key_kind(&f), i ? EVP_PKEY_RSA : EVP_PKEY_EC);
            assert_int_equal(stat_get(&f.turns.stats.handshakes[v][0]), 1);
            far_end(&f);
        }
    }
}

/* The handshake fails for this reason, and the client learns of it by an alert. */
static void
assert_fails(struct far *f, enum tls_failure why, bool alert)
{
    UNTIL((SSL_do_handshake(f->ssl), f->n_error == 1));
    assert_int_equal(f->n_open, 0);
    assert_int_equal(stat_get(&f->turns.stats.failures[why]), 1);
    if (alert)
        assert_true(SSL_do_handshake(f->ssl) != 1 &&
                    SSL_get_error(f->ssl, -1) != SSL_ERROR_WANT_READ);
    far_end(f);
}

static void
failures_have_their_reasons(void **state)
{
    struct far f;

    far_begin(&f, domain);
    SSL_CTX_set_security_level(f.ctx, 0);
    SSL_set_security_level(f.ssl, 0);
    SSL_set_min_proto_version(f.ssl, TLS1_1_VERSION);
    SSL_set_max_proto_version(f.ssl, TLS1_1_VERSION);
    assert_fails(&f, TLS_FAILURE_VERSION, true);

    far_begin(&f, domain);
    SSL_set_max_proto_version(f.ssl, TLS1_2_VERSION);
    assert_int_equal(SSL_set_cipher_list(f.ssl, "AES128-SHA"), 1);
    assert_fails(&f, TLS_FAILURE_CIPHER, true);

    far_begin(&f, domain);
    SSL_set_alpn_protos(f.ssl, (const unsigned char *)"\x02h2", 3);
    assert_fails(&f, TLS_FAILURE_ALPN, true);

    far_begin(&f, domain);
    put(f.fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    UNTIL(f.n_error == 1);
    assert_int_equal(stat_get(&f.turns.stats.failures[TLS_FAILURE_NOT_TLS]), 1);
    far_end(&f);

    far_begin(&f, domain);
    shutdown(f.fd, SHUT_WR);
    UNTIL(f.n_error == 1);
    assert_int_equal(stat_get(&f.turns.stats.failures[TLS_FAILURE_CLOSED]), 1);
    far_end(&f);

    far_begin(&f, domain);
    SSL_set_verify(f.ssl, SSL_VERIFY_PEER, NULL); /* it knows nobody */
    assert_fails(&f, TLS_FAILURE_ALERT, false);

    tls_domain_set_strict(domain);
    far_begin(&f, domain);
    SSL_set_tlsext_host_name(f.ssl, "c.test");
    assert_fails(&f, TLS_FAILURE_NAME, true);
    far_begin(&f, domain); /* no name at all */
    assert_fails(&f, TLS_FAILURE_NAME, true);
    far_open(&f, domain);
    far_end(&f);

    far_begin(&f, domain);
    stream_close(&f.s, false);
    UNTIL(f.n_closed == 1);
    assert_int_equal(stat_get(&f.turns.stats.failures[TLS_FAILURE_UNFINISHED]), 1);
    far_end(&f);
}

static void
the_protocol_is_agreed_on(void **state)
{
    struct far f;

    far_begin(&f, domain);
    SSL_set_alpn_protos(f.ssl, (const unsigned char *)"\x02h2\x08http/1.1", 12);
    UNTIL(far_handshake(&f));
    assert_true(str_eq(stream_facts(&f.s)->alpn, STR("http/1.1")));
    far_end(&f);
}

static void
a_client_certificate_is_told_to_servers(void **state)
{
    struct tls_domain *d = make_domain(TLS_VERIFY_REQUIRED);
    char *mine = path_of("b.pem");
    struct str cert;
    struct far f;

    far_begin(&f, d);
    assert_int_equal(SSL_use_certificate_file(f.ssl, mine, SSL_FILETYPE_PEM), 1);
    assert_int_equal(SSL_use_PrivateKey_file(f.ssl, mine, SSL_FILETYPE_PEM), 1);
    UNTIL(far_handshake(&f));
    cert = stream_facts(&f.s)->client_cert;
    assert_true(cert.n > 100 && cert.p[0] == ':' && cert.p[cert.n - 1] == ':');
    far_end(&f);

    far_begin(&f, d);
    SSL_set_max_proto_version(f.ssl, TLS1_2_VERSION);
    assert_fails(&f, TLS_FAILURE_CLIENT_CERTIFICATE, true);
    tls_domain_unref(&d);
    free(mine);
}

/* --- resumption ----------------------------------------------------------------------------------
 */

/* A full handshake, and the session that can be resumed after it. */
static SSL_SESSION *
first_session(struct tls_domain *d, int version)
{
    SSL_SESSION *session;
    struct far f;

    far_begin(&f, d);
    SSL_set_max_proto_version(f.ssl, version);
    SSL_set_tlsext_host_name(f.ssl, "a.test");
    UNTIL(far_handshake(&f));
    assert_int_equal(SSL_session_reused(f.ssl), 0);
    say(&f, "x"); /* tickets of TLS 1.3 come before it */
    UNTIL((far_read(&f), f.got.n == 1));
    session = SSL_get1_session(f.ssl);
    far_end(&f);
    return session;
}

static bool
resumes(struct tls_domain *d, SSL_SESSION *session, int version)
{
    struct far f;
    bool reused;

    far_begin(&f, d);
    SSL_set_max_proto_version(f.ssl, version);
    SSL_set_tlsext_host_name(f.ssl, "a.test");
    SSL_set_session(f.ssl, session);
    UNTIL(far_handshake(&f));
    reused = SSL_session_reused(f.ssl) == 1;
    assert_int_equal(stat_get(&f.turns.stats.handshakes[version == TLS1_3_VERSION][reused]), 1);
    far_end(&f);
    return reused;
}

/* Another balancer's key, one of another hour, and one that is gone. */
static void
sessions_are_resumed_by_whoever_has_the_key(void **state)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

    for (size_t v = 0; v < MC_COUNT(versions); v++) {
        struct tls_ticket_key keys[] = {ticket_key(1), ticket_key(2)};
        struct tls_domain *other;
        SSL_SESSION *session;

        tls_tickets_set(tickets, keys, 1);
        session = first_session(domain, versions[v]);
        other = make_domain(TLS_VERIFY_NONE);
        assert_true(resumes(domain, session, versions[v]));
        assert_true(resumes(other, session, versions[v]));
        tls_tickets_set(tickets, (struct tls_ticket_key[]){keys[1], keys[0]}, 2);
        assert_true(resumes(domain, session, versions[v]));
        tls_tickets_set(tickets, &keys[1], 1);
        assert_false(resumes(domain, session, versions[v]));
        tls_tickets_set(tickets, keys, 0);
        assert_false(resumes(domain, session, versions[v]));
        tls_domain_unref(&other);
        SSL_SESSION_free(session);
    }
}

static int
count_session(SSL *ssl, SSL_SESSION *session)
{
    ++*(unsigned *)SSL_get_app_data(ssl);
    return 0;
}

/* Tickets that the client has when our side has said something, with so many keys; none may come
 * before. */
static unsigned
tickets_with(unsigned n_keys)
{
    struct tls_ticket_key key = ticket_key(1);
    struct far f;
    unsigned n_tickets = 0;

    tls_tickets_set(tickets, &key, n_keys);
    far_begin(&f, domain);
    SSL_CTX_set_session_cache_mode(f.ctx, SSL_SESS_CACHE_CLIENT);
    SSL_CTX_sess_set_new_cb(f.ctx, count_session);
    SSL_set_app_data(f.ssl, &n_tickets);
    UNTIL(far_handshake(&f));
    assert_int_equal(SSL_write(f.ssl, "ping", 4), 4);
    UNTIL((far_read(&f), f.in.n == 4));
    assert_int_equal(n_tickets, 0);
    say(&f, "pong");
    UNTIL((far_read(&f), f.got.n == 4));
    far_end(&f);
    return n_tickets;
}

static void
one_ticket_goes_with_the_first_bytes(void **state)
{
    assert_int_equal(tickets_with(1), 1);
    assert_int_equal(tickets_with(0), 0);
}

/* A session from when nobody was asked for a certificate is worth nothing where one is needed. */
static void
a_session_does_not_get_round_the_rules(void **state)
{
    struct tls_domain *strict = make_domain(TLS_VERIFY_OPTIONAL);
    SSL_SESSION *session = first_session(domain, TLS1_3_VERSION);

    assert_false(resumes(strict, session, TLS1_3_VERSION));
    SSL_SESSION_free(session);
    tls_domain_unref(&strict);
}

/* --- turns ---------------------------------------------------------------------------------------
 */

/* A client has begun a handshake, a dear one, which nobody has answered yet. */
static void
begin_dear(struct far *f, struct tls_domain *d, struct tls_turns *t)
{
    int fd[2];

    memset(f, 0, sizeof(*f));
    tcp_pair(fd);
    f->fd = fd[0];
    f->ctx = SSL_CTX_new(TLS_client_method());
    f->ssl = SSL_new(f->ctx);
    SSL_set_fd(f->ssl, f->fd);
    SSL_set_connect_state(f->ssl);
    SSL_set1_sigalgs_list(f->ssl, "rsa_pss_rsae_sha256");
    SSL_set_tlsext_host_name(f->ssl, "a.test");
    assert_true(SSL_do_handshake(f->ssl) != 1);
    stream_open(&f->s, L, fd[1], &far_ops, d, t);
}

static bool
is_answered(const struct far *f)
{
    struct pollfd p = {.fd = f->fd, .events = POLLIN};

    return poll(&p, 1, 0) == 1;
}

static void
end_dear(struct far *f)
{
    UNTIL(far_handshake(f));
    stream_close(&f->s, false);
    UNTIL(f->n_closed == 1);
    close(f->fd);
    SSL_free(f->ssl);
    SSL_CTX_free(f->ctx);
}

/* Many at once: each turn does a few, and none is forgotten. */
static void
handshakes_wait_for_their_turn(void **state)
{
    enum { MANY = 24 };
    struct far *f = mc_alloc(MANY * sizeof(*f));
    struct tls_turns turns;
    unsigned most = 0, open, before = 0;

    tls_turns_init(&turns, L);
    for (unsigned i = 0; i < MANY; i++)
        begin_dear(&f[i], domain, &turns);
    do {
        unsigned answered = 0;

        loop_turn(L, 10 * MC_MS);
        for (unsigned i = 0; i < MANY; i++)
            answered += is_answered(&f[i]);
        most = answered - before > most ? answered - before : most;
        before = open = answered;
    } while (open < MANY);
    assert_true(most < MANY); /* not all in one turn: an RSA handshake takes more than a turn has */
    for (unsigned i = 0; i < MANY; i++)
        end_dear(&f[i]);
    tls_turns_fini(&turns);
    free(f);
}

/* Many on one listener, then one on another. */
static void
handshakes_of_one_listener_are_not_before_those_of_others(void **state)
{
    enum { MANY = 24 };
    struct far *f = mc_alloc((MANY + 1) * sizeof(*f)), *last = &f[MANY];
    struct tls_domain *other = make_domain(TLS_VERIFY_NONE);
    struct tls_turns turns;
    unsigned before = 0;

    tls_turns_init(&turns, L);
    for (unsigned i = 0; i < MANY; i++)
        begin_dear(&f[i], domain, &turns);
    begin_dear(last, other, &turns);
    UNTIL(is_answered(last));
    for (unsigned i = 0; i < MANY; i++)
        before += is_answered(&f[i]);
    assert_true(before < MANY / 2); /* all of them, were there but one line */
    for (unsigned i = 0; i <= MANY; i++)
        end_dear(&f[i]);
    tls_turns_fini(&turns);
    tls_domain_unref(&other);
    free(f);
}

/* A byte at a time: neither side minds. */
static void
a_handshake_may_come_byte_by_byte(void **state)
{
    struct far f;
    BIO *out;
    char *bytes;
    long n;

    far_begin(&f, domain);
    out = BIO_new(BIO_s_mem());
    BIO_up_ref(out);
    SSL_set0_wbio(f.ssl, out);
    SSL_do_handshake(f.ssl);
    n = BIO_get_mem_data(out, &bytes);
    assert_true(n > 100);
    for (long i = 0; i < n; i++) {
        assert_int_equal(send(f.fd, bytes + i, 1, MSG_NOSIGNAL), 1);
        loop_turn(L, MC_MS);
    }
    BIO_free(out);
    SSL_set_fd(f.ssl, f.fd);
    UNTIL(far_handshake(&f));
    far_end(&f);
}

int
main(void)
{
    const struct CMUnitTest files[] = {
        cmocka_unit_test(bad_files_are_named),
        cmocka_unit_test(a_key_behind_a_password_is_refused),
        cmocka_unit_test(dates_are_warned_of),
        cmocka_unit_test(a_bad_ocsp_response_is_not_stapled),
        cmocka_unit_test(names_are_exact_or_wild),
        cmocka_unit_test(ten_thousand_names_are_found),
        cmocka_unit_test(a_directory_is_taken_in_order),
        cmocka_unit_test(ciphers_are_checked),
    };
    const struct CMUnitTest tests[] = {
        TLS_TEST(both_sides_talk),
        TLS_TEST(tls_may_begin_behind_something_plain),
        TLS_TEST(pieces_share_a_record_when_pushed),
        TLS_TEST(an_orderly_end_is_told_both_ways),
        TLS_TEST(a_cut_does_not_look_whole),
        TLS_TEST(back_pressure_reaches_the_client),
        TLS_TEST(a_lazy_owner_gets_it_piece_by_piece),
        TLS_TEST(a_slow_reader_makes_the_queue_grow_and_drain),
        TLS_TEST(an_owner_may_close_from_its_callback),
        TLS_TEST(key_updates_do_not_fill_the_memory),
        TLS_TEST(the_name_chooses_the_certificate),
        TLS_TEST(rsa_and_ecdsa_stand_side_by_side),
        TLS_TEST(failures_have_their_reasons),
        TLS_TEST(the_protocol_is_agreed_on),
        TLS_TEST(a_client_certificate_is_told_to_servers),
        TLS_TEST(sessions_are_resumed_by_whoever_has_the_key),
        TLS_TEST(one_ticket_goes_with_the_first_bytes),
        TLS_TEST(a_session_does_not_get_round_the_rules),
        TLS_TEST(handshakes_wait_for_their_turn),
        TLS_TEST(handshakes_of_one_listener_are_not_before_those_of_others),
        TLS_TEST(a_handshake_may_come_byte_by_byte),
    };
    int bad;

    make_keys();
    bad = cmocka_run_group_tests_name("files", files, NULL, NULL);
    bad += RUN_ON_BOTH(tests);
    drop_keys();
    return bad;
}
