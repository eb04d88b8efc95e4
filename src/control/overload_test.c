/* SPDX-License-Identifier: BSD-2-Clause
 *
 * overload_test.c - signs of overload, and how long they must hold.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "control/overload.h"

static const struct overload_conf conf = {
    .connections_percent = 90,
    .lag_ns = 100 * MC_MS,
    .after_ns = 1 * MC_SEC,
    .recover_ns = 5 * MC_SEC,
};
static char why[96];

static bool
look(struct overload *o, uint64_t connections, mc_ns lag_ns, mc_ns now)
{
    struct overload_sample s = {connections, 1000, lag_ns};

    return overload_look(o, &conf, &s, now, why, sizeof(why));
}

static void
a_sign_must_hold_for_a_while(void **state)
{
    struct overload o = {0};

    assert_false(look(&o, 899, 0, 1 * MC_SEC));
    assert_false(look(&o, 900, 0, 2 * MC_SEC));
    assert_false(look(&o, 899, 0, 2 * MC_SEC + 999 * MC_MS)); /* gone in between */
    assert_false(look(&o, 900, 0, 3 * MC_SEC));
    assert_false(look(&o, 950, 0, 3 * MC_SEC + 999 * MC_MS));
    assert_true(look(&o, 950, 0, 4 * MC_SEC));
    assert_string_equal(why, "950 of 1000 connections");
}

static void
it_is_over_when_well_below_for_longer(void **state)
{
    struct overload o = {.on = true};

    assert_true(look(&o, 811, 0, 10 * MC_SEC)); /* more than nine tenths of the bound */
    assert_true(look(&o, 811, 0, 20 * MC_SEC));
    assert_true(look(&o, 809, 0, 21 * MC_SEC));
    assert_true(look(&o, 809, 0, 25 * MC_SEC));
    assert_false(look(&o, 809, 0, 26 * MC_SEC));
}

static void
a_worker_that_lags_is_a_sign(void **state)
{
    struct overload o = {0};

    assert_false(look(&o, 0, 100 * MC_MS, 1 * MC_SEC));
    assert_true(look(&o, 0, 250 * MC_MS, 2 * MC_SEC));
    assert_string_equal(why, "a worker is 250 ms behind");
}

static void
a_bound_of_zero_is_none(void **state)
{
    struct overload_conf off = {.after_ns = 0, .recover_ns = 0};
    struct overload_sample s = {1000, 1000, 3600 * MC_SEC};
    struct overload o = {0};

    assert_false(overload_look(&o, &off, &s, 1, why, sizeof(why)));
    assert_false(overload_look(&o, &off, &s, 2, why, sizeof(why)));
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sign_must_hold_for_a_while),
        cmocka_unit_test(it_is_over_when_well_below_for_longer),
        cmocka_unit_test(a_worker_that_lags_is_a_sign),
        cmocka_unit_test(a_bound_of_zero_is_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
