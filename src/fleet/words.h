/* SPDX-License-Identifier: BSD-2-Clause
 *
 * words.h - what the agent of a server says about using it, as HAProxy's agent-check: how much of
 * its weight, how many requests at once, whether at all.  For fleet/ only; control thread.
 */
#ifndef MC_FLEET_WORDS_H
#define MC_FLEET_WORDS_H

#include "fleet/live.h"

/* Listens to the agent that the conf names, or goes on listening.  What was said stays until the
 * agent says something else, a new one of the server too; where none is named it is forgotten. */
void words_follow(struct entry *, const struct server_conf *, mc_ns interval);
/* Listens no more; what was said stays. */
void words_stop(struct entry *);

#endif
