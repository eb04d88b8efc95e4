/* SPDX-License-Identifier: BSD-2-Clause
 *
 * grpc_test.c - what is a call of gRPC, how long it may take, and what it says of its end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/rand.h"
#include "http/grpc.h"

static void
a_call_is_known_by_its_content_type(void **state)
{
    static const char *const yes[] = {"application/grpc", "application/grpc+proto",
                                      "application/grpc;x=y", "Application/gRPC+json"};
    static const char *const no[] = {"",
                                     "application/grp",
                                     "application/grpc-web",
                                     "application/grpc-web+proto",
                                     "application/grpcx",
                                     "application/grpc ",
                                     " application/grpc",
                                     "text/plain"};
    struct http_field f = {"content-type", NULL, 0, 12, FIELD_CONTENT_TYPE};
    struct http_head h = {.fields = &f};

    for (unsigned i = 0; i < MC_COUNT(yes); i++)
        assert_true(grpc_content_type(str_of(yes[i])));
    for (unsigned i = 0; i < MC_COUNT(no); i++)
        assert_false(grpc_content_type(str_of(no[i])));
    assert_false(grpc_is_call(&h));
    f.value = yes[0];
    f.value_len = (uint32_t)strlen(yes[0]);
    h.n_fields = 1;
    assert_true(grpc_is_call(&h));
}

static void
a_timeout_is_eight_digits_at_most_and_a_unit(void **state)
{
    static const struct {
        const char *text;
        mc_ns ns;
    } good[] = {
        {"1n", 1},
        {"7u", 7 * MC_US},
        {"250m", 250 * MC_MS},
        {"3S", 3 * MC_SEC},
        {"2M", 120 * MC_SEC},
        {"1H", 3600 * MC_SEC},
        {"00000005S", 5 * MC_SEC},
        {"0m", 0},
        {"99999999n", 99999999},
        {"2562047H", 2562047 * (3600 * MC_SEC)},
        {"2562048H", MC_NEVER_NS},
        {"99999999H", MC_NEVER_NS},
    };
    static const char *const bad[] = {"",    "S",    "5",   "5s",  "5h",         "-5S",
                                      "+5S", "5.0S", " 5S", "5S ", "123456789n", "5 S",
                                      "5SS", "0x5S", "5N",  "5ms", "000000001S"};
    mc_ns ns;

    for (unsigned i = 0; i < MC_COUNT(good); i++) {
        assert_true(grpc_timeout_read(str_of(good[i].text), &ns));
        assert_int_equal(ns, good[i].ns);
    }
    ns = 4711;
    for (unsigned i = 0; i < MC_COUNT(bad); i++)
        assert_false(grpc_timeout_read(str_of(bad[i]), &ns));
    assert_int_equal(ns, 4711);
}

static void
says(mc_ns ns, const char *text)
{
    char out[GRPC_TIMEOUT_TEXT];
    unsigned n = grpc_timeout_write(ns, out);

    assert_int_equal(n, strlen(text));
    assert_memory_equal(out, text, n);
}

static void
a_timeout_is_written_in_the_finest_unit(void **state)
{
    says(-5, "1n");
    says(0, "1n");
    says(99999999, "99999999n");
    says(100000000, "100000u");
    says(100000001, "100001u"); /* rounded up */
    says(99999999 * MC_US, "99999999u");
    says(100 * MC_SEC, "100000m");
    says(99999999 * MC_MS, "99999999m");
    says(100000 * MC_SEC, "100000S");
    says(MC_NEVER_NS, "2562048H");
}

static void
a_timeout_written_reads_as_not_less_and_hardly_more(void **state)
{
    char out[GRPC_TIMEOUT_TEXT];
    struct rng r;

    rng_seed(&r, 1);
    for (unsigned round = 0; round < 100000; round++) {
        mc_ns ns = (mc_ns)(rng_next(&r) >> (1 + rng_next(&r) % 62)), back;
        unsigned n = grpc_timeout_write(ns, out);

        assert_in_range(n, 2, 9);
        assert_true(grpc_timeout_read((struct str){out, n}, &back));
        assert_true(back >= ns);
        assert_true(back - ns <= 1 || (double)(back - ns) / (double)ns < 1e-4);
    }
}

static void
a_status_is_a_number_that_is_known(void **state)
{
    assert_int_equal(grpc_status_read(STR("0")), GRPC_OK);
    assert_int_equal(grpc_status_read(STR("14")), GRPC_UNAVAILABLE);
    assert_int_equal(grpc_status_read(STR("16")), GRPC_UNAUTHENTICATED);
    assert_int_equal(grpc_status_read(STR("17")), GRPC_UNKNOWN);
    assert_int_equal(grpc_status_read(STR("-1")), GRPC_UNKNOWN);
    assert_int_equal(grpc_status_read(STR("")), GRPC_UNKNOWN);
    assert_int_equal(grpc_status_read(STR("OK")), GRPC_UNKNOWN);
    assert_string_equal(grpc_status_name(GRPC_OK), "OK");
    assert_string_equal(grpc_status_name(GRPC_UNAUTHENTICATED), "UNAUTHENTICATED");
}

static void
a_message_keeps_to_printable_ascii(void **state)
{
    struct arena a;
    struct str m;

    arena_init(&a, NULL);
    m = grpc_message(STR("50% of \"a\"\n\xc3\xa4~"), &a);
    assert_true(str_eq(m, STR("50%25 of \"a\"%0A%C3%A4~")));
    assert_int_equal(grpc_message(STR(""), &a).n, 0);
    arena_drop(&a);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_is_known_by_its_content_type),
        cmocka_unit_test(a_timeout_is_eight_digits_at_most_and_a_unit),
        cmocka_unit_test(a_timeout_is_written_in_the_finest_unit),
        cmocka_unit_test(a_timeout_written_reads_as_not_less_and_hardly_more),
        cmocka_unit_test(a_status_is_a_number_that_is_known),
        cmocka_unit_test(a_message_keeps_to_printable_ascii),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
