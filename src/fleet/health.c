/* SPDX-License-Identifier: BSD-2-Clause
 *
 * health.c - the state of a server, out of five things: the operator's word, its agent's, whether
 * an address is known, what the checks found, and whether traffic has set it aside.  Pure.
 *
 * The state is never set by hand: settle() derives it from these five, so that their order of
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
/* How often to look whether a server on probation had a success. */
#define FORGIVE_AGAIN_NS     MC_SEC

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

enum health_admin
health_admin_now(const struct health *h)
{
    return h->admin != HEALTH_ADMIN_READY || h->agent_overruled ? h->admin : h->agent;
}

static bool
is_found_down(const struct health *h)
{
    return !h->resolved || !(h->shared ? h->agreed_up : h->checked_up);
}

static enum health_state
derive(const struct health *h, mc_ns now)
{
    enum health_admin admin = health_admin_now(h);

    if (admin == HEALTH_ADMIN_MAINT)
        return HEALTH_MAINT;
    if (admin == HEALTH_ADMIN_DRAIN)
        return HEALTH_DRAIN;
    if (is_found_down(h) || h->agent_down)
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

/* Who keeps the server in its present state, in their words; NULL: nobody does, it came to it by
 * what has just happened. */
static const char *
cause(const struct health *h)
{
    switch (h->state) {
    case HEALTH_MAINT:
    case HEALTH_DRAIN: return h->admin != HEALTH_ADMIN_READY ? h->admin_why : h->agent_why;
    case HEALTH_DOWN: return is_found_down(h) ? h->down_why : h->agent_why;
    case HEALTH_UP:
    case HEALTH_EJECTED: return NULL;
    }
    MC_NEVER("health state");
}

static void
enter(struct health *h, enum health_state to, mc_ns now, int64_t wall_ns)
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
}

static bool
settle(struct health *h, const char *why, mc_ns now, int64_t wall_ns)
{
    enum health_state to = derive(h, now);
    bool changed = to != h->state;

    if (changed)
        enter(h, to, now, wall_ns);
    if (cause(h))
        why = cause(h); /* another may keep it where it is, or have brought it there */
    else if (!changed)
        return false;
    set_text(h->reason, sizeof(h->reason), why);
    return changed;
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
    set_text(h->admin_why, sizeof(h->admin_why), "configuration");
    h->resolved = resolved;
    h->checked_up = true;
    set_text(h->down_why, sizeof(h->down_why), "no address is known yet");
    set_text(h->reason, sizeof(h->reason), h->admin_why);
    enter(h, derive(h, now), now, wall_ns);
    settle(h, h->admin_why, now, wall_ns);
}

bool
health_set_conf(struct health *h, const struct health_conf *conf, mc_ns now, int64_t wall_ns)
{
    take_conf(h, conf);
    if (!h->conf.check) { /* nobody would correct the verdict any more */
        h->checked_up = h->agreed_up = true;
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

    if (health_admin_now(h) == HEALTH_ADMIN_MAINT)
        return false; /* of a check that was under way */
    if (ok)
        h->proven = true;
    else
        set_text(h->down_why, sizeof(h->down_why), why);
    h->streak = ok == h->checked_up ? 0 : h->streak + 1;
    if (h->streak >= needed) {
        h->streak = 0;
        h->checked_up = ok;
    }
    return settle(h, why, now, wall_ns);
}

bool
health_set_agreed(struct health *h, bool up, const char *why, mc_ns now, int64_t wall_ns)
{
    h->shared = true;
    h->agreed_up = up;
    if (!up)
        set_text(h->down_why, sizeof(h->down_why), why);
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

/* After a word on maintenance: what was found before one is old. */
static bool
settle_words(struct health *h, enum health_admin was, const char *why, mc_ns now, int64_t wall_ns)
{
    if (was == HEALTH_ADMIN_MAINT && health_admin_now(h) != HEALTH_ADMIN_MAINT)
        health_check_restart(h);
    return settle(h, why, now, wall_ns);
}

bool
health_set_admin(struct health *h, enum health_admin admin, const char *why, mc_ns now,
                 int64_t wall_ns)
{
    enum health_admin was = health_admin_now(h);

    h->admin = admin;
    h->agent_overruled = admin == HEALTH_ADMIN_READY && h->agent != HEALTH_ADMIN_READY;
    set_text(h->admin_why, sizeof(h->admin_why), why);
    return settle_words(h, was, why, now, wall_ns);
}

bool
health_set_agent(struct health *h, enum health_admin agent, bool down, const char *why, mc_ns now,
                 int64_t wall_ns)
{
    enum health_admin was = health_admin_now(h);

    if (agent != h->agent)
        h->agent_overruled = false;
    h->agent = agent;
    h->agent_down = down;
    set_text(h->agent_why, sizeof(h->agent_why), why);
    return settle_words(h, was, why, now, wall_ns);
}

/* What others had agreed on is a presumption here, as it is before a first check. */
static void
carry_verdict(struct health *h, const struct health *was)
{
    if (!h->conf.check)
        return;
    h->checked_up = was->shared ? was->agreed_up : was->checked_up;
    h->proven = was->proven && !was->shared;
    h->streak = was->streak;
    set_text(h->down_why, sizeof(h->down_why), was->down_why);
}

static void
carry_ejection(struct health *h, const struct health *was)
{
    if (h->conf.eject_after == 0)
        return;
    h->ejections = was->ejections;
    h->ejected_until_ns = was->ejected_until_ns;
    h->eject_span_ns = was->eject_span_ns;
}

static void
carry_words(struct health *h, const struct health *was)
{
    h->admin = was->admin;
    h->agent_overruled = was->agent_overruled;
    set_text(h->admin_why, sizeof(h->admin_why), was->admin_why);
}

void
health_carry(struct health *h, const struct health *was, bool words, mc_ns now, int64_t wall_ns)
{
    carry_verdict(h, was);
    carry_ejection(h, was);
    if (words)
        carry_words(h, was);
    h->agent = was->agent;
    h->agent_down = was->agent_down;
    set_text(h->agent_why, sizeof(h->agent_why), was->agent_why);
    h->was_up = was->was_up;
    settle(h, was->reason, now, wall_ns);
    if (h->state != was->state)
        return;
    h->since_ns = was->since_ns;
    h->since_wall_ns = was->since_wall_ns;
    h->came_up_ns = h->conf.slow_start_ns > 0 ? was->came_up_ns : 0;
    set_text(h->reason, sizeof(h->reason), was->reason);
}

bool
health_set_resolved(struct health *h, bool resolved, const char *why, mc_ns now, int64_t wall_ns)
{
    h->resolved = resolved;
    if (!resolved)
        set_text(h->down_why, sizeof(h->down_why), why);
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
