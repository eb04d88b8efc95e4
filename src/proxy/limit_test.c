/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/limit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <pthread.h>

static unsigned
take(struct limit *l, unsigned n, mc_ns now)
{
    unsigned got = 0;
    mc_ns wait;

    for (unsigned i = 0; i < n; i++)
        got += limit_take(l, now, &wait);
    return got;
}

static void
a_burst_passes_then_the_rate(void **state)
{
    static struct limit l;
    mc_ns now = 1000 * MC_SEC, wait = 0;

    limit_set(&l, 10, 5, now);
    assert_int_equal(take(&l, 20, now), 5);
    assert_false(limit_take(&l, now, &wait));
    assert_int_equal(wait, MC_SEC / 10);
    assert_int_equal(take(&l, 20, now + wait), 1);
    assert_int_equal(take(&l, 20, now + 2 * MC_SEC), 5);
    /* over a long time: the rate, and the burst once */
    unsigned got = 0;

    for (int ms = 0; ms < 10000; ms++)
        got += take(&l, 1, now + 10 * MC_SEC + ms * MC_MS);
    assert_in_range(got, 100, 105);
    assert_int_equal(limit_asked(&l), 20 + 1 + 20 + 20 + 10000);
}

static void
without_a_rate_everything_passes(void **state)
{
    static struct limit l;

    limit_set(&l, 0, 0, MC_SEC);
    assert_int_equal(take(&l, 1000, MC_SEC), 1000);
}

static void
a_change_holds_at_once(void **state)
{
    static struct limit l;

    limit_set(&l, 1, 1, MC_SEC);
    assert_int_equal(take(&l, 9, MC_SEC), 1);
    limit_set(&l, 1000, 1000, 3 * MC_SEC);
    assert_int_equal(take(&l, 2000, 3 * MC_SEC), 1000);
}

static void
what_was_taken_slowly_comes_back_fast(void **state)
{
    static struct limit l;
    mc_ns now = 1000 * MC_SEC;

    limit_set(&l, 0.001, 1, now);
    assert_int_equal(take(&l, 9, now), 1); /* of 1000 s */
    limit_set(&l, 100, 10, now);
    assert_int_equal(take(&l, 20, now), 9); /* one is missing still */
    assert_int_equal(take(&l, 20, now + 50 * MC_MS), 5);
    limit_set(&l, 10, 1, now + 50 * MC_MS); /* ten are missing where one fits */
    assert_int_equal(take(&l, 9, now + 149 * MC_MS), 0);
    assert_int_equal(take(&l, 9, now + 151 * MC_MS), 1);
    limit_set(&l, 0, 0, now + 151 * MC_MS);
    limit_set(&l, 10, 4, now + 151 * MC_MS);
    assert_int_equal(take(&l, 9, now + 151 * MC_MS), 4);
}

#define THREADS 4

static struct limit shared;

static void *
take_many(void *arg)
{
    *(unsigned *)arg = take(&shared, 100000, MC_SEC);
    return NULL;
}

static void
threads_share_one_burst(void **state)
{
    pthread_t t[THREADS];
    unsigned got[THREADS], sum = 0;

    limit_set(&shared, 1000, 50000, MC_SEC);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, take_many, &got[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(t[i], NULL);
        sum += got[i];
    }
    assert_int_equal(sum, 50000);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_burst_passes_then_the_rate),
        cmocka_unit_test(without_a_rate_everything_passes),
        cmocka_unit_test(a_change_holds_at_once),
        cmocka_unit_test(what_was_taken_slowly_comes_back_fast),
        cmocka_unit_test(threads_share_one_burst),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
