/* SPDX-License-Identifier: BSD-2-Clause
 *
 * brain_agent.c - the agent of one server: what it says of the server's load.  Control thread.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "fleet/brain_priv.h"
#include "fleet/follow.h"

/* Scraping a node_exporter costs it some milliseconds. */
#define NODE_LEAST_NS  MC_SEC
/* So many reports are missing, but at least so long: what was said last is not counted on. */
#define SILENT_REPORTS 10
#define SILENT_NS      (2 * MC_SEC)

struct brain_agent {
    struct mind *mind;
    unsigned server;
    struct follow *follow;
    bool silent;
    bool any;     /* last holds something */
    uint64_t seq; /* of reports that carry none */
    struct place_report last;
};

mc_ns
brain_agent_interval(const struct server_conf *c, mc_ns wanted)
{
    if (!server_conf_reports(c))
        return 0;
    return c->agent_kind == WATCH_NODE && wanted < NODE_LEAST_NS ? NODE_LEAST_NS : wanted;
}

/* --- reports -----------------------------------------------------------------------------------
 */

static void
on_report(void *arg, const struct place_report *r, mc_ns age)
{
    struct brain_agent *a = arg;
    struct place_report mine = *r;
    mc_ns now = loop_now(a->mind->of->fleet->loop);

    /* its place in time was looked at by the watcher */
    if (!report_has(r, REPORT_SEQ))
        mine.seq = ++a->seq;
    know_report(a->mind->know, a->server, &mine, now - age + a->mind->pub.wall_ns);
    if (a->any && a->silent)
        log_info("pool %s: server %s: its agent at %s is back", a->mind->pool_name,
                 a->mind->servers[a->server]->name, follow_text(a->follow));
    a->last = *r;
    a->any = true;
    a->silent = false;
}

void
brain_agent_tick(struct brain_agent *a, mc_ns now)
{
    const struct watcher *w = follow_watcher(a->follow);
    mc_ns limit;

    if (!w || !a->any || a->silent)
        return;
    limit = SILENT_REPORTS * watcher_conf(w)->interval;
    if (watcher_age(w, now) < (limit > SILENT_NS ? limit : SILENT_NS))
        return;
    a->silent = true;
    know_silent(a->mind->know, a->server);
    log_warn("pool %s: server %s: its agent at %s says nothing any more%s%s", a->mind->pool_name,
             a->mind->servers[a->server]->name, follow_text(a->follow),
             watcher_stats(w)->why[0] ? ": " : "", watcher_stats(w)->why);
}

/* --- birth and death ---------------------------------------------------------------------------
 */

static struct brain_agent *
agent_new(struct mind *m, unsigned server, const struct server_conf *c, mc_ns interval)
{
    struct brain_agent *a = mc_alloc(sizeof(*a));

    a->mind = m;
    a->server = server;
    a->follow =
        follow_new(m->of->fleet, m->pool_name, m->servers[server]->name, c, interval, on_report, a);
    return a;
}

void
brain_agent_free(struct brain_agent **ap)
{
    struct brain_agent *a = *ap;

    if (!a)
        return;
    *ap = NULL;
    follow_free(&a->follow);
    know_silent(a->mind->know, a->server);
    free(a);
}

void
brain_agent_follow(struct brain_agent **ap, struct mind *m, unsigned server,
                   const struct server_conf *c, mc_ns interval)
{
    interval = brain_agent_interval(c, interval);
    if (*ap && follow_is_same((*ap)->follow, c, interval))
        return;
    brain_agent_free(ap);
    if (server_conf_reports(c) && m->of->fleet->loop)
        *ap = agent_new(m, server, c, interval);
}

/* --- for display -------------------------------------------------------------------------------
 */

void
brain_agent_show(const struct brain_agent *a, mc_ns now, struct brain_server *out)
{
    follow_show(a->follow, now, out);
    if (!a->any)
        return;
    if (report_has(&a->last, REPORT_CORES))
        out->cores = a->last.cores;
    if (report_has(&a->last, REPORT_CPU_UTILIZATION))
        out->cpu = a->last.cpu_utilization;
    if (report_has(&a->last, REPORT_CPU_PRESSURE))
        out->pressure = a->last.cpu_pressure;
}
