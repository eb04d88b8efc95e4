/* SPDX-License-Identifier: BSD-2-Clause
 *
 * load.c - the client of bench/run: a closed loop of N connections, one thread, one request in
 * flight on each.
 *
 * Every answer must be 200 and as long as asked for, to the byte; whatever else happens is an
 * error and counted by kind.  A run is: connect and warm up, let all requests end, [gate: say
 * "ready", wait for a line], measure, let all requests end, print one line of JSON.  So the
 * requests counted are exactly those that the proxy served between "ready" and the result, and its
 * CPU time can be read when it is at rest.  Nothing lasts longer than the times given plus the
 * drain. */
#include <arpa/inet.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tool.h"

#define HEAD_BYTES 4096
#define BATCH      256
#define DRAIN_NS   5000000000ll /* how long requests under way may take after the end */
#define GATE_MS    10000        /* how long to wait for the line that opens the gate */
#define MAX_ERRORS 10000        /* a run with so many is over: the proxy is gone */

/* Latency: 32 steps for each power of two of nanoseconds, so a quantile is right within 3 %. */
#define STEPS      32
#define BUCKETS    (64 * STEPS)

enum state { IDLE, CONNECT, SEND, HEAD, BODY };
enum failure { E_CONNECT, E_BROKEN, E_STATUS, E_LENGTH, E_TIMEOUT, E_COUNT };
static const char *const failure_names[E_COUNT] = {"connect", "broken", "status", "length",
                                                   "timeout"};

struct conn {
    int fd; /* -1: not connected */
    enum state state;
    bool close_after; /* the answer said so, or every request has its own connection */
    uint32_t sent, head_len;
    uint64_t to_read; /* of the answer's body */
    int64_t begun_ns;
    char head[HEAD_BYTES];
};

static struct {
    struct sockaddr_in to;
    unsigned n_conns;
    bool fresh; /* a new connection for each request */
    bool gate;
    int64_t warm_ns, run_ns;
    uint64_t max_requests; /* of each phase; 0: only time ends it */
    uint64_t expect;       /* body bytes of every answer */
    size_t post_bytes;
    const char *path;
    char *request;
    size_t request_len;
} cfg = {.n_conns = 64, .run_ns = 1000000000ll, .expect = 100, .path = "/b/100"};

static struct {
    uint64_t begun, done, bytes, connects, failures[E_COUNT], n_failures;
    uint64_t latency[BUCKETS];
} got;

static int ep;
static unsigned n_busy; /* connections with a request under way */
static int64_t stop_ns; /* no request begins after this */
static char scratch[256 * 1024];

static int64_t
now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

static unsigned
bucket_of(uint64_t ns)
{
    unsigned log2 = 63 - (unsigned)__builtin_clzll(ns | STEPS);

    return (log2 - 5) * STEPS + (unsigned)(ns >> (log2 - 5)); /* 5 = log2(STEPS) */
}

static double
quantile_us(double q)
{
    uint64_t rank = (uint64_t)(q * (double)got.done), seen = 0;
    unsigned b = 0, log2;

    if (got.done == 0)
        return 0;
    while (b < BUCKETS - 1 && (seen += got.latency[b]) <= rank)
        b++;
    log2 = b < 2 * STEPS ? 5 : b / STEPS + 4;
    return (double)((uint64_t)(b - (log2 - 5) * STEPS) << (log2 - 5)) / 1e3;
}

/* ---- one connection -------------------------------------------------------------------------- */

/* The request under way is over, well or not. */
static void
conn_rest(struct conn *c)
{
    if (c->close_after) {
        close(c->fd);
        c->fd = -1;
    }
    c->state = IDLE;
    n_busy--;
}

static void
fail(struct conn *c, enum failure why)
{
    got.failures[why]++;
    got.n_failures++;
    c->close_after = true;
    conn_rest(c);
}

/* The next request, unless this phase is over. */
static bool
begin(struct conn *c)
{
    int64_t now = now_ns();

    if (now >= stop_ns || got.n_failures >= MAX_ERRORS ||
        (cfg.max_requests > 0 && got.begun >= cfg.max_requests))
        return false;
    n_busy++;
    got.begun++;
    c->begun_ns = now;
    c->sent = c->head_len = 0;
    c->close_after = cfg.fresh;
    c->state = c->fd < 0 ? CONNECT : SEND;
    return true;
}

/* A step returns true when there is more to do now, false to wait for an event or to be idle. */
static bool
dial(struct conn *c)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    int err = 0, one = 1;
    socklen_t len = sizeof err;

    if (c->fd >= 0) { /* an event came: connected, or not */
        if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0 || err != 0) {
            fail(c, E_CONNECT);
            return false;
        }
        c->state = SEND;
        return true;
    }
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    got.connects++;
    if ((connect(c->fd, (struct sockaddr *)&cfg.to, sizeof cfg.to) < 0 && errno != EINPROGRESS) ||
        epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev) < 0)
        fail(c, E_CONNECT);
    return false; /* the first event says whether it worked */
}

static bool
send_request(struct conn *c)
{
    ssize_t n = send(c->fd, cfg.request + c->sent, cfg.request_len - c->sent, MSG_NOSIGNAL);

    if (n < 0) {
        if (errno != EAGAIN)
            fail(c, E_BROKEN);
        return false;
    }
    c->sent += (uint32_t)n;
    if (c->sent < cfg.request_len)
        return true;
    c->state = HEAD;
    return false; /* the answer cannot be there yet */
}

/* Status and length of the answer in c->head[0 .. n); false: it is not what was asked for. */
static bool
take_head(struct conn *c, size_t n)
{
    const char *line, *end = c->head + n - 2;
    uint64_t length = UINT64_MAX;

    if (n < 16 || memcmp(c->head, "HTTP/1.1 200", 12) != 0) {
        fail(c, E_STATUS);
        return false;
    }
    for (line = c->head; line < end; line = memchr(line, '\n', (size_t)(end - line)) + 1) {
        if (strncasecmp(line, "content-length:", 15) == 0)
            length = strtoull(line + 15, NULL, 10);
        else if (strncasecmp(line, "connection: close", 17) == 0)
            c->close_after = true;
    }
    if (length != cfg.expect) {
        fail(c, E_LENGTH);
        return false;
    }
    c->to_read = length;
    c->state = BODY;
    return true;
}

/* Bytes of the body have come; true when more are missing. */
static bool
take(struct conn *c, size_t n_bytes)
{
    if (n_bytes > c->to_read) { /* more than was announced */
        fail(c, E_LENGTH);
        return false;
    }
    c->to_read -= n_bytes;
    if (c->to_read > 0)
        return true;
    got.done++;
    got.bytes += cfg.expect;
    got.latency[bucket_of((uint64_t)(now_ns() - c->begun_ns))]++;
    conn_rest(c);
    return false;
}

static bool
receive(struct conn *c, char *to, size_t space, size_t *n_bytes)
{
    ssize_t n = recv(c->fd, to, space, 0);

    if (n == 0 || (n < 0 && errno != EAGAIN))
        fail(c, E_BROKEN);
    *n_bytes = (size_t)n;
    return n > 0;
}

static bool
read_head(struct conn *c)
{
    size_t n, head;
    char *end;

    if (!receive(c, c->head + c->head_len, HEAD_BYTES - c->head_len, &n))
        return false;
    c->head_len += (uint32_t)n;
    end = memmem(c->head, c->head_len, "\r\n\r\n", 4);
    if (end == NULL) {
        if (c->head_len == HEAD_BYTES)
            fail(c, E_STATUS);
        return c->state == HEAD;
    }
    head = (size_t)(end + 4 - c->head);
    return take_head(c, head) && take(c, c->head_len - head);
}

static void
conn_run(struct conn *c)
{
    size_t n;
    bool more;

    do {
        switch (c->state) {
        case CONNECT: more = dial(c); break;
        case SEND: more = send_request(c); break;
        case HEAD: more = read_head(c); break;
        case BODY: more = receive(c, scratch, sizeof scratch, &n) && take(c, n); break;
        default: more = false; break;
        }
    } while (more || (c->state == IDLE && begin(c)));
}

/* ---- a run ----------------------------------------------------------------------------------- */

/* Loads for so long, then waits until every request under way has ended. */
static void
phase(struct conn *conns, int64_t ns)
{
    struct epoll_event evs[BATCH];
    int n;

    stop_ns = now_ns() + ns;
    for (unsigned i = 0; i < cfg.n_conns; i++)
        conn_run(&conns[i]);
    while (n_busy > 0 && now_ns() < stop_ns + DRAIN_NS) {
        n = epoll_wait(ep, evs, BATCH, 100);
        for (int i = 0; i < n; i++)
            conn_run(evs[i].data.ptr);
    }
    for (unsigned i = 0; i < cfg.n_conns; i++)
        if (conns[i].state != IDLE)
            fail(&conns[i], E_TIMEOUT);
}

static void
pass_gate(void)
{
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    char line[16];

    puts("ready");
    fflush(stdout);
    if (poll(&in, 1, GATE_MS) != 1 || read(STDIN_FILENO, line, sizeof line) <= 0)
        die("nobody opened the gate");
}

static void
report(int64_t took_ns)
{
    printf("{\"requests\": %ju, \"bytes\": %ju, \"seconds\": %.6f, \"connects\": %ju, "
           "\"p50_us\": %.1f, \"p99_us\": %.1f, \"errors\": %ju",
           got.done, got.bytes, (double)took_ns / 1e9, got.connects, quantile_us(0.50),
           quantile_us(0.99), got.n_failures);
    for (int i = 0; i < E_COUNT; i++)
        printf(", \"error_%s\": %ju", failure_names[i], got.failures[i]);
    puts("}");
}

static void
build_request(void)
{
    char length[64] = "";
    int n;

    if (cfg.post_bytes > 0)
        snprintf(length, sizeof length, "Content-Length: %zu\r\n", cfg.post_bytes);
    n = asprintf(&cfg.request,
                 "%s %s HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: load\r\n%s%s\r\n",
                 cfg.post_bytes > 0 ? "POST" : "GET", cfg.path, length,
                 cfg.fresh ? "Connection: close\r\n" : "");
    cfg.request_len = (size_t)n + cfg.post_bytes;
    cfg.request = n < 0 ? NULL : realloc(cfg.request, cfg.request_len);
    if (cfg.request == NULL)
        die("out of memory");
    memset(cfg.request + n, 'p', cfg.post_bytes);
}

static void
read_options(int argc, char **argv)
{
    int o;

    cfg.to = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    while ((o = getopt(argc, argv, "p:c:t:w:n:u:e:b:fg")) != -1)
        switch (o) {
        case 'p': cfg.to.sin_port = htons((uint16_t)atoi(optarg)); break;
        case 'c': cfg.n_conns = (unsigned)atoi(optarg); break;
        case 't': cfg.run_ns = (int64_t)(atof(optarg) * 1e9); break;
        case 'w': cfg.warm_ns = (int64_t)(atof(optarg) * 1e9); break;
        case 'n': cfg.max_requests = strtoull(optarg, NULL, 10); break;
        case 'u': cfg.path = optarg; break;
        case 'e': cfg.expect = strtoull(optarg, NULL, 10); break;
        case 'b': cfg.post_bytes = strtoull(optarg, NULL, 10); break;
        case 'f': cfg.fresh = true; break;
        case 'g': cfg.gate = true; break;
        default:
            fputs("usage: load -p PORT [-c CONNECTIONS] [-t SECONDS] [-w WARM_UP_SECONDS]\n"
                  "            [-n REQUESTS] [-u PATH] [-e BYTES_EXPECTED] [-b POST_BYTES]\n"
                  "            [-f (a fresh connection each)] [-g (gate)]\n",
                  stderr);
            exit(2);
        }
}

int
main(int argc, char **argv)
{
    struct conn *conns;
    int64_t begun_ns;

    read_options(argc, argv);
    build_request();
    raise_descriptor_limit();
    ep = epoll_create1(EPOLL_CLOEXEC);
    conns = calloc(cfg.n_conns, sizeof *conns);
    if (ep < 0 || conns == NULL)
        die("cannot start");
    for (unsigned i = 0; i < cfg.n_conns; i++)
        conns[i].fd = -1;

    if (cfg.warm_ns > 0)
        phase(conns, cfg.warm_ns);
    if (cfg.gate)
        pass_gate();
    memset(&got, 0, sizeof got);
    begun_ns = now_ns();
    phase(conns, cfg.run_ns);
    report(now_ns() - begun_ns);
    return got.n_failures > 0 ? 1 : 0;
}
