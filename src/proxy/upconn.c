/* SPDX-License-Identifier: BSD-2-Clause
 *
 * upconn.c - connections to servers, and HTTP/1 on them: frames requests, reads responses (RFC
 * 9112).
 *
 * Strict with servers too: what could be read in two ways is a fault, the connection is closed, and
 * the transaction decides what the client gets.  Bytes that nobody asked for end the connection.
 */
#include "proxy/upconn.h"

#include <errno.h>

#include "proxy/h1_frame.h"
#include "proxy/tell.h"
#include "proxy/tunnel.h"
#include "proxy/untaken.h"
#include "proxy/up_h2.h"

static const struct up_ops up_h1;
static const struct sock_ops upconn_ops;

static struct upconn *
upconn_of(struct sock *s)
{
    struct upconn *u = container_of(s, struct upconn, stream.sock);

    MC_CHECK(u, UPCONN_MAGIC);
    return u;
}

static struct upconn *
upconn_of_txn(const struct txn *t)
{
    struct upconn *u = t->up_side;

    MC_CHECK(u, UPCONN_MAGIC);
    return u;
}

static struct server_counters *
counters(const struct upconn *u)
{
    return &u->server->counters[u->worker->conf.index];
}

void
upconn_close(struct upconn *u, bool reset)
{
    if (u->state == UPCONN_CLOSED)
        return;
    if (u->h2 != NULL)
        up_h2_closing(u);
    if (u->in != NULL)
        block_give(loop_blocks(u->worker->loop), &u->in);
    u->state = UPCONN_CLOSED;
    u->txn = NULL;
    /* a reset: whatever is still queued for the server, or on its way from it, is for nobody */
    stream_close(&u->stream, reset || stream_unsent(&u->stream) > 0);
}

/* The lease ends because the connection did. */
static void
fail(struct upconn *u, enum end_reason why)
{
    struct txn *t = u->txn;

    if (u->state == UPCONN_IDLE) {
        idle_drop(u->worker->idle, &u->idle);
        stat_add(&u->worker->stats.idle_upstream, (uint64_t)-1);
        stat_add(&counters(u)->idle_conns, (uint64_t)-1);
    }
    if (t == NULL)
        upconn_close(u, false);
    else
        txn_up_failed(t, why);
}

/* --- reading responses --------------------------------------------------------------------------
 */

static void
response_end(struct upconn *u)
{
    struct txn *t = u->txn;
    struct http_field *trailers = NULL;
    unsigned n = h1_body_trailers(&u->body, &trailers, &t->arena);

    u->state = UPCONN_WHOLE;
    txn_response_end(t, trailers, n);
}

/* Hands the payload of *b on; the block is the caller's when it comes back. */
static void
feed_body(struct upconn *u, struct block **b)
{
    struct txn *t = u->txn;
    size_t used, payload;
    enum h1_body_state st = h1_body_decode(&u->body, block_at(*b), (*b)->len, &used, &payload);

    if (st == H1_BODY_DONE && used < (*b)->len)
        u->keep = false; /* bytes behind the response that no request asked for */
    (*b)->len = (uint32_t)payload;
    if (payload > 0)
        txn_response_data(t, b);
    if (u->txn != t || u->state != UPCONN_BODY)
        return;
    if (st == H1_BODY_DONE)
        response_end(u);
    else if (st == H1_BODY_FAULT) {
        t->detail = h1_fault_text(u->body.fault);
        fail(u, END_BAD_RESPONSE);
    }
}

/* One head, known to be whole.  False: the lease has ended. */
static bool
take_head(struct upconn *u, const char *p, size_t n)
{
    struct txn *t = u->txn;
    struct str copy = arena_str(&t->arena, (struct str){p, n});
    struct http_head head;
    enum h1_fault fault = h1_parse_response(&head, copy.p, copy.n, t->req.method,
                                            &t->listener->conf.limits, &t->arena);

    if (fault != H1_NONE) {
        t->detail = h1_fault_text(fault);
        fail(u, h1_fault_status(fault) == 431 ? END_RESPONSE_HEAD_LARGE : END_BAD_RESPONSE);
        return false;
    }
    if (head.status == 101) {
        tunnel_switch(t, &head);
        return u->txn == t && u->state == UPCONN_TUNNEL;
    }
    if (head.status < 200) {
        stat_add(&counters(u)->responses_1xx, 1);
        txn_interim(t, &head);
        return u->txn == t;
    }
    u->keep = !head.close && head.body != HTTP_BODY_CLOSE;
    u->state = UPCONN_BODY;
    h1_body_init(&u->body, head.body, head.content_length, &t->listener->conf.limits, &t->arena);
    if (head.body == HTTP_BODY_NONE)
        h1_body_init(&u->body, HTTP_BODY_LENGTH, 0, &t->listener->conf.limits, &t->arena);
    txn_response_head(t, &head);
    return u->txn == t && u->state == UPCONN_BODY;
}

static void
keep_partial(struct upconn *u, struct block *b)
{
    block_append(loop_blocks(u->worker->loop), &u->in, block_at(b), b->len);
}

/* Heads, interim ones first, out of *b; then what follows of the body.  hot */
static void
read_heads(struct upconn *u, struct block **b)
{
    size_t head_len, scanned = u->scanned;
    const uint32_t head_max = u->txn->listener->conf.limits.head_bytes;

    while ((*b)->len > 0 && h1_head_end(block_at(*b), (*b)->len, &scanned, &head_len)) {
        const char *head = block_at(*b);

        scanned = u->scanned = 0;
        block_skip(*b, head_len);
        if (!take_head(u, head, head_len))
            return;
        if (u->state == UPCONN_TUNNEL && (*b)->len > 0)
            tunnel_up_data(u->txn, b);
        if (u->state == UPCONN_TUNNEL)
            return;
        if (u->state != UPCONN_BODY)
            continue;
        if ((*b)->len > 0 || (u->body.kind == HTTP_BODY_LENGTH && u->body.left == 0))
            feed_body(u, b);
        return;
    }
    if ((*b)->len > head_max) {
        u->txn->detail = h1_fault_text(H1_HEAD_TOO_LARGE);
        fail(u, END_RESPONSE_HEAD_LARGE);
        return;
    }
    u->scanned = (uint32_t)scanned;
    u->txn->heard = true;
    if ((*b)->len > 0)
        keep_partial(u, *b);
}

static void
read_head(struct upconn *u, struct block **b)
{
    struct block *whole;

    if (u->in == NULL) {
        read_heads(u, b);
        return;
    }
    keep_partial(u, *b);
    whole = u->in;
    u->in = NULL;
    read_heads(u, &whole);
    if (whole != NULL)
        block_give(loop_blocks(u->worker->loop), &whole);
}

/* A kept one that was leased, but the request may not leave yet. */
static bool
awaits_request(const struct upconn *u)
{
    return u->txn != NULL && !u->txn->head_sent;
}

static void
on_recv(struct sock *s, struct block **b)
{
    struct upconn *u = upconn_of(s);

    switch ((enum upconn_state)u->state) {
    case UPCONN_HEAD: read_head(u, b); return;
    case UPCONN_BODY: feed_body(u, b); return;
    case UPCONN_IDLE: fail(u, END_BAD_RESPONSE); return;
    case UPCONN_TUNNEL: tunnel_up_data(u->txn, b); return;
    case UPCONN_WHOLE:
        u->keep = false;
        if (awaits_request(u))
            fail(u, END_SERVER_CLOSED);
        return;
    case UPCONN_H2: up_h2_recv(u, b); return;
    case UPCONN_CONNECTING:
    case UPCONN_CLOSED: return;
    }
}

static void
on_eof(struct sock *s)
{
    struct upconn *u = upconn_of(s);

    u->keep = false;
    switch ((enum upconn_state)u->state) {
    case UPCONN_HEAD: fail(u, END_SERVER_CLOSED); return;
    case UPCONN_BODY:
        if (h1_body_eof_ok(&u->body))
            response_end(u);
        else
            fail(u, END_RESPONSE_INCOMPLETE);
        return;
    case UPCONN_TUNNEL: tunnel_up_end(u->txn); return;
    case UPCONN_IDLE: fail(u, END_SERVER_CLOSED); return;
    case UPCONN_H2: up_h2_broken(u, END_SERVER_CLOSED); return;
    case UPCONN_WHOLE:
        if (awaits_request(u))
            fail(u, END_SERVER_CLOSED);
        return;
    case UPCONN_CONNECTING:
    case UPCONN_CLOSED: return;
    }
}

enum end_reason
upconn_reason(const struct stream *s, enum end_reason otherwise, const char **detail)
{
    const struct tls_fault *f = stream_fault(s);

    if (f == NULL)
        return otherwise;
    *detail = f->text;
    switch (f->why) {
    case TLS_FAILURE_SERVER_CERTIFICATE: return END_TLS_CERTIFICATE;
    case TLS_FAILURE_ALERT: return END_TLS_ALERT;
    default: return END_TLS_PROTOCOL;
    }
}

static enum end_reason
reason_of(struct upconn *u, enum end_reason otherwise)
{
    const char *detail = NULL;

    return upconn_reason(&u->stream, otherwise, u->txn != NULL ? &u->txn->detail : &detail);
}

/* ETIMEDOUT is what user-timeout ends with. */
static enum end_reason
broken_by(int err)
{
    return err == ETIMEDOUT ? END_SERVER_SILENT : END_SERVER_RESET;
}

static void
on_error(struct sock *s, int err)
{
    struct upconn *u = upconn_of(s);

    u->keep = false;
    if (u->state == UPCONN_TUNNEL)
        tunnel_up_broken(u->txn);
    else if (u->state == UPCONN_BODY)
        fail(u, END_RESPONSE_INCOMPLETE);
    else if (u->h2 != NULL)
        up_h2_broken(u, broken_by(err));
    else if (u->state != UPCONN_WHOLE || awaits_request(u))
        fail(u, reason_of(u, broken_by(err)));
}

static void
on_drained(struct sock *s)
{
    struct upconn *u = upconn_of(s);

    if (u->txn != NULL)
        txn_up_drained(u->txn);
    else if (u->h2 != NULL)
        up_h2_drained(u);
}

enum end_reason
upconn_connect_reason(int err)
{
    switch (err) {
    case ECONNREFUSED:
    case ECONNRESET:
    case ENOENT: /* unix socket without a server */ return END_REFUSED;
    case ETIMEDOUT: return END_CONNECT_TIMEOUT;
    case EMFILE:
    case ENFILE: return END_NO_FDS;
    default: return END_UNREACHABLE;
    }
}

static void
connected(struct upconn *u)
{
    txn_up_tls(u->txn, &u->stream);
    txn_up_ready(u->txn);
}

static void
on_connect(struct sock *s, int err)
{
    struct upconn *u = upconn_of(s);

    if (u->txn == NULL && u->h2 == NULL)
        return;
    stat_add(err == 0 ? &counters(u)->connects : &counters(u)->connect_errors, 1);
    if (err != 0 && u->h2 != NULL)
        up_h2_unconnected(u, upconn_connect_reason(err));
    else if (err != 0)
        txn_up_failed(u->txn, reason_of(u, upconn_connect_reason(err)));
    else if (up_h2_is_h2(u))
        up_h2_connected(u);
    else
        connected(u);
}

static void
on_closed(struct sock *s)
{
    struct upconn *u = upconn_of(s);
    struct worker *w = u->worker;

    MC_ASSERT(u->txn == NULL && u->state == UPCONN_CLOSED);
    if (u->h2 != NULL)
        up_h2_free(u);
    list_remove(&u->link);
    stat_add(&counters(u)->open_conns, (uint64_t)-1);
    server_unref(&u->server);
    u->magic = 0;
    slab_give(&w->up_slab, u);
    listen_room(w);
    worker_check_drained(w);
}

static const struct sock_ops upconn_ops = {
    .on_recv = on_recv,
    .on_eof = on_eof,
    .on_drained = on_drained,
    .on_connect = on_connect,
    .on_error = on_error,
    .on_closed = on_closed,
};

/* --- leasing ------------------------------------------------------------------------------------
 */

void
upconn_lease(struct upconn *u, struct txn *t)
{
    u->txn = t;
    u->requests++;
    sock_take_turns(&u->stream.sock, turns_line(&u->worker->turns, t->listener->live));
    t->up = &up_h1;
    t->up_side = u;
    txn_up_tls(t, &u->stream);
}

/* A kept one that speaks HTTP/1, and whose server was judged by the rules of today: those that lie
 * here from before a reload may not. */
static struct upconn *
take_kept(struct worker *w, struct server *s, uint64_t tls_id)
{
    struct idle_conn *i;

    while ((i = idle_take(w->idle, s, worker_now(w))) != NULL) {
        struct upconn *u = container_of(i, struct upconn, idle);

        MC_CHECK(u, UPCONN_MAGIC);
        if (u->h2 == NULL && u->tls_id == tls_id)
            return u;
        upconn_idle_evict(w, i);
    }
    return NULL;
}

bool
upconn_reuse(struct txn *t)
{
    struct worker *w = t->worker;
    struct upconn *u = tell_wanted(t->pool->pool, t->server_index)
                           ? NULL
                           : take_kept(w, t->server, upconn_tls_id(t));

    if (u == NULL)
        return false;
    stat_add(&w->stats.idle_upstream, (uint64_t)-1);
    stat_add(&counters(u)->idle_conns, (uint64_t)-1);
    stat_add(&counters(u)->reuses, 1);
    u->state = UPCONN_WHOLE;
    upconn_lease(u, t);
    return true;
}

uint64_t
upconn_tls_id(const struct txn *t)
{
    return t->pool->pool->conf.servers[t->server_index].tls_id;
}

struct tls_target
upconn_target(struct worker *w, const struct pool *p, uint32_t server)
{
    return (struct tls_target){
        .client = p->conf.tls.client,
        .name = p->conf.servers[server].tls_name,
        .server = p->servers[server]->name_hash,
        .turns = &w->tls_turns,
    };
}

/* The server hears of t's client before all else. */
static void
tell(struct upconn *u, const struct txn *t)
{
    uint8_t header[PROXY_HEADER_MAX];

    u->told = true;
    stream_preface(
        &u->stream, header,
        tell_client(t->pool->pool, t->server_index, t->conn, t->client_ip, t->request_id, header));
}

struct upconn *
upconn_make(struct txn *t, enum end_reason *why)
{
    struct worker *w = t->worker;
    struct tls_target to;
    struct addr a;
    uint32_t generation;
    struct upconn *u;

    if (!server_address(t->server, (uint32_t)rng_next(&w->rng), &a, &generation)) {
        *why = END_NO_ADDRESS;
        return NULL;
    }
    u = slab_take(&w->up_slab);
    memset(u, 0, sizeof(*u));
    u->magic = UPCONN_MAGIC;
    u->worker = w;
    u->state = UPCONN_CONNECTING;
    u->server = server_ref(t->server);
    u->idle.server = u->server;
    u->idle.addr_generation = generation;
    to = upconn_target(w, t->pool->pool, t->server_index);
    u->tls_id = upconn_tls_id(t);
    if (stream_connect(&u->stream, w->loop, &a, &upconn_ops, &to) != MC_OK) {
        *why = upconn_connect_reason(errno);
        u->magic = 0;
        server_unref(&u->server);
        slab_give(&w->up_slab, u);
        return NULL;
    }
    sock_watch_peer(u->stream.sock.fd, t->pool->pool->conf.user_timeout_ns);
    if (tell_wanted(t->pool->pool, t->server_index))
        tell(u, t);
    list_push_back(&w->upconns, &u->link);
    stat_add(&counters(u)->open_conns, 1);
    return u;
}

enum end_reason
upconn_dial(struct txn *t)
{
    enum end_reason why = END_OK;
    struct upconn *u = upconn_make(t, &why);

    if (u != NULL)
        upconn_lease(u, t);
    return why;
}

void
upconn_tell_wait(struct txn *t)
{
    const struct upconn *u = t->up == &up_h1 ? t->up_side : NULL;

    if (u != NULL && stream_is_shaking(&u->stream))
        t->detail = "the TLS handshake did not end";
}

void
upconn_idle_evict(void *worker, struct idle_conn *i)
{
    struct upconn *u = container_of(i, struct upconn, idle);
    struct worker *w = worker;

    MC_CHECK(u, UPCONN_MAGIC);
    stat_add(&w->stats.idle_upstream, (uint64_t)-1);
    stat_add(&counters(u)->idle_conns, (uint64_t)-1);
    if (u->h2 != NULL)
        up_h2_evicted(u);
    else
        upconn_close(u, false);
}

/* --- the transaction's side (exchange.h) --------------------------------------------------------
 */

static void
h1_request(struct txn *t, const struct h1_write *w)
{
    struct upconn *u = upconn_of_txn(t);
    size_t bound = h1_write_bound(&t->req, w);
    char *p = stream_reserve(&u->stream, bound);

    stream_commit(&u->stream, h1_write_request(p, &t->req, w));
    u->req_chunked = w->body == HTTP_BODY_CHUNKED;
    u->keep = false; /* until a response says so */
    u->scanned = 0;
    u->state = UPCONN_HEAD;
    stat_add(&counters(u)->requests, 1);
    stream_recv(&u->stream, true);
}

static void
h1_data(struct txn *t, struct block **b)
{
    struct upconn *u = upconn_of_txn(t);

    h1_frame_send(&u->stream, b, u->req_chunked);
}

static void
h1_end(struct txn *t, const struct http_field *trailers, unsigned n)
{
    struct upconn *u = upconn_of_txn(t);

    if (u->req_chunked)
        h1_frame_end(&u->stream, trailers, n);
}

static void
h1_switched(struct txn *t)
{
    struct upconn *u = upconn_of_txn(t);

    u->state = UPCONN_TUNNEL;
    u->req_chunked = false;
}

static void
h1_shut(struct txn *t)
{
    stream_shutdown(&upconn_of_txn(t)->stream);
}

static void
h1_release(struct txn *t, bool reuse)
{
    struct upconn *u = upconn_of_txn(t);
    struct worker *w = u->worker;
    const struct pool_conf *conf = &t->pool->pool->conf;

    t->up = NULL;
    t->up_side = NULL;
    u->txn = NULL;
    if (!reuse || u->state != UPCONN_WHOLE || !u->keep || u->told || conf->idle_max == 0 ||
        w->draining || t->gen != w->current || /* the server may be gone from the configuration */
        stream_unsent(&u->stream) > 0 ||
        (conf->requests_per_conn != 0 && u->requests >= conf->requests_per_conn)) {
        upconn_close(u, u->state == UPCONN_TUNNEL && t->end != END_OK);
        return;
    }
    sock_take_turns(&u->stream.sock, NULL);
    u->state = UPCONN_IDLE;
    u->idle.until_ns = worker_now(w) + conf->idle_conn_timeout_ns;
    stat_add(&w->stats.idle_upstream, 1);
    stat_add(&counters(u)->idle_conns, 1);
    stream_recv(&u->stream, true); /* to hear when the server closes it */
    idle_put(w->idle, &u->idle, conf->idle_max);
}

static void
h1_want(struct txn *t, bool on)
{
    struct upconn *u = upconn_of_txn(t);

    if (u->state == UPCONN_HEAD || u->state == UPCONN_BODY || u->state == UPCONN_TUNNEL)
        stream_recv(&u->stream, on);
}

static uint32_t
h1_unsent(const struct txn *t)
{
    return stream_unsent(&upconn_of_txn(t)->stream);
}

static uint64_t
h1_untaken(const struct txn *t)
{
    return untaken_bytes(&upconn_of_txn(t)->stream);
}

static struct sock *
h1_raw(const struct txn *t)
{
    struct upconn *u = upconn_of_txn(t);

    return u->state == UPCONN_BODY || u->state == UPCONN_HEAD || u->state == UPCONN_TUNNEL
               ? stream_raw(&u->stream)
               : NULL;
}

static uint64_t
h1_left(const struct txn *t)
{
    const struct upconn *u = upconn_of_txn(t);

    return u->state == UPCONN_BODY && u->body.kind == HTTP_BODY_LENGTH ? u->body.left : 0;
}

static void
h1_spliced_in(struct txn *t, uint64_t n)
{
    struct upconn *u = upconn_of_txn(t);

    u->body.left -= n;
    u->body.total_bytes += n;
    if (u->body.left == 0)
        u->state = UPCONN_WHOLE;
}

static void
h1_spliced_out(struct txn *t, uint64_t n)
{
}

static const struct up_ops up_h1 = {
    .request = h1_request,
    .data = h1_data,
    .end = h1_end,
    .switched = h1_switched,
    .shut = h1_shut,
    .release = h1_release,
    .want = h1_want,
    .unsent = h1_unsent,
    .untaken = h1_untaken,
    .raw = h1_raw,
    .left = h1_left,
    .spliced_in = h1_spliced_in,
    .spliced_out = h1_spliced_out,
};
