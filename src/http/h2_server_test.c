/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The half of HTTP/2 that servers see: requests are written, responses are read.
 */
#include "http/h1_testkit.h"
#include "http/h2.h"

#define MAX_PAIRS 8

struct pair {
    const char *name, *value;
};

struct response {
    struct h2_fields fields;
    struct arena arena;
    struct http_head head;
    enum h2_fault fault;
};

static void
read_pairs(struct response *r, const struct pair *pairs, enum http_method method, bool end)
{
    arena_init(&r->arena, NULL);
    h2_fields_init(&r->fields, H2_RESPONSE, &h1_default_limits, &r->arena);
    for (unsigned i = 0; i < MAX_PAIRS && pairs[i].name != NULL; i++) {
        char *n = exact(str_of(pairs[i].name)), *v = exact(str_of(pairs[i].value));

        h2_fields_add(&r->fields, (struct str){n, strlen(pairs[i].name)},
                      (struct str){v, strlen(pairs[i].value)});
        free(n);
        free(v);
    }
    r->fault = h2_read_response(&r->head, &r->fields, method, end);
}

static void
a_response_becomes_a_head(void **state)
{
    static const struct pair pairs[MAX_PAIRS] = {
        {":status", "404"}, {"content-type", "text/plain"}, {"x-a", ""}, {NULL, NULL}};
    struct response r;

    read_pairs(&r, pairs, HTTP_M_GET, false);
    assert_int_equal(r.fault, H2_NONE);
    assert_true(r.head.is_response);
    assert_int_equal(r.head.status, 404);
    assert_int_equal(r.head.n_fields, 2);
    assert_int_equal(r.head.body, HTTP_BODY_CHUNKED);
    assert_int_equal(r.head.fields[0].id, FIELD_CONTENT_TYPE);
    assert_false(r.head.close);
    arena_drop(&r.arena);
}

static void
the_body_is_told_by_length_end_and_method(void **state)
{
    static const struct pair ok[MAX_PAIRS] = {{":status", "200"}},
                             five[MAX_PAIRS] = {{":status", "200"}, {"content-length", "5"}},
                             unmodified[MAX_PAIRS] = {{":status", "304"}, {"content-length", "5"}};
    static const struct {
        const struct pair *pairs;
        enum http_method method;
        bool end;
        enum http_body body;
        uint64_t length;
    } cases[] = {
        {ok, HTTP_M_GET, false, HTTP_BODY_CHUNKED, 0},
        {ok, HTTP_M_GET, true, HTTP_BODY_LENGTH, 0},
        {five, HTTP_M_GET, false, HTTP_BODY_LENGTH, 5},
        {five, HTTP_M_HEAD, true, HTTP_BODY_NONE, 5},
        {ok, HTTP_M_HEAD, true, HTTP_BODY_NONE, 0},
        {unmodified, HTTP_M_GET, true, HTTP_BODY_NONE, 5},
    };

    for (unsigned i = 0; i < MC_COUNT(cases); i++) {
        struct response r;

        read_pairs(&r, cases[i].pairs, cases[i].method, cases[i].end);
        assert_int_equal(r.fault, H2_NONE);
        assert_int_equal(r.head.body, cases[i].body);
        assert_int_equal(r.head.content_length, cases[i].length);
        arena_drop(&r.arena);
    }
}

static void
malformed_responses_are_refused_by_name(void **state)
{
#define OK               \
    {                    \
        ":status", "200" \
    }
    static const struct {
        struct pair pairs[MAX_PAIRS];
        bool end;
        enum h2_fault want;
    } cases[] = {
        {{{"server", "a"}}, true, H2_PSEUDO_MISSING},
        {{OK, OK}, true, H2_PSEUDO_TWICE},
        {{{"server", "a"}, OK}, true, H2_PSEUDO_LATE},
        {{OK, {":path", "/"}}, true, H2_PSEUDO_UNKNOWN},
        {{OK, {":version", "2"}}, true, H2_PSEUDO_UNKNOWN},
        {{{":status", "20"}}, true, H2_STATUS},
        {{{":status", "099"}}, true, H2_STATUS},
        {{{":status", "2000"}}, true, H2_STATUS},
        {{{":status", "+20"}}, true, H2_STATUS},
        {{{":status", ""}}, true, H2_STATUS},
        {{{":status", "200 OK"}}, true, H2_STATUS},
        {{{":status", "101"}}, false, H2_STATUS},
        {{{":status", "103"}}, true, H2_INTERIM_END},
        {{OK, {"Server", "a"}}, true, H2_NAME_CASE},
        {{OK, {"ser ver", "a"}}, true, H2_NAME},
        {{OK, {"", "a"}}, true, H2_NAME},
        {{OK, {"a", "b\r\nset-cookie: c"}}, true, H2_VALUE},
        {{OK, {"a", "b\nc"}}, true, H2_VALUE},
        {{OK, {"a", "b\rc"}}, true, H2_VALUE},
        {{OK, {"a", " b"}}, true, H2_VALUE_SPACE},
        {{OK, {"a", "b\t"}}, true, H2_VALUE_SPACE},
        {{OK, {"connection", "close"}}, true, H2_CONNECTION_FIELD},
        {{OK, {"transfer-encoding", "chunked"}}, false, H2_CONNECTION_FIELD},
        {{OK, {"keep-alive", "timeout=5"}}, true, H2_CONNECTION_FIELD},
        {{OK, {"upgrade", "h2c"}}, true, H2_CONNECTION_FIELD},
        {{OK, {"content-length", "-1"}}, false, H2_CL_INVALID},
        {{OK, {"content-length", "5"}, {"content-length", "6"}}, false, H2_CL_DIFFER},
        {{OK, {"content-length", "5, 6"}}, false, H2_CL_DIFFER},
        {{OK, {"content-length", "5"}}, true, H2_CL_DATA},
    };

    for (unsigned i = 0; i < MC_COUNT(cases); i++) {
        struct response r;

        read_pairs(&r, cases[i].pairs, HTTP_M_GET, cases[i].end);
        assert_string_equal(h2_fault_name(r.fault), h2_fault_name(cases[i].want));
        arena_drop(&r.arena);
    }
}

static void
assert_request(const char *text, const struct h1_write *w, const char *want)
{
    struct parsed p;
    char list[1024] = "";
    size_t len = 0;
    nghttp2_nv *nv;
    unsigned n;

    parse_request(&p, text);
    assert_int_equal(p.fault, H1_NONE);
    n = h2_write_request(&p.head, w, STR("http"), &p.arena, &nv);
    for (unsigned i = 0; i < n; i++)
        len += (size_t)snprintf(list + len, sizeof(list) - len, "%.*s=%.*s;", (int)nv[i].namelen,
                                (const char *)nv[i].name, (int)nv[i].valuelen,
                                (const char *)nv[i].value);
    assert_string_equal(list, want);
    parsed_free(&p);
}

static void
a_request_is_written_without_what_belongs_to_its_connection(void **state)
{
    const struct http_field via = {"Via", "1.1 a", 5, 3, FIELD_VIA};
    const struct h1_write w = {.add = &via, .n_add = 1, .body = HTTP_BODY_CHUNKED};

    assert_request("POST /p?q HTTP/1.1\r\nHost: a.example:81\r\nConnection: keep-alive, x-hop\r\n"
                   "X-Hop: 1\r\nKeep-Alive: 5\r\nTransfer-Encoding: chunked\r\nCookie: a=b; c=d\r\n"
                   "Priority: u=1\r\nTE: gzip\r\nUpgrade: h2c\r\n\r\n",
                   &w,
                   ":method=POST;:scheme=http;:path=/p?q;:authority=a.example:81;Cookie=a=b; c=d;"
                   "Priority=u=1;Via=1.1 a;");
}

static void
trailers_are_asked_for_when_the_client_did(void **state)
{
    struct h1_write w = {.body = HTTP_BODY_LENGTH, .content_length = 3};
    static const char text[] = "PUT https://b/ HTTP/1.1\r\nHost: b\r\nConnection: TE\r\n"
                               "TE: trailers\r\nContent-Length: 3\r\n\r\n";

    assert_request(text, &w,
                   ":method=PUT;:scheme=https;:path=/;:authority=b;content-length=3;te=trailers;");
    w.drop = FIELD_BIT(TE);
    assert_request(text, &w, ":method=PUT;:scheme=https;:path=/;:authority=b;content-length=3;");
}

static void
forms_of_targets_are_paths(void **state)
{
    const struct h1_write w = {.body = HTTP_BODY_NONE};

    assert_request("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", &w,
                   ":method=OPTIONS;:scheme=http;:path=*;:authority=a;");
    assert_request("GET / HTTP/1.0\r\n\r\n", &w, ":method=GET;:scheme=http;:path=/;");
}

static void
secrets_stay_out_of_tables(void **state)
{
    const struct h1_write w = {.body = HTTP_BODY_NONE};
    struct parsed p;
    nghttp2_nv *nv;

    parse_request(&p, "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic x\r\nAccept: b\r\n\r\n");
    assert_int_equal(h2_write_request(&p.head, &w, STR("http"), &p.arena, &nv), 6);
    assert_int_equal(nv[4].flags, NGHTTP2_NV_FLAG_NO_INDEX);
    assert_int_equal(nv[5].flags, NGHTTP2_NV_FLAG_NONE);
    parsed_free(&p);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_response_becomes_a_head),
        cmocka_unit_test(the_body_is_told_by_length_end_and_method),
        cmocka_unit_test(malformed_responses_are_refused_by_name),
        cmocka_unit_test(a_request_is_written_without_what_belongs_to_its_connection),
        cmocka_unit_test(trailers_are_asked_for_when_the_client_did),
        cmocka_unit_test(forms_of_targets_are_paths),
        cmocka_unit_test(secrets_stay_out_of_tables),
    };

    return RUN_ON_ALL_VECTORS(tests);
}
