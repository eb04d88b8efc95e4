/* SPDX-License-Identifier: BSD-2-Clause
 *
 * steady.c - clients that ask at a steady rate, and say what became of each request.
 *
 * N connections, one thread.  Requests are due at fixed times, one connection after the other, and
 * a wait counts from when a request was due: an answer that is late makes those behind it late, too
 * (no coordinated omission).  Each request has a number of its own, and the bytes of its body and
 * of its answer follow from that (ids.h): every byte is checked.  Nothing is sent twice.
 *
 *   GET /c/ID/BYTES[/DELAY_MS]    a part of these sizes, each in turn
 *   POST /c/ID/BYTES              the rest, with as many bytes as the answer has
 *
 * A connection that breaks is not dialled again, unless the server had said that it closes it or
 * closed it in order while nothing was under way; with a connection for each request it is.
 *
 * Ends with a line of JSON; what failed is told on stderr when it fails, with the time since the
 * begin, and with -w MS what had to wait for longer, too.  -L FILE: the numbers of the POSTs that
 * were answered with 200, eight bytes each. */
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <strings.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "histogram.h"
#include "ids.h"
#include "tool.h"

#define HEAD_BYTES 4096
#define BATCH      256
#define MAX_SIZES  16
#define MAX_OWED   1000u /* requests that a stalled connection is late with; more are left out */
#define MAX_TOLD   40    /* failures that are told on stderr */
#define POST_MAX   4096  /* bytes of a POST; the kernel takes them at once */
#define LOOK_NS    50000000ll

enum state { IDLE, DIAL, SEND, HEAD, BODY, DEAD };

#define FAILURES(X)                                                     \
    X(REFUSED, "refused") /* RST for the SYN */                         \
    X(CONNECT, "connect") /* another end of connect */                  \
    X(RESET, "reset")     /* a request was under way */                 \
    X(CUT, "cut")         /* FIN in place of (the rest of) an answer */ \
    X(LOST, "lost")       /* reset while nothing was under way */       \
    X(STATUS, "status")   /* not 200 */                                 \
    X(GARBLED, "garbled") /* other bytes than it should have */         \
    X(TIMEOUT, "timeout")

enum failure {
#define X(name, text) F_##name,
    FAILURES(X)
#undef X
        F_COUNT
};

static const char *const failure_names[F_COUNT] = {
#define X(name, text) text,
    FAILURES(X)
#undef X
};

struct conn {
    int fd; /* -1: not connected */
    enum state state;
    bool post, close_after;
    unsigned owed;  /* requests that were due while one was under way */
    int64_t due_ns; /* of the request under way */
    int64_t next_due_ns;
    int64_t longest_ns;
    uint64_t id, bytes, taken; /* of the answer's body */
    size_t request_len, sent;
    size_t head_len;
    int status;
    char request[512 + POST_MAX];
    char head[HEAD_BYTES];
};

static struct {
    struct sockaddr_in to;
    unsigned n_conns;
    double per_s;
    double seconds;
    double post_part; /* of 1 */
    unsigned delay_ms;
    uint64_t first_id;
    bool fresh;
    int64_t timeout_ns, tell_ns; /* a wait longer than that is told */
    unsigned n_sizes;
    uint64_t sizes[MAX_SIZES];
    const char *list;
} cfg = {.n_conns = 100,
         .per_s = 1000,
         .seconds = 5,
         .timeout_ns = 10000000000ll,
         .tell_ns = INT64_MAX,
         .n_sizes = 1,
         .sizes = {1000}};

static struct {
    uint64_t begun, done, posts, posts_done, bytes, dialled, closed_in_order, left_out, told_waits;
    uint64_t failed, failures[F_COUNT], posts_failed, statuses[600];
    int64_t longest_ns, longest_at_ns; /* the longest wait, and when the request was due */
    int64_t gap_ns, gap_at_ns;         /* the longest time in which nobody got an answer */
    int64_t last_done_ns;
    struct histogram waits;
} got;

static int ep;
static struct conn *conns;
static unsigned n_busy;
static int64_t begun_ns, interval_ns;
static uint64_t next_tick, n_ticks;
static char scratch[256 * 1024];
static FILE *list;

static int64_t
now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

/* ---- ends of requests ------------------------------------------------------------------------ */

static void
hang_up(struct conn *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

static void
tell(const struct conn *c, enum failure why, int err)
{
    struct sockaddr_in sa = {0};
    socklen_t len = sizeof sa;

    if (got.failed > MAX_TOLD)
        return;
    if (c->fd >= 0)
        (void)getsockname(c->fd, (struct sockaddr *)&sa, &len);
    fprintf(stderr, "%.3f s: port %u: %s %ju: %s", (double)(now_ns() - begun_ns) / 1e9,
            ntohs(sa.sin_port), c->post ? "POST" : "GET", (uintmax_t)c->id, failure_names[why]);
    if (why == F_STATUS)
        fprintf(stderr, " %d", c->status);
    fprintf(stderr, ", %ju of %ju bytes%s%s\n", (uintmax_t)c->taken, (uintmax_t)c->bytes,
            err ? ": " : "", err ? strerror(err) : "");
}

static void
tell_wait(const struct conn *c, int64_t wait)
{
    struct sockaddr_in sa = {0};
    socklen_t len = sizeof sa;

    if (wait < cfg.tell_ns || ++got.told_waits > MAX_TOLD)
        return;
    (void)getsockname(c->fd, (struct sockaddr *)&sa, &len);
    fprintf(stderr, "%.3f s: port %u: %s %ju of %ju bytes was due %.3f s ago\n",
            (double)(now_ns() - begun_ns) / 1e9, ntohs(sa.sin_port), c->post ? "POST" : "GET",
            (uintmax_t)c->id, (uintmax_t)c->bytes, (double)wait / 1e9);
}

static void
fail(struct conn *c, enum failure why, int err)
{
    got.failed++;
    got.failures[why]++;
    got.posts_failed += c->post && c->state != IDLE;
    tell(c, why, err);
    if (c->state != IDLE)
        n_busy--;
    hang_up(c);
    c->state = cfg.fresh ? IDLE : DEAD;
}

/* An answer with another status than 200 came whole enough to know that the connection lives; it is
 * not read to its end, so the connection is given up, and dialled again. */
static void
fail_status(struct conn *c)
{
    got.statuses[c->status > 0 && c->status < 600 ? c->status : 0]++;
    fail(c, F_STATUS, 0);
    c->state = IDLE;
}

static void
note_wait(struct conn *c, int64_t now)
{
    int64_t wait = now - c->due_ns, since = got.last_done_ns ? got.last_done_ns : begun_ns;

    histogram_add(&got.waits, (uint64_t)(wait > 0 ? wait : 0));
    tell_wait(c, wait);
    if (wait > c->longest_ns)
        c->longest_ns = wait;
    if (wait > got.longest_ns) {
        got.longest_ns = wait;
        got.longest_at_ns = c->due_ns - begun_ns;
    }
    if (now - since > got.gap_ns) {
        got.gap_ns = now - since;
        got.gap_at_ns = since - begun_ns;
    }
    got.last_done_ns = now;
}

static void begin(struct conn *c, int64_t due_ns);

static void
done(struct conn *c)
{
    note_wait(c, now_ns());
    got.done++;
    got.bytes += c->bytes;
    if (c->post) {
        got.posts_done++;
        if (list != NULL && fwrite(&c->id, sizeof c->id, 1, list) != 1)
            die(cfg.list);
    }
    got.closed_in_order += c->close_after && !cfg.fresh;
    if (c->close_after)
        hang_up(c);
    c->state = IDLE;
    n_busy--;
    if (c->owed > 0) {
        c->owed--;
        begin(c, c->next_due_ns);
    }
}

/* ---- requests -------------------------------------------------------------------------------- */

static void
dial(struct conn *c)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    int one = 1;

    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    got.dialled++;
    c->state = DIAL;
    if ((connect(c->fd, (struct sockaddr *)&cfg.to, sizeof cfg.to) < 0 && errno != EINPROGRESS) ||
        epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev) < 0)
        fail(c, F_CONNECT, errno);
}

static void
build_request(struct conn *c)
{
    char delay[16] = "", length[48] = "";

    if (cfg.delay_ms > 0 && !c->post)
        snprintf(delay, sizeof delay, "/%u", cfg.delay_ms);
    if (c->post)
        snprintf(length, sizeof length, "Content-Length: %ju\r\n", (uintmax_t)c->bytes);
    c->request_len =
        (size_t)snprintf(c->request, sizeof c->request,
                         "%s /c/%ju/%ju%s HTTP/1.1\r\nHost: steady.example\r\n%s%s\r\n",
                         c->post ? "POST" : "GET", (uintmax_t)c->id, (uintmax_t)c->bytes, delay,
                         length, cfg.fresh ? "Connection: close\r\n" : "");
    if (c->post) {
        ids_fill(c->request + c->request_len, c->id, IDS_ASKED, 0, c->bytes);
        c->request_len += c->bytes;
    }
}

static void conn_run(struct conn *c);

static void
begin(struct conn *c, int64_t due_ns)
{
    uint64_t n = got.begun++;

    c->due_ns = due_ns;
    c->next_due_ns = due_ns + interval_ns * cfg.n_conns;
    c->id = cfg.first_id + n;
    c->post = (double)(ids_word(c->id, IDS_ASKED, 0) >> 11) / (1ull << 53) < cfg.post_part;
    c->bytes = cfg.sizes[n % cfg.n_sizes];
    if (c->post && c->bytes > POST_MAX)
        c->bytes = POST_MAX;
    got.posts += c->post;
    c->taken = c->sent = c->head_len = 0;
    c->status = 0;
    c->close_after = cfg.fresh;
    build_request(c);
    n_busy++;
    if (c->fd < 0) {
        dial(c); /* the first event says whether it worked */
        return;
    }
    c->state = SEND;
    conn_run(c);
}

/* A step returns true when there is more to do now. */
static bool
dialled(struct conn *c)
{
    int err = 0;
    socklen_t len = sizeof err;

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
        err = errno;
    if (err != 0) {
        fail(c, err == ECONNREFUSED ? F_REFUSED : F_CONNECT, err);
        return false;
    }
    c->state = SEND;
    return true;
}

static bool
send_request(struct conn *c)
{
    ssize_t n = send(c->fd, c->request + c->sent, c->request_len - c->sent, MSG_NOSIGNAL);

    if (n < 0) {
        if (errno != EAGAIN)
            fail(c, F_RESET, errno);
        return false;
    }
    c->sent += (size_t)n;
    if (c->sent == c->request_len)
        c->state = HEAD;
    return true;
}

/* Bytes received, or 0: to wait, or it has failed. */
static size_t
receive(struct conn *c, char *to, size_t space)
{
    ssize_t n = recv(c->fd, to, space, 0);

    if (n == 0)
        fail(c, F_CUT, 0);
    else if (n < 0 && errno != EAGAIN)
        fail(c, F_RESET, errno);
    return n > 0 ? (size_t)n : 0;
}

/* p[0 .. n) of the answer's body have come; true when more are missing. */
static bool
take(struct conn *c, const char *p, size_t n)
{
    if (n > c->bytes - c->taken || !ids_match(p, c->id, IDS_ANSWERED, c->taken, n)) {
        fail(c, F_GARBLED, 0);
        return false;
    }
    c->taken += n;
    if (c->taken < c->bytes)
        return true;
    done(c);
    return false;
}

/* The head in c->head[0 .. n). */
static bool
take_head(struct conn *c, size_t n)
{
    const char *line, *end = c->head + n - 2;
    uint64_t length = UINT64_MAX, id = UINT64_MAX;

    c->status = n > 16 && memcmp(c->head, "HTTP/1.1 ", 9) == 0 ? atoi(c->head + 9) : 0;
    if (c->status != 200) {
        fail_status(c);
        return false;
    }
    for (line = c->head; line < end; line = memchr(line, '\n', (size_t)(end - line)) + 1) {
        if (strncasecmp(line, "content-length:", 15) == 0)
            length = strtoull(line + 15, NULL, 10);
        else if (strncasecmp(line, "etag: \"", 7) == 0)
            id = strtoull(line + 7, NULL, 10);
        else if (strncasecmp(line, "connection: close", 17) == 0)
            c->close_after = true;
    }
    if (length == c->bytes && id == c->id) {
        c->state = BODY;
        return true;
    }
    fail(c, F_GARBLED, 0);
    return false;
}

static bool
read_head(struct conn *c)
{
    size_t n = receive(c, c->head + c->head_len, HEAD_BYTES - c->head_len), head;
    char *end;

    if (n == 0)
        return false;
    c->head_len += n;
    end = memmem(c->head, c->head_len, "\r\n\r\n", 4);
    if (end == NULL) {
        if (c->head_len == HEAD_BYTES)
            fail(c, F_GARBLED, 0);
        return c->state == HEAD;
    }
    head = (size_t)(end + 4 - c->head);
    return take_head(c, head) && take(c, c->head + head, c->head_len - head);
}

static bool
read_body(struct conn *c)
{
    size_t n = receive(c, scratch, sizeof scratch);

    return n > 0 && take(c, scratch, n);
}

/* An event while nothing is under way: the server has ended the connection. */
static void
look_idle(struct conn *c)
{
    char byte;
    ssize_t n = c->fd >= 0 ? recv(c->fd, &byte, 1, 0) : -1;

    if (c->fd < 0 || (n < 0 && errno == EAGAIN))
        return;
    if (n == 0) {
        got.closed_in_order++;
        hang_up(c);
        return;
    }
    fail(c, n > 0 ? F_GARBLED : F_LOST, n < 0 ? errno : 0);
}

static void
conn_run(struct conn *c)
{
    bool more;

    do {
        switch (c->state) {
        case DIAL: more = dialled(c); break;
        case SEND: more = send_request(c); break;
        case HEAD: more = read_head(c); break;
        case BODY: more = read_body(c); break;
        default: more = false; break;
        }
    } while (more);
}

static void
on_event(struct conn *c)
{
    if (c->state == IDLE)
        look_idle(c);
    else if (c->state != DEAD)
        conn_run(c);
}

/* ---- a run ----------------------------------------------------------------------------------- */

/* Begins what is due. */
static void
tick(int64_t now)
{
    for (; next_tick < n_ticks; next_tick++) {
        int64_t due_ns = begun_ns + (int64_t)next_tick * interval_ns;
        struct conn *c = &conns[next_tick % cfg.n_conns];

        if (due_ns > now)
            return;
        if (c->state == IDLE)
            begin(c, due_ns);
        else if (c->state == DEAD || c->owed == MAX_OWED)
            got.left_out++;
        else
            c->owed++;
    }
}

static void
look_for_stalled(int64_t now)
{
    for (unsigned i = 0; i < cfg.n_conns; i++)
        if (conns[i].state != IDLE && conns[i].state != DEAD &&
            now - conns[i].due_ns > cfg.timeout_ns)
            fail(&conns[i], F_TIMEOUT, 0);
}

static void
run(void)
{
    struct epoll_event evs[BATCH];
    int64_t now, look_ns;
    struct timespec ts = {0};
    int n;

    begun_ns = look_ns = now = now_ns();
    while (next_tick < n_ticks || n_busy > 0) {
        int64_t wait = begun_ns + (int64_t)next_tick * interval_ns - now;

        if (next_tick == n_ticks || wait > LOOK_NS)
            wait = LOOK_NS;
        ts.tv_nsec = wait > 0 ? wait : 0;
        n = epoll_pwait2(ep, evs, BATCH, &ts, NULL);
        for (int i = 0; i < n; i++)
            on_event(evs[i].data.ptr);
        now = now_ns();
        tick(now);
        if (now - look_ns > LOOK_NS) {
            look_for_stalled(now);
            look_ns = now;
        }
    }
}

static void
report(void)
{
    unsigned n_dead = 0;

    for (unsigned i = 0; i < cfg.n_conns; i++)
        n_dead += conns[i].state == DEAD;
    printf("{\"requests\": %ju, \"done\": %ju, \"posts\": %ju, \"posts_done\": %ju, "
           "\"bytes\": %ju, \"failed\": %ju, \"posts_failed\": %ju, \"connections_lost\": %u, "
           "\"dialled\": %ju, \"closed_in_order\": %ju, \"left_out\": %ju, \"seconds\": %.3f, "
           "\"p50_ms\": %.3f, \"p99_ms\": %.3f, \"p999_ms\": %.3f, \"longest_ms\": %.1f, "
           "\"longest_at_s\": %.3f, \"gap_ms\": %.1f, \"gap_at_s\": %.3f",
           (uintmax_t)got.begun, (uintmax_t)got.done, (uintmax_t)got.posts,
           (uintmax_t)got.posts_done, (uintmax_t)got.bytes, (uintmax_t)got.failed,
           (uintmax_t)got.posts_failed, n_dead, (uintmax_t)got.dialled,
           (uintmax_t)got.closed_in_order, (uintmax_t)got.left_out,
           (double)(now_ns() - begun_ns) / 1e9, histogram_us(&got.waits, 0.5) / 1e3,
           histogram_us(&got.waits, 0.99) / 1e3, histogram_us(&got.waits, 0.999) / 1e3,
           (double)got.longest_ns / 1e6, (double)got.longest_at_ns / 1e9, (double)got.gap_ns / 1e6,
           (double)got.gap_at_ns / 1e9);
    for (int i = 0; i < F_COUNT; i++)
        printf(", \"%s\": %ju", failure_names[i], (uintmax_t)got.failures[i]);
    for (int i = 0; i < 600; i++)
        if (got.statuses[i] > 0)
            printf(", \"status_%d\": %ju", i, (uintmax_t)got.statuses[i]);
    puts("}");
}

static void
read_sizes(char *text)
{
    char *save = NULL;

    cfg.n_sizes = 0;
    for (char *p = strtok_r(text, ",", &save); p && cfg.n_sizes < MAX_SIZES;
         p = strtok_r(NULL, ",", &save))
        cfg.sizes[cfg.n_sizes++] = strtoull(p, NULL, 10);
}

static _Noreturn void
usage(void)
{
    fputs("usage: steady [-a ADDRESS] -p PORT [-c CONNECTIONS] [-r REQUESTS_PER_S] [-t SECONDS]\n"
          "              [-s BYTES,BYTES,...] [-P PART_OF_POSTS (0 to 1)] [-d DELAY_MS (of GETs)]\n"
          "              [-i FIRST_ID] [-T TIMEOUT_S] [-L LIST_OF_POSTS]\n"
          "              [-w MS (tell waits that are longer)]\n"
          "              [-f (a fresh connection each)]\n",
          stderr);
    exit(2);
}

static void
read_options(int argc, char **argv)
{
    int o;

    cfg.to = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    while ((o = getopt(argc, argv, "a:p:c:r:t:s:P:d:i:T:L:w:f")) != -1)
        switch (o) {
        case 'a':
            if (inet_pton(AF_INET, optarg, &cfg.to.sin_addr) != 1)
                usage();
            break;
        case 'p': cfg.to.sin_port = htons((uint16_t)atoi(optarg)); break;
        case 'c': cfg.n_conns = (unsigned)atoi(optarg); break;
        case 'r': cfg.per_s = atof(optarg); break;
        case 't': cfg.seconds = atof(optarg); break;
        case 's': read_sizes(optarg); break;
        case 'P': cfg.post_part = atof(optarg); break;
        case 'd': cfg.delay_ms = (unsigned)atoi(optarg); break;
        case 'i': cfg.first_id = strtoull(optarg, NULL, 10); break;
        case 'T': cfg.timeout_ns = (int64_t)(atof(optarg) * 1e9); break;
        case 'L': cfg.list = optarg; break;
        case 'w': cfg.tell_ns = (int64_t)(atof(optarg) * 1e6); break;
        case 'f': cfg.fresh = true; break;
        default: usage();
        }
    if (cfg.to.sin_port == 0 || cfg.n_conns == 0 || cfg.per_s <= 0 || cfg.n_sizes == 0)
        usage();
}

int
main(int argc, char **argv)
{
    read_options(argc, argv);
    raise_descriptor_limit();
    signal(SIGPIPE, SIG_IGN);
    interval_ns = (int64_t)(1e9 / cfg.per_s);
    n_ticks = (uint64_t)(cfg.seconds * cfg.per_s);
    ep = epoll_create1(EPOLL_CLOEXEC);
    conns = calloc(cfg.n_conns, sizeof *conns);
    if (ep < 0 || conns == NULL || interval_ns <= 0)
        die("cannot start");
    for (unsigned i = 0; i < cfg.n_conns; i++)
        conns[i].fd = -1;
    if (cfg.list != NULL && (list = fopen(cfg.list, "w")) == NULL)
        die(cfg.list);
    run();
    report();
    if (list != NULL && fclose(list) != 0)
        die(cfg.list);
    return got.failed > 0 ? 1 : 0;
}
