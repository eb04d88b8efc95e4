/* SPDX-License-Identifier: BSD-2-Clause
 *
 * route_test.c - which route a host and a path find.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/check.h"
#include "proxy/route.h"

static bool
path_found(const char *prefix, const char *path)
{
    struct route_conf r = {.path = (char *)prefix};

    return route_matches(&r, STR("example.org"), str_of(path));
}

static bool
host_found(const char *pattern, const char *host)
{
    char *hosts[] = {(char *)"other.net", (char *)pattern};
    struct route_conf r = {.hosts = hosts, .n_hosts = 2};

    return route_matches(&r, str_of(host), STR("/"));
}

static void
a_route_without_host_and_path_takes_everything(void **state)
{
    assert_true(path_found(NULL, "/"));
    assert_true(path_found(NULL, "*"));
    assert_true(path_found("/", "*"));
    assert_true(path_found("/", "/any/thing?x"));
    assert_true(route_matches(&(struct route_conf){0}, STR_NONE, STR_NONE));
}

static void
a_path_ends_on_a_segment_border(void **state)
{
    assert_true(path_found("/api", "/api"));
    assert_true(path_found("/api", "/api/"));
    assert_true(path_found("/api", "/api/x/y"));
    assert_true(path_found("/api", "/api?q=1"));
    assert_false(path_found("/api", "/apis"));
    assert_false(path_found("/api", "/ap"));
    assert_false(path_found("/api", "/"));
    assert_false(path_found("/api", "*"));
}

static void
a_path_with_a_slash_at_its_end_covers_what_lies_below(void **state)
{
    assert_true(path_found("/api/", "/api/"));
    assert_true(path_found("/api/", "/api/x"));
    assert_true(path_found("/api/", "/api/?q"));
    assert_false(path_found("/api/", "/api"));
    assert_false(path_found("/api/", "/api?q"));
}

static void
paths_are_compared_as_they_were_sent(void **state)
{
    assert_false(path_found("/api", "/%61pi"));
    assert_false(path_found("/api", "/API"));
    assert_true(path_found("/api", "/api/../secret"));
}

static void
a_host_is_found_in_any_case(void **state)
{
    assert_true(host_found("example.org", "example.org"));
    assert_true(host_found("example.org", "EXAMPLE.Org"));
    assert_true(host_found("example.org", "other.net"));
    assert_false(host_found("example.org", "example.com"));
    assert_false(host_found("example.org", "www.example.org"));
    assert_false(host_found("example.org", ""));
}

static void
a_star_covers_every_depth_but_not_the_name_itself(void **state)
{
    assert_true(host_found("*.example.org", "www.example.org"));
    assert_true(host_found("*.example.org", "a.b.c.Example.ORG"));
    assert_false(host_found("*.example.org", "example.org"));
    assert_false(host_found("*.example.org", "badexample.org"));
    assert_false(host_found("*.example.org", ""));
}

static void
the_first_route_that_matches_wins(void **state)
{
    char *hosts[] = {(char *)"example.org"};
    struct route routes[] = {
        {.conf = {.name = (char *)"api", .hosts = hosts, .n_hosts = 1, .path = (char *)"/api"}},
        {.conf = {.name = (char *)"host", .hosts = hosts, .n_hosts = 1}},
        {.conf = {.name = (char *)"img", .path = (char *)"/img"}},
    };
    unsigned n = MC_COUNT(routes);

    assert_ptr_equal(route_find(routes, n, STR("example.org"), STR("/api/1")), &routes[0]);
    assert_ptr_equal(route_find(routes, n, STR("example.org"), STR("/img")), &routes[1]);
    assert_ptr_equal(route_find(routes, n, STR("other.org"), STR("/img/1")), &routes[2]);
    assert_null(route_find(routes, n, STR("other.org"), STR("/api/1")));
    assert_null(route_find(routes, 0, STR("example.org"), STR("/")));
}

static void
connections_go_by_the_name_they_ask_for(void **state)
{
    char *listeners[] = {(char *)"tls"}, *names[] = {(char *)"a.org", (char *)"*.b.org"};
    struct route named = {
        .conf = {.listeners = listeners, .n_listeners = 1, .names = names, .n_names = 2}};
    struct route rest = {.conf = {.listeners = listeners, .n_listeners = 1}};
    const struct route *both[] = {&named, &rest};

    assert_ptr_equal(route_find_name(both, 2, STR("A.org")), &named);
    assert_ptr_equal(route_find_name(both, 2, STR("x.b.org")), &named);
    assert_ptr_equal(route_find_name(both, 2, STR("b.org")), &rest);
    assert_ptr_equal(route_find_name(both, 2, STR_NONE), &rest);
    assert_null(route_find_name(both, 1, STR_NONE));
    assert_null(route_find_name(both, 0, STR("a.org")));
}

static void
requests_do_not_go_where_connections_go(void **state)
{
    char *listeners[] = {(char *)"tls"};
    struct route routes[] = {{.conf = {.listeners = listeners, .n_listeners = 1}},
                             {.pool_index = 1}};

    assert_ptr_equal(route_find(routes, 2, STR("a.org"), STR("/")), &routes[1]);
    assert_null(route_find(routes, 1, STR("a.org"), STR("/")));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_route_without_host_and_path_takes_everything),
        cmocka_unit_test(a_path_ends_on_a_segment_border),
        cmocka_unit_test(a_path_with_a_slash_at_its_end_covers_what_lies_below),
        cmocka_unit_test(paths_are_compared_as_they_were_sent),
        cmocka_unit_test(a_host_is_found_in_any_case),
        cmocka_unit_test(a_star_covers_every_depth_but_not_the_name_itself),
        cmocka_unit_test(the_first_route_that_matches_wins),
        cmocka_unit_test(connections_go_by_the_name_they_ask_for),
        cmocka_unit_test(requests_do_not_go_where_connections_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
