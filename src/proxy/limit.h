/* SPDX-License-Identifier: BSD-2-Clause
 *
 * limit.h - so many requests a second, for all workers together: the generic cell rate algorithm
 * (ITU-T I.371, as virtual scheduling), which needs one number.
 *
 * Any worker takes; the control thread sets.
 */
#ifndef MC_PROXY_LIMIT_H
#define MC_PROXY_LIMIT_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/units.h"

/* Survives reloads: requests before it count after it. */
struct limit {
    char *name;                       /* of the route */
    alignas(64) _Atomic mc_ns due_ns; /* when the bucket will be full again */
    _Atomic mc_ns each_ns;            /* that a request takes of it; 0: there is no limit */
    _Atomic mc_ns burst_ns;           /* its size */
    _Atomic uint64_t n_taken, n_refused;
};

/* per_s 0: no limit.  burst: requests that may come at once, at least 1.  As many requests are
 * missing in the bucket as before, as far as they fit: what was taken at a slow rate does not take
 * its time to come back at a fast one. */
void limit_set(struct limit *, double per_s, double burst, mc_ns now);
/* One request; false: too many, and *wait_ns tells when the next may come.  hot: once per request
 * of a limited route */
bool limit_take(struct limit *, mc_ns now, mc_ns *wait_ns);
/* What was asked for so far, refused or not. */
uint64_t limit_asked(const struct limit *);

#endif
