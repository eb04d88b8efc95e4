/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Heads and trailers become field lists of HTTP/2.
 */
#include "http/h1_testkit.h"
#include "http/h2.h"

/* "name=value;" of each. */
static void
assert_list(const nghttp2_nv *nv, unsigned n, const char *want)
{
    char text[1024];
    size_t len = 0;

    for (unsigned i = 0; i < n; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%.*s=%.*s;", (int)nv[i].namelen,
                                (const char *)nv[i].name, (int)nv[i].valuelen,
                                (const char *)nv[i].value);
    text[len] = '\0';
    assert_string_equal(text, want);
}

static void
assert_response(const char *head, enum http_method m, const struct h1_write *w, const char *want)
{
    struct parsed p;
    nghttp2_nv *nv;
    unsigned n;

    parse_response(&p, head, m);
    assert_int_equal(p.fault, H1_NONE);
    n = h2_write_response(&p.head, w, &p.arena, &nv);
    assert_list(nv, n, want);
    parsed_free(&p);
}

static void
what_belongs_to_the_other_connection_stays_there(void **state)
{
    const struct http_field date = {"Date", "now", 3, 4, FIELD_DATE};
    struct h1_write w = {.body = HTTP_BODY_CHUNKED, .add = &date, .n_add = 1};

    w.drop = FIELD_BIT(SERVER);
    assert_response("HTTP/1.1 200 OK\r\nServer: s\r\nConnection: close, x-hop\r\nX-Hop: 1\r\n"
                    "Transfer-Encoding: chunked\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\nX-A: b\r\n"
                    "Empty:\r\n\r\n",
                    HTTP_M_GET, &w, ":status=200;X-A=b;Empty=;Date=now;");
}

static void
lengths_are_told_where_they_are_known(void **state)
{
    struct h1_write w = {.body = HTTP_BODY_LENGTH, .content_length = 18446744073709551615u};
    static const char head[] = "HTTP/1.1 404 Not Here\r\nContent-Length: 12\r\n\r\n";

    assert_response(head, HTTP_M_GET, &w, ":status=404;content-length=18446744073709551615;");
    w = (struct h1_write){.body = HTTP_BODY_NONE, .keep_content_length = true};
    assert_response(head, HTTP_M_HEAD, &w, ":status=404;content-length=12;");
    w.keep_content_length = false;
    assert_response(head, HTTP_M_HEAD, &w, ":status=404;");
}

static void
trailers_are_a_list_without_a_status(void **state)
{
    const struct http_field f[] = {{"grpc-status", "0", 1, 11, FIELD_OTHER},
                                   {"grpc-message", "", 0, 12, FIELD_OTHER}};
    struct arena a;
    nghttp2_nv *nv;
    unsigned n;

    arena_init(&a, NULL);
    n = h2_write_trailers(f, 2, &a, &nv);
    assert_list(nv, n, "grpc-status=0;grpc-message=;");
    arena_drop(&a);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_belongs_to_the_other_connection_stays_there),
        cmocka_unit_test(lengths_are_told_where_they_are_known),
        cmocka_unit_test(trailers_are_a_list_without_a_status),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
