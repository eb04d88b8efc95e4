/* SPDX-License-Identifier: BSD-2-Clause
 *
 * stats.h - counters that one thread writes and others read, and a latency histogram.
 *
 * A counter belongs to one writer: the increment is a plain load, add and relaxed store, never a
 * locked instruction.  Readers on other threads see a value that is at most a moment old.
 */
#ifndef MC_BASE_STATS_H
#define MC_BASE_STATS_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/units.h"

typedef _Atomic uint64_t stat_u64;

static inline void
stat_add(stat_u64 *s, uint64_t n)
{
    atomic_store_explicit(s, atomic_load_explicit(s, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static inline uint64_t
stat_get(const stat_u64 *s)
{
    return atomic_load_explicit((stat_u64 *)s, memory_order_relaxed);
}

/* Durations in buckets of four per power of two, from 64 us to about 70 s: relative error < 19 %.
 */
#define STAT_HIST_BUCKETS 84

struct stat_hist {
    stat_u64 bucket[STAT_HIST_BUCKETS];
    stat_u64 count;
    stat_u64 sum_ns;
};

void stat_hist_add(struct stat_hist *, mc_ns);
/* Adds b's content to a (a is written by the caller's thread). */
void stat_hist_merge(struct stat_hist *a, const struct stat_hist *b);
/* Upper bound of a bucket; MC_NEVER_NS for the last. */
mc_ns stat_hist_bound(unsigned bucket);
/* q in 0..1: the upper bound of the bucket that holds the quantile; 0 when empty. */
mc_ns stat_hist_quantile(const struct stat_hist *, double q);

#endif
