/* SPDX-License-Identifier: BSD-2-Clause
 *
 * lean.h - how much less a server gets for what its responses tell of its load.
 *
 * A utilization says neither how many cores there are nor whose work keeps them busy, so it cannot
 * be counted in requests.  But of servers that stand in for each other the busier one should get
 * less, until they are alike: a server's price grows with time while it is busier than the mean of
 * those that are heard, shrinks while it is less busy, and is forgotten when nothing is heard.
 *
 * What a server says changes its own price only, and the mean a little: a price never falls below
 * that of a server that says nothing, and grows to LEAN_MOST, so that no lie draws all requests to
 * a server or leaves one with none.  Pure; control thread.
 */
#ifndef MC_PLACE_LEAN_H
#define MC_PLACE_LEAN_H

#include <stdbool.h>

#include "place/load.h"

#define LEAN_MOST 8.0 /* times the price of a server that says nothing */

/* Of one server.  Zero-initialise. */
struct lean {
    mc_ns at;      /* when it told last; 0: never */
    float busy;    /* what it told */
    float log;     /* logarithm of the price */
    bool by_agent; /* an agent is heard, whose word on the load is exact: no price, but in the mean
                    */
};

/* What a word comes to: 0 idle, 1 busy, up to 2; negative: it says nothing of that.  After gRPC's
 * A58: application_utilization goes before cpu_utilization, and errors make an idle server busy. */
double lean_busy(const struct place_word *);
/* Out of order: an older word is passed over. */
void lean_note(struct lean *, double busy, mc_ns at);
/* Time passed for the servers of a pool. */
void lean_step(struct lean *, unsigned n, double seconds, mc_ns now);
/* 1..LEAN_MOST: the score's factor is multiplied by it. */
double lean_price(const struct lean *);

#endif
