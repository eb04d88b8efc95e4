/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ask.c - packets of flows that nobody here knows: whose are they?
 *
 *   its address is not here     it is forgotten: who carries the address will get the next one
 *   kept here, its owner dead   it is adopted at once, unless another holder comes before us: then
 *                               that one is asked, too
 *   kept here, its owner alive  packets go to the owner
 *   else                        all live peers are asked: one is its owner, or knows it, or gives
 *                               it away; when all know nothing, the kernel may answer (RST)
 *
 * What is known of others may be old, and two who take each other for the owner would send a packet
 * to and fro for ever.  So what a peer has sent here goes on only to who says of itself that the
 * flow is its; and an answer that names another only has that one asked (again): its own word
 * counts.
 *
 * Who names another has not said that it knows nothing.  It may hold the flow of one whom it takes
 * for alive: peers find a death some milliseconds one after the other.  So it stays among those
 * that are asked again, and when one is found dead all of them are, at once.
 *
 * Who leaves takes nothing that another can have: it sends the packet on to one that stays, who
 * asks in its turn, and it gives away what it holds.
 *
 * Who does not answer in time has not said that it knows nothing: the packet is forgotten, and the
 * client, who will send it again, starts another question.  A packet costs a spoofer nothing, so
 * questions are limited; beyond that packets are forgotten, too.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "takeover/takeover_priv.h"

#define QUESTIONS_MAX   8192 /* at a time; the number of a question has its place in the low bits */
/* As many as probes of a dead balancer's clients bring answers, and clients for themselves. */
#define QUESTIONS_PER_S 20000.0
#define BURST           5000.0
#define FIRST_WAIT_NS   (10 * MC_MS) /* doubled for each try */
#define TRIES           4
#define PAYLOAD_MAX     65536
/* Of all questions: beyond that clients send it again. */
#define PAYLOADS_MAX    ((size_t)16 << 20)
/* A balancer that has just begun may not have found the peers yet who know all about a flow. */
#define QUIET_NS        (3 * MC_SEC)

_Static_assert(TAKEOVER_PEERS_MAX <= 64, "who was asked is a word of bits");

struct question {
    struct list link; /* oldest first, or free */
    uint32_t number;
    struct flow_key key;
    struct guard_packet packet; /* its payload is `payload` */
    struct buf payload;
    uint64_t waiting; /* members that have not said that they do not know it */
    uint64_t named;   /* members that others took for its owner */
    bool lost;        /* one died that had not answered: it may have been all that knew */
    mc_ns begun_ns, next_ns;
    unsigned tries;
};

static struct str
key_text(const struct flow_key *k)
{
    return (struct str){(const char *)k, sizeof(*k)};
}

/* --- packets ------------------------------------------------------------------------------------
 */

static void
keep_payload(struct asking *a, struct question *q, const struct guard_packet *p)
{
    size_t room = PAYLOADS_MAX - a->n_kept, n = p->n_payload;

    if (room > PAYLOAD_MAX - q->payload.n)
        room = PAYLOAD_MAX - q->payload.n;
    if (n > room)
        n = room;
    buf_add(&q->payload, p->payload, n);
    a->n_kept += n;
    q->packet.payload = (const uint8_t *)q->payload.p;
    q->packet.n_payload = q->payload.n;
}

static void
keep_packet(struct asking *a, struct question *q, const struct guard_packet *p)
{
    q->packet = *p;
    keep_payload(a, q, p);
}

/* A probe's answer says what the client sends next; what it has sent and nobody acknowledged comes
 * behind it, and begins before. */
static bool
says_more(const struct guard_packet *p, const struct guard_packet *kept)
{
    return kept->n_payload == 0 && p->n_payload > 0 && (int32_t)(p->ack - kept->ack) >= 0;
}

/* What follows it at once is kept with it; else the client will send it again. */
static void
keep_more(struct asking *a, struct question *q, const struct guard_packet *p)
{
    if (says_more(p, &q->packet))
        keep_packet(a, q, p);
    else if (p->seq == q->packet.seq + (uint32_t)q->packet.n_payload)
        keep_payload(a, q, p);
}

/* --- what can be done with it --------------------------------------------------------------------
 */

/* This packet and those that follow.  False: we cannot send anything there. */
static bool
redirect(struct takeover *t, const struct guard_packet *p, struct life owner)
{
    struct member *m = member_of(t, owner.id);

    if (m == NULL || !m->alive || !m->placed || !life_eq(m->life, owner))
        return false;
    if (!m->leaving)
        guard_away_set(t->guard, &p->key, member_place(m));
    forward_packet(t->forward, m->ifindex, m->own_mac, m->mac, p);
    takeover_count(&t->stats.redirected);
    return true;
}

/* Where one balancer carries the address, packets come by way of the dead one's heir before any
 * other has it.  A connection cannot live here then, and must not be taken from who could have it.
 */
static bool
is_here(struct takeover *t, const struct flow_key *key)
{
    struct addr local, remote;
    mc_ns now = loop_now(t->loop);
    struct errbuf e;

    flow_key_addrs(key, &local, &remote);
    addr_set_port(&local, 0);
    if (t->here.asked_ns == now && addr_eq(&t->here.addr, &local))
        return t->here.yes;
    t->here.addr = local;
    t->here.asked_ns = now;
    if (netlink_is_local(&t->nl, &local, &t->here.yes, &e) != MC_OK) {
        log_debug("takeover: %s", e.text);
        t->here.yes = true;
    }
    t->here.yes = t->here.yes && !guard_address_is_moved(t->guard, &local);
    return t->here.yes;
}

/* To one that stays: the heir, where others would look for it first, or any. */
static bool
pass_on(struct takeover *t, const struct guard_packet *p)
{
    const struct member *heir = member_of(t, peers_heir(t->peers, loop_now(t->loop)).id);

    if (heir != NULL && !heir->leaving && redirect(t, p, heir->life))
        return true;
    for (unsigned i = 0; i < TAKEOVER_PEERS_MAX; i++)
        if (t->member[i].id != 0 && !t->member[i].leaving && redirect(t, p, t->member[i].life))
            return true;
    return false;
}

static void
take_own(struct takeover *t, const struct replica_found *found, const struct guard_packet *p,
         mc_ns begun_ns)
{
    struct replica *r;

    if (t->leaving && (pass_on(t, p) || t->parting || !is_here(t, &p->key)))
        return;
    if (!found->replica->handed_over)
        takeover_gave(t, found->who);
    r = replica_take(t->store, found->replica, t->self, loop_now(t->loop));
    adopt_flow(t, &r, p, begun_ns);
}

/* --- questions ----------------------------------------------------------------------------------
 */

static struct question *
question_of(struct takeover *t, uint32_t number)
{
    struct question *q = t->asking.place[number % QUESTIONS_MAX];

    return q != NULL && q->number == number && q->tries > 0 ? q : NULL;
}

static void
finish(struct takeover *t, struct question *q)
{
    map_remove(&t->asking.by_key, key_text(&q->key));
    list_remove(&q->link);
    list_push_back(&t->asking.free, &q->link);
    t->asking.n_kept -= q->payload.n;
    buf_free(&q->payload);
    q->tries = 0;
}

static struct question *
free_question(struct asking *a)
{
    struct question *q;

    if (list_empty(&a->free)) {
        if (a->n_places == QUESTIONS_MAX)
            return NULL;
        q = mc_alloc(sizeof(*q));
        q->number = a->n_places;
        a->place[a->n_places++] = q;
        return q;
    }
    q = LIST_ENTRY(a->free.next, struct question, link);
    list_remove(&q->link);
    return q;
}

static bool
may_ask(struct asking *a, mc_ns now)
{
    a->tokens += (double)(now - a->filled_ns) / (double)MC_SEC * QUESTIONS_PER_S;
    a->filled_ns = now;
    if (a->tokens > BURST)
        a->tokens = BURST;
    if (a->tokens < 1)
        return false;
    a->tokens--;
    return true;
}

static void
ask(struct takeover *t, const struct question *q, uint64_t members)
{
    const bool last = members == q->waiting && (members & (members - 1)) == 0;
    struct wire_frame f = {
        .kind = WIRE_ASK,
        .u.ask = {.ask = q->number, .key = q->key, .leaving = t->leaving, .last = last},
    };

    for (unsigned i = 0; i < TAKEOVER_PEERS_MAX; i++)
        if (members >> i & 1 && dial_put(&t->member[i], &f))
            takeover_count(&t->stats.asks_out);
}

static uint64_t
bit_of(unsigned place)
{
    return (uint64_t)1 << place;
}

static uint64_t
all_alive(const struct takeover *t)
{
    uint64_t bits = 0;

    for (unsigned i = 0; i < TAKEOVER_PEERS_MAX; i++)
        if (t->member[i].id != 0 && t->member[i].alive)
            bits |= bit_of(i);
    return bits;
}

/* Nobody knows it, so far as there is anybody. */
static void
release(struct takeover *t, const struct flow_key *key)
{
    mc_ns now = loop_now(t->loop);

    if (now < t->started_ns + QUIET_NS || t->leaving || peers_lease(t->peers) < now) {
        takeover_count(&t->stats.unanswered);
        return;
    }
    if (adopt_is_busy(t))
        adopt_tell_lost(t, key, NULL, "no balancer knows it");
    guard_release(t->guard, key);
    takeover_count(&t->stats.released);
}

/* Nobody else has it: it is ours if it may be, or nobody's. */
static void
conclude(struct takeover *t, const struct guard_packet *p, bool lost, mc_ns begun_ns)
{
    struct replica_found found;

    replica_find(t->store, &p->key, t->self, &found);
    if (found.whose == REPLICA_FREE)
        take_own(t, &found, p, begun_ns);
    else if (found.whose == REPLICA_ALIVE || lost) /* the client asks again */
        takeover_count(&t->stats.unanswered);
    else
        release(t, &p->key);
}

static void
none(struct takeover *t, struct question *q, unsigned place)
{
    q->waiting &= ~bit_of(place);
    if (q->waiting != 0)
        return;
    conclude(t, &q->packet, q->lost, q->begun_ns);
    finish(t, q);
}

static void
set_timer(struct takeover *t)
{
    struct asking *a = &t->asking;

    if (!timer_is_set(&a->timer) && !list_empty(&a->open))
        loop_timer_set(t->loop, &a->timer, loop_now(t->loop) + FIRST_WAIT_NS);
}

static void
ask_first(struct takeover *t, struct question *q, mc_ns now)
{
    q->next_ns = now + FIRST_WAIT_NS;
    q->tries = 1;
    ask(t, q, q->waiting);
}

static void
try_again(struct takeover *t, struct question *q, mc_ns now)
{
    if (q->waiting == 0 || q->tries == TRIES) {
        if (q->waiting == 0)
            conclude(t, &q->packet, q->lost, q->begun_ns);
        else
            takeover_count(&t->stats.unanswered);
        finish(t, q);
        return;
    }
    q->next_ns = now + (FIRST_WAIT_NS << q->tries);
    q->tries++;
    ask(t, q, q->waiting);
}

static void
on_timer(struct timer *timer)
{
    struct asking *a = container_of(timer, struct asking, timer);
    struct takeover *t = container_of(a, struct takeover, asking);
    mc_ns now = loop_now(t->loop);

    pulse_catch_up(t);
    LIST_FOREACH_SAFE (it, next, &a->open) {
        struct question *q = LIST_ENTRY(it, struct question, link);

        if (q->next_ns <= now)
            try_again(t, q, now);
    }
    set_timer(t);
}

static void
begin(struct takeover *t, const struct guard_packet *p)
{
    mc_ns now = loop_now(t->loop);
    uint64_t waiting = all_alive(t);
    struct question *q;

    if (waiting == 0) {
        conclude(t, p, false, now);
        return;
    }
    q = may_ask(&t->asking, now) ? free_question(&t->asking) : NULL;
    if (q == NULL) {
        takeover_count(&t->stats.flooded);
        return;
    }
    q->number += QUESTIONS_MAX;
    q->key = p->key;
    q->waiting = waiting;
    q->named = 0;
    q->lost = false;
    q->begun_ns = now;
    keep_packet(&t->asking, q, p);
    list_push_back(&t->asking.open, &q->link);
    map_put(&t->asking.by_key, key_text(&q->key), q);
    ask_first(t, q, now);
    set_timer(t);
}

/* --- answers ------------------------------------------------------------------------------------
 */

/* It may have got the flow since it was asked: once more, and once only. */
static void
ask_named(struct takeover *t, struct question *q, struct life who)
{
    const struct member *m = member_of(t, who.id);
    uint64_t bit = m != NULL && m->alive && life_eq(m->life, who) ? bit_of(member_place(m)) : 0;

    if ((q->named | q->waiting) & bit)
        bit = 0;
    q->named |= bit;
    q->waiting |= bit;
    ask(t, q, bit);
}

void
ask_owner(struct member *m, const struct wire_owner *w)
{
    struct takeover *t = m->takeover;
    struct question *q = question_of(t, w->ask);

    if (q == NULL)
        return;
    if (life_eq(w->owner, t->self)) { /* it was, and has ended */
        none(t, q, member_place(m));
        return;
    }
    if (w->owner.id != m->id) {
        ask_named(t, q, w->owner);
        return;
    }
    if (!redirect(t, &q->packet, w->owner))
        takeover_count(&t->stats.unanswered);
    finish(t, q);
}

void
ask_none(struct member *m, const struct wire_none *w)
{
    struct question *q;

    pulse_catch_up(m->takeover); /* who is dead is looked at before anything is taken */
    q = question_of(m->takeover, w->ask);
    if (q != NULL)
        none(m->takeover, q, member_place(m));
}

void
ask_give(struct member *m, const struct wire_give *w)
{
    struct takeover *t = m->takeover;
    struct question *q = question_of(t, w->ask);
    struct replica *r;

    if (q == NULL)
        return; /* it is ours for a while: the next packet asks again */
    r = replica_read(w->owner, w->frames);
    if (r == NULL || !flow_key_eq(&r->key, &q->key)) {
        replica_free(&r);
        takeover_count(&t->stats.refused);
        return;
    }
    adopt_flow(t, &r, &q->packet, q->begun_ns);
    /* what we may have of it ourselves is as old as what other holders have */
    replica_taken(t->store, &q->key, w->owner, t->self, loop_now(t->loop));
    finish(t, q);
}

void
ask_lost(struct member *m)
{
    struct takeover *t = m->takeover;

    if (m->alive)
        return; /* it will be asked again */
    LIST_FOREACH_SAFE (it, next, &t->asking.open) {
        struct question *q = LIST_ENTRY(it, struct question, link);

        q->lost |= q->waiting & bit_of(member_place(m));
        q->waiting &= ~bit_of(member_place(m));
        ask_first(t, q, loop_now(t->loop));
        if (q->waiting == 0) /* not now: peers.h calls us, and has not settled yet who is dead */
            q->next_ns = loop_now(t->loop);
    }
    if (!list_empty(&t->asking.open))
        loop_timer_set(t->loop, &t->asking.timer, loop_now(t->loop));
}

/* --- the beginning ------------------------------------------------------------------------------
 */

/* Another holder could give it to somebody else, who would serve it as well. */
static bool
is_ours(const struct takeover *t, const struct replica_found *found)
{
    return found->whose == REPLICA_FREE &&
           (found->replica->handed_over || peers_is_first(t->peers, found->who));
}

void
ask_packet(void *arg, const struct guard_packet *p)
{
    struct takeover *t = arg;
    struct question *q = map_get(&t->asking.by_key, key_text(&p->key));
    struct replica_found found;

    takeover_count(&t->stats.held);
    if (q != NULL) {
        keep_more(&t->asking, q, p);
        return;
    }
    if (guard_flow_known(t->guard, &p->key)) { /* since it was held: adopted, most likely */
        forward_home(t->forward, p);
        return;
    }
    if (!t->leaving && !is_here(t, &p->key)) {
        takeover_count(&t->stats.elsewhere);
        return;
    }
    replica_find(t->store, &p->key, t->self, &found);
    if (is_ours(t, &found))
        take_own(t, &found, p, loop_now(t->loop));
    else if (found.whose != REPLICA_ALIVE || p->from_peer || !redirect(t, p, found.who))
        begin(t, p);
}

void
ask_open(struct takeover *t)
{
    list_init(&t->asking.open);
    list_init(&t->asking.free);
    t->asking.place = mc_alloc(QUESTIONS_MAX * sizeof(struct question *));
    t->asking.timer.fn = on_timer;
    t->asking.tokens = BURST;
}

void
ask_close(struct takeover *t)
{
    struct asking *a = &t->asking;

    loop_timer_clear(t->loop, &a->timer);
    for (unsigned i = 0; i < a->n_places; i++) {
        buf_free(&a->place[i]->payload);
        free(a->place[i]);
    }
    free(a->place);
    a->n_places = 0;
    a->place = NULL;
    map_free(&a->by_key);
}
