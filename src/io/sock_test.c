/* SPDX-License-Identifier: BSD-2-Clause
 *
 * sock_test.c - the same stories on both engines, from basic to complex.
 */
#include "io/harness.h"

/* --- receive and send ------------------------------------------------------------------------ */

static void
bytes_of_the_peer_are_delivered(void **state)
{
    struct end e;
    int fd[2];

    tcp_pair(fd);
    end_open(&e, fd[0]);
    put(fd[1], "hello");
    settle();
    assert_int_equal(e.n_recv, 0); /* reception is off at first */
    sock_recv(&e.s, true);
    assert_int_equal(e.n_recv, 0); /* never from inside a call */
    UNTIL(e.in.n == 5);
    put(fd[1], " again");
    UNTIL(end_has(&e, "hello again"));
    end_close(&e);
    close(fd[1]);
}

static void
what_is_written_reaches_the_peer_and_drains(void **state)
{
    struct end e;
    int fd[2];
    char got[64];
    size_t n = 0;

    tcp_pair(fd);
    end_open(&e, fd[0]);
    sock_write(&e.s, "one ", 4);
    memcpy(sock_reserve(&e.s, 100), "two ", 4);
    sock_commit(&e.s, 4);
    sock_write(&e.s, "three", 5);
    assert_int_equal(sock_unsent(&e.s), 13);
    assert_int_equal(e.n_drained, 0);
    UNTIL(e.n_drained == 1);
    while (n < 13) {
        struct pollfd p = {.fd = fd[1], .events = POLLIN};

        assert_int_equal(poll(&p, 1, 5000), 1);
        n += (size_t)recv(fd[1], got + n, sizeof(got) - n, 0);
    }
    assert_memory_equal(got, "one two three", 13);
    settle();
    assert_int_equal(e.n_drained, 1);
    end_close(&e);
    close(fd[1]);
}

struct herald {
    struct task task;
    struct end *e;
    int other; /* has nothing yet when the herald is asked */
    unsigned n;
};

static void
go_before(struct task *t)
{
    struct herald *h = container_of(t, struct herald, task);
    struct pollfd p = {.fd = h->other, .events = POLLIN};

    h->n++;
    assert_int_equal(poll(&p, 1, 0), 0);
    sock_write(&h->e->s, "before", 6);
    sock_flush(&h->e->s);
}

static void
what_is_deferred_to_be_first_leaves_before_what_was_written(void **state)
{
    static char large[1 << 20];
    struct end first, second;
    int a[2], b[2];
    struct herald h = {.task.fn = go_before, .e = &first};
    struct pollfd p;

    tcp_pair(a);
    tcp_pair(b);
    end_open(&first, a[0]);
    end_open(&second, b[0]);
    h.other = b[1];
    p = (struct pollfd){.fd = b[1], .events = POLLIN};
    sock_write(&second.s, "x", 1);
    loop_defer_first(L, &h.task);
    loop_defer_first(L, &h.task);
    UNTIL(poll(&p, 1, 0) == 1);
    assert_int_equal(h.n, 1);
    assert_int_equal(recv(b[1], large, 1, 0), 1);

    loop_defer_first(L, &h.task);
    sock_write(&second.s, large, sizeof(large)); /* leaves at once */
    assert_int_equal(h.n, 2);
    loop_defer_first(L, &h.task);
    loop_undefer(L, &h.task);
    UNTIL(sock_unsent(&first.s) == 0);
    assert_int_equal(h.n, 2);
    end_close(&first);
    end_close(&second);
    close(a[1]);
    close(b[1]);
}

static void
echo(struct end *e, struct block **b)
{
    sock_send(&e->s, b);
    assert_null(*b);
}

static void
blocks_can_be_echoed_without_copying(void **state)
{
    struct end e;
    int fd[2];
    size_t poured = 0, sipped = 0, total = 3 << 20;

    tcp_pair(fd);
    end_open(&e, fd[0]);
    e.on_recv = echo;
    sock_recv(&e.s, true);
    while (sipped < total) {
        poured += pour(fd[1], total - poured, poured);
        loop_turn(L, MC_MS);
        sipped += sip(fd[1], total - sipped, sipped, NULL);
    }
    assert_int_equal(e.in.n, 0);
    end_close(&e);
    close(fd[1]);
}

static void
a_left_block_is_used_again(void **state)
{
    struct end e;
    int fd[2];
    size_t used;

    tcp_pair(fd);
    end_open(&e, fd[0]);
    sock_recv(&e.s, true);
    put(fd[1], "x");
    UNTIL(e.in.n == 1);
    used = block_pool_used(loop_blocks(L));
    for (unsigned i = 2; i < 300; i++) {
        put(fd[1], "x");
        UNTIL(e.in.n == i);
    }
    assert_int_equal(block_pool_used(loop_blocks(L)), used);
    end_close(&e);
    close(fd[1]);
}

static void
a_slow_reader_gets_everything_and_memory_stays_bounded(void **state)
{
    struct end e;
    int fd[2];
    size_t written = 0, sipped = 0, total = 24 << 20, peak = 0;
    char chunk[10000];

    tcp_pair(fd);
    end_open(&e, fd[0]);
    while (sipped < total) {
        while (written < total && sock_unsent(&e.s) < 200000) {
            size_t part = total - written < sizeof(chunk) ? total - written : sizeof(chunk);

            pattern_fill(chunk, part, written);
            sock_write(&e.s, chunk, part);
            written += part;
        }
        loop_turn(L, MC_MS);
        if (block_pool_bytes(loop_blocks(L)) > peak)
            peak = block_pool_bytes(loop_blocks(L));
        sipped += sip(fd[1], 150000, sipped, NULL);
    }
    assert_true(peak < 8 << 20);
    UNTIL(sock_unsent(&e.s) == 0);
    assert_true(e.n_drained > 0);
    end_close(&e);
    close(fd[1]);
}

/* --- back-pressure --------------------------------------------------------------------------- */

static void
off_and_on(bool calm)
{
    struct end e;
    int fd[2];
    size_t poured, total = 6 << 20;

    tcp_pair(fd);
    end_open(&e, fd[0]);
    poured = calm ? calm_down(&e, fd[1], 0) : 0;
    for (unsigned round = 0; e.in.n < total; round++) {
        size_t before;

        poured += pour(fd[1], total - poured, poured);
        sock_recv(&e.s, true);
        loop_turn(L, MC_MS);
        sock_recv(&e.s, false);
        before = e.in.n;
        for (unsigned i = 0; i < round % 4; i++)
            loop_turn(L, 0);
        assert_int_equal(e.in.n, before);
    }
    pattern_check(e.in.p, e.in.n, 0);
    end_close(&e);
    close(fd[1]);
}

static void
off_means_off_and_nothing_is_lost_or_reordered(void **state)
{
    off_and_on(false);
    off_and_on(true);
}

static void
off_once(struct end *e)
{
    sock_recv(&e->s, false);
}

static void
reception_can_be_turned_off_inside_on_recv(void **state)
{
    struct end e;
    int fd[2];
    size_t poured = 0, total = 2 << 20;

    tcp_pair(fd);
    end_open(&e, fd[0]);
    e.then = off_once;
    while (e.in.n < total) {
        unsigned n = e.n_recv;

        poured += pour(fd[1], total - poured, poured);
        sock_recv(&e.s, true);
        UNTIL(e.n_recv > n);
        settle();
        assert_int_equal(e.n_recv, n + 1); /* one block, then silence */
    }
    pattern_check(e.in.p, e.in.n, 0);
    end_close(&e);
    close(fd[1]);
}

static void
stop_the_writer(bool calm)
{
    struct end e;
    int fd[2], small = 65536;
    size_t poured, had, bytes;

    tcp_pair(fd);
    setsockopt(fd[0], SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    setsockopt(fd[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    end_open(&e, fd[0]);
    poured = had = calm ? calm_down(&e, fd[1], 0) : 0;
    sock_recv(&e.s, true);
    settle();
    sock_recv(&e.s, false);
    for (int i = 0; i < 300; i++) {
        poured += pour(fd[1], 1 << 20, poured);
        loop_turn(L, i < 100 ? 0 : MC_MS / 10);
    }
    bytes = block_pool_bytes(loop_blocks(L));
    assert_true(poured < 2 << 20);
    for (int i = 0; i < 100; i++) {
        poured += pour(fd[1], 1 << 20, poured);
        loop_turn(L, 0);
    }
    assert_true(poured < 2 << 20);
    assert_true(block_pool_bytes(loop_blocks(L)) <= bytes + BLOCK_BULK);
    assert_int_equal(e.in.n, had);
    sock_recv(&e.s, true);
    UNTIL(e.in.n == poured);
    pattern_check(e.in.p, poured, 0);
    end_close(&e);
    close(fd[1]);
}

/* The kernel's buffers fill, ours do not. */
static void
back_pressure_reaches_the_writer(void **state)
{
    stop_the_writer(false);
    stop_the_writer(true);
}

/* --- the end of a stream --------------------------------------------------------------------- */

static void
eof_comes_once_and_after_the_data(void **state)
{
    struct end e;
    int fd[2];
    size_t total = 300000;

    tcp_pair(fd);
    end_open(&e, fd[0]);
    assert_int_equal(pour(fd[1], total, 0), total);
    close(fd[1]);
    sock_recv(&e.s, true);
    UNTIL(e.n_eof == 1);
    assert_int_equal(e.in.n, total);
    pattern_check(e.in.p, total, 0);
    settle();
    assert_int_equal(e.n_eof, 1);
    assert_int_equal(e.n_error, 0);
    end_close(&e);
}

static void
eof_waits_while_reception_is_off(void **state)
{
    struct end e;
    int fd[2];

    tcp_pair(fd);
    end_open(&e, fd[0]);
    sock_recv(&e.s, true);
    put(fd[1], "a");
    UNTIL(e.in.n == 1);
    sock_recv(&e.s, false);
    put(fd[1], "bc");
    close(fd[1]);
    settle();
    assert_int_equal(e.n_eof, 0);
    assert_int_equal(e.in.n, 1);
    sock_recv(&e.s, true);
    UNTIL(e.n_eof == 1);
    assert_true(end_has(&e, "abc"));
    end_close(&e);
}

static void
half_closed_in_either_direction_the_other_still_works(void **state)
{
    struct end e;
    int fd[2];
    size_t sipped = 0, total = 2 << 20;
    char *all = malloc(total);
    bool eof = false;

    tcp_pair(fd);
    end_open(&e, fd[0]);
    sock_recv(&e.s, true);
    put(fd[1], "request");
    shutdown(fd[1], SHUT_WR);
    UNTIL(e.n_eof == 1);
    pattern_fill(all, total, 0);
    sock_write(&e.s, all, total);
    sock_shutdown(&e.s); /* behind what is queued */
    while (!eof) {
        loop_turn(L, MC_MS);
        sipped += sip(fd[1], 100000, sipped, &eof);
    }
    assert_int_equal(sipped, total);
    assert_int_equal(e.n_drained, 1);
    free(all);
    end_close(&e);
    close(fd[1]);
}

static void
we_may_send_fin_first_and_still_receive(void **state)
{
    struct end e;
    int fd[2];
    char c;
    struct pollfd p;

    tcp_pair(fd);
    end_open(&e, fd[0]);
    sock_recv(&e.s, true);
    sock_shutdown(&e.s);
    settle();
    p = (struct pollfd){.fd = fd[1], .events = POLLIN};
    assert_int_equal(poll(&p, 1, 5000), 1);
    assert_int_equal(recv(fd[1], &c, 1, 0), 0);
    put(fd[1], "answer");
    UNTIL(end_has(&e, "answer"));
    close(fd[1]);
    UNTIL(e.n_eof == 1);
    end_close(&e);
}

/* --- breaking -------------------------------------------------------------------------------- */

static void
reset_by_peer(int fd)
{
    struct linger l = {.l_onoff = 1};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
    close(fd);
}

static void
a_reset_is_told_once(void **state)
{
    struct end e;
    int fd[2];

    tcp_pair(fd);
    end_open(&e, fd[0]);
    sock_recv(&e.s, true);
    put(fd[1], "x");
    UNTIL(e.in.n == 1);
    reset_by_peer(fd[1]);
    UNTIL(e.n_error == 1);
    assert_int_equal(e.err, ECONNRESET);
    sock_write(&e.s, "into the void", 13);
    sock_recv(&e.s, true);
    settle();
    assert_int_equal(e.n_error, 1);
    assert_int_equal(e.n_eof, 0);
    end_close(&e);
}

/* A server that refuses an upload answers and closes: the answer counts, not our broken send. */
static void
what_had_arrived_is_delivered_before_the_error(void **state)
{
    struct end e;
    int fd[2];
    char *junk = calloc(1, 4 << 20);
    char tmp[1000];

    tcp_pair(fd);
    end_open(&e, fd[0]);
    sock_write(&e.s, junk, 4 << 20);
    settle();
    assert_true(recv(fd[1], tmp, sizeof(tmp), 0) > 0);
    put(fd[1], "413 too large");
    close(fd[1]); /* with unread bytes: RST */
    sock_recv(&e.s, true);
    UNTIL(e.n_error == 1);
    assert_true(end_has(&e, "413 too large"));
    assert_true(e.err == ECONNRESET || e.err == EPIPE);
    free(junk);
    end_close(&e);
}

static void
a_broken_send_is_told_while_reception_is_off(void **state)
{
    struct end e;
    int fd[2];

    tcp_pair(fd);
    end_open(&e, fd[0]);
    reset_by_peer(fd[1]);
    settle();
    sock_write(&e.s, "x", 1);
    assert_int_equal(e.n_error, 0);
    UNTIL(e.n_error == 1);
    assert_true(e.err == ECONNRESET || e.err == EPIPE);
    end_close(&e);
}

static void
reset_is_visible_to_the_peer(void **state)
{
    struct end e;
    int fd[2];
    char c;
    struct pollfd p;

    tcp_pair(fd);
    end_open(&e, fd[0]);
    sock_recv(&e.s, true);
    settle();
    sock_close(&e.s, true);
    UNTIL(e.n_closed == 1);
    p = (struct pollfd){.fd = fd[1], .events = POLLIN};
    assert_int_equal(poll(&p, 1, 5000), 1);
    assert_int_equal(recv(fd[1], &c, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    close(fd[1]);
}

/* By then io_uring has a receive in the kernel that would go on for ever, and holds the file. */
static void
the_peer_of_a_long_lived_connection_sees_it_closed(void **state)
{
    for (int reset = 0; reset < 2; reset++) {
        struct pollfd p = {.events = POLLIN};
        struct end e;
        int fd[2];
        char c;

        tcp_pair(fd);
        end_open(&e, fd[0]);
        calm_down(&e, fd[1], 0);
        sock_close(&e.s, reset);
        UNTIL(e.n_closed == 1);
        p.fd = fd[1];
        assert_int_equal(poll(&p, 1, 5000), 1);
        assert_int_equal(recv(fd[1], &c, 1, 0), reset ? -1 : 0);
        if (reset)
            assert_int_equal(errno, ECONNRESET);
        end_close(&e);
        close(fd[1]);
    }
}

/* --- closing --------------------------------------------------------------------------------- */

static void
close_now(struct end *e)
{
    if (sock_is_open(&e->s))
        sock_close(&e->s, false);
}

static void
closing_inside_any_callback_is_the_last_word(void **state)
{
    for (int kind = 0; kind < 4; kind++) {
        struct end e;
        int fd[2];

        tcp_pair(fd);
        end_open(&e, fd[0]);
        e.then = close_now;
        if (kind == 0) {
            pour(fd[1], 200000, 0);
            sock_recv(&e.s, true);
        } else if (kind == 1) {
            shutdown(fd[1], SHUT_WR);
            sock_recv(&e.s, true);
        } else if (kind == 2) {
            sock_write(&e.s, "x", 1);
        } else {
            reset_by_peer(fd[1]);
            sock_recv(&e.s, true);
        }
        UNTIL(e.n_closed == 1);
        settle();
        assert_int_equal(e.n_recv + e.n_eof + e.n_drained + e.n_error, 1);
        end_close(&e);
        if (kind != 3)
            close(fd[1]);
    }
}

static struct end *victim;

static void
close_victim(struct end *e)
{
    if (victim)
        sock_close(&victim->s, true);
    victim = NULL;
}

/* Both have an event in the same batch. */
static void
a_callback_may_close_another_socket(void **state)
{
    struct end e[2];
    int fd[2][2];

    for (int i = 0; i < 2; i++) {
        tcp_pair(fd[i]);
        end_open(&e[i], fd[i][0]);
        e[i].then = close_victim;
        sock_recv(&e[i].s, true);
    }
    settle();
    for (int i = 0; i < 2; i++)
        put(fd[i][1], "x");
    victim = &e[1];
    UNTIL(e[1].n_closed == 1);
    UNTIL(e[0].n_recv + e[1].n_recv >= 1);
    for (int i = 0; i < 2; i++) {
        end_close(&e[i]);
        close(fd[i][1]);
    }
}

static void
closing_drops_what_is_queued_and_gives_the_blocks_back(void **state)
{
    struct end e;
    int fd[2];
    size_t used = block_pool_used(loop_blocks(L));
    char *junk = calloc(1, 8 << 20);

    tcp_pair(fd);
    end_open(&e, fd[0]);
    sock_recv(&e.s, true);
    sock_write(&e.s, junk, 8 << 20);
    settle();
    assert_true(sock_unsent(&e.s) > 0);
    sock_close(&e.s, false);
    assert_int_equal(e.n_closed, 0); /* never from inside a call */
    UNTIL(e.n_closed == 1);
    assert_true(block_pool_used(loop_blocks(L)) <= used + 2); /* the engine's spare ones */
    free(junk);
    close(fd[1]);
    buf_free(&e.in);
}

static void
a_socket_can_be_closed_before_the_first_turn(void **state)
{
    struct end e;
    int fd[2];

    tcp_pair(fd);
    end_open(&e, fd[0]);
    sock_recv(&e.s, true);
    sock_write(&e.s, "never sent", 10);
    sock_close(&e.s, false);
    UNTIL(e.n_closed == 1);
    close(fd[1]);
}

/* --- many of them -------------------------------------------------------------------------------
 */

#define CROWD 4000

static unsigned n_echoed;

static void
count_echo(struct end *e, struct block **b)
{
    n_echoed += (*b)->len;
    sock_send(&e->s, b);
}

static struct end *crowd;
static unsigned n_crowd;

static void
crowd_accept(struct sock *s, int fd)
{
    end_open(&crowd[n_crowd], fd);
    crowd[n_crowd].on_recv = count_echo;
    sock_recv(&crowd[n_crowd++].s, true);
}

/* More ready sockets than there are receive buffers: the starved get theirs later. */
static void
thousands_talk_at_once(void **state)
{
    static const struct sock_ops ops = {
        .on_accept = crowd_accept, .on_closed = end_closed, .on_error = end_error};
    struct end l = {.in = {0}};
    struct addr to;
    int *fd = calloc(CROWD, sizeof(*fd));
    unsigned n_back = 0;
    char c[8];

    crowd = calloc(CROWD, sizeof(*crowd));
    n_crowd = n_echoed = 0;
    sock_open(&l.s, L, listen_on(&to), &ops);
    sock_accept(&l.s, true);
    for (unsigned i = 0; i < CROWD; i++) {
        fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        assert_true(fd[i] >= 0);
        assert_true(connect(fd[i], &to.u.sa, to.len) == 0 || errno == EINPROGRESS);
        if (i % 100 == 99)
            UNTIL(n_crowd == i + 1);
    }
    for (unsigned round = 1; round <= 3; round++) {
        for (unsigned i = 0; i < CROWD; i++)
            put(fd[i], "12345678");
        UNTIL(n_echoed == round * CROWD * 8);
        for (unsigned i = 0; i < CROWD; i++)
            UNTIL(recv(fd[i], c, 8, MSG_DONTWAIT) == 8 && ++n_back);
        assert_int_equal(n_back, round * CROWD);
        settle();
        assert_true(block_pool_used(loop_blocks(L)) <= 130); /* the engine's own: none per socket */
    }
    for (unsigned i = 0; i < CROWD; i++)
        close(fd[i]);
    for (unsigned i = 0; i < CROWD; i++) {
        UNTIL(crowd[i].n_eof + crowd[i].n_error == 1);
        sock_close(&crowd[i].s, i % 2);
    }
    for (unsigned i = 0; i < CROWD; i++)
        UNTIL(crowd[i].n_closed == 1);
    end_close(&l);
    free(crowd);
    free(fd);
}

/* Eight streams at once leave the kernel without buffers again and again. */
static void
streams_that_starve_each_other_all_arrive_whole(void **state)
{
    enum { N = 8, TOTAL = 4 << 20 };
    struct end *e = calloc(N, sizeof(*e));
    int fd[N][2];
    size_t poured[N] = {0}, n_done = 0;

    for (int i = 0; i < N; i++) {
        tcp_pair(fd[i]);
        end_open(&e[i], fd[i][0]);
        poured[i] = calm_down(&e[i], fd[i][1], 0);
    }
    while (n_done < N) {
        for (int i = 0; i < N; i++)
            poured[i] += pour(fd[i][1], TOTAL - poured[i], poured[i]);
        loop_turn(L, MC_MS);
        n_done = 0;
        for (int i = 0; i < N; i++)
            n_done += e[i].in.n == TOTAL;
    }
    for (int i = 0; i < N; i++) {
        pattern_check(e[i].in.p, TOTAL, 0);
        end_close(&e[i]);
        close(fd[i][1]);
    }
    free(e);
}

/* --- holding --------------------------------------------------------------------------------- */

static void
what_is_held_leaves_when_it_is_released(void **state)
{
    static char large[300000]; /* more than is flushed at once */
    struct end e;
    int fd[2];
    size_t n = 0;

    tcp_pair(fd);
    end_open(&e, fd[0]);
    sock_hold(&e.s, true);
    pattern_fill(large, sizeof(large), 0);
    sock_write(&e.s, large, sizeof(large));
    memcpy(sock_reserve(&e.s, 4), "tail", 4);
    sock_commit(&e.s, 4);
    assert_memory_equal(sock_tail(&e.s, 4), "tail", 4);
    pattern_fill((char *)sock_tail(&e.s, 4), 4, sizeof(large));
    settle();
    assert_int_equal(sip(fd[1], 1, 0, NULL), 0);
    assert_int_equal(sock_unsent(&e.s), sizeof(large) + 4);
    assert_int_equal(e.n_drained, 0);
    sock_hold(&e.s, false);
    assert_int_equal(e.n_drained, 0); /* not from inside the call */
    while (n < sizeof(large) + 4) {
        loop_turn(L, MC_MS);
        n += sip(fd[1], sizeof(large) + 4 - n, n, NULL);
    }
    UNTIL(e.n_drained == 1);
    end_close(&e);
    close(fd[1]);
}

static void
a_held_socket_still_receives_and_can_be_closed(void **state)
{
    struct end e;
    int fd[2];
    char byte;

    tcp_pair(fd);
    end_open(&e, fd[0]);
    sock_recv(&e.s, true);
    sock_hold(&e.s, true);
    sock_write(&e.s, "never", 5);
    put(fd[1], "heard");
    UNTIL(end_has(&e, "heard"));
    end_close(&e); /* what is queued is dropped, and its block given back: loop_free() asserts it */
    assert_int_equal(recv(fd[1], &byte, 1, 0), 0);
    close(fd[1]);
}

static void
a_quiet_socket_loses_nothing_to_who_takes_its_descriptor(void **state)
{
    struct end e;
    int fd[2], other;
    char got[16];
    size_t n;
    ssize_t more;

    tcp_pair(fd);
    end_open(&e, fd[0]);
    sock_recv(&e.s, true);
    for (int i = 1; i <= 10; i++) { /* calm enough for a receive that stays */
        put(fd[1], "x");
        UNTIL(e.in.n == (size_t)i);
    }
    put(fd[1], "late");
    sock_quiet(&e.s);
    assert_int_equal(e.n_quiet, 0); /* never from inside a call */
    UNTIL(e.n_quiet == 1);
    assert_int_equal(e.in.n, 10);
    put(fd[1], "r");
    assert_true(sock_rest(&e.s, got, sizeof(got), &n));
    other = dup(e.s.fd);
    end_close(&e);
    while (n < 5) {
        struct pollfd p = {.fd = other, .events = POLLIN};

        assert_int_equal(poll(&p, 1, 5000), 1);
        more = recv(other, got + n, sizeof(got) - n, 0);
        assert_true(more > 0);
        n += (size_t)more;
    }
    assert_memory_equal(got, "later", 5);
    put(fd[1], "!");
    assert_int_equal(recv(other, got, sizeof(got), 0), 1); /* closing was no end */
    assert_int_equal(send(other, "?", 1, 0), 1);
    assert_int_equal(recv(fd[1], got, sizeof(got), 0), 1);
    close(other);
    close(fd[1]);
}

static void
a_closed_socket_that_somebody_else_holds_is_not_heard_of(void **state)
{
    struct end *e = test_malloc(sizeof(*e));
    int fd[2], other;

    tcp_pair(fd);
    end_open(e, fd[0]);
    sock_recv(&e->s, true);
    put(fd[1], "x");
    UNTIL(e->in.n == 1);
    settle();             /* registered */
    other = dup(e->s.fd); /* as a child has it between its fork and its exec */
    end_close(e);
    test_free(e);
    put(fd[1], "y");
    settle();
    close(other);
    close(fd[1]);
}

static void
a_quiet_socket_can_go_on(void **state)
{
    struct end e;
    int fd[2];
    char got[4];
    size_t n;

    tcp_pair(fd);
    end_open(&e, fd[0]);
    sock_recv(&e.s, true);
    put(fd[1], "one");
    UNTIL(e.in.n == 3);
    sock_quiet(&e.s);
    UNTIL(e.n_quiet == 1);
    close(fd[1]);
    sock_recv(&e.s, true);
    UNTIL(e.n_eof == 1);
    sock_quiet(&e.s);
    UNTIL(e.n_quiet == 2);
    assert_false(sock_rest(&e.s, got, sizeof(got), &n)); /* it has ended: nobody should have it */
    end_close(&e);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        LOOP_TEST(bytes_of_the_peer_are_delivered),
        LOOP_TEST(what_is_written_reaches_the_peer_and_drains),
        LOOP_TEST(what_is_deferred_to_be_first_leaves_before_what_was_written),
        LOOP_TEST(what_is_held_leaves_when_it_is_released),
        LOOP_TEST(a_held_socket_still_receives_and_can_be_closed),
        LOOP_TEST(a_quiet_socket_loses_nothing_to_who_takes_its_descriptor),
        LOOP_TEST(a_quiet_socket_can_go_on),
        LOOP_TEST(a_closed_socket_that_somebody_else_holds_is_not_heard_of),
        LOOP_TEST(blocks_can_be_echoed_without_copying),
        LOOP_TEST(a_left_block_is_used_again),
        LOOP_TEST(a_slow_reader_gets_everything_and_memory_stays_bounded),
        LOOP_TEST(off_means_off_and_nothing_is_lost_or_reordered),
        LOOP_TEST(reception_can_be_turned_off_inside_on_recv),
        LOOP_TEST(back_pressure_reaches_the_writer),
        LOOP_TEST(eof_comes_once_and_after_the_data),
        LOOP_TEST(eof_waits_while_reception_is_off),
        LOOP_TEST(half_closed_in_either_direction_the_other_still_works),
        LOOP_TEST(we_may_send_fin_first_and_still_receive),
        LOOP_TEST(a_reset_is_told_once),
        LOOP_TEST(what_had_arrived_is_delivered_before_the_error),
        LOOP_TEST(a_broken_send_is_told_while_reception_is_off),
        LOOP_TEST(reset_is_visible_to_the_peer),
        LOOP_TEST(the_peer_of_a_long_lived_connection_sees_it_closed),
        LOOP_TEST(closing_inside_any_callback_is_the_last_word),
        LOOP_TEST(a_callback_may_close_another_socket),
        LOOP_TEST(closing_drops_what_is_queued_and_gives_the_blocks_back),
        LOOP_TEST(a_socket_can_be_closed_before_the_first_turn),
        LOOP_TEST(streams_that_starve_each_other_all_arrive_whole),
        LOOP_TEST(thousands_talk_at_once),
    };

    return RUN_ON_BOTH(tests);
}
