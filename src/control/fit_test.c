/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fit_test.c - a balancer is fit while no voice objects.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "control/fit.h"

static void
expect_why(const struct fit *f, const char *expected)
{
    struct buf why = {0};

    assert_int_equal(fit_is(f, &why), expected == NULL);
    if (expected != NULL)
        assert_string_equal(why.p, expected);
    assert_int_equal(fit_is(f, NULL), expected == NULL);
    buf_free(&why);
}

static void
it_starts_unfit_and_is_fit_when_nobody_objects(void **state)
{
    struct fit f;

    fit_open(&f);
    expect_why(&f, "starting");
    fit_put(&f, FIT_STARTING, true, NULL);
    expect_why(&f, NULL);
    fit_close(&f);
}

static void
one_voice_does_not_take_back_what_another_said(void **state)
{
    struct fit f;

    fit_open(&f);
    fit_put(&f, FIT_STARTING, true, NULL);
    fit_put(&f, FIT_OVERLOADED, false, "10 of 10 connections");
    fit_put(&f, FIT_FENCED, false, "no peer answers");
    expect_why(&f, "overloaded: 10 of 10 connections; fenced: no peer answers");
    fit_put(&f, FIT_OVERLOADED, true, NULL);
    expect_why(&f, "fenced: no peer answers");
    fit_put(&f, FIT_FENCED, true, "they are back");
    expect_why(&f, NULL);
    fit_close(&f);
}

static void
a_long_reason_is_cut(void **state)
{
    char reason[1000];
    struct buf why = {0};
    struct fit f;

    fit_open(&f);
    memset(reason, 'x', sizeof(reason));
    reason[sizeof(reason) - 1] = '\0';
    fit_put(&f, FIT_STARTING, false, reason);
    assert_false(fit_is(&f, &why));
    assert_in_range(why.n, 10, 200);
    buf_free(&why);
    fit_close(&f);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_starts_unfit_and_is_fit_when_nobody_objects),
        cmocka_unit_test(one_voice_does_not_take_back_what_another_said),
        cmocka_unit_test(a_long_reason_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
