/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tcp.c - a connection that is passed through, from its accept to its end: which route and server,
 * another one when connecting fails, counters, the log.  The bytes are tcp_relay.c's.
 *
 * Another server is tried as long as nothing of the client has been given to one and none has said
 * anything.
 */
#include "proxy/tcp.h"

#include <errno.h>
#include <stdio.h>

#include "http/msg.h"
#include "proxy/access_log.h"
#include "proxy/tell.h"
#include "proxy/upconn.h"

#define HOLD_MAX 16384 /* of the client's bytes, while a server is looked for */

static const struct sock_ops up_ops;

static void place(struct tcp *);

static const char *const state_texts[] = {
#define X(name, text) [TCP_##name] = text,
    TCP_STATES(X)
#undef X
};

const char *
tcp_state_text(enum tcp_state s)
{
    MC_ASSERT(s < MC_COUNT(state_texts));
    return state_texts[s];
}

static struct server_counters *
counters(const struct tcp *t)
{
    return &t->server->counters[t->worker->conf.index];
}

static const struct pool *
pool_of(const struct tcp *t)
{
    return t->pool->pool;
}

/* --- time limits --------------------------------------------------------------------------------
 */

void
tcp_set_timer(struct tcp *t, mc_ns at_ns)
{
    loop_timer_set(t->worker->loop, &t->timer, at_ns);
}

static void
set_deadline(struct tcp *t, mc_ns limit_ns)
{
    t->deadline_ns = worker_now(t->worker) + limit_ns;
    if (t->deadline_ns > t->deadline_total_ns)
        t->deadline_ns = t->deadline_total_ns;
    tcp_set_timer(t, t->deadline_ns);
}

static void
on_timer(struct timer *timer)
{
    struct tcp *t = container_of(timer, struct tcp, timer);

    MC_CHECK(t, TCP_MAGIC);
    if (t->deadline_total_ns <= worker_now(t->worker)) {
        tcp_end(t, END_TOTAL_TIMEOUT);
        return;
    }
    switch (t->state) {
    case TCP_PEEK: tcp_end(t, END_HEAD_TIMEOUT); return;
    case TCP_WAIT:
        stat_add(&t->worker->stats.queue_timeouts, 1);
        tcp_end(t, END_QUEUE_TIMEOUT);
        return;
    case TCP_CONNECT: tcp_server_failed(t, END_CONNECT_TIMEOUT); return;
    case TCP_RELAY: tcp_relay_tick(t); return;
    case TCP_DONE: return;
    }
}

/* --- the server's side --------------------------------------------------------------------------
 */

static struct tcp_up *
up_of(struct sock *s)
{
    struct tcp_up *u = container_of(s, struct tcp_up, stream.sock);

    MC_CHECK(u, TCP_UP_MAGIC);
    return u;
}

static void
up_connected(struct sock *s, int err)
{
    struct tcp *t = up_of(s)->tcp;

    if (err != 0) {
        const char *detail;

        stat_add(&counters(t)->connect_errors, 1);
        tcp_server_failed(t, upconn_reason(&t->up->stream, upconn_connect_reason(err), &detail));
        return;
    }
    stat_add(&counters(t)->connects, 1);
    pool_learn(&t->pool->pick, t->server_index, t->crowd, worker_now(t->worker) - t->at.placed,
               true, worker_now(t->worker));
    tcp_relay_start(t);
}

static void
up_recv(struct sock *s, struct block **b)
{
    struct tcp *t = up_of(s)->tcp;

    tcp_relay_data(t, &t->out, b);
}

static void
up_eof(struct sock *s)
{
    struct tcp *t = up_of(s)->tcp;

    tcp_relay_end(t, &t->out);
}

static void
up_drained(struct sock *s)
{
    struct tcp *t = up_of(s)->tcp;

    if (t->state == TCP_RELAY)
        tcp_relay_drained(t, &t->in);
}

static void
up_error(struct sock *s, int err)
{
    tcp_server_failed(up_of(s)->tcp, err == ETIMEDOUT ? END_SERVER_SILENT : END_SERVER_RESET);
}

static void
up_closed(struct sock *s)
{
    struct tcp_up *u = up_of(s);
    struct worker *w = u->worker;

    list_remove(&u->link);
    stat_add(&u->server->counters[w->conf.index].open_conns, (uint64_t)-1);
    server_unref(&u->server);
    u->magic = 0;
    slab_give(&w->tcp_up_slab, u);
    listen_room(w);
    worker_check_drained(w);
}

static const struct sock_ops up_ops = {
    .on_connect = up_connected,
    .on_recv = up_recv,
    .on_eof = up_eof,
    .on_drained = up_drained,
    .on_error = up_error,
    .on_closed = up_closed,
};

/* The server hears of the client before all else. */
static void
tell(struct tcp_up *u, const struct tcp *t)
{
    uint8_t header[PROXY_HEADER_MAX];
    char text[ADDR_TEXT];

    stream_preface(&u->stream, header,
                   tell_client(pool_of(t), t->server_index, t->conn, conn_client_ip(t->conn, text),
                               STR_NONE, header));
}

/* Dials t->server; END_OK, or why not even that was possible. */
static enum end_reason
dial(struct tcp *t)
{
    struct worker *w = t->worker;
    const struct tls_target to = upconn_target(w, pool_of(t), t->server_index);
    struct tcp_up *u;
    uint32_t generation;
    struct addr a;

    if (!server_address(t->server, (uint32_t)rng_next(&w->rng), &a, &generation))
        return END_NO_ADDRESS;
    u = slab_take(&w->tcp_up_slab);
    *u = (struct tcp_up){.magic = TCP_UP_MAGIC, .worker = w, .tcp = t};
    if (stream_connect(&u->stream, w->loop, &a, &up_ops, &to) != MC_OK) {
        enum end_reason why = upconn_connect_reason(errno);

        slab_give(&w->tcp_up_slab, u);
        return why;
    }
    sock_watch_peer(u->stream.sock.fd, pool_of(t)->conf.user_timeout_ns);
    if (tell_wanted(pool_of(t), t->server_index))
        tell(u, t);
    sock_take_turns(&u->stream.sock, turns_line(&w->turns, t->listener->live));
    u->server = server_ref(t->server);
    list_push_back(&w->tcp_ups, &u->link);
    stat_add(&counters(t)->open_conns, 1);
    t->up = u;
    return END_OK;
}

static void
drop_up(struct tcp *t, bool reset)
{
    struct tcp_up *u = t->up;

    if (u == NULL)
        return;
    t->up = NULL;
    u->tcp = NULL;
    stream_close(&u->stream, reset);
}

/* --- attempts -----------------------------------------------------------------------------------
 */

/* What placement is told of a connection.  Its class is its route; how long it lasts and what it
 * costs is its client's doing, which teaches nothing.  Policies that go by times go by those of
 * connecting. */
static void
weigh(struct tcp *t)
{
    const struct brain *b = pool_of(t)->brain;
    char path[CLASS_NAME_MAX], text[BRAIN_NAME_MAX];
    struct http_head h = {.method_text = STR("TCP")};

    if (b == NULL)
        return;
    snprintf(path, sizeof(path), "/%s", t->route->conf.name);
    h.path = str_of(path);
    brain_look(pool_of(t), t->worker->conf.pipe, t->worker->conf.index, STR_NONE, &h, text,
               &t->use);
}

static void
end_attempt(struct tcp *t, bool reset)
{
    struct server *s = t->server;
    const mc_ns now = worker_now(t->worker);

    drop_up(t, reset);
    if (s == NULL)
        return;
    t->server = NULL;
    if (pool_of(t)->brain != NULL)
        brain_end(pool_of(t)->brain, t->worker->conf.pipe, &t->use, t->server_index,
                  t->failed ? PLACE_END_FAILED : PLACE_END_VOID, 0, now);
    if (t->failed)
        pool_learn(&t->pool->pick, t->server_index, t->crowd, now - t->at.placed, false, now);
    pool_end(pool_of(t), s);
    wait_kick(t->worker, pool_of(t));
}

/* As note_failure() of txn.c. */
static void
note_failure(struct tcp *t, enum end_reason why)
{
    struct server_counters *c = counters(t);

    if (why == END_NO_FDS)
        return;
    t->failed = true;
    if (why == END_CONNECT_TIMEOUT)
        stat_add(&c->timeouts, 1);
    if (why == END_CONNECT_TIMEOUT || why == END_NO_ADDRESS)
        stat_add(&c->connect_errors, 1);
    if (t->state == TCP_RELAY)
        stat_add(&c->response_errors, 1);
    server_note(t->server, txn_outcome(why), worker_now(t->worker));
}

static bool
retry_allowed(struct tcp *t)
{
    return budget_retry(t->worker, t->pool, t->server, t->server_index, &t->tries);
}

/* Not connected, or broken. */
void
tcp_server_failed(struct tcp *t, enum end_reason why)
{
    tcp_relay_settle(t);
    if (t->out.ended) { /* it had said its last, and now hears no more: the client gets what it said
                         */
        tcp_end(t, END_OK);
        return;
    }
    if (t->out.bytes == 0)
        note_failure(t, why);
    if (t->in.bytes > 0 || t->out.bytes > 0 || t->in.ended || !retry_allowed(t)) {
        tcp_end(t, why);
        return;
    }
    end_attempt(t, true);
    place(t);
}

static void
connect_up(struct tcp *t)
{
    enum end_reason why;

    t->state = TCP_CONNECT;
    set_deadline(t, pool_of(t)->conf.connect_timeout_ns);
    why = dial(t);
    if (why == END_NO_FDS)
        idle_evict_oldest(t->worker->idle); /* somebody after us finds a descriptor */
    if (why != END_OK)
        tcp_server_failed(t, why);
}

/* --- which server -------------------------------------------------------------------------------
 */

static void
find_key(const struct tcp *t, struct place_ask *ask)
{
    char text[ADDR_TEXT];
    struct str key =
        pool_hash_key(&pool_of(t)->conf, &(struct http_head){0}, conn_client_ip(t->conn, text));

    ask->has_key = key.n > 0;
    ask->key = str_hash(key, 0);
    ask->now = worker_now(t->worker);
    if (pool_of(t)->brain != NULL) {
        ask->now += pool_of(t)->brain->wall_ns;
        ask->cost = &t->use.cost;
    }
}

static void
wait_for_server(struct tcp *t)
{
    const bool waited = t->wait.queue != NULL;

    if (!wait_enter(t->worker, t->pool, &t->wait)) {
        tcp_end(t, END_QUEUE_FULL);
        return;
    }
    t->state = TCP_WAIT;
    if (!waited)
        set_deadline(t, pool_of(t)->conf.queue_timeout_ns);
}

static void
place(struct tcp *t)
{
    struct place_ask ask = {.tried = t->tries.avoided, .n_tried = t->tries.n_avoided};
    struct pool_pick pick;

    if (t->pool->queue->n > 0 && t->wait.queue == NULL && t->tries.n == 0) {
        wait_for_server(t); /* nobody overtakes those who wait */
        return;
    }
    find_key(t, &ask);
    if (!pool_pick(&t->pool->pick, &ask, &t->worker->rng, &pick)) {
        if (pick.reason == PLACE_FULL)
            wait_for_server(t);
        else
            tcp_end(t, END_NO_SERVER);
        return;
    }
    wait_leave(t->worker, &t->wait);
    t->server = pick.server;
    t->server_index = pick.index;
    t->server_name = pick.server->name;
    t->crowd = pick.crowd;
    t->why = pick.reason;
    t->at.placed = worker_now(t->worker);
    t->failed = false;
    t->at.connected = 0; /* of an attempt before */
    if (t->tries.n == 0)
        t->queue_ns = t->at.placed - t->at.routed;
    if (pool_of(t)->brain != NULL)
        brain_begin(pool_of(t)->brain, t->worker->conf.pipe, &t->use, t->server_index,
                    t->at.placed);
    connect_up(t);
}

static void
on_turn(struct waiter *m)
{
    place(container_of(m, struct tcp, wait));
}

/* --- which route --------------------------------------------------------------------------------
 */

/* A TLS client that is sent away is told why: fatal, unrecognized_name (RFC 6066 3). */
static const char unrecognized_name[] = "\x15\x03\x03\x00\x02\x02\x70";

static void
no_route(struct tcp *t)
{
    stat_add(&t->worker->stats.no_route, 1);
    if (t->name_n > 0 && t->hold != NULL) /* read from the client's own TLS */
        stream_write(&t->conn->stream, unrecognized_name, sizeof(unrecognized_name) - 1);
    tcp_end(t, END_NO_ROUTE);
}

static void
route(struct tcp *t)
{
    const struct listener *l = t->listener;
    struct worker *w = t->worker;
    mc_ns wait_ns;

    t->at.routed = worker_now(w);
    t->route = route_find_name(l->routes, l->n_routes, (struct str){t->name, t->name_n});
    if (t->route == NULL) {
        no_route(t);
        return;
    }
    if (t->route->limit != NULL && !limit_take(t->route->limit, t->at.routed, &wait_ns)) {
        tcp_end(t, END_RATE_LIMITED);
        return;
    }
    t->pool = &t->gen->pools[t->route->pool_index];
    budget_earn(&t->pool->budget, &pool_of(t)->conf, t->at.routed);
    if (pool_of(t)->conf.total_timeout_ns > 0)
        t->deadline_total_ns = t->at.routed + pool_of(t)->conf.total_timeout_ns;
    weigh(t);
    place(t);
}

static void
take_name(struct tcp *t, struct str name)
{
    t->name_n = (uint8_t)name.n;
    memcpy(t->name, name.p ? name.p : "", name.n);
}

static void
bad_hello(struct tcp *t)
{
    stat_add(&t->worker->stats.tcp_bad_hellos, 1);
    tcp_end(t, END_BAD_HELLO);
}

/* Is it known by now what the client asks for? */
static void
peek(struct tcp *t)
{
    uint8_t flat[SNI_PEEK_MAX];
    struct sni_hello h;

    switch (sni_peek_end(&t->peek, block_at(t->hold), t->hold->len)) {
    case SNI_PEEK_MORE: return;
    case SNI_PEEK_BAD: bad_hello(t); return;
    case SNI_PEEK_OTHER: break;
    case SNI_PEEK_WHOLE:
        if (!sni_peek_read(block_at(t->hold), t->hold->len, flat, &h)) {
            bad_hello(t);
            return;
        }
        take_name(t, h.name);
    }
    route(t);
}

/* --- the client's side --------------------------------------------------------------------------
 */

void
tcp_begin(struct conn *c)
{
    struct worker *w = c->worker;
    struct tcp *t = slab_take(&w->tcp_slab);
    const struct str name = conn_name_asked_for(c);

    memset(t, 0, sizeof(*t));
    t->magic = TCP_MAGIC;
    t->worker = w;
    t->conn = c;
    t->gen = w->current;
    t->listener = c->listener;
    t->timer.fn = on_timer;
    t->deadline_total_ns = MC_NEVER_NS;
    t->at.begun = worker_now(w);
    t->at.begun_wall = units_wall_ns();
    wait_init(&t->wait, on_turn);
    gen_pin(t->gen);
    c->tcp = t;
    stat_add(&w->stats.tcp_connections, 1);
    if (name.n == 0 && stream_facts(&c->stream) == NULL && t->listener->by_name) {
        set_deadline(t, t->listener->conf.head_timeout_ns);
        return;
    }
    take_name(t, name);
    route(t);
}

static void
hold(struct tcp *t, struct block *b)
{
    block_append(loop_blocks(t->worker->loop), &t->hold, block_at(b), b->len);
    if (t->hold->len >= HOLD_MAX)
        stream_recv(&t->conn->stream, false);
}

void
tcp_client_data(struct tcp *t, struct block **b)
{
    if (t->state == TCP_RELAY) {
        tcp_relay_data(t, &t->in, b);
        return;
    }
    hold(t, *b);
    if (t->state == TCP_PEEK)
        peek(t);
}

void
tcp_client_end(struct tcp *t)
{
    if (t->state == TCP_RELAY)
        tcp_relay_end(t, &t->in);
    else if (t->state == TCP_PEEK)
        tcp_client_gone(t, END_CLIENT_GONE);
    else
        t->early_end = true;
}

void
tcp_client_drained(struct tcp *t)
{
    if (t->state == TCP_RELAY)
        tcp_relay_drained(t, &t->out);
}

void
tcp_client_gone(struct tcp *t, enum end_reason why)
{
    if (why == END_CLIENT_GONE)
        stat_add(&t->worker->stats.client_gone, 1);
    tcp_end(t, why);
}

/* --- another configuration ----------------------------------------------------------------------
 */

static struct pool_rt *
same_pool(const struct tcp *t, struct gen *g)
{
    for (unsigned i = 0; i < g->snap->n_pools; i++)
        if (g->pools[i].pool->live == pool_of(t)->live)
            return &g->pools[i];
    return NULL;
}

static bool
find_server(const struct pool *p, const struct server *s, uint32_t *index)
{
    for (*index = 0; *index < p->view.n; ++*index)
        if (p->servers[*index] == s)
            return true;
    return false;
}

static const struct listener *
same_listener(const struct tcp *t, const struct snapshot *s)
{
    for (unsigned i = 0; i < s->n_listeners; i++)
        if (s->listeners[i].live == t->conn->live)
            return &s->listeners[i];
    return NULL;
}

/* NULL: it is gone, which concerns only those who still come. */
static const struct route *
same_route(const struct tcp *t, const struct listener *l)
{
    for (unsigned i = 0; t->route != NULL && i < l->n_routes; i++)
        if (strcmp(l->routes[i]->conf.name, t->route->conf.name) == 0)
            return l->routes[i];
    return NULL;
}

/* A connection may last for days, and reloads come by the minute: it counts on the newest
 * generation that knows its listener and its server, and not on the one that it began with. */
static void
move_to(struct tcp *t, struct gen *g)
{
    struct pool_rt *p = same_pool(t, g);
    const struct listener *l = same_listener(t, g->snap);
    struct gen *old = t->gen;
    uint32_t index;

    if (p == NULL || l == NULL || p->pool->brain != pool_of(t)->brain ||
        !find_server(p->pool, t->server, &index))
        return;
    t->route = same_route(t, l);
    t->listener = l;
    t->pool = p;
    t->server_index = index;
    t->tries.n_avoided = 0; /* which are indices, too */
    t->gen = g;
    gen_pin(g);
    gen_unpin(t->worker, old);
}

void
tcp_adopt(struct worker *w)
{
    LIST_FOREACH (it, &w->conns) {
        struct tcp *t = LIST_ENTRY(it, struct conn, link)->tcp;

        if (t != NULL && t->state == TCP_RELAY)
            move_to(t, w->current);
    }
}

/* --- the end ------------------------------------------------------------------------------------
 */

static mc_ns
phase(mc_ns from, mc_ns to)
{
    return from == 0 || to == 0 ? -1 : to - from;
}

static void
log_connection(struct tcp *t)
{
    const struct tls_facts *facts = conn_tls(t->conn);
    const struct told *told = t->conn->told;
    const bool placed = t->at.placed != 0;
    char client[ADDR_TEXT];
    struct access_record r = {
        .tcp = true,
        .begun_wall_ns = t->at.begun_wall,
        .client_ip = conn_client_ip(t->conn, client).p,
        .client_port = t->conn->peer_port,
        .proxy = told != NULL ? told->via : NULL,
        .proxy_id = told != NULL ? told->header.unique_id : STR_NONE,
        .listener = t->listener->conf.name,
        .route = t->route ? t->route->conf.name : NULL,
        .pool = t->pool ? pool_of(t)->conf.name : NULL,
        .server = placed ? t->server_name : NULL,
        .reason = placed ? place_reason_name(t->why) : NULL,
        .bytes_in = t->in.bytes,
        .bytes_out = t->out.bytes,
        .retries = t->tries.n,
        .head_ns = phase(t->at.begun, t->at.routed),
        .queue_ns = placed ? t->queue_ns : -1,
        .connect_ns = phase(t->at.placed, t->at.connected),
        .first_byte_ns = phase(t->at.connected, t->at.first_byte),
        .total_ns = worker_now(t->worker) - t->at.begun,
        .tls_version = facts != NULL ? facts->version : NULL,
        .tls_cipher = facts != NULL ? facts->cipher : NULL,
        .sni = {t->name, t->name_n},
        .end = end_reason_name(t->end),
    };

    account_log(t->worker, t->gen, &r);
}

static void
drop_hold(struct tcp *t)
{
    while (t->hold != NULL) {
        struct block *b = t->hold;

        t->hold = b->next;
        block_give(loop_blocks(t->worker->loop), &b);
    }
}

void
tcp_end(struct tcp *t, enum end_reason why)
{
    struct worker *w = t->worker;
    struct conn *c = t->conn;
    const bool whole = why == END_OK, refused = why == END_NO_ROUTE;

    MC_CHECK(t, TCP_MAGIC);
    if (t->state == TCP_RELAY) {
        tcp_relay_settle(t);
        if (whole && t->server != NULL)
            server_note(t->server, SERVER_OK, worker_now(w));
    }
    t->state = TCP_DONE;
    t->end = why;
    loop_timer_clear(w->loop, &t->timer);
    wait_leave(w, &t->wait);
    end_attempt(t, !whole || !t->in.ended);
    drop_hold(t);
    if (t->gen->snap->access_log != NULL)
        log_connection(t);
    c->eof |= t->in.ended; /* who splices does not hear of it */
    conn_tcp_done(c, whole || refused);
    gen_unpin(w, t->gen);
    t->magic = 0;
    slab_give(&w->tcp_slab, t);
}
