/* SPDX-License-Identifier: BSD-2-Clause
 *
 * flow_leave_test.c - connections whose balancer leaves: handed over, or released to another
 * process.
 */
#include "proxy/flow_harness.h"

static void
a_drain_hands_over(void **state)
{
    char buf[4096];
    int idle, busy;

    begin(HELLO, PROTECT_REQUESTS);
    idle = dial();
    say(idle, GET);
    hear(idle, buf, sizeof(buf), "hello");
    play.s.origin.hold = true;
    busy = dial();
    say(busy, GET);
    AWAIT(play.s.origin.requests == 2);
    for (unsigned i = 0; i < N_WORKERS; i++)
        worker_drain(play.s.workers[i], units_clock_ns() + 60 * MC_SEC, 60 * MC_SEC);
    AWAIT(COUNT(&play.s, handed_over) == 1);
    assert_int_equal(frames(WIRE_HANDOVER), 1);
    play.s.origin.hold = false;
    hear(busy, buf, sizeof(buf), "hello");
    assert_null(strstr(buf, "Connection: close"));
    AWAIT(COUNT(&play.s, handed_over) == 2);
    AWAIT(play.s.n_drained == N_WORKERS);
    assert_int_equal(counted(&links[0].n_handed_over) + counted(&links[1].n_handed_over), 2);
    assert_int_equal(frames(WIRE_CLOSE), 0);
    close(idle);
    close(busy);
    finish();
}

static bool
all_released(void)
{
    for (unsigned i = 0; i < N_WORKERS; i++)
        if (!worker_has_released(play.s.workers[i]))
            return false;
    return true;
}

static void
release(bool on)
{
    for (unsigned i = 0; i < N_WORKERS; i++)
        worker_release(play.s.workers[i], on);
}

/* What waited for a holder goes on, and it is known when that has forgotten all.  What may not be
 * repeated is sent then, too. */
static void
who_is_released_waits_for_nobody(void **state)
{
    char buf[4096];
    int idle, busy;

    begin(HELLO, PROTECT_REQUESTS);
    idle = dial();
    say(idle, GET);
    hear(idle, buf, sizeof(buf), "hello");
    busy = dial();
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < N_WORKERS; i++)
        links[i].manual = true;
    pthread_mutex_unlock(&lock);
    say(busy, POST);
    AWAIT(frames(WIRE_SENT) == 1);
    say(idle, GET);
    release(true);
    hear(idle, buf, sizeof(buf), "hello");
    AWAIT(frames(WIRE_CLOSE) == 2); /* each worker is told for itself */
    assert_false(all_released());
    assert_int_equal(play.s.origin.requests, 2);
    let_through();
    hear(busy, buf, sizeof(buf), "hello");
    assert_int_equal(play.s.origin.requests, 3);
    AWAIT(all_released());
    for (uint32_t i = 0; i < 2; i++)
        assert_int_equal(flags_of(i), GUARD_SLOT_OPEN | GUARD_SLOT_CLOSING);
    close(idle);
    close(busy);
    finish();
}

static void
who_is_released_is_protected_anew_if_it_stays(void **state)
{
    char buf[4096];
    int fd, late;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    hear(fd, buf, sizeof(buf), "hello");
    release(true);
    AWAIT(all_released());
    late = dial();
    for (int i = 0; i < 2; i++) {
        say(i == 0 ? fd : late, GET);
        hear(i == 0 ? fd : late, buf, sizeof(buf), "hello");
    }
    assert_int_equal(frames(WIRE_OPEN), 1);
    assert_int_equal(frames(WIRE_REQ), 1);
    release(false);
    AWAIT(!all_released());
    say(fd, GET);
    hear(fd, buf, sizeof(buf), "hello");
    assert_int_equal(frames(WIRE_OPEN), 2);
    assert_int_equal(frames(WIRE_REQ), 2);
    assert_int_equal(flags_of(0), 0);
    assert_non_null(strstr(buf, "hello"));
    close(fd);
    close(late);
    AWAIT(frames(WIRE_CLOSE) == 2);
    finish();
}

static void
who_comes_while_it_leaves_is_handed_over_too(void **state)
{
    char buf[4096];
    int fd;

    begin(HELLO, PROTECT_REQUESTS);
    for (unsigned i = 0; i < N_WORKERS; i++)
        worker_part(play.s.workers[i]);
    fd = dial();
    say(fd, GET);
    hear(fd, buf, sizeof(buf), "hello");
    AWAIT(COUNT(&play.s, handed_over) == 1);
    close(fd);
    finish();
}

static void
part_all(void)
{
    for (unsigned i = 0; i < N_WORKERS; i++)
        worker_part(play.s.workers[i]);
}

static void
drain_all(mc_ns left_ns)
{
    for (unsigned i = 0; i < N_WORKERS; i++)
        worker_drain(play.s.workers[i], units_clock_ns() + left_ns, 60 * MC_SEC);
}

static void
let_there_be_an_heir(bool is)
{
    pthread_mutex_lock(&lock);
    no_heir = !is;
    pthread_mutex_unlock(&lock);
}

static void
who_never_asked_is_handed_over(void **state)
{
    int silent, slow;

    begin(HELLO, PROTECT_REQUESTS);
    silent = dial();
    slow = dial();
    say(slow, "GET /a HT");
    AWAIT(frames(WIRE_IN) == 1);
    drain_all(60 * MC_SEC);
    AWAIT(COUNT(&play.s, handed_over) == 2);
    AWAIT(play.s.n_drained == N_WORKERS);
    assert_int_equal(frames(WIRE_CLOSE), 0);
    close(silent);
    close(slow);
    finish();
}

/* What it says is told, for whoever goes on with it, and not acknowledged here. */
static void
who_asks_while_it_is_handed_over_is_not_answered_here(void **state)
{
    char buf[4096];
    uint32_t gate;
    int fd;

    manual_acks = true;
    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    AWAIT(frames(WIRE_DONE) == 1);
    let_through();
    hear(fd, buf, sizeof(buf), "hello");
    AWAIT(gate_of(0) == (uint32_t)(RCV_BASE + strlen(GET)));
    gate = gate_of(0);
    part_all();
    AWAIT(frames(WIRE_HANDOVER) == 1);
    say(fd, GET);
    AWAIT(frames(WIRE_IN) == 2);
    assert_int_equal(gate_of(0), gate);
    let_through();
    AWAIT(COUNT(&play.s, handed_over) == 1);
    assert_int_equal(play.s.origin.requests, 1);
    assert_int_equal(frames(WIRE_REQ), 1);
    close(fd);
    finish();
}

/* He may have heard of it: what two serve would reach servers twice. */
static void
what_was_handed_over_is_never_served_again(void **state)
{
    char buf[4096];
    int fd;

    manual_acks = true;
    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    AWAIT(frames(WIRE_DONE) == 1);
    let_through();
    hear(fd, buf, sizeof(buf), "hello");
    part_all();
    AWAIT(frames(WIRE_HANDOVER) == 1);
    say(fd, POST);
    AWAIT(frames(WIRE_IN) == 2);
    let_there_be_an_heir(false);
    let_through();
    AWAIT(COUNT(&play.s, handed_over) == 1);
    assert_int_equal(play.s.origin.requests, 1);
    assert_int_equal(frames(WIRE_CLOSE), 0);
    close(fd);
    finish();
}

static void
answers_end_nothing_while_an_heir_is_looked_for(void **state)
{
    char buf[4096];
    int fd;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    let_there_be_an_heir(false);
    part_all();
    for (unsigned i = 0; i < 3; i++) {
        say(fd, GET);
        hear(fd, buf, sizeof(buf), "hello");
        assert_null(strstr(buf, "Connection: close"));
    }
    let_there_be_an_heir(true);
    AWAIT(COUNT(&play.s, handed_over) == 1);
    close(fd);
    finish();
}

/* To who does not have it nothing is handed over. */
static void
who_does_not_keep_it_is_no_heir(void **state)
{
    char buf[4096];
    int fd;

    no_room = two_holders = true;
    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    hear(fd, buf, sizeof(buf), "hello");
    AWAIT(COUNT(&play.s, half_kept) > 0 && frames(WIRE_DONE) == 1);
    drain_all(50 * MC_MS);
    hear_end(fd);
    assert_int_equal(frames(WIRE_HANDOVER), 0);
    close(fd);
    finish();
}

static void
what_was_bare_is_protected_to_be_handed_over(void **state)
{
    static const char head[] = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 10000\r\n\r\n";
    static char body[10001];
    char buf[4096];
    int fd;

    begin(HELLO, PROTECT_REQUESTS);
    memset(body, 'x', sizeof(body) - 1);
    fd = dial();
    say(fd, head);
    say(fd, body);
    hear(fd, buf, sizeof(buf), "hello");
    AWAIT(COUNT(&play.s, bare) == 1);
    drain_all(60 * MC_SEC);
    AWAIT(COUNT(&play.s, handed_over) == 1);
    assert_int_equal(frames(WIRE_OPEN), 2);
    assert_int_equal(frames(WIRE_CLOSE), 0);
    close(fd);
    finish();
}

static void
what_is_under_way_when_time_is_over_is_handed_over(void **state)
{
    int fd;

    begin(HELLO, PROTECT_REQUESTS);
    play.s.origin.hold = true;
    fd = dial();
    say(fd, GET);
    AWAIT(play.s.origin.requests == 1);
    drain_all(50 * MC_MS);
    AWAIT(COUNT(&play.s, handed_over) == 1);
    assert_int_equal(frames(WIRE_HANDOVER), 1);
    assert_int_equal(frames(WIRE_CLOSE), 0);
    assert_int_equal(counted(&n_dropped), 1);
    AWAIT(play.s.n_drained == N_WORKERS);
    close(fd);
    finish();
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_drain_hands_over),
        cmocka_unit_test(who_is_released_waits_for_nobody),
        cmocka_unit_test(who_is_released_is_protected_anew_if_it_stays),
        cmocka_unit_test(who_comes_while_it_leaves_is_handed_over_too),
        cmocka_unit_test(who_never_asked_is_handed_over),
        cmocka_unit_test(who_asks_while_it_is_handed_over_is_not_answered_here),
        cmocka_unit_test(what_was_handed_over_is_never_served_again),
        cmocka_unit_test(answers_end_nothing_while_an_heir_is_looked_for),
        cmocka_unit_test(who_does_not_keep_it_is_no_heir),
        cmocka_unit_test(what_was_bare_is_protected_to_be_handed_over),
        cmocka_unit_test(what_is_under_way_when_time_is_over_is_handed_over),
    };

    return RUN_ON_ENGINES(tests);
}
