/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fit.c - see fit.h.
 */
#include "control/fit.h"

#include <stdio.h>

#include "base/check.h"
#include "base/log.h"
#include "control/node.h"
#include "control/vip.h"

/* How often servers and load are looked at. */
#define LOOK_NS (50 * MC_MS)

static const char *const voice_texts[] = {
#define X(name, text) text,
    FIT_VOICES(X)
#undef X
};

void
fit_open(struct fit *f)
{
    *f = (struct fit){.lock = PTHREAD_MUTEX_INITIALIZER};
    fit_put(f, FIT_STARTING, false, NULL);
}

void
fit_close(struct fit *f)
{
    pthread_mutex_destroy(&f->lock);
}

void
fit_put(struct fit *f, enum fit_voice v, bool fit, const char *why)
{
    MC_ASSERT(v < FIT_N_VOICES);
    pthread_mutex_lock(&f->lock);
    f->said[v].objects = !fit;
    snprintf(f->said[v].why, sizeof(f->said[v].why), "%s", why != NULL ? why : "");
    pthread_mutex_unlock(&f->lock);
}

static void
one_objection(const struct fit_said *s, enum fit_voice v, struct buf *why)
{
    buf_printf(why, "%s%s", why->n > 0 ? "; " : "", voice_texts[v]);
    if (s->why[0] != '\0')
        buf_printf(why, ": %s", s->why);
}

bool
fit_is(const struct fit *f, struct buf *why)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)&f->lock; /* no change that anybody sees */
    bool fit = true;

    pthread_mutex_lock(lock);
    for (enum fit_voice v = 0; v < FIT_N_VOICES; v++) {
        if (!f->said[v].objects)
            continue;
        fit = false;
        if (why != NULL)
            one_objection(&f->said[v], v, why);
    }
    pthread_mutex_unlock(lock);
    return fit;
}

void
fit_say(struct node *n, enum fit_voice v, bool fit, const char *why)
{
    fit_put(&n->fit, v, fit, why);
    loop_wake(n->loop);
}

bool
fit_now(const struct node *n, struct buf *why)
{
    return fit_is(&n->fit, why);
}

unsigned
fit_objections(const struct node *n)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)&n->fit.lock;
    unsigned bits = 0;

    pthread_mutex_lock(lock);
    for (enum fit_voice v = 0; v < FIT_N_VOICES; v++)
        bits |= (unsigned)n->fit.said[v].objects << v;
    pthread_mutex_unlock(lock);
    return bits;
}

void
fit_settle(struct node *n)
{
    struct buf why = {0};
    bool fit = fit_now(n, &why);

    if (fit != n->fit.was) {
        n->fit.was = fit;
        if (fit)
            log_info("fit for traffic");
        else
            log_warn("not fit for traffic: %s", why.p);
    }
    buf_free(&why);
    vip_settle(n);
}

void
fit_metrics(const struct node *n, struct buf *b)
{
    unsigned objections = fit_objections(n);

    buf_printf(b,
               "# HELP meercat_fit 1 while this balancer should attract traffic\n"
               "# TYPE meercat_fit gauge\nmeercat_fit %d\n",
               (int)fit_now(n, NULL));
    buf_printf(b, "# HELP meercat_fit_objections 1 for each that says it should not\n"
                  "# TYPE meercat_fit_objections gauge\n");
    for (enum fit_voice v = 0; v < FIT_N_VOICES; v++)
        buf_printf(b, "meercat_fit_objections{voice=\"%s\"} %d\n", voice_texts[v],
                   (int)(objections >> v & 1));
}

/* --- what nobody else says ---------------------------------------------------------------------
 */

/* As fit_say(), where it is news: only this thread says these. */
static void
say_if_new(struct node *n, enum fit_voice v, bool fit, const char *why)
{
    if (n->fit.said[v].objects == fit)
        fit_say(n, v, fit, why);
}

static void
look_at_servers(struct node *n)
{
    unsigned open = 0;

    for (unsigned i = 0; i < n->current->n_pools; i++)
        open += atomic_load(&n->current->pools[i]->live->n_open);
    say_if_new(n, FIT_SERVERS, open > 0 || !n->conf->fit.need_server, NULL);
}

static void
look_at_load(struct node *n)
{
    const struct conf_fit *f = &n->conf->fit;
    struct overload_conf c = {f->connections_percent, f->lag_ns, f->overload_after_ns,
                              f->recover_after_ns};
    struct overload_sample s = {.connections_max = (uint64_t)listen_connections_max(n->current)};
    mc_ns now = loop_now(n->loop);
    char why[sizeof(n->fit.said[0].why)] = "";
    bool on;

    for (unsigned i = 0; i < n->n_workers; i++) {
        mc_ns lag_ns = worker_lag(n->workers[i], now);

        s.lag_ns = lag_ns > s.lag_ns ? lag_ns : s.lag_ns;
        s.connections += stat_get(&worker_stats(n->workers[i])->active_connections);
    }
    on = overload_look(&n->fit.overload, &c, &s, now, why, sizeof(why));
    say_if_new(n, FIT_OVERLOADED, !on, why);
}

static void
on_look(struct timer *t)
{
    struct node *n = container_of(t, struct node, fit.timer);

    look_at_servers(n);
    look_at_load(n);
    loop_timer_set(n->loop, t, loop_now(n->loop) + LOOK_NS);
}

void
fit_start(struct node *n)
{
    fit_say(n, FIT_STARTING, true, NULL);
    n->fit.timer.fn = on_look;
    on_look(&n->fit.timer);
}
