/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tables.c - the tables of docs/placement.md, made by `meercat sim --tables`.
 */
#include <stdlib.h>

#include "base/check.h"
#include "place/know.h"
#include "sim/sim.h"

static const char *const ideal[] = {"web", "noisy", "waiting", "burst", "memory", "faults"};
static const char *const unideal[] = {"loss", "views",     "noagent", "someagents", "die",
                                      "join", "partition", "drift",   "cold"};

struct figures {
    double p99_ms, p999_ms, slow_p999, failed_percent, worst_percent;
};

static double
failed(const struct sim_tally *t)
{
    uint64_t n = t->n_ok + t->n_failed;

    return n > 0 ? 100.0 * (double)t->n_failed / (double)n : 0;
}

/* Of the first class, which is the cheap one; failures of all, and of the class that fails most. */
static struct figures
run(struct sim_conf *c, const char *policy)
{
    struct sim_result *r = sim_run(c, policy);
    struct figures f = {sim_hist_quantile(&r->class[0].latency_s, .99) * 1e3,
                        sim_hist_quantile(&r->class[0].latency_s, .999) * 1e3,
                        sim_hist_quantile(&r->class[0].slowdown, .999), failed(&r->all), 0};

    for (unsigned k = 0; k < r->n_classes; k++)
        if (failed(&r->class[k]) > f.worst_percent)
            f.worst_percent = failed(&r->class[k]);
    free(r);
    return f;
}

static void
conf_of(struct sim_conf *c, const char *scenario, double seconds)
{
    sim_conf_init(c, sim_scenario_find(scenario));
    c->seconds = seconds;
}

static void
cell(FILE *f, const struct figures *g)
{
    fprintf(f, " | %.3g/%.3g, %.2g", g->p99_ms, g->p999_ms, g->slow_p999);
    if (g->worst_percent > 0)
        fprintf(f, ", %.2g %%/%.2g %%", g->failed_percent, g->worst_percent);
}

static void
by_scenario(FILE *f, const char *const *scenario, unsigned n, const char *const *policy,
            unsigned n_policies, double seconds)
{
    fprintf(f, "|");
    for (unsigned s = 0; s < n; s++)
        fprintf(f, " | %s %.0f %%", scenario[s], sim_scenario_find(scenario[s])->load * 100);
    fprintf(f, " |\n|---");
    for (unsigned s = 0; s < n; s++)
        fprintf(f, "|---");
    fprintf(f, "|\n");
    for (unsigned p = 0; p < n_policies; p++) {
        fprintf(f, "| %s", policy[p]);
        for (unsigned s = 0; s < n; s++) {
            struct sim_conf c;
            struct figures g;

            conf_of(&c, scenario[s], seconds);
            g = run(&c, policy[p]);
            cell(f, &g);
            fflush(f);
        }
        fprintf(f, " |\n");
    }
}

#define COLUMNS 5

/* The p99 of `web`, a row for each policy; set: what a column has for its own. */
static void
p99_rows(FILE *f, double seconds, void (*set)(struct sim_conf *, unsigned column))
{
    static const char *const policy[] = {"resource", "prequal", "least-request", "p2c", "oracle"};

    fprintf(f, "|---|---|---|---|---|---|\n");
    for (unsigned p = 0; p < MC_COUNT(policy); p++) {
        fprintf(f, "| %s", policy[p]);
        for (unsigned i = 0; i < COLUMNS; i++) {
            struct sim_conf c;

            conf_of(&c, "web", seconds);
            set(&c, i);
            fprintf(f, " | %.3g", run(&c, policy[p]).p99_ms);
            fflush(f);
        }
        fprintf(f, " |\n");
    }
}

static void
set_balancers(struct sim_conf *c, unsigned column)
{
    static const unsigned n[COLUMNS] = {1, 3, 10, 30, 100};

    c->n_balancers = n[column];
}

static void
by_balancers(FILE *f, double seconds)
{
    fprintf(f, "| balancers | 1 | 3 | 10 | 30 | 100 |\n");
    p99_rows(f, seconds, set_balancers);
}

static void
set_load(struct sim_conf *c, unsigned column)
{
    static const double load[COLUMNS] = {.5, .7, .8, .9, .95};

    c->load = load[column];
}

static void
by_load(FILE *f, double seconds)
{
    fprintf(f, "| load | 50 %% | 70 %% | 80 %% | 90 %% | 95 %% |\n");
    p99_rows(f, seconds, set_load);
}

static void
ablations(FILE *f, double seconds)
{
    static const char *const scenario[] = {"web", "noisy", "waiting", "memory", "faults"};
    static const char *const without[] = {
#define X(id, name, text) name,
        KNOW_PARTS(X)
#undef X
    };

    fprintf(f,
            "| without | web | noisy | waiting | memory | faults |\n|---|---|---|---|---|---|\n");
    for (int part = -1; part < KNOW_N_PARTS; part++) {
        fprintf(f, "| %s", part < 0 ? "nothing" : without[part]);
        for (unsigned s = 0; s < MC_COUNT(scenario); s++) {
            struct sim_conf c;
            struct figures g;

            conf_of(&c, scenario[s], seconds);
            c.without = part < 0 ? 0 : 1u << part;
            g = run(&c, "resource");
            fprintf(f, " | %.3g", g.p99_ms);
            if (g.worst_percent > 0)
                fprintf(f, ", %.2g %%/%.2g %%", g.failed_percent, g.worst_percent);
            fflush(f);
        }
        fprintf(f, " |\n");
    }
}

/* Classes of costs from 0.3 to 30 ms, every fifth mostly waits. */
void
sim_classes_many(struct sim_conf *c, unsigned n)
{
    double sum = 0;

    c->n_classes = n;
    for (unsigned k = 0; k < n; k++) {
        struct sim_class *t = &c->class[k];

        *t = (struct sim_class){.cpu_s = .0003 * (double)(1 + (k * 37) % 100), .sigma = .5};
        snprintf(t->name, sizeof(t->name), "class%u", k);
        t->share = 1 / t->cpu_s;
        t->wait_s = k % 5 == 4 ? .1 : 0;
        sum += t->share;
    }
    for (unsigned k = 0; k < n; k++)
        c->class[k].share /= sum;
}

static void
cost_errors(FILE *f)
{
    struct sim_conf c;
    struct sim_result *r;

    fprintf(f, "| classes | CPU cost | phi |\n|---|---|---|\n");
    conf_of(&c, "web", 30);
    c.load = .7;
    r = sim_run(&c, "resource");
    fprintf(f, "| 3 | %.1f %% | %.1f %% |\n", r->cost_error * 100, r->phi_error * 100);
    free(r);
    sim_classes_many(&c, 50);
    r = sim_run(&c, "resource");
    fprintf(f, "| 50, of which 10 wait | %.1f %% (by work %.1f %%) | %.1f %% |\n",
            r->cost_error * 100, r->cost_error_by_work * 100, r->phi_error * 100);
    free(r);
}

void
sim_tables(FILE *f, double seconds)
{
    static const char *const all[] = {"random",    "agent-rr", "orca-rr",  "least-request", "p2c",
                                      "peak-ewma", "prequal",  "resource", "oracle"};
    static const char *const few[] = {"p2c", "least-request", "resource", "oracle"};

    fprintf(f, "<!-- made by: meercat sim --tables --seconds %g -->\n\n", seconds);
    fprintf(f, "### By scenario\n\n");
    by_scenario(f, ideal, MC_COUNT(ideal), all, MC_COUNT(all), seconds);
    fprintf(f, "\n### When things are not ideal\n\n");
    by_scenario(f, unideal, MC_COUNT(unideal), few, MC_COUNT(few), seconds);
    fprintf(f, "\n### By the number of balancers\n\n");
    by_balancers(f, seconds);
    fprintf(f, "\n### By load\n\n");
    by_load(f, seconds);
    fprintf(f, "\n### What each part is worth\n\n");
    ablations(f, seconds);
    fprintf(f, "\n### Learned against real costs, after 30 s\n\n");
    cost_errors(f);
}
