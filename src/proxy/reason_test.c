/* SPDX-License-Identifier: BSD-2-Clause
 *
 * reason_test.c - what the table of ends promises to logs, clients and metrics.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "proxy/reason.h"

#define N_REASONS (END_INTERNAL + 1)

static void
names_are_words_of_the_log(void **state)
{
    assert_string_equal(end_reason_name(END_OK), "ok");
    assert_string_equal(end_reason_name(END_FIRST_BYTE_TIMEOUT), "first-byte-timeout");
    for (int r = 0; r < N_REASONS; r++) {
        const char *name = end_reason_name((enum end_reason)r);

        assert_true(strlen(name) > 0 && strlen(name) < 31); /* whole, not cut */
        assert_int_equal(strspn(name, "abcdefghijklmnopqrstuvwxyz-"), strlen(name));
        for (int other = 0; other < r; other++)
            assert_string_not_equal(name, end_reason_name((enum end_reason)other));
    }
}

/* They stand between quotes in Proxy-Status. */
static void
texts_need_no_escape(void **state)
{
    for (int r = 0; r < N_REASONS; r++) {
        const char *text = end_reason_text((enum end_reason)r);

        assert_true(*text != '\0');
        for (const char *p = text; *p != '\0'; p++)
            assert_true(*p >= ' ' && *p < 0x7f && *p != '"' && *p != '\\');
    }
}

/* RFC 9209 2.3: what has a status of its own says why. */
static void
who_answers_says_why(void **state)
{
    for (int r = 0; r < N_REASONS; r++) {
        unsigned status = end_reason_status((enum end_reason)r);

        assert_true(status == 0 || (status >= 400 && status <= 599));
        assert_int_equal(status != 0, *end_reason_error((enum end_reason)r) != '\0');
    }
}

/* What has an answer of its own is no success, and told from the others as gRPC wants it. */
static void
callers_are_told_in_their_own_words(void **state)
{
    for (int r = 0; r < N_REASONS; r++)
        if (end_reason_status((enum end_reason)r) != 0)
            assert_int_not_equal(end_reason_grpc((enum end_reason)r), GRPC_OK);
    assert_int_equal(end_reason_grpc(END_NO_SERVER), GRPC_UNAVAILABLE);
    assert_int_equal(end_reason_grpc(END_REFUSED), GRPC_UNAVAILABLE);
    assert_int_equal(end_reason_grpc(END_TOTAL_TIMEOUT), GRPC_DEADLINE_EXCEEDED);
    assert_int_equal(end_reason_grpc(END_RATE_LIMITED), GRPC_RESOURCE_EXHAUSTED);
    assert_int_equal(end_reason_grpc(END_NO_ROUTE), GRPC_UNIMPLEMENTED);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_words_of_the_log),
        cmocka_unit_test(texts_need_no_escape),
        cmocka_unit_test(who_answers_says_why),
        cmocka_unit_test(callers_are_told_in_their_own_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
