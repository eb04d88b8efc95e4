/* SPDX-License-Identifier: BSD-2-Clause */
#include "http/h1_testkit.h"

/* --- phase 1 --------------------------------------------------------------------------------- */
static const char whole_head[] = "GET /a HTTP/1.1\r\nHost: example.org\r\n"
                                 "User-Agent: a rather long one, longer than any vector is\r\n\r\n";

static void
a_head_ends_at_its_empty_line_however_it_arrives(void **state)
{
    size_t len = sizeof(whole_head) - 1;

    for (size_t step = 1; step <= len; step++) {
        size_t scanned = 0, head_len = 0, have = 0;
        char *p;
        bool found;

        do {
            have = have + step < len ? have + step : len;
            p = exact((struct str){whole_head, have});
            found = h1_head_end(p, have, &scanned, &head_len);
            free(p);
        } while (!found && have < len);
        assert_int_equal(have, len);
        assert_int_equal(head_len, len);
    }
}

static bool
end_of(const char *text, size_t *head_len)
{
    size_t scanned = 0;
    struct str s = str_of(text);
    char *p = exact(s);
    bool found = h1_head_end(p, s.n, &scanned, head_len);

    free(p);
    return found;
}

static void
what_follows_a_head_is_left_alone(void **state)
{
    size_t n;

    assert_true(end_of("GET / HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n", &n));
    assert_int_equal(n, 18);
    assert_true(end_of("GET / HTTP/1.0\r\nA: b\r\n\r\nbody\r\n\r\n", &n));
    assert_int_equal(n, 24);
}

static void
empty_lines_before_a_request_belong_to_its_head(void **state)
{
    size_t n;

    assert_true(end_of("\r\n\r\nGET / HTTP/1.1\r\n\r\n", &n));
    assert_int_equal(n, 22);
    assert_false(end_of("\r\n", &n));
    assert_false(end_of("\r\n\r\n", &n));
    assert_false(end_of("\r", &n));
    assert_false(end_of("", &n));
    /* a fifth is one too many: an empty head, which phase 2 refuses */
    assert_true(end_of("\r\n\r\n\r\n\r\n\r\nGET", &n));
    assert_int_equal(n, 10);
}

static void
bare_line_feeds_end_a_head_so_that_it_can_be_refused(void **state)
{
    size_t n;

    assert_true(end_of("\nGET / HTTP/1.1\r\n\r\n", &n));
    assert_int_equal(n, 1);
    assert_true(end_of("GET / HTTP/1.1\n\nrest", &n));
    assert_int_equal(n, 16);
    assert_true(end_of("GET / HTTP/1.1\nA: b\n\r\nrest", &n));
    assert_int_equal(n, 22);
    assert_true(end_of("GET / HTTP/1.1\r\nA: b\r\n\nrest", &n));
    assert_int_equal(n, 23);
    assert_true(end_of("\r\n\nGET", &n));
    assert_int_equal(n, 3);
}

/* --- requests -------------------------------------------------------------------------------- */
static void
a_plain_request_is_cut_into_its_parts(void **state)
{
    struct parsed p;

    parse_request(&p, "GET /a/b?c=d HTTP/1.1\r\nHost: example.org:81\r\nAccept:\t*/* \t\r\n"
                      "X-Empty:\r\nX-Obs: \xe9t\xe9 , twice\r\n\r\n");
    assert_fault(p.fault, NONE);
    assert_false(p.head.is_response);
    assert_int_equal(p.head.minor, 1);
    assert_int_equal(p.head.method, HTTP_M_GET);
    assert_str(p.head.method_text, "GET");
    assert_str(p.head.target, "/a/b?c=d");
    assert_str(p.head.path, "/a/b?c=d");
    assert_str(p.head.authority, "example.org:81");
    assert_str(p.head.scheme, "");
    assert_int_equal(p.head.n_fields, 4);
    assert_int_equal(p.head.fields[0].id, FIELD_HOST);
    assert_str(http_field_get(&p.head, STR("accept")), "*/*");
    assert_str(http_field_get(&p.head, STR("x-empty")), "");
    assert_str(http_field_get(&p.head, STR("x-obs")), "\xe9t\xe9 , twice");
    assert_int_equal(p.head.body, HTTP_BODY_NONE);
    assert_false(p.head.close);
    parsed_free(&p);
}

static void
a_method_may_be_any_token(void **state)
{
    struct parsed p;

    parse_request(&p, "M-SEARCH!~ / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_fault(p.fault, NONE);
    assert_int_equal(p.head.method, HTTP_M_OTHER);
    assert_str(p.head.method_text, "M-SEARCH!~");
    parsed_free(&p);
}

static const struct {
    const char *line, *scheme, *authority, *path;
} targets[] = {
    {"GET /", "", "h", "/"},
    {"GET //double?q", "", "h", "//double?q"},
    {"GET /%20%zz|\"<>\\^`{}", "", "h", "/%20%zz|\"<>\\^`{}"},
    {"GET http://other/p", "http", "other", "/p"},
    {"GET HTTP://other:80", "HTTP", "other:80", "/"},
    {"GET https://[::1]:8443?q=1", "https", "[::1]:8443", "/?q=1"},
    {"GET http://other/?a=http://b/@", "http", "other", "/?a=http://b/@"},
    {"OPTIONS http://other", "http", "other", "*"},
    {"OPTIONS http://other/", "http", "other", "/"},
    {"OPTIONS *", "", "h", "*"},
    {"OPTIONS /", "", "h", "/"},
    {"CONNECT other:443", "", "other:443", ""},
    {"CONNECT [2001:db8::1]:443", "", "[2001:db8::1]:443", ""},
};

static void
the_four_forms_of_a_target_are_read(void **state)
{
    for (unsigned i = 0; i < MC_COUNT(targets); i++) {
        struct parsed p;
        char text[256];

        snprintf(text, sizeof(text), "%s HTTP/1.1\r\nHost: h\r\n\r\n", targets[i].line);
        parse_request(&p, text);
        assert_fault(p.fault, NONE);
        assert_true(str_eq(p.head.scheme, str_of(targets[i].scheme)));
        assert_true(str_eq(p.head.authority, str_of(targets[i].authority)));
        assert_true(str_eq(p.head.path, str_of(targets[i].path)));
        parsed_free(&p);
    }
}

static const char *const good_hosts[] = {
    "a",
    "example.org",
    "example.org:80",
    "example.org.",
    "example.org:",
    "under_score",
    "127.0.0.1",
    "127.0.0.1:65535",
    "[::1]",
    "[::1]:8080",
    "[::ffff:1.2.3.4]",
    "%41bc",
    "a!$&'()*+;=~b",
    "xn--bcher-kva.example",
};

static void
a_good_host_becomes_the_authority(void **state)
{
    for (unsigned i = 0; i < MC_COUNT(good_hosts); i++) {
        struct parsed p;
        char text[256];

        snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", good_hosts[i]);
        parse_request(&p, text);
        assert_fault(p.fault, NONE);
        assert_true(str_eq(p.head.authority, str_of(good_hosts[i])));
        parsed_free(&p);
    }
}

/* What else a request may say.  want: letters of what must be set, see flags_of(). */
static const struct {
    const char *text, *want;
} requests[] = {
    {"GET / HTTP/1.1\r\nHost:\r\n\r\n", ""},
    {"GET / HTTP/1.0\r\n\r\n", "c"},
    {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", ""},
    {"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", "c"},
    {"GET / HTTP/1.2\r\nHost: a\r\n\r\n", ""},
    {"GET / HTTP/1.1\r\nHost: a\r\nConnection: x ,CLOSE\r\n\r\n", "cn"},
    {"GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: close\r\n\r\n", "cn"},
    {"GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n", "n"},
    {"GET / HTTP/1.1\r\nHost: a\r\nProxy-Connection: close\r\n\r\n", ""},
    {"GET / HTTP/1.1\r\nHost: a\r\nConnection: host, content-length\r\n\r\n", ""},
    {"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "u"},
    {"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", ""},
    {"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n", ""},
    {"GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "c"},
    {"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te\r\n\r\n", "t"},
    {"GET / HTTP/1.1\r\nHost: a\r\nTE: deflate;q=0.5, Trailers\r\n\r\n", "t"},
    {"GET / HTTP/1.1\r\nHost: a\r\nTE: trailersx\r\n\r\n", ""},
    {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "L"},
    {"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "C"},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \t Chunked \r\n\r\n", "C"},
    {"POST / HTTP/1.1\r\nHost: a\r\n\r\n", ""},
    {"POST / HTTP/1.0\r\nContent-Length: 7\r\n\r\n", "cL"},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n", "L"},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\ncontent-length: 05\r\n\r\n", "L"},
    {"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n", "eL"},
    {"PUT / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", "cL"},
};

static void
flags_of(const struct http_head *h, char out[8])
{
    const struct {
        bool set;
        char letter;
    } all[] = {
        {h->close, 'c'},
        {h->nominates, 'n'},
        {h->upgrade, 'u'},
        {h->te_trailers, 't'},
        {h->expect_continue, 'e'},
        {h->body == HTTP_BODY_LENGTH && h->has_content_length, 'L'},
        {h->body == HTTP_BODY_CHUNKED, 'C'},
    };

    for (unsigned i = 0; i < MC_COUNT(all); i++)
        if (all[i].set)
            *out++ = all[i].letter;
    *out = '\0';
}

static void
connection_and_framing_are_settled(void **state)
{
    for (unsigned i = 0; i < MC_COUNT(requests); i++) {
        struct parsed p;
        char flags[8];

        parse_request(&p, requests[i].text);
        assert_fault(p.fault, NONE);
        flags_of(&p.head, flags);
        if (strcmp(flags, requests[i].want) != 0)
            fail_msg("got \"%s\", not \"%s\": %s", flags, requests[i].want, requests[i].text);
        parsed_free(&p);
    }
}

static void
a_length_is_read_up_to_63_bits(void **state)
{
    struct parsed p;

    parse_request(&p, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\n");
    assert_fault(p.fault, NONE);
    assert_true(p.head.content_length == INT64_MAX);
    parsed_free(&p);
}

/* --- limits ---------------------------------------------------------------------------------- */
static void
limits_hold_to_the_byte(void **state)
{
    const char *text = "GET /2345678 HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\n";
    struct h1_limits l = {
        .head_bytes = (uint32_t)strlen(text), .target_bytes = 8, .fields = 2, .trailer_bytes = 0};
    struct parsed p;

    parse(&p, str_of(text), false, HTTP_M_OTHER, &l);
    assert_fault(p.fault, NONE);
    parsed_free(&p);

    l.head_bytes--;
    parse(&p, str_of(text), false, HTTP_M_OTHER, &l);
    assert_fault(p.fault, HEAD_TOO_LARGE);
    parsed_free(&p);

    l.target_bytes--; /* told even when the head is too large as a whole */
    parse(&p, str_of(text), false, HTTP_M_OTHER, &l);
    assert_fault(p.fault, TARGET_LONG);
    parsed_free(&p);

    l = h1_default_limits;
    l.fields = 1;
    parse(&p, str_of(text), false, HTTP_M_OTHER, &l);
    assert_fault(p.fault, TOO_MANY_FIELDS);
    parsed_free(&p);
}

static void
many_fields_keep_their_order(void **state)
{
    char text[4096], name[16];
    int n = snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: a\r\n");
    struct parsed p;

    for (unsigned i = 1; i < 100; i++)
        n += snprintf(text + n, sizeof(text) - (size_t)n, "X-%u: %u\r\n", i, i);
    snprintf(text + n, sizeof(text) - (size_t)n, "\r\n");
    parse_request(&p, text);
    assert_fault(p.fault, NONE);
    assert_int_equal(p.head.n_fields, 100);
    for (unsigned i = 1; i < 100; i++) {
        snprintf(name, sizeof(name), "X-%u", i);
        assert_int_equal(p.head.fields[i].name_len, strlen(name));
        assert_memory_equal(p.head.fields[i].name, name, strlen(name));
        assert_memory_equal(p.head.fields[i].value, name + 2, strlen(name) - 2);
    }
    parsed_free(&p);
}

static void
connection_may_not_name_fields_without_end(void **state)
{
    char text[1024];
    int n = snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: a\r\nConnection: a");
    struct parsed p;

    for (unsigned i = 0; i < 64; i++)
        n += snprintf(text + n, sizeof(text) - (size_t)n, ",a");
    snprintf(text + n, sizeof(text) - (size_t)n, "\r\n\r\n");
    parse_request(&p, text);
    assert_fault(p.fault, TOO_MANY_FIELDS);
    parsed_free(&p);
}

static void
a_head_that_is_not_whole_is_refused(void **state)
{
    static const char *const parts[] = {"",
                                        "\r\n",
                                        "GET",
                                        "GET / HTTP/1.1\r\n",
                                        "GET / HTTP/1.1\r\nHost: a\r\n",
                                        "GET / HTTP/1.1\r\nHost: a\r\n\r\nmore\n",
                                        "GET / HTTP/1.1\r\nHost: a\r\n\r",
                                        "HTTP/1.1 200 OK\r\n",
                                        "HTTP/1.1 200 OK\r\nA: b\r\n",
                                        "HTTP/1.1 200 OK"};

    for (unsigned i = 0; i < MC_COUNT(parts); i++) {
        struct str s = str_of(parts[i]);
        struct http_head h;
        struct arena a;
        char *p = exact(s);

        arena_init(&a, NULL);
        assert_int_not_equal(h1_parse_request(&h, p, s.n, &h1_default_limits, &a), H1_NONE);
        assert_int_not_equal(h1_parse_response(&h, p, s.n, HTTP_M_GET, &h1_default_limits, &a),
                             H1_NONE);
        arena_drop(&a);
        free(p);
    }
}

/* --- responses ------------------------------------------------------------------------------- */
static void
a_plain_response_is_cut_into_its_parts(void **state)
{
    struct parsed p;

    parse_response(&p, "HTTP/1.1 404 Not  F\xf6und \r\nContent-Length: 3\r\n\r\n", HTTP_M_GET);
    assert_fault(p.fault, NONE);
    assert_true(p.head.is_response);
    assert_int_equal(p.head.status, 404);
    assert_str(p.head.reason, "Not  F\xf6und ");
    assert_int_equal(p.head.body, HTTP_BODY_LENGTH);
    assert_int_equal(p.head.content_length, 3);
    assert_false(p.head.close);
    parsed_free(&p);
}

static const struct {
    const char *text;
    enum http_method method;
    enum http_body body;
    bool close;
} responses[] = {
    {"HTTP/1.1 200 OK\r\n\r\n", HTTP_M_GET, HTTP_BODY_CLOSE, true},
    {"HTTP/1.1 200 \r\n\r\n", HTTP_M_GET, HTTP_BODY_CLOSE, true},
    {"HTTP/1.1 200\r\n\r\n", HTTP_M_GET, HTTP_BODY_CLOSE, true},
    {"HTTP/1.1 999 ?\r\nContent-Length: 1\r\n\r\n", HTTP_M_GET, HTTP_BODY_LENGTH, false},
    {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", HTTP_M_GET, HTTP_BODY_LENGTH, false},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", HTTP_M_GET, HTTP_BODY_CHUNKED, false},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", HTTP_M_GET,
     HTTP_BODY_LENGTH, false},
    {"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", HTTP_M_GET, HTTP_BODY_LENGTH, true},
    {"HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n", HTTP_M_GET,
     HTTP_BODY_LENGTH, false},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", HTTP_M_GET,
     HTTP_BODY_LENGTH, true},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", HTTP_M_HEAD, HTTP_BODY_NONE, false},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", HTTP_M_HEAD, HTTP_BODY_NONE, false},
    {"HTTP/1.1 200 OK\r\n\r\n", HTTP_M_HEAD, HTTP_BODY_NONE, false},
    {"HTTP/1.1 200 OK\r\n\r\n", HTTP_M_CONNECT, HTTP_BODY_NONE, false},
    {"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", HTTP_M_GET, HTTP_BODY_NONE, false},
    {"HTTP/1.1 204 No Content\r\n\r\n", HTTP_M_GET, HTTP_BODY_NONE, false},
    {"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", HTTP_M_GET, HTTP_BODY_NONE, false},
    {"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", HTTP_M_GET, HTTP_BODY_NONE, true},
    {"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", HTTP_M_GET, HTTP_BODY_NONE,
     true},
    {"HTTP/1.1 100 Continue\r\n\r\n", HTTP_M_POST, HTTP_BODY_NONE, false},
    {"HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n", HTTP_M_GET, HTTP_BODY_NONE,
     true},
    {"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
     HTTP_M_GET, HTTP_BODY_NONE, false},
    {"HTTP/1.1 200 OK\r\nHost: a\r\nHost: b\r\nExpect: x\r\nContent-Length: 1\r\n\r\n", HTTP_M_GET,
     HTTP_BODY_LENGTH, false},
};

static void
the_body_of_a_response_is_framed(void **state)
{
    for (unsigned i = 0; i < MC_COUNT(responses); i++) {
        struct parsed p;

        parse_response(&p, responses[i].text, responses[i].method);
        assert_fault(p.fault, NONE);
        if (p.head.body != responses[i].body || p.head.close != responses[i].close)
            fail_msg("body %d, close %d: %s", p.head.body, p.head.close, responses[i].text);
        parsed_free(&p);
    }
}

static void
the_length_of_a_body_that_is_not_sent_is_kept(void **state)
{
    struct parsed p;

    parse_response(&p, "HTTP/1.1 200 OK\r\nContent-Length: 512\r\n\r\n", HTTP_M_HEAD);
    assert_true(p.head.has_content_length);
    assert_int_equal(p.head.content_length, 512);
    assert_int_equal(p.head.body, HTTP_BODY_NONE);
    parsed_free(&p);
}

static void
an_upgraded_response_says_so(void **state)
{
    struct parsed p;

    parse_response(&p,
                   "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                   "Upgrade: websocket\r\n\r\n",
                   HTTP_M_GET);
    assert_true(p.head.upgrade);
    assert_int_equal(p.head.status, 101);
    parsed_free(&p);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_ends_at_its_empty_line_however_it_arrives),
        cmocka_unit_test(what_follows_a_head_is_left_alone),
        cmocka_unit_test(empty_lines_before_a_request_belong_to_its_head),
        cmocka_unit_test(bare_line_feeds_end_a_head_so_that_it_can_be_refused),
        cmocka_unit_test(a_plain_request_is_cut_into_its_parts),
        cmocka_unit_test(a_method_may_be_any_token),
        cmocka_unit_test(the_four_forms_of_a_target_are_read),
        cmocka_unit_test(a_good_host_becomes_the_authority),
        cmocka_unit_test(connection_and_framing_are_settled),
        cmocka_unit_test(a_length_is_read_up_to_63_bits),
        cmocka_unit_test(limits_hold_to_the_byte),
        cmocka_unit_test(many_fields_keep_their_order),
        cmocka_unit_test(connection_may_not_name_fields_without_end),
        cmocka_unit_test(a_head_that_is_not_whole_is_refused),
        cmocka_unit_test(a_plain_response_is_cut_into_its_parts),
        cmocka_unit_test(the_body_of_a_response_is_framed),
        cmocka_unit_test(the_length_of_a_body_that_is_not_sent_is_kept),
        cmocka_unit_test(an_upgraded_response_says_so),
    };

    return RUN_ON_ALL_VECTORS(tests);
}
