/* SPDX-License-Identifier: BSD-2-Clause
 *
 * brain_agent.c - the agent of one server: where it is, what it says.  Control thread.
 *
 * A name is looked up as a server's is; a question cannot be taken back, so it has a struct of its
 * own that waits for the answer when nobody does any more.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "fleet/brain_priv.h"
#include "io/dns.h"

#define TTL_MIN_NS     MC_SEC
#define TTL_MAX_NS     (300 * MC_SEC)
#define RETRY_NS       (5 * MC_SEC)
/* Scraping a node_exporter costs it some milliseconds. */
#define NODE_LEAST_NS  MC_SEC
/* So many reports are missing, but at least so long: what was said last is not counted on. */
#define SILENT_REPORTS 10
#define SILENT_NS      (2 * MC_SEC)

struct brain_agent {
    struct mind *mind;
    unsigned server;
    char *text; /* as configured */
    struct watch_conf conf;
    struct watch_sub *sub; /* NULL: its name has no address yet */
    char *host;            /* of a name; NULL */
    uint16_t port;
    struct timer timer;
    struct agent_lookup *lookup; /* under way */
    bool failed;                 /* the last lookup */
    bool silent;
    bool any;     /* last holds something */
    uint64_t seq; /* of reports that carry none */
    struct place_report last;
};

struct agent_lookup {
    struct list link;      /* brains.lookups */
    struct brain_agent *a; /* NULL: nobody waits */
};

static struct loop *
loop_of(const struct brain_agent *a)
{
    return a->mind->of->fleet->loop;
}

mc_ns
brain_agent_interval(const struct server_conf *c, mc_ns wanted)
{
    if (!c->agent)
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
    mc_ns now = loop_now(loop_of(a));

    /* its place in time was looked at by the watcher */
    if (!report_has(r, REPORT_SEQ))
        mine.seq = ++a->seq;
    know_report(a->mind->know, a->server, &mine, now - age + a->mind->pub.wall_ns);
    if (a->any && a->silent)
        log_info("pool %s: server %s: its agent at %s is back", a->mind->pool_name,
                 a->mind->servers[a->server]->name, a->text);
    a->last = *r;
    a->any = true;
    a->silent = false;
}

void
brain_agent_tick(struct brain_agent *a, mc_ns now)
{
    mc_ns limit = SILENT_REPORTS * a->conf.interval;
    const struct watch_stats *s;

    if (!a->sub || !a->any || a->silent ||
        watcher_age(watch_sub_watcher(a->sub), now) < (limit > SILENT_NS ? limit : SILENT_NS))
        return;
    s = watcher_stats(watch_sub_watcher(a->sub));
    a->silent = true;
    know_silent(a->mind->know, a->server);
    log_warn("pool %s: server %s: its agent at %s says nothing any more%s%s", a->mind->pool_name,
             a->mind->servers[a->server]->name, a->text, s->why[0] ? ": " : "", s->why);
}

/* --- where it is -------------------------------------------------------------------------------
 */

static void
listen_to(struct brain_agent *a, const struct addr *addr)
{
    if (a->sub && addr_eq(&a->conf.addr, addr))
        return;
    watch_sub_leave(&a->sub);
    a->conf.addr = *addr;
    a->sub = watches_join(a->mind->of->watches, &a->conf, on_report, a);
}

static void
good_answer(struct brain_agent *a, const struct dns_answer *d)
{
    mc_ns ttl = (mc_ns)d->ttl_s * MC_SEC;

    a->failed = false;
    listen_to(a, &d->addrs[0]);
    loop_timer_set(loop_of(a), &a->timer,
                   loop_now(loop_of(a)) + (ttl < TTL_MIN_NS   ? TTL_MIN_NS
                                           : ttl > TTL_MAX_NS ? TTL_MAX_NS
                                                              : ttl));
}

static void
bad_answer(struct brain_agent *a, const struct dns_answer *d)
{
    if (!a->failed)
        log_warn("pool %s: server %s: cannot resolve %s of its agent: %s", a->mind->pool_name,
                 a->mind->servers[a->server]->name, a->host,
                 d->status ? d->text : "the answer holds no address");
    a->failed = true;
    loop_timer_set(loop_of(a), &a->timer, loop_now(loop_of(a)) + RETRY_NS);
}

static void
on_answer(void *arg, const struct dns_answer *d)
{
    struct agent_lookup *q = arg;
    struct brain_agent *a = q->a;

    list_remove(&q->link);
    free(q);
    if (!a)
        return;
    a->lookup = NULL;
    if (d->status == 0 && d->n_addrs > 0)
        good_answer(a, d);
    else
        bad_answer(a, d);
}

static void
ask(struct timer *t)
{
    struct brain_agent *a = container_of(t, struct brain_agent, timer);

    a->lookup = mc_alloc(sizeof(*a->lookup));
    a->lookup->a = a;
    list_push_back(&a->mind->of->lookups, &a->lookup->link);
    dns_query(a->mind->of->fleet->dns, a->host, a->port, on_answer, a->lookup);
}

void
brain_agent_forget_all(struct brains *bs)
{
    LIST_FOREACH_SAFE (it, next, &bs->lookups) {
        list_remove(it);
        free(LIST_ENTRY(it, struct agent_lookup, link));
    }
}

/* --- birth and death ---------------------------------------------------------------------------
 */

static struct brain_agent *
agent_new(struct mind *m, unsigned server, const struct server_conf *c, mc_ns interval)
{
    struct brain_agent *a = mc_alloc(sizeof(*a));
    struct addr addr;
    struct str host;

    a->mind = m;
    a->server = server;
    a->text = mc_strdup(c->agent);
    a->conf = (struct watch_conf){.kind = c->agent_kind, .interval = interval};
    a->timer.fn = ask;
    if (addr_parse(str_of(a->text), &addr, &host, &a->port, NULL) == MC_OK) {
        listen_to(a, &addr);
    } else if (m->of->fleet->dns) {
        a->host = str_dup(host);
        ask(&a->timer);
    }
    return a;
}

void
brain_agent_free(struct brain_agent **ap)
{
    struct brain_agent *a = *ap;

    if (!a)
        return;
    *ap = NULL;
    watch_sub_leave(&a->sub);
    if (a->lookup)
        a->lookup->a = NULL;
    loop_timer_clear(loop_of(a), &a->timer);
    know_silent(a->mind->know, a->server);
    free(a->text);
    free(a->host);
    free(a);
}

static bool
is_as_before(const struct brain_agent *a, const struct server_conf *c, mc_ns interval)
{
    return c->agent && strcmp(a->text, c->agent) == 0 && a->conf.kind == c->agent_kind &&
           a->conf.interval == interval;
}

void
brain_agent_follow(struct brain_agent **ap, struct mind *m, unsigned server,
                   const struct server_conf *c, mc_ns interval)
{
    interval = brain_agent_interval(c, interval);
    if (*ap && is_as_before(*ap, c, interval))
        return;
    brain_agent_free(ap);
    if (c->agent && m->of->watches)
        *ap = agent_new(m, server, c, interval);
}

/* --- for display -------------------------------------------------------------------------------
 */

void
brain_agent_show(const struct brain_agent *a, mc_ns now, struct brain_server *out)
{
    const struct watch_stats *s;

    out->has_agent = true;
    if (!a->sub) {
        out->why = a->failed ? "its name cannot be resolved" : "";
        return;
    }
    s = watcher_stats(watch_sub_watcher(a->sub));
    out->age = watcher_age(watch_sub_watcher(a->sub), now);
    out->reports = s->reports;
    for (unsigned i = 0; i < REPORT_N_FAULTS; i++)
        out->refused += s->refused[i];
    out->failures = s->failures + s->stalls;
    out->why = s->why;
    if (!a->any)
        return;
    if (report_has(&a->last, REPORT_CORES))
        out->cores = a->last.cores;
    if (report_has(&a->last, REPORT_CPU_UTILIZATION))
        out->cpu = a->last.cpu_utilization;
    if (report_has(&a->last, REPORT_CPU_PRESSURE))
        out->pressure = a->last.cpu_pressure;
}
