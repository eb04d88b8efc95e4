/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fleet_test.c - what survives a reload, and what does not.
 */
#include "fleet/harness.h"

static void
a_server_of_the_same_identity_lives_on(void **state)
{
    struct pool_conf c = pool_of(2), d = pool_of(2);
    struct pool *p = adopt(&c), *q;

    p->servers[0]->load.in_flight = 5;
    stat_add(&p->servers[0]->counters[1].requests, 7);
    q = adopt(&d);
    assert_ptr_equal(p->servers[0], q->servers[0]);
    assert_ptr_equal(p->live, q->live);
    pool_free(&p);
    assert_int_equal(q->servers[0]->load.in_flight, 5);
    assert_int_equal(stat_get(&q->servers[0]->counters[1].requests), 7);
    pool_free(&q);
}

static void
a_new_address_is_a_new_server(void **state)
{
    struct pool_conf c = pool_of(2), d = pool_of(2);
    struct pool *p = adopt(&c), *q;

    set_address(&d, 0, "127.0.0.1:9999");
    q = adopt(&d);
    assert_ptr_not_equal(p->servers[0], q->servers[0]);
    assert_int_not_equal(p->servers[0]->id, q->servers[0]->id);
    assert_ptr_equal(p->servers[1], q->servers[1]);
    pool_free(&p);
    pool_free(&q);
}

static void
ids_stay_small_and_dense(void **state)
{
    struct pool *p = NULL, *q;

    for (int k = 0; k < 50; k++) {
        struct pool_conf c = pool_of(70);
        char address[32];

        for (unsigned i = 0; i < 70; i++) {
            snprintf(address, sizeof(address), "127.0.%d.1:%u", k, i + 1);
            set_address(&c, i, address);
        }
        q = adopt(&c);
        for (unsigned i = 0; i < 70; i++)
            assert_true(q->servers[i]->id < 140);
        pool_free(&p);
        p = q;
    }
    pool_free(&p);
}

static void
nothing_changes_before_adoption(void **state)
{
    struct pool_conf c = pool_of(2), d = pool_of(2);
    struct pool *p = adopt(&c), **built;

    d.servers[0].weight = 9;
    d.servers[0].max_concurrent = 3;
    d.servers[1].state = HEALTH_ADMIN_MAINT;
    assert_int_equal(fleet_build(F, &d, 1, &built, NULL), MC_OK);
    assert_int_equal(p->view.load[0]->weight, PLACE_WEIGHT_UNIT);
    assert_int_equal(p->view.load[0]->max_in_flight, 0);
    assert_int_equal(state_of(p, 1), HEALTH_UP);
    fleet_adopt(F, built, 1);
    assert_int_equal(p->view.load[0]->weight, 9 * PLACE_WEIGHT_UNIT);
    assert_int_equal(p->view.load[0]->max_in_flight, 3);
    assert_int_equal(state_of(p, 1), HEALTH_MAINT);
    pool_free(&p);
    pool_free(&built[0]);
    free(built);
}

static void
a_build_that_is_thrown_away_leaves_nothing(void **state)
{
    struct pool_conf c = pool_of(2), d = pool_of(5);
    struct pool *p = adopt(&c), **built;

    assert_int_equal(fleet_build(F, &d, 1, &built, NULL), MC_OK);
    pool_free(&built[0]);
    free(built);
    assert_int_equal(p->live->n_open, 2);
    pool_free(&p);
}

static void
the_operators_word_survives_a_reload(void **state)
{
    struct pool_conf c = pool_of(2), d = pool_of(2);
    struct pool *p = adopt(&c), *q;

    assert_int_equal(fleet_set_admin(F, "app", "s0", HEALTH_ADMIN_DRAIN, "operator", NULL), MC_OK);
    assert_int_equal(fleet_set_weight(F, "app", "s1", 5, NULL), MC_OK);
    q = adopt(&d);
    assert_int_equal(state_of(q, 0), HEALTH_DRAIN);
    assert_string_equal(reason_of(q, 0), "operator");
    assert_int_equal(q->view.load[1]->weight, 5 * PLACE_WEIGHT_UNIT);
    pool_free(&p);
    pool_free(&q);
}

static void
unless_the_configuration_itself_says_something_new(void **state)
{
    struct pool_conf c = pool_of(2), d = pool_of(2), e = pool_of(2);
    struct pool *p = adopt(&c), *q;

    fleet_set_admin(F, "app", "s0", HEALTH_ADMIN_DRAIN, "operator", NULL);
    fleet_set_weight(F, "app", "s1", 5, NULL);
    d.servers[0].state = HEALTH_ADMIN_MAINT;
    d.servers[1].weight = 2;
    q = adopt(&d);
    pool_free(&p);
    assert_int_equal(state_of(q, 0), HEALTH_MAINT);
    assert_int_equal(q->view.load[1]->weight, 2 * PLACE_WEIGHT_UNIT);
    p = adopt(&e);
    pool_free(&q);
    assert_int_equal(state_of(p, 0), HEALTH_UP);
    assert_true(is_open(p, 0));
    pool_free(&p);
}

static void
a_removed_server_stays_for_those_who_hold_it(void **state)
{
    struct pool_conf c = pool_of(2), d = pool_of(1);
    struct pool *p = adopt(&c), *q = adopt(&d);
    struct server *s = server_ref(p->servers[1]);

    assert_int_equal(q->live->n_open, 1);
    assert_int_equal(fleet_set_admin(F, "app", "s1", HEALTH_ADMIN_DRAIN, "operator", NULL),
                     MC_ENOENT);
    pool_free(&p);
    assert_string_equal(s->name, "s1");
    server_unref(&s);
    assert_null(s);
    pool_free(&q);
}

static void
a_removed_server_that_returns_in_time_is_the_same(void **state)
{
    struct pool_conf c = pool_of(2), d = pool_of(1), e = pool_of(2);
    struct pool *p = adopt(&c), *q = adopt(&d), *r = adopt(&e);

    assert_ptr_equal(p->servers[1], r->servers[1]);
    assert_int_equal(r->live->n_open, 2);
    pool_free(&p);
    pool_free(&q);
    pool_free(&r);
}

static void
unknown_names_are_told(void **state)
{
    struct pool_conf c = pool_of(1);
    struct pool *p = adopt(&c);
    struct errbuf err;

    assert_int_equal(fleet_set_admin(F, "web", "s0", HEALTH_ADMIN_DRAIN, "operator", &err),
                     MC_ENOENT);
    assert_string_equal(err.text, "no pool web");
    assert_int_equal(fleet_set_weight(F, "app", "s7", 1, &err), MC_ENOENT);
    assert_string_equal(err.text, "no server s7 in pool app");
    pool_free(&p);
}

static void
faults_name_the_server_and_leave_nothing_behind(void **state)
{
    struct pool_conf c[2] = {pool_of(3), pool_of(1)};
    struct errbuf err = {{0}};
    struct pool **pools = NULL;

    free(c[1].name);
    c[1].name = mc_strdup("web");
    set_address(&c[0], 2, "127.0.0.1:what");
    assert_int_not_equal(fleet_build(F, c, 2, &pools, &err), MC_OK);
    assert_null(pools);
    assert_non_null(strstr(err.text, "pool app: server s2: "));
    assert_null(c[0].name); /* taken all the same */
    assert_null(c[1].name);
}

static void
names_are_unique(void **state)
{
    struct pool_conf c = pool_of(2), d[2] = {pool_of(1), pool_of(1)};
    struct pool **pools;
    struct errbuf err;

    free(c.servers[1].name);
    c.servers[1].name = mc_strdup("s0");
    assert_int_equal(fleet_build(F, &c, 1, &pools, &err), MC_EEXIST);
    assert_string_equal(err.text, "pool app: server s0: exists already");
    assert_int_equal(fleet_build(F, d, 2, &pools, &err), MC_EEXIST);
    assert_string_equal(err.text, "pool app: exists already");
}

static void
pools_may_outlive_the_fleet(void **state)
{
    struct pool_conf c = pool_of(2);
    struct pool *p = adopt(&c);

    c = pool_of(2);
    fleet_free(&F);
    assert_string_equal(p->servers[1]->name, "s1");
    pool_free(&p);
    pool_conf_free(&c);
}

static void
a_fleet_without_a_loop_serves_tools(void **state)
{
    struct pool_conf c = pool_of(2);
    struct pool *p;

    c.check.kind = POOL_CHECK_HTTP;
    c.health.eject_after = 5;
    set_address(&c, 1, "app.internal:80");
    fleet_free(&F);
    F = fleet_new(0, NULL, NULL, NULL, NULL);
    p = adopt(&c);
    assert_true(is_open(p, 0));
    assert_int_equal(state_of(p, 1), HEALTH_DOWN);
    pool_free(&p);
}

static void
addresses_are_told_with_their_generation(void **state)
{
    struct pool_conf c = pool_of(2);
    struct pool *p;
    char text[ADDR_TEXT];
    struct addr a;
    uint32_t generation;

    set_address(&c, 1, "app.internal:80");
    p = adopt(&c);
    assert_true(server_address(p->servers[0], 3, &a, &generation));
    assert_string_equal(addr_text(&a, text), "127.0.0.1:9001");
    assert_int_equal(generation, server_addr_generation(p->servers[0]));
    assert_false(server_address(p->servers[1], 0, &a, &generation));
    assert_int_equal(server_addr_generation(p->servers[1]), 0);
    pool_free(&p);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fleet_setup, fleet_teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_server_of_the_same_identity_lives_on),
        TEST(a_new_address_is_a_new_server),
        TEST(ids_stay_small_and_dense),
        TEST(nothing_changes_before_adoption),
        TEST(a_build_that_is_thrown_away_leaves_nothing),
        TEST(the_operators_word_survives_a_reload),
        TEST(unless_the_configuration_itself_says_something_new),
        TEST(a_removed_server_stays_for_those_who_hold_it),
        TEST(a_removed_server_that_returns_in_time_is_the_same),
        TEST(unknown_names_are_told),
        TEST(faults_name_the_server_and_leave_nothing_behind),
        TEST(names_are_unique),
        TEST(pools_may_outlive_the_fleet),
        TEST(a_fleet_without_a_loop_serves_tools),
        TEST(addresses_are_told_with_their_generation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
