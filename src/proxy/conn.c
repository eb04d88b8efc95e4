/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conn.c - a client connection: its life, and the requests that are read from it (RFC 9112).
 *
 * What is sent on it is down_h1.c's; one that is passed through is tcp.c's between its accept and
 * its close.
 *
 * One transaction at a time; pipelined requests wait in `in` and are answered in order (9.3.2).
 * Reception is off while there is something unread that cannot be used yet: that is the
 * back-pressure.  A connection that ends with unread bytes lingers, so that a reset does not eat
 * the answer (9.6).
 */
#include "proxy/conn.h"

#include "base/log.h"
#include "proxy/down_h2.h"
#include "proxy/tcp.h"
#include "proxy/tunnel.h"
#include "proxy/untaken.h"

#define DISCARD_MAX_BYTES                                                    \
    (64u << 10) /* a rest of a body that is read and thrown away to keep the \
                   connection; more is not worth it */
#define LINGER_NS    (2 * MC_SEC)
#define LINGER_BYTES (256u << 10)
#define ANSWERS_BYTES \
    65536u /* answers that the client has not taken: no further request is begun */

static void conn_run(struct conn *);
static struct txn *open_txn(struct conn *);
static void conn_next(struct conn *);
static void discard(struct conn *, struct block *);
static void await_first(struct conn *);
static void on_recv(struct sock *, struct block **);
static void await_handshake(struct conn *);

static struct conn *
conn_of(struct sock *s)
{
    struct conn *c = container_of(s, struct conn, stream.sock);

    MC_CHECK(c, CONN_MAGIC);
    return c;
}

/* --- time limits --------------------------------------------------------------------------------
 */

void
conn_set_deadline(struct conn *c, mc_ns at_ns)
{
    c->deadline_ns = at_ns;
    if (!timer_is_set(&c->timer) || c->timer.at_ns > at_ns)
        loop_timer_set(c->worker->loop, &c->timer, at_ns);
}

void
conn_close(struct conn *c, bool reset)
{
    if (c->state == CONN_CLOSED)
        return;
    c->state = CONN_CLOSED;
    loop_timer_clear(c->worker->loop, &c->timer);
    if (c->in != NULL)
        block_give(loop_blocks(c->worker->loop), &c->in);
    stream_close(&c->stream, reset);
}

void
conn_finish(struct conn *c, bool linger)
{
    if (c->state == CONN_CLOSED)
        return;
    conn_refresh_listener(c);
    if (c->in != NULL) {
        block_give(loop_blocks(c->worker->loop), &c->in);
        linger = true;
    }
    if (c->eof)
        linger = false;
    stream_finish(&c->stream);
    if (!linger && stream_unsent(&c->stream) == 0) {
        conn_close(c, false);
        return;
    }
    c->state = linger ? CONN_LINGER : CONN_FLUSH;
    c->discard_left = LINGER_BYTES;
    if (stream_unsent(&c->stream) > 0) {
        c->untaken_seen = untaken_bytes(&c->stream);
        conn_set_deadline(c, worker_now(c->worker) + c->listener->conf.send_timeout_ns);
    } else {
        conn_set_deadline(c, worker_now(c->worker) + LINGER_NS);
    }
    if (linger) {
        stream_shutdown(&c->stream);
        stream_recv(&c->stream, true);
    }
}

/* Empty lines are part of the head that they precede (RFC 9112 2.2), but nobody asked for anything
 * yet. */
static bool
only_empty_lines(const struct conn *c)
{
    for (uint32_t i = 0; c->in != NULL && i < c->in->len; i++)
        if (block_at(c->in)[i] != '\r' && block_at(c->in)[i] != '\n')
            return false;
    return true;
}

/* A head that did not arrive in time is answered when some of it came, else the connection ends:
 * after what the client has still to take. */
static void
head_timed_out(struct conn *c)
{
    struct txn *t;

    if (c->state == CONN_IDLE || only_empty_lines(c)) {
        conn_finish(c, false);
        return;
    }
    conn_refresh_listener(c);
    t = open_txn(c);
    c->close_after = true;
    c->state = CONN_WAIT;
    txn_fail(t, END_HEAD_TIMEOUT);
}

/* The limit for the last bytes is over: it begins anew when the client took some of them. */
static bool
flush_goes_on(struct conn *c)
{
    const uint64_t before = c->untaken_seen;

    if (stream_unsent(&c->stream) == 0)
        return false;
    c->untaken_seen = untaken_bytes(&c->stream);
    if (c->untaken_seen >= before)
        return false;
    conn_refresh_listener(c);
    conn_set_deadline(c, worker_now(c->worker) + c->listener->conf.send_timeout_ns);
    return true;
}

static void header_failed(struct conn *, enum proxy_fault) __attribute__((cold));

static void
on_timer(struct timer *timer)
{
    struct conn *c = container_of(timer, struct conn, timer);

    MC_CHECK(c, CONN_MAGIC);
    if (c->txn != NULL) /* the transaction watches its own time; conn_next() sets this one again */
        return;
    if (c->deadline_ns > worker_now(c->worker)) {
        loop_timer_set(c->worker->loop, &c->timer, c->deadline_ns);
        return;
    }
    if (c->state == CONN_H2)
        h2_down_tick(c->h2);
    else if (c->state == CONN_PROXY)
        header_failed(c, PROXY_FAULT_TIMEOUT);
    else if (c->state == CONN_HANDSHAKE)
        conn_close(c, false);
    else if (c->state == CONN_FIRST || c->state == CONN_IDLE || c->state == CONN_HEAD)
        head_timed_out(c);
    else if (c->state == CONN_DISCARD || !flush_goes_on(c))
        conn_close(c, stream_unsent(&c->stream) > 0);
}

/* --- gathering input ----------------------------------------------------------------------------
 */

/* Appends bytes to c->in, moving to a larger block when it has to. */
static void
gather(struct conn *c, const char *p, size_t n)
{
    block_append(loop_blocks(c->worker->loop), &c->in, p, n);
}

/* --- reading requests ---------------------------------------------------------------------------
 */

/* What a connection falls back on when a reload took its listener away: the request that is under
 * way or still comes is served, then the connection ends. */
static const struct listener gone_listener = {
    .conf = {.name = (char *)"(removed)",
             .forward = FORWARD_X,
             .via = true,
             .head_timeout_ns = 10 * MC_SEC,
             .body_timeout_ns = 10 * MC_SEC,
             .keep_alive_timeout_ns = MC_SEC,
             .send_timeout_ns = 10 * MC_SEC,
             .h2 = H2_CONF_DEFAULT,
             .limits =
                 {.head_bytes = 16384, .target_bytes = 8192, .fields = 100, .trailer_bytes = 4096}},
};

/* Connections outlive reloads. */
bool
conn_refresh_listener(struct conn *c)
{
    const struct snapshot *s = c->worker->current->snap;

    if (c->listener_gen == s->generation)
        return c->listener != &gone_listener;
    c->listener_gen = s->generation;
    for (unsigned i = 0; i < s->n_listeners; i++) {
        if (s->listeners[i].live == c->live) {
            c->listener = &s->listeners[i];
            return true;
        }
    }
    c->listener = &gone_listener;
    c->close_after = true;
    return false;
}

struct txn *
conn_open_txn(struct conn *c, const struct down_ops *down, void *side)
{
    struct txn *t = txn_new(c->worker, c->worker->current, c->listener, down, side);

    t->at.begun = c->begun_ns;
    t->at.head = worker_now(c->worker);
    t->conn_requests = ++c->requests;
    conn_introduce(c, t);
    return t;
}

/* Of HTTP/1: one at a time. */
static struct txn *
open_txn(struct conn *c)
{
    c->txn = conn_open_txn(c, &down_h1, c);
    return c->txn;
}

/* The head is not one: answered, and the connection ends. */
static void
refuse(struct conn *c, struct txn *t, enum h1_fault fault)
{
    c->close_after = true;
    c->state = CONN_WAIT;
    txn_refuse(t, h1_fault_status(fault), h1_fault_text(fault));
}

static struct txn *
begin_txn(struct conn *c, const char *head, size_t n)
{
    struct txn *t = open_txn(c);
    struct str copy = arena_str(&t->arena, (struct str){head, n});
    enum h1_fault fault =
        h1_parse_request(&t->req, copy.p, copy.n, &c->listener->conf.limits, &t->arena);

    if (fault != H1_NONE) {
        refuse(c, t, fault);
        return NULL;
    }
    conn_find_client(c, t);
    if (t->req.close || (c->listener->conf.requests_per_conn != 0 &&
                         c->requests >= c->listener->conf.requests_per_conn))
        c->close_after = true;
    return t;
}

/* More than a head may have has come, and no end of it. */
static void
refuse_endless(struct conn *c, struct block **b)
{
    const bool in_line = memchr(block_at(*b), '\n', (*b)->len) == NULL;

    refuse(c, open_txn(c), in_line ? H1_TARGET_LONG : H1_HEAD_TOO_LARGE);
    block_give(loop_blocks(c->worker->loop), b);
}

static void
end_request(struct txn *t)
{
    struct http_field *trailers = NULL;
    unsigned n = h1_body_trailers(&t->req_body, &trailers, &t->arena);

    txn_request_end(t, trailers, n);
}

/* Decodes what the block has of the body; *b is the caller's and is taken when it carried payload.
 */
static void
feed_body(struct conn *c, struct block **b)
{
    struct txn *t = c->txn;
    size_t used, payload;
    enum h1_body_state st = h1_body_decode(&t->req_body, block_at(*b), (*b)->len, &used, &payload);

    if (st == H1_BODY_FAULT) {
        c->close_after = true;
        txn_refuse(t, h1_fault_status(t->req_body.fault), h1_fault_text(t->req_body.fault));
        return;
    }
    if (st == H1_BODY_DONE) {
        c->state = CONN_WAIT;
        if (used < (*b)->len) {
            gather(c, block_at(*b) + used, (*b)->len - used);
            stream_recv(&c->stream, false);
        }
    }
    (*b)->len = (uint32_t)payload;
    if (payload > 0)
        txn_request_data(t, b);
    if (st == H1_BODY_DONE && c->txn == t)
        end_request(t);
}

/* A head is whole: begins its transaction.  rest (may be NULL) is what came behind it; it is taken.
 */
static void
take_request(struct conn *c, const char *head, size_t head_len, struct block **rest)
{
    struct txn *t = begin_txn(c, head, head_len);

    if (t == NULL) {
        if (rest != NULL)
            block_give(loop_blocks(c->worker->loop), rest);
        return;
    }
    t->req_done = t->req.body == HTTP_BODY_NONE ||
                  (t->req.body == HTTP_BODY_LENGTH && t->req.content_length == 0);
    c->state = t->req_done ? CONN_WAIT : CONN_BODY;
    h1_body_init(&t->req_body, t->req.body, t->req.content_length, &c->listener->conf.limits,
                 &t->arena);
    if (rest != NULL)
        block_skip(*rest, head_len);
    if (rest != NULL && t->req_done && (*rest)->len > 0) {
        c->in = *rest;
        *rest = NULL;
    }
    txn_begin(t);
    if (rest == NULL || *rest == NULL)
        return;
    if ((*rest)->len > 0 && c->state == CONN_BODY)
        feed_body(c, rest);
    else if ((*rest)->len > 0 && c->state == CONN_DISCARD)
        discard(c, *rest);
    if (*rest != NULL)
        block_give(loop_blocks(c->worker->loop), rest);
}

/* A client that asks without reading has to wait: its answers would gather here. */
static bool
takes_answers(const struct conn *c)
{
    return stream_unsent(&c->stream) <= ANSWERS_BYTES;
}

/* Answers as much of c->in as can be answered now. */
static void
conn_run(struct conn *c)
{
    size_t head_len, scanned;

    if (c->parsing)
        return;
    c->parsing = true;
    while (c->txn == NULL && c->in != NULL && (c->state == CONN_IDLE || c->state == CONN_HEAD) &&
           takes_answers(c)) {
        struct block *b = c->in;

        if (c->state == CONN_IDLE) {
            c->state = CONN_HEAD;
            c->begun_ns = worker_now(c->worker);
            conn_set_deadline(c, c->begun_ns + c->listener->conf.head_timeout_ns);
        }
        scanned = c->scanned;
        if (!h1_head_end(block_at(b), b->len, &scanned, &head_len)) {
            c->scanned = (uint32_t)scanned;
            if (b->len <= c->listener->conf.limits.head_bytes)
                break;
            c->in = NULL;
            refuse_endless(c, &b);
            break;
        }
        c->in = NULL;
        c->scanned = 0;
        take_request(c, block_at(b), head_len, &b);
    }
    c->parsing = false;
    if (c->state == CONN_WAIT && c->in == NULL)
        stream_recv(&c->stream,
                    true); /* off since the request before: to hear when the client goes */
    else if (c->state != CONN_CLOSED && c->in != NULL)
        stream_recv(&c->stream, c->state == CONN_HEAD || c->state == CONN_LINGER);
}

static void
read_head(struct conn *c, struct block *b)
{
    size_t scanned = 0, head_len;

    /* hot: a whole request in one read, nothing gathered before, is parsed where it lies */
    if (c->in == NULL && h1_head_end(block_at(b), b->len, &scanned, &head_len) &&
        head_len == b->len) {
        c->begun_ns = worker_now(c->worker);
        c->state = CONN_HEAD;
        c->parsing = true;
        take_request(c, block_at(b), head_len, NULL);
        c->parsing = false;
        return;
    }
    gather(c, block_at(b), b->len);
    conn_run(c);
}

/* From here on it is HTTP/2. */
static void
begin_h2(struct conn *c)
{
    c->state = CONN_H2;
    c->h2 = h2_down_begin(c);
}

/* On a plain listener that takes either version, who knows that it may speak HTTP/2 begins with a
 * preface that is no request of HTTP/1 (RFC 9113 3.4). */
static void
read_first(struct conn *c, struct block *b)
{
    struct block *first = c->in != NULL ? c->in : b;
    size_t n;

    if (c->in != NULL) {
        gather(c, block_at(b), b->len);
        first = c->in;
    }
    n = first->len < H2_PREFACE_BYTES ? first->len : H2_PREFACE_BYTES;
    if (memcmp(block_at(first), H2_PREFACE, n) != 0) {
        c->state = CONN_IDLE;
        if (c->in != NULL)
            conn_run(c);
        else
            read_head(c, b);
    } else if (n == H2_PREFACE_BYTES) {
        c->in = NULL;
        begin_h2(c);
        h2_down_recv(c->h2, first);
        if (first != b)
            block_give(loop_blocks(c->worker->loop), &first);
    } else if (c->in == NULL) {
        c->begun_ns = worker_now(c->worker);
        gather(c, block_at(b), b->len);
        conn_set_deadline(c, c->begun_ns + c->listener->conf.head_timeout_ns);
    }
}

/* The rest of a body that nobody wants any more. */
static void
discard(struct conn *c, struct block *b)
{
    uint32_t n = b->len < c->discard_left ? b->len : c->discard_left;

    c->discard_left -= n;
    block_skip(b, n);
    if (c->state == CONN_LINGER) {
        if (c->discard_left == 0)
            conn_close(c, false);
        return;
    }
    if (b->len > 0)
        gather(c, block_at(b), b->len);
    if (c->discard_left == 0)
        conn_next(c);
}

/* --- what a proxy says of its client -------------------------------------------------------------
 */

static void
log_header_fault(const struct conn *c, enum proxy_fault why)
{
    static struct log_limit limit;
    struct addr a = conn_peer_addr(c);
    char text[ADDR_TEXT];
    unsigned swallowed;

    if (log_limit_ok(&limit, worker_now(c->worker), &swallowed))
        log_warn("listener %s: a connection from %s was closed: %s (%u lines left out)",
                 c->listener->conf.name, addr_ip_text(&a, text), proxy_fault_text(why), swallowed);
}

/* The connection ends.  One that brings nothing is how other balancers look whether we live. */
static void
header_failed(struct conn *c, enum proxy_fault why)
{
    stat_add(&c->worker->stats.proxy_faults[why], 1);
    if (why != PROXY_FAULT_CLOSED || c->in != NULL)
        log_header_fault(c, why);
    conn_close(c, false);
}

static void
await_header(struct conn *c, struct tls_domain *tls)
{
    c->told = told_new(tls);
    c->state = CONN_PROXY;
    conn_set_deadline(c, worker_now(c->worker) + c->listener->conf.head_timeout_ns);
}

/* The stream begins behind the header: with a handshake, or with what the client wants, of which
 * some may be in c->in. */
static void
begin_stream(struct conn *c)
{
    struct tls_domain *domain = tls_domain_ref(c->told->domain);
    struct block *rest = c->in;

    c->in = NULL;
    if (c->told->header.local)
        told_free(&c->told);
    if (domain != NULL) {
        await_handshake(c);
        stream_secure(&c->stream, &rest, domain, &c->worker->tls_turns);
        tls_domain_unref(&domain);
        return;
    }
    await_first(c);
    if (rest->len > 0)
        on_recv(&c->stream.sock, &rest);
    block_give(loop_blocks(c->worker->loop), &rest);
}

static void
read_header(struct conn *c, const struct block *b)
{
    enum proxy_fault why;
    size_t used;

    gather(c, b->data + b->off, b->len);
    switch (told_read(c->told, block_at(c->in), c->in->len, &used, &why)) {
    case PROXY_MORE: return;
    case PROXY_BAD: header_failed(c, why); return;
    case PROXY_DONE:
        conn_believe(c);
        block_skip(c->in, used);
        begin_stream(c);
    }
}

static void
on_recv(struct sock *s, struct block **b)
{
    struct conn *c = conn_of(s);

    switch ((enum conn_state)c->state) {
    case CONN_PROXY:
        conn_refresh_listener(c);
        read_header(c, *b);
        return;
    case CONN_FIRST:
        conn_refresh_listener(c);
        read_first(c, *b);
        return;
    case CONN_IDLE:
    case CONN_HEAD:
        conn_refresh_listener(c);
        read_head(c, *b);
        return;
    case CONN_H2: h2_down_recv(c->h2, *b); return;
    case CONN_BODY: feed_body(c, b); return;
    case CONN_WAIT: /* pipelined: one block's worth is kept, then the client has to wait */
        gather(c, block_at(*b), (*b)->len);
        stream_recv(&c->stream, false);
        return;
    case CONN_TUNNEL: tunnel_down_data(c->txn, b); return;
    case CONN_TCP: tcp_client_data(c->tcp, b); return;
    case CONN_DISCARD:
    case CONN_LINGER: discard(c, *b); return;
    case CONN_HANDSHAKE:
    case CONN_FLUSH:
    case CONN_CLOSED: return;
    }
}

static void
on_eof(struct sock *s)
{
    struct conn *c = conn_of(s);

    c->eof = true;
    switch ((enum conn_state)c->state) {
    case CONN_PROXY: header_failed(c, PROXY_FAULT_CLOSED); return;
    case CONN_FIRST:
    case CONN_IDLE:
    case CONN_HEAD:
    case CONN_DISCARD:
    case CONN_LINGER:
        if (c->state == CONN_HEAD)
            conn_close(c, false);
        else
            conn_finish(c, false);
        return;
    case CONN_BODY: txn_down_gone(c->txn, END_CLIENT_GONE); return;
    case CONN_WAIT:
        c->close_after = true;
        if (!c->listener->conf.half_close)
            txn_down_gone(c->txn, END_CLIENT_GONE);
        return;
    case CONN_TUNNEL: tunnel_down_end(c->txn); return;
    case CONN_H2: h2_down_eof(c->h2); return;
    case CONN_TCP: tcp_client_end(c->tcp); return;
    case CONN_HANDSHAKE:
    case CONN_FLUSH:
    case CONN_CLOSED: return;
    }
}

/* With TLS: the handshake has ended. */
static void
on_connect(struct sock *s, int err)
{
    struct conn *c = conn_of(s);

    conn_refresh_listener(c);
    await_first(c);
}

static void
on_drained(struct sock *s)
{
    struct conn *c = conn_of(s);

    if (c->state == CONN_FLUSH)
        conn_close(c, false);
    else if (c->state == CONN_LINGER)
        conn_set_deadline(c, worker_now(c->worker) + LINGER_NS);
    else if (c->txn != NULL)
        txn_down_drained(c->txn);
    else if (c->state == CONN_H2)
        h2_down_drained(c->h2);
    else if (c->tcp != NULL)
        tcp_client_drained(c->tcp);
    else if (c->state == CONN_IDLE)
        conn_next(c);
}

static void
on_error(struct sock *s, int err)
{
    struct conn *c = conn_of(s);

    if (c->state == CONN_TUNNEL)
        tunnel_down_broken(c->txn);
    else if (c->txn != NULL)
        txn_down_gone(c->txn, END_CLIENT_GONE);
    else if (c->state == CONN_H2)
        h2_down_cut(c->h2, END_CLIENT_GONE);
    else if (c->tcp != NULL)
        tcp_client_gone(c->tcp, END_CLIENT_GONE);
    else if (c->state == CONN_PROXY)
        header_failed(c, PROXY_FAULT_CLOSED);
    else
        conn_close(c, false);
}

static void
on_closed(struct sock *s)
{
    struct conn *c = conn_of(s);
    struct worker *w = c->worker;

    MC_ASSERT(c->txn == NULL && c->tcp == NULL);
    told_free(&c->told);
    if (c->h2 != NULL)
        h2_down_free(&c->h2);
    list_remove(&c->link);
    w->n_conns--;
    stat_add(&w->stats.active_connections, (uint64_t)-1);
    listen_conn_closed(c->live);
    c->magic = 0;
    slab_give(&w->conn_slab, c);
    listen_room(w);
    worker_check_drained(w);
}

static const struct sock_ops conn_ops = {
    .on_connect = on_connect,
    .on_recv = on_recv,
    .on_eof = on_eof,
    .on_drained = on_drained,
    .on_error = on_error,
    .on_closed = on_closed,
};

/* --- between two requests ------------------------------------------------------------------------
 */

/* The request's body was not read to its end: read on when little is left, else linger. */
static bool
begin_discard(struct conn *c, const struct txn *t)
{
    if (c->close_after || t->req.expect_continue || t->req_body.kind != HTTP_BODY_LENGTH ||
        t->req_body.left > DISCARD_MAX_BYTES)
        return false;
    c->state = CONN_DISCARD;
    c->discard_left = (uint32_t)t->req_body.left;
    conn_set_deadline(c, worker_now(c->worker) + c->listener->conf.body_timeout_ns);
    stream_recv(&c->stream, true);
    return true;
}

void
conn_txn_done(struct conn *c, const struct txn *t)
{
    c->txn = NULL;
    if (c->state == CONN_CLOSED)
        return;
    if (t->end == END_CLIENT_GONE || t->end == END_SEND_TIMEOUT || t->end == END_DRAINED) {
        conn_close(c, true); /* cut: what went out must not look whole */
        return;
    }
    if (c->state == CONN_BODY) {
        if (t->splicing_up || !begin_discard(c, t))
            conn_finish(c, true);
        return;
    }
    if (c->close_after) {
        conn_finish(c, !t->req_done);
        return;
    }
    conn_next(c);
}

void
conn_tcp_done(struct conn *c, bool in_order)
{
    c->tcp = NULL;
    if (in_order)
        conn_finish(c, true);
    else
        conn_close(c, true);
}

/* How long it may wait for a request. */
static mc_ns
idle_span(const struct conn *c)
{
    const mc_ns usual = c->listener->conf.keep_alive_timeout_ns;
    const struct worker *w = c->worker;

    return w->draining && w->drain_idle_ns < usual ? w->drain_idle_ns : usual;
}

/* Back to waiting for a request; pipelined ones are taken at once. */
static void
conn_next(struct conn *c)
{
    c->state = CONN_IDLE;
    c->scanned = 0;
    if (!conn_refresh_listener(c)) {
        conn_finish(c, false);
        return;
    }
    if (c->in == NULL && c->eof) {
        conn_finish(c, false);
        return;
    }
    if (!takes_answers(c)) { /* on_drained() goes on */
        conn_set_deadline(c, worker_now(c->worker) + c->listener->conf.send_timeout_ns);
        stream_recv(&c->stream, false);
        return;
    }
    conn_set_deadline(c, worker_now(c->worker) + idle_span(c));
    if (c->in != NULL)
        conn_run(c);
    else
        stream_recv(&c->stream, true);
}

/* --- birth and end of the worker ----------------------------------------------------------------
 */

/* By ALPN, or because nothing else is spoken here. */
static bool
speaks_h2(const struct conn *c)
{
    const struct tls_facts *tls = stream_facts(&c->stream);

    return c->listener->conf.protocol == LISTENER_H2 ||
           (tls != NULL && str_eq(tls->alpn, STR("h2")));
}

/* Its listener is removed, and with it where its connections went: they are no requests. */
static bool
leads_nowhere(const struct conn *c)
{
    return c->listener == &gone_listener && atomic_load(&c->live->tcp);
}

/* Nothing was asked yet on this connection.  Where nothing has to be, it is passed through from
 * here on, and may be closed when this returns. */
static void
await_first(struct conn *c)
{
    struct worker *w = c->worker;

    if (c->listener->conf.protocol == LISTENER_TCP) {
        c->state = CONN_TCP;
        loop_timer_clear(w->loop, &c->timer);
        tcp_begin(c);
        return;
    }
    if (leads_nowhere(c)) {
        conn_close(c, true);
        return;
    }
    if (speaks_h2(c)) {
        begin_h2(c);
        return;
    }
    c->state = c->listener->conf.protocol == LISTENER_AUTO && c->stream.tls == NULL ? CONN_FIRST
                                                                                    : CONN_IDLE;
    conn_set_deadline(c, worker_now(w) + idle_span(c));
}

static void
await_handshake(struct conn *c)
{
    c->state = CONN_HANDSHAKE;
    conn_set_deadline(c, worker_now(c->worker) + c->listener->conf.head_timeout_ns);
}

/* How the connection begins: with a header, a handshake or a request, or not at all. */
static void
begin(struct conn *c, int fd, struct tls_domain *tls)
{
    const enum proxy_in proxy = c->listener->conf.proxy;
    const bool header = proxy != PROXY_IN_OFF && conn_is_from_proxy(c);

    stream_open(&c->stream, c->worker->loop, fd, &conn_ops,
                header || proxy == PROXY_IN_REQUIRED ? NULL : tls, &c->worker->tls_turns);
    stream_recv(&c->stream, true);
    if (header)
        await_header(c, tls);
    else if (proxy == PROXY_IN_REQUIRED)
        header_failed(c, PROXY_FAULT_UNTRUSTED);
    else if (tls != NULL)
        await_handshake(c);
    else
        await_first(c);
}

struct conn *
conn_accept(struct worker *w, struct listener_live *live, struct tls_domain *tls, int fd,
            uint16_t local_port)
{
    struct conn *c = slab_take(&w->conn_slab);

    memset(c, 0, sizeof(*c));
    c->magic = CONN_MAGIC;
    c->worker = w;
    c->live = live;
    conn_refresh_listener(c); /* generations begin at 1: it is looked up */
    c->local_port = local_port;
    c->timer.fn = on_timer;
    conn_learn_peer(c, fd);
    list_push_back(&w->conns, &c->link);
    w->n_conns++;
    stat_add(&w->stats.connections, 1);
    stat_add(&w->stats.active_connections, 1);
    begin(c, fd, tls);
    return c;
}

void
conn_part_all(struct worker *w)
{
    LIST_FOREACH_SAFE (it, next, &w->conns) {
        struct conn *c = LIST_ENTRY(it, struct conn, link);

        if (c->state == CONN_H2)
            h2_down_leave(c->h2);
    }
}

/* Who keeps a connection may be sending a request on it now, which closing would break: it is
 * answered, and the answer says that it is the last. */
void
conn_drain_all(struct worker *w)
{
    LIST_FOREACH (it, &w->conns) {
        struct conn *c = LIST_ENTRY(it, struct conn, link);
        mc_ns end = worker_now(w) + w->drain_idle_ns;

        if ((c->state == CONN_IDLE || c->state == CONN_FIRST) && end < c->deadline_ns)
            conn_set_deadline(c, end);
    }
}

void
conn_cut_all(struct worker *w)
{
    LIST_FOREACH_SAFE (it, next, &w->conns) {
        struct conn *c = LIST_ENTRY(it, struct conn, link);

        if (c->txn != NULL)
            txn_down_gone(c->txn, END_DRAINED);
        if (c->tcp != NULL)
            tcp_end(c->tcp, END_DRAINED);
        if (c->state == CONN_H2)
            h2_down_cut(c->h2, END_DRAINED);
        conn_close(c, stream_unsent(&c->stream) > 0);
    }
}
