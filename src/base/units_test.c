/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/units.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/check.h"
#include "base/rand.h"

static void
assert_duration(const char *text, mc_ns ns)
{
    mc_ns got = -1;

    if (!units_parse_duration(str_of(text), &got) || got != ns)
        fail_msg("\"%s\" reads as %lld ns", text, (long long)got);
}

static void
durations_carry_a_unit(void **state)
{
    assert_duration("0", 0);
    assert_duration("0s", 0);
    assert_duration("10us", 10 * MC_US);
    assert_duration("250ms", 250 * MC_MS);
    assert_duration("1.5s", 1500 * MC_MS);
    assert_duration("2m", 120 * MC_SEC);
    assert_duration("0.5h", 1800 * MC_SEC);
    assert_duration("3d", 3 * 86400 * MC_SEC);
    assert_duration("1.0ns", 1);
}

static void
what_is_no_duration_is_refused_and_nothing_written(void **state)
{
    static const char *const refused[] = {
        "",    "5",     "s",    ".5s",   "1.s",   "1.5.5s",     "-1s",
        "1 s", "1sec",  "1s ",  "1.5ns", "1S",    "999999999d", "99999999999999999999s",
        "00",  "1h30m", "1e3s", "0x1s",  "never",
    };
    mc_ns ns = 77;

    for (size_t i = 0; i < MC_COUNT(refused); i++)
        if (units_parse_duration(str_of(refused[i]), &ns))
            fail_msg("\"%s\" was taken for %lld ns", refused[i], (long long)ns);
    assert_false(units_parse_duration(STR_NONE, &ns));
    assert_int_equal(ns, 77);
}

static void
assert_size(const char *text, uint64_t bytes)
{
    uint64_t got = 1234567;

    if (!units_parse_size(str_of(text), &got) || got != bytes)
        fail_msg("\"%s\" reads as %llu bytes", text, (unsigned long long)got);
}

static void
sizes_know_both_thousands(void **state)
{
    assert_size("0", 0);
    assert_size("4096", 4096);
    assert_size("512B", 512);
    assert_size("16KiB", 16384);
    assert_size("16k", 16384);
    assert_size("1MB", 1000000);
    assert_size("1m", 1048576);
    assert_size("1.5GiB", 1610612736);
    assert_size("2g", 2147483648u);
    assert_size("1TiB", 1099511627776u);
    assert_size("3kb", 3000);
    assert_size("18446744073709551615", UINT64_MAX);
}

static void
what_is_no_size_is_refused(void **state)
{
    static const char *const refused[] = {
        "", "B", "1.5", "1.3B", "-1", "1 k", "1kk", "18446744073709551616", "20000000TiB", "1s"};
    uint64_t bytes = 77;

    for (size_t i = 0; i < MC_COUNT(refused); i++)
        if (units_parse_size(str_of(refused[i]), &bytes))
            fail_msg("\"%s\" was taken for a size", refused[i]);
    assert_int_equal(bytes, 77);
}

static void
the_shortest_exact_form_is_written(void **state)
{
    char t[UNITS_TEXT];

    assert_string_equal(units_duration_text(0, t), "0");
    assert_string_equal(units_duration_text(250 * MC_MS, t), "250ms");
    assert_string_equal(units_duration_text(1500 * MC_MS, t), "1.5s");
    assert_string_equal(units_duration_text(90 * MC_SEC, t), "90s");
    assert_string_equal(units_duration_text(1000 * MC_MS, t), "1s");
    assert_string_equal(units_duration_text(86400 * MC_SEC, t), "1d");
    assert_string_equal(units_duration_text(1050 * MC_US, t), "1050us");
    assert_string_equal(units_duration_text(-250 * MC_MS, t), "-250ms");
    assert_string_equal(units_duration_text(MC_NEVER_NS, t), "never");
    units_duration_text(INT64_MIN, t);
}

static void
what_is_written_reads_back_the_same(void **state)
{
    char text[UNITS_TEXT];
    struct rng r;

    rng_seed(&r, 5);
    for (int i = 0; i < 20000; i++) {
        uint64_t v = rng_next(&r) >> (1 + rng_below(&r, 62));
        mc_ns ns = -1;

        if (i % 2)
            v = v / 1000 * 1000;
        assert_true(units_parse_duration(str_of(units_duration_text((mc_ns)v, text)), &ns));
        assert_true((uint64_t)ns == v);
    }
}

static void
the_monotonic_clock_does_not_go_back(void **state)
{
    mc_ns a = units_clock_ns(), b = units_clock_ns();

    assert_true(b >= a);
    assert_true(units_wall_ns() > 1700000000 * MC_SEC);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_monotonic_clock_does_not_go_back),
        cmocka_unit_test(durations_carry_a_unit),
        cmocka_unit_test(what_is_no_duration_is_refused_and_nothing_written),
        cmocka_unit_test(sizes_know_both_thousands),
        cmocka_unit_test(what_is_no_size_is_refused),
        cmocka_unit_test(the_shortest_exact_form_is_written),
        cmocka_unit_test(what_is_written_reads_back_the_same),
    };

    return cmocka_run_group_tests_name("base/units", tests, NULL, NULL);
}
