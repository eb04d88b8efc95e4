/* SPDX-License-Identifier: BSD-2-Clause
 *
 * health.c - the state of a server, out of four things: the operator's word, whether an address is
 * known, what the checks found, and whether traffic has set it aside.  Pure.
 *
 * The state is never set by hand: settle() derives it from these four, so that their order of
 * precedence stands in one place and no path can forget one of them.
 */
#include "fleet/health.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"

#define DEFAULT_RISE         2
#define DEFAULT_FALL         3
#define DEFAULT_EJECT_NS     (2 * MC_SEC)
#define DEFAULT_EJECT_MAX_NS (32 * MC_SEC)
/* Slow start in steps of 2 %, but not so often that many servers at once keep the thread busy. */
#define RAMP_STEPS           50
#define RAMP_STEP_MIN_NS     (20 * MC_MS)
#define FORGIVE_AGAIN_NS                                                    \
    MC_SEC /* how often to look whether a server on probation had a success \
            */

const char *
health_state_text(enum health_state s)
{
    static const char *const texts[] = {
#define X(name, text) [HEALTH_##name] = text,
        HEALTH_STATES(X)
#undef X
    };

    MC_ASSERT(s < MC_COUNT(texts));
    return texts[s];
}

static enum health_state
derive(const struct health *h, mc_ns now)
{
    if (h->admin == HEALTH_ADMIN_MAINT)
        return HEALTH_MAINT;
    if (h->admin == HEALTH_ADMIN_DRAIN)
        return HEALTH_DRAIN;
    if (!h->resolved || !h->checked_up)
        return HEALTH_DOWN;
    if (now < h->ejected_until_ns)
        return HEALTH_EJECTED;
    return HEALTH_UP;
}

static void
set_text(char *dst, size_t size, const char *why)
{
    if (dst != why)
        snprintf(dst, size, "%s", why ? why : "");
}

static void
enter(struct health *h, enum health_state to, const char *why, mc_ns now, int64_t wall_ns)
{
    h->state = to;
    h->since_ns = now;
    h->since_wall_ns = wall_ns;
    h->came_up_ns = 0;
    if (to == HEALTH_UP) {
        if (h->was_up && h->conf.slow_start_ns > 0)
            h->came_up_ns = now;
        h->was_up = true;
    }
    /* the operator lets it go and it turns out to be down: say what the checks said */
    set_text(h->reason, sizeof(h->reason), to == HEALTH_DOWN ? h->down_why : why);
}

static bool
settle(struct health *h, const char *why, mc_ns now, int64_t wall_ns)
{
    enum health_state to = derive(h, now);

    if (to == h->state)
        return false;
    enter(h, to, why, now, wall_ns);
    return true;
}

static void
note_failure(struct health *h, const char *why)
{
    set_text(h->down_why, sizeof(h->down_why), why);
    if (h->state == HEALTH_DOWN)
        set_text(h->reason, sizeof(h->reason), why);
}

static void
take_conf(struct health *h, const struct health_conf *conf)
{
    h->conf = *conf;
    if (h->conf.rise == 0)
        h->conf.rise = DEFAULT_RISE;
    if (h->conf.fall == 0)
        h->conf.fall = DEFAULT_FALL;
    if (h->conf.eject_ns <= 0)
        h->conf.eject_ns = DEFAULT_EJECT_NS;
    if (h->conf.eject_max_ns <= 0)
        h->conf.eject_max_ns = DEFAULT_EJECT_MAX_NS;
    if (h->conf.eject_max_ns < h->conf.eject_ns)
        h->conf.eject_max_ns = h->conf.eject_ns;
}

void
health_init(struct health *h, const struct health_conf *conf, enum health_admin admin,
            bool resolved, mc_ns now, int64_t wall_ns)
{
    memset(h, 0, sizeof(*h));
    take_conf(h, conf);
    h->admin = admin;
    h->resolved = resolved;
    h->checked_up = true;
    if (!resolved)
        note_failure(h, "no address is known yet");
    enter(h, derive(h, now), "configuration", now, wall_ns);
}

bool
health_set_conf(struct health *h, const struct health_conf *conf, mc_ns now, int64_t wall_ns)
{
    take_conf(h, conf);
    if (!h->conf.check) { /* nobody would correct the verdict any more */
        h->checked_up = true;
        health_check_restart(h);
    }
    if (h->conf.eject_after == 0) {
        h->ejections = 0;
        h->ejected_until_ns = 0;
    }
    if (h->conf.slow_start_ns == 0)
        h->came_up_ns = 0;
    return settle(h, "configuration", now, wall_ns);
}

void
health_check_restart(struct health *h)
{
    h->proven = false;
    h->streak = 0;
}

bool
health_check_result(struct health *h, bool ok, const char *why, mc_ns now, int64_t wall_ns)
{
    /* Before the first success the verdict is a presumption, or one failed check: believe the next
     * result at once.  A server that is there when we start is used at once, one that is not is
     * left alone after one check. */
    unsigned needed = !h->proven ? 1 : ok ? h->conf.rise : h->conf.fall;

    if (h->admin == HEALTH_ADMIN_MAINT)
        return false; /* of a check that was under way */
    if (ok)
        h->proven = true;
    else
        note_failure(h, why);
    if (ok == h->checked_up) {
        h->streak = 0;
        return false;
    }
    if (++h->streak < needed)
        return false;
    h->streak = 0;
    h->checked_up = ok;
    return settle(h, why, now, wall_ns);
}

/* eject_ns * 2^ejections, at most eject_max_ns. */
static mc_ns
eject_span(const struct health *h)
{
    mc_ns span = h->conf.eject_ns;

    for (unsigned i = 0; i < h->ejections && span < h->conf.eject_max_ns; i++)
        span *= 2;
    return span < h->conf.eject_max_ns ? span : h->conf.eject_max_ns;
}

bool
health_eject(struct health *h, const char *why, mc_ns now, int64_t wall_ns)
{
    if (now < h->ejected_until_ns)
        return false; /* echoes of requests that were sent before */
    h->eject_span_ns = eject_span(h);
    h->ejected_until_ns = now + h->eject_span_ns;
    h->ejections++;
    return settle(h, why, now, wall_ns);
}

bool
health_set_admin(struct health *h, enum health_admin admin, const char *why, mc_ns now,
                 int64_t wall_ns)
{
    if (h->admin == HEALTH_ADMIN_MAINT && admin != HEALTH_ADMIN_MAINT)
        health_check_restart(h); /* what was found before the maintenance is old */
    h->admin = admin;
    return settle(h, why, now, wall_ns);
}

bool
health_set_resolved(struct health *h, bool resolved, const char *why, mc_ns now, int64_t wall_ns)
{
    h->resolved = resolved;
    if (!resolved)
        note_failure(h, why);
    return settle(h, why, now, wall_ns);
}

bool
health_tick(struct health *h, mc_ns now, int64_t wall_ns)
{
    return settle(h, "back from ejection", now, wall_ns);
}

bool
health_on_probation(const struct health *h)
{
    return h->ejections > 0 && h->state != HEALTH_EJECTED;
}

static mc_ns
probation_end(const struct health *h)
{
    return h->ejected_until_ns + h->eject_span_ns;
}

void
health_forgive(struct health *h, mc_ns now)
{
    if (health_on_probation(h) && now >= probation_end(h))
        h->ejections = 0;
}

static mc_ns
ramp_step(const struct health *h)
{
    mc_ns step = h->conf.slow_start_ns / RAMP_STEPS;

    return step < RAMP_STEP_MIN_NS ? RAMP_STEP_MIN_NS : step;
}

mc_ns
health_next(const struct health *h, mc_ns now)
{
    mc_ns next = MC_NEVER_NS, at;

    if (now < h->ejected_until_ns)
        return h->ejected_until_ns;
    if (h->ejections > 0) {
        at = probation_end(h);
        next = at > now ? at : now + FORGIVE_AGAIN_NS;
    }
    if (health_ramp(h, now) < 1) {
        at = now + ramp_step(h);
        next = at < next ? at : next;
    }
    return next;
}

double
health_ramp(const struct health *h, mc_ns now)
{
    if (h->came_up_ns == 0 || now - h->came_up_ns >= h->conf.slow_start_ns)
        return 1;
    return now <= h->came_up_ns ? 0 : (double)(now - h->came_up_ns) / (double)h->conf.slow_start_ns;
}
