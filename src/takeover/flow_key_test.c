/* SPDX-License-Identifier: BSD-2-Clause
 *
 * flow_key_test.c - the names of flows.
 */
#include "takeover/flow_key.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct addr
at(const char *text)
{
    struct addr a;

    assert_int_equal(addr_parse(str_of(text), &a, NULL, NULL, NULL), MC_OK);
    return a;
}

static struct flow_key
key(const char *local, const char *remote)
{
    struct addr l = at(local), r = at(remote);
    struct flow_key k;

    assert_true(flow_key_of(&k, &l, &r));
    return k;
}

static void
a_flow_has_one_name_whichever_family_its_socket_is_of(void **state)
{
    struct flow_key plain = key("10.0.0.9:80", "10.1.2.3:4711");
    struct flow_key by_ip6 = key("[::ffff:10.0.0.9]:80", "[::ffff:10.1.2.3]:4711");
    struct flow_key ip6 = key("[2001:db8::9]:80", "[2001:db8::1]:4711");

    assert_true(flow_key_eq(&plain, &by_ip6));
    assert_true(flow_key_is_ip4(&plain));
    assert_false(flow_key_is_ip4(&ip6));
    assert_false(flow_key_eq(&plain, &ip6));
    assert_int_equal(ntohs(plain.local_port), 80);
    assert_int_equal(ntohs(plain.remote_port), 4711);
}

static void
a_name_gives_the_addresses_back(void **state)
{
    struct flow_key k = key("[2001:db8::9]:80", "[2001:db8::1]:4711");
    struct addr local, remote, want = at("[2001:db8::1]:4711");
    char text[FLOW_KEY_TEXT];

    flow_key_addrs(&k, &local, &remote);
    assert_true(addr_eq(&remote, &want));
    assert_string_equal(flow_key_text(&k, text), "[2001:db8::1]:4711 > [2001:db8::9]:80");
    k = key("10.0.0.9:80", "10.1.2.3:4711");
    assert_string_equal(flow_key_text(&k, text), "10.1.2.3:4711 > 10.0.0.9:80");
}

static void
what_is_no_tcp_connection_has_no_name(void **state)
{
    struct addr ip4 = at("10.0.0.9:80"), ip6 = at("[2001:db8::1]:80"), path = at("unix:/run/x");
    struct flow_key k;

    assert_false(flow_key_of(&k, &ip4, &ip6));
    assert_false(flow_key_of(&k, &path, &path));
    assert_false(flow_key_of_socket(&k, -1));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flow_has_one_name_whichever_family_its_socket_is_of),
        cmocka_unit_test(a_name_gives_the_addresses_back),
        cmocka_unit_test(what_is_no_tcp_connection_has_no_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
