/* SPDX-License-Identifier: BSD-2-Clause
 *
 * rate.c - a token bucket, see rate.h.
 */
#include "cluster/rate.h"

#include <math.h>

void
rate_init(struct rate *r, double per_s, double burst, mc_ns now)
{
    *r = (struct rate){.per_s = per_s, .burst = burst, .tokens = burst, .at_ns = now};
}

/* Time that goes backwards brings nothing and takes nothing. */
double
rate_left(struct rate *r, mc_ns now)
{
    if (now > r->at_ns) {
        r->tokens = fmin(r->burst, r->tokens + (double)(now - r->at_ns) / MC_SEC * r->per_s);
        r->at_ns = now;
    }
    return r->tokens;
}

bool
rate_take(struct rate *r, double n, mc_ns now)
{
    if (rate_left(r, now) < n)
        return false;
    r->tokens -= n;
    return true;
}

void
rate_owe(struct rate *r, double n, mc_ns now)
{
    rate_left(r, now);
    r->tokens -= n;
}

mc_ns
rate_due(struct rate *r, double n, mc_ns now)
{
    double missing = n - rate_left(r, now);
    double wait_ns;

    if (missing <= 0)
        return now;
    if (r->per_s <= 0)
        return MC_NEVER_NS;
    wait_ns = ceil(missing / r->per_s * MC_SEC);
    return wait_ns < (double)(MC_NEVER_NS / 2) ? now + (mc_ns)wait_ns : MC_NEVER_NS;
}
