/* SPDX-License-Identifier: BSD-2-Clause
 *
 * flow_test.c - connections that others could take over: what their owner tells, and what waits for
 * that.
 */
#include "proxy/flow_harness.h"

static void
a_response_waits_until_a_holder_knows_the_request(void **state)
{
    char buf[4096];
    int fd;

    manual_acks = true;
    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    AWAIT(frames(WIRE_DONE) == 1);
    assert_true(is_silent(fd));
    assert_int_equal(gate_of(0), RCV_BASE);
    let_through();
    hear(fd, buf, sizeof(buf), "hello");
    AWAIT(gate_of(0) == (uint32_t)(RCV_BASE + strlen(GET)));
    close(fd);
    AWAIT(frames(WIRE_CLOSE) == 1);
    finish();
}

static void
what_may_not_be_repeated_waits_before_it_leaves(void **state)
{
    char buf[4096];
    int fd;

    manual_acks = true;
    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, POST);
    AWAIT(frames(WIRE_SENT) == 1);
    assert_int_equal(play.s.origin.requests, 0);
    let_through();
    hear(fd, buf, sizeof(buf), "hello");
    assert_int_equal(play.s.origin.requests, 1);
    say(fd, POST);
    AWAIT(frames(WIRE_SENT) == 2);
    assert_int_equal(play.s.origin.requests, 1);
    close(fd); /* the client goes while it waits */
    AWAIT(frames(WIRE_CLOSE) == 1);
    finish();
}

/* Who slept may have lost it to another balancer, and hears of that after the acknowledgement. */
static void
what_may_not_be_repeated_waits_until_this_host_may_speak(void **state)
{
    char buf[4096];
    int fd;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    guard_lease(&the_guard, 0);
    say(fd, GET);
    hear(fd, buf, sizeof(buf), "hello");
    say(fd, POST);
    AWAIT(COUNT(&play.s, muted) == 1);
    assert_int_equal(play.s.origin.requests, 1);
    guard_lease(&the_guard, MC_NEVER_NS);
    hear(fd, buf, sizeof(buf), "hello");
    assert_int_equal(play.s.origin.requests, 2);
    guard_lease(&the_guard, 0);
    say(fd, POST);
    AWAIT(COUNT(&play.s, muted) == 2);
    close(fd); /* the client goes while it waits */
    AWAIT(frames(WIRE_CLOSE) == 1);
    guard_lease(&the_guard, MC_NEVER_NS);
    fd = dial();
    say(fd, GET);
    hear(fd, buf, sizeof(buf), "hello");
    assert_int_equal(play.s.origin.requests, 3);
    close(fd);
    finish();
}

/* It was protected a moment ago: others go on from that until they know better. */
static void
what_is_bare_waits_until_holders_know_that(void **state)
{
    static const char head[] = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 20000\r\n\r\n";
    char message[sizeof(head) - 1 + 20000], buf[4096];
    int fd;

    manual_acks = true;
    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    memcpy(message, head, sizeof(head) - 1);
    memset(message + sizeof(head) - 1, 'x', 20000);
    assert_int_equal(send(fd, message, sizeof(message), MSG_NOSIGNAL), sizeof(message));
    AWAIT(frames(WIRE_BARE) == 1);
    AWAIT(COUNT(&play.s, acks_waited) > 0);
    assert_int_equal(play.s.origin.requests, 0);
    let_through();
    hear(fd, buf, sizeof(buf), "hello");
    assert_int_equal(play.s.origin.requests, 1);
    close(fd);
    finish();
}

static void
a_server_that_closes_meanwhile_does_not_end_the_wait(void **state)
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
    say(fd, POST); /* on the connection of the request before */
    AWAIT(frames(WIRE_SENT) == 1);
    shutdown(play.s.origin.last_fd, SHUT_RDWR);
    AWAIT(play.s.origin.accepted == 2);
    assert_int_equal(play.s.origin.requests, 1);
    let_through();
    hear(fd, buf, sizeof(buf), "hello");
    assert_int_equal(play.s.origin.requests, 2);
    close(fd);
    finish();
}

static void
without_a_holder_nothing_waits(void **state)
{
    char buf[4096];
    int fd;

    no_holder = true;
    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    for (unsigned i = 0; i < 3; i++) {
        say(fd, i == 1 ? POST : GET);
        hear(fd, buf, sizeof(buf), "hello");
    }
    close(fd);
    finish();
}

static void
more_than_is_kept_makes_it_bare_until_the_next_request(void **state)
{
    static const char head[] = "PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 20000\r\n\r\n";
    char body[20000], buf[4096];
    size_t asked = 0;
    int fd;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    memset(body, 'x', sizeof(body));
    say(fd, head);
    assert_int_equal(send(fd, body, sizeof(body), MSG_NOSIGNAL), sizeof(body));
    hear(fd, buf, sizeof(buf), "hello");
    assert_int_equal(frames(WIRE_BARE), 1);
    assert_int_equal(flags_of(0), GUARD_SLOT_OPEN | GUARD_SLOT_CLOSING);
    /* a client that is quick may ask before its connection is seen to have come to rest */
    for (unsigned n = 0; frames(WIRE_OPEN) < 2 && n < 100; n++, asked += sizeof(GET) - 1) {
        say(fd, GET);
        hear(fd, buf, sizeof(buf), "hello");
    }
    assert_int_equal(frames(WIRE_OPEN), 2);
    AWAIT(flags_of(0) == 0);
    AWAIT(gate_of(0) == (uint32_t)(RCV_BASE + sizeof(head) - 1 + sizeof(body) + asked));
    close(fd);
    finish();
}

static void
what_a_holder_has_no_room_for_is_bare(void **state)
{
    char buf[4096];
    int fd;

    no_room = true;
    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    for (unsigned i = 1; i <= 3; i++) { /* it is tried anew each time that it could be protected */
        say(fd, i == 2 ? POST : GET);
        hear(fd, buf, sizeof(buf), "hello");
        AWAIT(COUNT(&play.s, unkept) == i && frames(WIRE_BARE) == i);
        AWAIT(flags_of(0) & GUARD_SLOT_OPEN);
    }
    close(fd);
    finish();
}

/* It is protected as long as the one that keeps it is a holder. */
static void
what_one_of_two_holders_keeps_is_protected(void **state)
{
    char buf[4096];
    int fd;

    no_room = two_holders = true;
    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    for (unsigned i = 0; i < 2; i++) {
        say(fd, i == 1 ? POST : GET);
        hear(fd, buf, sizeof(buf), "hello");
    }
    AWAIT(COUNT(&play.s, half_kept) > 0 && frames(WIRE_DONE) == 2);
    assert_int_equal(frames(WIRE_BARE), 0);
    assert_int_equal(flags_of(0), 0);
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < N_WORKERS; i++) {
        links[i].one_goes = true;
        kick(&links[i]);
    }
    pthread_mutex_unlock(&lock);
    AWAIT(frames(WIRE_BARE) == 1);
    AWAIT(flags_of(0) & GUARD_SLOT_OPEN);
    assert_int_equal(COUNT(&play.s, unkept), 1);
    close(fd);
    finish();
}

static void
what_is_kept_goes_by_the_present_configuration(void **state)
{
    char buf[4096];
    struct snapshot *next;
    int fd;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    hear(fd, buf, sizeof(buf), "hello");
    AWAIT(frames(WIRE_DONE) == 1);
    play.s.wishes.buffer_bytes = sizeof(GET) - 2;
    next = make_snapshot(&play.s, 2);
    reload(next);
    say(fd, GET);
    hear(fd, buf, sizeof(buf), "hello");
    assert_int_equal(frames(WIRE_BARE), 1);
    close(fd);
    finish();
}

static void
a_half_closed_connection_ends_as_ever(void **state)
{
    char buf[4096];
    int fd;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    hear(fd, buf, sizeof(buf), "hello");
    shutdown(fd, SHUT_WR);
    hear_end(fd);
    AWAIT(frames(WIRE_CLOSE) == 1 && COUNT(&play.s, active) == 0);
    close(fd);
    finish();
}

/* --- tests: giving up ---------------------------------------------------------------------------
 */

/* all: nobody knows any more which. */
static void
take_and_expect_silence(bool all)
{
    char buf[4096];
    struct link *l;
    int fd;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    hear(fd, buf, sizeof(buf), "hello");
    l = &links[owner_of(fd)];
    pthread_mutex_lock(&lock);
    l->claimed = key_of(fd);
    l->claim_all = all;
    l->claim_due = true;
    pthread_mutex_unlock(&lock);
    kick(l);
    AWAIT(COUNT(&play.s, claimed) == 1 && COUNT(&play.s, active) == 0);
    assert_int_equal(counted(&n_dropped), 1);
    assert_int_equal(frames(WIRE_CLOSE), 1); /* holders forget it, the client hears nothing */
    close(fd);
    finish();
}

static void
what_others_have_taken_goes_without_a_word(void **state)
{
    take_and_expect_silence(false);
}

static void
all_go_when_nobody_knows_what_was_taken(void **state)
{
    take_and_expect_silence(true);
}

#define H2_GET                                             \
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"      /* preface */  \
    "\0\0\0\4\0\0\0\0\0"                    /* SETTINGS */ \
    "\0\0\6\1\5\0\0\0\1\x82\x86\x84\x41\1h" /* HEADERS: GET http://h/ */

/* Its streams end with it. */
static void
http2_that_others_have_ended_goes_without_a_word(void **state)
{
    struct link *l;
    int fd;

    begin(HELLO, PROTECT_REQUESTS);
    play.s.origin.hold = true;
    fd = dial();
    assert_int_equal(send(fd, H2_GET, sizeof(H2_GET) - 1, MSG_NOSIGNAL), sizeof(H2_GET) - 1);
    AWAIT(play.s.origin.requests == 1);
    AWAIT(frames(WIRE_BARE) == 1);
    l = &links[owner_of(fd)];
    pthread_mutex_lock(&lock);
    l->claimed = key_of(fd);
    l->claim_all = false;
    l->claim_due = true;
    pthread_mutex_unlock(&lock);
    kick(l);
    AWAIT(COUNT(&play.s, claimed) == 1 && COUNT(&play.s, active) == 0);
    assert_int_equal(counted(&n_dropped), 1);
    close(fd);
    finish();
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_response_waits_until_a_holder_knows_the_request),
        cmocka_unit_test(what_may_not_be_repeated_waits_before_it_leaves),
        cmocka_unit_test(what_may_not_be_repeated_waits_until_this_host_may_speak),
        cmocka_unit_test(what_is_bare_waits_until_holders_know_that),
        cmocka_unit_test(a_server_that_closes_meanwhile_does_not_end_the_wait),
        cmocka_unit_test(without_a_holder_nothing_waits),
        cmocka_unit_test(more_than_is_kept_makes_it_bare_until_the_next_request),
        cmocka_unit_test(what_a_holder_has_no_room_for_is_bare),
        cmocka_unit_test(what_one_of_two_holders_keeps_is_protected),
        cmocka_unit_test(what_is_kept_goes_by_the_present_configuration),
        cmocka_unit_test(a_half_closed_connection_ends_as_ever),
        cmocka_unit_test(what_others_have_taken_goes_without_a_word),
        cmocka_unit_test(all_go_when_nobody_knows_what_was_taken),
        cmocka_unit_test(http2_that_others_have_ended_goes_without_a_word),
    };

    return RUN_ON_ENGINES(tests);
}
