/* SPDX-License-Identifier: BSD-2-Clause
 *
 * view.c - the state of a node as JSON.
 *
 * Counters are read while workers write them: each is right, their sums are of slightly different
 * moments.
 */
#include "control/view.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "control/learned.h"
#include "control/member.h"
#include "control/takeover_node.h"

#ifndef MEERCAT_VERSION
#define MEERCAT_VERSION "0-dev"
#endif

/* --- sums ----------------------------------------------------------------------------------------
 */

static uint64_t
stat_at(const void *base, size_t offset)
{
    return stat_get((const stat_u64 *)(const void *)((const char *)base + offset));
}

uint64_t
view_sum_workers(const struct node *n, size_t offset)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < n->n_workers; i++)
        sum += stat_at(worker_stats(n->workers[i]), offset);
    return sum;
}

uint64_t
view_sum_server(const struct node *n, const struct server *s, size_t offset)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < n->n_workers; i++)
        sum += stat_at(&s->counters[i], offset);
    return sum;
}

void
view_sum_worker_times(const struct node *n, struct stat_hist *out)
{
    for (unsigned i = 0; i < n->n_workers; i++)
        stat_hist_merge(out, &worker_stats(n->workers[i])->request_time);
}

void
view_sum_server_times(const struct node *n, const struct server *s, struct stat_hist *out)
{
    for (unsigned i = 0; i < n->n_workers; i++)
        stat_hist_merge(out, &s->counters[i].response_time);
}

/* --- pieces -------------------------------------------------------------------------------------
 */

/* What comes from a file or a server may be no UTF-8, which JSON cannot say. */
json_t *
view_text(const char *s)
{
    json_t *j = s != NULL ? json_string(s) : json_null();

    return j != NULL ? j : json_string("(not UTF-8)");
}

json_t *
view_wall_time(int64_t wall_ns)
{
    time_t s = (time_t)(wall_ns / MC_SEC);
    char out[32];
    struct tm tm;
    size_t n;

    gmtime_r(&s, &tm);
    n = strftime(out, sizeof(out), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + n, sizeof(out) - n, ".%03uZ", (unsigned)(wall_ns / MC_MS % 1000));
    return json_string(out);
}

/* What lies above the last bound of the histogram is told as that bound. */
static json_t *
ms(mc_ns ns)
{
    mc_ns last = stat_hist_bound(STAT_HIST_BUCKETS - 2);

    return json_real((double)(ns < last ? ns : last) / (double)MC_MS);
}

static json_t *
quantiles(const struct stat_hist *h)
{
    uint64_t count = stat_get(&h->count);

    return json_pack("{s:I, s:o, s:o, s:o, s:o}", "count", (json_int_t)count, "mean_ms",
                     ms(count ? (mc_ns)(stat_get(&h->sum_ns) / count) : 0), "p50_ms",
                     ms(stat_hist_quantile(h, 0.5)), "p90_ms", ms(stat_hist_quantile(h, 0.9)),
                     "p99_ms", ms(stat_hist_quantile(h, 0.99)));
}

/* --- servers ------------------------------------------------------------------------------------
 */

static json_t *
server_counts(const struct node *n, const struct server *s)
{
    json_t *j = json_object();

#define X(name, help)    \
    json_object_set_new( \
        j, #name,        \
        json_integer((json_int_t)view_sum_server(n, s, offsetof(struct server_counters, name))));
    SERVER_COUNTERS(X)
#undef X
    return j;
}

static json_t *
one_server(const struct node *n, const struct pool *p, unsigned i)
{
    struct server *s = p->servers[i];
    const struct server_conf *sc = &p->conf.servers[i];
    json_t *words = learned_words(p, i), *j;
    struct stat_hist times = {0};
    struct health h;

    server_health_copy(s, &h);
    view_sum_server_times(n, s, &times);
    j = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "pool", view_text(p->conf.name), "name",
                  view_text(s->name), "address", view_text(s->address_text), "state",
                  view_text(health_state_text(h.state)), "reason", view_text(h.reason), "since",
                  view_wall_time(h.since_wall_ns));
    json_object_set_new(j, "open", json_boolean(place_is_open(&s->load)));
    json_object_set_new(j, "backup", json_boolean(sc->backup));
    json_object_set_new(j, "weight",
                        json_real(atomic_load(&s->load.weight) / (double)PLACE_WEIGHT_UNIT));
    json_object_set_new(j, "configured_weight", json_integer(sc->weight));
    json_object_set_new(j, "in_flight", json_integer(atomic_load(&s->load.in_flight)));
    json_object_set_new(j, "max_concurrent", json_integer(sc->max_concurrent));
    json_object_set_new(j, "counters", server_counts(n, s));
    json_object_set_new(j, "response_time", quantiles(&times));
    member_server_view(n, s, j);
    if (p->brain != NULL)
        json_object_set_new(j, "learned", learned_server(p, i));
    if (words != NULL)
        json_object_set_new(j, "agent", words);
    return j;
}

json_t *
view_server(const struct node *n, struct str pool, struct str server)
{
    const struct snapshot *s = n->current;

    for (unsigned i = 0; i < s->n_pools; i++) {
        const struct pool *p = s->pools[i];

        for (unsigned k = 0; k < p->view.n && str_eq(str_of(p->conf.name), pool); k++)
            if (str_eq(str_of(p->servers[k]->name), server))
                return one_server(n, p, k);
    }
    return NULL;
}

json_t *
view_servers(const struct node *n)
{
    json_t *list = json_array(), *time = view_wall_time(units_wall_ns());

    for (unsigned i = 0; i < n->current->n_pools; i++)
        for (unsigned k = 0; k < n->current->pools[i]->view.n; k++)
            json_array_append_new(list, one_server(n, n->current->pools[i], k));
    return json_pack("{s:o, s:o}", "time", time, "servers", list);
}

/* --- pools, listeners, routes -------------------------------------------------------------------
 */

static json_t *
one_pool(const struct pool *p)
{
    const struct pool_live *l = p->live;

    return json_pack("{s:o, s:o, s:i, s:i, s:i, s:i, s:i, s:b, s:b}", "name",
                     view_text(p->conf.name), "balance", view_text(p->conf.policy->name), "servers",
                     (int)p->view.n, "open_servers", (int)atomic_load(&l->n_open), "in_flight",
                     (int)atomic_load(&l->in_flight), "max_concurrent", (int)p->conf.max_concurrent,
                     "queued", (int)atomic_load(&l->queued), "panic", (int)atomic_load(&l->panic),
                     "on_backup", (int)atomic_load(&l->on_backup));
}

json_t *
view_pools(const struct node *n)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < n->current->n_pools; i++)
        json_array_append_new(list, one_pool(n->current->pools[i]));
    return json_pack("{s:o}", "pools", list);
}

json_t *
view_listeners(const struct node *n)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < n->current->n_listeners; i++) {
        const struct listener *l = &n->current->listeners[i];
        json_t *binds = json_array();
        char addr[ADDR_TEXT];

        for (unsigned k = 0; k < l->conf.n_binds; k++)
            json_array_append_new(binds, view_text(addr_text(&l->conf.binds[k], addr)));
        json_array_append_new(list,
                              json_pack("{s:o, s:o, s:i, s:i, s:b}", "name",
                                        view_text(l->conf.name), "bind", binds, "connections",
                                        (int)atomic_load(&l->live->connections), "max_connections",
                                        (int)l->conf.max_connections, "tls", l->conf.tls.given));
    }
    return json_pack("{s:o}", "listeners", list);
}

static json_t *
texts(char *const *v, unsigned n)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < n; i++)
        json_array_append_new(list, view_text(v[i]));
    return list;
}

json_t *
view_routes(const struct node *n)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < n->current->n_routes; i++) {
        const struct route_conf *r = &n->current->routes[i].conf;

        json_array_append_new(
            list, json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "name", view_text(r->name), "host",
                            texts(r->hosts, r->n_hosts), "path", view_text(r->path), "listen",
                            texts(r->listeners, r->n_listeners), "sni", texts(r->names, r->n_names),
                            "pool", view_text(r->pool)));
    }
    return json_pack("{s:o}", "routes", list);
}

/* --- the node -----------------------------------------------------------------------------------
 */

json_t *
view_config(const struct node *n)
{
    json_t *j =
        json_pack("{s:o, s:o, s:I, s:o}", "file", view_text(n->options.conf_file), "digest",
                  view_text(n->current->digest), "generation", (json_int_t)n->current->generation,
                  "loaded", view_wall_time(n->current->built_wall_ns));
    json_t *last = json_null();

    if (n->reload.wall_ns != 0)
        last = json_pack("{s:b, s:o}", "ok", (int)n->reload.ok, "time",
                         view_wall_time(n->reload.wall_ns));
    json_object_set_new(j, "reloads", json_integer(n->reload.n_good));
    json_object_set_new(j, "failed_reloads", json_integer(n->reload.n_bad));
    json_object_set_new(j, "last_reload", last);
    return j;
}

static json_t *
worker_counts(const struct node *n)
{
    json_t *j = json_object();

#define X(name, help)    \
    json_object_set_new( \
        j, #name,        \
        json_integer((json_int_t)view_sum_workers(n, offsetof(struct worker_stats, name))));
    WORKER_COUNTERS(X)
#undef X
    return j;
}

static json_t *
view_upgrade(const struct upgrade *u)
{
    static const char *const words[] = {
        [UPGRADE_NONE] = "none",        [UPGRADE_COMING] = "coming", [UPGRADE_PARTING] = "coming",
        [UPGRADE_RELEASING] = "coming", [UPGRADE_ALONE] = "coming",  [UPGRADE_FAILED] = "failed",
        [UPGRADE_OVER] = "over"};

    return json_pack("{s:s, s:o, s:i, s:o, s:o}", "state", words[u->state], "why",
                     u->state == UPGRADE_FAILED ? view_text(u->why.text) : json_null(), "failed",
                     (int)u->n_failed, "at",
                     u->wall_ns != 0 ? view_wall_time(u->wall_ns) : json_null(), "before",
                     u->before != 0 ? json_integer(u->before) : json_null());
}

json_t *
view_status(const struct node *n)
{
    struct stat_hist times = {0};
    unsigned servers = 0, open = 0;
    struct buf why = {0};
    json_t *j;

    for (unsigned i = 0; i < n->current->n_pools; i++) {
        servers += n->current->pools[i]->view.n;
        open += atomic_load(&n->current->pools[i]->live->n_open);
    }
    view_sum_worker_times(n, &times);
    j = json_pack("{s:o, s:s, s:i, s:s, s:i, s:s, s:o, s:f}", "node", view_text(n->current->node),
                  "version", MEERCAT_VERSION, "pid", (int)getpid(), "state",
                  n->ending ? "ending" : "serving", "workers", (int)n->n_workers, "engine",
                  worker_engine(n->workers[0]), "started", view_wall_time(n->started_wall_ns),
                  "uptime_s", (double)(units_wall_ns() - n->started_wall_ns) / (double)MC_SEC);
    json_object_set_new(j, "step", json_string(leave_step_text(n)));
    json_object_set_new(j, "upgrade", view_upgrade(&n->upgrade));
    json_object_set_new(j, "config", view_config(n));
    json_object_set_new(j, "fit", json_boolean(fit_now(n, &why)));
    json_object_set_new(j, "unfit_because", view_text(why.p));
    buf_free(&why);
    json_object_set_new(j, "cluster", member_brief(n));
    json_object_set_new(j, "takeover", takeover_node_view(n));
    json_object_set_new(j, "servers", json_integer(servers));
    json_object_set_new(j, "open_servers", json_integer(open));
    json_object_set_new(j, "connections",
                        json_integer((json_int_t)view_sum_workers(
                            n, offsetof(struct worker_stats, active_connections))));
    json_object_set_new(j, "in_flight",
                        json_integer((json_int_t)view_sum_workers(
                            n, offsetof(struct worker_stats, active_requests))));
    json_object_set_new(j, "tunnels",
                        json_integer((json_int_t)view_sum_workers(
                            n, offsetof(struct worker_stats, active_tunnels))));
    json_object_set_new(j, "counters", worker_counts(n));
    json_object_set_new(j, "request_time", quantiles(&times));
    return j;
}
