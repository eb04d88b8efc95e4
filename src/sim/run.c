/* SPDX-License-Identifier: BSD-2-Clause
 *
 * run.c - one run: makes the world, lets the events happen, counts.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "sim/world.h"

#define WARM_MOST_S  4.0
#define DRAIN_NS     (10 * MC_SEC) /* at the end: what takes longer has failed */
#define REPORT_NS    (1 * MC_MS)   /* from the agent's reading to the balancer */
#define MEM_LIMIT    4e9
#define MEM_BASE     1e9
#define WEIGHT_BLEND 0.1 /* of 100 ms in the utilization that weights come from: about a second */

mc_ns
sim_hop(struct sim_world *w)
{
    return HOP_NS - HOP_NS / 10 + (mc_ns)rng_below(&w->net, HOP_NS / 5);
}

/* --- jobs ---------------------------------------------------------------------------------------
 */

static uint32_t
job_new(struct sim_world *w)
{
    uint32_t i = w->free_job, gen;

    if (i == NO_JOB) {
        if (w->n_jobs == w->jobs_cap) {
            w->jobs_cap = w->jobs_cap ? 2 * w->jobs_cap : 4096;
            w->job = mc_realloc(w->job, w->jobs_cap * sizeof(*w->job));
        }
        i = w->n_jobs++;
        w->job[i] = (struct sim_job){0};
    } else {
        w->free_job = w->job[i].next;
    }
    gen = w->job[i].gen;
    w->job[i] = (struct sim_job){.gen = gen + 1};
    w->n_under_way++;
    return i;
}

static void
leave_server(struct sim_world *w, const struct sim_job *j)
{
    struct sim_server *s = &w->server[j->server];
    const struct sim_class *c = &w->class[j->class];

    s->true_phi -= c->cpu_s / s->speed / (c->cpu_s / s->speed + c->wait_s);
    s->true_mem -= c->mem_bytes;
}

void
sim_job_free(struct sim_world *w, uint32_t job)
{
    struct sim_job *j = &w->job[job];

    j->gen++;
    j->next = w->free_job;
    w->free_job = job;
    w->n_under_way--;
}

void
sim_job_fail(struct sim_world *w, uint32_t job, mc_ns after)
{
    w->job[job].failed = true;
    sim_heap_push(&w->heap, w->now + after + sim_hop(w), EV_ANSWER, job, 0);
}

/* --- arrivals -----------------------------------------------------------------------------------
 */

static double
normal(struct rng *r)
{
    double u = 1 - rng_unit(r);

    return sqrt(-2 * log(u)) * cos(2 * M_PI * rng_unit(r));
}

static unsigned
draw(const double *upto, unsigned n, double u)
{
    unsigned i = 0;

    while (i + 1 < n && u >= upto[i])
        i++;
    return i;
}

static double
burst_now(const struct sim_world *w)
{
    double high = w->conf->scenario->trouble.burst;

    if (high == 0)
        return 1;
    return w->now % MC_SEC < MC_SEC / 5 ? high : (1 - .2 * high) / .8;
}

static void
begin_job(struct sim_world *w, unsigned class, double work_s, double wait_s)
{
    uint32_t job = job_new(w);
    struct sim_job *j = &w->job[job];

    j->class = (uint16_t) class;
    j->balancer = (uint16_t)draw(w->part_upto, w->conf->n_balancers, rng_unit(&w->arrivals));
    j->arrived = w->now;
    j->counted = w->now >= w->warm;
    j->work_s = work_s;
    j->wait_s = wait_s;
    sim_balancer_place(w, job);
}

static void
arrive_by_chance(struct sim_world *w)
{
    double gap = -log(1 - rng_unit(&w->arrivals)) / w->peak;
    unsigned class = draw(w->share_upto, w->conf->n_classes, rng_unit(&w->arrivals));
    const struct sim_class *c = &w->class[class];
    double z = normal(&w->arrivals), u = rng_unit(&w->arrivals);
    double work = c->cpu_s * exp(c->sigma * z - c->sigma * c->sigma / 2);
    double wait = c->wait_s > 0 ? c->wait_s * (.5 + rng_unit(&w->arrivals)) : 0;

    /* thinned, so that a burst and a lull draw alike */
    if (u * w->peak < w->rate * burst_now(w))
        begin_job(w, class, work, wait);
    if (w->now < w->end)
        sim_heap_push(&w->heap, w->now + (mc_ns)(gap * 1e9) + 1, EV_ARRIVE, 0, 0);
}

/* A log is played as it was, and again from its begin when it is short; traffic 1.2 makes two of
 * every fifth request. */
static void
arrive_by_log(struct sim_world *w)
{
    const struct sim_log *log = w->conf->log;
    const struct sim_logged *r = &log->request[w->log_at % log->n], *next;
    double copies = w->conf->traffic;
    mc_ns round;

    for (; copies > 0 && (copies >= 1 || rng_unit(&w->arrivals) < copies); copies--)
        begin_job(w, r->class, (double)r->work_s, w->class[r->class].wait_s);
    next = &log->request[++w->log_at % log->n];
    round = (mc_ns)(w->log_at / log->n) * log->length_ns;
    if (round + next->at < w->end)
        sim_heap_push(&w->heap, round + next->at, EV_ARRIVE, 0, 0);
}

/* --- agents -------------------------------------------------------------------------------------
 */

static void
read_agents(struct sim_world *w)
{
    double length = WINDOW_NS * 1e-9;

    for (uint32_t i = 0; i < w->conf->n_servers; i++) {
        struct sim_server *s = &w->server[i];
        struct sim_agent *a = &w->agent[i];

        sim_server_advance(s, w->now);
        a->cpu_s = s->cpu_s;
        a->mem_bytes = s->mem_bytes + s->mem_base;
        a->pressure = (s->pressure_s - a->last_pressure_s) / length;
        a->last_pressure_s = s->pressure_s;
        a->utilization +=
            WEIGHT_BLEND * ((s->cpu_s - a->last_cpu_s) / length / s->cores - a->utilization);
        a->last_cpu_s = s->cpu_s;
        a->rate += WEIGHT_BLEND * (((double)s->n_done - a->last_done) / length - a->rate);
        a->last_done = (double)s->n_done;
    }
    w->agents_at = w->now;
    sim_heap_push(&w->heap, w->now + REPORT_NS, EV_REPORTS, 0, 0);
    if (w->now < w->end)
        sim_heap_push(&w->heap, w->now + WINDOW_NS, EV_AGENTS, 0, 0);
}

/* --- the world ----------------------------------------------------------------------------------
 */

static void
make_servers(struct sim_world *w)
{
    static const double speeds[] = {.5, 1, 2};
    unsigned n = w->conf->n_servers;

    w->server = mc_alloc((n + 1) * sizeof(*w->server));
    w->speed = mc_alloc((n + 1) * sizeof(double));
    w->id_hash = mc_alloc((n + 1) * sizeof(*w->id_hash));
    w->agent = mc_alloc((n + 1) * sizeof(*w->agent));
    for (unsigned i = 0; i < n; i++) {
        struct sim_server *s = &w->server[i];
        char name[32];

        snprintf(name, sizeof(name), "server%u", i);
        w->id_hash[i] = str_hash(str_of(name), 0);
        w->speed[i] = w->conf->one_speed ? 1 : speeds[i % MC_COUNT(speeds)];
        s->speed = w->speed[i];
        s->cores = w->conf->cores;
        s->first_job = NO_JOB;
        if (w->conf->scenario->trouble.memory) {
            s->mem_base = MEM_BASE;
            s->mem_limit = MEM_LIMIT;
        }
        if (i >= n - w->conf->lose)
            s->health = SIM_DOWN;
        sim_server_rerate(s);
    }
}

static void
make_rates(struct sim_world *w)
{
    double capacity = 0, mean = 0, upto = 0, burst = w->conf->scenario->trouble.burst;

    for (unsigned i = 0; i < w->conf->n_servers; i++)
        capacity += w->speed[i] * w->conf->cores;
    for (unsigned k = 0; k < w->conf->n_classes; k++) {
        w->class[k] = w->conf->class[k];
        mean += w->class[k].share * w->class[k].cpu_s;
        upto += w->class[k].share;
        w->share_upto[k] = upto;
    }
    w->rate = w->conf->load * capacity / mean;
    w->peak = w->rate * (burst > 1 ? burst : 1);
}

static void
make(struct sim_world *w, const struct sim_conf *conf, const struct sim_policy *policy)
{
    *w = (struct sim_world){.conf = conf,
                            .policy = policy,
                            .end = (mc_ns)(conf->seconds * 1e9),
                            .free_job = NO_JOB,
                            .free_message = NO_JOB};
    w->result = mc_alloc(sizeof(*w->result));
    w->result->policy = policy->name;
    w->result->n_classes = conf->n_classes;
    if (!conf->scenario->trouble.cold)
        w->warm = (mc_ns)(fmin(WARM_MOST_S, conf->seconds / 3) * 1e9);
    rng_seed(&w->arrivals, conf->seed);
    rng_seed(&w->net, conf->seed ^ 0x6e6574);
    rng_seed(&w->chaos, conf->seed ^ 0x6368616f73);
    make_servers(w);
    make_rates(w);
    sim_balancers_make(w);
    sim_trouble_plan(w);
    sim_heap_push(&w->heap, conf->log ? conf->log->request[0].at : 1, EV_ARRIVE, 0, 0);
    sim_heap_push(&w->heap, WINDOW_NS, EV_AGENTS, 0, 0);
}

static void
answer(struct sim_world *w, uint32_t job)
{
    leave_server(w, &w->job[job]);
    sim_balancer_end(w, job);
}

static void
happen(struct sim_world *w, const struct sim_event *e)
{
    switch ((enum sim_event_kind)e->kind) {
    case EV_ARRIVE: w->conf->log ? arrive_by_log(w) : arrive_by_chance(w); break;
    case EV_REACH: sim_job_reach(w, e->a); break;
    case EV_COMPUTED: sim_job_computed(w, e->a, e->b); break;
    case EV_WAITED: sim_job_waited(w, e->a, e->b); break;
    case EV_ANSWER: answer(w, e->a); break;
    case EV_AGENTS: read_agents(w); break;
    case EV_REPORTS: sim_balancers_report(w); break;
    case EV_TICK: sim_balancer_tick(w, &w->balancer[e->a]); break;
    case EV_MESSAGE: sim_balancer_message(w, e->a, e->b); break;
    case EV_PROBE: sim_balancer_probe(w, e->a, &w->balancer[e->b]); break;
    case EV_RETRY: sim_balancer_retry(w, &w->balancer[e->a]); break;
    case EV_TROUBLE: sim_trouble_happen(w, e->a); break;
    }
}

static void
unmake(struct sim_world *w)
{
    sim_balancers_free(w);
    for (unsigned i = 0; i < w->conf->n_servers; i++)
        free(w->server[i].run);
    free(w->server);
    free(w->speed);
    free(w->id_hash);
    free(w->agent);
    free(w->job);
    free(w->planned);
    sim_heap_free(&w->heap);
}

/* What a class really is, to compare with what was learned: phi on the mean server.  Costs are
 * learned in units of the average of the servers that get requests, which is not one of speed 1:
 * they are compared after that one factor is taken off. */
static void
compare_costs(struct sim_world *w)
{
    struct sim_result *r = w->result;
    const struct sim_balancer *b = &w->balancer[0];
    double work = 0, learned = 0;

    for (unsigned k = 0; k < r->n_classes && b->know; k++) {
        struct place_cost c = cost_read(b->know->costs, k + 1);
        const struct sim_class *t = &w->class[k];

        r->cost[k] = (struct sim_cost){
            (double)c.cpu_s, (double)c.phi / COST_ONE,          c.mem_units * COST_MEM_UNIT / 1e6,
            t->cpu_s,        t->cpu_s / (t->cpu_s + t->wait_s), t->mem_bytes / 1e6};
        work += t->share * t->cpu_s;
        learned += t->share * (double)c.cpu_s;
    }
    for (unsigned k = 0; k < r->n_classes && learned > 0; k++) {
        const struct sim_cost *o = &r->cost[k];
        double miss = fabs(o->cpu_s / o->true_cpu_s * work / learned - 1);

        r->cost_error += miss / r->n_classes;
        r->cost_error_by_work += miss * w->class[k].share * o->true_cpu_s / work;
        r->phi_error += fabs(o->phi / o->true_phi - 1) / r->n_classes;
    }
}

static void
sum_up(struct sim_world *w)
{
    struct sim_result *r = w->result;
    double used = 0, cores = 0;

    for (unsigned k = 0; k < r->n_classes; k++) {
        sim_hist_join(&r->all.latency_s, &r->class[k].latency_s);
        sim_hist_join(&r->all.slowdown, &r->class[k].slowdown);
        r->all.n_ok += r->class[k].n_ok;
        r->all.n_failed += r->class[k].n_failed;
    }
    for (unsigned i = 0; i < w->conf->n_servers; i++) {
        used += w->server[i].cpu_s;
        cores += w->server[i].cores;
    }
    r->busy = used / cores / ((double)w->end * 1e-9);
}

struct sim_result *
sim_run(const struct sim_conf *conf, const char *policy)
{
    mc_ns began = units_clock_ns();
    struct sim_result *r;
    struct sim_world w;
    struct sim_event e;

    MC_ASSERT(sim_policy_known(policy));
    make(&w, conf, sim_policy_find(policy));
    r = w.result;
    while (sim_heap_pop(&w.heap, &e) && e.at < w.end + DRAIN_NS) {
        w.now = e.at;
        if (w.now > w.end && w.n_under_way == 0)
            break;
        happen(&w, &e);
        r->n_events++;
    }
    compare_costs(&w);
    sum_up(&w);
    unmake(&w);
    r->wall_s = (double)(units_clock_ns() - began) * 1e-9;
    return r;
}
