/* SPDX-License-Identifier: BSD-2-Clause
 *
 * draw.c - draws servers by weight, see draw.h.
 *
 * tree[k] (k from 1) is the sum of the weights of the servers k - lowbit(k) .. k - 1.
 */
#include "place/draw.h"

#include <stdlib.h>

#include "base/check.h"
#include "place/choose.h"

struct draw {
    unsigned n;
    unsigned top;    /* highest power of two that is <= n; 0 for an empty pool */
    uint32_t cursor; /* who is looked at next */
    uint64_t total;
    uint32_t *weight; /* [n] as in the tree; 0 when seen closed */
    uint64_t *tree;   /* [n + 1] */
};

static void
set_weight(struct draw *d, uint32_t i, uint32_t weight)
{
    uint64_t change =
        (uint64_t)weight - d->weight[i]; /* modulo 2^64: a decrease wraps, as it must */

    if (change == 0)
        return;
    d->weight[i] = weight;
    d->total += change;
    for (unsigned k = i + 1; k <= d->n; k += k & -k)
        d->tree[k] += change;
}

static void
look(struct draw *d, const struct place_view *v, uint32_t i)
{
    set_weight(d, i, place_is_open(v->load[i]) ? choose_weight(v, i) : 0);
}

struct draw *
draw_new(const struct place_view *v)
{
    struct draw *d = mc_alloc(sizeof(*d));

    d->n = v->n;
    d->top = v->n ? 1u << (31 - __builtin_clz(v->n)) : 0;
    d->weight = mc_alloc((v->n + 1) * sizeof(*d->weight));
    d->tree = mc_alloc((v->n + 1) * sizeof(*d->tree));
    for (uint32_t i = 0; i < v->n; i++)
        look(d, v, i);
    return d;
}

void
draw_free(struct draw *d)
{
    if (!d)
        return;
    free(d->weight);
    free(d->tree);
    free(d);
}

static void
tend(struct draw *d, const struct place_view *v)
{
    unsigned looks = d->n < DRAW_LOOKS ? d->n : DRAW_LOOKS;

    for (unsigned k = 0; k < looks; k++) {
        look(d, v, d->cursor);
        d->cursor = d->cursor + 1 < d->n ? d->cursor + 1 : 0;
    }
}

/* The sum of the weights before i. */
static uint64_t
sum_before(const struct draw *d, uint32_t i)
{
    uint64_t sum = 0;

    for (unsigned k = i; k > 0; k -= k & -k)
        sum += d->tree[k];
    return sum;
}

/* The server in whose share of 0..total the point lies. */
static uint32_t
find(const struct draw *d, uint64_t point)
{
    unsigned at = 0;

    for (unsigned step = d->top; step > 0; step >>= 1) {
        if (at + step <= d->n && d->tree[at + step] <= point) {
            at += step;
            point -= d->tree[at];
        }
    }
    return at;
}

/* One by weight, `other` left out; -1 when no weight is left. */
static int32_t
draw_one(const struct draw *d, int32_t other, struct rng *rng)
{
    uint64_t left_out = other < 0 ? 0 : d->weight[other];
    uint64_t range = d->total - left_out, point;

    if (range == 0)
        return -1;
    point = (uint64_t)(((unsigned __int128)rng_next(rng) * range) >> 64);
    if (left_out && point >= sum_before(d, (uint32_t)other))
        point += left_out;
    return (int32_t)find(d, point);
}

int32_t
draw_pick(struct draw *d, const struct place_view *v, const struct place_ask *ask, int32_t other,
          struct rng *rng)
{
    MC_ASSERT(d->n == v->n);
    if (other < 0)
        tend(d, v);
    for (int probe = 0; probe < CHOOSE_PROBES; probe++) {
        int32_t i = draw_one(d, other, rng);

        if (i < 0)
            return -1;
        if (choose_may(v, ask, (uint32_t)i))
            return i;
        look(d, v, (uint32_t)i);
    }
    return -1;
}
