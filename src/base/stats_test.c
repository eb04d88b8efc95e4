/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/stats.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdbool.h>

static void
the_bounds_run_from_64_us_to_over_a_minute(void **state)
{
    assert_int_equal(stat_hist_bound(0), 64 * MC_US);
    assert_int_equal(stat_hist_bound(4), 128 * MC_US);
    assert_true(stat_hist_bound(STAT_HIST_BUCKETS - 2) > 60 * MC_SEC);
    assert_true(stat_hist_bound(STAT_HIST_BUCKETS - 1) == MC_NEVER_NS);
    for (unsigned b = 1; b < STAT_HIST_BUCKETS - 1; b++) {
        double ratio = (double)stat_hist_bound(b) / (double)stat_hist_bound(b - 1);

        assert_true(ratio > 1.18 && ratio < 1.195);
    }
}

static unsigned
only_bucket_of(mc_ns ns)
{
    struct stat_hist h = {0};

    stat_hist_add(&h, ns);
    for (unsigned b = 0; b < STAT_HIST_BUCKETS; b++)
        if (stat_get(&h.bucket[b]) == 1)
            return b;
    fail_msg("no bucket took it");
    return 0;
}

static void
a_duration_falls_into_the_bucket_whose_bound_is_next(void **state)
{
    for (unsigned b = 0; b < STAT_HIST_BUCKETS - 1; b++) {
        mc_ns end = stat_hist_bound(b);

        assert_int_equal(only_bucket_of(end), b);
        assert_int_equal(only_bucket_of(end + 1), b + 1);
    }
    assert_int_equal(only_bucket_of(0), 0);
    assert_int_equal(only_bucket_of(-5), 0);
    assert_int_equal(only_bucket_of(3600 * MC_SEC), STAT_HIST_BUCKETS - 1);
    assert_int_equal(only_bucket_of(INT64_MAX), STAT_HIST_BUCKETS - 1);
}

static void
a_quantile_is_at_most_a_fifth_too_high(void **state)
{
    struct stat_hist h = {0};
    mc_ns p50, p99;

    assert_int_equal(stat_hist_quantile(&h, 0.5), 0);
    for (int i = 1; i <= 1000; i++)
        stat_hist_add(&h, i * MC_MS);
    p50 = stat_hist_quantile(&h, 0.5);
    p99 = stat_hist_quantile(&h, 0.99);
    assert_true(p50 >= 500 * MC_MS && p50 < 595 * MC_MS);
    assert_true(p99 >= 990 * MC_MS && p99 < 1180 * MC_MS);
    assert_true(stat_hist_quantile(&h, 0) >= MC_MS);
    assert_true(stat_hist_quantile(&h, 1) >= 1000 * MC_MS);
    assert_int_equal(stat_get(&h.count), 1000);
    assert_int_equal(stat_get(&h.sum_ns), 500500 * MC_MS);
}

static void
merging_adds_what_both_counted(void **state)
{
    struct stat_hist a = {0}, b = {0};

    stat_hist_add(&a, MC_MS);
    stat_hist_add(&b, MC_MS);
    stat_hist_add(&b, MC_SEC);
    stat_hist_merge(&a, &b);
    assert_int_equal(stat_get(&a.count), 3);
    assert_int_equal(stat_get(&a.sum_ns), MC_SEC + 2 * MC_MS);
    assert_true(stat_hist_quantile(&a, 0.6) < 2 * MC_MS);
}

static void *
count_to_a_million(void *arg)
{
    for (int i = 0; i < 1000000; i++)
        stat_add(arg, 1);
    return NULL;
}

static void
a_reader_sees_a_counter_grow_and_never_shrink(void **state)
{
    stat_u64 n = 0;
    uint64_t last = 0, now;
    pthread_t writer;

    assert_int_equal(pthread_create(&writer, NULL, count_to_a_million, &n), 0);
    for (int i = 0; i < 1000; i++) {
        now = stat_get(&n);
        assert_true(now >= last);
        last = now;
    }
    pthread_join(writer, NULL);
    assert_int_equal(stat_get(&n), 1000000);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reader_sees_a_counter_grow_and_never_shrink),
        cmocka_unit_test(the_bounds_run_from_64_us_to_over_a_minute),
        cmocka_unit_test(a_duration_falls_into_the_bucket_whose_bound_is_next),
        cmocka_unit_test(a_quantile_is_at_most_a_fifth_too_high),
        cmocka_unit_test(merging_adds_what_both_counted),
    };

    return cmocka_run_group_tests_name("base/stats", tests, NULL, NULL);
}
