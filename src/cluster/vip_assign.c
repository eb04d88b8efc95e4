/* SPDX-License-Identifier: BSD-2-Clause
 *
 * vip_assign.c - see vip_assign.h.
 */
#include "cluster/vip_assign.h"

#include <stdlib.h>

#include "base/among.h"
#include "base/check.h"
#include "base/pack.h"
#include "base/str.h"

/* A member that was started is quiet until it has heard the others, or there seem to be none. */
#define QUIET_ALONE_NS  (3 * MC_SEC)
#define QUIET_JOINED_NS (1 * MC_SEC)
/* Between wanting an address that nobody has and taking it: two who want it hear of each other in
 * this time (facts are told within 10 ms), and agree on one of them; and who has it still answers.
 */
#define ASK_NS          VIP_ASSIGN_ASK_NS
/* Announcements of who carries the address come once a second. */
#define YIELD_NS        (3 * MC_SEC)
#define PEERS_MAX       256

struct peer {
    uint64_t id;
    bool live, lost;
    enum vip_claim claim;
    enum vip_rank rank;
};

struct vip_assign {
    struct vip_assign_conf conf;
    enum vip_claim claim;
    enum vip_rank level, rank;
    mc_ns fit_ns;         /* since when the level is FIT */
    mc_ns quiet_until_ns; /* not taking part */
    mc_ns asked_ns;       /* since when it is wanted */
    mc_ns yield_until_ns; /* to one that the membership does not see */
    mc_ns answered_ns;    /* by such a one that he has it */
    uint64_t owner;
    struct peer peers[PEERS_MAX];
    unsigned n_peers;
    bool joined;
};

struct vip_assign *
vip_assign_new(const struct vip_assign_conf *conf, mc_ns now)
{
    struct vip_assign *v = mc_alloc(sizeof(*v));

    MC_ASSERT(conf->id != 0);
    *v = (struct vip_assign){
        .conf = *conf,
        .claim = VIP_FREE,
        .quiet_until_ns = now + QUIET_ALONE_NS,
        .answered_ns = now - ASK_NS,
    };
    return v;
}

void
vip_assign_free(struct vip_assign **vp)
{
    free(*vp);
    *vp = NULL;
}

/* --- what is heard -----------------------------------------------------------------------------
 */

/* NULL: there are too many members. */
static struct peer *
peer_of(struct vip_assign *v, uint64_t id)
{
    for (unsigned i = 0; i < v->n_peers; i++)
        if (v->peers[i].id == id)
            return &v->peers[i];
    if (v->n_peers == PEERS_MAX)
        return NULL;
    v->peers[v->n_peers] = (struct peer){.id = id, .claim = VIP_NONE};
    return &v->peers[v->n_peers++];
}

/* What the dead said counts no more; they say it again when they are back. */
static void
forget_dead(struct vip_assign *v)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < v->n_peers; i++)
        if (v->peers[i].live)
            v->peers[kept++] = v->peers[i];
    v->n_peers = kept;
}

void
vip_assign_members(struct vip_assign *v, const uint64_t *ids, unsigned n, mc_ns now)
{
    for (unsigned i = 0; i < v->n_peers; i++) {
        struct peer *p = &v->peers[i];
        bool live = is_among(p->id, ids, n);

        p->lost &= p->live; /* who was dead is another one: that is not said of him */
        p->live = live;
    }
    forget_dead(v);
    for (unsigned i = 0; i < n; i++) {
        struct peer *p = peer_of(v, ids[i]);

        if (p != NULL)
            p->live = true;
    }
    if (n > 0 && !v->joined && v->quiet_until_ns > now + QUIET_JOINED_NS)
        v->quiet_until_ns = now + QUIET_JOINED_NS;
    v->joined |= n > 0;
}

void
vip_assign_lost(struct vip_assign *v, uint64_t id, bool lost)
{
    struct peer *p = peer_of(v, id);

    if (p != NULL)
        p->lost = lost;
}

void
vip_assign_hear(struct vip_assign *v, uint64_t id, unsigned claim, unsigned rank)
{
    struct peer *p = peer_of(v, id);
    bool known = claim < VIP_N_CLAIMS && rank < VIP_N_RANKS;

    if (p == NULL)
        return;
    p->claim = known ? (enum vip_claim)claim : VIP_NONE;
    p->rank = known ? (enum vip_rank)rank : VIP_RANK_NEVER;
}

void
vip_assign_set_level(struct vip_assign *v, enum vip_rank level, mc_ns now)
{
    MC_ASSERT(level != VIP_RANK_NEW && level < VIP_N_RANKS);
    if (level == VIP_RANK_FIT && v->level != VIP_RANK_FIT)
        v->fit_ns = now;
    v->level = level;
}

void
vip_assign_slept(struct vip_assign *v, mc_ns now)
{
    v->quiet_until_ns = now + QUIET_JOINED_NS;
    v->fit_ns = now;
    v->claim = VIP_FREE;
}

void
vip_assign_inherit(struct vip_assign *v, mc_ns now)
{
    v->quiet_until_ns = now;
    v->claim = VIP_HOLD;
}

static uint64_t
score(const struct vip_assign *v, uint64_t id)
{
    uint8_t bytes[16];
    struct pack_out o = {.p = bytes, .cap = sizeof(bytes)};

    pack_u64(&o, v->conf.key);
    pack_u64(&o, id);
    return str_hash((struct str){(const char *)bytes, o.n}, 0);
}

/* Does a stand above b, with the same rank? */
static bool
scores_above(const struct vip_assign *v, uint64_t a, uint64_t b)
{
    uint64_t sa = score(v, a), sb = score(v, b);

    return sa != sb ? sa > sb : a > b;
}

/* Between those who see each other claims decide. */
static bool
is_seen(const struct vip_assign *v, uint64_t id)
{
    for (unsigned i = 0; i < v->n_peers; i++)
        if (v->peers[i].id == id)
            return v->peers[i].live && !v->peers[i].lost;
    return false;
}

void
vip_assign_conflict(struct vip_assign *v, uint64_t id, mc_ns now)
{
    if (is_seen(v, id))
        return;
    if (id != v->conf.id && scores_above(v, id, v->conf.id))
        v->yield_until_ns = now + YIELD_NS;
}

void
vip_assign_answered(struct vip_assign *v, uint64_t id, mc_ns now)
{
    if (id != v->conf.id && !is_seen(v, id))
        v->answered_ns = now;
}

/* --- deciding ----------------------------------------------------------------------------------
 */

static enum vip_rank
own_rank(const struct vip_assign *v, mc_ns now)
{
    if (now < v->quiet_until_ns || now < v->yield_until_ns)
        return VIP_RANK_NEVER;
    if (v->level != VIP_RANK_FIT)
        return v->level;
    if (v->claim == VIP_HOLD || now - v->fit_ns >= v->conf.return_after_ns)
        return VIP_RANK_FIT;
    return VIP_RANK_NEW;
}

static bool
takes_part(const struct peer *p)
{
    return p->live && !p->lost && p->claim != VIP_NONE;
}

/* NULL: this member. */
static const struct peer *
best(const struct vip_assign *v)
{
    const struct peer *best = NULL;
    enum vip_rank rank = v->rank;

    for (unsigned i = 0; i < v->n_peers; i++) {
        const struct peer *p = &v->peers[i];

        if (!takes_part(p) || p->rank < rank)
            continue;
        if (p->rank == rank && !scores_above(v, p->id, best != NULL ? best->id : v->conf.id))
            continue;
        best = p;
        rank = p->rank;
    }
    return best;
}

static bool
another_holds(const struct vip_assign *v)
{
    for (unsigned i = 0; i < v->n_peers; i++)
        if (takes_part(&v->peers[i]) && v->peers[i].claim == VIP_HOLD)
            return true;
    return false;
}

/* This member is the owner. */
static void
acquire(struct vip_assign *v, mc_ns now)
{
    if (v->claim == VIP_HOLD)
        return;
    if (v->claim != VIP_WANT) {
        v->claim = VIP_WANT;
        v->asked_ns = now;
    }
    if (!another_holds(v) && now - v->asked_ns >= ASK_NS && now - v->answered_ns >= ASK_NS)
        v->claim = VIP_HOLD;
}

/* Another one is: it gets the address when it asks for it, so that nobody lets go of what nobody
 * takes. */
static void
release(struct vip_assign *v, const struct peer *owner)
{
    if (v->claim != VIP_HOLD || owner->claim == VIP_WANT || owner->claim == VIP_HOLD)
        v->claim = VIP_FREE;
}

static void
earlier(mc_ns *due, mc_ns at, mc_ns now)
{
    if (at > now && at < *due)
        *due = at;
}

static mc_ns
next_tick(const struct vip_assign *v, mc_ns now)
{
    mc_ns due = MC_NEVER_NS;

    earlier(&due, v->quiet_until_ns, now);
    earlier(&due, v->yield_until_ns, now);
    if (v->level == VIP_RANK_FIT)
        earlier(&due, v->fit_ns + v->conf.return_after_ns, now);
    if (v->claim == VIP_WANT) {
        earlier(&due, v->asked_ns + ASK_NS, now);
        earlier(&due, v->answered_ns + ASK_NS, now);
    }
    return due;
}

mc_ns
vip_assign_tick(struct vip_assign *v, mc_ns now)
{
    const struct peer *other;

    v->rank = own_rank(v, now);
    other = best(v);
    v->owner = other != NULL ? other->id : v->rank != VIP_RANK_NEVER ? v->conf.id : 0;
    if (v->rank == VIP_RANK_NEVER)
        v->claim = VIP_FREE;
    else if (other == NULL)
        acquire(v, now);
    else
        release(v, other);
    v->rank = own_rank(v, now); /* who has just got it is FIT for it */
    return next_tick(v, now);
}

/* --- asking ------------------------------------------------------------------------------------
 */

enum vip_claim
vip_assign_claim(const struct vip_assign *v)
{
    return v->claim;
}

enum vip_rank
vip_assign_rank(const struct vip_assign *v)
{
    return v->rank;
}

uint64_t
vip_assign_owner(const struct vip_assign *v)
{
    return v->owner;
}

const char *
vip_rank_text(enum vip_rank r)
{
    static const char *const texts[] = {
#define X(name, text) text,
        VIP_RANKS(X)
#undef X
    };

    return texts[r];
}
