/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "cluster/harness.h"
#include "cluster/seal.h"

static void
keys_have_ids_that_tell_nothing(void **state)
{
    struct keyring *a = ring_of("kx", 'a');
    char text[KEYRING_ID_TEXT];

    assert_int_equal(keyring_count(a), 2);
    assert_string_equal(keyring_digest(a, 0, text), "5d106635");
    assert_string_not_equal(keyring_digest(a, 1, text), "5d106635");
    keyring_free(&a);
    assert_null(a);
}

/* Made by an independent implementation of RFC 5869; other releases must derive the same. */
static void
derived_keys_are_the_same_everywhere(void **state)
{
    static const uint8_t golden[] = {0x7b, 0xaf, 0x19, 0xd7, 0x0e, 0xdd, 0x71, 0x6c, 0xb1, 0x7e,
                                     0x1a, 0x36, 0xf5, 0xcb, 0xd4, 0x1f, 0xd8, 0x8d, 0xce, 0x49,
                                     0x5d, 0xe4, 0x31, 0x2f, 0x31, 0x82, 0xaa, 0x97, 0x3a, 0x7e,
                                     0xbc, 0x7e, 0x76, 0xc3, 0xb3, 0xe8, 0xd2, 0x27, 0xd2, 0x0e,
                                     0x49, 0x7a, 0x78, 0xc3, 0x62, 0xf1, 0x70, 0xb9};
    struct keyring *a = ring_of("k", 'a'), *b = ring_of("xk", 'b');
    uint8_t out[sizeof(golden)];

    keyring_derive(a, 0, "tls tickets", STR("hour 7"), out, sizeof(out));
    assert_memory_equal(out, golden, sizeof(golden));
    memset(out, 0, sizeof(out));
    keyring_derive(b, 1, "tls tickets", STR("hour 7"), out, sizeof(out));
    assert_memory_equal(out, golden, sizeof(golden));
    keyring_free(&a);
    keyring_free(&b);
}

static void
derived_keys_differ_by_key_label_and_context(void **state)
{
    static const struct {
        unsigned index;
        const char *label, *context;
    } of[] = {
        {0, "ab", "c"}, {0, "a", "bc"}, {0, "abc", ""}, {0, "ab", "d"},
        {1, "ab", "c"}, {0, "", "abc"}, {0, "", ""},    {0, "meercat key id", ""},
    };
    struct keyring *k = ring_of("kx", 'a');
    uint8_t out[MC_COUNT(of)][32];
    char id[KEYRING_ID_TEXT], first[KEYRING_ID_TEXT];

    for (size_t i = 0; i < MC_COUNT(of); i++) {
        keyring_derive(k, of[i].index, of[i].label, str_of(of[i].context), out[i], 32);
        for (size_t j = 0; j < i; j++)
            assert_memory_not_equal(out[i], out[j], 32);
        snprintf(first, sizeof(first), "%02x%02x%02x%02x", out[i][0], out[i][1], out[i][2],
                 out[i][3]);
        assert_string_not_equal(keyring_digest(k, 0, id), first);
    }
    keyring_free(&k);
}

static void
without_a_key_file_there_is_a_key_that_everybody_knows(void **state)
{
    struct keyring *a = keyring_new_null(), *b = keyring_new_null(), *keyed = ring_of("k", 'k');
    uint8_t wire[64], boot[KEYRING_BOOT_BYTES];
    struct str plain;
    size_t n;

    assert_true(keyring_is_null(a));
    assert_false(keyring_is_null(keyed));
    assert_memory_not_equal(keyring_boot(a), keyring_boot(b), KEYRING_BOOT_BYTES);
    n = seal_datagram(a, "hi", 2, wire);
    assert_int_equal(seal_open_datagram(keyed, 0, wire, n, &plain, boot), SEAL_F_KEY);
    assert_int_equal(seal_open_datagram(b, 0, wire, n, &plain, boot), SEAL_F_NONE);
    assert_memory_equal(boot, keyring_boot(a), sizeof(boot));
    keyring_free(&a);
    keyring_free(&b);
    keyring_free(&keyed);
}

/* --- files -------------------------------------------------------------------------------------
 */

static char dir[64], path[96];

static int
make_dir(void **state)
{
    strcpy(dir, "/tmp/meercat-keyring-XXXXXX");
    if (mkdtemp(dir) == NULL)
        return 1;
    snprintf(path, sizeof(path), "%s/cluster.key", dir);
    return 0;
}

static int
remove_dir(void **state)
{
    unlink(path);
    return rmdir(dir);
}

static void
write_keys(const struct keyfile *f, const char *more)
{
    char line[KEYFILE_LINE];
    FILE *out = fopen(path, "w");

    assert_non_null(out);
    assert_int_equal(fchmod(fileno(out), 0600), 0);
    for (unsigned i = 0; i < f->n; i++)
        fprintf(out, "%s # %u\n", keyfile_text(f, i, line), i);
    fprintf(out, "%s", more);
    assert_int_equal(fclose(out), 0);
}

static void
a_reload_takes_the_keys_of_the_file_or_changes_nothing(void **state)
{
    struct keyfile two = keys_of("kx"), one = keys_of("x");
    uint8_t boot[KEYRING_BOOT_BYTES];
    char of_x[KEYRING_ID_TEXT], text[KEYRING_ID_TEXT];
    struct keyring *k;
    struct errbuf eb;

    write_keys(&two, "");
    assert_int_equal(keyring_load(path, &k, &eb), MC_OK);
    assert_int_equal(keyring_count(k), 2);
    memcpy(boot, keyring_boot(k), sizeof(boot));
    keyring_digest(k, 1, of_x);

    write_keys(&one, "nonsense\n");
    assert_int_equal(keyring_reload(k, path, &eb), MC_ESYNTAX);
    assert_non_null(strstr(eb.text, "cluster.key:2: no key, expected"));
    assert_int_equal(keyring_count(k), 2);

    write_keys(&one, "");
    assert_int_equal(keyring_reload(k, path, &eb), MC_OK);
    assert_int_equal(keyring_count(k), 1);
    assert_string_equal(keyring_digest(k, 0, text), of_x);
    assert_memory_equal(keyring_boot(k), boot, sizeof(boot));
    keyring_free(&k);

    write_keys(&one, "nonsense\n");
    assert_int_equal(keyring_load(path, &k, &eb), MC_ESYNTAX);
    assert_null(k);
}

/* A balancer that ran without a key file is given one. */
static void
the_null_key_can_be_replaced(void **state)
{
    struct keyfile one = keys_of("x");
    struct keyring *k = keyring_new_null();
    struct errbuf eb;

    write_keys(&one, "");
    assert_int_equal(keyring_reload(k, path, &eb), MC_OK);
    assert_false(keyring_is_null(k));
    keyring_free(&k);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_have_ids_that_tell_nothing),
        cmocka_unit_test(derived_keys_are_the_same_everywhere),
        cmocka_unit_test(derived_keys_differ_by_key_label_and_context),
        cmocka_unit_test(without_a_key_file_there_is_a_key_that_everybody_knows),
        cmocka_unit_test_setup_teardown(a_reload_takes_the_keys_of_the_file_or_changes_nothing,
                                        make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(the_null_key_can_be_replaced, make_dir, remove_dir),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
