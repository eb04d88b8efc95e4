/* SPDX-License-Identifier: BSD-2-Clause
 *
 * access_log.c - one line a request.
 *
 * Workers write to one descriptor whose number never changes: opening the file anew puts the new
 * one under the old number by dup3(2), which a write that runs at that moment cannot notice.
 */
#include "proxy/access_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/units.h"

#define ACCESS_LOG_MAGIC 0x414c4f47u
/* A turn that ends many requests writes before its end: keeps the buffer near the size of one write
 * that a disk likes, and bounds it. */
#define FLUSH_BYTES      (64 * 1024)

struct access_log {
    unsigned magic;
    enum access_format format;
    int fd;
    bool is_file; /* not stderr or stdout: can be opened again */
    char *path;
    atomic_ullong lost_bytes;
    _Atomic int64_t complain_ns; /* not before this time again */
};

static int
open_path(const char *path)
{
    if (strcmp(path, "stderr") == 0)
        return fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    if (strcmp(path, "stdout") == 0)
        return fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
}

struct access_log *
access_log_open(const char *path, enum access_format format, struct errbuf *e)
{
    int fd = open_path(path);

    if (fd < 0) {
        err_sys(e, path);
        return NULL;
    }
    return access_log_inherit(path, format, fd);
}

struct access_log *
access_log_inherit(const char *path, enum access_format format, int fd)
{
    struct access_log *l = mc_alloc(sizeof(*l));

    l->magic = ACCESS_LOG_MAGIC;
    l->format = format;
    l->fd = fd;
    l->is_file = strcmp(path, "stderr") != 0 && strcmp(path, "stdout") != 0;
    l->path = mc_strdup(path);
    return l;
}

int
access_log_fd(const struct access_log *l)
{
    return l->fd;
}

void
access_log_close(struct access_log **lp)
{
    struct access_log *l = *lp;

    if (l == NULL)
        return;
    MC_CHECK(l, ACCESS_LOG_MAGIC);
    *lp = NULL;
    close(l->fd);
    l->magic = 0;
    free(l->path);
    free(l);
}

enum mc_err
access_log_reopen(struct access_log *l, struct errbuf *e)
{
    int fd;

    MC_CHECK(l, ACCESS_LOG_MAGIC);
    if (!l->is_file)
        return MC_OK;
    fd = open_path(l->path);
    if (fd < 0)
        return err_sys(e, l->path);
    if (dup3(fd, l->fd, O_CLOEXEC) < 0) {
        err_sys(e, l->path);
        close(fd);
        return MC_ESYS;
    }
    close(fd);
    return MC_OK;
}

const char *
access_log_path(const struct access_log *l)
{
    return l->path;
}

/* --- pieces of a line ------------------------------------------------------------------------ */

/* hot: some sixty times a request; the buffer has grown to its size after the first turns */
static inline void
put(struct buf *b, const char *p, size_t n)
{
    if (n == 0)
        return;
    if (b->cap - b->n <= n) {
        buf_add(b, p, n);
        return;
    }
    memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = '\0';
}

#define PUT(b, lit) put(b, lit, sizeof(lit) - 1)

static void
put_u64(struct buf *b, uint64_t v)
{
    char text[20], *at = text + sizeof(text);

    do {
        *--at = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    put(b, at, (size_t)(text + sizeof(text) - at));
}

/* Milliseconds with three decimals, rounded down to the microsecond. */
static void
put_ms(struct buf *b, mc_ns ns)
{
    uint64_t us = ns > 0 ? (uint64_t)(ns / MC_US) : 0;
    char fraction[4] = {'.', (char)('0' + us / 100 % 10), (char)('0' + us / 10 % 10),
                        (char)('0' + us % 10)};

    put_u64(b, us / 1000);
    put(b, fraction, sizeof(fraction));
}

/* Bytes that stand for themselves in a JSON string and in a quoted part of CLF. */
static bool
is_plain(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c < 0x20 || c >= 0x7f || c == '"' || c == '\\')
            return false;
    }
    return true;
}

static void
put_json(struct buf *b, struct str s)
{
    if (is_plain(s))
        put(b, s.p, s.n);
    else
        buf_json_text(b, s);
}

/* A line must stay one line, and its quotes must pair: everything else is \xHH, as Apache does. */
static void
put_clf(struct buf *b, struct str s)
{
    static const char hex[] = "0123456789abcdef";

    if (is_plain(s)) {
        put(b, s.p, s.n);
        return;
    }
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        char text[4] = {'\\', 'x', hex[c >> 4], hex[c & 15]};

        if (is_plain((struct str){s.p + i, 1}))
            put(b, s.p + i, 1);
        else
            put(b, text, sizeof(text));
    }
}

/* --- time ------------------------------------------------------------------------------------ */

/* A worker writes thousands of lines within one second: its text is made once. */
struct second {
    int64_t at_s;
    char rfc3339[sizeof("2026-01-31T23:59:59")];
    char clf[sizeof("31/Jan/2026:23:59:59 +0000")];
};

static const struct second *
second_of(int64_t wall_ns)
{
    static _Thread_local struct second last = {.at_s = INT64_MIN};
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t s = (time_t)(wall_ns / MC_SEC);
    struct tm tm;

    if (last.at_s == s)
        return &last;
    gmtime_r(&s, &tm);
    strftime(last.rfc3339, sizeof(last.rfc3339), "%Y-%m-%dT%H:%M:%S", &tm);
    /* not %b: the month is English whatever the locale */
    strftime(last.clf, sizeof(last.clf), "%d/Jan/%Y:%H:%M:%S +0000", &tm);
    memcpy(last.clf + 3, months[tm.tm_mon], 3);
    last.at_s = s;
    return &last;
}

static void
put_rfc3339(struct buf *b, int64_t wall_ns)
{
    const struct second *s = second_of(wall_ns);
    unsigned ms = (unsigned)(wall_ns / MC_MS % 1000);
    char tail[5] = {'.', (char)('0' + ms / 100), (char)('0' + ms / 10 % 10), (char)('0' + ms % 10),
                    'Z'};

    put(b, s->rfc3339, sizeof(s->rfc3339) - 1);
    put(b, tail, sizeof(tail));
}

/* --- JSON ------------------------------------------------------------------------------------ */

/* name: the member with its quotes, colon and leading comma, `,"host":` */
static void
member_text(struct buf *b, struct str name, struct str value)
{
    if (value.n == 0)
        return;
    put(b, name.p, name.n);
    PUT(b, "\"");
    put_json(b, value);
    PUT(b, "\"");
}

static void
member_number(struct buf *b, struct str name, uint64_t v)
{
    put(b, name.p, name.n);
    put_u64(b, v);
}

static void
member_ms(struct buf *b, struct str name, mc_ns ns)
{
    if (ns < 0)
        return;
    put(b, name.p, name.n);
    put_ms(b, ns);
}

#define TEXT(b, name, value)   member_text(b, STR(",\"" name "\":"), value)
#define NUMBER(b, name, value) member_number(b, STR(",\"" name "\":"), value)
#define MS(b, name, value)     member_ms(b, STR(",\"" name "\":"), value)

static struct str
version_text(const struct access_record *r)
{
    if (r->major == 2)
        return STR("2");
    return r->minor != 0 ? STR("1.1") : STR("1.0");
}

static void
add_json_request(struct buf *b, const struct access_record *r)
{
    TEXT(b, "method", r->method);
    TEXT(b, "host", r->host);
    TEXT(b, "target", r->target);
    TEXT(b, "version", version_text(r));
    NUMBER(b, "status", r->status);
}

/* What is empty or was not reached is left out. */
static void
add_json(struct buf *b, const struct access_record *r)
{
    PUT(b, "{\"time\":\"");
    put_rfc3339(b, r->begun_wall_ns);
    PUT(b, "\"");
    TEXT(b, "request_id", r->request_id);
    TEXT(b, "client", str_of(r->client_ip));
    if (r->client_port != 0)
        NUMBER(b, "client_port", r->client_port);
    TEXT(b, "proxy", str_of(r->proxy));
    TEXT(b, "proxy_id", r->proxy_id);
    if (r->tcp)
        PUT(b, ",\"protocol\":\"tcp\"");
    else
        add_json_request(b, r);
    TEXT(b, "end", str_of(r->end));
    TEXT(b, "grpc_status", str_of(r->grpc_status));
    NUMBER(b, "bytes_in", r->bytes_in);
    NUMBER(b, "bytes_out", r->bytes_out);
    MS(b, "head_ms", r->head_ns);
    MS(b, "queue_ms", r->queue_ns);
    MS(b, "connect_ms", r->connect_ns);
    MS(b, "first_byte_ms", r->first_byte_ns);
    MS(b, "total_ms", r->total_ns);
    if (r->tunnel.n > 0) {
        TEXT(b, "tunnel", r->tunnel);
        MS(b, "tunnel_ms", r->tunnel_ns);
    }
    NUMBER(b, "retries", r->retries);
    TEXT(b, "listener", str_of(r->listener));
    TEXT(b, "route", str_of(r->route));
    TEXT(b, "pool", str_of(r->pool));
    TEXT(b, "class", r->class_name);
    TEXT(b, "server", str_of(r->server));
    TEXT(b, "reason", str_of(r->reason));
    if (!r->tcp) {
        buf_str(b, r->reused ? STR(",\"reused\":true") : STR(",\"reused\":false"));
        NUMBER(b, "conn_requests", r->conn_requests);
    }
    TEXT(b, "adopted_from", str_of(r->adopted_from));
    TEXT(b, "adopted", str_of(r->adopted));
    TEXT(b, "tls_version", str_of(r->tls_version));
    TEXT(b, "tls_cipher", str_of(r->tls_cipher));
    TEXT(b, "sni", r->sni);
    TEXT(b, "server_tls_version", str_of(r->up_tls_version));
    if (r->up_tls_version != NULL)
        buf_str(b, r->up_tls_resumed ? STR(",\"server_tls_resumed\":true")
                                     : STR(",\"server_tls_resumed\":false"));
    TEXT(b, "referer", r->referer);
    TEXT(b, "user_agent", r->user_agent);
    PUT(b, "}\n");
}

/* --- CLF and combined ------------------------------------------------------------------------ */

static void
put_clf_or_dash(struct buf *b, struct str s)
{
    if (s.n == 0)
        PUT(b, "-");
    else
        put_clf(b, s);
}

static void
add_common(struct buf *b, const struct access_record *r)
{
    const struct second *s = second_of(r->begun_wall_ns);

    put_clf_or_dash(b, str_of(r->client_ip));
    PUT(b, " - - [");
    put(b, s->clf, sizeof(s->clf) - 1);
    PUT(b, "] \"");
    if (r->tcp) {
        PUT(b, "TCP ");
        put_clf_or_dash(b, r->sni);
    } else if (r->method.n > 0) {
        put_clf(b, r->method);
        PUT(b, " ");
        put_clf(b, r->target);
        PUT(b, " HTTP/");
        buf_str(b, version_text(r));
    } else {
        PUT(b, "-"); /* a head that could not be read */
    }
    PUT(b, "\" ");
    put_u64(b, r->status);
    PUT(b, " ");
    if (r->bytes_out == 0)
        PUT(b, "-");
    else
        put_u64(b, r->bytes_out);
}

static void
add_combined(struct buf *b, const struct access_record *r)
{
    add_common(b, r);
    PUT(b, " \"");
    put_clf_or_dash(b, r->referer);
    PUT(b, "\" \"");
    put_clf_or_dash(b, r->user_agent);
    PUT(b, "\"");
}

/* hot: once per request */
void
access_log_add(struct access_log *l, struct buf *b, const struct access_record *r)
{
    MC_CHECK(l, ACCESS_LOG_MAGIC);
    switch (l->format) {
    case ACCESS_JSON: add_json(b, r); break;
    case ACCESS_COMMON:
        add_common(b, r);
        PUT(b, "\n");
        break;
    case ACCESS_COMBINED:
        add_combined(b, r);
        PUT(b, "\n");
        break;
    }
    if (b->n >= FLUSH_BYTES)
        access_log_flush(l, b);
}

static void complain(struct access_log *, size_t lost_bytes, int err) __attribute__((cold));

/* A full disk must not fill the error log too: one line in ten seconds. */
static void
complain(struct access_log *l, size_t lost_bytes, int err)
{
    mc_ns now = units_clock_ns(), due = atomic_load_explicit(&l->complain_ns, memory_order_relaxed);

    atomic_fetch_add_explicit(&l->lost_bytes, lost_bytes, memory_order_relaxed);
    if (now < due || !atomic_compare_exchange_strong(&l->complain_ns, &due, now + 10 * MC_SEC))
        return;
    log_error("access log %s: %s; %llu bytes lost so far", l->path, strerror(err),
              atomic_load_explicit(&l->lost_bytes, memory_order_relaxed));
}

void
access_log_flush(struct access_log *l, struct buf *b)
{
    size_t done = 0;

    while (done < b->n) {
        ssize_t n = write(l->fd, b->p + done, b->n - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            complain(l, b->n - done, errno);
            break;
        }
        done += (size_t)n;
    }
    b->n = 0;
}
