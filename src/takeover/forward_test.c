/* SPDX-License-Identifier: BSD-2-Clause
 *
 * forward_test.c - a packet made anew says what the held one said, as the guard reads it.
 */
#include "takeover/forward.h"

#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "takeover/checksum.h"

#define ETHERNET 14

static const uint8_t from[6] = {2, 0, 0, 0, 0, 1}, to[6] = {2, 0, 0, 0, 0, 2};
static uint8_t frame[FORWARD_FRAME_MAX], payload[3 * FORWARD_PAYLOAD];

static struct guard_packet
packet(bool ip4, size_t n)
{
    struct guard_packet p = {.flags = TH_ACK | TH_PUSH | TH_FIN,
                             .window = 501,
                             .seq = 0xfffffff0,
                             .ack = 77,
                             .has_ts = true,
                             .ts = 1234,
                             .ts_echo = 99,
                             .payload = payload,
                             .n_payload = n};
    struct addr local, remote;

    assert_true(addr_parse_ip(ip4 ? STR("10.0.0.9") : STR("2001:db8::9"), 80, &local));
    assert_true(addr_parse_ip(ip4 ? STR("10.0.0.1") : STR("2001:db8::1"), 4711, &remote));
    assert_true(flow_key_of(&p.key, &local, &remote));
    for (size_t i = 0; i < sizeof(payload); i++)
        payload[i] = (uint8_t)(i * 7);
    return p;
}

/* What the guard would read of the frame. */
static struct guard_packet
read_back(const struct guard_packet *p, size_t n, bool ip4)
{
    size_t head = ETHERNET + (ip4 ? 20 : 40);
    struct guard_packet out;

    assert_memory_equal(frame, to, 6);
    assert_memory_equal(frame + 6, from, 6);
    if (ip4)
        assert_int_equal(checksum_fold(checksum_add(0, frame + ETHERNET, 20)), 0xffff);
    assert_true(guard_packet_read(&p->key, frame + head, n - head, n - head, &out));
    return out;
}

static void
expect_same(bool ip4, bool has_ts, size_t n_payload)
{
    struct guard_packet p = packet(ip4, n_payload), got;

    p.has_ts = has_ts;
    got = read_back(&p, forward_frame(&p, 0, from, to, frame), ip4);
    assert_int_equal(got.seq, p.seq);
    assert_int_equal(got.ack, p.ack);
    assert_int_equal(got.flags, p.flags);
    assert_int_equal(got.window, p.window);
    assert_int_equal(got.has_ts, has_ts);
    if (has_ts) {
        assert_int_equal(got.ts, p.ts);
        assert_int_equal(got.ts_echo, p.ts_echo);
    }
    assert_int_equal(got.n_payload, n_payload);
    assert_memory_equal(got.payload, payload, n_payload);
}

static void
a_packet_says_what_it_said(void **state)
{
    expect_same(true, true, 300);
    expect_same(true, false, 301);
    expect_same(false, true, 1);
    expect_same(false, false, 0);
}

static void
a_long_one_goes_in_pieces(void **state)
{
    struct guard_packet p = packet(true, 2 * FORWARD_PAYLOAD + 5), got;

    got = read_back(&p, forward_frame(&p, 0, from, to, frame), true);
    assert_int_equal(got.n_payload, FORWARD_PAYLOAD);
    assert_int_equal(got.flags, TH_ACK);
    got = read_back(&p, forward_frame(&p, 2 * FORWARD_PAYLOAD, from, to, frame), true);
    assert_int_equal(got.seq, p.seq + 2 * FORWARD_PAYLOAD);
    assert_int_equal(got.n_payload, 5);
    assert_memory_equal(got.payload, payload + 2 * FORWARD_PAYLOAD, 5);
    assert_int_equal(got.flags, p.flags);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_packet_says_what_it_said),
        cmocka_unit_test(a_long_one_goes_in_pieces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
