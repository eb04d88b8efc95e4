/* SPDX-License-Identifier: BSD-2-Clause
 *
 * worker_test.c - workers serve, adopt snapshots and drain while clients are at it.  Meant for
 * TSan.
 */
#include "io/rights.h"
#include "proxy/harness.h"
#include "proxy/pass.h"

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

static int
connect_to(uint16_t port)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

/* What one process sends of a connection, and another takes. */
static void
pass_on(int from, struct worker *to)
{
    uint8_t text[PASS_MAX];
    int fds[RIGHTS_FDS_MAX];
    unsigned n;
    ssize_t got = rights_recv(from, text, sizeof(text), fds, &n);
    struct passed *p;

    assert_true(got > 0 && n == 1);
    p = pass_read(text, (size_t)got, fds[0]);
    assert_non_null(p);
    worker_pass(to, &p);
}

/* Two processes of an upgrade, which accept on one socket; the kernel wakes the first for a
 * connection while that is about to leave. */
static void
leave_while_somebody_connects(enum loop_engine engine)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    static struct stage s; /* as above */
    const struct wishes w = {.engine = engine, .one_socket = true};
    struct snapshot *snaps[3];
    struct pollfd p[2] = {{.events = POLLIN}, {.events = POLLIN}};
    int heir[2];
    char c;

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, heir), 0);
    set_stage(&s, &w, &snaps[0]);
    for (unsigned i = 1; i < MC_COUNT(snaps); i++)
        snaps[i] = make_snapshot(&s, i + 1);
    s.go_on[0] = 0;
    worker_adopt(s.workers[0], snaps[1]);
    while (s.released[0] < 1)
        usleep(1000);
    worker_adopt(s.workers[0], snaps[2]);
    worker_hand_over(s.workers[0], heir[0], units_clock_ns() + 10 * MC_SEC);
    s.go_on[0] = 1;
    while (s.released[0] < 2)
        usleep(1000);
    p[0].fd = connect_to(s.port);
    p[1].fd = heir[1];
    assert_true(send(p[0].fd, request, sizeof(request) - 1, MSG_NOSIGNAL) > 0);
    s.go_on[0] = UINT64_MAX;
    while (poll(p, 2, 10000) > 0 && !p[0].revents)
        pass_on(heir[1], s.workers[1]);
    assert_true(p[0].revents != 0 && recv(p[0].fd, &c, 1, 0) == 1);
    close(p[0].fd);
    strike_stage(&s);
    close(heir[0]);
    close(heir[1]);
    for (unsigned i = 0; i < MC_COUNT(snaps); i++)
        free_snapshot(snaps[i]);
    end_stage(&s);
}

static void
who_connects_while_one_leaves_is_served(void **state)
{
    leave_while_somebody_connects(LOOP_EPOLL);
#ifndef __SANITIZE_THREAD__ /* which does not see what the kernel orders */
    leave_while_somebody_connects(LOOP_URING);
#endif
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_survive_new_snapshots),
        cmocka_unit_test(a_drained_worker_says_so_once),
        cmocka_unit_test(a_worker_ends_at_once_whoever_knocks),
        cmocka_unit_test(who_connects_while_one_leaves_is_served),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
