/* SPDX-License-Identifier: BSD-2-Clause
 *
 * wire.c - what balancers have to tell each other, by the size of the fleet.
 *
 * One balancer is real: its requests are placed by the policy resource and last as long as they
 * would on idle servers, its agents report, and what it sends is counted after the encoder.  The
 * others say no more than is needed to be members: that they live, place as much, and had nothing
 * at the servers that it follows.  So a hundred balancers before ten thousand servers fit a minute.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "sim/world.h"

#define N_CLASSES 50
#define CORES     4
#define LOAD      .8
#define WARM_NS   MC_SEC
#define END_NS    (3 * MC_SEC)

struct flight {
    mc_ns begun;
    uint32_t server, next_free;
    uint16_t class;
    float crowd;
    struct place_cost cost;
};

struct wire {
    struct sim_conf conf;
    unsigned n_members;
    mc_ns now;
    struct place_load *load;
    struct place_load **at;
    uint64_t *id_hash;
    double *cpu_s; /* that a server has used */
    struct place_view view;
    const struct policy *policy;
    void *state;
    struct know *know;
    struct sim_heap heap;
    struct flight *flight;
    unsigned n_flights, cap;
    uint32_t free_flight;
    struct rng rng;
    uint64_t n_bytes[SHARE_N_KINDS], n_datagrams;
};

struct counted {
    size_t bytes;
    unsigned n;
};

static void
count_piece(void *arg, const uint8_t *bytes, size_t n)
{
    struct counted *c = arg;

    c->bytes += n + SIM_DATAGRAM_BYTES;
    c->n++;
}

static size_t
count(void *arg, uint64_t to, const struct share_msg *m)
{
    struct wire *w = arg;
    struct counted c = {0, 0};
    unsigned n_to = to == SHARE_TO_ALL ? w->n_members - 1 : 1;

    share_wire_put(m, w->know->map, SIM_PIECE_BYTES, count_piece, &c);
    if (w->now >= WARM_NS) {
        w->n_bytes[m->kind] += n_to * c.bytes;
        w->n_datagrams += (uint64_t)n_to * c.n;
    }
    return n_to * c.bytes;
}

static void
make_pool(struct wire *w, unsigned n)
{
    w->load = mc_alloc_lines((n + 1) * sizeof(*w->load));
    w->at = mc_alloc((n + 1) * sizeof(struct place_load *));
    w->id_hash = mc_alloc((n + 1) * sizeof(*w->id_hash));
    w->cpu_s = mc_alloc((n + 1) * sizeof(*w->cpu_s));
    for (unsigned s = 0; s < n; s++) {
        w->at[s] = &w->load[s];
        w->id_hash[s] = rng_next(&w->rng);
        w->load[s].open = 1;
        w->load[s].weight = PLACE_WEIGHT_UNIT;
    }
    w->view = (struct place_view){.load = w->at, .id_hash = w->id_hash, .n = n};
    w->view.table = load_table_new(n, w->id_hash);
}

static void
make_know(struct wire *w, double budget)
{
    struct know_conf c = {.id = 1,
                          .boot = 1,
                          .n_classes = N_CLASSES + 1,
                          .window_ns = w->view.n > 1000 ? MC_SEC : WINDOW_NS,
                          .tick_ns = TICK_NS,
                          .budget_bytes_per_s = budget,
                          .send = count,
                          .arg = w};
    uint64_t others[SIM_BALANCERS_MAX];

    w->know = know_new(&c, &w->view, w->view.table, 0);
    for (unsigned i = 0; i + 1 < w->n_members; i++)
        others[i] = i + 2;
    know_set_members(w->know, others, w->n_members - 1);
    for (unsigned k = 0; k < N_CLASSES; k++) {
        const struct sim_class *s = &w->conf.class[k];

        know_set_class(w->know, k + 1, str_hash(str_of(s->name), 7));
        learn_remember(&w->know->learn, k + 1, s->cpu_s, s->cpu_s / (s->cpu_s + s->wait_s), 0);
    }
}

/* --- requests -----------------------------------------------------------------------------------
 */

static unsigned
draw_class(struct wire *w)
{
    double x = rng_unit(&w->rng);
    unsigned k = 0;

    while (k + 1 < N_CLASSES && x >= w->conf.class[k].share)
        x -= w->conf.class[k++].share;
    return k;
}

static uint32_t
flight_new(struct wire *w)
{
    uint32_t i = w->free_flight;

    if (i != NO_JOB) {
        w->free_flight = w->flight[i].next_free;
        return i;
    }
    if (w->n_flights == w->cap) {
        w->cap = 2 * w->cap + 1024;
        w->flight = mc_realloc(w->flight, w->cap * sizeof(*w->flight));
    }
    return w->n_flights++;
}

static void
tell(struct wire *w, const struct flight *f, enum place_event_kind kind)
{
    struct place_event e = {.at_ns = w->now,
                            .begin_ns = f->begun,
                            .server = f->server,
                            .class = f->class,
                            .kind = (uint8_t)kind,
                            .crowd = f->crowd,
                            .cost = f->cost};

    know_event(w->know, &e);
}

static void
arrive(struct wire *w, double rate)
{
    unsigned k = draw_class(w);
    uint32_t i = flight_new(w);
    struct flight *f = &w->flight[i];
    struct place_ask ask = {.now = w->now, .cost = &f->cost};
    double seconds = w->conf.class[k].cpu_s + w->conf.class[k].wait_s;

    *f = (struct flight){.begun = w->now, .class = (uint16_t)(k + 1)};
    f->cost = cost_read(w->know->costs, f->class);
    f->server = (uint32_t)w->policy->pick(NULL, w->state, &w->view, &ask, &w->rng).index;
    f->crowd = load_begin(w->view.table, f->server, &f->cost);
    tell(w, f, PLACE_BEGIN);
    sim_heap_push(&w->heap, w->now + (mc_ns)(seconds * 1e9), EV_ANSWER, i, 0);
    sim_heap_push(&w->heap, w->now + (mc_ns)(-log(1 - rng_unit(&w->rng)) / rate * 1e9), EV_ARRIVE,
                  0, 0);
}

static void
answer(struct wire *w, uint32_t i)
{
    struct flight *f = &w->flight[i];

    f->crowd = (f->crowd + load_end(w->view.table, f->server, &f->cost)) / 2;
    tell(w, f, PLACE_END_OK);
    w->cpu_s[f->server] += w->conf.class[f->class - 1].cpu_s * w->n_members;
    f->next_free = w->free_flight;
    w->free_flight = i;
}

/* --- the others ---------------------------------------------------------------------------------
 */

static void
others_say(struct wire *w, int64_t window, uint64_t seq)
{
    struct share_row *row = mc_alloc((w->view.n + 1) * sizeof(*row));
    struct know *k = w->know;
    struct share_msg rows = {.kind = SHARE_ROWS, .window = window, .row = row};
    struct share_msg slow = {.kind = SHARE_SLOW, .first = 1, .rate = k->rate};

    for (uint32_t s = 0; s < w->view.n; s++)
        if (k->owner[s] == k->me)
            row[rows.n++] = (struct share_row){.server = s};
    for (uint64_t from = 2; from <= w->n_members; from++) {
        rows.from = slow.from = from;
        rows.seq = seq;
        slow.seq = seq + SHARE_PIECES;
        know_recv(k, &slow, w->now);
        if (window >= 0)
            know_recv(k, &rows, w->now);
    }
    free(row);
}

static void
agents_say(struct wire *w)
{
    for (uint32_t s = 0; s < w->view.n; s++) {
        struct place_report r = {.boot = 1,
                                 .seq = (uint64_t)(w->now / WINDOW_NS),
                                 .cores = CORES,
                                 .cpu_seconds = w->cpu_s[s]};

        r.present = 1u << REPORT_CORES | 1u << REPORT_CPU_SECONDS;
        if (w->know->owner[s] == w->know->me)
            know_report(w->know, s, &r, w->now);
    }
}

static void
tick(struct wire *w)
{
    int64_t window = w->know->presence.window;

    know_tick(w->know, w->now);
    if (w->now % WINDOW_NS == 0)
        agents_say(w);
    if (w->know->presence.window != window || w->now % WINDOW_NS == 0)
        others_say(w, w->know->presence.window != window ? window : -1, (uint64_t)w->now);
    sim_heap_push(&w->heap, w->now + TICK_NS, EV_TICK, 0, 0);
}

static void
play(struct wire *w)
{
    struct sim_event e;
    double mean_s = 0, rate;

    for (unsigned k = 0; k < N_CLASSES; k++)
        mean_s += w->conf.class[k].share * w->conf.class[k].cpu_s;
    rate = w->view.n * CORES * LOAD / mean_s / w->n_members;
    sim_heap_push(&w->heap, TICK_NS, EV_TICK, 0, 0);
    sim_heap_push(&w->heap, 0, EV_ARRIVE, 0, 0);
    while (sim_heap_pop(&w->heap, &e) && e.at < END_NS) {
        w->now = e.at;
        if (e.kind == EV_ARRIVE)
            arrive(w, rate);
        else if (e.kind == EV_ANSWER)
            answer(w, e.a);
        else
            tick(w);
    }
}

static void
print_row(FILE *f, const struct wire *w)
{
    double seconds = (double)(END_NS - WARM_NS) * 1e-9, sum = 0;

    fprintf(f, "| %u | %u", w->n_members, w->view.n);
    for (unsigned i = 0; i < SHARE_N_KINDS; i++) {
        fprintf(f, " | %.0f", (double)w->n_bytes[i] / seconds * 1e-3);
        sum += (double)w->n_bytes[i];
    }
    fprintf(f, " | **%.0f** | %.0f |\n", sum / seconds * 1e-3, (double)w->n_datagrams / seconds);
    fflush(f);
}

static void
one(FILE *f, unsigned n_members, unsigned n_servers, double budget)
{
    struct wire w = {.n_members = n_members, .free_flight = NO_JOB};

    rng_seed(&w.rng, 1);
    sim_classes_many(&w.conf, N_CLASSES);
    make_pool(&w, n_servers);
    make_know(&w, budget);
    w.policy = policy_find(str_of("resource"));
    w.state = w.policy->state_new(&w.view, &w.rng);
    play(&w);
    print_row(f, &w);
    w.policy->state_free(w.state);
    know_free(&w.know);
    load_table_free(&w.view.table);
    sim_heap_free(&w.heap);
    free(w.load);
    free(w.at);
    free(w.id_hash);
    free(w.cpu_s);
    free(w.flight);
}

void
sim_wire_table(FILE *f, double budget)
{
    static const unsigned members[] = {3, 10, 30, 100}, servers[] = {10, 100, 1000, 10000};

    fprintf(f, "| balancers | servers");
#define X(name) fprintf(f, " | %s", #name);
    SHARE_KINDS(X)
#undef X
    fprintf(f, " | **kB/s** | datagrams/s |\n|---|---|---|---|---|---|---|---|---|---|\n");
    for (unsigned i = 0; i < MC_COUNT(members); i++)
        for (unsigned k = 0; k < MC_COUNT(servers); k++)
            one(f, members[i], servers[k], budget);
}
