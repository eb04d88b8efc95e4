/* SPDX-License-Identifier: BSD-2-Clause
 *
 * up_h2.c - sessions and streams of HTTP/2 towards servers (RFC 9113).
 *
 * Frames and HPACK are nghttp2's; what messages may hold is decided by http/h2.h, and which
 * connection a transaction gets by up_h2_conns.c.
 *
 * Windows: that of a connection is as large as those of all its streams together, and is given back
 * at once; that of a stream is given back as its client takes.  So a client that does not read
 * stops its own stream and no other, and what waits for it here is bounded by its window.
 *
 * nghttp2 calls back while it reads and while it writes.  Transactions may end in these calls, and
 * begin others; all they do to a session is to submit, and what they submit goes out in one piece
 * at the end of the turn.
 */
#include "proxy/up_h2_priv.h"

/* 10 Gbit/s at 0.1 ms; a stalled client costs as much memory. */
#define STREAM_WINDOW (128u << 10)
#define CONN_WINDOW   (16u << 20) /* all streams of a connection, whatever pools say */

/* The codec is not asked for more frames while so much waits for the kernel: what it holds back
 * counts as unsent to the stream it is of, and so stops that client. */
#define OUT_HIGH      65536u
/* Frames a second that carry nothing for anybody: PING, SETTINGS, empty DATA and the like.  Servers
 * that measure the way by PING, as those of gRPC do, may send one each round trip. */
#define CHAFF_MAX     10000u

/* NULL: its transaction has left it. */
struct h2_stream *
h2_stream_by_id(struct h2_up *h, int32_t id)
{
    struct h2_stream *s = nghttp2_session_get_stream_user_data(h->session, id);

    MC_ASSERT(s == NULL || (s->magic == H2_STREAM_MAGIC && s->id == id && s->h == h));
    return s;
}

static struct server_counters *
counters(const struct h2_up *h)
{
    return &h->u->server->counters[h->u->worker->conf.index];
}

static struct block_pool *
blocks(const struct h2_up *h)
{
    return loop_blocks(h->u->worker->loop);
}

/* --- the end of streams and connections ---------------------------------------------------------
 */

/* Malformed: RFC 9113 8.1.1. */
static void
malformed(struct h2_stream *s, enum h2_fault fault)
{
    s->reset_code = NGHTTP2_PROTOCOL_ERROR;
    s->txn->detail = h2_fault_text(fault);
    txn_up_failed(s->txn,
                  h2_fault_status(fault) == 431 ? END_RESPONSE_HEAD_LARGE : END_BAD_RESPONSE);
}

static void
fail_streams(struct h2_up *h, enum end_reason why, const char *detail)
{
    while (!list_empty(&h->streams)) {
        struct h2_stream *s = LIST_ENTRY(h->streams.next, struct h2_stream, link);

        s->closed = true;
        if (detail != NULL)
            s->txn->detail = detail;
        txn_up_failed(s->txn, s->headed ? END_RESPONSE_INCOMPLETE : why);
    }
}

/* why: of those without a response head.  What the codec has to say goes out before the end. */
static void
conn_fail(struct h2_up *h, enum end_reason why, const char *detail)
{
    h2_unlist(h);
    h->phase = H2_ENDING;
    fail_streams(h, why, detail);
    h2_end(h);
}

/* --- sending ------------------------------------------------------------------------------------
 */

static void
tell_drained(struct h2_up *h)
{
    while (!list_empty(&h->drained)) {
        struct h2_stream *s = LIST_ENTRY(h->drained.next, struct h2_stream, drained_link);

        list_remove(&s->drained_link);
        txn_up_drained(s->txn);
    }
}

/* True: the codec has nothing more to say, now or ever. */
static bool
pump(struct h2_up *h)
{
    struct stream *out = &h->u->stream;

    while (h->phase != H2_DEAD && stream_unsent(out) < OUT_HIGH) {
        const uint8_t *p;
        ssize_t n = nghttp2_session_mem_send(h->session, &p);

        if (n > 0)
            stream_write(out, p, (size_t)n);
        else
            return n < 0 || !(nghttp2_session_want_read(h->session) ||
                              nghttp2_session_want_write(h->session));
    }
    return false;
}

/* Once a turn: what all streams have to send goes in one piece. */
static void
flush(struct task *task)
{
    struct h2_up *h = container_of(task, struct h2_up, flush);
    struct stream *out = &h->u->stream;
    const bool over = pump(h);

    if (h->phase == H2_DEAD)
        return;
    stream_push(out);
    if (h->phase != H2_ENDING) {
        tell_drained(h);
        if (over && h->phase < H2_ENDING)
            conn_fail(h, END_BAD_RESPONSE, h->fault);
    } else if (over && !h->finished) {
        h->finished = true;
        stream_finish(out);
    }
    if (h->phase == H2_ENDING && h->finished && stream_unsent(out) == 0)
        upconn_close(h->u, false);
}

void
h2_flush_soon(struct h2_up *h)
{
    if (h->phase == H2_DEAD)
        return;
    h->flush.fn = flush;
    loop_defer(h->u->worker->loop, &h->flush);
}

void
up_h2_drained(struct upconn *u)
{
    if (nghttp2_session_want_write(u->h2->session) || u->h2->phase == H2_ENDING)
        h2_flush_soon(u->h2);
}

static bool
is_whole_block(const struct h2_stream *s, size_t n)
{
    return s->out != NULL && s->out->len == n && n >= COPY_BELOW;
}

static struct block *
pop_out(struct h2_stream *s)
{
    struct block *b = s->out;

    s->out = b->next;
    b->next = NULL;
    if (s->out == NULL)
        s->out_last = NULL;
    return b;
}

/* A frame that is one block goes as it is, with its header before it. */
static void
send_block(struct h2_stream *s, const uint8_t *header, size_t header_len)
{
    struct stream *out = &s->h->u->stream;
    struct block *b = pop_out(s);

    if (b->off >= header_len) {
        b->off -= (uint32_t)header_len;
        b->len += (uint32_t)header_len;
        memcpy(block_at(b), header, header_len);
    } else {
        stream_write(out, header, header_len);
    }
    stream_send(out, &b);
}

static void
send_pieces(struct h2_stream *s, const uint8_t *header, size_t header_len, size_t n)
{
    struct stream *out = &s->h->u->stream;

    stream_write(out, header, header_len);
    while (n > 0) {
        size_t some = s->out->len < n ? s->out->len : n;

        stream_write(out, block_at(s->out), some);
        block_skip(s->out, some);
        n -= some;
        if (s->out->len == 0) {
            struct block *b = pop_out(s);

            block_give(blocks(s->h), &b);
        }
    }
}

#define FRAME_HEADER 9

static int
on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *header, size_t n,
             nghttp2_data_source *source, void *arg)
{
    struct h2_stream *s = h2_stream_by_id(arg, frame->hd.stream_id);

    if (s == NULL)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (is_whole_block(s, n))
        send_block(s, header, FRAME_HEADER);
    else
        send_pieces(s, header, FRAME_HEADER, n);
    s->out_bytes -= (uint32_t)n;
    if (s->full && s->out_bytes <= H2_OUT_LOW) {
        s->full = false;
        list_push_back(&s->h->drained, &s->drained_link);
    }
    return 0;
}

/* HEADERS that could not go, since the server wants no more of them by now. */
static int
on_not_sent(nghttp2_session *session, const nghttp2_frame *frame, int error, void *arg)
{
    struct h2_up *h = arg;

    if (frame->hd.type != NGHTTP2_HEADERS)
        return 0;
    LIST_FOREACH (it, &h->streams) {
        struct h2_stream *s = LIST_ENTRY(it, struct h2_stream, link);

        if (s->id != frame->hd.stream_id)
            continue;
        s->closed = true;
        h2_drain(h);
        h2_stream_unprocessed(s, false);
        return 0;
    }
    return 0;
}

/* --- receiving ----------------------------------------------------------------------------------
 */

static void
response_whole(struct h2_stream *s, const struct http_field *trailers, unsigned n)
{
    if (s->has_length && s->body_bytes != s->length)
        malformed(s, H2_CL_DATA);
    else
        txn_response_end(s->txn, trailers, n);
}

static void
take_trailers(struct h2_stream *s, bool end)
{
    struct http_field *trailers = NULL;
    unsigned n = 0;
    enum h2_fault fault = h2_read_trailers(&s->fields, &trailers, &n);

    if (fault == H2_NONE && !end)
        fault = H2_NOT_LAST;
    if (fault != H2_NONE)
        malformed(s, fault);
    else
        response_whole(s, trailers, n);
}

static void
take_head(struct h2_stream *s, bool end)
{
    struct h2_up *h = s->h;
    struct txn *t = s->txn;
    const int32_t id = s->id;
    struct http_head head;
    enum h2_fault fault = h2_read_response(&head, &s->fields, t->req.method, end);

    if (fault != H2_NONE) {
        malformed(s, fault);
        return;
    }
    if (head.status < 200) {
        stat_add(&counters(h)->responses_1xx, 1);
        txn_interim(t, &head);
        return;
    }
    s->headed = true;
    s->bodyless = head.body == HTTP_BODY_NONE;
    s->has_length = head.body == HTTP_BODY_LENGTH;
    s->length = head.content_length;
    if (s->kept != NULL)
        block_give(blocks(h), &s->kept);
    txn_response_head(t, &head);
    if (end && h2_stream_by_id(h, id) == s)
        response_whole(s, NULL, 0);
}

static int
on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2_stream *s = h2_stream_by_id(arg, frame->hd.stream_id);

    if (s == NULL)
        return 0;
    s->txn->heard = true;
    h2_fields_init(&s->fields, s->headed ? H2_TRAILERS : H2_RESPONSE,
                   &s->txn->listener->conf.limits, &s->txn->arena);
    return 0;
}

static int
on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_n,
          const uint8_t *value, size_t value_n, uint8_t flags, void *arg)
{
    struct h2_stream *s = h2_stream_by_id(arg, frame->hd.stream_id);

    if (s != NULL)
        h2_fields_add(&s->fields, (struct str){(const char *)name, name_n},
                      (struct str){(const char *)value, value_n});
    return 0;
}

/* The bytes that came last in a block go on in it, the others are copied out: nghttp2 still reads
 * what follows them. */
static void
pass_data(struct h2_up *h, struct txn *t, const uint8_t *data, size_t n)
{
    struct block *b = *h->in, *copy;

    if ((const char *)data + n == block_at(b) + b->len) {
        block_skip(b, b->len - n);
        txn_response_data(t, h->in);
        return;
    }
    copy = block_take(blocks(h), n);
    memcpy(block_at(copy), data, n);
    copy->len = (uint32_t)n;
    txn_response_data(t, &copy);
    if (copy != NULL)
        block_give(blocks(h), &copy);
}

static enum h2_fault
data_fault(const struct h2_stream *s)
{
    if (!s->headed)
        return H2_DATA_EARLY;
    if (s->bodyless)
        return H2_DATA_BODYLESS;
    return s->has_length && s->body_bytes > s->length ? H2_CL_DATA : H2_NONE;
}

static int
on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t n,
        void *arg)
{
    struct h2_up *h = arg;
    struct h2_stream *s = h2_stream_by_id(h, id);
    enum h2_fault fault;

    nghttp2_session_consume_connection(session, n);
    if (s == NULL || n == 0)
        return 0;
    s->body_bytes += n;
    s->owed += (uint32_t)n;
    fault = data_fault(s);
    if (fault != H2_NONE) {
        malformed(s, fault);
        return 0;
    }
    pass_data(h, s->txn, data, n);
    if (h2_stream_by_id(h, id) == s)
        h2_stream_give_window(s);
    return 0;
}

static int
on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2_up *h = arg;
    struct h2_stream *s = h2_stream_by_id(h, frame->hd.stream_id);
    const bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;

    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        if (s != NULL && s->headed)
            take_trailers(s, end);
        else if (s != NULL)
            take_head(s, end);
        break;
    case NGHTTP2_DATA:
        if (s != NULL && end && s->headed)
            response_whole(s, NULL, 0);
        else if (s != NULL && !s->headed)
            malformed(s, H2_DATA_EARLY);
        break;
    case NGHTTP2_RST_STREAM:
        if (s != NULL)
            s->reset_by_peer = true;
        break;
    case NGHTTP2_SETTINGS:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) == 0 && h->phase < H2_ENDING)
            h2_greeted(h);
        break;
    case NGHTTP2_GOAWAY: h2_drain(h); break;
    default: break;
    }
    return 0;
}

/* Ours are gone already when the response was whole. */
static int
on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
    struct h2_up *h = arg;
    struct h2_stream *s = h2_stream_by_id(h, id);

    if (s == NULL)
        return 0;
    s->closed = true;
    if (code == NGHTTP2_REFUSED_STREAM && !s->txn->heard) {
        h2_stream_unprocessed(s, h->phase != H2_DRAINING);
        return 0;
    }
    s->txn->heard = true; /* it was the server's answer: no sign of a connection that was dead */
    s->txn->detail = nghttp2_http2_strerror(code);
    if (s->headed)
        txn_up_failed(s->txn, END_RESPONSE_INCOMPLETE);
    else
        txn_up_failed(s->txn, s->reset_by_peer ? END_SERVER_RESET : END_BAD_RESPONSE);
    return 0;
}

static bool
serves_somebody(const nghttp2_frame_hd *f)
{
    switch (f->type) {
    case NGHTTP2_DATA: return f->length > 0 || (f->flags & NGHTTP2_FLAG_END_STREAM) != 0;
    case NGHTTP2_HEADERS:
    case NGHTTP2_CONTINUATION:
    case NGHTTP2_RST_STREAM:
    case NGHTTP2_WINDOW_UPDATE: return true;
    default: return false;
    }
}

static int
on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *f, void *arg)
{
    struct h2_up *h = arg;
    const mc_ns now = worker_now(h->u->worker);

    if (serves_somebody(f))
        return 0;
    if (now - h->chaff_since_ns >= MC_SEC) {
        h->chaff_since_ns = now;
        h->chaff = 0;
    }
    if (++h->chaff <= CHAFF_MAX || h->fault != NULL)
        return 0;
    h->fault = "too many frames that carry nothing";
    nghttp2_session_terminate_session(session, NGHTTP2_ENHANCE_YOUR_CALM);
    return 0;
}

static int
on_bad_frame(nghttp2_session *session, const nghttp2_frame *frame, int error, void *arg)
{
    struct h2_up *h = arg;

    h->fault = nghttp2_strerror(error);
    return 0;
}

void
up_h2_recv(struct upconn *u, struct block **b) /* hot: once per read */
{
    struct h2_up *h = u->h2;
    ssize_t n;

    if (h->phase >= H2_ENDING)
        return;
    h->in = b;
    n = nghttp2_session_mem_recv(h->session, (const uint8_t *)block_at(*b), (*b)->len);
    h->in = NULL;
    if (h->phase >= H2_ENDING)
        return;
    if (n < 0)
        conn_fail(h, END_BAD_RESPONSE, nghttp2_strerror((int)n));
    else if (nghttp2_session_want_write(h->session) || !nghttp2_session_want_read(h->session))
        h2_flush_soon(h);
}

void
up_h2_broken(struct upconn *u, enum end_reason why)
{
    struct h2_up *h = u->h2;
    const char *detail = NULL;

    if (h->phase < H2_ENDING) {
        h2_unlist(h);
        h->phase = H2_ENDING;
        why = upconn_reason(&u->stream, why, &detail);
        fail_streams(h, why, detail);
    }
    upconn_close(u, false);
}

/* --- sessions -----------------------------------------------------------------------------------
 */

void
h2_session_setup(struct h2_ups *ups)
{
    nghttp2_session_callbacks *c;
    nghttp2_option *o;

    MC_ASSERT(nghttp2_session_callbacks_new(&c) == 0 && nghttp2_option_new(&o) == 0);
    nghttp2_session_callbacks_set_on_begin_frame_callback(c, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(c, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(c, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(c, on_frame);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(c, on_bad_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(c, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(c, on_not_sent);
    nghttp2_session_callbacks_set_send_data_callback(c, on_send_data);
    nghttp2_option_set_no_http_messaging(o, 1); /* h2_read.c decides, for both directions */
    nghttp2_option_set_no_auto_window_update(o, 1);
    nghttp2_option_set_no_closed_streams(o, 1);
    nghttp2_option_set_peer_max_concurrent_streams(o, UINT32_MAX); /* up_h2_conns.c counts */
    nghttp2_option_set_max_send_header_block_length(o, 1u << 22);  /* the listener's limits count */
    ups->callbacks = c;
    ups->option = o;
}

void
h2_session_forget(struct h2_ups *ups)
{
    nghttp2_session_callbacks_del(ups->callbacks);
    nghttp2_option_del(ups->option);
}

void
h2_session_open(struct h2_up *h)
{
    static const nghttp2_settings_entry hello[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
    };
    const struct h2_ups *ups = h->peer->ups;

    MC_ASSERT(nghttp2_session_client_new2(&h->session, ups->callbacks, h, ups->option) == 0);
    MC_ASSERT(nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, hello, MC_COUNT(hello)) == 0);
    MC_ASSERT(nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0,
                                                    (int32_t)CONN_WINDOW) == 0);
    h->u->state = UPCONN_H2;
    stream_recv(&h->u->stream, true);
    h2_flush_soon(h);
}
