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
#include "proxy/websocket.h"
#include "proxy/worker_priv.h"

/* How often a side that is to be cut is asked whether it has taken its last bytes. */
#define TAKEN_POLL_NS (20 * MC_MS)

/* So many bytes lately are worth a pipe, and fewer in a tick give it back: splicing is cheaper from
 * 128 KB on (relay.c), and pipes are few. */
#define BULK_BYTES    (256u << 10)
#define TICK_NS       MC_SEC

#define ACCEPT_NAME   STR("sec-websocket-accept")

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
    const struct pool_conf *p = &t->pool->pool->conf;
    bool may_ignore;

    t->upgrade =
        upgrade_offer(&t->req, pool_upgrades(p) ? p->upgrade : NULL, &t->arena, &may_ignore);
    return t->upgrade.n > 0 || may_ignore;
}

struct str
tunnel_required(struct txn *t, const struct http_head *h)
{
    bool may_ignore;

    return upgrade_offer(h, t->pool->pool->conf.upgrade, &t->arena, &may_ignore);
}

static bool
is_named(const struct http_field *f, struct str name)
{
    return str_eq_ci((struct str){f->name, f->name_len}, name);
}

/* Copies all fields but those of one name; returns how many. */
static unsigned
copy_without(struct http_field *to, const struct http_head *h, struct str name)
{
    unsigned n = 0;

    for (unsigned i = 0; i < h->n_fields; i++)
        if (!is_named(&h->fields[i], name))
            to[n++] = h->fields[i];
    return n;
}

/* A key of our own, written as a head has it. */
static struct http_field
key_field(struct txn *t)
{
    static const char name[] = "Sec-WebSocket-Key";
    char key[WEBSOCKET_KEY], accept[WEBSOCKET_ACCEPT];
    struct str line;

    websocket_key(&t->worker->rng, key);
    websocket_accept(key, accept);
    t->accept = arena_str(&t->arena, str_of(accept));
    line = arena_printf(&t->arena, "%s: %s", name, key);
    return (struct http_field){line.p, line.p + sizeof(name) + 1, WEBSOCKET_KEY - 1,
                               sizeof(name) - 1, FIELD_OTHER};
}

void
tunnel_connect(struct txn *t, struct str protocol)
{
    struct http_head *h = &t->req;
    struct http_field *f = arena_alloc(&t->arena, (h->n_fields + 2u) * sizeof(*f));
    unsigned n = copy_without(f, h, STR("sec-websocket-key"));

    f[n++] = (struct http_field){"Upgrade", protocol.p, (uint32_t)protocol.n, 7, FIELD_UPGRADE};
    if (str_eq_ci(protocol, STR("websocket")))
        f[n++] = key_field(t);
    h->fields = f;
    h->n_fields = (uint16_t)n;
    h->method = HTTP_M_GET;
    h->method_text = STR("GET");
    h->body = HTTP_BODY_NONE;
    h->has_content_length = h->expect_continue = false;
    h->upgrade = t->must_switch = true;
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
    if (t->accept.n > 0 && !str_eq(http_field_get(h, ACCEPT_NAME), t->accept))
        return "101 without the Sec-WebSocket-Accept that answers the key";
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
    t->tunnel = arena_zalloc(&t->arena, sizeof(*t->tunnel));
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
    if (t->must_switch) { /* the client has sent no key */
        struct http_field *f = arena_alloc(&t->arena, (out.n_fields + 1u) * sizeof(*f));

        out.n_fields = (uint16_t)copy_without(f, &out, ACCEPT_NAME);
        out.fields = f;
    }
    t->up->switched(t);
    early = t->down->switched(t, &d, &t->tunnel->in.ended);
    if (early != NULL) {
        tunnel_down_data(t, &early);
        block_give(loop_blocks(t->worker->loop), &early);
    }
    if (t->tunnel->in.ended)
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
    const bool half = t->tunnel->in.ended || t->tunnel->out.ended;

    return half && p->idle_timeout_ns < p->tunnel_timeout_ns ? p->idle_timeout_ns
                                                             : p->tunnel_timeout_ns;
}

static void
watch(struct txn *t, mc_ns at_ns)
{
    const bool splicing = t->tunnel->in.splicing || t->tunnel->out.splicing;
    const mc_ns soon = worker_now(t->worker) + TICK_NS;

    t->phase_deadline_ns = splicing && soon < at_ns ? soon : at_ns;
    txn_arm(t);
}

static void
moved(struct txn *t)
{
    t->in_progress_ns = worker_now(t->worker);
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
    moved(t);
    t->deadline_total_ns = MC_NEVER_NS;
    open_tunnel(t, h);
    watch(t, t->entered_ns + limit_of(t));
}

/* --- one direction -------------------------------------------------------------------------------
 */

/* hot: once per read */
static void
count(struct txn *t, const struct tunnel_way *y, uint64_t n)
{
    struct worker_stats *s = &t->worker->stats;
    const bool in = y == &t->tunnel->in;

    *(in ? &t->bytes_in : &t->bytes_out) += n;
    stat_add(in ? &s->tunnel_bytes_in : &s->tunnel_bytes_out, n);
    stat_add(in ? &counters(t)->bytes_out : &counters(t)->bytes_in, n);
    moved(t);
}

static struct sock *
source(const struct txn *t, const struct tunnel_way *y)
{
    return y == &t->tunnel->in ? t->down->raw(t) : t->up->raw(t);
}

static struct sock *
sink(const struct txn *t, const struct tunnel_way *y)
{
    return y == &t->tunnel->in ? t->up->raw(t) : t->down->raw(t);
}

static void
want(struct txn *t, const struct tunnel_way *y, bool on)
{
    if (y == &t->tunnel->in)
        t->down->want(t, on);
    else
        t->up->want(t, on);
}

/* --- splice --------------------------------------------------------------------------------------
 */

static void
count_spliced(struct txn *t, struct tunnel_way *y, uint64_t n)
{
    if (n == y->spliced)
        return;
    stat_add(&t->worker->stats.spliced_bytes, n - y->spliced);
    count(t, y, n - y->spliced);
    y->spliced = n;
}

void
tunnel_settle(struct txn *t)
{
    struct tunnel_way *ways[] = {&t->tunnel->in, &t->tunnel->out};

    for (unsigned i = 0; i < MC_COUNT(ways); i++)
        if (ways[i]->splicing)
            count_spliced(t, ways[i], sock_splice_moved(source(t, ways[i])));
}

static void
spliced(struct txn *t, struct tunnel_way *y, uint64_t n, int err, bool from_failed)
{
    MC_CHECK(t, TXN_MAGIC);
    count_spliced(t, y, n);
    y->splicing = false;
    if (err == 0 && y == &t->tunnel->in)
        tunnel_down_end(t);
    else if (err == 0)
        tunnel_up_end(t);
    else if (from_failed == (y == &t->tunnel->in))
        tunnel_down_broken(t);
    else
        tunnel_up_broken(t);
}

static void
in_spliced(void *arg, uint64_t n, int err, bool from_failed)
{
    spliced(arg, &((struct txn *)arg)->tunnel->in, n, err, from_failed);
}

static void
out_spliced(void *arg, uint64_t n, int err, bool from_failed)
{
    spliced(arg, &((struct txn *)arg)->tunnel->out, n, err, from_failed);
}

static void
try_splice(struct txn *t, struct tunnel_way *y)
{
    struct sock *from = source(t, y), *to = sink(t, y);

    y->bulk = 0;
    if (t->gen->snap->splice_bytes == 0 || from == NULL || to == NULL)
        return;
    want(t, y, false);
    y->splicing =
        sock_splice(from, to, SPLICE_ALL, y == &t->tunnel->in ? in_spliced : out_spliced, t);
    y->spliced = y->spliced_seen = 0;
    if (y->splicing)
        watch(t, t->in_progress_ns + limit_of(t));
    else
        want(t, y, true);
}

/* hot: once per read.  Bulk comes in full reads; messages end in one that is not. */
static bool
is_bulk(struct tunnel_way *y, uint32_t n)
{
    y->bulk = n >= BLOCK_RX ? y->bulk + n : y->bulk / 2;
    return y->bulk >= BULK_BYTES;
}

/* The pipe goes back when a whole tick has brought little. */
static void
look_at_pipe(struct txn *t, struct tunnel_way *y)
{
    if (!y->splicing)
        return;
    if (y->spliced - y->spliced_seen < BULK_BYTES && sock_splice_stop(source(t, y))) {
        y->splicing = false;
        want(t, y, true);
    }
    y->spliced_seen = y->spliced;
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

/* Both have said their last, and the server has got all; what the client has not taken yet, its
 * side sends before it closes. */
static void
finish_if_over(struct txn *t)
{
    if (t->tunnel->in.ended && t->tunnel->out.ended && t->up->unsent(t) == 0)
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
    if (t->tunnel->cutting) { /* now it is both */
        finish(t, t->end);
        return;
    }
    t->tunnel->cutting = true;
    t->end = why;
    t->out_untaken_seen = UINT64_MAX;
    moved(t);
    want(t, why == END_CLIENT_GONE ? &t->tunnel->out : &t->tunnel->in, false);
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

/* What the target of a direction has taken without making room for more yet is progress, too; it is
 * only seen when somebody looks. */
static void
look(struct txn *t, struct tunnel_way *y)
{
    const bool in = y == &t->tunnel->in;
    const bool blocked = y->splicing ? sock_splice_blocked(source(t, y))
                                     : (in ? t->up->unsent(t) : t->down->unsent(t)) > 0;
    const uint64_t untaken = !blocked ? 0 : in ? t->up->untaken(t) : t->down->untaken(t);

    if (untaken != y->untaken_seen)
        moved(t);
    y->untaken_seen = untaken;
    look_at_pipe(t, y);
}

void
tunnel_tick(struct txn *t)
{
    const mc_ns limit = limit_of(t);

    if (t->tunnel->cutting) {
        cut(t);
        return;
    }
    tunnel_settle(t);
    look(t, &t->tunnel->in);
    look(t, &t->tunnel->out);
    if (worker_now(t->worker) - t->in_progress_ns >= limit)
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
    struct tunnel_way *y = &t->tunnel->in;
    const uint32_t n = (*b)->len;

    count(t, y, n);
    t->up->data(t, b);
    if (is_bulk(y, n))
        try_splice(t, y);
    if (!y->splicing && t->up->unsent(t) > RELAY_HIGH)
        t->down->want(t, false);
}

void
tunnel_down_end(struct txn *t)
{
    t->tunnel->in.ended = true;
    t->up->shut(t);
    watch(t, worker_now(t->worker) + limit_of(t));
    finish_if_over(t);
}

void
tunnel_up_drained(struct txn *t)
{
    const struct tunnel_way *y = &t->tunnel->in;

    moved(t);
    if (t->tunnel->cutting || y->splicing)
        return;
    if (!y->ended)
        t->down->want(t, true);
    finish_if_over(t);
}

/* --- server to client ----------------------------------------------------------------------------
 */

/* hot: once per read */
void
tunnel_up_data(struct txn *t, struct block **b)
{
    struct tunnel_way *y = &t->tunnel->out;
    const uint32_t n = (*b)->len;

    count(t, y, n);
    t->down->data(t, b);
    if (is_bulk(y, n))
        try_splice(t, y);
    if (!y->splicing && t->down->unsent(t) > RELAY_HIGH)
        t->up->want(t, false);
}

void
tunnel_up_end(struct txn *t)
{
    t->tunnel->out.ended = true;
    t->down->shut(t);
    watch(t, worker_now(t->worker) + limit_of(t));
    finish_if_over(t);
}

void
tunnel_down_drained(struct txn *t)
{
    const struct tunnel_way *y = &t->tunnel->out;

    moved(t);
    if (t->tunnel->cutting || y->splicing)
        return;
    if (!y->ended)
        t->up->want(t, true);
    finish_if_over(t);
}
