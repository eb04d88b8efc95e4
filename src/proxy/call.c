/* SPDX-License-Identifier: BSD-2-Clause
 *
 * call.c - calls of gRPC, see call.h.
 */
#include "proxy/call.h"

#include "proxy/worker_priv.h"

/* Client, server and balancer end a call at the same moment, each by its own clock.  The server's
 * answer is the better one, and is on its way by then: long enough for it, and nothing to a client
 * that has ended the call itself. */
#define SLACK_NS (100 * MC_MS)

/* What the pool allows, whatever the client says. */
static mc_ns
pool_deadline(const struct txn *t)
{
    const mc_ns limit = t->pool->pool->conf.total_timeout_ns;

    return limit > 0 ? t->at.head + limit : MC_NEVER_NS;
}

void
call_start(struct txn *t)
{
    const mc_ns most = t->pool->pool->conf.grpc_timeout_max_ns;
    mc_ns ns;

    t->deadline_grpc_ns = MC_NEVER_NS;
    t->grpc = grpc_is_call(&t->req);
    if (!t->grpc || most == 0 ||
        !grpc_timeout_read(http_field_value(http_field_find(&t->req, FIELD_GRPC_TIMEOUT)), &ns))
        return;
    t->deadline_grpc_ns = t->at.head + mc_sooner(ns, most);
    t->deadline_total_ns = mc_sooner(t->deadline_total_ns, t->deadline_grpc_ns);
}

unsigned
call_send(struct txn *t, struct http_field *add, field_set *drop)
{
    char *text;
    unsigned n;
    mc_ns end;

    if (t->deadline_grpc_ns == MC_NEVER_NS)
        return 0;
    end = mc_sooner(t->deadline_grpc_ns, pool_deadline(t));
    t->deadline_total_ns = mc_sooner(t->deadline_grpc_ns + SLACK_NS, pool_deadline(t));
    text = arena_alloc(&t->arena, GRPC_TIMEOUT_TEXT);
    n = grpc_timeout_write(end - worker_now(t->worker), text);
    *drop |= FIELD_BIT(GRPC_TIMEOUT);
    *add = (struct http_field){"grpc-timeout", text, n, 12, FIELD_GRPC_TIMEOUT};
    return 1;
}

bool
call_is_over(const struct txn *t)
{
    return t->grpc && t->deadline_grpc_ns <= worker_now(t->worker);
}

void
call_hear(struct txn *t, const struct http_field *f, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (f[i].id != FIELD_GRPC_STATUS)
            continue;
        t->grpc_said = true;
        t->grpc_status = grpc_status_read((struct str){f[i].value, f[i].value_len});
        return;
    }
}

void
call_count(struct txn *t)
{
    if (t->grpc_said)
        stat_add(&t->server->counters[t->worker->conf.index].grpc[t->grpc_status], 1);
}

struct str
call_message(struct txn *t)
{
    struct str text =
        arena_printf(&t->arena, "%s%s%s (request id " STR_FMT ")", end_reason_text(t->end),
                     t->detail ? ": " : "", t->detail ? t->detail : "", STR_ARG(t->request_id));

    return grpc_message(text, &t->arena);
}

/* A status other than OK says that what came is not all: nobody takes it for whole.  In HTTP/1 a
 * client that knows nothing of gRPC would, and a fault of the client's own is one of the stream. */
bool
call_break(struct txn *t)
{
    struct http_field f[2];
    struct str code, text;

    if (!t->grpc || t->req.major != 2 || t->end == END_BAD_REQUEST)
        return false;
    t->grpc_said = true;
    t->grpc_status = end_reason_grpc(t->end);
    code = arena_printf(&t->arena, "%u", (unsigned)t->grpc_status);
    text = call_message(t);
    f[0] = (struct http_field){"grpc-status", code.p, (uint32_t)code.n, 11, FIELD_GRPC_STATUS};
    f[1] = (struct http_field){"grpc-message", text.p, (uint32_t)text.n, 12, FIELD_OTHER};
    t->down->end(t, f, MC_COUNT(f));
    return true;
}
