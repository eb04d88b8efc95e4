/* SPDX-License-Identifier: BSD-2-Clause */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/check.h"
#include "io/addr.h"

static struct addr
must(const char *text)
{
    struct addr a = {.len = 0};
    struct errbuf eb;

    assert_int_equal(addr_parse(str_of(text), &a, NULL, NULL, &eb), MC_OK);
    return a;
}

static void
what_is_read_is_written_the_same(void **state)
{
    static const char *const texts[] = {
        "10.0.0.1:80", "[::1]:443", "0.0.0.0:0", "[2001:db8::1]:65535", "unix:/run/x.sock",
    };
    char out[ADDR_TEXT];

    for (size_t i = 0; i < MC_COUNT(texts); i++) {
        struct addr a = must(texts[i]);

        assert_string_equal(addr_text(&a, out), texts[i]);
    }
}

static void
a_star_is_any_ipv4_address(void **state)
{
    struct addr a = must("*:8080");
    char out[ADDR_TEXT];

    assert_string_equal(addr_text(&a, out), "0.0.0.0:8080");
    assert_int_equal(addr_port(&a), 8080);
}

static void
any_and_loopback_are_told_from_others(void **state)
{
    static const struct {
        const char *text;
        bool any, loopback;
    } rows[] = {
        {"*:80", true, false},
        {"[::]:80", true, false},
        {"127.0.0.1:80", false, true},
        {"127.9.0.1:80", false, true},
        {"[::1]:80", false, true},
        {"[::ffff:127.0.0.1]:80", false, true},
        {"[::2]:80", false, false},
        {"10.127.0.1:80", false, false},
        {"unix:/run/x.sock", false, false},
    };

    for (size_t i = 0; i < MC_COUNT(rows); i++) {
        struct addr a = must(rows[i].text);

        assert_int_equal(addr_is_any(&a), rows[i].any);
        assert_int_equal(addr_is_loopback(&a), rows[i].loopback);
    }
}

static void
a_name_is_given_back_in_two_parts(void **state)
{
    struct addr a;
    struct str host;
    struct errbuf eb;
    uint16_t port;

    assert_int_equal(addr_parse(STR("app.example.org:8080"), &a, &host, &port, &eb), MC_ENOENT);
    assert_true(str_eq(host, STR("app.example.org")));
    assert_int_equal(port, 8080);
    assert_int_equal(addr_parse(STR("app:1"), &a, NULL, NULL, NULL), MC_ENOENT);
}

static void
nonsense_is_refused_with_a_reason(void **state)
{
    static const char *const texts[] = {
        "",      "80",     ":80",         "10.0.0.1",    "10.0.0.1:",     "10.0.0.1:x",
        "[::1]", "::1:80", "[::1:80",     "::1]:80",     "[10.0.0.1]:80", "[name]:80",
        "[]:80", "unix:",  "10.0.0.1:+1", "10.0.0.1: 1",
    };
    struct addr a = {.len = 77};
    struct errbuf eb;

    for (size_t i = 0; i < MC_COUNT(texts); i++) {
        eb.text[0] = '\0';
        assert_int_equal(addr_parse(str_of(texts[i]), &a, NULL, NULL, &eb), MC_ESYNTAX);
        assert_true(eb.text[0] != '\0');
        assert_int_equal(a.len, 77);
    }
    assert_int_equal(addr_parse(STR("10.0.0.1:65536"), &a, NULL, NULL, &eb), MC_ERANGE);
}

static void
a_path_too_long_for_a_unix_socket_is_refused(void **state)
{
    char text[200] = "unix:";
    struct addr a;
    struct errbuf eb;
    size_t max = sizeof(a.u.un.sun_path) - 1;

    memset(text + 5, 'x', max);
    assert_int_equal(addr_parse((struct str){text, 5 + max}, &a, NULL, NULL, &eb), MC_OK);
    text[5 + max] = 'x';
    assert_int_equal(addr_parse((struct str){text, 6 + max}, &a, NULL, NULL, &eb), MC_ERANGE);
}

static void
addresses_compare_with_their_ports(void **state)
{
    struct addr a = must("10.0.0.1:80"), b = must("10.0.0.1:81"), c = must("[::1]:80");
    struct addr u = must("unix:/a"), v = must("unix:/b"), none = {.len = 0};

    assert_true(addr_eq(&a, &a));
    assert_false(addr_eq(&a, &b));
    assert_false(addr_eq(&a, &c));
    assert_true(addr_eq(&u, &u));
    assert_false(addr_eq(&u, &v));
    assert_false(addr_eq(&a, &none));
    assert_true(addr_eq(&none, &none));
    addr_set_port(&b, 80);
    assert_true(addr_eq(&a, &b));
    assert_int_equal(addr_port(&u), 0);
}

static bool
inside(const char *ip, const char *net_text)
{
    struct addr a;
    struct addr_net net;
    struct errbuf eb;

    assert_true(addr_parse_ip(str_of(ip), 1234, &a));
    assert_int_equal(addr_parse_net(str_of(net_text), &net, &eb), MC_OK);
    return addr_in_net(&a, &net);
}

static void
networks_hold_their_addresses(void **state)
{
    assert_true(inside("10.1.2.3", "10.0.0.0/8"));
    assert_false(inside("11.1.2.3", "10.0.0.0/8"));
    assert_true(inside("10.1.2.3", "10.1.2.3"));
    assert_false(inside("10.1.2.4", "10.1.2.3"));
    assert_true(inside("10.1.3.255", "10.1.2.0/23"));
    assert_false(inside("10.1.4.0", "10.1.2.0/23"));
    assert_true(inside("1.2.3.4", "0.0.0.0/0"));
    assert_true(inside("2001:db8::77", "2001:db8::/32"));
    assert_false(inside("2001:db9::77", "2001:db8::/32"));
    assert_true(inside("::1", "::1"));
    assert_false(inside("::1", "0.0.0.0/0"));
    assert_true(inside("::ffff:10.9.9.9", "10.0.0.0/8"));
    assert_false(inside("::ffff:11.9.9.9", "10.0.0.0/8"));
}

static void
unix_peers_are_a_network_of_their_own(void **state)
{
    struct addr u = must("unix:/x"), a = must("10.0.0.1:1");
    struct addr_net net;
    struct errbuf eb;

    assert_int_equal(addr_parse_net(STR("unix"), &net, &eb), MC_OK);
    assert_true(addr_in_net(&u, &net));
    assert_false(addr_in_net(&a, &net));
    assert_int_equal(addr_parse_net(STR("0.0.0.0/0"), &net, &eb), MC_OK);
    assert_false(addr_in_net(&u, &net));
}

static void
impossible_networks_are_refused(void **state)
{
    struct addr_net net;
    struct errbuf eb;

    assert_int_equal(addr_parse_net(STR("10.0.0.0/33"), &net, &eb), MC_ERANGE);
    assert_int_equal(addr_parse_net(STR("10.0.0.0/"), &net, &eb), MC_ERANGE);
    assert_int_equal(addr_parse_net(STR("::1/129"), &net, &eb), MC_ERANGE);
    assert_int_equal(addr_parse_net(STR("example.org/8"), &net, &eb), MC_ESYNTAX);
    assert_int_equal(addr_parse_net(STR(""), &net, &eb), MC_ESYNTAX);
}

static void
texts_without_port_have_no_brackets(void **state)
{
    struct addr a = must("[::1]:80"), b = must("10.0.0.1:80"), u = must("unix:/x");
    struct addr none = {.len = 0};
    char out[ADDR_TEXT];

    assert_string_equal(addr_ip_text(&a, out), "::1");
    assert_string_equal(addr_ip_text(&b, out), "10.0.0.1");
    assert_string_equal(addr_ip_text(&u, out), "unix");
    assert_string_equal(addr_ip_text(&none, out), "-");
}

static void
every_byte_of_an_address_is_written_as_glibc_does(void **state)
{
    char out[ADDR_TEXT], expected[ADDR_TEXT];

    for (unsigned i = 0; i < 256; i++) {
        const uint8_t ip[4] = {(uint8_t)i, (uint8_t)(255 - i), (uint8_t)(i * 7), (uint8_t)(i / 2)};

        addr_put_ip(AF_INET, ip, out);
        assert_string_equal(out, inet_ntop(AF_INET, ip, expected, sizeof(expected)));
    }
}

/* A client that did not bind has a bare family as its name. */
static void
an_unnamed_unix_peer_can_be_written(void **state)
{
    struct addr u = {.len = sizeof(sa_family_t)};
    char out[ADDR_TEXT];

    u.u.sa.sa_family = AF_UNIX;
    assert_string_equal(addr_text(&u, out), "unix:");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_read_is_written_the_same),
        cmocka_unit_test(a_star_is_any_ipv4_address),
        cmocka_unit_test(any_and_loopback_are_told_from_others),
        cmocka_unit_test(a_name_is_given_back_in_two_parts),
        cmocka_unit_test(nonsense_is_refused_with_a_reason),
        cmocka_unit_test(a_path_too_long_for_a_unix_socket_is_refused),
        cmocka_unit_test(addresses_compare_with_their_ports),
        cmocka_unit_test(networks_hold_their_addresses),
        cmocka_unit_test(unix_peers_are_a_network_of_their_own),
        cmocka_unit_test(impossible_networks_are_refused),
        cmocka_unit_test(texts_without_port_have_no_brackets),
        cmocka_unit_test(every_byte_of_an_address_is_written_as_glibc_does),
        cmocka_unit_test(an_unnamed_unix_peer_can_be_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
