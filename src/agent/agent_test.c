/* SPDX-License-Identifier: BSD-2-Clause
 *
 * agent_test.c - an agent on loopback: asked by hand, and read by the balancers' own watchers.
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

#include "agent/agent.h"
#include "base/check.h"
#include "base/log.h"
#include "fleet/watch.h"
#include "io/harness.h"

static struct agent *A;
static struct addr http, check;

static void
start(struct agent_conf conf)
{
    struct errbuf e;

    http = free_address();
    check = free_address();
    conf.sample.root = "tests/fixtures/sysfs/v2";
    conf.sample.target = SAMPLE_CGROUP;
    conf.sample.cgroup = "/system.slice/web.service";
    conf.interval = 20 * MC_MS;
    conf.bind[0] = http;
    conf.check_bind[0] = check;
    conf.n_bind = conf.n_check_bind = 1;
    if (conf.max_watchers == 0)
        conf.max_watchers = 4;
    if (agent_new(L, &conf, &A, &e) != MC_OK)
        fail_msg("%s", e.text);
}

static int
dial(const struct addr *a, const char *request)
{
    int fd = socket(a->u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, &a->u.sa, a->len), 0);
    assert_int_equal(write(fd, request, strlen(request)), strlen(request));
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* What has come; grows from call to call. */
static char heard[65536];
static size_t n_heard;
static bool at_end;

static bool
hear(int fd)
{
    ssize_t n = read(fd, heard + n_heard, sizeof(heard) - 1 - n_heard);

    at_end = n == 0 || (n < 0 && errno != EAGAIN);
    if (n > 0)
        n_heard += (size_t)n;
    heard[n_heard] = '\0';
    return at_end;
}

static const char *
ask(const struct addr *a, const char *request)
{
    int fd = dial(a, request);

    n_heard = 0;
    UNTIL(hear(fd));
    close(fd);
    return heard;
}

static unsigned
count(const char *what)
{
    unsigned n = 0;

    for (const char *p = heard; (p = strstr(p, what)) != NULL; p++)
        n++;
    return n;
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

/* --- asked by hand -------------------------------------------------------------------------------
 */

static void
load_is_one_line_of_text(void **state)
{
    const char *body;
    struct place_report r;

    start((struct agent_conf){0});
    body = strstr(ask(&http, GET("/load")), "\r\n\r\n");
    assert_non_null(body);
    assert_non_null(strstr(heard, "Content-Type: text/plain"));
    assert_int_equal(body[strlen(body) - 1], '\n');
    assert_int_equal(report_parse_text((struct str){body + 4, strlen(body) - 5}, &r),
                     REPORT_F_NONE);
    assert_true(r.cores == 0.5 && r.mem_bytes == 400e6);
}

static void
a_stream_gives_a_line_each_interval(void **state)
{
    int fd;

    start((struct agent_conf){0});
    n_heard = 0;
    fd = dial(&http, "GET /load?interval=40ms HTTP/1.1\r\nHost: a\r\n\r\n");
    UNTIL((hear(fd), count("named_metrics.seq=")) >= 4);
    assert_non_null(strstr(heard, "Transfer-Encoding: chunked"));
    assert_int_equal(count("cpu_utilization=0,"),
                     count("cpu_utilization=")); /* files stand still */
    close(fd);
}

static void
what_is_asked_wrongly_is_told_so(void **state)
{
    start((struct agent_conf){0});
    assert_non_null(strstr(ask(&http, GET("/load?interval=fast")), " 400 "));
    assert_non_null(strstr(ask(&http, GET("/load?interval=1ms")), " 400 "));
    assert_non_null(strstr(ask(&http, GET("/load?interval=1h")), " 400 "));
    assert_non_null(strstr(ask(&http, GET("/load?other=1")), " 200 "));
    assert_non_null(strstr(ask(&http, GET("/nothing")), " 404 "));
    assert_non_null(strstr(
        ask(&http, "HEAD /load?interval=1s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
        " 200 "));
}

static void
watchers_are_bounded(void **state)
{
    int fd[2];

    start((struct agent_conf){.max_watchers = 2});
    for (int i = 0; i < 2; i++) {
        n_heard = 0;
        fd[i] = dial(&http, "GET /load?interval=1s HTTP/1.1\r\nHost: a\r\n\r\n");
        UNTIL((hear(fd[i]), count("cpu_")) > 0);
    }
    assert_non_null(strstr(ask(&http, GET("/load?interval=1s")), " 503 "));
    assert_non_null(strstr(ask(&http, GET("/load")), " 200 "));
    close(fd[0]);
    UNTIL(strstr(ask(&http, GET("/metrics")), "\nmeercat_agent_watchers 1\n") != NULL);
    n_heard = 0;
    fd[0] = dial(&http, "GET /load?interval=1s HTTP/1.1\r\nHost: a\r\n\r\n");
    UNTIL((hear(fd[0]), count("cpu_")) > 0);
    assert_non_null(strstr(ask(&http, GET("/metrics")),
                           "meercat_agent_refused_total{reason=\"watchers\"} 1\n"));
    close(fd[0]);
    close(fd[1]);
}

static void
strangers_hear_nothing(void **state)
{
    struct agent_conf conf = {.n_allow = 1};
    struct errbuf e;

    assert_int_equal(addr_parse_net(STR("192.0.2.0/24"), &conf.allow[0], &e), MC_OK);
    start(conf);
    assert_string_equal(ask(&http, GET("/load")), "");
    assert_string_equal(ask(&check, ""), "");
}

static void
haproxy_is_answered_whatever_it_sends(void **state)
{
    start((struct agent_conf){.capacity = 10, .fleet = 2});
    UNTIL(strstr(ask(&check, ""), "%") != NULL);
    assert_string_equal(heard, "up 100% maxconn:5\n");
    assert_string_equal(ask(&check, "hello, this is haproxy\n"), "up 100% maxconn:5\n");
    agent_set_admin(A, REPORT_DRAIN);
    assert_string_equal(ask(&check, ""), "up drain 100% maxconn:5\n");
}

static void
metrics_tell_of_the_service_and_of_the_agent(void **state)
{
    static const char *const all[] = {
        "meercat_agent_info{version=\"",
        "target=\"cgroup /system.slice/web.service (v2)\"} 1\n",
        "\nmeercat_agent_cpu_cores 0.5\n",
        "\nmeercat_agent_memory_limit_bytes 1000000000\n",
        "\nmeercat_agent_pressure_waiting_seconds_total{resource=\"cpu\"} 7\n",
        "\nprocess_cpu_seconds_total "};

    start((struct agent_conf){0});
    ask(&http, GET("/metrics"));
    for (unsigned i = 0; i < MC_COUNT(all); i++)
        if (strstr(heard, all[i]) == NULL)
            fail_msg("no %s in %s", all[i], heard);
}

static void
one_report_can_be_had_without_a_server(void **state)
{
    struct agent_conf conf = {.sample = {.root = "tests/fixtures/sysfs/host"},
                              .interval = 20 * MC_MS};
    char line[REPORT_TEXT_MAX];
    struct errbuf e;

    assert_int_equal(agent_once(&conf, line, &e), MC_OK);
    assert_non_null(strstr(line, "named_metrics.cores=2,"));
}

static void
a_port_that_is_taken_is_an_error(void **state)
{
    struct agent_conf conf = {.sample = {.root = "tests/fixtures/sysfs/host"}, .n_bind = 1};
    struct agent *b = NULL;
    struct errbuf e;

    start((struct agent_conf){0});
    conf.bind[0] = http;
    conf.interval = MC_SEC;
    assert_int_equal(agent_new(L, &conf, &b, &e), MC_ESYS);
    assert_null(b);
    assert_non_null(strstr(e.text, "127.0.0.1:"));
}

/* --- read by balancers ---------------------------------------------------------------------------
 */

static unsigned n_told;
static struct place_report last;

static void
on_report(void *arg, const struct place_report *r, mc_ns age)
{
    n_told++;
    last = *r;
}

static void
watchers_of_both_kinds_read_it(void **state)
{
    struct watch_conf confs[] = {{.kind = WATCH_AGENT, .interval = 20 * MC_MS},
                                 {.kind = WATCH_CHECK, .interval = 20 * MC_MS}};
    struct watcher *w;
    struct rng rng;

    rng_seed(&rng, 1);
    start((struct agent_conf){0});
    for (unsigned i = 0; i < 2; i++) {
        confs[i].addr = i ? check : http;
        n_told = 0;
        w = watcher_new(L, NULL, &confs[i], &rng, on_report, NULL);
        UNTIL(n_told >= 5);
        assert_int_equal(watcher_stats(w)->failures, 0);
        if (i == 0)
            assert_true(last.cores == 0.5 && report_has(&last, REPORT_CPU_UTILIZATION));
        else
            assert_true(last.weight == 1);
        watcher_free(&w);
    }
}

static void
an_agent_that_ends_takes_its_watchers_home(void **state)
{
    struct watch_conf conf = {.kind = WATCH_AGENT, .interval = 20 * MC_MS};
    struct watcher *w;
    struct rng rng;

    rng_seed(&rng, 1);
    start((struct agent_conf){0});
    conf.addr = http;
    n_told = 0;
    w = watcher_new(L, NULL, &conf, &rng, on_report, NULL);
    UNTIL(n_told >= 1);
    agent_free(&A);
    UNTIL(watcher_stats(w)->failures > 0);
    watcher_free(&w);
}

/* --- stage ---------------------------------------------------------------------------------------
 */

static int
setup(void **state)
{
    struct errbuf e;

    L = loop_new(&(struct loop_conf){.engine = LOOP_EPOLL}, &e);
    return L == NULL;
}

static int
teardown(void **state)
{
    agent_free(&A);
    loop_free(&L);
    return 0;
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        STORY(load_is_one_line_of_text),
        STORY(a_stream_gives_a_line_each_interval),
        STORY(what_is_asked_wrongly_is_told_so),
        STORY(watchers_are_bounded),
        STORY(strangers_hear_nothing),
        STORY(haproxy_is_answered_whatever_it_sends),
        STORY(metrics_tell_of_the_service_and_of_the_agent),
        STORY(one_report_can_be_had_without_a_server),
        STORY(a_port_that_is_taken_is_an_error),
        STORY(watchers_of_both_kinds_read_it),
        STORY(an_agent_that_ends_takes_its_watchers_home),
    };

    signal(SIGPIPE, SIG_IGN);
    log_setup(LOG_LEVEL_ERROR, false);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
