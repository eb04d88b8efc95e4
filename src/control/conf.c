/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conf.c - a configuration file, read and checked.
 *
 *  1. conf_text.c walks the files: syntax, unknown options, duplicates; it yields one clean text.
 *  2. conf_tree.c has libconfuse read that; each value is checked as it is met, so that its line is
 *     known.
 *  3. The tree that libconfuse built is turned into the structs of the rooms.
 *  4. What concerns several sections is checked (conf_check.c).
 */
#include "control/conf.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/map.h"
#include "control/conf_check.h"
#include "control/conf_digest.h"
#include "control/conf_keys.h"
#include "conf/conf_tree.h"

/* --- 2. values ---------------------------------------------------------------------------------
 */

/* The section has exactly the keys of one place, in their order. */
static bool
has_keys_of(const cfg_t *cfg, enum conf_place place)
{
    const cfg_opt_t *o = cfg->opts;

    for (const struct conf_key *k = conf_keys; k->name != NULL; k++)
        if (k->place == place && (o->name == NULL || strcmp(k->name, (o++)->name) != 0))
            return false;
    return o->name == NULL;
}

static enum conf_place
place_of(const cfg_t *cfg)
{
    for (int p = CONF_TOP + 1; p < CONF_N_PLACES; p++)
        if (strcmp(conf_place_name((enum conf_place)p), cfg->name) == 0 &&
            has_keys_of(cfg, (enum conf_place)p))
            return (enum conf_place)p;
    return CONF_TOP;
}

/* Each value is looked at as it is met, so that faults have its line. */
static const char *
on_value(void *arg, cfg_t *cfg, const char *name, const char *value, struct conf_at at)
{
    struct conf_run *run = arg;
    const struct conf_key *k = conf_key_find(place_of(cfg), str_of(name));
    struct errbuf e;

    MC_ASSERT(k != NULL);
    if (!conf_value(k, value, NULL, &e))
        conf_run_fault(run, at, "%s", e.text);
    else if (k->kind == CONF_BIND)
        conf_run_bind(run, value, at);
    else if (k->kind == CONF_POOL_REF)
        conf_run_pool_ref(run, value, at);
    else if (k->place == CONF_TLS || k->place == CONF_POOL_TLS || k->place == CONF_AGENT_TLS)
        conf_run_tls_value(run, cfg, k, at);
    return value;
}

/* --- 3. structs --------------------------------------------------------------------------------
 */

/* Where the i-th section of a place begins. */
static struct conf_at
section_at(const struct conf_run *run, enum conf_place place, unsigned i)
{
    MC_ASSERT(i < run->text->n_sections[place]);
    return run->text->sections[place][i];
}

/* Stores the values of a section, or the defaults of what it does not say.  cfg NULL: the section
 * is not there.  What is faulty was reported before and keeps its default. */
static void
fill(struct conf_run *run, cfg_t *cfg, enum conf_place place, struct conf_at at, void *object)
{
    for (const struct conf_key *k = conf_keys; k->name != NULL; k++) {
        cfg_opt_t *opt;
        unsigned n;

        if (k->place != place || k->kind == CONF_SECTION)
            continue;
        opt = cfg != NULL ? cfg_getopt(cfg, k->name) : NULL;
        n = opt != NULL ? cfg_opt_size(opt) : 0;
        if (n == 0)
            conf_value_default(k, object);
        if (n == 0 && k->required && cfg != NULL)
            conf_run_fault(run, at, "%s%s%s%s: no %s, expected %s = %s", conf_place_name(place),
                           cfg->title ? " \"" : "", cfg->title ? cfg->title : "",
                           cfg->title ? "\"" : "", k->name, k->name, conf_kind_name(k->kind));
        for (unsigned i = 0; i < n; i++)
            if (!conf_value(k, cfg_opt_getnstr(opt, i), object, NULL))
                conf_value_default(k, object);
    }
}

/* The only section of its name, or NULL. */
static cfg_t *
one_section(cfg_t *cfg, const char *name)
{
    return cfg_size(cfg, name) > 0 ? cfg_getnsec(cfg, name, 0) : NULL;
}

static void
fill_servers(struct conf_run *run, cfg_t *cfg, struct pool_conf *p)
{
    p->n_servers = cfg_size(cfg, "server");
    p->servers = mc_alloc((p->n_servers + 1) * sizeof(*p->servers));
    for (unsigned i = 0; i < p->n_servers; i++) {
        cfg_t *sec = cfg_getnsec(cfg, "server", i);
        struct conf_at at = section_at(run, CONF_SERVER, run->next_server++);

        p->servers[i].name = mc_strdup(cfg_title(sec));
        fill(run, sec, CONF_SERVER, at, &p->servers[i]);
    }
}

/* A faulty value counts: it was reported. */
static bool
says_something(cfg_t *cfg, enum conf_place place)
{
    for (const struct conf_key *k = conf_keys; k->name != NULL; k++)
        if (k->place == place && cfg_size(cfg, k->name) > 0)
            return true;
    return false;
}

static void
fill_classes(struct conf_run *run, cfg_t *cfg, struct pool_conf *p)
{
    p->rules.n = cfg_size(cfg, conf_place_name(CONF_CLASS));
    p->rules.v = mc_alloc((p->rules.n + 1) * sizeof(*p->rules.v));
    for (unsigned i = 0; i < p->rules.n; i++) {
        cfg_t *sec = cfg_getnsec(cfg, conf_place_name(CONF_CLASS), i);
        struct conf_at at = section_at(run, CONF_CLASS, run->next_class++);

        p->rules.v[i].name = mc_strdup(cfg_title(sec));
        fill(run, sec, CONF_CLASS, at, &p->rules.v[i]);
        if (!says_something(sec, CONF_CLASS))
            conf_run_fault(run, at,
                           "class \"%s\" is empty, expected method, path, header, query or grpc",
                           p->rules.v[i].name);
        conf_check_class(run, at, p, i);
    }
}

static void
fill_dial(struct conf_run *run, cfg_t *cfg, enum conf_place place, unsigned *next,
          struct pool_conf *p, struct pool_tls_conf *t)
{
    cfg_t *sec = one_section(cfg, conf_place_name(place));
    struct conf_at at = {0, 1};

    t->given = sec != NULL;
    if (sec == NULL)
        return;
    at = section_at(run, place, (*next)++);
    fill(run, sec, place, at, p);
    conf_tls_load_dial(run, sec, at, p, t);
}

static void
fill_pool(struct conf_run *run, cfg_t *cfg, unsigned i, struct pool_conf *p)
{
    cfg_t *check = one_section(cfg, conf_place_name(CONF_CHECK));
    struct conf_at at = section_at(run, CONF_POOL, i);

    p->name = mc_strdup(cfg_title(cfg));
    fill(run, cfg, CONF_POOL, at, p);
    fill(run, check, CONF_CHECK, at, p);
    if (check == NULL)
        p->check.kind = POOL_CHECK_NONE;
    p->health.check = p->check.kind != POOL_CHECK_NONE;
    fill_servers(run, cfg, p);
    fill_dial(run, cfg, CONF_POOL_TLS, &run->next_pool_tls, p, &p->tls);
    fill_dial(run, cfg, CONF_AGENT_TLS, &run->next_agent_tls, p, &p->agent_tls);
    fill_classes(run, cfg, p);
}

static void
fill_listener(struct conf_run *run, cfg_t *cfg, unsigned i, struct listener_conf *l)
{
    cfg_t *tls = one_section(cfg, conf_place_name(CONF_TLS));
    cfg_t *protect = one_section(cfg, conf_place_name(CONF_PROTECT));
    struct conf_at at;

    l->name = mc_strdup(cfg_title(cfg));
    fill(run, cfg, CONF_LISTEN, section_at(run, CONF_LISTEN, i), l);
    fill(run, one_section(cfg, conf_place_name(CONF_HTTP2)), CONF_HTTP2,
         section_at(run, CONF_LISTEN, i), l);
    fill(run, protect, CONF_PROTECT, section_at(run, CONF_LISTEN, i), l);
    l->takeover.given = protect != NULL;
    l->tls.given = tls != NULL;
    if (tls == NULL)
        return;
    at = section_at(run, CONF_TLS, run->next_tls++);
    fill(run, tls, CONF_TLS, at, l);
    conf_tls_load(run, tls, at, l);
}

static void
fill_admin(struct conf_run *run, cfg_t *cfg, struct conf *c)
{
    cfg_t *sec = one_section(cfg, conf_place_name(CONF_ADMIN));

    fill(run, sec, CONF_ADMIN, (struct conf_at){0, 1}, &c->admin);
    c->admin.socket_is_default = sec == NULL || cfg_size(sec, "socket") == 0;
}

static void
fill_cluster(struct conf_run *run, cfg_t *cfg, struct conf *c)
{
    cfg_t *sec = one_section(cfg, conf_place_name(CONF_CLUSTER));
    struct conf_at at = {0, 1};

    c->cluster.given = sec != NULL;
    c->node_given = cfg_size(cfg, "node") > 0;
    if (sec == NULL)
        return;
    at = section_at(run, CONF_CLUSTER, 0);
    fill(run, sec, CONF_CLUSTER, at, &c->cluster);
    conf_check_cluster(run, at, c);
}

static void
fill_takeover(struct conf_run *run, cfg_t *cfg, struct conf *c)
{
    cfg_t *sec = one_section(cfg, conf_place_name(CONF_TAKEOVER));

    c->takeover.given = sec != NULL;
    fill(run, sec, CONF_TAKEOVER,
         sec != NULL ? section_at(run, CONF_TAKEOVER, 0) : (struct conf_at){0, 1}, &c->takeover);
}

static void
fill_access_log(struct conf_run *run, cfg_t *cfg, struct conf *c)
{
    cfg_t *sec = one_section(cfg, conf_place_name(CONF_ACCESS_LOG));
    struct conf_at at = {0, 1};

    if (sec != NULL)
        at = section_at(run, CONF_ACCESS_LOG, 0);
    fill(run, sec, CONF_ACCESS_LOG, at, &c->access_log);
}

static void
fill_fit(struct conf_run *run, cfg_t *cfg, struct conf *c)
{
    fill(run, one_section(cfg, conf_place_name(CONF_FIT)), CONF_FIT, (struct conf_at){0, 1},
         &c->fit);
}

/* An array for the sections of a place; each struct that goes there begins with its name. */
static void *
section_array(cfg_t *cfg, enum conf_place place, size_t elem_bytes, unsigned *n)
{
    *n = cfg_size(cfg, conf_place_name(place));
    return mc_alloc((*n + 1) * elem_bytes);
}

static void
fill_vips(struct conf_run *run, cfg_t *cfg, struct conf *c)
{
    c->vips = section_array(cfg, CONF_VIP, sizeof(*c->vips), &c->n_vips);
    for (unsigned i = 0; i < c->n_vips; i++) {
        cfg_t *sec = cfg_getnsec(cfg, conf_place_name(CONF_VIP), i);

        c->vips[i].name = mc_strdup(cfg_title(sec));
        fill(run, sec, CONF_VIP, section_at(run, CONF_VIP, i), &c->vips[i]);
    }
}

static void
build(struct conf_run *run, cfg_t *cfg, struct conf *c)
{
    fill(run, cfg, CONF_TOP, (struct conf_at){0, 1}, c);
    fill_access_log(run, cfg, c);
    fill_admin(run, cfg, c);
    fill_cluster(run, cfg, c);
    fill_takeover(run, cfg, c);
    fill_fit(run, cfg, c);
    fill_vips(run, cfg, c);
    c->listeners = section_array(cfg, CONF_LISTEN, sizeof(*c->listeners), &c->n_listeners);
    for (unsigned i = 0; i < c->n_listeners; i++)
        fill_listener(run, cfg_getnsec(cfg, "listen", i), i, &c->listeners[i]);
    c->pools = section_array(cfg, CONF_POOL, sizeof(*c->pools), &c->n_pools);
    for (unsigned i = 0; i < c->n_pools; i++)
        fill_pool(run, cfg_getnsec(cfg, "pool", i), i, &c->pools[i]);
    c->routes = section_array(cfg, CONF_ROUTE, sizeof(*c->routes), &c->n_routes);
    for (unsigned i = 0; i < c->n_routes; i++) {
        cfg_t *sec = cfg_getnsec(cfg, "route", i);

        c->routes[i].name = mc_strdup(cfg_title(sec));
        fill(run, sec, CONF_ROUTE, section_at(run, CONF_ROUTE, i), &c->routes[i]);
    }
}

/* --- in and out --------------------------------------------------------------------------------
 */

/* Steps 2 to 4 on a text that was walked. */
static struct conf *
make(struct conf_run *run, const char *file)
{
    cfg_t *cfg = conf_tree_read(run->text, &conf_grammar, on_value, run, run->faults);
    struct conf *c;

    if (cfg == NULL)
        return NULL;
    c = mc_alloc(sizeof(*c));
    c->file = mc_strdup(file);
    build(run, cfg, c);
    cfg_free(cfg);
    conf_check(run, c);
    conf_digest(c, (struct str){run->text->text.p ? run->text->text.p : "", run->text->text.n});
    return c;
}

static enum mc_err
finish(struct conf_text *t, bool walked, bool with_files, const char *file, struct conf **out,
       struct conf_faults *faults)
{
    struct conf_run run = {.text = t, .faults = faults, .with_files = with_files};
    struct conf *c = walked ? make(&run, file) : NULL;

    conf_run_fini(&run);
    conf_text_free(t);
    conf_faults_sort(faults);
    *out = NULL;
    if (faults->n_errors > 0) {
        conf_free(&c);
        return MC_ESYNTAX;
    }
    *out = c;
    return MC_OK;
}

enum mc_err
conf_load(const char *path, struct conf **out, struct conf_faults *faults)
{
    struct conf_text t = {0};

    return finish(&t, conf_text_load(&t, &conf_grammar, path, faults), true, path, out, faults);
}

enum mc_err
conf_parse(const char *name, struct str text, struct conf **out, struct conf_faults *faults)
{
    struct conf_text t = {0};

    return finish(&t, conf_text_parse(&t, &conf_grammar, name, text, faults), false, name, out,
                  faults);
}

/* --- memory ------------------------------------------------------------------------------------
 */

static void
free_list(char **list, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        free(list[i]);
    free(list);
}

static void
tls_fini(struct tls_conf *t)
{
    free_list(t->certificates, t->n_certificates);
    free_list(t->client_cas, t->n_client_cas);
    free(t->ciphers);
    free(t->ciphersuites);
    free(t->crl);
    tls_domain_unref(&t->domain);
}

void
conf_listener_fini(struct listener_conf *l)
{
    tls_fini(&l->tls);
    free(l->name);
    free(l->binds);
    free(l->trusted);
    free(l->proxy_from);
    free(l->server_header);
    *l = (struct listener_conf){0};
}

void
conf_route_fini(struct route_conf *r)
{
    free_list(r->hosts, r->n_hosts);
    free_list(r->listeners, r->n_listeners);
    free_list(r->names, r->n_names);
    free(r->name);
    free(r->path);
    free(r->pool);
    *r = (struct route_conf){0};
}

static void
vip_fini(struct vip_conf *v)
{
    free(v->name);
    free(v->addrs);
    free(v->interface);
}

void
conf_free(struct conf **cp)
{
    struct conf *c = *cp;

    if (c == NULL)
        return;
    *cp = NULL;
    for (unsigned i = 0; i < c->n_listeners; i++)
        conf_listener_fini(&c->listeners[i]);
    for (unsigned i = 0; i < c->n_pools; i++)
        pool_conf_free(&c->pools[i]);
    for (unsigned i = 0; i < c->n_routes; i++)
        conf_route_fini(&c->routes[i]);
    for (unsigned i = 0; i < c->n_vips; i++)
        vip_fini(&c->vips[i]);
    free(c->vips);
    free(c->listeners);
    free(c->pools);
    free(c->routes);
    free(c->file);
    free(c->user);
    free(c->group);
    free(c->node);
    free(c->pid_file);
    free(c->state_dir);
    free(c->resolvers);
    free(c->access_log.file);
    free(c->admin.socket);
    free_list(c->cluster.join, c->cluster.n_join);
    free(c->cluster.key_file);
    free_list(c->takeover.interfaces, c->takeover.n_interfaces);
    free(c->takeover.witnesses);
    free(c);
}
