/* SPDX-License-Identifier: BSD-2-Clause
 *
 * takeover_metrics.h - the takeover of connections in the text format of Prometheus.  The control
 * thread.
 */
#ifndef MC_CONTROL_TAKEOVER_METRICS_H
#define MC_CONTROL_TAKEOVER_METRICS_H

#include "control/node.h"

/* Nothing where connections are not protected. */
void takeover_metrics(const struct node *, struct buf *);

#endif
