/* SPDX-License-Identifier: BSD-2-Clause */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "takeover/checksum.h"

static void
the_example_of_rfc_1071_adds_up(void **state)
{
    static const uint8_t bytes[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
    uint16_t sum = checksum_fold(checksum_add(0, bytes, sizeof(bytes)));

    assert_int_equal(ntohs(sum), 0xddf2);
}

static void
an_odd_byte_is_followed_by_a_zero(void **state)
{
    static const uint8_t bytes[] = {0xab, 0xcd, 0xef, 0x00};

    assert_int_equal(checksum_add(0, bytes, 3), checksum_add(0, bytes, 4));
}

static void
a_sum_with_its_complement_is_all_ones(void **state)
{
    uint8_t bytes[65534];
    uint16_t sum;

    memset(bytes, 0xff, sizeof(bytes)); /* as large as sums become */
    bytes[0] = bytes[1] = 0;
    bytes[100] = 0x37;
    sum = (uint16_t)~checksum_fold(checksum_add(0xffff, bytes, sizeof(bytes)));
    memcpy(bytes, &sum, sizeof(sum));
    assert_int_equal(checksum_fold(checksum_add(0xffff, bytes, sizeof(bytes))), 0xffff);
}

/* 10.0.0.1, 10.0.0.2, 20 bytes: 0a00 + 0001 + 0a00 + 0002 + 0006 + 0014 */
static void
the_pseudo_header_has_addresses_protocol_and_length(void **state)
{
    static const uint8_t a[16] = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 1};
    static const uint8_t b[16] = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 2};
    static const uint8_t c[16] = {[0] = 0xfd, [15] = 3};

    assert_int_equal(ntohs(checksum_fold(checksum_pseudo(a, b, IPPROTO_TCP, 20))), 0x141d);
    assert_int_equal(ntohs(checksum_fold(checksum_pseudo(c, c, IPPROTO_TCP, 20))),
                     0xfa00 + 0x1 + 6 + 6 + 0x14);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example_of_rfc_1071_adds_up),
        cmocka_unit_test(an_odd_byte_is_followed_by_a_zero),
        cmocka_unit_test(a_sum_with_its_complement_is_all_ones),
        cmocka_unit_test(the_pseudo_header_has_addresses_protocol_and_length),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
