/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void
what_was_written_is_read(void **state)
{
    char dir[] = "/tmp/mc-file-XXXXXX", path[64], tmp[80];
    struct buf in = {0}, out = {0};

    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/x", dir);
    snprintf(tmp, sizeof(tmp), "%s.new", path);
    assert_false(file_load(path, 10, &out));
    assert_int_equal(errno, ENOENT);
    for (int i = 0; i < 10000; i++)
        buf_printf(&in, "%d\n", i);
    assert_true(file_replace(path, &in));
    assert_int_equal(access(tmp, F_OK), -1);
    assert_true(file_load(path, in.n + 1, &out));
    assert_int_equal(out.n, in.n);
    assert_memory_equal(out.p, in.p, in.n);
    buf_free(&out);
    assert_true(file_load(path, 5000, &out));
    assert_int_equal(out.n, 5000);
    buf_free(&out);
    buf_free(&in);
    assert_true(file_replace(path, &in)); /* nothing is something, too */
    assert_true(file_load(path, 10, &out));
    assert_int_equal(out.n, 0);
    unlink(path);
    rmdir(dir);
    assert_false(file_replace(path, &in));
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(what_was_written_is_read)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
