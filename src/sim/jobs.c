/* SPDX-License-Identifier: BSD-2-Clause
 *
 * jobs.c - requests at their servers.
 */
#include <math.h>

#include "base/check.h"
#include "sim/world.h"

#define RIF_BLEND 0.1 /* of an answer in what a server tells Prequal */

/* The event of the next end, anew: the old one is known by its version. */
static void
reschedule(struct sim_world *w, uint32_t server)
{
    struct sim_server *s = &w->server[server];
    mc_ns next;

    sim_server_rerate(s);
    next = sim_server_next(s);
    if (next != MC_NEVER_NS)
        sim_heap_push(&w->heap, next, EV_COMPUTED, server, s->version);
}

void
sim_server_changed(struct sim_world *w, uint32_t server)
{
    reschedule(w, server);
}

static void
link_job(struct sim_world *w, uint32_t job)
{
    struct sim_job *j = &w->job[job];
    struct sim_server *s = &w->server[j->server];

    j->here = true;
    j->prev = NO_JOB;
    j->next = s->first_job;
    if (s->first_job != NO_JOB)
        w->job[s->first_job].prev = job;
    s->first_job = job;
    s->n_jobs++;
}

static void
unlink_job(struct sim_world *w, uint32_t job)
{
    struct sim_job *j = &w->job[job];
    struct sim_server *s = &w->server[j->server];

    j->here = false;
    if (j->prev != NO_JOB)
        w->job[j->prev].next = j->next;
    else
        s->first_job = j->next;
    if (j->next != NO_JOB)
        w->job[j->next].prev = j->prev;
    s->n_jobs--;
    s->mem_bytes -= w->class[j->class].mem_bytes;
}

/* True when its memory was the drop too much. */
static bool
runs_out(const struct sim_server *s)
{
    return s->mem_limit > 0 && s->mem_base + s->mem_bytes > s->mem_limit;
}

void
sim_server_kill(struct sim_world *w, uint32_t server)
{
    struct sim_server *s = &w->server[server];

    sim_server_advance(s, w->now);
    while (s->first_job != NO_JOB) {
        uint32_t job = s->first_job;

        unlink_job(w, job);
        w->job[job].gen++; /* it may be waiting */
        sim_job_fail(w, job, 0);
    }
    s->n_run = 0;
    reschedule(w, server);
}

static void
restart_later(struct sim_world *w, uint32_t server)
{
    w->server[server].health = SIM_DOWN;
    if (w->n_planned == w->planned_cap) {
        w->planned_cap = 2 * w->planned_cap + 16;
        w->planned = mc_realloc(w->planned, w->planned_cap * sizeof(*w->planned));
    }
    w->planned[w->n_planned] = (struct sim_planned){w->now + MC_SEC, TROUBLE_OVER, server};
    sim_heap_push(&w->heap, w->now + MC_SEC, EV_TROUBLE, w->n_planned++, 0);
}

void
sim_job_reach(struct sim_world *w, uint32_t job)
{
    struct sim_job *j = &w->job[job];
    struct sim_server *s = &w->server[j->server];

    if (s->health != SIM_UP) {
        sim_job_fail(w, job, s->health == SIM_FAILING ? FAIL_FAST_NS : 0);
        return;
    }
    j->reached = w->now;
    j->rif = s->n_jobs;
    sim_server_advance(s, w->now);
    s->mem_bytes += w->class[j->class].mem_bytes;
    link_job(w, job);
    if (runs_out(s)) {
        sim_server_kill(w, j->server);
        restart_later(w, j->server);
        return;
    }
    sim_server_push(s, job, j->wait_s > 0 ? j->work_s / 2 : j->work_s);
    reschedule(w, j->server);
}

static void
answer(struct sim_world *w, uint32_t job)
{
    struct sim_job *j = &w->job[job];
    struct sim_server *s = &w->server[j->server];
    double *told = &s->rif_latency[j->rif < SIM_RIFS ? j->rif : SIM_RIFS - 1];
    double latency = (double)(w->now - j->reached) * 1e-9;

    unlink_job(w, job);
    s->n_done++;
    *told = *told > 0 ? *told + RIF_BLEND * (latency - *told) : latency;
    sim_heap_push(&w->heap, w->now + sim_hop(w), EV_ANSWER, job, 0);
}

void
sim_job_computed(struct sim_world *w, uint32_t server, uint32_t version)
{
    struct sim_server *s = &w->server[server];
    struct sim_job *j;
    uint32_t job;

    if (version != s->version)
        return;
    sim_server_advance(s, w->now);
    job = sim_server_pop(s);
    j = &w->job[job];
    if (j->wait_s > 0 && !j->second_half) {
        mc_ns wait = (mc_ns)(j->wait_s * 1e9);

        sim_heap_push(&w->heap, w->now + wait, EV_WAITED, job, j->gen);
    } else {
        answer(w, job);
    }
    reschedule(w, server);
}

void
sim_job_waited(struct sim_world *w, uint32_t job, uint32_t gen)
{
    struct sim_job *j = &w->job[job];
    struct sim_server *s = &w->server[j->server];

    if (j->gen != gen)
        return;
    j->second_half = true;
    sim_server_advance(s, w->now);
    sim_server_push(s, job, j->work_s / 2);
    reschedule(w, j->server);
}
