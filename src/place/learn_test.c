/* SPDX-License-Identifier: BSD-2-Clause
 *
 * learn_test.c - costs and factors are found again that a made-up world was made with.
 */
#include "place/learn.h"

#include <math.h>

#include "place/harness.h"

#define WINDOW (100 * MC_MS)

/* --- presence -----------------------------------------------------------------------------------
 */

static void
presence_is_time_in_flight_by_window(void **state)
{
    struct presence_row row[4];
    struct presence p;

    presence_init(&p, 2, 4, WINDOW, 0);
    presence_begin(&p, 1, 3, 20 * MC_MS);
    presence_end(&p, 1, 3, 70 * MC_MS, 10 * MC_MS);
    presence_begin(&p, 1, 3, 90 * MC_MS);
    presence_begin(&p, 1, 3, 110 * MC_MS); /* of the next window, told early */
    assert_int_equal(presence_rows(&p, 0, row), 0);
    assert_int_equal(presence_rows(&p, 1, row), 1);
    assert_near(row[0].seconds, .05, .001); /* 50 - 10 + 10 ms */
    assert_near(row[0].ended, 1, .001);
    assert_int_equal(row[0].level, 1);
    presence_next(&p);
    presence_end(&p, 1, 3, 150 * MC_MS, 0);
    presence_end(&p, 1, 3, 160 * MC_MS, 0);
    assert_int_equal(presence_rows(&p, 1, row), 1);
    assert_near(row[0].seconds, .1, .001); /* 50 or 60 of the first, 50 or 40 of the second */
    assert_int_equal(row[0].level, 0);
    presence_next(&p);
    presence_next(&p);
    assert_int_equal(presence_rows(&p, 1, row), 0);
    assert_int_equal(p.active[1], 0);
    presence_fini(&p);
}

static void
the_order_of_events_does_not_matter(void **state)
{
    struct presence_row a[1], b[1];
    struct presence p, q;

    presence_init(&p, 1, 1, WINDOW, 0);
    presence_init(&q, 1, 1, WINDOW, 0);
    presence_begin(&p, 0, 0, 10 * MC_MS);
    presence_end(&p, 0, 0, 30 * MC_MS, 0);
    presence_end(&q, 0, 0, 30 * MC_MS, 0);
    presence_begin(&q, 0, 0, 10 * MC_MS);
    presence_rows(&p, 0, a);
    presence_rows(&q, 0, b);
    assert_near(a[0].seconds, (double)b[0].seconds, .001);
    presence_fini(&p);
    presence_fini(&q);
}

/* --- regression ---------------------------------------------------------------------------------
 */

static void
regression_finds_what_rows_were_made_of(void **state)
{
    static const double truth[4] = {1, .3, .02, 0};
    double x[4] = {1, 1, 1, 1}, prior[4] = {1, 1, 1, 1};
    struct regress_bounds b = {1, 0, 1.05, prior};
    struct regress r;
    struct rng rng;

    regress_init(&r, 4);
    rng_seed(&rng, 1);
    for (int n = 0; n < 5000; n++) {
        struct regress_term t[4];
        double y = (rng_unit(&rng) - .5) * .2;

        for (uint16_t i = 0; i < 4; i++) {
            t[i] = (struct regress_term){i, (float)(rng_unit(&rng) - .5) * 4};
            y += truth[i] * (double)t[i].a;
        }
        if (n % 50 == 0)
            y += 20; /* something that has nothing to do with it */
        regress_add(&r, t, 4, y, x);
        if (n % 20 == 0)
            regress_solve(&r, &b, 30, x);
    }
    for (int i = 0; i < 4; i++)
        assert_true(fabs(x[i] - truth[i]) < .05);
    regress_fini(&r);
}

/* With one class alone, and with two of which one is never seen without the other. */
static void
errors_tell_what_is_known(void **state)
{
    double x[3] = {1, 1, 1}, error[3];
    struct regress r;
    struct rng rng;

    (void)state;
    regress_init(&r, 3);
    rng_seed(&rng, 1);
    for (int n = 0; n < 10000; n++) {
        float a = (float)(rng_unit(&rng) - .5), both = (float)(rng_unit(&rng) - .5);
        double miss = rng_unit(&rng) - .5;
        struct regress_term t[3] = {{0, a}, {1, both}, {2, both}};

        regress_add(&r, t, 3, (double)a + 2 * (double)both + miss, x);
    }
    regress_errors(&r, .01, error);
    /* sigma / sqrt(sum a^2), where both are sqrt(1/12) wide, and n is 10,000 */
    assert_true(fabs(error[0] - .01) < .002);
    assert_true(error[1] > 1 && error[2] > 1);
    regress_fini(&r);
}

static void
sums_of_two_say_what_one_would_have_said(void **state)
{
    double x[2] = {1, 1}, y[2] = {1, 1}, prior[2] = {1, 1};
    struct regress_bounds b = {.1, 0, 9, prior};
    struct regress one, half[2];
    struct rng rng;

    rng_seed(&rng, 2);
    regress_init(&one, 2);
    for (int i = 0; i < 2; i++)
        regress_init(&half[i], 2);
    for (int n = 0; n < 200; n++) {
        struct regress_term t[2] = {{0, (float)rng_unit(&rng)}, {1, (float)rng_unit(&rng)}};
        double sum = 2 * (double)t[0].a + 3 * (double)t[1].a;

        regress_add(&one, t, 2, sum, (double[]){2, 3});
        regress_add(&half[n % 2], t, 2, sum, (double[]){2, 3});
    }
    regress_join(&half[0], &half[1]);
    regress_solve(&one, &b, 100, x);
    regress_solve(&half[0], &b, 100, y);
    assert_near(x[0], y[0], 1e-6);
    assert_near(x[1], y[1], 1e-6);
    regress_fini(&one);
    regress_fini(&half[0]);
    regress_fini(&half[1]);
}

/* --- costs from windows -------------------------------------------------------------------------
 */

struct world {
    struct learn l;
    struct rng rng;
    double cores; /* of each server, below 1; 0: as many as are wanted */
    double cpu_s[8], pressure[8];
    int64_t window;
    mc_ns now;
};

static const double wait_s[3] = {0, 0, .045};
static double cost_s[3];

static void
world_init(struct world *w)
{
    *w = (struct world){0};
    cost_s[0] = .001;
    cost_s[1] = .02;
    cost_s[2] = .005;
    learn_init(&w->l, 8, 3, WINDOW, 0);
    rng_seed(&w->rng, 1);
    for (uint32_t s = 0; s < 8; s++)
        learn_own(&w->l, s, true);
}

/* In a container below one core one request after the other, each held back by the quota. */
static unsigned
make_rows(struct world *w, uint32_t s, struct presence_row *row)
{
    double burst = rng_unit(&w->rng) * 2, held = w->cores > 0 ? 1 / w->cores : 1;
    double many = w->cores > 0 ? 3 : 20, few = w->cores > 0 ? 1 : 5;

    w->pressure[s] = 0;
    for (unsigned k = 0; k < 3; k++) {
        double n = floor((k == 0 ? many : few) * rng_unit(&w->rng) * burst);

        row[k] = (struct presence_row){(uint16_t)k, (float)(n * (cost_s[k] * held + wait_s[k])),
                                       (float)n, 0};
        w->cpu_s[s] += n * cost_s[k];
        w->pressure[s] += n * cost_s[k] * (held - 1) / (WINDOW * 1e-9);
    }
    return 3;
}

static void
tell(struct world *w, uint32_t s)
{
    struct learn_report r = {.boot = 1,
                             .seq = (uint64_t)w->window + 1,
                             .at_ns = w->window * WINDOW,
                             .cpu_s = w->cpu_s[s],
                             .pressure = fmin(w->pressure[s], 1),
                             .cores = w->cores,
                             .mem_bytes = 1e9};

    assert_true(learn_report(&w->l, s, &r));
    assert_false(learn_report(&w->l, s, &r)); /* twice: not news */
}

static void
live(struct world *w, int windows)
{
    struct presence_row row[3];

    for (uint32_t s = 0; s < 8 && w->window == 0; s++)
        tell(w, s);
    for (int i = 0; i < windows; i++) {
        for (uint32_t s = 0; s < 8; s++)
            learn_presence(&w->l, s, w->window, row, make_rows(w, s, row));
        w->window++;
        w->now += WINDOW;
        for (uint32_t s = 0; s < 8; s++)
            tell(w, s);
        if (i % 2)
            learn_solve(&w->l, NULL, 0, w->now);
    }
}

static void
known_costs_are_found(void **state)
{
    struct world w;

    world_init(&w);
    live(&w, 300);
    for (unsigned k = 0; k < 3; k++) {
        struct place_cost c = learn_cost(&w.l, k);

        assert_true(c.known);
        assert_near((double)c.cpu_s, cost_s[k], .05);
        assert_near(c.phi / (double)COST_ONE, cost_s[k] / (cost_s[k] + wait_s[k]), .05);
        assert_true(learn_doubt(&w.l, k).cpu < .05);
        assert_true(learn_doubt(&w.l, k).phi < .02);
    }
    assert_true(w.l.n_windows >= 8 * 299);
    assert_int_equal(w.l.n_dropped, 0);
    learn_fini(&w.l);
}

/* Those of the last request that it took fade until the next solution. */
static void
a_cost_that_is_known_stays_so(void **state)
{
    struct place_cost c = {.known = false};
    struct world w;
    mc_ns now = MC_SEC;

    world_init(&w);
    learn_solve(&w.l, NULL, 0, now);
    while (!learn_cost(&w.l, 1).known)
        learn_latency(&w.l, 0, 1, &c, .005, 1, now);
    learn_solve(&w.l, NULL, 0, now + 100 * MC_MS);
    assert_true(learn_cost(&w.l, 1).known);
    assert_near((double)learn_cost(&w.l, 1).cpu_s, .005, .001);
    learn_fini(&w.l);
}

static void
what_nobody_told_of_is_noticed(void **state)
{
    struct world w;

    world_init(&w);
    live(&w, 100);
    for (int i = 0; i < 100; i++) {
        w.cpu_s[3] += .15; /* one and a half cores, by whom? */
        live(&w, 1);
    }
    assert_near(w.l.server[3].other, 1.5, .15);
    assert_true(fabs(w.l.server[4].other) < .2);
    learn_fini(&w.l);
}

static void
containers_below_one_core_teach_the_same(void **state)
{
    struct world w;

    world_init(&w);
    w.cores = .25;
    cost_s[2] = .001;
    learn_remember(&w.l, 2, .002, .03, 0);
    live(&w, 600);
    for (unsigned k = 0; k < 3; k++) {
        struct place_cost c = learn_cost(&w.l, k);

        assert_near((double)c.cpu_s, cost_s[k], .3);
        assert_near(c.phi / (double)COST_ONE, cost_s[k] / (cost_s[k] + wait_s[k]), .4);
    }
    for (int i = 0; i < 100; i++) {
        w.cpu_s[3] += .01; /* by whom? */
        live(&w, 1);
    }
    assert_near(w.l.server[3].other, .1, .3);
    learn_fini(&w.l);
}

/* Requests of class 1 take 40 MB within three windows, and give it back at once. */
static void
memory_is_known_by_what_is_given_back(void **state)
{
    struct world w;
    int64_t begun[4] = {0};

    world_init(&w);
    for (w.window = 0; w.window < 1500; w.window++) {
        double mem_mb = 100;
        int level = 0;

        for (unsigned i = 0; i < 4; i++) {
            if (w.window >= begun[i] + 10)
                begun[i] = w.window + (int64_t)rng_below(&w.rng, 40);
            if (w.window < begun[i])
                continue;
            mem_mb += 40 * fmin(1, (double)(w.window - begun[i]) / 3);
            level++;
        }
        if (w.window > 0)
            learn_presence(&w.l, 0, w.window - 1,
                           &(struct presence_row){1, (float)level * .1f, 0, level}, 1);
        learn_report(&w.l, 0,
                     &(struct learn_report){.boot = 1,
                                            .seq = (uint64_t)w.window + 1,
                                            .at_ns = w.window * WINDOW,
                                            .mem_bytes = mem_mb * 1e6});
        learn_solve(&w.l, NULL, 0, w.window * WINDOW);
        /* what is held is never thought to be less */
        if (w.window > 1000)
            assert_true(w.l.server[0].base_bytes * 1e-6 + level * w.l.class[1].mem_mb > mem_mb - 2);
    }
    assert_near(w.l.class[1].mem_mb, 40, .15);
    learn_fini(&w.l);
}

static void
a_window_that_lacks_a_share_is_given_up(void **state)
{
    struct world w;

    world_init(&w);
    w.l.n_members = 2;
    live(&w, 50); /* one of two never tells */
    assert_int_equal(w.l.n_windows, 0);
    assert_true(w.l.n_dropped > 0);
    assert_false(learn_cost(&w.l, 0).known);
    learn_fini(&w.l);
}

static void
a_restarted_agent_and_a_counter_that_falls_teach_nothing_wrong(void **state)
{
    struct world w;
    struct place_cost c;

    world_init(&w);
    live(&w, 100);
    for (uint32_t s = 0; s < 8; s++)
        w.cpu_s[s] = 0;
    live(&w, 100);
    c = learn_cost(&w.l, 1);
    assert_near((double)c.cpu_s, cost_s[1], .06);
    learn_fini(&w.l);
}

static void
old_costs_fade(void **state)
{
    struct world w;
    double before;

    world_init(&w);
    live(&w, 100);
    before = w.l.own.ended[0];
    learn_solve(&w.l, NULL, 0, w.now + 60 * MC_SEC);
    assert_near(w.l.own.ended[0], before * exp(-1), .01);
    learn_fini(&w.l);
}

static void
a_class_that_goes_to_another_shape_is_forgotten(void **state)
{
    struct world w;

    world_init(&w);
    live(&w, 100);
    learn_forget_class(&w.l, 2);
    assert_false(learn_cost(&w.l, 2).known);
    assert_true(learn_cost(&w.l, 1).known);
    learn_fini(&w.l);
}

static void
remembered_costs_are_believed_until_there_is_better(void **state)
{
    struct world w;

    world_init(&w);
    learn_remember(&w.l, 1, .5, .2, 30);
    assert_near((double)learn_cost(&w.l, 1).cpu_s, .5, .001);
    assert_near(learn_cost(&w.l, 1).phi, .2 * COST_ONE, .01);
    live(&w, 300);
    assert_near((double)learn_cost(&w.l, 1).cpu_s, cost_s[1], .25);
    learn_fini(&w.l);
}

/* --- the servers' own word ----------------------------------------------------------------------
 */

static void
the_servers_word_overrules_what_is_learned(void **state)
{
    struct world w;

    world_init(&w);
    live(&w, 300);
    for (int i = 0; i < 20; i++)
        learn_told(&w.l, 0, 1, .3, -1, w.now);
    assert_near((double)learn_cost(&w.l, 1).cpu_s, .3, .001);
    assert_near(learn_doubt(&w.l, 1).cpu, 1 / sqrt(20), .001);
    assert_near((double)learn_cost(&w.l, 0).cpu_s, cost_s[0], .05);
    assert_near(learn_cost(&w.l, 1).phi / (double)COST_ONE, cost_s[1] / (cost_s[1] + wait_s[1]),
                .05);
    learn_fini(&w.l);
}

static void
of_what_was_told_the_latest_counts_most(void **state)
{
    struct learn l;
    mc_ns now = 0;

    learn_init(&l, 1, 2, WINDOW, 0);
    for (int i = 0; i < 100; i++)
        learn_told(&l, 0, 1, .1, -1, now);
    for (int s = 0; s < 120; s++) {
        learn_told(&l, 0, 1, .2, -1, now += MC_SEC);
        learn_solve(&l, NULL, 0, now);
    }
    assert_in_range(learn_cost(&l, 1).cpu_s * 1e3f, 170, 195);
    learn_fini(&l);
}

static void
what_is_not_told_any_more_is_forgotten(void **state)
{
    struct learn l;

    learn_init(&l, 1, 2, WINDOW, 0);
    learn_told(&l, 0, 1, .1, .9, MC_SEC);
    assert_near(learn_cost(&l, 1).phi, COST_ONE / 9, .01);
    learn_solve(&l, NULL, 0, 50 * MC_SEC);
    assert_near((double)learn_cost(&l, 1).cpu_s, .1, .001);
    learn_solve(&l, NULL, 0, 62 * MC_SEC);
    assert_false(learn_cost(&l, 1).known);
    assert_near(l.class[1].phi, 1, 0);
    learn_fini(&l);
}

/* Twice as slow a server takes twice the CPU for the same request. */
static void
what_is_told_is_of_the_average_server(void **state)
{
    struct learn l;

    learn_init(&l, 2, 2, WINDOW, 0);
    l.server[1].factor = 2;
    learn_told(&l, 1, 1, .2, 1.0, 0);
    assert_near((double)learn_cost(&l, 1).cpu_s, .1, .001);
    assert_near(learn_cost(&l, 1).phi, .1 / .9 * COST_ONE, .01);
    learn_told(&l, 0, 200, .2, -1, 0); /* a class that is none of ours is "other" */
    assert_near((double)learn_cost(&l, 0).cpu_s, .2, .001);
    learn_fini(&l);
}

/* --- factors ------------------------------------------------------------------------------------
 */

static void
slow_servers_get_a_factor_and_idle_ones_keep_theirs(void **state)
{
    struct place_cost c = {.cpu_s = .01f, .phi = COST_ONE, .known = true};
    struct learn l;
    mc_ns now = 0;

    learn_init(&l, 3, 2, WINDOW, 0);
    for (int i = 0; i < 200; i++) {
        for (int n = 0; n < 20; n++) {
            learn_latency(&l, 0, 1, &c, .005, 1, now);
            learn_latency(&l, 1, 1, &c, .020, 1, now);
            if (i < 100)
                learn_latency(&l, 2, 1, &c, .010 * 3, 3, now); /* crowded, not slow */
        }
        learn_factors(&l, now += WINDOW);
    }
    assert_near(l.server[1].factor / l.server[0].factor, 4, .02);
    assert_near(l.server[0].factor * l.server[1].factor * l.server[2].factor, 1, .02);
    assert_near(l.server[2].factor, 1, .05);
    /* nothing is heard: it is tried again one day, but what is known is not lost */
    assert_true(learn_factor(&l, 1, now + 100 * MC_SEC) < 1.1);
    assert_near(learn_factor(&l, 1, now), l.server[1].factor, .001);
    learn_fini(&l);
}

static void
requests_that_wait_say_nothing_of_a_servers_speed(void **state)
{
    struct place_cost c = {.cpu_s = .001f, .phi = COST_ONE / 100, .known = true};
    struct learn l;

    learn_init(&l, 2, 2, WINDOW, 0);
    for (int n = 0; n < 100; n++)
        learn_latency(&l, 0, 1, &c, 5, 1, 0);
    learn_factors(&l, WINDOW);
    assert_near(l.server[0].factor, 1, .001);
    learn_fini(&l);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(presence_is_time_in_flight_by_window),
        cmocka_unit_test(the_order_of_events_does_not_matter),
        cmocka_unit_test(regression_finds_what_rows_were_made_of),
        cmocka_unit_test(errors_tell_what_is_known),
        cmocka_unit_test(sums_of_two_say_what_one_would_have_said),
        cmocka_unit_test(known_costs_are_found),
        cmocka_unit_test(a_cost_that_is_known_stays_so),
        cmocka_unit_test(what_nobody_told_of_is_noticed),
        cmocka_unit_test(containers_below_one_core_teach_the_same),
        cmocka_unit_test(memory_is_known_by_what_is_given_back),
        cmocka_unit_test(a_window_that_lacks_a_share_is_given_up),
        cmocka_unit_test(a_restarted_agent_and_a_counter_that_falls_teach_nothing_wrong),
        cmocka_unit_test(old_costs_fade),
        cmocka_unit_test(a_class_that_goes_to_another_shape_is_forgotten),
        cmocka_unit_test(remembered_costs_are_believed_until_there_is_better),
        cmocka_unit_test(the_servers_word_overrules_what_is_learned),
        cmocka_unit_test(of_what_was_told_the_latest_counts_most),
        cmocka_unit_test(what_is_not_told_any_more_is_forgotten),
        cmocka_unit_test(what_is_told_is_of_the_average_server),
        cmocka_unit_test(slow_servers_get_a_factor_and_idle_ones_keep_theirs),
        cmocka_unit_test(requests_that_wait_say_nothing_of_a_servers_speed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
