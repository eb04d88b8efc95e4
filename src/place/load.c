/* SPDX-License-Identifier: BSD-2-Clause
 *
 * load.c - the load table, see load.h.
 */
#include "place/load.h"

#include <stdlib.h>

#include "base/check.h"

struct spot {
    uint64_t hash;
    uint32_t index;
};

static int
by_hash(const void *a, const void *b)
{
    const struct spot *x = a, *y = b;

    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* Hashes of names are no more than hashed again: on the ring of `hash` a neighbour is a stand-in,
 * here it shares a home, and one should not follow from the other. */
static void
lay_ring(struct load_table *t, const uint64_t *id_hash)
{
    struct spot *spots = mc_alloc((t->n + 1) * sizeof(*spots));

    for (uint32_t i = 0; i < t->n; i++)
        spots[i] = (struct spot){str_hash((struct str){(const char *)&id_hash[i], 8}, 1), i};
    qsort(spots, t->n, sizeof(*spots), by_hash);
    for (uint32_t p = 0; p < t->n; p++) {
        t->ring[p] = spots[p].index;
        t->pos[spots[p].index] = p;
    }
    free(spots);
}

struct load_table *
load_table_new(unsigned n, const uint64_t *id_hash)
{
    struct load_table *t = mc_alloc_lines(sizeof(*t));

    t->n = n;
    t->hot = mc_alloc_lines(n * sizeof(*t->hot));
    t->mem = mc_alloc_lines(n * sizeof(*t->mem));
    t->pos = mc_alloc((n + 1) * sizeof(*t->pos));
    t->ring = mc_alloc((n + 1) * sizeof(*t->ring));
    lay_ring(t, id_hash);
    for (unsigned p = 0; p < n; p++) {
        t->hot[p].factor = load_bits(1);
        t->hot[p].per_core = load_bits(1) >> 16;
        t->hot[p].flags = LOAD_OPEN;
    }
    t->home = n;
    t->good_until_ns = INT64_MIN;
    return t;
}

void
load_table_free(struct load_table **tp)
{
    struct load_table *t = *tp;

    if (!t)
        return;
    *tp = NULL;
    free(t->hot);
    free(t->mem);
    free(t->pos);
    free(t->ring);
    free(t);
}

/* How many times longer a request takes among so many than alone; without a number of cores nothing
 * can be foreseen, and the factor will then hold the crowd, too. */
static float
crowd_of(const struct load_hot *h, int32_t n)
{
    float crowd = (float)n * (1.0f / COST_ONE) * load_per_core(h);

    return crowd < 1 || !(load_flags(h) & LOAD_CORES) ? 1 : crowd;
}

float
load_begin(struct load_table *t, uint32_t index, const struct place_cost *c)
{
    uint32_t pos = t->pos[index];
    struct load_hot *h = &t->hot[pos];
    float crowd = crowd_of(h, load_n(h) + COST_ONE);

    atomic_fetch_add_explicit(&h->own, c->phi, memory_order_relaxed);
    if (c->mem_units > 0)
        atomic_fetch_add_explicit(&t->mem[pos].own, (int32_t)c->mem_units, memory_order_relaxed);
    return crowd;
}

float
load_end(struct load_table *t, uint32_t index, const struct place_cost *c)
{
    uint32_t pos = t->pos[index];
    struct load_hot *h = &t->hot[pos];
    float crowd = crowd_of(h, load_n(h));

    atomic_fetch_sub_explicit(&h->own, c->phi, memory_order_relaxed);
    if (c->mem_units > 0)
        atomic_fetch_sub_explicit(&t->mem[pos].own, (int32_t)c->mem_units, memory_order_relaxed);
    return crowd;
}
