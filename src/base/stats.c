/* SPDX-License-Identifier: BSD-2-Clause
 *
 * stats.c - the latency histogram.
 *
 * Bucket b ends at 64 us * 2^(b/4), inclusive; the first begins at 0, the last has no end.
 */
#include "base/stats.h"

#include <math.h>

#include "base/check.h"

#define FIRST_NS (64 * MC_US)
#define LAST     (STAT_HIST_BUCKETS - 1)

/* The ends within one power of two: 64 us * 2^(j/4), rounded. */
static const mc_ns quarter[4] = {FIRST_NS, 76109, 90510, 107635};

/* hot: once per request */
static unsigned
bucket_of(mc_ns ns)
{
    unsigned octave;

    if (ns <= FIRST_NS)
        return 0;
    /* 64 us * 2^octave < ns <= 64 us * 2^(octave + 1) */
    octave = 63 - (unsigned)__builtin_clzll((unsigned long long)((ns - 1) / FIRST_NS));
    if (octave > LAST / 4)
        return LAST;
    return octave * 4 + 1 + (ns > quarter[1] << octave) + (ns > quarter[2] << octave) +
           (ns > quarter[3] << octave);
}

void
stat_hist_add(struct stat_hist *h, mc_ns ns)
{
    unsigned b;

    if (ns < 0)
        ns = 0;
    b = bucket_of(ns);
    stat_add(&h->bucket[b < LAST ? b : LAST], 1);
    stat_add(&h->count, 1);
    stat_add(&h->sum_ns, (uint64_t)ns);
}

void
stat_hist_merge(struct stat_hist *a, const struct stat_hist *b)
{
    for (unsigned i = 0; i < STAT_HIST_BUCKETS; i++)
        stat_add(&a->bucket[i], stat_get(&b->bucket[i]));
    stat_add(&a->count, stat_get(&b->count));
    stat_add(&a->sum_ns, stat_get(&b->sum_ns));
}

mc_ns
stat_hist_bound(unsigned bucket)
{
    MC_ASSERT(bucket < STAT_HIST_BUCKETS);
    return bucket == LAST ? MC_NEVER_NS : quarter[bucket % 4] << (bucket / 4);
}

/* Counts by the buckets, not by `count`, which another thread may already have raised. */
mc_ns
stat_hist_quantile(const struct stat_hist *h, double q)
{
    uint64_t n[STAT_HIST_BUCKETS], total = 0, below = 0;
    uint64_t rank;

    for (unsigned b = 0; b < STAT_HIST_BUCKETS; b++)
        total += n[b] = stat_get(&h->bucket[b]);
    if (total == 0)
        return 0;
    rank = (uint64_t)ceil(q * (double)total);
    rank = rank < 1 ? 1 : rank > total ? total : rank;
    for (unsigned b = 0; b < LAST; b++) {
        below += n[b];
        if (below >= rank)
            return stat_hist_bound(b);
    }
    return MC_NEVER_NS;
}
