/* SPDX-License-Identifier: BSD-2-Clause
 *
 * caps_test.c - shares of a limit over a bad network: what they sum to, at any moment.
 */
#include "cluster/caps.h"

#include <math.h>

#include "cluster/mesh.h"

#define KEY   77
/* What was told is told again: facts mend losses in about that time. */
#define AGAIN (150 * MC_MS)
#define HOLD  (2 * MC_SEC)
#define LONE  (6 * MC_SEC)

struct node {
    struct world *w;
    unsigned at, starts;
    struct caps *c;
    mc_ns due;
    uint8_t word[CAPS_WORD_MAX]; /* told last */
    size_t n;
    double demand;
};

struct world {
    struct mesh mesh;
    struct node node[MESH_MAX];
    uint64_t seed;
    uint32_t units;
    mc_ns again_at;
    uint64_t bound; /* what the shares may sum to now */
    uint64_t worst; /* greatest sum */
};

static void
send_word(struct node *n)
{
    for (unsigned i = 0; i < n->w->mesh.n && n->n > 0; i++)
        if (i != n->at)
            mesh_send(&n->w->mesh, n->at, i, n->word, n->n);
}

static void
tell(void *arg, uint64_t key, const void *bytes, size_t n)
{
    struct node *node = arg;

    assert_int_equal(key, KEY);
    memcpy(node->word, bytes, n);
    node->n = n;
    send_word(node);
}

static void
start(struct world *w, unsigned at)
{
    struct node *n = &w->node[at];
    struct caps_conf conf = {.id = mesh_id(at),
                             .boot_ms = 100 + ++n->starts,
                             .hold_ns = HOLD,
                             .lone_ns = LONE,
                             .tell = tell,
                             .arg = n};

    n->w = w;
    n->at = at;
    n->n = 0;
    n->c = caps_new(&conf, w->mesh.now);
    assert_int_equal(caps_set_limit(n->c, KEY, w->units, w->mesh.now), 0);
    n->due = w->mesh.now;
}

static void
tell_members(struct world *w, unsigned at)
{
    uint64_t ids[MESH_MAX];
    unsigned n = mesh_others(&w->mesh, at, ids);

    caps_set_members(w->node[at].c, ids, n, w->mesh.now);
}

static void
tell_all_members(struct world *w)
{
    for (unsigned i = 0; i < w->mesh.n; i++)
        if (!w->mesh.down[i])
            tell_members(w, i);
}

static void
world_init(struct world *w, unsigned n, uint32_t units, uint64_t seed)
{
    *w = (struct world){.seed = seed, .units = units};
    mesh_init(&w->mesh, n, seed);
    for (unsigned i = 0; i < n; i++)
        start(w, i);
    tell_all_members(w);
    w->bound = units > n ? units : n;
}

static void
world_fini(struct world *w)
{
    for (unsigned i = 0; i < w->mesh.n; i++)
        caps_free(&w->node[i].c);
    mesh_fini(&w->mesh);
}

static uint64_t
sum_of(const struct world *w)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < w->mesh.n; i++)
        if (!w->mesh.down[i])
            sum += caps_share(w->node[i].c, 0);
    return sum;
}

static void
check_sum(struct world *w)
{
    uint64_t sum = sum_of(w);

    w->worst = sum > w->worst ? sum : w->worst;
    mesh_require(w->seed, sum <= w->bound);
    for (unsigned i = 0; i < w->mesh.n; i++)
        mesh_require(w->seed, caps_share(w->node[i].c, 0) >= 1);
}

static void
work(struct world *w)
{
    struct mesh_mail mail;

    while (mesh_take(&w->mesh, &mail)) {
        caps_hear(w->node[mail.to].c, mesh_id(mail.from), mail.bytes, mail.n, w->mesh.now);
        free(mail.bytes);
        check_sum(w);
    }
    for (unsigned i = 0; i < w->mesh.n; i++) {
        struct node *n = &w->node[i];

        if (w->mesh.down[i] || n->due > w->mesh.now)
            continue;
        caps_demand(n->c, 0, n->demand, w->mesh.now);
        n->due = caps_tick(n->c, w->mesh.now);
        check_sum(w);
    }
    if (w->mesh.now < w->again_at)
        return;
    for (unsigned i = 0; i < w->mesh.n; i++)
        if (!w->mesh.down[i])
            send_word(&w->node[i]);
    w->again_at = w->mesh.now + AGAIN;
}

static void
run_until(struct world *w, mc_ns end)
{
    for (; w->mesh.now < end; w->mesh.now += 5 * MC_MS)
        work(w);
}

/* --- the division -------------------------------------------------------------------------------
 */

static void
shares_follow_demand_above_a_floor_and_sum_to_the_limit(void **state)
{
    static const struct {
        uint32_t units;
        unsigned n;
        uint64_t demand[4];
        uint32_t share[4];
    } t[] = {
        {100, 2, {1, 1}, {50, 50}},
        {100, 4, {0, 0, 0, 0}, {25, 25, 25, 25}},
        {100, 4, {0, 0, 0, 9}, {2, 2, 2, 94}}, /* 1/10 of an even share */
        {100, 3, {1, 2, 3}, {3 + 15, 3 + 30, 3 + 46}},
        {10, 3, {1, 1, 1}, {4, 3, 3}}, /* ties go to the first */
        {4, 4, {0, 0, 0, 9}, {1, 1, 1, 1}},
        {2, 4, {9, 0, 0, 0}, {1, 1, 1, 1}}, /* nobody stands still */
        {1, 1, {0}, {1}},
        {CAPS_UNITS_MAX, 2, {UINT64_MAX / 4, 0}, {CAPS_UNITS_MAX - 50000000, 50000000}},
    };

    (void)state;
    for (unsigned i = 0; i < MC_COUNT(t); i++) {
        uint32_t share[4];

        caps_divide(t[i].units, t[i].n, t[i].demand, share);
        for (unsigned k = 0; k < t[i].n; k++)
            assert_int_equal(share[k], t[i].share[k]);
    }
}

static void
any_division_sums_to_the_limit(void **state)
{
    struct rng r;

    (void)state;
    rng_seed(&r, 1);
    for (unsigned i = 0; i < 20000; i++) {
        unsigned n = 1 + rng_below(&r, CAPS_MEMBERS_MAX);
        uint32_t units = 1 + (uint32_t)(rng_next(&r) >> (34 + rng_below(&r, 28))) % CAPS_UNITS_MAX;
        uint64_t demand[CAPS_MEMBERS_MAX], sum = 0;
        uint32_t share[CAPS_MEMBERS_MAX];

        for (unsigned k = 0; k < n; k++)
            demand[k] = rng_below(&r, 3) ? rng_next(&r) >> (24 + rng_below(&r, 39)) : 0;
        caps_divide(units, n, demand, share);
        for (unsigned k = 0; k < n; k++) {
            sum += share[k];
            assert_true(share[k] >= 1);
        }
        assert_true(sum == (units > n ? units : n));
    }
}

/* --- members ------------------------------------------------------------------------------------
 */

static void
one_alone_has_all_once_it_knows_that_it_is_alone(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, 1, 100, 1);
    assert_int_equal(caps_share(w.node[0].c, 0), 100);
    caps_free(&w.node[0].c);
    start(&w, 0);
    run_until(&w, w.mesh.now + MC_SEC);
    assert_int_equal(caps_share(w.node[0].c, 0), 1);
    caps_set_members(w.node[0].c, NULL, 0, w.mesh.now);
    assert_int_equal(caps_share(w.node[0].c, 0), 100);
    world_fini(&w);
}

static void
a_share_moves_to_where_the_demand_is(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, 4, 100, 1);
    for (unsigned i = 0; i < 4; i++)
        w.node[i].demand = 25;
    run_until(&w, w.mesh.now + 5 * MC_SEC);
    assert_int_equal(caps_share(w.node[0].c, 0), 25);
    for (unsigned i = 1; i < 4; i++)
        w.node[i].demand = 0;
    run_until(&w, w.mesh.now + 20 * MC_SEC);
    assert_true(caps_share(w.node[0].c, 0) >= 93);
    assert_int_equal(caps_share(w.node[1].c, 0), 2);
    assert_int_equal(sum_of(&w), 100);
    world_fini(&w);
}

static void
who_dies_is_taken_over_after_the_hold(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, 3, 99, 1);
    run_until(&w, w.mesh.now + 3 * MC_SEC);
    w.mesh.down[2] = true;
    tell_all_members(&w);
    run_until(&w, w.mesh.now + HOLD - 200 * MC_MS);
    assert_int_equal(sum_of(&w), 66);
    run_until(&w, w.mesh.now + MC_SEC);
    assert_int_equal(sum_of(&w), 99);
    assert_int_equal(caps_counters(w.node[0].c)->taken_over, 1);
    world_fini(&w);
}

static void
who_leaves_holds_nothing_up(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, 3, 99, 1);
    run_until(&w, w.mesh.now + 3 * MC_SEC);
    w.mesh.down[2] = true;
    for (unsigned i = 0; i < 2; i++)
        caps_member_left(w.node[i].c, mesh_id(2), w.mesh.now);
    run_until(&w, w.mesh.now + 600 * MC_MS);
    assert_int_equal(sum_of(&w), 99);
    world_fini(&w);
}

/* It was back before it was missed, so all remember what it said by a later clock. */
static void
who_comes_back_with_an_earlier_clock_is_heard(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, 3, 100, 1);
    w.node[0].demand = w.node[1].demand = 50;
    run_until(&w, w.mesh.now + 10 * MC_SEC);
    caps_free(&w.node[1].c);
    w.node[1].starts -= 50;
    start(&w, 1);
    tell_members(&w, 1);
    w.node[0].demand = 0;
    run_until(&w, w.mesh.now + 10 * MC_SEC);
    assert_int_equal(caps_counters(w.node[1].c)->overtaken, 1);
    assert_true(caps_share(w.node[1].c, 0) >= 90);
    assert_int_equal(sum_of(&w), 100);
    assert_true(w.worst <= 100);
    world_fini(&w);
}

/* The one of a pair cannot know whether the other is dead. */
static void
the_survivor_of_a_pair_takes_over_later(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, 2, 100, 1);
    w.node[0].demand = 100;
    run_until(&w, w.mesh.now + 10 * MC_SEC);
    w.mesh.down[1] = true;
    tell_all_members(&w);
    run_until(&w, w.mesh.now + LONE - 500 * MC_MS);
    assert_int_equal(sum_of(&w), 50);
    run_until(&w, w.mesh.now + MC_SEC);
    assert_int_equal(sum_of(&w), 100);
    world_fini(&w);
}

static void
who_does_not_know_a_limit_does_not_hold_it_up_for_long(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, 3, 100, 1);
    caps_drop_limit(w.node[2].c, KEY);
    w.node[0].demand = 1000;
    run_until(&w, w.mesh.now + HOLD + 10 * MC_SEC);
    assert_true(caps_share(w.node[0].c, 0) >= 90);
    world_fini(&w);
}

/* --- the wire -----------------------------------------------------------------------------------
 */

/* Limit 77 of 100, by member 1007, alone with 1000: the first word. */
static const uint8_t golden[] = {
    1, 0, 0,    0, 0, 0, 0, 0, 77, 0, 0, 0, 0, 0,    0x50, 0, 2, 0, 1, 0, 0, 0,
    0, 0, 0x50, 0, 1, 1, 0, 0, 0,  0, 0, 0, 3, 0xe8, 0,    0, 0, 0, 0, 0, 0, 0,
};

static void
keep(void *arg, uint64_t key, const void *bytes, size_t n)
{
    struct node *c = arg;

    (void)key;
    memcpy(c->word, bytes, n);
    c->n = n;
}

static void
bytes_are_as_documented(void **state)
{
    struct node kept = {.n = 0};
    struct caps_conf conf = {.id = 1007, .boot_ms = 5, .tell = keep, .arg = &kept};
    struct caps *c = caps_new(&conf, 0);

    (void)state;
    caps_set_limit(c, KEY, 100, 0);
    caps_set_members(c, (const uint64_t[]){1000}, 1, 0);
    caps_tick(c, 0);
    assert_int_equal(kept.n, sizeof(golden));
    assert_memory_equal(kept.word, golden, kept.n);
    caps_free(&c);
}

static void
what_cannot_be_read_is_counted_and_what_is_added_skipped(void **state)
{
    struct node kept = {.n = 0};
    struct caps_conf conf = {.id = 1000, .boot_ms = 5, .tell = keep, .arg = &kept};
    struct caps *c = caps_new(&conf, 0);
    uint8_t more[sizeof(golden) + 3] = {0};

    (void)state;
    caps_set_limit(c, KEY, 100, 0);
    caps_set_members(c, (const uint64_t[]){1007}, 1, 0);
    for (size_t n = 0; n < sizeof(golden); n++)
        caps_hear(c, 1007, golden, n, 0);
    assert_int_equal(caps_counters(c)->malformed, sizeof(golden));
    memcpy(more, golden, sizeof(golden));
    caps_hear(c, 1007, more, sizeof(more), 0);
    assert_int_equal(caps_counters(c)->heard, 1);
    caps_hear(c, 1007, golden, sizeof(golden), 0);
    assert_int_equal(caps_counters(c)->stale, 1);
    caps_hear(c, 5, golden, sizeof(golden), 0);
    assert_int_equal(caps_counters(c)->strangers, 1);
    caps_free(&c);
}

/* --- at random ----------------------------------------------------------------------------------
 */

static void
demands_change(struct world *w, unsigned times)
{
    struct rng *r = &w->mesh.rng;

    for (unsigned i = 0; i < times; i++) {
        w->node[rng_below(r, w->mesh.n)].demand = rng_below(r, 3) ? rng_unit(r) * 2 * w->units : 0;
        run_until(w, w->mesh.now + (mc_ns)(rng_unit(r) * MC_SEC));
    }
}

static void
restart_one(struct world *w)
{
    unsigned at = rng_below(&w->mesh.rng, w->mesh.n);

    if (rng_below(&w->mesh.rng, 2))
        w->node[at].starts -= 5; /* its clock was set back */
    caps_free(&w->node[at].c);
    start(w, at);
    tell_members(w, at);
}

/* Each finds the others gone at some time within half of the hold. */
static void
cut(struct world *w)
{
    struct rng *r = &w->mesh.rng;
    unsigned order[MESH_MAX], small = 0, n = w->mesh.n;

    for (unsigned i = 0; i < n; i++) {
        w->mesh.side[i] = rng_below(r, 2);
        small += w->mesh.side[i];
        order[i] = i;
    }
    small = small < n - small ? small : n - small;
    w->bound += (uint64_t)small * (w->units / n > 0 ? w->units / n : 1);
    for (unsigned i = 0; i < n; i++) {
        unsigned k = i + rng_below(r, n - i), t = order[i];

        order[i] = order[k];
        order[k] = t;
        run_until(w, w->mesh.now + (mc_ns)(rng_unit(r) * (double)(HOLD / 2 / (n + 1))));
        tell_members(w, order[i]);
    }
}

static bool
is_settled(const struct world *w)
{
    unsigned n = w->mesh.n;

    return sum_of(w) == (w->units > n ? w->units : n);
}

/* What the worst of all schedules were, in parts of the limit. */
struct worst {
    double in_step, cut;
};

static void
play(uint64_t seed, struct worst *worst)
{
    struct world w;
    struct rng r;
    unsigned n;

    rng_seed(&r, seed);
    n = 2 + rng_below(&r, 7);
    world_init(&w, n, 1 + rng_below(&r, rng_below(&r, 2) ? 20 : 1000), seed);
    w.mesh.loss = rng_unit(&r) * 0.3;
    w.mesh.twice = rng_unit(&r) * 0.1;
    w.mesh.spread_ns = (mc_ns)(rng_unit(&r) * 300 * MC_MS);
    demands_change(&w, 10);
    restart_one(&w);
    demands_change(&w, 5);
    if (w.units >= n)
        worst->in_step = fmax(worst->in_step, (double)w.worst / w.units - 1);
    w.worst = 0;
    cut(&w);
    run_until(&w, w.mesh.now + (mc_ns)(rng_unit(&r) * (LONE - HOLD)));
    if (w.units >= n)
        worst->cut = fmax(worst->cut, (double)w.worst / w.units - 1);
    memset(w.mesh.side, 0, sizeof(w.mesh.side));
    tell_all_members(&w);
    for (unsigned i = 0; i < 100 && !is_settled(&w); i++)
        run_until(&w, w.mesh.now + MC_SEC);
    mesh_require(seed, is_settled(&w));
    w.bound = w.units > n ? w.units : n;
    demands_change(&w, 3);
    world_fini(&w);
}

static void
whatever_the_network_does_shares_keep_to_the_bound(void **state)
{
    struct worst worst = {0, 0};
    unsigned n = mesh_schedules(500);

    (void)state;
    for (unsigned i = 0; i < n; i++)
        play(mesh_seed(i), &worst);
    print_message(
        "largest overshoot of %u schedules: %.1f %% of the limit, in partitions %.1f %%\n", n,
        worst.in_step * 100, worst.cut * 100);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_follow_demand_above_a_floor_and_sum_to_the_limit),
        cmocka_unit_test(any_division_sums_to_the_limit),
        cmocka_unit_test(one_alone_has_all_once_it_knows_that_it_is_alone),
        cmocka_unit_test(a_share_moves_to_where_the_demand_is),
        cmocka_unit_test(who_dies_is_taken_over_after_the_hold),
        cmocka_unit_test(who_leaves_holds_nothing_up),
        cmocka_unit_test(who_comes_back_with_an_earlier_clock_is_heard),
        cmocka_unit_test(the_survivor_of_a_pair_takes_over_later),
        cmocka_unit_test(who_does_not_know_a_limit_does_not_hold_it_up_for_long),
        cmocka_unit_test(bytes_are_as_documented),
        cmocka_unit_test(what_cannot_be_read_is_counted_and_what_is_added_skipped),
        cmocka_unit_test(whatever_the_network_does_shares_keep_to_the_bound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
