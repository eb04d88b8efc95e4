/* SPDX-License-Identifier: BSD-2-Clause
 *
 * peak_ewma.c - the policy "peak-ewma": of two drawn, the one where latency times queue is less.
 *
 * As in Finagle (twitter, PeakEwma): the mean latency of a server rises to a peak at once and comes
 * down slowly; times the requests in flight there it is what the next one will wait.  It knows
 * nothing of classes: one slow request makes a server look slow.  One worker's own state.
 */
#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "place/choose.h"
#include "place/draw.h"

#define DECAY_NS   ((double)(10 * MC_SEC)) /* as in Finagle */
/* A server that is busy and has not answered yet is taken for this slow: neither best nor lost. */
#define UNHEARD_NS 1e9

struct ewma {
    double latency_ns;
    mc_ns at;
};

struct state {
    struct draw *draw;
    struct ewma server[];
};

static void *
state_new(const struct place_view *v, struct rng *rng)
{
    struct state *st = mc_alloc(sizeof(*st) + (v->n + 1) * sizeof(st->server[0]));

    st->draw = draw_new(v);
    return st;
}

static void
state_free(void *state)
{
    struct state *st = state;

    if (!st)
        return;
    draw_free(st->draw);
    free(st);
}

static double
cost_of(const struct state *st, const struct place_view *v, uint32_t i, mc_ns now)
{
    const struct ewma *e = &st->server[i];
    double pending = choose_in_flight(v, i), latency = e->latency_ns;

    if (latency == 0 && pending > 0)
        return (UNHEARD_NS + pending) / choose_weight(v, i);
    if (now > e->at)
        latency *= exp(-(double)(now - e->at) / DECAY_NS);
    return latency * (pending + 1) / choose_weight(v, i);
}

/* hot: once per attempt */
static struct place_answer
pick(const void *shared, void *state, const struct place_view *v, const struct place_ask *ask,
     struct rng *rng)
{
    struct state *st = state;
    int32_t a = draw_pick(st->draw, v, ask, -1, rng), b;

    if (a < 0)
        a = choose_scan_least(v, ask, rng);
    if (a < 0)
        return choose_failed(v, ask, rng);
    b = draw_pick(st->draw, v, ask, a, rng);
    if (b >= 0 && cost_of(st, v, (uint32_t)b, ask->now) < cost_of(st, v, (uint32_t)a, ask->now))
        a = b;
    return choose_done(v, ask, (uint32_t)a, PLACE_PEAK_EWMA);
}

/* hot: once per attempt */
static void
on_end(void *state, const struct place_view *v, uint32_t index, mc_ns latency, bool ok, mc_ns now)
{
    struct ewma *e = &((struct state *)state)->server[index];
    double l = (double)latency, keep;

    if (l > e->latency_ns) {
        e->latency_ns = l;
    } else {
        keep = exp(-(double)(now > e->at ? now - e->at : 0) / DECAY_NS);
        e->latency_ns = e->latency_ns * keep + l * (1 - keep);
    }
    e->at = now;
}

const struct policy policy_peak_ewma = {
    .name = "peak-ewma",
    .state_new = state_new,
    .state_free = state_free,
    .pick = pick,
    .on_end = on_end,
};
