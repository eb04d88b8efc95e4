/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fit.c - see fit.h.
 */
#include "control/fit.h"

#include <stdio.h>

#include "base/check.h"
#include "base/log.h"
#include "control/node.h"

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
}
