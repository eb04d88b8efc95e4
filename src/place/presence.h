/* SPDX-License-Identifier: BSD-2-Clause
 *
 * presence.h - how many requests of each class were in flight at each server, summed over time.
 *
 * Time is cut into windows at whole multiples of their length, on every balancer and in every agent
 * alike, so that what several of them count for one window belongs together.  Events may come out
 * of order and a little late: each adds what it changes from its own time to the end of its window.
 * Pure; control thread.
 */
#ifndef MC_PLACE_PRESENCE_H
#define MC_PLACE_PRESENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/units.h"

/* What one window has to say of a class at a server. */
struct presence_row {
    uint16_t class;
    float seconds; /* requests in flight, integrated over the window, network time taken off */
    float ended;   /* completions */
    int32_t level; /* in flight at the end of the window */
};

struct presence_cell {
    int32_t level;     /* in flight when the present window began */
    int16_t change[2]; /* by window parity: begins less ends */
    float sum_s[2];    /* what events add to or take from level x length */
    float ended[2];
};

struct presence {
    unsigned n_servers, n_classes, n_words;
    mc_ns window_ns;
    int64_t window;             /* the present one: times window .. window + 1 */
    struct presence_cell *cell; /* [n_servers * n_classes] */
    uint64_t *active;           /* [n_servers * n_words]: classes whose cell is not all zero */
};

void presence_init(struct presence *, unsigned n_servers, unsigned n_classes, mc_ns window_ns,
                   mc_ns now);
void presence_fini(struct presence *);
void presence_begin(struct presence *, uint32_t server, unsigned class, mc_ns at);
/* rtt: what of the latency was the network's. */
void presence_end(struct presence *, uint32_t server, unsigned class, mc_ns at, mc_ns rtt);
/* The rows of one server for the present window; returns how many, at most n_classes. */
unsigned presence_rows(struct presence *, uint32_t server, struct presence_row *out);
/* The present window is over: the next one begins.  After presence_rows() of each server. */
void presence_next(struct presence *);

#endif
