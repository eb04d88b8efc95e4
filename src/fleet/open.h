/* SPDX-License-Identifier: BSD-2-Clause
 *
 * open.h - which servers of a pool may be chosen, and with which weight.  For fleet/ only.
 *
 * Every change of a server's health goes through here, since it may open or close others too: the
 * backups, and all of them when too few are left.
 */
#ifndef MC_FLEET_OPEN_H
#define MC_FLEET_OPEN_H

#include "fleet/live.h"

/* Locks the server's health for a change; open_end() unlocks, settles what follows from it and logs
 * a new state.  Control thread. */
struct health *open_begin(struct entry *);
void open_end(struct entry *, bool state_changed, mc_ns now);
/* The members or their weights are new.  Control thread. */
void open_recompute(struct live *, mc_ns now);
/* How many requests the server may have at once, by the configuration and by its agent; 0: no
 * limit. Control thread. */
void open_limit(struct entry *, uint32_t configured, uint32_t agent);
/* Requests failed: sets the server aside, unless it is the last open one.  Any worker. */
void open_eject(struct entry *, unsigned fails, enum server_outcome last, mc_ns now);

#endif
