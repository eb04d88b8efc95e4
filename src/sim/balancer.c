/* SPDX-License-Identifier: BSD-2-Clause
 *
 * balancer.c - simulated balancers: what fleet, the workers and the cluster do around place/.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "sim/world.h"

#define GOSSIP_NS (100 * MC_US) /* from one balancer to another, batching and wake-up included */

static const struct sim_policy policies[] = {
    {.name = "resource", .place = "resource", .know = true},
    {.name = "prequal", .place = "prequal"},
    {.name = "peak-ewma", .place = "peak-ewma"},
    {.name = "least-request", .place = "least-request", .full_scan = true},
    {.name = "p2c", .place = "least-request"},
    {.name = "round-robin", .place = "round-robin"},
    {.name = "agent-rr", .place = "round-robin", .agent_weights = true},
    {.name = "orca-rr", .place = "round-robin", .orca_weights = true},
    {.name = "random", .place = "random"},
    {.name = "oracle"},
};

const struct sim_policy *
sim_policy_find(const char *name)
{
    for (unsigned i = 0; i < MC_COUNT(policies); i++)
        if (strcmp(policies[i].name, name) == 0)
            return &policies[i];
    return NULL;
}

bool
sim_policy_known(const char *name)
{
    return sim_policy_find(name) != NULL;
}

const char *
sim_policy_at(unsigned i)
{
    return i < MC_COUNT(policies) ? policies[i].name : NULL;
}

/* --- messages -----------------------------------------------------------------------------------
 */

static uint32_t
message_new(struct sim_world *w, unsigned from, const uint8_t *bytes, size_t n)
{
    uint32_t i = w->free_message;
    struct sim_message *s;

    if (i == NO_JOB) {
        if (w->n_messages == w->messages_cap) {
            w->messages_cap = 2 * w->messages_cap + 256;
            w->message = mc_realloc(w->message, w->messages_cap * sizeof(*w->message));
        }
        i = w->n_messages++;
    } else {
        w->free_message = w->message[i].next_free;
    }
    s = &w->message[i];
    s->n_refs = 1;
    s->from = from;
    s->n = n;
    memcpy(s->bytes, bytes, n);
    return i;
}

static void
message_unref(struct sim_world *w, uint32_t i)
{
    if (--w->message[i].n_refs > 0)
        return;
    w->message[i].next_free = w->free_message;
    w->free_message = i;
}

static bool
is_cut_off(const struct sim_world *w, unsigned a, unsigned b)
{
    unsigned half = w->conf->n_balancers / 2;

    return w->split && (a < half) != (b < half);
}

static void
carry(struct sim_world *w, unsigned from, unsigned to, uint32_t message)
{
    const struct sim_trouble *t = &w->conf->scenario->trouble;
    mc_ns delay = GOSSIP_NS + (mc_ns)rng_below(&w->net, GOSSIP_NS);

    if (!w->balancer[to].alive || is_cut_off(w, from, to) ||
        (t->loss > 0 && rng_unit(&w->net) < t->loss))
        return;
    if (t->delay_ns > 0)
        delay += (mc_ns)(rng_unit(&w->net) * (double)t->delay_ns);
    w->message[message].n_refs++;
    sim_heap_push(&w->heap, w->now + delay, EV_MESSAGE, message, to);
}

/* A message on its way into pieces. */
struct sending {
    struct sim_balancer *from;
    uint64_t to;
    enum share_kind kind;
    size_t n_bytes; /* on the wire, to all */
};

static void
send_piece(void *arg, const uint8_t *bytes, size_t n)
{
    struct sending *s = arg;
    struct sim_world *w = s->from->world;
    unsigned from = s->from->id, n_to = 0;
    uint32_t message = message_new(w, from, bytes, n);

    for (unsigned i = 0; i < w->conf->n_balancers; i++) {
        if (i == from ||
            (s->to == SHARE_TO_ALL ? w->blind[from * w->conf->n_balancers + i] : s->to != i + 1u))
            continue;
        n_to++;
        carry(w, from, i, message);
    }
    message_unref(w, message);
    s->n_bytes += n_to * (n + SIM_DATAGRAM_BYTES);
    w->result->n_datagrams[s->kind] += n_to;
}

/* Ids of members are their numbers, and one. */
static size_t
send(void *arg, uint64_t to, const struct share_msg *m)
{
    struct sim_balancer *b = arg;
    struct sending s = {.from = b, .to = to, .kind = m->kind};
    struct sim_result *r = b->world->result;

    share_wire_put(m, b->know->map, SIM_PIECE_BYTES, send_piece, &s);
    r->n_messages++;
    r->n_entries += m->n;
    r->n_bytes[m->kind] += s.n_bytes;
    return s.n_bytes;
}

void
sim_balancer_message(struct sim_world *w, uint32_t message, uint32_t to)
{
    struct sim_balancer *b = &w->balancer[to];
    struct sim_message *s = &w->message[message];
    struct share_msg m;

    if (b->alive && b->know &&
        share_wire_get(&w->wire, b->know->map, s->from + 1u, s->bytes, s->n, &m) ==
            SHARE_WIRE_F_NONE)
        know_recv(b->know, &m, w->now);
    message_unref(w, message);
}

/* --- making -------------------------------------------------------------------------------------
 */

static void
make_view(struct sim_world *w, struct sim_balancer *b)
{
    unsigned n = w->conf->n_servers;

    b->load = mc_alloc_lines((n + 1) * sizeof(*b->load));
    b->at = mc_alloc((n + 1) * sizeof(struct place_load *));
    b->eject = mc_alloc((n + 1) * sizeof(*b->eject));
    b->orca_ended = mc_alloc((n + 1) * sizeof(double));
    for (unsigned s = 0; s < n; s++) {
        b->at[s] = &b->load[s];
        b->load[s].open = 1;
        b->load[s].weight = PLACE_WEIGHT_UNIT;
    }
    b->view = (struct place_view){.load = b->at, .id_hash = w->id_hash, .n = n};
}

static void
make_know(struct sim_world *w, struct sim_balancer *b)
{
    struct know_conf c = {.id = b->id + 1u,
                          .boot = 1,
                          .n_classes = w->conf->n_classes + 1,
                          .window_ns = WINDOW_NS,
                          .tick_ns = TICK_NS,
                          .without = w->conf->without,
                          .budget_bytes_per_s = w->conf->budget_bytes_per_s,
                          .pool = share_pool_key(str_of("sim")),
                          .send = send,
                          .arg = b};

    b->view.table = load_table_new(b->view.n, w->id_hash);
    b->know = know_new(&c, &b->view, b->view.table, w->now);
    for (unsigned k = 0; k < w->conf->n_classes; k++)
        know_set_class(b->know, k + 1, str_hash(str_of(w->conf->class[k].name), 7));
}

static void
make_policy(struct sim_world *w, struct sim_balancer *b)
{
    struct place_params params = {.full_scan = w->policy->full_scan};

    b->policy = policy_find(str_of(w->policy->place));
    MC_ASSERT(b->policy != NULL);
    if (b->policy->shared_new)
        b->shared = b->policy->shared_new(&b->view, &params);
    if (b->policy->state_new)
        b->state = b->policy->state_new(&b->view, &b->rng);
}

static void
make_blind(struct sim_world *w)
{
    unsigned n = w->conf->n_balancers;

    w->blind = mc_alloc(n * n);
    for (unsigned i = 0; i < n * n; i++)
        w->blind[i] = rng_unit(&w->chaos) < w->conf->scenario->trouble.views;
}

void
sim_balancers_make(struct sim_world *w)
{
    unsigned n = w->conf->n_balancers, absent = n * w->conf->scenario->trouble.join / 100;
    double sum = 0, upto = 0;

    w->balancer = mc_alloc((n + 1) * sizeof(*w->balancer));
    for (unsigned i = 0; i < n; i++) {
        struct sim_balancer *b = &w->balancer[i];

        *b = (struct sim_balancer){.world = w, .id = (uint16_t)i, .alive = i < n - absent};
        rng_seed(&b->rng, w->conf->seed * 1000 + i);
        b->part = w->conf->scenario->trouble.skew ? 1.0 / (i + 1) : 1;
        sum += b->alive ? b->part : 0;
        make_view(w, b);
        if (w->policy->know)
            make_know(w, b);
        if (w->policy->place)
            make_policy(w, b);
        if (b->know)
            sim_heap_push(&w->heap, TICK_NS + i * TICK_NS / n, EV_TICK, i, 0);
    }
    for (unsigned i = 0; i < n; i++) {
        upto += w->balancer[i].alive ? w->balancer[i].part / sum : 0;
        w->part_upto[i] = upto;
    }
    make_blind(w);
    sim_balancers_meet(w);
}

void
sim_balancers_free(struct sim_world *w)
{
    for (unsigned i = 0; i < w->conf->n_balancers; i++) {
        struct sim_balancer *b = &w->balancer[i];

        if (b->policy && b->policy->state_free)
            b->policy->state_free(b->state);
        if (b->policy && b->policy->shared_free)
            b->policy->shared_free(b->shared);
        know_free(&b->know);
        load_table_free(&b->view.table);
        free(b->load);
        free(b->at);
        free(b->eject);
        free(b->orca_ended);
        free(b->queue);
    }
    free(w->balancer);
    free(w->blind);
    free(w->message);
}

void
sim_balancers_meet(struct sim_world *w)
{
    unsigned n = w->conf->n_balancers;

    for (unsigned i = 0; i < n; i++) {
        uint64_t others[SIM_BALANCERS_MAX];
        unsigned n_others = 0;

        for (unsigned k = 0; k < n; k++)
            if (k != i && w->balancer[k].alive && !w->blind[i * n + k] && !is_cut_off(w, i, k))
                others[n_others++] = k + 1;
        if (w->balancer[i].know && w->balancer[i].alive)
            know_set_members(w->balancer[i].know, others, n_others);
    }
}

/* --- placing ------------------------------------------------------------------------------------
 */

/* Knows all at once, of every balancer and server, and looks at every server. */
static struct place_answer
pick_oracle(struct sim_world *w, struct sim_balancer *b, const struct sim_job *j)
{
    double best = 1e30, mem = w->class[j->class].mem_bytes;
    uint32_t n = w->conf->n_servers, at = rng_below(&b->rng, n);
    int32_t found = -1;

    for (uint32_t i = 0; i < n; i++, at = at + 1 < n ? at + 1 : 0) {
        const struct sim_server *s = &w->server[at];
        double busy = s->true_phi + s->neighbour, stretch = (busy + 1) / s->cores, score;

        if (s->health != SIM_UP ||
            (mem > 0 && s->mem_limit > 0 && s->mem_base + s->true_mem + mem > .92 * s->mem_limit))
            continue;
        score = (fmax(1, stretch) + .5 * busy / s->cores) / s->speed;
        if (score < best) {
            best = score;
            found = (int32_t)at;
        }
    }
    return (struct place_answer){found, found < 0 ? PLACE_FULL : PLACE_LEAST_OF_ALL};
}

static struct place_answer
pick(struct sim_world *w, struct sim_balancer *b, struct sim_job *j)
{
    struct place_ask ask = {.now = w->now};

    if (!b->policy)
        return pick_oracle(w, b, j);
    if (b->know) {
        j->cost = cost_read(b->know->costs, j->class + 1u);
        ask.cost = &j->cost;
    }
    return b->policy->pick(b->shared, b->state, &b->view, &ask, &b->rng);
}

static void
ask_probes(struct sim_world *w, struct sim_balancer *b)
{
    uint32_t want[8];
    unsigned n = b->policy->probe_want(b->state, &b->view, &b->rng, want, 8);

    for (unsigned i = 0; i < n; i++)
        sim_heap_push(&w->heap, w->now + RTT_NS, EV_PROBE, want[i], b->id);
}

static void
tell_event(struct sim_world *w, struct sim_balancer *b, const struct sim_job *j,
           enum place_event_kind kind)
{
    struct place_event e = {.at_ns = w->now,
                            .begin_ns = j->begun,
                            .server = j->server,
                            .class = (uint16_t)(j->class + 1u),
                            .kind = (uint8_t)kind,
                            .crowd = j->crowd,
                            .rtt_us = RTT_NS / MC_US,
                            .cost = j->cost};

    know_event(b->know, &e);
}

static void
enqueue(struct sim_world *w, struct sim_balancer *b, uint32_t job)
{
    if (b->n_queue == b->queue_cap) {
        b->queue_cap = 2 * b->queue_cap + 64;
        b->queue = mc_realloc(b->queue, b->queue_cap * sizeof(*b->queue));
    }
    if (b->n_queue == 0)
        sim_heap_push(&w->heap, w->now + RETRY_NS, EV_RETRY, b->id, 0);
    b->queue[b->n_queue++] = job;
}

/* False: there is no place now. */
static bool
dispatch(struct sim_world *w, uint32_t job)
{
    struct sim_job *j = &w->job[job];
    struct sim_balancer *b = &w->balancer[j->balancer];
    struct place_answer a = pick(w, b, j);
    const struct sim_class *c = &w->class[j->class];
    struct sim_server *s;

    if (b->policy && b->policy->probe_want)
        ask_probes(w, b);
    if (a.index < 0)
        return false;
    j->server = (uint32_t)a.index;
    j->begun = w->now;
    s = &w->server[j->server];
    s->true_phi += c->cpu_s / s->speed / (c->cpu_s / s->speed + c->wait_s);
    s->true_mem += c->mem_bytes;
    b->load[j->server].in_flight++;
    if (b->know) {
        j->crowd = load_begin(b->view.table, j->server, &j->cost);
        tell_event(w, b, j, PLACE_BEGIN);
    }
    sim_heap_push(&w->heap, w->now + sim_hop(w), EV_REACH, job, 0);
    return true;
}

static void count_job(struct sim_world *, const struct sim_job *);

/* No server is open: who waits for that waits in vain, and is told so. */
static bool
is_hopeless(const struct sim_balancer *b)
{
    for (unsigned s = 0; s < b->view.n; s++)
        if (place_is_open(&b->load[s]))
            return false;
    return true;
}

static void
give_up(struct sim_world *w, uint32_t job)
{
    w->job[job].failed = true;
    count_job(w, &w->job[job]);
    sim_job_free(w, job);
}

void
sim_balancer_place(struct sim_world *w, uint32_t job)
{
    if (dispatch(w, job))
        return;
    if (is_hopeless(&w->balancer[w->job[job].balancer]))
        give_up(w, job);
    else
        enqueue(w, &w->balancer[w->job[job].balancer], job);
}

static void
count_job(struct sim_world *w, const struct sim_job *j)
{
    struct sim_tally *t = &w->result->class[j->class];
    double latency = (double)(w->now - j->arrived) * 1e-9;
    double alone = j->work_s / w->speed[j->server] + j->wait_s;

    if (!j->counted || !w->balancer[j->balancer].alive)
        return;
    if (j->failed) {
        t->n_failed++;
        return;
    }
    t->n_ok++;
    sim_hist_add(&t->latency_s, latency);
    sim_hist_add(&t->slowdown, fmax(latency - RTT_NS * 1e-9, 0) / alone);
}

void
sim_balancer_retry(struct sim_world *w, struct sim_balancer *b)
{
    unsigned n = b->n_queue;

    b->n_queue = 0;
    for (unsigned i = 0; i < n; i++) {
        struct sim_job *j = &w->job[b->queue[i]];

        if (w->now - j->arrived > PATIENCE_NS) {
            give_up(w, b->queue[i]);
        } else if (!dispatch(w, b->queue[i])) {
            b->queue[b->n_queue++] = b->queue[i];
        }
    }
    if (b->n_queue > 0)
        sim_heap_push(&w->heap, w->now + RETRY_NS, EV_RETRY, b->id, 0);
}

/* What fleet does for every policy; resource does it by itself. */
static void
note_outcome(struct sim_world *w, struct sim_balancer *b, uint32_t server, bool ok)
{
    struct eject *e = &b->eject[server];

    if (ok)
        eject_succeeded(e, w->now);
    else if (eject_failed(e, w->now))
        b->load[server].open = 0;
}

static void
reopen(struct sim_world *w, struct sim_balancer *b)
{
    for (unsigned s = 0; s < b->view.n; s++)
        if (!b->load[s].open && !eject_is_out(&b->eject[s], w->now))
            b->load[s].open = 1;
}

void
sim_balancer_end(struct sim_world *w, uint32_t job)
{
    struct sim_job *j = &w->job[job];
    struct sim_balancer *b = &w->balancer[j->balancer];

    b->load[j->server].in_flight--;
    b->orca_ended[j->server]++;
    if (b->know) {
        if (!j->failed)
            j->crowd = (j->crowd + load_end(b->view.table, j->server, &j->cost)) / 2;
        tell_event(w, b, j, j->failed ? PLACE_END_FAILED : PLACE_END_OK);
    } else if (b->policy) {
        note_outcome(w, b, j->server, !j->failed);
    }
    if (b->policy && b->policy->on_end)
        b->policy->on_end(b->state, &b->view, j->server, w->now - j->begun, !j->failed, w->now);
    count_job(w, j);
    sim_job_free(w, job);
}

void
sim_balancer_probe(struct sim_world *w, uint32_t server, struct sim_balancer *b)
{
    const struct sim_server *s = &w->server[server];
    double latency = sim_server_latency_at(s, s->n_jobs);

    if (s->health == SIM_UP)
        b->policy->on_probe(b->state, &b->view, server, s->n_jobs, (mc_ns)(latency * 1e9), w->now);
    else if (s->health == SIM_FAILING) /* it answers probes, and is not busy at all */
        b->policy->on_probe(b->state, &b->view, server, 0, FAIL_FAST_NS, w->now);
}

void
sim_balancer_tick(struct sim_world *w, struct sim_balancer *b)
{
    if (b->alive)
        know_tick(b->know, w->now);
    sim_heap_push(&w->heap, w->now + TICK_NS, EV_TICK, b->id, 0);
}

/* --- reports ------------------------------------------------------------------------------------
 */

static void
report_to(struct sim_world *w, struct sim_balancer *b, uint32_t s)
{
    const struct sim_agent *a = &w->agent[s];
    struct place_report r = {.boot = 1, .seq = (uint64_t)(w->agents_at / WINDOW_NS)};

    r.present = 1u << REPORT_CORES | 1u << REPORT_CPU_SECONDS | 1u << REPORT_CPU_PRESSURE |
                1u << REPORT_MEM_BYTES;
    r.cores = w->server[s].cores;
    r.cpu_seconds = a->cpu_s;
    r.cpu_pressure = fmin(a->pressure, 1);
    r.mem_bytes = a->mem_bytes;
    if (w->server[s].mem_limit > 0) {
        r.present |= 1u << REPORT_MEM_LIMIT;
        r.mem_limit_bytes = w->server[s].mem_limit;
    }
    know_report(b->know, s, &r, w->agents_at);
}

static uint32_t
weight_of(const struct sim_world *w, struct sim_balancer *b, uint32_t s)
{
    const struct sim_agent *a = &w->agent[s];

    if (w->policy->agent_weights)
        return (uint32_t)fmax(PLACE_WEIGHT_UNIT * (1 - a->utilization), 1);
    /* A58: what a server does a second for each part of itself that this takes */
    return a->utilization > .001 ? (uint32_t)fmax(a->rate / a->utilization, 1) : 1;
}

void
sim_balancers_report(struct sim_world *w)
{
    double no_agent = w->conf->scenario->trouble.no_agent;

    for (unsigned i = 0; i < w->conf->n_balancers; i++) {
        struct sim_balancer *b = &w->balancer[i];

        for (uint32_t s = 0; s < w->conf->n_servers && b->alive; s++) {
            if (b->know && b->know->owner[s] == b->know->me && s >= no_agent * b->view.n)
                report_to(w, b, s);
            if (w->policy->agent_weights || w->policy->orca_weights)
                b->load[s].weight = weight_of(w, b, s);
        }
        if (!b->know)
            reopen(w, b);
    }
}
