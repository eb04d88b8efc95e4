/* SPDX-License-Identifier: BSD-2-Clause */
#include "place/lean.h"

#include <math.h>

#include "place/harness.h"

#define STEP_S .1

struct scene {
    struct lean l[3];
    mc_ns now;
};

/* Each server that is not below 0 tells how busy it is, all the time. */
static void
pass(struct scene *s, const double busy[3], double seconds)
{
    for (double t = 0; t < seconds; t += STEP_S) {
        s->now += 100 * MC_MS;
        for (int i = 0; i < 3; i++)
            lean_note(&s->l[i], busy[i], s->now);
        lean_step(s->l, 3, STEP_S, s->now);
    }
}

static void
the_busy_one_gets_dear_within_seconds(void **state)
{
    struct scene s = {.now = MC_SEC};

    pass(&s, (const double[]){.95, .2, .2}, 5);
    assert_true(lean_price(&s.l[0]) > 2);
    assert_near(lean_price(&s.l[1]), 1, 1e-6);
    pass(&s, (const double[]){.95, .2, .2}, 60);
    assert_true(lean_price(&s.l[0]) > 4 && lean_price(&s.l[0]) <= LEAN_MOST + 1e-6);
}

static void
servers_that_are_alike_are_left_alone(void **state)
{
    struct scene s = {.now = MC_SEC};

    pass(&s, (const double[]){.98, .98, .98}, 60);
    for (int i = 0; i < 3; i++)
        assert_near(lean_price(&s.l[i]), 1, 1e-6);
}

static void
so_are_those_that_differ_by_little(void **state)
{
    struct scene s = {.now = MC_SEC};

    pass(&s, (const double[]){.51, .49, .5}, 100);
    for (int i = 0; i < 3; i++)
        assert_near(lean_price(&s.l[i]), 1, 1e-6);
}

static void
who_says_nothing_costs_what_it_did(void **state)
{
    struct scene s = {.now = MC_SEC};

    pass(&s, (const double[]){.9, .1, -1}, 20);
    assert_true(lean_price(&s.l[0]) > 2);
    assert_near(lean_price(&s.l[1]), 1, 1e-6);
    assert_near(lean_price(&s.l[2]), 1, 1e-6);
}

static void
a_server_that_is_well_again_is_cheap_again(void **state)
{
    struct scene s = {.now = MC_SEC};

    pass(&s, (const double[]){.95, .2, .2}, 60);
    pass(&s, (const double[]){.2, .2, .2}, 30);
    assert_true(lean_price(&s.l[0]) < 1.2);
}

static void
what_was_said_is_forgotten(void **state)
{
    struct scene s = {.now = MC_SEC};

    pass(&s, (const double[]){.95, .2, .2}, 60);
    pass(&s, (const double[]){-1, .2, .2}, 45);
    assert_true(lean_price(&s.l[0]) < 1.2);
}

static void
no_word_does_more_than_it_may(void **state)
{
    static const double lies[] = {1e4, 1e300, (double)INFINITY};
    struct scene s = {.now = MC_SEC};

    for (size_t i = 0; i < MC_COUNT(lies); i++) {
        struct place_word w = {.cpu = (float)lies[i], .application = -1, .rps = -1, .eps = -1};

        pass(&s, (const double[]){lean_busy(&w), .5, .5}, 100);
        assert_true(lean_price(&s.l[0]) <= LEAN_MOST + 1e-6);
        assert_near(lean_price(&s.l[1]), 1, 1e-6);
    }
    /* who says it is idle takes no more from the others than the most */
    pass(&s, (const double[]){0, .9, .9}, 100);
    assert_near(lean_price(&s.l[0]), 1, .01);
    assert_true(lean_price(&s.l[1]) <= LEAN_MOST + 1e-6);
    lean_note(&s.l[1], (double)NAN, s.now);
    assert_near(s.l[1].busy, .9, 1e-6);
}

static void
an_agents_word_goes_before(void **state)
{
    struct scene s = {.now = MC_SEC};

    s.l[0].by_agent = true;
    pass(&s, (const double[]){.95, .2, .7}, 20);
    assert_near(lean_price(&s.l[0]), 1, 1e-6);
    assert_near(lean_price(&s.l[1]), 1, 1e-6);
    assert_true(lean_price(&s.l[2]) > 1.2); /* busier than the mean, which the agent's is part of */
}

static void
an_older_word_is_passed_over(void **state)
{
    struct lean l = {0};

    lean_note(&l, .5, 2 * MC_SEC);
    lean_note(&l, .9, MC_SEC);
    assert_near(l.busy, .5, 1e-6);
}

static void
words_come_to_one_number(void **state)
{
    static const struct {
        struct place_word w;
        double busy;
    } rows[] = {
        {{.cpu = .5f, .application = -1, .rps = -1, .eps = -1}, .5},
        {{.cpu = .5f, .application = .8f, .rps = -1, .eps = -1}, .8},
        {{.cpu = .5f, .application = 0, .rps = -1, .eps = -1}, .5},
        {{.cpu = -1, .application = .3f, .rps = -1, .eps = -1}, .3},
        {{.cpu = 7, .application = -1, .rps = -1, .eps = -1}, 1},
        {{.cpu = .1f, .application = -1, .rps = 100, .eps = 25}, .35},
        {{.cpu = .1f, .application = -1, .rps = 1, .eps = 1e9f}, 1.1},
        {{.cpu = .1f, .application = -1, .rps = 0, .eps = 5}, .1},
        {{.cpu = -1, .application = -1, .rps = 100, .eps = 25}, -1},
    };

    for (size_t i = 0; i < MC_COUNT(rows); i++)
        assert_near(1 + lean_busy(&rows[i].w), 1 + rows[i].busy, 1e-5); /* -1: nothing */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_busy_one_gets_dear_within_seconds),
        cmocka_unit_test(servers_that_are_alike_are_left_alone),
        cmocka_unit_test(so_are_those_that_differ_by_little),
        cmocka_unit_test(who_says_nothing_costs_what_it_did),
        cmocka_unit_test(a_server_that_is_well_again_is_cheap_again),
        cmocka_unit_test(what_was_said_is_forgotten),
        cmocka_unit_test(no_word_does_more_than_it_may),
        cmocka_unit_test(an_agents_word_goes_before),
        cmocka_unit_test(an_older_word_is_passed_over),
        cmocka_unit_test(words_come_to_one_number),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
