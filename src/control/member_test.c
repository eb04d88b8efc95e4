/* SPDX-License-Identifier: BSD-2-Clause
 *
 * member_test.c - what members say of themselves, and what facts are called.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "control/member_priv.h"

static void
a_card_is_read_as_written(void **state)
{
    struct member_card c = {.digest = 0x0123456789abcdef,
                            .version = STR("1.2.3"),
                            .takeover = STR("[2001:db8::1]:7711")},
                       got;
    uint8_t bytes[MEMBER_CARD_MAX];
    size_t n = member_card_write(&c, bytes);

    assert_true(n <= SWIM_META_MAX);
    assert_true(member_card_read(bytes, n, &got));
    assert_int_equal(got.digest, c.digest);
    assert_true(str_eq(got.version, c.version));
    assert_true(str_eq(got.takeover, c.takeover));
}

static void
a_long_version_is_cut(void **state)
{
    char version[300];
    struct member_card c = {.digest = 1, .version = {version, sizeof(version)}}, got;
    uint8_t bytes[MEMBER_CARD_MAX];

    memset(version, 'v', sizeof(version));
    assert_true(member_card_read(bytes, member_card_write(&c, bytes), &got));
    assert_in_range(got.version.n, 1, MEMBER_CARD_MAX - 8);
}

/* Of another release, or of who means no good. */
static void
half_a_card_is_none(void **state)
{
    struct member_card c = {.digest = 1, .version = STR("1.2.3")}, got;
    uint8_t bytes[MEMBER_CARD_MAX], longer[SWIM_META_MAX];
    size_t n = member_card_write(&c, bytes);

    for (size_t k = 0; k < n; k++) {
        uint8_t *part = malloc(k + 1); /* so that a read beyond it is seen */

        memcpy(part, bytes, k);
        assert_false(member_card_read(part, k, &got));
        free(part);
    }
    memset(longer, 0xff, sizeof(longer));
    assert_false(member_card_read(longer, sizeof(longer), &got));
    memcpy(longer, bytes, n);
    assert_true(member_card_read(longer, sizeof(longer), &got)); /* more is of a later release */
}

static void
facts_of_a_kind_differ_by_what_they_are_about(void **state)
{
    uint8_t a[MEMBER_KEY_N], b[MEMBER_KEY_N], c[MEMBER_KEY_N];
    struct str x = member_key(MEMBER_FACT_HEALTH, 1, a), y = member_key(MEMBER_FACT_HEALTH, 2, b);
    struct str z = member_key(MEMBER_FACT_CAP, 1, c);

    assert_int_equal(x.n, MEMBER_KEY_N);
    assert_false(str_eq(x, y));
    assert_false(str_eq(x, z));
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_card_is_read_as_written),
        cmocka_unit_test(a_long_version_is_cut),
        cmocka_unit_test(half_a_card_is_none),
        cmocka_unit_test(facts_of_a_kind_differ_by_what_they_are_about),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
