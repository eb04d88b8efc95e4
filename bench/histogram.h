/* SPDX-License-Identifier: BSD-2-Clause
 *
 * histogram.h - latencies: 32 steps for each power of two of nanoseconds, so a quantile is right
 * within 3 %. */
#ifndef MC_BENCH_HISTOGRAM_H
#define MC_BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEPS   32
#define HISTOGRAM_BUCKETS (64 * HISTOGRAM_STEPS)

struct histogram {
    uint64_t n;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

static inline void
histogram_add(struct histogram *h, uint64_t ns)
{
    unsigned log2 = 63 - (unsigned)__builtin_clzll(ns | HISTOGRAM_STEPS);

    h->n++;
    /* 5 = log2(HISTOGRAM_STEPS) */
    h->buckets[(log2 - 5) * HISTOGRAM_STEPS + (unsigned)(ns >> (log2 - 5))]++;
}

static inline double
histogram_us(const struct histogram *h, double quantile)
{
    uint64_t rank = (uint64_t)(quantile * (double)h->n), seen = 0;
    unsigned b = 0, log2;

    if (h->n == 0)
        return 0;
    while (b < HISTOGRAM_BUCKETS - 1 && (seen += h->buckets[b]) <= rank)
        b++;
    log2 = b < 2 * HISTOGRAM_STEPS ? 5 : b / HISTOGRAM_STEPS + 4;
    return (double)((uint64_t)(b - (log2 - 5) * HISTOGRAM_STEPS) << (log2 - 5)) / 1e3;
}

#endif
