/* SPDX-License-Identifier: BSD-2-Clause
 *
 * cost.h - what a request of a class needs, as learned, and the table in which workers read it.
 *
 * Control writes a slot when it has learned something (know.c), workers read it once a request.
 * The four words of a slot are stored one by one: a reader may see the phi of this solution with
 * the CPU of the last, 200 ms apart, which is no worse than either.
 */
#ifndef MC_PLACE_COST_H
#define MC_PLACE_COST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define COST_ONE       4096 /* fixed point of phi: a request that keeps one core busy */
#define COST_PHI_LEAST 0.005
#define COST_PHI_MOST  1.05
#define COST_MEM_UNIT  65536.0 /* bytes; memory in flight is counted in these */
/* From here on a request is worth a message of its own: it lives longer than the news about light
 * ones are old.  1 % of the requests of a web service, and half of their CPU. */
#define COST_HEAVY_S   0.020
#define COST_HEAVY_MEM ((uint32_t)(20e6 / COST_MEM_UNIT))

struct place_cost {
    float cpu_s;        /* CPU-seconds on the average server */
    int32_t phi;        /* cores it keeps busy while in flight, in 1/COST_ONE */
    uint32_t mem_units; /* memory it holds while in flight, in COST_MEM_UNIT */
    bool known;         /* learned, not assumed */
};

/* Nothing is known: it counts as one request that only computes, as in least-request. */
#define COST_UNKNOWN ((struct place_cost){.cpu_s = 0.001f, .phi = COST_ONE})

static inline bool
cost_is_heavy(const struct place_cost *c)
{
    return c->cpu_s >= (float)COST_HEAVY_S || c->mem_units > COST_HEAVY_MEM;
}

struct cost_slot {
    _Atomic uint32_t cpu, phi, mem, known; /* cpu: the bits of a float */
};

/* Index: class.  Slot 0 is the class of all that have none of their own. */
struct cost_table {
    unsigned n;
    struct cost_slot slot[];
};

struct cost_table *cost_table_new(unsigned n_classes); /* free() it */
void cost_publish(struct cost_table *, unsigned class, const struct place_cost *);

/* hot: once per request; any worker */
static inline struct place_cost
cost_read(const struct cost_table *t, unsigned class)
{
    struct cost_slot *s = (struct cost_slot *)&t->slot[class < t->n ? class : 0];
    uint32_t cpu = atomic_load_explicit(&s->cpu, memory_order_relaxed);
    struct place_cost c = {
        .phi = (int32_t)atomic_load_explicit(&s->phi, memory_order_relaxed),
        .mem_units = atomic_load_explicit(&s->mem, memory_order_relaxed),
        .known = atomic_load_explicit(&s->known, memory_order_relaxed),
    };

    memcpy(&c.cpu_s, &cpu, sizeof(cpu));
    return c;
}

#endif
