/* SPDX-License-Identifier: BSD-2-Clause
 *
 * witness_test.c - pings as bytes, and gateways as the kernel tells them.
 */
#include "takeover/witness.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define HEADER "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"

/* An answer as a raw IPv4 socket gives it: a header of 20 bytes, then the echo. */
static size_t
answer(uint8_t type, uint16_t id, uint64_t nonce, uint8_t out[64])
{
    memset(out, 0, 64);
    out[0] = 0x45;
    witness_echo(AF_INET, id, 7, nonce, out + 20);
    out[20] = type;
    return 20 + WITNESS_ECHO_BYTES;
}

static void
only_the_answer_to_our_own_ping_counts(void **state)
{
    uint8_t p[64];
    size_t n = answer(0, 4711, 42, p);

    assert_true(witness_is_answer(AF_INET, p, n, 4711, 42));
    assert_false(witness_is_answer(AF_INET, p, n, 4712, 42));
    assert_false(witness_is_answer(AF_INET, p, n, 4711, 43));
    assert_false(witness_is_answer(AF_INET, p, n, 4711, 42 << 8));
    answer(8, 4711, 42, p); /* the ping itself */
    assert_false(witness_is_answer(AF_INET, p, n, 4711, 42));
}

static void
what_is_cut_off_is_no_answer(void **state)
{
    uint8_t p[64];
    size_t n = answer(0, 4711, 42, p);

    for (size_t i = 0; i < 20 + 16; i++)
        assert_false(witness_is_answer(AF_INET, p, i, 4711, 42));
    p[0] = 0x4f; /* a header longer than the packet */
    assert_false(witness_is_answer(AF_INET, p, n, 4711, 42));
}

static void
a_ping_of_ip4_has_a_checksum(void **state)
{
    uint8_t p[WITNESS_ECHO_BYTES];
    uint32_t sum = 0;

    witness_echo(AF_INET, 1, 2, 0x123456789abcdef0, p);
    for (size_t i = 0; i < sizeof(p); i += 2)
        sum += (uint32_t)p[i] << 8 | p[i + 1];
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    assert_int_equal(sum, 0xffff);
}

static void
expect_gateways(int family, const char *text, const char *interface, const char *expected)
{
    struct addr a[4];
    char out[256] = "", one[ADDR_TEXT];
    unsigned n = witness_gateways(family, str_of(text), interface, a, 4);

    for (unsigned i = 0; i < n; i++) {
        strcat(out, i > 0 ? " " : "");
        strcat(out, addr_ip_text(&a[i], one));
    }
    assert_string_equal(out, expected);
}

static void
gateways_are_those_of_default_routes(void **state)
{
    const uint32_t via = inet_addr("192.168.0.1");
    char text[512];

    snprintf(text, sizeof(text),
             HEADER "eth0 00000000 %08X 0003 0 0 0 00000000 0 0 0\n"
                    "eth0 0000A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n"
                    "eth1 00000000 00000000 0001 0 0 0 00000000 0 0 0\n"
                    "eth1 0000010A %08X 0003 0 0 0 0000FFFF 0 0 0\n",
             via, via);
    expect_gateways(AF_INET, text, NULL, "192.168.0.1");
    expect_gateways(AF_INET, text, "eth0", "192.168.0.1");
    expect_gateways(AF_INET, text, "eth1", "");
    expect_gateways(AF_INET, "no route at all\n\n\n", NULL, "");
}

#define V6(to, bits, via, dev)                              \
    to " " bits " 00000000000000000000000000000000 00 " via \
       " 00000400 00000001 00000000 00000003 " dev "\n"
#define NONE "00000000000000000000000000000000"

static void
gateways_of_ip6_are_found_too(void **state)
{
    const char *text =
        V6(NONE, "00", "20010db8000000000000000000000001", "eth0") V6(NONE, "00", NONE, "eth0")
            V6("20010db8000000000000000000000000", "40", "20010db8000000000000000000000002", "eth0")
                V6(NONE, "00", "20010db80000000000000000000000xx", "eth0");

    expect_gateways(AF_INET6, text, "eth0", "2001:db8::1");
    expect_gateways(AF_INET6, text, "eth1", "");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_answer_to_our_own_ping_counts),
        cmocka_unit_test(what_is_cut_off_is_no_answer),
        cmocka_unit_test(a_ping_of_ip4_has_a_checksum),
        cmocka_unit_test(gateways_are_those_of_default_routes),
        cmocka_unit_test(gateways_of_ip6_are_found_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
