/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/rand.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

static void
a_seed_gives_the_same_numbers_for_ever(void **state)
{
    struct rng a, b;

    rng_seed(&a, 42);
    rng_seed(&b, 42);
    for (int i = 0; i < 1000; i++)
        assert_true(rng_next(&a) == rng_next(&b));
    /* the reference implementation, seeded by splitmix64(0) */
    rng_seed(&a, 0);
    assert_true(rng_next(&a) == 0x99ec5f36cb75f2b4u);
    assert_true(rng_next(&a) == 0xbf6e1f784956452au);
}

static void
no_seed_is_a_dead_one(void **state)
{
    struct rng r;

    rng_seed(&r, 0);
    assert_true(rng_next(&r) != rng_next(&r));
}

static void
the_system_seeds_differ(void **state)
{
    struct rng a, b;

    rng_seed_os(&a);
    rng_seed_os(&b);
    assert_true(memcmp(&a, &b, sizeof(a)) != 0);
}

static void
a_bounded_number_is_even_and_below_its_bound(void **state)
{
    unsigned n[10] = {0};
    struct rng r;

    rng_seed(&r, 3);
    for (int i = 0; i < 100000; i++)
        n[rng_below(&r, 10)]++;
    for (int i = 0; i < 10; i++)
        assert_in_range(n[i], 9500, 10500); /* 5 sigma: 470 */
    assert_int_equal(rng_below(&r, 1), 0);
}

static void
a_unit_number_fills_the_unit(void **state)
{
    double sum = 0, x;
    struct rng r;

    rng_seed(&r, 4);
    for (int i = 0; i < 100000; i++) {
        sum += x = rng_unit(&r);
        assert_true(x >= 0 && x < 1);
    }
    assert_true(sum > 49500 && sum < 50500);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_seed_gives_the_same_numbers_for_ever),
        cmocka_unit_test(no_seed_is_a_dead_one),
        cmocka_unit_test(the_system_seeds_differ),
        cmocka_unit_test(a_bounded_number_is_even_and_below_its_bound),
        cmocka_unit_test(a_unit_number_fills_the_unit),
    };

    return cmocka_run_group_tests_name("base/rand", tests, NULL, NULL);
}
