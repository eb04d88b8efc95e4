/* SPDX-License-Identifier: BSD-2-Clause
 *
 * cost.c - the published costs, see cost.h.
 */
#include "place/cost.h"

#include "base/check.h"

struct cost_table *
cost_table_new(unsigned n_classes)
{
    struct cost_table *t = mc_alloc(sizeof(*t) + n_classes * sizeof(t->slot[0]));

    MC_ASSERT(n_classes > 0);
    t->n = n_classes;
    for (unsigned k = 0; k < n_classes; k++)
        cost_publish(t, k, &COST_UNKNOWN);
    return t;
}

void
cost_publish(struct cost_table *t, unsigned class, const struct place_cost *c)
{
    struct cost_slot *s = &t->slot[class];
    uint32_t cpu;

    MC_ASSERT(class < t->n);
    memcpy(&cpu, &c->cpu_s, sizeof(cpu));
    atomic_store_explicit(&s->cpu, cpu, memory_order_relaxed);
    atomic_store_explicit(&s->phi, (uint32_t)c->phi, memory_order_relaxed);
    atomic_store_explicit(&s->mem, c->mem_units, memory_order_relaxed);
    atomic_store_explicit(&s->known, c->known, memory_order_relaxed);
}
