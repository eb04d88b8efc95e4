/* SPDX-License-Identifier: BSD-2-Clause
 *
 * announce_test.c - frames that tell where an address is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/announce.h"

static const struct announce_mac mac = {{0x02, 0x11, 0x22, 0x33, 0x44, 0x55}};

static struct addr
ip(const char *text)
{
    struct addr a = {.len = 0};

    assert_true(addr_parse_ip(str_of(text), 0, &a));
    return a;
}

/* Written out by hand after RFC 826. */
static void
gratuitous_arp_has_these_bytes(void **state)
{
    static const uint8_t expected[42] = "\xff\xff\xff\xff\xff\xff\x02\x11\x22\x33\x44\x55\x08\x06"
                                        "\x00\x01\x08\x00\x06\x04\x00\x01"
                                        "\x02\x11\x22\x33\x44\x55\xc0\x00\x02\x0a"
                                        "\x00\x00\x00\x00\x00\x00\xc0\x00\x02\x0a";
    struct addr a = ip("192.0.2.10");
    uint8_t frame[ANNOUNCE_FRAME_MAX];

    assert_int_equal(announce_frame(&a, &mac, false, frame), sizeof(expected));
    assert_memory_equal(frame, expected, sizeof(expected));
    announce_frame(&a, &mac, true, frame);
    assert_int_equal(frame[21], 2);
}

/* Ones' complement over the pseudo-header and the message, its checksum included, is all ones. */
static uint16_t
sum_of(const uint8_t *frame, size_t n)
{
    uint32_t sum = (uint32_t)(n - 54) + 58;

    for (size_t i = 22; i < n; i += 2) /* the addresses, then the message */
        sum += (uint32_t)frame[i] << 8 | frame[i + 1];
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

static void
a_neighbour_advertisement_is_sound(void **state)
{
    struct addr a = ip("2001:db8::10");
    uint8_t frame[ANNOUNCE_FRAME_MAX];
    size_t n = announce_frame(&a, &mac, false, frame);

    assert_int_equal(n, 86);
    assert_memory_equal(frame, "\x33\x33\x00\x00\x00\x01\x02\x11\x22\x33\x44\x55\x86\xdd\x60", 15);
    assert_int_equal(frame[19], 32);  /* payload */
    assert_int_equal(frame[20], 58);  /* ICMPv6 */
    assert_int_equal(frame[21], 255); /* RFC 4861 7.1.2: else it is dropped */
    assert_int_equal(frame[54], 136);
    assert_int_equal(frame[58], 0x20); /* override, not solicited */
    assert_memory_equal(frame + 62, &a.u.in6.sin6_addr, 16);
    assert_memory_equal(frame + 78, "\x02\x01\x02\x11\x22\x33\x44\x55", 8);
    assert_int_equal(sum_of(frame, n), 0xffff);
}

static void
what_is_written_can_be_read(void **state)
{
    static const char *const texts[] = {"192.0.2.10", "2001:db8::10"};

    for (size_t i = 0; i < 2; i++)
        for (int reply = 0; reply < 2; reply++) {
            struct addr a = ip(texts[i]), got;
            struct announce_mac from;
            uint8_t frame[ANNOUNCE_FRAME_MAX];
            size_t n = announce_frame(&a, &mac, reply, frame);

            assert_true(announce_read(frame, n, &got, &from));
            assert_true(addr_eq(&a, &got));
            assert_memory_equal(&from, &mac, sizeof(mac));
            for (size_t k = 0; k < n; k++) { /* a read beyond it is seen */
                uint8_t *part = malloc(k + 1);

                memcpy(part, frame, k);
                assert_false(announce_read(part, k, &got, &from));
                free(part);
            }
        }
}

static void
who_asks_does_so_in_nobody_s_name(void **state)
{
    static const uint8_t arp[42] = "\xff\xff\xff\xff\xff\xff\x02\x11\x22\x33\x44\x55\x08\x06"
                                   "\x00\x01\x08\x00\x06\x04\x00\x01"
                                   "\x02\x11\x22\x33\x44\x55\x00\x00\x00\x00"
                                   "\x00\x00\x00\x00\x00\x00\xc0\x00\x02\x0a";
    struct addr a = ip("192.0.2.10"), b = ip("2001:db8::12:3456"), got;
    struct announce_mac from;
    uint8_t frame[ANNOUNCE_FRAME_MAX];
    size_t n = announce_question(&a, &mac, frame);

    assert_int_equal(n, sizeof(arp));
    assert_memory_equal(frame, arp, sizeof(arp));
    assert_false(announce_read(frame, n, &got, &from));
    n = announce_question(&b, &mac, frame);
    assert_int_equal(n, 78);
    assert_memory_equal(frame, "\x33\x33\xff\x12\x34\x56", 6);
    assert_memory_equal(frame + 38, "\xff\x02\0\0\0\0\0\0\0\0\0\x01\xff\x12\x34\x56", 16);
    assert_int_equal(frame[54], 135);
    assert_memory_equal(frame + 62, &b.u.in6.sin6_addr, 16);
    assert_int_equal(sum_of(frame, n), 0xffff);
    assert_false(announce_read(frame, n, &got, &from));
}

/* Nobody else asks in nobody's name but who is about to take an address himself. */
static void
the_answer_to_that_is_read(void **state)
{
    struct addr a = ip("192.0.2.10"), got;
    struct announce_mac from;
    uint8_t frame[ANNOUNCE_FRAME_MAX];
    size_t n = announce_frame(&a, &mac, true, frame);

    memset(frame + 38, 0, 4);
    assert_true(announce_read(frame, n, &got, &from));
    assert_true(addr_eq(&a, &got));
    assert_memory_equal(&from, &mac, sizeof(mac));
    memset(frame + 28, 0, 4);
    assert_false(announce_read(frame, n, &got, &from));
}

/* Who asks for an address, or answers somebody, announces nothing. */
static void
questions_and_answers_are_no_announcements(void **state)
{
    struct addr a = ip("192.0.2.10"), b = ip("2001:db8::10"), got;
    struct announce_mac from;
    uint8_t frame[ANNOUNCE_FRAME_MAX];
    size_t n = announce_frame(&a, &mac, false, frame);

    frame[41] = 11;
    assert_false(announce_read(frame, n, &got, &from));
    n = announce_frame(&b, &mac, false, frame);
    frame[58] |= 0x40; /* solicited */
    assert_false(announce_read(frame, n, &got, &from));
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(gratuitous_arp_has_these_bytes),
        cmocka_unit_test(a_neighbour_advertisement_is_sound),
        cmocka_unit_test(what_is_written_can_be_read),
        cmocka_unit_test(who_asks_does_so_in_nobody_s_name),
        cmocka_unit_test(the_answer_to_that_is_read),
        cmocka_unit_test(questions_and_answers_are_no_announcements),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
