/* SPDX-License-Identifier: BSD-2-Clause
 *
 * limit.c - a rate that workers share, see limit.h.
 */
#include "proxy/limit.h"

#define RELAXED memory_order_relaxed

static void
refill(struct limit *l, mc_ns was, mc_ns each, mc_ns burst, mc_ns now)
{
    mc_ns due = atomic_load_explicit(&l->due_ns, RELAXED), full;

    do {
        double left = due > now ? (double)(due - now) : 0;

        left *= was > 0 ? (double)each / (double)was : 0;
        full = now + (left < (double)burst ? (mc_ns)left : burst);
        if (due <= now || full == due)
            return;
    } while (!atomic_compare_exchange_weak_explicit(&l->due_ns, &due, full, RELAXED, RELAXED));
}

void
limit_set(struct limit *l, double per_s, double burst, mc_ns now)
{
    mc_ns each = per_s > 0 ? (mc_ns)((double)MC_SEC / per_s) : 0, was, size;

    if (per_s > 0 && each < 1)
        each = 1;
    size = (mc_ns)((double)each * (burst > 1 ? burst : 1));
    atomic_store_explicit(&l->burst_ns, size, RELAXED);
    was = atomic_exchange_explicit(&l->each_ns, each, RELAXED);
    refill(l, was, each, size, now);
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
