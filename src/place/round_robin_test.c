/* SPDX-License-Identifier: BSD-2-Clause
 *
 * round_robin_test.c - turns: their order, their evenness, and what changes do to them.
 */
#include "place/harness.h"

#include <math.h>

static void
equal_servers_take_turns_in_order(void **state)
{
    struct rig r;
    int32_t first;

    rig_init(&r, 7);
    rig_start(&r, "round-robin");
    first = rig_pick(&r).index;
    for (int k = 1; k < 1000; k++) {
        struct place_answer a = rig_pick(&r);

        assert_int_equal(a.index, (first + k) % 7);
        assert_int_equal(a.reason, PLACE_ROUND_ROBIN);
    }
    rig_free(&r);
}

static void
workers_begin_at_different_places(void **state)
{
    unsigned starts[10] = {0}, used = 0;
    struct rig r;

    rig_init(&r, 10);
    for (int k = 0; k < 200; k++) {
        rig_start(&r, "round-robin");
        starts[rig_pick(&r).index]++;
        rig_stop(&r);
    }
    for (int i = 0; i < 10; i++)
        used += starts[i] > 5;
    assert_int_equal(used, 10);
    rig_free(&r);
}

static void
a_round_gives_each_its_weight_exactly(void **state)
{
    static const unsigned weights[] = {5, 1, 1, 3};
    struct rig r;

    rig_init(&r, 4);
    rig_weights(&r, weights);
    rig_start(&r, "round-robin");
    for (int round = 0; round < 100; round++) {
        rig_count_reset(&r);
        for (int k = 0; k < 10; k++)
            rig_pick(&r);
        for (unsigned i = 0; i < 4; i++)
            assert_int_equal(r.count[i], weights[i]);
    }
    rig_free(&r);
}

static void
light_servers_do_not_take_their_turns_side_by_side(void **state)
{
    static const unsigned weights[] = {5, 1, 1};
    struct rig r;

    rig_init(&r, 3);
    rig_weights(&r, weights);
    for (uint64_t seed = 0; seed < 100; seed++) {
        bool light = false;

        rng_seed(&r.rng, seed);
        rig_start(&r, "round-robin");
        for (int k = 0; k < 70; k++) {
            bool was = light;

            light = rig_pick(&r).index != 0;
            assert_false(was && light);
        }
        rig_stop(&r);
    }
    rig_start(&r, "round-robin");
    rig_free(&r);
}

/* How far any server's count strays from its share, at any moment. */
static double
worst_stray(struct rig *r, const unsigned *weights, unsigned picks)
{
    double total = 0, worst = 0;

    for (unsigned i = 0; i < r->view.n; i++)
        total += weights[i];
    for (unsigned k = 1; k <= picks; k++) {
        rig_pick(r);
        for (unsigned i = 0; i < r->view.n; i++)
            worst = fmax(worst, fabs(r->count[i] - k * weights[i] / total));
    }
    return worst;
}

static void
no_server_strays_from_its_share_at_any_moment(void **state)
{
    static const unsigned sets[][8] = {
        {1, 1, 1, 1, 1, 1, 1, 1},    {256, 1, 1, 1, 1, 1, 1, 1},    {1, 2, 3, 4, 5, 6, 7, 8},
        {10, 10, 10, 1, 1, 1, 1, 1}, {100, 50, 25, 12, 6, 3, 2, 1},
    };

    for (unsigned s = 0; s < MC_COUNT(sets); s++) {
        struct rig r;

        rig_init(&r, 8);
        rig_weights(&r, sets[s]);
        rig_start(&r, "round-robin");
        /* smooth round robin strays by up to n / 2 in theory, by about one in practice; so do we */
        assert_true(worst_stray(&r, sets[s], 2000) < 2);
        rig_free(&r);
    }
}

static void
a_server_that_opens_again_is_back_within_its_turn(void **state)
{
    struct rig r;

    rig_init(&r, 40);
    rig_start(&r, "round-robin");
    r.load[17].open = 0;
    for (int k = 0; k < 400; k++)
        rig_pick(&r);
    assert_true(r.count[17] <= 1);
    r.load[17].open = 1;
    rig_count_reset(&r);
    for (int k = 0; k < 40; k++)
        rig_pick(&r);
    assert_in_range(r.count[17], 1, 2);
    rig_count_reset(&r);
    for (int k = 0; k < 400; k++)
        rig_pick(&r);
    assert_int_equal(r.count[17], 10); /* and does not make up for what it missed */
    rig_free(&r);
}

static void
a_growing_weight_is_felt_at_once(void **state)
{
    struct rig r;

    rig_init(&r, 4);
    r.load[2].weight = 1; /* of 256: as at the beginning of a slow start */
    rig_start(&r, "round-robin");
    for (int k = 0; k < 100; k++)
        rig_pick(&r);
    r.load[2].weight = PLACE_WEIGHT_UNIT;
    rig_count_reset(&r);
    for (int k = 0; k < 40; k++)
        rig_pick(&r);
    assert_in_range(r.count[2], 9, 11);
    rig_free(&r);
}

static void
a_retry_does_not_disturb_the_turns(void **state)
{
    struct rig r;

    rig_init(&r, 5);
    rig_start(&r, "round-robin");
    for (int k = 0; k < 1000; k++) {
        uint32_t tried = (uint32_t)rig_pick(&r).index;
        struct place_answer a = rig_ask(&r, &(struct place_ask){.tried = &tried, .n_tried = 1});

        assert_int_not_equal(a.index, tried);
    }
    for (unsigned i = 0; i < 5; i++)
        assert_near(r.count[i], 400, .05);
    rig_free(&r);
}

static void
ten_thousand_servers_with_half_closed_stay_even(void **state)
{
    unsigned least = UINT32_MAX, most = 0;
    struct rig r;

    rig_init(&r, 10000);
    for (unsigned i = 0; i < 10000; i += 2)
        r.load[i].open = 0;
    rig_start(&r, "round-robin");
    for (int k = 0; k < 50000; k++)
        rig_pick(&r);
    for (unsigned i = 1; i < 10000; i += 2) {
        least = r.count[i] < least ? r.count[i] : least;
        most = r.count[i] > most ? r.count[i] : most;
    }
    assert_true(least == 10 && most == 10);
    rig_free(&r);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_servers_take_turns_in_order),
        cmocka_unit_test(workers_begin_at_different_places),
        cmocka_unit_test(a_round_gives_each_its_weight_exactly),
        cmocka_unit_test(light_servers_do_not_take_their_turns_side_by_side),
        cmocka_unit_test(no_server_strays_from_its_share_at_any_moment),
        cmocka_unit_test(a_server_that_opens_again_is_back_within_its_turn),
        cmocka_unit_test(a_growing_weight_is_felt_at_once),
        cmocka_unit_test(a_retry_does_not_disturb_the_turns),
        cmocka_unit_test(ten_thousand_servers_with_half_closed_stay_even),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
