/* SPDX-License-Identifier: BSD-2-Clause
 *
 * rivals_test.c - the policies peak-ewma and prequal: what they make of latencies and answers.
 */
#include "place/harness.h"

static struct place_answer
ask_at(struct rig *r, mc_ns now)
{
    return rig_ask(r, &(struct place_ask){.now = now});
}

static void
end(struct rig *r, uint32_t index, mc_ns latency, mc_ns now)
{
    r->policy->on_end(r->state, &r->view, index, latency, true, now);
}

static void
answer(struct rig *r, uint32_t index, uint32_t in_flight, mc_ns latency, mc_ns now)
{
    r->policy->on_probe(r->state, &r->view, index, in_flight, latency, now);
}

static void
peak_ewma_avoids_who_was_slow(void **state)
{
    struct rig r;

    rig_init(&r, 2);
    rig_start(&r, "peak-ewma");
    end(&r, 0, 10 * MC_MS, MC_SEC);
    end(&r, 1, 1 * MC_MS, MC_SEC);
    for (int i = 0; i < 50; i++)
        assert_int_equal(ask_at(&r, MC_SEC).index, 1);
    r.load[1].in_flight = 20; /* latency times queue */
    assert_int_equal(ask_at(&r, MC_SEC).index, 0);
    rig_free(&r);
}

static void
peak_ewma_feels_a_peak_at_once_and_forgives_slowly(void **state)
{
    struct rig r;

    rig_init(&r, 2);
    rig_start(&r, "peak-ewma");
    end(&r, 0, 1 * MC_MS, MC_SEC);
    end(&r, 1, 2 * MC_MS, MC_SEC);
    assert_int_equal(ask_at(&r, MC_SEC).index, 0);
    end(&r, 0, 100 * MC_MS, MC_SEC);
    assert_int_equal(ask_at(&r, MC_SEC).index, 1);
    end(&r, 0, 1 * MC_MS, MC_SEC + MC_MS);
    assert_int_equal(ask_at(&r, MC_SEC).index, 1);
    for (int s = 2; s < 200; s++) {
        end(&r, 0, 1 * MC_MS, s * MC_SEC);
        end(&r, 1, 2 * MC_MS, s * MC_SEC);
    }
    assert_int_equal(ask_at(&r, 199 * MC_SEC).index, 0);
    rig_free(&r);
}

static void
prequal_takes_the_fastest_that_is_not_crowded(void **state)
{
    struct rig r;

    rig_init(&r, 100);
    rig_start(&r, "prequal");
    for (uint32_t i = 0; i < 16; i++) /* the quantile of what is seen: above 5 is hot */
        answer(&r, i, i < 3 ? 40 : 5, 9 * MC_MS, MC_SEC);
    answer(&r, 50, 40, 1 * MC_MS, MC_SEC); /* fast, but hot */
    answer(&r, 51, 5, 2 * MC_MS, MC_SEC);
    assert_int_equal(ask_at(&r, MC_SEC).index, 51);
    rig_free(&r);
}

static void
prequal_without_fresh_answers_chooses_of_two(void **state)
{
    struct rig r;

    rig_init(&r, 100);
    rig_start(&r, "prequal");
    assert_int_equal(ask_at(&r, MC_SEC).reason, PLACE_LEAST_OF_TWO);
    for (uint32_t i = 0; i < 16; i++)
        answer(&r, i, 1, MC_MS, MC_SEC);
    assert_int_equal(ask_at(&r, MC_SEC).reason, PLACE_PREQUAL);
    assert_int_equal(ask_at(&r, 3 * MC_SEC).reason, PLACE_LEAST_OF_TWO);
    rig_free(&r);
}

static void
prequal_uses_up_its_answers(void **state)
{
    struct rig r;
    unsigned used = 0;

    rig_init(&r, 100);
    rig_start(&r, "prequal");
    for (uint32_t i = 0; i < 16; i++)
        answer(&r, i, 1, MC_MS, MC_SEC);
    while (ask_at(&r, MC_SEC).reason != PLACE_LEAST_OF_TWO)
        used++;
    assert_in_range(used, 5, 32);
    rig_free(&r);
}

static void
prequal_asks_three_with_each_request(void **state)
{
    unsigned count[10] = {0};
    uint32_t want[8];
    struct rig r;

    rig_init(&r, 10);
    rig_start(&r, "prequal");
    for (int i = 0; i < 10000; i++) {
        assert_int_equal(r.policy->probe_want(r.state, &r.view, &r.rng, want, 8), 3);
        for (int k = 0; k < 3; k++)
            count[want[k]]++;
    }
    for (int i = 0; i < 10; i++)
        assert_near(count[i], 3000, .1);
    rig_free(&r);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(peak_ewma_avoids_who_was_slow),
        cmocka_unit_test(peak_ewma_feels_a_peak_at_once_and_forgives_slowly),
        cmocka_unit_test(prequal_takes_the_fastest_that_is_not_crowded),
        cmocka_unit_test(prequal_without_fresh_answers_chooses_of_two),
        cmocka_unit_test(prequal_uses_up_its_answers),
        cmocka_unit_test(prequal_asks_three_with_each_request),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
