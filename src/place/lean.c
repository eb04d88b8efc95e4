/* SPDX-License-Identifier: BSD-2-Clause
 *
 * lean.c - prices of servers by the load that their responses tell of, see lean.h.
 *
 * An integrator with a leak.  Servers tell means over a second or so, and answer to a change of
 * their requests as late: a price that followed at once would swing.  With the gain below, the loop
 * is stable while news are less than 3 s old (gain x delay < pi/2).
 */
#include "place/lean.h"

#include <math.h>

/* Twice the utilization of the mean for two seconds makes a price of e. */
#define GAIN_PER_S 0.5
/* A guess: long for the noise of utilizations, short for a server that became well again. */
#define FORGET_S   10.0
/* A word is counted on for so long.  Servers with requests tell many times a second. */
#define FRESH_NS   (5 * MC_SEC)
/* A price below e^0.1 is none: utilizations that differ by 2 % are the same, and the dearest of
 * idle servers, however little, would get nothing at all. */
#define LOG_LEAST  0.1f
/* Beyond all cores busy there is no busier; errors come on top. */
#define BUSY_MOST  1.0

double
lean_busy(const struct place_word *w)
{
    double busy = (double)(w->application > 0 ? w->application : w->cpu);

    if (!(busy >= 0))
        return -1;
    busy = fmin(busy, BUSY_MOST);
    return w->eps > 0 && w->rps > 0 ? busy + fmin((double)(w->eps / w->rps), 1) : busy;
}

void
lean_note(struct lean *l, double busy, mc_ns at)
{
    if (!(busy >= 0) || at < l->at)
        return;
    l->busy = (float)busy;
    l->at = at;
}

static bool
is_fresh(const struct lean *l, mc_ns now)
{
    return l->at > 0 && now - l->at < FRESH_NS;
}

static double
mean_of(const struct lean *all, unsigned n, mc_ns now)
{
    double sum = 0;
    unsigned heard = 0;

    for (unsigned i = 0; i < n; i++)
        if (is_fresh(&all[i], now)) {
            sum += (double)all[i].busy;
            heard++;
        }
    return heard > 0 ? sum / heard : 0;
}

void
lean_step(struct lean *all, unsigned n, double seconds, mc_ns now)
{
    double mean = mean_of(all, n, now), keep = exp(-seconds / FORGET_S);

    for (unsigned i = 0; i < n; i++) {
        struct lean *l = &all[i];
        double more = is_fresh(l, now) ? GAIN_PER_S * seconds * ((double)l->busy - mean) : 0;

        l->log = l->by_agent ? 0 : (float)fmin(fmax(l->log * keep + more, 0), log(LEAN_MOST));
    }
}

double
lean_price(const struct lean *l)
{
    return l->log < LOG_LEAST ? 1 : exp((double)l->log);
}
