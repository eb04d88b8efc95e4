/* SPDX-License-Identifier: BSD-2-Clause
 *
 * leave.h - the orderly end of a balancer: clients go elsewhere before it does.  Control thread.
 *
 *   PART     not fit for traffic any more: addresses are withdrawn, /healthz says so.  Who comes
 *            nevertheless is served, and told with each answer to come back by another connection.
 *            For leave-grace, so that whoever sends clients here has heard of it.
 *   DRAIN    nobody new is let in; requests under way, and one more of each idle connection, end
 *   GOODBYE  the cluster is told
 */
#ifndef MC_CONTROL_LEAVE_H
#define MC_CONTROL_LEAVE_H

#include "io/timer.h"

struct node;

#define LEAVE_STEPS(X)                         \
    X(NOT, "serving")                          \
    X(PART, "sending clients elsewhere")       \
    X(DRAIN, "letting requests under way end") \
    X(GOODBYE, "saying goodbye to the cluster")

enum leave_step {
#define X(name, text) LEAVE_##name,
    LEAVE_STEPS(X)
#undef X
};

struct leave {
    enum leave_step step;
    struct timer timer; /* the end of the step, at the latest */
};

/* Begins; said a second time it ends at once. */
void leave_begin(struct node *);
/* Workers have told something. */
void leave_look(struct node *);
const char *leave_step_text(const struct node *);

#endif
