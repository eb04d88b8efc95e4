/* SPDX-License-Identifier: BSD-2-Clause
 *
 * admin_test.c - a balancer with one worker, asked and told over its own socket.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/check.h"
#include "control/admin.h"
#include "control/metrics.h"
#include "control/node.h"

static char dir[] = "/tmp/meercat-admin-XXXXXX";
static char *conf_path, *admin_path, *web_path, *second_path, *pid_path;
static unsigned http_port;
static struct node node;

/* --- stage ---------------------------------------------------------------------------------------
 */

/* One that nobody listens on at this moment. */
static unsigned
free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    close(fd);
    return ntohs(a.sin_port);
}

/* extra: more lines of the pool */
static void
write_conf(const char *extra, const char *more_binds)
{
    FILE *f = fopen(conf_path, "w");

    assert_non_null(f);
    fprintf(f,
            "workers = 1 engine = epoll drain-timeout = 1s log-level = error\n"
            "node = test pid-file = \"%s\"\n"
            "admin { socket = \"%s\" http = \"127.0.0.1:%u\" }\n"
            "listen web { bind = {\"unix:%s\"%s} unix-mode = 0600 }\n"
            "pool app {\n balance = round-robin eject-after = 0\n"
            " server a { address = \"127.0.0.1:1\" }\n"
            " server b { address = \"127.0.0.1:2\" backup = yes weight = 3 }\n%s\n}\n"
            "route api { host = {\"*.example.org\", \"example.org\"} path = /api pool = app }\n"
            "route all { pool = app }\n",
            pid_path, admin_path, http_port, web_path, more_binds, extra);
    fclose(f);
}

static char *
in_dir(const char *name)
{
    return mc_printf("%s/%s", dir, name);
}

static int
start(void **state)
{
    struct node_options o = {.conf_file = conf_path};
    struct buf text = {0};

    http_port = free_port();
    write_conf("", "");
    if (node_start(&node, &o, &text) != MC_OK) {
        fprintf(stderr, "%s", text.p);
        return -1;
    }
    buf_free(&text);
    return 0;
}

static int
stop(void **state)
{
    node_stop(&node);
    return 0;
}

/* --- a client ------------------------------------------------------------------------------------
 */

static int
dial(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0) {
        fcntl(fd, F_SETFL, O_NONBLOCK);
        return fd;
    }
    close(fd);
    return -1;
}

static int
dial_http(void)
{
    struct addr a = node.conf->admin.http;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, &a.u.sa, a.len), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* Sends a request and turns the control loop until the other side has closed; closes fd. */
static struct buf
exchange(int fd, const char *method, const char *path, const char *body)
{
    mc_ns give_up = units_clock_ns() + 10 * MC_SEC;
    struct buf b = {0};
    char chunk[4096];
    ssize_t n;

    buf_printf(&b,
               "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
               method, path, strlen(body), body);
    assert_int_equal(write(fd, b.p, b.n), b.n);
    b.n = 0;
    while ((n = read(fd, chunk, sizeof(chunk))) != 0) {
        if (n > 0)
            buf_add(&b, chunk, (size_t)n);
        else
            loop_turn(node.loop, MC_MS);
        assert_true(units_clock_ns() < give_up);
    }
    close(fd);
    return b;
}

static unsigned
status_of(const struct buf *answer)
{
    return (unsigned)atoi(answer->p + strlen("HTTP/1.1 "));
}

static const char *
body_of(const struct buf *answer)
{
    return strstr(answer->p, "\r\n\r\n") + 4;
}

/* The JSON that a path answers with; the caller releases it. */
static json_t *
get(const char *path)
{
    struct buf b = exchange(dial(admin_path), "GET", path, "");
    json_t *j;

    assert_int_equal(status_of(&b), 200);
    j = json_loads(body_of(&b), 0, NULL);
    assert_non_null(j);
    buf_free(&b);
    return j;
}

static unsigned
post(int fd, const char *path, const char *body, char *answer, size_t room)
{
    struct buf b = exchange(fd, "POST", path, body);
    unsigned status = status_of(&b);

    snprintf(answer, room, "%s", body_of(&b));
    buf_free(&b);
    return status;
}

/* A member found by "a.b.0.c". */
static json_t *
at(json_t *j, const char *path)
{
    struct str rest = str_of(path);

    while (rest.p != NULL && j != NULL) {
        struct str name = str_cut(&rest, '.');
        char *z = str_dup(name);

        j = json_is_array(j) ? json_array_get(j, (size_t)atoi(z)) : json_object_get(j, z);
        free(z);
    }
    assert_non_null(j);
    return j;
}

static const char *
text_at(json_t *j, const char *path)
{
    return json_string_value(at(j, path));
}

static long long
number_at(json_t *j, const char *path)
{
    return (long long)json_number_value(at(j, path));
}

/* One request through the worker; its status. */
static unsigned
ask_web(void)
{
    struct buf b = exchange(dial(web_path), "GET", "/", "");
    unsigned status = status_of(&b);

    buf_free(&b);
    return status;
}

/* --- reading -------------------------------------------------------------------------------------
 */

static void
status_tells_who_it_is_and_how_it_does(void **state)
{
    json_t *j;

    assert_int_equal(ask_web(), 502);
    j = get("/v1/status");
    assert_string_equal(text_at(j, "node"), "test");
    assert_string_equal(text_at(j, "state"), "serving");
    assert_string_equal(text_at(j, "engine"), "epoll");
    assert_int_equal(number_at(j, "pid"), getpid());
    assert_int_equal(number_at(j, "workers"), 1);
    assert_int_equal(number_at(j, "servers"), 2);
    assert_int_equal(number_at(j, "counters.requests"), 1);
    assert_int_equal(number_at(j, "counters.responses_5xx"), 1);
    assert_int_equal(number_at(j, "config.generation"), 1);
    assert_true(json_is_null(at(j, "config.last_reload")));
    json_decref(j);
}

static void
servers_tell_their_state_and_why(void **state)
{
    json_t *j = get("/v1/servers"), *one = get("/v1/servers/app/b");

    assert_int_equal(json_array_size(at(j, "servers")), 2);
    assert_string_equal(text_at(j, "servers.0.pool"), "app");
    assert_string_equal(text_at(j, "servers.0.name"), "a");
    assert_string_equal(text_at(j, "servers.0.address"), "127.0.0.1:1");
    assert_string_equal(text_at(j, "servers.0.state"), "up");
    assert_int_equal(number_at(j, "servers.0.in_flight"), 0);
    assert_int_equal(number_at(j, "servers.0.counters.requests"), 0);
    assert_true(json_is_true(at(one, "backup")));
    assert_int_equal(number_at(one, "weight"), 3);
    json_decref(j);
    json_decref(one);
}

static void
pools_listeners_and_routes_tell_what_is_in_force(void **state)
{
    json_t *pools = get("/v1/pools"), *listeners = get("/v1/listeners");
    json_t *routes = get("/v1/routes"), *conf = get("/v1/config");

    assert_string_equal(text_at(pools, "pools.0.balance"), "round-robin");
    assert_int_equal(number_at(pools, "pools.0.open_servers"),
                     1); /* the backup has nothing to do */
    assert_string_equal(text_at(listeners, "listeners.0.name"), "web");
    assert_non_null(strstr(text_at(listeners, "listeners.0.bind.0"), web_path));
    assert_string_equal(text_at(routes, "routes.0.host.0"), "*.example.org");
    assert_string_equal(text_at(routes, "routes.0.path"), "/api");
    assert_true(json_is_null(at(routes, "routes.1.path")));
    assert_string_equal(text_at(conf, "file"), conf_path);
    assert_int_equal(strlen(text_at(conf, "digest")), 32);
    json_decref(pools);
    json_decref(listeners);
    json_decref(routes);
    json_decref(conf);
}

static void
a_request_is_explained(void **state)
{
    json_t *j = get("/v1/explain?url=http://www.example.org/api/x"), *none;
    json_t *servers = json_object_get(j, "servers");

    assert_string_equal(json_string_value(json_object_get(j, "route")), "api");
    assert_string_equal(json_string_value(json_object_get(j, "pool")), "app");
    assert_string_equal(json_string_value(json_object_get(j, "balance")), "round-robin");
    assert_true(json_is_null(json_object_get(j, "class")));
    assert_true(json_is_null(json_object_get(j, "server")));
    assert_int_equal(json_array_size(servers), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(servers, 0), "verdict")),
                        "eligible");
    assert_string_equal(json_string_value(json_object_get(json_array_get(servers, 1), "verdict")),
                        "backup");
    json_decref(j);
    none = get("/v1/explain?url=*&method=OPTIONS");
    assert_string_equal(json_string_value(json_object_get(none, "route")), "all");
    json_decref(none);
}

static void
healthz_says_ok_until_it_ends(void **state)
{
    struct buf b = exchange(dial_http(), "GET", "/healthz", "");

    assert_int_equal(status_of(&b), 200);
    assert_string_equal(body_of(&b), "ok\n");
    buf_free(&b);
    node.ending = true;
    b = exchange(dial_http(), "GET", "/healthz", "");
    assert_int_equal(status_of(&b), 503);
    buf_free(&b);
}

/* --- orders --------------------------------------------------------------------------------------
 */

static void
a_drained_server_is_not_open_and_comes_back_by_order(void **state)
{
    char answer[4096];
    json_t *j;

    assert_int_equal(post(dial(admin_path), "/v1/servers/app/a", "{\"state\": \"drain\"}", answer,
                          sizeof(answer)),
                     200);
    j = json_loads(answer, 0, NULL);
    assert_string_equal(text_at(j, "state"), "drain");
    assert_string_equal(text_at(j, "reason"), "operator");
    assert_true(json_is_false(at(j, "open")));
    json_decref(j);
    assert_int_equal(post(dial(admin_path), "/v1/servers/app/a",
                          "{\"state\": \"ready\", \"weight\": 7}", answer, sizeof(answer)),
                     200);
    j = get("/v1/servers/app/a");
    assert_string_equal(text_at(j, "state"), "up");
    assert_int_equal(number_at(j, "weight"), 7);
    json_decref(j);
}

static const struct {
    const char *path, *body;
    unsigned status;
    const char *answer;
} refused[] = {
    {"/v1/servers/app/x", "{\"state\": \"drain\"}", 404, "no server x in pool app"},
    {"/v1/servers/x/a", "{\"state\": \"drain\"}", 404, "no pool x"},
    {"/v1/servers/app", "{\"state\": \"drain\"}", 404, "no server app"},
    {"/v1/servers/app/a/b", "{\"state\": \"drain\"}", 404, "no server app/a/b"},
    {"/v1/servers/app/a", "{\"state\": \"off\"}", 400,
     "state: expected ready, drain, maint or configured"},
    {"/v1/servers/app/a", "{\"state\": 1}", 400,
     "state: expected ready, drain, maint or configured"},
    {"/v1/servers/app/a", "{\"weight\": 257}", 400, "weight: expected 0 to 256"},
    {"/v1/servers/app/a", "{\"weight\": \"1\"}", 400, "weight: expected 0 to 256"},
    {"/v1/servers/app/a", "{\"wait\": 1}", 400, "wait: expected state, weight or who"},
    {"/v1/servers/app/a", "{}", 400, "expected {\\\"state\\\": ...} or {\\\"weight\\\": ...}"},
    {"/v1/servers/app/a", "[]", 400, "body: no object, expected a JSON object"},
    {"/v1/servers/app/a", "", 400, "expected a JSON object"},
    {"/v1/status", "", 405, "method not allowed"},
};

static void
orders_that_make_no_sense_are_refused_and_change_nothing(void **state)
{
    char answer[4096];
    json_t *j;

    for (size_t i = 0; i < MC_COUNT(refused); i++) {
        unsigned status =
            post(dial(admin_path), refused[i].path, refused[i].body, answer, sizeof(answer));

        if (status != refused[i].status || strstr(answer, refused[i].answer) == NULL)
            fail_msg("%s %s: %u %s", refused[i].path, refused[i].body, status, answer);
    }
    j = get("/v1/servers/app/a");
    assert_string_equal(text_at(j, "state"), "up");
    assert_int_equal(number_at(j, "weight"), 1);
    json_decref(j);
}

static void
the_address_for_reading_takes_no_orders(void **state)
{
    char answer[256];
    struct buf b;

    assert_int_equal(
        post(dial_http(), "/v1/servers/app/a", "{\"state\": \"drain\"}", answer, sizeof(answer)),
        403);
    assert_int_equal(post(dial_http(), "/v1/reload", "", answer, sizeof(answer)), 403);
    assert_int_equal(node.current->generation, 1);
    b = exchange(dial_http(), "GET", "/v1/servers", "");
    assert_int_equal(status_of(&b), 200);
    assert_null(strstr(b.p, "\"drain\""));
    buf_free(&b);
}

/* --- reload --------------------------------------------------------------------------------------
 */

static void
a_good_file_is_put_in_force_by_reload(void **state)
{
    char answer[1024];
    char *more = mc_printf(", \"unix:%s\"", second_path);
    json_t *j;

    write_conf(" server c { address = \"127.0.0.1:3\" }", more);
    assert_int_equal(post(dial(admin_path), "/v1/reload", "", answer, sizeof(answer)), 200);
    assert_string_equal(answer, "");
    j = get("/v1/servers");
    assert_int_equal(json_array_size(at(j, "servers")), 3);
    json_decref(j);
    j = get("/v1/config");
    assert_int_equal(number_at(j, "generation"), 2);
    assert_true(json_is_true(at(j, "last_reload.ok")));
    json_decref(j);
    assert_int_equal(ask_web(), 502); /* both addresses serve */
    close(dial(second_path));
    free(more);

    write_conf("", ""); /* and the second one goes again, with its file */
    assert_int_equal(post(dial(admin_path), "/v1/reload", "", answer, sizeof(answer)), 200);
    assert_int_equal(access(second_path, F_OK), -1);
    assert_int_equal(ask_web(), 502);
    while (node.n_old > 0) /* the worker gives the old ones back */
        loop_turn(node.loop, MC_MS);
}

static void
a_broken_file_changes_nothing(void **state)
{
    char answer[1024];
    char *wanted = mc_printf("%s:9: unknown option \"foo\" in pool, expected an option that "
                             "meercat.conf(5) lists\n",
                             conf_path);

    write_conf("foo = 1", "");
    assert_int_equal(post(dial(admin_path), "/v1/reload", "", answer, sizeof(answer)), 409);
    assert_string_equal(answer, wanted);
    free(wanted);
    assert_int_equal(node.current->generation, 1);
    assert_int_equal(node.reload.n_bad, 1);
    assert_int_equal(ask_web(), 502);
}

static void
an_address_that_cannot_be_bound_changes_nothing(void **state)
{
    char answer[1024];

    write_conf("", ", \"unix:/nonexistent/dir/sock\"");
    assert_int_equal(post(dial(admin_path), "/v1/reload", "", answer, sizeof(answer)), 409);
    assert_non_null(
        strstr(answer, "listen \"web\": unix:/nonexistent/dir/sock: bind: No such file"));
    assert_int_equal(node.current->generation, 1);
    assert_int_equal(ask_web(), 502);
}

static void
what_needs_a_restart_is_told_each_time(void **state)
{
    char answer[1024];
    FILE *f;

    for (int i = 0; i < 2; i++) {
        write_conf("", "");
        f = fopen(conf_path, "a");
        fputs("resolvers = 127.0.0.1 access-log { file = stderr }\n", f);
        fclose(f);
        assert_int_equal(post(dial(admin_path), "/v1/reload", "", answer, sizeof(answer)), 200);
        assert_string_equal(answer, "resolvers has changed and needs a restart\n"
                                    "access-log has changed and needs a restart\n");
    }
}

/* --- metrics -------------------------------------------------------------------------------------
 */

/* promtool reads standard input; its exit status, -1 when there is no promtool. */
static int
promtool(const struct buf *text)
{
    FILE *p;

    if (system("command -v promtool >/dev/null 2>&1") != 0)
        return -1;
    p = popen("promtool check metrics >&2", "w");
    assert_non_null(p);
    fwrite(text->p, 1, text->n, p);
    return pclose(p);
}

static void
metrics_are_what_prometheus_reads(void **state)
{
    struct buf b = {0};
    int rv;

    assert_int_equal(ask_web(), 502);
    metrics_text(&node, &b);
    assert_non_null(strstr(b.p, "meercat_process_requests_total 1\n"));
    assert_non_null(strstr(b.p, "meercat_process_responses_total{code=\"5xx\"} 1\n"));
    assert_non_null(
        strstr(b.p, "meercat_server_status{proxy=\"app\",server=\"a\",state=\"up\"} 1\n"));
    assert_non_null(strstr(b.p, "meercat_server_weight{proxy=\"app\",server=\"b\"} 3\n"));
    assert_non_null(strstr(b.p, "meercat_process_request_time_seconds_bucket{le=\"+Inf\"} 1\n"));
    assert_non_null(strstr(b.p, "meercat_server_response_time_seconds_count{proxy=\"app\","
                                "server=\"a\"} 0\n"));
    assert_non_null(strstr(b.p, "meercat_listener_connections{proxy=\"web\"} "));
    rv = promtool(&b);
    buf_free(&b);
    if (rv == -1)
        skip();
    assert_int_equal(rv, 0);
}

static void
files_of_the_process_come_and_go_with_it(void **state)
{
    struct stat st;

    assert_int_equal(stat(admin_path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0660);
    assert_int_equal(stat(web_path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(access(pid_path, F_OK), 0);
    stop(NULL);
    assert_int_equal(access(admin_path, F_OK), -1);
    assert_int_equal(access(web_path, F_OK), -1);
    assert_int_equal(access(pid_path, F_OK), -1);
    start(NULL);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, start, stop)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(status_tells_who_it_is_and_how_it_does),
        STORY(servers_tell_their_state_and_why),
        STORY(pools_listeners_and_routes_tell_what_is_in_force),
        STORY(a_request_is_explained),
        STORY(healthz_says_ok_until_it_ends),
        STORY(a_drained_server_is_not_open_and_comes_back_by_order),
        STORY(orders_that_make_no_sense_are_refused_and_change_nothing),
        STORY(the_address_for_reading_takes_no_orders),
        STORY(a_good_file_is_put_in_force_by_reload),
        STORY(a_broken_file_changes_nothing),
        STORY(an_address_that_cannot_be_bound_changes_nothing),
        STORY(what_needs_a_restart_is_told_each_time),
        STORY(metrics_are_what_prometheus_reads),
        STORY(files_of_the_process_come_and_go_with_it),
    };
    int failed;

    signal(SIGPIPE, SIG_IGN);
    if (mkdtemp(dir) == NULL)
        return 1;
    conf_path = in_dir("meercat.conf");
    admin_path = in_dir("admin.sock");
    web_path = in_dir("web.sock");
    second_path = in_dir("second.sock");
    pid_path = in_dir("pid");
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(conf_path);
    rmdir(dir);
    free(conf_path);
    free(admin_path);
    free(web_path);
    free(second_path);
    free(pid_path);
    return failed;
}
