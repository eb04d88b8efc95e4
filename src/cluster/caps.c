/* SPDX-License-Identifier: BSD-2-Clause
 *
 * caps.c - shares of cluster-wide limits, see caps.h.
 */
#include "cluster/caps.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/among.h"
#include "base/check.h"
#include "base/pack.h"

#define CAPS_MAGIC  0x43617073u
#define OTHERS_MAX  (CAPS_MEMBERS_MAX - 1)
#define DEMAND_ONE  1000 /* demand is told in thousandths of a unit */
#define DEMAND_MAX  ((uint64_t)CAPS_UNITS_MAX * DEMAND_ONE)
#define DEMAND_STEP 8      /* a change by 1/8 is told at once, a smaller one ... */
#define DEMAND_SLOW MC_SEC /* ... after so long */
/* Words are numbered from the time of the start: more than are told in a millisecond, and in a
 * life. */
#define SEQ_MS      (1ull << 20)
#define SEQ_LIFE    (1ull << 40)

/* What another member said of a limit. */
struct heard {
    uint64_t seq; /* 0: nothing yet */
    uint64_t demand;
    uint64_t since; /* its claim's: what we confirm */
    uint64_t acked; /* of our claims it confirms those up to this */
    uint32_t claim;
};

struct other {
    uint64_t id;
    bool gone;
    mc_ns gone_ns, met_ns; /* since when */
};

struct limit {
    uint64_t key;
    uint32_t units; /* 0: dropped */
    uint32_t share, claim;
    uint64_t since; /* number of the word that raised the claim to what it is */
    double demand;  /* smoothed */
    mc_ns demand_ns, set_ns;
    uint64_t told_demand; /* what all divide by, we too */
    mc_ns told_ns;
    bool news; /* something is to be told */
    struct heard heard[OTHERS_MAX];
};

struct caps {
    unsigned magic;
    struct caps_conf conf;
    struct caps_counters counters;
    struct other other[OTHERS_MAX];
    unsigned n_others;
    bool settled; /* we know who the members are */
    bool fallen;  /* to an even share */
    struct limit *limit;
    uint64_t *key; /* [n_limits] theirs side by side: limits are large, and looked for often */
    unsigned n_limits, n_dropped;
    uint64_t seq;
};

/* --- the division -------------------------------------------------------------------------------
 */

/* The index with the greatest remainder, the first of equals. */
static unsigned
greatest(const uint64_t *rest, unsigned n)
{
    unsigned at = 0;

    for (unsigned i = 1; i < n; i++)
        if (rest[i] > rest[at])
            at = i;
    return at;
}

void
caps_divide(uint32_t units, unsigned n, const uint64_t *demand, uint32_t *share)
{
    uint32_t floor_units = units / n / CAPS_FLOOR, left;
    uint64_t sum = 0, rest[CAPS_MEMBERS_MAX];

    MC_ASSERT(n > 0 && n <= CAPS_MEMBERS_MAX);
    if (floor_units == 0)
        floor_units = 1;
    left = units > n * floor_units ? units - n * floor_units : 0;
    for (unsigned i = 0; i < n; i++)
        sum += demand[i];
    for (unsigned i = 0, spread = left; i < n; i++) {
        /* without any demand all want the same */
        unsigned __int128 part = (unsigned __int128)spread * (sum ? demand[i] : 1);
        uint64_t of = sum ? sum : n;

        share[i] = floor_units + (uint32_t)(part / of);
        rest[i] = (uint64_t)(part % of);
        left -= (uint32_t)(part / of);
    }
    for (; left > 0; left--) { /* fewer than n */
        unsigned i = greatest(rest, n);

        share[i]++;
        rest[i] = 0;
    }
}

/* Does it count as having a share?  Who has not told of a limit for long does not know it. */
static bool
counts(const struct caps *c, const struct limit *l, unsigned i, mc_ns now)
{
    mc_ns known = c->other[i].met_ns > l->set_ns ? c->other[i].met_ns : l->set_ns;

    return l->heard[i].seq != 0 || now - known < c->conf.hold_ns;
}

/* Our part of the division as far as we know what there is to divide. */
static uint32_t
our_part(const struct caps *c, const struct limit *l)
{
    uint64_t demand[CAPS_MEMBERS_MAX];
    uint32_t share[CAPS_MEMBERS_MAX];
    unsigned n = 0, us = 0;

    if (!c->settled)
        return 1;
    /* others stand in the order of their ids, we among them */
    while (us < c->n_others && c->other[us].id < c->conf.id)
        us++;
    for (unsigned i = 0; i <= c->n_others; i++) {
        if (i == us)
            demand[n++] = l->told_demand;
        if (i < c->n_others)
            demand[n++] = l->heard[i].demand;
    }
    caps_divide(l->units, n, demand, share);
    if (c->fallen && share[us] > l->units / n)
        return l->units / n > 0 ? l->units / n : 1;
    return share[us];
}

/* What the claims of all others leave. */
static uint32_t
room_left(const struct caps *c, const struct limit *l, mc_ns now)
{
    uint64_t claimed = 0;

    for (unsigned i = 0; i < c->n_others; i++) {
        if (l->heard[i].seq != 0)
            claimed += l->heard[i].claim;
        else if (counts(c, l, i, now))
            return 0; /* it may have anything */
    }
    return claimed < l->units ? l->units - (uint32_t)claimed : 0;
}

static bool
all_confirm(const struct caps *c, const struct limit *l, mc_ns now)
{
    for (unsigned i = 0; i < c->n_others; i++)
        if (counts(c, l, i, now) && l->heard[i].acked < l->since)
            return false;
    return true;
}

static uint32_t
at_most(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static void
lower(struct caps *c, struct limit *l, uint32_t part)
{
    if (l->claim <= part)
        return;
    c->counters.lowered += l->share > part;
    l->claim = part;
    l->share = at_most(l->share, part);
    l->news = true;
}

/* Moves share and claim as far as the rules let them. */
static void
settle(struct caps *c, struct limit *l, mc_ns now)
{
    uint32_t part, room;

    if (l->units == 0)
        return;
    part = our_part(c, l);
    lower(c, l, part);
    room = room_left(c, l, now);
    if (at_most(part, room) > l->claim) {
        l->claim = at_most(part, room);
        l->since = ++c->seq;
        l->news = true;
    }
    if (at_most(l->claim, room) > l->share && all_confirm(c, l, now)) {
        l->share = at_most(l->claim, room);
        c->counters.raised++;
    }
}

static void
settle_all(struct caps *c, mc_ns now)
{
    for (unsigned i = 0; i < c->n_limits; i++)
        settle(c, &c->limit[i], now);
}

/* --- limits -------------------------------------------------------------------------------------
 */

static struct limit *
find_limit(struct caps *c, uint64_t key)
{
    for (unsigned i = 0; i < c->n_limits; i++)
        if (c->key[i] == key && c->limit[i].units != 0)
            return &c->limit[i];
    return NULL;
}

static struct limit *
new_limit(struct caps *c)
{
    for (unsigned i = 0; i < c->n_limits && c->n_dropped > 0; i++) {
        if (c->limit[i].units != 0)
            continue;
        c->n_dropped--;
        return &c->limit[i];
    }
    c->limit = mc_realloc(c->limit, (c->n_limits + 1) * sizeof(*c->limit));
    c->key = mc_realloc(c->key, (c->n_limits + 1) * sizeof(*c->key));
    return &c->limit[c->n_limits++];
}

unsigned
caps_set_limit(struct caps *c, uint64_t key, uint32_t units, mc_ns now)
{
    struct limit *l = find_limit(c, key);

    MC_CHECK(c, CAPS_MAGIC);
    MC_ASSERT(units > 0 && units <= CAPS_UNITS_MAX);
    if (!l) {
        l = new_limit(c);
        *l = (struct limit){
            .key = key, .share = 1, .claim = 1, .since = ++c->seq, .set_ns = now, .news = true};
        l->demand_ns = now;
        c->key[l - c->limit] = key;
    }
    l->units = units;
    settle(c, l, now);
    return (unsigned)(l - c->limit);
}

void
caps_drop_limit(struct caps *c, uint64_t key)
{
    struct limit *l = find_limit(c, key);

    if (l == NULL)
        return;
    l->units = 0;
    c->n_dropped++;
}

void
caps_demand(struct caps *c, unsigned limit, double units, mc_ns now)
{
    struct limit *l;
    double keep;

    MC_ASSERT(limit < c->n_limits && units >= 0);
    l = &c->limit[limit];
    keep = exp(-(double)(now - l->demand_ns) / (double)c->conf.smooth_ns);
    l->demand = l->demand * keep + units * (1 - keep);
    l->demand_ns = now;
}

uint32_t
caps_share(const struct caps *c, unsigned limit)
{
    MC_ASSERT(limit < c->n_limits);
    return c->limit[limit].share;
}

/* --- members ------------------------------------------------------------------------------------
 */

static unsigned
find_other(const struct caps *c, uint64_t id)
{
    unsigned i = 0;

    while (i < c->n_others && c->other[i].id != id)
        i++;
    return i;
}

static void
add_other(struct caps *c, uint64_t id, mc_ns now)
{
    unsigned at = 0;

    if (c->n_others == OTHERS_MAX || id == c->conf.id)
        return;
    while (at < c->n_others && c->other[at].id < id)
        at++;
    memmove(&c->other[at + 1], &c->other[at], (c->n_others - at) * sizeof(c->other[0]));
    c->other[at] = (struct other){.id = id, .met_ns = now};
    for (unsigned i = 0; i < c->n_limits; i++) {
        struct heard *h = c->limit[i].heard;

        memmove(&h[at + 1], &h[at], (c->n_others - at) * sizeof(*h));
        h[at] = (struct heard){0};
        c->limit[i].news = true;
    }
    c->n_others++;
}

static void
remove_other(struct caps *c, unsigned at)
{
    c->n_others--;
    memmove(&c->other[at], &c->other[at + 1], (c->n_others - at) * sizeof(c->other[0]));
    for (unsigned i = 0; i < c->n_limits; i++) {
        struct heard *h = c->limit[i].heard;

        memmove(&h[at], &h[at + 1], (c->n_others - at) * sizeof(*h));
    }
}

/* Claims that wait for confirmation are taken back: who is gone confirmed them knowing what then
 * was, and others may take over its share before it hears again. */
static void
set_gone(struct caps *c, struct other *o, mc_ns now)
{
    o->gone = true;
    o->gone_ns = now;
    for (unsigned i = 0; i < c->n_limits; i++)
        c->limit[i].claim = at_most(c->limit[i].claim, c->limit[i].share);
}

/* True: something is different for the shares. */
static bool
judge_gone(struct caps *c, mc_ns now)
{
    unsigned n_gone = 0;
    bool majority, fallen = false, changed = false;

    for (unsigned i = 0; i < c->n_others; i++)
        n_gone += c->other[i].gone;
    majority = 2 * n_gone < c->n_others + 1;
    for (unsigned i = c->n_others; i-- > 0;) {
        mc_ns gone_ns = c->other[i].gone ? now - c->other[i].gone_ns : 0;

        if (!c->other[i].gone)
            continue;
        if (gone_ns >= (majority ? c->conf.hold_ns : c->conf.lone_ns)) {
            remove_other(c, i);
            c->counters.taken_over++;
            changed = true;
        } else if (!majority && gone_ns >= c->conf.hold_ns / 2) {
            fallen = true;
        }
    }
    c->counters.fallbacks += fallen && !c->fallen;
    changed |= fallen != c->fallen;
    c->fallen = fallen;
    return changed;
}

void
caps_set_members(struct caps *c, const uint64_t *ids, unsigned n, mc_ns now)
{
    MC_CHECK(c, CAPS_MAGIC);
    c->settled = true;
    for (unsigned i = 0; i < c->n_others; i++) {
        bool there = is_among(c->other[i].id, ids, n);

        if (!there && !c->other[i].gone)
            set_gone(c, &c->other[i], now);
        c->other[i].gone = !there;
    }
    for (unsigned i = 0; i < n; i++)
        if (find_other(c, ids[i]) == c->n_others)
            add_other(c, ids[i], now);
    judge_gone(c, now);
    settle_all(c, now);
}

void
caps_member_left(struct caps *c, uint64_t id, mc_ns now)
{
    unsigned at = find_other(c, id);

    if (at == c->n_others)
        return;
    remove_other(c, at);
    judge_gone(c, now);
    settle_all(c, now);
}

/* --- words --------------------------------------------------------------------------------------
 */

static void
tell(struct caps *c, struct limit *l, mc_ns now)
{
    uint8_t room[CAPS_WORD_MAX];
    struct pack_out o = {.p = room, .cap = sizeof(room)};

    pack_u8(&o, CAPS_FORMAT);
    pack_u64(&o, l->key);
    pack_u64(&o, ++c->seq);
    pack_varint(&o, l->told_demand);
    pack_varint(&o, l->claim);
    pack_u64(&o, l->since);
    pack_u8(&o, (uint8_t)c->n_others);
    for (unsigned i = 0; i < c->n_others; i++) {
        pack_u64(&o, c->other[i].id);
        pack_u64(&o, l->heard[i].since);
    }
    MC_ASSERT(!o.bad);
    l->news = false;
    l->told_ns = now;
    c->counters.told++;
    c->conf.tell(c->conf.arg, l->key, room, o.n);
}

static void
look_at_demand(struct limit *l, mc_ns now)
{
    double thousandths = fmin(l->demand * DEMAND_ONE, (double)DEMAND_MAX);
    uint64_t demand = (uint64_t)(thousandths + 0.5);
    uint64_t differs = demand > l->told_demand ? demand - l->told_demand : l->told_demand - demand;

    if (differs > l->told_demand / DEMAND_STEP ||
        (differs > 0 && now - l->told_ns >= DEMAND_SLOW)) {
        l->told_demand = demand;
        l->news = true;
    }
}

mc_ns
caps_tick(struct caps *c, mc_ns now)
{
    MC_CHECK(c, CAPS_MAGIC);
    judge_gone(c, now);
    for (unsigned i = 0; i < c->n_limits; i++) {
        struct limit *l = &c->limit[i];

        if (l->units == 0 || (l->told_ns != 0 && now - l->told_ns < c->conf.exchange_ns))
            continue;
        look_at_demand(l, now);
        settle(c, l, now);
        if (l->news)
            tell(c, l, now);
    }
    return now + c->conf.exchange_ns;
}

struct word {
    uint64_t key, seq, demand, claim, since, ack; /* ack: of us, 0: none */
};

static bool
read_word(const struct caps *c, struct pack_in *in, struct word *w)
{
    unsigned format = unpack_u8(in), n;

    *w = (struct word){.key = unpack_u64(in)};
    w->seq = unpack_u64(in);
    w->demand = unpack_varint(in);
    w->claim = unpack_varint(in);
    w->since = unpack_u64(in);
    n = unpack_u8(in);
    for (unsigned i = 0; i < n && !in->bad; i++) {
        uint64_t id = unpack_u64(in), since = unpack_u64(in);

        if (id == c->conf.id)
            w->ack = since;
    }
    return !in->bad && format == CAPS_FORMAT && w->seq != 0 && w->since <= w->seq &&
           w->claim <= CAPS_UNITS_MAX && w->demand <= DEMAND_MAX;
}

static void
take_word(struct limit *l, struct heard *h, const struct word *w)
{
    l->news |= w->since > h->since; /* it waits to hear that we heard */
    h->seq = w->seq;
    h->demand = w->demand;
    h->claim = (uint32_t)w->claim;
    h->since = w->since;
    h->acked = w->ack;
}

/* Confirmed is what we have not said: we did before a restart, by a clock that was ahead of ours.
 * What we say is older than that to all who heard it, so we go on behind it. */
static void
follow_ourselves(struct caps *c, struct word *w)
{
    uint64_t ours = w->ack;

    if (ours <= c->seq)
        return;
    w->ack = 0;
    if (ours > UINT64_MAX / 2)
        return;
    c->seq = ours + SEQ_LIFE;
    c->counters.overtaken++;
    for (unsigned i = 0; i < c->n_limits; i++) {
        c->limit[i].since = ++c->seq;
        c->limit[i].news = true;
    }
}

void
caps_hear(struct caps *c, uint64_t member, const void *bytes, size_t n, mc_ns now)
{
    struct pack_in in = {.p = bytes, .n = n};
    unsigned at = find_other(c, member);
    struct limit *l;
    struct word w;

    MC_CHECK(c, CAPS_MAGIC);
    if (!read_word(c, &in, &w)) {
        c->counters.malformed++;
        return;
    }
    l = find_limit(c, w.key);
    if (!l || at == c->n_others || c->other[at].gone) {
        c->counters.strangers++;
        return;
    }
    if (w.seq <= l->heard[at].seq) {
        c->counters.stale++;
        return;
    }
    c->counters.heard++;
    follow_ourselves(c, &w);
    take_word(l, &l->heard[at], &w);
    settle(c, l, now);
}

/* --- life ---------------------------------------------------------------------------------------
 */

struct caps *
caps_new(const struct caps_conf *conf, mc_ns now)
{
    struct caps *c = mc_alloc(sizeof(*c));

    (void)now;
    MC_ASSERT(conf->id != 0 && conf->tell);
    c->magic = CAPS_MAGIC;
    c->conf = *conf;
    c->seq = conf->boot_ms * SEQ_MS;
#define DEFAULT(field, value) c->conf.field = c->conf.field ? c->conf.field : (value)
    DEFAULT(exchange_ns, 100 * MC_MS);
    DEFAULT(smooth_ns, MC_SEC);
    DEFAULT(hold_ns, 10 * MC_SEC);
    DEFAULT(lone_ns, 60 * MC_SEC);
#undef DEFAULT
    return c;
}

void
caps_free(struct caps **cp)
{
    struct caps *c = *cp;

    if (!c)
        return;
    MC_CHECK(c, CAPS_MAGIC);
    free(c->limit);
    free(c->key);
    c->magic = 0;
    free(c);
    *cp = NULL;
}

const struct caps_counters *
caps_counters(const struct caps *c)
{
    return &c->counters;
}
