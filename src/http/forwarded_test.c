/* SPDX-License-Identifier: BSD-2-Clause */
#include "http/forwarded.h"

#include "http/h1_testkit.h"

/* A request, what forwarded_build() makes of it, and the head that a server would get. */
struct sent {
    struct parsed request;
    struct http_field add[FORWARDED_MAX];
    char text[4096];
    size_t n;
};

static void
send_on(struct sent *s, struct forwarded_in in, const char *fields)
{
    char text[2048];
    struct h1_write w = {.add = s->add, .body = HTTP_BODY_NONE};

    snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: example.org:81\r\n%s\r\n", fields);
    parse_request(&s->request, text);
    assert_fault(s->request.fault, NONE);
    in.request = &s->request.head;
    w.n_add = forwarded_build(&in, s->add, &w.drop, &s->request.arena);
    assert_true(w.n_add <= FORWARDED_MAX);
    assert_true(h1_write_bound(&s->request.head, &w) <= sizeof(s->text));
    s->n = h1_write_request(s->text, &s->request.head, &w);
}

static void
assert_sent(struct forwarded_in in, const char *fields, const char *want)
{
    static const char start[] = "GET / HTTP/1.1\r\nHost: example.org:81\r\n";
    struct sent s;
    char whole[4096];
    int n = snprintf(whole, sizeof(whole), "%s%s\r\n", start, want);

    send_on(&s, in, fields);
    if (s.n != (size_t)n || memcmp(s.text, whole, s.n) != 0)
        fail_msg("sent:\n%.*s\nnot:\n%s", (int)s.n, s.text, whole);
    parsed_free(&s.request);
}

#define ALL_RECEIVED                                                                \
    "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2, 3.3.3.3\r\n"             \
    "X-Forwarded-Proto: https\r\nX-Forwarded-Host: told\r\nX-Forwarded-Port: 7\r\n" \
    "Forwarded: for=1.1.1.1\r\nVia: 1.0 first\r\n"

static const struct forwarded_in plain = {
    .peer_ip = "192.0.2.1", .local_port = 8080, .send_x = true};

static void
a_server_is_told_who_asked(void **state)
{
    assert_sent(plain, "",
                "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\n"
                "X-Forwarded-Host: example.org:81\r\nX-Forwarded-Port: 8080\r\n");
}

static void
a_stranger_is_not_believed(void **state)
{
    assert_sent(plain, ALL_RECEIVED,
                "Via: 1.0 first\r\n"
                "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\n"
                "X-Forwarded-Host: example.org:81\r\nX-Forwarded-Port: 8080\r\n");
}

static void
a_stranger_is_not_believed_when_nothing_is_sent_either(void **state)
{
    assert_sent((struct forwarded_in){.peer_ip = "192.0.2.1"}, ALL_RECEIVED, "Via: 1.0 first\r\n");
}

static void
a_trusted_peer_is_extended(void **state)
{
    struct forwarded_in in = plain;

    in.peer_trusted = true;
    assert_sent(in, ALL_RECEIVED,
                "X-Forwarded-Proto: https\r\nX-Forwarded-Host: told\r\nX-Forwarded-Port: 7\r\n"
                "Forwarded: for=1.1.1.1\r\nVia: 1.0 first\r\n"
                "X-Forwarded-For: 1.1.1.1, 2.2.2.2, 3.3.3.3, 192.0.2.1\r\n");
    in.send_x = false;
    in.send_forwarded = true;
    assert_sent(in, "Forwarded: for=1.1.1.1\r\nX-Forwarded-For: 9.9.9.9\r\n",
                "X-Forwarded-For: 9.9.9.9\r\n"
                "Forwarded: for=1.1.1.1, for=192.0.2.1;host=\"example.org:81\";proto=http\r\n");
}

static void
a_trusted_peer_that_says_nothing_is_named(void **state)
{
    struct forwarded_in in = plain;

    in.peer_trusted = true;
    in.https = true;
    in.peer_ip = "2001:db8::1";
    in.send_forwarded = true;
    assert_sent(in, "X-Forwarded-For:\r\n",
                "X-Forwarded-For: 2001:db8::1\r\nX-Forwarded-Proto: https\r\n"
                "X-Forwarded-Host: example.org:81\r\nX-Forwarded-Port: 8080\r\n"
                "Forwarded: for=\"[2001:db8::1]\";host=\"example.org:81\";proto=https\r\n");
}

static void
a_unix_socket_has_no_address(void **state)
{
    struct forwarded_in in = {
        .peer_ip = "unix", .peer_trusted = true, .send_x = true, .send_forwarded = true};

    assert_sent(in, "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Host: h\r\nX-Forwarded-Proto: p\r\n",
                "X-Forwarded-Host: h\r\nX-Forwarded-Proto: p\r\nX-Forwarded-For: 1.1.1.1\r\n"
                "Forwarded: for=_unix;host=\"example.org:81\";proto=http\r\n");
    assert_sent(in, "",
                "X-Forwarded-Proto: http\r\nX-Forwarded-Host: example.org:81\r\n"
                "Forwarded: for=_unix;host=\"example.org:81\";proto=http\r\n");
}

static void
a_clients_certificate_is_told_and_never_believed(void **state)
{
    struct forwarded_in in = {.peer_ip = "192.0.2.1"};

    assert_sent(in, "Client-Cert: :AAAA:\r\nClient-Cert-Chain: :BBBB:\r\nX: 1\r\n", "X: 1\r\n");
    in.client_cert = STR(":CCCC:");
    assert_sent(in, "Client-Cert: :AAAA:\r\nX: 1\r\n", "X: 1\r\nClient-Cert: :CCCC:\r\n");
    in.peer_trusted = true; /* what it saw was not this connection */
    assert_sent(in, "Client-Cert: :AAAA:\r\nClient-Cert-Chain: :BBBB:\r\n",
                "Client-Cert: :CCCC:\r\n");
    in.client_cert = STR_NONE;
    assert_sent(in, "Client-Cert: :AAAA:\r\n", "Client-Cert: :AAAA:\r\n");
}

static void
via_is_appended(void **state)
{
    struct forwarded_in in = {.peer_ip = "192.0.2.1", .via = "meercat"};

    assert_sent(in, "Via: 1.0 first\r\n", "Via: 1.0 first\r\nVia: 1.1 meercat\r\n");
}

static void
a_host_is_quoted_so_that_it_cannot_break_out(void **state)
{
    struct http_head h = {.authority = STR("a\"b\\c")}; /* as only another codec could let pass */
    struct forwarded_in in = {.request = &h, .peer_ip = "192.0.2.1", .send_forwarded = true};
    struct http_field add[FORWARDED_MAX];
    struct arena a;
    field_set drop;

    arena_init(&a, NULL);
    assert_int_equal(forwarded_build(&in, add, &drop, &a), 1);
    assert_str(http_field_value(&add[0]), "for=192.0.2.1;host=\"a\\\"b\\\\c\";proto=http");
    arena_drop(&a);
}

/* --- whom to believe ------------------------------------------------------------------------- */
static bool
ten_is_ours(void *arg, struct str ip)
{
    return str_starts(ip, STR("10.")) || str_starts(ip, STR("fd00:"));
}

static const struct {
    const char *peer, *fields, *client;
} chains[] = {
    {"9.9.9.9", "X-Forwarded-For: 1.1.1.1\r\n", "9.9.9.9"},
    {"10.0.0.1", "", "10.0.0.1"},
    {"10.0.0.1", "X-Forwarded-For: 1.1.1.1\r\n", "1.1.1.1"},
    {"10.0.0.1", "X-Forwarded-For: 6.6.6.6, 1.1.1.1\r\n", "1.1.1.1"},
    {"10.0.0.1", "X-Forwarded-For: 6.6.6.6,1.1.1.1 ,10.0.0.2,\t10.0.0.3\r\n", "1.1.1.1"},
    {"10.0.0.1", "X-Forwarded-For: 1.1.1.1\r\nA: b\r\nX-Forwarded-For: 10.0.0.2\r\n", "1.1.1.1"},
    {"10.0.0.1", "X-Forwarded-For: 10.0.0.3, 10.0.0.2\r\n", "10.0.0.1"},
    {"10.0.0.1", "X-Forwarded-For: 1.1.1.1:5678\r\n", "1.1.1.1"},
    {"10.0.0.1", "X-Forwarded-For: [2001:db8::1]:5678, 10.0.0.2:1\r\n", "2001:db8::1"},
    {"10.0.0.1", "X-Forwarded-For: 2001:db8::1, [fd00::2]\r\n", "2001:db8::1"},
    {"10.0.0.1", "X-Forwarded-For: 1.1.1.1, unknown, 10.0.0.2\r\n", "10.0.0.1"},
    {"10.0.0.1", "X-Forwarded-For: 1.1.1.1, 1.2.3.4.5\r\n", "10.0.0.1"},
    {"10.0.0.1", "X-Forwarded-For: 1.1.1.1, [::1\r\n", "::1"},
    {"10.0.0.1", "X-Forwarded-For: 1.1.1.1,,\r\n", "1.1.1.1"},
    {"10.0.0.1", "X-Forwarded-For:\r\n", "10.0.0.1"},
    {"10.0.0.1", "X-Forwarded-For: ,\r\n", "10.0.0.1"},
    {"10.0.0.1", "X-Forwarded-For: :\r\n", "10.0.0.1"},
};

static void
the_client_is_the_nearest_that_is_not_ours(void **state)
{
    for (unsigned i = 0; i < MC_COUNT(chains); i++) {
        struct parsed p;
        struct str client;
        char text[512];

        snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", chains[i].fields);
        parse_request(&p, text);
        assert_fault(p.fault, NONE);
        client = forwarded_client(&p.head, str_of(chains[i].peer), ten_is_ours, NULL);
        if (!str_eq(client, str_of(chains[i].client)))
            fail_msg("%.*s instead of %s: %s", (int)client.n, client.p, chains[i].client,
                     chains[i].fields);
        parsed_free(&p);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_is_told_who_asked),
        cmocka_unit_test(a_stranger_is_not_believed),
        cmocka_unit_test(a_stranger_is_not_believed_when_nothing_is_sent_either),
        cmocka_unit_test(a_trusted_peer_is_extended),
        cmocka_unit_test(a_trusted_peer_that_says_nothing_is_named),
        cmocka_unit_test(a_unix_socket_has_no_address),
        cmocka_unit_test(a_clients_certificate_is_told_and_never_believed),
        cmocka_unit_test(via_is_appended),
        cmocka_unit_test(a_host_is_quoted_so_that_it_cannot_break_out),
        cmocka_unit_test(the_client_is_the_nearest_that_is_not_ours),
    };

    return cmocka_run_group_tests_name("http/forwarded", tests, NULL, NULL);
}
