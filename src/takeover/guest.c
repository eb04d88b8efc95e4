/* SPDX-License-Identifier: BSD-2-Clause
 *
 * guest.c - connections of peers: lines of their workers, whose frames are kept, and their threads'
 * questions, which are answered.
 *
 * A HELLO says which of both it is.  Whatever a peer sends that makes no sense ends its connection:
 * its flows are then told anew on another line.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "takeover/repair.h"
#include "takeover/takeover_priv.h"

#define STRANGERS_MAX   64 /* who have not shown the key, or not said who they are */
#define THREADS_MAX     64 /* lives that have a connection for questions */
/* Answers that wait for the network: with more, questions are passed over, and come again. */
#define ANSWERS_MAX     ((size_t)8 << 20)
#define HELLO_NS        MC_SEC
#define ACCEPT_PAUSE_NS (100 * MC_MS)

struct guest {
    struct list link;
    struct takeover *takeover;
    struct tube *tube;
    struct replica_line *line; /* a worker's; NULL: not said yet, or a thread's */
    struct life who;           /* a thread's; none: not said yet, or a worker's */
    struct wire_where *where;  /* as it said last; NULL: it did not */
};

struct door {
    struct sock sock;
    struct timer timer;
    struct takeover *takeover; /* NULL: it is being closed */
    unsigned *n_alive;         /* sockets of the loop */
};

static void
guest_end(struct guest *g, const char *why)
{
    struct takeover *t = g->takeover;
    char at[ADDR_TEXT];

    log_debug("takeover: connection of %s: %s", addr_text(&g->tube->peer, at), why);
    if (g->line != NULL)
        replica_line_end(&g->line, loop_now(t->loop));
    tube_close(&g->tube);
    list_remove(&g->link);
    free(g->where);
    free(g);
}

/* --- questions ----------------------------------------------------------------------------------
 */

static void
answer(struct guest *g, const struct wire_frame *f)
{
    wire_put(tube_put_begin(g->tube), f);
    tube_put_end(g->tube);
}

static void
answer_owner(struct guest *g, uint32_t ask, struct life owner)
{
    struct wire_frame f = {.kind = WIRE_OWNER, .u.owner = {.ask = ask, .owner = owner}};

    answer(g, &f);
}

static void
answer_none(struct guest *g, uint32_t ask)
{
    struct wire_frame f = {.kind = WIRE_NONE, .u.none = {.ask = ask}};

    answer(g, &f);
}

/* From now on it is the asker's: its owner, should it live after all, will hear that. */
static void
answer_give(struct guest *g, uint32_t ask, const struct replica_found *found)
{
    struct takeover *t = g->takeover;
    struct buf frames = {0};
    struct wire_frame f = {.kind = WIRE_GIVE, .u.give = {.ask = ask, .owner = found->who}};

    if (!found->replica->handed_over)
        takeover_gave(t, found->who);
    replica_write(found->replica, &frames);
    replica_give(t->store, found->replica, g->who, loop_now(t->loop));
    f.u.give.frames = (struct str){frames.p, frames.n};
    answer(g, &f);
    buf_free(&frames);
    takeover_count(&t->stats.given);
}

/* It handed its flows over, and is not to have them back. */
static bool
is_leaving(const struct guest *g)
{
    const struct member *m = member_of(g->takeover, g->who.id);

    return m != NULL && m->leaving;
}

/* The process before us has connections of which we know nothing. */
static bool
is_served_here(const struct takeover *t, const struct flow_key *key)
{
    return guard_flow_known(t->guard, key) || (atomic_load(&t->elder) && repair_is_known(key));
}

/* Nothing is given to who is not known to live: it would count for lost at once; nor by one of two
 * holders as long as the other could give it to somebody else. */
static bool
may_give(const struct guest *g, const struct wire_ask *q, const struct replica_found *found)
{
    const struct peers *p = g->takeover->peers;

    return peers_is_alive(p, g->who) &&
           (q->last || found->replica->handed_over || peers_is_first(p, found->who));
}

static bool
take_ask(struct guest *g, const struct wire_frame *f)
{
    struct takeover *t = g->takeover;
    const struct wire_ask *q = &f->u.ask;
    const bool leaving = q->leaving || is_leaving(g);
    struct replica_found found;

    takeover_count(&t->stats.asks_in);
    if (is_served_here(t, &q->key)) {
        answer_owner(g, q->ask, t->self);
        return true;
    }
    replica_find(t->store, &q->key, leaving ? t->self : g->who, &found);
    if (found.whose == REPLICA_FREE && leaving)
        answer_owner(g, q->ask, t->self); /* it sends us the packet, and we take the flow */
    else if (found.whose == REPLICA_FREE && may_give(g, q, &found))
        answer_give(g, q->ask, &found);
    else if (found.whose == REPLICA_UNKNOWN)
        answer_none(g, q->ask);
    else if (found.whose == REPLICA_ALIVE && peers_is_alive(t->peers, found.who))
        answer_owner(g, q->ask, found.who);
    /* else it is known, and not ours to give away just now: "none" would have it reset */
    return true;
}

/* What was taken of the asker's flows; until it is told, nothing more of it is taken. */
static bool
take_resync(struct guest *g, const struct wire_frame *f)
{
    struct takeover *t = g->takeover;
    const struct wire_resync *q = &f->u.resync;
    struct member *m = member_of(t, q->who.id);
    struct flow_key keys[WIRE_CLAIMS_MAX];
    struct wire_frame end = {.kind = WIRE_RESYNCED, .u.resynced.nonce = q->nonce};
    size_t at = 0;
    unsigned n;

    if (!life_eq(q->who, g->who))
        return false;
    end.u.resynced.seq = peers_asked(t->peers, q->who, loop_now(t->loop));
    pulse_settle(t);
    while ((n = replica_claims(t->store, q->who, &at, keys, WIRE_CLAIMS_MAX)) > 0) {
        wire_put_claimed(tube_put_begin(g->tube), q->nonce, keys, n);
        tube_put_end(g->tube);
    }
    end.u.resynced.all = replica_claims_lost(t->store, q->who);
    answer(g, &end);
    if (m != NULL)
        m->claims_told_ns = loop_now(t->loop);
    return true;
}

static bool
take_taken(struct guest *g, const struct wire_frame *f)
{
    struct takeover *t = g->takeover;

    replica_taken(t->store, &f->u.taken.key, f->u.taken.owner, g->who, loop_now(t->loop));
    return true;
}

static bool
take_where(struct guest *g, const struct wire_frame *f)
{
    struct member *m = member_of(g->takeover, g->who.id);

    if (g->where == NULL)
        g->where = mc_alloc(sizeof(*g->where));
    if (!wire_get_where(f->u.table, g->where))
        return false;
    if (m != NULL && life_eq(m->life, g->who))
        dial_placed(m, g->where);
    return true;
}

const struct wire_where *
guest_where(const struct takeover *t, struct life who)
{
    LIST_FOREACH (it, &t->guests) {
        const struct guest *g = LIST_ENTRY(it, struct guest, link);

        if (life_eq(g->who, who) && g->where != NULL)
            return g->where;
    }
    return NULL;
}

static bool
take_question(struct guest *g, const struct wire_frame *f)
{
    if (tube_waiting(g->tube) > ANSWERS_MAX && (f->kind == WIRE_ASK || f->kind == WIRE_RESYNC))
        return true;
    switch (f->kind) {
    case WIRE_ASK: return take_ask(g, f);
    case WIRE_RESYNC: return take_resync(g, f);
    case WIRE_TAKEN: return take_taken(g, f);
    case WIRE_WHERE: return take_where(g, f);
    default: return false;
    }
}

static void
take_questions(struct guest *g, struct pack_in *in)
{
    struct takeover *t = g->takeover;
    struct wire_frame f;
    uint64_t unknown = 0;
    enum wire_next next;

    pulse_catch_up(t); /* who is dead is looked at before anything is given away */
    while ((next = wire_get(in, &f, &unknown)) == WIRE_FRAME)
        if (!take_question(g, &f))
            break;
    if (next != WIRE_END) {
        takeover_count(&t->stats.refused);
        guest_end(g, "a question that makes no sense");
    }
}

/* --- lines --------------------------------------------------------------------------------------
 */

/* Before it is acknowledged: its owner would take these for protected. */
static void
answer_refused(struct guest *g)
{
    const uint32_t *flows;
    unsigned n = replica_line_refused(g->line, &flows);

    for (unsigned i = 0; i < n; i++)
        answer(g, &(struct wire_frame){.kind = WIRE_REFUSED, .flow = flows[i]});
}

/* Hot: once a turn of a peer's worker. */
static void
take_line(struct guest *g, const uint8_t *p, size_t n)
{
    struct takeover *t = g->takeover;
    uint64_t before = replica_line_frames(g->line);
    struct wire_frame ack = {.kind = WIRE_ACK};
    enum replica_fault fault =
        replica_line_read(g->line, (struct str){(const char *)p, n}, loop_now(t->loop));

    if (fault != REPLICA_F_NONE) {
        takeover_count(&t->stats.frames_bad);
        guest_end(g, replica_fault_text(fault));
        return;
    }
    ack.u.ack.frames = replica_line_frames(g->line);
    stat_add(&t->stats.frames_in, ack.u.ack.frames - before);
    answer_refused(g);
    answer(g, &ack);
    adopt_wait(t);
}

/* A life has one connection for its questions: another is its first, which broke there.  Of too
 * many, one whose life is over goes. */
static bool
make_place(struct takeover *t, struct life who)
{
    struct guest *over = NULL;
    unsigned n = 0;

    LIST_FOREACH_SAFE (it, next, &t->guests) {
        struct guest *g = LIST_ENTRY(it, struct guest, link);

        if (life_is_none(g->who))
            continue;
        if (life_eq(g->who, who)) {
            guest_end(g, "it has another connection");
            continue;
        }
        n++;
        if (over == NULL && !peers_is_alive(t->peers, g->who))
            over = g;
    }
    if (n >= THREADS_MAX && over != NULL)
        guest_end(over, "too many connections, and it is dead");
    return n < THREADS_MAX || over != NULL;
}

/* Once a life: it comes again and again. */
static void
tell_version(const struct guest *g, const struct wire_hello *hello)
{
    struct member *m = member_of(g->takeover, hello->owner.id);
    char at[ADDR_TEXT];

    if (m == NULL || m->strange_boot == hello->owner.boot)
        return;
    m->strange_boot = hello->owner.boot;
    log_warn("takeover: peer %s speaks version %u of the protocol, and we speak %d: neither of us "
             "protects the other's connections",
             addr_text(&m->addr, at), hello->version, WIRE_VERSION);
}

static void
take_first(struct guest *g, const uint8_t *p, size_t n)
{
    struct takeover *t = g->takeover;
    struct pack_in in = {.p = p, .n = n};
    struct wire_frame f;
    uint64_t unknown = 0;

    if (wire_get(&in, &f, &unknown) != WIRE_FRAME || f.kind != WIRE_HELLO) {
        guest_end(g, "it does not begin with a hello");
        return;
    }
    if (f.u.hello.version != WIRE_VERSION) {
        tell_version(g, &f.u.hello);
        guest_end(g, "it speaks a version that is not spoken here");
        return;
    }
    if (f.u.hello.worker == HELLO_THREAD) {
        if (!make_place(t, f.u.hello.owner)) {
            guest_end(g, "too many connections");
            return;
        }
        g->who = f.u.hello.owner;
        take_questions(g, &in);
        return;
    }
    g->line = replica_line_new(t->store, loop_now(t->loop));
    if (g->line == NULL)
        guest_end(g, "too many lines");
    else
        take_line(g, p, n);
}

/* --- connections --------------------------------------------------------------------------------
 */

static void
on_ready(struct tube *tube)
{
}

static void
on_record(struct tube *tube, const uint8_t *p, size_t n)
{
    struct guest *g = tube->owner;
    struct pack_in in = {.p = p, .n = n};

    if (g->line != NULL)
        take_line(g, p, n);
    else if (!life_is_none(g->who))
        take_questions(g, &in);
    else
        take_first(g, p, n);
}

static void
on_broken(struct tube *tube, const char *why)
{
    guest_end(tube->owner, why);
}

static const struct tube_ops guest_ops = {on_ready, on_record, on_broken};

static bool
is_stranger(const struct guest *g)
{
    return g->line == NULL && life_is_none(g->who);
}

/* Who has not said for longest who it is goes first. */
static void
make_room(struct takeover *t)
{
    struct guest *oldest = NULL;
    unsigned n = 0;

    LIST_FOREACH (it, &t->guests) {
        struct guest *g = LIST_ENTRY(it, struct guest, link);

        if (!is_stranger(g))
            continue;
        n++;
        if (oldest == NULL)
            oldest = g;
    }
    if (n >= STRANGERS_MAX)
        guest_end(oldest, "too many strangers");
}

static void
on_accept(struct sock *sock, int fd)
{
    struct door *d = container_of(sock, struct door, sock);
    struct takeover *t = d->takeover;
    struct guest *g;

    if (t == NULL) {
        close(fd);
        return;
    }
    make_room(t);
    g = mc_alloc(sizeof(*g));
    g->takeover = t;
    g->tube = tube_accept(t->loop, t->keys, fd, HELLO_NS, &guest_ops, g, &t->n_tubes);
    list_push_back(&t->guests, &g->link);
}

/* --- the door -----------------------------------------------------------------------------------
 */

/* Out of descriptors: later. */
static void
on_door_error(struct sock *sock, int err)
{
    struct door *d = container_of(sock, struct door, sock);

    log_warn("takeover: cannot accept connections: %s", strerror(err));
    loop_timer_set(sock->loop, &d->timer, loop_now(sock->loop) + ACCEPT_PAUSE_NS);
}

static void
on_door_timer(struct timer *timer)
{
    sock_accept(&container_of(timer, struct door, timer)->sock, true);
}

static void
on_door_closed(struct sock *sock)
{
    struct door *d = container_of(sock, struct door, sock);

    (*d->n_alive)--;
    free(d);
}

static const struct sock_ops door_ops = {
    .on_accept = on_accept, .on_error = on_door_error, .on_closed = on_door_closed};

enum mc_err
door_open(struct takeover *t, const struct addr *bind, struct errbuf *e)
{
    struct sock_listen_opts opts = {0};
    int fd = t->tcp >= 0 ? t->tcp : sock_listen_fd(bind, &opts, e);

    if (fd < 0)
        return MC_ESYS;
    t->tcp = -1;
    t->door = mc_alloc(sizeof(*t->door));
    t->door->takeover = t;
    t->door->n_alive = &t->n_tubes;
    t->n_tubes++;
    t->door->timer.fn = on_door_timer;
    sock_open(&t->door->sock, t->loop, fd, &door_ops);
    return MC_OK;
}

int
door_fd(const struct takeover *t)
{
    return t->door->sock.fd;
}

void
door_start(struct takeover *t)
{
    sock_accept(&t->door->sock, true);
}

void
door_close(struct takeover *t)
{
    LIST_FOREACH_SAFE (it, next, &t->guests)
        guest_end(LIST_ENTRY(it, struct guest, link), "we end");
    if (t->door == NULL)
        return;
    t->door->takeover = NULL;
    loop_timer_clear(t->loop, &t->door->timer);
    sock_close(&t->door->sock, false);
    t->door = NULL;
}
