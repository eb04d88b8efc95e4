/* SPDX-License-Identifier: BSD-2-Clause
 *
 * splice_test.c - transfers that do not pass through our memory, on both engines.
 */
#include "io/harness.h"

struct ride {
    struct end from, to;
    int source, sink; /* the far ends */
    unsigned n_done;
    uint64_t moved;
    int err;
    bool from_failed;
};

static void
on_done(void *arg, uint64_t moved, int err, bool from_failed)
{
    struct ride *r = arg;

    r->n_done++;
    r->moved = moved;
    r->err = err;
    r->from_failed = from_failed;
}

static void
ride_open(struct ride *r)
{
    int fd[2];

    memset(r, 0, sizeof(*r));
    tcp_pair(fd);
    end_open(&r->from, fd[0]);
    r->source = fd[1];
    tcp_pair(fd);
    end_open(&r->to, fd[0]);
    r->sink = fd[1];
}

static void
ride_close(struct ride *r)
{
    end_close(&r->from);
    end_close(&r->to);
    if (r->source >= 0)
        close(r->source);
    if (r->sink >= 0)
        close(r->sink);
}

/* Turns the loop while the source is filled and the sink emptied, until n bytes have come out. */
static void
carry(struct ride *r, size_t n, size_t poured, size_t sipped, size_t gulp)
{
    mc_ns give_up_ns = units_clock_ns() + 20 * MC_SEC;

    while (sipped < n) {
        assert_true(units_clock_ns() < give_up_ns);
        poured += pour(r->source, n - poured, poured);
        loop_turn(L, MC_MS);
        sipped += sip(r->sink, n - sipped < gulp ? n - sipped : gulp, sipped, NULL);
    }
}

static void
all_bytes_are_moved_and_done_is_told_once(void **state)
{
    struct ride r;
    size_t n = 20 << 20;

    ride_open(&r);
    assert_true(sock_splice(&r.from.s, &r.to.s, n, on_done, &r));
    assert_int_equal(r.n_done, 0);
    carry(&r, n, 0, 0, 1 << 20);
    UNTIL(r.n_done == 1);
    assert_int_equal(r.moved, n);
    assert_int_equal(r.err, 0);
    settle();
    assert_int_equal(r.n_done, 1);
    assert_int_equal(r.from.n_recv, 0);
    ride_close(&r);
}

static void
a_slow_sink_stops_the_source(void **state)
{
    struct ride r;
    size_t n = 30 << 20, poured = 0;

    ride_open(&r);
    assert_true(sock_splice(&r.from.s, &r.to.s, n, on_done, &r));
    UNTIL((poured += pour(r.source, n - poured, poured),
           sock_splice_blocked(&r.from.s) && sock_splice_blocked(&r.to.s)));
    assert_true(poured < n);
    assert_int_equal(r.n_done, 0);
    carry(&r, n, poured, 0, 300000);
    UNTIL(r.n_done == 1);
    assert_int_equal(r.moved, n);
    ride_close(&r);
}

static void
what_follows_the_transfer_is_received_as_usual(void **state)
{
    struct ride r;
    char tmp[16];
    size_t got = 0;

    ride_open(&r);
    put(r.source, "bodynext");
    assert_true(sock_splice(&r.from.s, &r.to.s, 4, on_done, &r));
    UNTIL(r.n_done == 1);
    assert_int_equal(r.moved, 4);
    sock_recv(&r.from.s, true);
    UNTIL(end_has(&r.from, "next"));
    sock_write(&r.to.s, "tail", 4);
    while (got < 8) {
        ssize_t k;

        loop_turn(L, MC_MS);
        k = recv(r.sink, tmp + got, sizeof(tmp) - got, MSG_DONTWAIT);
        got += k > 0 ? (size_t)k : 0;
    }
    assert_memory_equal(tmp, "bodytail", 8);
    ride_close(&r);
}

/* What was queued and what had been received go first, in order. */
static void
the_queue_and_held_bytes_go_first(void **state)
{
    for (int late = 0; late < 2; late++) {
        struct ride r;
        char tmp[64] = {0};
        size_t got = 0;

        ride_open(&r);
        sock_recv(&r.from.s, true);
        put(r.source, "-");
        UNTIL(r.from.in.n == 1);
        sock_recv(&r.from.s, false);
        put(r.source, "held ");
        settle(); /* io_uring has these now */
        put(r.source, "fresh");
        if (late)
            settle();
        sock_write(&r.to.s, "head ", 5);
        assert_true(sock_splice(&r.from.s, &r.to.s, 10, on_done, &r));
        UNTIL(r.n_done == 1);
        assert_int_equal(r.moved, 10);
        assert_int_equal(r.to.n_drained, 0);
        while (got < 15)
            got += (size_t)recv(r.sink, tmp + got, sizeof(tmp) - got, 0) % 100;
        assert_string_equal(tmp, "head held fresh");
        ride_close(&r);
    }
}

/* A receive that is only parked must not take bytes of the transfer. */
static void
a_parked_receive_takes_nothing(void **state)
{
    for (int calm = 0; calm < 2; calm++) {
        struct ride r;
        size_t had, n = 3 << 20;

        ride_open(&r);
        had = calm ? calm_down(&r.from, r.source, 0) : 0;
        sock_recv(&r.from.s, true);
        settle();
        sock_recv(&r.from.s, false);
        assert_true(sock_splice(&r.from.s, &r.to.s, n, on_done, &r));
        if (calm)
            pour(r.source, 1000, 0);
        carry(&r, n, calm ? 1000 : 0, 0, 1 << 20);
        UNTIL(r.n_done == 1);
        assert_int_equal(r.from.in.n, had);
        ride_close(&r);
    }
}

static void
held_bytes_beyond_the_end_stay_held(void **state)
{
    struct ride r;
    char tmp[64] = {0};

    ride_open(&r);
    sock_recv(&r.from.s, true);
    put(r.source, "-");
    UNTIL(r.from.in.n == 1);
    sock_recv(&r.from.s, false);
    put(r.source, "bodynext");
    settle();
    assert_true(sock_splice(&r.from.s, &r.to.s, 4, on_done, &r));
    UNTIL(r.n_done == 1);
    UNTIL(recv(r.sink, tmp, sizeof(tmp), MSG_DONTWAIT) == 4);
    assert_string_equal(tmp, "body");
    sock_recv(&r.from.s, true);
    UNTIL(end_has(&r.from, "-next"));
    ride_close(&r);
}

static void
a_source_that_ends_early_is_told_by_the_count(void **state)
{
    struct ride r;

    ride_open(&r);
    pour(r.source, 5000, 0);
    close(r.source);
    r.source = -1;
    assert_true(sock_splice(&r.from.s, &r.to.s, UINT64_MAX, on_done, &r));
    UNTIL(r.n_done == 1);
    assert_int_equal(r.moved, 5000);
    assert_int_equal(r.err, 0);
    sock_recv(&r.from.s, true);
    UNTIL(r.from.n_eof == 1);
    assert_int_equal(sip(r.sink, 6000, 0, NULL), 5000);
    ride_close(&r);
}

static void
reset_far_end(int *fd)
{
    struct linger l = {.l_onoff = 1};

    setsockopt(*fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
    close(*fd);
    *fd = -1;
}

static void
a_source_that_breaks_is_told(void **state)
{
    struct ride r;

    ride_open(&r);
    assert_true(sock_splice(&r.from.s, &r.to.s, 1000, on_done, &r));
    settle();
    reset_far_end(&r.source);
    UNTIL(r.n_done == 1);
    assert_int_equal(r.err, ECONNRESET);
    assert_true(r.from_failed);
    settle();
    assert_int_equal(r.from.n_error, 0); /* told once, by done */
    ride_close(&r);
}

static void
a_sink_that_has_gone_is_told(void **state)
{
    struct ride r;
    size_t poured = 0;

    ride_open(&r);
    assert_true(sock_splice(&r.from.s, &r.to.s, 64 << 20, on_done, &r));
    settle();
    reset_far_end(&r.sink);
    while (r.n_done == 0) {
        poured += pour(r.source, 1 << 20, poured);
        loop_turn(L, MC_MS);
        assert_true(poured < 64 << 20);
    }
    assert_true(r.err == ECONNRESET || r.err == EPIPE);
    assert_false(r.from_failed);
    settle();
    assert_int_equal(r.to.n_error, 0);
    ride_close(&r);
}

static void
closing_either_end_cancels_the_transfer(void **state)
{
    for (int which = 0; which < 2; which++) {
        struct ride r, next;

        ride_open(&r);
        assert_true(sock_splice(&r.from.s, &r.to.s, 1000, on_done, &r));
        pour(r.source, 100, 0);
        settle();
        assert_int_equal(sock_splice_moved(&r.from.s), 100);
        assert_int_equal(sock_splice_moved(&r.to.s), 100);
        assert_false(sock_splice_blocked(&r.from.s)); /* it is the source that has no more */
        sock_close(which ? &r.from.s : &r.to.s, true);
        settle();
        assert_int_equal(r.n_done, 0);
        /* the other one goes on living */
        ride_open(&next);
        assert_true(sock_splice(which ? &next.from.s : &r.from.s, which ? &r.to.s : &next.to.s, 50,
                                on_done, &next));
        pour(which ? next.source : r.source, 50, 0);
        UNTIL(next.n_done == 1);
        assert_int_equal(next.moved, 50);
        ride_close(&next);
        ride_close(&r);
    }
}

/* What a broken transfer left in its pipe must not come out of the next one. */
static void
bytes_of_an_aborted_transfer_reach_nobody(void **state)
{
    struct ride r, next;
    size_t poured = 0, n = 1 << 20;

    ride_open(&r);
    assert_true(sock_splice(&r.from.s, &r.to.s, 64 << 20, on_done, &r));
    for (int i = 0; i < 200; i++) { /* the sink does not read: the pipe fills */
        poured += pour(r.source, (64 << 20) - poured, poured + 77);
        loop_turn(L, 0);
    }
    sock_close(&r.to.s, true);
    ride_open(&next);
    assert_true(sock_splice(&next.from.s, &next.to.s, n, on_done, &next));
    carry(&next, n, 0, 0, 1 << 20);
    UNTIL(next.n_done == 1);
    ride_close(&next);
    ride_close(&r);
}

/* A server that refuses an upload answers while it is spliced, and closes. */
static void
the_other_direction_stays_free(void **state)
{
    struct ride r;
    size_t poured = 0;

    ride_open(&r);
    sock_recv(&r.to.s, true);
    assert_true(sock_splice(&r.from.s, &r.to.s, 64 << 20, on_done, &r));
    settle();
    sock_write(&r.from.s, "100 go on", 9);
    put(r.sink, "413 too large");
    UNTIL(end_has(&r.to, "413 too large"));
    UNTIL(r.from.n_drained == 1);
    put(r.sink, ", really");
    close(r.sink); /* with unread bytes, soon: a reset */
    r.sink = -1;
    while (r.n_done == 0) {
        poured += pour(r.source, 1 << 20, poured);
        loop_turn(L, MC_MS);
    }
    assert_false(r.from_failed);
    assert_true(end_has(&r.to, "413 too large, really")); /* before its end was told */
    assert_int_equal(r.to.n_error, 0);
    ride_close(&r);
}

/* A tunnel, spliced both ways. */
static void
both_directions_can_be_spliced_at_once(void **state)
{
    struct ride r, back = {.n_done = 0};
    size_t n = 6 << 20, poured[2] = {0}, sipped[2] = {0};

    ride_open(&r);
    assert_true(sock_splice(&r.from.s, &r.to.s, n, on_done, &r));
    assert_true(sock_splice(&r.to.s, &r.from.s, UINT64_MAX, on_done, &back));
    while (sipped[0] < n || sipped[1] < n) {
        poured[0] += pour(r.source, n - poured[0], poured[0]);
        poured[1] += pour(r.sink, n - poured[1], poured[1]);
        loop_turn(L, MC_MS);
        sipped[0] += sip(r.sink, n - sipped[0], sipped[0], NULL);
        sipped[1] += sip(r.source, n - sipped[1], sipped[1], NULL);
    }
    UNTIL(r.n_done == 1);
    assert_int_equal(back.n_done, 0);
    close(r.sink);
    r.sink = -1;
    UNTIL(back.n_done == 1);
    assert_int_equal(back.moved, n);
    assert_int_equal(back.err, 0);
    ride_close(&r);
}

/* Chatter after a burst: the pipe goes back, bytes go on through blocks, and by splice again. */
static void
a_transfer_that_rests_can_be_stopped(void **state)
{
    struct ride r;

    ride_open(&r);
    for (int i = 0; i < 3; i++) {
        assert_true(sock_splice(&r.from.s, &r.to.s, SPLICE_ALL, on_done, &r));
        carry(&r, 200000, 0, 0, 200000);
        UNTIL(sock_splice_moved(&r.from.s) == 200000);
        assert_true(sock_splice_stop(&r.from.s));
        assert_int_equal(r.n_done, 0);
        r.from.in.n = 0;
        sock_recv(&r.from.s, true);
        settle();
        put(r.source, "chatter");
        UNTIL(end_has(&r.from, "chatter"));
        sock_recv(&r.from.s, false);
    }
    assert_true(sock_splice(&r.from.s, &r.to.s, SPLICE_ALL, on_done, &r));
    assert_true(sock_splice_stop(&r.from.s)); /* before it has begun */
    sock_recv(&r.from.s, true);
    close(r.source);
    r.source = -1;
    UNTIL(r.from.n_eof == 1);
    assert_int_equal(r.n_done, 0);
    ride_close(&r);
}

static void
a_transfer_with_bytes_on_their_way_goes_on(void **state)
{
    struct ride r;
    size_t n = 30 << 20, poured = 0;

    ride_open(&r);
    assert_true(sock_splice(&r.from.s, &r.to.s, SPLICE_ALL, on_done, &r));
    while (!sock_splice_blocked(&r.from.s)) {
        poured += pour(r.source, n - poured, poured);
        loop_turn(L, MC_MS);
    }
    assert_false(sock_splice_stop(&r.from.s));
    carry(&r, n, poured, 0, 1 << 20);
    UNTIL(sock_splice_stop(&r.from.s));
    assert_int_equal(r.n_done, 0);
    ride_close(&r);
}

static void
when_no_pipe_can_be_had_the_answer_is_no(void **state)
{
    struct ride r;
    struct rlimit old, tight;
    int fd;

    ride_open(&r);
    fd = dup(0);
    close(fd);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    tight = (struct rlimit){.rlim_cur = (rlim_t)fd, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    assert_false(sock_splice(&r.from.s, &r.to.s, 10, on_done, &r));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    put(r.source, "copied");
    sock_recv(&r.from.s, true);
    UNTIL(end_has(&r.from, "copied"));
    ride_close(&r);
}

static void
a_held_sink_takes_nothing_until_it_is_released(void **state)
{
    struct ride r;
    size_t n = 1 << 20, poured;

    ride_open(&r);
    sock_hold(&r.to.s, true);
    assert_true(sock_splice(&r.from.s, &r.to.s, n, on_done, &r));
    poured = pour(r.source, n, 0);
    settle();
    assert_int_equal(sip(r.sink, 1, 0, NULL), 0);
    sock_hold(&r.to.s, false);
    carry(&r, n, poured, 0, 1 << 20);
    UNTIL(r.n_done == 1);
    assert_int_equal(r.moved, n);
    ride_close(&r);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        LOOP_TEST(all_bytes_are_moved_and_done_is_told_once),
        LOOP_TEST(a_slow_sink_stops_the_source),
        LOOP_TEST(what_follows_the_transfer_is_received_as_usual),
        LOOP_TEST(the_queue_and_held_bytes_go_first),
        LOOP_TEST(a_parked_receive_takes_nothing),
        LOOP_TEST(held_bytes_beyond_the_end_stay_held),
        LOOP_TEST(a_source_that_ends_early_is_told_by_the_count),
        LOOP_TEST(a_source_that_breaks_is_told),
        LOOP_TEST(a_sink_that_has_gone_is_told),
        LOOP_TEST(a_held_sink_takes_nothing_until_it_is_released),
        LOOP_TEST(closing_either_end_cancels_the_transfer),
        LOOP_TEST(bytes_of_an_aborted_transfer_reach_nobody),
        LOOP_TEST(the_other_direction_stays_free),
        LOOP_TEST(both_directions_can_be_spliced_at_once),
        LOOP_TEST(a_transfer_that_rests_can_be_stopped),
        LOOP_TEST(a_transfer_with_bytes_on_their_way_goes_on),
        LOOP_TEST(when_no_pipe_can_be_had_the_answer_is_no),
    };

    return RUN_ON_BOTH(tests);
}
