/* SPDX-License-Identifier: BSD-2-Clause */
#include "http/h1_testkit.h"

#include "base/rand.h"

/* Writes p's head and compares; the room is exactly what h1_write_bound() asks for. */
static void
assert_written(const struct parsed *p, const struct h1_write *w, const char *want)
{
    size_t bound = h1_write_bound(&p->head, w);
    char *dst = malloc(bound);
    size_t n = p->head.is_response ? h1_write_response(dst, &p->head, w)
                                   : h1_write_request(dst, &p->head, w);

    assert_true(n <= bound);
    if (n != strlen(want) || memcmp(dst, want, n) != 0)
        fail_msg("wrote:\n%.*s\nnot:\n%s", (int)n, dst, want);
    free(dst);
}

static void
assert_request(const char *text, const struct h1_write *w, const char *want)
{
    struct parsed p;

    parse_request(&p, text);
    assert_fault(p.fault, NONE);
    assert_written(&p, w, want);
    parsed_free(&p);
}

static void
assert_response(const char *text, const struct h1_write *w, const char *want)
{
    struct parsed p;

    parse_response(&p, text, HTTP_M_GET);
    assert_fault(p.fault, NONE);
    assert_written(&p, w, want);
    parsed_free(&p);
}

static const struct h1_write plain = {.body = HTTP_BODY_NONE};

static void
a_request_goes_on_in_its_order_with_host_first(void **state)
{
    assert_request(
        "GET /a?b HTTP/1.1\r\nuser-AGENT: x\r\nHost: example.org\r\nAccept: */*\r\n\r\n", &plain,
        "GET /a?b HTTP/1.1\r\nHost: example.org\r\nuser-AGENT: x\r\nAccept: */*\r\n\r\n");
}

static void
what_was_written_oddly_is_written_evenly(void **state)
{
    assert_request("GET / HTTP/1.1\r\nHost:a\r\nA:1\r\nB:  2\r\nC: 3 \r\nD:\t4\r\nE: 5\r\nF:\r\n"
                   "G: \r\nH: 8\r\nI: 9\r\n\r\n",
                   &plain,
                   "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: 5\r\nF: \r\n"
                   "G: \r\nH: 8\r\nI: 9\r\n\r\n");
}

static void
every_form_of_a_target_is_sent_on_in_its_place(void **state)
{
    assert_request("GET http://b:81/p?q HTTP/1.1\r\nHost: a\r\n\r\n", &plain,
                   "GET /p?q HTTP/1.1\r\nHost: b:81\r\n\r\n");
    assert_request("GET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n", &plain,
                   "GET /?q HTTP/1.1\r\nHost: b\r\n\r\n");
    assert_request("OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n", &plain,
                   "OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n");
    assert_request("CONNECT b:443 HTTP/1.1\r\nHost: a\r\n\r\n", &plain,
                   "CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n");
    assert_request("GET / HTTP/1.0\r\n\r\n", &plain, "GET / HTTP/1.1\r\nHost: \r\n\r\n");
}

static void
what_belongs_to_the_connection_stays_behind(void **state)
{
    assert_request("GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nConnection: keep-alive, X-Hop ,x-late\r\n"
                   "Keep-Alive: 5\r\nX-Hop: 1\r\nProxy-Connection: x\r\nUpgrade: y\r\nB: 2\r\n"
                   "X-Hops: 1\r\nX-LATE: 1\r\nHTTP2-Settings: z\r\nTE: gzip\r\n\r\n",
                   &plain, "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nX-Hops: 1\r\n\r\n");
}

static void
connection_cannot_drop_what_is_meant_for_all(void **state)
{
    const struct h1_write w = {.body = HTTP_BODY_LENGTH, .content_length = 3};

    assert_request(
        "POST / HTTP/1.1\r\nHost: a\r\n"
        "Connection: host, content-length, authorization, cookie, x-forwarded-for, "
        "cache-control\r\nCache-Control: c\r\n"
        "Authorization: me\r\nCookie: b\r\nX-Forwarded-For: c\r\nContent-Length: 3\r\n\r\n",
        &w,
        "POST / HTTP/1.1\r\nHost: a\r\nCache-Control: c\r\nAuthorization: me\r\nCookie: b\r\n"
        "X-Forwarded-For: c\r\nContent-Length: 3\r\n\r\n");
}

static void
framing_is_written_anew(void **state)
{
    const char *text = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
                       "content-length: 3\r\nA: b\r\n\r\n";
    struct h1_write w = {.body = HTTP_BODY_CHUNKED};

    assert_request(text, &w,
                   "POST / HTTP/1.1\r\nHost: a\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n");
    w = (struct h1_write){.body = HTTP_BODY_LENGTH, .content_length = UINT64_MAX};
    assert_request(text, &w,
                   "POST / HTTP/1.1\r\nHost: a\r\nA: b\r\n"
                   "Content-Length: 18446744073709551615\r\n\r\n");
    w = (struct h1_write){.body = HTTP_BODY_LENGTH, .content_length = 0};
    assert_request(text, &w, "POST / HTTP/1.1\r\nHost: a\r\nA: b\r\nContent-Length: 0\r\n\r\n");
    assert_request(text, &plain, "POST / HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\n");
}

static void
trailers_are_asked_for_when_the_client_did(void **state)
{
    const char *text = "GET / HTTP/1.1\r\nHost: a\r\nTE: gzip, trailers\r\nConnection: TE\r\n\r\n";
    struct h1_write w = {.body = HTTP_BODY_NONE};

    assert_request(text, &w, "GET / HTTP/1.1\r\nHost: a\r\nConnection: TE\r\nTE: trailers\r\n\r\n");
    w.connection = "keep-alive";
    assert_request(
        text, &w,
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, TE\r\nTE: trailers\r\n\r\n");
    w.drop = FIELD_BIT(TE);
    assert_request(text, &w, "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
}

static void
fields_are_dropped_and_added(void **state)
{
    const struct http_field add[] = {
        {.name = "Via", .name_len = 3, .value = "1.1 m", .value_len = 5, .id = FIELD_VIA},
        {.name = "X-Empty", .name_len = 7, .id = FIELD_OTHER},
    };
    const struct h1_write w = {
        .drop = FIELD_BIT(COOKIE) | FIELD_BIT(VIA),
        .add = add,
        .n_add = 2,
        .body = HTTP_BODY_NONE,
        .connection = "close",
    };

    assert_request(
        "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nCookie: x\r\nB: 2\r\nVia: y\r\nCookie: z\r\n\r\n", &w,
        "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nVia: 1.1 m\r\nX-Empty: \r\n"
        "Connection: close\r\n\r\n");
}

static void
fields_from_elsewhere_are_copied_too(void **state)
{
    struct http_field f[] = {
        {.name = "A", .name_len = 1, .value = "1", .value_len = 1},
        {.name = "B", .name_len = 1, .value = NULL, .value_len = 0},
    };
    struct parsed p = {.head = {.method_text = STR("GET"),
                                .method = HTTP_M_GET,
                                .path = STR("/"),
                                .authority = STR("a"),
                                .fields = f,
                                .n_fields = 2}};

    assert_written(&p, &plain, "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: \r\n\r\n");
}

/* --- responses ------------------------------------------------------------------------------- */
static void
a_response_goes_on_as_http_1_1(void **state)
{
    const struct h1_write w = {
        .body = HTTP_BODY_LENGTH, .content_length = 2, .connection = "keep-alive"};

    assert_response("HTTP/1.0 200 Fine by me\r\nServer: s\r\nContent-Length: 2\r\n"
                    "Connection: close\r\nHost: odd\r\nDate: d\r\n\r\n",
                    &w,
                    "HTTP/1.1 200 Fine by me\r\nServer: s\r\nHost: odd\r\nDate: d\r\n"
                    "Content-Length: 2\r\nConnection: keep-alive\r\n\r\n");
    assert_response("HTTP/1.1 404\r\n\r\n", &plain, "HTTP/1.1 404 \r\n\r\n");
}

static void
a_response_of_our_own_gets_its_standard_reason(void **state)
{
    struct parsed p = {.head = {.is_response = true, .status = 502}};
    const struct h1_write w = {.body = HTTP_BODY_CLOSE, .connection = "close"};

    assert_written(&p, &w, "HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n\r\n");
}

static void
the_length_of_an_unsent_body_is_passed_on(void **state)
{
    const struct h1_write w = {.body = HTTP_BODY_NONE, .keep_content_length = true};

    assert_response("HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nETag: x\r\n\r\n", &w,
                    "HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 7\r\n\r\n");
    assert_response("HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", &w,
                    "HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n");
    assert_response("HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nETag: x\r\n\r\n", &plain,
                    "HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n");
}

/* --- chunks ---------------------------------------------------------------------------------- */
static void
a_chunk_header_stands_right_before_its_data(void **state)
{
    char room[18];

    assert_int_equal(h1_chunk_header(room + 18, 0x1a2b), 6);
    assert_memory_equal(room + 12, "1a2b\r\n", 6);
    assert_int_equal(h1_chunk_header(room + 18, 5), 3);
    assert_memory_equal(room + 15, "5\r\n", 3);
    assert_int_equal(h1_chunk_header(room + 18, UINT64_MAX), 18);
    assert_memory_equal(room, "ffffffffffffffff\r\n", 18);
}

static void
the_last_chunk_carries_the_trailers(void **state)
{
    const struct http_field t[] = {
        {.name = "A", .name_len = 1, .value = "b", .value_len = 1},
        {.name = "C", .name_len = 1},
    };
    char room[64];

    assert_int_equal(h1_last_chunk(room, NULL, 0), 5);
    assert_memory_equal(room, "0\r\n\r\n", 5);
    assert_true(h1_last_chunk_bound(t, 2) <= sizeof(room));
    assert_int_equal(h1_last_chunk(room, t, 2), 16);
    assert_memory_equal(room, "0\r\nA: b\r\nC: \r\n\r\n", 16);
}

/* --- there and back -------------------------------------------------------------------------- */
static void
what_is_written_is_read_as_the_same(void **state)
{
    static const char *const values[] = {"", "a", "a b", "\xff", "a,  b", "x: y"};
    static const char *const ends[] = {"", " ", "\t ", "  "};
    struct rng r;

    rng_seed(&r, 5);
    for (unsigned round = 0; round < 2000; round++) {
        char text[4096], out[8192];
        int n = sprintf(text, "PUT /x HTTP/1.1\r\nHost: h\r\n");
        struct h1_write w = {.body = HTTP_BODY_CHUNKED};
        struct parsed a, b;
        size_t len;

        for (unsigned f = rng_below(&r, 50); f > 0; f--)
            n += sprintf(text + n, "F%u:%s%s%s\r\n", f, ends[rng_below(&r, 4)],
                         values[rng_below(&r, 6)], ends[rng_below(&r, 4)]);
        sprintf(text + n, "\r\n");
        parse_request(&a, text);
        assert_fault(a.fault, NONE);
        assert_true(h1_write_bound(&a.head, &w) <= sizeof(out));
        len = h1_write_request(out, &a.head, &w);
        parse(&b, (struct str){out, len}, false, HTTP_M_OTHER, &h1_default_limits);
        assert_fault(b.fault, NONE);
        assert_int_equal(b.n, len);
        assert_int_equal(b.head.n_fields, a.head.n_fields + 1u); /* and Transfer-Encoding */
        for (unsigned i = 0; i < a.head.n_fields; i++)
            assert_true(
                str_eq(http_field_value(&a.head.fields[i]), http_field_value(&b.head.fields[i])));
        parsed_free(&a);
        parsed_free(&b);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_goes_on_in_its_order_with_host_first),
        cmocka_unit_test(what_was_written_oddly_is_written_evenly),
        cmocka_unit_test(every_form_of_a_target_is_sent_on_in_its_place),
        cmocka_unit_test(what_belongs_to_the_connection_stays_behind),
        cmocka_unit_test(connection_cannot_drop_what_is_meant_for_all),
        cmocka_unit_test(framing_is_written_anew),
        cmocka_unit_test(trailers_are_asked_for_when_the_client_did),
        cmocka_unit_test(fields_are_dropped_and_added),
        cmocka_unit_test(fields_from_elsewhere_are_copied_too),
        cmocka_unit_test(a_response_goes_on_as_http_1_1),
        cmocka_unit_test(a_response_of_our_own_gets_its_standard_reason),
        cmocka_unit_test(the_length_of_an_unsent_body_is_passed_on),
        cmocka_unit_test(a_chunk_header_stands_right_before_its_data),
        cmocka_unit_test(the_last_chunk_carries_the_trailers),
        cmocka_unit_test(what_is_written_is_read_as_the_same),
    };

    return RUN_ON_ALL_VECTORS(tests);
}
