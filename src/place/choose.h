/* SPDX-License-Identifier: BSD-2-Clause
 *
 * choose.h - what all policies ask of a server, and what they say when they found none.  Pure.
 *
 * For the files of place/ only.
 */
#ifndef MC_PLACE_CHOOSE_H
#define MC_PLACE_CHOOSE_H

#include "place/policy.h"

/* How many servers a pick looks at by chance before it looks at all of them: with half of the
 * servers closed or full, one pick in 256 scans. */
#define CHOOSE_PROBES 8

extern const struct policy policy_round_robin, policy_random, policy_least_request, policy_hash;
extern const struct policy policy_resource, policy_peak_ewma, policy_prequal;

static inline bool
choose_tried(const struct place_ask *ask, uint32_t index)
{
    for (unsigned i = 0; i < ask->n_tried; i++)
        if (ask->tried[i] == index)
            return true;
    return false;
}

/* Open, below its limit, and not tried before. */
static inline bool
choose_may(const struct place_view *v, const struct place_ask *ask, uint32_t index)
{
    const struct place_load *l = v->load[index];

    return place_is_open(l) && !place_is_full(l) && !choose_tried(ask, index);
}

static inline uint32_t
choose_weight(const struct place_view *v, uint32_t index)
{
    return atomic_load_explicit(&v->load[index]->weight, memory_order_relaxed);
}

static inline int32_t
choose_in_flight(const struct place_view *v, uint32_t index)
{
    return atomic_load_explicit(&v->load[index]->in_flight, memory_order_relaxed);
}

/* True when a has fewer requests in flight for its weight than b.  Without division, and without
 * "+ 1": an idle pool is all ties, and a tie goes to the first drawn, which is drawn by weight. */
static inline bool
choose_less_busy(const struct place_view *v, uint32_t a, uint32_t b)
{
    return (int64_t)choose_in_flight(v, a) * choose_weight(v, b) <
           (int64_t)choose_in_flight(v, b) * choose_weight(v, a);
}

/* The answer for a server that may be chosen.  `reason` becomes ONLY when a look at its neighbours
 * proves it: exact up to CHOOSE_PROBES + 1 servers; in a larger pool nine in a row would have to be
 * unavailable before it looks on, so that is left unsaid. */
struct place_answer choose_done(const struct place_view *, const struct place_ask *, uint32_t index,
                                enum place_reason reason);

/* One of all that may be chosen, drawn by weight; -1 when there is none.  Looks at every server. */
int32_t choose_scan_random(const struct place_view *, const struct place_ask *, struct rng *);
/* The least busy of all that may be chosen, ties drawn by weight; -1 when there is none. */
int32_t choose_scan_least(const struct place_view *, const struct place_ask *, struct rng *);

/* No server may be chosen: a tried one when nothing else is open, else FULL or NONE.  Looks at
 * every server. */
struct place_answer choose_failed(const struct place_view *, const struct place_ask *,
                                  struct rng *);

#endif
