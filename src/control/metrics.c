/* SPDX-License-Identifier: BSD-2-Clause
 *
 * metrics.c - the state of a node in the text format of Prometheus.
 *
 * All samples of a metric stand together (the format wants it), so each family walks over all pools
 * and servers.  Counters come from the same lists as the fields that hold them.
 */
#include "control/metrics.h"

#include <inttypes.h>
#include <string.h>

#include "base/check.h"
#include "control/learned.h"
#include "control/member.h"
#include "control/view.h"
#include "control/takeover_metrics.h"
#include "control/vip.h"

#ifndef MEERCAT_VERSION
#define MEERCAT_VERSION "0-dev"
#endif

/* Every fourth bound of the histogram is a power of two: 21 of them, which serves a quantile within
 * a factor of two and does not drown the collector. */
#define BUCKET_STEP 4

/* A field of a struct of counters. */
struct counter {
    const char *name, *help;
    size_t offset;
};

static const struct counter worker_counters[] = {
#define X(field, text) {#field, text, offsetof(struct worker_stats, field)},
    WORKER_COUNTERS(X)
#undef X
};

static const struct counter server_counters[] = {
#define X(field, text) {#field, text, offsetof(struct server_counters, field)},
    SERVER_COUNTERS(X)
#undef X
};

/* --- lines --------------------------------------------------------------------------------------
 */

static void
family(struct buf *b, const char *name, const char *type, const char *help)
{
    buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* Names in a configuration are letters, digits, '-', '_' and '.': nothing to escape. */
static void
pool_label(struct buf *b, const struct pool *p)
{
    buf_printf(b, "proxy=\"%s\"", p->conf.name);
}

static void
server_labels(struct buf *b, const struct server *s)
{
    buf_printf(b, "proxy=\"%s\",server=\"%s\"", s->pool_name, s->name);
}

/* labels: "a=\"b\"", or "" for none. */
static void
histogram(struct buf *b, const char *name, const char *labels, const struct stat_hist *h)
{
    const char *comma = labels[0] ? "," : "";
    uint64_t below = 0;

    for (unsigned i = 0; i + 1 < STAT_HIST_BUCKETS; i++) {
        below += stat_get(&h->bucket[i]);
        if (i % BUCKET_STEP == 0)
            buf_printf(b, "%s_bucket{%s%sle=\"%.9g\"} %" PRIu64 "\n", name, labels, comma,
                       (double)stat_hist_bound(i) / (double)MC_SEC, below);
    }
    below += stat_get(&h->bucket[STAT_HIST_BUCKETS - 1]);
    buf_printf(b, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", name, labels, comma, below);
    buf_printf(b, "%s_sum%s%s%s %.9f\n", name, labels[0] ? "{" : "", labels, labels[0] ? "}" : "",
               (double)stat_get(&h->sum_ns) / (double)MC_SEC);
    buf_printf(b, "%s_count%s%s%s %" PRIu64 "\n", name, labels[0] ? "{" : "", labels,
               labels[0] ? "}" : "", below);
}

/* --- names of counters --------------------------------------------------------------------------
 */

/* "2xx" for responses_2xx, NULL for others: those are one family with a label. */
static const char *
code_of(const struct counter *c)
{
    return strncmp(c->name, "responses_", 10) == 0 ? c->name + 10 : NULL;
}

/* idle_conns, open_conns: what is, not what was. */
static bool
is_gauge(const struct counter *c)
{
    return strstr(c->help, "(gauge)") != NULL;
}

/* The family of a counter: meercat_server_connects_total, meercat_server_idle_connections. */
static void
counter_family(struct buf *b, const char *tree, const struct counter *c, char name[96])
{
    const char *conns = strstr(c->name, "_conns"), *gauge = strstr(c->help, " (gauge)");
    char help[128];

    snprintf(help, sizeof(help), "%.*s", gauge ? (int)(gauge - c->help) : (int)sizeof(help) - 1,
             c->help);
    if (code_of(c) != NULL) {
        snprintf(name, 96, "meercat_%s_responses_total", tree);
        snprintf(help, sizeof(help), "responses by class of status");
    } else if (conns != NULL) {
        snprintf(name, 96, "meercat_%s_%.*s_connections", tree, (int)(conns - c->name), c->name);
    } else {
        snprintf(name, 96, "meercat_%s_%s%s", tree, c->name, is_gauge(c) ? "" : "_total");
    }
    family(b, name, is_gauge(c) ? "gauge" : "counter", help);
}

/* The first of the responses_* opens their family; the others follow it in the list. */
static bool
opens_family(const struct counter *list, size_t i)
{
    return code_of(&list[i]) == NULL || i == 0 || code_of(&list[i - 1]) == NULL;
}

/* --- process ------------------------------------------------------------------------------------
 */

static void
simple(struct buf *b, const char *name, const char *type, const char *help, double value)
{
    family(b, name, type, help);
    buf_printf(b, "%s %.15g\n", name, value);
}

static void
process_gauges(const struct node *n, struct buf *b)
{
    family(b, "meercat_build_info", "gauge", "version of the program; always 1");
    buf_printf(b, "meercat_build_info{version=\"%s\"} 1\n", MEERCAT_VERSION);
    simple(b, "meercat_process_start_time_seconds", "gauge", "when the balancer was started",
           (double)n->started_wall_ns / (double)MC_SEC);
    simple(b, "meercat_process_workers", "gauge", "threads that serve", n->n_workers);
    simple(b, "meercat_process_ending", "gauge", "1 while the balancer lets its last requests end",
           n->ending);
    simple(b, "meercat_process_config_generation", "gauge", "number of the configuration in force",
           (double)n->current->generation);
    simple(b, "meercat_process_config_last_reload_successful", "gauge",
           "1 when the last reload was good, or there was none",
           n->reload.ok || n->reload.wall_ns == 0);
    simple(b, "meercat_process_config_reloads_total", "counter", "reloads that were put in force",
           n->reload.n_good);
    simple(b, "meercat_process_config_reload_failures_total", "counter",
           "reloads that were refused", n->reload.n_bad);
    simple(b, "meercat_process_active_connections", "gauge", "client connections that are open",
           (double)view_sum_workers(n, offsetof(struct worker_stats, active_connections)));
    simple(b, "meercat_process_active_requests", "gauge", "requests under way",
           (double)view_sum_workers(n, offsetof(struct worker_stats, active_requests)));
    simple(b, "meercat_process_active_tunnels", "gauge",
           "connections that speak another protocol after an upgrade",
           (double)view_sum_workers(n, offsetof(struct worker_stats, active_tunnels)));
    simple(b, "meercat_process_idle_server_connections", "gauge",
           "connections to servers that are kept for reuse",
           (double)view_sum_workers(n, offsetof(struct worker_stats, idle_upstream)));
}

static void
process_counters(const struct node *n, struct buf *b)
{
    char name[96];

    for (size_t i = 0; i < MC_COUNT(worker_counters); i++) {
        const struct counter *c = &worker_counters[i];
        const char *code = code_of(c);

        if (opens_family(worker_counters, i))
            counter_family(b, "process", c, name);
        buf_printf(b, "%s%s%s%s %" PRIu64 "\n", name, code ? "{code=\"" : "", code ? code : "",
                   code ? "\"}" : "", view_sum_workers(n, c->offset));
    }
}

/* The ways in which a tunnel can end. */
static void
process_tunnels(const struct node *n, struct buf *b)
{
    static const enum end_reason ends[] = {END_OK, END_CLIENT_GONE, END_SERVER_RESET,
                                           END_TUNNEL_TIMEOUT, END_DRAINED};

    family(b, "meercat_process_tunnel_ends_total", "counter",
           "tunnels that have ended, by how; ok is when both sides said so");
    for (size_t i = 0; i < MC_COUNT(ends); i++)
        buf_printf(b, "meercat_process_tunnel_ends_total{end=\"%s\"} %" PRIu64 "\n",
                   end_reason_name(ends[i]),
                   view_sum_workers(n, offsetof(struct worker_stats, tunnel_ends[ends[i]])));
}

static void
process_times(const struct node *n, struct buf *b)
{
    struct stat_hist times = {0};

    view_sum_worker_times(n, &times);
    family(b, "meercat_process_request_time_seconds", "histogram",
           "from the first byte of a request to the end of its response");
    histogram(b, "meercat_process_request_time_seconds", "", &times);
}

/* --- TLS ----------------------------------------------------------------------------------------
 */

/* The two roles of a worker. */
static const struct tls_role {
    const char *prefix, *with, *cut;
    bool upstream;
} tls_roles[] = {
    {"meercat_tls", "handshakes with clients that ended well",
     "connections that clients ended without saying so in TLS", false},
    {"meercat_upstream_tls", "handshakes with servers that ended well",
     "connections that servers ended without saying so in TLS", true},
};

/* The sum over all workers of the counter at this offset into struct tls_stats. */
static uint64_t
sum_tls(const struct node *n, const struct tls_role *r, size_t offset)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < n->n_workers; i++) {
        const struct tls_stats *s = worker_tls_stats(n->workers[i], r->upstream);

        sum += stat_get((const stat_u64 *)(const void *)((const char *)s + offset));
    }
    return sum;
}

static void
http2(const struct node *n, struct buf *b)
{
    uint64_t streams = 0, ended;

    for (unsigned w = 0; w < n->n_workers; w++)
        streams += stat_get(&worker_stats(n->workers[w])->http2_streams);
    simple(b, "meercat_http2_streams", "gauge", "streams that are open on client connections",
           (double)streams);
    family(b, "meercat_http2_abuse_total", "counter",
           "connections ended because a client did too much of something, by what");
    for (int i = 0; i < H2_ABUSE_N; i++) {
        ended = 0;
        for (unsigned w = 0; w < n->n_workers; w++)
            ended += stat_get(&worker_stats(n->workers[w])->http2_abuse[i]);
        buf_printf(b, "meercat_http2_abuse_total{reason=\"%s\"} %" PRIu64 "\n",
                   h2_abuse_label((enum h2_abuse)i), ended);
    }
}

static void
tls(const struct node *n, const struct tls_role *r, struct buf *b)
{
    static const char *const versions[TLS_VERSIONS] = {"1.2", "1.3"};
    char name[64];

    snprintf(name, sizeof(name), "%s_handshakes_total", r->prefix);
    family(b, name, "counter", r->with);
    for (unsigned v = 0; v < TLS_VERSIONS; v++)
        for (unsigned resumed = 0; resumed < 2; resumed++)
            buf_printf(b, "%s{version=\"%s\",resumed=\"%s\"} %" PRIu64 "\n", name, versions[v],
                       resumed ? "true" : "false",
                       sum_tls(n, r, offsetof(struct tls_stats, handshakes[v][resumed])));
    snprintf(name, sizeof(name), "%s_handshake_failures_total", r->prefix);
    family(b, name, "counter", "those that did not, by reason");
    for (unsigned i = 0; i < TLS_N_FAILURES; i++)
        if (i != (r->upstream ? TLS_FAILURE_CLIENT_CERTIFICATE : TLS_FAILURE_SERVER_CERTIFICATE))
            buf_printf(b, "%s{reason=\"%s\"} %" PRIu64 "\n", name, tls_failure_label(i),
                       sum_tls(n, r, offsetof(struct tls_stats, failures[i])));
    snprintf(name, sizeof(name), "%s_truncated_total", r->prefix);
    simple(b, name, "counter", r->cut,
           (double)sum_tls(n, r, offsetof(struct tls_stats, truncated)));
}

/* --- PROXY headers ------------------------------------------------------------------------------
 */

static void
proxy_headers(const struct node *n, struct buf *b)
{
    family(b, "meercat_proxy_protocol_headers_total", "counter",
           "PROXY headers of connections that were good; local: about themselves");
    for (unsigned v = 0; v < 2; v++)
        for (unsigned local = 0; local < 2; local++)
            buf_printf(b,
                       "meercat_proxy_protocol_headers_total{version=\"%u\",local=\"%s\"} %" PRIu64
                       "\n",
                       v + 1, local ? "true" : "false",
                       view_sum_workers(n, offsetof(struct worker_stats, proxy_headers[v][local])));
    family(b, "meercat_proxy_protocol_errors_total", "counter",
           "connections that were closed for want of a good PROXY header, by reason");
    for (unsigned i = PROXY_FAULT_NONE + 1; i < PROXY_N_FAULTS; i++)
        buf_printf(b, "meercat_proxy_protocol_errors_total{reason=\"%s\"} %" PRIu64 "\n",
                   proxy_fault_label(i),
                   view_sum_workers(n, offsetof(struct worker_stats, proxy_faults[i])));
}

/* --- listeners and pools ------------------------------------------------------------------------
 */

static void
listeners(const struct node *n, struct buf *b)
{
    const struct snapshot *s = n->current;

    family(b, "meercat_listener_connections", "gauge", "client connections that are open");
    for (unsigned i = 0; i < s->n_listeners; i++)
        buf_printf(b, "meercat_listener_connections{proxy=\"%s\"} %d\n", s->listeners[i].conf.name,
                   (int)atomic_load(&s->listeners[i].live->connections));
    family(b, "meercat_listener_max_connections", "gauge", "their limit; 0 is none");
    for (unsigned i = 0; i < s->n_listeners; i++)
        buf_printf(b, "meercat_listener_max_connections{proxy=\"%s\"} %u\n",
                   s->listeners[i].conf.name, s->listeners[i].conf.max_connections);
}

#define POOL_GAUGES(X)                                                                       \
    X("servers", p->view.n, "servers that are configured")                                   \
    X("open_servers", atomic_load(&p->live->n_open), "servers that may be chosen")           \
    X("in_flight", atomic_load(&p->live->in_flight), "requests under way")                   \
    X("queue", atomic_load(&p->live->queued), "requests that wait for a server")             \
    X("panic", atomic_load(&p->live->panic), "1 while too few are healthy and all are used") \
    X("on_backup", atomic_load(&p->live->on_backup), "1 while only backup servers serve")

static void
pools(const struct node *n, struct buf *b)
{
#define X(name, value, help)                             \
    family(b, "meercat_pool_" name, "gauge", help);      \
    for (unsigned i = 0; i < n->current->n_pools; i++) { \
        const struct pool *p = n->current->pools[i];     \
                                                         \
        buf_printf(b, "meercat_pool_" name "{");         \
        pool_label(b, p);                                \
        buf_printf(b, "} %ld\n", (long)(value));         \
    }
    POOL_GAUGES(X)
#undef X
}

/* --- servers ------------------------------------------------------------------------------------
 */

typedef void server_f(const struct node *, const struct pool *, unsigned index, struct buf *,
                      const void *arg);

static void
each_server(const struct node *n, struct buf *b, server_f *fn, const void *arg)
{
    for (unsigned i = 0; i < n->current->n_pools; i++)
        for (unsigned k = 0; k < n->current->pools[i]->view.n; k++)
            fn(n, n->current->pools[i], k, b, arg);
}

static void
server_status(const struct node *n, const struct pool *p, unsigned index, struct buf *b,
              const void *arg)
{
    static const enum health_state states[] = {
#define X(name, text) HEALTH_##name,
        HEALTH_STATES(X)
#undef X
    };
    struct health h;

    server_health_copy(p->servers[index], &h);
    for (size_t i = 0; i < MC_COUNT(states); i++) {
        buf_printf(b, "meercat_server_status{");
        server_labels(b, p->servers[index]);
        buf_printf(b, ",state=\"%s\"} %d\n", health_state_text(states[i]), h.state == states[i]);
    }
}

static void
server_weight(const struct node *n, const struct pool *p, unsigned index, struct buf *b,
              const void *arg)
{
    buf_printf(b, "meercat_server_weight{");
    server_labels(b, p->servers[index]);
    buf_printf(b, "} %.6g\n",
               atomic_load(&p->servers[index]->load.weight) / (double)PLACE_WEIGHT_UNIT);
}

static void
server_in_flight(const struct node *n, const struct pool *p, unsigned index, struct buf *b,
                 const void *arg)
{
    buf_printf(b, "meercat_server_in_flight{");
    server_labels(b, p->servers[index]);
    buf_printf(b, "} %d\n", (int)atomic_load(&p->servers[index]->load.in_flight));
}

static void
server_max(const struct node *n, const struct pool *p, unsigned index, struct buf *b,
           const void *arg)
{
    buf_printf(b, "meercat_server_max_in_flight{");
    server_labels(b, p->servers[index]);
    buf_printf(b, "} %u\n", p->conf.servers[index].max_concurrent);
}

/* One sample of the family whose name stands in arg->name, from the counter at arg->offset. */
struct sample {
    const char *name, *code;
    size_t offset;
};

static void
server_counter(const struct node *n, const struct pool *p, unsigned index, struct buf *b,
               const void *arg)
{
    const struct sample *s = arg;

    buf_printf(b, "%s{", s->name);
    server_labels(b, p->servers[index]);
    if (s->code != NULL)
        buf_printf(b, ",code=\"%s\"", s->code);
    buf_printf(b, "} %" PRIu64 "\n", view_sum_server(n, p->servers[index], s->offset));
}

/* What never happened is left out: most servers speak no gRPC, and those that do know few ends. */
static void
server_calls(const struct node *n, const struct pool *p, unsigned index, struct buf *b,
             const void *arg)
{
    for (unsigned i = 0; i < GRPC_N_STATUSES; i++) {
        const struct server *s = p->servers[index];
        uint64_t calls = view_sum_server(n, s, offsetof(struct server_counters, grpc[i]));

        if (calls == 0)
            continue;
        buf_printf(b, "meercat_server_grpc_calls_total{");
        server_labels(b, s);
        buf_printf(b, ",status=\"%s\"} %" PRIu64 "\n", grpc_status_name((enum grpc_status)i),
                   calls);
    }
}

static void
server_times(const struct node *n, const struct pool *p, unsigned index, struct buf *b,
             const void *arg)
{
    struct stat_hist times = {0};
    struct buf labels = {0};

    view_sum_server_times(n, p->servers[index], &times);
    server_labels(&labels, p->servers[index]);
    histogram(b, "meercat_server_response_time_seconds", labels.p, &times);
    buf_free(&labels);
}

static void
servers(const struct node *n, struct buf *b)
{
    char name[96];

    family(b, "meercat_server_status", "gauge", "1 for the state that the server is in");
    each_server(n, b, server_status, NULL);
    family(b, "meercat_server_weight", "gauge", "share of requests, slow start applied");
    each_server(n, b, server_weight, NULL);
    family(b, "meercat_server_in_flight", "gauge", "requests under way");
    each_server(n, b, server_in_flight, NULL);
    family(b, "meercat_server_max_in_flight", "gauge", "their limit; 0 is none");
    each_server(n, b, server_max, NULL);
    for (size_t i = 0; i < MC_COUNT(server_counters); i++) {
        const struct counter *c = &server_counters[i];

        if (opens_family(server_counters, i))
            counter_family(b, "server", c, name);
        each_server(n, b, server_counter, &(struct sample){name, code_of(c), c->offset});
    }
    family(b, "meercat_server_response_time_seconds", "histogram",
           "from the request to the head of its response");
    each_server(n, b, server_times, NULL);
    family(b, "meercat_server_grpc_calls_total", "counter",
           "calls of gRPC by the grpc-status that the server gave");
    each_server(n, b, server_calls, NULL);
}

void
metrics_text(const struct node *n, struct buf *b)
{
    process_gauges(n, b);
    process_counters(n, b);
    process_tunnels(n, b);
    process_times(n, b);
    for (unsigned i = 0; i < MC_COUNT(tls_roles); i++)
        tls(n, &tls_roles[i], b);
    proxy_headers(n, b);
    http2(n, b);
    listeners(n, b);
    pools(n, b);
    servers(n, b);
    learned_metrics(n, b);
    member_metrics(n, b);
    fit_metrics(n, b);
    vip_metrics(n, b);
    takeover_metrics(n, b);
}
