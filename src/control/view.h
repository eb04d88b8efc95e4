/* SPDX-License-Identifier: BSD-2-Clause
 *
 * view.h - the state of a node as JSON.  Control thread.
 */
#ifndef MC_CONTROL_VIEW_H
#define MC_CONTROL_VIEW_H

#include <jansson.h>

#include "control/node.h"

/* Each returns a new object. */
json_t *view_status(const struct node *);
json_t *view_servers(const struct node *);
json_t *view_pools(const struct node *);
json_t *view_listeners(const struct node *);
json_t *view_routes(const struct node *);
json_t *view_config(const struct node *);
/* One server by name; NULL when there is none. */
json_t *view_server(const struct node *, struct str pool, struct str server);

/* A string, or null; what is no UTF-8 is said to be that. */
json_t *view_text(const char *);
/* 2026-01-31T12:00:00.000Z */
json_t *view_wall_time(int64_t wall_ns);

/* Sums over all workers; also for metrics. */
void view_sum_worker_times(const struct node *, struct stat_hist *out);
uint64_t view_sum_workers(const struct node *, size_t offset); /* of a stat_u64 in worker_stats */
uint64_t view_sum_server(const struct node *, const struct server *, size_t offset);
void view_sum_server_times(const struct node *, const struct server *, struct stat_hist *out);

#endif
