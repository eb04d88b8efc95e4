/* SPDX-License-Identifier: BSD-2-Clause
 *
 * eject.h - setting a server aside that fails time after time, longer each time.  Pure.
 */
#ifndef MC_PLACE_EJECT_H
#define MC_PLACE_EJECT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/units.h"

/* Failures in a row, from whatever class.  Failed requests are held (know.c), so that few more come
 * after the first; with 5 a fault costs half as many again (37 against 60 in a million requests of
 * the simulator's scenario faults). */
#define EJECT_FAILS     3
#define EJECT_BASE_NS   (2 * MC_SEC) /* the first time; doubled each time, 16 times at most */
#define EJECT_LEVEL_MAX 4
#define EJECT_FORGET_NS (60 * MC_SEC) /* of good behaviour make it a first time again */

struct eject {
    mc_ns until_ns;
    mc_ns good_ns; /* the last time a request went well */
    uint8_t fails, level;
    bool probation;      /* was set aside: one failure more does it again */
    bool hearsay;        /* the last time because another balancer said so */
    mc_ns deaf_until_ns; /* what others say of it is not believed */
};

static inline bool
eject_is_out(const struct eject *e, mc_ns now)
{
    return now < e->until_ns;
}

static inline void
eject_for(struct eject *e, mc_ns now, mc_ns duration)
{
    e->until_ns = now + duration;
    e->probation = true;
    e->fails = 0;
}

/* A request failed by the server's fault.  True when that sets the server aside just now. */
static inline bool
eject_failed(struct eject *e, mc_ns now)
{
    if (eject_is_out(e, now))
        return false; /* one that was sent before */
    if (e->probation && now - e->until_ns > EJECT_FORGET_NS)
        *e = (struct eject){0};
    if (++e->fails < EJECT_FAILS && !e->probation)
        return false;
    eject_for(e, now, EJECT_BASE_NS << e->level);
    e->hearsay = false;
    e->level += e->level < EJECT_LEVEL_MAX;
    return true;
}

static inline void
eject_succeeded(struct eject *e, mc_ns now)
{
    e->fails = 0;
    e->good_ns = now;
    /* others could not reach it, we can: the fault is on their way there */
    if (e->hearsay && e->probation && now > e->until_ns)
        e->deaf_until_ns = now + EJECT_FORGET_NS / 4;
    e->hearsay = false;
}

#endif
