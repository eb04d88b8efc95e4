/* SPDX-License-Identifier: BSD-2-Clause
 *
 * down_h1.c - the client's side of a transaction in HTTP/1: frames responses (RFC 9112).
 *
 * conn.c owns the connection, reads the requests and decides what comes after a response.
 */
#include "proxy/conn.h"
#include "proxy/flow.h"
#include "proxy/h1_frame.h"
#include "proxy/pass.h"
#include "proxy/txn.h"
#include "proxy/untaken.h"

static struct conn *
conn_of_txn(const struct txn *t)
{
    struct conn *c = t->down_side;

    MC_CHECK(c, CONN_MAGIC);
    return c;
}

static void
write_head(struct conn *c, const struct http_head *head, const struct h1_write *w)
{
    size_t bound = h1_write_bound(head, w);
    char *p = stream_reserve(&c->stream, bound);

    stream_commit(&c->stream, h1_write_response(p, head, w));
}

static void
h1_interim(struct txn *t, const struct http_head *head)
{
    struct h1_write w = {.body = HTTP_BODY_NONE};

    write_head(conn_of_txn(t), head, &w);
}

static struct http_field
upgrade_field(struct str protocols)
{
    return (struct http_field){"Upgrade", protocols.p, (uint32_t)protocols.n, 7, FIELD_UPGRADE};
}

/* A 426 with the field that it is about. */
static void
write_required(struct conn *c, const struct down_head *d, struct h1_write *w)
{
    struct http_field add[2] = {upgrade_field(d->upgrade)};

    MC_ASSERT(w->n_add < MC_COUNT(add));
    for (unsigned i = 0; i < w->n_add; i++)
        add[i + 1] = w->add[i];
    w->add = add;
    w->n_add++;
    w->connection = c->close_after ? "close, Upgrade" : "Upgrade";
    write_head(c, d->head, w);
}

/* For its client nothing ends with this balancer. */
static bool
stays(const struct conn *c)
{
    const bool owned = c->flow != NULL && !flow_is_released(c->flow);

    return owned ? flow_may_leave(c->flow) : pass_may(c);
}

/* Length unknown: chunked, or for an HTTP/1.0 client until the connection closes (RFC 9112 7). */
static void
h1_head(struct txn *t, const struct down_head *d)
{
    struct conn *c = conn_of_txn(t);
    struct h1_write w = down_head_write(d);

    if (d->body == HTTP_BODY_CHUNKED && t->req.minor == 0) {
        w.body = HTTP_BODY_CLOSE;
        c->close_after = true;
    }
    c->resp_chunked = w.body == HTTP_BODY_CHUNKED;
    if (d->close || (c->worker->parting && !stays(c)) || !conn_refresh_listener(c))
        c->close_after = true;
    if (c->close_after)
        w.connection = "close";
    else if (t->req.minor == 0)
        w.connection = "keep-alive";
    if (d->upgrade.n == 0)
        write_head(c, d->head, &w);
    else
        write_required(c, d, &w);
}

static void
h1_data(struct txn *t, struct block **b)
{
    struct conn *c = conn_of_txn(t);

    h1_frame_send(&c->stream, b, c->resp_chunked);
}

static void
h1_end(struct txn *t, const struct http_field *trailers, unsigned n)
{
    struct conn *c = conn_of_txn(t);

    if (c->resp_chunked)
        h1_frame_end(&c->stream, trailers, n);
    stream_push(&c->stream);
}

static struct block *
h1_switched(struct txn *t, const struct down_head *d, bool *ended)
{
    struct conn *c = conn_of_txn(t);
    struct http_field upgrade = upgrade_field(d->upgrade);
    struct h1_write w = {.drop = d->drop, .add = &upgrade, .n_add = 1, .connection = "Upgrade"};
    struct block *early = c->in;

    write_head(c, d->head, &w);
    stream_push(&c->stream);
    c->in = NULL;
    c->scanned = 0;
    c->resp_chunked = false;
    c->close_after = true;
    c->state = CONN_TUNNEL;
    *ended = c->eof;
    return early;
}

static void
h1_shut(struct txn *t)
{
    stream_shutdown(&conn_of_txn(t)->stream);
}

static void
h1_abort(struct txn *t)
{
    struct conn *c = conn_of_txn(t);

    c->close_after = true;
    conn_close(c, true);
}

static void
h1_done(struct txn *t)
{
    conn_txn_done(conn_of_txn(t), t);
}

static void
h1_want(struct txn *t, bool on)
{
    struct conn *c = conn_of_txn(t);

    if (c->state == CONN_BODY || c->state == CONN_TUNNEL)
        stream_recv(&c->stream, on);
}

static uint32_t
h1_unsent(const struct txn *t)
{
    return stream_unsent(&conn_of_txn(t)->stream);
}

static uint64_t
h1_untaken(const struct txn *t)
{
    return untaken_bytes(&conn_of_txn(t)->stream);
}

static struct sock *
h1_raw(const struct txn *t)
{
    return stream_raw(&conn_of_txn(t)->stream);
}

static void
h1_spliced_in(struct txn *t, uint64_t n)
{
    struct conn *c = conn_of_txn(t);

    t->req_body.left -= n;
    t->req_body.total_bytes += n;
    if (t->req_body.left == 0) {
        c->state = CONN_WAIT;
        stream_recv(&c->stream, true); /* to hear when the client goes */
    }
}

static void
h1_spliced_out(struct txn *t, uint64_t n)
{
}

const struct down_ops down_h1 = {
    .interim = h1_interim,
    .head = h1_head,
    .data = h1_data,
    .end = h1_end,
    .switched = h1_switched,
    .shut = h1_shut,
    .abort = h1_abort,
    .done = h1_done,
    .want = h1_want,
    .unsent = h1_unsent,
    .untaken = h1_untaken,
    .raw = h1_raw,
    .spliced_in = h1_spliced_in,
    .spliced_out = h1_spliced_out,
};
