/* SPDX-License-Identifier: BSD-2-Clause
 *
 * agents.c - the agents of a whole fleet in one process, for bench/cluster.
 *
 *   agents -b 127.1.0.1 -p PORT -n COUNT
 *
 * Agent i listens at the address i above the first.  To a watcher it is `meercat agent`: a chunked
 * stream of lines at whole multiples of the interval on the wall clock, all agents' at once, as
 * many hosts do whose clocks are right.  What the lines say is made up, and moves a little.
 *
 * seq is the wall clock in ms when the line was written: who knows the number of a report knows how
 * old it is.  It ends when its standard input does. */
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "tool.h"

#define GRAIN_MS   20 /* the least interval; others are multiples of it */
#define HEAD_BYTES 1024
#define LINE_BYTES 640
#define BATCH      256
#define CORES      4

struct agent {
    double cpu_s, busy; /* cores in use; moves between 0.2 and CORES - 0.2 */
    int64_t at_ms;
};

/* A listener, or a watcher's connection. */
struct end {
    int fd;
    struct agent *agent;
    bool listens;
    int64_t interval_ms; /* 0: has not asked yet */
    int64_t period;      /* of the last line: whole intervals since 1970 */
    struct end **prev, *next;
    unsigned n;
    char head[HEAD_BYTES];
};

static struct end *watchers; /* that have asked */
static int ep;
static int64_t boot_ms;
static uint64_t n_lines, n_late;

static int64_t
wall_ms(void)
{
    return clock_ns(CLOCK_REALTIME) / 1000000;
}

/* ---- lines ----------------------------------------------------------------------------------- */

static void
live_on(struct agent *a, int64_t now_ms)
{
    if (a->at_ms == now_ms)
        return;
    a->cpu_s += a->busy * (double)(now_ms - a->at_ms) / 1e3;
    a->at_ms = now_ms;
    a->busy += ((double)random() / (double)RAND_MAX - 0.5) * 0.4;
    a->busy = a->busy < 0.2 ? 0.2 : a->busy > CORES - 0.2 ? CORES - 0.2 : a->busy;
}

static int
write_line(struct agent *a, int64_t now_ms, char out[LINE_BYTES])
{
    char line[LINE_BYTES - 16];
    int n;

    live_on(a, now_ms);
    n = snprintf(line, sizeof line,
                 "cpu_utilization=%.6g,mem_utilization=0.271828,named_metrics.cores=%d,"
                 "named_metrics.cpu_seconds=%.6f,named_metrics.cpu_pressure=0.001234,"
                 "named_metrics.host_cpu=%.6g,named_metrics.host_cores=%d,"
                 "named_metrics.run_queue=2,named_metrics.mem_bytes=679690240,"
                 "named_metrics.mem_limit=8589934592,named_metrics.mem_pressure=0,"
                 "named_metrics.io_pressure=0,named_metrics.boot=%jd,named_metrics.seq=%jd,"
                 "named_metrics.time=%jd\n",
                 a->busy / CORES, CORES, a->cpu_s, a->busy / CORES, CORES, (intmax_t)boot_ms,
                 (intmax_t)now_ms, (intmax_t)now_ms);
    return snprintf(out, LINE_BYTES, "%x\r\n%s\r\n", (unsigned)n, line);
}

static void
tell(struct end *e)
{
    char out[LINE_BYTES];
    int n = write_line(e->agent, wall_ms(), out);

    /* who does not keep up misses lines, as with the real one; half a line would be nonsense */
    if (send(e->fd, out, (size_t)n, MSG_NOSIGNAL) == n)
        n_lines++;
    else
        n_late++;
}

/* A tick that came late tells what is due since; one that was missed is not made up for. */
static void
tell_all(void)
{
    int64_t now_ms = wall_ms();

    for (struct end *e = watchers; e; e = e->next) {
        int64_t period = now_ms / e->interval_ms;

        if (period == e->period)
            continue;
        e->period = period;
        tell(e);
    }
}

/* ---- connections ----------------------------------------------------------------------------- */

static void
watch(struct end *e)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = e};

    if (epoll_ctl(ep, EPOLL_CTL_ADD, e->fd, &ev) < 0)
        die("epoll_ctl");
}

static void
take_watcher(struct end *listener)
{
    int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;
    struct end *e;

    if (fd < 0)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    e = calloc(1, sizeof *e);
    if (!e)
        die("out of memory");
    e->fd = fd;
    e->agent = listener->agent;
    watch(e);
}

static void
drop(struct end *e)
{
    if (e->prev) {
        *e->prev = e->next;
        if (e->next)
            e->next->prev = e->prev;
    }
    close(e->fd);
    free(e);
}

static void
begin_stream(struct end *e, int64_t interval_ms)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n";

    if (send(e->fd, head, sizeof head - 1, MSG_NOSIGNAL) != sizeof head - 1) {
        drop(e);
        return;
    }
    e->interval_ms = interval_ms;
    e->period = wall_ms() / interval_ms;
    e->next = watchers;
    e->prev = &watchers;
    if (watchers)
        watchers->prev = &e->next;
    watchers = e;
}

/* "GET /load?interval=100ms"; a second is written "1s". */
static int64_t
asked_interval(const char *head)
{
    const char *at = strstr(head, "interval=");
    char *unit;
    int64_t n = at ? strtoll(at + 9, &unit, 10) : 0;

    if (n > 0 && strncmp(unit, "ms", 2) != 0)
        n *= 1000;
    return n > 0 && n % GRAIN_MS == 0 ? n : 0;
}

static void
hear(struct end *e)
{
    ssize_t n = recv(e->fd, e->head + e->n, sizeof e->head - 1 - e->n, 0);
    int64_t interval_ms;

    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0 || e->interval_ms > 0) { /* it has ended, or says what nobody asked for */
        drop(e);
        return;
    }
    e->n += (unsigned)n;
    e->head[e->n] = '\0';
    if (!strstr(e->head, "\r\n\r\n"))
        return;
    interval_ms = asked_interval(e->head);
    if (interval_ms > 0)
        begin_stream(e, interval_ms);
    else
        drop(e);
}

/* ---- the program ----------------------------------------------------------------------------- */

static void
make_agents(const char *first, uint16_t port, unsigned n)
{
    struct agent *a = calloc(n, sizeof *a);
    struct end *e = calloc(n, sizeof *e);
    struct in_addr at;
    char text[INET_ADDRSTRLEN];

    if (!a || !e || inet_pton(AF_INET, first, &at) != 1)
        die(first);
    for (unsigned i = 0; i < n; i++) {
        struct in_addr here = {htonl(ntohl(at.s_addr) + i)};

        a[i] = (struct agent){.busy = (double)CORES * (i % 10) / 10, .at_ms = boot_ms};
        e[i].agent = &a[i];
        e[i].listens = true;
        e[i].fd = listen_at(inet_ntop(AF_INET, &here, text, sizeof text), port, SOCK_NONBLOCK);
        watch(&e[i]);
    }
}

/* Whole multiples of the grain on the wall clock. */
static int
make_clock(void)
{
    int fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    int64_t first_ms = (wall_ms() / GRAIN_MS + 1) * GRAIN_MS;
    struct itimerspec t = {
        .it_value = {.tv_sec = first_ms / 1000, .tv_nsec = first_ms % 1000 * 1000000},
        .it_interval = {.tv_nsec = GRAIN_MS * 1000000},
    };

    if (fd < 0 || timerfd_settime(fd, TFD_TIMER_ABSTIME, &t, NULL) < 0)
        die("timerfd");
    return fd;
}

static void
run(int clock)
{
    struct end on_clock = {.fd = clock}, on_input = {.fd = STDIN_FILENO};
    struct epoll_event evs[BATCH];
    char text[16];
    uint64_t ticks;

    watch(&on_clock);
    watch(&on_input);
    for (;;) {
        int n = epoll_wait(ep, evs, BATCH, -1);
        bool due = false;

        for (int i = 0; i < n; i++) {
            struct end *e = evs[i].data.ptr;

            if (e == &on_input && read(e->fd, text, sizeof text) <= 0)
                return;
            if (e == &on_clock)
                due = read(e->fd, &ticks, sizeof ticks) > 0;
            else if (e->listens)
                take_watcher(e);
            else if (e != &on_input)
                hear(e);
        }
        if (due) /* at the end: lists are whole again */
            tell_all();
    }
}

int
main(int argc, char **argv)
{
    const char *first = "127.1.0.1";
    unsigned n = 1;
    uint16_t port = 7708;
    int o;

    while ((o = getopt(argc, argv, "b:p:n:")) != -1)
        switch (o) {
        case 'b': first = optarg; break;
        case 'p': port = (uint16_t)atoi(optarg); break;
        case 'n': n = (unsigned)atoi(optarg); break;
        default: fputs("usage: agents [-b FIRST_ADDRESS] [-p PORT] [-n COUNT]\n", stderr); return 2;
        }
    raise_descriptor_limit();
    ep = epoll_create1(EPOLL_CLOEXEC);
    if (ep < 0)
        die("epoll");
    boot_ms = wall_ms();
    make_agents(first, port, n);
    puts("ready");
    fflush(stdout);
    run(make_clock());
    printf("%ju lines, %ju not taken\n", (uintmax_t)n_lines, (uintmax_t)n_late);
    return 0;
}
