/* SPDX-License-Identifier: BSD-2-Clause
 *
 * admin.h - what can be asked of a balancer and told to it: JSON below /v1/, /metrics, /healthz.
 *
 * Orders (POST) are taken from the unix socket only, whose permission bits say who may give them;
 * the TCP address can be read by whoever reaches it and changes nothing.  The control thread.
 */
#ifndef MC_CONTROL_ADMIN_H
#define MC_CONTROL_ADMIN_H

#include "control/node.h"

/* Listens where the node's configuration says.  A default socket that cannot be made is a warning.
 */
enum mc_err admin_start(struct node *, struct errbuf *);
void admin_stop(struct node *);
/* Another process answers in our place, or we in another's: from now on, or not. */
void admin_accept(struct node *, bool on);
/* The i-th socket that it listens on, from 0, with its address; -1: there are no more. */
int admin_socket(const struct node *, unsigned i, struct addr *);

#endif
