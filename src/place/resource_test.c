/* SPDX-License-Identifier: BSD-2-Clause
 *
 * resource_test.c - what a pick does with what is known, and without it.
 */
#include "place/know.h"

#include "place/harness.h"

#define CONTROL_MS 2

/* A rig with a load table and somebody who learns. */
struct bench {
    struct rig r;
    struct load_table *t;
    struct know *k;
    mc_ns now;
};

static void
bench_init(struct bench *b, unsigned n)
{
    struct know_conf c = {.id = 1,
                          .boot = 1,
                          .n_classes = 4,
                          .window_ns = 100 * MC_MS,
                          .tick_ns = CONTROL_MS * MC_MS};

    *b = (struct bench){.now = MC_SEC};
    rig_init(&b->r, n);
    b->t = load_table_new(n, b->r.id_hash);
    b->r.view.table = b->t;
    b->k = know_new(&c, &b->r.view, b->t, b->now);
    rig_start(&b->r, "resource");
    for (unsigned i = 0; i < n; i++) {
        b->t->hot[b->t->pos[i]].per_core = load_bits(.25f) >> 16;
        b->t->hot[b->t->pos[i]].flags = LOAD_OPEN | LOAD_CORES;
    }
    b->t->good_until_ns = 10 * MC_SEC;
}

static void
bench_free(struct bench *b)
{
    know_free(&b->k);
    load_table_free(&b->t);
    rig_free(&b->r);
}

static struct load_hot *
hot(struct bench *b, uint32_t server)
{
    return &b->t->hot[b->t->pos[server]];
}

static struct place_answer
ask(struct bench *b, const struct place_cost *c)
{
    return rig_ask(&b->r, &(struct place_ask){.now = b->now, .cost = c});
}

static void
the_least_crowded_for_its_speed_is_taken(void **state)
{
    struct bench b;

    bench_init(&b, 4);
    hot(&b, 0)->own = 2 * COST_ONE;
    hot(&b, 1)->own = 3 * COST_ONE;
    hot(&b, 2)->own = 1 * COST_ONE;
    hot(&b, 2)->peers = 5 * COST_ONE; /* of others */
    hot(&b, 3)->own = 0;
    hot(&b, 3)->factor = load_bits(3); /* idle, but slow */
    for (int i = 0; i < 20; i++)
        assert_int_equal(ask(&b, NULL).index, 0);
    hot(&b, 1)->factor = load_bits(.5f);
    assert_int_equal(ask(&b, NULL).index, 1);
    bench_free(&b);
}

static void
ties_are_spread(void **state)
{
    struct bench b;

    bench_init(&b, 10);
    for (int i = 0; i < 1000; i++)
        ask(&b, NULL);
    for (int i = 0; i < 10; i++)
        assert_near(b.r.count[i], 100, .5);
    bench_free(&b);
}

static void
it_stays_at_home_and_sends_the_heavy_anywhere(void **state)
{
    struct place_cost heavy = {.cpu_s = .2f, .phi = COST_ONE, .known = true};
    struct bench b;
    unsigned away = 0;

    bench_init(&b, 100);
    b.t->home = (uint64_t)30 << 32 | 25;
    for (int i = 0; i < 500; i++) {
        struct place_answer a = ask(&b, &COST_UNKNOWN);

        assert_int_equal(a.reason, PLACE_RESOURCE);
        assert_in_range(b.t->pos[a.index], 30, 54);
    }
    for (unsigned p = 30; p < 55; p++)
        b.t->hot[p].own = 4 * COST_ONE;
    for (int i = 0; i < 200; i++)
        away += ask(&b, &heavy).reason == PLACE_RESOURCE_AWAY;
    assert_int_equal(away, 200);
    bench_free(&b);
}

static void
a_home_without_a_server_that_will_do_is_left(void **state)
{
    struct bench b;

    bench_init(&b, 100);
    b.t->home = (uint64_t)98 << 32 | 2;
    for (unsigned p = 98; p < 100; p++)
        b.t->hot[p].flags |= LOAD_EJECTED;
    for (int i = 0; i < 100; i++) {
        struct place_answer a = ask(&b, NULL);

        assert_int_equal(a.reason, PLACE_RESOURCE_AWAY);
        assert_true(b.t->pos[a.index] < 98);
    }
    bench_free(&b);
}

static void
fleet_has_the_last_word(void **state)
{
    struct bench b;

    bench_init(&b, 5);
    for (int i = 0; i < 4; i++)
        b.r.load[i].open = 0; /* control has not seen it yet */
    for (int i = 0; i < 100; i++)
        assert_int_equal(ask(&b, NULL).index, 4);
    b.r.load[4].max_in_flight = 1;
    b.r.load[4].in_flight = 1;
    assert_int_equal(ask(&b, NULL).reason, PLACE_FULL);
    bench_free(&b);
}

static void
memory_that_is_not_there_is_waited_for(void **state)
{
    struct place_cost hungry = {.cpu_s = .01f, .phi = 100, .mem_units = 6000, .known = true};
    struct bench b;

    bench_init(&b, 30);
    for (unsigned p = 0; p < 30; p++)
        b.t->mem[p].limit = b.t->mem[p].base = 60000;
    b.t->mem[7].base = 48000; /* two fit */
    for (int i = 0; i < 2; i++) {
        struct place_answer a = ask(&b, &hungry);

        assert_int_equal(b.t->pos[a.index], 7);
        load_begin(b.t, (uint32_t)a.index, &hungry);
    }
    assert_int_equal(ask(&b, &hungry).index, -1);
    assert_int_equal(ask(&b, &hungry).reason, PLACE_FULL);
    assert_true(ask(&b, &COST_UNKNOWN).index >= 0); /* others do not mind */
    load_end(b.t, b.t->ring[7], &hungry);
    assert_int_equal(ask(&b, &hungry).index, (int32_t)b.t->ring[7]);
    bench_free(&b);
}

static void
old_knowledge_is_not_used(void **state)
{
    struct bench b;

    bench_init(&b, 2);
    hot(&b, 0)->own = 100 * COST_ONE; /* if only that were known: 1 */
    b.r.load[1].in_flight = 1;
    b.now = b.t->good_until_ns + 1;
    for (int i = 0; i < 50; i++) {
        struct place_answer a = ask(&b, NULL);

        assert_int_equal(a.index, 0);
        assert_int_equal(a.reason, PLACE_RESOURCE_OLD);
    }
    bench_free(&b);
}

static void
tried_servers_are_left_out(void **state)
{
    const uint32_t tried[] = {1, 2};
    struct bench b;

    bench_init(&b, 4);
    hot(&b, 0)->own = hot(&b, 3)->own = 9 * COST_ONE;
    for (int i = 0; i < 50; i++) {
        int32_t at =
            rig_ask(&b.r, &(struct place_ask){.now = b.now, .tried = tried, .n_tried = 2}).index;

        assert_true(at == 0 || at == 3);
    }
    bench_free(&b);
}

static void
the_same_question_has_the_same_answer(void **state)
{
    int32_t first[200];

    for (int round = 0; round < 2; round++) {
        struct bench b;

        bench_init(&b, 50);
        for (int i = 0; i < 200; i++) {
            int32_t at = ask(&b, NULL).index;

            load_begin(b.t, (uint32_t)at, &COST_UNKNOWN);
            if (round == 0)
                first[i] = at;
            assert_int_equal(at, first[i]);
        }
        bench_free(&b);
    }
}

/* --- what control makes of events ---------------------------------------------------------------
 */

static void
event(struct bench *b, enum place_event_kind kind, uint32_t server)
{
    struct place_event e = {.at_ns = b->now,
                            .begin_ns = b->now - MC_MS,
                            .server = server,
                            .class = 1,
                            .kind = (uint8_t)kind,
                            .crowd = 1,
                            .cost = COST_UNKNOWN};

    if (kind == PLACE_BEGIN)
        load_begin(b->t, server, &e.cost);
    else if (kind != PLACE_END_FAILED)
        load_end(b->t, server, &e.cost);
    know_event(b->k, &e);
}

static void
pass(struct bench *b, mc_ns time)
{
    for (mc_ns end = b->now + time; b->now < end; b->now += CONTROL_MS * MC_MS)
        know_tick(b->k, b->now);
}

static void
a_failed_request_counts_for_a_second_more(void **state)
{
    struct bench b;

    bench_init(&b, 3);
    for (int i = 0; i < 100; i++) { /* more than the ring holds at first */
        event(&b, PLACE_BEGIN, 1);
        event(&b, PLACE_END_FAILED, 1);
    }
    assert_int_equal(hot(&b, 1)->own, 100 * COST_ONE);
    pass(&b, 900 * MC_MS);
    assert_int_equal(hot(&b, 1)->own, 100 * COST_ONE);
    pass(&b, 200 * MC_MS);
    assert_int_equal(hot(&b, 1)->own, 0);
    bench_free(&b);
}

static void
a_server_that_fails_on_and_on_is_set_aside_longer_each_time(void **state)
{
    struct bench b;

    bench_init(&b, 3);
    for (int i = 0; i < EJECT_FAILS; i++) {
        assert_false(load_flags(hot(&b, 1)) & LOAD_EJECTED);
        event(&b, PLACE_BEGIN, 1);
        event(&b, PLACE_END_FAILED, 1);
    }
    assert_true(load_flags(hot(&b, 1)) & LOAD_EJECTED);
    pass(&b, EJECT_BASE_NS + 200 * MC_MS);
    assert_false(load_flags(hot(&b, 1)) & LOAD_EJECTED);
    event(&b, PLACE_BEGIN, 1);
    event(&b, PLACE_END_FAILED, 1); /* once is enough now */
    pass(&b, EJECT_BASE_NS + 200 * MC_MS);
    assert_true(load_flags(hot(&b, 1)) & LOAD_EJECTED);
    pass(&b, EJECT_BASE_NS + 200 * MC_MS);
    assert_false(load_flags(hot(&b, 1)) & LOAD_EJECTED);
    bench_free(&b);
}

static void
control_that_hangs_is_noticed(void **state)
{
    struct bench b;

    bench_init(&b, 3);
    pass(&b, 300 * MC_MS);
    assert_int_equal(ask(&b, NULL).reason, PLACE_RESOURCE);
    b.now += 3 * MC_SEC;
    assert_int_equal(ask(&b, NULL).reason, PLACE_RESOURCE_OLD);
    bench_free(&b);
}

static struct str
name_of(void *arg, unsigned class)
{
    return class == 1 ? STR("GET /a b{}") : STR_NONE;
}

static int
class_of(void *arg, struct str name)
{
    return str_eq(name, STR("GET /a b{}")) ? 2 : -1;
}

static void
costs_outlive_a_restart(void **state)
{
    struct buf text = {0};
    struct bench b, again;

    bench_init(&b, 3);
    bench_init(&again, 3);
    learn_remember(&b.k->learn, 1, .0125, .5, 40);
    know_save(b.k, name_of, NULL, &text);
    buf_str(&text, STR("nonsense\n1 2\n-1 1 1 x\nnan 1 1 x\n1e99 1 1 x\n1 1 1 unknown"));
    assert_int_equal(know_load(again.k, (struct str){text.p, text.n}, class_of, NULL), 5);
    assert_near((double)cost_read(again.k->costs, 2).cpu_s, .0125, .001);
    assert_int_equal(cost_read(again.k->costs, 2).phi, COST_ONE / 2);
    assert_near(cost_read(again.k->costs, 2).mem_units * COST_MEM_UNIT, 40e6, .01);
    buf_free(&text);
    bench_free(&b);
    bench_free(&again);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_least_crowded_for_its_speed_is_taken),
        cmocka_unit_test(ties_are_spread),
        cmocka_unit_test(it_stays_at_home_and_sends_the_heavy_anywhere),
        cmocka_unit_test(a_home_without_a_server_that_will_do_is_left),
        cmocka_unit_test(fleet_has_the_last_word),
        cmocka_unit_test(memory_that_is_not_there_is_waited_for),
        cmocka_unit_test(old_knowledge_is_not_used),
        cmocka_unit_test(tried_servers_are_left_out),
        cmocka_unit_test(the_same_question_has_the_same_answer),
        cmocka_unit_test(a_failed_request_counts_for_a_second_more),
        cmocka_unit_test(a_server_that_fails_on_and_on_is_set_aside_longer_each_time),
        cmocka_unit_test(control_that_hangs_is_noticed),
        cmocka_unit_test(costs_outlive_a_restart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
