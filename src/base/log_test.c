/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"

/* What f writes to standard error. */
static const char *
heard(void (*f)(void))
{
    static char out[256 * 1024];
    FILE *tmp = tmpfile();
    int stderr_fd = dup(STDERR_FILENO);
    ssize_t n;

    assert_non_null(tmp);
    dup2(fileno(tmp), STDERR_FILENO);
    f();
    dup2(stderr_fd, STDERR_FILENO);
    close(stderr_fd);
    n = pread(fileno(tmp), out, sizeof(out) - 1, 0);
    assert_true(n >= 0);
    out[n] = '\0';
    fclose(tmp);
    return out;
}

static void
say_one_of_each(void)
{
    log_error("e%d", 1);
    log_warn("w%d", 2);
    log_info("i%d", 3);
    log_debug("d%d", 4);
}

static void
lines_above_the_level_are_dropped(void **state)
{
    const char *out;

    log_setup(LOG_LEVEL_WARN, true);
    assert_true(log_wants(LOG_LEVEL_WARN));
    assert_false(log_wants(LOG_LEVEL_INFO));
    assert_string_equal(heard(say_one_of_each), "<3>e1\n<4>w2\n");
    log_setup(LOG_LEVEL_DEBUG, true);
    assert_string_equal(heard(say_one_of_each), "<3>e1\n<4>w2\n<6>i3\n<7>d4\n");

    log_setup(LOG_LEVEL_ERROR, false);
    out = heard(say_one_of_each);
    assert_int_equal(strlen(out), strlen("2026-01-01T00:00:00.000Z error e1\n"));
    assert_non_null(strstr(out, "Z error e1\n"));
}

static void
quote_a_stranger(void)
{
    log_info("got \"a\nb\x1b[2J\"");
}

static void
a_stranger_cannot_begin_a_line_of_his_own(void **state)
{
    log_setup(LOG_LEVEL_INFO, true);
    assert_string_equal(heard(quote_a_stranger), "<6>got \"a b?[2J\"\n");
}

static void
say_too_much(void)
{
    log_info("%02000d", 0);
}

static void
a_line_that_is_too_long_says_so(void **state)
{
    const char *out;

    log_setup(LOG_LEVEL_INFO, true);
    out = heard(say_too_much);
    assert_int_equal(strlen(out), 1024);
    assert_string_equal(out + 1024 - 5, "0...\n");
}

static void
say_a_hundred(void)
{
    for (int i = 0; i < 100; i++)
        log_info("line %d", i);
}

static void
dump(void)
{
    log_dump_ring(STDERR_FILENO);
}

static void
the_ring_holds_the_last_lines_in_order(void **state)
{
    const char *out;
    int lines = 0;

    log_setup(LOG_LEVEL_INFO, true);
    heard(say_a_hundred);
    out = heard(dump);
    for (const char *p = out; *p; p++)
        lines += *p == '\n';
    assert_int_equal(lines, 64);
    assert_memory_equal(out, "  <6>line 36\n", 13);
    assert_non_null(strstr(out, "<6>line 99\n"));
}

static void *
talk(void *arg)
{
    for (int i = 0; i < 500; i++)
        log_info("%s", (const char *)arg);
    return NULL;
}

static void
talk_at_once(void)
{
    pthread_t one, two;

    MC_ASSERT(pthread_create(&one, NULL, talk, (void *)"aaaaaaaaaaaaaaaaaaaa") == 0);
    MC_ASSERT(pthread_create(&two, NULL, talk, (void *)"bbbbbbbbbbbbbbbbbbbb") == 0);
    pthread_join(one, NULL);
    pthread_join(two, NULL);
}

static void
lines_of_two_threads_do_not_mix(void **state)
{
    const char *p;
    int lines = 0;

    log_setup(LOG_LEVEL_INFO, true);
    for (p = heard(talk_at_once); *p; p = strchr(p, '\n') + 1, lines++)
        assert_true(strncmp(p, "<6>aaaaaaaaaaaaaaaaaaaa\n", 24) == 0 ||
                    strncmp(p, "<6>bbbbbbbbbbbbbbbbbbbb\n", 24) == 0);
    assert_int_equal(lines, 1000);
}

static void
a_limited_place_tells_what_it_swallowed(void **state)
{
    struct log_limit limit = {0};
    unsigned swallowed = 99;

    assert_true(log_limit_ok(&limit, 5 * MC_SEC, &swallowed));
    assert_int_equal(swallowed, 0);
    assert_false(log_limit_ok(&limit, 5 * MC_SEC + 1, &swallowed));
    assert_false(log_limit_ok(&limit, 6 * MC_SEC - 1, &swallowed));
    assert_true(log_limit_ok(&limit, 6 * MC_SEC, &swallowed));
    assert_int_equal(swallowed, 2);
}

static void
many_lines_of_a_second_may_come_at_once(void **state)
{
    struct log_limit limit = {0};
    unsigned swallowed = 99;

    for (unsigned i = 0; i < 10; i++)
        assert_true(log_limit_many(&limit, 10, 5 * MC_SEC, &swallowed));
    assert_int_equal(swallowed, 0);
    assert_false(log_limit_many(&limit, 10, 5 * MC_SEC, &swallowed));
    assert_true(log_limit_many(&limit, 10, 5 * MC_SEC + MC_SEC / 10, &swallowed));
    assert_int_equal(swallowed, 1);
    assert_false(log_limit_many(&limit, 10, 5 * MC_SEC + MC_SEC / 10, &swallowed));
    for (unsigned i = 0; i < 10; i++)
        assert_true(log_limit_many(&limit, 10, 7 * MC_SEC, &swallowed));
    assert_false(log_limit_many(&limit, 10, 7 * MC_SEC, &swallowed));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_above_the_level_are_dropped),
        cmocka_unit_test(a_stranger_cannot_begin_a_line_of_his_own),
        cmocka_unit_test(a_line_that_is_too_long_says_so),
        cmocka_unit_test(the_ring_holds_the_last_lines_in_order),
        cmocka_unit_test(lines_of_two_threads_do_not_mix),
        cmocka_unit_test(a_limited_place_tells_what_it_swallowed),
        cmocka_unit_test(many_lines_of_a_second_may_come_at_once),
    };

    return cmocka_run_group_tests_name("base/log", tests, NULL, NULL);
}
