/* SPDX-License-Identifier: BSD-2-Clause
 *
 * open.c - which servers of a pool may be chosen, and with which weight.
 *
 * A server is healthy when operator and agent let it and its state is up.  Healthy primaries are
 * open; healthy backups only when no primary is healthy.  When fewer than panic_percent of the
 * primaries are healthy, health is believed no more and all of them are open: a few survivors could
 * not carry the load of all, and so many failures at once speak for a fault of the checks.  A panic
 * with no primary left opens backups too, but while backups are healthy they serve instead. Servers
 * that the operator or their agents took out, or that have weight 0, count for nothing in this.
 */
#include "fleet/open.h"

#include <stdio.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"

/* What one recomputation has found. */
struct tally {
    unsigned primary, primary_up, backup_up;
    bool panic;
};

/* And what it has changed. */
struct effect {
    struct tally tally;
    bool on_backup;
    bool opened; /* a server has become available */
    bool panic_changed, backup_changed;
};

/* As configured, as the operator says, and as the agent says, all told. */
static double
full_weight(const struct entry *e)
{
    double w = e->weight * e->share;

    return w < FLEET_WEIGHT_MAX ? w : FLEET_WEIGHT_MAX;
}

static bool
is_wanted(const struct entry *e)
{
    return health_admin_now(&e->s.health) == HEALTH_ADMIN_READY && full_weight(e) > 0;
}

static bool
is_healthy(const struct entry *e)
{
    return is_wanted(e) && e->s.health.state == HEALTH_UP;
}

/* In units of PLACE_WEIGHT_UNIT, never 0 for a server that has weight. */
static uint32_t
weight_now(const struct entry *e, mc_ns now)
{
    double full = full_weight(e), w = full * PLACE_WEIGHT_UNIT * health_ramp(&e->s.health, now);

    return full > 0 && w < 1 ? 1 : (uint32_t)w;
}

static bool
is_too_few(const struct live *l, unsigned primary_up)
{
    return primary_up * 100 < l->panic_percent * l->n_primary;
}

static struct tally
count(struct live *l)
{
    struct tally t = {0};

    for (unsigned i = 0; i < l->n_members; i++) {
        const struct entry *e = l->members[i];

        if (e->backup)
            t.backup_up += is_healthy(e);
        else {
            t.primary += is_wanted(e);
            t.primary_up += is_healthy(e);
        }
    }
    l->n_primary = t.primary;
    l->n_primary_up = t.primary_up;
    t.panic = is_too_few(l, t.primary_up) && (t.primary_up > 0 || t.backup_up == 0);
    return t;
}

static bool
may_open(const struct entry *e, const struct tally *t)
{
    if (!is_wanted(e) || (e->backup && t->primary_up > 0))
        return false;
    return t->panic ? e->s.health.resolved : is_healthy(e);
}

/* Under live.lock.  Tells what after_recompute() is to do once it is unlocked. */
static struct effect
recompute(struct live *l, mc_ns now)
{
    struct tally t = count(l);
    bool on_backup = !t.panic && t.primary_up == 0 && t.backup_up > 0;
    struct effect eff = {.tally = t, .on_backup = on_backup};
    uint64_t weight = 0;
    uint32_t n_open = 0;

    for (unsigned i = 0; i < l->n_members; i++) {
        struct entry *e = l->members[i];
        bool open = may_open(e, &t);

        atomic_store_explicit(&e->s.load.weight, weight_now(e, now), memory_order_relaxed);
        if (atomic_exchange_explicit(&e->s.load.open, open, memory_order_relaxed) < open)
            eff.opened = true;
        if (open) {
            n_open++;
            weight += weight_now(e, now);
        }
    }
    atomic_store_explicit(&l->open_weight, weight, memory_order_relaxed);
    atomic_store_explicit(&l->pub.n_open, n_open, memory_order_relaxed);
    eff.panic_changed = atomic_exchange(&l->pub.panic, t.panic) != t.panic;
    eff.backup_changed = atomic_exchange(&l->pub.on_backup, on_backup) != on_backup;
    return eff;
}

/* Without locks: standard error may be slow, and the callback may do anything. */
static void
after_recompute(const struct live *l, const struct effect *eff)
{
    if (eff->panic_changed)
        log_warn("pool %s: %u of %u servers are healthy: %s", l->pub.name, eff->tally.primary_up,
                 eff->tally.primary,
                 eff->tally.panic ? "all are used" : "only healthy ones are used again");
    if (eff->backup_changed)
        log_warn("pool %s: %s", l->pub.name,
                 eff->on_backup ? "no server is healthy: backups serve" : "backups rest again");
    if (eff->opened && l->fleet->on_open)
        l->fleet->on_open(l->fleet->on_open_arg);
}

void
open_recompute(struct live *l, mc_ns now)
{
    struct effect eff;

    pthread_mutex_lock(&l->lock);
    eff = recompute(l, now);
    pthread_mutex_unlock(&l->lock);
    after_recompute(l, &eff);
}

/* Only this server's weight has changed (slow start): no look at the others.  Under live.lock. */
static void
weigh(struct entry *e, mc_ns now)
{
    uint32_t weight = weight_now(e, now);
    uint32_t was = atomic_exchange_explicit(&e->s.load.weight, weight, memory_order_relaxed);

    if (atomic_load_explicit(&e->s.load.open, memory_order_relaxed))
        atomic_fetch_add_explicit(&e->live->open_weight, (uint64_t)weight - was,
                                  memory_order_relaxed);
}

/* Under both locks. */
static void
set_eject_limit(struct entry *e)
{
    const struct health *h = &e->s.health;
    unsigned limit = h->conf.eject_after;

    if (limit > 0 && health_on_probation(h))
        limit = 1;
    atomic_store_explicit(&e->s.eject_limit, limit, memory_order_relaxed);
}

static void
log_state(const struct entry *e, const struct health *h)
{
    enum log_level level =
        h->state == HEALTH_DOWN || h->state == HEALTH_EJECTED ? LOG_LEVEL_WARN : LOG_LEVEL_INFO;

    log_line(level, "pool %s: server %s is %s: %s", e->s.pool_name, e->s.name,
             health_state_text(h->state), h->reason);
}

struct health *
open_begin(struct entry *e)
{
    pthread_mutex_lock(&e->live->lock);
    pthread_mutex_lock(&e->s.lock);
    return &e->s.health;
}

void
open_end(struct entry *e, bool state_changed, mc_ns now)
{
    struct health *h = &e->s.health, copy;
    struct effect eff = {0};

    set_eject_limit(e);
    /* one failure counts as seen until a success takes it away: then it is known that there was one
     * when the probation ends (care.c) */
    if (state_changed && h->state == HEALTH_UP && health_on_probation(h))
        atomic_store_explicit(&e->s.fails, 1, memory_order_relaxed);
    copy = *h;
    pthread_mutex_unlock(&e->s.lock);
    if (state_changed && e->member)
        eff = recompute(e->live, now);
    else if (e->member)
        weigh(e, now);
    pthread_mutex_unlock(&e->live->lock);
    if (state_changed)
        log_state(e, &copy);
    after_recompute(e->live, &eff);
}

void
open_limit(struct entry *e, uint32_t configured, uint32_t agent)
{
    uint32_t limit = configured && agent ? (configured < agent ? configured : agent)
                     : configured        ? configured
                                         : agent;
    uint32_t was = atomic_exchange_explicit(&e->s.load.max_in_flight, limit, memory_order_relaxed);

    e->conf_max = configured;
    e->agent_max = agent;
    /* requests may wait for the places that there are now */
    if (was != 0 && (limit == 0 || limit > was) && e->member && e->live->fleet->on_open)
        e->live->fleet->on_open(e->live->fleet->on_open_arg);
}

/* --- ejection -----------------------------------------------------------------------------------
 */

/* True when somebody would be open without e: another that is, a backup that would be called, or
 * all of them in a panic.  Under live.lock. */
static bool
can_spare(const struct live *l, const struct entry *e)
{
    if (atomic_load_explicit(&l->pub.n_open, memory_order_relaxed) > 1 || l->panic_percent > 0)
        return true;
    for (unsigned i = 0; i < l->n_members; i++)
        if (l->members[i] != e && is_healthy(l->members[i]))
            return true;
    return false;
}

/* What follows from an ejection; the common case without a look at every server.  Under
 * live.lock. */
static struct effect
close_ejected(struct entry *e, mc_ns now)
{
    struct live *l = e->live;

    if (e->backup || l->n_primary_up <= 1 || is_too_few(l, l->n_primary_up - 1))
        return recompute(l, now);
    atomic_store_explicit(&e->s.load.open, 0, memory_order_relaxed);
    atomic_fetch_sub_explicit(&l->open_weight,
                              atomic_load_explicit(&e->s.load.weight, memory_order_relaxed),
                              memory_order_relaxed);
    atomic_fetch_sub_explicit(&l->pub.n_open, 1, memory_order_relaxed);
    l->n_primary_up--;
    return (struct effect){0};
}

/* Under live.lock.  True when the state has changed. */
static bool
eject(struct entry *e, unsigned fails, enum server_outcome last, mc_ns now)
{
    char why[sizeof(e->s.health.reason)];
    bool changed;

    snprintf(why, sizeof(why), "%u failures in a row, the last: %s", fails,
             server_outcome_text(last));
    pthread_mutex_lock(&e->s.lock);
    changed = health_eject(&e->s.health, why, now, units_wall_ns());
    pthread_mutex_unlock(&e->s.lock);
    return changed;
}

/* The control thread then sets the timer that ends the ejection. */
static void
tell_control(struct entry *e)
{
    struct fleet *f = e->live->fleet;
    uint64_t one = 1;

    if (f->event_fd < 0)
        return;
    pthread_mutex_lock(&f->events_lock);
    if (!e->event.next) {
        server_ref(&e->s);
        list_push_back(&f->events, &e->event);
    }
    pthread_mutex_unlock(&f->events_lock);
    /* an eventfd that is full (2^64 - 2) wakes too */
    if (write(f->event_fd, &one, sizeof(one)) < 0)
        return;
}

void
open_eject(struct entry *e, unsigned fails, enum server_outcome last, mc_ns now)
{
    struct effect eff = {0};
    bool changed = false;
    struct health copy;

    pthread_mutex_lock(&e->live->lock);
    if (e->member && is_healthy(e) && can_spare(e->live, e))
        changed = eject(e, fails, last, now);
    if (changed)
        eff = close_ejected(e, now);
    /* kept, as the last one: the count begins again */
    atomic_store_explicit(&e->s.fails, changed ? 0 : 1, memory_order_relaxed);
    copy = e->s.health;
    pthread_mutex_unlock(&e->live->lock);
    if (!changed)
        return;
    tell_control(e);
    log_state(e, &copy);
    after_recompute(e->live, &eff);
}
