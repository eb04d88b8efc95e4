/* SPDX-License-Identifier: BSD-2-Clause
 *
 * carry.h - what is known of servers, carried on from one process to the next.  Control thread.
 *
 * Both run on one machine, so times on the monotonic clock mean the same to both.
 */
#ifndef MC_FLEET_CARRY_H
#define MC_FLEET_CARRY_H

#include "base/buf.h"
#include "fleet/pool.h"

/* Of struct health, what is carried on: X(kind in JSON, type, member), and texts. */
#define CARRIED_HEALTH(X)                \
    X(integer, enum health_admin, admin) \
    X(integer, enum health_admin, agent) \
    X(boolean, bool, agent_down)         \
    X(boolean, bool, agent_overruled)    \
    X(boolean, bool, checked_up)         \
    X(boolean, bool, shared)             \
    X(boolean, bool, agreed_up)          \
    X(boolean, bool, proven)             \
    X(boolean, bool, was_up)             \
    X(integer, unsigned, streak)         \
    X(integer, unsigned, ejections)      \
    X(integer, mc_ns, ejected_until_ns)  \
    X(integer, mc_ns, eject_span_ns)     \
    X(integer, mc_ns, since_ns)          \
    X(integer, int64_t, since_wall_ns)   \
    X(integer, mc_ns, came_up_ns)

#define CARRIED_TEXTS(X) X(reason) X(down_why) X(admin_why) X(agent_why)

/* Texts are good until the fleet changes. */
struct carried {
    const char *pool, *server, *address;
    struct health health;
    unsigned weight, conf_weight; /* in force, and as configured */
    enum health_admin conf_state; /* as configured */
};

/* The servers in force, i counted from 0.  False: there are no more. */
bool carry_next(const struct fleet *, unsigned i, struct carried *out);
/* A server that is in force here under that name and address begins where it was.  What the
 * operator said holds as long as the configuration says the same as when he said it. */
void carry_on(struct fleet *, const struct carried *);

/* What was learned of each pool, as text. */
void carry_costs(const struct brains *, void (*each)(void *arg, const char *pool, struct str text),
                 void *arg);
/* The pool's brain, when it is made, begins with this instead of its file. */
void carry_costs_on(struct brains *, const char *pool, struct str text);
/* The first pools are in force: those made from now on begin as ever. */
void carry_costs_done(struct brains *);

#endif
