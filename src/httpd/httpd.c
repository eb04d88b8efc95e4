/* SPDX-License-Identifier: BSD-2-Clause
 *
 * httpd.c - a small HTTP/1.1 server.
 *
 * A connection gathers bytes until a request is whole, answers it, and goes on with the next one
 * once the answer has left: so there is at most one answer in memory for each connection.
 */
#include "httpd/httpd.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/check.h"
#include "base/log.h"
#include "http/h1.h"
#include "io/stream.h"

#define MAX_CONNECTIONS  64
#define IDLE_TIMEOUT_NS  (60 * MC_SEC)
#define LINGER_NS        (2 * MC_SEC)                            /* for the peer to close first */
#define ACCEPT_PAUSE_NS  MC_SEC                                  /* after descriptors ran out */
#define PIPELINED_MAX    (2 * (HTTPD_HEAD_MAX + HTTPD_BODY_MAX)) /* bytes taken in and not used */
#define HTTPD_MAGIC      0x48545044u
#define HTTPD_CONN_MAGIC 0x4854434eu
#define HTTPD_DOOR_MAGIC 0x48544452u

struct httpd {
    uint32_t magic;
    struct loop *loop;
    struct httpd_conf conf;
    struct tls_domain *tls; /* a reference; NULL: plain */
    struct tls_turns turns;
    struct list doors, conns;
    bool dying; /* freed with its last socket */
};

/* An address that is listened on. */
struct door {
    struct sock sock;
    uint32_t magic;
    struct httpd *httpd;
    struct list link;
    struct timer timer;
    unsigned n_conns;
    bool is_unix;
};

struct hconn {
    struct stream stream; /* first: a struct httpd_stream is this, seen from outside */
    uint32_t magic;
    struct httpd *httpd;
    struct door *door; /* counted in it; NULL once that is gone */
    struct list link;
    struct timer timer;
    struct buf in;
    size_t scanned;         /* of `in`, by h1_head_end */
    size_t head_len;        /* 0: the end of the head was not seen yet */
    uint32_t unsent_before; /* when the timer looked last */
    bool by_unix, eof, continued;
    bool close_after; /* the answer that is leaving is the last one */
    bool lingering;   /* it has left: what still comes in is thrown away until the peer closes */
    bool streaming;   /* the answer goes on until somebody ends it */
    bool chunked;     /* ... in chunks; else until the connection closes (HTTP/1.0) */
    httpd_stream_f *gone;
    void *stream_arg;
};

static void
maybe_free(struct httpd *h)
{
    if (!h->dying || !list_empty(&h->doors) || !list_empty(&h->conns))
        return;
    h->magic = 0;
    tls_turns_fini(&h->turns);
    tls_domain_unref(&h->tls);
    free(h);
}

/* --- answers ------------------------------------------------------------------------------------
 */

void
httpd_fail(struct httpd_response *r, unsigned status, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    r->status = status;
    r->type = NULL;
    r->body.n = 0;
    buf_printf(&r->body, "{\"error\": \"");
    buf_json_text(&r->body, str_of(text));
    buf_printf(&r->body, "\"}\n");
}

static void
date_text(char out[32])
{
    time_t now = (time_t)(units_wall_ns() / MC_SEC);
    struct tm tm;

    gmtime_r(&now, &tm);
    strftime(out, 32, "%a, %d %b %Y %H:%M:%S GMT", &tm);
}

static void
answer(struct hconn *c, const struct httpd_response *r, const char *allow, bool head_only)
{
    struct buf out = {0};
    char date[32];

    date_text(date);
    buf_printf(&out, "HTTP/1.1 %u %s\r\nDate: %s\r\nContent-Type: %s\r\n", r->status,
               http_reason(r->status), date, r->type != NULL ? r->type : "application/json");
    if (r->stream == NULL)
        buf_printf(&out, "Content-Length: %zu\r\n", r->body.n);
    else if (c->chunked)
        buf_printf(&out, "Transfer-Encoding: chunked\r\n");
    /* numbers of this moment, and bytes that must not be taken for something else */
    buf_printf(&out, "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n");
    if (allow != NULL)
        buf_printf(&out, "Allow: %s\r\n", allow);
    if (c->close_after)
        buf_printf(&out, "Connection: close\r\n");
    buf_printf(&out, "\r\n");
    stream_write(&c->stream, out.p, out.n);
    if (r->stream != NULL && r->body.n > 0)
        httpd_stream_write(r->stream, r->body.p, r->body.n);
    else if (!head_only && r->body.n > 0)
        stream_write(&c->stream, r->body.p, r->body.n);
    buf_free(&out);
}

static void
answer_fault(struct hconn *c, unsigned status, const char *why)
{
    struct httpd_response r = {.status = status};

    c->close_after = true;
    httpd_fail(&r, status, "%s", why);
    answer(c, &r, NULL, false);
    buf_free(&r.body);
}

/* --- routes -------------------------------------------------------------------------------------
 */

static bool
path_matches(const char *route, struct str path, struct str *rest)
{
    struct str r = str_of(route);
    bool prefix = r.n > 1 && r.p[r.n - 1] == '/';

    if (prefix ? !str_starts(path, r) : !str_eq(path, r))
        return false;
    *rest = (struct str){path.p + r.n, path.n - r.n};
    return true;
}

static bool
method_matches(enum http_method of_route, enum http_method asked)
{
    return of_route == asked || (of_route == HTTP_M_GET && asked == HTTP_M_HEAD);
}

/* Calls the handler, or tells why there is none; *allow gets the methods when that is the reason.
 */
static void
dispatch(struct hconn *c, struct httpd_request *q, struct httpd_response *r, const char **allow)
{
    const struct httpd_conf *conf = &c->httpd->conf;

    for (unsigned i = 0; i < conf->n_routes; i++) {
        const struct httpd_route *route = &conf->routes[i];

        if (!path_matches(route->path, q->path, &q->rest))
            continue;
        if (method_matches(route->method, q->head->method)) {
            route->fn(conf->arg, q, r);
            *allow = NULL;
            return;
        }
        *allow = route->method == HTTP_M_POST ? "POST" : "GET, HEAD";
    }
    if (*allow != NULL)
        httpd_fail(r, 405, "method not allowed");
    else
        httpd_fail(r, 404, "no such resource");
}

static void
serve(struct hconn *c, const struct http_head *head, struct str body)
{
    struct httpd_request q = {
        .head = head,
        .path = http_path_only(head->path),
        .query = http_query(head->path),
        .body = body,
        .by_unix = c->by_unix,
        .conn = (struct httpd_stream *)c,
    };
    struct httpd_response r = {.status = 200};
    const char *allow = NULL;

    c->close_after = head->close;
    dispatch(c, &q, &r, &allow);
    answer(c, &r, allow, head->method == HTTP_M_HEAD);
    buf_free(&r.body);
}

/* --- requests -----------------------------------------------------------------------------------
 */

enum taken { TAKEN_ONE, TAKEN_NEEDS_MORE, TAKEN_FAULT };

/* The body behind the head; *used gets the bytes that head and body had.  Decoding happens in
 * place, so a chunked body is decoded on a copy until it is whole. */
static enum taken
take_body(struct hconn *c, const struct http_head *head, struct arena *a, struct str *body,
          size_t *used)
{
    struct h1_body b;
    size_t n = c->in.n - c->head_len, of_body, payload;
    char *copy;

    if (head->body == HTTP_BODY_LENGTH && head->content_length > HTTPD_BODY_MAX) {
        answer_fault(c, 413, "request body too large");
        return TAKEN_FAULT;
    }
    copy = arena_alloc(a, n + 1);
    memcpy(copy, c->in.p + c->head_len, n);
    h1_body_init(&b, head->body, head->content_length, &h1_default_limits, a);
    switch (h1_body_decode(&b, copy, n, &of_body, &payload)) {
    case H1_BODY_DONE:
        if (payload > HTTPD_BODY_MAX)
            break;
        *body = (struct str){copy, payload};
        *used = c->head_len + of_body;
        return TAKEN_ONE;
    case H1_BODY_MORE:
        if (n > HTTPD_BODY_MAX + HTTPD_HEAD_MAX) /* what a chunked body may add in framing */
            break;
        return TAKEN_NEEDS_MORE;
    case H1_BODY_FAULT:
        answer_fault(c, h1_fault_status(b.fault), h1_fault_text(b.fault));
        return TAKEN_FAULT;
    }
    answer_fault(c, 413, "request body too large");
    return TAKEN_FAULT;
}

static void
say_continue(struct hconn *c, const struct http_head *head)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";

    if (!head->expect_continue || c->continued)
        return;
    c->continued = true;
    stream_write(&c->stream, text, sizeof(text) - 1);
}

/* One request out of what has come in, served. */
static enum taken
take_parsed(struct hconn *c, struct arena *a)
{
    struct http_head head;
    struct str body = STR_NONE;
    size_t used = c->head_len;
    enum h1_fault fault = h1_parse_request(&head, c->in.p, c->head_len, &h1_default_limits, a);
    enum taken t = TAKEN_ONE;

    if (fault != H1_NONE) {
        answer_fault(c, h1_fault_status(fault), h1_fault_text(fault));
        return TAKEN_FAULT;
    }
    if (head.body != HTTP_BODY_NONE)
        t = take_body(c, &head, a, &body, &used);
    if (t == TAKEN_NEEDS_MORE)
        say_continue(c, &head);
    if (t != TAKEN_ONE)
        return t;
    serve(c, &head, body);
    buf_skip(&c->in, used);
    c->scanned = c->head_len = 0;
    c->continued = false;
    return TAKEN_ONE;
}

static enum taken
take_request(struct hconn *c)
{
    struct arena a;
    enum taken t;

    if (c->in.n == 0)
        return TAKEN_NEEDS_MORE;
    if (c->head_len == 0 && !h1_head_end(c->in.p, c->in.n, &c->scanned, &c->head_len)) {
        if (c->in.n <= HTTPD_HEAD_MAX)
            return TAKEN_NEEDS_MORE;
        answer_fault(c, 431, "request head too large");
        return TAKEN_FAULT;
    }
    arena_init(&a, NULL);
    t = take_parsed(c, &a);
    arena_drop(&a);
    return t;
}

/* --- connections --------------------------------------------------------------------------------
 */

static struct hconn *
conn_of(struct sock *s)
{
    struct hconn *c = container_of(s, struct hconn, stream.sock);

    MC_CHECK(c, HTTPD_CONN_MAGIC);
    return c;
}

static void
touch(struct hconn *c)
{
    c->unsent_before = stream_unsent(&c->stream);
    loop_timer_set(c->httpd->loop, &c->timer,
                   loop_now(c->httpd->loop) + c->httpd->conf.idle_timeout_ns);
}

static void
conn_close(struct hconn *c)
{
    if (c->streaming) {
        c->streaming = false;
        c->gone(c->stream_arg);
    }
    loop_timer_clear(c->httpd->loop, &c->timer);
    stream_close(&c->stream, false);
}

/* A close with bytes unread would reset the connection, and the peer might lose the answer. */
static void
linger(struct hconn *c)
{
    c->lingering = true;
    c->in.n = 0;
    stream_shutdown(&c->stream);
    stream_recv(&c->stream, true);
    loop_timer_set(c->httpd->loop, &c->timer, loop_now(c->httpd->loop) + LINGER_NS);
}

/* Serves until more bytes must come, or the last answer must leave first. */
static void
conn_run(struct hconn *c)
{
    while (!c->close_after && !c->streaming && stream_unsent(&c->stream) == 0)
        if (take_request(c) == TAKEN_NEEDS_MORE)
            break;
    if (c->streaming && c->eof)
        conn_close(c); /* nobody is left to hear it */
    else if (c->streaming)
        stream_recv(&c->stream, c->in.n < PIPELINED_MAX);
    else if (stream_unsent(&c->stream) > 0)
        stream_recv(&c->stream, c->in.n < PIPELINED_MAX && !c->close_after);
    else if (c->eof)
        conn_close(c);
    else if (c->close_after)
        linger(c);
    else
        stream_recv(&c->stream, true);
}

static void
on_recv(struct sock *s, struct block **b)
{
    struct hconn *c = conn_of(s);

    if (c->lingering)
        return;
    buf_add(&c->in, block_at(*b), (*b)->len);
    touch(c);
    conn_run(c);
}

static void
on_eof(struct sock *s)
{
    struct hconn *c = conn_of(s);

    c->eof = true;
    if (c->lingering)
        conn_close(c);
    else
        conn_run(c);
}

static void
on_drained(struct sock *s)
{
    struct hconn *c = conn_of(s);

    touch(c);
    conn_run(c);
}

static void
on_error(struct sock *s, int err)
{
    conn_close(conn_of(s));
}

static void
on_conn_closed(struct sock *s)
{
    struct hconn *c = conn_of(s);
    struct httpd *h = c->httpd;

    if (c->door != NULL)
        c->door->n_conns--;
    list_remove(&c->link);
    buf_free(&c->in);
    c->magic = 0;
    free(c);
    maybe_free(h);
}

/* Nothing came and nothing went. */
static void
on_timer(struct timer *t)
{
    struct hconn *c = container_of(t, struct hconn, timer);

    MC_CHECK(c, HTTPD_CONN_MAGIC);
    if (!c->lingering && stream_unsent(&c->stream) < c->unsent_before)
        touch(c);
    else
        conn_close(c);
}

static const struct sock_ops conn_ops = {
    .on_recv = on_recv,
    .on_eof = on_eof,
    .on_drained = on_drained,
    .on_error = on_error,
    .on_closed = on_conn_closed,
};

/* --- streams ------------------------------------------------------------------------------------
 */

static struct hconn *
conn_of_stream(const struct httpd_stream *st)
{
    return conn_of((struct sock *)st);
}

struct httpd_stream *
httpd_stream_begin(const struct httpd_request *q, struct httpd_response *r, httpd_stream_f *gone,
                   void *arg)
{
    struct hconn *c = conn_of_stream(q->conn);

    if (q->head->method == HTTP_M_HEAD)
        return NULL;
    c->streaming = true;
    c->chunked = q->head->minor > 0;
    c->gone = gone;
    c->stream_arg = arg;
    c->close_after = c->close_after || !c->chunked;
    r->stream = q->conn;
    return q->conn;
}

void
httpd_stream_write(struct httpd_stream *st, const void *p, size_t n)
{
    struct hconn *c = conn_of_stream(st);
    char header[18], *end = header + sizeof(header);
    size_t header_len;

    MC_ASSERT(c->streaming && n > 0);
    if (c->chunked) {
        header_len = h1_chunk_header(end, n);
        stream_write(&c->stream, end - header_len, header_len);
    }
    stream_write(&c->stream, p, n);
    if (c->chunked)
        stream_write(&c->stream, "\r\n", 2);
}

size_t
httpd_stream_unsent(const struct httpd_stream *st)
{
    return stream_unsent(&conn_of_stream(st)->stream);
}

void
httpd_stream_end(struct httpd_stream **sp)
{
    struct hconn *c = conn_of_stream(*sp);

    *sp = NULL;
    MC_ASSERT(c->streaming);
    c->streaming = false;
    if (c->chunked)
        stream_write(&c->stream, "0\r\n\r\n", 5);
    touch(c);
    if (stream_unsent(&c->stream) == 0) /* else on_drained goes on */
        conn_run(c);
}

/* --- doors --------------------------------------------------------------------------------------
 */

static struct door *
door_of(struct sock *s)
{
    struct door *d = container_of(s, struct door, sock);

    MC_CHECK(d, HTTPD_DOOR_MAGIC);
    return d;
}

static bool
is_admitted(const struct httpd *h, int fd)
{
    struct addr peer = {.len = sizeof(peer.u)};

    return h->conf.admit == NULL ||
           (getpeername(fd, &peer.u.sa, &peer.len) == 0 && h->conf.admit(h->conf.arg, &peer));
}

static void
on_accept(struct sock *s, int fd)
{
    struct door *d = door_of(s);
    struct httpd *h = d->httpd;
    struct hconn *c;

    if (d->n_conns >= h->conf.max_connections || !is_admitted(h, fd)) {
        close(fd);
        return;
    }
    d->n_conns++;
    c = mc_alloc(sizeof(*c));
    c->magic = HTTPD_CONN_MAGIC;
    c->httpd = h;
    c->door = d;
    c->by_unix = d->is_unix;
    c->timer.fn = on_timer;
    list_push_back(&h->conns, &c->link);
    stream_open(&c->stream, h->loop, fd, &conn_ops, d->is_unix ? NULL : h->tls, &h->turns);
    stream_recv(&c->stream, true);
    touch(c);
}

static void
on_door_timer(struct timer *t)
{
    struct door *d = container_of(t, struct door, timer);

    sock_accept(&d->sock, true);
}

static void
on_door_error(struct sock *s, int err)
{
    struct door *d = door_of(s);

    loop_timer_set(d->httpd->loop, &d->timer, loop_now(d->httpd->loop) + ACCEPT_PAUSE_NS);
}

static void
on_door_closed(struct sock *s)
{
    struct door *d = door_of(s);
    struct httpd *h = d->httpd;

    loop_timer_clear(h->loop, &d->timer);
    LIST_FOREACH (it, &h->conns) {
        struct hconn *c = LIST_ENTRY(it, struct hconn, link);

        if (c->door == d)
            c->door = NULL;
    }
    list_remove(&d->link);
    d->magic = 0;
    free(d);
    maybe_free(h);
}

static const struct sock_ops door_ops = {
    .on_accept = on_accept,
    .on_error = on_door_error,
    .on_closed = on_door_closed,
};

/* --- in and out ---------------------------------------------------------------------------------
 */

struct httpd *
httpd_new(struct loop *loop, const struct httpd_conf *conf)
{
    struct httpd *h = mc_alloc(sizeof(*h));

    h->magic = HTTPD_MAGIC;
    h->loop = loop;
    h->conf = *conf;
    if (h->conf.max_connections == 0)
        h->conf.max_connections = MAX_CONNECTIONS;
    if (h->conf.idle_timeout_ns == 0)
        h->conf.idle_timeout_ns = IDLE_TIMEOUT_NS;
    list_init(&h->doors);
    list_init(&h->conns);
    tls_turns_init(&h->turns, loop);
    return h;
}

void
httpd_set_tls(struct httpd *h, struct tls_domain *d)
{
    MC_CHECK(h, HTTPD_MAGIC);
    tls_domain_unref(&h->tls);
    h->tls = tls_domain_ref(d);
}

enum mc_err
httpd_listen(struct httpd *h, const struct addr *a, unsigned unix_mode, struct errbuf *e)
{
    struct sock_listen_opts opts = {.unix_mode = unix_mode};
    int fd = sock_listen_fd(a, &opts, e);

    if (fd < 0)
        return MC_ESYS;
    httpd_inherit(h, fd, a->u.sa.sa_family == AF_UNIX);
    return MC_OK;
}

void
httpd_inherit(struct httpd *h, int fd, bool is_unix)
{
    struct door *d = mc_alloc(sizeof(*d));

    MC_CHECK(h, HTTPD_MAGIC);
    d->magic = HTTPD_DOOR_MAGIC;
    d->httpd = h;
    d->is_unix = is_unix;
    d->timer.fn = on_door_timer;
    list_push_back(&h->doors, &d->link);
    sock_open(&d->sock, h->loop, fd, &door_ops);
    sock_accept(&d->sock, true);
}

void
httpd_accept(struct httpd *h, bool on)
{
    LIST_FOREACH (it, &h->doors) {
        struct door *d = LIST_ENTRY(it, struct door, link);

        loop_timer_clear(h->loop, &d->timer);
        sock_accept(&d->sock, on);
    }
}

int
httpd_fd(const struct httpd *h, unsigned i)
{
    LIST_FOREACH (it, &h->doors) {
        if (i-- == 0)
            return LIST_ENTRY(it, struct door, link)->sock.fd;
    }
    return -1;
}

void
httpd_free(struct httpd **hp)
{
    struct httpd *h = *hp;

    if (h == NULL)
        return;
    MC_CHECK(h, HTTPD_MAGIC);
    *hp = NULL;
    h->dying = true;
    LIST_FOREACH (it, &h->doors) {
        sock_close(&LIST_ENTRY(it, struct door, link)->sock, false);
    }
    LIST_FOREACH (it, &h->conns) {
        struct hconn *c = LIST_ENTRY(it, struct hconn, link);

        if (sock_is_open(&c->stream.sock))
            conn_close(c);
    }
    maybe_free(h);
}
