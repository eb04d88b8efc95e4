/* SPDX-License-Identifier: BSD-2-Clause
 *
 * h1_malformed_test.c - what must be refused, by which fault and status.
 */
#include "http/h1_testkit.h"

#include "base/rand.h"

struct malformed {
    struct str text;
    enum h1_fault fault;
    unsigned status;
};

#define BAD(text, fault, status)                       \
    {                                                  \
        {(text), sizeof(text) - 1}, H1_##fault, status \
    }
/* A request that is good but for its line, its fields, its Host, its framing. */
#define LINE(line, fault, status) BAD(line "\r\nHost: a\r\n\r\n", fault, status)
#define FIELD(field, fault, status) \
    BAD("GET / HTTP/1.1\r\nHost: a\r\n" field "\r\n\r\n", fault, status)
#define HOST(host, fault) BAD("GET / HTTP/1.1\r\nHost:" host "\r\n\r\n", fault, 400)
#define BODY(fields, fault, status) \
    BAD("POST / HTTP/1.1\r\nHost: a\r\n" fields "\r\n\r\n", fault, status)

static const struct malformed bad_requests[] = {
    /* start line: its shape */
    LINE("GET", REQUEST_LINE, 400),
    LINE("GET ", REQUEST_LINE, 400),
    LINE("GET /", REQUEST_LINE, 400),
    LINE("GET / ", REQUEST_LINE, 400),
    LINE(" GET / HTTP/1.1", REQUEST_LINE, 400),
    LINE("\tGET / HTTP/1.1", REQUEST_LINE, 400),
    LINE("GET  / HTTP/1.1", REQUEST_LINE, 400),
    LINE("GET /  HTTP/1.1", REQUEST_LINE, 400),
    LINE("GET / HTTP/1.1 ", REQUEST_LINE, 400),
    LINE("GET /a b HTTP/1.1", REQUEST_LINE, 400),
    LINE("GET / HTTP/1.1\t", REQUEST_LINE, 400),
    LINE("GET HTTP/1.1", REQUEST_LINE, 400),
    LINE("GET  HTTP/1.1", REQUEST_LINE, 400),
    BAD("\r\n\r\n\r\n\r\n\r\n", REQUEST_LINE, 400),
    /* method */
    LINE("G(T / HTTP/1.1", METHOD, 400),
    LINE("GET\t/ HTTP/1.1", METHOD, 400),
    LINE("GET:/ HTTP/1.1", METHOD, 400),
    LINE("G\xc9T / HTTP/1.1", METHOD, 400),
    LINE("\"GET\" / HTTP/1.1", METHOD, 400),
    LINE("G\0T / HTTP/1.1", NUL, 400),
    LINE("G\x01T / HTTP/1.1", CONTROL, 400),
    BAD("\x16\x03\x01\x02\n\n", CONTROL, 400), /* TLS to a plain port */
    /* target */
    LINE("GET /a#b HTTP/1.1", TARGET, 400),
    LINE("GET /\xc3\xa9 HTTP/1.1", TARGET, 400),
    LINE("GET /a\tb HTTP/1.1", TARGET, 400),
    LINE("GET /a\x7f HTTP/1.1", CONTROL, 400),
    LINE("GET /a\0b HTTP/1.1", NUL, 400),
    LINE("GET /a\x1b HTTP/1.1", CONTROL, 400),
    LINE("GET a HTTP/1.1", TARGET, 400),
    LINE("GET example.org/ HTTP/1.1", TARGET, 400),
    LINE("GET ?q HTTP/1.1", TARGET, 400),
    LINE("GET * HTTP/1.1", TARGET, 400),
    LINE("OPTIONS *a HTTP/1.1", TARGET, 400),
    LINE("OPTIONS a HTTP/1.1", TARGET, 400),
    LINE("GET ftp://a/ HTTP/1.1", TARGET, 400),
    LINE("GET http:/a HTTP/1.1", TARGET, 400),
    LINE("GET http:// HTTP/1.1", TARGET, 400),
    LINE("GET http:///p HTTP/1.1", TARGET, 400),
    LINE("GET http://?q HTTP/1.1", TARGET, 400),
    LINE("GET http://:80/ HTTP/1.1", TARGET, 400),
    LINE("GET http://me@a/ HTTP/1.1", TARGET, 400),
    LINE("GET http://me:pw@a/ HTTP/1.1", TARGET, 400),
    LINE("GET http://a:b/ HTTP/1.1", TARGET, 400),
    LINE("GET http://a\\b/ HTTP/1.1", TARGET, 400),
    LINE("GET http://[::1/ HTTP/1.1", TARGET, 400),
    LINE("CONNECT a HTTP/1.1", TARGET, 400),
    LINE("CONNECT a: HTTP/1.1", TARGET, 400),
    LINE("CONNECT a9 HTTP/1.1", TARGET, 400),
    LINE("CONNECT / HTTP/1.1", TARGET, 400),
    LINE("CONNECT http://a:1/ HTTP/1.1", TARGET, 400),
    LINE("CONNECT [::1] HTTP/1.1", TARGET, 400),
    LINE("CONNECT a:65536 HTTP/1.1", TARGET, 400),
    /* version */
    LINE("GET / HTTP/1", VERSION, 400),
    LINE("GET / HTTP/1.", VERSION, 400),
    LINE("GET / HTTP/1.10", VERSION, 400),
    LINE("GET / HTTP/01.1", VERSION, 400),
    LINE("GET / HTTP/1,1", VERSION, 400),
    LINE("GET / HTTP/a.b", VERSION, 400),
    LINE("GET / http/1.1", VERSION, 400),
    LINE("GET / HTP/1.1", VERSION, 400),
    LINE("GET / HTTPS/1.1", VERSION, 400),
    LINE("GET / HTTP/2.0", VERSION_UNSUPPORTED, 505),
    LINE("GET / HTTP/0.9", VERSION_UNSUPPORTED, 505),
    LINE("GET / HTTP/3.1", VERSION_UNSUPPORTED, 505),
    BAD("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", VERSION_UNSUPPORTED, 505),
    LINE("GET / HTTP/1.1\0", NUL, 400),
    LINE("GET / HTTP/1.1\x0b", CONTROL, 400),
    /* line ends */
    BAD("GET / HTTP/1.1\nHost: a\n\n", BARE_LF, 400),
    BAD("GET / HTTP/1.1\r\nHost: a\n\r\n", BARE_LF, 400),
    BAD("GET / HTTP/1.1\r\nHost: a\r\n\n", BARE_LF, 400),
    BAD("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", BARE_LF, 400),
    BAD("GET\n/ HTTP/1.1\r\nHost: a\r\n\r\n", BARE_LF, 400),
    BAD("GET /\nHTTP/1.1\r\nHost: a\r\n\r\n", BARE_LF, 400),
    BAD("GET / HTTP/1.1\rHost: a\r\n\r\n", BARE_CR, 400),
    BAD("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", BARE_CR, 400),
    BAD("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", BARE_CR, 400),
    BAD("GET\r/ HTTP/1.1\r\nHost: a\r\n\r\n", BARE_CR, 400),
    FIELD("A: b\rc", BARE_CR, 400),
    FIELD("A: b\r\rX: d", BARE_CR, 400),
    FIELD("A: b\r", BARE_CR, 400),
    FIELD("A\r: b", BARE_CR, 400),
    FIELD("A: b\nTransfer-Encoding: chunked", BARE_LF, 400),
    FIELD("A\nb: c", BARE_LF, 400),
    /* field lines */
    BAD("GET / HTTP/1.1\r\n Host: a\r\n\r\n", LEADING_SPACE, 400),
    BAD("GET / HTTP/1.1\r\n\tHost: a\r\n\r\n", LEADING_SPACE, 400),
    FIELD("A: b\r\n c", OBS_FOLD, 400),
    FIELD("A: b\r\n\tc: d", OBS_FOLD, 400),
    FIELD("A:\r\n b", OBS_FOLD, 400),
    FIELD("A: b\r\n ", OBS_FOLD, 400),
    FIELD("A : b", SPACE_BEFORE_COLON, 400),
    FIELD("A\t: b", SPACE_BEFORE_COLON, 400),
    FIELD("Content-Length : 5", SPACE_BEFORE_COLON, 400),
    FIELD("Transfer-Encoding \t: chunked", SPACE_BEFORE_COLON, 400),
    FIELD(": b", FIELD_NAME, 400),
    FIELD(":", FIELD_NAME, 400),
    FIELD("A b: c", FIELD_NAME, 400),
    FIELD("A(b): c", FIELD_NAME, 400),
    FIELD("\"A\": c", FIELD_NAME, 400),
    FIELD("A/b: c", FIELD_NAME, 400),
    FIELD("A@: c", FIELD_NAME, 400),
    FIELD("\xc3\x84: c", FIELD_NAME, 400),
    FIELD("\xef\xbb\xbfHost: c", FIELD_NAME, 400),
    FIELD("A", NO_COLON, 400),
    FIELD("A b c", NO_COLON, 400),
    FIELD("GET /admin HTTP/1.1", NO_COLON, 400),
    FIELD("A\0: b", NUL, 400),
    FIELD("A: b\0", NUL, 400),
    FIELD("A: \0b", NUL, 400),
    FIELD("A\x01: b", CONTROL, 400),
    FIELD("A: b\x08", CONTROL, 400),
    FIELD("A: b\x7f", CONTROL, 400),
    FIELD("A: b\x0b\x0c", CONTROL, 400),
    FIELD("A:\x1f", CONTROL, 400),
    FIELD("Transfer-Encoding:\x0b"
          "chunked",
          CONTROL, 400),
    /* Host */
    BAD("GET / HTTP/1.1\r\n\r\n", HOST_MISSING, 400),
    BAD("GET / HTTP/1.1\r\nHosts: a\r\n\r\n", HOST_MISSING, 400),
    BAD("GET http://a/ HTTP/1.1\r\n\r\n", HOST_MISSING, 400),
    FIELD("Host: b", HOST_TWICE, 400),
    FIELD("Host: a", HOST_TWICE, 400),
    FIELD("hOST:", HOST_TWICE, 400),
    BAD("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", HOST_TWICE, 400),
    HOST("a b", HOST_INVALID),
    HOST("a,b", HOST_INVALID),
    HOST("a/b", HOST_INVALID),
    HOST("http://a", HOST_INVALID),
    HOST("me@a", HOST_INVALID),
    HOST("a?b", HOST_INVALID),
    HOST("a#b", HOST_INVALID),
    HOST("a\\b", HOST_INVALID),
    HOST("\"a\"", HOST_INVALID),
    HOST("a:80:80", HOST_INVALID),
    HOST("a:http", HOST_INVALID),
    HOST("a:65536", HOST_INVALID),
    HOST("a:000080", HOST_INVALID),
    HOST("a:+80", HOST_INVALID),
    HOST("a:-1", HOST_INVALID),
    HOST(":80", HOST_INVALID),
    HOST("::1", HOST_INVALID),
    HOST("[::1", HOST_INVALID),
    HOST("[::1]x", HOST_INVALID),
    HOST("[::1]80", HOST_INVALID),
    HOST("[]", HOST_INVALID),
    HOST("[a]", HOST_INVALID),
    HOST("[::1%25eth0]", HOST_INVALID),
    HOST("[v1.a]", HOST_INVALID),
    HOST("[1:2:3:4:5:6:7:8:9]", HOST_INVALID),
    HOST("a%", HOST_INVALID),
    HOST("a%4", HOST_INVALID),
    HOST("a%zz", HOST_INVALID),
    HOST("\xc3\xa4", HOST_INVALID),
    HOST("<a>", HOST_INVALID),
    BAD("GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n", HOST_INVALID, 400),
    BAD("GET http://a/ HTTP/1.1\r\nHost: b/c\r\n\r\n", HOST_INVALID, 400),
    BAD("GET / HTTP/1.0\r\nHost: a b\r\n\r\n", HOST_INVALID, 400),
    /* Content-Length */
    BODY("Content-Length:", CL_INVALID, 400),
    BODY("Content-Length: +5", CL_INVALID, 400),
    BODY("Content-Length: -5", CL_INVALID, 400),
    BODY("Content-Length: -0", CL_INVALID, 400),
    BODY("Content-Length: 0x5", CL_INVALID, 400),
    BODY("Content-Length: 5 5", CL_INVALID, 400),
    BODY("Content-Length: 5.0", CL_INVALID, 400),
    BODY("Content-Length: 5e1", CL_INVALID, 400),
    BODY("Content-Length: 5,", CL_INVALID, 400),
    BODY("Content-Length: ,5", CL_INVALID, 400),
    BODY("Content-Length: 5,,5", CL_INVALID, 400),
    BODY("Content-Length: five", CL_INVALID, 400),
    BODY("Content-Length: 5;", CL_INVALID, 400),
    BODY("Content-Length: \"5\"", CL_INVALID, 400),
    BODY("Content-Length: \xd9\xa5", CL_INVALID, 400),
    BODY("Content-Length: 9223372036854775808", CL_INVALID, 400),
    BODY("Content-Length: 18446744073709551616", CL_INVALID, 400),
    BODY("Content-Length: 18446744073709551621", CL_INVALID, 400),
    BODY("Content-Length: 99999999999999999999999999", CL_INVALID, 400),
    BODY("Content-Length: 5, 6", CL_DIFFER, 400),
    BODY("Content-Length: 5\r\nContent-Length: 6", CL_DIFFER, 400),
    BODY("Content-Length: 5\r\nA: b\r\ncontent-length: 0", CL_DIFFER, 400),
    BODY("Content-Length: 0, 5", CL_DIFFER, 400),
    /* Transfer-Encoding */
    BODY("Content-Length: 5\r\nTransfer-Encoding: chunked", CL_AND_TE, 400),
    BODY("Transfer-Encoding: chunked\r\nContent-Length: 5", CL_AND_TE, 400),
    BODY("Transfer-Encoding: x\r\nContent-Length: 5", CL_AND_TE, 400),
    BODY("Transfer-Encoding:\r\nContent-Length: 5", CL_AND_TE, 400),
    BODY("Content-Length: 5\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked",
         CL_AND_TE, 400),
    BAD("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", TE_HTTP10, 400),
    BAD("POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: x\r\n\r\n", TE_HTTP10,
        400),
    BODY("Transfer-Encoding:", TE_NOT_CHUNKED, 400),
    BODY("Transfer-Encoding: identity", TE_NOT_CHUNKED, 400),
    BODY("Transfer-Encoding: gzip", TE_NOT_CHUNKED, 400),
    BODY("Transfer-Encoding: xchunked", TE_NOT_CHUNKED, 400),
    BODY("Transfer-Encoding: chunkedx", TE_NOT_CHUNKED, 400),
    BODY("Transfer-Encoding: chunked, identity", TE_NOT_CHUNKED, 400),
    BODY("Transfer-Encoding: chunked, gzip", TE_NOT_CHUNKED, 400),
    BODY("Transfer-Encoding: chunked, chunked", TE_NOT_CHUNKED, 400),
    BODY("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", TE_NOT_CHUNKED, 400),
    BODY("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", TE_NOT_CHUNKED, 400),
    BODY("Transfer-Encoding: chunked,", TE_NOT_CHUNKED, 400),
    BODY("Transfer-Encoding: ,chunked", TE_NOT_CHUNKED, 400),
    BODY("Transfer-Encoding: chunked;a=b", TE_NOT_CHUNKED, 400),
    BODY("Transfer-Encoding: \"chunked\"", TE_NOT_CHUNKED, 400),
    BODY("Transfer-Encoding: chunked chunked", TE_NOT_CHUNKED, 400),
    BODY("Transfer-Encoding: a;b=\"c,chunked\"", TE_NOT_CHUNKED, 400),
    BODY("Transfer-Encoding: gzip, chunked", TE_UNKNOWN, 501),
    BODY("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", TE_UNKNOWN, 501),
    BODY("Transfer-Encoding: identity, chunked", TE_UNKNOWN, 501),
    /* Expect */
    FIELD("Expect: 200-ok", EXPECT_UNKNOWN, 417),
    FIELD("Expect:", EXPECT_UNKNOWN, 417),
    FIELD("Expect: 100-continue, else", EXPECT_UNKNOWN, 417),
    FIELD("Expect: 100-continue;q=1", EXPECT_UNKNOWN, 417),
};

#define ANSWER(fields, fault) BAD("HTTP/1.1 200 OK\r\n" fields "\r\n\r\n", fault, 0)

static const struct malformed bad_responses[] = {
    BAD("\r\nHTTP/1.1 200 OK\r\n\r\n", STATUS_LINE, 0),
    BAD("200 OK\r\n\r\n", STATUS_LINE, 0),
    BAD("ICY 200 OK\r\n\r\n", STATUS_LINE, 0),
    BAD(" HTTP/1.1 200 OK\r\n\r\n", STATUS_LINE, 0),
    BAD("GET / HTTP/1.1\r\n\r\n", STATUS_LINE, 0),
    BAD("HTTP/1.1\r\n\r\n", STATUS_LINE, 0),
    BAD("HTTP/1.1 \r\n\r\n", STATUS_LINE, 0),
    BAD("HTTP/1.1  200 OK\r\n\r\n", STATUS_LINE, 0),
    BAD("HTTP/1.1 20 OK\r\n\r\n", STATUS_LINE, 0),
    BAD("HTTP/1.1 2000 OK\r\n\r\n", STATUS_LINE, 0),
    BAD("HTTP/1.1 200OK\r\n\r\n", STATUS_LINE, 0),
    BAD("HTTP/1.1 200\tOK\r\n\r\n", STATUS_LINE, 0),
    BAD("HTTP/1.1 099 OK\r\n\r\n", STATUS_LINE, 0),
    BAD("HTTP/1.1 -20 OK\r\n\r\n", STATUS_LINE, 0),
    BAD("HTTP/1.1 2x0 OK\r\n\r\n", STATUS_LINE, 0),
    BAD("HTTP/1.1\t200 OK\r\n\r\n", VERSION, 0),
    BAD("HTTP/1 200 OK\r\n\r\n", VERSION, 0),
    BAD("HTTP/1.1x 200 OK\r\n\r\n", VERSION, 0),
    BAD("HTTP/2 200 OK\r\n\r\n", VERSION, 0),
    BAD("HTTP/2.0 200 OK\r\n\r\n", VERSION_UNSUPPORTED, 0),
    BAD("HTTP/0.9 200 OK\r\n\r\n", VERSION_UNSUPPORTED, 0),
    BAD("HTTP/1.1 200 OK\n\n", BARE_LF, 0),
    BAD("HTTP/1.1 200 O\rK\r\n\r\n", BARE_CR, 0),
    BAD("HTTP/1.1 200 O\0K\r\n\r\n", NUL, 0),
    BAD("HTTP/1.1 200 O\x1bK\r\n\r\n", CONTROL, 0),
    BAD("HTTP/1.1 200 OK\r\n A: b\r\n\r\n", LEADING_SPACE, 0),
    ANSWER("A: b\r\n c", OBS_FOLD),
    ANSWER("A : b", SPACE_BEFORE_COLON),
    ANSWER("A b: c", FIELD_NAME),
    ANSWER(": c", FIELD_NAME),
    ANSWER("A", NO_COLON),
    ANSWER("A: b\0", NUL),
    ANSWER("A: b\x01", CONTROL),
    ANSWER("A: b\rc", BARE_CR),
    ANSWER("A: b\nc: d", BARE_LF),
    ANSWER("Content-Length: x", CL_INVALID),
    ANSWER("Content-Length: +1", CL_INVALID),
    ANSWER("Content-Length: 18446744073709551616", CL_INVALID),
    ANSWER("Content-Length: 1, 2", CL_DIFFER),
    ANSWER("Content-Length: 1\r\nContent-Length: 2", CL_DIFFER),
    ANSWER("Content-Length: 1\r\nTransfer-Encoding: chunked", CL_AND_TE),
    ANSWER("Transfer-Encoding: gzip", TE_NOT_CHUNKED),
    ANSWER("Transfer-Encoding: chunked, chunked", TE_NOT_CHUNKED),
    ANSWER("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip", TE_NOT_CHUNKED),
    ANSWER("Transfer-Encoding: gzip, chunked", TE_UNKNOWN),
    BAD("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", TE_HTTP10, 0),
    BAD("HTTP/1.1 304 No\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", CL_AND_TE, 0),
};

static void
refuse_all(const struct malformed *m, unsigned n, bool response)
{
    for (unsigned i = 0; i < n; i++, m++) {
        struct parsed p;

        parse(&p, m->text, response, HTTP_M_GET, &h1_default_limits);
        if (p.fault != m->fault)
            fail_msg("%s instead of %s: " STR_FMT, h1_fault_name(p.fault), h1_fault_name(m->fault),
                     STR_ARG(m->text));
        if (m->status)
            assert_int_equal(h1_fault_status(p.fault), m->status);
        parsed_free(&p);
    }
}

static void
malformed_requests_are_refused_by_name(void **state)
{
    _Static_assert(MC_COUNT(bad_requests) >= 80, "a table worth its name");
    refuse_all(bad_requests, MC_COUNT(bad_requests), false);
}

static void
malformed_responses_are_refused_by_name(void **state)
{
    _Static_assert(MC_COUNT(bad_responses) >= 30, "a table worth its name");
    refuse_all(bad_responses, MC_COUNT(bad_responses), true);
}

/* --- all vector units agree ------------------------------------------------------------------ */
static const char *const seeds[] = {
    "GET /index.html?a=b&c=d HTTP/1.1\r\nHost: www.example.org\r\nUser-Agent: Mozilla/5.0 (X11; "
    "Linux x86_64; rv:109.0) Gecko/20100101 Firefox/115.0\r\nAccept: text/html,*/*;q=0.8\r\n"
    "Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\n"
    "Connection: keep-alive\r\nCookie: sid=0123456789abcdef0123456789abcdef\r\n\r\n",
    "POST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n"
    "Connection: te, x-b\r\nTE: trailers\r\nX-B: 1\r\n\r\n",
    "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n"
    "Content-Type: text/html; charset=utf-8\r\nContent-Length: 12345\r\nETag: \"5e-6\"\r\n\r\n",
};

/* Bytes that matter to the parser, to be met more often than others. */
static const char spice[] = "\r\n\r\n\r\n \t:,;#/?*@[]%0159aA\0\x7f\x80\xff\"";

static size_t
mutate(struct rng *r, char *p, size_t n)
{
    for (unsigned edits = 1 + rng_below(r, 4); edits > 0; edits--) {
        size_t at = rng_below(r, (uint32_t)n), len = 1 + rng_below(r, 8);

        switch (rng_below(r, 4)) {
        case 0: p[at] = (char)rng_next(r); break;
        case 1: p[at] = spice[rng_below(r, sizeof(spice) - 1)]; break;
        case 2: /* lose some */
            if (len < n - at) {
                memmove(p + at, p + at + len, n - at - len);
                n -= len;
            }
            break;
        case 3: /* repeat some */
            if (len < n - at)
                memmove(p + at + len, p + at, n - at - len);
            break;
        }
    }
    return n;
}

/* A head in a form that can be compared: everything by value, pointers as offsets. */
struct outcome {
    size_t head_len;
    enum h1_fault fault;
    struct http_head head;
    struct http_field fields[100];
};

static void
run(struct outcome *o, char *p, size_t n, bool response)
{
    struct arena a;
    size_t scanned = 0;

    memset(o, 0, sizeof(*o));
    arena_init(&a, NULL);
    if (h1_head_end(p, n, &scanned, &o->head_len)) {
        o->fault = response ? h1_parse_response(&o->head, p, o->head_len, HTTP_M_GET,
                                                &h1_default_limits, &a)
                            : h1_parse_request(&o->head, p, o->head_len, &h1_default_limits, &a);
        if (o->head.n_fields)
            memcpy(o->fields, o->head.fields, o->head.n_fields * sizeof(o->fields[0]));
    }
    o->head.fields = NULL;
    if (o->head.path.n && (o->head.path.p < p || o->head.path.p >= p + n))
        o->head.path.p = NULL; /* made in the arena */
    arena_drop(&a);
}

static void
assert_same(const struct outcome *a, const struct outcome *b)
{
    assert_int_equal(a->head_len, b->head_len);
    assert_int_equal(a->fault, b->fault);
    assert_memory_equal(&a->head, &b->head, sizeof(a->head));
    for (unsigned i = 0; i < a->head.n_fields; i++) {
        assert_ptr_equal(a->fields[i].name, b->fields[i].name);
        assert_ptr_equal(a->fields[i].value, b->fields[i].value);
        assert_int_equal(a->fields[i].name_len, b->fields[i].name_len);
        assert_int_equal(a->fields[i].value_len, b->fields[i].value_len);
        assert_int_equal(a->fields[i].id, b->fields[i].id);
    }
}

static void
mutated_heads_mean_the_same_to_every_unit(void **state)
{
    static struct outcome scalar, other; /* zeroed by memset, padding too */
    unsigned accepted = 0;
    struct rng r;

    rng_seed(&r, 2024);
    for (unsigned round = 0; round < 30000; round++) {
        unsigned seed = rng_below(&r, MC_COUNT(seeds));
        size_t n = strlen(seeds[seed]);
        char room[1024], *p;

        memcpy(room, seeds[seed], n);
        n = mutate(&r, room, n);
        p = exact((struct str){room, n});
        h1_vector_use("scalar");
        run(&scalar, p, n, seed == 2);
        for (unsigned u = 1; u < MC_COUNT(vector_units); u++) {
            h1_vector_use(vector_units[u]);
            run(&other, p, n, seed == 2);
            assert_same(&scalar, &other);
        }
        accepted += scalar.head_len > 0 && !scalar.fault;
        free(p);
    }
    assert_in_range(accepted, 30000 / 10, 30000); /* the edits were neither too wild nor too tame */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_requests_are_refused_by_name),
        cmocka_unit_test(malformed_responses_are_refused_by_name),
    };
    const struct CMUnitTest comparisons[] = {
        cmocka_unit_test(mutated_heads_mean_the_same_to_every_unit),
    };

    return RUN_ON_ALL_VECTORS(tests) +
           cmocka_run_group_tests_name("http/h1_malformed", comparisons, NULL, NULL);
}
