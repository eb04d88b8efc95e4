/* SPDX-License-Identifier: BSD-2-Clause
 *
 * budget_test.c - how many retries requests earn.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/worker_priv.h"

static unsigned
spend_all(struct retry_budget *b)
{
    unsigned n = 0;

    while (budget_spend(b))
        n++;
    return n;
}

static void
a_share_of_the_requests_may_be_retried(void **state)
{
    const struct pool_conf p = {.retry_budget_percent = 20};
    struct retry_budget b = {.tokens = 0};

    for (unsigned i = 0; i < 104; i++)
        budget_earn(&b, &p, MC_SEC);
    assert_int_equal(spend_all(&b), 20);
    assert_int_equal(spend_all(&b), 0);
}

static void
a_few_a_second_are_allowed_besides(void **state)
{
    const struct pool_conf p = {.retry_min_per_s = 10};
    struct retry_budget b = {.tokens = 0};

    budget_earn(&b, &p, 100 * MC_SEC);
    assert_int_equal(spend_all(&b), 10);
    budget_earn(&b, &p, 100 * MC_SEC + MC_SEC / 2);
    assert_int_equal(spend_all(&b), 5);
}

static void
a_long_quiet_time_does_not_save_up_a_storm(void **state)
{
    const struct pool_conf p = {.retry_min_per_s = 10, .retry_budget_percent = 20};
    struct retry_budget b = {.tokens = 0};

    budget_earn(&b, &p, MC_SEC);
    budget_earn(&b, &p, 3600 * MC_SEC);
    assert_int_equal(spend_all(&b), 130);
    for (unsigned i = 0; i < 100000; i++)
        budget_earn(&b, &p, 3600 * MC_SEC);
    assert_int_equal(spend_all(&b), 130);
}

static void
without_a_budget_nothing_is_retried(void **state)
{
    const struct pool_conf p = {.retries = 2};
    struct retry_budget b = {.tokens = 0};

    for (unsigned i = 0; i < 1000; i++)
        budget_earn(&b, &p, (i + 1) * MC_SEC);
    assert_int_equal(spend_all(&b), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_share_of_the_requests_may_be_retried),
        cmocka_unit_test(a_few_a_second_are_allowed_besides),
        cmocka_unit_test(a_long_quiet_time_does_not_save_up_a_storm),
        cmocka_unit_test(without_a_budget_nothing_is_retried),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
