/* SPDX-License-Identifier: BSD-2-Clause
 *
 * probe_test.c - the bytes of what is sent to clients.
 */
#include "takeover/probe.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/units.h"
#include "takeover/checksum.h"

static struct flow_key
key(bool ip4)
{
    struct addr local, remote;
    struct flow_key k;

    assert_true(addr_parse_ip(ip4 ? STR("10.0.0.9") : STR("2001:db8::9"), 80, &local));
    assert_true(addr_parse_ip(ip4 ? STR("10.0.0.1") : STR("2001:db8::1"), 4711, &remote));
    assert_true(flow_key_of(&k, &local, &remote));
    return k;
}

static void
the_client_reads_an_unreachable_of_its_own_segment(void **state)
{
    static const uint8_t expected[] = {
        3,    1,    0, 0,  0,    0,    0,    0,   /* destination unreachable: host */
        0x45, 0,    0, 40, 0,    0,    0x40, 0,   /* IPv4, 40 bytes, DF */
        64,   6,    0, 0,  10,   0,    0,    1,   /* TCP, from the client */
        10,   0,    0, 9,                         /* to us */
        0x12, 0x67, 0, 80, 0xde, 0xad, 0xbe, 0xef /* ports, sequence number */
    };
    struct flow_key k = key(true);
    uint8_t got[PROBE_UNREACHABLE_MAX];
    size_t n = probe_unreachable(&k, 0xdeadbeef, got);

    assert_int_equal(n, sizeof(expected));
    assert_int_equal(checksum_add(0, got, n), 0xffff);
    assert_int_equal(checksum_add(0, got + 8, 20), 0xffff);
    memset(got + 2, 0, 2);
    memset(got + 18, 0, 2);
    assert_memory_equal(got, expected, n);
}

static void
and_so_it_does_in_ipv6(void **state)
{
    static const uint8_t expected[] = {
        1,    0,    0,    0,    0,    0,    0,    0,   /* destination unreachable: no route */
        0x60, 0,    0,    0,    0,    20,   6,    64,  /* IPv6, 20 bytes of TCP */
        0x20, 1,    0x0d, 0xb8, 0,    0,    0,    0,   /* from the client */
        0,    0,    0,    0,    0,    0,    0,    1,   /* */
        0x20, 1,    0x0d, 0xb8, 0,    0,    0,    0,   /* to us */
        0,    0,    0,    0,    0,    0,    0,    9,   /* */
        0x12, 0x67, 0,    80,   0xde, 0xad, 0xbe, 0xef /* ports, sequence number */
    };
    struct flow_key k = key(false);
    uint8_t got[PROBE_UNREACHABLE_MAX];
    size_t n = probe_unreachable(&k, 0xdeadbeef, got);
    uint32_t pseudo = checksum_pseudo(k.local, k.remote, IPPROTO_ICMPV6, n);

    assert_int_equal(n, sizeof(expected));
    assert_int_equal(checksum_fold(checksum_add(pseudo, got, n)), 0xffff);
    memset(got + 2, 0, 2);
    assert_memory_equal(got, expected, n);
}

/* One byte before what the client expects, and no more than it may have said itself. */
static void
a_keep_alive_is_a_segment_of_one_byte(void **state)
{
    const uint32_t ts[2] = {77, 0};

    for (unsigned i = 0; i < 2; i++) {
        struct flow_key k = key(i == 0);
        uint8_t got[PROBE_SEGMENT_MAX];
        size_t n = probe_segment(&k, TH_ACK, 1000, 2000, i == 0 ? ts : NULL, true, got);
        uint32_t pseudo = checksum_pseudo(k.local, k.remote, IPPROTO_TCP, n);
        struct tcphdr h;

        memcpy(&h, got, sizeof(h));
        assert_int_equal(n, h.th_off * 4 + 1);
        assert_int_equal(h.th_off * 4, i == 0 ? 32 : 20);
        assert_int_equal(ntohl(h.th_seq), 1000);
        assert_int_equal(ntohl(h.th_ack), 2000);
        assert_int_equal(checksum_fold(checksum_add(pseudo, got, n)), 0xffff);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_client_reads_an_unreachable_of_its_own_segment),
        cmocka_unit_test(and_so_it_does_in_ipv6),
        cmocka_unit_test(a_keep_alive_is_a_segment_of_one_byte),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
