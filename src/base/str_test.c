/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#define assert_str(s, lit) assert_true(str_eq((s), STR(lit)))

static void
text_is_compared_by_length_and_bytes(void **state)
{
    assert_true(str_eq(STR("cub"), STR("cub")));
    assert_false(str_eq(STR("cub"), STR("cubs")));
    assert_true(str_eq(STR_NONE, STR("")));
    assert_true(str_eq_ci(STR("Content-LENGTH"), STR("content-length")));
    assert_false(str_eq_ci(STR("a[b"), STR("a{b"))); /* differ by 0x20 but are no letters */
    assert_true(str_starts(STR("/api/v1"), STR("/api")));
    assert_false(str_starts(STR("/ap"), STR("/api")));
    assert_true(str_starts(STR_NONE, STR_NONE));
}

static void
trimming_takes_spaces_and_tabs_only(void **state)
{
    assert_str(str_trim(STR(" \t a b\t ")), "a b");
    assert_str(str_trim(STR(" \t ")), "");
    assert_str(str_trim(STR("\na")), "\na");
}

static void
cutting_yields_every_part_even_an_empty_last_one(void **state)
{
    struct str rest = STR("a,,b,");

    assert_str(str_cut(&rest, ','), "a");
    assert_str(str_cut(&rest, ','), "");
    assert_str(str_cut(&rest, ','), "b");
    assert_non_null(rest.p);
    assert_str(str_cut(&rest, ','), "");
    assert_null(rest.p);
    assert_str(str_cut(&rest, ','), "");
}

static void
a_number_is_digits_that_fit_and_nothing_else(void **state)
{
    static const char *const refused[] = {
        "", "-1", "+1", " 1", "1 ", "0x1", "18446744073709551616"};
    uint64_t v = 5;

    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        assert_false(str_u64(str_of(refused[i]), &v));
    assert_int_equal(v, 5);
    assert_true(str_u64(STR("18446744073709551615"), &v));
    assert_true(v == UINT64_MAX);
    assert_true(str_u64(STR("007"), &v));
    assert_int_equal(v, 7);
}

static void
a_copy_ends_in_nul(void **state)
{
    char *copy = str_dup((struct str){"abcdef", 3}), *empty = str_dup(STR_NONE);

    assert_string_equal(copy, "abc");
    assert_string_equal(empty, "");
    free(copy);
    free(empty);
}

/* The first vectors are those every XXH64 publishes; balancers of two releases must agree. */
static void
a_hash_is_the_same_on_every_machine(void **state)
{
    static const char text[] = "meercats stand on their hind legs and watch; the mob eats in peace";

    assert_true(str_hash(STR_NONE, 0) == 0xef46db3751d8e999u);
    assert_true(str_hash(STR("a"), 0) == 0xd24ec4f1a98c6e5bu);
    assert_true(str_hash(STR("abc"), 0) == 0x44bc2cf5ad770999u);
    assert_true(str_hash(STR(text), 1) != str_hash(STR(text), 2));
}

static void
every_byte_of_a_text_counts_for_its_hash(void **state)
{
    char text[100];

    for (size_t n = 1; n <= sizeof(text); n++) {
        uint64_t before;

        memset(text, 'x', sizeof(text));
        before = str_hash((struct str){text, n}, 0);
        for (size_t i = 0; i < n; i++) {
            text[i] = 'y';
            assert_true(str_hash((struct str){text, n}, 0) != before);
            text[i] = 'x';
        }
    }
}

static void
a_slip_of_the_pen_is_near_and_a_novel_is_far(void **state)
{
    char novel[65];

    memset(novel, 'a', sizeof(novel));
    assert_int_equal(str_distance(STR("timeout"), STR("timeout")), 0);
    assert_int_equal(str_distance(STR("timeot"), STR("timeout")), 1);
    assert_int_equal(str_distance(STR("kitten"), STR("sitting")), 3);
    assert_int_equal(str_distance(STR(""), STR("abc")), 3);
    assert_int_equal(str_distance((struct str){novel, 64}, STR("a")), 63);
    assert_true(str_distance((struct str){novel, 65}, STR("a")) > 1000);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_compared_by_length_and_bytes),
        cmocka_unit_test(trimming_takes_spaces_and_tabs_only),
        cmocka_unit_test(cutting_yields_every_part_even_an_empty_last_one),
        cmocka_unit_test(a_number_is_digits_that_fit_and_nothing_else),
        cmocka_unit_test(a_copy_ends_in_nul),
        cmocka_unit_test(a_hash_is_the_same_on_every_machine),
        cmocka_unit_test(every_byte_of_a_text_counts_for_its_hash),
        cmocka_unit_test(a_slip_of_the_pen_is_near_and_a_novel_is_far),
    };

    return cmocka_run_group_tests_name("base/str", tests, NULL, NULL);
}
