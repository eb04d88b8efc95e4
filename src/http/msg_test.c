/* SPDX-License-Identifier: BSD-2-Clause */
#include "http/msg.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define assert_str(s, lit) assert_true(str_eq((s), STR(lit)))
#define FIELD(n, v, ident)                                                                \
    {                                                                                     \
        .name = (n), .value = (v), .name_len = sizeof(n) - 1, .value_len = sizeof(v) - 1, \
        .id = FIELD_##ident                                                               \
    }

static void
methods_are_told_by_case(void **state)
{
    assert_int_equal(http_method_lookup(STR("GET")), HTTP_M_GET);
    assert_int_equal(http_method_lookup(STR("PATCH")), HTTP_M_PATCH);
    assert_int_equal(http_method_lookup(STR("get")), HTTP_M_OTHER);
    assert_int_equal(http_method_lookup(STR("GETS")), HTTP_M_OTHER);
    assert_int_equal(http_method_lookup(STR("")), HTTP_M_OTHER);
}

static void
only_some_methods_may_be_repeated(void **state)
{
    assert_true(http_method_props(HTTP_M_PUT) & HTTP_IDEMPOTENT);
    assert_false(http_method_props(HTTP_M_PUT) & HTTP_SAFE);
    assert_true(http_method_props(HTTP_M_GET) & HTTP_SAFE);
    assert_int_equal(http_method_props(HTTP_M_POST), 0);
    assert_int_equal(http_method_props(HTTP_M_OTHER), 0);
    assert_int_equal(http_method_props((enum http_method)99), 0);
}

static void
the_first_field_of_a_name_is_found(void **state)
{
    struct http_field f[] = {FIELD("Accept", "a", OTHER), FIELD("Via", "1.1 a", VIA),
                             FIELD("accept", "b", OTHER), FIELD("Via", "1.1 b", VIA)};
    struct http_head h = {.fields = f, .n_fields = 4};

    assert_ptr_equal(http_field_find(&h, FIELD_VIA), &f[1]);
    assert_null(http_field_find(&h, FIELD_HOST));
    assert_str(http_field_value(http_field_find(&h, FIELD_VIA)), "1.1 a");
    assert_null(http_field_value(NULL).p);
    assert_str(http_field_get(&h, STR("ACCEPT")), "a");
    assert_null(http_field_get(&h, STR("Accep")).p);
}

static void
a_cookie_is_found_by_its_whole_name(void **state)
{
    struct http_field f[] = {
        FIELD("Cookie", "sid2=no; Sid=no ;sid=\"yes=1\"; sid=late; flag", COOKIE),
        FIELD("Cookie", "second=2;empty=", COOKIE)};
    struct http_head h = {.fields = f, .n_fields = 2};

    assert_str(http_cookie_get(&h, STR("sid")), "\"yes=1\"");
    assert_str(http_cookie_get(&h, STR("Sid")), "no");
    assert_str(http_cookie_get(&h, STR("second")), "2");
    assert_non_null(http_cookie_get(&h, STR("empty")).p);
    assert_int_equal(http_cookie_get(&h, STR("empty")).n, 0);
    assert_null(http_cookie_get(&h, STR("flag")).p);
    assert_null(http_cookie_get(&h, STR("id")).p);
}

static void
a_path_ends_where_the_query_begins(void **state)
{
    assert_str(http_path_only(STR("/a/b?c=d?e")), "/a/b");
    assert_str(http_query(STR("/a/b?c=d?e")), "c=d?e");
    assert_str(http_path_only(STR("/a")), "/a");
    assert_null(http_query(STR("/a")).p);
    assert_non_null(http_query(STR("/a?")).p);
    assert_str(http_path_only(STR("*")), "*");
    assert_str(http_path_only(STR_NONE), "");
}

static void
a_host_stands_without_port_and_trailing_dot(void **state)
{
    assert_str(http_host_only(STR("example.org:8080")), "example.org");
    assert_str(http_host_only(STR("example.org.:8080")), "example.org");
    assert_str(http_host_only(STR("example.org")), "example.org");
    assert_str(http_host_only(STR("[2001:db8::1]:443")), "[2001:db8::1]");
    assert_str(http_host_only(STR("[2001:db8::1]")), "[2001:db8::1]");
    assert_str(http_host_only(STR("[2001:db8::1")), "[2001:db8::1");
    assert_str(http_host_only(STR(".")), ".");
    assert_str(http_host_only(STR("")), "");
    assert_str(http_host_only(STR_NONE), "");
}

static void
some_responses_have_no_body(void **state)
{
    assert_true(http_response_bodyless(200, HTTP_M_HEAD));
    assert_true(http_response_bodyless(100, HTTP_M_POST));
    assert_true(http_response_bodyless(101, HTTP_M_GET));
    assert_true(http_response_bodyless(204, HTTP_M_GET));
    assert_true(http_response_bodyless(304, HTTP_M_GET));
    assert_true(http_response_bodyless(200, HTTP_M_CONNECT));
    assert_false(http_response_bodyless(407, HTTP_M_CONNECT));
    assert_false(http_response_bodyless(205, HTTP_M_GET));
    assert_string_equal(http_reason(502), "Bad Gateway");
    assert_string_equal(http_reason(299), "");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(methods_are_told_by_case),
        cmocka_unit_test(only_some_methods_may_be_repeated),
        cmocka_unit_test(the_first_field_of_a_name_is_found),
        cmocka_unit_test(a_cookie_is_found_by_its_whole_name),
        cmocka_unit_test(a_path_ends_where_the_query_begins),
        cmocka_unit_test(a_host_stands_without_port_and_trailing_dot),
        cmocka_unit_test(some_responses_have_no_body),
    };

    return cmocka_run_group_tests_name("http/msg", tests, NULL, NULL);
}
