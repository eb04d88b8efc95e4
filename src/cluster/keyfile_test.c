/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/check.h"
#include "cluster/keyfile.h"

/* 32 times 0x11, 0x22 and so on. */
#define ONES  "ERERERERERERERERERERERERERERERERERERERERERE="
#define TWOS  "IiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiI="
#define ZEROS "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

static void
keys_stand_one_a_line_with_comments(void **state)
{
    const char *text =
        "# the keys of our cluster\n\n  " ONES " # since spring\r\n\t" TWOS "#new\n#end";
    uint8_t expect[KEYFILE_KEY_BYTES];
    struct keyfile f;
    struct errbuf eb;

    assert_int_equal(keyfile_parse(str_of(text), "k", &f, &eb), MC_OK);
    assert_int_equal(f.n, 2);
    memset(expect, 0x11, sizeof(expect));
    assert_memory_equal(f.key[0], expect, sizeof(expect));
    memset(expect, 0x22, sizeof(expect));
    assert_memory_equal(f.key[1], expect, sizeof(expect));
}

static void
what_is_no_key_is_told_with_its_line(void **state)
{
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"", "k:1: no key, expected one"},
        {"# nothing\n#\n", "k:3: no key, expected one"},
        {"# a\nsecret\n", "k:2: no key, expected 32 bytes in base64"},
        {ONES "\n" ONES "=\n", "k:2: no key, expected 32"},
        {ONES " " TWOS, "k:1: no key, expected 32"},
        {"ERERERERERERERERERERERERERERERERERERERERERE", "k:1: no key"},   /* not padded */
        {"ERERERERERERERERERERERERERERERERERERERERERF=", "k:1: no key"},  /* spare bits set */
        {"ERERERERERERERERERERERERERERERERERERERERERER", "k:1: no key"},  /* 33 bytes */
        {"ERERERERERERERERERERERERERERERERERERERERE==\n", "k:1: no key"}, /* 31 bytes */
        {"ERERERERERERERERERERE ERERERERERERERERERERE=", "k:1: no key"},
        {"_RERERERERERERERERERERERERERERERERERERERERE=", "k:1: no key"},
        {ONES "\n" TWOS "\n" ONES "\n", "k:3: the same key once more"},
        {"\n" ZEROS, "k:2: a key that everybody knows"},
    };

    for (size_t i = 0; i < MC_COUNT(cases); i++) {
        struct keyfile f = {.n = 77};
        struct errbuf eb = {{0}};

        assert_int_equal(keyfile_parse(str_of(cases[i].text), "k", &f, &eb), MC_ESYNTAX);
        if (strncmp(eb.text, cases[i].error, strlen(cases[i].error)) != 0)
            fail_msg("case %zu: %s", i, eb.text);
        assert_null(strstr(eb.text, "ERER")); /* a secret is not told */
        assert_int_equal(f.n, 77);            /* nothing filled in */
    }
}

static void
there_are_eight_keys_at_most(void **state)
{
    struct buf text = {0};
    struct keyfile f;
    struct errbuf eb;

    for (unsigned i = 0; i < KEYFILE_KEYS_MAX; i++) {
        char line[KEYFILE_LINE];

        keyfile_draw(&f);
        buf_printf(&text, "%s\n", keyfile_text(&f, 0, line));
    }
    assert_int_equal(keyfile_parse((struct str){text.p, text.n}, "k", &f, &eb), MC_OK);
    assert_int_equal(f.n, KEYFILE_KEYS_MAX);
    buf_printf(&text, "%s\n", ONES);
    assert_int_equal(keyfile_parse((struct str){text.p, text.n}, "k", &f, &eb), MC_ESYNTAX);
    assert_string_equal(eb.text, "k:9: too many keys, expected 8 at most");
    buf_free(&text);
}

static void
a_drawn_key_is_read_as_it_was_written(void **state)
{
    struct keyfile drawn, read, another;
    char line[KEYFILE_LINE];
    struct errbuf eb;

    keyfile_draw(&drawn);
    keyfile_draw(&another);
    assert_int_equal(drawn.n, 1);
    assert_memory_not_equal(drawn.key[0], another.key[0], KEYFILE_KEY_BYTES);
    assert_int_equal(keyfile_parse(str_of(keyfile_text(&drawn, 0, line)), "k", &read, &eb), MC_OK);
    assert_memory_equal(read.key[0], drawn.key[0], KEYFILE_KEY_BYTES);
    keyfile_wipe(&drawn);
    assert_int_equal(drawn.n, 0);
}

/* --- files ----------------------------------------------------------------------------------- */

static char dir[64], path[96];

static int
make_dir(void **state)
{
    strcpy(dir, "/tmp/meercat-keyfile-XXXXXX");
    if (mkdtemp(dir) == NULL)
        return 1;
    snprintf(path, sizeof(path), "%s/cluster.key", dir);
    return 0;
}

static int
remove_dir(void **state)
{
    unlink(path);
    rmdir(path); /* one test puts a folder there */
    return rmdir(dir);
}

static void
write_file(const char *text, mode_t mode)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static void
a_file_that_strangers_read_is_refused(void **state)
{
    static const struct {
        mode_t mode;
        enum mc_err err;
    } cases[] = {{0600, MC_OK},     {0400, MC_OK},     {0640, MC_OK},    {0440, MC_OK},
                 {0644, MC_EINVAL}, {0660, MC_EINVAL}, {0602, MC_EINVAL}};

    for (size_t i = 0; i < MC_COUNT(cases); i++) {
        struct keyfile f;
        struct errbuf eb = {{0}};

        write_file(ONES "\n", cases[i].mode);
        assert_int_equal(keyfile_load(path, &f, &eb), cases[i].err);
        if (cases[i].err != MC_OK)
            assert_non_null(strstr(eb.text, "expected 0600"));
        assert_int_equal(unlink(path), 0);
    }
}

static void
what_cannot_be_read_is_told_with_its_path(void **state)
{
    struct keyfile f;
    struct errbuf eb;
    FILE *big;

    assert_int_equal(keyfile_load(path, &f, &eb), MC_ESYS);
    assert_non_null(strstr(eb.text, path));
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(keyfile_load(path, &f, &eb), MC_EINVAL);
    assert_non_null(strstr(eb.text, "not a file"));
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0); /* does not wait for a writer */
    assert_int_equal(keyfile_load(path, &f, &eb), MC_EINVAL);
    assert_int_equal(unlink(path), 0);
    write_file("# x\nnonsense\n", 0600);
    assert_int_equal(keyfile_load(path, &f, &eb), MC_ESYNTAX);
    assert_non_null(strstr(eb.text, "cluster.key:2: no key, expected"));
    big = fopen(path, "w");
    assert_int_equal(ftruncate(fileno(big), KEYFILE_BYTES_MAX + 1), 0);
    fclose(big);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(keyfile_load(path, &f, &eb), MC_EINVAL);
    assert_non_null(strstr(eb.text, "no key file"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_stand_one_a_line_with_comments),
        cmocka_unit_test(what_is_no_key_is_told_with_its_line),
        cmocka_unit_test(there_are_eight_keys_at_most),
        cmocka_unit_test(a_drawn_key_is_read_as_it_was_written),
        cmocka_unit_test_setup_teardown(a_file_that_strangers_read_is_refused, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(what_cannot_be_read_is_told_with_its_path, make_dir,
                                        remove_dir),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
