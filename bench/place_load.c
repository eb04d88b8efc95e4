/* SPDX-License-Identifier: BSD-2-Clause
 *
 * place_load.c - the clients of bench/placement: an open loop of one thread.
 *
 * When each request comes, and what it needs, is drawn before the first one is sent (Poisson
 * arrivals; needs lognormal around those of the class), and follows from the seed alone: every
 * balancer gets the very same load.  Nobody waits for answers.  A request's time begins when it was
 * due, not when it could be sent, so that a balancer that lets requests wait cannot hide it
 * (coordinated omission).  What has no answer by its deadline is an error that took so long.
 *
 * One line for each request, tab-separated: when it was due (us; below 0 in the warm-up), class,
 * status or what went wrong, server, latency (us).
 *
 *   place_load -p PORT [-p ...] -r REQUESTS_PER_S -t SECONDS -c CLASS [-c CLASS ...]
 *
 * with CLASS a name, its share, and what it needs: "cheap:80:2000:0:0" is cpu us, wait us, MB. */
#include <getopt.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <strings.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "tool.h"

#define CLASSES    16
#define HEAD_BYTES 2048
#define TEXT_BYTES 256
#define BATCH      256
#define TARGETS    16
#define SPREAD     0.5 /* sigma of the lognormal distribution of needs within a class */

enum outcome { DUE, WAITING, ANSWERED, TIMEOUT, BROKEN, REFUSED, UNREADABLE };
static const char *const outcome_names[] = {"due",    "waiting", "answered",  "timeout",
                                            "broken", "connect", "unreadable"};

struct class
{
    char name[32];
    double share, cpu_us, wait_us;
    long mem_mb;
};

struct request {
    int64_t at_ns; /* since the beginning of the warm-up */
    struct conn *conn;
    long cpu_us, wait_us, latency_us;
    uint8_t class, outcome, to;
    uint16_t status;
    char server[20];
};

enum state { CONNECT, SEND, READ, IDLE };

struct conn {
    int fd;
    enum state state;
    struct request *request;
    struct conn *next; /* idle, or dead */
    uint32_t sent, text_len, head_len;
    int64_t to_read; /* of the body; -1: the head is not whole yet */
    bool close_after, gone;
    uint8_t to;
    char text[TEXT_BYTES], head[HEAD_BYTES];
};

static struct {
    struct sockaddr_in to[TARGETS];
    unsigned n_to;
    double per_s, warm_s, run_s;
    int64_t deadline_ns;
    unsigned max_conns, n_classes;
    uint64_t seed;
    struct class class[CLASSES];
} cfg = {.per_s = 100, .run_s = 1, .deadline_ns = 10000000000ll, .max_conns = 1000, .seed = 1};

static struct request *requests;
static size_t n_requests, n_begun, n_sent, n_over;
static struct conn *idle[TARGETS], *dead;
static unsigned n_conns;
static int64_t begun_ns;
static int ep;

static int64_t
now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC) - begun_ns;
}

/* --- what will be asked ------------------------------------------------------------------------
 */

/* splitmix64 (Steele, Lea, Flood 2014); in (0, 1]. */
static double
draw(void)
{
    uint64_t z = (cfg.seed += 0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    z ^= z >> 31;
    return (double)((z >> 11) + 1) * 0x1p-53;
}

/* Lognormal, so that the mean is as given (Box and Muller 1958). */
static long
draw_need(double mean)
{
    double normal = sqrt(-2 * log(draw())) * cos(2 * M_PI * draw());

    return lround(mean * exp(SPREAD * normal - SPREAD * SPREAD / 2));
}

static uint8_t
draw_class(void)
{
    double sum = 0, at;
    uint8_t c = 0;

    for (unsigned i = 0; i < cfg.n_classes; i++)
        sum += cfg.class[i].share;
    at = draw() * sum;
    while (c < cfg.n_classes - 1 && (at -= cfg.class[c].share) > 0)
        c++;
    return c;
}

static void
make_schedule(void)
{
    double end_s = cfg.warm_s + cfg.run_s, at_s = 0;
    size_t cap = (size_t)(end_s * cfg.per_s * 2) + 1000;

    requests = calloc(cap, sizeof *requests);
    if (requests == NULL)
        die("out of memory");
    while ((at_s -= log(draw()) / cfg.per_s) < end_s && n_requests < cap) {
        struct request *r = &requests[n_requests++];

        r->at_ns = (int64_t)(at_s * 1e9);
        r->class = draw_class();
        r->cpu_us = draw_need(cfg.class[r->class].cpu_us);
        r->wait_us = draw_need(cfg.class[r->class].wait_us);
        r->to = (uint8_t)(draw() * cfg.n_to) % cfg.n_to;
    }
}

/* --- a connection ------------------------------------------------------------------------------
 */

static void
conn_close(struct conn *c)
{
    close(c->fd);
    c->gone = true;
    c->next = dead; /* events of this turn may still name it */
    dead = c;
    n_conns--;
}

static void
reap(void)
{
    while (dead != NULL) {
        struct conn *next = dead->next;

        free(dead);
        dead = next;
    }
}

static void
unlink_idle(struct conn *c)
{
    struct conn **at = &idle[c->to];

    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
}

/* The request under way is over. */
static void
finish(struct conn *c, enum outcome how)
{
    struct request *r = c->request;

    r->outcome = (uint8_t)how;
    r->latency_us = (now_ns() - r->at_ns) / 1000;
    r->conn = NULL;
    c->request = NULL;
    n_over++;
    if (how != ANSWERED || c->close_after) {
        conn_close(c);
        return;
    }
    c->state = IDLE;
    c->next = idle[c->to];
    idle[c->to] = c;
}

static void
conn_open(struct conn *c)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    int one = 1;

    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        die("socket");
    n_conns++;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->state = CONNECT;
    if ((connect(c->fd, (struct sockaddr *)&cfg.to[c->to], sizeof cfg.to[0]) < 0 &&
         errno != EINPROGRESS) ||
        epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev) < 0)
        finish(c, REFUSED);
}

/* A step returns true when there is more to do now. */
static bool
connected(struct conn *c)
{
    int err = 0;
    socklen_t len = sizeof err;

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0 || err != 0) {
        finish(c, REFUSED);
        return false;
    }
    c->state = SEND;
    return true;
}

static bool
send_text(struct conn *c)
{
    ssize_t n = send(c->fd, c->text + c->sent, c->text_len - c->sent, MSG_NOSIGNAL);

    if (n < 0) {
        if (errno != EAGAIN)
            finish(c, BROKEN);
        return false;
    }
    c->sent += (uint32_t)n;
    if (c->sent == c->text_len)
        c->state = READ;
    return true;
}

static void
take_fields(struct conn *c, const char *line, const char *end)
{
    for (; line < end; line = strchr(line, '\n') + 1) {
        if (strncasecmp(line, "content-length:", 15) == 0)
            c->to_read = strtoll(line + 15, NULL, 10);
        else if (strncasecmp(line, "connection: close", 17) == 0)
            c->close_after = true;
        else if (strncasecmp(line, "x-server: ", 10) == 0)
            snprintf(c->request->server, sizeof c->request->server, "%.*s",
                     (int)strcspn(line + 10, "\r"), line + 10);
    }
}

/* True: the head is there, and c->to_read says what is missing of the body. */
static bool
take_head(struct conn *c)
{
    const char *end;

    c->head[c->head_len] = '\0';
    end = strstr(c->head, "\r\n\r\n");
    if (end == NULL)
        return false;
    if (sscanf(c->head, "HTTP/1.%*c %hu", &c->request->status) != 1)
        return false;
    take_fields(c, c->head, end + 2);
    if (c->to_read >= 0)
        c->to_read -= c->head + c->head_len - (end + 4);
    return true;
}

static bool
read_answer(struct conn *c)
{
    char body[4096];
    bool head = c->to_read < 0;
    ssize_t n = head ? recv(c->fd, c->head + c->head_len, HEAD_BYTES - 1 - c->head_len, 0)
                     : recv(c->fd, body, sizeof body, 0);

    if (n <= 0) {
        if (n == 0 || errno != EAGAIN)
            finish(c, head && c->head_len == HEAD_BYTES - 1 ? UNREADABLE : BROKEN);
        return false;
    }
    if (head) {
        c->head_len += (uint32_t)n;
        if (!take_head(c))
            return true;
    } else {
        c->to_read -= n;
    }
    if (c->to_read > 0)
        return true;
    finish(c, c->to_read == 0 ? ANSWERED : UNREADABLE);
    return false;
}

static void
conn_run(struct conn *c)
{
    bool more = true;

    while (more && !c->gone)
        switch (c->state) {
        case CONNECT: more = connected(c); break;
        case SEND: more = send_text(c); break;
        case READ: more = read_answer(c); break;
        case IDLE: more = false; break;
        }
}

/* --- the loop ----------------------------------------------------------------------------------
 */

static void
begin(struct request *r, size_t number)
{
    const struct class *k = &cfg.class[r->class];
    struct conn *c = idle[r->to];
    bool fresh = c == NULL;

    if (fresh && (c = calloc(1, sizeof *c)) == NULL)
        die("out of memory");
    if (!fresh)
        idle[r->to] = c->next;
    c->request = r;
    c->to = r->to;
    c->sent = c->head_len = 0;
    c->to_read = -1;
    c->text_len = (uint32_t)snprintf(c->text, sizeof c->text,
                                     "GET /%s/%zu?cpu=%ld&wait=%ld&mem=%ld HTTP/1.1\r\n"
                                     "Host: bench.example\r\n\r\n",
                                     k->name, number, r->cpu_us, r->wait_us, k->mem_mb);
    r->conn = c;
    r->outcome = WAITING;
    if (fresh) {
        conn_open(c);
        return;
    }
    c->state = SEND;
    conn_run(c);
}

/* Those that are due, as far as there are connections for them. */
static void
begin_due(int64_t now)
{
    while (n_begun < n_requests && requests[n_begun].at_ns <= now &&
           (idle[requests[n_begun].to] != NULL || n_conns < cfg.max_conns)) {
        if (requests[n_begun].outcome == DUE)
            begin(&requests[n_begun], n_begun);
        n_begun++;
    }
}

/* n_sent: the first that may still reach its deadline. */
static void
end_late(int64_t now)
{
    for (; n_sent < n_requests && requests[n_sent].at_ns + cfg.deadline_ns <= now; n_sent++) {
        struct request *r = &requests[n_sent];

        if (r->conn != NULL) {
            finish(r->conn, TIMEOUT);
        } else if (r->outcome == DUE) {
            r->outcome = TIMEOUT;
            r->latency_us = cfg.deadline_ns / 1000;
            n_over++;
        }
    }
}

static int64_t
next_ns(int64_t now)
{
    int64_t next = INT64_MAX;

    if (n_begun < n_requests && requests[n_begun].at_ns > now)
        next = requests[n_begun].at_ns;
    if (n_sent < n_requests && requests[n_sent].at_ns + cfg.deadline_ns < next)
        next = requests[n_sent].at_ns + cfg.deadline_ns;
    return next > now ? next - now : 0;
}

static void
on_event(const struct epoll_event *ev)
{
    struct conn *c = ev->data.ptr;

    if (c->gone)
        return;
    if (c->state == IDLE) {
        if (ev->events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
            unlink_idle(c);
            conn_close(c);
        }
        return;
    }
    conn_run(c);
}

static void
run(void)
{
    struct epoll_event evs[BATCH];
    int64_t wait;
    int n;

    begun_ns = clock_ns(CLOCK_MONOTONIC);
    while (n_over < n_requests) {
        wait = next_ns(now_ns());
        n = epoll_pwait2(ep, evs, BATCH, &(struct timespec){wait / 1000000000, wait % 1000000000},
                         NULL);
        for (int i = 0; i < n; i++)
            on_event(&evs[i]);
        end_late(now_ns());
        begin_due(now_ns());
        reap();
    }
}

static void
report(void)
{
    int64_t warm_ns = (int64_t)(cfg.warm_s * 1e9);

    for (size_t i = 0; i < n_requests; i++) {
        const struct request *r = &requests[i];

        printf("%jd\t%s\t", (intmax_t)((r->at_ns - warm_ns) / 1000), cfg.class[r->class].name);
        if (r->outcome == ANSWERED)
            printf("%u", r->status);
        else
            fputs(outcome_names[r->outcome], stdout);
        printf("\t%s\t%ld\n", r->server[0] ? r->server : "-", r->latency_us);
    }
}

/* --- the program -------------------------------------------------------------------------------
 */

static void
add_target(const char *port)
{
    if (cfg.n_to == TARGETS)
        die("too many ports");
    cfg.to[cfg.n_to++] = (struct sockaddr_in){.sin_family = AF_INET,
                                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                              .sin_port = htons((uint16_t)atoi(port))};
}

static void
add_class(const char *text)
{
    struct class *k = &cfg.class[cfg.n_classes];

    errno = EINVAL;
    if (cfg.n_classes == CLASSES || sscanf(text, "%31[a-z]:%lf:%lf:%lf:%ld", k->name, &k->share,
                                           &k->cpu_us, &k->wait_us, &k->mem_mb) != 5)
        die(text);
    cfg.n_classes++;
}

int
main(int argc, char **argv)
{
    int o;

    while ((o = getopt(argc, argv, "p:r:t:w:s:d:n:c:")) != -1)
        switch (o) {
        case 'p': add_target(optarg); break;
        case 'r': cfg.per_s = atof(optarg); break;
        case 't': cfg.run_s = atof(optarg); break;
        case 'w': cfg.warm_s = atof(optarg); break;
        case 's': cfg.seed = strtoull(optarg, NULL, 10); break;
        case 'd': cfg.deadline_ns = (int64_t)(atof(optarg) * 1e9); break;
        case 'n': cfg.max_conns = (unsigned)atoi(optarg); break;
        case 'c': add_class(optarg); break;
        default: cfg.n_classes = 0; optind = argc;
        }
    if (cfg.n_classes == 0 || cfg.n_to == 0 || cfg.max_conns == 0 || !(cfg.per_s > 0)) {
        fputs("usage: place_load -p PORT -r REQUESTS_PER_S -t SECONDS [-w WARM_UP_SECONDS]\n"
              "                  [-s SEED] [-d DEADLINE_S] [-n CONNECTIONS]\n"
              "                  -c NAME:SHARE:CPU_US:WAIT_US:MB [-c ...]\n",
              stderr);
        return 2;
    }
    raise_descriptor_limit();
    ep = epoll_create1(EPOLL_CLOEXEC);
    if (ep < 0)
        die("epoll");
    make_schedule();
    run();
    report();
    return 0;
}
