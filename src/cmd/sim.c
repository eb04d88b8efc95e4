/* SPDX-License-Identifier: BSD-2-Clause
 *
 * sim.c - `meercat sim`: plays a workload against the placement code that serves.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/str.h"
#include "cmd/cmd.h"
#include "place/know.h"
#include "sim/sim.h"

struct options {
    struct sim_conf conf;
    const char *scenario, *replay, *plot, *policies;
    double load, seconds;
    bool csv, costs, bytes, tables, wire;
    unsigned n_policies;
    const char *policy[SIM_POLICIES_MAX];
    char *text; /* that the names of the policies are in */
};

static int
fault(const char *what, const char *value)
{
    fprintf(stderr, "meercat sim: %s%s%s%s\n", what, value ? " \"" : "", value ? value : "",
            value ? "\"" : "");
    return 2;
}

/* --- reading the command line -------------------------------------------------------------------
 */

static bool
number(const char *text, double least, double most, double *out)
{
    char *end;
    double v = strtod(text, &end);

    if (end == text || *end || !(v >= least && v <= most))
        return false;
    *out = v;
    return true;
}

static bool
whole(const char *text, double least, double most, unsigned *out)
{
    double v;

    if (!number(text, least, most, &v) || v != (double)(unsigned)v)
        return false;
    *out = (unsigned)v;
    return true;
}

/* "+20%", "-5%", "1.2" */
static bool
traffic(const char *text, double *out)
{
    char copy[32];
    size_t n = strlen(text);

    if (n > 1 && n < sizeof(copy) && text[n - 1] == '%') {
        memcpy(copy, text, n);
        copy[n - 1] = '\0';
        if (!number(copy, -99, 10000, out))
            return false;
        *out = 1 + *out / 100;
        return true;
    }
    return number(text, .01, 100, out);
}

static bool
without(const char *list, unsigned *out)
{
    static const char *const parts[] = {
#define X(id, name, text) name,
        KNOW_PARTS(X)
#undef X
    };
    struct str rest = str_of(list);

    while (rest.p) {
        struct str word = str_cut(&rest, ',');
        unsigned i = 0;

        while (i < MC_COUNT(parts) && !str_eq(word, str_of(parts[i])))
            i++;
        if (i == MC_COUNT(parts))
            return false;
        *out |= 1u << i;
    }
    return true;
}

static int
find_policies(struct options *o)
{
    o->text = mc_strdup(o->policies);
    for (char *save, *p = strtok_r(o->text, ",", &save); p; p = strtok_r(NULL, ",", &save)) {
        if (!sim_policy_known(p))
            return fault("no policy", p);
        if (o->n_policies == SIM_POLICIES_MAX)
            return fault("too many policies", NULL);
        o->policy[o->n_policies++] = p;
    }
    return o->n_policies > 0 ? 0 : fault("no policy", o->policies);
}

static int
help(void)
{
    cmd_usage(stdout, "sim");
    printf("\nscenarios:\n");
    for (unsigned i = 0; sim_scenario_at(i); i++)
        printf("  %-10s  %s\n", sim_scenario_at(i)->name, sim_scenario_at(i)->help);
    printf("policies: ");
    for (unsigned i = 0; sim_policy_at(i); i++)
        printf(" %s", sim_policy_at(i));
    printf("\nparts of resource to leave out (--without):\n");
#define X(id, name, text) printf("  %-10s  %s\n", name, text);
    KNOW_PARTS(X)
#undef X
    return 0;
}

enum {
    OPT_SCENARIO = 256,
    OPT_BALANCERS,
    OPT_SERVERS,
    OPT_CORES,
    OPT_LOAD,
    OPT_POLICY,
    OPT_SECONDS,
    OPT_SEED,
    OPT_CSV,
    OPT_PLOT,
    OPT_REPLAY,
    OPT_LOSE,
    OPT_TRAFFIC,
    OPT_WITHOUT,
    OPT_COSTS,
    OPT_BYTES,
    OPT_BUDGET,
    OPT_WIRE,
    OPT_TABLES,
    OPT_HELP
};

static const struct option long_options[] = {{"scenario", required_argument, NULL, OPT_SCENARIO},
                                             {"balancers", required_argument, NULL, OPT_BALANCERS},
                                             {"servers", required_argument, NULL, OPT_SERVERS},
                                             {"cores", required_argument, NULL, OPT_CORES},
                                             {"load", required_argument, NULL, OPT_LOAD},
                                             {"policy", required_argument, NULL, OPT_POLICY},
                                             {"seconds", required_argument, NULL, OPT_SECONDS},
                                             {"seed", required_argument, NULL, OPT_SEED},
                                             {"csv", no_argument, NULL, OPT_CSV},
                                             {"plot", required_argument, NULL, OPT_PLOT},
                                             {"replay", required_argument, NULL, OPT_REPLAY},
                                             {"lose", required_argument, NULL, OPT_LOSE},
                                             {"traffic", required_argument, NULL, OPT_TRAFFIC},
                                             {"without", required_argument, NULL, OPT_WITHOUT},
                                             {"costs", no_argument, NULL, OPT_COSTS},
                                             {"bytes", no_argument, NULL, OPT_BYTES},
                                             {"budget", required_argument, NULL, OPT_BUDGET},
                                             {"wire", no_argument, NULL, OPT_WIRE},
                                             {"tables", no_argument, NULL, OPT_TABLES},
                                             {"help", no_argument, NULL, OPT_HELP},
                                             {0}};

/* One option's value; false when it makes no sense.  A plain table switch. */
static bool
take(struct options *o, int option, const char *value)
{
    struct sim_conf *c = &o->conf;
    double v;

    switch (option) {
    case OPT_SCENARIO: o->scenario = value; return true;
    case OPT_BALANCERS: return whole(value, 1, SIM_BALANCERS_MAX, &c->n_balancers);
    case OPT_SERVERS: return whole(value, 1, 100000, &c->n_servers);
    case OPT_CORES: return whole(value, 1, 1024, &c->cores);
    case OPT_LOAD: return number(value, .001, 10, &o->load);
    case OPT_POLICY: o->policies = value; return true;
    case OPT_SECONDS: return number(value, .1, 100000, &o->seconds);
    case OPT_SEED:
        if (!number(value, 0, 1e15, &v))
            return false;
        c->seed = (uint64_t)v;
        return true;
    case OPT_CSV: return o->csv = true;
    case OPT_PLOT: o->plot = value; return true;
    case OPT_REPLAY: o->replay = value; return true;
    case OPT_LOSE: return whole(value, 0, 100000, &c->lose);
    case OPT_TRAFFIC: return traffic(value, &c->traffic);
    case OPT_WITHOUT: return without(value, &c->without);
    case OPT_COSTS: return o->costs = true;
    case OPT_BYTES: return o->bytes = true;
    case OPT_BUDGET: return number(value, 1000, 1e12, &c->budget_bytes_per_s);
    case OPT_WIRE: return o->wire = true;
    case OPT_TABLES: return o->tables = true;
    default: return false;
    }
}

/* --- running ------------------------------------------------------------------------------------
 */

static void
run_all(const struct options *o)
{
    struct sim_result *r[SIM_POLICIES_MAX];

    if (o->csv)
        sim_print_csv_head(stdout);
    for (unsigned i = 0; i < o->n_policies; i++) {
        r[i] = sim_run(&o->conf, o->policy[i]);
        if (o->csv)
            sim_print_csv(stdout, &o->conf, r[i]);
    }
    if (!o->csv)
        sim_print_table(stdout, &o->conf, r, o->n_policies);
    for (unsigned i = 0; i < o->n_policies; i++) {
        if (o->costs && strcmp(r[i]->policy, "resource") == 0)
            sim_print_costs(stdout, &o->conf, r[i]);
        if (o->bytes && strcmp(r[i]->policy, "resource") == 0)
            sim_print_bytes(stdout, &o->conf, r[i]);
        free(r[i]);
    }
}

/* Makes the log the workload; false: there is none, which was told. */
static bool
take_log(struct options *o, double load, struct sim_log *log)
{
    struct errbuf e = {""};

    if (sim_log_read(o->replay, &o->conf, load, log, &e) != MC_OK) {
        fprintf(stderr, "meercat sim: %s\n", e.text);
        return false;
    }
    o->conf.log = log;
    if (o->seconds == 0)
        o->conf.seconds = (double)log->length_ns * 1e-9;
    return true;
}

/* One point of each curve: p99 in ms of the first class, of a log of all. */
static void
draw_points(struct options *o, struct sim_curve *curve)
{
    for (unsigned i = 0; i < o->n_policies; i++) {
        struct sim_result *r = sim_run(&o->conf, o->policy[i]);
        const struct sim_hist *h = o->replay ? &r->all.latency_s : &r->class[0].latency_s;

        curve[i].name = o->policy[i];
        curve[i].x[curve[i].n] = o->conf.load * 100;
        curve[i].y[curve[i].n++] = sim_hist_quantile(h, .99) * 1e3;
        free(r);
    }
}

/* False: there is no log. */
static bool
draw_curves(struct options *o, struct sim_curve *curve)
{
    static const double loads[] = {.3, .4, .5, .6, .7, .75, .8, .85, .9, .95};

    for (unsigned l = 0; l < MC_COUNT(loads); l++) {
        struct sim_log log = {0};

        if (o->replay && !take_log(o, loads[l], &log))
            return false;
        o->conf.load = loads[l];
        draw_points(o, curve);
        sim_log_free(&log);
    }
    return true;
}

/* Latency against load. */
static int
plot(struct options *o)
{
    struct sim_curve curve[SIM_POLICIES_MAX] = {0};
    char title[256];
    FILE *f;

    if (!draw_curves(o, curve))
        return 1;
    f = fopen(o->plot, "w");
    if (!f)
        return fault("cannot write", o->plot);
    snprintf(title, sizeof(title), "%s: p99 of %s requests, %u balancers, %u servers",
             o->replay ? "replay" : o->conf.scenario->name,
             o->replay ? "all" : o->conf.class[0].name, o->conf.n_balancers, o->conf.n_servers);
    sim_plot(f, title, curve, o->n_policies);
    return fclose(f) == 0 ? 0 : fault("cannot write", o->plot);
}

static int
replay(struct options *o)
{
    struct sim_log log;

    if (!take_log(o, o->load, &log))
        return 1;
    if (log.n_bad > 0)
        fprintf(stderr, "meercat sim: %s: %llu lines were not understood\n", o->replay,
                (unsigned long long)log.n_bad);
    run_all(o);
    sim_log_free(&log);
    return 0;
}

static int
start(struct options *o)
{
    const struct sim_scenario *s = sim_scenario_find(o->scenario);
    struct sim_conf given = o->conf;

    if (o->csv && (o->costs || o->bytes))
        return fault("--csv stands alone: not with --costs or --bytes", NULL);
    if (o->tables) {
        sim_tables(stdout, o->seconds > 0 ? o->seconds : 12);
        return 0;
    }
    if (o->wire) {
        sim_wire_table(stdout, o->conf.budget_bytes_per_s);
        return 0;
    }
    if (!s)
        return fault("no scenario", o->scenario);
    sim_conf_init(&o->conf, s);
    o->conf.n_balancers = given.n_balancers;
    o->conf.n_servers = given.n_servers;
    o->conf.cores = given.cores;
    o->conf.seed = given.seed;
    o->conf.lose = given.lose < given.n_servers ? given.lose : given.n_servers;
    o->conf.traffic = given.traffic;
    o->conf.without = given.without;
    o->conf.budget_bytes_per_s = given.budget_bytes_per_s;
    if (o->load > 0)
        o->conf.load = o->load;
    if (o->seconds > 0)
        o->conf.seconds = o->seconds;
    if (o->plot)
        return plot(o);
    if (o->replay)
        return replay(o);
    run_all(o);
    return 0;
}

int
cmd_sim(int argc, char **argv)
{
    struct options o = {.scenario = "web", .policies = "resource,prequal,least-request,p2c,oracle"};
    int opt, status;

    sim_conf_init(&o.conf, sim_scenario_at(0));
    while ((opt = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (opt == OPT_HELP)
            return help();
        if (opt == '?')
            return cmd_bad_usage("sim");
        if (!take(&o, opt, optarg))
            return fault("this makes no sense:", optarg);
    }
    if (optind < argc)
        return cmd_bad_usage("sim");
    status = find_policies(&o);
    if (status == 0)
        status = start(&o);
    free(o.text);
    return status;
}
