/* SPDX-License-Identifier: BSD-2-Clause
 *
 * idle.h - connections to servers, kept for reuse, last used first.  One per worker, one thread.
 *
 * Knows nothing of sockets: an entry is embedded in its owner's connection.
 */
#ifndef MC_FLEET_IDLE_H
#define MC_FLEET_IDLE_H

#include "base/list.h"
#include "fleet/server.h"

struct idle_conn {
    struct list link;      /* server's list, newest first */
    struct list lru;       /* all, oldest first */
    struct server *server; /* whom the owner holds a reference to while the entry is kept */
    uint32_t addr_generation;
    mc_ns until_ns; /* closed when this time has come */
};

struct idle;
typedef void idle_evict_f(void *arg, struct idle_conn *); /* close it; it is out of the lists */

struct idle *idle_new(idle_evict_f *, void *arg);
void idle_free(struct idle **); /* evicts all */
/* Keeps c; evicts the server's oldest when it has max_per_server already. */
void idle_put(struct idle *, struct idle_conn *, unsigned max_per_server);
/* The most recently kept connection with the server's present address, or NULL.  Evicts stale ones
 * on the way. */
struct idle_conn *idle_take(struct idle *, struct server *, mc_ns now);
/* The connection broke while idle: out of the lists. */
void idle_drop(struct idle *, struct idle_conn *);
/* Evicts what has expired, some hundreds at most; returns when to call again (MC_NEVER_NS: when
 * something was put). */
mc_ns idle_sweep(struct idle *, mc_ns now);
/* Evicts every connection to servers for which keep() is false (after a reload). */
void idle_retain(struct idle *, bool (*keep)(void *arg, const struct server *), void *arg);
/* Evicts the oldest of all (descriptors ran out); false when there is none. */
bool idle_evict_oldest(struct idle *);

#endif
