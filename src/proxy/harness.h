/* SPDX-License-Identifier: BSD-2-Clause
 *
 * harness.h - for the tests of this room: an origin, workers without control, and clients.
 */
#ifndef MC_PROXY_HARNESS_H
#define MC_PROXY_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "proxy/worker.h"

#define UNUSED    __attribute__((unused))
#define N_WORKERS 2

/* --- an origin that answers every request head, in time or when it is told to --------------------
 */

struct origin {
    int fd;
    uint16_t port;
    pthread_t thread;
    _Atomic bool stop, hold;
    _Atomic unsigned requests, at_once, peak, conns, accepted;
    _Atomic int last_fd;       /* accepted last */
    const char *_Atomic reply; /* NULL: a 200 that says hello */
};

struct origin_conn {
    struct origin *origin;
    int fd;
};

static int
listen_on(uint16_t *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;

    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
    a.sin_port = htons(*port);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
    assert_int_equal(listen(fd, 128), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

/* Answers one request; false when the connection is gone. */
static bool
answer(struct origin *o, int fd)
{
    const char *text = o->reply ? o->reply : "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    unsigned now = ++o->at_once;

    o->requests++;
    if (now > o->peak)
        o->peak = now;
    while (o->hold && !o->stop)
        usleep(1000);
    o->at_once--;
    return send(fd, text, strlen(text), MSG_NOSIGNAL) > 0;
}

static void *
origin_serve(void *arg)
{
    struct origin_conn c = *(struct origin_conn *)arg;
    char buf[8192];
    size_t have = 0;
    ssize_t n;

    free(arg);
    while ((n = read(c.fd, buf + have, sizeof(buf) - have)) > 0) {
        have += (size_t)n;
        if (memmem(buf, have, "\r\n\r\n", 4) == NULL)
            continue;
        have = 0;
        if (!answer(c.origin, c.fd))
            break;
    }
    close(c.fd);
    c.origin->conns--;
    return NULL;
}

static void *
origin_main(void *arg)
{
    struct origin *o = arg;

    while (!o->stop) {
        struct pollfd p = {.fd = o->fd, .events = POLLIN};
        struct origin_conn *c;
        pthread_t t;
        int fd;

        if (poll(&p, 1, 50) <= 0 || (fd = accept(o->fd, NULL, NULL)) < 0)
            continue;
        c = mc_alloc(sizeof(*c));
        *c = (struct origin_conn){o, fd};
        o->conns++;
        o->last_fd = fd;
        o->accepted++;
        assert_int_equal(pthread_create(&t, NULL, origin_serve, c), 0);
        pthread_detach(t);
    }
    close(o->fd);
    return NULL;
}

/* --- a balancer without control ------------------------------------------------------------------
 */

/* What a test wants of the pool; zero: what make_snapshot() says. */
struct wishes {
    unsigned cap; /* of the server */
    unsigned queue_max;
    mc_ns queue_timeout_ns;
    const char *balance;
    bool pass_load_reports;
    const char *reply;         /* of the origin */
    enum loop_engine engine;   /* LOOP_EPOLL unless told otherwise */
    bool one_socket;           /* all workers accept on it */
    struct takeover *takeover; /* connections are protected */
    unsigned replicate;        /* PROTECT_*: what of them is told */
    uint32_t buffer_bytes;
    struct access_log *log; /* the test's */
};

struct stage {
    struct wishes wishes;
    struct origin origin;
    struct loop *control;
    struct fleet *fleet;
    struct worker *workers[N_WORKERS];
    struct listener_live live;
    int fds[N_WORKERS];
    uint16_t port;
    _Atomic unsigned n_drained;
    _Atomic uint64_t released[N_WORKERS];
    _Atomic uint64_t go_on[N_WORKERS]; /* a worker that has released more waits there */
};

static void
on_released(void *arg, unsigned worker, uint64_t generation)
{
    struct stage *s = arg;

    s->released[worker] = generation;
    while (s->go_on[worker] < generation)
        usleep(1000);
}

static void
on_drained(void *arg, unsigned worker)
{
    ((struct stage *)arg)->n_drained++;
}

static void
on_open(void *arg)
{
    struct stage *s = arg;

    for (unsigned i = 0; i < N_WORKERS; i++)
        worker_wake(s->workers[i]);
}

static struct snapshot *
make_snapshot(struct stage *s, uint64_t generation)
{
    struct snapshot *snap = mc_alloc(sizeof(*snap));
    struct pool_conf pc = {
        .name = mc_strdup("app"),
        .policy = policy_find(str_of(s->wishes.balance ? s->wishes.balance : "least-request")),
        .pass_load_reports = s->wishes.pass_load_reports,
        .retries = 2,
        .retry_budget_percent = 20,
        .retry_min_per_s = 10,
        .queue_max = s->wishes.queue_max ? s->wishes.queue_max : 10,
        .queue_timeout_ns = s->wishes.queue_timeout_ns,
        .connect_timeout_ns = MC_SEC,
        .first_byte_timeout_ns = 10 * MC_SEC,
        .idle_timeout_ns = 10 * MC_SEC,
        .idle_max = 10,
        .idle_conn_timeout_ns = 10 * MC_SEC,
        .servers = mc_alloc(sizeof(struct server_conf)),
        .n_servers = 1,
    };
    struct errbuf err;

    pc.servers[0].name = mc_strdup("o");
    pc.servers[0].address = mc_printf("127.0.0.1:%u", s->origin.port);
    pc.servers[0].weight = 1;
    pc.servers[0].max_concurrent = s->wishes.cap;
    assert_int_equal(fleet_build(s->fleet, &pc, 1, &snap->pools, &err), MC_OK);
    snap->n_pools = 1;
    fleet_adopt(s->fleet, snap->pools, 1);
    snap->generation = generation;
    snap->n_listeners = snap->n_binds = snap->n_routes = 1;
    snap->node = mc_strdup("test");
    snap->listeners = mc_alloc(sizeof(*snap->listeners));
    snap->listeners[0].conf = (struct listener_conf){
        .name = mc_strdup("web"),
        .head_timeout_ns = 10 * MC_SEC,
        .body_timeout_ns = 10 * MC_SEC,
        .keep_alive_timeout_ns = 10 * MC_SEC,
        .send_timeout_ns = 10 * MC_SEC,
        .limits = h1_default_limits,
        .h2 = H2_CONF_DEFAULT,
        .forward = FORWARD_X,
        .via = true,
        .takeover = {s->wishes.takeover != NULL, s->wishes.replicate, s->wishes.buffer_bytes},
    };
    snap->listeners[0].live = &s->live;
    snap->binds = mc_alloc(sizeof(*snap->binds));
    snap->binds[0].fds = s->fds;
    snap->binds[0].n_fds = snap->binds[0].n_workers = N_WORKERS;
    snap->binds[0].id = 1;
    snap->binds[0].addr.len = sizeof(struct sockaddr_in);
    snap->binds[0].addr.u.in.sin_family = AF_INET;
    snap->binds[0].addr.u.in.sin_port = htons(s->port);
    snap->routes = mc_alloc(sizeof(*snap->routes));
    snap->routes[0].conf.name = mc_strdup("all");
    snap->splice_bytes = 262144;
    snap->access_log = s->wishes.log;
    return snap;
}

static void UNUSED
free_snapshot(struct snapshot *snap)
{
    pool_free(&snap->pools[0]);
    free(snap->pools);
    free(snap->listeners[0].conf.name);
    free(snap->listeners);
    free(snap->binds);
    free(snap->routes[0].conf.name);
    free(snap->routes);
    free(snap->node);
    free(snap);
}

static void UNUSED
set_stage(struct stage *s, const struct wishes *w, struct snapshot **out)
{
    static char web[] = "web";
    struct loop_conf lc = {.engine = LOOP_EPOLL};
    struct errbuf err;

    memset(s, 0, sizeof(*s));
    s->live.name = web;
    if (w != NULL)
        s->wishes = *w;
    s->origin.reply = s->wishes.reply;
    s->origin.fd = listen_on(&s->origin.port);
    assert_int_equal(pthread_create(&s->origin.thread, NULL, origin_main, &s->origin), 0);
    s->control = loop_new(&lc, &err);
    s->fleet = fleet_new(N_WORKERS, s->control, NULL, on_open, s);
    for (unsigned i = 0; i < N_WORKERS; i++) {
        s->fds[i] = s->wishes.one_socket && i > 0 ? dup(s->fds[0]) : listen_on(&s->port);
        s->go_on[i] = UINT64_MAX;
    }
    *out = make_snapshot(s, 1);
    for (unsigned i = 0; i < N_WORKERS; i++) {
        struct worker_conf wc = {.index = i,
                                 .engine =
                                     s->wishes.engine == LOOP_AUTO && s->wishes.takeover == NULL
                                         ? LOOP_EPOLL
                                         : s->wishes.engine,
                                 .cpu = -1,
                                 .takeover = s->wishes.takeover,
                                 .on_released = on_released,
                                 .on_drained = on_drained,
                                 .pipe = brains_pipe(fleet_brains(s->fleet), i),
                                 .arg = s};

        s->workers[i] = worker_new(&wc, &err);
        assert_non_null(s->workers[i]);
        assert_int_equal(worker_start(s->workers[i], *out, &err), MC_OK);
    }
}

/* After the workers, whose end is the end of its connections. */
static void UNUSED
strike_origin(struct stage *s)
{
    s->origin.stop = true;
    pthread_join(s->origin.thread, NULL);
    while (s->origin.conns > 0)
        usleep(1000);
}

static void UNUSED
strike_stage(struct stage *s)
{
    for (unsigned i = 0; i < N_WORKERS; i++) {
        worker_stop(&s->workers[i]);
        close(s->fds[i]);
    }
    strike_origin(s);
}

static void UNUSED
end_stage(struct stage *s)
{
    fleet_free(&s->fleet);
    loop_free(&s->control);
}

#define ANSWER_MAX 4096

/* One request on a new connection, and all that comes back; returns its length. */
static size_t
ask_text(uint16_t port, char buf[ANSWER_MAX])
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    size_t have = 0;
    ssize_t n;

    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0 &&
        send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) > 0)
        while ((n = read(fd, buf + have, ANSWER_MAX - 1 - have)) > 0)
            have += (size_t)n;
    close(fd);
    buf[have] = '\0';
    return have;
}

/* The status of the answer, 0 when there is none or its body is not the origin's. */
static unsigned
ask_status(uint16_t port)
{
    char buf[ANSWER_MAX];
    size_t have = ask_text(port, buf);
    unsigned status = 0;

    if (have > 12 && sscanf(buf, "HTTP/1.1 %3u", &status) != 1)
        return 0;
    return status == 200 && memcmp(buf + have - 5, "hello", 5) != 0 ? 0 : status;
}

static bool UNUSED
ask(uint16_t port)
{
    return ask_status(port) == 200;
}

#endif
