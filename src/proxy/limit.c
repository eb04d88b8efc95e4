/* SPDX-License-Identifier: BSD-2-Clause
 *
 * limit.c - a rate that workers share, see limit.h.
 */
#include "proxy/limit.h"

#define RELAXED memory_order_relaxed

void
limit_set(struct limit *l, double per_s, double burst)
{
    mc_ns each = per_s > 0 ? (mc_ns)((double)MC_SEC / per_s) : 0;

    if (per_s > 0 && each < 1)
        each = 1;
    atomic_store_explicit(&l->burst_ns, (mc_ns)((double)each * (burst > 1 ? burst : 1)), RELAXED);
    atomic_store_explicit(&l->each_ns, each, RELAXED);
}

bool
limit_take(struct limit *l, mc_ns now, mc_ns *wait_ns)
{
    mc_ns each = atomic_load_explicit(&l->each_ns, RELAXED);
    mc_ns burst = atomic_load_explicit(&l->burst_ns, RELAXED);
    mc_ns due = atomic_load_explicit(&l->due_ns, RELAXED), next;

    do {
        next = (due > now ? due : now) + each;
        if (next - now > burst) {
            atomic_fetch_add_explicit(&l->n_refused, 1, RELAXED);
            *wait_ns = next - now - burst;
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&l->due_ns, &due, next, RELAXED, RELAXED));
    atomic_fetch_add_explicit(&l->n_taken, 1, RELAXED);
    return true;
}

uint64_t
limit_asked(const struct limit *l)
{
    return atomic_load_explicit(&l->n_taken, RELAXED) +
           atomic_load_explicit(&l->n_refused, RELAXED);
}
