/* SPDX-License-Identifier: BSD-2-Clause
 *
 * node_priv.h - what node.c and node_reload.c have in common.
 */
#ifndef MC_CONTROL_NODE_PRIV_H
#define MC_CONTROL_NODE_PRIV_H

#include "control/node.h"

/* Takes the snapshot; the one before is freed when no worker uses it any more. */
void node_put_in_force(struct node *, struct snapshot *);

#endif
