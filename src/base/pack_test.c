/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/pack.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"

static void
what_goes_in_comes_out(void **state)
{
    static const uint64_t num[] = {0, 1, 127, 128, 300, UINT32_MAX, UINT64_MAX};
    static const int64_t snum[] = {0, -1, 1, -64, 64, INT64_MIN, INT64_MAX};
    uint8_t room[256];
    struct pack_out o = {.p = room, .cap = sizeof(room)};
    struct pack_in in;

    (void)state;
    pack_u8(&o, 0xab);
    pack_u16(&o, 0x1234);
    pack_u32(&o, 0xdeadbeef);
    pack_u64(&o, 0x0123456789abcdefull);
    pack_f32(&o, -1.5f);
    for (unsigned i = 0; i < MC_COUNT(num); i++)
        pack_varint(&o, num[i]);
    for (unsigned i = 0; i < MC_COUNT(snum); i++)
        pack_svarint(&o, snum[i]);
    pack_str(&o, STR("name"));
    pack_str(&o, STR(""));
    assert_false(o.bad);

    in = (struct pack_in){.p = room, .n = o.n};
    assert_int_equal(unpack_u8(&in), 0xab);
    assert_int_equal(unpack_u16(&in), 0x1234);
    assert_int_equal(unpack_u32(&in), 0xdeadbeef);
    assert_true(unpack_u64(&in) == 0x0123456789abcdefull);
    assert_int_equal(unpack_u32(&in), 0xbfc00000); /* -1.5 */
    for (unsigned i = 0; i < MC_COUNT(num); i++)
        assert_true(unpack_varint(&in) == num[i]);
    for (unsigned i = 0; i < MC_COUNT(snum); i++)
        assert_true(unpack_svarint(&in) == snum[i]);
    assert_true(str_eq(unpack_str(&in, 4), STR("name")));
    assert_int_equal(unpack_str(&in, 4).n, 0);
    assert_false(in.bad);
    assert_int_equal(in.n, 0);
}

static void
bytes_are_as_documented(void **state)
{
    static const uint8_t want[] = {0x12, 0x34, 0xac, 0x02, 0x01, 0x02, 'a', 'b'};
    uint8_t room[16];
    struct pack_out o = {.p = room, .cap = sizeof(room)};

    (void)state;
    pack_u16(&o, 0x1234);
    pack_varint(&o, 300);
    pack_svarint(&o, -1);
    pack_str(&o, STR("ab"));
    assert_int_equal(o.n, sizeof(want));
    assert_memory_equal(room, want, sizeof(want));
}

static void
what_finds_no_room_is_noticed(void **state)
{
    uint8_t room[4] = {0};
    struct pack_out o = {.p = room, .cap = 3};

    (void)state;
    pack_u16(&o, 1);
    pack_u16(&o, 0xffff);
    assert_true(o.bad);
    pack_u8(&o, 7); /* would fit, but what it follows is missing */
    assert_int_equal(o.n, 2);
    assert_int_equal(room[2], 0);
}

static void
a_cut_off_number_is_bad(void **state)
{
    static const uint8_t b[] = {0x80, 0x80};
    struct pack_in in = {.p = b, .n = sizeof(b)};

    (void)state;
    assert_int_equal(unpack_varint(&in), 0);
    assert_true(in.bad);
    assert_int_equal(unpack_u8(&in), 0);
    assert_null(unpack_bytes(&in, 1));
}

static void
what_is_out_of_range_is_bad(void **state)
{
    static const uint8_t over[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02};
    static const uint8_t endless[] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
                                      0x80, 0x80, 0x80, 0x80, 0x00};
    static const uint8_t text[] = {5, 'a', 'b', 'c', 'd', 'e'};
    struct pack_in in = {.p = over, .n = sizeof(over)};

    (void)state;
    unpack_varint(&in);
    assert_true(in.bad);
    in = (struct pack_in){.p = endless, .n = sizeof(endless)};
    unpack_varint(&in);
    assert_true(in.bad);
    in = (struct pack_in){.p = text, .n = sizeof(text)};
    assert_null(unpack_str(&in, 4).p);
    assert_true(in.bad);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_goes_in_comes_out),        cmocka_unit_test(bytes_are_as_documented),
        cmocka_unit_test(what_finds_no_room_is_noticed), cmocka_unit_test(a_cut_off_number_is_bad),
        cmocka_unit_test(what_is_out_of_range_is_bad),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
