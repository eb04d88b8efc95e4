/* SPDX-License-Identifier: BSD-2-Clause
 *
 * build.c - a configuration made into a snapshot.
 */
#include "control/build.h"

#include <stdlib.h>

#include "base/check.h"

/* --- listeners ----------------------------------------------------------------------------------
 */

static struct listener_live *
live_listener(struct build *b, const char *name)
{
    struct listener_live *live = map_get(&b->listeners, str_of(name));

    if (live != NULL)
        return live;
    live = mc_alloc_lines(sizeof(*live));
    *live = (struct listener_live){.name = mc_strdup(name)};
    map_put(&b->listeners, str_of(name), live);
    return live;
}

static void
build_listeners(struct build *b, struct conf *c, struct snapshot *s)
{
    s->listeners = mc_alloc((c->n_listeners + 1) * sizeof(*s->listeners));
    s->n_listeners = c->n_listeners;
    for (unsigned i = 0; i < c->n_listeners; i++) {
        struct listener *l = &s->listeners[i];

        l->conf = c->listeners[i];
        c->listeners[i] = (struct listener_conf){0};
        l->index = i;
        l->live = live_listener(b, l->conf.name);
        atomic_store(&l->live->tcp, l->conf.protocol == LISTENER_TCP);
        MC_ASSERT(l->conf.tls.given == (l->conf.tls.domain != NULL));
        if (l->conf.tls.domain != NULL)
            tls_domain_seal(l->conf.tls.domain, b->tickets);
        atomic_fetch_add(&l->live->refs, 1);
    }
    c->n_listeners = 0;
}

static bool
is_vip(const struct conf *c, const struct addr *bind)
{
    for (unsigned i = 0; i < c->n_vips; i++)
        for (unsigned k = 0; k < c->vips[i].n_addrs; k++) {
            struct addr a = c->vips[i].addrs[k].base;

            addr_set_port(&a, addr_port(bind));
            if (addr_eq(&a, bind))
                return true;
        }
    return false;
}

static enum mc_err
build_binds(struct build *b, const struct conf *c, struct snapshot *s, struct errbuf *e)
{
    enum mc_err rv = MC_OK;
    unsigned n = 0;

    for (unsigned i = 0; i < s->n_listeners; i++)
        n += s->listeners[i].conf.n_binds;
    s->binds = mc_alloc((n + 1) * sizeof(*s->binds));
    binds_begin(b->binds);
    for (unsigned i = 0; i < s->n_listeners; i++) {
        const struct listener_conf *lc = &s->listeners[i].conf;

        for (unsigned j = 0; j < lc->n_binds && rv == MC_OK; j++) {
            struct bind_fd *out = &s->binds[s->n_binds];

            rv = binds_take(b->binds, &lc->binds[j],
                            &(struct binds_how){.unix_mode = lc->unix_mode,
                                                .user_timeout_ns = lc->user_timeout_ns,
                                                .absent = is_vip(c, &lc->binds[j])},
                            out, e);
            out->listener = i;
            s->n_binds += rv == MC_OK;
            if (rv != MC_OK)
                err_wrap(e, "listen \"%s\"", lc->name);
        }
    }
    if (rv != MC_OK)
        binds_give_up(b->binds);
    return rv;
}

/* --- pools and routes ----------------------------------------------------------------------------
 */

static enum mc_err
build_pools(struct build *b, struct conf *c, struct snapshot *s, struct errbuf *e)
{
    enum mc_err rv;

    for (unsigned i = 0; i < c->n_pools; i++)
        MC_ASSERT(c->pools[i].tls.given == (c->pools[i].tls.client != NULL));
    rv = fleet_build(b->fleet, c->pools, c->n_pools, &s->pools, e);

    if (rv == MC_OK)
        s->n_pools = c->n_pools;
    c->n_pools = 0;
    return rv;
}

static unsigned
pool_index(const struct snapshot *s, const char *name)
{
    for (unsigned i = 0; i < s->n_pools; i++)
        if (strcmp(s->pools[i]->conf.name, name) == 0)
            return i;
    MC_NEVER("route to a pool that conf_check let pass");
}

static struct limit *
limit_get(struct build *b, const char *name)
{
    struct limit *l = map_get(&b->limits, str_of(name));

    if (l != NULL)
        return l;
    l = mc_alloc_lines(sizeof(*l));
    *l = (struct limit){.name = mc_strdup(name)};
    map_put(&b->limits, str_of(name), l);
    return l;
}

/* What this balancer alone would allow; in a cluster it is a share of it (member_caps.c). */
static void
set_limits(const struct snapshot *s)
{
    for (unsigned i = 0; i < s->n_routes; i++) {
        const struct route *r = &s->routes[i];

        if (r->limit != NULL)
            limit_set(r->limit, r->conf.rate_limit, route_burst(&r->conf), units_clock_ns());
    }
}

static bool
is_shared(const struct snapshot *s, unsigned pool)
{
    unsigned n = 0;

    for (unsigned i = 0; i < s->n_routes; i++)
        n += s->routes[i].pool_index == pool;
    return n > 1;
}

/* Which routes take the connections of a listener; the snapshot's routes stay where they are. */
static void
bind_routes(struct snapshot *s, struct listener *l)
{
    l->routes = mc_alloc((s->n_routes + 1) * sizeof(*l->routes));
    for (unsigned i = 0; i < s->n_routes; i++) {
        const struct route_conf *r = &s->routes[i].conf;

        for (unsigned k = 0; k < r->n_listeners; k++)
            if (strcmp(r->listeners[k], l->conf.name) == 0) {
                l->routes[l->n_routes++] = &s->routes[i];
                l->by_name |= r->n_names > 0;
                break;
            }
    }
}

static void
build_routes(struct build *b, struct conf *c, struct snapshot *s)
{
    s->routes = mc_alloc((c->n_routes + 1) * sizeof(*s->routes));
    s->n_routes = c->n_routes;
    for (unsigned i = 0; i < c->n_routes; i++) {
        s->routes[i].conf = c->routes[i];
        c->routes[i] = (struct route_conf){0};
        s->routes[i].pool_index = pool_index(s, s->routes[i].conf.pool);
        if (s->routes[i].conf.rate_limit > 0)
            s->routes[i].limit = limit_get(b, s->routes[i].conf.name);
    }
    for (unsigned i = 0; i < s->n_routes; i++)
        s->routes[i].in_class = is_shared(s, s->routes[i].pool_index);
    c->n_routes = 0;
    for (unsigned i = 0; i < s->n_listeners; i++)
        if (s->listeners[i].conf.protocol == LISTENER_TCP)
            bind_routes(s, &s->listeners[i]);
}

/* --- the whole ----------------------------------------------------------------------------------
 */

enum mc_err
build_snapshot(struct build *b, struct conf *c, struct snapshot **out, struct errbuf *e)
{
    struct snapshot *s = mc_alloc(sizeof(*s));
    enum mc_err rv;

    s->generation = b->last_generation + 1;
    s->built_wall_ns = units_wall_ns();
    s->access_log = b->access_log;
    s->node = mc_strdup(c->node);
    s->drain_timeout_ns = c->drain_timeout_ns;
    s->splice_bytes = c->splice_bytes;
    s->max_connections = c->max_connections;
    s->digest = mc_strdup(c->digest);
    build_listeners(b, c, s);
    rv = build_pools(b, c, s, e);
    if (rv == MC_OK)
        rv = build_binds(b, c, s, e);
    if (rv != MC_OK) {
        build_free_snapshot(&s);
        return rv;
    }
    build_routes(b, c, s);
    *out = s;
    return MC_OK;
}

void
build_keep(struct build *b, const struct snapshot *s)
{
    b->last_generation = s->generation;
    set_limits(s);
    fleet_adopt(b->fleet, s->pools, s->n_pools);
}

void
build_free_snapshot(struct snapshot **sp)
{
    struct snapshot *s = *sp;

    if (s == NULL)
        return;
    *sp = NULL;
    for (unsigned i = 0; i < s->n_listeners; i++) {
        atomic_fetch_sub(&s->listeners[i].live->refs, 1);
        conf_listener_fini(&s->listeners[i].conf);
        free(s->listeners[i].routes);
    }
    for (unsigned i = 0; i < s->n_binds; i++)
        free(s->binds[i].fds);
    for (unsigned i = 0; i < s->n_routes; i++)
        conf_route_fini(&s->routes[i].conf);
    for (unsigned i = 0; i < s->n_pools; i++)
        pool_free(&s->pools[i]);
    free(s->listeners);
    free(s->binds);
    free(s->routes);
    free(s->pools);
    free(s->node);
    free(s->digest);
    free(s);
}

void
build_fini(struct build *b)
{
    size_t at = 0;
    void *value;

    while (map_next(&b->listeners, &at, &(struct str){0}, &value)) {
        struct listener_live *live = value;

        free(live->name);
        free(live);
    }
    map_free(&b->listeners);
    at = 0;
    while (map_next(&b->limits, &at, &(struct str){0}, &value)) {
        struct limit *l = value;

        free(l->name);
        free(l);
    }
    map_free(&b->limits);
}
