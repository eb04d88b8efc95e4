/* SPDX-License-Identifier: BSD-2-Clause
 *
 * resource.h - how the policy resource looks at one server: what resource.c picks by, and explain.c
 * tells.  Pure.  For these two only.
 */
#ifndef MC_PLACE_RESOURCE_H
#define MC_PLACE_RESOURCE_H

#include "place/load.h"

#define RESOURCE_HOME_SMALL 20   /* servers; all may be busy at once there: others are asked */
#define RESOURCE_AWAY_SMALL 4    /* so many, at: */
#define RESOURCE_AWAY_PRICE 1.2f /* since our news of them is old */
#define RESOURCE_AWAY_HEAVY 24   /* others that a heavy request looks at */
#define RESOURCE_QUEUE      0.5f /* weight of n / c in the score */

/* Less is better. */
static inline float
resource_score(const struct load_hot *h)
{
    float per_core = load_per_core(h), n = (float)load_n(h) * (1.0f / COST_ONE);
    float stretch = (n + 1) * per_core;

    return load_factor(h) * ((stretch > 1 ? stretch : 1) + RESOURCE_QUEUE * n * per_core);
}

/* How many servers outside of a home of so many are looked at, and by what their score is
 * multiplied. */
struct resource_away {
    unsigned looks;
    float price;
};

static inline struct resource_away
resource_away(const struct place_cost *cost, uint32_t n_home)
{
    if (cost && cost_is_heavy(cost))
        return (struct resource_away){RESOURCE_AWAY_HEAVY, 1};
    if (n_home < RESOURCE_HOME_SMALL)
        return (struct resource_away){RESOURCE_AWAY_SMALL, RESOURCE_AWAY_PRICE};
    return (struct resource_away){0, 1};
}

/* The memory that a server must have room for; 0: little enough not to look. */
static inline uint32_t
resource_mem_units(const struct place_cost *cost)
{
    return cost && cost->mem_units > COST_HEAVY_MEM ? cost->mem_units : 0;
}

/* What control wrote into the table can be trusted. */
static inline bool
resource_is_good(const struct load_table *t, mc_ns now)
{
    return t && t->n > 0 &&
           now <=
               atomic_load_explicit(&((struct load_table *)t)->good_until_ns, memory_order_relaxed);
}

#endif
