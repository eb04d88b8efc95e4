/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conn.c - a client connection: its life, from its accept to its end.
 *
 * How it begins is conn_begin.c's, what is read from it conn_read.c's, what is sent on it
 * down_h1.c's; one that is passed through is tcp.c's between its accept and its close.  A
 * connection that ends with unread bytes lingers, so that a reset does not eat the answer (RFC
 * 9112 9.6).
 */
#include "proxy/conn.h"

#include "base/log.h"
#include "proxy/down_h2.h"
#include "proxy/flow.h"
#include "proxy/pass.h"
#include "proxy/tcp.h"
#include "proxy/tunnel.h"
#include "proxy/untaken.h"

#define LINGER_NS    (2 * MC_SEC)
#define LINGER_BYTES (256u << 10)

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
    if (c->flow != NULL)
        flow_closed(c->flow, reset);
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
    if (c->flow != NULL)
        linger |= flow_finishing(c->flow);
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
        c->untaken_seen = UINT64_MAX;
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
    t = conn_open_h1(c);
    c->close_after = true;
    c->state = CONN_WAIT;
    txn_fail(t, END_HEAD_TIMEOUT);
}

/* The limit for the last bytes is over: it begins anew when the client took some of them.  Of a
 * connection that others could take over those in the kernel count, too: until it has them it is
 * theirs as well. */
static bool
flush_goes_on(struct conn *c)
{
    const uint64_t before = c->untaken_seen;

    if (stream_unsent(&c->stream) == 0 && c->flow == NULL)
        return false;
    c->untaken_seen = untaken_bytes(&c->stream);
    if (c->untaken_seen == 0 || c->untaken_seen >= before)
        return false;
    conn_refresh_listener(c);
    conn_set_deadline(c, worker_now(c->worker) + c->listener->conf.send_timeout_ns);
    return true;
}

/* It goes to another balancer rather than to end. */
static bool
is_leaving(const struct conn *c)
{
    return c->flow != NULL && c->worker->draining && c->worker->heir < 0 &&
           (c->state == CONN_FIRST || c->state == CONN_IDLE || c->state == CONN_HEAD) &&
           flow_may_leave(c->flow);
}

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
    else if (is_leaving(c))
        conn_set_deadline(c, worker_now(c->worker) + c->worker->drain_idle_ns);
    else if (c->state == CONN_PROXY)
        conn_header_failed(c, PROXY_FAULT_TIMEOUT);
    else if (c->state == CONN_HANDSHAKE)
        conn_close(c, false);
    else if (c->state == CONN_FIRST || c->state == CONN_IDLE || c->state == CONN_HEAD)
        head_timed_out(c);
    else if (c->state == CONN_DISCARD || !flush_goes_on(c))
        conn_close(c, stream_unsent(&c->stream) > 0);
}

static void
on_recv(struct sock *s, struct block **b)
{
    struct conn *c = conn_of(s);

    switch ((enum conn_state)c->state) {
    case CONN_PROXY:
        conn_refresh_listener(c);
        conn_read_header(c, *b);
        return;
    case CONN_FIRST:
        conn_refresh_listener(c);
        conn_read_first(c, *b);
        return;
    case CONN_IDLE:
    case CONN_HEAD:
        conn_refresh_listener(c);
        conn_read_head(c, *b);
        return;
    case CONN_H2: h2_down_recv(c->h2, *b); return;
    case CONN_BODY: conn_feed_body(c, b); return;
    case CONN_WAIT: /* pipelined: one block's worth is kept, then the client has to wait */
        conn_gather(c, block_at(*b), (*b)->len);
        stream_recv(&c->stream, false);
        return;
    case CONN_TUNNEL: tunnel_down_data(c->txn, b); return;
    case CONN_TCP: tcp_client_data(c->tcp, b); return;
    case CONN_DISCARD:
    case CONN_LINGER: conn_discard(c, *b); return;
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
    case CONN_PROXY: conn_header_failed(c, PROXY_FAULT_CLOSED); return;
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
    conn_await_first(c);
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
        conn_header_failed(c, PROXY_FAULT_CLOSED);
    else
        conn_close(c, false);
}

static void
on_closed(struct sock *s)
{
    struct conn *c = conn_of(s);
    struct worker *w = c->worker;

    MC_ASSERT(c->txn == NULL && c->tcp == NULL);
    if (c->flow != NULL)
        flow_free(&c->flow);
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

static void
on_quiet(struct sock *s)
{
    pass_send(conn_of(s));
}

const struct sock_ops conn_ops = {
    .on_connect = on_connect,
    .on_recv = on_recv,
    .on_eof = on_eof,
    .on_drained = on_drained,
    .on_quiet = on_quiet,
    .on_error = on_error,
    .on_closed = on_closed,
};

/* --- between two requests ------------------------------------------------------------------------
 */

static bool
is_cut(enum end_reason why)
{
    return why == END_CLIENT_GONE || why == END_SEND_TIMEOUT || why == END_DRAINED ||
           why == END_TAKEOVER_BROKEN || why == END_TAKEOVER_CLAIMED;
}

void
conn_txn_done(struct conn *c, const struct txn *t)
{
    c->txn = NULL;
    if (c->state == CONN_CLOSED)
        return;
    if (is_cut(t->end)) {
        conn_close(c, true); /* what went out must not look whole */
        return;
    }
    if (c->state == CONN_BODY) {
        if (t->splicing_up || !conn_begin_discard(c, t))
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

mc_ns
conn_idle_span(const struct conn *c)
{
    const mc_ns usual = c->listener->conf.keep_alive_timeout_ns;
    const struct worker *w = c->worker;

    return w->draining && w->drain_idle_ns < usual ? w->drain_idle_ns : usual;
}

void
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
    if (!conn_takes_answers(c)) { /* on_drained() goes on */
        conn_set_deadline(c, worker_now(c->worker) + c->listener->conf.send_timeout_ns);
        stream_recv(&c->stream, false);
        return;
    }
    conn_set_deadline(c, worker_now(c->worker) + conn_idle_span(c));
    if (c->in != NULL)
        conn_run(c);
    else
        stream_recv(&c->stream, true);
    if (c->worker->heir >= 0)
        pass_begin(c);
}

/* --- birth and end of the worker ----------------------------------------------------------------
 */

struct conn *
conn_make(struct worker *w, struct listener_live *live, int fd, uint16_t local_port)
{
    struct conn *c = slab_take(&w->conn_slab);

    memset(c, 0, sizeof(*c));
    c->magic = CONN_MAGIC;
    c->worker = w;
    c->live = live;
    c->down = &down_h1;
    conn_refresh_listener(c); /* generations begin at 1: it is looked up */
    c->local_port = local_port;
    c->timer.fn = on_timer;
    conn_learn_peer(c, fd);
    list_push_back(&w->conns, &c->link);
    w->n_conns++;
    stat_add(&w->stats.connections, 1);
    stat_add(&w->stats.active_connections, 1);
    return c;
}

struct conn *
conn_accept(struct worker *w, struct listener_live *live, struct tls_domain *tls, int fd,
            uint16_t local_port, size_t n_read)
{
    struct conn *c = conn_make(w, live, fd, local_port);

    if (w->flows != NULL && c->listener->conf.takeover.given)
        flow_open(c, fd, n_read);
    conn_begin(c, fd, tls);
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
        mc_ns left = c->deadline_ns - worker_now(w);

        if ((c->state == CONN_IDLE || c->state == CONN_FIRST) && left > w->drain_idle_ns)
            conn_set_deadline(c, worker_now(w) + w->drain_idle_ns);
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
