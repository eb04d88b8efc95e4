/* SPDX-License-Identifier: BSD-2-Clause
 *
 * flow_out.c - responses on a protected connection: down_h1.c's work, counted, told and held.
 *
 * While something is written the queue is held, so that its length tells what was written; it is
 * let go at the end of the turn, or when the holders have what it answers.
 */
#include "proxy/flow_priv.h"

/* Responses up to this are told whole, where the listener wants it: each of their bytes goes to
 * every holder, and is kept there. */
#define LOGGED_BYTES 16384u

static struct conn *
conn_of_flow(struct flow *f)
{
    sock_hold(&f->conn->stream.sock, true);
    return f->conn;
}

/* Writes are counted from here ... */
static uint32_t
begin_count(struct flow *f)
{
    return stream_unsent(&conn_of_flow(f)->stream);
}

/* ... to here; returns how much it was. */
static uint32_t
end_count(struct flow *f, uint32_t before)
{
    const uint32_t n = stream_unsent(&f->conn->stream) - before;

    f->out_pos += n;
    flow_let_go(f);
    return n;
}

/* An answer to what is no request: it may be given again. */
static void
see_request(struct flow *f)
{
    if (f->request.begun || f->bare)
        return;
    if (f->replay == NULL || !replay_tell(f, true))
        flow_tell_request(f, f->out_pos, true);
}

/* A head, or an interim one, was written at the end of the queue. */
static void
tell_head(struct flow *f, uint32_t n, bool whole)
{
    uint64_t ticket;

    if (f->bare || n == 0)
        return;
    ticket = flow_tell_said(f, WIRE_HEAD, sock_tail(&f->conn->stream.sock, n), n, whole);
    f->request.n_head += n;
    if (f->logging)
        flow_hold_until(f, ticket);
}

static void
interim(struct txn *t, const struct http_head *head)
{
    struct flow *f = flow_of(t);
    uint32_t before;

    see_request(f);
    if (replay_is_skipping(f))
        return;
    before = begin_count(f);
    down_h1.interim(t, head);
    tell_head(f, stream_unsent(&f->conn->stream) - before, false);
    end_count(f, before);
}

static bool
may_log(const struct flow *f, const struct down_head *d)
{
    return f->conn->listener->conf.takeover.replicate == PROTECT_RESPONSES && !f->bare &&
           (d->body == HTTP_BODY_NONE ||
            (d->body == HTTP_BODY_LENGTH && d->content_length <= LOGGED_BYTES));
}

static void
head(struct txn *t, const struct down_head *d)
{
    struct flow *f = flow_of(t);
    uint32_t before;

    if (f->broken)
        return;
    see_request(f);
    if (replay_is_skipping(f) && !replay_end_interims(f)) {
        before = begin_count(f);
        replay_head(f, t, d);
        end_count(f, before);
        return;
    }
    f->logging = may_log(f, d);
    before = begin_count(f);
    down_h1.head(t, d);
    tell_head(f, stream_unsent(&f->conn->stream) - before, true);
    end_count(f, before);
}

static void
data(struct txn *t, struct block **b)
{
    struct flow *f = flow_of(t);
    const uint32_t before = begin_count(f);

    if (replay_is_skipping(f))
        replay_data(f, t, b);
    if (*b != NULL && (*b)->len > 0) {
        if (f->logging && !f->bare)
            flow_hold_until(
                f, flow_tell_said(f, WIRE_OUT, block_at(*b), (*b)->len, f->request.head_whole));
        down_h1.data(t, b);
    }
    end_count(f, before);
}

static void
end(struct txn *t, const struct http_field *trailers, unsigned n)
{
    struct flow *f = flow_of(t);
    const uint32_t before = begin_count(f);

    if (!f->broken)
        down_h1.end(t, trailers, n);
    f->ended = true;
    end_count(f, before);
}

static struct block *
switched(struct txn *t, const struct down_head *d, bool *ended)
{
    struct flow *f = flow_of(t);

    flow_bare(f);
    return down_h1.switched(t, d, ended);
}

static void
shut(struct txn *t)
{
    flow_closing(flow_of(t));
    down_h1.shut(t);
}

static void
tell_done(struct flow *f)
{
    struct flow_request *r = &f->request;
    const struct conn *c = f->conn;
    struct wire_frame w = {.kind = WIRE_DONE};

    r->in_end = f->next_start = f->in_pos - (c->in != NULL ? c->in->len : 0) - replay_left(f);
    r->out_end = f->out_pos;
    r->close = c->close_after;
    r->begun = false;
    w.u.done = (struct wire_done){r->in_end, r->out_end, r->close};
    flow_put(f, &w);
}

/* The request ends with its response, or the connection does.  One whose body was not read to its
 * end leaves bytes that are no request's: such a connection goes on bare. */
static void
done(struct txn *t)
{
    struct flow *f = flow_of(t);
    const struct conn *c = f->conn;

    flow_unwait(f, FLOW_TELL);
    if (!f->bare && f->request.begun && f->ended && !f->broken) {
        if (c->state == CONN_BODY && !c->close_after)
            flow_bare(f);
        else
            tell_done(f);
    }
    if (f->replay != NULL)
        replay_done(f);
    f->ended = f->logging = false;
    f->adopted = NULL;
    down_h1.done(t);
}

static bool
is_repeatable(const struct txn *t)
{
    return (http_method_props(t->req.method) & HTTP_IDEMPOTENT) != 0;
}

/* Holders have to know of the begin of a request, before it can leave, when it may not be repeated
 * (RFC 9110 9.2.2); or that they know nothing of use. */
static bool
tell(struct txn *t)
{
    struct flow *f = flow_of(t);
    struct wire_frame w = {.kind = WIRE_SENT};
    uint64_t ticket = f->bare ? f->bare_ticket : 0;

    if (is_repeatable(t))
        return true;
    if (!f->bare && !f->request.sent) { /* else on a connection to another server */
        f->request.sent = true;
        ticket = flow_put(f, &w);
    }
    return flow_may_send(f, ticket);
}

void
flow_begin(struct conn *c, struct txn *t)
{
    struct flow *f = c->flow;
    const bool repeatable = is_repeatable(t);

    if (f->replay != NULL && !replay_begin(f, t, repeatable))
        return;
    if (!f->bare && !f->request.begun)
        flow_tell_request(f, f->out_pos, repeatable);
    txn_begin(t);
}

static void
abort_response(struct txn *t)
{
    down_h1.abort(t);
}

static void
want(struct txn *t, bool on)
{
    down_h1.want(t, on);
}

static uint32_t
unsent(const struct txn *t)
{
    return down_h1.unsent(t);
}

static uint64_t
untaken(const struct txn *t)
{
    return down_h1.untaken(t);
}

/* What is spliced in is told to nobody; what is spliced out must not be held, nor looked at. */
static struct sock *
raw(const struct txn *t)
{
    const struct flow *f = flow_of(t);
    const bool out = t->resp_begun && !flow_waits(f, FLOW_HOLD) && !replay_is_skipping(f) &&
                     !f->broken && list_empty(&f->letting);

    return f->bare || out || t->splicing_down || t->splicing_up ? down_h1.raw(t) : NULL;
}

static void
spliced_in(struct txn *t, uint64_t n)
{
    flow_of(t)->in_pos += n;
    down_h1.spliced_in(t, n);
}

static void
spliced_out(struct txn *t, uint64_t n)
{
    flow_of(t)->out_pos += n;
    down_h1.spliced_out(t, n);
}

const struct down_ops down_flow = {
    .tell = tell,
    .interim = interim,
    .head = head,
    .data = data,
    .end = end,
    .switched = switched,
    .shut = shut,
    .abort = abort_response,
    .done = done,
    .want = want,
    .unsent = unsent,
    .untaken = untaken,
    .raw = raw,
    .spliced_in = spliced_in,
    .spliced_out = spliced_out,
};
