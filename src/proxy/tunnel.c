/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tunnel.c - WebSocket and other protocols behind an upgrade (RFC 9110 7.8, RFC 6455).
 *
 * A switch is believed only when it is to a protocol that the client has offered and the pool
 * allows, after the whole request: who lets any 101 pass lets clients speak to servers past every
 * check.  Nothing that the client sends reaches the server before.
 *
 * What a tunnel keeps is its slot at the server (it holds a connection there), its transaction and
 * its snapshot.  What it costs is none of a request's cost: placement hears nothing of it, and time
 * limits of requests end with the switch.
 */
#include "proxy/tunnel.h"

#include "http/upgrade.h"
#include "proxy/load_report.h"
#include "proxy/worker_priv.h"

/* How often a side that is to be cut is asked whether it has taken its last bytes. */
#define TAKEN_POLL_NS (20 * MC_MS)

static struct server_counters *
counters(const struct txn *t)
{
    return &t->server->counters[t->worker->conf.index];
}

/* --- the switch ----------------------------------------------------------------------------------
 */

bool
tunnel_ask(struct txn *t)
{
    bool may_ignore;

    t->upgrade = upgrade_offer(&t->req, t->pool->pool->conf.upgrade, &t->arena, &may_ignore);
    return t->upgrade.n > 0 || may_ignore;
}

struct str
tunnel_required(struct txn *t, const struct http_head *h)
{
    bool may_ignore;

    return upgrade_offer(h, t->pool->pool->conf.upgrade, &t->arena, &may_ignore);
}

/* Why this 101 is not to be believed; NULL: it is. */
static const char *
distrust(const struct txn *t, const struct http_head *h)
{
    if (t->upgrade.n == 0)
        return "101 although nobody asked for another protocol";
    if (!t->req_ended)
        return "101 before the end of the request";
    if (!upgrade_agrees(h, t->upgrade))
        return "101 with a protocol that was not asked for";
    return NULL;
}

/* Its answer is there and good; the rest is not the server's time. */
static void
account_switch(struct txn *t)
{
    struct worker_stats *s = &t->worker->stats;

    t->at.first_byte = worker_now(t->worker);
    t->status = 101;
    t->resp_begun = true;
    stat_add(&s->responses_1xx, 1);
    stat_add(&s->tunnels, 1);
    stat_add(&s->active_tunnels, 1);
    stat_add(&counters(t)->responses_1xx, 1);
    stat_hist_add(&counters(t)->response_time, t->at.first_byte - t->at.sent);
    server_note(t->server, SERVER_OK, worker_now(t->worker));
    t->attempt_end = PLACE_END_VOID;
    if (pool_learns(t->pool->pool))
        weigh_end(t);
    t->tunnel = true;
}

static struct str
protocol_of(const struct http_head *h)
{
    return http_field_value(http_field_find(h, FIELD_UPGRADE));
}

static void
open_tunnel(struct txn *t, const struct http_head *h)
{
    struct http_head out;
    struct down_head d = {.head = &out, .body = HTTP_BODY_NONE, .upgrade = t->upgrade};
    struct block *early;

    load_report_interim(t, h, &out);
    t->up->switched(t);
    early = t->down->switched(t, &d, &t->down_ended);
    if (early != NULL) {
        tunnel_down_data(t, &early);
        block_give(loop_blocks(t->worker->loop), &early);
    }
    if (t->down_ended)
        t->up->shut(t);
    else if (t->up->unsent(t) <= RELAY_HIGH)
        t->down->want(t, true);
}

/* --- time ----------------------------------------------------------------------------------------
 */

/* Once a side has ended, what the other still says is like the rest of a body. */
static mc_ns
limit_of(const struct txn *t)
{
    const struct pool_conf *p = &t->pool->pool->conf;
    const bool half = t->down_ended || t->up_ended;

    return half && p->idle_timeout_ns < p->tunnel_timeout_ns ? p->idle_timeout_ns
                                                             : p->tunnel_timeout_ns;
}

static void
watch(struct txn *t, mc_ns at_ns)
{
    t->phase_deadline_ns = at_ns;
    txn_arm(t);
}

void
tunnel_switch(struct txn *t, const struct http_head *h)
{
    t->detail = distrust(t, h);
    if (t->detail != NULL) {
        txn_up_failed(t, END_BAD_UPGRADE);
        return;
    }
    account_switch(t);
    txn_enter(t, TXN_TUNNEL);
    t->upgrade = arena_str(&t->arena, protocol_of(h));
    t->in_progress_ns = t->entered_ns;
    t->deadline_total_ns = MC_NEVER_NS;
    open_tunnel(t, h);
    watch(t, t->entered_ns + limit_of(t));
}

/* --- the end -------------------------------------------------------------------------------------
 */

static void
finish(struct txn *t, enum end_reason why)
{
    t->end = why;
    if (why != END_OK && why != END_CLIENT_GONE)
        t->down->abort(t);
    txn_finish(t);
}

/* Both have said all that they have to say, and both have been told. */
static void
finish_if_over(struct txn *t)
{
    if (t->down_ended && t->up_ended && t->up->unsent(t) == 0 && t->down->unsent(t) == 0)
        finish(t, END_OK);
}

/* The side that is not broken. */
static uint64_t
rest_untaken(const struct txn *t)
{
    return t->end == END_CLIENT_GONE ? t->up->untaken(t) : t->down->untaken(t);
}

/* A reset overtakes what is still on its way, so it waits for that: as long as it is taken. */
static void
cut(struct txn *t)
{
    const mc_ns now = worker_now(t->worker);
    const uint64_t rest = rest_untaken(t);

    if (rest < t->out_untaken_seen)
        t->in_progress_ns = now;
    t->out_untaken_seen = rest;
    if (rest == 0 || now - t->in_progress_ns >= t->pool->pool->conf.idle_timeout_ns)
        finish(t, t->end);
    else
        watch(t, now + TAKEN_POLL_NS);
}

static void
broken(struct txn *t, enum end_reason why)
{
    if (t->cutting) { /* now it is both */
        finish(t, t->end);
        return;
    }
    t->cutting = true;
    t->end = why;
    t->in_progress_ns = worker_now(t->worker);
    t->out_untaken_seen = UINT64_MAX;
    if (why == END_CLIENT_GONE)
        t->up->want(t, false);
    else
        t->down->want(t, false);
    cut(t);
}

void
tunnel_down_broken(struct txn *t)
{
    broken(t, END_CLIENT_GONE);
}

void
tunnel_up_broken(struct txn *t)
{
    broken(t, END_SERVER_RESET);
}

void
tunnel_tick(struct txn *t)
{
    const mc_ns now = worker_now(t->worker), limit = limit_of(t);
    const uint64_t in = t->up->unsent(t) > 0 ? t->up->untaken(t) : 0;
    const uint64_t out = t->down->unsent(t) > 0 ? t->down->untaken(t) : 0;

    if (t->cutting) {
        cut(t);
        return;
    }
    if (in != t->in_untaken_seen || out != t->out_untaken_seen)
        t->in_progress_ns = now;
    t->in_untaken_seen = in;
    t->out_untaken_seen = out;
    if (now - t->in_progress_ns >= limit)
        finish(t, END_TUNNEL_TIMEOUT);
    else
        watch(t, t->in_progress_ns + limit);
}

/* --- client to server ----------------------------------------------------------------------------
 */

/* hot: once per read */
void
tunnel_down_data(struct txn *t, struct block **b)
{
    const uint32_t n = (*b)->len;

    t->bytes_in += n;
    t->in_progress_ns = worker_now(t->worker);
    stat_add(&t->worker->stats.tunnel_bytes_in, n);
    stat_add(&counters(t)->bytes_out, n);
    t->up->data(t, b);
    if (t->up->unsent(t) > RELAY_HIGH)
        t->down->want(t, false);
}

void
tunnel_down_end(struct txn *t)
{
    t->down_ended = true;
    t->up->shut(t);
    watch(t, worker_now(t->worker) + limit_of(t));
    finish_if_over(t);
}

void
tunnel_up_drained(struct txn *t)
{
    t->in_progress_ns = worker_now(t->worker);
    if (t->cutting)
        return;
    if (!t->down_ended)
        t->down->want(t, true);
    finish_if_over(t);
}

/* --- server to client ----------------------------------------------------------------------------
 */

/* hot: once per read */
void
tunnel_up_data(struct txn *t, struct block **b)
{
    const uint32_t n = (*b)->len;

    t->bytes_out += n;
    t->in_progress_ns = worker_now(t->worker);
    stat_add(&t->worker->stats.tunnel_bytes_out, n);
    stat_add(&counters(t)->bytes_in, n);
    t->down->data(t, b);
    if (t->down->unsent(t) > RELAY_HIGH)
        t->up->want(t, false);
}

void
tunnel_up_end(struct txn *t)
{
    t->up_ended = true;
    t->down->shut(t);
    watch(t, worker_now(t->worker) + limit_of(t));
    finish_if_over(t);
}

void
tunnel_down_drained(struct txn *t)
{
    t->in_progress_ns = worker_now(t->worker);
    if (t->cutting)
        return;
    if (!t->up_ended)
        t->up->want(t, true);
    finish_if_over(t);
}
