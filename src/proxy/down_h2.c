/* SPDX-License-Identifier: BSD-2-Clause
 *
 * down_h2.c - a client connection that speaks HTTP/2: its life and its time limits (RFC 9113).
 *
 * nghttp2 keeps frames, HPACK, streams and windows; what messages may hold is http/h2.h's.
 * Nothing is serialised while events are handled: what they leave with nghttp2 goes out together
 * at the end of the turn, in the order of the clients' priorities (RFC 9218), as long as the socket
 * takes it.  What it does not take stays with the streams, whose transactions then stop reading
 * from their servers: that is the back-pressure, and one slow stream stops no other.
 */
#include <stdlib.h>

#include "base/log.h"
#include "proxy/down_h2_priv.h"
#include "proxy/untaken.h"

#define UNSENT_HIGH       65536u /* more is not serialised: what is late to go can still be overtaken */
/* Streams that the client has begun before it hears of a GOAWAY come in. */
#define NOTICE_NS         MC_SEC
#define ACKS_MAX          100 /* answers to SETTINGS and PING that wait; a guess, honest are one or two */
#define CONTINUATIONS_MAX 8 /* of 16 KiB each: eight times what a head may hold */

static nghttp2_session_callbacks *callbacks;
static nghttp2_option *options;

/* The rate of resets is h2_guard's: nghttp2 would end the connection without saying so. */
__attribute__((constructor)) static void
make_options(void)
{
    MC_ASSERT(nghttp2_session_callbacks_new(&callbacks) == 0);
    MC_ASSERT(nghttp2_option_new(&options) == 0);
    h2_in_callbacks(callbacks);
    h2_out_callbacks(callbacks);
    nghttp2_option_set_no_auto_window_update(options, 1);
    nghttp2_option_set_no_http_messaging(options, 1);
    nghttp2_option_set_no_closed_streams(options, 1);
    nghttp2_option_set_max_outbound_ack(options, ACKS_MAX);
    nghttp2_option_set_max_continuations(options, CONTINUATIONS_MAX);
    nghttp2_option_set_stream_reset_rate_limit(options, UINT32_MAX, UINT32_MAX);
    nghttp2_option_set_builtin_recv_extension_type(options, NGHTTP2_PRIORITY_UPDATE);
}

/* --- memory -------------------------------------------------------------------------------------
 *
 * A session takes 16 KiB for the frame that is being sent, for as long as it lives.  What is in
 * there is only good until the next call of nghttp2_session_mem_send(), and is copied by then: so
 * the sessions of a worker share one.
 */

#define FRAME_BUFFER 32768 /* more than nghttp2 asks for: 16 KiB, a frame's head, padding */

struct h2_memory {
    nghttp2_mem mem;
    bool birth; /* a session is being made */
    _Alignas(16) char frame[FRAME_BUFFER];
};

static void *
take(size_t n, void *arg)
{
    return malloc(n);
}

static void
give(void *p, void *arg)
{
    const struct h2_memory *m = arg;

    if (p != m->frame)
        free(p);
}

static void *
take_zeroed(size_t n, size_t size, void *arg)
{
    return calloc(n, size);
}

/* nghttp2 takes buffers, and nothing but these, so. */
static void *
take_again(void *p, size_t n, void *arg)
{
    struct h2_memory *m = arg;

    MC_ASSERT(p != m->frame || n <= FRAME_BUFFER);
    if (p == m->frame || (m->birth && p == NULL && n >= 16384 && n <= FRAME_BUFFER))
        return m->frame;
    return realloc(p, n);
}

static struct h2_memory *
memory_of(struct worker *w)
{
    struct h2_memory *m = w->h2_memory;

    if (m == NULL) {
        m = w->h2_memory = mc_alloc(sizeof(*m));
        m->mem = (nghttp2_mem){m, take, give, take_zeroed, take_again};
    }
    return m;
}

/* --- queues of bytes ----------------------------------------------------------------------------
 */

void
h2_queue_add(struct block_pool *pool, struct h2_queue *q, const void *p, size_t n)
{
    const char *from = p;

    q->bytes += (uint32_t)n;
    while (n > 0) {
        size_t room = q->last != NULL ? block_room(q->last) : 0, part;

        if (room == 0) {
            struct block *b = block_take(pool, n > BLOCK_SMALL ? BLOCK_RX : n);

            b->next = NULL;
            if (q->last != NULL)
                q->last->next = b;
            else
                q->first = b;
            q->last = b;
            room = block_room(b);
        }
        part = n < room ? n : room;
        memcpy(block_at(q->last) + q->last->len, from, part);
        q->last->len += (uint32_t)part;
        from += part;
        n -= part;
    }
}

void
h2_queue_drop(struct block_pool *pool, struct h2_queue *q)
{
    while (q->first != NULL) {
        struct block *b = q->first;

        q->first = b->next;
        block_give(pool, &b);
    }
    *q = (struct h2_queue){NULL, NULL, 0};
}

/* --- the end ------------------------------------------------------------------------------------
 */

/* Transactions end; a head that was not whole has one, too. */
static void
end_streams(struct h2_down *h, enum end_reason why)
{
    h->dead = true;
    LIST_FOREACH_SAFE (it, next, &h->streams) {
        struct h2_stream *s = LIST_ENTRY(it, struct h2_stream, link);

        if (s->txn != NULL)
            txn_down_gone(s->txn, why == END_HEAD_TIMEOUT && s->txn->state != TXN_READ_HEAD
                                      ? END_CLIENT_GONE
                                      : why);
    }
}

void
h2_down_cut(struct h2_down *h, enum end_reason why)
{
    struct conn *c = h->conn;
    const bool cut = h->n_streams > 0 || stream_unsent(&c->stream) > 0;

    end_streams(h, why);
    conn_close(c, cut);
}

/* What nghttp2 has to say goes, and GOAWAY is the last of it. */
static void
finish(struct h2_down *h, uint32_t code, enum end_reason why)
{
    struct conn *c = h->conn;
    const uint8_t *p;
    ssize_t n;

    if (c->state != CONN_H2)
        return;
    end_streams(h, why);
    nghttp2_session_terminate_session(h->session, code);
    while (stream_unsent(&c->stream) <= 2 * UNSENT_HIGH &&
           (n = nghttp2_session_mem_send(h->session, &p)) > 0)
        stream_write(&c->stream, p, (size_t)n);
    stat_add(&c->worker->stats.http2_goaways, 1);
    conn_finish(c, true);
}

void
h2_abuse(struct h2_down *h, enum h2_abuse a)
{
    if (h->abuse != H2_ABUSE_N)
        return;
    h->abuse = (uint8_t)a;
    h2_touch(h);
}

static void
end_for_abuse(struct h2_down *h)
{
    static _Thread_local struct log_limit limit;
    struct worker *w = h2_worker(h);
    unsigned swallowed;

    stat_add(&w->stats.http2_abuse[h->abuse], 1);
    if (log_limit_ok(&limit, worker_now(w), &swallowed))
        log_info("a client on \"%s\" was sent away: too many %s (%u lines left out)",
                 h->conn->listener->conf.name, h2_abuse_text((enum h2_abuse)h->abuse), swallowed);
    finish(h, NGHTTP2_ENHANCE_YOUR_CALM, END_CLIENT_GONE);
}

/* nghttp2 has found what it cannot go on after, and queued nothing. */
static void
end_for_error(struct h2_down *h, int err)
{
    switch (err) {
    case NGHTTP2_ERR_FLOODED: h2_abuse(h, H2_ABUSE_ANSWERS); break;
    case NGHTTP2_ERR_TOO_MANY_CONTINUATIONS: h2_abuse(h, H2_ABUSE_CONTINUATIONS); break;
    default: break;
    }
    if (h->abuse != H2_ABUSE_N)
        end_for_abuse(h);
    else
        finish(h,
               err == NGHTTP2_ERR_BAD_CLIENT_MAGIC ? NGHTTP2_PROTOCOL_ERROR
                                                   : NGHTTP2_INTERNAL_ERROR,
               END_CLIENT_GONE);
}

/* --- sending ------------------------------------------------------------------------------------
 */

static void set_deadline(struct h2_down *);

static void
send_some(struct h2_down *h)
{
    struct conn *c = h->conn;
    const uint8_t *p;
    ssize_t n = 0;

    while (stream_unsent(&c->stream) <= UNSENT_HIGH &&
           (n = nghttp2_session_mem_send(h->session, &p)) > 0)
        stream_write(&c->stream, p, (size_t)n);
    stream_push(&c->stream);
    if (n < 0)
        end_for_error(h, (int)n);
    else if (h->abuse != H2_ABUSE_N)
        end_for_abuse(h);
}

/* Has everything been said that is to be said? */
static bool
is_over(const struct h2_down *h)
{
    if (nghttp2_session_want_write(h->session))
        return false;
    return !nghttp2_session_want_read(h->session) || (h->leaving == H2_LEAVES && h->n_streams == 0);
}

static void
on_task(struct task *task)
{
    struct h2_down *h = container_of(task, struct h2_down, task);
    struct conn *c = h->conn;

    MC_CHECK(h, H2_DOWN_MAGIC);
    if (c->state != CONN_H2)
        return;
    if (!conn_refresh_listener(c))
        h2_down_leave(h);
    h2_in_deliver(h);
    send_some(h);
    if (c->state != CONN_H2)
        return;
    h2_out_unchoke(h);
    if (!is_over(h)) {
        set_deadline(h);
        return;
    }
    end_streams(h, END_CLIENT_GONE); /* there are some when nghttp2 has said GOAWAY for a fault */
    conn_finish(c, true);
}

void
h2_touch(struct h2_down *h)
{
    if (!h->dead)
        loop_defer(h2_worker(h)->loop, &h->task);
}

/* --- time limits --------------------------------------------------------------------------------
 */

/* As for transactions, no timer is moved for each event: while there is anything to wait for, it is
 * looked at as often as the shortest limit says, whatever comes in between. */
static void
set_deadline(struct h2_down *h)
{
    const struct listener_conf *l = &h->conn->listener->conf;
    const mc_ns now = worker_now(h2_worker(h));
    mc_ns at;

    if (h->n_streams == 0 && h->greeted && stream_unsent(&h->conn->stream) == 0) {
        h->look_ns = 0;
        at = h->quiet_since_ns + l->keep_alive_timeout_ns;
    } else {
        if (h->look_ns <= now)
            h->look_ns = now + mc_sooner(l->head_timeout_ns, l->send_timeout_ns);
        at = h->look_ns;
    }
    if (h->leaving == H2_NOTICED)
        at = mc_sooner(at, h->leave_ns);
    conn_set_deadline(h->conn, at);
}

/* Does the client take what is sent?  Only asked while something is to be taken. */
static void
look_for_progress(struct h2_down *h, mc_ns now)
{
    uint64_t untaken = 0;

    if (stream_unsent(&h->conn->stream) > 0)
        untaken = untaken_bytes(&h->conn->stream);
    if (untaken == 0 || untaken != h->untaken_seen)
        h->moved_ns = now;
    h->untaken_seen = untaken;
}

/* Responses that are whole here but not with the client; those of transactions under way are
 * watched by these.  While the socket is full, it is the connection that has to move. */
static void
end_slow_streams(struct h2_down *h, mc_ns now)
{
    const mc_ns limit = h->conn->listener->conf.send_timeout_ns;
    const mc_ns conn_moved = stream_unsent(&h->conn->stream) > 0 ? h->moved_ns : 0;

    LIST_FOREACH_SAFE (it, next, &h->streams) {
        struct h2_stream *s = LIST_ENTRY(it, struct h2_stream, link);

        if (s->txn == NULL && !s->reset && now - mc_later(s->moved_ns, conn_moved) >= limit)
            h2_out_reset(s, NGHTTP2_CANCEL);
    }
}

static void
tell_last_stream(struct h2_down *h)
{
    h->leaving = H2_LEAVES;
    nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE,
                          nghttp2_session_get_last_proc_stream_id(h->session), NGHTTP2_NO_ERROR,
                          NULL, 0);
    h2_touch(h);
}

void
h2_down_tick(struct h2_down *h)
{
    struct conn *c = h->conn;
    const mc_ns now = worker_now(c->worker);
    const struct listener_conf *l;

    conn_refresh_listener(c);
    l = &c->listener->conf;
    look_for_progress(h, now);
    if (h->head_since_ns != 0 && now - h->head_since_ns >= l->head_timeout_ns)
        finish(h, NGHTTP2_NO_ERROR, END_HEAD_TIMEOUT);
    else if (!h->greeted && now - h->quiet_since_ns >= l->head_timeout_ns)
        finish(h, NGHTTP2_SETTINGS_TIMEOUT, END_CLIENT_GONE);
    else if (h->n_streams == 0 && now - h->quiet_since_ns >= l->keep_alive_timeout_ns)
        finish(h, NGHTTP2_NO_ERROR, END_CLIENT_GONE);
    else if (now - h->moved_ns >= l->send_timeout_ns)
        h2_down_cut(h, END_SEND_TIMEOUT);
    if (c->state != CONN_H2)
        return;
    end_slow_streams(h, now);
    if (h->leaving == H2_NOTICED && now >= h->leave_ns)
        tell_last_stream(h);
    set_deadline(h);
}

/* --- events of the connection -------------------------------------------------------------------
 */

void
h2_down_recv(struct h2_down *h, struct block *b)
{
    ssize_t n;

    conn_refresh_listener(h->conn);
    n = nghttp2_session_mem_recv(h->session, (const uint8_t *)block_at(b), b->len);
    if (n < 0)
        end_for_error(h, (int)n);
    else
        h2_touch(h);
}

void
h2_down_drained(struct h2_down *h)
{
    h2_touch(h);
}

/* A client that says that it will send no more does not read either, where nobody promised so. */
void
h2_down_eof(struct h2_down *h)
{
    conn_refresh_listener(h->conn);
    if (h->n_streams > 0 && h->conn->listener->conf.half_close)
        tell_last_stream(h);
    else if (h->n_streams > 0)
        h2_down_cut(h, END_CLIENT_GONE);
    else
        conn_finish(h->conn, false);
}

void
h2_down_leave(struct h2_down *h)
{
    if (h->leaving != H2_STAYS || h->dead)
        return;
    h->leaving = H2_NOTICED;
    h->leave_ns = worker_now(h2_worker(h)) + NOTICE_NS;
    nghttp2_submit_shutdown_notice(h->session);
    nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, NULL); /* its answer: it has heard */
    stat_add(&h2_worker(h)->stats.http2_goaways, 1);
    h2_touch(h);
}

/* --- birth and death ----------------------------------------------------------------------------
 */

static bool
any_upgrades(const struct snapshot *s)
{
    for (unsigned i = 0; i < s->n_pools; i++)
        if (pool_upgrades(&s->pools[i]->conf))
            return true;
    return false;
}

static void
greet(struct h2_down *h)
{
    const struct listener_conf *l = &h->conn->listener->conf;
    const struct h2_conf *k = &l->h2;
    const uint32_t first_window =
        k->stream_window < H2_FIRST_WINDOW ? k->stream_window : H2_FIRST_WINDOW;
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, k->max_streams},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, first_window},
        /* what we refuse in any case: bytes as RFC 9113 6.5.2 counts them */
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, l->limits.head_bytes + 32u * l->limits.fields},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
        {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1}, /* the last: where it is allowed */
    };

    h->connects = any_upgrades(h2_worker(h)->current->snap);
    nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings,
                            MC_COUNT(settings) - !h->connects);
    nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0,
                                          (int32_t)k->connection_window);
}

struct h2_down *
h2_down_begin(struct conn *c)
{
    struct worker *w = c->worker;
    struct h2_memory *m = memory_of(w);
    struct h2_down *h = slab_take(&w->h2_slab);

    memset(h, 0, sizeof(*h));
    h->magic = H2_DOWN_MAGIC;
    h->conn = c;
    h->abuse = H2_ABUSE_N;
    h->task.fn = on_task;
    h->quiet_since_ns = h->moved_ns = worker_now(w);
    list_init(&h->streams);
    list_init(&h->todo);
    m->birth = true;
    MC_ASSERT(nghttp2_session_server_new3(&h->session, callbacks, h, options, &m->mem) == 0);
    m->birth = false;
    stat_add(&w->stats.http2_connections, 1);
    greet(h);
    set_deadline(h);
    h2_touch(h);
    if (w->parting)
        h2_down_leave(h);
    return h;
}

void
h2_down_free(struct h2_down **hp)
{
    struct h2_down *h = *hp;
    struct worker *w = h2_worker(h);

    *hp = NULL;
    loop_undefer(w->loop, &h->task);
    while (!list_empty(&h->streams))
        h2_stream_free(LIST_ENTRY(h->streams.next, struct h2_stream, link));
    nghttp2_session_del(h->session);
    h->magic = 0;
    slab_give(&w->h2_slab, h);
}
