/* SPDX-License-Identifier: BSD-2-Clause
 *
 * peers.c - lives and beats, see peers.h.
 */
#include <stdlib.h>

#include "base/check.h"
#include "takeover/peers_priv.h"

/* The dead are told of so long, for who missed who their holders were: longer than what they held
 * is kept. */
#define TELL_DEAD_NS  (120 * MC_SEC)
#define URGENT_NS     (2 * MC_MS) /* between beats, whatever the news */
#define STRANGER_BEAT 1           /* a life that begins with a later one has a past */
#define PASS_BEATS    2           /* that say so before we go: one may be lost */

static void
set_defaults(struct peers_conf *c)
{
    c->replicas = c->replicas ? c->replicas : 1;
    c->beat_ns = c->beat_ns ? c->beat_ns : 20 * MC_MS;
    c->dead_ns = c->dead_ns ? c->dead_ns : 80 * MC_MS;
    c->margin_ns = c->margin_ns ? c->margin_ns : 2 * MC_MS;
    c->witness_ns = c->witness_ns ? c->witness_ns : 300 * MC_MS;
    c->unfit_ns = c->unfit_ns ? c->unfit_ns : 40 * MC_MS;
}

struct peers *
peers_new(const struct peers_conf *conf, mc_ns now)
{
    struct peers *p = mc_alloc(sizeof(*p));

    p->conf = *conf;
    set_defaults(&p->conf);
    MC_ASSERT(!life_is_none(conf->self) && p->conf.replicas <= PEERS_REPLICAS_MAX);
    p->ticked = p->beat_at = now;
    p->fit = p->held = true;
    peers_decide(p, now);
    return p;
}

void
peers_free(struct peers **pp)
{
    free(*pp);
    *pp = NULL;
}

const struct peers_stats *
peers_stats(const struct peers *p)
{
    return &p->stats;
}

/* --- members ------------------------------------------------------------------------------------
 */

static int
cmp_id(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

unsigned
peers_choose(uint64_t self, uint64_t *ids, unsigned n)
{
    if (n <= PEERS_MEMBERS_MAX)
        return n;
    qsort(ids, n, sizeof(*ids), cmp_id);
    return self < ids[PEERS_MEMBERS_MAX] ? PEERS_MEMBERS_MAX : 0;
}

void
peers_set_members(struct peers *p, const uint64_t *ids, unsigned n, mc_ns now)
{
    uint64_t *sorted = mc_alloc((n + 1) * sizeof(*sorted));

    if (n > 0)
        memcpy(sorted, ids, n * sizeof(*sorted));
    qsort(sorted, n, sizeof(*sorted), cmp_id);
    p->n_members = n < PEERS_MEMBERS_MAX ? n : PEERS_MEMBERS_MAX;
    memcpy(p->member, sorted, p->n_members * sizeof(*sorted));
    free(sorted);
    p->urgent = true;
    peers_settle(p, now);
}

static bool
is_member(const struct peers *p, uint64_t id)
{
    for (unsigned i = 0; i < p->n_members; i++)
        if (p->member[i] == id)
            return true;
    return false;
}

void
peers_leave(struct peers *p, mc_ns now)
{
    p->leaving = p->urgent = true;
    peers_settle(p, now);
}

/* --- succession ---------------------------------------------------------------------------------
 */

void
peers_pass(struct peers *p, enum peers_pass pass, mc_ns now)
{
    p->pass = pass;
    p->pass_seq = p->seq;
    p->urgent = true;
    if (pass == PEERS_ALONE)
        peers_drop_all(p);
    peers_settle(p, now);
}

bool
peers_has_passed(const struct peers *p)
{
    return p->pass != PEERS_STAY && p->seq >= p->pass_seq + PASS_BEATS;
}

/* --- lives --------------------------------------------------------------------------------------
 */

struct peer *
peers_find(const struct peers *p, struct life who)
{
    for (unsigned i = 0; i < p->n_peers; i++)
        if (life_eq(p->peer[i].who, who))
            return (struct peer *)&p->peer[i];
    return NULL;
}

bool
peers_is_fresh(const struct peers *p, const struct peer *l, mc_ns now)
{
    return l->alive && now - l->heard < 2 * p->conf.beat_ns + p->conf.beat_ns / 4;
}

bool
peers_is_alive(const struct peers *p, struct life who)
{
    const struct peer *l = peers_find(p, who);

    return l && l->alive;
}

bool
peers_is_leaving(const struct peers *p, struct life who)
{
    const struct peer *l = peers_find(p, who);

    return l && (l->flags & LIFE_LEAVING);
}

static const struct peer *
newest_of(const struct peers *p, uint64_t id)
{
    const struct peer *best = NULL;

    for (unsigned i = 0; i < p->n_peers; i++) {
        const struct peer *l = &p->peer[i];

        if (l->who.id == id && l->alive && (!best || l->heard > best->heard))
            best = l;
    }
    return best;
}

struct life
peers_life(const struct peers *p, uint64_t id)
{
    const struct peer *l = newest_of(p, id);

    return l ? l->who : (struct life){0, 0};
}

/* The dead that can be forgotten best; NULL: there is none. */
static struct peer *
to_forget(struct peers *p)
{
    struct peer *best = NULL;

    for (unsigned i = 0; i < p->n_peers; i++) {
        struct peer *l = &p->peer[i];

        if (l->alive || peers_is_chosen(p, l->who))
            continue;
        if (!best || l->gave < best->gave || (l->gave == best->gave && l->died < best->died))
            best = l;
    }
    return best;
}

static struct peer *
room_for(struct peers *p)
{
    struct peer *l;

    if (p->n_peers < PEERS_LIVES_MAX)
        return &p->peer[p->n_peers++];
    l = to_forget(p);
    if (l)
        p->forgot |= l->gave;
    else
        p->stats.crowded++;
    return l;
}

static struct peer *
meet(struct peers *p, const struct wire_life *e, mc_ns now)
{
    struct peer *l = room_for(p);

    if (!l)
        return NULL;
    *l = (struct peer){
        .who = e->who,
        .met_at = now,
        .died = now,
        .gave = p->forgot && e->seq > STRANGER_BEAT,
    };
    return l;
}

static mc_ns
patience_with(const struct peers *p, const struct peer *l)
{
    bool passing = (l->flags & LIFE_PASSING) && l->n_holders == 0;

    return passing ? PEERS_PASSING_NS : p->conf.dead_ns;
}

/* Lives of the same id that have passed, and were waiting for this one. */
static void
succeed(struct peers *p, struct life who, mc_ns now)
{
    for (unsigned i = 0; i < p->n_peers; i++) {
        struct peer *l = &p->peer[i];

        if (!l->alive || l->who.id != who.id || l->who.boot == who.boot ||
            patience_with(p, l) == p->conf.dead_ns)
            continue;
        l->alive = false;
        l->died = now;
        p->conf.on_life(p->conf.arg, l->who, false);
    }
}

static void
set_alive(struct peers *p, struct peer *l, mc_ns now)
{
    l->heard = l->heard_at = now;
    if (l->alive)
        return;
    l->alive = true;
    p->stats.returns += l->died != 0;
    p->conf.on_life(p->conf.arg, l->who, true);
    succeed(p, l->who, now);
}

static void
find_dead(struct peers *p, mc_ns now)
{
    for (unsigned i = 0; i < p->n_peers; i++) {
        struct peer *l = &p->peer[i];

        if (!l->alive || now - l->heard < patience_with(p, l))
            continue;
        l->alive = false;
        l->died = now;
        p->stats.deaths++;
        p->conf.on_life(p->conf.arg, l->who, false);
    }
}

/* --- what is heard ------------------------------------------------------------------------------
 */

static void
hear_word(struct peer *l, const struct wire_word *w, uint64_t own_seq)
{
    if (w->seq <= l->word.seq || w->echo > own_seq)
        return;
    l->word = *w;
    l->owes |= w->taken && w->seq > l->word_least;
}

/* Somebody knows of this beat of that life.  That it lives is known when it goes on to beat, as far
 * as we can tell. */
static void
hear_life(struct peers *p, const struct wire_life *e, bool first_hand, mc_ns now)
{
    struct peer *l = peers_find(p, e->who);
    bool met = l;

    if (!is_member(p, e->who.id))
        return;
    if (!l)
        l = meet(p, e, now);
    if (!l || e->seq <= l->seq)
        return;
    l->seq = e->seq;
    l->flags = e->flags & LIFE_RECORD;
    l->n_holders = e->n_holders;
    memcpy(l->holder, e->holder, sizeof(l->holder));
    if (first_hand || (met && !(e->flags & LIFE_DEAD)))
        set_alive(p, l, now);
}

static const struct wire_life *
entry_of(const struct wire_beat *b, struct life who)
{
    for (unsigned i = 0; i < b->n; i++)
        if (life_eq(b->life[i].who, who))
            return &b->life[i];
    return NULL;
}

static void
hear_words(struct peers *p, const struct wire_beat *b, struct peer *from)
{
    const struct wire_life *us = entry_of(b, p->conf.self);
    struct wire_word direct = {.seq = b->life[0].seq};

    if (us) {
        direct.echo = us->seq;
        direct.taken = us->flags & LIFE_TAKEN;
    }
    hear_word(from, &direct, p->seq);
    for (unsigned i = 1; b->to_boot == p->conf.self.boot && i < b->n; i++) {
        struct peer *l = peers_find(p, b->life[i].who);

        if (l && (b->life[i].flags & LIFE_WORD))
            hear_word(l, &b->life[i].word, p->seq);
    }
}

void
peers_hear(struct peers *p, const struct wire_beat *b, mc_ns now)
{
    struct peer *from;

    if (!is_member(p, b->life[0].who.id)) {
        p->stats.strangers++;
        return;
    }
    p->stats.beats_heard++;
    for (unsigned i = 0; i < b->n; i++)
        hear_life(p, &b->life[i], i == 0, now);
    from = peers_find(p, b->life[0].who);
    if (from && b->life[0].seq >= from->direct.life[0].seq) {
        from->direct = *b;
        hear_words(p, b, from);
    }
    peers_settle(p, now);
}

/* --- what is said -------------------------------------------------------------------------------
 */

static struct wire_life
say_self(const struct peers *p)
{
    struct wire_life e = {.who = p->conf.self, .seq = p->seq};

    e.flags = (p->leaving ? LIFE_LEAVING : 0) | (p->fenced ? LIFE_FENCED : 0) |
              (p->alone ? LIFE_ALONE : 0) | (p->pass != PEERS_STAY ? LIFE_PASSING : 0);
    peers_say_holders(p, &e);
    return e;
}

static struct wire_life
say_life(const struct peer *l, struct life to)
{
    const struct wire_life *word = l->direct.n > 0 ? entry_of(&l->direct, to) : NULL;
    struct wire_life e = {.who = l->who, .seq = l->seq, .flags = l->flags};

    e.n_holders = l->n_holders;
    memcpy(e.holder, l->holder, sizeof(e.holder));
    e.flags |= (l->gave ? LIFE_TAKEN : 0) | (l->alive ? 0 : LIFE_DEAD);
    if (word && !life_eq(l->who, to)) {
        e.flags |= LIFE_WORD;
        e.word = (struct wire_word){l->direct.life[0].seq, word->seq, word->flags & LIFE_TAKEN};
    }
    return e;
}

/* Those that live, then those that died lately; the receiver's own lives in any case. */
static unsigned
rank_of(const struct peers *p, const struct peer *l, uint64_t to, mc_ns now)
{
    if (l->who.id == to && (l->alive || l->gave))
        return 0;
    if (l->alive)
        return 1;
    return now - l->died < TELL_DEAD_NS ? 2 : 3;
}

static void
say_beat(struct peers *p, uint64_t to, struct wire_beat *b, mc_ns now)
{
    struct life life = peers_life(p, to);

    b->to_boot = life.boot;
    b->n = 1;
    b->life[0] = say_self(p);
    for (unsigned rank = 0; rank < 3; rank++)
        for (unsigned i = 0; i < p->n_peers && b->n < WIRE_LIVES_MAX; i++)
            if (rank_of(p, &p->peer[i], to, now) == rank)
                b->life[b->n++] = say_life(&p->peer[i], life);
}

static void
send_beats(struct peers *p, mc_ns now)
{
    struct wire_beat b;

    p->seq++;
    p->sent_at[p->seq % PEERS_SENT_MAX] = now;
    p->beat_at = now + p->conf.beat_ns;
    p->urgent = false;
    for (unsigned i = 0; i < p->n_members; i++) {
        say_beat(p, p->member[i], &b, now);
        p->conf.send(p->conf.arg, p->member[i], &b);
        p->stats.beats_sent++;
    }
}

/* --- time ---------------------------------------------------------------------------------------
 */

/* Says what cannot wait. */
static void
flush(struct peers *p, mc_ns now)
{
    if (p->urgent && now >= p->sent_at[p->seq % PEERS_SENT_MAX] + URGENT_NS)
        send_beats(p, now);
}

void
peers_settle(struct peers *p, mc_ns now)
{
    peers_decide(p, now);
    flush(p, now);
}

/* The time that we overslept is nobody's silence. */
static void
wake(struct peers *p, mc_ns now)
{
    mc_ns late = now - p->ticked - p->conf.beat_ns;

    p->ticked = now;
    if (late <= p->conf.beat_ns / 4)
        return;
    if (late > p->conf.beat_ns) {
        p->stats.slept++;
        peers_unsteady(p, now);
    }
    for (unsigned i = 0; i < p->n_peers; i++) {
        struct peer *l = &p->peer[i];

        l->heard = l->heard + late < now ? l->heard + late : now;
    }
}

mc_ns
peers_tick(struct peers *p, mc_ns now)
{
    mc_ns ends;

    wake(p, now);
    find_dead(p, now);
    peers_decide(p, now);
    peers_ask(p, now);
    if (now >= p->beat_at)
        send_beats(p, now);
    flush(p, now);
    ends = p->lease - p->conf.margin_ns;
    /* before a grant runs out it is looked at whose it is */
    return ends > now && ends < p->beat_at ? ends : p->beat_at;
}

/* --- holding for others -------------------------------------------------------------------------
 */

enum owner_word
peers_owner(const struct peers *p, struct life owner, uint32_t epoch)
{
    const struct peer *l = peers_find(p, owner);

    if (life_eq(owner, p->conf.self))
        return OWNER_ALIVE;
    if (!l)
        return OWNER_STALE;
    /* Without a lease of our own, or as long as it is not clear whether all others are silent or we
     * are cut off, we give nothing away: that is what our own flag FENCED promises to those that
     * let us go for it. */
    if ((l->alive && !(l->flags & LIFE_FENCED)) || !p->held || (p->alone && p->n_choices > 0))
        return OWNER_ALIVE;
    for (unsigned i = 0; i < l->n_holders; i++)
        if (l->holder[i].id == p->conf.self.id && l->holder[i].epoch == epoch)
            return OWNER_DEAD;
    return OWNER_STALE;
}

bool
peers_is_first(const struct peers *p, struct life owner)
{
    const struct peer *l = peers_find(p, owner);

    for (unsigned i = 0; l && i < l->n_holders && l->holder[i].id != p->conf.self.id; i++)
        if (newest_of(p, l->holder[i].id))
            return false;
    return true;
}

void
peers_gave(struct peers *p, struct life owner, mc_ns now)
{
    struct peer *l = peers_find(p, owner);

    if (!l || l->gave)
        return;
    l->gave = p->urgent = true;
    flush(p, now);
}

uint64_t
peers_asked(struct peers *p, struct life who, mc_ns now)
{
    struct peer *l = peers_find(p, who);

    if (l) {
        l->gave = false;
        set_alive(p, l, now);
        p->urgent = true;
    }
    return p->seq;
}
