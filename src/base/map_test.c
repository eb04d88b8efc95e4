/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "base/rand.h"

static int dummy[8];

static void
a_value_is_found_under_its_key(void **state)
{
    struct map m = {0};

    assert_null(map_get(&m, STR("a")));
    assert_null(map_remove(&m, STR("a")));
    assert_null(map_put(&m, STR("a"), &dummy[0]));
    assert_null(map_put(&m, STR("b"), &dummy[1]));
    assert_ptr_equal(map_get(&m, STR("a")), &dummy[0]);
    assert_ptr_equal(map_put(&m, STR("a"), &dummy[2]), &dummy[0]);
    assert_ptr_equal(map_get(&m, STR("a")), &dummy[2]);
    assert_int_equal(m.n, 2);
    assert_ptr_equal(map_remove(&m, STR("a")), &dummy[2]);
    assert_null(map_get(&m, STR("a")));
    assert_int_equal(m.n, 1);
    map_free(&m);
}

static void
keys_are_bytes_and_copied(void **state)
{
    struct map m = {0};
    char key[] = "key";

    map_put(&m, str_of(key), &dummy[0]);
    key[0] = 'x';
    assert_ptr_equal(map_get(&m, STR("key")), &dummy[0]);
    map_put(&m, STR("a\0b"), &dummy[1]);
    map_put(&m, STR("a\0c"), &dummy[2]);
    map_put(&m, STR_NONE, &dummy[3]);
    assert_ptr_equal(map_get(&m, STR("a\0b")), &dummy[1]);
    assert_ptr_equal(map_get(&m, STR("")), &dummy[3]);
    map_free(&m);
}

static void
a_walk_meets_every_entry_once(void **state)
{
    unsigned char seen[500] = {0};
    struct map m = {0};
    struct str key;
    size_t at = 0;
    void *value;
    char text[16];

    for (int i = 0; i < 500; i++) {
        snprintf(text, sizeof(text), "k%d", i);
        map_put(&m, str_of(text), &seen[i]);
    }
    while (map_next(&m, &at, &key, &value)) {
        assert_ptr_equal(map_get(&m, key), value);
        ++*(unsigned char *)value;
    }
    for (int i = 0; i < 500; i++)
        assert_int_equal(seen[i], 1);
    map_free(&m);
}

static void
a_map_agrees_with_an_array_through_many_changes(void **state)
{
    void *truth[300] = {0};
    struct map m = {0};
    struct rng r;
    size_t n = 0;

    rng_seed(&r, 7);
    for (int turn = 0; turn < 30000; turn++) {
        uint32_t i = rng_below(&r, 300);
        char text[16];

        snprintf(text, sizeof(text), "%u", i);
        assert_ptr_equal(map_get(&m, str_of(text)), truth[i]);
        if (truth[i]) {
            assert_ptr_equal(map_remove(&m, str_of(text)), truth[i]);
            truth[i] = NULL;
            n--;
        } else {
            truth[i] = &dummy[turn % 8];
            assert_null(map_put(&m, str_of(text), truth[i]));
            n++;
        }
        assert_int_equal(m.n, n);
    }
    assert_true(m.cap <= 1024); /* tombstones are swept out, not piled up */
    map_free(&m);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_is_found_under_its_key),
        cmocka_unit_test(keys_are_bytes_and_copied),
        cmocka_unit_test(a_walk_meets_every_entry_once),
        cmocka_unit_test(a_map_agrees_with_an_array_through_many_changes),
    };

    return cmocka_run_group_tests_name("base/map", tests, NULL, NULL);
}
