/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conf_papers_test.c - the manual and the examples say what the program does.  Run from the top.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "control/conf.h"
#include "control/conf_keys.h"

static struct buf
read_file(const char *path)
{
    FILE *f = fopen(path, "r");
    struct buf b = {0};
    char chunk[4096];
    size_t n;

    assert_non_null(f);
    while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0)
        buf_add(&b, chunk, n);
    fclose(f);
    return b;
}

/* What conf.c knows, and what man/update has written. */
static void
the_manual_has_the_table_of_keys(void **state)
{
    struct buf page = read_file("man/meercat.conf.5"), keys = {0};
    char *begin = strstr(page.p, ".\\\" keys begin"), *end = strstr(page.p, ".\\\" keys end");

    assert_non_null(begin);
    assert_non_null(end);
    begin = strchr(begin, '\n') + 1;
    *end = '\0';
    conf_keys_mdoc(&keys);
    if (strcmp(begin, keys.p) != 0)
        fail_msg("man/meercat.conf.5 is old: run man/update");
    buf_free(&page);
    buf_free(&keys);
}

static void
assert_good(const char *path)
{
    struct conf_faults faults = {0};
    struct buf text = {0};
    struct conf *c;

    conf_load(path, &c, &faults);
    conf_faults_text(&faults, &text);
    if (faults.n > 0)
        fail_msg("%s", text.p);
    conf_free(&c);
}

static void
the_examples_are_good(void **state)
{
    static const char *const paths[] = {
        "examples/minimal.conf",     "examples/meercat.conf",     "examples/demo/lb1.conf",
        "examples/demo/lb2.conf",    "examples/demo/lb3.conf",    "examples/cluster/lb1.conf",
        "examples/cluster/lb2.conf", "examples/cluster/lb3.conf", "examples/grpc.conf",
    };

    for (size_t i = 0; i < MC_COUNT(paths); i++)
        assert_good(paths[i]);
}

/* "name =" or "name {" or "name "title"" at the begin of a statement, maybe in a comment. */
static bool
mentions(const struct buf *text, const char *name)
{
    size_t n = strlen(name);

    for (const char *p = strstr(text->p, name); p != NULL; p = strstr(p + 1, name))
        if (p > text->p && strchr(" \n", p[-1]) != NULL && p[n] == ' ' &&
            strchr("={\"", p[n + 1]) != NULL)
            return true;
    return false;
}

static void
the_full_example_shows_every_key(void **state)
{
    struct buf text = read_file("examples/meercat.conf");

    for (const struct conf_key *k = conf_keys; k->name != NULL; k++)
        if (!mentions(&text, k->name))
            fail_msg("examples/meercat.conf does not show %s", k->name);
    buf_free(&text);
}

static int
at_the_top(void **state)
{
    return access("man/meercat.conf.5", R_OK);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_manual_has_the_table_of_keys),
        cmocka_unit_test(the_examples_are_good),
        cmocka_unit_test(the_full_example_shows_every_key),
    };

    return cmocka_run_group_tests(tests, at_the_top, NULL);
}
