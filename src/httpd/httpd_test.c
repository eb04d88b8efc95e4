/* SPDX-License-Identifier: BSD-2-Clause
 *
 * httpd_test.c - what the small server answers, over a unix socket, on both engines.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/check.h"
#include "httpd/httpd.h"

static enum loop_engine engine = LOOP_EPOLL;
static struct loop *L;
static struct httpd *server;
static char dir[] = "/tmp/meercat-httpd-XXXXXX";
static char path[sizeof(dir) + 8];
static size_t big_bytes;

/* --- handlers -----------------------------------------------------------------------------------
 */

static void
hello(void *arg, const struct httpd_request *q, struct httpd_response *r)
{
    buf_printf(&r->body, "hello %s%s" STR_FMT, (const char *)arg, q->query.n ? " " : "",
               STR_ARG(q->query));
    r->type = "text/plain";
}

static void
echo(void *arg, const struct httpd_request *q, struct httpd_response *r)
{
    buf_printf(&r->body, STR_FMT ":" STR_FMT, STR_ARG(q->rest), STR_ARG(q->body));
}

static void
big(void *arg, const struct httpd_request *q, struct httpd_response *r)
{
    for (size_t i = 0; i < big_bytes; i += 10)
        buf_add(&r->body, "0123456789", 10);
}

static struct httpd_stream *flowing;
static unsigned n_gone;
static bool nobody_may;

static void
on_gone(void *arg)
{
    assert_string_equal(arg, "world");
    n_gone++;
    flowing = NULL;
}

static void
flow(void *arg, const struct httpd_request *q, struct httpd_response *r)
{
    flowing = httpd_stream_begin(q, r, on_gone, arg);
    buf_printf(&r->body, "first");
}

static bool
admit(void *arg, const struct addr *peer)
{
    assert_string_equal(arg, "world");
    assert_int_equal(peer->u.sa.sa_family, AF_UNIX);
    return !nobody_may;
}

static const struct httpd_route routes[] = {
    {HTTP_M_GET, "/flow", flow},
    {HTTP_M_GET, "/hello", hello},
    {HTTP_M_POST, "/echo/", echo},
    {HTTP_M_GET, "/big", big},
};

/* --- a client -----------------------------------------------------------------------------------
 */

static int
dial(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void
send_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, p, n);

        if (done > 0) {
            p += done;
            n -= (size_t)done;
        } else if (errno != EAGAIN) {
            return; /* the server has had enough: what it answered is what counts */
        }
        loop_turn(L, 0);
    }
}

/* Closes, and lets the server see it. */
static void
hang_up(int fd)
{
    close(fd);
    for (int i = 0; i < 20; i++)
        loop_turn(L, 0);
}

/* What comes until the server closes, or until `enough` bytes have come. */
static struct buf
receive(int fd, size_t enough)
{
    struct buf b = {0};
    mc_ns give_up = units_clock_ns() + 10 * MC_SEC;
    char chunk[4096];

    buf_add(&b, "", 0);
    while (b.n < enough && units_clock_ns() < give_up) {
        ssize_t n = read(fd, chunk, sizeof(chunk));

        if (n == 0 || (n < 0 && errno != EAGAIN))
            return b;
        if (n > 0)
            buf_add(&b, chunk, (size_t)n);
        else
            loop_turn(L, MC_MS);
    }
    assert_true(b.n >= enough);
    return b;
}

/* One exchange on a connection of its own, to its end. */
static struct buf
ask(const char *request)
{
    int fd = dial();
    struct buf b;

    send_all(fd, request, strlen(request));
    b = receive(fd, SIZE_MAX);
    hang_up(fd);
    return b;
}

static void
assert_answer(const char *request, const char *start, const char *end)
{
    struct buf b = ask(request);

    if (strncmp(b.p, start, strlen(start)) != 0 || b.n < strlen(end) ||
        strcmp(b.p + b.n - strlen(end), end) != 0)
        fail_msg("to:\n%s\ncame:\n%s", request, b.p);
    buf_free(&b);
}

/* --- stories ------------------------------------------------------------------------------------
 */

static void
a_get_is_answered_by_its_handler(void **state)
{
    assert_answer("GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                  "HTTP/1.1 200 OK\r\n", "\r\n\r\nhello world");
    assert_answer("GET /hello?a=b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                  "HTTP/1.1 200 OK\r\n", "\r\n\r\nhello world a=b");
    assert_answer("GET /hello HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n", "\r\n\r\nhello world");
}

static void
head_tells_the_length_and_sends_nothing(void **state)
{
    struct buf b = ask("HEAD /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");

    assert_non_null(strstr(b.p, "Content-Length: 11\r\n"));
    assert_string_equal(b.p + b.n - 4, "\r\n\r\n");
    buf_free(&b);
}

static void
what_is_not_there_is_said_in_json(void **state)
{
    assert_answer("GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                  "HTTP/1.1 404 Not Found\r\n", "\r\n\r\n{\"error\": \"no such resource\"}\n");
    assert_answer("GET /hello/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                  "HTTP/1.1 404 Not Found\r\n", "{\"error\": \"no such resource\"}\n");
}

static void
a_wrong_method_is_told_the_right_one(void **state)
{
    struct buf b = ask("POST /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
                       "Connection: close\r\n\r\n");

    assert_int_equal(strncmp(b.p, "HTTP/1.1 405 ", 13), 0);
    assert_non_null(strstr(b.p, "Allow: GET, HEAD\r\n"));
    buf_free(&b);
}

static void
a_body_reaches_the_handler_however_it_is_framed(void **state)
{
    assert_answer("POST /echo/a/b HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
                  "Connection: close\r\n\r\nbody",
                  "HTTP/1.1 200 OK\r\n", "\r\n\r\na/b:body");
    assert_answer("POST /echo/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
                  "Connection: close\r\n\r\n3\r\nbod\r\n1\r\ny\r\n0\r\n\r\n",
                  "HTTP/1.1 200 OK\r\n", "\r\n\r\n:body");
}

static void
bytes_may_come_one_by_one(void **state)
{
    static const char request[] =
        "POST /echo/z HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        "Connection: close\r\n\r\n2\r\nab\r\n0\r\n\r\n";
    int fd = dial();
    struct buf b;

    for (size_t i = 0; i < sizeof(request) - 1; i++) {
        assert_int_equal(write(fd, request + i, 1), 1);
        loop_turn(L, 0);
        loop_turn(L, 0);
    }
    b = receive(fd, SIZE_MAX);
    assert_string_equal(b.p + b.n - 4, "z:ab");
    close(fd);
    buf_free(&b);
}

static void
a_client_that_waits_for_100_is_told_to_go_on(void **state)
{
    static const char head[] = "POST /echo/ HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
                               "Expect: 100-continue\r\nConnection: close\r\n\r\n";
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    int fd = dial();
    struct buf b;

    send_all(fd, head, sizeof(head) - 1);
    b = receive(fd, sizeof(go_on) - 1);
    assert_string_equal(b.p, go_on);
    buf_free(&b);
    send_all(fd, "ok", 2);
    b = receive(fd, SIZE_MAX);
    assert_string_equal(b.p + b.n - 3, ":ok");
    buf_free(&b);
    close(fd);
}

static void
a_connection_serves_one_request_after_the_other(void **state)
{
    static const char two[] = "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"
                              "POST /echo/2 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n!"
                              "GET /hello?last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    struct buf b = ask(two);
    const char *second = strstr(b.p, "2:!");

    assert_non_null(second);
    assert_true(strstr(b.p, "hello world") < second);
    assert_non_null(strstr(second, "hello world last"));
    buf_free(&b);
}

static void
a_large_answer_arrives_whole(void **state)
{
    struct buf b;

    big_bytes = 3000000;
    b = ask("GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_non_null(strstr(b.p, "Content-Length: 3000000\r\n"));
    assert_true(b.n > 3000000);
    assert_int_equal(b.p[b.n - 1], '9');
    buf_free(&b);
}

static void
malformed_requests_are_refused_and_closed(void **state)
{
    assert_answer("GET /hello HTTP/1.1\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n",
                  "{\"error\": \"Host missing\"}\n");
    assert_answer("GET /hello HTTP/1.1\nHost: x\n\n", "HTTP/1.1 400 Bad Request\r\n",
                  "{\"error\": \"line feed without carriage return\"}\n");
    assert_answer("POST /echo/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
                  "HTTP/1.1 400 Bad Request\r\n", "{\"error\": \"malformed chunk size\"}\n");
}

static void
what_is_too_large_is_refused(void **state)
{
    char *head = mc_alloc(HTTPD_HEAD_MAX + 100), *body = mc_alloc(4 * HTTPD_BODY_MAX);
    struct buf b = {0};

    memset(head, 'a', HTTPD_HEAD_MAX + 99);
    memcpy(head, "GET /", 5);
    assert_answer(head, "HTTP/1.1 431 ", "{\"error\": \"request head too large\"}\n");
    assert_answer("POST /echo/ HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n",
                  "HTTP/1.1 413 ", "{\"error\": \"request body too large\"}\n");
    memset(body, 'b', 4 * HTTPD_BODY_MAX - 1);
    buf_printf(&b,
               "POST /echo/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3ffff\r\n%s",
               body);
    assert_answer(b.p, "HTTP/1.1 413 ", "{\"error\": \"request body too large\"}\n");
    buf_free(&b);
    free(head);
    free(body);
}

static void
connections_above_the_limit_are_closed_at_once(void **state)
{
    int fds[3];
    struct buf b;

    for (int i = 0; i < 3; i++)
        fds[i] = dial();
    b = receive(fds[2], SIZE_MAX);
    assert_int_equal(b.n, 0);
    buf_free(&b);
    hang_up(fds[0]);
    assert_answer("GET /hello HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n", "hello world");
    close(fds[1]);
    close(fds[2]);
}

/* A stream that has begun; *fd is its client. */
static void
open_stream(const char *request, int *fd)
{
    mc_ns give_up = units_clock_ns() + 10 * MC_SEC;

    n_gone = 0;
    flowing = NULL;
    *fd = dial();
    send_all(*fd, request, strlen(request));
    while (flowing == NULL && units_clock_ns() < give_up)
        loop_turn(L, MC_MS);
    assert_non_null(flowing);
}

static void
a_stream_goes_on_in_chunks_until_it_is_ended(void **state)
{
    struct buf b;
    int fd;

    open_stream("GET /flow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &fd);
    httpd_stream_write(flowing, "second piece!", 13);
    httpd_stream_end(&flowing);
    assert_null(flowing);
    b = receive(fd, SIZE_MAX);
    assert_non_null(strstr(b.p, "Transfer-Encoding: chunked\r\n"));
    assert_null(strstr(b.p, "Content-Length"));
    assert_non_null(strstr(b.p, "\r\n\r\n5\r\nfirst\r\nd\r\nsecond piece!\r\n0\r\n\r\n"));
    assert_int_equal(n_gone, 0);
    buf_free(&b);
    close(fd);
}

static void
after_a_stream_the_connection_serves_on(void **state)
{
    struct buf b;
    int fd;

    open_stream("GET /flow HTTP/1.1\r\nHost: x\r\n\r\n"
                "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                &fd);
    httpd_stream_end(&flowing);
    b = receive(fd, SIZE_MAX);
    assert_non_null(strstr(b.p, "5\r\nfirst\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n"));
    assert_string_equal(b.p + b.n - 11, "hello world");
    buf_free(&b);
    close(fd);
}

static void
an_old_client_gets_a_stream_without_chunks(void **state)
{
    struct buf b;
    int fd;

    open_stream("GET /flow HTTP/1.0\r\n\r\n", &fd);
    httpd_stream_write(flowing, "second", 6);
    httpd_stream_end(&flowing);
    b = receive(fd, SIZE_MAX);
    assert_null(strstr(b.p, "Transfer-Encoding"));
    assert_string_equal(b.p + b.n - 15, "\r\n\r\nfirstsecond");
    buf_free(&b);
    close(fd);
}

static void
who_leaves_a_stream_is_noticed(void **state)
{
    mc_ns give_up = units_clock_ns() + 10 * MC_SEC;
    int fd;

    open_stream("GET /flow HTTP/1.1\r\nHost: x\r\n\r\n", &fd);
    close(fd);
    while (n_gone == 0 && units_clock_ns() < give_up)
        loop_turn(L, MC_MS);
    assert_int_equal(n_gone, 1);
}

static void
a_reader_that_takes_nothing_is_let_go(void **state)
{
    static char much[100000];
    mc_ns give_up = units_clock_ns() + 10 * MC_SEC;
    int fd;

    open_stream("GET /flow HTTP/1.1\r\nHost: x\r\n\r\n", &fd);
    while (httpd_stream_unsent(flowing) < 2 * sizeof(much)) {
        httpd_stream_write(flowing, much, sizeof(much));
        loop_turn(L, 0);
    }
    while (n_gone == 0 && units_clock_ns() < give_up)
        loop_turn(L, MC_MS);
    assert_int_equal(n_gone, 1);
    close(fd);
}

static void
who_is_not_admitted_hears_nothing(void **state)
{
    struct buf b;
    int fd;

    nobody_may = true;
    fd = dial();
    b = receive(fd, SIZE_MAX);
    nobody_may = false;
    assert_int_equal(b.n, 0);
    buf_free(&b);
    close(fd);
}

static void
an_idle_connection_is_closed(void **state)
{
    int fd = dial();
    struct buf b;

    send_all(fd, "GET /hel", 8);
    b = receive(fd, SIZE_MAX);
    assert_int_equal(b.n, 0);
    buf_free(&b);
    close(fd);
}

/* --- stage --------------------------------------------------------------------------------------
 */

static int
setup(void **state)
{
    struct httpd_conf conf = {
        .routes = routes,
        .n_routes = MC_COUNT(routes),
        .arg = (void *)(uintptr_t) "world",
        .admit = admit,
        .max_connections = 2,
        .idle_timeout_ns = 500 * MC_MS,
    };
    struct errbuf e;
    struct addr a;

    L = loop_new(&(struct loop_conf){.engine = engine}, &e);
    assert_non_null(L);
    server = httpd_new(L, &conf);
    snprintf(path, sizeof(path), "%s/sock", dir);
    char *text = mc_printf("unix:%s", path);
    assert_int_equal(addr_parse(str_of(text), &a, NULL, NULL, &e), MC_OK);
    free(text);
    assert_int_equal(httpd_listen(server, &a, 0600, &e), MC_OK);
    return 0;
}

/* With whatever is still connected: everything must come home. */
static int
teardown(void **state)
{
    int left_open = dial();

    loop_turn(L, 0);
    httpd_free(&server);
    loop_free(&L);
    close(left_open);
    unlink(path);
    return 0;
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static const struct CMUnitTest tests[] = {
    STORY(a_get_is_answered_by_its_handler),
    STORY(head_tells_the_length_and_sends_nothing),
    STORY(what_is_not_there_is_said_in_json),
    STORY(a_wrong_method_is_told_the_right_one),
    STORY(a_body_reaches_the_handler_however_it_is_framed),
    STORY(bytes_may_come_one_by_one),
    STORY(a_client_that_waits_for_100_is_told_to_go_on),
    STORY(a_connection_serves_one_request_after_the_other),
    STORY(a_large_answer_arrives_whole),
    STORY(malformed_requests_are_refused_and_closed),
    STORY(what_is_too_large_is_refused),
    STORY(connections_above_the_limit_are_closed_at_once),
    STORY(a_stream_goes_on_in_chunks_until_it_is_ended),
    STORY(after_a_stream_the_connection_serves_on),
    STORY(an_old_client_gets_a_stream_without_chunks),
    STORY(who_leaves_a_stream_is_noticed),
    STORY(a_reader_that_takes_nothing_is_let_go),
    STORY(who_is_not_admitted_hears_nothing),
    STORY(an_idle_connection_is_closed),
};

int
main(void)
{
    int failed;

    signal(SIGPIPE, SIG_IGN);
    if (mkdtemp(dir) == NULL)
        return 1;
    failed = cmocka_run_group_tests_name("epoll", tests, NULL, NULL);
    engine = LOOP_URING;
    failed += cmocka_run_group_tests_name("uring", tests, NULL, NULL);
    rmdir(dir);
    return failed;
}
