/* SPDX-License-Identifier: BSD-2-Clause
 *
 * facts_test.c - members that tell each other facts over a bad network.
 */
#include "cluster/facts.h"

#include "cluster/mesh.h"

#define KEYS 24

struct node {
    struct world *w;
    unsigned at;
    uint64_t epoch;
    struct facts *f;
    mc_ns due;
};

/* Values are "EPOCH COUNTER": both only grow, which every listener checks. */
struct world {
    struct mesh mesh;
    struct facts_conf conf; /* of all, but for id and epoch */
    struct node node[MESH_MAX];
    uint64_t seed, counter;
    uint64_t heard[MESH_MAX][MESH_MAX][KEYS]; /* by listener, owner, key: the last counter */
    uint64_t bytes[MESH_MAX];
};

static struct str
key_of(unsigned i, char room[16])
{
    return (struct str){room, (size_t)snprintf(room, 16, "key/%u", i)};
}

static enum facts_urgency
urgency_of(unsigned key)
{
    return key % FACTS_N_URGENCIES;
}

static void
carry(void *arg, uint64_t to, const void *bytes, size_t n)
{
    struct node *from = arg;

    assert_true(n <= FACTS_DATAGRAM);
    from->w->bytes[from->at] += n;
    mesh_send(&from->w->mesh, from->at, mesh_at(to), bytes, n);
}

static void
check_newer(void *arg, uint64_t owner, struct str key, const void *value, size_t n, mc_ns age_ns)
{
    struct node *node = arg;
    uint64_t *last, counter;

    if (!str_starts(key, STR("key/")))
        return;
    last = &node->w->heard[node->at][mesh_at(owner)][strtoul(key.p + 4, NULL, 10)];
    if (!value) {
        *last = 0; /* deleted, or forgotten with its owner, who may come back and be heard late */
        return;
    }
    if (n != sizeof(counter))
        return;
    memcpy(&counter, value, n);
    mesh_require(node->w->seed, counter >= *last);
    mesh_require(node->w->seed, age_ns >= 0);
    *last = counter;
}

static void
start(struct world *w, unsigned at)
{
    struct node *n = &w->node[at];
    struct facts_conf conf = w->conf;

    n->w = w;
    n->at = at;
    conf.id = mesh_id(at);
    conf.epoch = ++n->epoch;
    conf.seed = w->seed * 100 + at;
    conf.send = carry;
    conf.on_fact = conf.on_fact ? conf.on_fact : check_newer;
    conf.arg = n;
    memset(w->heard[at], 0, sizeof(w->heard[at]));
    n->f = facts_new(&conf, w->mesh.now);
    n->due = w->mesh.now;
}

/* Tells a member who is up and on its side. */
static void
tell_members(struct world *w, unsigned at)
{
    uint64_t ids[MESH_MAX];
    unsigned n = mesh_others(&w->mesh, at, ids);

    facts_set_members(w->node[at].f, ids, n, w->mesh.now);
    w->node[at].due = w->mesh.now;
}

static void
tell_all_members(struct world *w)
{
    for (unsigned i = 0; i < w->mesh.n; i++)
        if (!w->mesh.down[i])
            tell_members(w, i);
}

static void
world_init(struct world *w, unsigned n, uint64_t seed)
{
    *w = (struct world){.seed = seed};
    mesh_init(&w->mesh, n, seed);
}

static void
world_start(struct world *w)
{
    for (unsigned i = 0; i < w->mesh.n; i++)
        start(w, i);
    tell_all_members(w);
}

static void
world_fini(struct world *w)
{
    for (unsigned i = 0; i < w->mesh.n; i++)
        facts_free(&w->node[i].f);
    mesh_fini(&w->mesh);
}

static mc_ns
next_event(const struct world *w)
{
    mc_ns at = mesh_due(&w->mesh);

    for (unsigned i = 0; i < w->mesh.n; i++)
        if (!w->mesh.down[i] && w->node[i].due < at)
            at = w->node[i].due;
    return at;
}

static void
run_until(struct world *w, mc_ns end)
{
    struct mesh_mail mail;
    mc_ns at;

    while ((at = next_event(w)) <= end) {
        w->mesh.now = at > w->mesh.now ? at : w->mesh.now;
        while (mesh_take(&w->mesh, &mail)) {
            struct node *n = &w->node[mail.to];

            facts_recv(n->f, mesh_id(mail.from), mail.bytes, mail.n, w->mesh.now);
            n->due = facts_due(n->f);
            free(mail.bytes);
        }
        for (unsigned i = 0; i < w->mesh.n; i++)
            if (!w->mesh.down[i] && w->node[i].due <= w->mesh.now)
                w->node[i].due = facts_tick(w->node[i].f, w->mesh.now);
    }
    w->mesh.now = end;
}

static void
set(struct world *w, unsigned at, unsigned key)
{
    struct node *n = &w->node[at];
    char room[16];

    w->counter++;
    assert_int_equal(facts_set(n->f, key_of(key, room), urgency_of(key), &w->counter,
                               sizeof(w->counter), w->mesh.now),
                     MC_OK);
    n->due = facts_due(n->f);
}

static void
del(struct world *w, unsigned at, unsigned key)
{
    struct node *n = &w->node[at];
    char room[16];

    facts_del(n->f, key_of(key, room), w->mesh.now);
    n->due = facts_due(n->f);
}

/* Does `who` know just what `owner` says? */
static bool
agrees(const struct world *w, unsigned who, unsigned owner)
{
    for (unsigned k = 0; k < KEYS; k++) {
        struct fact a, b;
        char room[16];
        struct str key = key_of(k, room);
        bool has = !w->mesh.down[owner] &&
                   facts_get(w->node[owner].f, mesh_id(owner), key, w->mesh.now, &a);

        if (facts_get(w->node[who].f, mesh_id(owner), key, w->mesh.now, &b) != has)
            return false;
        if (has && (a.n != b.n || memcmp(a.value, b.value, a.n) != 0))
            return false;
    }
    return true;
}

static bool
all_agree(const struct world *w)
{
    for (unsigned i = 0; i < w->mesh.n; i++)
        for (unsigned o = 0; o < w->mesh.n; o++)
            if (!w->mesh.down[i] && i != o && !agrees(w, i, o))
                return false;
    return true;
}

/* In steps of 50 ms; how long it took, or more than `most`. */
static mc_ns
until_all_agree(struct world *w, mc_ns most)
{
    mc_ns begin = w->mesh.now;

    while (!all_agree(w) && w->mesh.now - begin <= most)
        run_until(w, w->mesh.now + 50 * MC_MS);
    return w->mesh.now - begin;
}

/* --- one by one ---------------------------------------------------------------------------------
 */

static void
a_fact_is_known_everywhere_within_a_batch(void **state)
{
    struct world w;
    struct fact got;
    char room[16];

    (void)state;
    world_init(&w, 5, 1);
    world_start(&w);
    run_until(&w, 2 * MC_SEC);
    for (unsigned k = 0; k < KEYS; k++)
        set(&w, 0, k);
    run_until(&w, w.mesh.now + 12 * MC_MS);
    assert_true(all_agree(&w));
    assert_true(facts_get(w.node[3].f, mesh_id(0), key_of(4, room), w.mesh.now, &got));
    assert_int_equal(got.urgency, urgency_of(4));
    assert_false(got.dead);
    assert_true(got.age_ns < 20 * MC_MS);
    assert_int_equal(facts_count(w.node[3].f), KEYS);
    world_fini(&w);
}

static void
what_was_deleted_is_gone_everywhere(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, 3, 1);
    w.conf.tombstone_ns = 5 * MC_SEC;
    world_start(&w);
    for (unsigned k = 0; k < KEYS; k++)
        set(&w, 0, k);
    run_until(&w, w.mesh.now + MC_SEC);
    for (unsigned k = 0; k < KEYS; k += 2)
        del(&w, 0, k);
    run_until(&w, w.mesh.now + MC_SEC);
    assert_true(all_agree(&w));
    assert_int_equal(facts_count(w.node[1].f), KEYS / 2);
    run_until(&w, w.mesh.now + 20 * MC_SEC);
    assert_true(all_agree(&w));
    world_fini(&w);
}

/* 1. All know a key.  2. One is cut off, and stays a member.  3. The key is deleted and its
 * tombstone forgotten.  4. The one comes back. */
static void
who_missed_a_deletion_for_long_drops_the_key(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, 3, 1);
    w.conf.tombstone_ns = 2 * MC_SEC;
    world_start(&w);
    for (unsigned k = 0; k < KEYS; k++)
        set(&w, 0, k);
    run_until(&w, w.mesh.now + MC_SEC);
    w.mesh.side[2] = 1;
    for (unsigned k = 0; k < KEYS; k += 2)
        del(&w, 0, k);
    run_until(&w, w.mesh.now + MC_SEC);
    for (unsigned k = 1; k < 6; k += 2)
        set(&w, 0, k);
    run_until(&w, w.mesh.now + 8 * MC_SEC);
    assert_int_equal(facts_count(w.node[2].f), KEYS);
    w.mesh.side[2] = 0;
    assert_true(until_all_agree(&w, 15 * MC_SEC) <= 15 * MC_SEC);
    world_fini(&w);
}

static void
a_restarted_owner_replaces_all_that_it_said(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, 3, 1);
    world_start(&w);
    for (unsigned k = 0; k < KEYS; k++)
        set(&w, 0, k);
    run_until(&w, w.mesh.now + MC_SEC);
    facts_free(&w.node[0].f);
    start(&w, 0);
    tell_members(&w, 0);
    set(&w, 0, 3);
    run_until(&w, w.mesh.now + 20 * MC_MS);
    assert_true(all_agree(&w));
    assert_int_equal(facts_count(w.node[1].f), 1);
    world_fini(&w);
}

/* A clock that went back gives a restarted owner an epoch that others have seen. */
static void
an_owner_whose_epoch_went_back_is_heard_all_the_same(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, 3, 1);
    w.node[0].epoch = 10;
    world_start(&w);
    for (unsigned k = 0; k < KEYS; k++)
        set(&w, 0, k);
    run_until(&w, w.mesh.now + MC_SEC);
    facts_free(&w.node[0].f);
    w.node[0].epoch = 5;
    start(&w, 0);
    tell_members(&w, 0);
    set(&w, 0, 3);
    assert_true(until_all_agree(&w, 5 * MC_SEC) <= 5 * MC_SEC);
    assert_int_equal(facts_counters(w.node[0].f)->raised, 1);
    world_fini(&w);
}

static void
facts_of_the_dead_are_marked_and_age_out(void **state)
{
    struct world w;
    struct fact got;
    char room[16];

    (void)state;
    world_init(&w, 3, 1);
    world_start(&w);
    set(&w, 0, 1);
    run_until(&w, w.mesh.now + MC_SEC);
    w.mesh.down[0] = true;
    tell_members(&w, 1);
    assert_true(facts_get(w.node[1].f, mesh_id(0), key_of(1, room), w.mesh.now, &got));
    assert_true(got.dead);
    run_until(&w, w.mesh.now + 9 * MC_SEC);
    assert_true(facts_get(w.node[1].f, mesh_id(0), key_of(1, room), w.mesh.now, &got));
    run_until(&w, w.mesh.now + 3 * MC_SEC);
    assert_false(facts_get(w.node[1].f, mesh_id(0), key_of(1, room), w.mesh.now, &got));
    /* the third has not heard of the death and still tells, in vain */
    run_until(&w, w.mesh.now + 5 * MC_SEC);
    assert_true(facts_get(w.node[2].f, mesh_id(0), key_of(1, room), w.mesh.now, &got));
    assert_false(facts_get(w.node[1].f, mesh_id(0), key_of(1, room), w.mesh.now, &got));
    world_fini(&w);
}

/* Far more changes than the bandwidth carries: what is urgent is on time, all the rest takes turns.
 */
static void
short_bandwidth_goes_to_what_is_urgent_and_starves_nobody(void **state)
{
    struct world w;
    uint64_t before[KEYS];
    char room[16];
    uint8_t value[1000] = {0};

    (void)state;
    world_init(&w, 2, 1);
    w.conf.bytes_per_s = 8000;
    world_start(&w);
    for (unsigned t = 0; t < 600; t++) {
        w.counter++;
        memcpy(value, &w.counter, sizeof(w.counter));
        for (unsigned k = 2; k < KEYS; k += 3)
            facts_set(w.node[0].f, key_of(k, room), FACTS_SHOW, value, sizeof(value), w.mesh.now);
        if (t % 10 == 0)
            set(&w, 0, 0);
        if (t % 10 == 9)
            assert_true(w.heard[1][0][0] + 9 >= w.counter);
        if (t == 300)
            for (unsigned k = 2; k < KEYS; k += 3) {
                struct fact got;

                assert_true(facts_get(w.node[1].f, mesh_id(0), key_of(k, room), w.mesh.now, &got));
                memcpy(&before[k], got.value, sizeof(before[k]));
            }
        w.node[0].due = facts_due(w.node[0].f);
        run_until(&w, w.mesh.now + 50 * MC_MS);
    }
    for (unsigned k = 2; k < KEYS; k += 3) {
        struct fact got;
        uint64_t after;

        assert_true(facts_get(w.node[1].f, mesh_id(0), key_of(k, room), w.mesh.now, &got));
        memcpy(&after, got.value, sizeof(after));
        assert_true(after > before[k]);
    }
    assert_true(w.bytes[0] < 9000 * 30);
    assert_true(facts_counters(w.node[0].f)->held_back > 0);
    world_fini(&w);
}

static void
limits_are_refused_and_counted(void **state)
{
    struct world w;
    uint8_t big[FACTS_VALUE_MAX + 1] = {0};
    char key[FACTS_KEY_MAX + 1];
    struct facts *f;

    (void)state;
    memset(key, 'k', sizeof(key));
    world_init(&w, 2, 1);
    w.conf.facts_max = 3;
    w.conf.bytes_max = 2000;
    world_start(&w);
    f = w.node[0].f;
    assert_int_equal(facts_set(f, (struct str){key, sizeof(key)}, FACTS_NOW, "", 0, 0), MC_ERANGE);
    assert_int_equal(facts_set(f, STR(""), FACTS_NOW, "", 0, 0), MC_ERANGE);
    assert_int_equal(facts_set(f, STR("a"), FACTS_NOW, big, sizeof(big), 0), MC_ERANGE);
    assert_int_equal(
        facts_set(f, (struct str){key, sizeof(key) - 1}, FACTS_NOW, big, sizeof(big) - 1, 0),
        MC_OK);
    assert_int_equal(facts_set(f, STR("b"), FACTS_NOW, big, sizeof(big) - 1, 0), MC_EFULL);
    assert_int_equal(facts_set(f, STR("b"), FACTS_NOW, "", 0, 0), MC_OK);
    assert_int_equal(facts_set(f, STR("b"), FACTS_SHOW, "", 0, 0), MC_EINVAL);
    assert_int_equal(facts_set(f, STR("c"), FACTS_NOW, "", 0, 0), MC_OK);
    assert_int_equal(facts_set(f, STR("d"), FACTS_NOW, "", 0, 0), MC_EFULL);
    assert_int_equal(facts_del(f, STR("d"), 0), MC_ENOENT);
    assert_int_equal(facts_counters(f)->refused, 2);
    w.node[0].due = facts_due(f);
    run_until(&w, w.mesh.now + MC_SEC);
    assert_int_equal(facts_count(w.node[1].f), 3);
    world_fini(&w);
}

/* --- the wire -----------------------------------------------------------------------------------
 */

struct catch
{
    uint8_t bytes[FACTS_DATAGRAM];
    size_t n;
};

static void
keep(void *arg, uint64_t to, const void *bytes, size_t n)
{
    struct catch *c = arg;

    memcpy(c->bytes, bytes, n);
    c->n = n;
}

/* What this release says, the next must understand: owner 0x11, epoch 2, "k" = "val", urgency SOON,
 * then what it knows. */
static const uint8_t golden_delta[] = {
    1, 3, 1, 0, 62,                                                 /* one section */
    0, 0, 0, 0, 0,  0, 0,  0x11, 0,   0, 0,   0,   0,   0, 0, 2, 1, /* owner, epoch, SOON */
    0, 0, 0, 0, 0,  0, 0,  0,    0,   0, 0,   0,   0,   0, 0, 1,    /* base, upto */
    0, 0, 0, 0, 0,  0, 0,  0,    0,   0, 0,   0,   0,   0, 0, 0,    /* swept, known before */
    0, 1, 0, 9, 1,  0, 10, 1,    'k', 3, 'v', 'a', 'l',             /* one fact */
};
static const uint8_t golden_digest[] = {
    1, 1, 0, 0, 0, 0, 0, 0,    0, 0x11, 0, 0, 0, 0, 0, 0, 0, 0x11, 1, 0, 64, /* one, by itself */
    0, 0, 0, 0, 0, 0, 0, 0x11, 0, 0,    0, 0, 0, 0, 0, 2,                    /* owner, epoch */
    0, 0, 0, 0, 0, 0, 0, 0,    0, 0,    0, 0, 0, 0, 0, 0,                    /* NOW */
    0, 0, 0, 0, 0, 0, 0, 1,    0, 0,    0, 0, 0, 0, 0, 0,                    /* SOON */
    0, 0, 0, 0, 0, 0, 0, 0,    0, 0,    0, 0, 0, 0, 0, 0,                    /* SHOW */
};

static void
bytes_are_as_documented(void **state)
{
    struct catch c = {.n = 0};
    struct facts_conf conf = {.id = 0x11, .epoch = 2, .send = keep, .arg = &c};
    struct facts *f = facts_new(&conf, 0);

    (void)state;
    facts_set_members(f, (const uint64_t[]){0x22}, 1, 0);
    while (facts_due(f) <= 900 * MC_MS)
        facts_tick(f, facts_due(f));
    facts_set(f, STR("k"), FACTS_SOON, "val", 3, 1000 * MC_MS);
    facts_tick(f, 1010 * MC_MS);
    assert_int_equal(c.n, sizeof(golden_delta));
    assert_memory_equal(c.bytes, golden_delta, c.n);
    while (c.bytes[1] != 1 || c.bytes[9] != 0x11)
        facts_tick(f, facts_due(f));
    assert_int_equal(c.n, sizeof(golden_digest));
    assert_memory_equal(c.bytes, golden_digest, c.n);
    facts_free(&f);
}

static struct facts *
listener(struct catch *c)
{
    struct facts_conf conf = {.id = 0x22, .epoch = 1, .send = keep, .arg = c};
    struct facts *f = facts_new(&conf, 0);

    facts_set_members(f, (const uint64_t[]){0x11}, 1, 0);
    return f;
}

static void
what_a_later_release_adds_is_skipped(void **state)
{
    struct catch c = {.n = 0};
    struct facts *f = listener(&c);
    uint8_t more[sizeof(golden_delta) + 8];
    struct fact got;

    (void)state;
    memcpy(more, golden_delta, sizeof(golden_delta));
    memset(more + sizeof(golden_delta), 0xee, 8);
    more[4] += 5; /* two bytes more in the fact, three in the section, three behind all */
    more[57] += 2;
    facts_recv(f, 0x11, more, sizeof(more), MC_SEC);
    assert_int_equal(facts_counters(f)->malformed, 0);
    assert_true(facts_get(f, 0x11, STR("k"), MC_SEC, &got));
    assert_int_equal(got.n, 3);
    assert_memory_equal(got.value, "val", 3);
    assert_int_equal(got.age_ns, 10 * MC_MS);
    facts_free(&f);
}

static void
a_cut_off_message_is_malformed(void **state)
{
    (void)state;
    for (size_t n = 0; n < sizeof(golden_delta); n++) {
        struct catch c = {.n = 0};
        struct facts *f = listener(&c);

        facts_recv(f, 0x11, golden_delta, n, MC_SEC);
        assert_int_equal(facts_counters(f)->malformed, 1);
        facts_free(&f);
    }
}

static void
strangers_are_not_heard(void **state)
{
    struct catch c = {.n = 0};
    struct facts *f = listener(&c);

    (void)state;
    facts_recv(f, 0x33, golden_delta, sizeof(golden_delta), MC_SEC);
    assert_int_equal(facts_counters(f)->strangers, 1);
    assert_int_equal(facts_count(f), 0);
    facts_free(&f);
}

static void
who_lacks_something_asks_and_is_answered(void **state)
{
    struct catch c = {.n = 0};
    struct facts *f = listener(&c);

    (void)state;
    facts_recv(f, 0x11, golden_digest, sizeof(golden_digest), MC_SEC);
    assert_int_equal(c.bytes[1], 2);
    assert_int_equal(facts_counters(f)->asked, 1);
    facts_free(&f);
}

/* --- at random ----------------------------------------------------------------------------------
 */

static void
restart_at_random(struct world *w)
{
    unsigned at = rng_below(&w->mesh.rng, w->mesh.n);

    if (w->mesh.down[at])
        return;
    facts_free(&w->node[at].f);
    start(w, at);
    tell_members(w, at);
}

static void
cut_or_heal(struct world *w)
{
    bool heal = rng_below(&w->mesh.rng, 2) == 0;

    for (unsigned i = 0; i < w->mesh.n; i++)
        w->mesh.side[i] = heal ? 0 : rng_below(&w->mesh.rng, 2);
    /* whether or not membership notices */
    if (rng_below(&w->mesh.rng, 2) == 0)
        tell_all_members(w);
}

static void
kill_at_random(struct world *w)
{
    unsigned at = rng_below(&w->mesh.rng, w->mesh.n);

    if (at > 1)
        w->mesh.down[at] = true; /* members hear of it at the end, or in the next cut */
}

static void
something_happens(struct world *w)
{
    unsigned at = rng_below(&w->mesh.rng, w->mesh.n), what = rng_below(&w->mesh.rng, 1000);

    if (what < 5)
        restart_at_random(w);
    else if (what < 15)
        cut_or_heal(w);
    else if (what < 17)
        kill_at_random(w);
    else if (w->mesh.down[at])
        return;
    else if (what < 250)
        del(w, at, rng_below(&w->mesh.rng, KEYS));
    else
        set(w, at, rng_below(&w->mesh.rng, KEYS));
}

static void
play(uint64_t seed)
{
    struct world w;
    struct rng *r;

    world_init(&w, 2, seed);
    r = &w.mesh.rng;
    w.mesh.n = 2 + rng_below(r, 5);
    w.mesh.loss = rng_unit(r) * 0.3;
    w.mesh.twice = rng_unit(r) * 0.1;
    w.mesh.spread_ns = (mc_ns)(rng_unit(r) * 60 * MC_MS);
    w.conf.tombstone_ns = (1 + rng_below(r, 4)) * MC_SEC;
    w.conf.gone_ns = (1 + rng_below(r, 4)) * MC_SEC;
    w.conf.bytes_per_s = 20000 + rng_below(r, 200000);
    world_start(&w);
    for (unsigned i = 0; i < 400; i++) {
        something_happens(&w);
        run_until(&w, w.mesh.now + (mc_ns)(rng_unit(r) * 50 * MC_MS));
    }
    memset(w.mesh.side, 0, sizeof(w.mesh.side));
    tell_all_members(&w);
    mesh_require(seed, until_all_agree(&w, 60 * MC_SEC) <= 60 * MC_SEC);
    run_until(&w, w.mesh.now + 6 * MC_SEC);
    mesh_require(seed, all_agree(&w)); /* and so it stays */
    world_fini(&w);
}

static void
whatever_the_network_does_all_agree_in_the_end(void **state)
{
    unsigned n = mesh_schedules(500);

    (void)state;
    for (unsigned i = 0; i < n; i++)
        play(mesh_seed(i));
}

/* --- figures ------------------------------------------------------------------------------------
 */

/* 10 members, 1,000 servers with 5 facts each: 500 facts of each member, each set anew once a
 * second.  When does each of the others hold a value, or a later one? */
#define FIG_MEMBERS 10
#define FIG_KEYS    500
#define FIG_VALUE   24
#define FIG_BATCHES 100 /* a second */

struct figures {
    struct world world; /* first: nodes point to it */
    mc_ns begin;
    unsigned seen[FIG_MEMBERS][FIG_MEMBERS][FIG_KEYS]; /* rounds */
    uint64_t ms[4000];                                 /* how many took so long */
    uint64_t n;
};

static mc_ns
set_at(const struct figures *g, unsigned key, unsigned round)
{
    return g->begin + round * MC_SEC + key / (FIG_KEYS / FIG_BATCHES) * (MC_SEC / FIG_BATCHES);
}

static void
take_figure(void *arg, uint64_t owner, struct str key, const void *value, size_t n, mc_ns age_ns)
{
    const struct node *node = arg;
    struct figures *g = (struct figures *)node->w;
    unsigned k = (unsigned)strtoul(key.p + 4, NULL, 10), round;
    unsigned *seen = &g->seen[node->at][mesh_at(owner)][k];

    memcpy(&round, value, sizeof(round));
    for (; *seen <= round; ++*seen) {
        mc_ns took = (g->world.mesh.now - set_at(g, k, *seen)) / MC_MS;

        g->ms[took < (mc_ns)MC_COUNT(g->ms) ? took : (mc_ns)MC_COUNT(g->ms) - 1]++;
        g->n++;
    }
}

static unsigned
quantile_ms(const struct figures *g, double q)
{
    uint64_t sum = 0;
    unsigned at = 0;

    while (at + 1 < MC_COUNT(g->ms) && (double)(sum += g->ms[at]) < q * (double)g->n)
        at++;
    return at;
}

static void
set_all(struct figures *g, unsigned round)
{
    struct world *w = &g->world;
    uint8_t value[FIG_VALUE] = {0};
    char room[16];

    memcpy(value, &round, sizeof(round));
    for (unsigned k = 0; k < FIG_KEYS; k++) {
        if (k % (FIG_KEYS / FIG_BATCHES) == 0)
            run_until(w, set_at(g, k, round));
        for (unsigned i = 0; i < FIG_MEMBERS; i++) {
            facts_set(w->node[i].f, key_of(k, room), urgency_of(k), value, sizeof(value),
                      w->mesh.now);
            w->node[i].due = facts_due(w->node[i].f);
        }
    }
}

static void
measure(double loss, unsigned rounds)
{
    struct figures *g = mc_alloc(sizeof(*g));
    struct world *w = &g->world;
    uint64_t bytes = 0, most = 0;

    world_init(w, FIG_MEMBERS, 9);
    w->conf.on_fact = take_figure;
    w->mesh.loss = loss;
    world_start(w);
    run_until(w, w->mesh.now + 2 * MC_SEC);
    g->begin = w->mesh.now;
    memset(w->bytes, 0, sizeof(w->bytes));
    for (unsigned r = 0; r < rounds; r++)
        set_all(g, r);
    run_until(w, set_at(g, 0, rounds));
    for (unsigned i = 0; i < FIG_MEMBERS; i++) {
        bytes += w->bytes[i];
        most = w->bytes[i] > most ? w->bytes[i] : most;
    }
    print_message("loss %2.0f %%: at the others after p50 %u ms, p99 %u ms, p99.9 %u ms; "
                  "%.0f kB/s a node (%.0f at most)\n",
                  loss * 100, quantile_ms(g, 0.5), quantile_ms(g, 0.99), quantile_ms(g, 0.999),
                  (double)bytes / FIG_MEMBERS / rounds / 1000, (double)most / rounds / 1000);
    assert_true(quantile_ms(g, 0.99) < 600);
    world_fini(w);
    free(g);
}

static void
thousands_of_facts_are_known_everywhere_in_time(void **state)
{
    unsigned rounds = mesh_schedules(500) < 500 ? 2 : 10;

    (void)state;
    measure(0, rounds);
    measure(0.05, rounds);
    measure(0.2, rounds);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fact_is_known_everywhere_within_a_batch),
        cmocka_unit_test(what_was_deleted_is_gone_everywhere),
        cmocka_unit_test(who_missed_a_deletion_for_long_drops_the_key),
        cmocka_unit_test(a_restarted_owner_replaces_all_that_it_said),
        cmocka_unit_test(an_owner_whose_epoch_went_back_is_heard_all_the_same),
        cmocka_unit_test(facts_of_the_dead_are_marked_and_age_out),
        cmocka_unit_test(short_bandwidth_goes_to_what_is_urgent_and_starves_nobody),
        cmocka_unit_test(limits_are_refused_and_counted),
        cmocka_unit_test(bytes_are_as_documented),
        cmocka_unit_test(what_a_later_release_adds_is_skipped),
        cmocka_unit_test(a_cut_off_message_is_malformed),
        cmocka_unit_test(strangers_are_not_heard),
        cmocka_unit_test(who_lacks_something_asks_and_is_answered),
        cmocka_unit_test(whatever_the_network_does_all_agree_in_the_end),
        cmocka_unit_test(thousands_of_facts_are_known_everywhere_in_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
