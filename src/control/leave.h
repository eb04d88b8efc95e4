/* SPDX-License-Identifier: BSD-2-Clause
 *
 * leave.h - the orderly end of a balancer: clients go elsewhere before it does.  Control thread.
 *
 *   PART     not fit for traffic any more: /healthz says so.  Who comes nevertheless is served, and
 *            told with each answer to come back by another connection.  For leave-grace, so that
 *            whoever sends clients here has heard of it.
 *   DRAIN    nobody new is let in; requests under way, and one more of each idle connection, end
 *   LINGER   addresses of the cluster go to other members; with takeover what still comes is passed
 *            on to who has it now
 *   GOODBYE  the cluster is told
 *
 * Addresses (vip.h) go at once; but they take connections with them.  So with a leave-grace they go
 * in DRAIN, when most have ended: new SYNs are dropped meanwhile, and reach another balancer when
 * clients repeat them.
 *
 * After an upgrade there is only HANDED_OVER: another process serves in our place.
 */
#ifndef MC_CONTROL_LEAVE_H
#define MC_CONTROL_LEAVE_H

#include "io/timer.h"

struct node;

#define LEAVE_STEPS(X)                          \
    X(NOT, "serving")                           \
    X(PART, "sending clients elsewhere")        \
    X(DRAIN, "letting requests under way end")  \
    X(LINGER, "passing on what still comes")    \
    X(GOODBYE, "saying goodbye to the cluster") \
    X(HANDED_OVER, "serving what the next process cannot take")

enum leave_step {
#define X(name, text) LEAVE_##name,
    LEAVE_STEPS(X)
#undef X
};

struct leave {
    enum leave_step step;
    struct timer timer; /* the end of the step, at the latest */
    struct timer withdraw_timer;
    bool late, withdrawn; /* addresses are withdrawn behind the requests of kept connections */
};

/* Begins; said a second time it ends at once. */
void leave_begin(struct node *);
/* Workers have told something. */
void leave_look(struct node *);
/* Another process has all that is ours: serves what cannot go on there, and ends. */
void leave_to_heir(struct node *, int heir);
const char *leave_step_text(const struct node *);

#endif
