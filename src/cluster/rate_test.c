/* SPDX-License-Identifier: BSD-2-Clause */
#include "cluster/rate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void
a_burst_goes_through_and_then_so_much_a_second(void **state)
{
    struct rate r;
    unsigned n = 0;

    (void)state;
    rate_init(&r, 100, 10, 0);
    while (rate_take(&r, 1, 0))
        n++;
    assert_int_equal(n, 10);
    for (mc_ns now = 0; now <= 10 * MC_SEC; now += MC_MS)
        n += rate_take(&r, 1, now);
    assert_in_range(n, 1009, 1010);
}

static void
what_was_taken_on_credit_is_paid_first(void **state)
{
    struct rate r;

    (void)state;
    rate_init(&r, 10, 10, 0);
    rate_owe(&r, 15, 0);
    assert_false(rate_take(&r, 1, 500 * MC_MS));
    assert_int_equal(rate_due(&r, 1, 500 * MC_MS), 600 * MC_MS);
    assert_true(rate_take(&r, 1, 600 * MC_MS));
}

static void
time_that_goes_back_changes_nothing(void **state)
{
    struct rate r;

    (void)state;
    rate_init(&r, 10, 10, MC_SEC);
    rate_owe(&r, 10, MC_SEC);
    assert_true(rate_left(&r, 0) == 0);
    assert_true(rate_left(&r, 2 * MC_SEC) == 10);
}

static void
without_inflow_nothing_is_ever_due(void **state)
{
    struct rate r;

    (void)state;
    rate_init(&r, 0, 1, 0);
    assert_int_equal(rate_due(&r, 1, 5), 5);
    assert_true(rate_take(&r, 1, 5));
    assert_true(rate_due(&r, 1, 5) == MC_NEVER_NS);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_burst_goes_through_and_then_so_much_a_second),
        cmocka_unit_test(what_was_taken_on_credit_is_paid_first),
        cmocka_unit_test(time_that_goes_back_changes_nothing),
        cmocka_unit_test(without_inflow_nothing_is_ever_due),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
