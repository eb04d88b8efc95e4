/* SPDX-License-Identifier: BSD-2-Clause
 *
 * member.h - a node as a member of its cluster: what fleet and placement should tell the others
 * goes out, what the others say goes in.
 *
 * Control thread.  Without `cluster` in the configuration n->member is NULL, and the calls that
 * take a node do what a balancer alone does.
 */
#ifndef MC_CONTROL_MEMBER_H
#define MC_CONTROL_MEMBER_H

#include <jansson.h>

#include "cluster/cluster.h"
#include "control/node.h"

/* Binds the sockets of the cluster, before the first snapshot is built; MC_OK without one. */
enum mc_err member_open(struct node *, struct errbuf *);
/* The first snapshot is in force: looks for the others. */
void member_start(struct node *);
/* Another configuration is in force.  The text gets what is noteworthy. */
void member_reloaded(struct node *, struct buf *text);
/* What this one says of itself has changed. */
void member_tell_card(struct node *);
/* Another process goes on in our place: nothing is said any more, nor written down. */
void member_hush(struct node *);
/* Says goodbye to the others, then calls done. */
void member_leave(struct node *, void (*done)(struct node *));
/* After dns_free(), before fleet_free(). */
void member_stop(struct node *);

/* The operator's word on a server; who: a user, or empty.  It is the whole cluster's. */
enum mc_err member_set_state(struct node *, const char *pool, const char *server, enum health_admin,
                             const char *who, struct errbuf *);
enum mc_err member_set_weight(struct node *, const char *pool, const char *server, unsigned weight,
                              const char *who, struct errbuf *);
/* Takes the operator's words on a server back. */
enum mc_err member_unset(struct node *, const char *pool, const char *server, const char *who,
                         struct errbuf *);

/* --- member_view.c: for display --- */

/* {"members": [...], ...}; members is empty without a cluster. */
json_t *member_view(const struct node *);
/* In short, for the status; null without a cluster. */
json_t *member_brief(const struct node *);
/* What belongs to a server: its owners and the operator's words on it. */
void member_server_view(const struct node *, struct server *, json_t *into);
void member_metrics(const struct node *, struct buf *);

#endif
