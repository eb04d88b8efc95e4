/* SPDX-License-Identifier: BSD-2-Clause
 *
 * takeover_node.h - a node whose connections others may take over: the takeover thread's start and
 * end, who its peers are, which listeners want it.
 *
 * Control thread.  Without such a listener, or where the machine lacks something for it (which the
 * log says), n->takeover is NULL and all of this does nothing.
 *
 * A member tells the address of its takeover in its card (member_priv.h).
 */
#ifndef MC_CONTROL_TAKEOVER_NODE_H
#define MC_CONTROL_TAKEOVER_NODE_H

#include <jansson.h>

#include "base/str.h"
#include "control/node.h"
#include "takeover/guard.h"
#include "takeover/peers.h"

/* With the rights we came with, after member_open() and the first snapshot.  Never an error: the
 * balancer goes on without. */
void takeover_node_open(struct node *);
/* After root was given up, before the workers; where a process before us serves, it begins in
 * takeover_node_succeed(): when that has handed over, or has died (orphaned). */
enum mc_err takeover_node_start(struct node *, struct errbuf *);
void takeover_node_succeed(struct node *, bool orphaned);
/* The process before us has ended. */
void takeover_node_be_alone(struct node *);
/* Who is in the cluster, or what one says of itself, has changed. */
void takeover_node_members(struct node *);
/* Another configuration is in force; the text gets what is noteworthy. */
void takeover_node_reloaded(struct node *, struct buf *text);
/* This balancer is going to end: no peer counts on it any more. */
void takeover_node_leave(struct node *);
/* The same, but another process is to take our place, or is not; upgrade_look() when it is so. */
void takeover_node_pass(struct node *, enum peers_pass);
bool takeover_node_has_passed(const struct node *, enum peers_pass);
/* It has these interfaces, and is to begin now. */
void takeover_node_hand_over(struct node *, const unsigned *ifindex, unsigned n);
/* Ours; returns how many, 0 without a takeover. */
unsigned takeover_node_interfaces(const struct node *, unsigned ifindex[GUARD_INTERFACES_MAX]);
/* Its connections have gone: what still comes is passed on.  False: there is no takeover; else
 * leave_look() when that is done, or has to be. */
bool takeover_node_part(struct node *);
bool takeover_node_has_parted(const struct node *);
/* After the workers. */
void takeover_node_stop(struct node *);

#define TAKEOVER_NODE_TEXT 64
/* What our card says, "10.0.0.1:7711"; empty without a takeover.  Returns out. */
const char *takeover_node_card(const struct node *, char out[TAKEOVER_NODE_TEXT]);

/* For the status; null where none is wanted. */
json_t *takeover_node_view(const struct node *);

#endif
