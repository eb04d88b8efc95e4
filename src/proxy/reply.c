/* SPDX-License-Identifier: BSD-2-Clause
 *
 * reply.c - answers of the balancer's own: a status, one sentence, and Proxy-Status (RFC 9209);
 * to calls of gRPC in its own words.
 *
 * What they say is for the person who sees them: what went wrong and the request's id, by which the
 * operator finds the line in the log; nothing of the inside.
 */
#include "proxy/call.h"
#include "proxy/txn.h"
#include "proxy/worker_priv.h"

#define MAX_FIELDS 10

struct fields {
    struct http_field f[MAX_FIELDS];
    unsigned n;
};

static void
add(struct fields *fs, const char *name, enum field_id id, struct str value)
{
    MC_ASSERT(fs->n < MAX_FIELDS);
    fs->f[fs->n++] =
        (struct http_field){name, value.p, (uint32_t)value.n, (uint16_t)strlen(name), (uint16_t)id};
}

/* `meercat; error=connection_refused; next-hop="app1"; details="..."` */
static struct str
proxy_status(struct txn *t)
{
    const char *error = end_reason_error(t->end);
    const char *details = t->detail != NULL ? t->detail : end_reason_text(t->end);
    const char *node = t->gen->snap->node;

    if (t->tries.n_avoided > 0 || t->server != NULL)
        return arena_printf(&t->arena, "%s; error=%s; next-hop=\"%s\"; details=\"%s\"", node, error,
                            t->pool->pool->servers[t->server_index]->name, details);
    return arena_printf(&t->arena, "%s; error=%s; details=\"%s\"", node, error, details);
}

static struct str
body_text(struct txn *t, unsigned status)
{
    return arena_printf(&t->arena, "%u %s\n%s%s%s\nrequest id: " STR_FMT "\n", status,
                        http_reason(status), end_reason_text(t->end), t->detail ? ": " : "",
                        t->detail ? t->detail : "", STR_ARG(t->request_id));
}

/* Max-Forwards is used up (RFC 9110 7.6.2): this is the last hop. */
static unsigned
status_of(struct txn *t, struct fields *fs)
{
    if (t->end == END_MAX_FORWARDS) {
        add(fs, "Allow", FIELD_OTHER, STR("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        /* TRACE would show fields that were meant for the server */
        return t->req.method == HTTP_M_TRACE ? 405 : 200;
    }
    return t->status != 0 ? t->status : end_reason_status(t->end);
}

/* Whole seconds (RFC 9110 10.2.3). */
static struct str
retry_after(struct txn *t)
{
    return arena_printf(&t->arena, "%lld", (long long)(t->wait_ns / MC_SEC) + 1);
}

/* A head that is too large is no fault of the protocol. */
static enum grpc_status
grpc_status_of(const struct txn *t, unsigned status)
{
    return status == 431 || status == 414 ? GRPC_RESOURCE_EXHAUSTED : end_reason_grpc(t->end);
}

/* A head alone, that is all "Trailers-Only" of gRPC over HTTP2: the callers' libraries look at
 * nothing else. */
static void
add_call_fields(struct txn *t, struct fields *fs, unsigned status)
{
    t->grpc_said = true;
    t->grpc_status = grpc_status_of(t, status);
    add(fs, "Content-Type", FIELD_CONTENT_TYPE, STR("application/grpc"));
    add(fs, "grpc-status", FIELD_GRPC_STATUS,
        arena_printf(&t->arena, "%u", (unsigned)t->grpc_status));
    add(fs, "grpc-message", FIELD_OTHER, call_message(t));
}

static void
add_page_fields(struct fields *fs)
{
    add(fs, "Content-Type", FIELD_CONTENT_TYPE, STR("text/plain; charset=utf-8"));
    add(fs, "Cache-Control", FIELD_OTHER, STR("no-store"));
}

static void
send_body(struct txn *t, struct str body)
{
    struct block *b = block_take(loop_blocks(t->worker->loop), body.n);

    memcpy(block_at(b), body.p, body.n);
    b->len = (uint32_t)body.n;
    t->down->data(t, &b);
    if (b != NULL)
        block_give(loop_blocks(t->worker->loop), &b);
    t->bytes_out = body.n;
}

void
reply_send(struct txn *t)
{
    const bool call = t->req.method == HTTP_M_POST && grpc_is_call(&t->req);
    struct fields fs = {.n = 0};
    unsigned status = status_of(t, &fs);
    struct http_head head = {.is_response = true, .minor = 1};
    struct str body = STR_NONE;
    struct down_head d = {.head = &head, .add = fs.f, .body = HTTP_BODY_LENGTH};

    MC_ASSERT(status != 0);
    account_request_id(t);
    if (!call)
        body = body_text(t, status);
    t->status = head.status = (uint16_t)(call ? 200 : status);
    head.reason = str_of(http_reason(head.status));
    add(&fs, "Date", FIELD_DATE, worker_date(t->worker));
    if (t->listener->conf.server_header != NULL)
        add(&fs, "Server", FIELD_SERVER, str_of(t->listener->conf.server_header));
    if (call)
        add_call_fields(t, &fs, status);
    else
        add_page_fields(&fs);
    add(&fs, "X-Request-ID", FIELD_X_REQUEST_ID, t->request_id);
    if (*end_reason_error(t->end) != '\0')
        add(&fs, "Proxy-Status", FIELD_PROXY_STATUS, proxy_status(t));
    if (status == 503 || status == 429)
        add(&fs, "Retry-After", FIELD_RETRY_AFTER, retry_after(t));
    d.n_add = fs.n;
    d.content_length = body.n;
    /* what follows a CONNECT may be meant for a tunnel: it must not be read as a request */
    d.close = t->end == END_BAD_REQUEST || t->end == END_METHOD || !t->req_done;
    t->resp_begun = true;
    stat_add(&t->worker->stats.own_responses, 1);
    t->down->head(t, &d);
    if (body.n > 0 && t->req.method != HTTP_M_HEAD)
        send_body(t, body);
    t->down->end(t, NULL, 0);
}
