/* SPDX-License-Identifier: BSD-2-Clause
 *
 * probed_test.c - what servers would answer to probes.
 */
#include "place/probed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct probed *r;

static int
setup(void **state)
{
    r = probed_new(2);
    return 0;
}

static int
teardown(void **state)
{
    probed_free(&r);
    return 0;
}

static void
of_a_new_server_nothing_is_known(void **state)
{
    assert_int_equal(probed_latency(r, 0, 1, MC_SEC), 0);
    assert_int_equal(probed_latency(r, 1, 100000, MC_SEC), 0);
}

static void
the_median_stands_against_outliers(void **state)
{
    static const mc_ns ms[] = {5, 900, 4, 6, 1, 5, 5, 700};

    for (unsigned i = 0; i < 8; i++)
        probed_note(r, 0, 3, ms[i] * MC_MS, MC_SEC);
    assert_int_equal(probed_latency(r, 0, 3, MC_SEC), 5 * MC_MS);
    assert_int_equal(probed_latency(r, 1, 3, MC_SEC), 0);
}

static void
the_last_ones_count(void **state)
{
    for (unsigned i = 0; i < 20; i++)
        probed_note(r, 0, 1, (i < 12 ? 1 : 9) * MC_MS, MC_SEC);
    assert_int_equal(probed_latency(r, 0, 1, MC_SEC), 9 * MC_MS);
}

static void
it_tells_of_about_that_crowd(void **state)
{
    probed_note(r, 0, 1, 1 * MC_MS, MC_SEC);
    probed_note(r, 0, 5, 5 * MC_MS, MC_SEC);
    probed_note(r, 0, 50, 50 * MC_MS, MC_SEC);
    assert_int_equal(probed_latency(r, 0, 1, MC_SEC), 1 * MC_MS);
    assert_int_equal(probed_latency(r, 0, 2, MC_SEC), 1 * MC_MS);
    assert_int_equal(probed_latency(r, 0, 3, MC_SEC), 5 * MC_MS); /* in the middle */
    assert_int_equal(probed_latency(r, 0, 6, MC_SEC), 5 * MC_MS);
    assert_int_equal(probed_latency(r, 0, 52, MC_SEC), 50 * MC_MS);
    assert_int_equal(probed_latency(r, 0, UINT32_MAX, MC_SEC), 50 * MC_MS);
}

static void
any_crowd_has_a_bin(void **state)
{
    for (unsigned bit = 0; bit < 32; bit++)
        for (uint32_t d = 0; d < 3; d++) {
            uint32_t crowd = ((uint32_t)1 << bit) - 1 + d;

            probed_note(r, 1, crowd, MC_MS, MC_SEC);
            assert_int_equal(probed_latency(r, 1, crowd, MC_SEC), MC_MS);
        }
}

static void
what_is_old_is_forgotten(void **state)
{
    probed_note(r, 0, 1, 80 * MC_MS, MC_SEC);
    probed_note(r, 0, 4, 2 * MC_MS, 20 * MC_SEC);
    assert_int_equal(probed_latency(r, 0, 1, 20 * MC_SEC), 2 * MC_MS);
    assert_int_equal(probed_latency(r, 0, 1, 40 * MC_SEC), 0);
    probed_note(r, 0, 1, 3 * MC_MS, 41 * MC_SEC); /* the old one does not count into the median */
    assert_int_equal(probed_latency(r, 0, 1, 41 * MC_SEC), 3 * MC_MS);
}

static void
latencies_beyond_measure_are_told_as_the_most(void **state)
{
    probed_note(r, 0, 1, 0, MC_SEC);
    assert_int_equal(probed_latency(r, 0, 1, MC_SEC), MC_US);
    probed_note(r, 1, 1, INT64_MAX, MC_SEC);
    assert_int_equal(probed_latency(r, 1, 1, MC_SEC), UINT32_MAX * MC_US);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(of_a_new_server_nothing_is_known),
        TEST(the_median_stands_against_outliers),
        TEST(the_last_ones_count),
        TEST(it_tells_of_about_that_crowd),
        TEST(any_crowd_has_a_bin),
        TEST(what_is_old_is_forgotten),
        TEST(latencies_beyond_measure_are_told_as_the_most),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
