/* SPDX-License-Identifier: BSD-2-Clause
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cluster/swim_harness.h"

static void
start_all(struct net *w, unsigned n, uint64_t seed)
{
    net_init(w, n, seed);
    for (unsigned i = 0; i < n; i++)
        net_start(w, i, i, 0);
    assert_true(net_settle(w, 20 * MC_SEC));
}

static enum swim_state
state_of(const struct net *w, unsigned i, unsigned j)
{
    const struct swim_member *m = swim_find(w->node[i].s, str_of(w->node[j].name));

    return m ? m->state : SWIM_NONE;
}

static void
members_find_each_other(void **unused)
{
    struct net w;

    for (unsigned n = 1; n <= 20; n++) {
        start_all(&w, n, n);
        for (unsigned i = 0; i < n; i++) {
            assert_int_equal(swim_live(w.node[i].s), n);
            assert_true(n < 2 || swim_joined(w.node[i].s));
        }
        net_fini(&w);
    }
}

static void
a_killed_member_is_found_dead(void **unused)
{
    struct net w;
    mc_ns at;

    start_all(&w, 3, 1);
    net_run(&w, w.now + 5 * MC_SEC);
    at = w.now;
    net_kill(&w, 1);
    assert_true(net_settle(&w, 10 * MC_SEC));
    assert_true(w.now - at < 3 * MC_SEC); /* virtual time: this does not depend on the machine */
    assert_int_equal(state_of(&w, 0, 1), SWIM_DEAD);
    assert_int_equal(state_of(&w, 2, 1), SWIM_DEAD);
    net_fini(&w);
}

static void
a_restarted_member_is_back_whatever_its_clock_says(void **unused)
{
    struct net w;

    net_init(&w, 3, 2);
    for (unsigned i = 0; i < 3; i++)
        net_start(&w, i, i, 1000000);
    assert_true(net_settle(&w, 10 * MC_SEC));
    net_kill(&w, 1); /* and back before anybody noticed, with an older clock */
    net_start(&w, 1, 1, 996400);
    assert_true(net_settle(&w, 5 * MC_SEC));
    assert_true(swim_self(w.node[1].s)->incarnation > 1000000);
    net_kill(&w, 1);
    assert_true(net_settle(&w, 10 * MC_SEC));
    net_start(&w, 1, 1, 0); /* and back from the dead */
    assert_true(net_settle(&w, 5 * MC_SEC));
    net_fini(&w);
}

static void
a_member_that_leaves_is_not_suspected(void **unused)
{
    struct net w;

    start_all(&w, 5, 3);
    w.loss = 0.3;
    swim_leave(w.node[2].s, w.now);
    assert_false(swim_has_left(w.node[2].s));
    net_arm(&w.node[2]);
    assert_true(net_settle(&w, 3 * MC_SEC));
    assert_true(swim_has_left(w.node[2].s));
    for (unsigned i = 0; i < 5; i++)
        if (i != 2)
            assert_int_equal(state_of(&w, i, 2), SWIM_LEFT);
    net_kill(&w, 2);
    net_start(&w, 2, 2, 0);
    w.loss = 0;
    assert_true(net_settle(&w, 10 * MC_SEC));
    net_fini(&w);
}

static void
the_last_member_leaves_at_once(void **unused)
{
    struct net w;

    start_all(&w, 1, 3);
    swim_leave(w.node[0].s, w.now);
    swim_tick(w.node[0].s, w.now);
    assert_true(swim_has_left(w.node[0].s));
    assert_true(swim_tick(w.node[0].s, w.now + MC_SEC) == MC_NEVER_NS);
    net_fini(&w);
}

static void
a_torn_cluster_heals_by_itself(void **unused)
{
    struct net w;

    start_all(&w, 9, 4);
    for (unsigned i = 0; i < 9; i++)
        swim_join(w.node[i].s, NULL, 0, w.now); /* nobody is told where the others are */
    for (unsigned i = 0; i < 4; i++)
        w.side[8 - i] = 1;
    net_run(&w, w.now + 60 * MC_SEC);
    for (unsigned i = 0; i < 9; i++)
        for (unsigned j = 0; j < 9; j++)
            assert_int_equal(state_of(&w, i, j), w.side[i] == w.side[j] ? SWIM_ALIVE : SWIM_DEAD);
    memset(w.side, 0, sizeof(w.side));
    assert_true(net_settle(&w, 30 * MC_SEC));
    net_fini(&w);
}

static void
two_clusters_born_apart_become_one(void **unused)
{
    struct net w;

    net_init(&w, 6, 5);
    w.side[2] = w.side[4] = w.side[5] = 1;
    for (unsigned i = 0; i < 6; i++)
        net_start(&w, i, i, 0);
    net_run(&w, w.now + 30 * MC_SEC);
    assert_int_equal(swim_live(w.node[0].s), 3);
    assert_int_equal(swim_live(w.node[5].s), 3);
    memset(w.side, 0, sizeof(w.side));
    assert_true(net_settle(&w, 30 * MC_SEC));
    net_fini(&w);
}

static void
a_stopped_member_comes_back_and_blames_nobody(void **unused)
{
    struct net w;

    start_all(&w, 5, 6);
    net_freeze(&w, 3, true);
    net_run(&w, w.now + 10 * MC_SEC);
    assert_int_equal(state_of(&w, 0, 3), SWIM_DEAD);
    net_freeze(&w, 3, false);
    assert_int_equal(swim_counters(w.node[3].s)->deaths, 0);
    assert_true(net_settle(&w, 10 * MC_SEC));
    assert_int_equal(swim_counters(w.node[3].s)->deaths, 0);
    assert_true(swim_counters(w.node[3].s)->late_ticks > 0);
    assert_true(swim_counters(w.node[3].s)->false_deaths > 0);
    net_fini(&w);
}

/* Acks do not come back by the direct way: the others vouch. */
static void
indirect_probes_save_who_is_hard_to_reach(void **unused)
{
    struct net w;

    start_all(&w, 6, 7);
    w.loss = 0.15;
    net_run(&w, w.now + 60 * MC_SEC);
    w.loss = 0;
    for (unsigned i = 0; i < 6; i++) {
        const struct swim_counters *n = swim_counters(w.node[i].s);

        assert_true(n->indirect > 0);
        assert_true(n->acks > n->probes / 2);
        assert_true(n->failed < n->probes / 5);
        assert_int_equal(n->late_ticks, 0);
    }
    assert_true(net_settle(&w, 20 * MC_SEC));
    net_fini(&w);
}

static void
meta_reaches_all(void **unused)
{
    struct net w;
    uint8_t meta[SWIM_META_MAX];

    start_all(&w, 12, 8);
    memset(meta, 'x', sizeof(meta));
    assert_int_equal(swim_set_meta(w.node[7].s, meta, sizeof(meta), w.now), MC_OK);
    assert_int_equal(swim_set_meta(w.node[7].s, meta, sizeof(meta) + 1, w.now), MC_EINVAL);
    net_arm(&w.node[7]);
    assert_false(net_agreed(&w));
    assert_true(net_settle(&w, 2 * MC_SEC));
    assert_int_equal(swim_find(w.node[0].s, STR("m7"))->meta_n, SWIM_META_MAX);
    net_fini(&w);
}

/* --- one name, two processes --- */

static void
count_moves(struct net *w, struct net_node *node, const struct swim_member *m, enum swim_state was)
{
    if (strcmp(m->name, "m3") == 0 && node != &w->node[4] && net_host(&m->addr) != 3)
        *(unsigned *)w->watch_arg += 1;
}

static void
the_newcomer_learns_that_its_name_is_taken(void **unused)
{
    unsigned n_moves = 0;
    struct net w;

    start_all(&w, 5, 9);
    net_run(&w, w.now + 5 * MC_SEC);
    net_kill(&w, 4);
    strcpy(w.node[4].name, "m3");
    w.watch = count_moves;
    w.watch_arg = &n_moves;
    net_start(&w, 4, 9, 77); /* claims more than m3 does */
    net_run(&w, w.now + 5 * MC_SEC);
    assert_true(w.node[4].conflict.len > 0);
    assert_int_equal(net_host(&w.node[4].conflict), 3);
    assert_int_equal(w.node[3].conflict.len, 0);
    assert_int_equal(n_moves, 0); /* nobody believed it for a moment */
    assert_true(swim_tick(w.node[4].s, w.now) == MC_NEVER_NS);
    for (unsigned i = 0; i < 3; i++) {
        const struct swim_member *m = swim_find(w.node[i].s, STR("m3"));

        assert_int_equal(m->state, SWIM_ALIVE);
        assert_int_equal(net_host(&m->addr), 3);
    }
    net_fini(&w);
}

static void
a_name_moves_when_its_old_address_is_silent(void **unused)
{
    struct net w;

    start_all(&w, 5, 10);
    net_run(&w, w.now + 5 * MC_SEC);
    net_kill(&w, 4);
    net_start(&w, 4, 9, 0); /* at once, from elsewhere */
    assert_true(net_settle(&w, 5 * MC_SEC));
    assert_int_equal(w.node[4].conflict.len, 0);
    assert_int_equal(net_host(&swim_find(w.node[0].s, STR("m4"))->addr), 9);
    net_fini(&w);
}

static void
of_two_torn_apart_the_elder_keeps_the_name(void **unused)
{
    struct net w;

    start_all(&w, 6, 11);
    net_kill(&w, 5);
    assert_true(net_settle(&w, 10 * MC_SEC));
    w.side[3] = w.side[4] = w.side[9] = 1;
    strcpy(w.node[5].name, "m0");
    net_run(&w, w.now + 20 * MC_SEC);
    net_start(&w, 5, 9, 0);
    net_run(&w, w.now + 20 * MC_SEC);
    memset(w.side, 0, sizeof(w.side));
    net_run(&w, w.now + 30 * MC_SEC);
    assert_true(w.node[5].conflict.len > 0 || !swim_joined(w.node[5].s));
    assert_int_equal(w.node[0].conflict.len, 0);
    net_kill(&w, 5);
    strcpy(w.node[5].name, "m5");
    assert_true(net_settle(&w, 20 * MC_SEC));
    net_fini(&w);
}

/* --- memory --- */

static void
the_dead_are_forgotten_in_the_end(void **unused)
{
    struct net w;

    net_init(&w, 3, 12);
    w.times.remember_ns = 60 * MC_SEC;
    for (unsigned i = 0; i < 3; i++)
        net_start(&w, i, i, 0);
    assert_true(net_settle(&w, 10 * MC_SEC));
    net_kill(&w, 2);
    net_run(&w, w.now + 30 * MC_SEC);
    assert_int_equal(state_of(&w, 0, 2), SWIM_DEAD);
    net_run(&w, w.now + 60 * MC_SEC);
    assert_int_equal(state_of(&w, 0, 2), SWIM_NONE);
    assert_int_equal(swim_count(w.node[0].s), 2);
    assert_null(swim_find_id(w.node[0].s, swim_name_id(STR("m2"))));
    net_fini(&w);
}

static void
a_member_needs_a_name_and_an_address(void **unused)
{
    struct swim_conf good = {.name = STR("a-B_9.x"), .addr = net_addr(1)};
    struct swim_conf bad[] = {good, good, good, good, good};
    struct swim *s = NULL;
    struct errbuf eb;

    bad[0].name = STR("");
    bad[1].name = STR("a b");
    bad[2].addr.u.in.sin_addr.s_addr = INADDR_ANY;
    bad[3].addr.u.in.sin_port = 0;
    bad[4].meta_n = SWIM_META_MAX + 1;
    for (unsigned i = 0; i < MC_COUNT(bad); i++) {
        eb.text[0] = '\0';
        assert_int_equal(swim_new(&bad[i], 0, &s, &eb), MC_EINVAL);
        assert_true(eb.text[0] != '\0');
        assert_null(s);
    }
    assert_int_equal(swim_new(&good, 0, &s, &eb), MC_OK);
    assert_string_equal(swim_self(s)->name, "a-B_9.x");
    assert_int_equal(swim_self(s)->id, swim_name_id(STR("a-B_9.x")));
    swim_free(&s);
    assert_null(s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_find_each_other),
        cmocka_unit_test(a_killed_member_is_found_dead),
        cmocka_unit_test(a_restarted_member_is_back_whatever_its_clock_says),
        cmocka_unit_test(a_member_that_leaves_is_not_suspected),
        cmocka_unit_test(the_last_member_leaves_at_once),
        cmocka_unit_test(a_torn_cluster_heals_by_itself),
        cmocka_unit_test(two_clusters_born_apart_become_one),
        cmocka_unit_test(a_stopped_member_comes_back_and_blames_nobody),
        cmocka_unit_test(indirect_probes_save_who_is_hard_to_reach),
        cmocka_unit_test(meta_reaches_all),
        cmocka_unit_test(the_newcomer_learns_that_its_name_is_taken),
        cmocka_unit_test(a_name_moves_when_its_old_address_is_silent),
        cmocka_unit_test(of_two_torn_apart_the_elder_keeps_the_name),
        cmocka_unit_test(the_dead_are_forgotten_in_the_end),
        cmocka_unit_test(a_member_needs_a_name_and_an_address),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
