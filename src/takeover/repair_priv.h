/* SPDX-License-Identifier: BSD-2-Clause
 *
 * repair_priv.h - between repair.c and repair_orphans.c.
 */
#ifndef MC_TAKEOVER_REPAIR_PRIV_H
#define MC_TAKEOVER_REPAIR_PRIV_H

#include <stdbool.h>

#include "takeover/flow_key.h"

/* Destroys the connection of that name, if it belongs to no process.  True: there was one. */
bool orphan_destroy(const struct flow_key *);

#endif
