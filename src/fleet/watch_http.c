/* SPDX-License-Identifier: BSD-2-Clause
 *
 * watch_http.c - agents that speak HTTP: `meercat agent` as a stream of lines, node_exporter as one
 * long text.
 */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "fleet/watch_priv.h"

#define HEAD_MAX       16384 /* as h1_default_limits */
#define NODE_BYTES_MAX (4u << 20)
#define SCRAPE_LIMIT   (5 * MC_SEC) /* node_exporter answers in some 20 ms; its disks may hang */

/* --- a response ---------------------------------------------------------------------------------
 */

static void
ask(struct watcher *w, const char *path)
{
    char host[ADDR_TEXT];
    struct buf out = {0};

    addr_text(&w->conf.addr, host);
    buf_printf(&out,
               "GET %s HTTP/1.1\r\n"
               "Host: %s\r\n"
               "User-Agent: meercat/" MEERCAT_VERSION "\r\n"
               "Accept: text/plain\r\n\r\n",
               path, w->conf.addr.u.sa.sa_family == AF_UNIX ? "localhost" : host);
    stream_write(&w->stream, out.p, out.n);
    buf_free(&out);
}

static enum watch_step
take_head(struct watcher *w, size_t head_len)
{
    struct watch_http *h = &w->http;
    struct http_head head;
    enum h1_fault f =
        h1_parse_response(&head, w->in.p, head_len, HTTP_M_GET, &h1_default_limits, &h->arena);

    if (f != H1_NONE)
        return watch_fail(w, "malformed response: %s", h1_fault_text(f));
    if (head.status != 200)
        return watch_fail(w, "status %u", head.status);
    h1_body_init(&h->body, head.body, head.content_length, &h1_default_limits, &h->arena);
    h->has_head = true;
    return WATCH_MORE;
}

/* Decodes in place, and keeps the payload. */
static enum watch_step
take_body(struct watcher *w, char *p, size_t n, size_t in_max)
{
    size_t used, payload;
    enum h1_body_state state = h1_body_decode(&w->http.body, p, n, &used, &payload);

    if (state == H1_BODY_FAULT)
        return watch_fail(w, "malformed response: %s", h1_fault_text(w->http.body.fault));
    if (w->in.n + payload > in_max) {
        watch_refuse(w, REPORT_F_TOO_LONG);
        return watch_fail(w, "the answer is too long");
    }
    buf_add(&w->in, p, payload);
    return state == H1_BODY_DONE ? WATCH_DONE : WATCH_MORE;
}

/* Appends the payload of the body to w->in; DONE: the body is whole. */
static enum watch_step
feed(struct watcher *w, char *p, size_t n, size_t in_max)
{
    struct watch_http *h = &w->http;
    struct buf rest = {0};
    enum watch_step step;
    size_t head_len;

    if (h->has_head)
        return take_body(w, p, n, in_max);
    buf_add(&w->in, p, n);
    if (!h1_head_end(w->in.p, w->in.n, &h->scanned, &head_len))
        return w->in.n > HEAD_MAX ? watch_fail(w, "malformed response: head too large")
                                  : WATCH_MORE;
    step = take_head(w, head_len);
    if (step == WATCH_FAILED)
        return step;
    buf_add(&rest, w->in.p + head_len, w->in.n - head_len);
    w->in.n = 0;
    step = take_body(w, rest.p, rest.n, in_max);
    buf_free(&rest);
    return step;
}

/* MORE: the body is not whole; DONE: it ended with the connection. */
static enum watch_step
ended(struct watcher *w)
{
    return w->http.has_head && h1_body_eof_ok(&w->http.body) ? WATCH_DONE : WATCH_MORE;
}

/* --- meercat agent ------------------------------------------------------------------------------
 */

static void
agent_ask(struct watcher *w)
{
    char path[80], interval[UNITS_TEXT];

    snprintf(path, sizeof(path), "/load?interval=%s",
             units_duration_text(w->conf.interval, interval));
    ask(w, path);
}

/* Hands on what lines are whole.  False: the watcher was freed. */
static bool
take_lines(struct watcher *w)
{
    struct place_report r;
    size_t done = 0;
    char *end;

    while ((end = memchr(w->in.p + done, '\n', w->in.n - done)) != NULL) {
        struct str line = {w->in.p + done, (size_t)(end - w->in.p) - done};

        done += line.n + 1;
        if (!watch_take(w, report_parse_text(line, &r), &r))
            return false;
    }
    buf_skip(&w->in, done);
    return true;
}

static enum watch_step
agent_feed(struct watcher *w, char *p, size_t n)
{
    /* a line, and what one read may hold behind it */
    enum watch_step step = feed(w, p, n, REPORT_BYTES_MAX + BLOCK_BULK);

    if (step == WATCH_FAILED || w->in.n == 0 || !w->http.has_head)
        return step == WATCH_DONE ? watch_fail(w, "the stream has ended") : step;
    if (!take_lines(w) || w->phase != WATCH_READING)
        return WATCH_FAILED; /* freed or moved by the callback */
    if (w->in.n > REPORT_BYTES_MAX) {
        watch_refuse(w, REPORT_F_TOO_LONG);
        return watch_fail(w, "a line is too long");
    }
    return step == WATCH_DONE ? watch_fail(w, "the stream has ended") : WATCH_MORE;
}

static enum watch_step
agent_eof(struct watcher *w)
{
    return watch_fail(w, "the stream has ended");
}

const struct watch_ops watch_ops_agent = {.ask = agent_ask, .feed = agent_feed, .eof = agent_eof};

/* --- node_exporter ------------------------------------------------------------------------------
 */

static void
node_ask(struct watcher *w)
{
    ask(w, w->conf.path ? w->conf.path : "/metrics");
}

/* The first scrape only begins the counting. */
static enum watch_step
take_scrape(struct watcher *w)
{
    struct report_node before = w->node, now;
    mc_ns elapsed = loop_now(w->loop) - w->node_at;
    enum report_fault f = report_parse_node((struct str){w->in.p, w->in.n}, &now);
    struct place_report r;
    bool first = w->node_at == 0;

    if (f == REPORT_F_NONE) {
        w->node = now;
        w->node_at = loop_now(w->loop);
        if (first) {
            w->n_failed = 0;
            return WATCH_DONE;
        }
        f = report_of_node(&before, &now, elapsed, &r);
    }
    return watch_take(w, f, &r) && w->phase == WATCH_READING ? WATCH_DONE : WATCH_FAILED;
}

static enum watch_step
node_feed(struct watcher *w, char *p, size_t n)
{
    enum watch_step step = feed(w, p, n, NODE_BYTES_MAX);

    return step == WATCH_DONE ? take_scrape(w) : step;
}

static enum watch_step
node_eof(struct watcher *w)
{
    if (ended(w) == WATCH_DONE)
        return take_scrape(w);
    return watch_fail(w, "closed within the answer");
}

const struct watch_ops watch_ops_node = {
    .time_limit_ns = SCRAPE_LIMIT, .ask = node_ask, .feed = node_feed, .eof = node_eof};
