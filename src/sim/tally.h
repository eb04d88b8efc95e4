/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tally.h - latencies and slowdowns of a run, in fine logarithmic buckets.
 */
#ifndef MC_SIM_TALLY_H
#define MC_SIM_TALLY_H

#include <stdint.h>

/* From 1e-5 up, each 0.5 % wider than the last, nine powers of ten: quantiles are exact to 0.25 %.
 */
#define SIM_HIST_BUCKETS 4160

struct sim_hist {
    uint64_t n;
    double sum;
    uint32_t bucket[SIM_HIST_BUCKETS];
};

void sim_hist_add(struct sim_hist *, double);
void sim_hist_join(struct sim_hist *, const struct sim_hist *);
double sim_hist_quantile(const struct sim_hist *, double q); /* 0 when empty */

/* Of one class. */
struct sim_tally {
    struct sim_hist latency_s, slowdown;
    uint64_t n_ok, n_failed;
};

#endif
