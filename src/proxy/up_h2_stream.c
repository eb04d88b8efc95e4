/* SPDX-License-Identifier: BSD-2-Clause
 *
 * up_h2_stream.c - a transaction's stream on an HTTP/2 connection to a server: struct up_ops.
 *
 * What the transaction gives waits here until nghttp2 has a window for it and puts it into frames;
 * for what comes, the server gets window as the client takes.
 */
#include "proxy/up_h2_priv.h"

/* Of a request body so much is kept until the server answers, for the case that it refuses.  A bulk
 * block with its margins, and nearly what a server's window is at first: more can hardly be sent
 * before it decides. */
#define KEEP_MAX 61440u

static const struct up_ops up_h2;

static struct h2_stream *
stream_of_txn(const struct txn *t)
{
    struct h2_stream *s = t->up_side;

    MC_CHECK(s, H2_STREAM_MAGIC);
    return s;
}

static struct server_counters *
counters(const struct h2_stream *s)
{
    return &s->peer->server->counters[s->peer->ups->worker->conf.index];
}

static struct block_pool *
blocks(const struct h2_stream *s)
{
    return loop_blocks(s->peer->ups->worker->loop);
}

/* --- streams ------------------------------------------------------------------------------------
 */

struct h2_stream *
h2_stream_new(struct h2_peer *p, struct txn *t)
{
    struct h2_stream *s = slab_take(&p->ups->streams);

    memset(s, 0, sizeof(*s));
    s->magic = H2_STREAM_MAGIC;
    s->txn = t;
    s->peer = p;
    list_init(&s->link);
    list_init(&s->drained_link);
    t->up = &up_h2;
    t->up_side = s;
    return s;
}

void
h2_stream_attach(struct h2_stream *s, struct h2_up *h)
{
    s->h = h;
    h->n_streams++;
    list_push_back(&h->streams, &s->link);
}

static void
give_blocks(struct block_pool *pool, struct block *b)
{
    while (b != NULL) {
        struct block *next = b->next;

        block_give(pool, &b);
        b = next;
    }
}

static void
stream_free(struct h2_stream *s)
{
    give_blocks(blocks(s), s->out);
    give_blocks(blocks(s), s->kept);
    list_remove(&s->drained_link);
    s->magic = 0;
    slab_give(&s->peer->ups->streams, s);
}

/* All of the body that was given, in blocks; NULL when that is not here any more. */
static struct block *
take_body(struct h2_stream *s)
{
    struct block *body = NULL;

    if (s->kept != NULL && s->kept->len == s->given_bytes) {
        body = s->kept;
        s->kept = NULL;
    } else if (s->out_bytes == s->given_bytes) {
        body = s->out;
        s->out = NULL;
        s->out_bytes = 0;
    }
    return body;
}

void
h2_stream_unprocessed(struct h2_stream *s, bool elsewhere)
{
    const bool any = s->given_bytes > 0;
    struct block *body = take_body(s);

    stat_add(&counters(s)->unprocessed, 1);
    txn_up_unprocessed(s->txn, &body, any && body == NULL, elsewhere);
}

/* --- for nghttp2 --- */

static void
send_trailers(struct h2_stream *s)
{
    nghttp2_nv *nv;
    unsigned n = h2_write_trailers(s->trailers, s->n_trailers, &s->txn->arena, &nv);

    MC_ASSERT(nghttp2_submit_trailer(s->h->session, s->id, nv, n) == 0);
}

/* How much of the body is to go into a frame of at most `max` bytes. */
static ssize_t
read_body(nghttp2_session *session, int32_t id, uint8_t *buf, size_t max, uint32_t *flags,
          nghttp2_data_source *source, void *arg)
{
    struct h2_stream *s = h2_stream_by_id(arg, id);
    size_t n;

    if (s == NULL)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    n = s->out_bytes < max ? s->out_bytes : max;
    if (n == 0 && !s->ended) {
        s->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (s->ended && n == s->out_bytes) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        s->end_sent = true;
        if (s->n_trailers > 0) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            send_trailers(s);
        }
    }
    return (ssize_t)n;
}

/* What a stream gets goes back into its window as long as the client takes it. */
void
h2_stream_give_window(struct h2_stream *s)
{
    if (s->paused || s->owed == 0)
        return;
    nghttp2_session_consume_stream(s->h->session, s->id, s->owed);
    s->owed = 0;
    h2_flush_soon(s->h);
}

/* --- the transaction's side (exchange.h) --------------------------------------------------------
 */

/* The URI's, which is not that of our own connection (RFC 9113 8.3.1). */
static struct str
scheme_of(const struct txn *t)
{
    return t->tls != NULL ? STR("https") : STR("http");
}

static void
h2_request(struct txn *t, const struct h1_write *w)
{
    struct h2_stream *s = stream_of_txn(t);
    const bool body = w->body == HTTP_BODY_CHUNKED || w->content_length > 0;
    const nghttp2_data_provider provider = {.read_callback = read_body};
    nghttp2_nv *nv;
    unsigned n = h2_write_request(&t->req, w, scheme_of(t), &t->arena, &nv);

    s->ended = s->end_sent = !body;
    s->id = nghttp2_submit_request(s->h->session, NULL, nv, n, body ? &provider : NULL, s);
    MC_ASSERT(s->id > 0); /* ids were left when the stream was attached; else no memory is */
    stat_add(&counters(s)->requests, 1);
    h2_flush_soon(s->h);
}

static bool
is_kept(const struct h2_stream *s)
{
    return !s->headed && s->given_bytes <= KEEP_MAX &&
           (s->txn->req.body != HTTP_BODY_LENGTH || s->txn->req.content_length <= KEEP_MAX);
}

static void
keep_copy(struct h2_stream *s, struct block *b)
{
    s->given_bytes += b->len;
    if (is_kept(s))
        block_append(blocks(s), &s->kept, block_at(b), b->len);
    else if (s->kept != NULL)
        block_give(blocks(s), &s->kept);
}

static void
resume(struct h2_stream *s)
{
    if (s->deferred) {
        s->deferred = false;
        nghttp2_session_resume_data(s->h->session, s->id);
    }
    h2_flush_soon(s->h);
}

static void
append_out(struct h2_stream *s, struct block *b)
{
    b->next = NULL;
    *(s->out_last != NULL ? &s->out_last->next : &s->out) = b;
    s->out_last = b;
}

/* Behind what is queued already, so that small pieces share a block and a frame. */
static void
copy_out(struct h2_stream *s, struct block *b)
{
    if (s->out_last == NULL || block_room(s->out_last) < b->len)
        append_out(s, block_take(blocks(s), b->len));
    memcpy(block_at(s->out_last) + s->out_last->len, block_at(b), b->len);
    s->out_last->len += b->len;
}

static void
h2_data(struct txn *t, struct block **b)
{
    struct h2_stream *s = stream_of_txn(t);

    keep_copy(s, *b);
    s->out_bytes += (*b)->len;
    if (s->out_bytes > H2_OUT_LOW)
        s->full = true;
    if ((*b)->len < COPY_BELOW) {
        copy_out(s, *b);
    } else {
        append_out(s, *b);
        *b = NULL;
    }
    resume(s);
}

static void
h2_stream_end(struct txn *t, const struct http_field *trailers, unsigned n)
{
    struct h2_stream *s = stream_of_txn(t);

    if (s->ended)
        return;
    s->ended = true;
    s->trailers = trailers;
    s->n_trailers = n;
    resume(s);
}

/* What is not over is cancelled; the others on the connection do not notice. */
static void
leave_conn(struct h2_stream *s, bool whole)
{
    struct h2_up *h = s->h;
    const struct txn *t = s->txn;
    const struct worker *w = h->u->worker;

    if (s->id > 0) {
        nghttp2_session_set_stream_user_data(h->session, s->id, NULL);
        if (!s->closed && !(whole && s->end_sent)) {
            nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, s->id,
                                      s->reset_code != 0 ? s->reset_code : NGHTTP2_CANCEL);
            h2_flush_soon(h);
        }
    }
    h2_stream_left(h, t->gen == w->current); /* else the server may be gone */
}

static void
h2_release(struct txn *t, bool whole)
{
    struct h2_stream *s = stream_of_txn(t);

    t->up = NULL;
    t->up_side = NULL;
    h2_stream_unwait(s);
    if (s->h != NULL)
        leave_conn(s, whole);
    stream_free(s);
}

static void
h2_want(struct txn *t, bool on)
{
    struct h2_stream *s = stream_of_txn(t);

    s->paused = !on;
    h2_stream_give_window(s);
}

static uint32_t
h2_unsent(const struct txn *t)
{
    return stream_of_txn(t)->out_bytes;
}

static uint64_t
h2_untaken(const struct txn *t)
{
    return stream_of_txn(t)->out_bytes;
}

static struct sock *
h2_raw(const struct txn *t)
{
    return NULL;
}

static uint64_t
h2_left(const struct txn *t)
{
    return 0;
}

static void
h2_switched(struct txn *t)
{
    MC_NEVER("no response of HTTP/2 is a switch"); /* 101 is malformed */
}

static void
h2_spliced(struct txn *t, uint64_t n)
{
    MC_NEVER("nothing of HTTP/2 is spliced");
}

static const struct up_ops up_h2 = {
    .request = h2_request,
    .data = h2_data,
    .end = h2_stream_end,
    .switched = h2_switched,
    .shut = h2_switched,
    .release = h2_release,
    .want = h2_want,
    .unsent = h2_unsent,
    .untaken = h2_untaken,
    .raw = h2_raw,
    .left = h2_left,
    .spliced_in = h2_spliced,
    .spliced_out = h2_spliced,
};
