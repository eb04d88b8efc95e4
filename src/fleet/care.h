/* SPDX-License-Identifier: BSD-2-Clause
 *
 * care.h - what the control thread does for a server of the configuration in force: checks it,
 * listens to its agent, resolves its name, ends its ejections, lets it start slowly.  For fleet/
 * only; control thread.
 */
#ifndef MC_FLEET_CARE_H
#define MC_FLEET_CARE_H

#include "fleet/live.h"

/* Begins, or goes on as the new confs say. */
void care_start(struct entry *, const struct pool_conf *, const struct server_conf *);
void care_stop(struct entry *);
/* The operator or the agent spoke: a server in maintenance is not checked. */
void care_admin_changed(struct entry *);
/* It became ours to check, or is so no more. */
void care_owner_changed(struct entry *);
/* A name has new addresses: its checks look there at once. */
void care_addr_changed(struct entry *);
/* Workers have set servers aside; from the loop. */
void care_events(struct fleet *);

#endif
