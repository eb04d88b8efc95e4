/* SPDX-License-Identifier: BSD-2-Clause
 *
 * probed.h - what a server would answer to a probe of Prequal, kept by who sends it its requests.
 * Pure; one worker's own.
 *
 * In Prequal (prequal.c) a replica counts its requests in flight and notes how long each took,
 * under the count that it found when it came.  Asked, it tells the count and the median latency at
 * about that count.  A balancer that sends a server all of its requests counts the same; its
 * latencies have the way there in them, which all servers have.
 */
#ifndef MC_PLACE_PROBED_H
#define MC_PLACE_PROBED_H

#include <stdint.h>

#include "base/units.h"

struct probed;

/* Of n servers, nothing known of any. */
struct probed *probed_new(unsigned n);
void probed_free(struct probed **);
/* A request went well that came as the crowd-th in flight, itself counted.  hot: once per attempt
 */
void probed_note(struct probed *, uint32_t server, uint32_t crowd, mc_ns latency, mc_ns now);
/* How long requests take that come as the crowd-th in flight; 0: nothing is known.  hot: some times
 * per attempt */
mc_ns probed_latency(const struct probed *, uint32_t server, uint32_t crowd, mc_ns now);

#endif
