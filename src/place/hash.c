/* SPDX-License-Identifier: BSD-2-Clause
 *
 * hash.c - the policy "hash": equal keys go to equal servers.  Pure.
 *
 * The key has an order of servers: its owner, then those that stand in when the owner is closed,
 * full, was tried, or has more than its share.  hash_table.c makes the order, in two ways; here one
 * of them is chosen.  The order depends on names and configured weights alone, so every balancer
 * and every snapshot finds the same.
 *
 * Bounded load (Mirrokni, Thorup, Zadimoghaddam 2018): with bound c no server gets a request while
 * it has c times its share of all that are in flight, so a hot key spreads no wider than it must.
 */
#include "place/hash_table.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "place/choose.h"

/* How far down the key's order to look before looking at all servers.  With half of them closed one
 * key in 2^32 goes on; a hot key under a bound does so often, and the scan then finds the rest. */
#define HASH_LOOKS 32

struct shared {
    struct hash_table *table;
    double bound; /* 0: none */
};

static void *
shared_new(const struct place_view *v, const struct place_params *params)
{
    struct shared *s = mc_alloc(sizeof(*s));

    s->table = hash_table_new(v, params->maglev, params->table_size);
    /* below 1 not all requests would find a place */
    s->bound = params->bound > 0 && params->bound < 1 ? 1 : params->bound;
    return s;
}

static void
shared_free(void *shared)
{
    struct shared *s = shared;

    if (!s)
        return;
    hash_table_free(s->table);
    free(s);
}

/* What one pick knows. */
struct search {
    const struct shared *s;
    const struct place_view *v;
    const struct place_ask *ask;
    double per_weight; /* requests in flight that one unit of weight may have; 0: no bound */
};

/* --- the bound ---------------------------------------------------------------------------------
 */

static int64_t
sum_in_flight(const struct place_view *v)
{
    int64_t sum = 1; /* the one being placed */

    if (v->in_flight)
        return atomic_load_explicit(v->in_flight, memory_order_relaxed);
    for (uint32_t i = 0; i < v->n; i++)
        sum += choose_in_flight(v, i);
    return sum;
}

static uint64_t
sum_open_weight(const struct place_view *v)
{
    uint64_t sum = 0;

    if (v->open_weight)
        return atomic_load_explicit(v->open_weight, memory_order_relaxed);
    for (uint32_t i = 0; i < v->n; i++)
        if (place_is_open(v->load[i]))
            sum += choose_weight(v, i);
    return sum;
}

static double
bound_per_weight(const struct shared *s, const struct place_view *v)
{
    int64_t in_flight;
    uint64_t weight;

    if (s->bound <= 0)
        return 0;
    in_flight = sum_in_flight(v);
    weight = sum_open_weight(v);
    /* counters of other threads: for a moment they may say anything */
    return weight == 0 ? 0 : s->bound * (double)(in_flight > 1 ? in_flight : 1) / (double)weight;
}

static bool
is_over_bound(const struct search *q, uint32_t i)
{
    return q->per_weight > 0 &&
           choose_in_flight(q->v, i) >= ceil(q->per_weight * choose_weight(q->v, i));
}

/* --- the search --------------------------------------------------------------------------------
 */

/* Down the key's order; -1 when HASH_LOOKS were not enough. */
static int32_t
search_order(const struct search *q, uint64_t key)
{
    for (unsigned step = 0; step < HASH_LOOKS; step++) {
        int32_t i = hash_table_at(q->s->table, key, step);

        if (i < 0)
            return -1;
        if (choose_may(q->v, q->ask, (uint32_t)i) &&
            hash_table_takes(q->s->table, q->v, (uint32_t)i, key) && !is_over_bound(q, (uint32_t)i))
            return i;
    }
    return -1;
}

/* The highest random weight of all that may be chosen (rendezvous: Thaler, Ravishankar 1998), so
 * that this end of the key's order is the same everywhere too. */
static int32_t
search_all(const struct search *q, uint64_t key, bool heed_bound)
{
    double best_score = INFINITY;
    int32_t best = -1;

    for (uint32_t i = 0; i < q->v->n; i++) {
        double score;

        if (!choose_may(q->v, q->ask, i) || (heed_bound && is_over_bound(q, i)))
            continue;
        score = -log(hash_unit(key ^ q->v->id_hash[i])) / choose_weight(q->v, i);
        if (best < 0 || score < best_score) {
            best = (int32_t)i;
            best_score = score;
        }
    }
    return best;
}

static enum place_reason
why(const struct search *q, int32_t owner, int32_t chosen)
{
    if (chosen == owner)
        return PLACE_HASH;
    if (owner >= 0 && choose_may(q->v, q->ask, (uint32_t)owner) &&
        is_over_bound(q, (uint32_t)owner))
        return PLACE_HASH_BOUND;
    return PLACE_HASH_NEXT;
}

/* No key: two owners of random keys are two servers drawn by weight. */
static struct place_answer
pick_without_key(const struct search *q, struct rng *rng)
{
    int32_t a = search_order(q, rng_next(rng)), b = search_order(q, rng_next(rng));

    if (a < 0)
        a = b >= 0 ? b : choose_scan_least(q->v, q->ask, rng);
    if (a < 0)
        return choose_failed(q->v, q->ask, rng);
    if (b >= 0 && choose_less_busy(q->v, (uint32_t)b, (uint32_t)a))
        a = b;
    return choose_done(q->v, q->ask, (uint32_t)a, PLACE_HASH_NO_KEY);
}

/* hot: once per attempt */
static struct place_answer
pick(const void *shared, void *state, const struct place_view *v, const struct place_ask *ask,
     struct rng *rng)
{
    struct search q = {.s = shared, .v = v, .ask = ask};
    uint64_t key = hash_mix(ask->key);
    int32_t i;

    if (!ask->has_key)
        return pick_without_key(&q, rng);
    q.per_weight = bound_per_weight(q.s, v);
    i = search_order(&q, key);
    if (i < 0)
        i = search_all(&q, key, true);
    if (i < 0 && q.per_weight > 0)
        i = search_all(&q, key, false); /* the bound gives way, not the request */
    if (i < 0)
        return choose_failed(v, ask, rng);
    return choose_done(v, ask, (uint32_t)i, why(&q, hash_table_at(q.s->table, key, 0), i));
}

const struct policy policy_hash = {
    .name = "hash",
    .shared_new = shared_new,
    .shared_free = shared_free,
    .pick = pick,
};
