/* SPDX-License-Identifier: BSD-2-Clause
 *
 * hash_table.c - the order in which a key asks servers, see hash_table.h.
 *
 * Ring (Karger et al. 1997): every server stands at many points of a circle; a key's order begins
 * at its own point and goes round.  When a server closes, its keys go to those behind its points.
 * Maglev (Eisenbud et al. 2016): a table in which each server has entries by its weight, almost
 * exactly; a key's order is a row of probes, each hashed anew.  One look instead of a search, and
 * more even; but a change of the servers also moves a few keys that it need not.
 */
#include "place/hash_table.h"

#include <stdlib.h>

#include "base/check.h"

/* Points per unit of weight: the load of equal servers then has a standard deviation of
 * 1 / sqrt(160) = 8 %.  The number is that of ketama (2007). */
#define RING_POINTS       160
#define RING_POINTS_MAX   (1u << 20) /* of a ring: 12 MiB; above it servers get fewer each */
/* 65537 is the small table of the paper; 100 entries a server keep the spread within 1 %. */
#define MAGLEV_SIZE       65537u
#define MAGLEV_PER_SERVER 100u
#define MAGLEV_SIZE_MAX   5000011u /* 20 MB; a prime */

struct ring_point {
    uint32_t at;
    uint32_t index;
};

struct hash_table {
    unsigned n;
    uint32_t *weight;        /* [n] that the table was built with */
    struct ring_point *ring; /* [size] by `at`; NULL: Maglev */
    uint32_t *first;         /* [2^(32 - shift)] the first point at or behind b << shift */
    unsigned shift;
    uint32_t *maglev; /* [size] */
    uint32_t size;    /* 0: no server has weight */
};

/* --- the ring ----------------------------------------------------------------------------------
 */

static int
compare_points(const void *a, const void *b)
{
    const struct ring_point *x = a, *y = b;

    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static double
sum_weights(const struct hash_table *t)
{
    double sum = 0;

    for (unsigned i = 0; i < t->n; i++)
        sum += t->weight[i];
    return sum;
}

/* Points of a server: the first k of one unending row that its name gives, so that a change of
 * weight adds or takes points and moves none. */
static uint32_t
points_of(uint32_t weight, double per_unit)
{
    double points = weight * per_unit / PLACE_WEIGHT_UNIT;

    if (weight == 0)
        return 0;
    return points < 1 ? 1 : (uint32_t)(points + 0.5);
}

/* Where to begin looking for a point of the circle: its upper bits say, for points lie evenly. With
 * 16,000 points a pick takes 20 ns this way, 150 ns by bisection. */
static void
ring_index(struct hash_table *t)
{
    unsigned bits = 1;
    uint32_t k = 0;

    while (((uint32_t)1 << bits) < t->size)
        bits++;
    t->shift = 32 - bits;
    t->first = mc_alloc(((size_t)1 << bits) * sizeof(*t->first));
    for (uint32_t b = 0; b < (uint32_t)1 << bits; b++) {
        while (k < t->size && t->ring[k].at < b << t->shift)
            k++;
        t->first[b] = k;
    }
}

static void
ring_build(struct hash_table *t, const struct place_view *v, unsigned per_unit_wish)
{
    double per_unit = per_unit_wish ? per_unit_wish : RING_POINTS;
    double units = sum_weights(t) / PLACE_WEIGHT_UNIT;
    size_t size = 0;

    if (per_unit * units > RING_POINTS_MAX)
        per_unit = RING_POINTS_MAX / units;
    for (unsigned i = 0; i < t->n; i++)
        size += points_of(t->weight[i], per_unit);
    t->ring = mc_alloc((size + 1) * sizeof(*t->ring));
    for (uint32_t i = 0; i < t->n; i++)
        for (uint32_t k = 0, n = points_of(t->weight[i], per_unit); k < n; k++)
            t->ring[t->size++] = (struct ring_point){
                .at = (uint32_t)(hash_mix(v->id_hash[i] + k * 0x9e3779b97f4a7c15u) >> 32),
                .index = i,
            };
    qsort(t->ring, t->size, sizeof(*t->ring), compare_points);
    ring_index(t);
}

/* The first point at or behind the key's. */
static uint32_t
ring_find(const struct hash_table *t, uint32_t at)
{
    uint32_t k = t->first[at >> t->shift];

    while (k < t->size && t->ring[k].at < at)
        k++;
    return k < t->size ? k : 0;
}

/* --- the Maglev table ---------------------------------------------------------------------------
 */

static uint32_t
next_prime(uint32_t n)
{
    for (n |= 1;; n += 2) {
        uint32_t d = 3;

        while (d * d <= n && n % d != 0)
            d += 2;
        if (d * d > n)
            return n;
    }
}

static uint32_t
maglev_size(unsigned n, unsigned wish)
{
    uint64_t size = wish ? wish : (uint64_t)n * MAGLEV_PER_SERVER;

    if (!wish && size < MAGLEV_SIZE)
        size = MAGLEV_SIZE;
    if (size < n)
        size = n; /* else some would have no entry */
    if (size >= MAGLEV_SIZE_MAX)
        return MAGLEV_SIZE_MAX;
    return next_prime(size < 3 ? 3 : (uint32_t)size);
}

/* A server's way through the table while it is built. */
struct walker {
    uint64_t id_hash;
    uint32_t index;
    uint32_t at, skip; /* next entry it would like, and how far to the one after */
    double turns;      /* that it has taken, in units of the heaviest server's */
};

/* By name, so that the order of the configuration does not matter. */
static int
compare_walkers(const void *a, const void *b)
{
    const struct walker *x = a, *y = b;

    if (x->id_hash != y->id_hash)
        return x->id_hash < y->id_hash ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static unsigned
maglev_walkers(const struct hash_table *t, const struct place_view *v, uint32_t size,
               struct walker *w)
{
    unsigned n = 0;

    for (uint32_t i = 0; i < t->n; i++) {
        if (t->weight[i] == 0)
            continue;
        w[n++] = (struct walker){
            .id_hash = v->id_hash[i],
            .index = i,
            .at = (uint32_t)(hash_mix(v->id_hash[i]) % size),
            .skip = (uint32_t)(hash_mix(~v->id_hash[i]) % (size - 1)) + 1,
        };
    }
    qsort(w, n, sizeof(*w), compare_walkers);
    return n;
}

/* Takes the first free entry on the walker's way. */
static void
maglev_claim(struct hash_table *t, struct walker *w)
{
    while (t->maglev[w->at] != UINT32_MAX)
        w->at = (uint32_t)(((uint64_t)w->at + w->skip) % t->size);
    t->maglev[w->at] = w->index;
}

/* Rounds in which each takes an entry; a lighter one sits rounds out, as weights say. */
static void
maglev_fill(struct hash_table *t, struct walker *w, unsigned n)
{
    uint32_t heaviest = 0, filled = 0;

    for (unsigned i = 0; i < n; i++)
        if (t->weight[w[i].index] > heaviest)
            heaviest = t->weight[w[i].index];
    for (double round = 1;; round++) {
        for (unsigned i = 0; i < n; i++) {
            if (round * t->weight[w[i].index] < (w[i].turns + 1) * heaviest)
                continue;
            maglev_claim(t, &w[i]);
            w[i].turns++;
            if (++filled == t->size)
                return;
        }
    }
}

static void
maglev_build(struct hash_table *t, const struct place_view *v, unsigned wish)
{
    uint32_t size = maglev_size(v->n, wish);
    struct walker *w = mc_alloc((v->n + 1) * sizeof(*w));
    unsigned n = maglev_walkers(t, v, size, w);

    t->maglev = mc_alloc(size * sizeof(*t->maglev));
    for (uint32_t i = 0; i < size; i++)
        t->maglev[i] = UINT32_MAX;
    if (n > 0) {
        t->size = size;
        maglev_fill(t, w, n);
    }
    free(w);
}

/* --- both ---------------------------------------------------------------------------------------
 */

struct hash_table *
hash_table_new(const struct place_view *v, bool maglev, unsigned size)
{
    struct hash_table *t = mc_alloc(sizeof(*t));

    t->n = v->n;
    t->weight = mc_alloc((v->n + 1) * sizeof(*t->weight));
    for (unsigned i = 0; i < v->n; i++)
        t->weight[i] = atomic_load_explicit(&v->load[i]->weight, memory_order_relaxed);
    if (maglev)
        maglev_build(t, v, size);
    else
        ring_build(t, v, size);
    return t;
}

void
hash_table_free(struct hash_table *t)
{
    if (!t)
        return;
    free(t->weight);
    free(t->ring);
    free(t->first);
    free(t->maglev);
    free(t);
}

int32_t
hash_table_at(const struct hash_table *t, uint64_t key, unsigned step)
{
    if (t->size == 0)
        return -1;
    if (t->maglev)
        return (int32_t)t->maglev[hash_mix(key + step) % t->size];
    return (int32_t)t->ring[(ring_find(t, (uint32_t)(key >> 32)) + (uint64_t)step) % t->size].index;
}

bool
hash_table_takes(const struct hash_table *t, const struct place_view *v, uint32_t index,
                 uint64_t key)
{
    uint32_t weight = atomic_load_explicit(&v->load[index]->weight, memory_order_relaxed);

    return weight >= t->weight[index] ||
           hash_unit(key ^ ~v->id_hash[index]) * t->weight[index] <= weight;
}
