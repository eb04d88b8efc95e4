/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tally.c - histograms, see tally.h.
 */
#include "sim/tally.h"

#include <math.h>

#define LEAST 1e-5
#define STEP  0.004987541511039073 /* log(1.005) */

void
sim_hist_add(struct sim_hist *h, double v)
{
    int i = v > LEAST ? (int)(log(v / LEAST) / STEP) : 0;

    h->bucket[i < SIM_HIST_BUCKETS ? i : SIM_HIST_BUCKETS - 1]++;
    h->n++;
    h->sum += v;
}

void
sim_hist_join(struct sim_hist *to, const struct sim_hist *from)
{
    for (int i = 0; i < SIM_HIST_BUCKETS; i++)
        to->bucket[i] += from->bucket[i];
    to->n += from->n;
    to->sum += from->sum;
}

double
sim_hist_quantile(const struct sim_hist *h, double q)
{
    double rank = q * (double)h->n, below = 0;

    if (h->n == 0)
        return 0;
    for (int i = 0; i < SIM_HIST_BUCKETS; i++) {
        below += h->bucket[i];
        if (below >= rank)
            return LEAST * exp((i + 0.5) * STEP);
    }
    return LEAST * exp(SIM_HIST_BUCKETS * STEP);
}
