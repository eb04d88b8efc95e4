/* SPDX-License-Identifier: BSD-2-Clause
 *
 * server.c - processor sharing in virtual time, see server.h.
 *
 * All computing jobs get the same share of the cores, at most one core each; so one number, the
 * work that each has got since the begin, orders their ends (Kleinrock, Queueing Systems II, 4.4).
 */
#include "sim/server.h"

#include <math.h>

#include "base/check.h"

/* Cores that one job gets. */
static double
core_share(const struct sim_server *s)
{
    double wanted = s->n_run + s->neighbour;

    return wanted > s->cores ? s->cores / wanted : 1;
}

void
sim_server_advance(struct sim_server *s, mc_ns now)
{
    double dt = (double)(now - s->v_at) * 1e-9, share = core_share(s);

    s->v += dt * s->rate;
    s->cpu_s += dt * s->n_run * share;
    if (share < 1 && s->n_run > 0)
        s->pressure_s += dt;
    s->v_at = now;
}

void
sim_server_rerate(struct sim_server *s)
{
    s->rate = s->speed * core_share(s);
    s->version++;
}

void
sim_server_push(struct sim_server *s, uint32_t job, double work_s)
{
    struct sim_running r = {s->v + work_s, job};
    unsigned i = s->n_run++;

    if (i == s->run_cap) {
        s->run_cap = s->run_cap ? 2 * s->run_cap : 16;
        s->run = mc_realloc(s->run, s->run_cap * sizeof(*s->run));
    }
    for (; i > 0 && r.done_v < s->run[(i - 1) / 2].done_v; i = (i - 1) / 2)
        s->run[i] = s->run[(i - 1) / 2];
    s->run[i] = r;
}

mc_ns
sim_server_next(const struct sim_server *s)
{
    double left;

    if (s->n_run == 0)
        return MC_NEVER_NS;
    left = s->run[0].done_v - s->v;
    return s->v_at + (left > 0 ? (mc_ns)ceil(left / s->rate * 1e9) : 0);
}

uint32_t
sim_server_pop(struct sim_server *s)
{
    struct sim_running first = s->run[0], last = s->run[--s->n_run];
    unsigned i = 0;

    for (unsigned c; (c = 2 * i + 1) < s->n_run; i = c) {
        if (c + 1 < s->n_run && s->run[c + 1].done_v < s->run[c].done_v)
            c++;
        if (last.done_v <= s->run[c].done_v)
            break;
        s->run[i] = s->run[c];
    }
    s->run[i] = last;
    return first.job;
}

double
sim_server_latency_at(const struct sim_server *s, unsigned in_flight)
{
    unsigned at = in_flight < SIM_RIFS ? in_flight : SIM_RIFS - 1;

    for (unsigned d = 0; d < SIM_RIFS; d++) {
        if (at >= d && s->rif_latency[at - d] > 0)
            return s->rif_latency[at - d];
        if (at + d < SIM_RIFS && s->rif_latency[at + d] > 0)
            return s->rif_latency[at + d];
    }
    return 0;
}
