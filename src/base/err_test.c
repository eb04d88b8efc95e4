/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

static void
every_error_has_words(void **state)
{
    assert_string_equal(mc_err_text(MC_OK), "success");
    assert_string_equal(mc_err_text(MC_ETIME), "timed out");
    assert_string_equal(mc_err_text((enum mc_err)9999), "unknown error");
}

static void
a_text_is_wrapped_on_its_way_up(void **state)
{
    struct errbuf eb;

    errno = EADDRINUSE;
    assert_int_equal(err_sys(&eb, "bind"), MC_ESYS);
    assert_int_equal(errno, EADDRINUSE);
    err_wrap(&eb, "listener :%d", 443);
    assert_string_equal(eb.text, "listener :443: bind: Address already in use");
}

static void
a_text_that_is_too_long_is_cut_not_overrun(void **state)
{
    struct errbuf eb;

    err_set(&eb, "%0600d", 7);
    assert_int_equal(strlen(eb.text), sizeof(eb.text) - 1);
    err_wrap(&eb, "outer");
    assert_int_equal(strlen(eb.text), sizeof(eb.text) - 1);
    assert_memory_equal(eb.text, "outer: 000", 10);
}

static void
who_wants_no_text_passes_null(void **state)
{
    err_set(NULL, "x");
    err_wrap(NULL, "x");
    errno = ENOENT;
    assert_int_equal(err_sys(NULL, "open"), MC_ESYS);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_error_has_words),
        cmocka_unit_test(a_text_is_wrapped_on_its_way_up),
        cmocka_unit_test(a_text_that_is_too_long_is_cut_not_overrun),
        cmocka_unit_test(who_wants_no_text_passes_null),
    };

    return cmocka_run_group_tests_name("base/err", tests, NULL, NULL);
}
