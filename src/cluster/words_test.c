/* SPDX-License-Identifier: BSD-2-Clause
 *
 * words_test.c - operators that talk to members whose clocks and network are bad.
 */
#include "cluster/words.h"

#include "cluster/mesh.h"

#define WALL0   1700000000000
#define HOUR_MS 3600000

struct node {
    struct world *w;
    unsigned at;
    struct words *words;
    mc_ns due;
    int64_t skew_ms; /* how wrong its wall clock is */
};

struct world {
    struct mesh mesh;
    struct node node[MESH_MAX];
    uint64_t seed;
    unsigned n_said;
};

static struct words_time
time_at(const struct node *n)
{
    mc_ns now = n->w->mesh.now;

    return (struct words_time){now, WALL0 + now / MC_MS + n->skew_ms};
}

static void
carry(void *arg, uint64_t to, const void *bytes, size_t n)
{
    struct node *from = arg;

    assert_true(n <= WORDS_DATAGRAM);
    mesh_send(&from->w->mesh, from->at, (unsigned)((to - 1000) / 7), bytes, n);
}

/* What is told is what holds. */
static void
check_word(void *arg, const struct word *word)
{
    struct node *n = arg;
    const struct word *now = words_get(n->words, word->name, word_about(word->say));

    mesh_require(n->w->seed, now && now->say == word->say);
}

static void
start(struct world *w, unsigned at)
{
    struct node *n = &w->node[at];
    struct words_conf conf = {.id = mesh_id(at),
                              .seed = w->seed * 100 + at,
                              .send = carry,
                              .on_word = check_word,
                              .arg = n};

    n->w = w;
    n->at = at;
    n->words = words_new(&conf, time_at(n));
    n->due = w->mesh.now;
}

static void
tell_members(struct world *w, unsigned at)
{
    uint64_t ids[MESH_MAX];
    unsigned n = 0;

    for (unsigned i = 0; i < w->mesh.n; i++)
        if (i != at)
            ids[n++] = mesh_id(i);
    words_set_members(w->node[at].words, ids, n, w->mesh.now);
    w->node[at].due = words_due(w->node[at].words);
}

static void
world_init(struct world *w, unsigned n, uint64_t seed)
{
    *w = (struct world){.seed = seed};
    mesh_init(&w->mesh, n, seed);
    for (unsigned i = 0; i < n; i++)
        start(w, i);
    for (unsigned i = 0; i < n; i++)
        tell_members(w, i);
}

static void
world_fini(struct world *w)
{
    for (unsigned i = 0; i < w->mesh.n; i++)
        words_free(&w->node[i].words);
    mesh_fini(&w->mesh);
}

static void
run_until(struct world *w, mc_ns end)
{
    struct mesh_mail mail;

    for (;;) {
        mc_ns at = mesh_due(&w->mesh);

        for (unsigned i = 0; i < w->mesh.n; i++)
            if (w->node[i].due < at)
                at = w->node[i].due;
        if (at > end)
            break;
        w->mesh.now = at > w->mesh.now ? at : w->mesh.now;
        while (mesh_take(&w->mesh, &mail)) {
            struct node *n = &w->node[mail.to];

            words_recv(n->words, mesh_id(mail.from), mail.bytes, mail.n, time_at(n));
            n->due = words_due(n->words);
            free(mail.bytes);
        }
        for (unsigned i = 0; i < w->mesh.n; i++)
            if (w->node[i].due <= w->mesh.now)
                w->node[i].due = words_tick(w->node[i].words, time_at(&w->node[i]));
    }
    w->mesh.now = end;
}

static void
say(struct world *w, unsigned at, enum word_say what, const char *name, uint32_t weight)
{
    struct node *n = &w->node[at];
    struct word word = {.say = what,
                        .weight = weight,
                        .name = str_of(name),
                        .who = STR("ann"),
                        .where = STR("lb 1")};

    assert_int_equal(words_say(n->words, &word, time_at(n)), MC_OK);
    n->due = words_due(n->words);
    w->n_said++;
}

static enum word_say
state_at(const struct world *w, unsigned at, const char *name)
{
    const struct word *word = words_get(w->node[at].words, str_of(name), WORD_ABOUT_STATE);

    return word ? word->say : WORD_STATE_CONF;
}

static bool
all_agree(const struct world *w)
{
    for (unsigned i = 1; i < w->mesh.n; i++)
        if (words_hash(w->node[i].words) != words_hash(w->node[0].words) ||
            words_count(w->node[i].words) != words_count(w->node[0].words))
            return false;
    return true;
}

static mc_ns
until_all_agree(struct world *w, mc_ns most)
{
    mc_ns begin = w->mesh.now;

    while (!all_agree(w) && w->mesh.now - begin <= most)
        run_until(w, w->mesh.now + 5 * MC_MS);
    return w->mesh.now - begin;
}

/* --- one by one ---------------------------------------------------------------------------------
 */

static void
a_word_holds_everywhere_at_once(void **state)
{
    struct world w;
    const struct word *got;

    (void)state;
    world_init(&w, 10, 1);
    run_until(&w, 3 * MC_SEC);
    say(&w, 3, WORD_DRAIN, "pool/a", 0);
    say(&w, 3, WORD_WEIGHT, "pool/a", 5);
    assert_true(until_all_agree(&w, MC_SEC) <= 20 * MC_MS);
    got = words_get(w.node[7].words, STR("pool/a"), WORD_ABOUT_STATE);
    assert_int_equal(got->say, WORD_DRAIN);
    assert_true(str_eq(got->who, STR("ann")) && str_eq(got->where, STR("lb 1")));
    assert_int_equal(got->when_ms, WALL0 + 3000);
    got = words_get(w.node[7].words, STR("pool/a"), WORD_ABOUT_WEIGHT);
    assert_int_equal(got->weight, 5);
    say(&w, 5, WORD_STATE_CONF, "pool/a", 0);
    until_all_agree(&w, MC_SEC);
    assert_int_equal(state_at(&w, 3, "pool/a"), WORD_STATE_CONF);
    world_fini(&w);
}

static void
a_word_reaches_ten_members_within_a_second_at_any_loss(void **state)
{
    static const double losses[] = {0, 0.05, 0.2};

    (void)state;
    for (unsigned k = 0; k < MC_COUNT(losses); k++) {
        struct world w;
        mc_ns worst = 0, sum = 0;
        unsigned n = mesh_schedules(200);

        world_init(&w, 10, 5);
        w.mesh.loss = losses[k];
        n = n < 200 ? n : 200;
        for (unsigned i = 0; i < n; i++) {
            mc_ns took;

            say(&w, i % 10, i % 2 ? WORD_DRAIN : WORD_READY, "pool/a", 0);
            took = until_all_agree(&w, 5 * MC_SEC);
            sum += took;
            worst = took > worst ? took : worst;
            run_until(&w, w.mesh.now + 2 * MC_SEC);
        }
        print_message(
            "loss %2.0f %%: a word is at all 10 members after %.0f ms, at worst %.0f ms\n",
            losses[k] * 100, n ? (double)sum / n / MC_MS : 0, (double)worst / MC_MS);
        assert_true(worst < MC_SEC);
        world_fini(&w);
    }
}

static void
a_clock_an_hour_ahead_wins_only_against_who_has_not_heard(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, 4, 1);
    w.node[0].skew_ms = HOUR_MS;
    run_until(&w, 2 * MC_SEC);
    say(&w, 0, WORD_DRAIN, "pool/a", 0);
    run_until(&w, w.mesh.now + MC_SEC);
    assert_int_equal(state_at(&w, 1, "pool/a"), WORD_DRAIN);
    say(&w, 1, WORD_READY, "pool/a", 0); /* has seen it, and is an hour behind */
    run_until(&w, w.mesh.now + MC_SEC);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(state_at(&w, i, "pool/a"), WORD_READY);
    /* the others' clocks were not dragged along by the hour */
    say(&w, 2, WORD_MAINT, "pool/b", 0);
    assert_true(
        (int64_t)words_get(w.node[2].words, STR("pool/b"), WORD_ABOUT_STATE)->stamp.wall_ms <
        WALL0 + HOUR_MS / 2);
    assert_true(words_counters(w.node[2].words)->ahead > 0);
    world_fini(&w);
}

static void
a_clock_an_hour_behind_is_heard_all_the_same(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, 3, 1);
    w.node[0].skew_ms = -HOUR_MS;
    say(&w, 1, WORD_DRAIN, "pool/a", 0);
    run_until(&w, w.mesh.now + MC_SEC);
    say(&w, 0, WORD_READY, "pool/a", 0);
    run_until(&w, w.mesh.now + MC_SEC);
    assert_int_equal(state_at(&w, 2, "pool/a"), WORD_READY);
    world_fini(&w);
}

static void
words_outlive_who_said_them_and_restarts(void **state)
{
    struct world w;
    struct buf saved = {0};

    (void)state;
    world_init(&w, 3, 1);
    say(&w, 0, WORD_DRAIN, "pool/a b%=\n", 0);
    say(&w, 0, WORD_WEIGHT, "pool/c", 17);
    run_until(&w, w.mesh.now + MC_SEC);
    words_save(w.node[2].words, &saved);
    for (unsigned i = 0; i < 3; i++)
        words_free(&w.node[i].words);
    for (unsigned i = 0; i < 3; i++)
        start(&w, i);
    assert_int_equal(
        words_load(w.node[1].words, (struct str){saved.p, saved.n}, time_at(&w.node[1])), 0);
    assert_int_equal(state_at(&w, 1, "pool/a b%=\n"), WORD_DRAIN);
    for (unsigned i = 0; i < 3; i++)
        tell_members(&w, i);
    assert_true(until_all_agree(&w, 10 * MC_SEC) <= 10 * MC_SEC);
    assert_int_equal(words_count(w.node[0].words), 2);
    assert_int_equal(state_at(&w, 0, "pool/a b%=\n"), WORD_DRAIN);
    buf_free(&saved);
    world_fini(&w);
}

static void
lines_on_disk_are_as_documented(void **state)
{
    static const char good[] =
        "drain pool/a at=1700000000000.0.17 when=1700000000000 who=ann where=lb1\n"
        "weight pool/a to=5 at=1700000000001.2.17 when=5 from=elsewhere\n";
    static const char bad[] = "drain\n"
                              "drain pool/a when=5\n"
                              "sing pool/a at=1.0.1\n"
                              "weight pool/a to=65536 at=1.0.1\n"
                              "drain pool%2 at=1.0.1\n"
                              "drain pool/a at=1.0\n"
                              "drain pool/a at=1.0.0\n"
                              "ready pool/a to=5 at=1.0.1";
    struct world w;
    struct buf saved = {0};
    const struct word *got;

    (void)state;
    world_init(&w, 2, 1);
    assert_int_equal(words_load(w.node[0].words, str_of(bad), time_at(&w.node[0])), 8);
    assert_int_equal(words_count(w.node[0].words), 0);
    assert_int_equal(words_load(w.node[0].words, str_of(good), time_at(&w.node[0])), 0);
    assert_int_equal(words_count(w.node[0].words), 2);
    got = words_get(w.node[0].words, STR("pool/a"), WORD_ABOUT_WEIGHT);
    assert_int_equal(got->weight, 5);
    assert_int_equal(got->stamp.counter, 2);
    words_save(w.node[0].words, &saved);
    assert_true(strstr(saved.p, "drain pool/a at=1700000000000.0.17 when=1700000000000 who=ann "
                                "where=lb1\n") != NULL);
    assert_true(strstr(saved.p, "weight pool/a to=5 at=1700000000001.2.17 when=5\n") != NULL);
    buf_free(&saved);
    world_fini(&w);
}

static void
what_is_too_much_is_refused(void **state)
{
    struct world w;
    char name[WORDS_NAME_MAX + 1];
    struct word word = {.say = WORD_READY, .name = {name, sizeof(name)}};
    struct words *words;

    (void)state;
    memset(name, 'n', sizeof(name));
    world_init(&w, 2, 1);
    words = w.node[0].words;
    assert_int_equal(words_say(words, &word, time_at(&w.node[0])), MC_ERANGE);
    word.name.n--;
    assert_int_equal(words_say(words, &word, time_at(&w.node[0])), MC_OK);
    word.weight = 1;
    assert_int_equal(words_say(words, &word, time_at(&w.node[0])), MC_ERANGE);
    word.weight = 0;
    for (unsigned i = 1; i < WORDS_MAX; i++) {
        word.name.n = (size_t)snprintf(name, sizeof(name), "p/%u", i);
        assert_int_equal(words_say(words, &word, time_at(&w.node[0])), MC_OK);
    }
    word.name = STR("p/one-more");
    assert_int_equal(words_say(words, &word, time_at(&w.node[0])), MC_EFULL);
    word.name = STR("p/1");
    assert_int_equal(words_say(words, &word, time_at(&w.node[0])), MC_OK);
    assert_int_equal(words_counters(words)->refused, 1);
    world_fini(&w);
}

/* Two know different halves of the words, the third none. */
static void
a_newcomer_gets_all_words(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, 3, 1);
    w.mesh.side[1] = 1;
    w.mesh.side[2] = 2;
    for (unsigned i = 0; i < 4000; i++) {
        char name[32];

        snprintf(name, sizeof(name), "pool/%u", i % 3000);
        say(&w, i % 2, i % 5 ? WORD_DRAIN : WORD_READY, name, 0);
    }
    run_until(&w, w.mesh.now + 20 * MC_SEC); /* they are told, and nobody hears */
    memset(w.mesh.side, 0, sizeof(w.mesh.side));
    assert_true(until_all_agree(&w, 60 * MC_SEC) <= 60 * MC_SEC);
    assert_int_equal(words_count(w.node[2].words), 3000);
    world_fini(&w);
}

static void
what_was_taken_back_long_ago_is_forgotten(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, 2, 1);
    say(&w, 0, WORD_DRAIN, "pool/a", 0);
    say(&w, 0, WORD_DRAIN, "pool/b", 0);
    say(&w, 0, WORD_STATE_CONF, "pool/a", 0);
    run_until(&w, w.mesh.now + MC_SEC);
    assert_int_equal(words_count(w.node[1].words), 2);
    for (unsigned i = 0; i < 2; i++)
        w.node[i].skew_ms += (int64_t)31 * 24 * HOUR_MS;
    run_until(&w, w.mesh.now + 120 * MC_SEC);
    assert_int_equal(words_count(w.node[0].words), 1);
    assert_true(all_agree(&w));
    assert_int_equal(state_at(&w, 1, "pool/b"), WORD_DRAIN);
    world_fini(&w);
}

/* --- the wire -----------------------------------------------------------------------------------
 */

struct catch
{
    uint8_t bytes[WORDS_DATAGRAM];
    size_t n;
};

static void
keep(void *arg, uint64_t to, const void *bytes, size_t n)
{
    struct catch *c = arg;

    memcpy(c->bytes, bytes, n);
    c->n = n;
}

/* "weight p/s 5" by "me" at "lb", member 0x11, 1000 ms after 1970. */
static const uint8_t golden_tell[] = {
    1, 1, 1,    0,    25,   5, 5,   0xe8, 0x07, 0, 0,   0,   0, 0,   0,
    0, 0, 0x11, 0xd0, 0x0f, 3, 'p', '/',  's',  2, 'm', 'e', 2, 'l', 'b',
};

static struct words *
one(uint64_t id, uint64_t other, struct catch *c)
{
    struct words_conf conf = {.id = id, .send = keep, .arg = c};
    struct words *w = words_new(&conf, (struct words_time){0, 1000});

    words_set_members(w, &other, 1, 0);
    return w;
}

static void
bytes_are_as_documented(void **state)
{
    struct catch c = {.n = 0};
    struct words *w = one(0x11, 0x22, &c);
    struct word word = {
        .say = WORD_WEIGHT, .weight = 5, .name = STR("p/s"), .who = STR("me"), .where = STR("lb")};

    (void)state;
    words_say(w, &word, (struct words_time){0, 1000});
    while (c.bytes[1] != 1)
        words_tick(w, (struct words_time){words_due(w), 1000});
    assert_int_equal(c.n, sizeof(golden_tell));
    assert_memory_equal(c.bytes, golden_tell, c.n);
    words_free(&w);
}

static void
what_a_later_release_adds_is_skipped(void **state)
{
    struct catch c = {.n = 0};
    struct words *w = one(0x22, 0x11, &c);
    uint8_t more[sizeof(golden_tell) + 5];
    const struct word *got;

    (void)state;
    memcpy(more, golden_tell, sizeof(golden_tell));
    memset(more + sizeof(golden_tell), 0xee, 5);
    more[4] += 2;
    words_recv(w, 0x11, more, sizeof(more), (struct words_time){0, 1000});
    assert_int_equal(words_counters(w)->malformed, 0);
    got = words_get(w, STR("p/s"), WORD_ABOUT_WEIGHT);
    assert_non_null(got);
    assert_int_equal(got->weight, 5);
    words_free(&w);
}

static void
a_cut_off_message_is_malformed(void **state)
{
    (void)state;
    for (size_t n = 0; n < sizeof(golden_tell); n++) {
        struct catch c = {.n = 0};
        struct words *w = one(0x22, 0x11, &c);

        words_recv(w, 0x11, golden_tell, n, (struct words_time){0, 1000});
        assert_int_equal(words_counters(w)->malformed, 1);
        words_free(&w);
    }
}

static void
strangers_are_not_heard(void **state)
{
    struct catch c = {.n = 0};
    struct words *w = one(0x22, 0x11, &c);

    (void)state;
    words_recv(w, 0x33, golden_tell, sizeof(golden_tell), (struct words_time){0, 1000});
    assert_int_equal(words_counters(w)->strangers, 1);
    assert_int_equal(words_count(w), 0);
    words_free(&w);
}

/* --- at random ----------------------------------------------------------------------------------
 */

static void
restart(struct world *w, unsigned at, bool lost_disk)
{
    struct buf saved = {0};

    words_save(w->node[at].words, &saved);
    words_free(&w->node[at].words);
    start(w, at);
    if (!lost_disk)
        assert_int_equal(
            words_load(w->node[at].words, (struct str){saved.p, saved.n}, time_at(&w->node[at])),
            0);
    tell_members(w, at);
    buf_free(&saved);
}

static void
something_happens(struct world *w)
{
    struct rng *r = &w->mesh.rng;
    unsigned at = rng_below(r, w->mesh.n), what = rng_below(r, 100);
    char name[16];

    snprintf(name, sizeof(name), "pool/%u", rng_below(r, 30));
    if (what < 3)
        /* a node without its disk may lose what it alone knew: give its words time to travel */
        restart(w, at, false);
    else if (what < 8)
        for (unsigned i = 0; i < w->mesh.n; i++)
            w->mesh.side[i] = what < 5 ? 0 : rng_below(r, 2);
    else if (what < 11)
        w->node[at].skew_ms = (int64_t)rng_below(r, 2 * HOUR_MS) - HOUR_MS;
    else if (what < 70)
        say(w, at, (enum word_say)rng_below(r, WORD_WEIGHT_CONF), name, 0);
    else
        say(w, at, WORD_WEIGHT, name, rng_below(r, 256));
}

static void
play(uint64_t seed)
{
    struct world w;
    struct rng *r;
    enum word_say last;

    world_init(&w, 2 + (unsigned)(seed % 9), seed);
    r = &w.mesh.rng;
    w.mesh.loss = rng_unit(r) * 0.3;
    w.mesh.twice = rng_unit(r) * 0.1;
    w.mesh.spread_ns = (mc_ns)(rng_unit(r) * 60 * MC_MS);
    for (unsigned i = 0; i < 60; i++) {
        something_happens(&w);
        run_until(&w, w.mesh.now + (mc_ns)(rng_unit(r) * 100 * MC_MS));
    }
    memset(w.mesh.side, 0, sizeof(w.mesh.side));
    mesh_require(seed, until_all_agree(&w, 60 * MC_SEC) <= 60 * MC_SEC);
    /* whoever speaks now has heard all, so this wins, whatever the clocks */
    last = rng_below(r, 2) ? WORD_DRAIN : WORD_READY;
    say(&w, rng_below(r, w.mesh.n), last, "pool/1", 0);
    mesh_require(seed, until_all_agree(&w, 30 * MC_SEC) <= 30 * MC_SEC);
    for (unsigned i = 0; i < w.mesh.n; i++)
        mesh_require(seed, state_at(&w, i, "pool/1") == last);
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

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_word_holds_everywhere_at_once),
        cmocka_unit_test(a_word_reaches_ten_members_within_a_second_at_any_loss),
        cmocka_unit_test(a_clock_an_hour_ahead_wins_only_against_who_has_not_heard),
        cmocka_unit_test(a_clock_an_hour_behind_is_heard_all_the_same),
        cmocka_unit_test(words_outlive_who_said_them_and_restarts),
        cmocka_unit_test(lines_on_disk_are_as_documented),
        cmocka_unit_test(what_is_too_much_is_refused),
        cmocka_unit_test(a_newcomer_gets_all_words),
        cmocka_unit_test(what_was_taken_back_long_ago_is_forgotten),
        cmocka_unit_test(bytes_are_as_documented),
        cmocka_unit_test(what_a_later_release_adds_is_skipped),
        cmocka_unit_test(a_cut_off_message_is_malformed),
        cmocka_unit_test(strangers_are_not_heard),
        cmocka_unit_test(whatever_the_network_does_all_agree_in_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
