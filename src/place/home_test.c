/* SPDX-License-Identifier: BSD-2-Clause
 *
 * home_test.c - the cut of the ring: everybody has a part, nothing is nobody's.
 */
#include "place/home.h"

#include <math.h>

#include "place/harness.h"

static bool
is_covered(const struct home_cut *c, uint32_t place)
{
    bool covered = false;

    for (unsigned m = 0; m < c->n_members; m++) {
        bool in = place - c->span[m].first < c->span[m].n;

        covered |= in;
        if (in) /* the index says so, too */
            assert_true(m - c->cover_first[place] < c->cover_n[place]);
    }
    return covered;
}

static void
every_server_is_in_a_home(void **state)
{
    struct rng rng;

    rng_seed(&rng, 1);
    for (int round = 0; round < 3000; round++) {
        unsigned n = 1 + rng_below(&rng, 60), places = 1 + rng_below(&rng, 120);
        struct home_cut *c = home_cut_new(n, places);
        double capacity[128], rate[64];

        for (int again = 0; again < 3; again++) {
            for (unsigned p = 0; p < places; p++)
                capacity[p] = rng_below(&rng, 10) ? .1 + rng_unit(&rng) : 0;
            for (unsigned m = 0; m < n; m++)
                rate[m] = rng_below(&rng, 10) ? rng_unit(&rng) * 100 : 0;
            home_cut_make(c, capacity, rate);
            for (unsigned p = 0; p < places; p++)
                if (capacity[p] > 0)
                    assert_true(is_covered(c, p));
            for (unsigned m = 0; m < n; m++) {
                assert_true(c->span[m].n >= 1);
                assert_true(c->span[m].first + c->span[m].n <= places);
            }
        }
        home_cut_free(&c);
    }
}

static void
homes_follow_what_each_has_to_place(void **state)
{
    double capacity[100], rate[3] = {100, 200, 700};
    struct home_cut *c = home_cut_new(3, 100);

    for (int p = 0; p < 100; p++)
        capacity[p] = 1;
    home_cut_make(c, capacity, rate);
    assert_in_range(c->span[0].n, 10, 11);
    assert_in_range(c->span[1].n, 20, 22);
    assert_in_range(c->span[2].n, 70, 71);
    home_cut_free(&c);
}

static void
many_balancers_share_least_homes(void **state)
{
    double capacity[100], rate[100];
    struct home_cut *c = home_cut_new(100, 100);

    for (int p = 0; p < 100; p++)
        capacity[p] = rate[p] = 1;
    home_cut_make(c, capacity, rate);
    for (int m = 0; m < 100; m++)
        assert_in_range(c->span[m].n, HOME_UNIT, HOME_UNIT + 2);
    home_cut_free(&c);
}

static void
homes_do_not_move_for_nothing(void **state)
{
    double capacity[100], rate[10];
    struct home_cut *c = home_cut_new(10, 100);
    struct home_span was[10];
    struct rng rng;

    rng_seed(&rng, 1);
    for (int p = 0; p < 100; p++)
        capacity[p] = 1;
    for (int m = 0; m < 10; m++)
        rate[m] = 1000;
    home_cut_make(c, capacity, rate);
    memcpy(was, c->span, sizeof(was));
    for (int round = 0; round < 100; round++) {
        for (int m = 0; m < 10; m++)
            rate[m] = 1000 + rng_unit(&rng);
        home_cut_make(c, capacity, rate);
        assert_memory_equal(was, c->span, sizeof(was));
    }
    home_cut_free(&c);
}

static void
owners_are_shared_out_and_only_a_leavers_change(void **state)
{
    uint64_t ids[10], fewer[9];
    unsigned count[10] = {0};

    for (unsigned m = 0; m < 10; m++)
        ids[m] = 1000 + m;
    memcpy(fewer, ids, sizeof(fewer));
    for (uint64_t s = 0; s < 10000; s++) {
        unsigned first = home_owner(ids, 10, s * 77777, 0), second;

        second = home_owner(ids, 10, s * 77777, 1);
        assert_int_not_equal(first, second);
        count[first]++;
        if (first != 9)
            assert_int_equal(home_owner(fewer, 9, s * 77777, 0), first);
        else
            assert_int_equal(home_owner(fewer, 9, s * 77777, 0), second);
    }
    for (unsigned m = 0; m < 10; m++)
        assert_near(count[m], 1000, .15);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_server_is_in_a_home),
        cmocka_unit_test(homes_follow_what_each_has_to_place),
        cmocka_unit_test(many_balancers_share_least_homes),
        cmocka_unit_test(homes_do_not_move_for_nothing),
        cmocka_unit_test(owners_are_shared_out_and_only_a_leavers_change),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
