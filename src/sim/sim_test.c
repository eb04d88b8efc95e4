/* SPDX-License-Identifier: BSD-2-Clause
 *
 * sim_test.c - the simulator against theory, against itself, and what placement must show in it.
 */
#include "sim/sim.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/rand.h"
#include "sim/heap.h"

#define assert_near(x, should, share)                            \
    do {                                                         \
        double x_ = (x), s_ = (should);                          \
        if (!(fabs(x_ - s_) <= (share)*fabs(s_)))                \
            fail_msg("%s is %g, should be near %g", #x, x_, s_); \
    } while (0)

static void
events_come_out_by_time_and_equal_ones_in_order(void **state)
{
    struct sim_heap h = {0};
    struct sim_event e, last = {0};
    struct rng rng;

    rng_seed(&rng, 1);
    for (uint32_t i = 0; i < 20000; i++)
        sim_heap_push(&h, rng_below(&rng, 500), 0, i, 0);
    for (uint32_t i = 0; i < 20000; i++) {
        assert_true(sim_heap_pop(&h, &e));
        assert_true(e.at > last.at || (e.at == last.at && (i == 0 || e.a > last.a)));
        last = e;
    }
    assert_false(sim_heap_pop(&h, &e));
    sim_heap_free(&h);
}

static void
quantiles_are_exact_to_half_a_percent(void **state)
{
    struct sim_hist *h = mc_alloc(sizeof(*h));

    assert_true(sim_hist_quantile(h, .5) == 0);
    for (int i = 1; i <= 10000; i++)
        sim_hist_add(h, i * 1e-4);
    assert_near(sim_hist_quantile(h, .5), .5, .005);
    assert_near(sim_hist_quantile(h, .99), .99, .005);
    assert_near(sim_hist_quantile(h, .999), .999, .005);
    free(h);
}

/* One server of one core, one class: M/G/1 processor sharing, whose mean slowdown is 1 / (1 - load)
 * whatever the work is distributed like (Kleinrock 1967). */
static void
one_core_behaves_as_theory_says(void **state)
{
    struct sim_conf c;
    struct sim_result *r;

    sim_conf_init(&c, sim_scenario_find("web"));
    c.n_classes = 1;
    c.class[0].share = 1;
    c.n_servers = c.n_balancers = c.cores = 1;
    c.one_speed = true;
    c.seconds = 300;
    for (int i = 0; i < 2; i++) {
        c.load = i ? .8 : .5;
        r = sim_run(&c, "random");
        assert_near(r->class[0].slowdown.sum / (double)r->class[0].slowdown.n, 1 / (1 - c.load),
                    .05);
        assert_near(r->busy, c.load, .02);
        assert_near((double)r->all.n_ok, (300 - 4) * c.load / .001, .01);
        free(r);
    }
}

static struct sim_result *
run(const char *scenario, const char *policy, double seconds, uint64_t seed)
{
    struct sim_conf c;

    sim_conf_init(&c, sim_scenario_find(scenario));
    c.n_servers = 60;
    c.n_balancers = 6;
    c.seconds = seconds;
    c.seed = seed;
    return sim_run(&c, policy);
}

static double
cheap_p99(const char *scenario, const char *policy)
{
    struct sim_result *r = run(scenario, policy, 4, 1);
    double p99 = sim_hist_quantile(&r->class[0].latency_s, .99);

    free(r);
    return p99;
}

static void
a_run_repeats_exactly(void **state)
{
    for (unsigned s = 0; sim_scenario_at(s); s++) {
        struct sim_result *a = run(sim_scenario_at(s)->name, "resource", 1.5, 7);
        struct sim_result *b = run(sim_scenario_at(s)->name, "resource", 1.5, 7);

        assert_int_equal(a->n_events, b->n_events);
        assert_memory_equal(&a->all, &b->all, sizeof(a->all));
        assert_memory_equal(a->cost, b->cost, sizeof(a->cost));
        free(a);
        free(b);
    }
}

static void
every_policy_meets_the_same_requests(void **state)
{
    struct sim_result *first = run("web", "random", 1.5, 3);

    for (unsigned p = 0; sim_policy_at(p); p++) {
        struct sim_result *r = run("web", sim_policy_at(p), 1.5, 3);

        for (unsigned k = 0; k < r->n_classes; k++)
            assert_int_equal(r->class[k].n_ok + r->class[k].n_failed,
                             first->class[k].n_ok + first->class[k].n_failed);
        assert_int_equal(r->all.n_failed, 0);
        free(r);
    }
    free(first);
}

static void
resource_comes_near_the_oracle_and_leaves_the_others_behind(void **state)
{
    static const char *const scenario[] = {"web", "waiting"};

    for (int i = 0; i < 2; i++) {
        double ours = cheap_p99(scenario[i], "resource");

        assert_true(ours < 1.2 * cheap_p99(scenario[i], "oracle"));
        assert_true(ours * 1.3 < cheap_p99(scenario[i], "prequal"));
        assert_true(ours * 1.5 < cheap_p99(scenario[i], "least-request"));
        assert_true(ours * 3 < cheap_p99(scenario[i], "p2c"));
    }
}

static void
whatever_befalls_it_resource_is_no_worse_than_two_choices(void **state)
{
    static const char *const scenario[] = {"loss", "views",     "noagent", "someagents", "die",
                                           "join", "partition", "drift",   "cold",       "burst"};

    for (unsigned i = 0; i < MC_COUNT(scenario); i++)
        if (cheap_p99(scenario[i], "resource") > cheap_p99(scenario[i], "p2c"))
            fail_msg("resource is worse than two choices in %s", scenario[i]);
}

static void
memory_is_not_overdrawn_and_faults_are_avoided(void **state)
{
    struct sim_result *r = run("memory", "resource", 6, 1);

    assert_true((double)r->all.n_failed <= 1e-4 * (double)r->all.n_ok);
    free(r);
    r = run("faults", "resource", 6, 1);
    assert_true((double)r->all.n_failed <= 2e-4 * (double)r->all.n_ok);
    free(r);
}

static void
costs_are_learned(void **state)
{
    struct sim_result *r = run("web", "resource", 6, 1);

    assert_true(r->cost_error < .06);
    assert_true(r->phi_error < .05);
    free(r);
    r = run("memory", "resource", 6, 1);
    assert_near(r->cost[3].mem_mb, 400, .1);
    free(r);
}

/* --- logs ---------------------------------------------------------------------------------------
 */

static const char log_text[] =
    "{\"time\":\"2026-01-31T10:00:00.000Z\",\"method\":\"GET\",\"target\":\"/u/4711\","
    "\"status\":200,\"queue_ms\":1.0,\"connect_ms\":0.5,\"total_ms\":3.5}\n"
    "{\"time\":\"2026-01-31T10:00:02.000Z\",\"method\":\"GET\",\"target\":\"/u/4712?x=1\","
    "\"status\":200,\"total_ms\":4.0}\n"
    "127.0.0.1 - - [31/Jan/2026:10:00:01 +0000] \"POST /in HTTP/1.1\" 200 5 \"-\" \"-\"\n"
    "127.0.0.1 - - [31/Jan/2026:11:00:01 +0100] \"POST /in HTTP/1.1\" 200 5 \"-\" \"-\"\n"
    "nonsense\n"
    "{\"time\":\"never\"}\n"
    "{\"broken\n";

static void
logs_of_both_kinds_are_read(void **state)
{
    char path[] = "/tmp/sim_testXXXXXX";
    int fd = mkstemp(path);
    struct sim_conf c;
    struct sim_log log;
    struct errbuf e = {""};

    sim_conf_init(&c, sim_scenario_at(0));
    assert_int_equal(write(fd, log_text, sizeof(log_text) - 1), sizeof(log_text) - 1);
    assert_int_equal(sim_log_read(path, &c, 0, &log, &e), MC_OK);
    assert_int_equal(log.n, 4);
    assert_int_equal(log.n_bad, 3);
    assert_near((double)log.length_ns, 2e9, .01);
    assert_near((double)log.request[0].work_s, .002, .001);
    assert_int_equal(log.request[0].class, log.request[3].class);
    assert_int_not_equal(log.request[0].class, log.request[1].class);
    assert_string_equal(c.class[log.request[0].class].name, "GET /u/{}");
    /* two in one second are spread over it */
    assert_near((double)(log.request[2].at - log.request[1].at), 5e8, .01);
    sim_log_free(&log);
    close(fd);
    unlink(path);
    assert_int_not_equal(sim_log_read("/nonexistent", &c, 0, &log, &e), MC_OK);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_come_out_by_time_and_equal_ones_in_order),
        cmocka_unit_test(quantiles_are_exact_to_half_a_percent),
        cmocka_unit_test(one_core_behaves_as_theory_says),
        cmocka_unit_test(a_run_repeats_exactly),
        cmocka_unit_test(every_policy_meets_the_same_requests),
        cmocka_unit_test(resource_comes_near_the_oracle_and_leaves_the_others_behind),
        cmocka_unit_test(whatever_befalls_it_resource_is_no_worse_than_two_choices),
        cmocka_unit_test(memory_is_not_overdrawn_and_faults_are_avoided),
        cmocka_unit_test(costs_are_learned),
        cmocka_unit_test(logs_of_both_kinds_are_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
