/* SPDX-License-Identifier: BSD-2-Clause
 *
 * watch_test.c - watchers before agents that tell the truth, lie, stall, babble and go away.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/log.h"
#include "fleet/watch.h"
#include "io/harness.h"

static struct rng rng;
static struct watcher *W;
static unsigned n_told;
static struct place_report last;
static mc_ns last_age;

/* --- an agent ------------------------------------------------------------------------------------
 */

static int door = -1, peer = -1;
static struct addr where;

static void
open_door(void)
{
    struct errbuf e;

    if (where.len == 0)
        assert_true(addr_parse(STR("127.0.0.1:0"), &where, NULL, NULL, &e) == MC_OK);
    door = sock_listen_fd(&where, &(struct sock_listen_opts){0}, &e);
    assert_true(door >= 0);
    where.len = sizeof(where.u);
    getsockname(door, &where.u.sa, &where.len);
}

static bool
has_come(void)
{
    peer = accept4(door, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return peer >= 0;
}

static void
hang_up(void)
{
    close(peer);
    peer = -1;
}

/* What the watcher has sent, once `end` has come. */
static char asked[2048];

static bool
has_asked(const char *end)
{
    size_t n = strlen(asked);
    ssize_t got = read(peer, asked + n, sizeof(asked) - 1 - n);

    if (got > 0)
        asked[n + (size_t)got] = '\0';
    return strstr(asked, end) != NULL;
}

static bool
has_left(void)
{
    char c[512];
    ssize_t n = read(peer, c, sizeof(c));

    return n == 0 || (n < 0 && errno != EAGAIN);
}

static void
say(const char *text)
{
    assert_int_equal(write(peer, text, strlen(text)), strlen(text));
}

static void
say_chunk(const char *text)
{
    char all[4096];

    snprintf(all, sizeof(all), "%zx\r\n%s\r\n", strlen(text), text);
    say(all);
}

#define STREAM "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

static void
meet(const char *end_of_request)
{
    asked[0] = '\0';
    UNTIL(has_come());
    if (end_of_request != NULL)
        UNTIL(has_asked(end_of_request));
}

/* --- a watcher -----------------------------------------------------------------------------------
 */

static void
on_report(void *arg, const struct place_report *r, mc_ns age)
{
    n_told++;
    last = *r;
    last_age = age;
    assert_string_equal(arg, "arg");
}

static void
watch_it(enum watch_kind kind, mc_ns interval)
{
    struct watch_conf conf = {.kind = kind, .addr = where, .interval = interval};

    W = watcher_new(L, NULL, &conf, &rng, on_report, (void *)(uintptr_t) "arg");
}

static void
begin_stream(void)
{
    watch_it(WATCH_AGENT, 20 * MC_MS);
    meet("\r\n\r\n");
    say(STREAM);
}

#define STATS      watcher_stats(W)
#define REFUSED(f) STATS->refused[REPORT_F_##f]

/* --- streams -------------------------------------------------------------------------------------
 */

static void
a_stream_is_read_line_by_line(void **state)
{
    begin_stream();
    assert_non_null(strstr(asked, "GET /load?interval=20ms HTTP/1.1\r\n"));
    assert_int_equal(watcher_age(W, loop_now(L)), MC_NEVER_NS);
    say_chunk("cpu_utilization=0.25,named_metrics.cores=4\n");
    UNTIL(n_told == 1);
    assert_true(last.cpu_utilization == 0.25 && last.cores == 4);
    say_chunk("cpu_util");
    say_chunk("ization=0.5\neps=1\ncpu_utili");
    UNTIL(n_told == 3);
    assert_true(report_has(&last, REPORT_EPS));
    say_chunk("zation=0.75\n");
    UNTIL(n_told == 4);
    assert_true(last.cpu_utilization == 0.75);
    assert_int_equal(STATS->reports, 4);
    assert_int_equal(STATS->connects, 1);
    assert_true(watcher_age(W, loop_now(L)) < MC_SEC);
}

static void
a_stream_may_come_byte_by_byte(void **state)
{
    static const char all[] = STREAM "6\r\neps=1\n\r\n6\r\neps=2\n\r\n";

    watch_it(WATCH_AGENT, 20 * MC_MS);
    meet("\r\n\r\n");
    for (size_t i = 0; i < sizeof(all) - 1; i++) {
        assert_int_equal(write(peer, all + i, 1), 1);
        loop_turn(L, 0);
    }
    UNTIL(n_told == 2);
    assert_true(last.eps == 2);
}

static void
a_stream_without_chunks_is_read_too(void **state)
{
    watch_it(WATCH_AGENT, 20 * MC_MS);
    meet("\r\n\r\n");
    say("HTTP/1.1 200 OK\r\n\r\neps=7\n");
    UNTIL(n_told == 1);
    assert_true(last.eps == 7);
}

static void
lies_and_nonsense_are_counted_and_not_told(void **state)
{
    begin_stream();
    say_chunk("cpu_utilization=NaN\n");
    say_chunk("cpu_utilization=-1\n");
    say_chunk("mem_utilization=3\n");
    say_chunk("\n");
    say_chunk("eps=1,eps=2\n");
    say_chunk("hello\n");
    say_chunk("eps=1,named_metrics.boot=5,named_metrics.seq=2,named_metrics.time=100\n");
    say_chunk("eps=2,named_metrics.boot=5,named_metrics.seq=1,named_metrics.time=200\n");
    say_chunk("eps=3,named_metrics.boot=5,named_metrics.seq=3,named_metrics.time=100\n");
    say_chunk("eps=4,named_metrics.boot=5,named_metrics.seq=3,named_metrics.time=120\n");
    UNTIL(n_told == 2);
    assert_true(last.eps == 4);
    assert_int_equal(REFUSED(NOT_FINITE), 1);
    assert_int_equal(REFUSED(NEGATIVE), 1);
    assert_int_equal(REFUSED(RANGE), 1);
    assert_int_equal(REFUSED(EMPTY), 1);
    assert_int_equal(REFUSED(DUPLICATE), 1);
    assert_int_equal(REFUSED(SYNTAX), 1);
    assert_int_equal(REFUSED(STALE_SEQ), 1);
    assert_int_equal(REFUSED(STALE_CLOCK), 1);
    assert_int_equal(STATS->reports, 2);
}

static void
a_stream_that_stalls_is_left_and_asked_for_again(void **state)
{
    begin_stream();
    say_chunk("eps=1\n");
    UNTIL(n_told == 1);
    UNTIL(has_left());
    assert_int_equal(STATS->stalls, 1);
    assert_string_equal(STATS->why, "no report in time");
    hang_up();
    meet("\r\n\r\n");
    say(STREAM);
    say_chunk("eps=2\n");
    UNTIL(n_told == 2);
    assert_int_equal(STATS->connects, 2);
    assert_string_equal(STATS->why, "");
}

static void
babble_does_not_hold_a_connection(void **state)
{
    mc_ns give_up = units_clock_ns() + 20 * MC_SEC;

    begin_stream();
    while (STATS->stalls == 0) {
        assert_true(units_clock_ns() < give_up);
        if (write(peer, "3\r\nbla\r\n1\r\n\n\r\n", 14) < 0)
            break;
        loop_turn(L, 5 * MC_MS);
    }
    UNTIL(STATS->stalls == 1);
    assert_true(REFUSED(SYNTAX) > 1);
    assert_int_equal(n_told, 0);
}

static void
an_endless_line_is_refused(void **state)
{
    char much[1025];

    memset(much, 'x', 1024);
    much[1024] = '\0';
    begin_stream();
    for (int i = 0; i < 9; i++)
        say_chunk(much);
    UNTIL(has_left());
    assert_int_equal(REFUSED(TOO_LONG), 1);
    assert_string_equal(STATS->why, "a line is too long");
}

static void
who_goes_away_is_sought_again_and_again(void **state)
{
    begin_stream();
    say_chunk("eps=1\n");
    UNTIL(n_told == 1);
    for (unsigned i = 1; i <= 4; i++) {
        hang_up();
        UNTIL(STATS->failures == i);
        assert_string_equal(STATS->why, "the stream has ended");
        meet("\r\n\r\n");
    }
    say(STREAM);
    say_chunk("eps=2\n0\r\n\r\n"); /* not the end: inside the chunk */
    UNTIL(n_told == 2);
    assert_int_equal(STATS->connects, 5);
}

static void
an_agent_that_starts_later_is_found(void **state)
{
    close(door);
    watch_it(WATCH_AGENT, 20 * MC_MS);
    UNTIL(STATS->failures >= 3);
    assert_string_equal(STATS->why, "Connection refused");
    open_door();
    meet("\r\n\r\n");
    say(STREAM);
    say_chunk("eps=1\n");
    UNTIL(n_told == 1);
}

static void
what_is_no_stream_is_left(void **state)
{
    static const struct {
        const char *text, *why;
    } all[] = {
        {"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "status 503"},
        {"SSH-2.0-OpenSSH_9.2\r\n\r\n", "malformed response: malformed status line"},
        {STREAM "zz\r\n", "malformed response: malformed chunk size"},
        {STREAM "6\r\neps=1\n\r\n0\r\n\r\n", "the stream has ended"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\neps=1\n", "the stream has ended"},
    };

    watch_it(WATCH_AGENT, 20 * MC_MS);
    for (unsigned i = 0; i < MC_COUNT(all); i++) {
        meet("\r\n\r\n");
        say(all[i].text);
        UNTIL(has_left());
        assert_string_equal(STATS->why, all[i].why);
        hang_up();
    }
    assert_int_equal(n_told, 2);
}

/* --- polls ---------------------------------------------------------------------------------------
 */

static void
an_agent_for_haproxy_is_polled(void **state)
{
    struct watch_conf conf = {
        .kind = WATCH_CHECK, .addr = where, .interval = 20 * MC_MS, .send = "hello\n"};

    W = watcher_new(L, NULL, &conf, &rng, on_report, (void *)(uintptr_t) "arg");
    meet("hello\n");
    say("75% up");
    say(" maxconn:9 # fine\r\n");
    UNTIL(n_told == 1);
    assert_true(last.weight == 0.75 && last.max_in_flight == 9);
    UNTIL(has_left());
    hang_up();
    meet("hello\n");
    say("drain\n");
    UNTIL(n_told == 2);
    assert_int_equal(last.admin, REPORT_DRAIN);
    assert_int_equal(STATS->failures, 0);
}

static void
a_reply_without_an_end_is_left_out(void **state)
{
    watch_it(WATCH_CHECK, 20 * MC_MS);
    meet(NULL);
    say("75%");
    hang_up();
    UNTIL(STATS->failures == 1);
    assert_int_equal(REFUSED(INCOMPLETE), 1);
    meet(NULL);
    say("nonsense\n");
    UNTIL(REFUSED(NAME_UNKNOWN) == 1);
    hang_up();
    meet(NULL);
    for (int i = 0; i < 200; i++)
        say("up up up up ");
    UNTIL(REFUSED(TOO_LONG) == 1);
    assert_int_equal(n_told, 0);
}

static void
scrape_it(double busy, double idle, double now)
{
    char body[512], all[1024];

    snprintf(body, sizeof(body),
             "node_cpu_seconds_total{cpu=\"0\",mode=\"user\"} %g\n"
             "node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} %g\n"
             "node_boot_time_seconds 1\nnode_time_seconds %g\n",
             busy, idle, now);
    snprintf(all, sizeof(all), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(body),
             body);
    meet("\r\n\r\n");
    assert_non_null(strstr(asked, "GET /metrics HTTP/1.1\r\n"));
    say(all);
    UNTIL(has_left());
    hang_up();
}

static void
node_exporter_is_polled_and_differences_told(void **state)
{
    watch_it(WATCH_NODE, 20 * MC_MS);
    scrape_it(10, 10, 100);
    assert_int_equal(n_told, 0);
    scrape_it(10.5, 10.5, 101);
    assert_int_equal(n_told, 1);
    assert_true(last.cpu_utilization == 0.5);
    scrape_it(9, 11, 102);
    assert_int_equal(n_told, 1);
    assert_int_equal(REFUSED(COUNTER_BACK), 1);
    scrape_it(9.25, 11.75, 103); /* forward again, and yet behind what was believed */
    assert_int_equal(REFUSED(COUNTER_BACK), 2);
    scrape_it(11, 13, 106);
    scrape_it(11.25, 13.75, 107);
    assert_int_equal(n_told, 3);
    assert_true(last.cpu_utilization == 0.25);
}

static void
a_scrape_that_is_cut_is_left_out(void **state)
{
    watch_it(WATCH_NODE, 20 * MC_MS);
    meet("\r\n\r\n");
    say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnode_load1 1\n");
    hang_up();
    UNTIL(STATS->failures == 1);
    assert_string_equal(STATS->why, "closed within the answer");
    meet("\r\n\r\n");
    say("HTTP/1.1 200 OK\r\n\r\nnode_load1 1\n"); /* until it closes */
    hang_up();
    UNTIL(REFUSED(INCOMPLETE) == 1);
}

/* --- being freed, being shared -------------------------------------------------------------------
 */

static void
free_in_report(void *arg, const struct place_report *r, mc_ns age)
{
    n_told++;
    watcher_free(&W);
}

static void
a_watcher_may_be_freed_in_its_report(void **state)
{
    struct watch_conf conf = {.kind = WATCH_AGENT, .addr = where, .interval = 20 * MC_MS};

    W = watcher_new(L, NULL, &conf, &rng, free_in_report, NULL);
    meet("\r\n\r\n");
    say(STREAM);
    say_chunk("eps=1\neps=2\neps=3\n");
    UNTIL(n_told == 1);
    UNTIL(has_left());
    assert_int_equal(n_told, 1);
}

struct share {
    struct watch_sub *sub, **leave[3];
    unsigned n_told;
};

static void
on_shared(void *arg, const struct place_report *r, mc_ns age)
{
    struct share *s = arg;

    s->n_told++;
    for (unsigned i = 0; i < 3; i++)
        if (s->leave[i] != NULL)
            watch_sub_leave(s->leave[i]);
}

static void
servers_of_a_host_share_a_watcher(void **state)
{
    struct watches *ws = watches_new(L, NULL, &rng);
    struct watch_conf conf = {.kind = WATCH_AGENT, .addr = where, .interval = 20 * MC_MS};
    struct share s[3] = {0};

    for (unsigned i = 0; i < 3; i++)
        s[i].sub = watches_join(ws, &conf, on_shared, &s[i]);
    assert_int_equal(watches_count(ws), 1);
    assert_ptr_equal(watch_sub_watcher(s[0].sub), watches_at(ws, 0));
    meet("\r\n\r\n");
    say(STREAM);
    say_chunk("eps=1\n");
    UNTIL(s[2].n_told == 1);
    s[0].leave[0] = &s[1].sub; /* the first sends the second away before its turn */
    say_chunk("eps=1\n");
    UNTIL(s[2].n_told == 2);
    assert_int_equal(s[0].n_told, 2);
    assert_int_equal(s[1].n_told, 1);
    s[0].leave[0] = &s[0].sub; /* and at last all go within one round */
    s[0].leave[1] = &s[2].sub;
    say_chunk("eps=1\n");
    UNTIL(has_left());
    assert_int_equal(s[2].n_told, 2);
    assert_int_equal(watches_count(ws), 0);
    watches_free(&ws);
}

/* --- stage ---------------------------------------------------------------------------------------
 */

static int
setup(void **state)
{
    struct errbuf e;

    log_setup(LOG_LEVEL_ERROR, false);
    rng_seed(&rng, 3);
    L = loop_new(&(struct loop_conf){.engine = LOOP_EPOLL}, &e);
    n_told = 0;
    where.len = 0;
    open_door();
    return 0;
}

static int
teardown(void **state)
{
    watcher_free(&W);
    loop_free(&L);
    if (peer >= 0)
        hang_up();
    close(door);
    return 0;
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        STORY(a_stream_is_read_line_by_line),
        STORY(a_stream_may_come_byte_by_byte),
        STORY(a_stream_without_chunks_is_read_too),
        STORY(lies_and_nonsense_are_counted_and_not_told),
        STORY(a_stream_that_stalls_is_left_and_asked_for_again),
        STORY(babble_does_not_hold_a_connection),
        STORY(an_endless_line_is_refused),
        STORY(who_goes_away_is_sought_again_and_again),
        STORY(an_agent_that_starts_later_is_found),
        STORY(what_is_no_stream_is_left),
        STORY(an_agent_for_haproxy_is_polled),
        STORY(a_reply_without_an_end_is_left_out),
        STORY(node_exporter_is_polled_and_differences_told),
        STORY(a_scrape_that_is_cut_is_left_out),
        STORY(a_watcher_may_be_freed_in_its_report),
        STORY(servers_of_a_host_share_a_watcher),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
