/* SPDX-License-Identifier: BSD-2-Clause
 *
 * member_caps.c - limits that hold for the whole cluster: max-concurrent of servers and rate-limit
 * of routes.  Each balancer keeps to its share, which follows demand (cluster/caps.h).
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/pack.h"
#include "cluster/caps.h"
#include "control/member_priv.h"
#include "fleet/company.h"

#define SAMPLE_NS  (100 * MC_MS)
#define RATE_UNITS 1000 /* of caps.h in a request a second */
/* A balancer that starts does not take a limit for its own while it has not met the others; nor
 * does it wait for long for those that are not there. */
#define MEET_NS    (3 * MC_SEC)

/* One limit: a server's or a route's. */
struct cap {
    uint64_t key;
    unsigned index; /* in caps */
    uint32_t units;
    bool kept; /* in the configuration in force */
    const struct pool *pool;
    struct server *server; /* else: */
    const struct route *route;
    uint64_t asked; /* of the route, at the last sample */
};

struct member_caps {
    struct member *member;
    struct caps *caps;
    struct timer timer;
    struct cap *cap; /* [n], the first n_sorted of them by key */
    unsigned n, n_sorted;
    mc_ns sampled_at;
    mc_ns meet_until; /* MC_NEVER_NS: the others are known, or are not waited for */
};

/* --- the configuration --------------------------------------------------------------------------
 */

static int
by_key(const void *a, const void *b)
{
    const struct cap *x = a, *y = b;

    return (x->key > y->key) - (x->key < y->key);
}

static struct cap *
find(const struct member_caps *mc, uint64_t key)
{
    struct cap want = {.key = key};

    return mc->n_sorted ? bsearch(&want, mc->cap, mc->n_sorted, sizeof(want), by_key) : NULL;
}

/* Keys come once each. */
static struct cap *
cap_of(struct member_caps *mc, uint64_t key, uint32_t units)
{
    struct cap *c = find(mc, key);

    if (!c) {
        mc->cap = mc_realloc(mc->cap, (mc->n + 1) * sizeof(*mc->cap));
        c = &mc->cap[mc->n++];
        *c = (struct cap){.key = key};
    }
    c->index = caps_set_limit(mc->caps, key, units, loop_now(mc->member->node->loop));
    c->units = units;
    c->kept = true;
    return c;
}

static void
take_servers(struct member_caps *mc, const struct snapshot *s)
{
    for (unsigned i = 0; i < s->n_pools; i++)
        for (unsigned k = 0; k < s->pools[i]->view.n; k++) {
            const struct pool *p = s->pools[i];
            uint32_t max = p->conf.servers[k].max_concurrent;
            struct cap *c;

            if (max == 0)
                continue;
            c = cap_of(mc, company_server_key(p->servers[k]), max);
            c->pool = p;
            c->server = p->servers[k];
        }
}

static void
take_routes(struct member_caps *mc, const struct snapshot *s)
{
    for (unsigned i = 0; i < s->n_routes; i++) {
        const struct route *r = &s->routes[i];
        struct cap *c;

        if (r->limit == NULL)
            continue;
        c = cap_of(mc, str_hash(str_of(r->conf.name), str_hash(STR("rate"), 0)),
                   r->conf.rate_limit * RATE_UNITS);
        c->route = r;
        c->asked = limit_asked(r->limit);
    }
}

static void
drop(struct member_caps *mc, uint64_t key)
{
    uint8_t room[MEMBER_KEY_N];

    caps_drop_limit(mc->caps, key);
    cluster_fact_del(mc->member->cluster, member_key(MEMBER_FACT_CAP, key, room));
}

static void
drop_others(struct member_caps *mc)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < mc->n; i++) {
        if (mc->cap[i].kept)
            mc->cap[kept++] = mc->cap[i];
        else
            drop(mc, mc->cap[i].key);
    }
    mc->n = mc->n_sorted = kept;
    if (kept > 0)
        qsort(mc->cap, kept, sizeof(*mc->cap), by_key);
}

/* --- demand and shares --------------------------------------------------------------------------
 */

static double
demand_of(const struct cap *c, double seconds)
{
    uint64_t asked;

    if (c->route) {
        asked = limit_asked(c->route->limit);
        return (double)(asked - c->asked) / seconds * RATE_UNITS;
    }
    /* who waits in the pool's queue would go to any of its servers */
    return atomic_load_explicit(&c->server->load.in_flight, memory_order_relaxed) +
           (double)atomic_load_explicit(&c->pool->live->queued, memory_order_relaxed) /
               c->pool->view.n;
}

static void
sample(struct member_caps *mc, mc_ns now)
{
    double seconds = (double)(now - mc->sampled_at) / (double)MC_SEC;

    if (seconds <= 0)
        return;
    mc->sampled_at = now;
    for (unsigned i = 0; i < mc->n; i++) {
        struct cap *c = &mc->cap[i];

        caps_demand(mc->caps, c->index, demand_of(c, seconds), now);
        if (c->route)
            c->asked = limit_asked(c->route->limit);
    }
}

/* Before the others are known: an even share among those that we are to join. */
static uint32_t
first_share(const struct member_caps *mc, uint32_t units)
{
    uint32_t share = units / (mc->member->node->conf->cluster.n_join + 1);

    return share > 0 ? share : 1;
}

static uint32_t
share_of(const struct member_caps *mc, const struct cap *c)
{
    return mc->meet_until == MC_NEVER_NS ? caps_share(mc->caps, c->index)
                                         : first_share(mc, c->units);
}

static void
use_share(const struct member_caps *mc, const struct cap *c)
{
    uint32_t share = share_of(mc, c);

    if (c->server)
        company_limit(c->server, share);
    else
        limit_set(c->route->limit, share / (double)RATE_UNITS,
                  route_burst(&c->route->conf) * (double)share / c->units,
                  loop_now(mc->member->node->loop));
}

static void
use_shares(struct member_caps *mc)
{
    for (unsigned i = 0; i < mc->n; i++)
        use_share(mc, &mc->cap[i]);
}

/* Of the shares nobody speaks before it is known who is there. */
static void
meet(struct member_caps *mc, mc_ns now)
{
    const struct cluster *c = mc->member->cluster;
    const uint64_t *others;
    unsigned n;

    if (mc->meet_until == MC_NEVER_NS ||
        (!swim_joined(cluster_swim(c)) && now < mc->meet_until && !cluster_conflict(c)))
        return;
    mc->meet_until = MC_NEVER_NS;
    others = cluster_others(c, &n);
    caps_set_members(mc->caps, others, n, now);
    member_hear_again(mc->member);
}

static void
on_timer(struct timer *t)
{
    struct member_caps *mc = container_of(t, struct member_caps, timer);
    mc_ns now = loop_now(mc->member->node->loop);

    meet(mc, now);
    sample(mc, now);
    caps_tick(mc->caps, now);
    use_shares(mc);
    loop_timer_set(mc->member->node->loop, t, now + SAMPLE_NS);
}

/* --- in and out ---------------------------------------------------------------------------------
 */

static void
on_tell(void *arg, uint64_t key, const void *bytes, size_t n)
{
    struct member_caps *mc = arg;
    uint8_t room[MEMBER_KEY_N];

    cluster_fact_set(mc->member->cluster, member_key(MEMBER_FACT_CAP, key, room), FACTS_SOON, bytes,
                     n);
}

void
member_caps_hear(struct member *m, uint64_t owner, const void *value, size_t n)
{
    if (value)
        caps_hear(m->caps->caps, owner, value, n, loop_now(m->node->loop));
}

void
member_caps_members(struct member *m, const uint64_t *others, unsigned n)
{
    const struct swim *s = cluster_swim(m->cluster);
    mc_ns now = loop_now(m->node->loop);

    meet(m->caps, now);
    if (m->caps->meet_until != MC_NEVER_NS)
        return;
    caps_set_members(m->caps->caps, others, n, now);
    for (size_t i = 0; i < swim_count(s); i++)
        if (swim_at(s, i)->state == SWIM_LEFT)
            caps_member_left(m->caps->caps, swim_at(s, i)->id, now);
}

void
member_caps_adopt(struct member *m)
{
    struct member_caps *mc = m->caps;

    for (unsigned i = 0; i < mc->n; i++)
        mc->cap[i] = (struct cap){.key = mc->cap[i].key}; /* the rest is of another snapshot */
    take_servers(mc, m->node->current);
    take_routes(mc, m->node->current);
    drop_others(mc);
    use_shares(mc);
    loop_timer_clear(m->node->loop, &mc->timer);
    if (mc->n > 0)
        loop_timer_set(m->node->loop, &mc->timer, loop_now(m->node->loop) + SAMPLE_NS);
}

uint32_t
member_caps_share(const struct member *m, uint64_t key)
{
    const struct cap *c = find(m->caps, key);

    return c ? share_of(m->caps, c) : 0;
}

const struct caps_counters *
member_caps_counters(const struct member *m)
{
    return caps_counters(m->caps->caps);
}

void
member_caps_open(struct member *m)
{
    struct member_caps *mc = mc_alloc(sizeof(*mc));
    struct caps_conf conf = {.id = cluster_id(m->cluster),
                             .boot_ms = (uint64_t)(units_wall_ns() / MC_MS),
                             .tell = on_tell,
                             .arg = mc};

    mc->member = m;
    mc->timer.fn = on_timer;
    mc->sampled_at = loop_now(m->node->loop);
    mc->meet_until = m->node->conf->cluster.n_join > 0 ? mc->sampled_at + MEET_NS : MC_NEVER_NS;
    mc->caps = caps_new(&conf, mc->sampled_at);
    m->caps = mc;
}

void
member_caps_close(struct member *m)
{
    loop_timer_clear(m->node->loop, &m->caps->timer);
    caps_free(&m->caps->caps);
    free(m->caps->cap);
    free(m->caps);
    m->caps = NULL;
}
