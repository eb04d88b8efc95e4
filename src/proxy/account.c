/* SPDX-License-Identifier: BSD-2-Clause
 *
 * account.c - what is remembered of a request: its id, the counters, a line in the access log.
 */
#include "proxy/access_log.h"
#include "proxy/conn.h"
#include "proxy/flow.h"
#include "proxy/txn.h"
#include "proxy/worker_priv.h"

/* 32 hex digits: 16 drawn at the worker's start, 16 that count from a drawn number, so that ids are
 * unique without a random number a request. */
static struct str
new_id(struct txn *t)
{
    static const char hex[] = "0123456789abcdef";
    struct worker *w = t->worker;
    char *id = arena_alloc(&t->arena, 33);
    uint64_t n = w->id_count++;

    memcpy(id, w->id_prefix, 16);
    for (int i = 31; i >= 16; i--, n >>= 4)
        id[i] = hex[n & 15];
    id[32] = '\0';
    return (struct str){id, 32};
}

/* A trusted peer's id is passed on when it is short and printable. */
static bool
usable_id(struct str id)
{
    if (id.n == 0 || id.n > 128)
        return false;
    for (size_t i = 0; i < id.n; i++)
        if (id.p[i] <= ' ' || id.p[i] >= 0x7f || id.p[i] == '"' || id.p[i] == '\\')
            return false;
    return true;
}

void
account_request_id(struct txn *t)
{
    struct str given = STR_NONE;

    if (t->request_id.n != 0)
        return;
    if (t->peer_trusted)
        given = http_field_value(http_field_find(&t->req, FIELD_X_REQUEST_ID));
    t->request_id = usable_id(given) ? given : new_id(t);
}

void
account_request(struct txn *t)
{
    stat_add(&t->worker->stats.requests, 1);
    account_request_id(t);
}

static void
count_status(struct txn *t)
{
    struct worker_stats *s = &t->worker->stats;
    stat_u64 *by_class[] = {&s->responses_2xx, &s->responses_3xx, &s->responses_4xx,
                            &s->responses_5xx};

    if (t->resp_begun && t->status >= 200 && t->status <= 599)
        stat_add(by_class[t->status / 100 - 2], 1);
}

static mc_ns
phase(mc_ns from, mc_ns to)
{
    return from == 0 || to == 0 ? -1 : to - from;
}

static void
count_tunnel(struct txn *t)
{
    struct worker_stats *s = &t->worker->stats;

    stat_add(&s->active_tunnels, (uint64_t)-1);
    stat_add(&s->tunnel_ends[t->end], 1);
}

static void
flush_log(struct task *task)
{
    struct worker *w = container_of(task, struct worker, log_task);

    if (w->current->snap->access_log != NULL)
        access_log_flush(w->current->snap->access_log, &w->log_buf);
}

void
account_log(struct worker *w, const struct gen *g, const struct access_record *r)
{
    w->log_task.fn = flush_log;
    access_log_add(g->snap->access_log, &w->log_buf, r);
    loop_defer(w->loop, &w->log_task);
}

static void
log_request(struct txn *t, mc_ns now)
{
    struct worker *w = t->worker;
    const bool placed = t->at.placed != 0;
    const struct told *told = t->conn->told;
    struct access_record r = {
        .begun_wall_ns = t->at.begun_wall,
        .client_ip = t->client_ip.n ? t->client_ip.p : "-",
        .client_port = t->client_port,
        .proxy = told != NULL ? told->via : NULL,
        .proxy_id = told != NULL ? told->header.unique_id : STR_NONE,
        .listener = t->listener->conf.name,
        .route = t->route ? t->route->conf.name : NULL,
        .pool = t->pool ? t->pool->pool->conf.name : NULL,
        .server = placed ? t->pool->pool->servers[t->server_index]->name : NULL,
        .reason = placed ? place_reason_name(t->why) : NULL,
        .class_name = t->class_name,
        .request_id = t->request_id,
        .method = t->req.method_text,
        .target = t->req.target,
        .host = t->req.authority,
        .referer = http_field_value(http_field_find(&t->req, FIELD_REFERER)),
        .user_agent = http_field_value(http_field_find(&t->req, FIELD_USER_AGENT)),
        .major = t->req.major,
        .minor = t->req.minor,
        .status = t->resp_begun ? t->status : 0,
        .bytes_in = t->bytes_in,
        .bytes_out = t->bytes_out,
        .retries = t->tries.n,
        .conn_requests = t->conn_requests,
        .reused = t->reused,
        .head_ns = phase(t->at.begun, t->at.head),
        .queue_ns = placed ? t->queue_ns : -1,
        .connect_ns = phase(t->at.placed, t->at.connected),
        .first_byte_ns = phase(t->at.sent, t->at.first_byte),
        .total_ns = phase(t->at.begun, now),
        .tunnel = t->tunnel != NULL ? t->upgrade : STR_NONE,
        .tunnel_ns = t->tunnel != NULL ? now - t->at.first_byte : -1,
        .tls_version = t->tls != NULL ? t->tls->version : NULL,
        .tls_cipher = t->tls != NULL ? t->tls->cipher : NULL,
        .up_tls_version = t->up_tls_version,
        .up_tls_resumed = t->up_tls_resumed,
        .sni = conn_name_asked_for(t->conn),
        .grpc_status = t->grpc_said ? grpc_status_name(t->grpc_status) : NULL,
        .end = end_reason_name(t->end),
    };

    if (t->conn->flow != NULL)
        flow_put_log(t->conn->flow, &r);
    account_log(w, t->gen, &r);
}

void
account_done(struct txn *t)
{
    struct worker *w = t->worker;
    const mc_ns now = worker_now(w);

    count_status(t);
    if (t->tunnel != NULL)
        count_tunnel(t);
    if (t->at.begun != 0) /* the request ended with the switch */
        stat_hist_add(&w->stats.request_time,
                      (t->tunnel != NULL ? t->at.first_byte : now) - t->at.begun);
    if (t->gen->snap->access_log != NULL)
        log_request(t, now);
}
