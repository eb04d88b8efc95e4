/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fleet.c - all that lives: building pools for a snapshot, putting them in force, the operator's
 * word.  Control thread.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <poll.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "fleet/care.h"
#include "fleet/company_priv.h"
#include "fleet/follow.h"
#include "fleet/live.h"
#include "fleet/open.h"
#include "fleet/resolve.h"
#include "io/loop.h"

static mc_ns
time_now(const struct fleet *f)
{
    return f->loop ? loop_now(f->loop) : units_clock_ns();
}

/* --- birth ---------------------------------------------------------------------------------------
 */

static void
on_event(struct watch *w, unsigned revents)
{
    struct fleet *f = container_of(w, struct fleet, watch);
    uint64_t n;

    /* emptied before the list is read: what comes later wakes again */
    if (read(f->event_fd, &n, sizeof(n)) > 0)
        care_events(f);
    watch_arm(w, POLLIN);
}

struct fleet *
fleet_new(unsigned n_workers, struct loop *loop, struct dns *dns, void (*on_open)(void *arg),
          void *arg)
{
    struct fleet *f = mc_alloc(sizeof(*f));

    atomic_init(&f->refs, 1);
    f->n_workers = n_workers;
    f->loop = loop;
    f->dns = dns;
    f->on_open = on_open;
    f->on_open_arg = arg;
    f->event_fd = -1;
    pthread_mutex_init(&f->lock, NULL);
    pthread_mutex_init(&f->events_lock, NULL);
    list_init(&f->events);
    list_init(&f->lookups);
    rng_seed_os(&f->rng);
    list_init(&f->agent_lookups);
    f->brains = brains_new(f);
    if (loop) {
        tls_turns_init(&f->turns, loop);
        f->watches = watches_new(loop, &f->turns, &f->rng);
        f->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        MC_ASSERT(f->event_fd >= 0);
        watch_init(&f->watch, loop, f->event_fd, on_event);
        watch_arm(&f->watch, POLLIN);
    }
    return f;
}

/* --- building ------------------------------------------------------------------------------------
 */

/* The identity's own state: none of it is seen by anybody before fleet_adopt(). */
static enum mc_err
make_server(struct live *l, const struct pool_conf *pc, const struct server_conf *sc,
            struct server **out, struct errbuf *err)
{
    struct addr addr;
    enum mc_err rv = addr_parse(str_of(sc->address), &addr, NULL, NULL, err);
    bool is_name = rv == MC_ENOENT;
    mc_ns now = time_now(l->fleet);
    struct entry *e;

    if (rv != MC_OK && !is_name) {
        err_wrap(err, "pool %s: server %s", pc->name, sc->name);
        return rv;
    }
    e = entry_find(l, sc->name, sc->address);
    if (!e) {
        e = entry_new(l, sc->name, sc->address);
        if (!is_name)
            entry_set_addrs(e, &addr, 1);
        health_init(&e->s.health, &pc->health, sc->state, !is_name, now, units_wall_ns());
    }
    *out = &e->s;
    return MC_OK;
}

static enum mc_err
check_unique(struct map *seen, const char *name, const char *what, struct errbuf *err)
{
    if (!map_put(seen, str_of(name), seen))
        return MC_OK;
    err_set(err, "%s %s: exists already", what, name);
    return MC_EEXIST;
}

static enum mc_err
make_servers(struct pool *p, struct errbuf *err)
{
    struct live *l = live_of(p->live);
    struct map seen = {0};
    enum mc_err rv = MC_OK;

    p->servers = mc_alloc((p->conf.n_servers + 1) * sizeof(struct server *));
    for (unsigned i = 0; i < p->conf.n_servers && rv == MC_OK; i++) {
        const struct server_conf *sc = &p->conf.servers[i];

        rv = check_unique(&seen, sc->name, "server", err);
        if (rv != MC_OK)
            err_wrap(err, "pool %s", p->conf.name);
        else
            rv = make_server(l, &p->conf, sc, &p->servers[i], err);
        p->view.n += rv == MC_OK;
    }
    map_free(&seen);
    return rv;
}

static void
make_view(struct pool *p)
{
    struct place_load **load = mc_alloc((p->view.n + 1) * sizeof(struct place_load *));
    uint64_t *id_hash = mc_alloc((p->view.n + 1) * sizeof(*id_hash));

    for (unsigned i = 0; i < p->view.n; i++) {
        load[i] = &p->servers[i]->load;
        id_hash[i] = p->servers[i]->name_hash;
    }
    p->view.load = load;
    p->view.id_hash = id_hash;
    p->view.in_flight = &p->live->in_flight;
    p->view.open_weight = &live_of(p->live)->open_weight;
}

/* The weight that a server will have: the operator's stays until the configured one changes. */
static unsigned
coming_weight(const struct entry *e, unsigned conf_weight)
{
    return e->adopted_once && e->conf_weight == conf_weight ? e->weight : conf_weight;
}

/* Tables are made of the weights to come; the live ones may be about to change, or be small because
 * a server is only just back. */
static void
make_shared(struct pool *p)
{
    const struct policy *policy = p->conf.policy;
    struct place_load *load, **at;
    struct place_view v = p->view;

    if (!policy->shared_new)
        return;
    load = mc_alloc_lines((v.n + 1) * sizeof(*load));
    at = mc_alloc((v.n + 1) * sizeof(struct place_load *));
    for (unsigned i = 0; i < v.n; i++) {
        unsigned w = coming_weight(entry_of(p->servers[i]), p->conf.servers[i].weight);

        atomic_init(&load[i].weight, w * PLACE_WEIGHT_UNIT);
        at[i] = &load[i];
    }
    v.load = at;
    p->policy_shared = policy->shared_new(&v, &p->conf.params);
    free(at);
    free(load);
}

static enum mc_err
make_pool(struct fleet *f, struct pool_conf *conf, unsigned index, struct pool **out,
          struct errbuf *err)
{
    struct pool *p = mc_alloc(sizeof(*p));
    enum mc_err rv;

    p->conf = *conf;
    memset(conf, 0, sizeof(*conf));
    if (!p->conf.policy)
        p->conf.policy = policy_at(0);
    p->conf.health.check = p->conf.check.kind != POOL_CHECK_NONE;
    p->index = index;
    p->live = &live_get(f, p->conf.name)->pub;
    rv = make_servers(p, err);
    if (rv != MC_OK) {
        pool_free(&p);
        return rv;
    }
    make_view(p);
    make_shared(p);
    if (p->conf.policy == policy_find(STR("resource"))) {
        p->brain = brain_get(f->brains, p);
        p->view.table = p->brain->table;
    }
    *out = p;
    return MC_OK;
}

enum mc_err
fleet_build(struct fleet *f, struct pool_conf *confs, unsigned n, struct pool ***out,
            struct errbuf *err)
{
    struct pool **pools = mc_alloc((n + 1) * sizeof(struct pool *));
    struct map seen = {0};
    enum mc_err rv = MC_OK;

    for (unsigned i = 0; i < n && rv == MC_OK; i++) {
        rv = check_unique(&seen, confs[i].name, "pool", err);
        if (rv == MC_OK)
            rv = make_pool(f, &confs[i], i, &pools[i], err);
    }
    map_free(&seen);
    if (rv == MC_OK) {
        *out = pools;
        return MC_OK;
    }
    for (unsigned i = 0; i < n; i++) {
        pool_free(&pools[i]);
        pool_conf_free(&confs[i]);
    }
    free(pools);
    return rv;
}

/* --- putting in force ---------------------------------------------------------------------------
 */

/* The operator's words on state and weight stay until the configuration says something new itself.
 */
static void
apply_conf(struct entry *e, const struct pool_conf *pc, const struct server_conf *sc, mc_ns now)
{
    int64_t wall = units_wall_ns();
    struct health *h = open_begin(e);
    bool changed = health_set_conf(h, &pc->health, now, wall);

    if (!e->adopted_once || e->conf_state != sc->state)
        changed |= health_set_admin(h, sc->state, "configuration", now, wall);
    e->weight = coming_weight(e, sc->weight);
    e->backup = sc->backup;
    e->conf_state = sc->state;
    e->conf_weight = sc->weight;
    e->adopted_once = true;
    open_end(e, changed, now);
    open_limit(e, sc->max_concurrent, e->agent_max);
}

/* Takes all members off; their array, referenced, is the caller's. */
static struct entry **
members_take(struct live *l, unsigned *n)
{
    struct entry **members;

    pthread_mutex_lock(&l->lock);
    members = l->members;
    *n = l->n_members;
    for (unsigned i = 0; i < *n; i++)
        members[i]->member = false;
    l->members = NULL;
    l->n_members = 0;
    pthread_mutex_unlock(&l->lock);
    return members;
}

static void
members_set(struct live *l, const struct pool *p)
{
    struct entry **members = mc_alloc((p->view.n + 1) * sizeof(struct entry *));

    pthread_mutex_lock(&l->lock);
    for (unsigned i = 0; i < p->view.n; i++) {
        members[i] = entry_of(server_ref(p->servers[i]));
        members[i]->member = true;
    }
    l->members = members;
    l->n_members = p->view.n;
    l->panic_percent = p->conf.panic_percent;
    pthread_mutex_unlock(&l->lock);
}

/* Those that are not members again are looked after no more.  A snapshot that is still in use may
 * send them requests, so they stay as open as they are. */
static void
members_drop(struct entry **members, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct server *s = &members[i]->s;

        if (!members[i]->member) {
            care_stop(members[i]);
            company_dropped(members[i]);
        }
        server_unref(&s);
    }
    free(members);
}

static void
adopt_pool(const struct pool *p, mc_ns now)
{
    struct live *l = live_of(p->live);
    unsigned n_old;
    struct entry **old = members_take(l, &n_old);

    /* nobody is a member now, so the changes have no effects one by one */
    for (unsigned i = 0; i < p->view.n; i++)
        apply_conf(entry_of(p->servers[i]), &p->conf, &p->conf.servers[i], now);
    members_set(l, p);
    open_recompute(l, now);
    members_drop(old, n_old);
    for (unsigned i = 0; i < p->view.n; i++)
        care_start(entry_of(p->servers[i]), &p->conf, &p->conf.servers[i]);
}

/* Ends what the pools named in the former adoption have and the present one has not. */
static void
retire(struct live *l)
{
    unsigned n;
    struct entry **members = members_take(l, &n);

    members_drop(members, n);
}

static bool
is_adopted(const struct fleet *f, const struct live *l)
{
    for (unsigned i = 0; i < f->n_adopted; i++)
        if (f->adopted[i] == l)
            return true;
    return false;
}

void
fleet_adopt(struct fleet *f, struct pool *const *pools, unsigned n)
{
    struct live **old = f->adopted;
    unsigned n_old = f->n_adopted;

    f->adopted = mc_alloc((n + 1) * sizeof(struct live *));
    f->n_adopted = n;
    f->n_checked = 0;
    for (unsigned i = 0; i < n; i++) {
        f->adopted[i] = live_ref(live_of(pools[i]->live));
        adopt_pool(pools[i], time_now(f));
    }
    for (unsigned i = 0; i < n_old; i++) {
        if (!is_adopted(f, old[i]))
            retire(old[i]);
        live_unref(old[i]);
    }
    free(old);
    company_adopted(f);
    brains_adopt(f->brains, pools, n);
}

struct brains *
fleet_brains(struct fleet *f)
{
    return f->brains;
}

/* --- the operator's word ------------------------------------------------------------------------
 */

static enum mc_err
find_member(const struct fleet *f, const char *pool, const char *server, struct entry **out,
            struct errbuf *err)
{
    const struct live *l = NULL;

    for (unsigned i = 0; i < f->n_adopted; i++)
        if (strcmp(f->adopted[i]->pub.name, pool) == 0)
            l = f->adopted[i];
    if (!l) {
        err_set(err, "no pool %s", pool);
        return MC_ENOENT;
    }
    for (unsigned i = 0; i < l->n_members; i++) {
        if (strcmp(l->members[i]->s.name, server) == 0) {
            *out = l->members[i];
            return MC_OK;
        }
    }
    err_set(err, "no server %s in pool %s", server, pool);
    return MC_ENOENT;
}

enum mc_err
fleet_set_admin(struct fleet *f, const char *pool, const char *server, enum health_admin admin,
                const char *why, struct errbuf *err)
{
    mc_ns now = time_now(f);
    struct entry *e;
    enum mc_err rv = find_member(f, pool, server, &e, err);
    bool changed;

    if (rv != MC_OK)
        return rv;
    changed = health_set_admin(open_begin(e), admin, why, now, units_wall_ns());
    open_end(e, changed, now);
    care_admin_changed(e);
    return MC_OK;
}

enum mc_err
fleet_set_weight(struct fleet *f, const char *pool, const char *server, unsigned weight,
                 struct errbuf *err)
{
    struct entry *e;
    enum mc_err rv = find_member(f, pool, server, &e, err);

    if (rv != MC_OK)
        return rv;
    if (weight > FLEET_WEIGHT_MAX) {
        err_set(err, "weight %u: above %u", weight, FLEET_WEIGHT_MAX);
        return MC_ERANGE;
    }
    pthread_mutex_lock(&e->live->lock);
    e->weight = weight;
    pthread_mutex_unlock(&e->live->lock);
    open_recompute(e->live, time_now(f));
    return MC_OK;
}

enum mc_err
fleet_unset_admin(struct fleet *f, const char *pool, const char *server, const char *why,
                  struct errbuf *err)
{
    struct entry *e;
    enum mc_err rv = find_member(f, pool, server, &e, err);

    return rv == MC_OK ? fleet_set_admin(f, pool, server, e->conf_state, why, err) : rv;
}

enum mc_err
fleet_unset_weight(struct fleet *f, const char *pool, const char *server, struct errbuf *err)
{
    struct entry *e;
    enum mc_err rv = find_member(f, pool, server, &e, err);

    return rv == MC_OK ? fleet_set_weight(f, pool, server, e->conf_weight, err) : rv;
}

struct server *
fleet_find(struct fleet *f, const char *pool, const char *server, struct errbuf *err)
{
    struct entry *e;

    return find_member(f, pool, server, &e, err) == MC_OK ? &e->s : NULL;
}

/* --- death --------------------------------------------------------------------------------------
 */

static void
drop_events(struct fleet *f)
{
    struct list events;

    list_init(&events);
    pthread_mutex_lock(&f->events_lock);
    list_splice(&events, &f->events);
    pthread_mutex_unlock(&f->events_lock);
    while (!list_empty(&events)) {
        struct server *s = &LIST_ENTRY(events.next, struct entry, event)->s;

        list_remove(events.next);
        server_unref(&s);
    }
}

void
fleet_free(struct fleet **fp)
{
    struct fleet *f = *fp;

    if (!f)
        return;
    *fp = NULL;
    fleet_adopt(f, NULL, 0);
    free(f->adopted);
    resolve_forget_all(f);
    brains_free(&f->brains);
    company_free(&f->company);
    follow_forget_all(f);
    watches_free(&f->watches);
    if (f->loop)
        tls_turns_fini(&f->turns);
    if (f->event_fd >= 0) {
        watch_drop(&f->watch);
        close(f->event_fd);
        f->event_fd = -1;
    }
    drop_events(f);
    f->on_open = NULL;
    fleet_unref(f);
}
