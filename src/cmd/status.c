/* SPDX-License-Identifier: BSD-2-Clause
 *
 * status.c - `meercat status`, `servers`, `pools`, `listeners`, `routes`: what a balancer sees.
 *
 * All of them ask the balancer for JSON, and print it as it is (--json) or as a table.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/answer.h"
#include "cmd/client.h"
#include "cmd/cmd.h"
#include "cmd/options.h"
#include "cmd/table.h"

/* The strings of an array, separated by spaces; `none` when there are none.  The caller frees. */
static char *
words(const json_t *list, const char *none)
{
    struct buf b = {0};
    json_t *item;
    size_t i;

    json_array_foreach(list, i, item)
    {
        buf_printf(&b, "%s%s", i > 0 ? " " : "", json_string_value(item));
    }
    if (b.n == 0)
        buf_printf(&b, "%s", none);
    return b.p;
}

/* --- servers -------------------------------------------------------------------------------------
 */

static enum table_colour
state_colour(const char *state)
{
    if (strcmp(state, "up") == 0)
        return TABLE_GOOD;
    if (strcmp(state, "down") == 0 || strcmp(state, "ejected") == 0)
        return TABLE_BAD;
    return TABLE_ODD;
}

/* What its agent says, or without one its responses, and what was learned. */
static void
agent_cells(struct table *t, const json_t *s)
{
    const json_t *learned = json_object_get(s, "learned");
    const json_t *words = json_object_get(s, "agent");
    const json_t *agent = words != NULL ? words : json_object_get(learned, "agent");
    const char *const percents[] = {"cpu", "pressure"};

    if (!json_is_object(agent))
        agent = json_object_get(learned, "orca");
    for (unsigned i = 0; i < 2; i++)
        if (json_is_number(json_object_get(agent, percents[i])))
            table_add(t, TABLE_PLAIN, "%.0f%%", answer_real(agent, percents[i]) * 100);
        else
            table_add(t, TABLE_DIM, "-");
    if (learned != NULL)
        table_add(t, TABLE_PLAIN, "%.2f", answer_real(learned, "factor"));
    else
        table_add(t, TABLE_DIM, "-");
    if (json_is_number(json_object_get(agent, "age_ms")))
        table_add(t, answer_real(agent, "age_ms") > 2000 ? TABLE_BAD : TABLE_PLAIN, "%.0f",
                  answer_real(agent, "age_ms"));
    else
        table_add(t, TABLE_DIM, "-");
}

static void
server_row(struct table *t, const json_t *s, bool agents)
{
    const json_t *counters = json_object_get(s, "counters");
    const json_t *times = json_object_get(s, "response_time");
    const char *state = answer_word(s, "state");
    long long failed = answer_number(counters, "connect_errors") +
                       answer_number(counters, "response_errors") +
                       answer_number(counters, "timeouts");

    table_add(t, TABLE_PLAIN, "%s/%s", answer_word(s, "pool"), answer_word(s, "name"));
    table_add(t, TABLE_PLAIN, "%s", answer_word(s, "address"));
    table_add(t, state_colour(state), "%s", state);
    table_add(t, TABLE_PLAIN, "%s", json_is_true(json_object_get(s, "backup")) ? "backup" : "main");
    table_add(t, TABLE_PLAIN, "%.4g", answer_real(s, "weight"));
    table_add(t, TABLE_PLAIN, "%lld", answer_number(s, "in_flight"));
    table_add(t, TABLE_PLAIN, "%lld", answer_number(counters, "requests"));
    table_add(t, answer_number(counters, "responses_5xx") > 0 ? TABLE_BAD : TABLE_PLAIN, "%lld",
              answer_number(counters, "responses_5xx"));
    table_add(t, failed > 0 ? TABLE_BAD : TABLE_PLAIN, "%lld", failed);
    table_add(t, TABLE_PLAIN, "%.1f", answer_real(times, "p50_ms"));
    table_add(t, TABLE_PLAIN, "%.1f", answer_real(times, "p99_ms"));
    if (agents)
        agent_cells(t, s);
    table_add(t, TABLE_PLAIN, "%.19sZ", answer_word(s, "since"));
    table_add(t, TABLE_PLAIN, "%s", answer_word(s, "reason"));
}

static bool
any_agent(const json_t *servers)
{
    json_t *s;
    size_t i;

    json_array_foreach(servers, i, s)
    {
        if (json_object_get(s, "learned") != NULL || json_object_get(s, "agent") != NULL)
            return true;
    }
    return false;
}

static void
servers_table(const json_t *j)
{
    bool agents = any_agent(json_object_get(j, "servers"));
    struct table t;
    json_t *s;
    size_t i;

    table_init(&t, agents
                       ? "SERVER ADDRESS STATE ROLE >WEIGHT >BUSY >REQUESTS >5XX >FAILED >P50-MS "
                         ">P99-MS >CPU >PRESSURE >FACTOR >AGE-MS SINCE REASON"
                       : "SERVER ADDRESS STATE ROLE >WEIGHT >BUSY >REQUESTS >5XX >FAILED >P50-MS "
                         ">P99-MS SINCE REASON");
    json_array_foreach(json_object_get(j, "servers"), i, s)
    {
        server_row(&t, s, agents);
    }
    table_print(&t, stdout);
    table_free(&t);
}

/* --- pools, listeners, routes
 * --------------------------------------------------------------------- */

static const char *
pool_note(const json_t *p)
{
    if (json_is_true(json_object_get(p, "panic")))
        return "panic: too few are healthy, all are used";
    if (json_is_true(json_object_get(p, "on_backup")))
        return "backups serve";
    return answer_number(p, "open_servers") == 0 ? "no server is available" : "";
}

static void
pools_table(const json_t *j)
{
    struct table t;
    json_t *p;
    size_t i;

    table_init(&t, "POOL BALANCE >OPEN >SERVERS >BUSY >QUEUED NOTE");
    json_array_foreach(json_object_get(j, "pools"), i, p)
    {
        bool none = answer_number(p, "open_servers") == 0;

        table_add(&t, TABLE_PLAIN, "%s", answer_word(p, "name"));
        table_add(&t, TABLE_PLAIN, "%s", answer_word(p, "balance"));
        table_add(&t, none ? TABLE_BAD : TABLE_PLAIN, "%lld", answer_number(p, "open_servers"));
        table_add(&t, TABLE_PLAIN, "%lld", answer_number(p, "servers"));
        table_add(&t, TABLE_PLAIN, "%lld", answer_number(p, "in_flight"));
        table_add(&t, TABLE_PLAIN, "%lld", answer_number(p, "queued"));
        table_add(&t, none ? TABLE_BAD : TABLE_ODD, "%s", pool_note(p));
    }
    table_print(&t, stdout);
    table_free(&t);
}

static void
listeners_table(const json_t *j)
{
    struct table t;
    json_t *l;
    size_t i;

    table_init(&t, "LISTENER >CONNECTIONS >LIMIT BIND");
    json_array_foreach(json_object_get(j, "listeners"), i, l)
    {
        char *binds = words(json_object_get(l, "bind"), "-");

        table_add(&t, TABLE_PLAIN, "%s", answer_word(l, "name"));
        table_add(&t, TABLE_PLAIN, "%lld", answer_number(l, "connections"));
        table_add(&t, TABLE_PLAIN, "%lld", answer_number(l, "max_connections"));
        table_add(&t, TABLE_PLAIN, "%s", binds);
        free(binds);
    }
    table_print(&t, stdout);
    table_free(&t);
}

static void
routes_table(const json_t *j)
{
    struct table t;
    json_t *r;
    size_t i;

    table_init(&t, "ROUTE HOST PATH POOL");
    json_array_foreach(json_object_get(j, "routes"), i, r)
    {
        char *hosts = words(json_object_get(r, "host"), "*");

        table_add(&t, TABLE_PLAIN, "%s", answer_word(r, "name"));
        table_add(&t, TABLE_PLAIN, "%s", hosts);
        table_add(&t, TABLE_PLAIN, "%s",
                  json_is_null(json_object_get(r, "path")) ? "*" : answer_word(r, "path"));
        table_add(&t, TABLE_PLAIN, "%s", answer_word(r, "pool"));
        free(hosts);
    }
    table_print(&t, stdout);
    table_free(&t);
}

/* --- costs ---------------------------------------------------------------------------------------
 */

static void
cost_row(struct table *t, const json_t *c)
{
    bool known = json_is_true(json_object_get(c, "known"));
    enum table_colour colour = known ? TABLE_PLAIN : TABLE_DIM;

    table_add(t, TABLE_PLAIN, "%s", answer_word(c, "pool"));
    table_add(t, TABLE_PLAIN, "%lld", answer_number(c, "requests"));
    if (known) {
        table_add(t, colour, "%.3g", answer_real(c, "cpu_ms"));
        table_add(t, answer_real(c, "doubt") > 0.2 ? TABLE_ODD : colour, "%.0f%%",
                  answer_real(c, "doubt") * 100);
        table_add(t, colour, "%.2f", answer_real(c, "phi"));
        table_add(t, colour, "%.2f", answer_real(c, "phi_doubt"));
        table_add(t, colour, "%.1f", answer_real(c, "memory_bytes") / 1e6);
        table_add(t, colour, "%.1f", answer_real(c, "memory_doubt") / 1e6);
    } else {
        for (int i = 0; i < 6; i++)
            table_add(t, colour, "-");
    }
    table_add(t, colour, "%.1f%%", answer_real(c, "share") * 100);
    table_add(t, TABLE_PLAIN, "%s", answer_word(c, "class"));
}

static void
costs_table(const json_t *j)
{
    struct table t;
    json_t *c;
    size_t i;

    table_init(&t, "POOL >REQUESTS >CPU-MS >+- >PHI >+- >MB >+- >SHARE CLASS");
    json_array_foreach(json_object_get(j, "classes"), i, c)
    {
        cost_row(&t, c);
    }
    table_print(&t, stdout);
    table_free(&t);
}

static int
show(int argc, char **argv, const char *path, void (*print)(const json_t *))
{
    struct options o;
    int rv = options_read(argc, argv, false, 0, &o);
    json_t *j;

    if (rv != 0)
        return rv;
    j = answer_get(o.socket, path, false);
    if (j == NULL)
        return 1;
    if (o.json)
        return answer_print(j);
    print(j);
    json_decref(j);
    return 0;
}

int
cmd_servers(int argc, char **argv)
{
    return show(argc, argv, "/v1/servers", servers_table);
}

int
cmd_pools(int argc, char **argv)
{
    return show(argc, argv, "/v1/pools", pools_table);
}

int
cmd_listeners(int argc, char **argv)
{
    return show(argc, argv, "/v1/listeners", listeners_table);
}

int
cmd_costs(int argc, char **argv)
{
    return show(argc, argv, "/v1/costs", costs_table);
}

static void
vips_table(const json_t *j)
{
    struct table t;
    json_t *v;
    size_t i;

    table_init(&t, "VIP ADDRESS INTERFACE STATE SINCE WHY");
    json_array_foreach(json_object_get(j, "vips"), i, v)
    {
        const char *state = answer_word(v, "state");
        bool good = strcmp(state, "carried") == 0, away = strcmp(state, "away") == 0;

        table_add(&t, TABLE_PLAIN, "%s", answer_word(v, "vip"));
        table_add(&t, TABLE_PLAIN, "%s/%lld", answer_word(v, "address"),
                  answer_number(v, "prefix"));
        table_add(&t, TABLE_PLAIN, "%s", answer_word(v, "interface"));
        table_add(&t, good ? TABLE_GOOD : away ? TABLE_ODD : TABLE_BAD, "%s", state);
        table_add(&t, TABLE_PLAIN, "%.19sZ", answer_word(v, "since"));
        table_add(&t, TABLE_PLAIN, "%s", answer_word(v, "why"));
    }
    table_print(&t, stdout);
    table_free(&t);
}

int
cmd_vips(int argc, char **argv)
{
    return show(argc, argv, "/v1/vips", vips_table);
}

int
cmd_routes(int argc, char **argv)
{
    return show(argc, argv, "/v1/routes", routes_table);
}

/* --- status
 * --------------------------------------------------------------------------------------- */

/* "2d 3h", "4h 5m", "6m 7s" */
static void
print_uptime(double seconds)
{
    long s = (long)seconds;

    if (s >= 86400)
        printf("%ldd %ldh", s / 86400, s / 3600 % 24);
    else if (s >= 3600)
        printf("%ldh %ldm", s / 3600, s / 60 % 60);
    else
        printf("%ldm %lds", s / 60, s % 60);
}

/* The other balancers, where there are any. */
static void
cluster_line(const json_t *c)
{
    long long bad, others = answer_number(c, "other_configs");

    if (!json_is_object(c))
        return;
    bad = answer_number(c, "suspect") + answer_number(c, "dead");
    printf("cluster      %s, %s%lld of %lld alive%s", answer_word(c, "name"),
           table_colour(stdout, bad == 0 ? TABLE_GOOD : TABLE_BAD), answer_number(c, "alive"),
           answer_number(c, "alive") + bad, table_colour(stdout, TABLE_PLAIN));
    if (others > 0)
        printf(", %s%lld with another configuration%s", table_colour(stdout, TABLE_ODD), others,
               table_colour(stdout, TABLE_PLAIN));
    if (json_is_true(json_object_get(c, "name_taken")))
        printf(", %sits name is taken: it works alone%s", table_colour(stdout, TABLE_BAD),
               table_colour(stdout, TABLE_PLAIN));
    putchar('\n');
}

static void
fit_line(const json_t *j)
{
    bool fit = json_is_true(json_object_get(j, "fit"));

    printf("traffic      %s%s%s%s%s\n", table_colour(stdout, fit ? TABLE_GOOD : TABLE_BAD),
           fit ? "wanted" : "not wanted", table_colour(stdout, TABLE_PLAIN), fit ? "" : ": ",
           fit ? "" : answer_word(j, "unfit_because"));
}

/* Balancers that take no part, since there are too many. */
static void
left_out_names(const json_t *left_out)
{
    const char *between = ": ";
    const json_t *name;
    size_t i;

    printf("; %lld left out", answer_number(left_out, "count"));
    json_array_foreach(json_object_get(left_out, "names"), i, name)
    {
        printf("%s%s", between, json_is_string(name) ? json_string_value(name) : "");
        between = ", ";
    }
}

/* Who could go on with our connections, and with whose we could; j: null without takeover. */
static void
takeover_line(const json_t *j)
{
    const json_t *peers = json_object_get(j, "peers"), *p;
    const json_t *left_out = json_object_get(j, "left_out");
    bool lease = json_is_true(json_object_get(j, "lease"));
    const char *between = "held by ";
    size_t i;

    if (!json_is_object(j))
        return;
    printf("takeover     ");
    if (json_object_get(j, "off") != NULL) {
        printf("%soff: %s%s\n", table_colour(stdout, TABLE_BAD), answer_word(j, "off"),
               table_colour(stdout, TABLE_PLAIN));
        return;
    }
    if (!lease)
        printf("%ssilent: %s%s; ", table_colour(stdout, TABLE_BAD), answer_word(j, "why_not"),
               table_colour(stdout, TABLE_PLAIN));
    json_array_foreach(peers, i, p)
    {
        if (strcmp(answer_word(p, "role"), "holder") != 0)
            continue;
        printf("%s%s", between, answer_word(p, "name"));
        between = ", ";
    }
    if (between[0] == 'h')
        printf("%snobody holds our connections%s", table_colour(stdout, TABLE_BAD),
               table_colour(stdout, TABLE_PLAIN));
    json_array_foreach(peers, i, p)
    {
        if (answer_number(p, "flows_held") > 0)
            printf("; %lld of %s held here", answer_number(p, "flows_held"),
                   answer_word(p, "name"));
    }
    if (json_is_true(json_object_get(left_out, "self")))
        printf("; %sleft out, there are too many balancers%s", table_colour(stdout, TABLE_BAD),
               table_colour(stdout, TABLE_PLAIN));
    else if (answer_number(left_out, "count") > 0)
        left_out_names(left_out);
    printf("\n");
}

static void
status_text(const json_t *j)
{
    const json_t *counters = json_object_get(j, "counters"), *conf = json_object_get(j, "config");
    const json_t *times = json_object_get(j, "request_time");
    const char *state = answer_word(j, "state");
    bool all_open = answer_number(j, "open_servers") == answer_number(j, "servers");

    printf("%s  %s%s%s  meercat %s, pid %lld, up ", answer_word(j, "node"),
           table_colour(stdout, strcmp(state, "serving") == 0 ? TABLE_GOOD : TABLE_ODD), state,
           table_colour(stdout, TABLE_PLAIN), answer_word(j, "version"), answer_number(j, "pid"));
    print_uptime(answer_real(j, "uptime_s"));
    printf("\nworkers      %lld, %s\n", answer_number(j, "workers"), answer_word(j, "engine"));
    printf("servers      %s%lld of %lld available%s\n",
           table_colour(stdout, all_open ? TABLE_GOOD : TABLE_BAD),
           answer_number(j, "open_servers"), answer_number(j, "servers"),
           table_colour(stdout, TABLE_PLAIN));
    fit_line(j);
    cluster_line(json_object_get(j, "cluster"));
    takeover_line(json_object_get(j, "takeover"));
    printf("connections  %lld open, %lld so far, %lld refused\n", answer_number(j, "connections"),
           answer_number(counters, "connections"), answer_number(counters, "connections_refused"));
    printf("requests     %lld under way, %lld so far, %lld retried, %lld with 5xx\n",
           answer_number(j, "in_flight"), answer_number(counters, "requests"),
           answer_number(counters, "retries"), answer_number(counters, "responses_5xx"));
    printf("time         p50 %.1f ms, p90 %.1f ms, p99 %.1f ms\n", answer_real(times, "p50_ms"),
           answer_real(times, "p90_ms"), answer_real(times, "p99_ms"));
    printf("config       %s, generation %lld, loaded %.19sZ, %lld reloads, %lld refused\n",
           answer_word(conf, "file"), answer_number(conf, "generation"),
           answer_word(conf, "loaded"), answer_number(conf, "reloads"),
           answer_number(conf, "failed_reloads"));
}

/* For track scripts: one short question, nothing printed. */
static int
quiet_status(const char *socket)
{
    struct client_answer a;
    enum mc_err rv = client_ask(socket, "/v1/fit", NULL, &a, NULL);

    buf_free(&a.body);
    if (rv != MC_OK || (a.status != 200 && a.status != 503))
        return 3;
    return a.status == 200 ? 0 : 1;
}

/* 0: it is fit for traffic; 1: it answers and is not; 3: it does not answer. */
int
cmd_status(int argc, char **argv)
{
    struct options o;
    int rv = options_read(argc, argv, true, 0, &o);
    json_t *j;

    if (rv != 0)
        return rv;
    if (o.quiet)
        return quiet_status(o.socket);
    j = answer_get(o.socket, "/v1/status", false);
    if (j == NULL)
        return 3;
    rv = json_is_true(json_object_get(j, "fit")) ? 0 : 1;
    if (o.json) {
        answer_print(j);
        return rv;
    }
    status_text(j);
    json_decref(j);
    return rv;
}
