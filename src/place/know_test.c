/* SPDX-License-Identifier: BSD-2-Clause
 *
 * know_test.c - balancers that tell each other: what one learns the others know, and nothing that
 * one says brings another down.
 */
#include "place/know.h"

#include <math.h>

#include "place/harness.h"

#define N_NODES   3
#define N_SERVERS 12
#define TICK      (2 * MC_MS)

struct node {
    struct rig r;
    struct load_table *t;
    struct know *k;
    struct cluster *c;
};

struct cluster {
    struct node node[N_NODES];
    mc_ns now;
    bool deaf;
    double budget;
    size_t n_bytes, entry_bytes; /* sent by all, ROWS aside; 0: messages cost nothing */
};

static size_t
carry(void *arg, uint64_t to, const struct share_msg *m)
{
    struct cluster *c = ((struct node *)arg)->c;

    for (unsigned i = 0; i < N_NODES && !c->deaf; i++)
        if (i + 1 != m->from && (to == SHARE_TO_ALL || to == i + 1))
            know_recv(c->node[i].k, m, c->now);
    if (m->kind != SHARE_ROWS)
        c->n_bytes += c->entry_bytes * (m->n + 1) * (to == SHARE_TO_ALL ? N_NODES - 1 : 1);
    return c->entry_bytes * (m->n + 1) * (to == SHARE_TO_ALL ? N_NODES - 1 : 1);
}

static void
cluster_init_within(struct cluster *c, double budget, size_t entry_bytes)
{
    *c = (struct cluster){.now = MC_SEC, .budget = budget, .entry_bytes = entry_bytes};
    for (unsigned i = 0; i < N_NODES; i++) {
        struct node *n = &c->node[i];
        struct know_conf conf = {.id = i + 1,
                                 .boot = 1,
                                 .n_classes = 4,
                                 .window_ns = 100 * MC_MS,
                                 .tick_ns = TICK,
                                 .budget_bytes_per_s = budget,
                                 .send = carry,
                                 .arg = n};

        n->c = c;
        rig_init(&n->r, N_SERVERS);
        n->t = load_table_new(N_SERVERS, n->r.id_hash);
        n->r.view.table = n->t;
        n->k = know_new(&conf, &n->r.view, n->t, c->now);
        know_set_class(n->k, 1 + i % 2, 77); /* the same class, by other numbers */
        know_set_class(n->k, 2 - i % 2, 88);
        rig_start(&n->r, "resource");
    }
    for (unsigned i = 0; i < N_NODES; i++)
        know_set_members(c->node[i].k, (const uint64_t[][2]){{2, 3}, {1, 3}, {2, 1}}[i], 2);
}

static void
cluster_init(struct cluster *c)
{
    cluster_init_within(c, 0, 0);
}

static void
cluster_free(struct cluster *c)
{
    for (unsigned i = 0; i < N_NODES; i++) {
        know_free(&c->node[i].k);
        load_table_free(&c->node[i].t);
        rig_free(&c->node[i].r);
    }
}

static void
event(struct cluster *c, unsigned node, enum place_event_kind kind, uint32_t server, unsigned class,
      struct place_cost cost)
{
    struct place_event e = {.at_ns = c->now,
                            .begin_ns = c->now - 10 * MC_MS,
                            .server = server,
                            .class = (uint16_t) class,
                            .kind = (uint8_t)kind,
                            .crowd = 1,
                            .cost = cost};

    if (kind == PLACE_BEGIN)
        load_begin(c->node[node].t, server, &cost);
    else if (kind != PLACE_END_FAILED)
        load_end(c->node[node].t, server, &cost);
    know_event(c->node[node].k, &e);
}

static void
pass(struct cluster *c, mc_ns time)
{
    for (mc_ns end = c->now + time; c->now < end; c->now += TICK)
        for (unsigned i = 0; i < N_NODES; i++)
            know_tick(c->node[i].k, c->now);
}

static int32_t
peers(struct cluster *c, unsigned node, uint32_t server)
{
    return c->node[node].t->hot[c->node[node].t->pos[server]].peers;
}

static void
the_homes_of_all_cover_all(void **state)
{
    struct cluster c;

    cluster_init(&c);
    pass(&c, MC_SEC);
    for (uint32_t s = 0; s < N_SERVERS; s++) {
        unsigned n = 0;

        for (unsigned i = 0; i < N_NODES; i++) {
            n += know_in_home(c.node[i].k, i, s);
            for (unsigned k = 0; k < N_NODES; k++) /* and all say the same of each */
                assert_int_equal(know_in_home(c.node[i].k, k, s), know_in_home(c.node[k].k, k, s));
        }
        assert_in_range(n, 1, 2);
    }
    cluster_free(&c);
}

static void
heavy_requests_are_known_at_once_and_light_ones_within_a_tick_at_home(void **state)
{
    struct place_cost heavy = {.cpu_s = .2f, .phi = COST_ONE, .mem_units = 9, .known = true};
    struct cluster c;
    uint32_t home = 0;

    cluster_init(&c);
    event(&c, 0, PLACE_BEGIN, 5, 1, heavy);
    assert_int_equal(peers(&c, 1, 5), COST_ONE);
    assert_int_equal(c.node[2].t->mem[c.node[2].t->pos[5]].peers, 9);
    event(&c, 0, PLACE_END_OK, 5, 1, heavy);
    assert_int_equal(peers(&c, 1, 5), 0);
    while (!know_in_home(c.node[1].k, 1, home))
        home++;
    event(&c, 0, PLACE_BEGIN, home, 1, COST_UNKNOWN);
    assert_int_equal(peers(&c, 1, home), 0);
    pass(&c, TICK);
    assert_int_equal(peers(&c, 1, home), COST_ONE);
    cluster_free(&c);
}

static void
who_is_not_heard_any_more_is_forgotten(void **state)
{
    struct place_cost heavy = {.cpu_s = .2f, .phi = COST_ONE, .known = true};
    struct cluster c;

    cluster_init(&c);
    event(&c, 0, PLACE_BEGIN, 5, 1, heavy);
    c.deaf = true;
    pass(&c, 2 * MC_SEC);
    assert_int_equal(peers(&c, 1, 5), 0);
    c.deaf = false;
    pass(&c, 200 * MC_MS);
    assert_int_equal(peers(&c, 1, 5), COST_ONE);
    know_set_members(c.node[1].k, (const uint64_t[]){3}, 1);
    assert_int_equal(peers(&c, 1, 5), 0);
    cluster_free(&c);
}

static void
a_failing_server_is_set_aside_by_all_and_comes_back(void **state)
{
    struct cluster c;

    cluster_init(&c);
    for (int i = 0; i < EJECT_FAILS; i++) {
        event(&c, 0, PLACE_BEGIN, 5, 1, COST_UNKNOWN);
        event(&c, 0, PLACE_END_FAILED, 5, 1, COST_UNKNOWN);
    }
    for (unsigned i = 0; i < N_NODES; i++)
        assert_true(load_flags(&c.node[i].t->hot[c.node[i].t->pos[5]]) & LOAD_EJECTED);
    pass(&c, EJECT_BASE_NS + MC_SEC); /* they do not keep each other's word alive */
    for (unsigned i = 0; i < N_NODES; i++)
        assert_false(load_flags(&c.node[i].t->hot[c.node[i].t->pos[5]]) & LOAD_EJECTED);
    cluster_free(&c);
}

/* Each balancer has requests at each server; each owner hears from its agents alone. */
static void
what_owners_learn_all_know(void **state)
{
    static const double cpu_s[2] = {.004, .0005}; /* of the classes 77 and 88 */
    double used[N_SERVERS] = {0};
    struct cluster c;
    struct rng rng;

    cluster_init(&c);
    rng_seed(&rng, 1);
    for (uint64_t w = 1; w < 60; w++) {
        for (unsigned i = 0; i < N_NODES; i++)
            for (uint32_t s = 0; s < N_SERVERS; s++)
                for (unsigned k = 0; k < 2; k++)
                    for (unsigned n = rng_below(&rng, 9); n > 0; n--) {
                        unsigned class = k == 0 ? 1 + i % 2 : 2 - i % 2;
                        mc_ns now = c.now;

                        event(&c, i, PLACE_BEGIN, s, class, COST_UNKNOWN);
                        c.now += (mc_ns)(cpu_s[k] * 1e9);
                        event(&c, i, PLACE_END_OK, s, class, COST_UNKNOWN);
                        c.now = now;
                        used[s] += cpu_s[k];
                    }
        pass(&c, 100 * MC_MS);
        for (unsigned i = 0; i < N_NODES; i++)
            for (uint32_t s = 0; s < N_SERVERS; s++) {
                struct place_report r = {.boot = 1, .seq = w, .cores = 8, .cpu_seconds = used[s]};

                r.present = 1u << REPORT_CORES | 1u << REPORT_CPU_SECONDS;
                know_report(c.node[i].k, s, &r, c.now);
            }
    }
    pass(&c, 2 * MC_SEC);
    for (unsigned i = 0; i < N_NODES; i++) {
        double a = (double)cost_read(c.node[i].k->costs, 1 + i % 2).cpu_s;
        double b = (double)cost_read(c.node[i].k->costs, 2 - i % 2).cpu_s;

        assert_near(a / b, cpu_s[0] / cpu_s[1], .1);
        for (uint32_t s = 0; s < N_SERVERS; s++)
            assert_near(c.node[i].k->host[s].cores, 8, 0);
    }
    cluster_free(&c);
}

/* Requests come and go everywhere all the time, and there is room for few words. */
/* Agents speak all at once, and a burst takes a moment: nothing may wait for the next one. */
static void
a_report_is_told_soon_whenever_it_comes(void **state)
{
    struct cluster c;

    cluster_init(&c);
    pass(&c, MC_SEC);
    for (uint64_t i = 1; i <= 25; i++) {
        for (unsigned n = 0; n < N_NODES; n++)
            for (uint32_t s = 0; s < N_SERVERS; s++) {
                struct place_report r = {.present = 1u << REPORT_CORES, .boot = 1, .seq = i};

                r.cores = 4;
                know_report(c.node[n].k, s, &r, c.now);
            }
        pass(&c, 26 * MC_MS);
        for (unsigned n = 0; n < N_NODES; n++)
            for (uint32_t s = 0; s < N_SERVERS; s++) {
                assert_int_equal(c.node[n].k->host[s].seq, i);
                assert_true(c.now - c.node[n].k->host[s].at_ns <= 26 * MC_MS);
            }
        pass(&c, 78 * MC_MS); /* another moment of the 100 ms than the last one */
    }
    cluster_free(&c);
}

static void
what_is_told_keeps_to_the_budget_and_comes_round(void **state)
{
    struct place_cost heavy = {.cpu_s = .2f, .phi = COST_ONE, .known = true};
    struct cluster c;
    size_t before;

    cluster_init_within(&c, 3000, 20);
    pass(&c, MC_SEC);
    before = c.n_bytes;
    for (unsigned i = 0; i < 2000; i++) {
        event(&c, 0, PLACE_BEGIN, i % N_SERVERS, 1, i % 2 ? heavy : COST_UNKNOWN);
        pass(&c, TICK);
        if (i > 10) /* all stays as busy as it is */
            event(&c, 0, PLACE_END_OK, (i - 10) % N_SERVERS, 1, i % 2 ? COST_UNKNOWN : heavy);
    }
    assert_true((double)(c.n_bytes - before) < N_NODES * 3000 * 4 * 1.3);
    assert_true(c.node[0].k->n_late > 0 || c.node[0].k->n_sent[SHARE_HEAVY] < 4000);
    pass(&c, 5 * MC_SEC);
    for (uint32_t s = 0; s < N_SERVERS; s++)
        for (unsigned i = 1; i < N_NODES; i++)
            assert_true(abs(peers(&c, i, s) - c.node[0].k->mine[s].light -
                            c.node[0].k->mine[s].heavy) < COST_ONE / 8);
    cluster_free(&c);
}

static void
failures_are_told_to_the_owner(void **state)
{
    struct cluster c;
    uint32_t s = 0;

    cluster_init(&c);
    while (c.node[1].k->owner[s] != c.node[1].k->me)
        s++;
    event(&c, 0, PLACE_BEGIN, s, 1, COST_UNKNOWN);
    event(&c, 0, PLACE_END_FAILED, s, 1, COST_UNKNOWN);
    assert_false(c.node[1].k->learn.server[s].failed);
    for (int i = 0; i < 100 && !c.node[1].k->learn.server[s].failed; i++)
        pass(&c, TICK);
    assert_true(c.node[1].k->learn.server[s].failed);
    assert_false(c.node[2].k->learn.server[s].failed); /* it does not follow that server */
    cluster_free(&c);
}

/* --- what responses say --- */

static void
word(struct cluster *c, uint32_t server, float cpu)
{
    struct place_word w = {
        .at_ns = c->now, .server = server, .cpu = cpu, .application = -1, .rps = -1, .eps = -1};

    know_word(c->node[0].k, &w);
}

static double
factor(struct cluster *c, uint32_t server)
{
    return (double)load_factor(&c->node[0].t->hot[c->node[0].t->pos[server]]);
}

static void
a_server_that_says_it_is_busy_gets_dear(void **state)
{
    struct cluster c;

    cluster_init(&c);
    for (int i = 0; i < 100; i++) {
        word(&c, 5, .95f);
        word(&c, 6, .2f);
        pass(&c, 100 * MC_MS);
    }
    assert_true(factor(&c, 5) > 2);
    assert_near(factor(&c, 6), 1, .001);
    assert_near(factor(&c, 7), 1, .001);
    assert_near((double)c.node[0].k->word[5].last.cpu, .95, .001);
    /* an older word that comes late is passed over */
    know_word(c.node[0].k, &(struct place_word){.at_ns = c.now - MC_SEC, .server = 5, .cpu = .1f});
    assert_near((double)c.node[0].k->word[5].last.cpu, .95, .001);
    cluster_free(&c);
}

static void
while_an_agent_is_heard_responses_are_not(void **state)
{
    struct cluster c;

    cluster_init(&c);
    know_set_members(c.node[0].k, NULL, 0); /* whose agent is followed here */
    for (uint64_t i = 1; i <= 50; i++) {
        struct place_report r = {.boot = 1, .seq = i, .cores = 4, .cpu_utilization = .8};

        r.present = 1u << REPORT_CORES | 1u << REPORT_CPU_UTILIZATION;
        know_report(c.node[0].k, 5, &r, c.now);
        word(&c, 5, .95f);
        word(&c, 6, .3f);
        pass(&c, 100 * MC_MS);
    }
    assert_near(factor(&c, 5), 1, .001);
    know_silent(c.node[0].k, 5);
    pass(&c, MC_SEC); /* what it said last is not counted on */
    assert_near(factor(&c, 5), 1, .001);
    for (int i = 0; i < 100; i++) {
        word(&c, 5, .95f);
        word(&c, 6, .3f);
        pass(&c, 100 * MC_MS);
    }
    assert_true(factor(&c, 5) > 2);
    cluster_free(&c);
}

static void
said(struct cluster *c, enum place_event_kind kind, float cpu_s)
{
    struct place_event e = {.begin_ns = c->now, .server = 5, .class = 1, .crowd = 1};

    e.cost = COST_UNKNOWN;
    load_begin(c->node[0].t, 5, &e.cost);
    e.at_ns = c->now;
    know_event(c->node[0].k, &e);
    c->now += 10 * MC_MS;
    if (kind != PLACE_END_FAILED)
        load_end(c->node[0].t, 5, &e.cost);
    e.at_ns = c->now;
    e.kind = (uint8_t)kind;
    e.said_s = cpu_s;
    know_event(c->node[0].k, &e);
}

static void
what_requests_took_is_believed_within_reason(void **state)
{
    struct cluster c;
    const struct know *k;

    cluster_init(&c);
    k = c.node[0].k;
    said(&c, PLACE_END_OK, .002f);
    pass(&c, MC_SEC);
    assert_near((double)cost_read(k->costs, 1).cpu_s, .002, .001);
    assert_near(cost_read(k->costs, 1).phi, COST_ONE / 5, .01);
    said(&c, PLACE_END_VOID, .004f);
    pass(&c, MC_SEC);
    assert_near((double)cost_read(k->costs, 1).cpu_s, .003, .02);
    assert_near(cost_read(k->costs, 1).phi, COST_ONE / 5, .01);
    said(&c, PLACE_END_FAILED, .5f); /* of a failed one nothing is learned */
    said(&c, PLACE_END_OK, 9000);    /* in 10 ms, on how many cores? */
    pass(&c, MC_SEC);
    assert_near((double)cost_read(k->costs, 1).cpu_s, .003, .03);
    assert_int_equal(k->word[5].n_untrue, 1);
    cluster_free(&c);
}

static void
nonsense_from_others_does_no_harm(void **state)
{
    struct share_sum bad[] = {{NAN, 1, 1, 1}, {1, INFINITY, 1, 1}, {-1, -1, 1, 1}};
    struct share_pair pair[] = {{0, 0, NAN, 1}, {9, 0, 1, 1}, {1, 900, 1, 1}, {1, 0, 1, INFINITY}};
    uint32_t key[] = {77, 88, 4711};
    struct share_load load = {UINT32_MAX, 1, 1, 1, 1, NAN, 1, UINT32_MAX};
    struct share_row row[] = {
        {UINT32_MAX, 77, 1, 1, 1, true}, {3, 77, NAN, -1, 1, true}, {3, 1, -1, 1, 1, false}};
    struct share_report report[] = {{UINT32_MAX, 1, 1, 4, 0, 0, 0}, {3, 1, 1, NAN, 0, 0, -9}};
    struct cluster c;

    cluster_init(&c);
    for (uint64_t seq = 1; seq < 20; seq++)
        for (int kind = 0; kind < SHARE_N_KINDS; kind++) {
            struct share_msg m = {.kind = (enum share_kind)kind,
                                  .from = 1 + seq % 5,
                                  .seq = (1ull << 33) + seq,
                                  .window = INT64_MAX - (int64_t)seq,
                                  .last = UINT32_MAX,
                                  .rate = 1};

            m.n = kind <= SHARE_SLOW ? 1 : kind == SHARE_ROWS ? 3 : 2;
            m.load = &load;
            m.row = row;
            m.report = report;
            m.sums = (struct share_sums){3, 4, 0, UINT32_MAX, key, bad, pair};
            load.server = seq % 2 ? UINT32_MAX : 3;
            know_recv(c.node[1].k, &m, c.now);
        }
    pass(&c, MC_SEC);
    for (int i = 0; i < 100; i++)
        assert_true(rig_ask(&c.node[1].r, &(struct place_ask){.now = c.now}).index >= 0);
    assert_true(cost_read(c.node[1].k->costs, 1).cpu_s > 0);
    cluster_free(&c);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_homes_of_all_cover_all),
        cmocka_unit_test(heavy_requests_are_known_at_once_and_light_ones_within_a_tick_at_home),
        cmocka_unit_test(who_is_not_heard_any_more_is_forgotten),
        cmocka_unit_test(a_failing_server_is_set_aside_by_all_and_comes_back),
        cmocka_unit_test(what_owners_learn_all_know),
        cmocka_unit_test(a_report_is_told_soon_whenever_it_comes),
        cmocka_unit_test(what_is_told_keeps_to_the_budget_and_comes_round),
        cmocka_unit_test(failures_are_told_to_the_owner),
        cmocka_unit_test(a_server_that_says_it_is_busy_gets_dear),
        cmocka_unit_test(while_an_agent_is_heard_responses_are_not),
        cmocka_unit_test(what_requests_took_is_believed_within_reason),
        cmocka_unit_test(nonsense_from_others_does_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
