/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"

static void
write_text(int fd, const char *text)
{
    MC_ASSERT(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

/* Runs f in a child that must die of SIGABRT; out gets what it wrote to standard error. */
static void
watch_it_die(void (*f)(void), char *out, size_t room)
{
    int pipe_fd[2], status;
    size_t n = 0;
    ssize_t got;
    pid_t child;

    assert_int_equal(pipe(pipe_fd), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        dup2(pipe_fd[1], STDERR_FILENO);
        f();
        _exit(0);
    }
    close(pipe_fd[1]);
    while ((got = read(pipe_fd[0], out + n, room - 1 - n)) > 0)
        n += (size_t)got;
    out[n] = '\0';
    close(pipe_fd[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void
break_a_promise(void)
{
    int answer = 42;

    log_info("the line before the end");
    MC_ASSERT(answer == 43);
}

static void
a_broken_promise_names_its_place_and_the_recent_log(void **state)
{
    char out[16384];

    watch_it_die(break_a_promise, out, sizeof(out));
    assert_non_null(strstr(out, "check_test.c"));
    assert_non_null(strstr(out, "break_a_promise: answer == 43"));
    assert_non_null(strstr(strstr(out, "recent log:"), "the line before the end"));
}

static void
print_context(int fd, void *arg)
{
    write_text(fd, arg);
}

static void
break_with_context(void)
{
    mc_panic_context(print_context, (void *)"relaying 7 bytes\n");
    MC_NEVER("as a test");
}

static void
a_panic_prints_the_state_of_its_thread(void **state)
{
    char out[16384];

    watch_it_die(break_with_context, out, sizeof(out));
    assert_non_null(strstr(out, "state of the thread:\nrelaying 7 bytes\n"));
}

static void
panic_again(int fd, void *arg)
{
    MC_NEVER("in the context");
}

static void
break_twice(void)
{
    mc_panic_context(panic_again, NULL);
    MC_NEVER("first");
}

static void
a_panic_inside_a_panic_still_ends(void **state)
{
    char out[16384];

    watch_it_die(break_twice, out, sizeof(out));
    assert_non_null(strstr(out, "panic inside a panic"));
}

struct thing {
    unsigned magic;
};

static void
use_after_its_magic_is_gone(void)
{
    struct thing t = {0};

    MC_CHECK(&t, 0x7e57u);
}

static void
an_object_without_its_magic_is_refused(void **state)
{
    struct thing t = {0x7e57u};
    char out[16384];

    MC_CHECK(&t, 0x7e57u);
    watch_it_die(use_after_its_magic_is_gone, out, sizeof(out));
}

static void
memory_arrives_zeroed_even_when_none_is_asked_for(void **state)
{
    char *p = mc_alloc(100), *none = mc_alloc(0);

    for (int i = 0; i < 100; i++)
        assert_int_equal(p[i], 0);
    assert_non_null(none);
    free(p);
    free(none);
}

static void
copies_and_formatted_text_belong_to_the_caller(void **state)
{
    char *copy = mc_strdup("cub"), *text = mc_printf("%s %d", "den", 7);

    copy = mc_realloc(copy, 1000);
    assert_string_equal(copy, "cub");
    assert_string_equal(text, "den 7");
    free(copy);
    free(text);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_arrives_zeroed_even_when_none_is_asked_for),
        cmocka_unit_test(copies_and_formatted_text_belong_to_the_caller),
        cmocka_unit_test(a_broken_promise_names_its_place_and_the_recent_log),
        cmocka_unit_test(an_object_without_its_magic_is_refused),
        cmocka_unit_test(a_panic_prints_the_state_of_its_thread),
        cmocka_unit_test(a_panic_inside_a_panic_still_ends),
    };

    return cmocka_run_group_tests_name("base/check", tests, NULL, NULL);
}
