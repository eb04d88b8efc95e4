/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/check.h"
#include "base/poison.h"

static void
pieces_are_aligned_and_apart(void **state)
{
    struct arena a;
    char *last = NULL;

    arena_init(&a, NULL);
    for (size_t n = 1; n < 300; n++) {
        char *p = arena_alloc(&a, n);

        assert_int_equal((uintptr_t)p % 16, 0);
        memset(p, (int)n, n);
        if (last)
            assert_int_equal((unsigned char)last[0], (unsigned char)(n - 1));
        last = p;
    }
    arena_drop(&a);
}

static void
a_dropped_arena_can_be_used_again(void **state)
{
    struct arena_cache cache = {.max_free = 2};
    struct arena a;
    void *first;

    arena_init(&a, &cache);
    first = arena_alloc(&a, 100);
    arena_drop(&a);
    assert_int_equal(cache.n_free, 1);
    assert_int_equal(a.total_bytes, 0);
    assert_ptr_equal(arena_alloc(&a, 100), first);
    assert_int_equal(cache.n_free, 0);
    arena_drop(&a);
    arena_cache_free(&cache);
    assert_int_equal(cache.n_free, 0);
}

static void
the_cache_keeps_no_more_than_it_may(void **state)
{
    struct arena_cache cache = {.max_free = 2};
    struct arena a;

    arena_init(&a, &cache);
    for (int i = 0; i < 10; i++)
        arena_alloc(&a, 3000);
    arena_drop(&a);
    assert_int_equal(cache.n_free, 2);
    arena_cache_free(&cache);
}

static void
a_large_piece_leaves_the_small_chunk_in_use(void **state)
{
    struct arena_cache cache = {0};
    struct arena a;
    char *small, *large, *next;

    arena_init(&a, &cache);
    small = arena_alloc(&a, 16);
    large = arena_alloc(&a, 100000);
    memset(large, 1, 100000);
    next = arena_alloc(&a, 16);
    assert_true(next > small && next - small < 100);
    arena_drop(&a);
    assert_int_equal(cache.n_free, 1); /* the large one went back to the system */
    arena_cache_free(&cache);
}

static void
pieces_around_the_size_of_a_chunk_all_fit(void **state)
{
    struct arena_cache cache = {0};
    struct arena a;

    arena_init(&a, &cache);
    for (size_t n = ARENA_CHUNK - 40; n < ARENA_CHUNK + 40; n++)
        memset(arena_alloc(&a, n), 1, n);
    arena_drop(&a);
    memset(arena_alloc(&a, ARENA_CHUNK), 2, ARENA_CHUNK);
    arena_drop(&a);
    arena_cache_free(&cache);
}

static void
text_is_copied_with_a_nul_behind_it(void **state)
{
    struct arena a;
    struct str s;

    arena_init(&a, NULL);
    s = arena_str(&a, (struct str){"meercat", 4});
    assert_int_equal(s.n, 4);
    assert_string_equal(s.p, "meer");
    s = arena_printf(&a, "%s-%05d", "lb", 42);
    assert_int_equal(s.n, 8);
    assert_string_equal(s.p, "lb-00042");
    s = arena_str(&a, STR_NONE);
    assert_string_equal(s.p, "");
    arena_drop(&a);
}

static void
zeroed_memory_is_zero_even_when_it_was_used_before(void **state)
{
    struct arena_cache cache = {0};
    struct arena a;
    char *p;

    arena_init(&a, &cache);
    memset(arena_alloc(&a, 1000), 0xff, 1000);
    arena_drop(&a);
    p = arena_zalloc(&a, 1000);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(p[i], 0);
    arena_drop(&a);
    arena_cache_free(&cache);
}

#if MC_REDZONE /* a build with the address sanitizer */
static void
the_sanitizer_sees_a_piece_that_was_dropped(void **state)
{
    struct arena_cache cache = {0};
    struct arena a;
    char *p;

    arena_init(&a, &cache);
    p = arena_alloc(&a, 20);
    assert_false(__asan_address_is_poisoned(p + 19));
    assert_true(__asan_address_is_poisoned(p + 20));
    arena_drop(&a);
    assert_true(__asan_address_is_poisoned(p));
    arena_cache_free(&cache);
}
#endif

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_aligned_and_apart),
        cmocka_unit_test(a_dropped_arena_can_be_used_again),
        cmocka_unit_test(the_cache_keeps_no_more_than_it_may),
        cmocka_unit_test(a_large_piece_leaves_the_small_chunk_in_use),
        cmocka_unit_test(pieces_around_the_size_of_a_chunk_all_fit),
        cmocka_unit_test(text_is_copied_with_a_nul_behind_it),
        cmocka_unit_test(zeroed_memory_is_zero_even_when_it_was_used_before),
#if MC_REDZONE
        cmocka_unit_test(the_sanitizer_sees_a_piece_that_was_dropped),
#endif
    };

    return cmocka_run_group_tests_name("base/arena", tests, NULL, NULL);
}
