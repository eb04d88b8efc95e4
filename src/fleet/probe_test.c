/* SPDX-License-Identifier: BSD-2-Clause
 *
 * probe_test.c - active checks against a little server on the same loop.
 */
#include "fleet/probe.h"

#include <unistd.h>

#include "base/buf.h"
#include "fleet/harness.h"
#include "io/sock.h"

/* --- a little server ----------------------------------------------------------------------------
 */

struct peer {
    struct sock sock;
    struct list link;
};

static struct sock listener;
static struct list peers;
static const char *answer; /* to any request; NULL: none, "": closes */
static unsigned accepted, asked, closed;
static struct buf request; /* the last one */

static void
peer_closed(struct sock *s)
{
    struct peer *p = container_of(s, struct peer, sock);

    list_remove(&p->link);
    free(p);
    closed++;
}

static void
peer_recv(struct sock *s, struct block **b)
{
    request.n = 0;
    buf_add(&request, block_at(*b), (*b)->len);
    asked++;
    if (answer)
        sock_write(s, answer, strlen(answer));
    if (answer && !*answer)
        sock_close(s, false);
}

static void
peer_ended(struct sock *s)
{
    sock_close(s, false);
}

static void
peer_error(struct sock *s, int err)
{
    sock_close(s, false);
}

static const struct sock_ops peer_ops = {
    .on_recv = peer_recv,
    .on_eof = peer_ended,
    .on_error = peer_error,
    .on_closed = peer_closed,
};

static void
on_accept(struct sock *s, int fd)
{
    struct peer *p = mc_alloc(sizeof(*p));

    accepted++;
    list_init(&p->link);
    list_push_back(&peers, &p->link);
    sock_open(&p->sock, L, fd, &peer_ops);
    sock_recv(&p->sock, true);
}

static void
listener_closed(struct sock *s)
{
}

static const struct sock_ops listener_ops = {
    .on_accept = on_accept,
    .on_closed = listener_closed,
};

static void
open_server(const char *address)
{
    struct sock_listen_opts opts = {0};
    struct errbuf err;
    struct addr a;
    int fd;

    assert_int_equal(addr_parse(str_of(address), &a, NULL, NULL, &err), MC_OK);
    fd = sock_listen_fd(&a, &opts, &err);
    if (fd < 0)
        fail_msg("%s", err.text);
    sock_open(&listener, L, fd, &listener_ops);
    sock_accept(&listener, true);
}

static uint16_t
listener_port(void)
{
    struct addr a = {.len = sizeof(a.u)};

    assert_int_equal(getsockname(listener.fd, &a.u.sa, &a.len), 0);
    return addr_port(&a);
}

static void
stop_listening(void)
{
    sock_close(&listener, false);
    settle();
}

static int
begin(void **state)
{
    fleet_setup(state);
    list_init(&peers);
    accepted = asked = closed = 0;
    answer = NULL;
    return 0;
}

static int
end(void **state)
{
    fleet_free(&F);
    if (sock_is_open(&listener))
        sock_close(&listener, false);
    LIST_FOREACH (it, &peers)
        if (sock_is_open(&LIST_ENTRY(it, struct peer, link)->sock))
            sock_close(&LIST_ENTRY(it, struct peer, link)->sock, false);
    loop_free(&L);
    buf_free(&request);
    request = (struct buf){0};
    return 0;
}

/* --- pools of one server that is checked --------------------------------------------------------
 */

static struct pool_conf
checked_pool(enum pool_check_kind kind)
{
    struct pool_conf c = pool_of(1);

    c.check =
        (struct pool_check_conf){.kind = kind, .interval_ns = 10 * MC_MS, .timeout_ns = 5 * MC_SEC};
    c.health = (struct health_conf){.rise = 2, .fall = 2};
    free(c.servers[0].address);
    c.servers[0].address = mc_printf("127.0.0.1:%u", listener_port());
    return c;
}

static struct pool *
adopt_checked(enum pool_check_kind kind)
{
    struct pool_conf c = checked_pool(kind);

    return adopt(&c);
}

#define OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

/* --- the tests ----------------------------------------------------------------------------------
 */

static void
a_good_answer_keeps_a_server_up(void **state)
{
    struct pool *p;

    open_server("127.0.0.1:0");
    answer = OK_ANSWER;
    p = adopt_checked(POOL_CHECK_HTTP);
    UNTIL(asked >= 3);
    assert_int_equal(state_of(p, 0), HEALTH_UP);
    UNTIL(closed >= 3); /* a connection each */
    pool_free(&p);
}

static void
the_question_is_as_configured(void **state)
{
    struct pool_conf c;
    struct pool *p;

    open_server("127.0.0.1:0");
    answer = OK_ANSWER;
    c = checked_pool(POOL_CHECK_HTTP);
    c.check.method = mc_strdup("HEAD");
    c.check.path = mc_strdup("/healthz?deep=1");
    c.check.host = mc_strdup("example.org");
    p = adopt(&c);
    UNTIL(asked > 0);
    assert_int_equal(
        strncmp(request.p, "HEAD /healthz?deep=1 HTTP/1.1\r\nHost: example.org\r\n", 50), 0);
    assert_non_null(strstr(request.p, "\r\nConnection: close\r\n\r\n"));
    pool_free(&p);
}

static void
the_host_is_the_servers_address_by_default(void **state)
{
    char expected[64];
    struct pool *p;

    open_server("127.0.0.1:0");
    answer = OK_ANSWER;
    p = adopt_checked(POOL_CHECK_HTTP);
    UNTIL(asked > 0);
    snprintf(expected, sizeof(expected), "GET / HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n",
             listener_port());
    assert_int_equal(strncmp(request.p, expected, strlen(expected)), 0);
    pool_free(&p);
}

static void
goes_down_with(const char *text, const char *reason)
{
    struct pool *p;

    open_server("127.0.0.1:0");
    answer = text;
    p = adopt_checked(POOL_CHECK_HTTP);
    UNTIL(state_of(p, 0) == HEALTH_DOWN);
    assert_string_equal(reason_of(p, 0), reason);
    assert_false(is_open(p, 0));
    pool_free(&p);
}

static void
an_unexpected_status_is_a_failure(void **state)
{
    goes_down_with("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
                   "status 503, expected 200-399");
}

static void
a_malformed_answer_is_a_failure(void **state)
{
    goes_down_with("HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
                   "malformed response: field line without colon");
}

static void
a_closed_connection_is_a_failure(void **state)
{
    goes_down_with("", "closed without a response");
}

static void
an_endless_head_is_a_failure(void **state)
{
    static char text[40000] = "HTTP/1.1 200 OK\r\nX: ";

    memset(text + 20, 'x', sizeof(text) - 21);
    goes_down_with(text, "malformed response: head too large");
}

static void
interim_answers_are_passed_over(void **state)
{
    goes_down_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n"
                   "HTTP/1.1 500 Oh\r\n\r\n",
                   "status 500, expected 200-399");
}

static void
one_expected_status_is_told_as_one(void **state)
{
    struct pool_conf c;
    struct pool *p;

    open_server("127.0.0.1:0");
    answer = OK_ANSWER;
    c = checked_pool(POOL_CHECK_HTTP);
    c.check.status_min = c.check.status_max = 204;
    p = adopt(&c);
    UNTIL(state_of(p, 0) == HEALTH_DOWN);
    assert_string_equal(reason_of(p, 0), "status 200, expected 204");
    pool_free(&p);
}

static void
silence_is_a_failure_after_the_time_limit(void **state)
{
    struct pool_conf c;
    struct pool *p;

    open_server("127.0.0.1:0");
    c = checked_pool(POOL_CHECK_HTTP);
    c.check.timeout_ns = 30 * MC_MS;
    p = adopt(&c);
    UNTIL(state_of(p, 0) == HEALTH_DOWN);
    assert_string_equal(reason_of(p, 0), "timed out after 30ms");
    pool_free(&p);
}

static void
a_refused_connection_is_a_failure_and_a_return_is_seen(void **state)
{
    struct pool_conf c;
    struct pool *p;
    char address[32];

    open_server("127.0.0.1:0");
    c = checked_pool(POOL_CHECK_TCP);
    snprintf(address, sizeof(address), "127.0.0.1:%u", listener_port());
    stop_listening();
    p = adopt(&c);
    UNTIL(state_of(p, 0) == HEALTH_DOWN);
    assert_string_equal(reason_of(p, 0), "connection refused");
    opened = 0;
    open_server(address);
    UNTIL(state_of(p, 0) == HEALTH_UP);
    assert_true(is_open(p, 0));
    assert_int_equal(opened, 1);
    assert_string_equal(reason_of(p, 0), "connected");
    assert_int_equal(asked, 0); /* nothing is said in a TCP check */
    pool_free(&p);
}

static void
a_check_may_have_a_port_of_its_own(void **state)
{
    struct pool_conf c;
    struct pool *p;

    open_server("127.0.0.1:0");
    answer = OK_ANSWER;
    c = checked_pool(POOL_CHECK_HTTP);
    set_address(&c, 0, "127.0.0.1:1");
    c.check.port = 2;
    c.servers[0].check_port = listener_port();
    p = adopt(&c);
    UNTIL(asked >= 2);
    assert_int_equal(state_of(p, 0), HEALTH_UP);
    pool_free(&p);
}

static void
a_unix_socket_can_be_checked(void **state)
{
    char path[] = "/tmp/meercat-probe-XXXXXX", address[64];
    struct pool_conf c;
    struct pool *p;

    assert_non_null(mkdtemp(path));
    snprintf(address, sizeof(address), "unix:%s/s", path);
    open_server(address);
    answer = OK_ANSWER;
    c = pool_of(1);
    set_address(&c, 0, address);
    c.check.kind = POOL_CHECK_HTTP;
    p = adopt(&c);
    UNTIL(asked > 0);
    assert_non_null(strstr(request.p, "\r\nHost: localhost\r\n"));
    pool_free(&p);
    unlink(address + strlen("unix:"));
    rmdir(path);
}

static void
a_server_in_maintenance_is_not_checked(void **state)
{
    struct pool *p;
    unsigned n;

    open_server("127.0.0.1:0");
    answer = OK_ANSWER;
    p = adopt_checked(POOL_CHECK_HTTP);
    UNTIL(asked > 0);
    fleet_set_admin(F, "app", "s0", HEALTH_ADMIN_MAINT, "operator", NULL);
    UNTIL(closed == accepted);
    n = accepted;
    for (mc_ns until = units_clock_ns() + 50 * MC_MS; units_clock_ns() < until;)
        loop_turn(L, 10 * MC_MS);
    assert_int_equal(accepted, n);
    fleet_set_admin(F, "app", "s0", HEALTH_ADMIN_READY, "operator", NULL);
    UNTIL(accepted > n);
    fleet_set_admin(F, "app", "s0", HEALTH_ADMIN_DRAIN, "operator", NULL);
    n = accepted;
    UNTIL(accepted > n); /* who drains is checked all the same */
    pool_free(&p);
}

static void
a_reload_with_the_same_check_does_not_disturb_it(void **state)
{
    struct pool *p, *q;

    open_server("127.0.0.1:0");
    p = adopt_checked(POOL_CHECK_HTTP); /* no answer: the check hangs */
    UNTIL(asked == 1);
    q = adopt_checked(POOL_CHECK_HTTP);
    settle();
    assert_int_equal(closed, 0);
    pool_free(&p);
    pool_free(&q);
}

static void
a_reload_with_another_check_begins_anew(void **state)
{
    struct pool_conf c;
    struct pool *p, *q;

    open_server("127.0.0.1:0");
    p = adopt_checked(POOL_CHECK_HTTP);
    UNTIL(asked == 1);
    c = checked_pool(POOL_CHECK_HTTP);
    c.check.path = mc_strdup("/other");
    q = adopt(&c);
    UNTIL(asked == 2 && closed == 1);
    assert_int_equal(strncmp(request.p, "GET /other ", 11), 0);
    pool_free(&p);
    pool_free(&q);
}

static void
without_a_check_a_down_server_is_up_again(void **state)
{
    struct pool_conf c;
    struct pool *p, *q;

    open_server("127.0.0.1:0");
    answer = "";
    p = adopt_checked(POOL_CHECK_HTTP);
    UNTIL(state_of(p, 0) == HEALTH_DOWN);
    c = checked_pool(POOL_CHECK_NONE);
    q = adopt(&c);
    assert_int_equal(state_of(q, 0), HEALTH_UP);
    pool_free(&p);
    pool_free(&q);
}

static void
the_end_may_come_in_the_middle_of_a_check(void **state)
{
    struct pool *p;

    open_server("127.0.0.1:0");
    p = adopt_checked(POOL_CHECK_HTTP);
    UNTIL(asked == 1);
    pool_free(&p);
}

static void
hundreds_of_first_checks_are_spread(void **state)
{
    struct pool_conf c;
    struct pool *p;
    mc_ns begun;

    open_server("127.0.0.1:0");
    c = pool_of(300);
    c.check.kind = POOL_CHECK_TCP;
    for (unsigned i = 0; i < 300; i++) {
        char address[32];

        snprintf(address, sizeof(address), "127.0.0.1:%u", listener_port());
        set_address(&c, i, address);
    }
    begun = loop_now(L);
    p = adopt(&c);
    UNTIL(accepted >= 1);
    assert_true(accepted < 100);
    UNTIL(accepted == 300);
    assert_true(loop_now(L) - begun >= 299 * MC_MS);
    pool_free(&p);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_good_answer_keeps_a_server_up),
        TEST(the_question_is_as_configured),
        TEST(the_host_is_the_servers_address_by_default),
        TEST(an_unexpected_status_is_a_failure),
        TEST(a_malformed_answer_is_a_failure),
        TEST(a_closed_connection_is_a_failure),
        TEST(an_endless_head_is_a_failure),
        TEST(interim_answers_are_passed_over),
        TEST(one_expected_status_is_told_as_one),
        TEST(silence_is_a_failure_after_the_time_limit),
        TEST(a_refused_connection_is_a_failure_and_a_return_is_seen),
        TEST(a_check_may_have_a_port_of_its_own),
        TEST(a_unix_socket_can_be_checked),
        TEST(a_server_in_maintenance_is_not_checked),
        TEST(a_reload_with_the_same_check_does_not_disturb_it),
        TEST(a_reload_with_another_check_begins_anew),
        TEST(without_a_check_a_down_server_is_up_again),
        TEST(the_end_may_come_in_the_middle_of_a_check),
        TEST(hundreds_of_first_checks_are_spread),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
