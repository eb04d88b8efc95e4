/* SPDX-License-Identifier: BSD-2-Clause
 *
 * overload.h - when a balancer has too much to do to be given more.  Pure.
 *
 * Two signs: client connections near their limit, beyond which new ones are refused; and workers
 * that take long to come to what is new.  A sign must hold for a while, and be gone for a while, at
 * nine tenths of the bound, before it is believed.
 */
#ifndef MC_CONTROL_OVERLOAD_H
#define MC_CONTROL_OVERLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/units.h"

struct overload_conf {
    unsigned connections_percent; /* of connections_max; 0: never */
    mc_ns lag_ns;                 /* 0: never */
    mc_ns after_ns, recover_ns;
};

struct overload_sample {
    uint64_t connections, connections_max;
    mc_ns lag_ns; /* of the slowest worker */
};

/* Zero-initialise: not overloaded. */
struct overload {
    bool on;
    mc_ns since_ns; /* the signs differ from `on` since then; 0: they do not */
};

/* Returns whether it is overloaded now.  why, room for at least 96 bytes, gets the signs while
 * there are any. */
bool overload_look(struct overload *, const struct overload_conf *, const struct overload_sample *,
                   mc_ns now, char *why, size_t room);

#endif
