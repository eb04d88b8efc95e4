/* SPDX-License-Identifier: BSD-2-Clause
 *
 * load.c - the client of bench/run: a closed loop of N connections, one thread, one request in
 * flight on each; or one WebSocket message, which comes back.  TLS on them when it is asked for.
 * With -R they begin at a pace, as far as connections are free.
 *
 * Every answer must be 200 and as long as asked for, to the byte, an echo the same bytes, and a
 * session resumed where that was offered; whatever else happens is an error and counted by kind.
 * A run is: connect and warm up, let all requests end, [gate: say
 * "ready", wait for a line], measure, let all requests end, print one line of JSON.  So the
 * requests counted are exactly those that the proxy served between "ready" and the result, and its
 * CPU time can be read when it is at rest.  Nothing lasts longer than the times given plus the
 * drain. */
#include <arpa/inet.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "histogram.h"
#include "tool.h"

#define HEAD_BYTES   4096
#define BATCH        256
#define DRAIN_NS     5000000000ll /* how long requests under way may take after the end */
#define GATE_MS      10000        /* how long to wait for the line that opens the gate */
#define PACE_LATE_NS 100000000ll
#define MAX_ERRORS   10000 /* a run with so many is over: the proxy is gone */

/* The key of the example in RFC 6455 1.3, which is the one that the origin knows the answer to. */
#define WS_KEY       "dGhlIHNhbXBsZSBub25jZQ=="
#define WS_ACCEPT    "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
#define WS_BINARY    0x82 /* FIN, opcode 2 */
#define WS_MASK      "\x37\xfa\x21\x3d"
#define WS_HEAD_MAX  14

enum state { IDLE, CONNECT, HANDSHAKE, SEND, HEAD, BODY, ECHO };
enum failure {
    E_CONNECT,
    E_TLS,
    E_RESUMPTION,
    E_BROKEN,
    E_STATUS,
    E_LENGTH,
    E_ECHO,
    E_TIMEOUT,
    E_COUNT
};
static const char *const failure_names[E_COUNT] = {"connect", "tls",    "resumption", "broken",
                                                   "status",  "length", "echo",       "timeout"};

struct text {
    char *p;
    size_t n;
};

struct conn {
    int fd; /* -1: not connected */
    enum state state;
    SSL *ssl;             /* NULL: plain, or not connected */
    SSL_SESSION *session; /* of the latest ticket, when sessions are resumed */
    bool known;           /* it has had a connection, and with it a ticket */
    bool upgraded;        /* to WebSocket */
    bool close_after;     /* the answer said so, or every request has its own connection */
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
    double per_s;          /* at most so many requests, evenly; 0: as many as can be */
    uint64_t expect;       /* body bytes of every answer */
    size_t post_bytes;
    const char *path;
    bool tls, resume, websocket;
    int tls_version;     /* the only one */
    struct text request; /* or the message, in its frame */
    struct text opening; /* of a WebSocket */
    struct text echo;    /* the frame that must come back */
} cfg = {.n_conns = 64,
         .run_ns = 1000000000ll,
         .expect = 100,
         .path = "/b/100",
         .tls_version = TLS1_3_VERSION};

static struct {
    uint64_t begun, done, bytes, connects, failures[E_COUNT], n_failures;
    struct histogram latency;
} got;

static int ep;
static SSL_CTX *tls;
static unsigned n_busy;          /* connections with a request under way */
static volatile int64_t stop_ns; /* no request begins after this */
static int64_t paced_ns;         /* the next one begins not before this */
static char scratch[256 * 1024];

static int64_t
now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

/* ---- one connection -------------------------------------------------------------------------- */

static void
hang_up(struct conn *c)
{
    if (c->ssl != NULL && SSL_is_init_finished(c->ssl))
        SSL_shutdown(c->ssl); /* close_notify, once; the other side's is not waited for */
    SSL_free(c->ssl);
    c->ssl = NULL;
    close(c->fd);
    c->fd = -1;
    c->upgraded = false;
}

/* The request under way is over, well or not. */
static void
conn_rest(struct conn *c)
{
    if (c->close_after)
        hang_up(c);
    c->state = IDLE;
    n_busy--;
}

static void
fail(struct conn *c, enum failure why)
{
    ERR_clear_error(); /* it is one queue for all connections */
    got.failures[why]++;
    got.n_failures++;
    c->close_after = true;
    conn_rest(c);
}

/* What could not be begun in time is not made up for beyond PACE_LATE_NS. */
static bool
is_due(int64_t now)
{
    if (cfg.per_s <= 0)
        return true;
    if (now < paced_ns)
        return false;
    if (paced_ns < now - PACE_LATE_NS)
        paced_ns = now - PACE_LATE_NS;
    paced_ns += (int64_t)(1e9 / cfg.per_s);
    return true;
}

/* The next request, unless this phase is over. */
static bool
begin(struct conn *c)
{
    int64_t now = now_ns();

    if (now >= stop_ns || got.n_failures >= MAX_ERRORS ||
        (cfg.max_requests > 0 && got.begun >= cfg.max_requests) || !is_due(now))
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
        c->state = cfg.tls ? HANDSHAKE : SEND;
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

static void
begin_tls(struct conn *c)
{
    c->ssl = SSL_new(tls);
    if (c->ssl == NULL || SSL_set_fd(c->ssl, c->fd) != 1 ||
        SSL_set_tlsext_host_name(c->ssl, "bench.example") != 1)
        die("cannot make a TLS connection");
    SSL_set_app_data(c->ssl, c);
    if (c->session != NULL)
        SSL_set_session(c->ssl, c->session);
    SSL_set_connect_state(c->ssl);
}

static bool
shake_hands(struct conn *c)
{
    int rv;

    if (c->ssl == NULL)
        begin_tls(c);
    rv = SSL_do_handshake(c->ssl);
    if (rv == 1) {
        c->state = SEND;
        if (SSL_session_reused(c->ssl) != (cfg.resume && c->known))
            fail(c, E_RESUMPTION);
        c->known = true;
        return c->state == SEND;
    }
    if (SSL_get_error(c->ssl, rv) != SSL_ERROR_WANT_READ)
        fail(c, E_TLS);
    return false;
}

/* A ticket has come; 1: it is ours now. */
static int
on_session(SSL *ssl, SSL_SESSION *session)
{
    struct conn *c = SSL_get_app_data(ssl);

    SSL_SESSION_free(c->session);
    c->session = session;
    return 1;
}

/* As recv() and send(): -1 with EAGAIN when OpenSSL wants to wait. */
static ssize_t
tls_result(struct conn *c, int ok, size_t n)
{
    switch (SSL_get_error(c->ssl, ok)) {
    case SSL_ERROR_NONE: return (ssize_t)n;
    case SSL_ERROR_ZERO_RETURN: return 0;
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: errno = EAGAIN; return -1;
    default: errno = EPROTO; return -1;
    }
}

static ssize_t
conn_send(struct conn *c, const char *p, size_t n)
{
    size_t done = 0;
    int ok;

    if (c->ssl == NULL)
        return send(c->fd, p, n, MSG_NOSIGNAL);
    ok = SSL_write_ex(c->ssl, p, n, &done);
    return tls_result(c, ok, done);
}

static ssize_t
conn_recv(struct conn *c, char *to, size_t space)
{
    size_t done = 0;
    int ok;

    if (c->ssl == NULL)
        return recv(c->fd, to, space, 0);
    ok = SSL_read_ex(c->ssl, to, space, &done);
    return tls_result(c, ok, done);
}

static bool
send_request(struct conn *c)
{
    const bool opening = cfg.websocket && !c->upgraded;
    const struct text *t = opening ? &cfg.opening : &cfg.request;
    ssize_t n = conn_send(c, t->p + c->sent, t->n - c->sent);

    if (n < 0) {
        if (errno != EAGAIN)
            fail(c, E_BROKEN);
        return false;
    }
    c->sent += (uint32_t)n;
    if (c->sent < t->n)
        return true;
    c->state = c->upgraded ? ECHO : HEAD;
    c->to_read = cfg.echo.n;
    return false; /* the answer cannot be there yet */
}

/* The 101 in c->head[0 .. n): the connection is for messages from now on. */
static bool
take_switch(struct conn *c, size_t n)
{
    if (memcmp(c->head, "HTTP/1.1 101", 12) != 0 || n < c->head_len ||
        memmem(c->head, n, WS_ACCEPT, strlen(WS_ACCEPT)) == NULL) {
        fail(c, E_STATUS);
        return false;
    }
    c->upgraded = true;
    c->sent = 0;
    c->state = SEND;
    return true;
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
    histogram_add(&got.latency, (uint64_t)(now_ns() - c->begun_ns));
    conn_rest(c);
    return false;
}

static bool
receive(struct conn *c, char *to, size_t space, size_t *n_bytes)
{
    ssize_t n = conn_recv(c, to, space);

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
    if (cfg.websocket)
        return take_switch(c, head);
    return take_head(c, head) && take(c, c->head_len - head);
}

static bool
read_echo(struct conn *c)
{
    size_t n, space = c->to_read < sizeof scratch ? c->to_read : sizeof scratch;

    if (!receive(c, scratch, space, &n))
        return false;
    if (memcmp(scratch, cfg.echo.p + cfg.echo.n - c->to_read, n) != 0) {
        fail(c, E_ECHO);
        return false;
    }
    return take(c, n);
}

static void
conn_run(struct conn *c)
{
    size_t n;
    bool more;

    do {
        switch (c->state) {
        case CONNECT: more = dial(c); break;
        case HANDSHAKE: more = shake_hands(c); break;
        case SEND: more = send_request(c); break;
        case HEAD: more = read_head(c); break;
        case BODY: more = receive(c, scratch, sizeof scratch, &n) && take(c, n); break;
        case ECHO: more = read_echo(c); break;
        default: more = false; break;
        }
    } while (more || (c->state == IDLE && begin(c)));
}

/* ---- a run ----------------------------------------------------------------------------------- */

/* SIGTERM: the phase is over, and is reported. */
static void
on_term(int signo)
{
    (void)signo;
    stop_ns = 0;
}

/* Connections that have nothing to do and may have by now. */
static void
run_idle(struct conn *conns)
{
    for (unsigned i = 0; i < cfg.n_conns; i++)
        if (conns[i].state == IDLE)
            conn_run(&conns[i]);
}

/* Loads for so long, then waits until every request under way has ended. */
static void
phase(struct conn *conns, int64_t ns)
{
    const bool paced = cfg.per_s > 0;
    struct epoll_event evs[BATCH];
    int64_t now = now_ns(), end = now + ns;
    int n;

    stop_ns = end;
    paced_ns = now;
    run_idle(conns);
    while ((n_busy > 0 || (paced && now < stop_ns)) && (now = now_ns()) < end + DRAIN_NS) {
        if (end > now && stop_ns == 0)
            end = now;
        n = epoll_wait(ep, evs, BATCH, paced ? 1 : 100);
        for (int i = 0; i < n; i++)
            conn_run(evs[i].data.ptr);
        if (paced)
            run_idle(conns);
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
           got.done, got.bytes, (double)took_ns / 1e9, got.connects,
           histogram_us(&got.latency, 0.50), histogram_us(&got.latency, 0.99), got.n_failures);
    for (int i = 0; i < E_COUNT; i++)
        printf(", \"error_%s\": %ju", failure_names[i], got.failures[i]);
    puts("}");
}

static struct text
text_of(const char *fmt, ...)
{
    struct text t;
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vasprintf(&t.p, fmt, ap);
    va_end(ap);
    if (n < 0)
        die("out of memory");
    t.n = (size_t)n;
    return t;
}

static void
build_request(void)
{
    char length[64] = "";
    size_t n;

    if (cfg.post_bytes > 0)
        snprintf(length, sizeof length, "Content-Length: %zu\r\n", cfg.post_bytes);
    cfg.request = text_of("%s %s HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: load\r\n%s%s\r\n",
                          cfg.post_bytes > 0 ? "POST" : "GET", cfg.path, length,
                          cfg.fresh ? "Connection: close\r\n" : "");
    n = cfg.request.n;
    cfg.request.n += cfg.post_bytes;
    cfg.request.p = realloc(cfg.request.p, cfg.request.n);
    if (cfg.request.p == NULL)
        die("out of memory");
    memset(cfg.request.p + n, 'p', cfg.post_bytes);
}

/* A frame of RFC 6455 5.2 with n bytes; mask: NULL or four bytes. */
static struct text
frame_of(size_t n, const char *mask)
{
    struct text t = {calloc(1, WS_HEAD_MAX + n), 2};
    const int n_length = n < 126 ? 0 : n < 65536 ? 2 : 8;

    if (t.p == NULL)
        die("out of memory");
    t.p[0] = (char)WS_BINARY;
    t.p[1] = (char)((mask != NULL ? 0x80 : 0) | (n_length == 0   ? (int)n
                                                 : n_length == 2 ? 126
                                                                 : 127));
    for (int i = n_length - 1; i >= 0; i--)
        t.p[t.n++] = (char)(n >> 8 * i);
    if (mask != NULL) {
        memcpy(t.p + t.n, mask, 4);
        t.n += 4;
    }
    for (size_t i = 0; i < n; i++)
        t.p[t.n++] = (char)(('a' + i % 26) ^ (size_t)(mask != NULL ? mask[i % 4] : 0));
    return t;
}

static void
build_messages(void)
{
    cfg.opening = text_of("GET %s HTTP/1.1\r\nHost: bench.example\r\nUpgrade: websocket\r\n"
                          "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                          "Sec-WebSocket-Key: " WS_KEY "\r\n\r\n",
                          cfg.path);
    cfg.request = frame_of(cfg.post_bytes, WS_MASK);
    cfg.echo = frame_of(cfg.post_bytes, NULL);
    cfg.expect = cfg.post_bytes;
}

/* One choice of everything, so that all balancers are asked for the same work. */
static void
build_tls(void)
{
    static const unsigned char alpn[] = "\x08http/1.1";

    tls = SSL_CTX_new(TLS_client_method());
    if (tls == NULL || SSL_CTX_set_min_proto_version(tls, cfg.tls_version) != 1 ||
        SSL_CTX_set_max_proto_version(tls, cfg.tls_version) != 1 ||
        SSL_CTX_set_ciphersuites(tls, "TLS_AES_128_GCM_SHA256") != 1 ||
        SSL_CTX_set_cipher_list(tls, "ECDHE+AES128+AESGCM") != 1 ||
        SSL_CTX_set1_groups_list(tls, "X25519:P-256") != 1 ||
        SSL_CTX_set_alpn_protos(tls, alpn, sizeof alpn - 1) != 0)
        die("cannot use TLS");
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE);
    SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    if (cfg.resume)
        SSL_CTX_sess_set_new_cb(tls, on_session);
}

static void
read_options(int argc, char **argv)
{
    int o;

    cfg.to = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    while ((o = getopt(argc, argv, "a:p:c:t:w:n:R:u:e:b:fgT:rW")) != -1)
        switch (o) {
        case 'a':
            if (inet_pton(AF_INET, optarg, &cfg.to.sin_addr) != 1)
                die(optarg);
            break;
        case 'p': cfg.to.sin_port = htons((uint16_t)atoi(optarg)); break;
        case 'c': cfg.n_conns = (unsigned)atoi(optarg); break;
        case 't': cfg.run_ns = (int64_t)(atof(optarg) * 1e9); break;
        case 'w': cfg.warm_ns = (int64_t)(atof(optarg) * 1e9); break;
        case 'n': cfg.max_requests = strtoull(optarg, NULL, 10); break;
        case 'R': cfg.per_s = atof(optarg); break;
        case 'u': cfg.path = optarg; break;
        case 'e': cfg.expect = strtoull(optarg, NULL, 10); break;
        case 'b': cfg.post_bytes = strtoull(optarg, NULL, 10); break;
        case 'f': cfg.fresh = true; break;
        case 'g': cfg.gate = true; break;
        case 'T':
            cfg.tls = true;
            cfg.tls_version = strcmp(optarg, "1.2") == 0 ? TLS1_2_VERSION : TLS1_3_VERSION;
            break;
        case 'r': cfg.resume = true; break;
        case 'W': cfg.websocket = true; break;
        default:
            fputs("usage: load [-a ADDRESS] -p PORT [-c CONNECTIONS] [-t SECONDS] [-w "
                  "WARM_UP_SECONDS]\n"
                  "            [-n REQUESTS] [-R REQUESTS_PER_S (at most)] [-u PATH]\n"
                  "            [-e BYTES_EXPECTED] [-b POST_BYTES]\n"
                  "            [-f (a fresh connection each)] [-g (gate)]\n"
                  "            [-T 1.2|1.3 (TLS)] [-r (resume sessions)]\n"
                  "            [-W (WebSocket: messages of POST_BYTES, echoed)]\n",
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
    if (cfg.websocket)
        build_messages();
    else
        build_request();
    if (cfg.tls)
        build_tls();
    signal(SIGPIPE, SIG_IGN); /* OpenSSL's sends raise it */
    signal(SIGTERM, on_term);
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
