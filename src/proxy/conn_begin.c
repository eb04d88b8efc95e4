/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conn_begin.c - how a client connection begins: with a PROXY header, a handshake, or what it is
 * for; and the listener by whose rules it lives.
 */
#include "base/log.h"
#include "proxy/conn.h"
#include "proxy/flow.h"
#include "proxy/pass.h"
#include "proxy/tcp.h"

static void await_handshake(struct conn *);

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

/* --- what a proxy says of its client -------------------------------------------------------------
 */

static void
log_header_fault(const struct conn *c, enum proxy_fault why)
{
    static _Thread_local struct log_limit limit;
    struct addr a = conn_peer_addr(c);
    char text[ADDR_TEXT];
    unsigned swallowed;

    if (log_limit_ok(&limit, worker_now(c->worker), &swallowed))
        log_warn("listener %s: a connection from %s was closed: %s (%u lines left out)",
                 c->listener->conf.name, addr_ip_text(&a, text), proxy_fault_text(why), swallowed);
}

/* The connection ends.  One that brings nothing is how other balancers look whether we live. */
void
conn_header_failed(struct conn *c, enum proxy_fault why)
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
    conn_await_first(c);
    if (rest->len > 0)
        conn_ops.on_recv(&c->stream.sock, &rest);
    block_give(loop_blocks(c->worker->loop), &rest);
}

void
conn_read_header(struct conn *c, const struct block *b)
{
    enum proxy_fault why;
    size_t used;

    conn_gather(c, b->data + b->off, b->len);
    switch (told_read(c->told, block_at(c->in), c->in->len, &used, &why)) {
    case PROXY_MORE: return;
    case PROXY_BAD: conn_header_failed(c, why); return;
    case PROXY_DONE:
        conn_believe(c);
        block_skip(c->in, used);
        begin_stream(c);
    }
}

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

void
conn_await_first(struct conn *c)
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
        conn_begin_h2(c);
        return;
    }
    c->state = c->listener->conf.protocol == LISTENER_AUTO && c->stream.tls == NULL ? CONN_FIRST
                                                                                    : CONN_IDLE;
    conn_set_deadline(c, worker_now(w) + conn_idle_span(c));
    if (w->heir >= 0)
        pass_begin(c);
}

static void
await_handshake(struct conn *c)
{
    c->state = CONN_HANDSHAKE;
    conn_set_deadline(c, worker_now(c->worker) + c->listener->conf.head_timeout_ns);
}

void
conn_begin(struct conn *c, int fd, struct tls_domain *tls)
{
    const enum proxy_in proxy = c->listener->conf.proxy;
    const bool header = proxy != PROXY_IN_OFF && conn_is_from_proxy(c);

    stream_open(&c->stream, c->worker->loop, fd, c->flow != NULL ? &flow_sock_ops : &conn_ops,
                header || proxy == PROXY_IN_REQUIRED ? NULL : tls, &c->worker->tls_turns);
    sock_take_turns(&c->stream.sock, turns_line(&c->worker->turns, c->live));
    stream_recv(&c->stream, true);
    if (header)
        await_header(c, tls);
    else if (proxy == PROXY_IN_REQUIRED)
        conn_header_failed(c, PROXY_FAULT_UNTRUSTED);
    else if (tls != NULL)
        await_handshake(c);
    else
        conn_await_first(c);
}
