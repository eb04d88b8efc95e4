/* SPDX-License-Identifier: BSD-2-Clause
 *
 * down_h2_out.c - the client's side of a transaction in HTTP/2: its responses (RFC 9113 8).
 *
 * A transaction is over when it has given the last byte of its response; the stream keeps what the
 * client's windows do not let go yet.  That is a read and RELAY_HIGH bytes at most.
 */
#include "proxy/down_h2_priv.h"
#include "proxy/untaken.h"

#define ROOM_AGAIN (RELAY_HIGH / 4) /* a transaction goes on before the last byte has gone */

static struct h2_stream *
stream_of(const struct txn *t)
{
    struct h2_stream *s = t->down_side;

    MC_CHECK(s, H2_STREAM_MAGIC);
    return s;
}

static struct block_pool *
blocks_of(const struct h2_stream *s)
{
    return loop_blocks(h2_worker(s->h2)->loop);
}

static nghttp2_session *
session_of(const struct h2_stream *s)
{
    return s->h2->session;
}

void
h2_out_reset(struct h2_stream *s, uint32_t code)
{
    struct h2_down *h = s->h2;

    if (s->reset || s->closed || h->dead)
        return;
    s->reset = true;
    h2_queue_drop(blocks_of(s), &s->out);
    nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, s->id, code);
    h2_touch(h);
}

/* --- called by nghttp2, when it sends -----------------------------------------------------------
 */

static ssize_t
read_out(nghttp2_session *session, int32_t id, uint8_t *buf, size_t max, uint32_t *flags,
         nghttp2_data_source *source, void *arg)
{
    struct h2_stream *s = source->ptr;
    const size_t n = s->out.bytes < max ? s->out.bytes : max;

    MC_CHECK(s, H2_STREAM_MAGIC);
    if (s->h2->dead || (n == 0 && !s->ended)) {
        s->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (!s->ended || n < s->out.bytes)
        return (ssize_t)n;
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (s->trailers != NULL) {
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        nghttp2_submit_trailer(session, id, (const nghttp2_nv *)(void *)block_at(s->trailers),
                               s->n_trailers);
    }
    return (ssize_t)n;
}

/* A block that goes as a whole is not copied. */
static void
send_out(struct h2_stream *s, size_t n)
{
    struct stream *to = &s->h2->conn->stream;

    s->out.bytes -= (uint32_t)n;
    while (n > 0) {
        struct block *b = s->out.first;
        const size_t part = b->len < n ? b->len : n;
        const bool whole = part == b->len;

        if (whole) {
            s->out.first = b->next;
            if (b->next == NULL)
                s->out.last = NULL;
        }
        if (whole && part >= COPY_BELOW) {
            stream_send(to, &b);
        } else {
            stream_write(to, block_at(b), part);
            block_skip(b, part);
            if (whole)
                block_give(blocks_of(s), &b);
        }
        n -= part;
    }
    s->moved_ns = worker_now(h2_worker(s->h2));
}

static int
on_send_data(nghttp2_session *session, nghttp2_frame *f, const uint8_t *head, size_t n,
             nghttp2_data_source *source, void *arg)
{
    struct h2_stream *s = source->ptr;

    stream_write(&s->h2->conn->stream, head, 9);
    send_out(s, n);
    if (n >= H2_TINY || (n > 0 && s->out.bytes == 0)) /* not what a tiny window lets out */
        h2_meter_give(&s->h2->control, H2_EARNED_BY_SENT);
    return 0;
}

/* Faults of the client's that make us reset a stream are as dear as resets of its own.  A response
 * that was whole before the request asks the client to send no more of that (8.1). */
static int
on_frame_sent(nghttp2_session *session, const nghttp2_frame *f, void *arg)
{
    struct h2_down *h = arg;
    struct h2_stream *s;

    if (f->hd.type == NGHTTP2_RST_STREAM && f->rst_stream.error_code != NGHTTP2_NO_ERROR) {
        stat_add(&h2_worker(h)->stats.http2_resets_sent, 1);
        if (f->rst_stream.error_code != NGHTTP2_INTERNAL_ERROR &&
            f->rst_stream.error_code != NGHTTP2_REFUSED_STREAM && /* charged when it came */
            f->rst_stream.error_code != NGHTTP2_CANCEL &&
            !h2_meter_take(&h->faults, h->conn->listener->conf.h2.faults_per_s,
                           worker_now(h2_worker(h))))
            h2_abuse(h, H2_ABUSE_FAULTS);
        return 0;
    }
    if ((f->hd.type != NGHTTP2_DATA && f->hd.type != NGHTTP2_HEADERS) ||
        (f->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0)
        return 0;
    s = nghttp2_session_get_stream_user_data(session, f->hd.stream_id);
    if (s != NULL && !s->tunnel &&
        !nghttp2_session_get_stream_remote_close(session, f->hd.stream_id))
        h2_out_reset(s, NGHTTP2_NO_ERROR);
    return 0;
}

void
h2_out_callbacks(nghttp2_session_callbacks *cb)
{
    nghttp2_session_callbacks_set_send_data_callback(cb, on_send_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_sent);
}

void
h2_out_unchoke(struct h2_down *h)
{
    if (h->n_choked == 0)
        return;
    LIST_FOREACH_SAFE (it, next, &h->streams) {
        struct h2_stream *s = LIST_ENTRY(it, struct h2_stream, link);

        if (!s->choked || s->out.bytes > ROOM_AGAIN)
            continue;
        s->choked = false;
        h->n_choked--;
        if (s->txn != NULL)
            txn_down_drained(s->txn);
    }
}

/* --- the transaction's side (exchange.h) --------------------------------------------------------
 */

static void
h2_interim(struct txn *t, const struct http_head *head)
{
    struct h2_stream *s = stream_of(t);
    struct h1_write w = {.body = HTTP_BODY_NONE};
    nghttp2_nv *nv;
    unsigned n = h2_write_response(head, &w, &t->arena, &nv);

    nghttp2_submit_headers(session_of(s), NGHTTP2_FLAG_NONE, s->id, NULL, nv, n, NULL);
    h2_touch(s->h2);
}

/* What the server thinks of the response's urgency counts, too (RFC 9218 8). */
static void
prioritise(struct h2_stream *s, const struct http_head *head)
{
    const struct http_field *f = http_field_find(head, FIELD_PRIORITY);
    nghttp2_extpri p;
    struct h2_priority said;

    if (f == NULL || !h2_read_priority(http_field_value(f), &said))
        return;
    p.urgency = said.urgency;
    p.inc = said.incremental;
    nghttp2_session_change_extpri_stream_priority(session_of(s), s->id, &p, 0);
}

static void
h2_head(struct txn *t, const struct down_head *d)
{
    struct h2_stream *s = stream_of(t);
    const bool empty = t->req.method == HTTP_M_HEAD || d->body == HTTP_BODY_NONE ||
                       (d->body == HTTP_BODY_LENGTH && d->content_length == 0);
    struct h1_write w = down_head_write(d);
    nghttp2_data_provider out = {.source.ptr = s, .read_callback = read_out};
    nghttp2_nv *nv;
    unsigned n = h2_write_response(d->head, &w, &t->arena, &nv);

    s->begun = true;
    s->ended = empty;
    prioritise(s, d->head);
    nghttp2_submit_response(session_of(s), s->id, nv, n, empty ? NULL : &out);
    h2_touch(s->h2);
}

static void
wake(struct h2_stream *s)
{
    if (s->deferred) {
        s->deferred = false;
        nghttp2_session_resume_data(session_of(s), s->id);
    }
    h2_touch(s->h2);
}

static void
h2_data(struct txn *t, struct block **b)
{
    struct h2_stream *s = stream_of(t);
    struct block *last = s->out.last;

    if (s->out.bytes == 0)
        s->moved_ns = worker_now(t->worker);
    if ((*b)->len < COPY_BELOW || (last != NULL && block_room(last) >= (*b)->len)) {
        h2_queue_add(blocks_of(s), &s->out, block_at(*b), (*b)->len);
    } else {
        (*b)->next = NULL;
        if (last != NULL)
            last->next = *b;
        else
            s->out.first = *b;
        s->out.last = *b;
        s->out.bytes += (*b)->len;
        *b = NULL;
    }
    if (s->out.bytes > RELAY_HIGH && !s->choked) {
        s->choked = true;
        s->h2->n_choked++;
    }
    wake(s);
}

/* Names, values and what points to them, in one block: the transaction's arena ends before they are
 * sent. */
static void
keep_trailers(struct h2_stream *s, const struct http_field *f, unsigned n, struct arena *a)
{
    nghttp2_nv *nv, *kept;
    size_t bytes = n * sizeof(*nv);
    char *text;

    s->n_trailers = h2_write_trailers(f, n, a, &nv);
    for (unsigned i = 0; i < n; i++)
        bytes += nv[i].namelen + nv[i].valuelen;
    s->trailers = block_take(blocks_of(s), bytes);
    kept = (nghttp2_nv *)(void *)block_at(s->trailers);
    text = (char *)(kept + n);
    for (unsigned i = 0; i < n; i++) {
        kept[i] = nv[i];
        kept[i].name = memcpy(text, nv[i].name, nv[i].namelen);
        text += nv[i].namelen;
        kept[i].value = memcpy(text, nv[i].value, nv[i].valuelen);
        text += nv[i].valuelen;
    }
}

static void
h2_end(struct txn *t, const struct http_field *trailers, unsigned n)
{
    struct h2_stream *s = stream_of(t);

    if (s->ended)
        return;
    s->ended = true;
    if (n > 0)
        keep_trailers(s, trailers, n, &t->arena);
    wake(s);
}

/* RFC 8441 5: a 200 says what 101 does, and the fields of the connection do not exist. */
static struct block *
h2_switched(struct txn *t, const struct down_head *d, bool *ended)
{
    struct h2_stream *s = stream_of(t);
    struct http_head head = *d->head;
    struct down_head out = *d;

    head.status = 200;
    out.head = &head;
    out.body = HTTP_BODY_CHUNKED;
    s->tunnel = true;
    h2_head(t, &out);
    *ended = false; /* told when the rest is */
    return NULL;
}

static void
h2_shut(struct txn *t)
{
    h2_end(t, NULL, 0);
}

static void
h2_abort(struct txn *t)
{
    struct h2_stream *s = stream_of(t);

    /* RFC 8441 5: as a connection that breaks */
    h2_out_reset(s, s->tunnel ? NGHTTP2_CANCEL : NGHTTP2_INTERNAL_ERROR);
}

static void
h2_done(struct txn *t)
{
    struct h2_stream *s = stream_of(t);

    s->txn = NULL;
    s->fields = NULL;
    s->uncredited += s->in.bytes;
    h2_queue_drop(blocks_of(s), &s->in);
    h2_in_credit(s);
    if (!s->ended)
        h2_out_reset(s, t->end == END_BAD_REQUEST ? NGHTTP2_PROTOCOL_ERROR : NGHTTP2_CANCEL);
}

static void
h2_want(struct txn *t, bool on)
{
    h2_in_want(stream_of(t), on);
}

static uint32_t
h2_unsent(const struct txn *t)
{
    return stream_of(t)->out.bytes;
}

/* While the client's windows are closed, only the stream's own bytes tell of progress: the socket
 * takes those of others. */
static uint64_t
h2_untaken(const struct txn *t)
{
    const struct h2_stream *s = stream_of(t);
    nghttp2_session *session = session_of(s);

    if (s->tunnel) /* RST_STREAM overtakes nothing that the socket has */
        return s->out.bytes;
    if (nghttp2_session_get_remote_window_size(session) <= 0 ||
        nghttp2_session_get_stream_remote_window_size(session, s->id) <= 0)
        return s->out.bytes;
    return s->out.bytes + untaken_bytes(&s->h2->conn->stream);
}

static struct sock *
h2_raw(const struct txn *t)
{
    return NULL;
}

const struct down_ops down_h2 = {
    .interim = h2_interim,
    .head = h2_head,
    .data = h2_data,
    .end = h2_end,
    .switched = h2_switched,
    .shut = h2_shut,
    .abort = h2_abort,
    .done = h2_done,
    .want = h2_want,
    .unsent = h2_unsent,
    .untaken = h2_untaken,
    .raw = h2_raw,
};
