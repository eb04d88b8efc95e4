/* SPDX-License-Identifier: BSD-2-Clause
 *
 * trouble.c - what befalls servers and balancers, planned at the begin from a stream of chance of
 * its own, so that it is the same for every policy.
 */
#include <math.h>

#include "base/check.h"
#include "sim/world.h"

#define NEIGHBOUR_THREADS 4   /* as many as the server has cores: half of them are lost */
#define NEIGHBOUR_S       2.0 /* mean of its stay; it is away twice as long */
#define FAULT_EVERY_S     1.0 /* between faults somewhere, for a hundred servers */
#define FAULT_S           2.0
#define SLOW_BY           5.0
#define NOTICE_NS         (1500 * MC_MS) /* until a cluster agrees that one is gone */
#define REROUTE_NS        (200 * MC_MS)  /* until the network sends nothing to a dead one */

static void
plan(struct sim_world *w, double at_s, enum sim_trouble_kind kind, uint32_t who)
{
    struct sim_planned p = {(mc_ns)(at_s * 1e9), kind, who};

    if (w->n_planned == w->planned_cap) {
        w->planned_cap = 2 * w->planned_cap + 64;
        w->planned = mc_realloc(w->planned, w->planned_cap * sizeof(*w->planned));
    }
    w->planned[w->n_planned] = p;
    sim_heap_push(&w->heap, p.at, EV_TROUBLE, w->n_planned++, 0);
}

static double
exponential(struct sim_world *w, double mean)
{
    return -mean * log(1 - rng_unit(&w->chaos));
}

static void
plan_neighbours(struct sim_world *w, double share)
{
    for (uint32_t s = 0; s < w->conf->n_servers; s++) {
        double at = exponential(w, NEIGHBOUR_S);

        if (rng_unit(&w->chaos) >= share)
            continue;
        while (at < w->conf->seconds) {
            plan(w, at, TROUBLE_NEIGHBOUR_COMES, s);
            at += exponential(w, NEIGHBOUR_S);
            plan(w, at, TROUBLE_NEIGHBOUR_GOES, s);
            at += exponential(w, 2 * NEIGHBOUR_S);
        }
    }
}

static void
plan_faults(struct sim_world *w)
{
    static const enum sim_trouble_kind kinds[] = {TROUBLE_FAILING, TROUBLE_DOWN, TROUBLE_SLOW};
    double every = FAULT_EVERY_S * 100 / w->conf->n_servers;

    for (double at = exponential(w, every); at < w->conf->seconds; at += exponential(w, every)) {
        uint32_t s = rng_below(&w->chaos, w->conf->n_servers);

        plan(w, at, kinds[rng_below(&w->chaos, MC_COUNT(kinds))], s);
        plan(w, at + FAULT_S / 2 + exponential(w, FAULT_S / 2), TROUBLE_OVER, s);
    }
}

void
sim_trouble_plan(struct sim_world *w)
{
    const struct sim_trouble *t = &w->conf->scenario->trouble;
    double warm = (double)w->warm * 1e-9, third = (w->conf->seconds - warm) / 3;
    unsigned n = w->conf->n_balancers;

    if (t->noisy > 0)
        plan_neighbours(w, t->noisy);
    if (t->faults)
        plan_faults(w);
    for (unsigned i = 0; i < n * t->die / 100; i++) {
        plan(w, warm + third, TROUBLE_DIE, n - 1 - i);
        plan(w, warm + third + NOTICE_NS * 1e-9, TROUBLE_GONE, n - 1 - i);
    }
    for (unsigned i = 0; i < n * t->join / 100; i++)
        plan(w, warm + third, TROUBLE_JOIN, n - 1 - i);
    if (t->partition) {
        plan(w, warm + third, TROUBLE_SPLIT, 0);
        plan(w, warm + third + NOTICE_NS * 1e-9, TROUBLE_GONE, 0);
        plan(w, warm + 2 * third, TROUBLE_HEAL, 0);
    }
    if (t->drift)
        plan(w, warm + third, TROUBLE_DRIFT, 0);
}

static void
share_parts(struct sim_world *w)
{
    double sum = 0, upto = 0;

    for (unsigned b = 0; b < w->conf->n_balancers; b++)
        sum += w->balancer[b].alive ? w->balancer[b].part : 0;
    for (unsigned b = 0; b < w->conf->n_balancers; b++) {
        upto += w->balancer[b].alive ? w->balancer[b].part / sum : 0;
        w->part_upto[b] = upto;
    }
}

/* Twice the cheap, half of the medium: the mean stays about what it was. */
static void
drift(struct sim_world *w)
{
    w->class[0].cpu_s *= 2;
    w->class[1].cpu_s *= .5;
}

static void
befall_server(struct sim_world *w, const struct sim_planned *p)
{
    struct sim_server *s = &w->server[p->who];

    sim_server_advance(s, w->now);
    switch (p->kind) {
    case TROUBLE_NEIGHBOUR_COMES: s->neighbour = NEIGHBOUR_THREADS; break;
    case TROUBLE_NEIGHBOUR_GOES: s->neighbour = 0; break;
    case TROUBLE_FAILING: s->health = SIM_FAILING; break;
    case TROUBLE_DOWN:
        s->health = SIM_DOWN;
        sim_server_kill(w, p->who);
        break;
    case TROUBLE_SLOW: s->speed = w->speed[p->who] / SLOW_BY; break;
    default:
        s->health = SIM_UP;
        s->speed = w->speed[p->who];
        break;
    }
    sim_server_changed(w, p->who);
}

void
sim_trouble_happen(struct sim_world *w, uint32_t planned)
{
    const struct sim_planned *p = &w->planned[planned];

    switch (p->kind) {
    case TROUBLE_DIE:
        /* the network needs a moment, too: what comes in it is lost with the balancer, by nobody's
         * fault, and not counted */
        w->balancer[p->who].alive = false;
        share_parts(w);
        break;
    case TROUBLE_GONE: sim_balancers_meet(w); break;
    case TROUBLE_JOIN:
        w->balancer[p->who].alive = true;
        share_parts(w);
        sim_balancers_meet(w);
        break;
    case TROUBLE_SPLIT: w->split = true; break;
    case TROUBLE_HEAL:
        w->split = false;
        sim_balancers_meet(w);
        break;
    case TROUBLE_DRIFT: drift(w); break;
    default: befall_server(w, p); break;
    }
}
