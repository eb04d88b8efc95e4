/* SPDX-License-Identifier: BSD-2-Clause
 *
 * up_h2_conns.c - which HTTP/2 connection to a server a transaction gets, and when one is dialled.
 *
 * One that has room is taken, one that is busy already before one that lies idle: few connections
 * with many streams cost the least, and those that are not needed grow old.  Where none has room,
 * transactions wait for one that is dialled, as many on one as the server is expected to take; so a
 * burst to a cold server opens as few connections as it needs.
 *
 * A connection is dialled for all who wait, and belongs to none of them: it is made though the
 * first of them may be gone by then.
 */
#include <stdlib.h>

#include "proxy/up_h2_priv.h"

/* Servers send SETTINGS as soon as they accept.  One that has said nothing for so long, which is
 * more than a way around the world, gets as many streams as RFC 9113 6.5.2 asks servers to take. */
#define GREETING_NS (300 * MC_MS)

/* Our last bytes to a server that is not needed any more; then it is just closed (a guess). */
#define ENDING_NS   MC_SEC

/* Far from the last one (2^31 - 1), so that those which are about to be sent fit, too. */
#define LAST_STREAM 0x7fff0000u

static struct server_counters *
counters(const struct h2_up *h)
{
    return &h->u->server->counters[h->u->worker->conf.index];
}

/* --- peers --------------------------------------------------------------------------------------
 */

static void serve(struct h2_peer *);

static bool
is_unused(const struct h2_peer *p)
{
    return p->n_conns == 0 && p->n_waiting == 0;
}

static void
serve_task(struct task *task)
{
    serve(container_of(task, struct h2_peer, task));
}

static void __attribute__((cold, noinline)) by_id_grow(struct h2_ups *ups, uint32_t id)
{
    uint32_t n = ups->n_by_id ? ups->n_by_id : 16;

    while (n <= id)
        n *= 2;
    ups->by_id = mc_realloc(ups->by_id, n * sizeof(*ups->by_id));
    while (ups->n_by_id < n)
        ups->by_id[ups->n_by_id++] = NULL;
}

static struct h2_peer *
peer_new(struct h2_ups *ups, uint32_t id)
{
    struct h2_peer *p = mc_alloc(sizeof(*p));

    p->ups = ups;
    p->task.fn = serve_task;
    list_init(&p->roomy);
    list_init(&p->waiting);
    p->next = ups->by_id[id];
    ups->by_id[id] = p;
    return p;
}

/* hot: once per request.  An id can come to a new server while its former bearer still has
 * connections here, so there may be more than one. */
static struct h2_peer *
peer_of(struct h2_ups *ups, struct server *s)
{
    struct h2_peer *p, *unused = NULL;

    if (s->id >= ups->n_by_id)
        by_id_grow(ups, s->id);
    for (p = ups->by_id[s->id]; p != NULL; p = p->next) {
        if (p->server == s)
            return p;
        if (is_unused(p))
            unused = p;
    }
    p = unused != NULL ? unused : peer_new(ups, s->id);
    p->server = s;
    p->peer_max = 0;
    p->speaks_h1 = false;
    return p;
}

void
h2_ups_init(struct worker *w)
{
    struct h2_ups *ups = mc_alloc(sizeof(*ups));

    ups->worker = w;
    slab_init(&ups->streams, sizeof(struct h2_stream));
    h2_session_setup(ups);
    w->h2_ups = ups;
}

void
h2_ups_stop(struct worker *w)
{
    LIST_FOREACH_SAFE (it, next, &w->upconns) {
        struct upconn *u = LIST_ENTRY(it, struct upconn, link);

        if (u->h2 != NULL && u->h2->n_streams == 0)
            upconn_close(u, false);
    }
}

static void
peers_free(struct h2_ups *ups, uint32_t id)
{
    while (ups->by_id[id] != NULL) {
        struct h2_peer *p = ups->by_id[id];

        MC_ASSERT(is_unused(p));
        loop_undefer(ups->worker->loop, &p->task);
        ups->by_id[id] = p->next;
        free(p);
    }
}

void
h2_ups_fini(struct worker *w)
{
    struct h2_ups *ups = w->h2_ups;

    w->h2_ups = NULL;
    for (uint32_t id = 0; id < ups->n_by_id; id++)
        peers_free(ups, id);
    free(ups->by_id);
    h2_session_forget(ups);
    slab_fini(&ups->streams);
    free(ups);
}

/* --- room ---------------------------------------------------------------------------------------
 */

/* How many streams the connection may have at once. */
static unsigned
capacity(const struct h2_up *h)
{
    unsigned theirs;

    if (h->phase == H2_GREETING)
        theirs = h->peer->peer_max != 0 ? h->peer->peer_max : 1;
    else if (h->phase == H2_OPEN)
        theirs = nghttp2_session_get_remote_settings(h->session,
                                                     NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    else
        return 0;
    return theirs < h->streams_max ? theirs : h->streams_max;
}

/* Whether the connection takes another stream may have changed. */
static void
room_changed(struct h2_up *h)
{
    const bool room = h->n_streams < capacity(h), listed = !list_empty(&h->link);

    if (room && !listed)
        list_push_front(&h->peer->roomy, &h->link);
    else if (!room && listed)
        list_remove(&h->link);
}

/* Those who wait need not wait for this one any more: they have it, or somebody has to dial. */
static void
settle_dial(struct h2_up *h)
{
    if (h->phase != H2_DIALLED && h->phase != H2_GREETING)
        return;
    h->peer->n_dialled--;
    loop_timer_clear(h->u->worker->loop, &h->timer);
    if (h->peer->n_waiting > 0)
        loop_defer(h->u->worker->loop, &h->peer->task);
}

static void
leave_idle(struct h2_up *h)
{
    struct worker *w = h->u->worker;

    if (!h->idle)
        return;
    h->idle = false;
    idle_drop(w->idle, &h->u->idle);
    stat_add(&w->stats.idle_upstream, (uint64_t)-1);
    stat_add(&counters(h)->idle_conns, (uint64_t)-1);
}

void
h2_unlist(struct h2_up *h)
{
    settle_dial(h);
    leave_idle(h);
    list_remove(&h->link);
}

void
h2_end(struct h2_up *h)
{
    h2_unlist(h);
    h->phase = H2_ENDING;
    nghttp2_session_terminate_session(h->session, NGHTTP2_NO_ERROR);
    loop_timer_set(h->u->worker->loop, &h->timer, worker_now(h->u->worker) + ENDING_NS);
    h2_flush_soon(h);
}

void
h2_drain(struct h2_up *h)
{
    if (h->phase != H2_GREETING && h->phase != H2_OPEN)
        return;
    settle_dial(h);
    h->phase = H2_DRAINING;
    room_changed(h);
    if (h->n_streams == 0)
        h2_end(h);
}

/* Nothing is on it: it waits for the next, at the end of the row, so that it can grow old. */
static void
lie_idle(struct h2_up *h)
{
    struct worker *w = h->u->worker;

    list_remove(&h->link);
    if (capacity(h) > 0)
        list_push_back(&h->peer->roomy, &h->link);
    h->idle = true;
    h->u->idle.until_ns = worker_now(w) + h->idle_ns;
    stat_add(&w->stats.idle_upstream, 1);
    stat_add(&counters(h)->idle_conns, 1);
    idle_put(w->idle, &h->u->idle, h->idle_max);
}

static void
settle_empty(struct h2_up *h, bool keep)
{
    if (h->phase == H2_DRAINING || !keep || h->idle_max == 0 || h->u->worker->draining)
        h2_end(h);
    else
        lie_idle(h);
}

void
h2_stream_left(struct h2_up *h, bool keep)
{
    struct h2_peer *p = h->peer;

    h->n_streams--;
    if (h->phase >= H2_ENDING)
        return;
    if (h->n_streams == 0)
        settle_empty(h, keep);
    else
        room_changed(h);
    if (p->n_waiting > 0)
        loop_defer(h->u->worker->loop, &p->task);
}

void
up_h2_evicted(struct upconn *u)
{
    u->h2->idle = false; /* its lists are left already */
    h2_end(u->h2);
}

/* --- dialling -----------------------------------------------------------------------------------
 */

static void
on_timer(struct timer *timer)
{
    struct h2_up *h = container_of(timer, struct h2_up, timer);

    switch (h->phase) {
    case H2_DIALLED: up_h2_unconnected(h->u, END_CONNECT_TIMEOUT); return;
    case H2_GREETING: h2_greeted(h); return;
    case H2_ENDING: upconn_close(h->u, false); return;
    case H2_OPEN:
    case H2_DRAINING:
    case H2_DEAD: return;
    }
}

static struct h2_up *
conn_new(struct upconn *u, struct h2_peer *p, const struct pool_conf *conf)
{
    struct h2_up *h = mc_alloc(sizeof(*h));

    h->u = u;
    h->peer = p;
    h->phase = H2_DIALLED;
    h->must = conf->protocol == POOL_H2;
    h->streams_max = conf->streams_per_conn;
    h->requests_max = conf->requests_per_conn;
    h->idle_max = conf->idle_max;
    h->idle_ns = conf->idle_conn_timeout_ns;
    h->timer.fn = on_timer;
    list_init(&h->link);
    list_init(&h->streams);
    list_init(&h->drained);
    u->h2 = h;
    p->n_conns++;
    p->n_dialled++;
    return h;
}

static struct h2_stream *
oldest(const struct h2_peer *p)
{
    return LIST_ENTRY(p->waiting.next, struct h2_stream, link);
}

static enum end_reason
dial(struct h2_peer *p)
{
    struct txn *t = oldest(p)->txn;
    const struct pool_conf *conf = &t->pool->pool->conf;
    struct worker *w = t->worker;
    enum end_reason why = END_OK;
    struct upconn *u = upconn_make(t, &why);
    struct h2_up *h;

    if (u == NULL)
        return why;
    h = conn_new(u, p, conf);
    if (conf->connect_timeout_ns > 0)
        loop_timer_set(w->loop, &h->timer, worker_now(w) + conf->connect_timeout_ns);
    return END_OK;
}

/* Streams that one connection more is expected to take. */
static unsigned
expected(const struct h2_peer *p)
{
    const unsigned ours = oldest(p)->txn->pool->pool->conf.streams_per_conn;

    return p->peer_max != 0 && p->peer_max < ours ? p->peer_max : ours;
}

static enum end_reason
dial_enough(struct h2_peer *p)
{
    enum end_reason why = END_OK;

    while (why == END_OK && p->n_waiting > 0 && p->n_waiting > p->n_dialled * expected(p))
        why = dial(p);
    return why;
}

static void
wait_here(struct h2_peer *p, struct h2_stream *s)
{
    s->waits = true;
    p->n_waiting++;
    list_push_back(&p->waiting, &s->link);
}

void
h2_stream_unwait(struct h2_stream *s)
{
    list_remove(&s->link);
    if (!s->waits)
        return;
    s->waits = false;
    s->peer->n_waiting--;
}

/* Takes the n oldest out of the queue, into `to`. */
static void
take_waiting(struct h2_peer *p, unsigned n, struct list *to)
{
    list_init(to);
    for (; n > 0 && p->n_waiting > 0; n--) {
        struct h2_stream *s = oldest(p);

        h2_stream_unwait(s);
        list_push_back(to, &s->link);
    }
}

/* Those who go may come again at once, to this very queue. */
static void
fail_oldest(struct h2_peer *p, unsigned n, enum end_reason why, const char *detail)
{
    struct list victims;

    take_waiting(p, n, &victims);
    while (!list_empty(&victims)) {
        struct txn *t = LIST_ENTRY(victims.next, struct h2_stream, link)->txn;

        t->detail = detail;
        txn_up_failed(t, why);
    }
}

static void
refuse_oldest(struct h2_peer *p, unsigned n)
{
    struct list victims;

    take_waiting(p, n, &victims);
    while (!list_empty(&victims))
        h2_stream_unprocessed(LIST_ENTRY(victims.next, struct h2_stream, link), true);
}

/* --- joining ------------------------------------------------------------------------------------
 */

/* The first that has room, and whose server is still at this address and judged by these rules. */
static struct h2_up *
find_roomy(struct h2_peer *p, const struct txn *t)
{
    const uint64_t tls_id = upconn_tls_id(t);

    while (!list_empty(&p->roomy)) {
        struct h2_up *h = LIST_ENTRY(p->roomy.next, struct h2_up, link);

        if (h->u->idle.addr_generation == server_addr_generation(p->server) &&
            h->u->tls_id == tls_id)
            return h;
        h2_drain(h);
    }
    return NULL;
}

static void
attach(struct h2_stream *s, struct h2_up *h)
{
    leave_idle(h);
    h2_stream_attach(s, h);
    h->u->requests++;
    txn_up_tls(s->txn, &h->u->stream);
    if ((h->requests_max != 0 && h->u->requests >= h->requests_max) ||
        nghttp2_session_get_next_stream_id(h->session) >= LAST_STREAM)
        h2_drain(h);
    else
        room_changed(h);
}

enum h2_joined
up_h2_join(struct txn *t, enum end_reason *why) /* hot: once per request */
{
    struct h2_peer *p = peer_of(t->worker->h2_ups, t->server);
    struct h2_stream *s;
    struct h2_up *h;

    if (p->speaks_h1 && t->pool->pool->conf.protocol == POOL_AUTO)
        return H2_ALONE;
    s = h2_stream_new(p, t);
    h = t->fresh_only ? NULL : find_roomy(p, t);
    if (h != NULL) {
        t->reused = h->u->requests > 0;
        stat_add(&counters(h)->reuses, t->reused);
        attach(s, h);
        return H2_JOINED;
    }
    t->reused = false;
    wait_here(p, s);
    *why = dial_enough(p);
    if (*why == END_OK || p->n_dialled > 0)
        return H2_WAITS;
    t->up->release(t, false);
    return H2_FAILED;
}

/* Whoever waits gets what room there is; for the others is dialled. */
static void
serve(struct h2_peer *p)
{
    enum end_reason why;
    struct h2_up *h;

    while (p->n_waiting > 0 && (h = find_roomy(p, oldest(p)->txn)) != NULL) {
        struct h2_stream *s = oldest(p);

        h2_stream_unwait(s);
        attach(s, h);
        txn_up_ready(s->txn);
    }
    why = dial_enough(p);
    if (why != END_OK && p->n_dialled == 0)
        fail_oldest(p, p->n_waiting, why, NULL);
}

/* The newest of those that the codec has not sent. */
static struct h2_stream *
unsent(const struct h2_up *h)
{
    struct h2_stream *found = NULL;

    LIST_FOREACH (it, &h->streams) {
        struct h2_stream *s = LIST_ENTRY(it, struct h2_stream, link);

        if (s->id != 0 && nghttp2_session_find_stream(h->session, s->id) == NULL)
            found = s;
    }
    return found;
}

/* The server takes fewer than it has, or was expected to take: the codec would keep back what is
 * too many, for ever where it takes none. */
static void
refuse_unsent(struct h2_up *h, unsigned theirs)
{
    struct h2_stream *s;

    while (h->n_streams > theirs && (s = unsent(h)) != NULL)
        h2_stream_unprocessed(s, theirs == 0);
}

void
h2_greeted(struct h2_up *h)
{
    struct h2_peer *p = h->peer;
    const unsigned theirs =
        nghttp2_session_get_remote_settings(h->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    const bool first = h->phase == H2_GREETING;

    p->peer_max = theirs != 0 ? theirs : 1;
    settle_dial(h);
    if (first)
        h->phase = H2_OPEN;
    room_changed(h);
    if (first && theirs == 0) {
        refuse_oldest(p, h->streams_max);
        h2_drain(h);
    }
    refuse_unsent(h, theirs);
    serve(p);
}

/* --- what a connection turns out to be ----------------------------------------------------------
 */

static void
forget_dial(struct h2_up *h)
{
    h2_unlist(h);
    h->peer->n_conns--;
    h->u->h2 = NULL;
    free(h);
}

/* "auto" has found HTTP/1.1: the connection is one transaction's, the first whose server was judged
 * by the same rules, and the others dial for themselves, as all will from now on. */
static void
use_as_h1(struct h2_up *h)
{
    struct upconn *u = h->u;
    struct h2_peer *p = h->peer;
    struct list waiting;
    struct txn *first = NULL;

    p->speaks_h1 = true;
    forget_dial(h);
    take_waiting(p, p->n_waiting, &waiting);
    while (!list_empty(&waiting)) {
        struct txn *t = LIST_ENTRY(waiting.next, struct h2_stream, link)->txn;
        enum end_reason why = END_OK;

        t->up->release(t, false);
        if (first == NULL && u->tls_id == upconn_tls_id(t)) {
            first = t;
            upconn_lease(u, t);
        } else {
            why = upconn_dial(t);
        }
        if (why != END_OK)
            txn_up_failed(t, why);
    }
    if (first != NULL)
        txn_up_ready(first);
    else
        upconn_close(u, false);
}

/* Without TLS there is nothing to be told: HTTP/2 is known, or it is not spoken. */
static bool
speaks_h2(const struct upconn *u, bool known)
{
    const struct tls_facts *facts = stream_facts(&u->stream);

    return facts != NULL ? str_eq(facts->alpn, STR("h2")) : known;
}

/* The transaction that dialled for itself, since the server spoke HTTP/1.1 when it was last seen.
 */
static void
adopt(struct upconn *u)
{
    struct txn *t = u->txn;
    struct h2_peer *p = peer_of(u->worker->h2_ups, u->server);
    struct h2_up *h = conn_new(u, p, &t->pool->pool->conf);

    u->txn = NULL;
    p->speaks_h1 = false;
    h2_session_open(h);
    h->phase = H2_GREETING;
    attach(h2_stream_new(p, t), h);
    txn_up_ready(t);
}

void
up_h2_connected(struct upconn *u)
{
    struct h2_up *h = u->h2;
    struct worker *w = u->worker;

    if (h == NULL) {
        adopt(u);
    } else if (speaks_h2(u, h->must)) {
        h2_session_open(h);
        h->phase = H2_GREETING;
        room_changed(h);
        serve(h->peer);
    } else if (h->must) {
        up_h2_unconnected(u, END_WRONG_PROTOCOL);
        return;
    } else {
        use_as_h1(h);
        return;
    }
    if (u->h2->phase == H2_GREETING)
        loop_timer_set(w->loop, &u->h2->timer, worker_now(w) + GREETING_NS);
    if (u->h2->phase < H2_ENDING && u->h2->n_streams == 0)
        settle_empty(u->h2, true);
}

void
up_h2_unconnected(struct upconn *u, enum end_reason why)
{
    struct h2_peer *p = u->h2->peer;
    const char *detail = stream_is_shaking(&u->stream) ? "the TLS handshake did not end" : NULL;
    unsigned others;

    why = upconn_reason(&u->stream, why, &detail);
    upconn_close(u, false); /* what TLS said of it is there until on_closed */
    if (p->n_waiting == 0)
        return;
    others = p->n_dialled * expected(p);
    if (p->n_waiting > others)
        fail_oldest(p, p->n_waiting - others, why, detail);
}

bool
up_h2_is_h2(const struct upconn *u)
{
    return u->h2 != NULL || speaks_h2(u, false);
}

void
up_h2_closing(struct upconn *u)
{
    struct h2_up *h = u->h2;

    h2_unlist(h);
    h->phase = H2_DEAD;
    loop_timer_clear(u->worker->loop, &h->timer);
    loop_undefer(u->worker->loop, &h->flush);
    MC_ASSERT(h->n_streams == 0);
}

void
up_h2_free(struct upconn *u)
{
    struct h2_up *h = u->h2;

    u->h2 = NULL;
    h->peer->n_conns--;
    nghttp2_session_del(h->session);
    free(h);
}
