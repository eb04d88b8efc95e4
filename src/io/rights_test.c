/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Messages with descriptors: how many go, how many come, and what a message cut off leaves open.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/rights.h"

static int side[2];

static int
begin(void **state)
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, side);
}

static int
end(void **state)
{
    close(side[0]);
    if (side[1] >= 0)
        close(side[1]);
    return 0;
}

static bool
is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void
a_message_goes_without_descriptors(void **state)
{
    int fds[RIGHTS_FDS_MAX];
    char text[8];
    unsigned n;

    assert_true(rights_send(side[0], "go", 2, NULL, 0));
    assert_int_equal(rights_recv(side[1], text, sizeof(text), fds, &n), 2);
    assert_memory_equal(text, "go", 2);
    assert_int_equal(n, 0);
    assert_int_equal(rights_recv(side[1], text, sizeof(text), fds, &n), -1);
    assert_int_equal(errno, EAGAIN);
}

static void
as_many_descriptors_as_fit_come_through(void **state)
{
    int out[RIGHTS_FDS_MAX], in[RIGHTS_FDS_MAX], pipe_fds[2];
    char text[8], byte = 0;
    unsigned n;

    assert_int_equal(pipe(pipe_fds), 0);
    for (unsigned i = 0; i < RIGHTS_FDS_MAX; i++)
        out[i] = pipe_fds[1];
    assert_true(rights_send(side[0], "x", 1, out, RIGHTS_FDS_MAX));
    assert_int_equal(rights_recv(side[1], text, sizeof(text), in, &n), 1);
    assert_int_equal(n, RIGHTS_FDS_MAX);
    for (unsigned i = 0; i < n; i++) {
        assert_true(fcntl(in[i], F_GETFD) & FD_CLOEXEC);
        assert_int_equal(write(in[i], "y", 1), 1);
        assert_int_equal(read(pipe_fds[0], &byte, 1), 1);
        close(in[i]);
    }
    assert_int_equal(byte, 'y');
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static void
what_is_cut_off_is_an_error_and_leaves_nothing_open(void **state)
{
    int in[RIGHTS_FDS_MAX], lowest;
    char text[4];
    unsigned n;

    assert_true(rights_send(side[0], "too long", 8, &side[0], 1));
    lowest = dup(0);
    close(lowest);
    assert_int_equal(rights_recv(side[1], text, sizeof(text), in, &n), -1);
    assert_int_equal(errno, EMSGSIZE);
    assert_int_equal(n, 0);
    assert_false(is_open(lowest));
}

static void
the_end_of_the_other_side_is_told_to_both(void **state)
{
    int in[RIGHTS_FDS_MAX];
    char text[4];
    unsigned n;

    close(side[1]);
    side[1] = -1;
    assert_false(rights_send(side[0], "x", 1, NULL, 0));
    assert_int_equal(errno, EPIPE);
    assert_int_equal(rights_recv(side[0], text, sizeof(text), in, &n), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_message_goes_without_descriptors, begin, end),
        cmocka_unit_test_setup_teardown(as_many_descriptors_as_fit_come_through, begin, end),
        cmocka_unit_test_setup_teardown(what_is_cut_off_is_an_error_and_leaves_nothing_open, begin,
                                        end),
        cmocka_unit_test_setup_teardown(the_end_of_the_other_side_is_told_to_both, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
