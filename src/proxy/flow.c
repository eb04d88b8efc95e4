/* SPDX-License-Identifier: BSD-2-Clause
 *
 * flow.c - see flow.h: the life of a protected connection, and what is received on it.
 *
 * What comes in is told to the holders before it is parsed (flow_tell.c), so that what a client is
 * told to have arrived is known elsewhere, too.  A flow of which others could not go on from what
 * they know is bare: nothing of it is told or waited for, until its client has every answer.
 */
#include "proxy/flow.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/map.h"
#include "proxy/down_h2.h"
#include "proxy/flow_priv.h"
#include "proxy/untaken.h"
#include "takeover/repair.h"
#include "takeover/takeover.h"

/* While draining: how often it is looked whether a client has everything, and how many times until
 * the connection goes all the same. */
#define LEAVE_NS (5 * MC_MS)
#define LOOKS    4

/* --- receiving ----------------------------------------------------------------------------------
 */

/* Its client has all that was said and says something new: from here on it is as a connection that
 * has just begun. */
static bool
may_be_dressed(const struct flow *f)
{
    const struct conn *c = f->conn;

    return c->state == CONN_IDLE && c->in == NULL && c->txn == NULL && !f->closing &&
           untaken_bytes(&c->stream) == 0;
}

static void
dress(struct flow *f)
{
    stat_add(&f->flows->stats.bare, (uint64_t)-1);
    flow_tell_open(f, f->in_pos, f->out_pos);
    guard_gate(f->flows->guard, f->slot, f->rcv_base + (uint32_t)f->in_pos);
    guard_flags(f->flows->guard, f->slot, 0);
}

/* Bytes that are no part of any request that others would have to carry on. */
static bool
is_beyond(const struct conn *c)
{
    return c->state == CONN_H2 || c->state == CONN_TUNNEL || c->state == CONN_TCP ||
           c->state == CONN_DISCARD;
}

/* A transaction pins the listener that its connection knows; without one it may have gone. */
static size_t
most_kept(struct conn *c)
{
    if (c->txn == NULL)
        conn_refresh_listener(c);
    return c->listener->conf.takeover.buffer_bytes;
}

/* What was answered makes room. */
static bool
has_room(struct flow *f, size_t n)
{
    const size_t max = most_kept(f->conn);

    if (f->kept != NULL && f->kept->len + n > max && !f->request.begun &&
        f->next_start > f->kept_at)
        flow_trim(f);
    return (f->kept != NULL ? f->kept->len : 0) + n <= max;
}

/* hot: once per received block of a protected connection */
static void
receive(struct flow *f, const char *p, size_t n)
{
    if (f->bare && !f->flows->released && may_be_dressed(f))
        dress(f);
    if (!f->bare && (is_beyond(f->conn) || !has_room(f, n)))
        flow_bare(f);
    if (f->bare || f->conn->state == CONN_LINGER)
        f->in_pos += n;
    else
        flow_tell_in(f, p, n);
}

static struct conn *
conn_of(struct sock *s)
{
    struct conn *c = container_of(s, struct conn, stream.sock);

    MC_CHECK(c, CONN_MAGIC);
    return c;
}

/* It is the other's already, if he has heard of it.  The client is not told that they have come. */
static void
take_late(struct flow *f, struct block *b)
{
    if (!f->late && b->len <= WIRE_BYTES_MAX)
        flow_tell_late(f, block_at(b), b->len);
    f->late = true; /* what follows comes again: of it no gap must be told */
}

static void
on_recv(struct sock *s, struct block **b)
{
    struct flow *f = conn_of(s)->flow;

    if (f->leaving) {
        take_late(f, *b);
        return;
    }
    receive(f, block_at(*b), (*b)->len);
    if (f->replay != NULL && replay_queue(f, block_at(*b), (*b)->len))
        return;
    conn_ops.on_recv(s, b);
    if (f->conn->state == CONN_H2) /* others would take its preface for a request */
        flow_bare(f);
}

/* Its FIN is acknowledged with what came before it. */
static void
on_eof(struct sock *s)
{
    struct flow *f = conn_of(s)->flow;

    if (f->leaving)
        return; /* as it is not acknowledged, it comes again */
    f->eof = true;
    if (!f->bare && !flow_waits(f, FLOW_GATE))
        flow_open_gate(f, f->in_pos);
    conn_ops.on_eof(s);
}

static void
on_connect(struct sock *s, int err)
{
    conn_ops.on_connect(s, err);
}

/* What is handed over begins no request. */
static void
on_drained(struct sock *s)
{
    if (!conn_of(s)->flow->leaving)
        conn_ops.on_drained(s);
}

static void
on_quiet(struct sock *s)
{
    conn_ops.on_quiet(s);
}

static void
on_error(struct sock *s, int err)
{
    conn_ops.on_error(s, err);
}

static void
on_closed(struct sock *s)
{
    conn_ops.on_closed(s);
}

const struct sock_ops flow_sock_ops = {
    .on_connect = on_connect,
    .on_recv = on_recv,
    .on_eof = on_eof,
    .on_drained = on_drained,
    .on_quiet = on_quiet,
    .on_error = on_error,
    .on_closed = on_closed,
};

/* --- birth and end ------------------------------------------------------------------------------
 */

static uint32_t
take_id(struct flows *fs)
{
    if (fs->n_free > 0)
        return fs->free_ids[--fs->n_free];
    if (fs->next_id == fs->cap_ids) {
        fs->cap_ids = fs->cap_ids ? 2 * fs->cap_ids : 64;
        fs->by_id = mc_realloc(fs->by_id, fs->cap_ids * sizeof(struct flow *));
    }
    return fs->next_id++;
}

static void
give_id(struct flows *fs, uint32_t id)
{
    if (fs->n_free == fs->cap_free) {
        fs->cap_free = fs->cap_free ? 2 * fs->cap_free : 64;
        fs->free_ids = mc_realloc(fs->free_ids, fs->cap_free * sizeof(*fs->free_ids));
    }
    fs->free_ids[fs->n_free++] = id;
}

struct flow *
flow_new(struct flows *fs, struct conn *c, const struct flow_key *key, uint32_t slot)
{
    struct flow *f = slab_take(&fs->slab);

    memset(f, 0, sizeof(*f));
    f->magic = FLOW_MAGIC;
    f->id = take_id(fs);
    fs->by_id[f->id] = f;
    f->flows = fs;
    f->conn = c;
    f->key = *key;
    f->slot = slot;
    list_init(&f->letting);
    flow_init_waits(f);
    list_push_back(&fs->all, &f->link);
    stat_add(&fs->stats.protected, 1);
    stat_add(&fs->stats.active, 1);
    return f;
}

/* Plain HTTP/1 of a client that speaks for itself. */
static bool
can_be_protected(const struct conn *c)
{
    const struct listener_conf *l = &c->listener->conf;

    return !l->tls.given && l->proxy == PROXY_IN_OFF && l->protocol != LISTENER_H2 &&
           l->protocol != LISTENER_TCP && c->peer_family != AF_UNIX;
}

static void
tell_failure(const struct flows *fs, const struct errbuf *e)
{
    static _Thread_local struct log_limit limit;
    unsigned swallowed;

    if (log_limit_ok(&limit, worker_now(fs->worker), &swallowed))
        log_warn("a connection cannot be protected: %s (%u lines left out)", e->text, swallowed);
}

void
flow_open(struct conn *c, int fd, size_t n_read)
{
    struct flows *fs = c->worker->flows;
    struct tcp_params params;
    struct flow_key key;
    struct errbuf e = {"its addresses are not known, or there are too many"};
    uint32_t slot, rcv, snd;
    int off = 0;

    if (fs->released || !can_be_protected(c))
        return;
    if (!flow_key_of_socket(&key, fd) || repair_bases(fd, &rcv, &snd, &params, &e) != MC_OK ||
        guard_flow_add(fs->guard, &key, rcv, &slot) != MC_OK) {
        stat_add(&fs->stats.unprotected, 1);
        tell_failure(fs, &e);
        return;
    }
    /* acknowledgements are late by as much as the holders need: at once they would be held */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &off, sizeof(off));
    c->flow = flow_new(fs, c, &key, slot);
    c->down = &down_flow;
    c->flow->params = params;
    c->flow->rcv_base = rcv - (uint32_t)n_read;
    c->flow->snd_base = snd;
    flow_tell_open(c->flow, 0, 0);
}

void
flow_closing(struct flow *f)
{
    if (f->closing || f->gone)
        return;
    f->closing = true;
    guard_closing(f->flows->guard, f->slot);
}

bool
flow_finishing(struct flow *f)
{
    flow_closing(f);
    return !f->gone && !f->bare && untaken_bytes(&f->conn->stream) > 0;
}

static void
tell_close(struct flow *f)
{
    struct wire_frame w = {.kind = WIRE_CLOSE};

    flow_put(f, &w);
}

void
flow_closed(struct flow *f, bool reset)
{
    if (f->gone)
        return;
    flow_closing(f);
    f->gone = true;
    flow_stop_waiting(f);
    tell_close(f);
}

/* Its socket is no more: what FIN still has to say passes. */
void
flow_free(struct flow **fp)
{
    struct flow *f = *fp;
    struct flows *fs = f->flows;

    MC_CHECK(f, FLOW_MAGIC);
    *fp = NULL;
    guard_flow_del(fs->guard, &f->key, f->slot);
    flow_stop_waiting(f);
    list_remove(&f->letting);
    list_remove(&f->link);
    flow_forget(f);
    if (f->replay != NULL)
        replay_free(&f->replay);
    free(f->adopted_from);
    stat_add(&fs->stats.active, (uint64_t)-1);
    if (f->bare)
        stat_add(&fs->stats.bare, (uint64_t)-1);
    fs->by_id[f->id] = NULL;
    if (!f->leaving) /* holders keep what is handed over by its number until somebody takes it */
        give_id(fs, f->id);
    f->magic = 0;
    slab_give(&fs->slab, f);
}

/* --- going to another balancer -------------------------------------------------------------------
 */

/* The kernel forgets the connection without a word, and so do we; the other has it. */
static void
vanish(struct flow *f)
{
    struct conn *c = f->conn;

    repair_drop(c->stream.sock.fd);
    f->gone = f->closing = true;
    flow_stop_waiting(f);
    if (c->txn != NULL)
        txn_down_gone(c->txn, END_TAKEOVER_CLAIMED);
    if (c->state == CONN_H2)
        h2_down_cut(c->h2, END_TAKEOVER_CLAIMED);
    conn_close(c, false);
}

/* Also when who was to have it is lost: nobody can tell whether he heard of it, and what two serve
 * would be asked of servers twice. */
void
flow_complete_leave(struct flow *f)
{
    link_handed_over(f->flows->link, &f->key, f->heir);
    stat_add(&f->flows->stats.handed_over, 1);
    vanish(f);
}

bool
flow_is_released(const struct flow *f)
{
    return f->untold && f->replay == NULL;
}

bool
flow_may_leave(const struct flow *f)
{
    return !f->gone && !f->closing && link_expects_heir(f->flows->link);
}

/* Nobody asks anything, as far as it has arrived: an unfinished head is told as it comes.  Its
 * client may lack a part of the last response, or it has it, and its word already goes elsewhere:
 * whoever adopts it will see.  Only where that response cannot be fetched again it is waited for,
 * and not for long. */
static bool
rests(struct flow *f)
{
    const struct conn *c = f->conn;

    if ((c->state != CONN_IDLE && c->state != CONN_FIRST && c->state != CONN_HEAD) ||
        c->txn != NULL || f->replay != NULL || f->closing || f->broken)
        return false;
    return f->request.repeatable || untaken_bytes(&c->stream) == 0 || ++f->looks > LOOKS;
}

/* What comes in from now on is not acknowledged, and comes again where the client is served then.
 */
static bool
put_handover(struct flow *f)
{
    const struct life heir = link_heir(f->flows->link, f->refused);
    struct wire_frame w = {.kind = WIRE_HANDOVER, .u.handover = {heir}};

    if (life_is_none(heir))
        return false;
    f->heir = heir;
    flow_wait(f, FLOW_LEAVE, flow_put(f, &w));
    f->leaving = true;
    return true;
}

/* One that is bare is protected first; what the kernel has acknowledged meanwhile is told in a turn
 * before the next look. */
static void
look(struct flow *f)
{
    if (f->gone || f->leaving || !rests(f))
        return;
    if (!f->bare)
        (void)put_handover(f);
    else if (!f->flows->released && may_be_dressed(f))
        dress(f);
}

void
flow_stay(struct flow *f)
{
    f->leaving = false;
    flow_unwait(f, FLOW_LEAVE);
    stream_recv(&f->conn->stream, true);
}

static void
on_leave_timer(struct timer *t)
{
    struct flows *fs = container_of(t, struct flows, leave_timer);

    flows_hand_over(fs);
}

void
flows_hand_over(struct flows *fs)
{
    struct loop *l = fs->worker->loop;

    loop_timer_set(l, &fs->leave_timer, worker_now(fs->worker) + LEAVE_NS);
    if (life_is_none(link_heir(fs->link, 0)))
        return;
    LIST_FOREACH_SAFE (it, next, &fs->all)
        look(LIST_ENTRY(it, struct flow, link));
}

/* Nobody waits for an answer any more: what was told before is in the same stream. */
static void
leave_at_once(struct flow *f)
{
    if (f->gone || f->bare || f->closing || f->broken)
        return;
    if (f->leaving || put_handover(f))
        flow_complete_leave(f);
}

void
flows_hand_over_rest(struct flows *fs)
{
    LIST_FOREACH_SAFE (it, next, &fs->all)
        leave_at_once(LIST_ENTRY(it, struct flow, link));
}

void
flow_release(struct flow *f)
{
    struct flows *fs = f->flows;
    struct wire_frame w = {.kind = WIRE_CLOSE};

    if (f->gone || f->leaving || f->untold)
        return;
    flow_bare(f);
    fs->release_ticket = flow_put(f, &w);
    f->untold = true;
    flow_wait_no_more(f, fs->release_ticket);
}

void
flows_release(struct flows *fs, bool on)
{
    fs->released = on;
    fs->release_ticket = 0;
    if (!on)
        return;
    LIST_FOREACH_SAFE (it, next, &fs->all) {
        flow_release(LIST_ENTRY(it, struct flow, link));
    }
    if (fs->release_ticket <= link_acked(fs->link)) {
        fs->release_ticket = 0;
        worker_tell_released(fs->worker);
    }
}

/* Other holders than the one that gave it away have it as it was, and would give that away when
 * this balancer is dead: they are to forget it.  The client hears nothing. */
static void
on_claimed(void *arg, const struct flow_key *keys, unsigned n)
{
    struct flows *fs = arg;
    struct map claimed = {0};

    for (unsigned i = 0; i < n; i++)
        map_put(&claimed, (struct str){(const char *)&keys[i], sizeof(keys[i])}, fs);
    LIST_FOREACH_SAFE (it, next, &fs->all) {
        struct flow *f = LIST_ENTRY(it, struct flow, link);
        struct str key = {(const char *)&f->key, sizeof(f->key)};

        if (f->gone || (keys == NULL ? f->bare : map_get(&claimed, key) == NULL))
            continue;
        stat_add(&fs->stats.claimed, 1);
        tell_close(f);
        vanish(f);
    }
    map_free(&claimed);
}

/* --- a worker's flows ----------------------------------------------------------------------------
 */

struct flows *
flows_new(struct worker *w, struct takeover *t, struct errbuf *e)
{
    struct flows *fs = mc_alloc(sizeof(*fs));
    const struct link_hooks hooks = {.arg = fs,
                                     .on_acked = flows_on_acked,
                                     .on_snapshot = flows_on_snapshot,
                                     .on_refused = flows_on_refused,
                                     .on_let_go = flows_on_let_go,
                                     .on_adopted = flow_on_adopted,
                                     .on_claimed = on_claimed};

    fs->worker = w;
    fs->takeover = t;
    fs->guard = takeover_guard(t);
    fs->let_go.fn = flows_let_go;
    fs->leave_timer.fn = on_leave_timer;
    fs->mute_timer.fn = flows_on_mute_timer;
    list_init(&fs->all);
    list_init(&fs->waiting);
    list_init(&fs->letting);
    list_init(&fs->mute);
    slab_init(&fs->slab, sizeof(struct flow));
    fs->link = link_new(t, w->conf.index, w->loop, &hooks, e);
    if (fs->link == NULL) {
        slab_fini(&fs->slab);
        free(fs);
        return NULL;
    }
    return fs;
}

void
flows_close(struct flows *fs)
{
    MC_ASSERT(list_empty(&fs->all));
    loop_undefer(fs->worker->loop, &fs->let_go);
    loop_timer_clear(fs->worker->loop, &fs->leave_timer);
    loop_timer_clear(fs->worker->loop, &fs->mute_timer);
    link_close(fs->link);
}

bool
flows_are_gone(const struct flows *fs)
{
    return link_is_gone(fs->link);
}

void
flows_free(struct flows **fsp)
{
    struct flows *fs = *fsp;

    *fsp = NULL;
    link_free(&fs->link);
    slab_fini(&fs->slab);
    free(fs->free_ids);
    free(fs->by_id);
    free(fs);
}

const struct flow_stats *
flows_stats(const struct flows *fs)
{
    return &fs->stats;
}

const struct link_stats *
flows_link_stats(const struct flows *fs)
{
    return link_stats(fs->link);
}
