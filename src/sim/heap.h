/* SPDX-License-Identifier: BSD-2-Clause
 *
 * heap.h - what happens next: events by time, in a 4-ary heap.  Equal times come out in an order
 * that depends on nothing but what was put in, so a run repeats exactly.
 */
#ifndef MC_SIM_HEAP_H
#define MC_SIM_HEAP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/units.h"

struct sim_event {
    mc_ns at;
    uint32_t order; /* of insertion, for equal times */
    uint32_t kind, a, b;
};

struct sim_heap {
    struct sim_event *event;
    unsigned n, cap;
    uint32_t order;
};

/* Zero-initialise.  hot: several times a request */
void sim_heap_push(struct sim_heap *, mc_ns at, unsigned kind, uint32_t a, uint32_t b);
bool sim_heap_pop(struct sim_heap *, struct sim_event *out);
void sim_heap_free(struct sim_heap *);

#endif
