/* SPDX-License-Identifier: BSD-2-Clause
 *
 * files_test.c - what is dear is done seldom, on a busy host as on an idle one.
 */
#include "agent/files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* Uses CPU time: as long as a busy machine takes to give it. */
static void
compute(mc_ns ns)
{
    struct timespec t;

    do
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    while (t.tv_sec * MC_SEC + t.tv_nsec < ns);
}

static void
what_is_dear_comes_seldom(void **state)
{
    struct timespec t;
    struct pace p = {0};

    assert_true(pace_is_due(&p, 0));
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    pace_begin(&p);
    compute(t.tv_sec * MC_SEC + t.tv_nsec + 10 * MC_MS);
    pace_done(&p, MC_SEC, MC_MS);
    assert_false(pace_is_due(&p, MC_SEC + 3900 * MC_MS));
}

static void
what_was_waited_for_does_not_count(void **state)
{
    struct pace p = {0};

    pace_begin(&p);
    usleep(50000);
    pace_done(&p, MC_SEC, MC_SEC);
    assert_false(pace_is_due(&p, 2 * MC_SEC - 1));
    assert_true(pace_is_due(&p, 11 * MC_SEC)); /* 400 times the wait were 20 s */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_dear_comes_seldom),
        cmocka_unit_test(what_was_waited_for_does_not_count),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
