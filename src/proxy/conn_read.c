/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conn_read.c - the requests that are read from a client connection of HTTP/1 (RFC 9112).
 *
 * One transaction at a time; pipelined requests wait in `in` and are answered in order (9.3.2).
 * Reception is off while there is something unread that cannot be used yet: that is the
 * back-pressure.
 */
#include "proxy/conn.h"
#include "proxy/down_h2.h"
#include "proxy/flow.h"
#include "proxy/txn.h"

#define DISCARD_MAX_BYTES                                                    \
    (64u << 10) /* a rest of a body that is read and thrown away to keep the \
                   connection; more is not worth it */
#define ANSWERS_BYTES \
    65536u /* answers that the client has not taken: no further request is begun */

/* --- gathering input ----------------------------------------------------------------------------
 */

void
conn_gather(struct conn *c, const char *p, size_t n)
{
    block_append(loop_blocks(c->worker->loop), &c->in, p, n);
}

/* --- reading requests ---------------------------------------------------------------------------
 */

struct txn *
conn_open_txn(struct conn *c, const struct down_ops *down, void *side)
{
    struct txn *t = txn_new(c->worker, c->worker->current, c->listener, down, side);

    t->at.begun = c->begun_ns;
    t->at.head = worker_now(c->worker);
    t->conn_requests = ++c->requests;
    conn_introduce(c, t);
    return t;
}

struct txn *
conn_open_h1(struct conn *c)
{
    c->txn = conn_open_txn(c, c->down, c);
    return c->txn;
}

/* The head is not one: answered, and the connection ends. */
static void
refuse(struct conn *c, struct txn *t, enum h1_fault fault)
{
    c->close_after = true;
    c->state = CONN_WAIT;
    txn_refuse(t, h1_fault_status(fault), h1_fault_text(fault));
}

static struct txn *
begin_txn(struct conn *c, const char *head, size_t n)
{
    struct txn *t = conn_open_h1(c);
    struct str copy = arena_str(&t->arena, (struct str){head, n});
    enum h1_fault fault =
        h1_parse_request(&t->req, copy.p, copy.n, &c->listener->conf.limits, &t->arena);

    if (fault != H1_NONE) {
        refuse(c, t, fault);
        return NULL;
    }
    conn_find_client(c, t);
    if (t->req.close || (c->listener->conf.requests_per_conn != 0 &&
                         c->requests >= c->listener->conf.requests_per_conn))
        c->close_after = true;
    return t;
}

/* More than a head may have has come, and no end of it. */
static void
refuse_endless(struct conn *c, struct block **b)
{
    const bool in_line = memchr(block_at(*b), '\n', (*b)->len) == NULL;

    refuse(c, conn_open_h1(c), in_line ? H1_TARGET_LONG : H1_HEAD_TOO_LARGE);
    block_give(loop_blocks(c->worker->loop), b);
}

static void
end_request(struct txn *t)
{
    struct http_field *trailers = NULL;
    unsigned n = h1_body_trailers(&t->req_body, &trailers, &t->arena);

    txn_request_end(t, trailers, n);
}

/* Decodes what the block has of the body; *b is the caller's and is taken when it carried payload.
 */
void
conn_feed_body(struct conn *c, struct block **b)
{
    struct txn *t = c->txn;
    size_t used, payload;
    enum h1_body_state st = h1_body_decode(&t->req_body, block_at(*b), (*b)->len, &used, &payload);

    if (st == H1_BODY_FAULT) {
        c->close_after = true;
        txn_refuse(t, h1_fault_status(t->req_body.fault), h1_fault_text(t->req_body.fault));
        return;
    }
    if (st == H1_BODY_DONE) {
        c->state = CONN_WAIT;
        if (used < (*b)->len) {
            conn_gather(c, block_at(*b) + used, (*b)->len - used);
            stream_recv(&c->stream, false);
        }
    }
    (*b)->len = (uint32_t)payload;
    if (payload > 0)
        txn_request_data(t, b);
    if (st == H1_BODY_DONE && c->txn == t)
        end_request(t);
}

/* A head is whole: begins its transaction.  rest (may be NULL) is what came behind it; it is taken.
 */
static void
take_request(struct conn *c, const char *head, size_t head_len, struct block **rest)
{
    struct txn *t = begin_txn(c, head, head_len);

    if (t == NULL) {
        if (rest != NULL)
            block_give(loop_blocks(c->worker->loop), rest);
        return;
    }
    t->req_done = t->req.body == HTTP_BODY_NONE ||
                  (t->req.body == HTTP_BODY_LENGTH && t->req.content_length == 0);
    c->state = t->req_done ? CONN_WAIT : CONN_BODY;
    h1_body_init(&t->req_body, t->req.body, t->req.content_length, &c->listener->conf.limits,
                 &t->arena);
    if (rest != NULL)
        block_skip(*rest, head_len);
    if (rest != NULL && t->req_done && (*rest)->len > 0) {
        c->in = *rest;
        *rest = NULL;
    }
    if (c->flow != NULL)
        flow_begin(c, t);
    else
        txn_begin(t);
    if (rest == NULL || *rest == NULL)
        return;
    if ((*rest)->len > 0 && c->state == CONN_BODY)
        conn_feed_body(c, rest);
    else if ((*rest)->len > 0 && c->state == CONN_DISCARD)
        conn_discard(c, *rest);
    if (*rest != NULL)
        block_give(loop_blocks(c->worker->loop), rest);
}

bool
conn_takes_answers(const struct conn *c)
{
    return stream_unsent(&c->stream) <= ANSWERS_BYTES;
}

void
conn_run(struct conn *c)
{
    size_t head_len, scanned;

    if (c->parsing)
        return;
    c->parsing = true;
    while (c->txn == NULL && c->in != NULL && (c->state == CONN_IDLE || c->state == CONN_HEAD) &&
           conn_takes_answers(c)) {
        struct block *b = c->in;

        if (c->state == CONN_IDLE) {
            c->state = CONN_HEAD;
            c->begun_ns = worker_now(c->worker);
            conn_set_deadline(c, c->begun_ns + c->listener->conf.head_timeout_ns);
        }
        scanned = c->scanned;
        if (!h1_head_end(block_at(b), b->len, &scanned, &head_len)) {
            c->scanned = (uint32_t)scanned;
            if (b->len <= c->listener->conf.limits.head_bytes)
                break;
            c->in = NULL;
            refuse_endless(c, &b);
            break;
        }
        c->in = NULL;
        c->scanned = 0;
        take_request(c, block_at(b), head_len, &b);
    }
    c->parsing = false;
    if (c->state == CONN_WAIT && c->in == NULL)
        stream_recv(&c->stream,
                    true); /* off since the request before: to hear when the client goes */
    else if (c->state != CONN_CLOSED && c->in != NULL)
        stream_recv(&c->stream, c->state == CONN_HEAD || c->state == CONN_LINGER);
}

void
conn_read_head(struct conn *c, struct block *b)
{
    size_t scanned = 0, head_len;

    /* hot: a whole request in one read, nothing gathered before, is parsed where it lies */
    if (c->in == NULL && h1_head_end(block_at(b), b->len, &scanned, &head_len) &&
        head_len == b->len) {
        c->begun_ns = worker_now(c->worker);
        c->state = CONN_HEAD;
        c->parsing = true;
        take_request(c, block_at(b), head_len, NULL);
        c->parsing = false;
        return;
    }
    conn_gather(c, block_at(b), b->len);
    conn_run(c);
}

void
conn_begin_h2(struct conn *c)
{
    c->state = CONN_H2;
    c->h2 = h2_down_begin(c);
}

/* On a plain listener that takes either version, who knows that it may speak HTTP/2 begins with a
 * preface that is no request of HTTP/1 (RFC 9113 3.4). */
void
conn_read_first(struct conn *c, struct block *b)
{
    struct block *first = c->in != NULL ? c->in : b;
    size_t n;

    if (c->in != NULL) {
        conn_gather(c, block_at(b), b->len);
        first = c->in;
    }
    n = first->len < H2_PREFACE_BYTES ? first->len : H2_PREFACE_BYTES;
    if (memcmp(block_at(first), H2_PREFACE, n) != 0) {
        c->state = CONN_IDLE;
        if (c->in != NULL)
            conn_run(c);
        else
            conn_read_head(c, b);
    } else if (n == H2_PREFACE_BYTES) {
        c->in = NULL;
        conn_begin_h2(c);
        h2_down_recv(c->h2, first);
        if (first != b)
            block_give(loop_blocks(c->worker->loop), &first);
    } else if (c->in == NULL) {
        c->begun_ns = worker_now(c->worker);
        conn_gather(c, block_at(b), b->len);
        conn_set_deadline(c, c->begun_ns + c->listener->conf.head_timeout_ns);
    }
}

/* The rest of a body that nobody wants any more. */
void
conn_discard(struct conn *c, struct block *b)
{
    uint32_t n = b->len < c->discard_left ? b->len : c->discard_left;

    c->discard_left -= n;
    block_skip(b, n);
    if (c->state == CONN_LINGER) {
        if (c->discard_left == 0)
            conn_close(c, false);
        return;
    }
    if (b->len > 0)
        conn_gather(c, block_at(b), b->len);
    if (c->discard_left == 0)
        conn_next(c);
}

bool
conn_begin_discard(struct conn *c, const struct txn *t)
{
    if (c->close_after || t->req.expect_continue || t->req_body.kind != HTTP_BODY_LENGTH ||
        t->req_body.left > DISCARD_MAX_BYTES)
        return false;
    c->state = CONN_DISCARD;
    c->discard_left = (uint32_t)t->req_body.left;
    conn_set_deadline(c, worker_now(c->worker) + c->listener->conf.body_timeout_ns);
    stream_recv(&c->stream, true);
    return true;
}
