/* SPDX-License-Identifier: BSD-2-Clause
 *
 * pool_test.c - choosing and claiming: limits hold, from one thread and from many.
 */
#include "fleet/harness.h"

#define WORKERS 3
#define ROUNDS  20000

static struct rng rng;
static const struct place_ask anything;

static void
a_pick_counts_at_the_server_and_the_pool(void **state)
{
    struct pool_conf c = pool_of(2);
    struct pool *p = adopt(&c);
    struct pool_worker w;
    struct pool_pick pick;

    pool_worker_init(&w, p, &rng);
    assert_true(pool_pick(&w, &anything, &rng, &pick));
    assert_ptr_equal(pick.server, p->servers[pick.index]);
    assert_int_equal(pick.reason, PLACE_ROUND_ROBIN);
    assert_int_equal(pick.server->load.in_flight, 1);
    assert_int_equal(p->live->in_flight, 1);
    pool_end(p, pick.server);
    assert_int_equal(pick.server->load.in_flight, 0);
    assert_int_equal(p->live->in_flight, 0);
    pool_worker_fini(&w);
    pool_free(&p);
}

static void
the_limits_of_servers_hold(void **state)
{
    struct pool_conf c = pool_of(3);
    struct pool_pick pick, last;
    struct pool_worker w;
    struct pool *p;

    for (unsigned i = 0; i < 3; i++)
        c.servers[i].max_concurrent = i + 1;
    p = adopt(&c);
    pool_worker_init(&w, p, &rng);
    for (int k = 0; k < 6; k++)
        assert_true(pool_pick(&w, &anything, &rng, &last));
    assert_false(pool_pick(&w, &anything, &rng, &pick));
    assert_int_equal(pick.reason, PLACE_FULL);
    assert_null(pick.server);
    assert_int_equal(p->live->in_flight, 6); /* what failed was taken back */
    pool_end(p, last.server);
    assert_true(pool_pick(&w, &anything, &rng, &pick));
    assert_ptr_equal(pick.server, last.server);
    pool_worker_fini(&w);
    pool_free(&p);
}

static void
the_limit_of_the_pool_holds(void **state)
{
    struct pool_conf c = pool_of(3);
    struct pool_pick pick;
    struct pool_worker w;
    struct pool *p;

    c.max_concurrent = 2;
    p = adopt(&c);
    pool_worker_init(&w, p, &rng);
    assert_true(pool_pick(&w, &anything, &rng, &pick));
    assert_true(pool_pick(&w, &anything, &rng, &pick));
    assert_false(pool_pick(&w, &anything, &rng, &pick));
    assert_int_equal(pick.reason, PLACE_FULL);
    for (unsigned i = 0; i < 3; i++)
        fleet_set_admin(F, "app", p->servers[i]->name, HEALTH_ADMIN_DRAIN, "test", NULL);
    assert_false(pool_pick(&w, &anything, &rng, &pick));
    assert_int_equal(pick.reason, PLACE_NONE); /* a place would not help */
    pool_worker_fini(&w);
    pool_free(&p);
}

static void
an_empty_pool_and_a_closed_one_have_nobody(void **state)
{
    struct pool_conf c = pool_of(0);
    struct pool_pick pick;
    struct pool_worker w;
    struct pool *p = adopt(&c);

    pool_worker_init(&w, p, &rng);
    assert_false(pool_pick(&w, &anything, &rng, &pick));
    assert_int_equal(pick.reason, PLACE_NONE);
    assert_int_equal(p->live->in_flight, 0);
    pool_worker_fini(&w);
    pool_free(&p);
}

static void
a_bounded_hash_knows_the_sums_of_the_pool(void **state)
{
    struct pool_conf c = pool_of(10);
    struct place_ask ask = {.has_key = true, .key = 42};
    struct pool_pick pick;
    struct pool_worker w;
    struct pool *p;

    c.policy = policy_find(STR("hash"));
    c.params.bound = 1.25;
    p = adopt(&c);
    pool_worker_init(&w, p, &rng);
    for (int k = 0; k < 1000; k++)
        assert_true(pool_pick(&w, &ask, &rng, &pick));
    for (unsigned i = 0; i < 10; i++)
        assert_true(p->servers[i]->load.in_flight <= 125);
    pool_worker_fini(&w);
    pool_free(&p);
}

static void
a_conf_is_emptied_and_may_be_freed_twice(void **state)
{
    struct pool_conf c = pool_of(2);

    c.check.path = mc_strdup("/");
    c.hash_name = mc_strdup("session");
    pool_conf_free(&c);
    assert_null(c.servers);
    assert_int_equal(c.n_servers, 0);
    pool_conf_free(&c);
}

/* --- many threads -------------------------------------------------------------------------------
 */

struct hammer {
    pthread_t thread;
    struct pool *pool;
    uint64_t seed;
    unsigned picks, refusals;
};

#define SERVERS     6
#define LIMIT       2
#define PICKS_LEAST 300 /* of each thread */

static _Atomic int32_t held[SERVERS], held_by_pool; /* a second count, between claim and end */
static _Atomic bool broken;
static _Atomic unsigned running;

/* Keeps a few at a time, some fail. */
static void *
hammer(void *arg)
{
    struct hammer *h = arg;
    struct pool_worker w;
    struct rng r;

    rng_seed(&r, h->seed);
    pool_worker_init(&w, h->pool, &r);
    /* while the other thread does not run, nobody may be up: go on until enough was picked */
    for (unsigned k = 0; k < ROUNDS || h->picks < PICKS_LEAST; k++) {
        struct place_ask ask = {.has_key = true, .key = rng_next(&r)};
        struct pool_pick pick[4];
        unsigned n = 0;

        while (n < 4 && pool_pick(&w, &ask, &r, &pick[n])) {
            if (atomic_fetch_add(&held[pick[n].index], 1) >= LIMIT ||
                atomic_fetch_add(&held_by_pool, 1) >= SERVERS * LIMIT - 2)
                broken = true;
            n++;
        }
        h->picks += n;
        h->refusals += n < 4;
        while (n-- > 0) {
            struct addr a;
            uint32_t generation;

            server_note(pick[n].server, rng_below(&r, 3) ? SERVER_OK : SERVER_BROKEN,
                        units_clock_ns());
            if (!server_address(pick[n].server, 0, &a, &generation) || a.len == 0)
                broken = true;
            atomic_fetch_sub(&held[pick[n].index], 1);
            atomic_fetch_sub(&held_by_pool, 1);
            pool_end(h->pool, pick[n].server);
        }
    }
    pool_worker_fini(&w);
    running--;
    return NULL;
}

/* What a control thread does meanwhile. */
static void
disturb(struct pool *p, unsigned turn)
{
    const char *name = p->servers[turn % SERVERS]->name;
    bool drain = turn / SERVERS % 3 == turn % 3;

    fleet_set_admin(F, "app", name, drain ? HEALTH_ADMIN_DRAIN : HEALTH_ADMIN_READY, "test", NULL);
    fleet_set_weight(F, "app", name, turn % 5, NULL);
    loop_turn(L, 0);
}

static void
many_threads_keep_all_limits(void **state)
{
    const char *policy = *state;
    struct pool_conf c = pool_of(SERVERS);
    struct hammer h[WORKERS] = {0};
    unsigned turn = 0;
    struct pool *p;

    c.policy = policy_find(str_of(policy));
    c.max_concurrent = SERVERS * LIMIT - 2;
    c.health = (struct health_conf){.eject_after = 3, .eject_ns = MC_MS, .slow_start_ns = MC_SEC};
    for (unsigned i = 0; i < SERVERS; i++)
        c.servers[i].max_concurrent = LIMIT;
    p = adopt(&c);
    broken = false;
    running = WORKERS;
    for (unsigned i = 0; i < WORKERS; i++) {
        h[i].pool = p;
        h[i].seed = i;
        assert_int_equal(pthread_create(&h[i].thread, NULL, hammer, &h[i]), 0);
    }
    while (running > 0)
        disturb(p, turn++);
    for (unsigned i = 0; i < WORKERS; i++)
        pthread_join(h[i].thread, NULL);
    assert_false(broken);
    assert_int_equal(p->live->in_flight, 0);
    for (unsigned i = 0; i < SERVERS; i++)
        assert_int_equal(p->servers[i]->load.in_flight, 0);
    pool_free(&p);
}

static int
setup_hammer(void **state)
{
    void *policy = *state;
    int rv = fleet_setup(state);

    *state = policy;
    return rv;
}

#define HAMMER(policy)                                                                       \
    {                                                                                        \
        "many_threads_keep_all_limits: " policy, many_threads_keep_all_limits, setup_hammer, \
            fleet_teardown, (void *)(uintptr_t)policy                                        \
    }

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_pick_counts_at_the_server_and_the_pool, fleet_setup,
                                        fleet_teardown),
        cmocka_unit_test_setup_teardown(the_limits_of_servers_hold, fleet_setup, fleet_teardown),
        cmocka_unit_test_setup_teardown(the_limit_of_the_pool_holds, fleet_setup, fleet_teardown),
        cmocka_unit_test_setup_teardown(an_empty_pool_and_a_closed_one_have_nobody, fleet_setup,
                                        fleet_teardown),
        cmocka_unit_test_setup_teardown(a_bounded_hash_knows_the_sums_of_the_pool, fleet_setup,
                                        fleet_teardown),
        cmocka_unit_test(a_conf_is_emptied_and_may_be_freed_twice),
        HAMMER("round-robin"),
        HAMMER("random"),
        HAMMER("least-request"),
        HAMMER("hash"),
    };

    rng_seed(&rng, 3);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
