/* SPDX-License-Identifier: BSD-2-Clause
 *
 * worker_test.c - workers serve, adopt snapshots and drain while clients are at it.  Meant for
 * TSan.
 */
#include "proxy/harness.h"

struct clients {
    uint16_t port;
    unsigned n;
    _Atomic unsigned failed;
};

static void *
client_main(void *arg)
{
    struct clients *c = arg;

    for (unsigned i = 0; i < c->n; i++)
        if (!ask(c->port))
            c->failed++;
    return NULL;
}

static void
requests_survive_new_snapshots(void **state)
{
    static struct stage s; /* static: gcc's ASan aligns the stack to less than a cache line */
    struct snapshot *snaps[11];
    struct clients c = {.n = 200};
    pthread_t threads[4];

    set_stage(&s, NULL, &snaps[0]);
    c.port = s.port;
    for (unsigned i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, client_main, &c);
    for (unsigned g = 1; g <= 10; g++) {
        snaps[g] = make_snapshot(&s, g + 1);
        for (unsigned i = 0; i < N_WORKERS; i++)
            worker_adopt(s.workers[i], snaps[g]);
        for (unsigned i = 0; i < N_WORKERS; i++)
            while (s.released[i] < g) /* until the one before is given back */
                loop_turn(s.control, MC_MS);
    }
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(c.failed, 0);
    strike_stage(&s);
    for (unsigned g = 0; g <= 10; g++)
        free_snapshot(snaps[g]);
    end_stage(&s);
}

static void
a_drained_worker_says_so_once(void **state)
{
    static struct stage s; /* static: gcc's ASan aligns the stack to less than a cache line */
    struct snapshot *snap;

    set_stage(&s, NULL, &snap);
    assert_true(ask(s.port));
    for (unsigned i = 0; i < N_WORKERS; i++)
        worker_drain(s.workers[i], units_clock_ns() + 10 * MC_SEC, 0);
    while (s.n_drained < N_WORKERS)
        loop_turn(s.control, MC_MS);
    assert_int_equal(s.n_drained, N_WORKERS);
    strike_stage(&s);
    free_snapshot(snap);
    end_stage(&s);
}

struct knocking {
    uint16_t port;
    _Atomic bool stop;
};

static void *
knock(void *arg)
{
    struct knocking *k = arg;

    while (!k->stop)
        ask_status(k->port); /* whatever comes of it */
    return NULL;
}

/* What connects while a worker ends is turned away; it used to be taken in by a worker that had no
 * pool of connections any more. */
static void
a_worker_ends_at_once_whoever_knocks(void **state)
{
    for (unsigned round = 0; round < 5; round++) {
        static struct stage s; /* as above */
        struct snapshot *snap;
        struct knocking k = {.stop = false};
        pthread_t threads[4];
        mc_ns begun;

        set_stage(&s, NULL, &snap);
        k.port = s.port;
        for (unsigned i = 0; i < MC_COUNT(threads); i++)
            pthread_create(&threads[i], NULL, knock, &k);
        usleep(50000);
        begun = units_clock_ns();
        for (unsigned i = 0; i < N_WORKERS; i++)
            worker_stop(&s.workers[i]);
        assert_true(units_clock_ns() - begun < MC_SEC);
        k.stop = true;
        for (unsigned i = 0; i < N_WORKERS; i++)
            close(s.fds[i]);
        for (unsigned i = 0; i < MC_COUNT(threads); i++)
            pthread_join(threads[i], NULL);
        strike_origin(&s);
        free_snapshot(snap);
        end_stage(&s);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_survive_new_snapshots),
        cmocka_unit_test(a_drained_worker_says_so_once),
        cmocka_unit_test(a_worker_ends_at_once_whoever_knocks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
