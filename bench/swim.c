/* SPDX-License-Identifier: BSD-2-Clause
 *
 * swim.c - what membership costs and how soon it sees a death: the table of docs/cluster.md, by the
 * code that serves in a network in virtual time.  make -f bench/bench.mk swim-bench
 */
#include <stdio.h>
#include <stdlib.h>

#include "cluster/swim_harness.h"

#define KILLS      300   /* in each cell of the table */
#define QUIET_H    100.0 /* hours of one member, shared out among all */
#define WARM_NS    (60 * MC_SEC)
#define SEARCH_NS  (120 * MC_SEC) /* a death that is not known by then counts as that */
#define BETWEEN_NS (20 * MC_SEC)

struct death {
    unsigned victim;
    mc_ns at, first, last;
    unsigned n_know;
};

static void
see_death(struct net *w, struct net_node *node, const struct swim_member *m, enum swim_state was)
{
    struct death *d = w->watch_arg;

    if (m->state != SWIM_DEAD || strcmp(m->name, w->node[d->victim].name) != 0)
        return;
    if (d->n_know++ == 0)
        d->first = w->now - d->at;
    d->last = w->now - d->at;
}

static int
by_size(const void *a, const void *b)
{
    mc_ns x = *(const mc_ns *)a, y = *(const mc_ns *)b;

    return (x > y) - (x < y);
}

static double
quantile_s(const mc_ns *sorted, double q)
{
    return (double)sorted[(unsigned)(q * (KILLS - 1) + .5)] / 1e9;
}

static void
warm(struct net *w, unsigned n, double loss)
{
    net_init(w, n, n * 1000 + (unsigned)(loss * 100));
    for (unsigned i = 0; i < n; i++)
        net_start(w, i, i, 0);
    if (!net_settle(w, WARM_NS))
        fprintf(stderr, "%u members: not settled after a minute\n", n);
    w->loss = loss;
    net_run(w, w->now + WARM_NS);
}

static void
kill_one(struct net *w, struct death *d)
{
    net_run(w, w->now + (mc_ns)(rng_unit(&w->rng) * 1e9));
    *d = (struct death){.victim = rng_below(&w->rng, w->n), .at = w->now, .first = SEARCH_NS};
    d->last = SEARCH_NS;
    net_kill(w, d->victim);
    while (d->n_know < w->n - 1 && w->now < d->at + SEARCH_NS)
        net_run(w, w->now + 10 * MC_MS);
    if (d->n_know < w->n - 1)
        d->last = SEARCH_NS;
    net_start(w, d->victim, d->victim, 0);
    net_run(w, w->now + BETWEEN_NS);
}

static void
measure_deaths(unsigned n, double loss)
{
    static mc_ns first[KILLS], last[KILLS];
    struct death d;
    struct net w;

    warm(&w, n, loss);
    w.watch = see_death;
    w.watch_arg = &d;
    for (unsigned i = 0; i < KILLS; i++) {
        kill_one(&w, &d);
        first[i] = d.first;
        last[i] = d.last;
    }
    net_fini(&w);
    qsort(first, KILLS, sizeof(*first), by_size);
    qsort(last, KILLS, sizeof(*last), by_size);
    printf(" %.2f / %.2f | %.2f / %.2f |", quantile_s(first, .5), quantile_s(first, .99),
           quantile_s(last, .5), quantile_s(last, .99));
}

static void
measure_quiet(unsigned n, double loss)
{
    double hours = QUIET_H / n;
    uint64_t deaths = 0, suspicions = 0, bytes = 0, packets = 0, states = 0;
    struct net w;

    warm(&w, n, loss);
    for (unsigned i = 0; i < n; i++) {
        deaths -= swim_counters(w.node[i].s)->deaths;
        suspicions -= swim_counters(w.node[i].s)->suspicions;
        states -= swim_counters(w.node[i].s)->state_bytes_out;
    }
    bytes -= w.n_bytes;
    packets -= w.n_packets;
    net_run(&w, w.now + (mc_ns)(hours * 3600e9));
    for (unsigned i = 0; i < n; i++) {
        deaths += swim_counters(w.node[i].s)->deaths;
        suspicions += swim_counters(w.node[i].s)->suspicions;
        states += swim_counters(w.node[i].s)->state_bytes_out;
    }
    bytes += w.n_bytes;
    packets += w.n_packets;
    net_fini(&w);
    printf(" %.2f | %.0f | %.1f | %.0f | %.0f |\n", (double)deaths / QUIET_H,
           (double)suspicions / QUIET_H, (double)packets / QUIET_H / 3600,
           (double)bytes / QUIET_H / 3600, (double)states / QUIET_H / 3600);
    fflush(stdout);
}

static void
measure(unsigned n, double loss)
{
    printf("| %u | %.0f %% |", n, loss * 100);
    fflush(stdout);
    measure_deaths(n, loss);
    measure_quiet(n, loss);
}

int
main(int argc, char **argv)
{
    static const unsigned sizes[] = {3, 10, 30, 100, 300};
    static const double losses[] = {0, .05, .2};

    if (argc == 3) { /* one line of it: members, loss in percent */
        measure((unsigned)atoi(argv[1]), atof(argv[2]) / 100);
        return 0;
    }
    printf("| members | loss | first knows, median / p99, s | all know, median / p99, s "
           "| false deaths /h | suspicions /h | packets/s | bytes/s | bytes/s of states |\n"
           "| --: | --: | --: | --: | --: | --: | --: | --: | --: |\n");
    for (unsigned i = 0; i < MC_COUNT(sizes); i++)
        for (unsigned k = 0; k < MC_COUNT(losses); k++)
            measure(sizes[i], losses[k]);
    return 0;
}
