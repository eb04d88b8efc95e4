/* SPDX-License-Identifier: BSD-2-Clause
 *
 * timer.h - hierarchical timing wheel (Varghese, Lauck 1987), tick 1 ms.  Pure: told the time.
 *
 * Setting, moving and clearing a timer is O(1).  A timer never fires early; it may fire up to one
 * tick and one loop turn late.  The struct is embedded in its owner; zero-initialise it.
 */
#ifndef MC_IO_TIMER_H
#define MC_IO_TIMER_H

#include <stdbool.h>

#include "base/list.h"
#include "base/units.h"

struct timer;
typedef void timer_f(struct timer *);

struct timer {
    struct list link; /* {NULL, NULL}: not set */
    mc_ns at_ns;
    timer_f *fn;
};

struct timers;

struct timers *timers_new(mc_ns now);
void timers_free(struct timers **);
/* (Re)arms t to fire at at_ns; fn must be set before. */
void timers_set(struct timers *, struct timer *, mc_ns at_ns);
void timers_clear(struct timers *, struct timer *);
/* Fires all that are due.  A callback may set and clear any timer, also its own. */
void timers_run(struct timers *, mc_ns now);
/* When to call again: <= the earliest deadline, MC_NEVER_NS when none is set. */
mc_ns timers_next(const struct timers *, mc_ns now);

static inline bool
timer_is_set(const struct timer *t)
{
    return t->link.next != NULL;
}

#endif
