/* SPDX-License-Identifier: BSD-2-Clause
 *
 * vip_assign_test.c - who carries an address, over a network that delays, loses and is cut, with
 * members that die, sleep, come back and are more or less fit.
 */
#include "cluster/vip_assign.h"

#include "cluster/mesh.h"

#define KEY    77
#define RETURN (5 * MC_SEC)
/* What was told is told again: facts mend losses in about that time. */
#define AGAIN  (150 * MC_MS)
/* The keeper takes the address of a process that does not run. */
#define STALL  (200 * MC_MS)

struct node {
    struct world *w;
    unsigned at;
    struct vip_assign *v;
    mc_ns due, frozen_at; /* 0: it runs */
    bool carries;
    uint32_t version;
    uint8_t claim, rank;
    uint32_t heard[MESH_MAX]; /* version of each */
    mc_ns see_at[MESH_MAX];   /* when it will have noticed what is so of each */
    bool sees[MESH_MAX];
    mc_ns up_at;
};

struct world {
    struct mesh mesh;
    struct node node[MESH_MAX];
    uint64_t seed;
    mc_ns again_at;
    unsigned most_carriers;
    mc_ns longest_none, none_since;
};

struct word {
    uint32_t version;
    uint8_t claim, rank;
};

static uint64_t
id_of(unsigned at)
{
    return 1000 + 7 * at;
}

static void
send_word(struct node *n)
{
    struct word word = {n->version, n->claim, n->rank};

    for (unsigned i = 0; i < n->w->mesh.n && n->version > 0; i++)
        if (i != n->at)
            mesh_send(&n->w->mesh, n->at, i, &word, sizeof(word));
}

static void
tick(struct node *n)
{
    uint8_t claim, rank;

    n->due = vip_assign_tick(n->v, n->w->mesh.now);
    claim = (uint8_t)vip_assign_claim(n->v);
    rank = (uint8_t)vip_assign_rank(n->v);
    n->carries = claim == VIP_HOLD;
    if (claim == n->claim && rank == n->rank && n->version > 0)
        return;
    n->claim = claim;
    n->rank = rank;
    n->version++;
    send_word(n);
}

static bool
runs(const struct node *n)
{
    return !n->w->mesh.down[n->at] && n->frozen_at == 0;
}

static bool
is_there(const struct node *a, const struct node *b)
{
    return runs(b) && a->w->mesh.side[a->at] == a->w->mesh.side[b->at];
}

static void
set_members(struct node *n)
{
    uint64_t ids[MESH_MAX];
    unsigned k = 0;

    for (unsigned i = 0; i < n->w->mesh.n; i++)
        if (i != n->at && n->sees[i])
            ids[k++] = id_of(i);
    vip_assign_members(n->v, ids, k, n->w->mesh.now);
    for (unsigned i = 0; i < n->w->mesh.n; i++)
        if (!n->sees[i])
            n->heard[i] = 0; /* it is heard anew when it is back */
    send_word(n);
}

/* Whoever is not seen rightly is noticed after a while, on each by itself. */
static void
look(struct node *n)
{
    mc_ns now = n->w->mesh.now;
    bool changed = false;

    for (unsigned i = 0; i < n->w->mesh.n; i++) {
        bool there = is_there(n, &n->w->node[i]);

        if (i == n->at || there == n->sees[i]) {
            n->see_at[i] = 0;
            continue;
        }
        if (n->see_at[i] == 0)
            n->see_at[i] = now + (there ? 300 : 1000) * MC_MS +
                           (mc_ns)(rng_unit(&n->w->mesh.rng) * (double)MC_SEC);
        if (now < n->see_at[i])
            continue;
        n->sees[i] = there;
        changed = true;
    }
    if (changed)
        set_members(n);
}

static void
start(struct node *n)
{
    struct vip_assign_conf conf = {.id = id_of(n->at), .key = KEY, .return_after_ns = RETURN};
    uint32_t version = n->version;

    if (n->v != NULL)
        vip_assign_free(&n->v);
    *n = (struct node){.w = n->w, .at = n->at, .version = version, .up_at = n->w->mesh.now};
    n->v = vip_assign_new(&conf, n->w->mesh.now);
    vip_assign_set_level(n->v, VIP_RANK_FIT, n->w->mesh.now);
    n->w->mesh.down[n->at] = false;
}

static void
world_init(struct world *w, unsigned n, uint64_t seed)
{
    memset(w, 0, sizeof(*w));
    mesh_init(&w->mesh, n, seed);
    w->mesh.delay_ns = 1 * MC_MS;
    w->mesh.spread_ns = 20 * MC_MS; /* batches of facts, and the way */
    w->seed = seed;
    for (unsigned i = 0; i < n; i++) {
        w->node[i].w = w;
        w->node[i].at = i;
        start(&w->node[i]);
    }
}

static void
world_fini(struct world *w)
{
    for (unsigned i = 0; i < w->mesh.n; i++)
        vip_assign_free(&w->node[i].v);
    mesh_fini(&w->mesh);
}

static void
hear(struct node *n, const struct mesh_mail *m)
{
    struct word word;

    memcpy(&word, m->bytes, sizeof(word));
    if (!n->sees[m->from] || word.version <= n->heard[m->from])
        return;
    n->heard[m->from] = word.version;
    vip_assign_hear(n->v, id_of(m->from), word.claim, word.rank);
    tick(n);
}

/* Of those on a side that run; frozen ones carry it until the keeper takes it. */
static unsigned
carriers(const struct world *w, unsigned side)
{
    unsigned n = 0;

    for (unsigned i = 0; i < w->mesh.n; i++)
        n += w->mesh.side[i] == side && !w->mesh.down[i] && w->node[i].carries;
    return n;
}

static void
note(struct world *w)
{
    unsigned n = carriers(w, 0);

    w->most_carriers = n > w->most_carriers ? n : w->most_carriers;
    if (n > 0)
        w->none_since = 0;
    else if (w->none_since == 0)
        w->none_since = w->mesh.now;
    else if (w->mesh.now - w->none_since > w->longest_none)
        w->longest_none = w->mesh.now - w->none_since;
}

static void
step(struct world *w)
{
    struct mesh_mail m;

    w->mesh.now += MC_MS;
    while (mesh_take(&w->mesh, &m)) {
        if (runs(&w->node[m.to]))
            hear(&w->node[m.to], &m);
        free(m.bytes);
    }
    for (unsigned i = 0; i < w->mesh.n; i++) {
        struct node *n = &w->node[i];

        if (n->frozen_at != 0 && w->mesh.now - n->frozen_at >= STALL)
            n->carries = false;
        if (!runs(n))
            continue;
        look(n);
        tick(n);
        if (w->mesh.now >= w->again_at)
            send_word(n);
    }
    if (w->mesh.now >= w->again_at)
        w->again_at = w->mesh.now + AGAIN;
    note(w);
}

static void
run(struct world *w, mc_ns ns)
{
    for (mc_ns end = w->mesh.now + ns; w->mesh.now < end;)
        step(w);
}

static unsigned
the_carrier(const struct world *w)
{
    unsigned at = MESH_MAX;

    for (unsigned i = 0; i < w->mesh.n; i++)
        if (!w->mesh.down[i] && w->node[i].carries) {
            mesh_require(w->seed, at == MESH_MAX);
            at = i;
        }
    mesh_require(w->seed, at < MESH_MAX);
    return at;
}

/* --- one at a time --- */

/* They have agreed; returns who carries it. */
static unsigned
settled(struct world *w, unsigned n, uint64_t seed)
{
    world_init(w, n, seed);
    run(w, 12 * MC_SEC);
    return the_carrier(w);
}

static void
one_of_several_carries_it(void **state)
{
    struct world w;

    for (unsigned n = 1; n <= 5; n++) {
        world_init(&w, n, n);
        run(&w, 12 * MC_SEC);
        the_carrier(&w);
        assert_int_equal(w.most_carriers, 1);
        world_fini(&w);
    }
}

static void
another_takes_it_when_its_carrier_dies_and_it_comes_back_late(void **state)
{
    struct world w;
    unsigned first = settled(&w, 3, 1);
    mc_ns back;

    w.mesh.down[first] = true;
    w.longest_none = 0;
    run(&w, 4 * MC_SEC);
    assert_true(the_carrier(&w) != first);
    assert_true(w.longest_none < 2100 * MC_MS);
    start(&w.node[first]);
    back = w.mesh.now;
    while (!w.node[first].carries) {
        step(&w);
        assert_true(w.mesh.now - back < 20 * MC_SEC);
    }
    assert_true(w.mesh.now - back >= RETURN);
    assert_int_equal(w.most_carriers, 1);
    world_fini(&w);
}

static void
a_faster_voice_is_believed(void **state)
{
    struct world w;
    unsigned first = settled(&w, 3, 1);

    w.mesh.down[first] = true;
    run(&w, 80 * MC_MS);
    for (unsigned i = 0; i < 3; i++)
        if (i != first)
            vip_assign_lost(w.node[i].v, id_of(first), true);
    run(&w, 100 * MC_MS);
    assert_true(the_carrier(&w) != first);
    world_fini(&w);
}

static void
say_lost(struct world *w, unsigned who)
{
    for (unsigned i = 0; i < w->mesh.n; i++)
        if (i != who)
            vip_assign_lost(w->node[i].v, id_of(who), true);
}

/* It began anew without that voice, which so never says that it lives: whether it was said to be
 * dead before the membership knew, or after. */
static void
what_a_faster_voice_said_ends_with_a_life(void **state)
{
    for (unsigned after = 0; after < 2; after++) {
        struct world w;
        unsigned first = settled(&w, 3, 1);

        w.mesh.down[first] = true;
        if (!after)
            say_lost(&w, first);
        run(&w, 4 * MC_SEC);
        if (after)
            say_lost(&w, first);
        run(&w, 4 * MC_SEC);
        assert_true(the_carrier(&w) != first);
        start(&w.node[first]);
        run(&w, 12 * MC_SEC);
        assert_int_equal(the_carrier(&w), first);
        world_fini(&w);
    }
}

static void
who_is_less_fit_hands_it_over(void **state)
{
    static const enum vip_rank levels[] = {VIP_RANK_POOR, VIP_RANK_LEAVING};
    struct world w;

    for (size_t i = 0; i < MC_COUNT(levels); i++) {
        unsigned first = settled(&w, 3, i + 1);

        w.longest_none = 0;
        vip_assign_set_level(w.node[first].v, levels[i], w.mesh.now);
        run(&w, 300 * MC_MS);
        assert_true(the_carrier(&w) != first);
        assert_int_equal(w.most_carriers, 1);
        assert_true(w.longest_none < 100 * MC_MS);
        world_fini(&w);
    }
}

/* Nobody takes what is carried still, nor lets go of what nobody wants yet. */
static void
a_slow_network_makes_no_second_carrier(void **state)
{
    struct world w;
    unsigned first = settled(&w, 2, 1);

    w.mesh.delay_ns = 300 * MC_MS;
    w.mesh.spread_ns = 0;
    run(&w, MC_SEC);
    w.longest_none = 0;
    vip_assign_set_level(w.node[first].v, VIP_RANK_POOR, w.mesh.now);
    run(&w, 2 * MC_SEC);
    assert_true(the_carrier(&w) != first);
    assert_int_equal(w.most_carriers, 1);
    assert_in_range(w.longest_none, 250 * MC_MS, 320 * MC_MS); /* a way */
    world_fini(&w);
}

static void
when_nobody_is_fit_somebody_carries_it(void **state)
{
    struct world w;

    world_init(&w, 3, 1);
    run(&w, 12 * MC_SEC);
    for (unsigned i = 0; i < 3; i++)
        vip_assign_set_level(w.node[i].v, VIP_RANK_POOR, w.mesh.now);
    run(&w, 2 * MC_SEC);
    the_carrier(&w);
    vip_assign_set_level(w.node[the_carrier(&w)].v, VIP_RANK_NEVER, w.mesh.now);
    run(&w, 2 * MC_SEC);
    the_carrier(&w);
    for (unsigned i = 0; i < 3; i++)
        vip_assign_set_level(w.node[i].v, VIP_RANK_NEVER, w.mesh.now);
    run(&w, 2 * MC_SEC);
    assert_int_equal(carriers(&w, 0), 0);
    world_fini(&w);
}

/* The membership is cut in two, the network of the address is not: each side hears the other
 * announce it. */
static void
of_two_that_do_not_see_each_other_one_yields(void **state)
{
    struct world w;
    unsigned a = MESH_MAX, b = MESH_MAX;

    world_init(&w, 2, 1);
    run(&w, 12 * MC_SEC);
    w.mesh.side[1] = 1;
    run(&w, 4 * MC_SEC);
    assert_true(w.node[0].carries && w.node[1].carries);
    for (unsigned i = 0; i < 10; i++) { /* a second each, as announcements come */
        for (unsigned k = 0; k < 2; k++)
            if (w.node[1 - k].carries && w.node[k].carries)
                vip_assign_conflict(w.node[k].v, id_of(1 - k), w.mesh.now);
        run(&w, 10 * MC_MS);
        if (w.node[0].carries != w.node[1].carries) {
            a = w.node[0].carries ? 0 : 1;
            b = 1 - a;
        }
        for (unsigned t = 0; t < 99; t++) {
            run(&w, 10 * MC_MS);
            if (a < MESH_MAX && w.node[a].carries) /* it goes on announcing */
                vip_assign_conflict(w.node[b].v, id_of(a), w.mesh.now);
        }
        assert_true(a < MESH_MAX && w.node[a].carries && !w.node[b].carries);
    }
    world_fini(&w);
}

/* The membership is cut in all parts, the network of the address is not: who carries it answers
 * whoever wants it, until it dies. */
static void
who_answers_keeps_it(void **state)
{
    struct world w;
    unsigned first = settled(&w, 3, 1);

    for (unsigned i = 0; i < 3; i++) {
        w.mesh.side[i] = (uint8_t)i;
        say_lost(&w, i);
    }
    for (unsigned t = 0; t < 500; t++) {
        for (unsigned i = 0; i < 3; i++)
            if (vip_assign_claim(w.node[i].v) == VIP_WANT)
                vip_assign_answered(w.node[i].v, id_of(first), w.mesh.now);
        run(&w, 20 * MC_MS);
        for (unsigned i = 0; i < 3; i++)
            assert_int_equal(w.node[i].carries, i == first);
    }
    w.mesh.down[first] = true;
    w.node[first].carries = false;
    run(&w, VIP_ASSIGN_ASK_NS + 10 * MC_MS);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(w.node[i].carries, i != first);
    world_fini(&w);
}

/* Those who see each other need no answers: what lingers at the one before is no claim. */
static void
who_is_seen_may_answer(void **state)
{
    struct world w;
    unsigned first = settled(&w, 3, 1);

    vip_assign_set_level(w.node[first].v, VIP_RANK_LEAVING, w.mesh.now);
    for (unsigned t = 0; t < 30; t++) {
        for (unsigned i = 0; i < 3; i++)
            vip_assign_answered(w.node[i].v, id_of(first), w.mesh.now);
        run(&w, 10 * MC_MS);
    }
    assert_true(the_carrier(&w) != first);
    world_fini(&w);
}

/* An upgrade: another process of the same member. */
static void
an_heir_goes_on_where_it_was(void **state)
{
    struct world w;
    unsigned first = settled(&w, 3, 1);

    w.longest_none = 0;
    start(&w.node[first]);
    vip_assign_inherit(w.node[first].v, w.mesh.now);
    for (unsigned i = 0; i < 3; i++)
        w.node[first].sees[i] = i != first;
    set_members(&w.node[first]);
    run(&w, 10 * MC_SEC);
    assert_int_equal(the_carrier(&w), first);
    assert_int_equal(w.most_carriers, 1);
    assert_int_equal(w.longest_none, 0);
    world_fini(&w);
}

static void
who_is_seen_may_announce_it(void **state)
{
    struct world w;
    unsigned first = settled(&w, 3, 1);

    for (unsigned i = 0; i < 3; i++)
        if (i != first)
            vip_assign_conflict(w.node[i].v, id_of(first), w.mesh.now);
    run(&w, 10 * MC_MS);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(vip_assign_rank(w.node[i].v), VIP_RANK_FIT);
    world_fini(&w);
}

static void
nonsense_is_taken_for_nothing(void **state)
{
    struct vip_assign_conf conf = {.id = 1, .key = KEY, .return_after_ns = RETURN};
    struct vip_assign *v = vip_assign_new(&conf, MC_SEC);
    uint64_t ids[300];

    for (unsigned i = 0; i < MC_COUNT(ids); i++)
        ids[i] = 2 + i;
    vip_assign_members(v, ids, MC_COUNT(ids), MC_SEC); /* more than it can know */
    vip_assign_hear(v, 2, 200, VIP_RANK_FIT);
    vip_assign_hear(v, 3, VIP_HOLD, 99);
    vip_assign_hear(v, 400, VIP_HOLD, VIP_RANK_FIT); /* of whom nothing else is known */
    vip_assign_set_level(v, VIP_RANK_FIT, MC_SEC);
    vip_assign_tick(v, 10 * MC_SEC);
    vip_assign_tick(v, 11 * MC_SEC);
    assert_int_equal(vip_assign_claim(v), VIP_HOLD);
    vip_assign_free(&v);
}

/* --- at random --- */

/* Nobody dies and nothing is lost: at no moment do two carry it. */
static void
changes_of_fitness_never_make_two_carriers(void **state)
{
    static const enum vip_rank levels[] = {VIP_RANK_POOR, VIP_RANK_LEAVING, VIP_RANK_FIT,
                                           VIP_RANK_FIT};

    for (unsigned s = 0; s < mesh_schedules(60); s++) {
        struct world w;

        world_init(&w, 2 + s % 4, mesh_seed(s));
        run(&w, 8 * MC_SEC);
        for (unsigned i = 0; i < 30; i++) {
            unsigned who = rng_below(&w.mesh.rng, w.mesh.n);

            vip_assign_set_level(w.node[who].v, levels[rng_below(&w.mesh.rng, 4)], w.mesh.now);
            run(&w, (mc_ns)rng_below(&w.mesh.rng, 2000) * MC_MS);
            mesh_require(w.seed, w.most_carriers == 1);
        }
        for (unsigned i = 0; i < w.mesh.n; i++)
            vip_assign_set_level(w.node[i].v, VIP_RANK_FIT, w.mesh.now);
        run(&w, 2 * RETURN);
        the_carrier(&w);
        mesh_require(w.seed, w.longest_none < 4 * MC_SEC); /* but at the start */
        world_fini(&w);
    }
}

static void
disturb(struct world *w)
{
    unsigned who = rng_below(&w->mesh.rng, w->mesh.n);
    struct node *n = &w->node[who];

    switch (rng_below(&w->mesh.rng, 5)) {
    case 0:
        w->mesh.down[who] = true;
        n->carries = false; /* the keeper */
        break;
    case 1:
        if (w->mesh.down[who])
            start(n);
        break;
    case 2: w->mesh.side[who] ^= 1; break;
    case 3:
        if (runs(n))
            n->frozen_at = w->mesh.now;
        break;
    case 4:
        if (runs(n))
            vip_assign_set_level(n->v, rng_below(&w->mesh.rng, 2) ? VIP_RANK_FIT : VIP_RANK_POOR,
                                 w->mesh.now);
        break;
    }
}

/* What a process does that finds that it slept: short sleeps it does not notice. */
static void
thaw(struct node *n)
{
    mc_ns slept_ns = n->w->mesh.now - n->frozen_at;

    if (n->frozen_at == 0)
        return;
    n->frozen_at = 0;
    if (slept_ns >= STALL)
        vip_assign_slept(n->v, n->w->mesh.now);
}

static void
whatever_happens_one_carries_it_in_the_end(void **state)
{
    for (unsigned s = 0; s < mesh_schedules(60); s++) {
        struct world w;

        world_init(&w, 2 + s % 5, mesh_seed(s));
        w.mesh.loss = 0.05 * (s % 3);
        run(&w, 5 * MC_SEC);
        for (unsigned i = 0; i < 20; i++) {
            disturb(&w);
            run(&w, (mc_ns)rng_below(&w.mesh.rng, 1500) * MC_MS);
            if (rng_below(&w.mesh.rng, 2))
                thaw(&w.node[rng_below(&w.mesh.rng, w.mesh.n)]);
        }
        for (unsigned i = 0; i < w.mesh.n; i++) {
            w.mesh.side[i] = 0;
            thaw(&w.node[i]);
            if (w.mesh.down[i])
                start(&w.node[i]);
        }
        run(&w, 5 * MC_SEC + RETURN);
        for (unsigned i = 0; i < 100; i++) {
            run(&w, 10 * MC_MS);
            the_carrier(&w);
        }
        world_fini(&w);
    }
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_of_several_carries_it),
        cmocka_unit_test(another_takes_it_when_its_carrier_dies_and_it_comes_back_late),
        cmocka_unit_test(a_faster_voice_is_believed),
        cmocka_unit_test(what_a_faster_voice_said_ends_with_a_life),
        cmocka_unit_test(who_is_less_fit_hands_it_over),
        cmocka_unit_test(a_slow_network_makes_no_second_carrier),
        cmocka_unit_test(when_nobody_is_fit_somebody_carries_it),
        cmocka_unit_test(of_two_that_do_not_see_each_other_one_yields),
        cmocka_unit_test(who_answers_keeps_it),
        cmocka_unit_test(who_is_seen_may_answer),
        cmocka_unit_test(an_heir_goes_on_where_it_was),
        cmocka_unit_test(who_is_seen_may_announce_it),
        cmocka_unit_test(nonsense_is_taken_for_nothing),
        cmocka_unit_test(changes_of_fitness_never_make_two_carriers),
        cmocka_unit_test(whatever_happens_one_carries_it_in_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
