/* SPDX-License-Identifier: BSD-2-Clause
 *
 * words_test.c - what HAProxy is told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/words.h"
#include "base/log.h"

static char path[] = "/tmp/meercat-words-XXXXXX";
static struct words w;
static char reply[WORDS_MAX];

static const char *
said(void)
{
    size_t n = words_reply(&w, reply);

    assert_int_equal(n, strlen(reply));
    assert_int_equal(reply[n - 1], '\n');
    reply[n - 1] = '\0';
    return reply;
}

static void
learn(double cpu, double host, double mem)
{
    struct place_report r = {.cpu_utilization = cpu,
                             .host_cpu = host,
                             .mem_utilization = mem,
                             .cores = 2,
                             .host_cores = 4,
                             .present = 1u << REPORT_CPU_UTILIZATION | 1u << REPORT_HOST_CPU |
                                        1u << REPORT_HOST_CORES | 1u << REPORT_CORES |
                                        1u << REPORT_MEM_UTILIZATION};

    words_learn(&w, &r, 60 * MC_SEC); /* long: the smoothing has nothing left of before */
}

static void
state(const char *text)
{
    FILE *f = fopen(path, "w");

    fputs(text, f);
    fclose(f);
}

static int
setup(void **s)
{
    w = (struct words){.fleet = 1, .free = -1};
    return 0;
}

static void
the_weight_is_what_is_free(void **s)
{
    assert_string_equal(said(), "up");
    learn(0.25, 0.25, 0.5);
    assert_string_equal(said(), "up 75%");
    learn(1.5, 0.5, 0.5);
    assert_string_equal(said(), "up 1%"); /* never 0: that would take the server out */
    learn(0, 0, 0);
    assert_string_equal(said(), "up 100%");
}

static void
neighbours_and_memory_take_weight_too(void **s)
{
    learn(0.1, 0.9, 0.5); /* 0.4 of 4 cores are left, we may use 2 */
    assert_string_equal(said(), "up 20%");
    learn(0.5, 0.25, 0.95);
    assert_string_equal(said(), "up 25%");
}

static void
the_weight_is_smoothed(void **s)
{
    struct place_report r = {.cpu_utilization = 1, .present = 1u << REPORT_CPU_UTILIZATION};

    learn(0, 0, 0);
    words_learn(&w, &r, 100 * MC_MS);
    assert_string_equal(said(), "up 90%");
}

static void
the_capacity_is_shared_by_the_fleet(void **s)
{
    w.capacity = 100;
    w.fleet = 3;
    assert_string_equal(said(), "up maxconn:34");
}

static void
ready_is_said_only_after_a_word_of_ours(void **s)
{
    w.has_admin = true;
    w.admin = REPORT_DRAIN;
    assert_string_equal(said(), "up drain");
    w.admin = REPORT_READY;
    assert_string_equal(said(), "up ready");
}

static void
the_file_goes_before_everything(void **s)
{
    w.state_file = path;
    w.capacity = 10;
    learn(0.5, 0, 0);
    state("");
    assert_string_equal(said(), "up 50% maxconn:10");
    state("maint\n");
    assert_string_equal(said(), "up maint 50% maxconn:10");
    state("down 10% maxconn:3 # broken disk\nup\n");
    assert_string_equal(said(), "down ready 10% maxconn:3");
    state("gone fishing\n");
    assert_string_equal(said(), "up ready 50% maxconn:10");
    unlink(path);
    assert_string_equal(said(), "up ready 50% maxconn:10");
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_weight_is_what_is_free, setup),
        cmocka_unit_test_setup(neighbours_and_memory_take_weight_too, setup),
        cmocka_unit_test_setup(the_weight_is_smoothed, setup),
        cmocka_unit_test_setup(the_capacity_is_shared_by_the_fleet, setup),
        cmocka_unit_test_setup(ready_is_said_only_after_a_word_of_ours, setup),
        cmocka_unit_test_setup(the_file_goes_before_everything, setup),
    };
    int fd = mkstemp(path), failed;

    log_setup(LOG_LEVEL_ERROR, false);
    close(fd);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
