/* SPDX-License-Identifier: BSD-2-Clause
 *
 * metrics.h - what the agent knows, for Prometheus.  For agent/ only.
 */
#ifndef MC_AGENT_METRICS_H
#define MC_AGENT_METRICS_H

#include "agent/sample.h"
#include "base/buf.h"

struct agent_counts {
    unsigned watchers;
    uint64_t reports, skipped, refused_network, refused_watchers, check_replies;
};

/* Text format 0.0.4. */
void metrics_write(struct buf *, const char *target, const struct sample *,
                   const struct place_report *, const struct agent_counts *);

#endif
