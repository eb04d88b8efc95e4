/* SPDX-License-Identifier: BSD-2-Clause
 *
 * down_h2_in.c - what HTTP/2 clients send: nghttp2's callbacks, and requests on their way.
 *
 * A stream's window is given back as its server takes bytes, the connection's with it: so a stream
 * holds no more than its window here.  That begins small and grows for streams whose servers keep
 * up, so that few slow ones cannot take the connection's window from the others.
 *
 * None of this sends; nghttp2 gathers what is to be said until down_h2.c lets it.
 */
#include "proxy/down_h2_priv.h"
#include "proxy/tunnel.h"

#define HEAD_FACTOR 4 /* decoded bytes of a head, in limits, after which it is an attack */

/* --- streams ------------------------------------------------------------------------------------
 */

static struct h2_stream *
stream_of_id(struct h2_down *h, int32_t id)
{
    struct h2_stream *s = nghttp2_session_get_stream_user_data(h->session, id);

    if (s != NULL)
        MC_CHECK(s, H2_STREAM_MAGIC);
    return s;
}

static struct block_pool *
blocks_of(const struct h2_stream *s)
{
    return loop_blocks(h2_worker(s->h2)->loop);
}

static struct h2_stream *
open_stream(struct h2_down *h, int32_t id)
{
    struct worker *w = h2_worker(h);
    const uint32_t max = h->conn->listener->conf.h2.stream_window;
    struct h2_stream *s = slab_take(&w->h2_stream_slab);

    memset(s, 0, sizeof(*s));
    s->magic = H2_STREAM_MAGIC;
    s->id = id;
    s->h2 = h;
    s->want = true;
    s->window = max < H2_FIRST_WINDOW ? max : H2_FIRST_WINDOW;
    s->moved_ns = worker_now(w);
    list_init(&s->todo);
    list_push_back(&h->streams, &s->link);
    h->n_streams++;
    nghttp2_session_set_stream_user_data(h->session, id, s);
    stat_add(&w->stats.http2_streams, 1);
    return s;
}

void
h2_stream_free(struct h2_stream *s)
{
    struct h2_down *h = s->h2;
    struct worker *w = h2_worker(h);

    MC_ASSERT(s->txn == NULL);
    h2_queue_drop(blocks_of(s), &s->in);
    h2_queue_drop(blocks_of(s), &s->out);
    if (s->trailers != NULL)
        block_give(blocks_of(s), &s->trailers);
    h->n_choked -= s->choked;
    list_remove(&s->link);
    list_remove(&s->todo);
    if (--h->n_streams == 0)
        h->quiet_since_ns = worker_now(w);
    s->magic = 0;
    slab_give(&w->h2_stream_slab, s);
    stat_add(&w->stats.http2_streams, (uint64_t)-1);
}

/* Malformed (RFC 9113 8.1.1): never forwarded, and what was forwarded of it never looks whole. */
static void
malformed(struct h2_stream *s, enum h2_fault fault)
{
    if (s->txn != NULL)
        txn_drop(s->txn, h2_fault_text(fault));
    h2_out_reset(s, NGHTTP2_PROTOCOL_ERROR);
}

/* --- windows ------------------------------------------------------------------------------------
 */

/* A server that has taken a window's worth as it came gets a larger one. */
static void
grow_window(struct h2_stream *s)
{
    const uint32_t max = s->h2->conn->listener->conf.h2.stream_window;

    if (s->window >= max || s->delivered < s->window || s->in.bytes > 0 || !s->want)
        return;
    s->delivered = 0;
    s->window = 2 * s->window < max ? 2 * s->window : max;
    nghttp2_session_set_local_window_size(s->h2->session, NGHTTP2_FLAG_NONE, s->id,
                                          (int32_t)s->window);
}

void
h2_in_credit(struct h2_stream *s)
{
    struct h2_down *h = s->h2;

    if (h->dead || s->uncredited == 0)
        return;
    nghttp2_session_consume_connection(h->session, s->uncredited);
    if (!s->closed && !s->reset)
        nghttp2_session_consume_stream(h->session, s->id, s->uncredited);
    s->delivered += s->uncredited;
    s->uncredited = 0;
    h2_touch(h);
}

/* --- bodies -------------------------------------------------------------------------------------
 */

static void
deliver_piece(struct h2_stream *s, struct block **b)
{
    s->uncredited += (*b)->len;
    if (s->tunnel)
        tunnel_down_data(s->txn, b);
    else
        txn_request_data(s->txn, b);
    if (*b != NULL)
        block_give(blocks_of(s), b);
    if (s->want || s->txn == NULL)
        h2_in_credit(s);
}

static void
deliver(struct h2_stream *s)
{
    while (s->txn != NULL && s->want && s->in.first != NULL) {
        struct block *b = s->in.first;

        s->in.first = b->next;
        s->in.bytes -= b->len;
        if (s->in.first == NULL)
            s->in.last = NULL;
        deliver_piece(s, &b);
    }
    if (s->txn == NULL || !s->want)
        return;
    h2_in_credit(s);
    grow_window(s);
    if (!s->in_end)
        return;
    s->in_end = false;
    if (s->tunnel)
        tunnel_down_end(s->txn);
    else
        txn_request_end(s->txn, s->in_trailers, s->n_in_trailers);
}

void
h2_in_deliver(struct h2_down *h)
{
    while (!list_empty(&h->todo)) {
        struct h2_stream *s = LIST_ENTRY(h->todo.next, struct h2_stream, todo);

        list_remove(&s->todo);
        list_init(&s->todo);
        deliver(s);
    }
}

static void
deliver_later(struct h2_stream *s)
{
    if (list_empty(&s->todo))
        list_push_back(&s->h2->todo, &s->todo);
    h2_touch(s->h2);
}

void
h2_in_want(struct h2_stream *s, bool on)
{
    s->want = on;
    if (on)
        deliver_later(s);
}

static int
on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
              void *arg)
{
    struct h2_down *h = arg;
    struct h2_stream *s = stream_of_id(h, id);
    struct block *b;

    if (s == NULL || s->txn == NULL) { /* answered without it */
        nghttp2_session_consume(session, id, n);
        return 0;
    }
    if (s->has_length && n > s->left) {
        nghttp2_session_consume_connection(session, n);
        malformed(s, H2_CL_DATA);
        return 0;
    }
    s->left -= s->has_length ? n : 0;
    if (!s->want || s->in.first != NULL) {
        h2_queue_add(blocks_of(s), &s->in, p, n);
        return 0;
    }
    b = block_take(blocks_of(s), n);
    memcpy(block_at(b), p, n);
    b->len = (uint32_t)n;
    deliver_piece(s, &b);
    if (s->txn != NULL)
        grow_window(s);
    return 0;
}

/* END_STREAM, with trailers or without. */
static void
end_body(struct h2_stream *s)
{
    if (s->txn == NULL)
        return;
    if (s->has_length && s->left > 0) {
        malformed(s, H2_CL_DATA);
        return;
    }
    s->in_end = true;
    deliver_later(s);
}

/* --- heads --------------------------------------------------------------------------------------
 */

static void
begin_section(struct h2_stream *s, enum h2_section section)
{
    struct txn *t = s->txn;

    s->fields = arena_alloc(&t->arena, sizeof(*s->fields));
    h2_fields_init(s->fields, section, &t->listener->conf.limits, &t->arena);
    s->fields->connect_protocol = s->h2->connects;
}

static int
on_begin_headers(nghttp2_session *session, const nghttp2_frame *f, void *arg)
{
    struct h2_down *h = arg;
    struct conn *c = h->conn;
    struct h2_stream *s;

    if (h->head_since_ns == 0)
        h->head_since_ns = worker_now(c->worker);
    if (f->headers.cat != NGHTTP2_HCAT_REQUEST) {
        s = stream_of_id(h, f->hd.stream_id);
        if (s != NULL && s->txn != NULL)
            begin_section(s, H2_TRAILERS);
        return 0;
    }
    if (h->leaving == H2_LEAVES) /* GOAWAY, which may still wait here, calls it untouched */
        return 0;
    if (!conn_refresh_listener(c) || (c->listener->conf.requests_per_conn != 0 &&
                                      c->requests + 1 >= c->listener->conf.requests_per_conn))
        h2_down_leave(h);
    s = open_stream(h, f->hd.stream_id);
    c->begun_ns = worker_now(c->worker);
    s->txn = conn_open_txn(c, &down_h2, s);
    stat_add(&c->worker->stats.http2_requests, 1);
    h2_meter_give(&h->control, H2_EARNED_BY_REQUEST);
    begin_section(s, H2_REQUEST);
    return 0;
}

static int
on_header(nghttp2_session *session, const nghttp2_frame *f, const uint8_t *name, size_t name_len,
          const uint8_t *value, size_t value_len, uint8_t flags, void *arg)
{
    struct h2_down *h = arg;
    struct h2_stream *s = stream_of_id(h, f->hd.stream_id);

    if (s == NULL || s->txn == NULL || s->fields == NULL)
        return 0;
    h2_fields_add(s->fields, (struct str){(const char *)name, name_len},
                  (struct str){(const char *)value, value_len});
    if (s->fields->bytes <= (uint64_t)HEAD_FACTOR * h->conn->listener->conf.limits.head_bytes)
        return 0;
    h2_abuse(h, H2_ABUSE_HEADS);
    return NGHTTP2_ERR_CALLBACK_FAILURE;
}

/* RFC 9218: what is to be sent first.  The field itself goes on to the server as any other. */
static void
prioritise(struct h2_stream *s)
{
    nghttp2_extpri p = {.urgency = NGHTTP2_EXTPRI_DEFAULT_URGENCY};
    const struct http_field *f = http_field_find(&s->txn->req, FIELD_PRIORITY);
    struct h2_priority said;

    if (f == NULL || !h2_read_priority(http_field_value(f), &said))
        return;
    p.urgency = said.urgency;
    p.inc = said.incremental;
    nghttp2_session_change_extpri_stream_priority(s->h2->session, s->id, &p, 0);
}

/* RFC 8441: what comes behind the head is not for the request, and waits for the switch. */
static void
take_connect(struct h2_stream *s, struct str protocol)
{
    s->in_end = s->txn->req_done; /* END_STREAM came with it */
    s->txn->req_done = true;
    s->want = false;
    tunnel_connect(s->txn, protocol);
}

static void
take_request(struct h2_stream *s, bool end)
{
    struct txn *t = s->txn;
    enum h2_fault fault = h2_read_request(&t->req, s->fields, end);
    const struct str protocol = s->fields->pseudo[H2_PSEUDO_PROTOCOL];

    s->fields = NULL;
    t->at.head = worker_now(t->worker);
    t->req_done = end;
    if (fault != H2_NONE && h2_fault_status(fault) == 0) {
        malformed(s, fault);
        return;
    }
    if (fault != H2_NONE) {
        txn_refuse(t, h2_fault_status(fault), h2_fault_text(fault));
        return;
    }
    conn_find_client(s->h2->conn, t);
    prioritise(s);
    if (protocol.p != NULL)
        take_connect(s, protocol);
    s->has_length = t->req.body == HTTP_BODY_LENGTH;
    s->left = t->req.content_length;
    txn_begin(t);
}

static void
take_trailers(struct h2_stream *s, bool end)
{
    enum h2_fault fault = h2_read_trailers(s->fields, &s->in_trailers, &s->n_in_trailers);

    s->fields = NULL;
    if (fault == H2_NONE && !end)
        fault = H2_NOT_LAST;
    if (fault != H2_NONE)
        malformed(s, fault);
    else
        end_body(s);
}

static void
take_section(struct h2_down *h, const nghttp2_frame *f)
{
    struct h2_stream *s = stream_of_id(h, f->hd.stream_id);
    const bool end = (f->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;

    h->head_since_ns = 0;
    if (s == NULL || s->txn == NULL || s->fields == NULL)
        return;
    if (f->headers.cat == NGHTTP2_HCAT_REQUEST)
        take_request(s, end);
    else
        take_trailers(s, end);
}

/* --- frames -------------------------------------------------------------------------------------
 */

static void
charge(struct h2_down *h, struct h2_meter *m, unsigned per_s, enum h2_abuse a)
{
    if (!h2_meter_take(m, per_s, worker_now(h2_worker(h))))
        h2_abuse(h, a);
}

static void
charge_control(struct h2_down *h)
{
    charge(h, &h->control, h->conn->listener->conf.h2.control_per_s, H2_ABUSE_CONTROL);
}

/* hot: once per frame.  What makes work is charged before it makes any. */
static int
on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *f, void *arg)
{
    struct h2_down *h = arg;

    switch (f->type) {
    case NGHTTP2_HEADERS:
    case NGHTTP2_DATA:
    case NGHTTP2_WINDOW_UPDATE: break;
    case NGHTTP2_PRIORITY:
        if (f->stream_id == 0) /* which nghttp2 passes over, as all of these (6.3) */
            nghttp2_session_terminate_session(session, NGHTTP2_PROTOCOL_ERROR);
        charge_control(h);
        break;
    case NGHTTP2_RST_STREAM:
        stat_add(&h2_worker(h)->stats.http2_resets_received, 1);
        charge(h, &h->resets, h->conn->listener->conf.h2.resets_per_s, H2_ABUSE_RESETS);
        break;
    case NGHTTP2_CONTINUATION:
        if (f->length == 0)
            charge_control(h);
        break;
    case NGHTTP2_SETTINGS:
    case NGHTTP2_PING:
        if ((f->flags & NGHTTP2_FLAG_ACK) == 0)
            charge_control(h);
        break;
    default: charge_control(h); break;
    }
    return h->abuse == H2_ABUSE_N ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

/* DATA without content keeps us busy with nothing, padded or not. */
static void
weigh_data(struct h2_down *h, const nghttp2_frame *f)
{
    if (f->hd.length > f->data.padlen)
        h2_meter_give(&h->control, H2_EARNED_BY_RECEIVED);
    else if ((f->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0)
        charge_control(h);
}

/* hot: once per frame */
static int
on_frame(nghttp2_session *session, const nghttp2_frame *f, void *arg)
{
    struct h2_down *h = arg;
    struct h2_stream *s;

    switch (f->hd.type) {
    case NGHTTP2_HEADERS: take_section(h, f); break;
    case NGHTTP2_DATA:
        weigh_data(h, f);
        s = f->hd.flags & NGHTTP2_FLAG_END_STREAM ? stream_of_id(h, f->hd.stream_id) : NULL;
        if (s != NULL)
            end_body(s);
        break;
    case NGHTTP2_SETTINGS: h->greeted = true; break;
    case NGHTTP2_PING:
        if ((f->hd.flags & NGHTTP2_FLAG_ACK) != 0 && h->leaving == H2_NOTICED)
            h->leave_ns = 0;
        break;
    case NGHTTP2_WINDOW_UPDATE:
        if (f->window_update.window_size_increment < H2_TINY)
            charge_control(h);
        break;
    default: break;
    }
    return h->abuse == H2_ABUSE_N ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

/* Streams beyond the limit are reset without having been begun here, so nothing else bounds how
 * many of these resets wait for a client that does not read. */
static int
on_invalid_frame(nghttp2_session *session, const nghttp2_frame *f, int err, void *arg)
{
    struct h2_down *h = arg;

    if (err == NGHTTP2_ERR_REFUSED_STREAM)
        charge(h, &h->faults, h->conn->listener->conf.h2.faults_per_s, H2_ABUSE_FAULTS);
    return h->abuse == H2_ABUSE_N ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

/* Both sides have ended it, or one has reset it. */
static int
on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
    struct h2_down *h = arg;
    struct h2_stream *s = stream_of_id(h, id);

    if (s == NULL)
        return 0;
    s->closed = true;
    if (s->txn != NULL)
        txn_down_gone(s->txn, END_CLIENT_GONE);
    h2_in_credit(s);
    h2_stream_free(s);
    h2_touch(h);
    return 0;
}

void
h2_in_callbacks(nghttp2_session_callbacks *cb)
{
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data_chunk);
    nghttp2_session_callbacks_set_on_begin_frame_callback(cb, on_begin_frame);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(cb, on_invalid_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
}
