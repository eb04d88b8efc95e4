/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Field lists of HTTP/2 become heads, or are refused by name.
 */
#include "http/h1_testkit.h"
#include "http/h2.h"

#define MAX_PAIRS 12

struct pair {
    const char *name, *value;
};

struct list {
    struct h2_fields fields;
    struct arena arena;
    struct http_head head;
    enum h2_fault fault;
};

static void
add(struct list *l, const char *name, const char *value)
{
    /* exact copies, so that a sanitizer sees a read too far */
    char *n = exact(str_of(name)), *v = exact(str_of(value));

    h2_fields_add(&l->fields, (struct str){n, strlen(name)}, (struct str){v, strlen(value)});
    free(n);
    free(v);
}

static void
begin(struct list *l, enum h2_section section)
{
    arena_init(&l->arena, NULL);
    h2_fields_init(&l->fields, section, &h1_default_limits, &l->arena);
}

static void
read_pairs(struct list *l, const struct pair pairs[MAX_PAIRS], bool end)
{
    begin(l, H2_REQUEST);
    for (unsigned i = 0; i < MAX_PAIRS && pairs[i].name != NULL; i++)
        add(l, pairs[i].name, pairs[i].value);
    l->fault = h2_read_request(&l->head, &l->fields, end);
}

#define GET                                                                \
    {":method", "GET"}, {":scheme", "https"}, {":authority", "a.example"}, \
    {                                                                      \
        ":path", "/"                                                       \
    }
#define POST                                                        \
    {":method", "POST"}, {":scheme", "https"}, {":authority", "a"}, \
    {                                                               \
        ":path", "/p"                                               \
    }

static void
a_request_becomes_a_head(void **state)
{
    struct list l;

    read_pairs(&l, (struct pair[MAX_PAIRS]){GET, {"accept", "*/*"}, {"x-empty", ""}}, true);
    assert_int_equal(l.fault, H2_NONE);
    assert_int_equal(l.head.major, 2);
    assert_int_equal(l.head.method, HTTP_M_GET);
    assert_str(l.head.authority, "a.example");
    assert_str(l.head.path, "/");
    assert_str(l.head.target, "/");
    assert_int_equal(l.head.n_fields, 2);
    assert_int_equal(l.head.body, HTTP_BODY_NONE);
    arena_drop(&l.arena);
}

static void
it_can_be_written_for_an_http1_server(void **state)
{
    struct list l;
    struct h1_write w = {.body = HTTP_BODY_NONE};
    char out[512];
    size_t n;

    read_pairs(&l, (struct pair[MAX_PAIRS]){GET, {"accept", "*/*"}, {"te", "trailers"}, {"b", "c"}},
               true);
    assert_int_equal(l.fault, H2_NONE);
    assert_true(h1_write_bound(&l.head, &w) <= sizeof(out));
    n = h1_write_request(out, &l.head, &w);
    assert_true(str_eq((struct str){out, n},
                       STR("GET / HTTP/1.1\r\nHost: a.example\r\naccept: */*\r\nb: c\r\n"
                           "Connection: TE\r\nTE: trailers\r\n\r\n")));
    arena_drop(&l.arena);
}

static void
bodies_are_told_by_length_or_by_their_end(void **state)
{
    static const struct {
        struct pair length;
        bool end;
        enum h2_fault fault;
        enum http_body body;
    } cases[] = {
        {{"content-length", "5"}, false, H2_NONE, HTTP_BODY_LENGTH},
        {{NULL, NULL}, false, H2_NONE, HTTP_BODY_CHUNKED},
        {{NULL, NULL}, true, H2_NONE, HTTP_BODY_LENGTH}, /* a POST of nothing says so */
        {{"content-length", "0"}, true, H2_NONE, HTTP_BODY_LENGTH},
        {{"content-length", "5"}, true, H2_CL_DATA, HTTP_BODY_NONE},
        {{"content-length", "5, 5"}, false, H2_NONE, HTTP_BODY_LENGTH},
        {{"content-length", "5, 6"}, false, H2_CL_DIFFER, HTTP_BODY_NONE},
        {{"content-length", "-1"}, false, H2_CL_INVALID, HTTP_BODY_NONE},
        {{"content-length", "9223372036854775808"}, false, H2_CL_INVALID, HTTP_BODY_NONE},
        {{"content-length", ""}, false, H2_CL_INVALID, HTTP_BODY_NONE},
    };

    for (unsigned i = 0; i < MC_COUNT(cases); i++) {
        struct list l;

        read_pairs(&l, (struct pair[MAX_PAIRS]){POST, cases[i].length}, cases[i].end);
        assert_string_equal(h2_fault_name(l.fault), h2_fault_name(cases[i].fault));
        if (l.fault == H2_NONE)
            assert_int_equal(l.head.body, cases[i].body);
        arena_drop(&l.arena);
    }
}

static void
malformed_lists_are_refused_by_name(void **state)
{
    static const struct {
        struct pair pairs[MAX_PAIRS];
        enum h2_fault fault;
    } cases[] = {
        {{GET, {"Accept", "x"}}, H2_NAME_CASE},
        {{GET, {"", "x"}}, H2_NAME},
        {{GET, {"a b", "x"}}, H2_NAME},
        {{GET, {"a:b", "x"}}, H2_NAME},
        {{GET, {"a\r\n", "x"}}, H2_NAME},
        {{GET, {"\xc3\xa4", "x"}}, H2_NAME},
        {{GET, {"a", "x\r\nb: c"}}, H2_VALUE},
        {{GET, {"a", "x\n"}}, H2_VALUE},
        {{GET, {"a", "x\r"}}, H2_VALUE},
        {{GET, {"a", "\r\n"}}, H2_VALUE},
        {{GET, {"a", "x\x01y"}}, H2_VALUE},
        {{GET, {"a", "x\x7fy"}}, H2_VALUE},
        {{GET, {"a", " x"}}, H2_VALUE_SPACE},
        {{GET, {"a", "x\t"}}, H2_VALUE_SPACE},
        {{GET, {"a", " "}}, H2_VALUE_SPACE},
        {{GET, {"connection", "close"}}, H2_CONNECTION_FIELD},
        {{GET, {"keep-alive", "1"}}, H2_CONNECTION_FIELD},
        {{GET, {"proxy-connection", "x"}}, H2_CONNECTION_FIELD},
        {{GET, {"transfer-encoding", "chunked"}}, H2_CONNECTION_FIELD},
        {{GET, {"upgrade", "websocket"}}, H2_CONNECTION_FIELD},
        {{GET, {"te", "trailers, gzip"}}, H2_TE},
        {{GET, {"te", "gzip"}}, H2_TE},
        {{GET, {":foo", "x"}}, H2_PSEUDO_UNKNOWN},
        {{GET, {":status", "200"}}, H2_PSEUDO_UNKNOWN},
        {{GET, {":protocol", "websocket"}}, H2_PSEUDO_UNKNOWN},
        {{GET, {":path", "/"}}, H2_PSEUDO_TWICE},
        {{{"a", "b"}, GET}, H2_PSEUDO_LATE},
        {{{":scheme", "http"}, {":authority", "a"}, {":path", "/"}}, H2_PSEUDO_MISSING},
        {{{":method", "GET"}, {":authority", "a"}, {":path", "/"}}, H2_PSEUDO_MISSING},
        {{{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}}, H2_PSEUDO_MISSING},
        {{{":method", "GET"}, {":scheme", "http"}, {":path", "/"}}, H2_AUTHORITY_MISSING},
        {{{":method", "GET"}, {":scheme", "ftp"}, {":authority", "a"}, {":path", "/"}}, H2_SCHEME},
        {{{":method", "G T"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}}, H2_METHOD},
        {{{":method", ""}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}}, H2_METHOD},
        {{{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", ""}}, H2_PATH},
        {{{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", "x"}}, H2_PATH},
        {{{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", "*"}}, H2_PATH},
        {{{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/a b"}},
         H2_PATH},
        {{{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/#f"}}, H2_PATH},
        {{{":method", "GET"}, {":scheme", "http"}, {":authority", "u@a"}, {":path", "/"}},
         H2_AUTHORITY},
        {{GET, {"host", "b.example"}}, H2_AUTHORITY_DIFFERS},
        {{GET, {"host", "a.example"}, {"host", "a.example"}}, H2_HOST_TWICE},
        {{GET, {"expect", "cookies"}}, H2_EXPECT_UNKNOWN},
        {{{":method", "CONNECT"}, {":authority", "a:1"}, {":path", "/"}}, H2_CONNECT},
        {{{":method", "CONNECT"}, {":scheme", "http"}, {":authority", "a:1"}}, H2_CONNECT},
        {{{":method", "CONNECT"}, {":authority", "a"}}, H2_AUTHORITY},
        {{{":method", "CONNECT"}}, H2_PSEUDO_MISSING},
    };

    for (unsigned i = 0; i < MC_COUNT(cases); i++) {
        struct list l;

        read_pairs(&l, cases[i].pairs, true);
        if (l.fault != cases[i].fault)
            fail_msg("case %u: %s, not %s", i, h2_fault_name(l.fault),
                     h2_fault_name(cases[i].fault));
        arena_drop(&l.arena);
    }
}

static void
a_nul_in_a_value_is_refused(void **state)
{
    struct list l;

    begin(&l, H2_REQUEST);
    h2_fields_add(&l.fields, STR("a"), (struct str){"x\0y", 3});
    assert_int_equal(l.fields.fault, H2_VALUE);
    arena_drop(&l.arena);
}

static void
what_agrees_is_taken(void **state)
{
    static const struct pair cases[][MAX_PAIRS] = {
        {GET, {"host", "A.Example"}},
        {GET, {"host", "a.example:443"}},
        {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {"host", "a"}},
        {{":method", "OPTIONS"}, {":scheme", "http"}, {":authority", "a"}, {":path", "*"}},
        {{":method", "CONNECT"}, {":authority", "a:1"}},
        {GET, {"a", "x\xc3\xa4\ty"}},
        {GET, {"http2-settings", "x"}},
    };

    for (unsigned i = 0; i < MC_COUNT(cases); i++) {
        struct list l;

        read_pairs(&l, cases[i], true);
        assert_string_equal(h2_fault_name(l.fault), "NONE");
        arena_drop(&l.arena);
    }
}

/* RFC 8441 4 */
static void
a_protocol_is_named_with_connect_where_that_was_announced(void **state)
{
    static const struct {
        struct pair pairs[MAX_PAIRS];
        bool announced;
        enum h2_fault fault;
    } cases[] = {
#define WS {":scheme", "https"}, {":authority", "a"}, {":path", "/p"}, {":protocol", "websocket"}
        {{{":method", "CONNECT"}, WS}, true, H2_NONE},
        {{{":method", "CONNECT"}, WS}, false, H2_PSEUDO_UNKNOWN},
        {{{":method", "GET"}, WS}, true, H2_PROTOCOL},
        {{{":method", "CONNECT"}, {":authority", "a:1"}, {":protocol", "websocket"}},
         true,
         H2_PSEUDO_MISSING},
#undef WS
    };

    for (unsigned i = 0; i < MC_COUNT(cases); i++) {
        const struct pair *p = cases[i].pairs;
        struct list l;

        begin(&l, H2_REQUEST);
        l.fields.connect_protocol = cases[i].announced;
        for (unsigned k = 0; k < MAX_PAIRS && p[k].name != NULL; k++)
            add(&l, p[k].name, p[k].value);
        l.fault = h2_read_request(&l.head, &l.fields, false);
        assert_string_equal(h2_fault_name(l.fault), h2_fault_name(cases[i].fault));
        if (l.fault == H2_NONE)
            assert_str(l.head.path, "/p");
        arena_drop(&l.arena);
    }
}

static void
cookie_crumbs_are_joined(void **state)
{
    struct list l;
    const struct http_field *f;

    read_pairs(&l,
               (struct pair[MAX_PAIRS]){GET,
                                        {"cookie", ""},
                                        {"cookie", "a=1"},
                                        {"x", "y"},
                                        {"cookie", "b=2"},
                                        {"cookie", "c"},
                                        {"cookie", ""}},
               true);
    assert_int_equal(l.fault, H2_NONE);
    assert_int_equal(l.head.n_fields, 2);
    f = http_field_find(&l.head, FIELD_COOKIE);
    assert_str(http_field_value(f), "a=1; b=2; c");
    assert_str(http_cookie_get(&l.head, STR("b")), "2");
    assert_str(http_field_get(&l.head, STR("x")), "y");
    arena_drop(&l.arena);
}

static void
heads_are_bounded_in_bytes_and_fields(void **state)
{
    struct list l;
    char value[1000];

    memset(value, 'v', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    begin(&l, H2_REQUEST);
    for (unsigned i = 0; i < 1000; i++)
        add(&l, "x", value);
    assert_int_equal(l.fields.fault, H2_HEAD_TOO_LARGE);
    assert_int_equal(l.fields.bytes, 1000 * 1004);
    assert_true(l.arena.total_bytes < 3 * h1_default_limits.head_bytes);
    arena_drop(&l.arena);

    begin(&l, H2_REQUEST);
    for (unsigned i = 0; i < 101; i++)
        add(&l, "x", "");
    assert_int_equal(l.fields.fault, H2_TOO_MANY_FIELDS);
    arena_drop(&l.arena);

    begin(&l, H2_TRAILERS);
    for (unsigned i = 0; i < 5; i++)
        add(&l, "x", value);
    assert_int_equal(l.fields.fault, H2_TRAILER_TOO_LARGE);
    arena_drop(&l.arena);
}

static void
a_long_path_is_told_from_a_large_head(void **state)
{
    struct list l;
    char *path = malloc(9001);

    memset(path, '/', 9000);
    path[9000] = '\0';
    begin(&l, H2_REQUEST);
    add(&l, ":method", "GET");
    add(&l, ":scheme", "http");
    add(&l, ":authority", "a");
    add(&l, ":path", path);
    assert_int_equal(h2_read_request(&l.head, &l.fields, true), H2_TARGET_LONG);
    assert_int_equal(h2_fault_status(H2_TARGET_LONG), 414);
    arena_drop(&l.arena);
    free(path);
}

static void
trailers_are_filtered_and_hold_no_pseudo_header(void **state)
{
    struct list l;
    struct http_field *f;
    unsigned n;

    begin(&l, H2_TRAILERS);
    add(&l, "grpc-status", "0");
    add(&l, "content-length", "5");
    add(&l, "x-sum", "1");
    assert_int_equal(h2_read_trailers(&l.fields, &f, &n), H2_NONE);
    assert_int_equal(n, 2);
    assert_memory_equal(f[0].name, "grpc-status", 11);
    assert_memory_equal(f[1].name, "x-sum", 5);
    add(&l, ":path", "/");
    assert_int_equal(h2_read_trailers(&l.fields, &f, &n), H2_PSEUDO_TRAILER);
    arena_drop(&l.arena);
}

static void
priorities_have_two_parts_that_may_be_missing(void **state)
{
    static const struct {
        const char *text;
        bool ok;
        unsigned urgency;
        bool incremental;
    } cases[] = {
        {"", true, 3, false},         {"u=0", true, 0, false},
        {"u=5, i", true, 5, true},    {"i,u=7", true, 7, true},
        {"i=?0", true, 3, false},     {"i=?1;x=1, foo=bar", true, 3, true},
        {"u=1, u=2", true, 2, false}, {"u=8", false, 0, false},
        {"u=-1", false, 0, false},    {"u", false, 0, false},
        {"i=1", false, 0, false},     {"a=\"u=1, i\"", false, 0, false},
    };

    for (unsigned i = 0; i < MC_COUNT(cases); i++) {
        struct h2_priority p = {0};
        bool ok = h2_read_priority(str_of(cases[i].text), &p);

        if (ok != cases[i].ok || p.urgency != cases[i].urgency ||
            p.incremental != cases[i].incremental)
            fail_msg("%s", cases[i].text);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_becomes_a_head),
        cmocka_unit_test(it_can_be_written_for_an_http1_server),
        cmocka_unit_test(bodies_are_told_by_length_or_by_their_end),
        cmocka_unit_test(malformed_lists_are_refused_by_name),
        cmocka_unit_test(a_nul_in_a_value_is_refused),
        cmocka_unit_test(what_agrees_is_taken),
        cmocka_unit_test(a_protocol_is_named_with_connect_where_that_was_announced),
        cmocka_unit_test(cookie_crumbs_are_joined),
        cmocka_unit_test(heads_are_bounded_in_bytes_and_fields),
        cmocka_unit_test(a_long_path_is_told_from_a_large_head),
        cmocka_unit_test(priorities_have_two_parts_that_may_be_missing),
        cmocka_unit_test(trailers_are_filtered_and_hold_no_pseudo_header),
    };

    return RUN_ON_ALL_VECTORS(tests);
}
