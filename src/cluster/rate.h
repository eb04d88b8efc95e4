/* SPDX-License-Identifier: BSD-2-Clause
 *
 * rate.h - a token bucket: so much a second, and so much at once.  Pure, one thread.
 */
#ifndef MC_CLUSTER_RATE_H
#define MC_CLUSTER_RATE_H

#include <stdbool.h>

#include "base/units.h"

/* Tokens may go below 0: who takes on credit pays before the next may take. */
struct rate {
    double per_s, burst, tokens;
    mc_ns at_ns; /* when `tokens` was right */
};

/* Full at first. */
void rate_init(struct rate *, double per_s, double burst, mc_ns now);
/* What may be taken at once; below 0: owed. */
double rate_left(struct rate *, mc_ns now);
/* n tokens, or nothing and false. */
bool rate_take(struct rate *, double n, mc_ns now);
/* n tokens, on credit when they are not there. */
void rate_owe(struct rate *, double n, mc_ns now);
/* When there will be n tokens (n <= burst); MC_NEVER_NS when nothing flows in. */
mc_ns rate_due(struct rate *, double n, mc_ns now);

#endif
