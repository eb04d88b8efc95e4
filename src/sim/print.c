/* SPDX-License-Identifier: BSD-2-Clause
 *
 * print.c - results as CSV and as tables.
 */
#include <stdio.h>
#include <string.h>

#include "sim/sim.h"

static double
failed_ppm(const struct sim_tally *t)
{
    uint64_t n = t->n_ok + t->n_failed;

    return n > 0 ? (double)t->n_failed / (double)n * 1e6 : 0;
}

static double
ms(const struct sim_tally *t, double q)
{
    return sim_hist_quantile(&t->latency_s, q) * 1e3;
}

void
sim_print_csv_head(FILE *f)
{
    fprintf(f, "scenario,policy,class,p50_ms,p99_ms,p999_ms,slowdown_p99,failed_ppm\n");
}

/* A path may hold what CSV is made of (RFC 4180). */
static void
csv_text(FILE *f, const char *text)
{
    if (!strpbrk(text, ",\"")) {
        fputs(text, f);
        return;
    }
    putc('"', f);
    for (const char *c = text; *c; c++) {
        if (*c == '"')
            putc('"', f);
        putc(*c, f);
    }
    putc('"', f);
}

static void
csv_row(FILE *f, const struct sim_conf *c, const struct sim_result *r, const char *class,
        const struct sim_tally *t)
{
    fprintf(f, "%s,%s,", c->log ? "replay" : c->scenario->name, r->policy);
    csv_text(f, class);
    fprintf(f, ",%.4g,%.4g,%.4g,%.4g,%.4g\n", ms(t, .5), ms(t, .99), ms(t, .999),
            sim_hist_quantile(&t->slowdown, .99), failed_ppm(t));
}

void
sim_print_csv(FILE *f, const struct sim_conf *c, const struct sim_result *r)
{
    for (unsigned k = 0; k < r->n_classes; k++)
        csv_row(f, c, r, c->class[k].name, &r->class[k]);
    csv_row(f, c, r, "all", &r->all);
}

static void
table_row(FILE *f, const char *policy, const char *class, const struct sim_tally *t)
{
    fprintf(f, "%-14s %-24s %9.3g %9.3g %9.3g %9.3g %9.3g %8.4f\n", policy, class, ms(t, .5),
            ms(t, .99), ms(t, .999), sim_hist_quantile(&t->slowdown, .99),
            sim_hist_quantile(&t->slowdown, .999), failed_ppm(t) / 1e4);
}

void
sim_print_table(FILE *f, const struct sim_conf *c, struct sim_result *const *r, unsigned n)
{
    fprintf(f, "%s: %s\n", c->log ? "replay" : c->scenario->name,
            c->log ? "an access log" : c->scenario->help);
    fprintf(f, "%u balancers, %u servers of %u cores", c->n_balancers, c->n_servers, c->cores);
    if (!c->log)
        fprintf(f, ", load %g %%", c->load * 100);
    fprintf(f, ", %g s, seed %llu\n\n", c->seconds, (unsigned long long)c->seed);
    fprintf(f, "%-14s %-24s %9s %9s %9s %9s %9s %8s\n", "policy", "class", "p50 ms", "p99 ms",
            "p99.9 ms", "slow p99", "slow 99.9", "failed %");
    for (unsigned i = 0; i < n; i++) {
        for (unsigned k = 0; k < r[i]->n_classes; k++)
            table_row(f, k == 0 ? r[i]->policy : "", c->class[k].name, &r[i]->class[k]);
        table_row(f, "", "all", &r[i]->all);
        fprintf(f, "%-14s CPU %.1f %%; %.1f M events in %.1f s", "", r[i]->busy * 100,
                (double)r[i]->n_events * 1e-6, r[i]->wall_s);
        if (r[i]->n_messages > 0)
            fprintf(f, "; %.0f messages, %.0f entries a second",
                    (double)r[i]->n_messages / c->seconds, (double)r[i]->n_entries / c->seconds);
        fprintf(f, "\n");
    }
}

void
sim_print_costs(FILE *f, const struct sim_conf *c, const struct sim_result *r)
{
    fprintf(f, "\nlearned by the first balancer (as it is):\n");
    fprintf(f, "%-24s %22s %16s %16s\n", "class", "CPU ms", "phi", "memory MB");
    for (unsigned k = 0; k < r->n_classes; k++) {
        const struct sim_cost *o = &r->cost[k];

        fprintf(f, "%-24s %9.3f (%9.3f)  %6.3f (%6.3f)  %6.0f (%6.0f)\n", c->class[k].name,
                o->cpu_s * 1e3, o->true_cpu_s * 1e3, o->phi, o->true_phi, o->mem_mb, o->true_mem);
    }
    fprintf(f, "mean error, up to a common factor: CPU %.1f %% (by work %.1f %%), phi %.1f %%\n",
            r->cost_error * 100, r->cost_error_by_work * 100, r->phi_error * 100);
}

void
sim_print_bytes(FILE *f, const struct sim_conf *c, const struct sim_result *r)
{
    static const char *const kind[] = {
#define X(name) #name,
        SHARE_KINDS(X)
#undef X
    };
    double each = c->seconds * c->n_balancers;

    fprintf(f, "\nsent by each balancer, a second:\n%-8s %9s %9s\n", "", "kB", "datagrams");
    for (unsigned i = 0; i < SHARE_N_KINDS; i++)
        fprintf(f, "%-8s %9.1f %9.0f\n", kind[i], (double)r->n_bytes[i] / each * 1e-3,
                (double)r->n_datagrams[i] / each);
}
