/* SPDX-License-Identifier: BSD-2-Clause
 *
 * turns_test.c - many sockets of one line have something to say at once, and one of another, too.
 */
#include "io/turns.h"

#include "io/harness.h"

enum { MANY = 60 };

static struct turns turns;
static stat_u64 deferred;
static struct turns_line *flooded, *calm;
static const char flooded_name[] = "flooded", calm_name[] = "calm";

/* Those of the flooded line, and what they were told, in its order. */
static struct end many[MANY], one;
static int far[MANY], far_one;
static unsigned n_told, told[MANY];

static void
note(struct end *e, struct block **b)
{
    told[n_told++ % MANY] = (unsigned)(e - many);
}

static void
open_pair(struct end *e, int *fd, struct turns_line *line)
{
    int pair[2];

    tcp_pair(pair);
    *fd = pair[0];
    end_open(e, pair[1]);
    sock_take_turns(&e->s, line);
}

static void
open_many(void)
{
    n_told = 0;
    atomic_store_explicit(&deferred, 0, memory_order_relaxed);
    turns_init(&turns, L, &deferred);
    flooded = turns_line(&turns, flooded_name);
    calm = turns_line(&turns, calm_name);
    assert_ptr_equal(turns_line(&turns, flooded_name), flooded);
    for (unsigned i = 0; i < MANY; i++) {
        open_pair(&many[i], &far[i], flooded);
        many[i].on_recv = note;
    }
    open_pair(&one, &far_one, calm);
}

static void
close_many(void)
{
    for (unsigned i = 0; i < MANY; i++) {
        end_close(&many[i]);
        close(far[i]);
    }
    end_close(&one);
    close(far_one);
    turns_fini(&turns);
}

/* All say something, the one last of all; it is not delivered yet. */
static void
say_all(void)
{
    for (unsigned i = 0; i < MANY; i++)
        put(far[i], "x");
    put(far_one, "y");
    for (unsigned i = 0; i < MANY; i++)
        sock_recv(&many[i].s, true);
    sock_recv(&one.s, true);
}

/* From here on each line is held to its part. */
static void
share(void)
{
    turns_did(calm);
    turns_did(flooded);
}

static unsigned told_before;

static void
note_how_many_were_before(struct end *e)
{
    told_before = n_told;
}

static void
the_calm_one_is_not_behind_the_flood(void **state)
{
    open_many();
    one.then = note_how_many_were_before;
    share();
    say_all();
    UNTIL(end_has(&one, "y"));
    /* the round in which it came, and at most one that was before */
    assert_true(told_before <= 2 * TURNS_WORK);
    UNTIL(n_told == MANY);
    assert_true(stat_get(&deferred) >= MANY - 2 * TURNS_WORK);
    close_many();
}

static void
who_waits_goes_on_part_by_part_and_in_order(void **state)
{
    unsigned before = 0, most = 0;

    open_many();
    share();
    for (unsigned i = 0; i < MANY; i++)
        put(far[i], "x");
    for (unsigned i = 0; i < MANY; i++) { /* so that they come in this order */
        sock_recv(&many[i].s, true);
        loop_turn(L, 0);
    }
    while (n_told < MANY) {
        before = n_told;
        loop_turn(L, 10 * MC_MS);
        most = n_told - before > most ? n_told - before : most;
    }
    assert_true(most <= 2 * TURNS_WORK);
    for (unsigned i = 1; i < MANY; i++)
        assert_true(told[i] > told[i - 1]);
    close_many();
}

/* However many lines there are in which somebody waits. */
static void
lines_share_a_round(void **state)
{
    static const char names[MANY];

    open_many();
    share();
    for (unsigned i = 0; i < MANY; i++)
        sock_take_turns(&many[i].s, turns_line(&turns, &names[i]));
    for (unsigned i = 0; i < MANY; i++) {
        for (unsigned n = 0; n < 2 * TURNS_WORK; n++)
            turns_did(many[i].s.line); /* has had its part for now */
        put(far[i], "x");
        sock_recv(&many[i].s, true);
    }
    UNTIL(turns.n_waiting == MANY);
    while (n_told < MANY) {
        const unsigned before = n_told;

        loop_turn(L, 10 * MC_MS);
        assert_true(n_told - before <= TURNS_WORK);
    }
    close_many();
}

/* Those who wait are not received from: it costs something, and they are many. */
static void
what_a_crowded_line_waits_for_stays_in_the_kernel(void **state)
{
    unsigned n_asked = 0;

    open_many();
    share();
    turns.shared_until_ns = MC_NEVER_NS;
    for (unsigned i = 0; i < MANY; i++) {
        put(far[i], "x");
        sock_recv(&many[i].s, true);
    }
    UNTIL(n_told == MANY);
    assert_true(flooded->crowded_until_ns > loop_now(L));
    flooded->crowded_until_ns = MC_NEVER_NS;
    for (unsigned i = 0; i < 2 * TURNS_WORK; i++)
        turns_did(flooded);
    for (unsigned i = 0; i < MANY; i++)
        put(far[i], "x");
    UNTIL(turns.n_waiting == 1);
    for (unsigned i = 0; i < MANY; i++)
        n_asked += many[i].s.held != NULL;
    assert_int_equal(n_asked, 0);
    UNTIL(n_told == 2 * MANY);
    close_many();
}

static void
who_is_alone_is_not_held_up(void **state)
{
    open_many();
    turns_did(flooded);
    say_all();
    sock_recv(&one.s, false);
    UNTIL(n_told == MANY);
    assert_int_equal(stat_get(&deferred), 0);
    close_many();
}

/* And again when the other one has been silent for long. */
static void
sharing_ends(void **state)
{
    const struct turns_line *last;

    open_many();
    share();
    assert_true(turns.shared_until_ns > loop_now(L));
    last = turns.last;
    turns.shared_until_ns = loop_now(L);
    for (unsigned i = 0; i < 2 * TURNS_WORK; i++) {
        assert_true(turns_may(flooded));
        turns_did(flooded);
    }
    assert_ptr_equal(turns.last, last);
    assert_true(turns_may(calm)); /* begins anew */
    turns_did(calm);
    assert_false(turns_may(flooded));
    close_many();
}

/* Of several that wait each gets a part, but never none. */
static void
what_is_too_much_is_paid_for(void **state)
{
    open_many();
    share();
    for (unsigned i = 0; i < 3 * TURNS_WORK; i++)
        turns_did(flooded);
    for (unsigned i = 0; i < 3; i++) {
        assert_false(turns_may(flooded));
        assert_true(turns_may(calm));
        loop_turn(L, 0);
    }
    assert_true(turns_may(flooded));
    close_many();
}

static void
who_is_closed_while_he_waits_is_told_nothing(void **state)
{
    open_many();
    share();
    say_all();
    UNTIL(stat_get(&deferred) > 0);
    for (unsigned i = 0; i < MANY; i++)
        if (sock_awaits_turn(&many[i].s))
            sock_close(&many[i].s, i % 2);
    UNTIL(n_told > 0);
    settle();
    assert_int_equal(turns.n_waiting, 0);
    assert_true(n_told < MANY);
    close_many();
}

static void
what_came_is_told_before_the_end(void **state)
{
    open_many();
    share();
    for (unsigned i = 0; i < MANY; i++)
        many[i].on_recv = NULL;
    for (unsigned i = 0; i < MANY; i++) {
        put(far[i], "last words");
        shutdown(far[i], SHUT_WR);
    }
    for (unsigned i = 0; i < MANY; i++)
        sock_recv(&many[i].s, true);
    for (unsigned i = 0; i < MANY; i++) {
        UNTIL(many[i].n_eof == 1);
        assert_true(end_has(&many[i], "last words"));
    }
    close_many();
}

/* One that leaves the line has what it waited with. */
static void
who_leaves_the_line_waits_no_more(void **state)
{
    open_many();
    share();
    say_all();
    UNTIL(stat_get(&deferred) > 0);
    for (unsigned i = 0; i < MANY; i++)
        sock_take_turns(&many[i].s, NULL);
    assert_int_equal(turns.n_waiting, 0);
    UNTIL(n_told == MANY);
    close_many();
}

static unsigned n_turns;

static void
count_turn(struct sock *s)
{
    n_turns++;
}

static void
a_listener_is_told_once_when_it_may_go_on(void **state)
{
    struct sock_ops ops = end_ops;
    struct end l = {.n_recv = 0};
    struct addr a;

    ops.on_turn = count_turn;
    n_turns = 0;
    open_many();
    sock_open(&l.s, L, listen_on(&a), &ops);
    sock_take_turns(&l.s, flooded);
    sock_await_turn(&l.s);
    sock_await_turn(&l.s);
    assert_true(sock_awaits_turn(&l.s));
    assert_int_equal(n_turns, 0);
    UNTIL(n_turns == 1);
    assert_false(sock_awaits_turn(&l.s));
    settle();
    assert_int_equal(n_turns, 1);
    end_close(&l);
    close_many();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        LOOP_TEST(the_calm_one_is_not_behind_the_flood),
        LOOP_TEST(who_waits_goes_on_part_by_part_and_in_order),
        LOOP_TEST(lines_share_a_round),
        LOOP_TEST(what_a_crowded_line_waits_for_stays_in_the_kernel),
        LOOP_TEST(who_is_alone_is_not_held_up),
        LOOP_TEST(sharing_ends),
        LOOP_TEST(what_is_too_much_is_paid_for),
        LOOP_TEST(who_is_closed_while_he_waits_is_told_nothing),
        LOOP_TEST(what_came_is_told_before_the_end),
        LOOP_TEST(who_leaves_the_line_waits_no_more),
        LOOP_TEST(a_listener_is_told_once_when_it_may_go_on),
    };

    return RUN_ON_BOTH(tests);
}
