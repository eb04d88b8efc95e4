/* SPDX-License-Identifier: BSD-2-Clause
 *
 * replica_store.c - all flows that are held here, by line and by key; see replica.h.
 *
 * A flow is in two chained hash tables, by its key and by its line's number for it, in the list of
 * its line, and in an array of all, which is there to be walked.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/list.h"
#include "takeover/replica_priv.h"

#define OWNERS_MAX 64 /* lives whose claims are remembered */
#define SLOTS_MIN  256

/* How long nobody may have taken what was handed over before its client is asked to speak.  Most
 * speak by themselves before, and packets are lost. */
static const mc_ns patience_ns[] = {20 * MC_MS, 80 * MC_MS, 300 * MC_MS, 1600 * MC_MS};

#define N_PATIENCE MC_COUNT(patience_ns)

enum { BY_KEY, BY_FLOW, N_TABLES };

struct held {
    struct replica *r;
    struct replica_line *line;
    struct held *chain[N_TABLES];
    uint64_t hash[N_TABLES];
    struct list of_line;
    size_t cost; /* of r, as counted in the store's bytes */
    unsigned at; /* in all[] */
    uint32_t flow;
    uint64_t serial;      /* counts OPENs */
    struct life given_to; /* none: not given away */
    bool taken;           /* who it was given to has it */
    bool refused;         /* its owner was told that it is not kept here */
    struct life
        claimed; /* who says that it took it over, while its owner lives as far as we know */
    mc_ns given_at;
    struct list of_given; /* in the order of given_at */
    mc_ns waits_since;    /* handed over, and not taken */
    unsigned patience;    /* how often its client was asked */
    struct list of_waiting;
};

struct replica_line {
    struct replica_store *s;
    struct list link;  /* of the store's `lines`, or `ended` in the order of ended_at */
    struct list flows; /* held.of_line */
    struct life owner;
    uint64_t serial;
    uint64_t frames;
    uint32_t epoch;
    uint16_t worker;
    bool greeted, synced, ended;
    bool replaced; /* a newer line of the same worker has told all: this one is to end */
    bool lossy;  /* a flow was not kept here, or given away: frames of unknown ones are no fault */
    bool handed; /* some were handed over: what else comes of them may come too late */
    unsigned n_flows;
    uint32_t *refused; /* by the last record */
    unsigned n_refused, cap_refused;
    mc_ns ended_at;
};

/* What was given away of a life's flows. */
struct claims {
    struct life owner;
    struct flow_key *key;
    unsigned n, cap;
    bool lost; /* there were more */
};

struct replica_store {
    struct replica_conf conf;
    struct list lines, ended, given;
    struct list waiting[N_PATIENCE]; /* handed over to us; each in the order of waits_since */
    unsigned n_lines;
    struct held **slot[N_TABLES];
    size_t n_slots; /* a power of two */
    struct held **all;
    unsigned n_all, cap_all;
    uint64_t serial;
    struct claims claims[OWNERS_MAX];
    unsigned n_owners;
    bool owners_lost; /* more lives had claims than are remembered */
    struct replica_stats stats;
};

/* --- the store ----------------------------------------------------------------------------------
 */

static void
set_defaults(struct replica_conf *c)
{
    c->flow_bytes = c->flow_bytes ? c->flow_bytes : (size_t)1280 << 10;
    c->total_bytes = c->total_bytes ? c->total_bytes : (size_t)256 << 20;
    c->flows_max = c->flows_max ? c->flows_max : 262144;
    c->lines_max = c->lines_max ? c->lines_max : 1024;
    c->claims_max = c->claims_max ? c->claims_max : 262144;
    c->keep_ns = c->keep_ns ? c->keep_ns : 60 * MC_SEC;
    c->given_ns = c->given_ns ? c->given_ns : 5 * MC_SEC;
}

struct replica_store *
replica_store_new(const struct replica_conf *conf)
{
    struct replica_store *s = mc_alloc(sizeof(*s));

    s->conf = *conf;
    set_defaults(&s->conf);
    MC_ASSERT(s->conf.owner);
    /* what is kept of a flow must fit into a GIVE, with the frames around it */
    MC_ASSERT(s->conf.flow_bytes <= WIRE_REPLICA_MAX / 2);
    list_init(&s->lines);
    list_init(&s->ended);
    list_init(&s->given);
    for (unsigned i = 0; i < N_PATIENCE; i++)
        list_init(&s->waiting[i]);
    s->n_slots = SLOTS_MIN;
    for (unsigned t = 0; t < N_TABLES; t++)
        s->slot[t] = mc_alloc(s->n_slots * sizeof(struct held *));
    return s;
}

const struct replica_stats *
replica_stats(const struct replica_store *s)
{
    return &s->stats;
}

/* --- tables -------------------------------------------------------------------------------------
 */

static uint64_t
hash_key(const struct replica_store *s, const struct flow_key *key)
{
    return str_hash((struct str){(const char *)key, sizeof(*key)}, s->conf.seed);
}

static uint64_t
hash_flow(const struct replica_line *l, uint32_t flow)
{
    uint64_t name[2] = {l->serial, flow};

    return str_hash((struct str){(const char *)name, sizeof(name)}, l->s->conf.seed);
}

static struct held **
slot_of(const struct replica_store *s, unsigned table, uint64_t hash)
{
    return &s->slot[table][hash & (s->n_slots - 1)];
}

static void
link_table(struct replica_store *s, unsigned table, struct held *h)
{
    struct held **slot = slot_of(s, table, h->hash[table]);

    h->chain[table] = *slot;
    *slot = h;
}

static void
unlink_table(struct replica_store *s, unsigned table, struct held *h)
{
    struct held **at = slot_of(s, table, h->hash[table]);

    while (*at != h)
        at = &(*at)->chain[table];
    *at = h->chain[table];
}

static void
grow_tables(struct replica_store *s)
{
    s->n_slots *= 2;
    for (unsigned t = 0; t < N_TABLES; t++) {
        free(s->slot[t]);
        s->slot[t] = mc_alloc(s->n_slots * sizeof(struct held *));
        for (unsigned i = 0; i < s->n_all; i++)
            link_table(s, t, s->all[i]);
    }
}

static struct held *
find_flow(const struct replica_line *l, uint32_t flow)
{
    uint64_t hash = hash_flow(l, flow);
    struct held *h = *slot_of(l->s, BY_FLOW, hash);

    while (h && (h->line != l || h->flow != flow))
        h = h->chain[BY_FLOW];
    return h;
}

static struct held *
next_of_key(struct held *h, const struct flow_key *key)
{
    while (h && !flow_key_eq(&h->r->key, key))
        h = h->chain[BY_KEY];
    return h;
}

/* --- a flow -------------------------------------------------------------------------------------
 */

/* Counts what it takes now. */
static void
weigh(struct held *h)
{
    struct replica_stats *st = &h->line->s->stats;
    size_t cost = h->r ? sizeof(*h) + replica_cost(h->r) : 0;

    st->bytes = st->bytes - h->cost + cost;
    h->cost = cost;
}

static void
hold(struct replica_line *l, uint32_t flow, struct replica *r)
{
    struct replica_store *s = l->s;
    struct held *h = mc_alloc(sizeof(*h));

    if (s->n_all == s->cap_all) {
        s->cap_all = s->cap_all ? 2 * s->cap_all : SLOTS_MIN;
        s->all = mc_realloc(s->all, s->cap_all * sizeof(*s->all));
    }
    if (s->n_all >= s->n_slots)
        grow_tables(s);
    h->r = r;
    h->line = l;
    h->flow = flow;
    h->serial = ++s->serial;
    h->hash[BY_KEY] = hash_key(s, &r->key);
    h->hash[BY_FLOW] = hash_flow(l, flow);
    for (unsigned t = 0; t < N_TABLES; t++)
        link_table(s, t, h);
    list_push_back(&l->flows, &h->of_line);
    list_init(&h->of_given);
    list_init(&h->of_waiting);
    h->at = s->n_all;
    s->all[s->n_all++] = h;
    l->n_flows++;
    s->stats.flows++;
    weigh(h);
}

/* Somebody has it, or nobody will. */
static void
end_waiting(struct held *h)
{
    if (list_empty(&h->of_waiting))
        return;
    list_remove(&h->of_waiting);
    h->line->s->stats.waiting--;
}

/* Out of the store; returns the replica, whose owner is the caller. */
static struct replica *
unhold(struct held *h)
{
    struct replica_store *s = h->line->s;
    struct replica *r = h->r;

    s->stats.flows--;
    s->stats.bare -= r->bare;
    h->r = NULL;
    weigh(h);
    for (unsigned t = 0; t < N_TABLES; t++)
        unlink_table(s, t, h);
    list_remove(&h->of_line);
    list_remove(&h->of_given);
    end_waiting(h);
    s->all[h->at] = s->all[--s->n_all];
    s->all[h->at]->at = h->at;
    h->line->n_flows--;
    free(h);
    return r;
}

static void
forget(struct held *h)
{
    struct replica *r = unhold(h);

    replica_free(&r);
}

static unsigned
forget_flows(struct replica_line *l)
{
    unsigned n = l->n_flows;

    LIST_FOREACH_SAFE (it, tmp, &l->flows)
        forget(LIST_ENTRY(it, struct held, of_line));
    return n;
}

/* --- lines --------------------------------------------------------------------------------------
 */

struct replica_line *
replica_line_new(struct replica_store *s, mc_ns now)
{
    struct replica_line *l;

    if (s->n_lines >= s->conf.lines_max)
        return NULL;
    l = mc_alloc(sizeof(*l));
    l->s = s;
    l->serial = ++s->serial;
    list_init(&l->flows);
    list_push_back(&s->lines, &l->link);
    s->n_lines++;
    s->stats.lines++;
    return l;
}

static void
line_free(struct replica_line *l)
{
    forget_flows(l);
    list_remove(&l->link);
    l->s->n_lines--;
    free(l->refused);
    free(l);
}

void
replica_line_end(struct replica_line **lp, mc_ns now)
{
    struct replica_line *l = *lp;

    *lp = NULL;
    if (!l)
        return;
    l->s->stats.lines--;
    if (l->n_flows == 0) {
        line_free(l);
        return;
    }
    l->ended = true;
    l->ended_at = now;
    list_remove(&l->link);
    list_push_back(&l->s->ended, &l->link);
}

uint64_t
replica_line_frames(const struct replica_line *l)
{
    return l->frames;
}

/* --- frames -------------------------------------------------------------------------------------
 */

static enum replica_fault
on_hello(struct replica_line *l, const struct wire_frame *f)
{
    if (l->greeted)
        return REPLICA_F_KIND;
    if (f->u.hello.version != WIRE_VERSION)
        return REPLICA_F_VERSION;
    l->greeted = true;
    l->owner = f->u.hello.owner;
    l->worker = f->u.hello.worker;
    l->epoch = f->u.hello.epoch;
    return REPLICA_F_NONE;
}

/* Those that are the owner's; what it handed over, or lost, it will not tell of again. */
static unsigned
forget_own(struct replica_line *l)
{
    unsigned n = 0;

    LIST_FOREACH_SAFE (it, tmp, &l->flows) {
        struct held *h = LIST_ENTRY(it, struct held, of_line);

        if (h->r->handed_over || !life_is_none(h->given_to))
            continue;
        forget(h);
        n++;
    }
    return n;
}

/* What older lines of this worker told is worth nothing any more. */
static void
replace_lines(const struct replica_line *l, struct list *lines)
{
    LIST_FOREACH_SAFE (it, tmp, lines) {
        struct replica_line *old = LIST_ENTRY(it, struct replica_line, link);

        if (old->serial >= l->serial || old->worker != l->worker || !life_eq(old->owner, l->owner))
            continue;
        l->s->stats.superseded += forget_own(old);
        old->replaced = true;
        if (old->ended && old->n_flows == 0)
            line_free(old);
    }
}

static enum replica_fault
on_snapshot(struct replica_line *l, const struct wire_frame *f)
{
    l->synced = true;
    replace_lines(l, &l->s->lines);
    replace_lines(l, &l->s->ended);
    return REPLICA_F_NONE;
}

static void
refuse(struct replica_line *l, uint32_t flow)
{
    if (l->n_refused == l->cap_refused) {
        l->cap_refused = l->cap_refused ? 2 * l->cap_refused : 16;
        l->refused = mc_realloc(l->refused, l->cap_refused * sizeof(*l->refused));
    }
    l->refused[l->n_refused++] = flow;
}

unsigned
replica_line_refused(const struct replica_line *l, const uint32_t **flows)
{
    *flows = l->refused;
    return l->n_refused;
}

static void
on_too_long(struct held *h, uint64_t *counter)
{
    (*counter)++;
    h->refused = true;
    refuse(h->line, h->flow);
    h->line->s->stats.bare++;
    weigh(h);
}

/* All memory is in use: who grew last pays. */
static void
check_total(struct held *h)
{
    struct replica_store *s = h->line->s;

    if (s->stats.bytes <= s->conf.total_bytes || h->r->bare)
        return;
    replica_strip(h->r);
    on_too_long(h, &s->stats.full_total);
}

/* Who took it over from another says that it has it, and may give it up in its turn: that we gave
 * it away is history.  What the loser itself still says changes nothing.  Of what a worker told of
 * it before, under another number, it has dropped all: a key names one flow of a line. */
static void
forget_former(struct replica_line *l, const struct flow_key *key)
{
    struct replica_store *s = l->s;
    struct held *h = next_of_key(*slot_of(s, BY_KEY, hash_key(s, key)), key);

    while (h) {
        struct held *next = next_of_key(h->chain[BY_KEY], key);

        if (life_is_none(h->given_to) && h->line == l) {
            l->lossy = true; /* its end may still be told */
            forget(h);
        } else if (!life_is_none(h->given_to) && !life_eq(h->line->owner, l->owner)) {
            forget(h);
        }
        h = next;
    }
}

static enum replica_fault
on_open(struct replica_line *l, const struct wire_frame *f)
{
    struct replica_store *s = l->s;
    struct held *old = find_flow(l, f->flow);
    struct replica *r;

    if (old)
        forget(old);
    forget_former(l, &f->u.open.key);
    s->stats.opened++;
    if (s->n_all >= s->conf.flows_max || s->stats.bytes >= s->conf.total_bytes) {
        s->stats.full_total++;
        l->lossy = true;
        refuse(l, f->flow);
        return REPLICA_F_NONE;
    }
    r = replica_new(l->owner, l->worker);
    replica_begin(r, &f->u.open);
    hold(l, f->flow, r);
    return REPLICA_F_NONE;
}

static enum replica_fault
on_close(struct replica_line *l, const struct wire_frame *f)
{
    struct held *h = find_flow(l, f->flow);

    if (!h)
        return l->lossy ? REPLICA_F_NONE : REPLICA_F_FLOW;
    if (!life_is_none(h->given_to))
        return REPLICA_F_NONE; /* it is not its any more */
    forget(h);
    l->s->stats.closed++;
    return REPLICA_F_NONE;
}

static enum replica_fault
on_flow(struct replica_line *l, const struct wire_frame *f)
{
    struct held *h = find_flow(l, f->flow);
    struct replica_stats *st = &l->s->stats;
    enum replica_fault fault;
    bool was_bare;

    if (!h)
        return l->lossy || (l->handed && f->kind == WIRE_IN) ? REPLICA_F_NONE : REPLICA_F_FLOW;
    if (!life_is_none(h->given_to))
        return REPLICA_F_NONE;
    was_bare = h->r->bare;
    switch (replica_apply(h->r, f, l->s->conf.flow_bytes, &fault)) {
    case REPLICA_REFUSED: return fault;
    case REPLICA_TOO_LONG: on_too_long(h, &st->full_flow); return REPLICA_F_NONE;
    case REPLICA_KEPT: break;
    }
    st->bared += f->kind == WIRE_BARE && !was_bare;
    st->bare += h->r->bare && !was_bare;
    st->handed_over += f->kind == WIRE_HANDOVER;
    weigh(h);
    check_total(h);
    return REPLICA_F_NONE;
}

static void
begin_waiting(struct held *h, mc_ns now)
{
    struct replica_store *s = h->line->s;

    end_waiting(h);
    h->waits_since = now;
    h->patience = 0;
    list_push_back(&s->waiting[0], &h->of_waiting);
    s->stats.waiting++;
}

/* Two copies that may be given away could be given to two: who is not meant forgets his. */
static enum replica_fault
on_handover(struct replica_line *l, const struct wire_frame *f, mc_ns now)
{
    struct replica_store *s = l->s;
    struct held *h = find_flow(l, f->flow);
    const bool ours = life_eq(f->u.handover.to, s->conf.self);

    l->handed = true;
    if (h && h->refused)
        return REPLICA_F_NONE; /* its owner keeps it when it hears that */
    if (h && life_is_none(h->given_to) && !ours) {
        forget(h);
        s->stats.handed_on++;
        return REPLICA_F_NONE;
    }
    if (h && life_is_none(h->given_to))
        begin_waiting(h, now);
    return on_flow(l, f);
}

static enum replica_fault
read_frame(struct replica_line *l, const struct wire_frame *f, mc_ns now)
{
    if (l->replaced)
        return REPLICA_F_ORDER;
    if (f->kind == WIRE_HELLO)
        return on_hello(l, f);
    if (!l->greeted)
        return REPLICA_F_KIND;
    if (f->kind == WIRE_SNAPSHOT)
        return on_snapshot(l, f);
    if (f->kind == WIRE_OPEN)
        return on_open(l, f);
    if (f->kind == WIRE_CLOSE)
        return on_close(l, f);
    if (f->kind == WIRE_HANDOVER)
        return on_handover(l, f, now);
    if (f->kind > WIRE_OPEN && f->kind < WIRE_HANDOVER)
        return on_flow(l, f);
    return REPLICA_F_KIND;
}

static enum replica_fault
read_frames(struct replica_line *l, struct pack_in *i, mc_ns now)
{
    enum replica_fault fault = REPLICA_F_NONE;
    enum wire_next next = WIRE_FRAME;
    struct wire_frame f;

    while (fault == REPLICA_F_NONE) {
        uint64_t n_unknown = 0;

        next = wire_get(i, &f, &n_unknown);
        l->frames += n_unknown;
        l->s->stats.unknown += n_unknown;
        if (next != WIRE_FRAME)
            break;
        fault = read_frame(l, &f, now);
        l->frames++;
        l->s->stats.frames++;
    }
    return next == WIRE_BAD ? REPLICA_F_BYTES : fault;
}

enum replica_fault
replica_line_read(struct replica_line *l, struct str record, mc_ns now)
{
    struct pack_in i = {.p = (const uint8_t *)record.p, .n = record.n};
    enum replica_fault fault;

    l->n_refused = 0;
    fault = read_frames(l, &i, now);
    l->s->stats.faults += fault != REPLICA_F_NONE;
    return fault;
}

/* --- whose is it --------------------------------------------------------------------------------
 */

static enum owner_word
owner_word(const struct replica_store *s, struct life owner, uint32_t epoch)
{
    return s->conf.owner(s->conf.arg, owner, epoch);
}

/* Of a flow that was given to that life. */
static enum replica_whose
whose_since(const struct replica_store *s, struct life has, bool taken, struct life asker,
            struct life *who)
{
    *who = has;
    if (life_eq(has, asker))
        return taken ? REPLICA_UNKNOWN : REPLICA_FREE;
    /* no line of the taker is asked about: any epoch will do */
    return owner_word(s, has, 0) == OWNER_ALIVE ? REPLICA_ALIVE : REPLICA_UNKNOWN;
}

/* What this entry alone says of its key. */
static enum replica_whose
whose(const struct replica_store *s, const struct held *h, struct life asker, struct life *who)
{
    const struct replica_line *l = h->line;
    enum owner_word word;

    if (!life_is_none(h->given_to))
        return whose_since(s, h->given_to, h->taken, asker, who);
    *who = l->owner;
    if (h->r->handed_over)
        return REPLICA_FREE;
    word = owner_word(s, l->owner, l->epoch);
    if (word == OWNER_ALIVE)
        return REPLICA_ALIVE;
    if (life_eq(l->owner, asker) || h->refused)
        return REPLICA_UNKNOWN;
    if (!life_is_none(h->claimed))
        return whose_since(s, h->claimed, true, asker, who);
    return word == OWNER_DEAD && l->synced ? REPLICA_FREE : REPLICA_UNKNOWN;
}

void
replica_find(struct replica_store *s, const struct flow_key *key, struct life asker,
             struct replica_found *out)
{
    uint64_t newest = 0;

    *out = (struct replica_found){.whose = REPLICA_UNKNOWN};
    for (struct held *h = next_of_key(*slot_of(s, BY_KEY, hash_key(s, key)), key); h;
         h = next_of_key(h->chain[BY_KEY], key)) {
        struct life who;
        enum replica_whose w = whose(s, h, asker, &who);

        /* who serves it now comes before who might; of those, who opened it last */
        if (w == REPLICA_UNKNOWN || (w == REPLICA_FREE && out->whose == REPLICA_ALIVE) ||
            (w == out->whose && h->serial < newest))
            continue;
        newest = h->serial;
        *out = w == REPLICA_FREE ? (struct replica_found){w, h->line->owner, h->r}
                                 : (struct replica_found){w, who, NULL};
    }
}

static struct held *
held_of(const struct replica_store *s, const struct replica *r)
{
    struct held *h = *slot_of(s, BY_KEY, hash_key(s, &r->key));

    while (h && h->r != r)
        h = h->chain[BY_KEY];
    MC_ASSERT(h);
    return h;
}

/* --- claims -------------------------------------------------------------------------------------
 */

static struct claims *
claims_of(const struct replica_store *s, struct life owner)
{
    for (unsigned i = 0; i < s->n_owners; i++)
        if (life_eq(s->claims[i].owner, owner))
            return (struct claims *)&s->claims[i];
    return NULL;
}

static void
lose_claims(struct replica_store *s, struct claims *c)
{
    s->stats.claims -= c->n;
    s->stats.claims_lost += c->n;
    free(c->key);
    *c = (struct claims){.owner = c->owner, .lost = true};
}

static struct claims *
claims_make(struct replica_store *s, struct life owner)
{
    struct claims *c = claims_of(s, owner);

    if (c)
        return c;
    if (s->n_owners == OWNERS_MAX) { /* the longest known is the least likely to come back */
        s->owners_lost = true;
        lose_claims(s, &s->claims[0]);
        memmove(&s->claims[0], &s->claims[1], (OWNERS_MAX - 1) * sizeof(s->claims[0]));
        s->n_owners--;
    }
    c = &s->claims[s->n_owners++];
    *c = (struct claims){.owner = owner};
    return c;
}

static void
claim(struct replica_store *s, struct life owner, const struct flow_key *key)
{
    struct claims *c = claims_make(s, owner);

    if (c->lost)
        return;
    if (s->stats.claims >= s->conf.claims_max) {
        s->stats.claims_lost++;
        lose_claims(s, c);
        return;
    }
    if (c->n == c->cap) {
        c->cap = c->cap ? 2 * c->cap : 64;
        c->key = mc_realloc(c->key, c->cap * sizeof(*c->key));
    }
    c->key[c->n++] = *key;
    s->stats.claims++;
}

unsigned
replica_claims(const struct replica_store *s, struct life owner, size_t *at, struct flow_key *out,
               unsigned max)
{
    const struct claims *c = claims_of(s, owner);
    unsigned n = 0;

    while (c && *at < c->n && n < max)
        out[n++] = c->key[(*at)++];
    return n;
}

bool
replica_claims_lost(const struct replica_store *s, struct life owner)
{
    const struct claims *c = claims_of(s, owner);

    return c ? c->lost : s->owners_lost;
}

void
replica_claims_forget(struct replica_store *s, struct life owner)
{
    struct claims *c = claims_of(s, owner);

    if (!c)
        return;
    s->stats.claims -= c->n;
    free(c->key);
    s->n_owners--;
    memmove(c, c + 1, (size_t)(&s->claims[s->n_owners] - c) * sizeof(*c));
}

/* --- given away ---------------------------------------------------------------------------------
 */

/* Who hands a flow over has dropped it, and need not be told.  Who did not may live after all, and
 * goes on telling of it until it hears who has it. */
static void
note_given(struct replica_store *s, struct held *h)
{
    end_waiting(h);
    h->line->lossy |= !h->r->handed_over;
    if (!life_is_none(h->given_to))
        return; /* again: the answer was lost */
    s->stats.given++;
    if (!h->r->handed_over)
        claim(s, h->line->owner, &h->r->key);
}

struct life
replica_give(struct replica_store *s, struct replica *r, struct life to, mc_ns now)
{
    struct held *h = held_of(s, r);

    note_given(s, h);
    h->given_to = to;
    h->given_at = now;
    list_remove(&h->of_given);
    list_push_back(&s->given, &h->of_given);
    return h->line->owner;
}

void
replica_taken(struct replica_store *s, const struct flow_key *key, struct life owner,
              struct life by, mc_ns now)
{
    for (struct held *h = next_of_key(*slot_of(s, BY_KEY, hash_key(s, key)), key); h;
         h = next_of_key(h->chain[BY_KEY], key)) {
        const struct replica_line *l = h->line;
        bool given = life_eq(h->given_to, by);

        if (!life_eq(l->owner, owner) || (!given && !life_is_none(h->given_to)))
            continue;
        if (!given && !h->r->handed_over && owner_word(s, owner, l->epoch) == OWNER_ALIVE) {
            h->claimed = by; /* who found the death before us */
            continue;
        }
        h->taken = true;
        h->line->lossy |= !h->r->handed_over;
        h->given_to = by;
        h->given_at = now;
        list_remove(&h->of_given);
        list_push_back(&s->given, &h->of_given);
    }
}

struct replica *
replica_take(struct replica_store *s, struct replica *r, struct life self, mc_ns now)
{
    struct held *h = held_of(s, r);

    note_given(s, h);
    return unhold(h);
}

const struct replica *
replica_next(const struct replica_store *s, struct life owner, size_t *at, unsigned *looks)
{
    while (*looks > 0 && *at < s->n_all) {
        const struct held *h = s->all[(*at)++];
        struct life who;

        --*looks;
        if (life_eq(h->line->owner, owner) && life_is_none(h->given_to) &&
            whose(s, h, (struct life){0}, &who) == REPLICA_FREE)
            return h->r;
    }
    return NULL;
}

const struct replica *
replica_silent(struct replica_store *s, mc_ns now)
{
    for (unsigned i = 0; i < N_PATIENCE; i++) {
        struct held *h;

        if (list_empty(&s->waiting[i]))
            continue;
        h = LIST_ENTRY(s->waiting[i].next, struct held, of_waiting);
        if (h->waits_since + patience_ns[i] > now)
            continue;
        if (++h->patience == N_PATIENCE) {
            end_waiting(h);
        } else {
            h->waits_since = now;
            list_remove(&h->of_waiting);
            list_push_back(&s->waiting[h->patience], &h->of_waiting);
        }
        return h->r;
    }
    return NULL;
}

static unsigned
count_lines(const struct list *lines, struct life owner)
{
    unsigned n = 0;

    LIST_FOREACH (it, lines) {
        const struct replica_line *l = LIST_ENTRY(it, struct replica_line, link);

        n += life_eq(l->owner, owner) ? l->n_flows : 0;
    }
    return n;
}

unsigned
replica_count(const struct replica_store *s, struct life owner)
{
    return count_lines(&s->lines, owner) + count_lines(&s->ended, owner);
}

/* --- time ---------------------------------------------------------------------------------------
 */

static mc_ns
expire_given(struct replica_store *s, mc_ns now)
{
    while (!list_empty(&s->given)) {
        struct held *h = LIST_ENTRY(s->given.next, struct held, of_given);

        if (h->given_at + s->conf.given_ns > now)
            return h->given_at + s->conf.given_ns;
        forget(h);
    }
    return MC_NEVER_NS;
}

static mc_ns
expire_ended(struct replica_store *s, mc_ns now)
{
    LIST_FOREACH_SAFE (it, tmp, &s->ended) {
        struct replica_line *l = LIST_ENTRY(it, struct replica_line, link);

        if (l->n_flows > 0 && l->ended_at + s->conf.keep_ns > now)
            return l->ended_at + s->conf.keep_ns;
        s->stats.expired += l->n_flows;
        line_free(l);
    }
    return MC_NEVER_NS;
}

mc_ns
replica_tick(struct replica_store *s, mc_ns now)
{
    mc_ns given = expire_given(s, now), ended = expire_ended(s, now);

    return given < ended ? given : ended;
}

void
replica_store_free(struct replica_store **sp)
{
    struct replica_store *s = *sp;

    if (!s)
        return;
    LIST_FOREACH_SAFE (it, tmp, &s->lines)
        line_free(LIST_ENTRY(it, struct replica_line, link));
    LIST_FOREACH_SAFE (it, tmp, &s->ended)
        line_free(LIST_ENTRY(it, struct replica_line, link));
    for (unsigned i = 0; i < s->n_owners; i++)
        free(s->claims[i].key);
    for (unsigned t = 0; t < N_TABLES; t++)
        free(s->slot[t]);
    free(s->all);
    free(s);
    *sp = NULL;
}
