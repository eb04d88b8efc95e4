/* SPDX-License-Identifier: BSD-2-Clause
 *
 * overload.c - see overload.h.
 */
#include "control/overload.h"

#include <inttypes.h>
#include <stdio.h>

/* At how much of a bound its sign begins, and, once believed, ends. */
#define BOUND_PARTS 10
#define END_PARTS   9

static bool
connections_full(const struct overload_conf *c, const struct overload_sample *s, unsigned parts)
{
    return c->connections_percent > 0 && s->connections_max > 0 &&
           s->connections * 100 * BOUND_PARTS >=
               s->connections_max * c->connections_percent * parts;
}

static bool
lags(const struct overload_conf *c, const struct overload_sample *s, unsigned parts)
{
    return c->lag_ns > 0 && s->lag_ns * BOUND_PARTS >= c->lag_ns * (mc_ns)parts;
}

static void
say_why(const struct overload_sample *s, bool full, char *why, size_t room)
{
    if (full)
        snprintf(why, room, "%" PRIu64 " of %" PRIu64 " connections", s->connections,
                 s->connections_max);
    else
        snprintf(why, room, "a worker is %" PRId64 " ms behind", (int64_t)(s->lag_ns / MC_MS));
}

bool
overload_look(struct overload *o, const struct overload_conf *c, const struct overload_sample *s,
              mc_ns now, char *why, size_t room)
{
    unsigned parts = o->on ? END_PARTS : BOUND_PARTS;
    bool full = connections_full(c, s, parts), sign = full || lags(c, s, parts);

    if (sign)
        say_why(s, full, why, room);
    if (sign == o->on) {
        o->since_ns = 0;
        return o->on;
    }
    if (o->since_ns == 0)
        o->since_ns = now;
    if (now - o->since_ns >= (o->on ? c->recover_ns : c->after_ns)) {
        o->on = sign;
        o->since_ns = 0;
    }
    return o->on;
}
