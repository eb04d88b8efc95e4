/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Who does too much too often is told from who does much at once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/h2_guard.h"

static unsigned
taken(struct h2_meter *m, unsigned per_s, mc_ns now, unsigned tries)
{
    unsigned n = 0;

    for (unsigned i = 0; i < tries; i++)
        n += h2_meter_take(m, per_s, now);
    return n;
}

static void
ten_seconds_worth_may_come_at_once(void **state)
{
    struct h2_meter m = {0};

    assert_int_equal(taken(&m, 20, MC_SEC, 500), 200);
    assert_int_equal(taken(&m, 20, 2 * MC_SEC, 500), 20);
    assert_int_equal(taken(&m, 20, 2 * MC_SEC, 500), 0);
}

static void
what_was_not_used_is_not_saved_for_ever(void **state)
{
    struct h2_meter m = {0};

    assert_int_equal(taken(&m, 20, MC_SEC, 100), 100);
    assert_int_equal(taken(&m, 20, 3600 * MC_SEC, 500), 200);
}

static void
who_keeps_to_the_rate_never_meets_the_limit(void **state)
{
    struct h2_meter m = {0};

    for (mc_ns now = MC_SEC; now < 100 * MC_SEC; now += MC_SEC / 20)
        assert_true(h2_meter_take(&m, 20, now));
}

static void
work_earns_what_goes_with_it(void **state)
{
    struct h2_meter m = {0};

    assert_int_equal(taken(&m, 20, MC_SEC, 500), 200);
    h2_meter_give(&m, 4);
    assert_int_equal(taken(&m, 20, MC_SEC, 500), 4);
    h2_meter_give(&m, 100000);
    assert_int_equal(taken(&m, 20, MC_SEC, 500), 200); /* and no more */
}

static void
no_limit_is_none(void **state)
{
    struct h2_meter m = {0};

    assert_int_equal(taken(&m, 0, MC_SEC, 5000), 5000);
}

static void
every_abuse_has_a_label(void **state)
{
    for (unsigned i = 0; i < H2_ABUSE_N; i++) {
        assert_non_null(h2_abuse_label((enum h2_abuse)i));
        assert_non_null(h2_abuse_text((enum h2_abuse)i));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_seconds_worth_may_come_at_once),
        cmocka_unit_test(what_was_not_used_is_not_saved_for_ever),
        cmocka_unit_test(who_keeps_to_the_rate_never_meets_the_limit),
        cmocka_unit_test(work_earns_what_goes_with_it),
        cmocka_unit_test(no_limit_is_none),
        cmocka_unit_test(every_abuse_has_a_label),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
