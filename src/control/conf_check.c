/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conf_check.c - what concerns several sections: references, addresses used twice, what is missing,
 * what can never be reached.
 */
#include "control/conf_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/map.h"
#include "cluster/swim.h"
#include "control/keeper.h"
#include "base/near.h"

/* --- the run -----------------------------------------------------------------------------------
 */

static void
report(struct conf_run *run, bool warning, struct conf_at at, const char *fmt, va_list ap)
{
    char text[1024];

    vsnprintf(text, sizeof(text), fmt, ap);
    conf_fault_add(run->faults, warning, run->text->files[at.file], at.line, "%s", text);
}

void
conf_run_fault(struct conf_run *run, struct conf_at at, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    report(run, false, at, fmt, ap);
    va_end(ap);
}

void
conf_run_warning(struct conf_run *run, struct conf_at at, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    report(run, true, at, fmt, ap);
    va_end(ap);
}

static void
mention(struct conf_mentions *m, const char *text, struct conf_at at)
{
    if (m->n == m->cap) {
        m->cap = m->cap ? 2 * m->cap : 16;
        m->v = mc_realloc(m->v, m->cap * sizeof(*m->v));
    }
    m->v[m->n++] = (struct conf_mention){mc_strdup(text), at};
}

static void
mentions_free(struct conf_mentions *m)
{
    for (unsigned i = 0; i < m->n; i++)
        free(m->v[i].text);
    free(m->v);
}

void
conf_run_bind(struct conf_run *run, const char *text, struct conf_at at)
{
    mention(&run->binds, text, at);
}

void
conf_run_pool_ref(struct conf_run *run, const char *text, struct conf_at at)
{
    mention(&run->pool_refs, text, at);
}

void
conf_run_tls_value(struct conf_run *run, const void *section, const struct conf_key *k,
                   struct conf_at at)
{
    run->tls_values =
        mc_realloc(run->tls_values, (run->n_tls_values + 1) * sizeof(*run->tls_values));
    run->tls_values[run->n_tls_values++] = (struct conf_tls_value){section, k, at};
}

void
conf_run_fini(struct conf_run *run)
{
    free(run->tls_values);
    mentions_free(&run->binds);
    mentions_free(&run->pool_refs);
}

/* --- the checks --------------------------------------------------------------------------------
 */

static void
check_pool_refs(struct conf_run *run, const struct conf *c)
{
    struct map pools = {0};

    for (unsigned i = 0; i < c->n_pools; i++)
        map_put(&pools, str_of(c->pools[i].name), &c->pools[i]);
    for (unsigned i = 0; i < run->pool_refs.n; i++) {
        const struct conf_mention *m = &run->pool_refs.v[i];
        struct near near = {.asked = str_of(m->text)};

        if (map_get(&pools, str_of(m->text)) != NULL)
            continue;
        for (unsigned j = 0; j < c->n_pools; j++)
            near_offer(&near, c->pools[j].name);
        conf_run_fault(run, m->at, "pool: there is no pool \"%s\", expected %s%s%s", m->text,
                       near.best ? "\"" : "the name of a pool", near.best ? near.best : "",
                       near.best ? "\" perhaps" : "");
    }
    map_free(&pools);
}

/* The same address written in two ways is the same address. */
static void
check_binds(struct conf_run *run)
{
    struct map seen = {0};
    char text[ADDR_TEXT];
    struct addr a;

    for (unsigned i = 0; i < run->binds.n; i++) {
        struct conf_mention *m = &run->binds.v[i], *first;

        if (addr_parse(str_of(m->text), &a, NULL, NULL, NULL) != MC_OK)
            continue;
        addr_text(&a, text);
        first = map_get(&seen, str_of(text));
        if (first == NULL)
            map_put(&seen, str_of(text), m);
        else
            conf_run_fault(run, m->at, "bind: \"%s\" is used twice, expected once (first at %s:%u)",
                           m->text, run->text->files[first->at.file], first->at.line);
    }
    map_free(&seen);
}

void
conf_check_class(struct conf_run *run, struct conf_at at, const struct pool_conf *p, unsigned i)
{
    const struct class_rule *r = &p->rules.v[i];

    if (r->path && r->grpc)
        conf_run_fault(run, at, "class \"%s\" has path and grpc, expected one of them", r->name);
    if (str_eq(str_of(r->name), STR(CLASS_OTHER)))
        conf_run_fault(run, at,
                       "class \"" CLASS_OTHER
                       "\" is what has no class of its own, expected another name");
    if (i + 1 != p->n_classes) /* the first that is too many: one class is "other" */
        return;
    if (p->rules.n < CLASS_MOST)
        conf_run_fault(run, at, "class \"%s\" is one too many, expected classes = %u or more",
                       r->name, p->rules.n + 1);
    else
        conf_run_fault(run, at, "class \"%s\" is one too many, expected at most %d in a pool",
                       r->name, CLASS_MOST - 1);
}

void
conf_check_cluster(struct conf_run *run, struct conf_at at, const struct conf *c)
{
    const struct conf_cluster *l = &c->cluster;

    if (!c->node_given)
        conf_run_fault(run, at,
                       "cluster without a name for this balancer, expected node = \"lb1\" or "
                       "another name of its own at the top");
    else if (!swim_name_ok(str_of(c->node)))
        conf_run_fault(run, at,
                       "node = \"%s\" cannot be a name in a cluster, expected at most %d of "
                       "letters, digits, '.', '_', '-'",
                       c->node, SWIM_NAME_MAX);
    if (l->bind.len == 0)
        return; /* which was said */
    if (addr_is_any(&l->bind) && l->advertise.len == 0)
        conf_run_fault(run, at,
                       "cluster is bound to every address, expected advertise = ADDRESS:PORT to "
                       "tell the others one of them");
    if (l->advertise.len > 0 && addr_is_any(&l->advertise))
        conf_run_fault(run, at, "advertise is every address, expected one of this host");
    if (l->key_file == NULL && !addr_is_loopback(&l->bind))
        conf_run_fault(run, at,
                       "cluster beyond this host without keys, expected key-file = \"/etc/meercat/"
                       "cluster.key\", made by meercat keygen");
}

static bool
has_reports(const struct pool_conf *p)
{
    for (unsigned i = 0; i < p->n_servers; i++)
        if (server_conf_reports(&p->servers[i]))
            return true;
    return false;
}

/* Of balance = auto. */
static const struct policy *
policy_of(const struct pool_conf *p)
{
    return policy_find(has_reports(p) ? STR("resource") : STR("least-request"));
}

/* A name without TLS was meant for something. */
static void
check_tls_names(struct conf_run *run, struct conf_at at, const struct pool_conf *p)
{
    for (unsigned i = 0; i < p->n_servers; i++) {
        const struct server_conf *s = &p->servers[i];

        if (s->tls_name != NULL && !p->tls.given)
            conf_run_warning(run, at, "server \"%s\": tls-name has no effect, expected tls {...}",
                             s->name);
        if (s->agent_tls_name != NULL && !p->agent_tls.given)
            conf_run_warning(
                run, at, "server \"%s\": agent-tls-name has no effect, expected agent-tls {...}",
                s->name);
    }
}

/* What the pool says of PROXY headers holds for servers that say nothing. */
static void
check_send_proxy(struct conf_run *run, struct conf_at at, struct pool_conf *p)
{
    bool version_2 = false, any = false;

    for (unsigned i = 0; i < p->n_servers; i++) {
        struct server_conf *s = &p->servers[i];

        if (s->send_proxy == PROXY_OUT_POOL)
            s->send_proxy = p->send_proxy;
        version_2 |= s->send_proxy == PROXY_OUT_V2;
        any |= s->send_proxy != PROXY_OUT_OFF;
    }
    if (any && (p->protocol == POOL_H2 || p->protocol == POOL_AUTO))
        conf_run_fault(run, at,
                       "pool \"%s\": send-proxy on connections that many clients share, expected "
                       "protocol = \"http1\"",
                       p->name);
    if (p->proxy_tlvs != 0 && !version_2)
        conf_run_warning(run, at,
                         "pool \"%s\": send-proxy-tlvs has no effect, expected send-proxy = \"v2\"",
                         p->name);
}

static void
check_pools(struct conf_run *run, const struct conf *c)
{
    for (unsigned i = 0; i < c->n_pools; i++) {
        struct pool_conf *p = &c->pools[i];
        struct conf_at at = run->text->sections[CONF_POOL][i];

        if (p->policy == NULL)
            p->policy = policy_of(p);
        if (has_reports(p) && p->policy != policy_find(STR("resource")))
            conf_run_warning(run, at,
                             "pool \"%s\": agent has no effect, expected balance = \"resource\"",
                             p->name);

        if (p->rules.n > 0 && p->policy != policy_find(STR("resource")))
            conf_run_warning(run, at,
                             "pool \"%s\": class has no effect, expected balance = \"resource\"",
                             p->name);
        check_tls_names(run, at, p);
        if (p->n_servers == 0)
            conf_run_fault(run, at, "pool \"%s\" has no server, expected server \"name\" {...}",
                           p->name);
        if (p->health.eject_max_ns < p->health.eject_ns)
            conf_run_fault(run, at, "pool \"%s\": eject-max is less than eject-time, expected more",
                           p->name);
        if (p->hash_by != POOL_HASH_ADDRESS && p->policy != policy_find(STR("hash")))
            conf_run_warning(run, at,
                             "pool \"%s\": hash-by has no effect, expected balance = \"hash\"",
                             p->name);
        check_send_proxy(run, at, p);
    }
}

/* Whoever could send a header could be anybody: so it must be said who may. */
static void
check_proxy_from(struct conf_run *run, struct conf_at at, const struct listener_conf *l)
{
    if (l->proxy != PROXY_IN_OFF && l->n_proxy_from == 0)
        conf_run_fault(run, at,
                       "listen \"%s\": proxy-protocol without proxies, expected "
                       "proxy-protocol-from = {\"10.0.0.0/8\"} or other networks",
                       l->name);
    if (l->proxy == PROXY_IN_OFF && l->n_proxy_from > 0)
        conf_run_warning(run, at,
                         "listen \"%s\": proxy-protocol-from has no effect, expected "
                         "proxy-protocol = \"required\" or \"mixed\"",
                         l->name);
}

/* Why connections of this listener cannot be taken over; NULL: they can. */
static const char *
unprotectable(const struct listener_conf *l)
{
    if (l->tls.given)
        return "tls";
    if (l->proxy != PROXY_IN_OFF)
        return "proxy-protocol";
    if (l->protocol == LISTENER_H2)
        return "protocol = h2";
    return l->protocol == LISTENER_TCP ? "protocol = tcp" : NULL;
}

static void
check_protect(struct conf_run *run, struct conf_at at, const struct conf *c,
              const struct listener_conf *l)
{
    if (!l->takeover.given)
        return;
    if (!c->cluster.given)
        conf_run_fault(run, at,
                       "listen \"%s\": takeover without other balancers, expected cluster {...} at "
                       "the top",
                       l->name);
    else if (unprotectable(l) != NULL)
        conf_run_warning(run, at,
                         "listen \"%s\": takeover has no effect with %s, expected plain HTTP/1",
                         l->name, unprotectable(l));
}

/* Its keys are of use to listeners that want it. */
static void
check_takeover(struct conf_run *run, const struct conf *c)
{
    bool wanted = false;

    for (unsigned i = 0; i < c->n_listeners; i++)
        wanted |= c->listeners[i].takeover.given;
    if (c->takeover.given && !wanted)
        conf_run_warning(run, run->text->sections[CONF_TAKEOVER][0],
                         "takeover has no effect, expected takeover {} in a listen section, too");
}

static void
check_listeners(struct conf_run *run, const struct conf *c)
{
    for (unsigned i = 0; i < c->n_listeners; i++) {
        struct listener_conf *l = &c->listeners[i];

        /* a target is part of the head: a smaller head-max bounds it too, whatever was said of it
         */
        if (l->limits.target_bytes > l->limits.head_bytes)
            l->limits.target_bytes = l->limits.head_bytes;
        check_proxy_from(run, run->text->sections[CONF_LISTEN][i], l);
        check_protect(run, run->text->sections[CONF_LISTEN][i], c, l);
    }
}

/* An address is carried once. */
static void
check_vip_twice(struct conf_run *run, const struct conf *c, unsigned v, unsigned i)
{
    const struct addr *a = &c->vips[v].addrs[i].base;
    char text[ADDR_TEXT];

    for (unsigned w = 0; w <= v; w++)
        for (unsigned k = 0; k < (w < v ? c->vips[w].n_addrs : i); k++)
            if (addr_eq(a, &c->vips[w].addrs[k].base))
                conf_run_fault(run, run->text->sections[CONF_VIP][v],
                               "vip \"%s\": %s is there twice, expected once", c->vips[v].name,
                               addr_ip_text(a, text));
}

static void
check_vip_mode(struct conf_run *run, struct conf_at at, const struct conf *c,
               const struct vip_conf *v)
{
    if (v->mode != VIP_CLUSTER)
        return;
    if (!c->cluster.given)
        conf_run_fault(run, at,
                       "vip \"%s\": mode = cluster without a cluster, expected cluster {...}",
                       v->name);
    if (strcmp(v->interface, "lo") == 0)
        conf_run_fault(run, at,
                       "vip \"%s\": mode = cluster on lo, where nobody asks for addresses, "
                       "expected interface = \"eth0\" or another",
                       v->name);
}

static void
check_vips(struct conf_run *run, const struct conf *c)
{
    unsigned n = 0;

    for (unsigned v = 0; v < c->n_vips; v++) {
        struct conf_at at = run->text->sections[CONF_VIP][v];

        n += c->vips[v].n_addrs;
        for (unsigned i = 0; i < c->vips[v].n_addrs; i++)
            check_vip_twice(run, c, v, i);
        check_vip_mode(run, at, c, &c->vips[v]);
    }
    if (n > KEEPER_SLOTS)
        conf_run_fault(run, run->text->sections[CONF_VIP][0],
                       "%u addresses in vip sections, expected at most %d", n, KEEPER_SLOTS);
}

/* What must be there at all; the first line of the first file is as good a place as any. */
static void
check_presence(struct conf_run *run, const struct conf *c)
{
    struct conf_at at = {0, 1};

    if (c->n_listeners == 0)
        conf_run_fault(run, at, "no listener, expected listen \"name\" { bind = ... }");
    if (c->n_pools == 0)
        conf_run_fault(run, at, "no pool, expected pool \"name\" { server ... }");
    if (c->n_routes == 0)
        conf_run_fault(run, at, "no route, expected route \"name\" { pool = ... }");
}

static const struct listener_conf *
listener_named(const struct conf *c, const char *name)
{
    for (unsigned i = 0; i < c->n_listeners; i++)
        if (strcmp(c->listeners[i].name, name) == 0)
            return &c->listeners[i];
    return NULL;
}

static bool
names_listener(const struct route_conf *r, const char *name)
{
    for (unsigned i = 0; i < r->n_listeners; i++)
        if (strcmp(r->listeners[i], name) == 0)
            return true;
    return false;
}

static void
check_listener_ref(struct conf_run *run, struct conf_at at, const struct conf *c, const char *name)
{
    const struct listener_conf *l = listener_named(c, name);
    struct near near = {.asked = str_of(name)};

    if (l != NULL && l->protocol != LISTENER_TCP)
        conf_run_fault(run, at,
                       "listen: \"%s\" takes requests, expected a listener with protocol = tcp",
                       name);
    if (l != NULL)
        return;
    for (unsigned i = 0; i < c->n_listeners; i++)
        near_offer(&near, c->listeners[i].name);
    conf_run_fault(run, at, "listen: there is no listener \"%s\", expected %s%s%s", name,
                   near.best ? "\"" : "the name of a listener", near.best ? near.best : "",
                   near.best ? "\" perhaps" : "");
}

/* A route is for requests, or for connections of the listeners that it names. */
static void
check_route_kinds(struct conf_run *run, const struct conf *c)
{
    for (unsigned i = 0; i < c->n_routes; i++) {
        const struct route_conf *r = &c->routes[i];
        struct conf_at at = run->text->sections[CONF_ROUTE][i];

        for (unsigned k = 0; k < r->n_listeners; k++)
            check_listener_ref(run, at, c, r->listeners[k]);
        if (r->n_listeners == 0 && r->n_names > 0)
            conf_run_fault(run, at,
                           "route \"%s\" has sni without listen, expected the name of a listener "
                           "with protocol = tcp",
                           r->name);
        if (r->n_listeners > 0 && (r->n_hosts > 0 || r->path != NULL))
            conf_run_fault(run, at,
                           "route \"%s\" has listen and host or path, expected sni or nothing: "
                           "connections have no requests",
                           r->name);
    }
}

static const struct pool_conf *
pool_named(const struct conf *c, const char *name)
{
    for (unsigned i = 0; i < c->n_pools && name != NULL; i++)
        if (strcmp(c->pools[i].name, name) == 0)
            return &c->pools[i];
    return NULL;
}

/* What has no effect, or no place, where connections are passed through. */
static void
check_tcp(struct conf_run *run, const struct conf *c)
{
    for (unsigned i = 0; i < c->n_listeners; i++) {
        bool routed = c->listeners[i].protocol != LISTENER_TCP;

        for (unsigned k = 0; k < c->n_routes && !routed; k++)
            routed = names_listener(&c->routes[k], c->listeners[i].name);
        if (!routed)
            conf_run_warning(run, run->text->sections[CONF_LISTEN][i],
                             "listen \"%s\": no route leads from it, expected route \"name\" { "
                             "listen = \"%s\" ... }",
                             c->listeners[i].name, c->listeners[i].name);
    }
    for (unsigned i = 0; i < c->n_routes; i++) {
        const struct pool_conf *p = pool_named(c, c->routes[i].pool);

        if (c->routes[i].n_listeners == 0 && p != NULL && p->protocol == POOL_TCP)
            conf_run_fault(
                run, run->text->sections[CONF_ROUTE][i],
                "route \"%s\": its pool has protocol = tcp and gets no requests, expected "
                "another pool, or listen",
                c->routes[i].name);
        if (c->routes[i].n_listeners > 0 && p != NULL && p->hash_by != POOL_HASH_ADDRESS)
            conf_run_warning(run, run->text->sections[CONF_ROUTE][i],
                             "route \"%s\": hash-by of its pool has no effect on connections, "
                             "expected address",
                             c->routes[i].name);
    }
}

static bool
covers_connections(const struct route_conf *a, const struct route_conf *b)
{
    for (unsigned i = 0; i < b->n_listeners; i++)
        if (!names_listener(a, b->listeners[i]))
            return false;
    if (b->n_names == 0)
        return a->n_names == 0;
    for (unsigned i = 0; i < b->n_names; i++)
        if (!route_matches_name(a, str_of(b->names[i])))
            return false;
    return true;
}

/* Every request that b takes, a takes too: a has no path or one that covers b's, and every host. */
static bool
covers(const struct route_conf *a, const struct route_conf *b)
{
    if (a->n_listeners > 0 || b->n_listeners > 0)
        return a->n_listeners > 0 && b->n_listeners > 0 && covers_connections(a, b);
    if (b->n_hosts == 0)
        return a->n_hosts == 0 && route_matches(a, STR("host"), str_of(b->path ? b->path : "/"));
    for (unsigned i = 0; i < b->n_hosts; i++) {
        /* the pattern itself stands for the hosts below it: "*.b.org" is covered by "*.org" */
        if (!route_matches(a, str_of(b->hosts[i]), str_of(b->path ? b->path : "/")))
            return false;
    }
    return true;
}

/* Quadratic, with a bound: a thousand routes are half a million comparisons of some bytes. */
#define ROUTES_COMPARED_MAX 2000

static void
check_routes(struct conf_run *run, const struct conf *c)
{
    unsigned n = c->n_routes < ROUTES_COMPARED_MAX ? c->n_routes : ROUTES_COMPARED_MAX;

    for (unsigned i = 1; i < n; i++)
        for (unsigned j = 0; j < i; j++) {
            if (!covers(&c->routes[j], &c->routes[i]))
                continue;
            conf_run_warning(
                run, run->text->sections[CONF_ROUTE][i],
                "route \"%s\" is never reached, expected before route \"%s\", which takes all "
                "its requests",
                c->routes[i].name, c->routes[j].name);
            break;
        }
}

void
conf_check(struct conf_run *run, const struct conf *c)
{
    check_presence(run, c);
    check_vips(run, c);
    check_listeners(run, c);
    check_takeover(run, c);
    check_binds(run);
    check_pools(run, c);
    check_pool_refs(run, c);
    check_route_kinds(run, c);
    check_tcp(run, c);
    check_routes(run, c);
}
