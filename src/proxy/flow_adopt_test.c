/* SPDX-License-Identifier: BSD-2-Clause
 *
 * flow_adopt_test.c - connections of a dead balancer: what an adopter makes of them.
 */
#include "proxy/access_log.h"
#include "proxy/flow_harness.h"

static void
an_idle_connection_goes_on(void **state)
{
    char buf[4096];
    size_t n;
    int fd, next;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    n = hear(fd, buf, sizeof(buf), "hello");
    AWAIT(frames(WIRE_DONE) == 1);
    next = die(fd, n);
    AWAIT(COUNT(&play.s, adopted) == 1);
    assert_int_equal(play.s.origin.requests, 1);
    say(next, POST);
    hear(next, buf, sizeof(buf), "hello");
    assert_int_equal(play.s.origin.requests, 2);
    assert_int_equal(COUNT(&play.s, replayed), 0);
    close(next);
    close(fd);
    finish();
}

static void
without_its_listener_nothing_of_it_stays(void **state)
{
    char buf[4096];
    struct snapshot *next;
    size_t n;
    int fd, other;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    n = hear(fd, buf, sizeof(buf), "hello");
    AWAIT(frames(WIRE_DONE) == 1);
    next = make_snapshot(&play.s, 2);
    next->n_binds = 0;
    reload(next);
    other = die(fd, n);
    AWAIT(n_slots_used() == 1); /* the owner's own */
    assert_int_equal(COUNT(&play.s, adopted), 0);
    close(other);
    close(fd);
    finish();
}

static void
a_request_that_was_not_answered_is_sent_again(void **state)
{
    char buf[4096];
    int fd, next;

    begin(HELLO, PROTECT_REQUESTS);
    play.s.origin.hold = true;
    fd = dial();
    say(fd, GET);
    AWAIT(play.s.origin.requests == 1);
    next = die(fd, 0);
    AWAIT(play.s.origin.requests == 2);
    play.s.origin.hold = false;
    hear(next, buf, sizeof(buf), "hello");
    say(next, GET);
    hear(next, buf, sizeof(buf), "hello");
    assert_int_equal(COUNT(&play.s, replayed), 1);
    close(next);
    close(fd);
    finish();
}

/* Wherever it was cut, the client gets the very bytes that it would have got, and the next request
 * is answered. */
static void
cut_anywhere(const char *request, const char *reply, const char *tail, unsigned replicate)
{
    char whole[4096], buf[4096];
    size_t n;
    int fd, next;

    begin(reply, replicate);
    fd = dial();
    say(fd, request);
    n = hear(fd, whole, sizeof(whole), tail);
    AWAIT(frames(WIRE_DONE) == 1);
    for (size_t j = 1; j <= n; j++) {
        next = die(fd, j);
        if (next < 0)
            fail_msg("at %zu of %zu", j, n);
        hear_exactly(next, whole + j, n - j);
        say(next, GET);
        hear(next, buf, sizeof(buf), tail);
        close(next);
    }
    assert_int_equal(COUNT(&play.s, broken), 0);
    close(fd);
    finish();
}

static void
a_response_is_carried_on_wherever_it_was_cut(void **state)
{
    cut_anywhere(GET, HELLO, "hello", PROTECT_REQUESTS);
}

static void
a_logged_response_needs_no_server(void **state)
{
    cut_anywhere(POST, HELLO, "hello", PROTECT_RESPONSES);
}

static void
interim_responses_are_a_part_of_it(void **state)
{
    cut_anywhere(GET, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" HELLO, "hello",
                 PROTECT_REQUESTS);
}

static void
a_response_that_differs_breaks_the_connection(void **state)
{
    static const char *const others[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nETag: \"1\"\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"2\"\r\n\r\nhallo",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhallo",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\nETag: \"1\"\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: "
        "\"1\"\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    };
    char whole[4096];
    size_t n;
    int fd, next;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    n = hear(fd, whole, sizeof(whole), "hello");
    AWAIT(frames(WIRE_DONE) == 1);
    for (size_t i = 0; i < MC_COUNT(others); i++)
        for (size_t j = 1; j < n; j += n - 3) {
            play.s.origin.reply = others[i];
            next = die(fd, j);
            hear_reset(next);
            close(next);
        }
    AWAIT(COUNT(&play.s, broken) == 2 * MC_COUNT(others));
    close(fd);
    finish();
}

static void
chunks_are_carried_on_until_one_was_sent(void **state)
{
    static const char reply[] =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    char whole[4096];
    size_t n, head;
    int fd, next;

    begin(reply, PROTECT_RESPONSES);
    fd = dial();
    say(fd, GET);
    n = hear(fd, whole, sizeof(whole), "0\r\n\r\n");
    head = (size_t)(strstr(whole, "\r\n\r\n") + 4 - whole);
    AWAIT(frames(WIRE_DONE) == 1);
    for (size_t j = 1; j < n; j += 5) {
        next = die(fd, j);
        if (j <= head)
            hear_exactly(next, whole + j, n - j);
        else
            hear_reset(next);
        close(next);
    }
    close(fd);
    finish();
}

static void
what_was_sent_and_may_not_be_repeated_is_refused(void **state)
{
    char buf[4096];
    int fd, next;

    begin(HELLO, PROTECT_REQUESTS);
    play.s.origin.hold = true;
    fd = dial();
    say(fd, POST);
    AWAIT(play.s.origin.requests == 1);
    next = die(fd, 0);
    hear(next, buf, sizeof(buf), "it may not be sent again\nrequest id: ");
    assert_memory_equal(buf, "HTTP/1.1 502 ", 13);
    assert_non_null(strstr(buf, "it may not be sent again"));
    AWAIT(COUNT(&play.s, refused) == 1);
    assert_int_equal(play.s.origin.requests, 1);
    play.s.origin.hold = false;
    close(next);
    close(fd);
    finish();
}

static void
half_a_request_is_completed_elsewhere(void **state)
{
    char buf[4096];
    int fd, next;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, "POST /a HTTP/1.1\r\nHost: h\r\nCont");
    AWAIT(frames(WIRE_IN) == 1);
    next = die(fd, 0);
    say(next, "ent-Length: 0\r\n\r\n");
    hear(next, buf, sizeof(buf), "hello");
    assert_memory_equal(buf, "HTTP/1.1 200 ", 13);
    close(next);
    close(fd);
    finish();
}

static void
who_sends_again_is_acknowledged_when_a_holder_has_it(void **state)
{
    int fd, next;

    manual_acks = sends_again = true;
    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, "POST /a HTTP/1.1\r\nHost: h\r\nCont");
    AWAIT(frames(WIRE_IN) == 1);
    next = die(fd, 0);
    AWAIT(frames(WIRE_IN) == 2);
    assert_int_equal(counted(&n_acks), 0);
    let_through();
    AWAIT(counted(&n_acks) == 1);
    close(next);
    close(fd);
    finish();
}

static void
who_rests_is_acknowledged_if_it_waits_for_that(void **state)
{
    char buf[4096];
    size_t n;
    int fd, next;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    n = hear(fd, buf, sizeof(buf), "hello");
    AWAIT(frames(WIRE_DONE) == 1);
    for (unsigned i = 0; i < 2; i++) {
        sends_again = i == 1;
        next = die(fd, n);
        AWAIT(COUNT(&play.s, adopted) == i + 1);
        say(next, GET);
        hear(next, buf, sizeof(buf), "hello");
        assert_int_equal(counted(&n_acks), i);
        close(next);
    }
    close(fd);
    finish();
}

/* The first two are answered, the third waits. */
static void
pipelined_requests_are_carried_on(void **state)
{
    char whole[4096];
    size_t n, one;
    int fd, next;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    one = hear(fd, whole, sizeof(whole), "hello");
    say(fd, GET GET);
    for (n = 0; n < 2 * one;)
        n += hear(fd, whole + n, sizeof(whole) - n, "hello"); /* one or both */
    AWAIT(frames(WIRE_DONE) == 3);
    for (size_t j = one; j <= 3 * one; j += 7) {
        size_t k = j > 2 * one ? j - 2 * one : j - one;

        next = die(fd, j);
        if (next < 0) { /* before the second there is nothing left of the first */
            fail_msg("at %zu of %zu", j, one);
        }
        if (k > 0 || j > 2 * one)
            hear_exactly(next, whole + k, one - k); /* the Date may differ in what follows */
        close(next);
    }
    close(fd);
    finish();
}

/* Both that the client lacks are said, behind one that could not have been. */
static void
logged_responses_follow_one_that_was_not(void **state)
{
    char whole[4096], buf[4096];
    size_t n, have;
    int fd, next;

    begin("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n0\r\n\r\n",
          PROTECT_RESPONSES);
    fd = dial();
    say(fd, GET);
    n = hear(fd, whole, sizeof(whole), "0\r\n\r\n");
    AWAIT(frames(WIRE_DONE) == 1);
    play.s.origin.reply = HELLO;
    say(fd, POST POST);
    have = hear(fd, whole, sizeof(whole), "hello");
    AWAIT(frames(WIRE_DONE) == 3);
    next = die(fd, n + 10);
    hear(next, buf, sizeof(buf), "hello");
    assert_memory_equal(buf, whole + 10, have < 30 ? have : 20);
    AWAIT(COUNT(&play.s, said) >= 1);
    say(next, POST);
    AWAIT(play.s.origin.requests == 4);
    close(next);
    close(fd);
    finish();
}

/* A replica of two requests in one segment, as the owner of fd would have told it; `more` came
 * behind them.  The response to the first was not logged, that to the second was. */
static struct replica *
two_requests(int fd, const char *more, bool close)
{
    static const char first[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"1\"\r\n\r\n";
    static const char second[] = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n";
    const uint64_t in = strlen(GET), out = strlen(HELLO), all = 2 * in + strlen(more);
    const uint64_t end = out + strlen(second) + 6;
    char text[1024];
    const struct wire_frame frame[] = {
        {.kind = WIRE_OPEN,
         .u.open = {.key = key_of(fd),
                    .params = {.mss = 1460},
                    .rcv_base = RCV_BASE,
                    .snd_base = SND_BASE}},
        {.kind = WIRE_IN, .u.in.bytes = {text, all}},
        {.kind = WIRE_REQ, .u.req = {.repeatable = true}},
        {.kind = WIRE_HEAD, .u.head = {true, {first, strlen(first)}}},
        {.kind = WIRE_DONE, .u.done = {in, out, false}},
        {.kind = WIRE_REQ,
         .u.req = {.in_start = in, .out_start = out, .pipelined = true, .repeatable = true}},
        {.kind = WIRE_HEAD, .u.head = {true, {second, strlen(second)}}},
        {.kind = WIRE_OUT, .u.out.bytes = {"logged", 6}},
        {.kind = WIRE_DONE, .u.done = {2 * in, end, close}},
    };
    struct buf b = {0};
    struct replica *x;

    snprintf(text, sizeof(text), "%s%s%s", GET, GET, more);
    for (size_t i = 0; i < MC_COUNT(frame); i++)
        wire_put(&b, &frame[i]);
    x = replica_read(owner_life, (struct str){b.p, b.n});
    assert_non_null(x);
    buf_free(&b);
    return x;
}

/* As much of it as is taken; whoever reads without a bound takes all. */
static size_t
flood(int fd, const char *text, size_t max)
{
    const size_t n = strlen(text);
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    size_t sent = 0;

    while (sent < max && poll(&p, 1, 1000) == 1) {
        ssize_t took = send(fd, text + sent % n, n - sent % n, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (took < 0 && errno != EAGAIN)
            break;
        sent += took > 0 ? (size_t)took : 0;
    }
    return sent;
}

#define FLOOD_BYTES ((size_t)16 << 20)

/* A connection that was adopted, whose first request is with a slow server. */
static void
who_sends_on_while_a_server_is_slow_has_to_wait(void **state)
{
    char buf[65536];
    int fd, next;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    hear(fd, buf, sizeof(buf), "hello");
    play.s.origin.hold = true;
    next = take_over(two_requests(fd, "", false), fd, 0);
    assert_true(flood(next, GET, FLOOD_BYTES) < FLOOD_BYTES);
    play.s.origin.hold = false;
    hear(next, buf, sizeof(buf), "hello");
    if (strstr(buf, "logged") == NULL)
        hear(next, buf, sizeof(buf), "logged");
    if (strstr(strstr(buf, "logged"), "hello") == NULL)
        hear(next, buf, sizeof(buf), "hello");
    close(next);
    close(fd);
    finish();
}

/* What is not read again since the connection ends is thrown away as any other. */
static void
who_sends_on_behind_the_last_response_is_cut(void **state)
{
    char buf[4096];
    int fd, next;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, GET);
    hear(fd, buf, sizeof(buf), "hello");
    next = take_over(two_requests(fd, GET, true), fd, strlen(HELLO));
    hear(next, buf, sizeof(buf), "logged");
    assert_true(flood(next, GET, FLOOD_BYTES) < FLOOD_BYTES);
    close(next);
    close(fd);
    finish();
}

static void
a_new_holder_knows_as_much(void **state)
{
    char whole[4096];
    struct link *l;
    size_t n;
    int fd, next;

    begin(HELLO, PROTECT_RESPONSES);
    fd = dial();
    say(fd, POST);
    n = hear(fd, whole, sizeof(whole), "hello");
    AWAIT(frames(WIRE_DONE) == 1);
    l = &links[owner_of(fd)];
    pthread_mutex_lock(&lock);
    l->second = make_store(&l->second_line, l->index);
    l->snapshot_due = true;
    pthread_mutex_unlock(&lock);
    kick(l);
    AWAIT(!is_due(&l->snapshot_due));
    for (size_t j = 1; j <= n; j += 3) {
        next = take_over(copy_replica(l->second, fd), fd, j);
        assert_true(next >= 0);
        hear_exactly(next, whole + j, n - j);
        close(next);
    }
    close(fd);
    finish();
}

static void
responses_without_a_body_are_carried_on(void **state)
{
    cut_anywhere("HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n",
                 "HTTP/1.1 200 OK\r\nContent-Length: 500\r\nETag: \"1\"\r\n\r\n", "\r\n\r\n",
                 PROTECT_REQUESTS);
    cut_anywhere(GET, "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n", "\r\n\r\n",
                 PROTECT_REQUESTS);
}

static void
answers_of_our_own_are_carried_on(void **state)
{
    char whole[4096];
    size_t n;
    int fd, next;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, "GET /a HTTP/1.1\r\nHost: h\r\nbad header\r\n\r\n");
    hear(fd, whole, sizeof(whole), "request id: ");
    n = (size_t)(strstr(whole, "request id: ") - whole); /* which is each balancer's own */
    assert_memory_equal(whole, "HTTP/1.1 400 ", 13);
    AWAIT(frames(WIRE_DONE) == 1);
    next = die(fd, 20);
    hear_exactly(next, whole + 20, n - 20);
    hear_end(next);
    close(next);
    close(fd);
    finish();
}

static void
a_last_response_is_followed_by_the_end(void **state)
{
    char whole[4096];
    size_t n;
    int fd, next;

    begin(HELLO, PROTECT_REQUESTS);
    fd = dial();
    say(fd, "GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    n = hear(fd, whole, sizeof(whole), "hello");
    assert_non_null(strstr(whole, "Connection: close"));
    AWAIT(frames(WIRE_DONE) == 1);
    for (size_t j = 1; j < n && frames(WIRE_CLOSE) == 0; j += 11) {
        next = die(fd, j);
        hear_exactly(next, whole + j, n - j);
        hear_end(next);
        close(next);
    }
    close(fd);
    AWAIT(frames(WIRE_CLOSE) > 0);
    finish();
}

static void
an_expected_100_is_said_once(void **state)
{
    static const char head[] =
        "PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    char buf[4096];
    size_t n;
    int fd, next;

    begin("HTTP/1.1 100 Continue\r\n\r\n", PROTECT_REQUESTS);
    fd = dial();
    say(fd, head);
    n = hear(fd, buf, sizeof(buf), "\r\n\r\n");
    assert_memory_equal(buf, "HTTP/1.1 100 ", 13);
    play.s.origin.reply = "HTTP/1.1 100 Continue\r\n\r\n" HELLO;
    next = die(fd, 7);
    hear_exactly(next, buf + 7, n - 7);
    say(next, "body");
    hear(next, buf, sizeof(buf), "hello");
    assert_memory_equal(buf, "HTTP/1.1 200 ", 13);
    close(next);
    close(fd);
    finish();
}

/* --- what the log says --------------------------------------------------------------------------
 */

static char log_path[] = "/tmp/meercat-flow-log-XXXXXX";

static void
open_log(void)
{
    strcpy(log_path + strlen(log_path) - 6, "XXXXXX");
    access_log = access_log_inherit(log_path, ACCESS_JSON, mkostemp(log_path, O_APPEND));
}

static void
close_log(void)
{
    access_log_close(&access_log);
    unlink(log_path);
}

/* How many lines have all of these. */
static unsigned
lines_with(const char *const *parts, size_t n_parts)
{
    FILE *f = fopen(log_path, "r");
    char line[2048];
    unsigned n = 0;

    while (fgets(line, sizeof(line), f) != NULL) {
        size_t i = 0;

        while (i < n_parts && strstr(line, parts[i]) != NULL)
            i++;
        n += i == n_parts;
    }
    fclose(f);
    return n;
}
#define LINES(...) \
    lines_with((const char *const[]){__VA_ARGS__}, MC_COUNT(((const char *const[]){__VA_ARGS__})))

#define FROM "\"adopted_from\":\"lb7\""

/* One that waits for its server when its balancer dies; next: the end that lives. */
static int
die_waiting(const char *request, int *fd)
{
    open_log();
    begin(HELLO, PROTECT_REQUESTS);
    play.s.origin.hold = true;
    *fd = dial();
    say(*fd, request);
    AWAIT(play.s.origin.requests == 1);
    return die(*fd, 0);
}

static void
end_logged(int fd, int next)
{
    play.s.origin.hold = false;
    close(next);
    close(fd);
    finish();
    close_log();
}

static void
the_log_tells_what_was_repeated(void **state)
{
    char buf[4096];
    int fd, next = die_waiting(GET, &fd);

    AWAIT(play.s.origin.requests == 2);
    play.s.origin.hold = false;
    hear(next, buf, sizeof(buf), "hello");
    AWAIT(LINES(FROM, "\"adopted\":\"repeated\"", "\"method\":\"GET\"", "\"status\":200") == 1);
    say(next, GET);
    hear(next, buf, sizeof(buf), "hello");
    AWAIT(LINES(FROM) == 2);
    assert_int_equal(LINES("\"adopted\""), 1);
    end_logged(fd, next);
}

static void
the_log_tells_what_was_refused(void **state)
{
    char buf[4096];
    int fd, next = die_waiting(POST, &fd);

    hear(next, buf, sizeof(buf), "it may not be sent again\nrequest id: ");
    assert_non_null(strstr(buf, "Proxy-Status: test; error=connection_terminated; "
                                "details=\"the balancer that had sent the request was lost"));
    AWAIT(LINES(FROM, "\"adopted\":\"refused\"", "\"status\":502", "\"end\":\"takeover-sent\"") ==
          1);
    end_logged(fd, next);
}

/* One of whose answer the client has ten bytes. */
static int
die_answered(unsigned replicate, const char *again, int *fd)
{
    char buf[4096];
    int next;

    open_log();
    begin(HELLO, replicate);
    *fd = dial();
    say(*fd, GET);
    hear(*fd, buf, sizeof(buf), "hello");
    AWAIT(frames(WIRE_DONE) == 1);
    play.s.origin.reply = again;
    next = die(*fd, 10);
    if (strcmp(again, HELLO) == 0)
        hear(next, buf, sizeof(buf), "hello");
    else
        hear_reset(next);
    return next;
}

static void
the_log_tells_what_was_continued(void **state)
{
    int fd, next = die_answered(PROTECT_REQUESTS, HELLO, &fd);

    AWAIT(LINES(FROM, "\"adopted\":\"continued\"", "\"status\":200", "\"end\":\"ok\"") == 1);
    end_logged(fd, next);
}

static void
the_log_tells_what_could_not_be_continued(void **state)
{
    static const char other[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"2\"\r\n\r\nhallo";
    int fd, next = die_answered(PROTECT_REQUESTS, other, &fd);

    AWAIT(LINES(FROM, "\"adopted\":\"continued\"", "\"end\":\"takeover-broken\"") == 1);
    end_logged(fd, next);
}

static void
the_log_tells_what_was_answered_without_a_server(void **state)
{
    int fd, next = die_answered(PROTECT_RESPONSES, HELLO, &fd);

    AWAIT(LINES(FROM, "\"adopted\":\"answered\"", "\"method\":\"GET\"", "\"target\":\"/a\"",
                "\"status\":200", "\"bytes_out\":5") == 1);
    assert_int_equal(LINES("\"server\""), 1);
    end_logged(fd, next);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_idle_connection_goes_on),
        cmocka_unit_test(without_its_listener_nothing_of_it_stays),
        cmocka_unit_test(a_request_that_was_not_answered_is_sent_again),
        cmocka_unit_test(a_response_is_carried_on_wherever_it_was_cut),
        cmocka_unit_test(a_logged_response_needs_no_server),
        cmocka_unit_test(interim_responses_are_a_part_of_it),
        cmocka_unit_test(a_response_that_differs_breaks_the_connection),
        cmocka_unit_test(chunks_are_carried_on_until_one_was_sent),
        cmocka_unit_test(what_was_sent_and_may_not_be_repeated_is_refused),
        cmocka_unit_test(half_a_request_is_completed_elsewhere),
        cmocka_unit_test(who_sends_again_is_acknowledged_when_a_holder_has_it),
        cmocka_unit_test(who_rests_is_acknowledged_if_it_waits_for_that),
        cmocka_unit_test(pipelined_requests_are_carried_on),
        cmocka_unit_test(logged_responses_follow_one_that_was_not),
        cmocka_unit_test(who_sends_on_while_a_server_is_slow_has_to_wait),
        cmocka_unit_test(who_sends_on_behind_the_last_response_is_cut),
        cmocka_unit_test(a_new_holder_knows_as_much),
        cmocka_unit_test(responses_without_a_body_are_carried_on),
        cmocka_unit_test(answers_of_our_own_are_carried_on),
        cmocka_unit_test(a_last_response_is_followed_by_the_end),
        cmocka_unit_test(an_expected_100_is_said_once),
        cmocka_unit_test(the_log_tells_what_was_repeated),
        cmocka_unit_test(the_log_tells_what_was_refused),
        cmocka_unit_test(the_log_tells_what_was_continued),
        cmocka_unit_test(the_log_tells_what_could_not_be_continued),
        cmocka_unit_test(the_log_tells_what_was_answered_without_a_server),
    };

    return RUN_ON_ENGINES(tests);
}
