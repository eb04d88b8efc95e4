/* SPDX-License-Identifier: BSD-2-Clause
 *
 * follow.h - the agent of one server: finds it, and listens to it.  For fleet/ only; control
 * thread.
 */
#ifndef MC_FLEET_FOLLOW_H
#define MC_FLEET_FOLLOW_H

#include "fleet/live.h"

struct follow;

/* The agent that the conf names, asked that often; servers whose agents are one share a watcher.
 * pool, server: for the log.  The fleet must have a loop. */
struct follow *follow_new(struct fleet *, const char *pool, const char *server,
                          const struct server_conf *, mc_ns interval, watcher_f *, void *arg);
/* No call back after this; may be called from within one. */
void follow_free(struct follow **);
/* True when a new one with these would do the same. */
bool follow_is_same(const struct follow *, const struct server_conf *, mc_ns interval);
const char *follow_text(const struct follow *); /* where it is, as configured */
/* NULL: its name has no address yet. */
const struct watcher *follow_watcher(const struct follow *);
/* What is known of the agent itself. */
void follow_show(const struct follow *, mc_ns now, struct brain_server *out);
/* After dns_free(): forgets the questions that will not be answered any more. */
void follow_forget_all(struct fleet *);

#endif
