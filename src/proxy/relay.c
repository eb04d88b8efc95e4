/* SPDX-License-Identifier: BSD-2-Clause
 *
 * relay.c - a request to the server and its response to the client, with back-pressure both ways.
 *
 * What one side cannot take yet stops reception on the other: at most RELAY_HIGH bytes and one read
 * wait here for either direction, however large the body.  Long bodies of known length go by
 * splice.
 */
#include "http/forwarded.h"
#include "proxy/call.h"
#include "proxy/load_report.h"
#include "proxy/tunnel.h"
#include "proxy/worker_priv.h"

#define INTERIM_MAX 32 /* 1xx heads before a final one; a server that sends more is broken */

static void try_splice_down(struct txn *);
static void try_splice_up(struct txn *);

/* --- the request ---------------------------------------------------------------------------------
 */

static void
push_hold(struct txn *t, struct block **b)
{
    struct block **at = &t->hold;

    while (*at != NULL)
        at = &(*at)->next;
    *at = *b;
    (*b)->next = NULL;
    t->hold_bytes += (*b)->len;
    *b = NULL;
}

void
relay_drop_hold(struct txn *t)
{
    while (t->hold != NULL) {
        struct block *b = t->hold;

        t->hold = b->next;
        block_give(loop_blocks(t->worker->loop), &b);
    }
    t->hold_bytes = 0;
}

static void
send_request_data(struct txn *t, struct block **b)
{
    stat_add(&t->server->counters[t->worker->conf.index].bytes_out, (*b)->len);
    t->req_body_used = true;
    t->in_progress_ns = worker_now(t->worker);
    t->up->data(t, b);
    if (*b != NULL)
        block_give(loop_blocks(t->worker->loop), b);
}

static void
end_request(struct txn *t)
{
    t->req_ended = true;
    t->up->end(t, t->req_trailers, t->n_req_trailers);
}

static void
send_hold(struct txn *t)
{
    while (t->hold != NULL) {
        struct block *b = t->hold;

        t->hold = b->next;
        send_request_data(t, &b);
    }
    t->hold_bytes = 0;
    if (t->req_done)
        end_request(t);
    else
        t->down->want(t, true);
}

/* Fields that tell the server who asked, and this hop's own. */
static unsigned
request_fields(struct txn *t, struct http_field *add, field_set *drop)
{
    const struct listener_conf *l = &t->listener->conf;
    struct forwarded_in in = {
        .request = &t->req,
        .peer_ip = t->peer_ip.p,
        .local_port = t->local_port,
        .https = t->tls != NULL,
        .client_cert = t->tls != NULL ? t->tls->client_cert : STR_NONE,
        .peer_trusted = t->peer_trusted,
        .send_x = (l->forward & FORWARD_X) != 0,
        .send_forwarded = (l->forward & FORWARD_RFC7239) != 0,
        .via = l->via ? t->gen->snap->node : NULL,
    };
    unsigned n = forwarded_build(&in, add, drop, &t->arena);

    *drop |= FIELD_BIT(X_REQUEST_ID);
    add[n++] = (struct http_field){"X-Request-ID", t->request_id.p, (uint32_t)t->request_id.n, 12,
                                   FIELD_X_REQUEST_ID};
    return n;
}

/* RFC 9110 7.6.2: OPTIONS and TRACE carry how many more hops they may take. */
static unsigned
count_hop(struct txn *t, struct http_field *add, field_set *drop)
{
    const struct http_field *f = http_field_find(&t->req, FIELD_MAX_FORWARDS);
    struct str text;
    uint64_t hops;

    if (f == NULL || (t->req.method != HTTP_M_OPTIONS && t->req.method != HTTP_M_TRACE) ||
        !str_u64(http_field_value(f), &hops) || hops == 0)
        return 0;
    *drop |= FIELD_BIT(MAX_FORWARDS);
    text = arena_printf(&t->arena, "%llu", (unsigned long long)hops - 1);
    *add = (struct http_field){"Max-Forwards", text.p, (uint32_t)text.n, 12, FIELD_MAX_FORWARDS};
    return 1;
}

/* The hop's own Upgrade, of what the client offers and the pool allows. */
static unsigned
ask_to_switch(const struct txn *t, struct http_field *add, struct h1_write *w)
{
    if (t->upgrade.n == 0)
        return 0;
    w->connection = "Upgrade";
    *add = (struct http_field){"Upgrade", t->upgrade.p, (uint32_t)t->upgrade.n, 7, FIELD_UPGRADE};
    return 1;
}

void
relay_start(struct txn *t)
{
    struct http_field add[FORWARDED_MAX + 4];
    struct h1_write w = {.add = add, .body = t->req.body, .content_length = t->req.content_length};

    w.n_add = request_fields(t, add, &w.drop);
    w.n_add += count_hop(t, add + w.n_add, &w.drop);
    if (t->grpc)
        w.n_add += call_send(t, add + w.n_add, &w.drop);
    w.n_add += ask_to_switch(t, add + w.n_add, &w);
    t->head_sent = true;
    t->in_progress_ns = t->out_progress_ns = worker_now(t->worker);
    t->up->request(t, &w);
    if (t->req_done && t->hold == NULL) {
        t->req_ended = true;
        if (t->req.body != HTTP_BODY_NONE)
            end_request(t);
        return;
    }
    t->client_slow = !t->req_done;
    send_hold(t); /* no splice yet: the client's side may still have body bytes behind the head */
}

/* More than the listener allows, found while the body streams (a declared length was checked
 * before). */
static bool
body_too_large(struct txn *t)
{
    const uint64_t max = t->listener->conf.body_max_bytes;

    return max != 0 && t->bytes_in > max;
}

void
txn_request_data(struct txn *t, struct block **b)
{
    stat_add(&t->worker->stats.bytes_in, (*b)->len);
    t->bytes_in += (*b)->len;
    if (body_too_large(t)) {
        txn_fail(t, END_BODY_TOO_LARGE);
        return;
    }
    if (t->state != TXN_RELAY) { /* no server yet: one read is held, the client waits */
        push_hold(t, b);
        t->down->want(t, false);
        return;
    }
    send_request_data(t, b);
    if (t->up->unsent(t) > RELAY_HIGH)
        t->down->want(t, false);
    else
        try_splice_up(t);
}

void
txn_request_end(struct txn *t, const struct http_field *trailers, unsigned n)
{
    t->req_done = true;
    t->req_trailers = trailers;
    t->n_req_trailers = n;
    if (t->state == TXN_RELAY && t->up != NULL)
        end_request(t);
}

void
txn_up_drained(struct txn *t)
{
    if (t->state == TXN_TUNNEL) {
        tunnel_up_drained(t);
        return;
    }
    if (t->state != TXN_RELAY || t->splicing_up)
        return;
    t->in_progress_ns = worker_now(t->worker);
    if (!t->req_done)
        t->down->want(t, true);
}

/* --- the response --------------------------------------------------------------------------------
 */

void
txn_interim(struct txn *t, const struct http_head *head)
{
    struct http_head out;

    if (++t->interims > INTERIM_MAX) {
        t->detail = "too many interim responses";
        txn_up_failed(t, END_BAD_RESPONSE);
        return;
    }
    if (t->req.minor == 0) /* RFC 9110 15.2: not to an HTTP/1.0 client */
        return;
    stat_add(&t->worker->stats.responses_1xx, 1);
    if (head->status == 100)
        t->req.expect_continue = false; /* the client will send its body now */
    load_report_interim(t, head, &out);
    t->down->interim(t, &out);
}

/* Passive health. */
static void
note_health(struct txn *t, bool failed)
{
    if (failed)
        t->attempt_end = PLACE_END_FAILED;
    server_note(t->server, failed ? SERVER_ERROR_STATUS : SERVER_OK, worker_now(t->worker));
}

static void
note_response(struct txn *t, unsigned status)
{
    struct server_counters *c = &t->server->counters[t->worker->conf.index];
    stat_u64 *by_class[] = {&c->responses_2xx, &c->responses_3xx, &c->responses_4xx,
                            &c->responses_5xx};
    const bool failed = status == 500 || (status >= 502 && status <= 504);

    if (status <= 599)
        stat_add(by_class[status / 100 - 2], 1);
    stat_hist_add(&c->response_time, t->at.first_byte - t->at.sent);
    if (failed || !t->grpc) /* how a call went is told at its end */
        note_health(t, failed);
}

static void
end_call(struct txn *t, const struct http_field *trailers, unsigned n)
{
    call_hear(t, trailers, n);
    call_count(t);
    if (t->attempt_end != PLACE_END_FAILED)
        note_health(t, call_was_unavailable(t));
}

void
txn_response_head(struct txn *t, const struct http_head *head)
{
    struct http_field date = {"Date", t->worker->date, 29, 4, FIELD_DATE};
    const bool bodyless = http_response_bodyless(head->status, t->req.method);
    struct down_head d = {
        .head = head,
        .drop = load_report_head(t, head),
        .add = &date,
        .n_add = http_field_find(head, FIELD_DATE) == NULL,
        .body = head->body == HTTP_BODY_CLOSE ? HTTP_BODY_CHUNKED : head->body,
        .content_length = head->content_length,
        .keep_content_length = bodyless,
    };

    if (t->must_switch && head->status / 100 == 2) {
        t->detail = "no switch to another protocol";
        txn_up_failed(t, END_BAD_UPGRADE);
        return;
    }
    if (d.n_add != 0) /* RFC 9110 6.6.1: a recipient with a clock supplies a missing Date */
        worker_date(t->worker);
    t->at.first_byte = t->out_progress_ns = worker_now(t->worker);
    t->status = head->status;
    t->resp_begun = true;
    note_response(t, head->status);
    if (t->grpc)
        call_hear(t, head->fields, head->n_fields);
    if (head->status == 426) /* RFC 9110 15.5.22: it says what is required */
        d.upgrade = tunnel_required(t, head);
    if (bodyless)
        d.body = HTTP_BODY_NONE;
    else if (d.body == HTTP_BODY_NONE)
        d.body = HTTP_BODY_LENGTH;
    t->down->head(t, &d);
}

void
txn_response_data(struct txn *t, struct block **b)
{
    const uint32_t n = (*b)->len;

    t->bytes_out += n;
    t->out_progress_ns = worker_now(t->worker);
    stat_add(&t->worker->stats.bytes_out, n);
    stat_add(&t->server->counters[t->worker->conf.index].bytes_in, n);
    t->down->data(t, b);
    if (t->down->unsent(t) > RELAY_HIGH) {
        t->client_slow = true;
        t->up->want(t, false);
    }
}

void
txn_response_end(struct txn *t, const struct http_field *trailers, unsigned n)
{
    t->resp_done = true;
    t->end = END_OK;
    if (t->grpc)
        end_call(t, trailers, n);
    if (t->attempt_end == PLACE_END_VOID && !t->client_slow)
        t->attempt_end = PLACE_END_OK;
    n = load_report_trailers(t, &trailers, n);
    t->down->end(t, trailers, n);
    txn_finish(t);
}

void
txn_down_drained(struct txn *t)
{
    if (t->state == TXN_TUNNEL) {
        tunnel_down_drained(t);
        return;
    }
    if (t->state != TXN_RELAY || !t->resp_begun || t->splicing_down)
        return;
    t->out_progress_ns = worker_now(t->worker);
    t->up->want(t, true);
    try_splice_down(t);
}

/* --- splice -------------------------------------------------------------------------------------
 */

/* Copying and splicing cost the same at 64 KB (measured: 25 us each way), from 128 KB on splicing
 * is cheaper: by 12 % there, 24 % at 256 KB, a third at 1 MB.  The last bit is not worth a pipe. */
#define SPLICE_LEFT 65536u

static bool
worth_splice(const struct txn *t, uint64_t whole, uint64_t left)
{
    const uint64_t min = t->gen->snap->splice_bytes;

    return min != 0 && whole >= min && left >= (min < SPLICE_LEFT ? min : SPLICE_LEFT);
}

static void
down_spliced(void *arg, uint64_t moved, int err, bool from_failed)
{
    struct txn *t = arg;
    struct worker *w = t->worker;

    MC_CHECK(t, TXN_MAGIC);
    t->splicing_down = false;
    t->bytes_out += moved;
    stat_add(&w->stats.bytes_out, moved);
    stat_add(&w->stats.spliced_bytes, moved);
    stat_add(&t->server->counters[w->conf.index].bytes_in, moved);
    t->up->spliced_in(t, moved);
    t->down->spliced_out(t, moved);
    if (err != 0 && !from_failed)
        txn_down_gone(t, END_CLIENT_GONE);
    else if (t->up->left(t) > 0)
        txn_up_failed(t, END_RESPONSE_INCOMPLETE);
    else
        txn_response_end(t, NULL, 0);
}

/* The rest of a long response of known length, once what was read is sent. */
static void
try_splice_down(struct txn *t)
{
    struct sock *from = t->up->raw(t), *to = t->down->raw(t);
    uint64_t left = t->up->left(t);

    if (!worth_splice(t, t->bytes_out + left, left) || t->splicing_up || from == NULL ||
        to == NULL || t->down->unsent(t) > 0)
        return;
    t->up->want(t, false);
    if (sock_splice(from, to, left, down_spliced, t))
        t->splicing_down = t->client_slow = true;
    else
        t->up->want(t, true);
}

static void
up_spliced(void *arg, uint64_t moved, int err, bool from_failed)
{
    struct txn *t = arg;
    struct worker *w = t->worker;

    MC_CHECK(t, TXN_MAGIC);
    t->splicing_up = false;
    t->bytes_in += moved;
    t->in_progress_ns = worker_now(w);
    stat_add(&w->stats.bytes_in, moved);
    stat_add(&w->stats.spliced_bytes, moved);
    stat_add(&t->server->counters[w->conf.index].bytes_out, moved);
    t->down->spliced_in(t, moved);
    t->up->spliced_out(t, moved);
    if (err != 0 && !from_failed)
        txn_up_failed(t, END_SERVER_RESET);
    else if (t->req_body.left > 0)
        txn_down_gone(t, END_CLIENT_GONE);
    else
        txn_request_end(t, NULL, 0);
}

static void
try_splice_up(struct txn *t)
{
    struct sock *from = t->down->raw(t), *to = t->up->raw(t);

    if (t->req_body.kind != HTTP_BODY_LENGTH ||
        !worth_splice(t, t->req.content_length, t->req_body.left) || t->resp_begun ||
        from == NULL || to == NULL)
        return;
    t->down->want(t, false);
    if (sock_splice(from, to, t->req_body.left, up_spliced, t)) {
        t->splicing_up = true;
        t->req_body_used = true;
    } else {
        t->down->want(t, true);
    }
}

/* --- time limits ---------------------------------------------------------------------------------
 */

static bool
up_is_blocked(const struct txn *t)
{
    return t->splicing_up ? sock_splice_blocked(t->down->raw(t)) : t->up->unsent(t) > 0;
}

static bool
down_is_blocked(const struct txn *t)
{
    return t->splicing_down ? sock_splice_blocked(t->down->raw(t)) : t->down->unsent(t) > 0;
}

/* Bytes moved by splice, and those that a peer took without making room for more yet, count as
 * progress; they are only seen when somebody looks. */
static void
look_for_progress(struct txn *t)
{
    const mc_ns now = worker_now(t->worker);
    const uint64_t moved =
        t->splicing_down || t->splicing_up ? sock_splice_moved(t->down->raw(t)) : 0;
    const uint64_t in = up_is_blocked(t) ? t->up->untaken(t) : 0;
    const uint64_t out = down_is_blocked(t) ? t->down->untaken(t) : 0;

    if (moved > t->spliced_seen)
        t->in_progress_ns = t->out_progress_ns = now;
    if (in != 0 && in != t->in_untaken_seen)
        t->in_progress_ns = now;
    if (out != 0 && out != t->out_untaken_seen)
        t->out_progress_ns = now;
    t->spliced_seen = moved;
    t->in_untaken_seen = in;
    t->out_untaken_seen = out;
}

/* What the relay is waiting for at present, since when, and how long that may take. */
static enum end_reason
waiting_for(const struct txn *t, mc_ns *since, mc_ns *limit)
{
    const struct pool_conf *p = &t->pool->pool->conf;
    const struct listener_conf *l = &t->listener->conf;

    if (t->resp_begun) {
        *since = mc_later(t->out_progress_ns, t->in_progress_ns);
        if (down_is_blocked(t)) {
            *limit = l->send_timeout_ns;
            return END_SEND_TIMEOUT;
        }
        *limit = p->idle_timeout_ns;
        return END_SERVER_READ_TIMEOUT;
    }
    if (!t->req_done && !up_is_blocked(t)) {
        *since = t->in_progress_ns;
        *limit = l->body_timeout_ns;
        return END_BODY_TIMEOUT;
    }
    if (up_is_blocked(t)) {
        *since = t->in_progress_ns;
        *limit = p->idle_timeout_ns;
        return END_SERVER_WRITE_TIMEOUT;
    }
    *since = t->in_progress_ns;
    *limit = p->first_byte_timeout_ns;
    return END_FIRST_BYTE_TIMEOUT;
}

void
relay_tick(struct txn *t)
{
    const mc_ns now = worker_now(t->worker);
    mc_ns since, limit;
    enum end_reason why;

    look_for_progress(t);
    why = waiting_for(t, &since, &limit);
    if (limit > 0 && now - since >= limit) {
        if (why == END_SEND_TIMEOUT)
            txn_down_gone(t, why);
        else if (why == END_BODY_TIMEOUT)
            txn_fail(t, why);
        else
            txn_up_failed(t, why);
        return;
    }
    relay_watch(t, limit > 0 ? since + limit : MC_NEVER_NS);
}

/* The shortest of the limits that may apply while relaying. */
static mc_ns
shortest_limit(const struct txn *t)
{
    const struct pool_conf *p = &t->pool->pool->conf;
    const struct listener_conf *l = &t->listener->conf;
    const mc_ns limits[] = {p->first_byte_timeout_ns, p->idle_timeout_ns, l->body_timeout_ns,
                            l->send_timeout_ns};
    mc_ns min = MC_NEVER_NS;

    for (unsigned i = 0; i < MC_COUNT(limits); i++)
        if (limits[i] > 0 && limits[i] < min)
            min = limits[i];
    return min;
}

/* What is waited for changes with every event, and no timer is moved for it: it is looked at when
 * the present wait would end, and as often as the shortest limit says, so that none is exceeded by
 * more than that. */
void
relay_watch(struct txn *t, mc_ns end_ns)
{
    const mc_ns now = worker_now(t->worker), min = shortest_limit(t);

    t->phase_deadline_ns = end_ns;
    if (min != MC_NEVER_NS && now + min < end_ns)
        t->phase_deadline_ns = now + min;
    txn_arm(t);
}
