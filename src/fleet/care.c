/* SPDX-License-Identifier: BSD-2-Clause
 *
 * care.c - what the control thread does for a server of the configuration in force, see care.h.
 */
#include "fleet/care.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "fleet/company_priv.h"
#include "fleet/open.h"
#include "fleet/probe.h"
#include "fleet/resolve.h"
#include "fleet/words.h"

/* First checks of a start are spread: not more than a thousand a second begin. */
#define FIRST_CHECK_GAP_NS MC_MS

/* --- time ----------------------------------------------------------------------------------------
 */

static void
schedule(struct entry *e, mc_ns next)
{
    struct loop *loop = e->live->fleet->loop;

    if (!loop)
        return;
    if (next == MC_NEVER_NS)
        loop_timer_clear(loop, &e->tick);
    else
        loop_timer_set(loop, &e->tick, next);
}

/* An ejection ends, a weight grows, a probation is over; and when the next of these is due. */
static void
tick(struct entry *e)
{
    mc_ns now = loop_now(e->live->fleet->loop), next;
    struct health *h = open_begin(e);
    bool changed = health_tick(h, now, units_wall_ns());

    /* back from an ejection the count is 1 until a success clears it (open.c) */
    if (!changed && atomic_load_explicit(&e->s.fails, memory_order_relaxed) == 0)
        health_forgive(h, now);
    next = health_next(h, now);
    open_end(e, changed, now);
    schedule(e, next);
}

static void
on_tick(struct timer *t)
{
    tick(container_of(t, struct entry, tick));
}

void
care_events(struct fleet *f)
{
    struct list events;

    list_init(&events);
    pthread_mutex_lock(&f->events_lock);
    list_splice(&events, &f->events);
    pthread_mutex_unlock(&f->events_lock);
    while (!list_empty(&events)) {
        struct entry *e = LIST_ENTRY(events.next, struct entry, event);
        struct server *s = &e->s;

        pthread_mutex_lock(&f->events_lock);
        list_remove(&e->event);
        e->event.next = e->event.prev = NULL;
        pthread_mutex_unlock(&f->events_lock);
        if (e->member)
            tick(e);
        server_unref(&s);
    }
}

/* --- checks --------------------------------------------------------------------------------------
 */

static void
on_result(void *arg, bool ok, const char *why)
{
    struct entry *e = arg;
    mc_ns now = loop_now(e->live->fleet->loop), next;
    struct health *h = open_begin(e);
    bool changed = health_check_result(h, ok, why, now, units_wall_ns());

    next = health_next(h, now);
    open_end(e, changed, now);
    schedule(e, next);
    company_checked(e);
}

/* Spread by the number of servers that began before it, but within one interval. */
static mc_ns
first_check_delay(struct fleet *f, mc_ns interval)
{
    mc_ns spread = (mc_ns)f->n_checked++ * FIRST_CHECK_GAP_NS;

    return interval > 0 ? spread % interval : spread;
}

static void
start_probe(struct entry *e, mc_ns first_ns)
{
    struct fleet *f = e->live->fleet;

    if (!f->loop || e->probe || e->check.kind == POOL_CHECK_NONE ||
        health_admin_now(&e->s.health) == HEALTH_ADMIN_MAINT || !company_is_mine(e))
        return;
    e->probe = probe_new(f->loop, &f->turns, &e->s, &e->check, e->check.port, first_ns, &f->rng,
                         on_result, e);
}

static void
free_check(struct pool_check_conf *c)
{
    free(c->path);
    free(c->host);
    free(c->service);
    free(c->method);
    free(c->tls_name);
    tls_client_unref(&c->tls_client);
    memset(c, 0, sizeof(*c));
}

static char *
dup_or_null(const char *s)
{
    return s ? mc_strdup(s) : NULL;
}

static void
set_check(struct entry *e, const struct pool_conf *pc, const struct server_conf *sc)
{
    const struct pool_check_conf *c = &pc->check;

    free_check(&e->check);
    e->check = *c;
    e->check.path = dup_or_null(c->path);
    e->check.host = dup_or_null(c->host);
    e->check.service = dup_or_null(c->service);
    e->check.method = dup_or_null(c->method);
    e->check.port = sc->check_port ? sc->check_port : c->port;
    /* who listens on another port may be somebody else */
    e->check.send_proxy = e->check.port ? PROXY_OUT_OFF : sc->send_proxy;
    if (c->no_tls || pc->tls.client == NULL)
        return;
    e->check.tls_client = tls_client_ref(pc->tls.client);
    e->check.tls_name = dup_or_null(sc->tls_name);
}

void
care_admin_changed(struct entry *e)
{
    if (health_admin_now(&e->s.health) == HEALTH_ADMIN_MAINT)
        probe_free(&e->probe);
    else
        start_probe(e, 0);
    if (e->live->fleet->loop)
        tick(e); /* it may start slowly from here */
}

/* The verdict was about another machine: the next result decides alone. */
void
care_addr_changed(struct entry *e)
{
    health_check_restart(open_begin(e));
    open_end(e, false, loop_now(e->live->fleet->loop));
    probe_free(&e->probe);
    start_probe(e, 0);
    tick(e);
}

/* --- start and stop -----------------------------------------------------------------------------
 */

static void
start_resolve(struct entry *e)
{
    struct fleet *f = e->live->fleet;
    struct addr a;
    struct str host;
    uint16_t port;

    if (!f->loop || !f->dns || e->resolve)
        return;
    if (addr_parse(str_of(e->s.address_text), &a, &host, &port, NULL) == MC_ENOENT)
        e->resolve = resolve_new(e, host, port);
}

void
care_start(struct entry *e, const struct pool_conf *pc, const struct server_conf *sc)
{
    e->tick.fn = on_tick;
    set_check(e, pc, sc);
    if (e->probe &&
        (e->check.kind == POOL_CHECK_NONE || !probe_is_same(e->probe, &e->check, e->check.port)))
        probe_free(&e->probe);
    if (health_admin_now(&e->s.health) == HEALTH_ADMIN_MAINT)
        probe_free(&e->probe);
    start_resolve(e);
    if (!e->probe)
        start_probe(e, first_check_delay(e->live->fleet, e->check.interval_ns));
    words_follow(e, sc, pc->report_interval_ns);
    if (e->live->fleet->loop)
        tick(e);
}

void
care_owner_changed(struct entry *e)
{
    if (company_is_mine(e)) {
        start_probe(e, first_check_delay(e->live->fleet, e->check.interval_ns));
        return;
    }
    probe_free(&e->probe);
    health_check_restart(open_begin(e));
    open_end(e, false, loop_now(e->live->fleet->loop));
}

void
care_stop(struct entry *e)
{
    if (e->live->fleet->loop)
        loop_timer_clear(e->live->fleet->loop, &e->tick);
    probe_free(&e->probe);
    words_stop(e);
    resolve_free(&e->resolve);
    free_check(&e->check);
}
