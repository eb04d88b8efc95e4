/* SPDX-License-Identifier: BSD-2-Clause
 *
 * health.h - the state of a server: what the operator, its agent, checks and traffic say, made one.
 * Pure.
 */
#ifndef MC_FLEET_HEALTH_H
#define MC_FLEET_HEALTH_H

#include <stdbool.h>

#include "base/units.h"

/* What people see.  The operator's word goes before that of the server's agent, and both before
 * health; ejection is the balancer's own eyes. */
#define HEALTH_STATES(X)                                                     \
    X(UP, "up")                                                              \
    X(DOWN, "down")       /* active checks say so, or no address is known */ \
    X(EJECTED, "ejected") /* passive failures, for a while */                \
    X(DRAIN, "drain")     /* finishes what it has, gets nothing new */       \
    X(MAINT, "maint")     /* gets nothing, is not checked */

enum health_state {
#define X(name, text) HEALTH_##name,
    HEALTH_STATES(X)
#undef X
};
const char *health_state_text(enum health_state);

enum health_admin { HEALTH_ADMIN_READY, HEALTH_ADMIN_DRAIN, HEALTH_ADMIN_MAINT };

struct health_conf {
    bool check;           /* active checks are made */
    unsigned rise, fall;  /* successes to come up, failures to go down; defaults 2, 3 */
    unsigned eject_after; /* consecutive passive failures; 0: never; default 5 */
    mc_ns eject_ns;       /* first time-out, doubled each time; default 2 s */
    mc_ns eject_max_ns;   /* default 32 s */
    mc_ns slow_start_ns;  /* weight grows over this time after coming back; default 0 */
};

struct health {
    struct health_conf conf;
    enum health_admin admin; /* the operator's word */
    enum health_admin agent; /* and that of the server's agent; ready when there is none */
    bool agent_down;         /* the agent says that the service is */
    bool agent_overruled;    /* the operator said ready to its drain or maint */
    bool resolved;           /* an address is known */
    bool checked_up;         /* verdict of the active checks; true before the first one */
    bool shared;             /* others check it, too, and what counts is: */
    bool agreed_up;
    bool proven;     /* a check has succeeded since checks began; until then one result decides */
    bool was_up;     /* it has been up; only who comes back starts slowly */
    unsigned streak; /* results of the same kind that contradict the verdict */
    unsigned ejections; /* in a row; decides the back-off */
    mc_ns ejected_until_ns;
    mc_ns eject_span_ns; /* of the last ejection */
    mc_ns since_ns;      /* when the present state began (monotonic) */
    int64_t since_wall_ns;
    mc_ns came_up_ns; /* for slow start; 0: not ramping */
    enum health_state state;
    char reason[96];   /* why the present state: "connection refused", "status 503, expected 200" */
    char down_why[96]; /* what the last failed check or lookup said */
    char admin_why[96], agent_why[96]; /* the words that were used */
};

void health_init(struct health *, const struct health_conf *, enum health_admin, bool resolved,
                 mc_ns now, int64_t wall_ns);
/* Zeros in the conf mean the defaults, but eject_after: 0 never ejects. */
/* Each returns true when the state changed. */
bool health_set_conf(struct health *, const struct health_conf *, mc_ns now, int64_t wall_ns);
bool health_check_result(struct health *, bool ok, const char *why, mc_ns now, int64_t wall_ns);
/* The verdict of all who check it; from now on it counts instead of that of our own checks. */
bool health_set_agreed(struct health *, bool up, const char *why, mc_ns now, int64_t wall_ns);
bool health_eject(struct health *, const char *why, mc_ns now, int64_t wall_ns);
bool health_set_admin(struct health *, enum health_admin, const char *why, mc_ns now,
                      int64_t wall_ns);
/* What the agent says now; it stays said until it says something else.  why: "agent says: drain".
 */
bool health_set_agent(struct health *, enum health_admin, bool down, const char *why, mc_ns now,
                      int64_t wall_ns);
/* The operator's word, or the agent's where the operator leaves it the choice. */
enum health_admin health_admin_now(const struct health *);
/* Begins where the same server was in another process, by whose clock it was; words: the
 * operator's, too. */
void health_carry(struct health *, const struct health *was, bool words, mc_ns now,
                  int64_t wall_ns);
bool health_set_resolved(struct health *, bool, const char *why, mc_ns now, int64_t wall_ns);
/* Time passes: an ejection ends. */
bool health_tick(struct health *, mc_ns now, int64_t wall_ns);
/* Checks begin anew (after maintenance): the next result decides alone. */
void health_check_restart(struct health *);
/* Back from an ejection: one more failure ejects again at once, for twice as long. */
bool health_on_probation(const struct health *);
/* A request succeeded while on probation.  Ends it, once the server has been back for as long as it
 * was away: one success between failures proves little. */
void health_forgive(struct health *, mc_ns now);
/* When health_tick(), health_forgive() or health_ramp() have something new; MC_NEVER_NS: never. */
mc_ns health_next(const struct health *, mc_ns now);
/* Share of its weight that the server may have now, 0..1 (slow start). */
double health_ramp(const struct health *, mc_ns now);

#endif
