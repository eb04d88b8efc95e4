/* SPDX-License-Identifier: BSD-2-Clause
 *
 * txn.c - the way of a request: ROUTE, PLACE, CONNECT, RELAY, DONE.
 *
 * Bodies are relay.c's, answers of our own reply.c's.  Each step says whether the next one can run
 * (MORE) or something has to happen first (PAUSE); an event then calls run() again.
 *
 * What may be repeated, and when (RFC 9110 9.2.2):
 *  - nothing of the request was sent (the connection failed): any request, at another server;
 *  - the head was sent but no response head is out: idempotent methods, unless body bytes went too;
 *  - a kept connection turned out to be dead before the first response byte: the same requests,
 * once, on a fresh connection, which costs no retry;
 *  - the server says that it did nothing with it (HTTP/2): any request whose body is still here, a
 * few times, which costs no retry either.
 */
#include "proxy/txn.h"

#include "proxy/call.h"
#include "proxy/tunnel.h"
#include "proxy/up_h2.h"
#include "proxy/upconn.h"
#include "proxy/worker_priv.h"

enum step { STEP_MORE, STEP_PAUSE };

static const struct {
    const char *text;
    unsigned next;
} states[] = {
#define X(name, text, next) [TXN_##name] = {text, next},
    TXN_STATES(X)
#undef X
};

const char *
txn_state_text(enum txn_state s)
{
    MC_ASSERT(s < MC_COUNT(states));
    return states[s].text;
}

void
txn_enter(struct txn *t, enum txn_state to)
{
    MC_CHECK(t, TXN_MAGIC);
    MC_ASSERT(states[t->state].next & (1u << to));
    t->state = to;
    t->entered_ns = worker_now(t->worker);
}

/* --- time limits --------------------------------------------------------------------------------
 */

void
txn_arm(struct txn *t)
{
    mc_ns at = mc_sooner(t->phase_deadline_ns, t->deadline_total_ns);

    if (at == MC_NEVER_NS)
        loop_timer_clear(t->worker->loop, &t->timer);
    else if (!timer_is_set(&t->timer) || t->timer.at_ns != at)
        loop_timer_set(t->worker->loop, &t->timer, at);
}

static void
set_phase_deadline(struct txn *t, mc_ns limit_ns)
{
    t->phase_deadline_ns = limit_ns > 0 ? worker_now(t->worker) + limit_ns : MC_NEVER_NS;
    txn_arm(t);
}

static void
on_timer(struct timer *timer)
{
    struct txn *t = container_of(timer, struct txn, timer);
    const mc_ns now = worker_now(t->worker);

    MC_CHECK(t, TXN_MAGIC);
    if (t->deadline_total_ns <= now)
        txn_fail(t, call_is_over(t) ? END_GRPC_TIMEOUT : END_TOTAL_TIMEOUT);
    else if (t->state == TXN_RELAY)
        relay_tick(t);
    else if (t->state == TXN_TUNNEL)
        tunnel_tick(t);
    else if (t->phase_deadline_ns > now)
        txn_arm(t);
    else if (t->state == TXN_WAIT) {
        stat_add(&t->worker->stats.queue_timeouts, 1);
        txn_fail(t, END_QUEUE_TIMEOUT);
    } else {
        upconn_tell_wait(t);
        txn_up_failed(t, END_CONNECT_TIMEOUT);
    }
}

/* --- birth and end ------------------------------------------------------------------------------
 */

/* Runs steps until one waits. */
static void run(struct txn *);

static void
on_turn(struct waiter *m)
{
    struct txn *t = container_of(m, struct txn, wait);

    txn_enter(t, TXN_PLACE);
    run(t);
}

struct txn *
txn_new(struct worker *w, struct gen *g, const struct listener *l, const struct down_ops *down,
        void *down_side)
{
    struct txn *t = slab_take(&w->txn_slab);

    memset(t, 0, offsetof(struct txn, arena));
    t->magic = TXN_MAGIC;
    t->state = TXN_READ_HEAD;
    t->worker = w;
    t->gen = g;
    t->listener = l;
    t->down = down;
    t->down_side = down_side;
    t->timer.fn = on_timer;
    t->deadline_total_ns = t->phase_deadline_ns = MC_NEVER_NS;
    t->at.begun_wall = units_wall_ns();
    wait_init(&t->wait, on_turn);
    arena_init(&t->arena, &w->arenas);
    gen_pin(g);
    stat_add(&w->stats.active_requests, 1);
    return t;
}

/* Ends an attempt: the server's side and its slot are given back. */
static void
end_attempt(struct txn *t, bool reuse)
{
    struct server *s = t->server;

    if (t->up != NULL)
        t->up->release(t, reuse);
    t->head_sent = t->req_ended = t->heard = false;
    if (s == NULL)
        return;
    if (pool_learns(t->pool->pool) && t->tunnel == NULL)
        weigh_end(t);
    t->server = NULL;
    pool_end(t->pool->pool, s);
    wait_kick(t->worker, t->pool->pool);
}

void
txn_finish(struct txn *t)
{
    struct worker *w = t->worker;

    if (t->state != TXN_DONE)
        txn_enter(t, TXN_DONE);
    loop_timer_clear(w->loop, &t->timer);
    wait_leave(t->worker, &t->wait);
    if (t->tunnel != NULL)
        tunnel_settle(t);
    end_attempt(t, t->resp_done && t->req_ended);
    relay_drop_hold(t);
    account_done(t);
    t->down->done(t);
    gen_unpin(w, t->gen);
    arena_drop(&t->arena);
    stat_add(&w->stats.active_requests, (uint64_t)-1);
    t->magic = 0;
    slab_give(&w->txn_slab, t);
}

/* --- steps --------------------------------------------------------------------------------------
 */

/* Requests that this balancer does not forward. */
static enum end_reason
refusal(const struct txn *t)
{
    const struct listener_conf *l = &t->listener->conf;
    const struct http_field *mf = http_field_find(&t->req, FIELD_MAX_FORWARDS);

    if (t->req.method == HTTP_M_CONNECT)
        return END_METHOD;
    if (l->body_max_bytes != 0 && t->req.body == HTTP_BODY_LENGTH &&
        t->req.content_length > l->body_max_bytes)
        return END_BODY_TOO_LARGE;
    if (mf != NULL && (t->req.method == HTTP_M_OPTIONS || t->req.method == HTTP_M_TRACE) &&
        str_eq(http_field_value(mf), STR("0")))
        return END_MAX_FORWARDS;
    return END_OK;
}

static enum step
reply(struct txn *t, enum end_reason why)
{
    t->end = why;
    txn_enter(t, TXN_REPLY);
    return STEP_MORE;
}

static enum step
route(struct txn *t)
{
    const struct snapshot *s = t->gen->snap;
    enum end_reason no = refusal(t);

    if (no != END_OK)
        return reply(t, no);
    t->route = route_find(s->routes, s->n_routes, http_host_only(t->req.authority), t->req.path);
    if (t->route == NULL) {
        stat_add(&t->worker->stats.no_route, 1);
        return reply(t, END_NO_ROUTE);
    }
    if (t->route->limit != NULL && !limit_take(t->route->limit, worker_now(t->worker), &t->wait_ns))
        return reply(t, END_RATE_LIMITED);
    t->pool = &t->gen->pools[t->route->pool_index];
    if (t->req.upgrade && !tunnel_ask(t))
        return reply(t, END_UPGRADE);
    budget_earn(&t->pool->budget, &t->pool->pool->conf, worker_now(t->worker));
    if (t->pool->pool->conf.total_timeout_ns > 0)
        t->deadline_total_ns = t->at.head + t->pool->pool->conf.total_timeout_ns;
    if (t->req.method == HTTP_M_POST) /* as every call of gRPC */
        call_start(t);
    if (t->pool->pool->brain != NULL)
        weigh_request(t);
    txn_enter(t, TXN_PLACE);
    return STEP_MORE;
}

/* What policies that learn go by. */
static void
find_need(const struct txn *t, struct place_ask *ask)
{
    const struct brain *b = t->pool->pool->brain;

    ask->now = worker_now(t->worker);
    if (b == NULL)
        return;
    ask->now += b->wall_ns;
    ask->cost = &t->use.cost;
}

/* What hashing policies go by. */
static void
find_key(const struct txn *t, struct place_ask *ask)
{
    struct str key = pool_hash_key(&t->pool->pool->conf, &t->req, t->client_ip);

    ask->has_key = key.n > 0;
    ask->key = str_hash(key, 0);
}

static enum step
wait_for_server(struct txn *t)
{
    const bool waited = t->wait.queue != NULL;

    if (!wait_enter(t->worker, t->pool, &t->wait))
        return reply(t, END_QUEUE_FULL);
    txn_enter(t, TXN_WAIT);
    if (!waited)
        set_phase_deadline(t, t->pool->pool->conf.queue_timeout_ns);
    return STEP_PAUSE;
}

static enum step
place(struct txn *t)
{
    struct place_ask ask = {.tried = t->tries.avoided, .n_tried = t->tries.n_avoided};
    struct pool_pick pick;

    if (t->pool->queue->n > 0 && t->wait.queue == NULL && t->tries.n == 0 && !t->fresh_only)
        return wait_for_server(t); /* nobody overtakes those who wait */
    find_key(t, &ask);
    find_need(t, &ask);
    if (!pool_pick(&t->pool->pick, &ask, &t->worker->rng, &pick)) {
        if (pick.reason == PLACE_FULL)
            return wait_for_server(t);
        return reply(t, END_NO_SERVER);
    }
    wait_leave(t->worker, &t->wait);
    t->server = pick.server;
    t->server_index = pick.index;
    t->crowd = pick.crowd;
    t->why = pick.reason;
    t->at.placed = worker_now(t->worker);
    t->attempt_end = PLACE_END_VOID;
    t->client_slow = false;
    if (t->pool->pool->brain != NULL)
        weigh_begin(t);
    t->at.connected = t->at.sent = 0; /* of an attempt before */
    if (t->tries.n == 0 && !t->fresh_only)
        t->queue_ns = t->at.placed - t->at.head;
    txn_enter(t, TXN_CONNECT);
    return STEP_MORE;
}

/* There is a connection: the request is sent on it, or when others know of it. */
static enum step
connected(struct txn *t)
{
    t->at.connected = worker_now(t->worker);
    if (t->down->tell != NULL && !t->down->tell(t)) {
        txn_enter(t, TXN_TELL);
        set_phase_deadline(t, 0);
        return STEP_PAUSE;
    }
    txn_enter(t, TXN_RELAY);
    return STEP_MORE;
}

/* END_OK, or why there is no hope of a connection.  True: there is one already. */
static bool
connect_h1(struct txn *t, enum end_reason *why)
{
    t->reused = !t->fresh_only && upconn_reuse(t);
    if (!t->reused)
        *why = upconn_dial(t);
    return t->reused;
}

static bool
connect_h2(struct txn *t, enum end_reason *why)
{
    const enum h2_joined how = up_h2_join(t, why);

    return how == H2_ALONE ? connect_h1(t, why) : how == H2_JOINED;
}

static enum step
connect_up(struct txn *t)
{
    enum end_reason why = END_OK;

    if (t->pool->pool->conf.protocol == POOL_HTTP1 ? connect_h1(t, &why) : connect_h2(t, &why))
        return connected(t);
    if (why == END_NO_FDS)
        idle_evict_oldest(t->worker->idle); /* somebody after us finds a descriptor */
    if (why != END_OK) {
        txn_up_failed(t, why);
        return STEP_PAUSE;
    }
    set_phase_deadline(t, t->pool->pool->conf.connect_timeout_ns);
    return STEP_PAUSE;
}

static enum step
relay(struct txn *t)
{
    t->at.sent = worker_now(t->worker);
    relay_watch(t, MC_NEVER_NS);
    relay_start(t);
    return STEP_PAUSE;
}

static enum step
reply_step(struct txn *t)
{
    reply_send(t);
    txn_finish(t);
    return STEP_PAUSE;
}

static void
run(struct txn *t)
{
    enum step s = STEP_PAUSE;

    do {
        MC_CHECK(t, TXN_MAGIC);
        switch (t->state) {
        case TXN_READ_HEAD: MC_NEVER("a transaction runs from ROUTE on");
        case TXN_ROUTE: s = route(t); break;
        case TXN_PLACE: s = place(t); break;
        case TXN_WAIT: s = STEP_PAUSE; break;
        case TXN_CONNECT: s = connect_up(t); break;
        case TXN_TELL: s = STEP_PAUSE; break;
        case TXN_RELAY: s = relay(t); break;
        case TXN_TUNNEL: s = STEP_PAUSE; break;
        case TXN_REPLY: s = reply_step(t); break;
        case TXN_DONE: s = STEP_PAUSE; break;
        }
    } while (s == STEP_MORE);
}

/* --- events of the client's side -----------------------------------------------------------------
 */

void
txn_begin(struct txn *t)
{
    account_request(t);
    txn_enter(t, TXN_ROUTE);
    run(t);
}

void
txn_refuse(struct txn *t, unsigned status, const char *detail)
{
    stat_add(&t->worker->stats.requests_bad, 1);
    t->detail = detail;
    if (!t->resp_begun)
        t->status = (uint16_t)status;
    txn_fail(t, END_BAD_REQUEST);
}

void
txn_drop(struct txn *t, const char *detail)
{
    stat_add(&t->worker->stats.requests_bad, 1);
    t->detail = detail;
    t->end = END_BAD_REQUEST;
    txn_finish(t);
}

void
txn_down_gone(struct txn *t, enum end_reason why)
{
    if (why == END_CLIENT_GONE)
        stat_add(&t->worker->stats.client_gone, 1);
    t->end = why;
    txn_finish(t);
}

/* --- failures ------------------------------------------------------------------------------------
 */

void
txn_fail(struct txn *t, enum end_reason why)
{
    t->end = why;
    if (t->resp_begun) {
        if (!call_break(t))
            t->down->abort(t);
        txn_finish(t);
        return;
    }
    wait_leave(t->worker, &t->wait);
    end_attempt(t, false);
    txn_enter(t, TXN_REPLY);
    run(t);
}

enum server_outcome
txn_outcome(enum end_reason why)
{
    switch (why) {
    case END_REFUSED: return SERVER_REFUSED;
    case END_CONNECT_TIMEOUT: return SERVER_CONNECT_TIMEOUT;
    case END_UNREACHABLE:
    case END_NO_ADDRESS: return SERVER_CONNECT_ERROR;
    case END_TLS_CERTIFICATE:
    case END_TLS_ALERT:
    case END_TLS_PROTOCOL: return SERVER_TLS_FAILED;
    case END_FIRST_BYTE_TIMEOUT:
    case END_SERVER_READ_TIMEOUT:
    case END_SERVER_SILENT:
    case END_SERVER_WRITE_TIMEOUT: return SERVER_TIMEOUT;
    default: return SERVER_BROKEN;
    }
}

/* Tells passive health; what is not the server's doing is not held against it. */
static void
note_failure(struct txn *t, enum end_reason why)
{
    struct server_counters *c = &t->server->counters[t->worker->conf.index];

    if (why == END_NO_FDS || why == END_UNPROCESSED)
        return;
    t->attempt_end = PLACE_END_FAILED;
    if (txn_outcome(why) == SERVER_TIMEOUT || why == END_CONNECT_TIMEOUT)
        stat_add(&c->timeouts, 1);
    else if (txn_outcome(why) == SERVER_BROKEN)
        stat_add(&c->response_errors, 1);
    if (why == END_CONNECT_TIMEOUT || why == END_NO_ADDRESS)
        stat_add(&c->connect_errors, 1);
    server_note(t->server, txn_outcome(why), worker_now(t->worker));
}

static bool
may_repeat(const struct txn *t, enum end_reason why)
{
    if (t->resp_begun)
        return false;
    if (!t->head_sent)
        return true;
    if (why != END_SERVER_CLOSED && why != END_SERVER_RESET && why != END_SERVER_SILENT)
        return false;
    return !t->req_body_used && (http_method_props(t->req.method) & HTTP_IDEMPOTENT) != 0;
}

/* Another attempt within the pool's number and budget; the failed server is avoided. */
static bool
retry_allowed(struct txn *t)
{
    return budget_retry(t->worker, t->pool, t->server, t->server_index, &t->tries);
}

void
txn_up_failed(struct txn *t, enum end_reason why)
{
    bool again = may_repeat(t, why);
    bool stale = t->reused && !t->heard && (why == END_SERVER_CLOSED || why == END_SERVER_RESET);

    if (!stale)
        note_failure(t, why);
    if (again && stale) {
        /* the server closed a kept connection, as it may at any time: no fault, no retry counted */
        end_attempt(t, false);
        t->fresh_only = true;
    } else if (again && retry_allowed(t)) {
        end_attempt(t, false);
    } else {
        txn_fail(t, why);
        return;
    }
    t->detail = NULL; /* of an attempt that is over */
    txn_enter(t, TXN_PLACE);
    run(t);
}

/* The body becomes what it was before there was a server. */
static void
hold_again(struct txn *t, struct block **body)
{
    relay_drop_hold(t);
    t->hold = *body;
    *body = NULL;
    for (const struct block *b = t->hold; b != NULL; b = b->next)
        t->hold_bytes += b->len;
    t->req_body_used = false;
}

/* Servers that are about to leave give requests back, and those that take no more at once; one
 * that does nothing else is of no use. */
#define UNPROCESSED_MAX 5

void
txn_up_unprocessed(struct txn *t, struct block **body, bool lost, bool elsewhere)
{
    hold_again(t, body);
    if (lost || ++t->unprocessed > UNPROCESSED_MAX) {
        t->req_body_used = lost;
        txn_up_failed(t, END_UNPROCESSED);
        return;
    }
    if (elsewhere)
        tries_avoid(&t->tries, t->server_index);
    end_attempt(t, false);
    txn_enter(t, TXN_PLACE);
    run(t);
}

void
txn_up_ready(struct txn *t)
{
    if (connected(t) == STEP_MORE)
        run(t);
}

void
txn_told(struct txn *t)
{
    if (t->state != TXN_TELL)
        return; /* its server has gone meanwhile */
    txn_enter(t, TXN_RELAY);
    run(t);
}
