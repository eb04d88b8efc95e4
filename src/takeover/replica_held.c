/* SPDX-License-Identifier: BSD-2-Clause
 *
 * replica_held.c - the flows that are held: found by key and by line, counted.
 */
#include <stdlib.h>

#include "base/check.h"
#include "takeover/replica_store_priv.h"

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

struct held *
held_by_flow(const struct replica_line *l, uint32_t flow)
{
    uint64_t hash = hash_flow(l, flow);
    struct held *h = *slot_of(l->s, BY_FLOW, hash);

    while (h && (h->line != l || h->flow != flow))
        h = h->chain[BY_FLOW];
    return h;
}

struct held *
held_next(struct held *h, const struct flow_key *key)
{
    while (h && !flow_key_eq(&h->r->key, key))
        h = h->chain[BY_KEY];
    return h;
}

struct held *
held_by_key(const struct replica_store *s, const struct flow_key *key)
{
    return held_next(*slot_of(s, BY_KEY, hash_key(s, key)), key);
}

struct held *
held_of(const struct replica_store *s, const struct replica *r)
{
    struct held *h = *slot_of(s, BY_KEY, hash_key(s, &r->key));

    while (h && h->r != r)
        h = h->chain[BY_KEY];
    MC_ASSERT(h);
    return h;
}

/* --- a flow -------------------------------------------------------------------------------------
 */

void
held_weigh(struct held *h)
{
    struct replica_stats *st = &h->line->s->stats;
    size_t cost = h->r ? sizeof(*h) + replica_cost(h->r) : 0;

    st->bytes = st->bytes - h->cost + cost;
    h->cost = cost;
}

void
held_new(struct replica_line *l, uint32_t flow, struct replica *r)
{
    struct replica_store *s = l->s;
    struct held *h = mc_alloc(sizeof(*h));

    if (s->n_all == s->cap_all) {
        s->cap_all = s->cap_all ? 2 * s->cap_all : REPLICA_SLOTS_MIN;
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
    held_weigh(h);
}

void
held_end_waiting(struct held *h)
{
    if (list_empty(&h->of_waiting))
        return;
    list_remove(&h->of_waiting);
    h->line->s->stats.waiting--;
}

struct replica *
held_take(struct held *h)
{
    struct replica_store *s = h->line->s;
    struct replica *r = h->r;

    s->stats.flows--;
    s->stats.bare -= r->bare;
    h->r = NULL;
    held_weigh(h);
    for (unsigned t = 0; t < N_TABLES; t++)
        unlink_table(s, t, h);
    list_remove(&h->of_line);
    list_remove(&h->of_given);
    held_end_waiting(h);
    s->all[h->at] = s->all[--s->n_all];
    s->all[h->at]->at = h->at;
    h->line->n_flows--;
    free(h);
    return r;
}

void
held_forget(struct held *h)
{
    struct replica *r = held_take(h);

    replica_free(&r);
}
