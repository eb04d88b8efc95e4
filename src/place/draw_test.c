/* SPDX-License-Identifier: BSD-2-Clause
 *
 * draw_test.c - draws by weight, and the two policies that make them: random and least-request.
 */
#include "place/draw.h"

#include "place/harness.h"

static const struct place_ask anything;

static void
draws_follow_the_weights(void **state)
{
    static const unsigned weights[] = {0, 1, 2, 3, 0, 100, 7};
    struct rig r;
    struct draw *d;

    rig_init(&r, 7);
    rig_weights(&r, weights);
    d = draw_new(&r.view);
    for (int k = 0; k < 113000; k++)
        r.count[draw_pick(d, &r.view, &anything, -1, &r.rng)]++;
    for (unsigned i = 0; i < 7; i++)
        assert_near(r.count[i], weights[i] * 1000.0, .1);
    draw_free(d);
    rig_start(&r, "random");
    rig_free(&r);
}

static void
the_second_draw_is_never_the_first_again(void **state)
{
    static const unsigned weights[] = {1, 256, 3};
    struct rig r;
    struct draw *d;

    rig_init(&r, 3);
    rig_weights(&r, weights);
    d = draw_new(&r.view);
    for (int32_t other = 0; other < 3; other++)
        for (int k = 0; k < 1000; k++)
            assert_int_not_equal(draw_pick(d, &r.view, &anything, other, &r.rng), other);
    rig_count_reset(&r);
    for (int k = 0; k < 4000; k++)
        r.count[draw_pick(d, &r.view, &anything, 1, &r.rng)]++;
    assert_near(r.count[0], 1000, .1); /* among the others by their weights */
    assert_near(r.count[2], 3000, .1);
    draw_free(d);
    rig_start(&r, "random");
    rig_free(&r);
}

static void
new_weights_are_seen_within_a_quarter_round(void **state)
{
    struct rig r;

    rig_init(&r, 100);
    rig_start(&r, "random");
    r.load[42].weight = 100 * PLACE_WEIGHT_UNIT;
    for (int k = 0; k < 25; k++)
        rig_pick(&r);
    rig_count_reset(&r);
    for (int k = 0; k < 10000; k++)
        rig_pick(&r);
    assert_near(r.count[42], 10000 * 100 / 199.0, .05);
    rig_free(&r);
}

static void
the_less_busy_of_two_is_taken(void **state)
{
    struct rig r;

    rig_init(&r, 2);
    r.load[0].in_flight = 3;
    r.load[1].in_flight = 2;
    rig_start(&r, "least-request");
    for (int k = 0; k < 100; k++) {
        struct place_answer a = rig_pick(&r);

        assert_int_equal(a.index, 1);
        assert_int_equal(a.reason, PLACE_LEAST_OF_TWO);
    }
    rig_free(&r);
}

static void
busy_is_measured_by_weight(void **state)
{
    static const unsigned weights[] = {1, 4};
    struct rig r;

    for (int full_scan = 0; full_scan < 2; full_scan++) {
        rig_init(&r, 2);
        rig_weights(&r, weights);
        r.params.full_scan = full_scan;
        rig_start(&r, "least-request");
        r.load[0].in_flight = 1;
        r.load[1].in_flight = 3;
        assert_int_equal(rig_pick(&r).index, 1);
        r.load[1].in_flight = 5;
        assert_int_equal(rig_pick(&r).index, 0);
        rig_free(&r);
    }
}

static void
an_idle_pool_is_shared_out_by_weight(void **state)
{
    static const unsigned weights[] = {1, 3};
    struct rig r;

    for (int full_scan = 0; full_scan < 2; full_scan++) {
        rig_init(&r, 2);
        rig_weights(&r, weights);
        r.params.full_scan = full_scan;
        rig_start(&r, "least-request");
        for (int k = 0; k < 10000; k++)
            rig_pick(&r);
        assert_near(r.count[0], 2500, .1);
        rig_free(&r);
    }
}

static void
a_look_at_all_finds_the_idle_one(void **state)
{
    struct rig r;

    rig_init(&r, 50);
    for (unsigned i = 0; i < 50; i++)
        r.load[i].in_flight = i == 31 ? 0 : 1;
    r.params.full_scan = true;
    rig_start(&r, "least-request");
    assert_int_equal(rig_pick(&r).index, 31);
    assert_int_equal(rig_pick(&r).reason, PLACE_LEAST_OF_ALL);
    rig_free(&r);
}

/* Balls into bins: after n balls the fullest of n bins has about ln n / ln ln n of them with one
 * choice, and ln ln n / ln 2 with two (Azar et al. 1994). */
static void
two_choices_keep_the_fullest_low(void **state)
{
    int32_t most[2] = {0};

    for (int two = 0; two < 2; two++) {
        struct rig r;

        rig_init(&r, 10000);
        rig_start(&r, two ? "least-request" : "random");
        for (int k = 0; k < 10000; k++)
            r.load[rig_pick(&r).index].in_flight++;
        for (unsigned i = 0; i < 10000; i++)
            most[two] = r.load[i].in_flight > most[two] ? r.load[i].in_flight : most[two];
        rig_free(&r);
    }
    assert_in_range(most[0], 5, 10);
    assert_in_range(most[1], 2, 4);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_follow_the_weights),
        cmocka_unit_test(the_second_draw_is_never_the_first_again),
        cmocka_unit_test(new_weights_are_seen_within_a_quarter_round),
        cmocka_unit_test(the_less_busy_of_two_is_taken),
        cmocka_unit_test(busy_is_measured_by_weight),
        cmocka_unit_test(an_idle_pool_is_shared_out_by_weight),
        cmocka_unit_test(a_look_at_all_finds_the_idle_one),
        cmocka_unit_test(two_choices_keep_the_fullest_low),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
