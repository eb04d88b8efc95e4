/* SPDX-License-Identifier: BSD-2-Clause
 *
 * share_map_test.c - what servers are called between balancers.
 */
#include "place/share_map.h"

#include "place/harness.h"

#define N 1000

static void
names_mean_the_same_whatever_the_order(void **state)
{
    uint64_t id[N], back[N];
    uint32_t pool = share_pool_key(str_of("web"));
    struct share_map *a, *b, *c;

    for (unsigned i = 0; i < N; i++)
        id[i] = back[N - 1 - i] = str_hash((struct str){(char *)&i, sizeof(i)}, 1);
    a = share_map_new(pool, id, N);
    b = share_map_new(pool, back, N);
    c = share_map_new(share_pool_key(str_of("api")), id, N);
    assert_int_equal(a->n, N);
    for (uint32_t s = 0; s < N; s++) {
        assert_int_equal(share_map_find(b, a->key[s]), N - 1 - s);
        assert_int_not_equal(a->key[s], c->key[s]); /* the same name in another pool */
    }
    assert_int_equal(share_map_find(a, 0), SHARE_NO_SERVER);
    share_map_free(&a);
    share_map_free(&b);
    share_map_free(&c);
    share_map_free(&c);
}

static void
two_of_one_key_are_both_left_out(void **state)
{
    uint64_t id[] = {5, 9, 5, 7, 5};
    struct share_map *m = share_map_new(1, id, 5);

    assert_int_equal(m->n, 2);
    assert_int_equal(m->key[0] | m->key[2] | m->key[4], 0);
    assert_int_equal(share_map_find(m, m->key[1]), 1);
    assert_int_equal(share_map_find(m, m->key[3]), 3);
    share_map_free(&m);
}

static void
places_stand_in_the_order_of_keys(void **state)
{
    uint64_t id[] = {50, 10, 40, 20, 30};
    struct share_map *m = share_map_new(1, id, 5);

    for (unsigned i = 0; i < m->n; i++)
        assert_int_equal(share_map_from(m, m->by_key[i].key), i);
    for (unsigned i = 1; i < m->n; i++)
        assert_int_equal(share_map_from(m, m->by_key[i - 1].key + 1), i);
    assert_int_equal(share_map_from(m, 0), 0);
    share_map_free(&m);
    m = share_map_new(1, id, 0);
    assert_int_equal(share_map_find(m, 1), SHARE_NO_SERVER);
    share_map_free(&m);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_mean_the_same_whatever_the_order),
        cmocka_unit_test(two_of_one_key_are_both_left_out),
        cmocka_unit_test(places_stand_in_the_order_of_keys),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
