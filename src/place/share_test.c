/* SPDX-License-Identifier: BSD-2-Clause
 *
 * share_test.c - words that are lost, come twice, late or never.
 */
#include "place/share.h"

#include "place/harness.h"

static const uint64_t ids[] = {7, 9};
static const uint64_t id_hash[] = {1, 2, 3, 4};
static struct share_map *map;
static uint32_t home_server = UINT32_MAX; /* the only one in our home */

static bool
in_home(void *arg, uint32_t server)
{
    return server == home_server;
}

static void
touched(void *arg, uint32_t server)
{
}

static const struct share_hooks hooks = {in_home, touched, NULL};

static void
setup_share(struct share *s)
{
    home_server = UINT32_MAX;
    map = share_map_new(1, id_hash, 4);
    share_init(s, map, 3);
    share_set_peers(s, ids, 2);
}

static bool
hear(struct share *s, enum share_kind kind, uint64_t from, uint64_t seq, struct share_load e,
     mc_ns now)
{
    struct share_msg m = {
        .kind = kind, .from = from, .seq = seq, .n = 1, .load = &e, .rate = 5, .last = UINT32_MAX};

    return share_merge(s, &m, now, &hooks);
}

static void
what_two_say_is_added_up(void **state)
{
    struct share s;

    setup_share(&s);
    hear(&s, SHARE_SLOW, 7, 1, (struct share_load){.server = 2, .now = 9, .mean = 5, .heavy = 3},
         1);
    hear(&s, SHARE_SLOW, 9, 1, (struct share_load){.server = 2, .now = 9, .mean = 2, .mem = 4}, 1);
    assert_int_equal(s.total[2].phi, 5 + 3 + 2);
    assert_int_equal(s.total[2].mem, 4);
    assert_near(share_peer(&s, 7)->rate, 5, 0);
    share_fini(&s);
    share_map_free(&map);
}

static void
at_home_the_moment_counts_and_elsewhere_the_mean(void **state)
{
    struct share s;

    setup_share(&s);
    home_server = 2;
    hear(&s, SHARE_SLOW, 7, 1, (struct share_load){.server = 2, .now = 9, .mean = 5}, 1);
    assert_int_equal(s.total[2].phi, 9);
    hear(&s, SHARE_SLOW, 7, 2, (struct share_load){.server = 1, .now = 9, .mean = 5}, 1);
    assert_int_equal(s.total[1].phi, 5);
    assert_int_equal(s.total[2].phi, 0); /* not named any more: nothing there */
    share_fini(&s);
    share_map_free(&map);
}

static void
late_and_repeated_words_change_nothing(void **state)
{
    struct share s;

    setup_share(&s);
    hear(&s, SHARE_FAST, 7, 5, (struct share_load){.server = 1, .now = 50}, 1);
    hear(&s, SHARE_FAST, 7, 4, (struct share_load){.server = 1, .now = 40}, 1);
    hear(&s, SHARE_FAST, 7, 5, (struct share_load){.server = 1, .now = 60}, 1);
    assert_int_equal(s.total[1].phi, 50);
    assert_true(hear(&s, SHARE_SLOW, 7, 3, (struct share_load){.server = 3, .mean = 8}, 1));
    assert_int_equal(s.total[1].phi, 50); /* the older SLOW does not wipe what FAST said since */
    assert_int_equal(s.total[3].phi, 8);
    assert_false(hear(&s, SHARE_SLOW, 7, 3, (struct share_load){.server = 3, .mean = 80}, 1));
    assert_int_equal(s.total[3].phi, 8);
    share_fini(&s);
    share_map_free(&map);
}

/* Whatever is lost on the way: after one SLOW that arrives, all is as it was said. */
static void
one_word_mends_all_that_was_lost(void **state)
{
    struct share s;
    struct rng rng;
    uint64_t seq = 0;

    setup_share(&s);
    rng_seed(&rng, 1);
    for (int round = 0; round < 2000; round++) {
        struct share_load e[4];
        struct share_msg m = {.kind = SHARE_SLOW, .from = 7, .n = 4, .load = e, .last = UINT32_MAX};

        for (uint32_t i = 0; i < 4; i++) {
            e[i] = (struct share_load){.server = i,
                                       .mean = (int32_t)rng_below(&rng, 100),
                                       .heavy = (int32_t)rng_below(&rng, 9)};
            if (rng_below(&rng, 2))
                hear(&s, SHARE_HEAVY, 7, seq + rng_below(&rng, 30), e[i], 1);
        }
        m.seq = seq += 40;
        share_merge(&s, &m, 1, &hooks);
        for (uint32_t i = 0; i < 4; i++)
            assert_int_equal(s.total[i].phi, e[i].mean + e[i].heavy);
    }
    share_fini(&s);
    share_map_free(&map);
}

static void
who_is_silent_or_gone_has_nothing_in_flight(void **state)
{
    struct share s;

    setup_share(&s);
    hear(&s, SHARE_SLOW, 7, 1, (struct share_load){.server = 2, .mean = 5}, MC_SEC);
    hear(&s, SHARE_SLOW, 9, 1, (struct share_load){.server = 2, .mean = 3}, 2 * MC_SEC);
    share_expire(&s, MC_SEC + SHARE_SILENT_NS, &hooks);
    assert_int_equal(s.total[2].phi, 3);
    assert_true(share_peer(&s, 7)->rate == 0);
    share_set_peers(&s, ids, 1);
    assert_int_equal(s.total[2].phi, 0);
    assert_null(share_peer(&s, 9));
    /* who is back counts from the beginning */
    share_set_peers(&s, ids, 2);
    hear(&s, SHARE_SLOW, 9, 1, (struct share_load){.server = 2, .mean = 4}, 3 * MC_SEC);
    assert_int_equal(s.total[2].phi, 4);
    share_fini(&s);
    share_map_free(&map);
}

static void
strangers_and_nonsense_are_passed_over(void **state)
{
    struct share s;

    setup_share(&s);
    assert_false(hear(&s, SHARE_SLOW, 8, 1, (struct share_load){.server = 2, .mean = 5}, 1));
    assert_true(hear(&s, SHARE_SLOW, 7, 1, (struct share_load){.server = 4000, .mean = 5}, 1));
    for (int i = 0; i < 4; i++)
        assert_int_equal(s.total[i].phi, 0);
    share_fini(&s);
    share_map_free(&map);
}

/* Pieces of one message, of which one is lost and one comes twice. */
static void
a_piece_speaks_of_its_keys_alone(void **state)
{
    struct share_load low = {.mean = 7, .slow_n = 1}, high = {.mean = 8};
    struct share_msg m = {.kind = SHARE_SLOW, .from = 7, .seq = 256, .last = UINT32_MAX};
    struct share s;

    setup_share(&s);
    for (uint32_t i = 0; i < 4; i++)
        hear(&s, SHARE_HEAVY, 7, 1 + i, (struct share_load){.server = i, .heavy = 1}, 1);
    low.server = map->by_key[0].server;
    high.server = map->by_key[3].server;
    m.last = map->by_key[1].key;
    m.load = &low;
    m.n = 1;
    assert_true(share_merge(&s, &m, 1, &hooks));
    assert_false(share_merge(&s, &m, 1, &hooks)); /* its slowness must not count twice */
    assert_int_equal(s.total[map->by_key[0].server].phi, 7);
    assert_int_equal(s.total[map->by_key[1].server].phi, 0);
    assert_int_equal(s.total[map->by_key[2].server].phi, 1);
    assert_int_equal(s.total[map->by_key[3].server].phi, 1);
    m.seq += 2;
    m.first = 1; /* of none: entries that changed */
    m.last = 0;
    m.load = &high;
    assert_true(share_merge(&s, &m, 1, &hooks));
    assert_int_equal(s.total[map->by_key[0].server].phi, 7);
    assert_int_equal(s.total[map->by_key[3].server].phi, 8);
    share_fini(&s);
    share_map_free(&map);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_two_say_is_added_up),
        cmocka_unit_test(at_home_the_moment_counts_and_elsewhere_the_mean),
        cmocka_unit_test(late_and_repeated_words_change_nothing),
        cmocka_unit_test(one_word_mends_all_that_was_lost),
        cmocka_unit_test(who_is_silent_or_gone_has_nothing_in_flight),
        cmocka_unit_test(strangers_and_nonsense_are_passed_over),
        cmocka_unit_test(a_piece_speaks_of_its_keys_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
