/* SPDX-License-Identifier: BSD-2-Clause
 *
 * policy_test.c - what holds for every policy, whatever else it does.
 */
#include "place/harness.h"

/* hash twice: as a ring and as a table, with and without a bound */
static const struct variant {
    const char *policy;
    struct place_params params;
} variants[] = {
    {"round-robin", {0}},
    {"random", {0}},
    {"least-request", {0}},
    {"least-request", {.full_scan = true}},
    {"hash", {0}},
    {"hash", {.bound = 1.25}},
    {"hash", {.maglev = true}},
    {"hash", {.maglev = true, .bound = 1.25}},
};

#define EACH_VARIANT(v) \
    for (const struct variant *v = variants; v < variants + MC_COUNT(variants); v++)

static void
begin(struct rig *r, const struct variant *v, unsigned n)
{
    rig_init(r, n);
    r->params = v->params;
    rig_start(r, v->policy);
}

/* A request with a key of its own. */
static struct place_answer
ask(struct rig *r, const uint32_t *tried, unsigned n_tried)
{
    return rig_ask(
        r, &(struct place_ask){
               .has_key = true, .key = rng_next(&r->rng), .tried = tried, .n_tried = n_tried});
}

static void
policies_are_found_by_their_names(void **state)
{
    unsigned n = 0;

    while (policy_at(n)) {
        assert_ptr_equal(policy_find(str_of(policy_at(n)->name)), policy_at(n));
        n++;
    }
    assert_int_equal(n, 7);
    assert_null(policy_find(STR("round_robin")));
    assert_null(policy_find(STR_NONE));
}

static void
every_reason_has_a_name_and_a_text(void **state)
{
    for (int r = PLACE_NONE; r <= PLACE_PREQUAL_HOT; r++) {
        assert_true(strlen(place_reason_name((enum place_reason)r)) > 0);
        assert_true(strlen(place_reason_text((enum place_reason)r)) > 0);
    }
    assert_string_equal(place_reason_name(PLACE_LEAST_OF_TWO), "least-of-two");
}

static void
an_empty_pool_has_nobody(void **state)
{
    EACH_VARIANT(v)
    {
        struct rig r;

        begin(&r, v, 0);
        assert_int_equal(ask(&r, NULL, 0).index, -1);
        assert_int_equal(ask(&r, NULL, 0).reason, PLACE_NONE);
        rig_free(&r);
    }
}

static void
a_single_server_is_the_only_one(void **state)
{
    EACH_VARIANT(v)
    {
        struct rig r;

        begin(&r, v, 1);
        assert_int_equal(ask(&r, NULL, 0).index, 0);
        assert_int_equal(ask(&r, NULL, 0).reason, PLACE_ONLY);
        rig_free(&r);
    }
}

static void
of_many_the_last_open_one_is_the_only_one(void **state)
{
    EACH_VARIANT(v)
    {
        struct rig r;

        begin(&r, v, 9);
        for (unsigned i = 0; i < 9; i++)
            r.load[i].open = i == 5;
        for (int k = 0; k < 20; k++) {
            struct place_answer a = ask(&r, NULL, 0);

            assert_int_equal(a.index, 5);
            assert_int_equal(a.reason, PLACE_ONLY);
        }
        rig_free(&r);
    }
}

static void
closed_servers_get_nothing_and_the_others_all(void **state)
{
    EACH_VARIANT(v)
    {
        struct rig r;

        begin(&r, v, 100);
        for (unsigned i = 0; i < 100; i += 2)
            r.load[i].open = 0;
        for (unsigned i = 1; i < 100; i += 10)
            r.load[i].weight = 0;
        for (int k = 0; k < 10000; k++)
            assert_true(ask(&r, NULL, 0).index >= 0);
        for (unsigned i = 0; i < 100; i++)
            assert_true((r.count[i] == 0) == (i % 2 == 0 || i % 10 == 1));
        rig_free(&r);
    }
}

static void
full_servers_get_nothing_until_they_have_room(void **state)
{
    EACH_VARIANT(v)
    {
        struct rig r;

        begin(&r, v, 10);
        for (unsigned i = 0; i < 10; i++)
            r.load[i].max_in_flight = 5;
        for (unsigned i = 0; i < 9; i++)
            r.load[i].in_flight = 5;
        for (int k = 0; k < 100; k++)
            assert_int_equal(ask(&r, NULL, 0).index, 9);
        r.load[3].in_flight = 0;
        rig_count_reset(&r);
        for (int k = 0; k < 1000; k++)
            ask(&r, NULL, 0);
        assert_true(r.count[3] > 0);
        assert_int_equal(r.count[3] + r.count[9], 1000);
        rig_free(&r);
    }
}

static void
when_all_are_full_it_says_so(void **state)
{
    EACH_VARIANT(v)
    {
        struct rig r;

        begin(&r, v, 20);
        for (unsigned i = 0; i < 20; i++) {
            r.load[i].max_in_flight = 1;
            r.load[i].in_flight = 1;
            r.load[i].open = i % 2;
        }
        assert_int_equal(ask(&r, NULL, 0).index, -1);
        assert_int_equal(ask(&r, NULL, 0).reason, PLACE_FULL);
        rig_free(&r);
    }
}

static void
when_all_are_closed_it_says_so_and_sees_them_open_again(void **state)
{
    EACH_VARIANT(v)
    {
        struct rig r;

        begin(&r, v, 20);
        for (unsigned i = 0; i < 20; i++)
            r.load[i].open = 0;
        assert_int_equal(ask(&r, NULL, 0).index, -1);
        assert_int_equal(ask(&r, NULL, 0).reason, PLACE_NONE);
        r.load[11].open = 1;
        assert_int_equal(ask(&r, NULL, 0).index, 11);
        for (unsigned i = 0; i < 20; i++)
            r.load[i].open = 1;
        for (int k = 0; k < 1000; k++)
            ask(&r, NULL, 0);
        for (unsigned i = 0; i < 20; i++)
            assert_true(r.count[i] > 0);
        rig_free(&r);
    }
}

static void
tried_servers_are_avoided(void **state)
{
    static const uint32_t tried[] = {0, 2, 3};

    EACH_VARIANT(v)
    {
        struct rig r;

        begin(&r, v, 5);
        for (int k = 0; k < 500; k++) {
            struct place_answer a = ask(&r, tried, 3);

            assert_true(a.index == 1 || a.index == 4);
            assert_true(a.reason != PLACE_LAST_RESORT);
        }
        rig_free(&r);
    }
}

static void
a_tried_server_is_the_last_resort(void **state)
{
    static const uint32_t tried[] = {1};

    EACH_VARIANT(v)
    {
        struct rig r;

        begin(&r, v, 5);
        for (unsigned i = 0; i < 5; i++)
            r.load[i].open = i == 1;
        assert_int_equal(ask(&r, tried, 1).index, 1);
        assert_int_equal(ask(&r, tried, 1).reason, PLACE_LAST_RESORT);
        rig_free(&r);
    }
}

static void
a_tried_server_is_not_used_while_an_untried_one_is_only_full(void **state)
{
    static const uint32_t tried[] = {1};

    EACH_VARIANT(v)
    {
        struct rig r;

        begin(&r, v, 3);
        r.load[0].open = 0;
        r.load[2].max_in_flight = r.load[2].in_flight = 1;
        assert_int_equal(ask(&r, tried, 1).index, -1);
        assert_int_equal(ask(&r, tried, 1).reason, PLACE_FULL);
        rig_free(&r);
    }
}

static void
a_full_last_resort_is_full(void **state)
{
    static const uint32_t tried[] = {0, 1};

    EACH_VARIANT(v)
    {
        struct rig r;

        begin(&r, v, 2);
        for (unsigned i = 0; i < 2; i++)
            r.load[i].max_in_flight = r.load[i].in_flight = 1;
        assert_int_equal(ask(&r, tried, 2).reason, PLACE_FULL);
        rig_free(&r);
    }
}

static void
weights_hold_for_all(void **state)
{
    static const unsigned weights[] = {1, 2, 4, 8};

    EACH_VARIANT(v)
    {
        struct rig r;

        rig_init(&r, 4);
        rig_weights(&r, weights);
        r.params = v->params;
        r.params.table_size = v->params.maglev ? 0 : 4000; /* many points: an even ring */
        rig_start(&r, v->policy);
        for (int k = 0; k < 30000; k++)
            ask(&r, NULL, 0);
        for (unsigned i = 0; i < 4; i++)
            assert_near(r.count[i], 2000.0 * weights[i], .1);
        rig_free(&r);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(policies_are_found_by_their_names),
        cmocka_unit_test(every_reason_has_a_name_and_a_text),
        cmocka_unit_test(an_empty_pool_has_nobody),
        cmocka_unit_test(a_single_server_is_the_only_one),
        cmocka_unit_test(of_many_the_last_open_one_is_the_only_one),
        cmocka_unit_test(closed_servers_get_nothing_and_the_others_all),
        cmocka_unit_test(full_servers_get_nothing_until_they_have_room),
        cmocka_unit_test(when_all_are_full_it_says_so),
        cmocka_unit_test(when_all_are_closed_it_says_so_and_sees_them_open_again),
        cmocka_unit_test(tried_servers_are_avoided),
        cmocka_unit_test(a_tried_server_is_the_last_resort),
        cmocka_unit_test(a_tried_server_is_not_used_while_an_untried_one_is_only_full),
        cmocka_unit_test(a_full_last_resort_is_full),
        cmocka_unit_test(weights_hold_for_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
