/* SPDX-License-Identifier: BSD-2-Clause
 *
 * wait_test.c - requests of several workers that wait for one place at one server.
 */
#include "proxy/harness.h"

struct asking {
    uint16_t port;
    unsigned n;
    _Atomic unsigned n_200, n_503, n_other;
};

static void *
ask_often(void *arg)
{
    struct asking *a = arg;

    for (unsigned i = 0; i < a->n; i++) {
        unsigned status = ask_status(a->port);

        (*(status == 200 ? &a->n_200 : status == 503 ? &a->n_503 : &a->n_other))++;
    }
    return NULL;
}

static uint64_t
sum(const struct stage *s, size_t counter)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < N_WORKERS; i++)
        n += stat_get((const stat_u64 *)((const char *)worker_stats(s->workers[i]) + counter));
    return n;
}
#define SUM(s, name) sum((s), offsetof(struct worker_stats, name))

/* Nothing is counted as waiting or under way any more. */
static void
assert_settled(const struct stage *s, const struct snapshot *snap)
{
    const struct pool *p = snap->pools[0];

    while (p->live->in_flight != 0 || SUM(s, active_requests) != 0)
        usleep(1000); /* the client has its answer before the worker has counted it */
    assert_int_equal(p->live->queued, 0);
    assert_int_equal(p->live->waiting_workers, 0);
    assert_int_equal(p->servers[0]->load.in_flight, 0);
}

static void
one_place_serves_all_and_no_wake_up_is_lost(void **state)
{
    static struct stage s; /* static: gcc's ASan aligns the stack to less than a cache line */
    struct snapshot *snap;
    struct asking a = {.n = 100};
    pthread_t threads[8];
    const struct wishes w = {.cap = 1, .queue_max = 100, .queue_timeout_ns = 30 * MC_SEC};
    mc_ns begun;

    set_stage(&s, &w, &snap);
    a.port = s.port;
    begun = units_clock_ns();
    for (unsigned i = 0; i < MC_COUNT(threads); i++)
        pthread_create(&threads[i], NULL, ask_often, &a);
    for (unsigned i = 0; i < MC_COUNT(threads); i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(a.n_200, 800);
    assert_int_equal(s.origin.peak, 1);
    assert_true(SUM(&s, queued) > 0);
    /* if wake-ups were lost, each of 800 would wait for the timer's 20 ms: 16 s */
    assert_true(units_clock_ns() - begun < 10 * MC_SEC);
    assert_settled(&s, snap);
    strike_stage(&s);
    free_snapshot(snap);
    end_stage(&s);
}

/* A thread that has the only place until the origin lets it go. */
static pthread_t
take_the_place(struct stage *s, struct asking *first)
{
    pthread_t t;

    s->origin.hold = true;
    *first = (struct asking){.port = s->port, .n = 1};
    pthread_create(&t, NULL, ask_often, first);
    while (s->origin.at_once == 0)
        usleep(1000);
    return t;
}

static void
leave_the_place(struct stage *s, pthread_t t, const struct asking *first)
{
    s->origin.hold = false;
    pthread_join(t, NULL);
    assert_int_equal(first->n_200, 1);
}

static void
who_waits_too_long_is_told_so(void **state)
{
    static struct stage s; /* as above */
    struct snapshot *snap;
    struct asking first;
    const struct wishes w = {.cap = 1, .queue_timeout_ns = 100 * MC_MS};
    mc_ns begun, took;
    pthread_t t;

    set_stage(&s, &w, &snap);
    t = take_the_place(&s, &first);
    begun = units_clock_ns();
    assert_int_equal(ask_status(s.port), 503);
    took = units_clock_ns() - begun;
    assert_true(took >= 90 * MC_MS && took < 5 * MC_SEC);
    assert_int_equal(SUM(&s, queue_timeouts), 1);
    leave_the_place(&s, t, &first);
    assert_int_equal(ask_status(s.port), 200);
    assert_int_equal(s.origin.requests, 2);
    assert_settled(&s, snap);
    strike_stage(&s);
    free_snapshot(snap);
    end_stage(&s);
}

static void
a_full_queue_turns_away_at_once(void **state)
{
    static struct stage s; /* as above */
    struct snapshot *snap;
    struct asking first, crowd = {.n = 1};
    const struct wishes w = {.cap = 1, .queue_max = 1, .queue_timeout_ns = 30 * MC_SEC};
    pthread_t t, threads[N_WORKERS + 4];

    set_stage(&s, &w, &snap);
    t = take_the_place(&s, &first);
    crowd.port = s.port;
    for (unsigned i = 0; i < MC_COUNT(threads); i++)
        pthread_create(&threads[i], NULL, ask_often, &crowd);
    while (crowd.n_503 < 4) /* a worker lets one wait */
        usleep(1000);
    assert_true(SUM(&s, queued) <= N_WORKERS);
    leave_the_place(&s, t, &first);
    for (unsigned i = 0; i < MC_COUNT(threads); i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(crowd.n_200 + crowd.n_503, MC_COUNT(threads));
    assert_true(crowd.n_200 >= 1 && crowd.n_200 <= N_WORKERS);
    assert_settled(&s, snap);
    strike_stage(&s);
    free_snapshot(snap);
    end_stage(&s);
}

/* Workers wake each other; the others go on doing so while one of them ends. */
static void
workers_may_end_while_requests_wait(void **state)
{
    for (unsigned round = 0; round < 10; round++) {
        static struct stage s; /* as above */
        struct snapshot *snap;
        struct asking a = {.n = 20};
        pthread_t threads[8];
        const struct wishes w = {.cap = 1, .queue_max = 100, .queue_timeout_ns = 30 * MC_SEC};

        set_stage(&s, &w, &snap);
        a.port = s.port;
        for (unsigned i = 0; i < MC_COUNT(threads); i++)
            pthread_create(&threads[i], NULL, ask_often, &a);
        while (SUM(&s, queued) < 10)
            usleep(100);
        strike_stage(&s);
        for (unsigned i = 0; i < MC_COUNT(threads); i++)
            pthread_join(threads[i], NULL);
        assert_int_equal(snap->pools[0]->live->in_flight, 0);
        assert_int_equal(snap->pools[0]->live->queued, 0);
        free_snapshot(snap);
        end_stage(&s);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_place_serves_all_and_no_wake_up_is_lost),
        cmocka_unit_test(who_waits_too_long_is_told_so),
        cmocka_unit_test(a_full_queue_turns_away_at_once),
        cmocka_unit_test(workers_may_end_while_requests_wait),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
