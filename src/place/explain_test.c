/* SPDX-License-Identifier: BSD-2-Clause
 *
 * explain_test.c - what is said of a pick is what a pick does.
 */
#include "place/explain.h"

#include "place/choose.h"
#include "place/harness.h"
#include "place/resource.h"

#define MOST 100

/* A rig whose load table is fresh: servers of 4 cores, idle. */
struct stage {
    struct rig r;
    struct load_table *t;
    struct explain_server s[MOST];
};

static void
stage_init(struct stage *g, unsigned n, const char *policy)
{
    *g = (struct stage){.t = NULL};
    rig_init(&g->r, n);
    g->t = g->r.view.table = load_table_new(n, g->r.id_hash);
    g->t->good_until_ns = MC_SEC;
    for (unsigned i = 0; i < n; i++) {
        g->t->hot[i].per_core = load_bits(.25f) >> 16;
        g->t->hot[i].flags = LOAD_OPEN | LOAD_CORES;
    }
    rig_start(&g->r, policy);
}

static void
stage_free(struct stage *g)
{
    load_table_free(&g->t);
    rig_free(&g->r);
}

static struct load_hot *
hot(struct stage *g, uint32_t server)
{
    return &g->t->hot[g->t->pos[server]];
}

static struct explain
explain(struct stage *g, const struct place_ask *ask)
{
    return explain_pick(g->r.policy, g->r.shared, &g->r.view, ask, &g->r.rng, g->s);
}

static void
every_server_is_told_why_not(void **state)
{
    struct place_cost big = {.cpu_s = .001f, .phi = COST_ONE, .mem_units = COST_HEAVY_MEM + 1};
    struct place_ask ask = {.now = 1, .cost = &big};
    struct stage g;
    struct explain e;

    stage_init(&g, 7, "resource");
    g.r.load[0].open = 0;
    g.r.load[1].weight = 0;
    g.r.load[2].max_in_flight = g.r.load[2].in_flight = 1;
    g.t->mem[g.t->pos[3]].limit = 10;
    hot(&g, 4)->own = 5 * COST_ONE;
    hot(&g, 5)->flags |= LOAD_EJECTED;
    hot(&g, 6)->factor = load_bits(2);
    hot(&g, 6)->peers = 2 * COST_ONE;
    e = explain(&g, &ask);
    assert_true(e.settled);
    assert_int_equal(e.answer.index, 4);
    assert_int_equal(g.s[0].verdict, EXPLAIN_CLOSED);
    assert_int_equal(g.s[1].verdict, EXPLAIN_CLOSED);
    assert_int_equal(g.s[2].verdict, EXPLAIN_FULL);
    assert_int_equal(g.s[3].verdict, EXPLAIN_MEMORY);
    assert_int_equal(g.s[4].verdict, EXPLAIN_CHOSEN);
    assert_int_equal(g.s[5].verdict, EXPLAIN_EJECTED);
    assert_int_equal(g.s[6].verdict, EXPLAIN_SCORE);
    /* by the formula of resource.c */
    assert_near(g.s[4].score, 1.5 + .5 * 5 / 4, .001);
    assert_near(g.s[6].score, 2 * (1 + .5 * 2 / 4), .001);
    assert_near(g.s[6].wanted, 2, .001);
    assert_near(g.s[6].cores, 4, .001);
    assert_near(g.s[6].factor, 2, .001);
    stage_free(&g);
}

/* Whatever the loads are: the choice is a real one, and nobody that was looked at beats it. */
static void
what_is_told_is_what_is_picked(void **state)
{
    struct place_ask ask = {.now = 1, .cost = &COST_UNKNOWN};
    struct stage g;

    stage_init(&g, 12, "resource");
    for (int round = 0; round < 500; round++) {
        struct explain e;

        for (unsigned i = 0; i < 12; i++) {
            hot(&g, i)->own = (int32_t)rng_below(&g.r.rng, 20) * COST_ONE;
            hot(&g, i)->factor = load_bits(.5f + (float)rng_unit(&g.r.rng));
        }
        e = explain(&g, &ask);
        assert_int_equal(e.answer.index, rig_ask(&g.r, &ask).index); /* all are looked at */
        for (unsigned i = 0; i < 12; i++) {
            assert_true(g.s[i].home);
            assert_true(g.s[i].score >= g.s[e.answer.index].score);
            assert_int_equal(g.s[i].verdict,
                             (int32_t)i == e.answer.index ? EXPLAIN_CHOSEN : EXPLAIN_SCORE);
        }
    }
    stage_free(&g);
}

static void
homes_and_chance_are_told(void **state)
{
    struct place_cost heavy = {.cpu_s = .2f, .phi = COST_ONE, .known = true};
    struct place_ask light = {.now = 1, .cost = &COST_UNKNOWN}, dear = {.now = 1, .cost = &heavy};
    unsigned away = 0, undrawn = 0;
    struct stage g;

    stage_init(&g, MOST, "resource");
    g.t->home = (uint64_t)80 << 32 | 30; /* over the end of the ring */
    for (unsigned pos = 0; pos < MOST; pos++)
        g.t->hot[pos].own = (int32_t)pos * COST_ONE;
    explain(&g, &light);
    for (unsigned i = 0; i < MOST; i++) {
        uint32_t pos = g.t->pos[i];

        assert_int_equal(g.s[i].home, pos >= 80 || pos < 10);
        assert_int_equal(g.s[i].verdict == EXPLAIN_AWAY, !g.s[i].home);
    }
    for (int round = 0; round < 50; round++) {
        explain(&g, &dear);
        for (unsigned i = 0; i < MOST; i++) {
            away += g.s[i].verdict == EXPLAIN_AWAY;
            undrawn += g.s[i].verdict == EXPLAIN_UNDRAWN;
            assert_true(g.s[i].price == 1);
        }
    }
    assert_int_equal(away, 0);
    assert_true(undrawn > 0);
    g.t->home = (uint64_t)0 << 32 | 5; /* a small one: others are asked, at a price */
    explain(&g, &light);
    for (unsigned i = 0; i < MOST; i++)
        assert_true((g.s[i].price > 1) == !g.s[i].home && g.s[i].verdict != EXPLAIN_AWAY);
    stage_free(&g);
}

static void
nobody_is_chosen_when_nobody_may(void **state)
{
    struct place_cost big = {.cpu_s = .001f, .phi = COST_ONE, .mem_units = COST_HEAVY_MEM + 1};
    struct place_ask ask = {.now = 1, .cost = &big};
    struct stage g;
    struct explain e;

    stage_init(&g, 3, "resource");
    for (unsigned i = 0; i < 3; i++)
        g.t->mem[i].limit = 1;
    e = explain(&g, &ask);
    assert_true(e.settled && e.answer.index == -1 && e.answer.reason == PLACE_FULL);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(g.s[i].verdict, EXPLAIN_MEMORY);
    for (unsigned i = 0; i < 3; i++)
        g.r.load[i].open = 0;
    e = explain(&g, &ask);
    assert_true(e.settled && e.answer.index == -1);
    stage_free(&g);
}

static void
old_knowledge_is_no_score(void **state)
{
    struct place_ask ask = {.now = 2 * MC_SEC, .cost = &COST_UNKNOWN};
    struct stage g;
    struct explain e;

    stage_init(&g, 3, "resource");
    e = explain(&g, &ask);
    assert_int_equal(e.answer.reason, PLACE_RESOURCE_OLD);
    for (unsigned i = 0; i < 3; i++) {
        assert_false(g.s[i].scored);
        assert_int_equal(g.s[i].verdict,
                         (int32_t)i == e.answer.index ? EXPLAIN_CHOSEN : EXPLAIN_ELIGIBLE);
    }
    stage_free(&g);
}

static void
other_policies_tell_who_is_eligible(void **state)
{
    struct explain_server s[3];
    struct place_ask key = {.has_key = true, .key = 4711};

    for (unsigned i = 0; policy_at(i); i++) {
        const struct policy *p = policy_at(i);
        struct rig r;
        struct explain e;

        if (p == &policy_resource)
            continue;
        rig_init(&r, 3);
        r.load[1].max_in_flight = r.load[1].in_flight = 1;
        rig_start(&r, p->name);
        e = explain_pick(p, r.shared, &r.view, &key, &r.rng, s);
        assert_int_equal(e.settled, p == &policy_hash);
        if (e.settled)
            assert_int_equal(e.answer.index, rig_ask(&r, &key).index);
        assert_int_equal(s[0].verdict,
                         e.settled && e.answer.index == 0 ? EXPLAIN_CHOSEN : EXPLAIN_ELIGIBLE);
        assert_int_equal(s[1].verdict, EXPLAIN_FULL);
        r.load[0].open = r.load[2].open = 0;
        e = explain_pick(p, r.shared, &r.view, &key, &r.rng, s);
        assert_true(e.settled && e.answer.index == -1 && e.answer.reason == PLACE_FULL);
        assert_int_equal(s[0].verdict, EXPLAIN_CLOSED);
        rig_free(&r);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_server_is_told_why_not),
        cmocka_unit_test(what_is_told_is_what_is_picked),
        cmocka_unit_test(homes_and_chance_are_told),
        cmocka_unit_test(nobody_is_chosen_when_nobody_may),
        cmocka_unit_test(old_knowledge_is_no_score),
        cmocka_unit_test(other_policies_tell_who_is_eligible),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
