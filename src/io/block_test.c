/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/rand.h"
#include "io/block.h"

static void
a_block_has_the_room_asked_for_and_the_head_and_tail_beside(void **state)
{
    static const size_t sizes[] = {0,        1,          BLOCK_SMALL,    BLOCK_SMALL + 1,
                                   BLOCK_RX, BLOCK_BULK, BLOCK_BULK + 1, 1 << 20};
    struct block_pool *p = block_pool_new();

    for (size_t i = 0; i < MC_COUNT(sizes); i++) {
        struct block *b = block_take(p, sizes[i]);

        assert_int_equal(b->off, BLOCK_HEADROOM);
        assert_int_equal(b->len, 0);
        assert_true(block_room(b) >= sizes[i] + BLOCK_TAILROOM);
        memset(b->data, 0x5a, b->cap); /* all of it may be written */
        block_give(p, &b);
        assert_null(b);
    }
    assert_int_equal(block_pool_used(p), 0);
    block_pool_free(&p);
    assert_null(p);
}

static void
what_was_given_last_is_taken_first(void **state)
{
    struct block_pool *p = block_pool_new();
    struct block *a = block_take(p, 100), *b = block_take(p, 100), *was_a = a, *was_b = b;

    block_give(p, &a);
    block_give(p, &b);
    a = block_take(p, 50);
    b = block_take(p, 50);
    assert_ptr_equal(a, was_b);
    assert_ptr_equal(b, was_a);
    block_give(p, &a);
    block_give(p, &b);
    block_pool_free(&p);
}

static void
skipping_moves_the_front(void **state)
{
    struct block_pool *p = block_pool_new();
    struct block *b = block_take(p, 100);

    memcpy(block_at(b), "hello world", 11);
    b->len = 11;
    block_skip(b, 6);
    assert_memory_equal(block_at(b), "world", 5);
    assert_int_equal(b->len, 5);
    block_give(p, &b);
    block_give(p, &b); /* NULL is nothing */
    block_pool_free(&p);
}

static void
after_a_burst_only_a_bounded_part_is_kept(void **state)
{
    struct block_pool *p = block_pool_new();
    struct block *b[500];

    for (size_t i = 0; i < MC_COUNT(b); i++)
        b[i] = block_take(p, BLOCK_BULK);
    assert_true(block_pool_bytes(p) > 30u << 20);
    assert_int_equal(block_pool_used(p), 500);
    for (size_t i = 0; i < MC_COUNT(b); i++)
        block_give(p, &b[i]);
    assert_true(block_pool_bytes(p) < 5u << 20);
    block_pool_free(&p);
}

static void
books_are_kept_through_random_use(void **state)
{
    struct block_pool *p = block_pool_new();
    struct block *b[200] = {NULL};
    struct rng r;
    size_t n = 0;

    rng_seed(&r, 1);
    for (int i = 0; i < 20000; i++) {
        struct block **at = &b[rng_below(&r, 200)];

        if (*at) {
            assert_int_equal((*at)->data[(*at)->cap - 1], (char)(at - b));
            block_give(p, at);
            n--;
        } else {
            *at = block_take(p, rng_below(&r, 80000));
            (*at)->data[(*at)->cap - 1] = (char)(at - b);
            n++;
        }
        assert_int_equal(block_pool_used(p), n);
    }
    for (size_t i = 0; i < MC_COUNT(b); i++)
        block_give(p, &b[i]);
    block_pool_free(&p);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_has_the_room_asked_for_and_the_head_and_tail_beside),
        cmocka_unit_test(what_was_given_last_is_taken_first),
        cmocka_unit_test(skipping_moves_the_front),
        cmocka_unit_test(after_a_burst_only_a_bounded_part_is_kept),
        cmocka_unit_test(books_are_kept_through_random_use),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
