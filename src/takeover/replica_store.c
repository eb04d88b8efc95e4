/* SPDX-License-Identifier: BSD-2-Clause
 *
 * replica_store.c - the flows that are held here: whose they are, to whom they are given, and how
 * long they are kept; see replica.h.
 */
#include <stdlib.h>

#include "base/check.h"
#include "takeover/replica_store_priv.h"

/* How long nobody may have taken what was handed over before its client is asked to speak.  Most
 * speak by themselves before, and packets are lost. */
static const mc_ns patience_ns[] = {20 * MC_MS, 80 * MC_MS, 300 * MC_MS, 1600 * MC_MS};

static_assert(MC_COUNT(patience_ns) == REPLICA_PATIENCE, "a list for each");

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
    for (unsigned i = 0; i < REPLICA_PATIENCE; i++)
        list_init(&s->waiting[i]);
    s->n_slots = REPLICA_SLOTS_MIN;
    for (unsigned t = 0; t < N_TABLES; t++)
        s->slot[t] = mc_alloc(s->n_slots * sizeof(struct held *));
    return s;
}

const struct replica_stats *
replica_stats(const struct replica_store *s)
{
    return &s->stats;
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
    for (struct held *h = held_by_key(s, key); h; h = held_next(h->chain[BY_KEY], key)) {
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

/* --- given away ---------------------------------------------------------------------------------
 */

/* Who hands a flow over has dropped it, and need not be told.  Who did not may live after all, and
 * goes on telling of it until it hears who has it. */
static void
note_given(struct replica_store *s, struct held *h)
{
    held_end_waiting(h);
    h->line->lossy |= !h->r->handed_over;
    if (!life_is_none(h->given_to))
        return; /* again: the answer was lost */
    s->stats.given++;
    if (!h->r->handed_over)
        claims_note(s, h->line->owner, &h->r->key);
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
    for (struct held *h = held_by_key(s, key); h; h = held_next(h->chain[BY_KEY], key)) {
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
    return held_take(h);
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
    for (unsigned i = 0; i < REPLICA_PATIENCE; i++) {
        struct held *h;

        if (list_empty(&s->waiting[i]))
            continue;
        h = LIST_ENTRY(s->waiting[i].next, struct held, of_waiting);
        if (h->waits_since + patience_ns[i] > now)
            continue;
        if (++h->patience == REPLICA_PATIENCE) {
            held_end_waiting(h);
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
        held_forget(h);
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
        replica_line_free(l);
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
        replica_line_free(LIST_ENTRY(it, struct replica_line, link));
    LIST_FOREACH_SAFE (it, tmp, &s->ended)
        replica_line_free(LIST_ENTRY(it, struct replica_line, link));
    for (unsigned i = 0; i < s->n_owners; i++)
        free(s->claims[i].key);
    for (unsigned t = 0; t < N_TABLES; t++)
        free(s->slot[t]);
    free(s->all);
    free(s);
    *sp = NULL;
}
