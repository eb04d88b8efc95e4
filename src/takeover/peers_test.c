/* SPDX-License-Identifier: BSD-2-Clause
 *
 * peers_test.c - who may speak: told, and played with random faults.
 */
#include "takeover/peers_harness.h"

static struct world w;

static void
begin(unsigned n)
{
    world_init(&w, n, 1);
    world_start(&w);
    world_for(&w, 300 * MC_MS);
}

static void
assert_well(mc_ns within)
{
    for (mc_ns until = w.mesh.now + within; !world_is_well(&w); world_for(&w, 5 * MC_MS))
        if (w.mesh.now > until) {
            world_print(&w);
            fail_msg("it is not well");
        }
}

static unsigned
holder_of(unsigned i)
{
    struct peers_holder h[PEERS_HOLDERS_MAX];

    assert_int_equal(peers_holders(w.node[i].p, h), 1);
    return (unsigned)(h[0].who.id - 100);
}

static uint64_t
lapses(unsigned i)
{
    return peers_stats(w.node[i].p)->lapses;
}

static bool
has_heir(unsigned i)
{
    return !life_is_none(peers_heir(w.node[i].p, w.mesh.now));
}

static bool
speaks(unsigned i)
{
    return w.node[i].word >= w.mesh.now;
}

/* --- peace --------------------------------------------------------------------------------------
 */

static void
everybody_finds_a_holder_and_speaks(void **state)
{
    begin(4);
    assert_true(world_is_well(&w));
    world_for(&w, 10 * MC_SEC);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(lapses(i), 0);
        assert_int_equal(w.node[i].chosen, 1);
        assert_int_equal(w.node[i].lives, 3);
    }
    world_fini(&w);
}

static void
who_is_alone_from_the_start_speaks(void **state)
{
    world_init(&w, 2, 1);
    w.node[0].sees_witness = false;
    node_start(&w.node[0]);
    world_for(&w, MC_SEC);
    assert_true(speaks(0));
    assert_true(w.node[0].fit);
    assert_int_equal(lapses(0), 0);
    world_fini(&w);
}

static void
an_owner_chooses_the_same_holder_again(void **state)
{
    unsigned first;

    begin(5);
    first = holder_of(2);
    node_kill(&w.node[2]);
    world_for(&w, 300 * MC_MS);
    node_start(&w.node[2]);
    world_for(&w, 300 * MC_MS);
    assert_int_equal(holder_of(2), first);
    world_fini(&w);
}

/* --- deaths -------------------------------------------------------------------------------------
 */

static void
the_death_of_a_holder_costs_its_owners_nothing(void **state)
{
    for (unsigned k = 0; k < 40; k++) {
        unsigned h;

        begin(3);
        world_for(&w, (mc_ns)k * MC_MS);
        h = holder_of(0);
        node_kill(&w.node[h]);
        world_for(&w, 200 * MC_MS);
        for (unsigned i = 0; i < 3; i++)
            if (i != h) {
                assert_int_equal(lapses(i), 0);
                assert_int_equal(peers_stats(w.node[i].p)->voids, 0);
                assert_int_equal(holder_of(i), 3 - h - i);
            }
        world_fini(&w);
    }
}

/* Each of two could give the same flow away; when the first is lost the second may. */
static void
of_two_holders_that_live_one_is_the_first(void **state)
{
    struct peers_holder h[PEERS_HOLDERS_MAX];
    struct life dead;
    unsigned first, second;

    world_init(&w, 4, 1);
    w.replicas = 2;
    world_start(&w);
    world_for(&w, 300 * MC_MS);
    assert_int_equal(peers_holders(w.node[0].p, h), 2);
    first = (unsigned)(h[0].who.id - 100);
    second = (unsigned)(h[1].who.id - 100);
    dead = peers_life(w.node[first].p, 100);
    node_kill(&w.node[0]);
    world_for(&w, 100 * MC_MS);
    assert_true(peers_is_first(w.node[first].p, dead));
    assert_false(peers_is_first(w.node[second].p, dead));
    node_kill(&w.node[first]);
    world_for(&w, 110 * MC_MS);
    assert_true(peers_is_first(w.node[second].p, dead));
    world_fini(&w);
}

static void
the_last_one_goes_on_when_its_witness_answers(void **state)
{
    begin(3);
    node_kill(&w.node[1]);
    world_for(&w, 500 * MC_MS);
    node_kill(&w.node[2]);
    world_for(&w, 500 * MC_MS);
    assert_true(speaks(0));
    assert_true(w.node[0].fit);
    assert_int_equal(peers_stats(w.node[0].p)->voids, 0);
    assert_false(has_heir(0));
    world_fini(&w);
}

static void
a_dead_owners_flows_may_be_given_after_80_ms(void **state)
{
    mc_ns killed;

    begin(3);
    node_kill(&w.node[0]);
    killed = w.mesh.now;
    while (w.n_gives == 0 && w.mesh.now < killed + MC_SEC)
        world_for(&w, MC_MS);
    assert_in_range(w.mesh.now - killed, 60 * MC_MS, 130 * MC_MS);
    world_fini(&w);
}

static void
who_comes_back_is_another_life(void **state)
{
    struct life before;

    begin(3);
    before = w.node[0].life;
    node_kill(&w.node[0]);
    node_start(&w.node[0]);
    world_for(&w, 300 * MC_MS);
    assert_false(peers_is_alive(w.node[1].p, before));
    assert_true(life_eq(peers_life(w.node[1].p, id_of(0)), w.node[0].life));
    assert_well(MC_SEC);
    world_fini(&w);
}

/* --- sleep --------------------------------------------------------------------------------------
 */

static void
who_slept_asks_what_was_taken_before_it_speaks(void **state)
{
    begin(3);
    node_freeze(&w.node[0], true);
    world_for(&w, 500 * MC_MS);
    assert_true(w.n_gives > 0);
    assert_false(speaks(0));
    node_freeze(&w.node[0], false);
    assert_false(speaks(0));
    assert_well(300 * MC_MS);
    assert_int_equal(peers_stats(w.node[0].p)->resyncs, 1);
    assert_int_equal(peers_stats(w.node[0].p)->voids, 0);
    world_fini(&w);
}

static void
who_slept_while_its_taker_died_takes_all_for_taken(void **state)
{
    unsigned h;

    begin(3);
    h = holder_of(0);
    node_freeze(&w.node[0], true);
    world_for(&w, 500 * MC_MS);
    assert_true(w.n_gives > 0);
    node_kill(&w.node[h]);
    node_freeze(&w.node[0], false);
    assert_well(500 * MC_MS);
    assert_int_equal(peers_stats(w.node[0].p)->voids, 1);
    world_fini(&w);
}

static void
who_overslept_finds_nobody_dead_for_that(void **state)
{
    begin(3);
    node_freeze(&w.node[0], true);
    world_for(&w, 300 * MC_MS);
    node_freeze(&w.node[0], false);
    world_for(&w, 300 * MC_MS);
    assert_int_equal(peers_stats(w.node[0].p)->deaths, 0);
    world_fini(&w);
}

/* --- cuts ---------------------------------------------------------------------------------------
 */

static void
who_is_cut_off_with_its_witness_falls_silent(void **state)
{
    begin(3);
    world_isolate(&w, 0, true);
    w.node[0].sees_witness = false;
    world_for(&w, 160 * MC_MS);
    assert_false(speaks(0));
    assert_false(w.node[0].fit);
    assert_true(w.node[1].fit);
    world_for(&w, MC_SEC);
    assert_false(speaks(0));
    assert_non_null(peers_why(w.node[0].p, w.mesh.now));
    world_isolate(&w, 0, false);
    w.node[0].sees_witness = true;
    assert_well(300 * MC_MS);
    assert_int_equal(peers_stats(w.node[0].p)->voids, 0);
    world_fini(&w);
}

static void
who_is_not_heard_falls_silent(void **state)
{
    begin(3);
    w.cut[0][1] = w.cut[0][2] = true;
    world_for(&w, 200 * MC_MS);
    assert_false(speaks(0));
    assert_false(w.node[0].fit);
    assert_true(w.n_gives > 0);
    w.cut[0][1] = w.cut[0][2] = false;
    assert_well(300 * MC_MS);
    world_fini(&w);
}

/* Should only the way to the others be cut, they and we go on; what comes here is ours then. */
static void
who_hears_nobody_has_no_heir_any_more(void **state)
{
    begin(3);
    assert_true(has_heir(0));
    w.cut[0][1] = w.cut[0][2] = true;
    world_for(&w, 60 * MC_MS);
    assert_true(has_heir(0)); /* they live, and will take over */
    memset(w.cut, 0, sizeof(w.cut));
    world_for(&w, 300 * MC_MS);
    assert_well(300 * MC_MS);
    w.split = true;
    world_isolate(&w, 0, true);
    for (mc_ns until = w.mesh.now + 60 * MC_MS; has_heir(0); world_for(&w, MC_MS))
        assert_true(w.mesh.now < until && speaks(0));
    assert_true(speaks(0));
    world_isolate(&w, 0, false);
    assert_well(MC_SEC);
    world_fini(&w);
}

static void
who_hears_nobody_harms_nobody_else(void **state)
{
    begin(3);
    w.cut[1][0] = w.cut[2][0] = true;
    w.split = true; /* on the side of the deaf there is nobody else */
    world_for(&w, MC_SEC);
    for (unsigned i = 1; i < 3; i++) {
        assert_true(speaks(i));
        assert_true(w.node[i].fit);
        assert_int_equal(peers_stats(w.node[i].p)->fences, 0);
    }
    w.cut[1][0] = w.cut[2][0] = false;
    assert_well(MC_SEC);
    world_fini(&w);
}

static void
two_that_do_not_hear_each_other_choose_others(void **state)
{
    unsigned h;

    begin(3);
    h = holder_of(0);
    w.cut[0][h] = w.cut[h][0] = true;
    world_for(&w, MC_SEC);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(speaks(i));
        assert_int_equal(peers_stats(w.node[i].p)->deaths, 0);
        assert_int_equal(peers_stats(w.node[i].p)->voids, 0);
        assert_int_equal(peers_stats(w.node[i].p)->fences, 0);
    }
    assert_int_not_equal(holder_of(0), h);
    world_fini(&w);
}

static void
a_network_cut_in_two_goes_on_on_both_sides(void **state)
{
    begin(4);
    w.split = true;
    for (unsigned i = 0; i < 2; i++)
        for (unsigned k = 2; k < 4; k++)
            w.cut[i][k] = w.cut[k][i] = true;
    world_for(&w, MC_SEC);
    for (unsigned i = 0; i < 4; i++)
        assert_true(speaks(i));
    memset(w.cut, 0, sizeof(w.cut));
    world_for(&w, 500 * MC_MS);
    assert_well(MC_SEC);
    world_fini(&w);
}

/* --- leaving ------------------------------------------------------------------------------------
 */

static void
a_holder_that_leaves_is_replaced_before_it_goes(void **state)
{
    unsigned h;
    struct peers_holder now[PEERS_HOLDERS_MAX];

    begin(3);
    h = holder_of(0);
    peers_leave(w.node[h].p, w.mesh.now);
    for (mc_ns until = w.mesh.now + MC_SEC; w.mesh.now < until; world_for(&w, MC_MS)) {
        unsigned n = peers_holders(w.node[0].p, now), n_ready = 0;

        for (unsigned i = 0; i < n; i++)
            n_ready += now[i].synced;
        assert_true(n_ready > 0);
    }
    assert_int_not_equal(holder_of(0), h);
    assert_int_equal(lapses(0), 0);
    world_fini(&w);
}

/* --- strangers ----------------------------------------------------------------------------------
 */

/* --- another process in its place ---------------------------------------------------------------
 */

static void
pass(unsigned i, enum peers_pass how)
{
    peers_pass(w.node[i].p, how, w.mesh.now);
    for (mc_ns until = w.mesh.now + MC_SEC; !peers_has_passed(w.node[i].p);
         world_for(&w, 5 * MC_MS))
        if (w.mesh.now > until) {
            world_print(&w);
            fail_msg("it does not pass");
        }
}

static void
assert_missed_by_nobody(unsigned i)
{
    for (unsigned k = 0; k < w.n; k++) {
        const struct peers_stats *s = peers_stats(w.node[k].p);

        assert_int_equal(s->lapses, 0);
        assert_int_equal(s->voids, 0);
        assert_int_equal(s->deaths, 0);
        assert_true(k == i || peers_is_alive(w.node[k].p, w.node[i].life));
    }
    assert_int_equal(w.n_gives, 0);
}

/* The gap between the two processes is longer each time. */
static void
a_boot_that_succeeds_another_is_the_same_balancer(void **state)
{
    static const mc_ns gaps[] = {0, 10 * MC_MS, 100 * MC_MS, MC_SEC, 1900 * MC_MS};

    for (unsigned n = 2; n <= 4; n++)
        for (unsigned k = 0; k < MC_COUNT(gaps); k++) {
            struct life old;

            begin(n);
            old = w.node[0].life;
            pass(0, PEERS_PART);
            for (unsigned i = 1; n > 2 && i < n; i++)
                assert_int_not_equal(holder_of(i), 0);
            assert_int_equal(peers_holders(w.node[0].p, (struct peers_holder[PEERS_HOLDERS_MAX]){}),
                             1);
            pass(0, PEERS_ALONE);
            assert_true(speaks(0));
            assert_missed_by_nobody(0);
            node_kill(&w.node[0]);
            world_for(&w, gaps[k]);
            for (unsigned i = 1; i < n; i++) {
                assert_true(peers_is_alive(w.node[i].p, old));
                assert_true(speaks(i));
            }
            node_start(&w.node[0]);
            assert_true(speaks(0));
            assert_well(300 * MC_MS);
            assert_missed_by_nobody(0);
            for (unsigned i = 1; i < n; i++)
                assert_false(peers_is_alive(w.node[i].p, old));
            world_fini(&w);
        }
}

static void
who_passes_and_is_not_succeeded_is_dead_after_all(void **state)
{
    begin(3);
    pass(0, PEERS_PART);
    pass(0, PEERS_ALONE);
    node_kill(&w.node[0]);
    world_for(&w, PEERS_PASSING_NS + 100 * MC_MS);
    for (unsigned i = 1; i < 3; i++)
        assert_int_equal(peers_stats(w.node[i].p)->deaths, 1);
    assert_well(0);
    world_fini(&w);
}

/* While it has flows it is found dead as ever. */
static void
who_dies_while_it_parts_is_dead_at_once(void **state)
{
    begin(3);
    pass(0, PEERS_PART);
    node_kill(&w.node[0]);
    world_for(&w, 150 * MC_MS);
    for (unsigned i = 1; i < 3; i++)
        assert_int_equal(peers_stats(w.node[i].p)->deaths, 1);
    assert_well(0);
    world_fini(&w);
}

static void
who_stays_after_all_is_a_holder_again(void **state)
{
    begin(2);
    pass(0, PEERS_PART);
    pass(0, PEERS_ALONE);
    peers_pass(w.node[0].p, PEERS_STAY, w.mesh.now);
    assert_well(300 * MC_MS);
    assert_int_equal(holder_of(1), 0);
    assert_int_equal(holder_of(0), 1);
    assert_missed_by_nobody(0);
    world_fini(&w);
}

static void
who_is_no_member_is_not_heard(void **state)
{
    struct wire_beat b = {.n = 1, .life = {{.who = {4711, 1}, .seq = 1}}};

    begin(2);
    peers_hear(w.node[0].p, &b, w.mesh.now);
    assert_int_equal(peers_stats(w.node[0].p)->strangers, 1);
    assert_false(peers_is_alive(w.node[0].p, b.life[0].who));
    world_fini(&w);
}

static void
a_life_that_was_forgotten_must_ask(void **state)
{
    struct life sleeper;
    struct peers_view v[64];
    unsigned n, n_taken = 0;

    begin(3);
    sleeper = w.node[0].life;
    node_freeze(&w.node[0], true);
    world_for(&w, 300 * MC_MS);
    assert_true(w.n_gives > 0);
    /* so many lives come and go, each losing flows, that the sleeper is forgotten */
    for (unsigned k = 0; k < 40; k++) {
        struct wire_beat b = {.n = 1, .life = {{.who = {id_of(1 + k % 2), 1000 + k}, .seq = 1}}};

        for (unsigned i = 1; i < 3; i++) {
            b.life[0].who.id = id_of(3 - i);
            peers_hear(w.node[i].p, &b, w.mesh.now);
            peers_gave(w.node[i].p, b.life[0].who, w.mesh.now);
        }
        world_for(&w, 100 * MC_MS);
    }
    w.split = true; /* what those lost they are not there to be told */
    n = peers_view(w.node[1].p, v, 64);
    for (unsigned i = 0; i < n; i++)
        assert_false(life_eq(v[i].who, sleeper));
    node_freeze(&w.node[0], false);
    world_for(&w, 15 * MC_MS);
    n = peers_view(w.node[1].p, v, 64);
    for (unsigned i = 0; i < n; i++)
        n_taken += life_eq(v[i].who, sleeper) && (v[i].taken || v[i].alive);
    assert_int_equal(n_taken, 1);
    world_for(&w, 300 * MC_MS);
    assert_true(peers_stats(w.node[0].p)->resyncs > 0);
    world_fini(&w);
}

/* --- random faults ------------------------------------------------------------------------------
 */

static unsigned
below(unsigned n)
{
    return rng_below(&w.mesh.rng, n);
}

/* Something happens to a node; never to the first one in worlds that are never split, which hears
 * and is heard by all. */
static void
trouble(unsigned first)
{
    unsigned i = first + below(w.n - first), k = first + below(w.n - first);
    struct node *n = &w.node[i];

    switch (below(8)) {
    case 0:
        node_kill(n);
        w.n_restarts++;
        break;
    case 1:
    case 2:
        if (!n->p)
            node_start(n);
        break;
    case 3: node_freeze(n, true); break;
    case 4: node_freeze(n, false); break;
    case 5:
        if (i != k)
            w.cut[i][k] = true;
        break;
    case 6: w.cut[i][k] = false; break;
    case 7: /* who is slow sends so few beats that two that are lost are a cut */
        n->slow_ns = w.mesh.loss > 0 ? 0 : below(3) * 20 * MC_MS;
        break;
    }
}

static void
heal(void)
{
    memset(w.cut, 0, sizeof(w.cut));
    w.mesh.loss = 0;
    for (unsigned i = 0; i < w.n; i++) {
        w.node[i].slow_ns = 0;
        w.node[i].sees_witness = true;
        node_freeze(&w.node[i], false);
    }
    world_start(&w);
}

static void
assert_heals(uint64_t seed)
{
    mc_ns until = w.mesh.now + 5 * MC_SEC;

    heal();
    while (!world_is_well(&w) && w.mesh.now < until)
        world_for(&w, 10 * MC_MS);
    if (!world_is_well(&w))
        world_print(&w);
    mesh_require(seed, world_is_well(&w));
}

static void
no_flow_has_two_who_speak_for_it(void **state)
{
    unsigned n = mesh_schedules(400), n_gives = 0, n_resyncs = 0;

    for (unsigned k = 0; k < n; k++) {
        uint64_t s = mesh_seed(k);

        world_init(&w, 3 + s % 4, s);
        w.replicas = 1 + s / 4 % 2;
        world_start(&w);
        w.mesh.loss = s % 3 == 0 ? 0.005 : 0;
        world_for(&w, 300 * MC_MS);
        for (unsigned j = 0; j < 30; j++) {
            trouble(1);
            world_for(&w, (mc_ns)below(150) * MC_MS);
        }
        assert_heals(w.seed);
        n_gives += w.n_gives;
        n_resyncs += w.n_resyncs;
        world_fini(&w);
    }
    assert_true(n < 20 || (n_gives > n && n_resyncs > n / 4));
}

static void
whatever_happens_it_heals(void **state)
{
    unsigned n = mesh_schedules(300);

    for (unsigned k = 0; k < n; k++) {
        uint64_t s = mesh_seed(k);

        world_init(&w, 2 + s % 5, s);
        w.replicas = 1 + s / 5 % 2;
        w.split = true;
        for (unsigned i = 0; i < w.n; i++)
            w.node[i].has_witness = s % 3 != 0;
        world_start(&w);
        world_for(&w, 300 * MC_MS);
        for (unsigned j = 0; j < 30; j++) {
            if (below(6) == 0)
                world_isolate(&w, below(w.n), true);
            if (below(6) == 0)
                w.node[below(w.n)].sees_witness = false;
            if (below(10) == 0)
                heal();
            trouble(0);
            world_for(&w, (mc_ns)below(200) * MC_MS);
        }
        assert_heals(w.seed);
        world_fini(&w);
    }
}

static void
who_hears_neither_peer_nor_witness_is_silent(void **state)
{
    unsigned n = mesh_schedules(200);

    for (unsigned k = 0; k < n; k++) {
        uint64_t s = mesh_seed(k);
        unsigned i;

        world_init(&w, 2 + s % 4, s);
        world_start(&w);
        world_for(&w, 300 * MC_MS + (mc_ns)below(100) * MC_MS);
        i = below(w.n);
        world_isolate(&w, i, true);
        w.node[i].sees_witness = false;
        world_for(&w, 450 * MC_MS); /* an answer of the witness counts for 300 ms */
        mesh_require(w.seed, !speaks(i));
        mesh_require(w.seed, !w.node[i].fit);
        for (unsigned j = 0; j < w.n; j++)
            mesh_require(w.seed, j == i || speaks(j));
        world_isolate(&w, i, false);
        assert_heals(w.seed);
        world_fini(&w);
    }
}

static void
deaths_of_some_cost_the_others_no_lease(void **state)
{
    unsigned n = mesh_schedules(200);

    for (unsigned k = 0; k < n; k++) {
        uint64_t s = mesh_seed(k);

        world_init(&w, 3 + s % 4, s);
        w.replicas = 1 + s / 4 % 2;
        world_start(&w);
        world_for(&w, 300 * MC_MS);
        for (unsigned j = 0; j < 10; j++) {
            struct node *node = &w.node[1 + below(w.n - 1)];

            if (node->p)
                node_kill(node);
            else
                node_start(node);
            world_for(&w, (mc_ns)(50 + below(300)) * MC_MS);
        }
        mesh_require(w.seed, lapses(0) == 0);
        mesh_require(w.seed, peers_stats(w.node[0].p)->voids == 0);
        world_fini(&w);
    }
}

/* All choose the same, and who is not among them chooses nobody: it would fall silent, waiting for
 * the word of peers that do not know it. */
static void
more_than_there_is_room_for_choose_the_same(void **state)
{
    enum { N = PEERS_MEMBERS_MAX + 5 };
    uint64_t others[N];

    for (uint64_t self = 1; self <= N; self++) {
        unsigned n = 0, chosen;

        for (uint64_t id = N; id > 0; id--)
            if (id != self)
                others[n++] = 10 * id;
        chosen = peers_choose(10 * self, others, n);
        assert_int_equal(chosen, self <= PEERS_MEMBERS_MAX + 1 ? PEERS_MEMBERS_MAX : 0);
        for (unsigned i = 0; i < chosen; i++)
            assert_true(others[i] <= 10 * (PEERS_MEMBERS_MAX + 1));
        assert_int_equal(peers_choose(10 * self, others, PEERS_MEMBERS_MAX), PEERS_MEMBERS_MAX);
    }
    assert_int_equal(peers_choose(1, NULL, 0), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(more_than_there_is_room_for_choose_the_same),
        cmocka_unit_test(everybody_finds_a_holder_and_speaks),
        cmocka_unit_test(who_is_alone_from_the_start_speaks),
        cmocka_unit_test(an_owner_chooses_the_same_holder_again),
        cmocka_unit_test(the_death_of_a_holder_costs_its_owners_nothing),
        cmocka_unit_test(of_two_holders_that_live_one_is_the_first),
        cmocka_unit_test(the_last_one_goes_on_when_its_witness_answers),
        cmocka_unit_test(a_dead_owners_flows_may_be_given_after_80_ms),
        cmocka_unit_test(who_comes_back_is_another_life),
        cmocka_unit_test(who_slept_asks_what_was_taken_before_it_speaks),
        cmocka_unit_test(who_slept_while_its_taker_died_takes_all_for_taken),
        cmocka_unit_test(who_overslept_finds_nobody_dead_for_that),
        cmocka_unit_test(who_is_cut_off_with_its_witness_falls_silent),
        cmocka_unit_test(who_is_not_heard_falls_silent),
        cmocka_unit_test(who_hears_nobody_has_no_heir_any_more),
        cmocka_unit_test(who_hears_nobody_harms_nobody_else),
        cmocka_unit_test(two_that_do_not_hear_each_other_choose_others),
        cmocka_unit_test(a_network_cut_in_two_goes_on_on_both_sides),
        cmocka_unit_test(a_holder_that_leaves_is_replaced_before_it_goes),
        cmocka_unit_test(a_boot_that_succeeds_another_is_the_same_balancer),
        cmocka_unit_test(who_passes_and_is_not_succeeded_is_dead_after_all),
        cmocka_unit_test(who_dies_while_it_parts_is_dead_at_once),
        cmocka_unit_test(who_stays_after_all_is_a_holder_again),
        cmocka_unit_test(who_is_no_member_is_not_heard),
        cmocka_unit_test(a_life_that_was_forgotten_must_ask),
        cmocka_unit_test(no_flow_has_two_who_speak_for_it),
        cmocka_unit_test(whatever_happens_it_heals),
        cmocka_unit_test(who_hears_neither_peer_nor_witness_is_silent),
        cmocka_unit_test(deaths_of_some_cost_the_others_no_lease),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
