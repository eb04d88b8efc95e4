/* SPDX-License-Identifier: BSD-2-Clause
 *
 * log.c - the error log and its ring.
 *
 * The lock covers the copy into the ring, never the write(2): a reader of standard error that is
 * slow may hold up the thread that speaks, not the others.
 */
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"

#define LINE_BYTES 1024 /* twice an errbuf; below PIPE_BUF, so that lines never mix in a pipe */
#define RING_LINES 64

static const struct {
    const char *name;
    int syslog; /* sd-daemon(3) */
} levels[] = {
    [LOG_LEVEL_ERROR] = {"error", 3},
    [LOG_LEVEL_WARN] = {"warn", 4},
    [LOG_LEVEL_INFO] = {"info", 6},
    [LOG_LEVEL_DEBUG] = {"debug", 7},
};

static _Atomic unsigned max_level = LOG_LEVEL_INFO;
static atomic_bool for_systemd;

static struct {
    pthread_mutex_t lock;
    unsigned next; /* lines ever kept; the next one goes to next % RING_LINES */
    unsigned short bytes[RING_LINES];
    char line[RING_LINES][LINE_BYTES];
} ring = {.lock = PTHREAD_MUTEX_INITIALIZER};

void
log_setup(enum log_level level, bool systemd)
{
    atomic_store_explicit(&max_level, level, memory_order_relaxed);
    atomic_store_explicit(&for_systemd, systemd, memory_order_relaxed);
}

bool
log_wants(enum log_level level)
{
    return (unsigned)level <= atomic_load_explicit(&max_level, memory_order_relaxed);
}

/* A write that fails is not reported: this is where failures are reported. */
static void
write_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, p, n);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return;
        p += done;
        n -= (size_t)done;
    }
}

static size_t
put_prefix(char *line, size_t room, enum log_level level)
{
    int64_t wall_ns;
    time_t sec;
    struct tm tm;
    int n;

    if (atomic_load_explicit(&for_systemd, memory_order_relaxed)) {
        n = snprintf(line, room, "<%d>", levels[level].syslog);
        return (size_t)n;
    }
    wall_ns = units_wall_ns();
    sec = (time_t)(wall_ns / MC_SEC);
    gmtime_r(&sec, &tm);
    n = snprintf(line, room, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ %-5s ", tm.tm_year + 1900,
                 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                 (int)(wall_ns % MC_SEC / MC_MS), levels[level].name);
    return (size_t)n;
}

/* A message may quote what a stranger sent: it must not be able to begin a line of its own. */
static void
blunt_controls(char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)p[i] < 0x20 || p[i] == 0x7f)
            p[i] = p[i] == '\t' || p[i] == '\n' ? ' ' : '?';
}

static void
ring_keep(const char *line, size_t n)
{
    unsigned at;

    pthread_mutex_lock(&ring.lock);
    at = ring.next++ % RING_LINES;
    memcpy(ring.line[at], line, n);
    ring.bytes[at] = (unsigned short)n;
    pthread_mutex_unlock(&ring.lock);
}

void
log_line(enum log_level level, const char *fmt, ...)
{
    char line[LINE_BYTES];
    size_t start, n;
    va_list ap;
    int wish;

    MC_ASSERT((size_t)level < MC_COUNT(levels));
    if (!log_wants(level))
        return;
    start = put_prefix(line, sizeof(line), level);
    va_start(ap, fmt);
    wish = vsnprintf(line + start, sizeof(line) - start, fmt, ap);
    va_end(ap);
    if (wish < 0)
        return;
    n = start + (size_t)wish;
    if (n > sizeof(line) - 1) {
        n = sizeof(line) - 1;
        memcpy(line + n - 3, "...", 3);
    }
    blunt_controls(line + start, n - start);
    line[n++] = '\n'; /* in the place of the NUL */
    ring_keep(line, n);
    write_all(STDERR_FILENO, line, n);
}

bool
log_limit_ok(struct log_limit *l, mc_ns now, unsigned *swallowed)
{
    return log_limit_many(l, 1, now, swallowed);
}

/* Each line takes its part of a second, and they may be a second ahead (GCRA). */
bool
log_limit_many(struct log_limit *l, unsigned most, mc_ns now, unsigned *swallowed)
{
    const mc_ns part = MC_SEC / most, from = l->next_ns > now ? l->next_ns : now;

    if (from + part > now + MC_SEC) {
        l->swallowed++;
        return false;
    }
    *swallowed = l->swallowed;
    l->swallowed = 0;
    l->next_ns = from + part;
    return true;
}

/* The lock is only tried: who panics may hold it, and a torn line is better than a silent death. */
void
log_dump_ring(int fd)
{
    bool locked = pthread_mutex_trylock(&ring.lock) == 0;
    unsigned end = ring.next;
    unsigned at = end > RING_LINES ? end - RING_LINES : 0;

    for (; at != end; at++) {
        write_all(fd, "  ", 2);
        write_all(fd, ring.line[at % RING_LINES], ring.bytes[at % RING_LINES]);
    }
    if (locked)
        pthread_mutex_unlock(&ring.lock);
}
