/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/slab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/poison.h"
#include "base/rand.h"

static void
the_last_one_freed_is_the_first_one_reused(void **state)
{
    struct slab s;
    void *a, *b;

    slab_init(&s, 200);
    a = slab_take(&s);
    b = slab_take(&s);
    slab_give(&s, a);
    slab_give(&s, b);
    assert_ptr_equal(slab_take(&s), b);
    assert_ptr_equal(slab_take(&s), a);
    slab_give(&s, a);
    slab_give(&s, b);
    slab_fini(&s);
}

static void
an_object_costs_little_more_than_itself(void **state)
{
    struct slab s;

    slab_init(&s, 250);
    assert_int_equal(s.obj_bytes, 256);
    assert_true(s.per_page * s.obj_bytes > 64 * 1024 - 2 * 256);
    slab_fini(&s);
}

static void
objects_of_whole_cache_lines_share_none(void **state)
{
    struct slab s;
    void *obj[50];

    slab_init(&s, 192);
    for (int i = 0; i < 50; i++) {
        obj[i] = slab_take(&s);
        assert_int_equal((uintptr_t)obj[i] % 64, 0);
    }
    for (int i = 0; i < 50; i++)
        slab_give(&s, obj[i]);
    slab_fini(&s);
}

static void
objects_do_not_overlap_however_they_come_and_go(void **state)
{
    enum { N = 3000 };
    static unsigned char *obj[N];
    struct slab s;
    struct rng r;

    slab_init(&s, 100);
    rng_seed(&r, 1);
    for (int turn = 0; turn < 20000; turn++) {
        uint32_t i = rng_below(&r, N);

        if (!obj[i]) {
            obj[i] = slab_take(&s);
            memset(obj[i], (int)(i & 0xff), 100);
        } else {
            for (int k = 0; k < 100; k++)
                assert_int_equal(obj[i][k], i & 0xff);
            slab_give(&s, obj[i]);
            obj[i] = NULL;
        }
    }
    for (int i = 0; i < N; i++)
        if (obj[i])
            slab_give(&s, obj[i]);
    assert_int_equal(s.n_used, 0);
    assert_true(s.n_total >= 1000);
    slab_fini(&s);
    assert_int_equal(s.n_total, 0);
}

static void
large_objects_come_several_a_page(void **state)
{
    struct slab s;
    char *p;

    slab_init(&s, 40000);
    p = slab_take(&s);
    memset(p, 1, 40000);
    assert_int_equal(s.n_total, 8);
    slab_give(&s, p);
    slab_fini(&s);
}

#if MC_REDZONE /* a build with the address sanitizer */
static void
the_sanitizer_sees_an_object_that_was_given_back(void **state)
{
    struct slab s;
    char *p;

    slab_init(&s, 64);
    p = slab_take(&s);
    assert_false(__asan_address_is_poisoned(p));
    assert_true(__asan_address_is_poisoned(p + 64)); /* its neighbour was never taken */
    slab_give(&s, p);
    assert_true(__asan_address_is_poisoned(p));
    assert_true(__asan_address_is_poisoned(p + 63));
    slab_fini(&s);
}
#endif

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_one_freed_is_the_first_one_reused),
        cmocka_unit_test(an_object_costs_little_more_than_itself),
        cmocka_unit_test(objects_of_whole_cache_lines_share_none),
        cmocka_unit_test(large_objects_come_several_a_page),
        cmocka_unit_test(objects_do_not_overlap_however_they_come_and_go),
#if MC_REDZONE
        cmocka_unit_test(the_sanitizer_sees_an_object_that_was_given_back),
#endif
    };

    return cmocka_run_group_tests_name("base/slab", tests, NULL, NULL);
}
