/* SPDX-License-Identifier: BSD-2-Clause
 *
 * metrics.h - the state of a node in the text format of Prometheus.  Control thread.
 *
 * Names mirror HAProxy's tree: meercat_process_*, meercat_listener_*, meercat_pool_*,
 * meercat_server_*.
 */
#ifndef MC_CONTROL_METRICS_H
#define MC_CONTROL_METRICS_H

#include "control/node.h"

void metrics_text(const struct node *, struct buf *);

#endif
