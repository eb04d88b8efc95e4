/* SPDX-License-Identifier: BSD-2-Clause
 *
 * words.c - what the agent of a server says about using it, see words.h.
 *
 * As in HAProxy (agent-check in its configuration manual) what a reply does not mention stays as it
 * was, and an agent that falls silent takes nothing back.  Otherwise than there the operator's word
 * stands above: "ready" of an agent ends no drain of the operator's, and "maxconn" raises no limit
 * of the configuration.
 */
#include "fleet/words.h"

#include <assert.h>
#include <stdio.h>

#include "fleet/care.h"
#include "fleet/follow.h"
#include "fleet/open.h"

static_assert((int)REPORT_READY == (int)HEALTH_ADMIN_READY &&
                  (int)REPORT_DRAIN == (int)HEALTH_ADMIN_DRAIN &&
                  (int)REPORT_MAINT == (int)HEALTH_ADMIN_MAINT,
              "an agent's words are the operator's");

/* What both say in one word, the one that decides. */
static void
put_why(const struct place_report *r, enum health_admin admin, bool down, char *out, size_t size)
{
    const char *word = "up";

    if (admin != HEALTH_ADMIN_READY)
        word = report_admin_word((enum report_admin)admin);
    else if (down)
        word = report_has(r, REPORT_HEALTH) ? report_health_word(r->health) : "down";
    snprintf(out, size, "agent says: %s%s%s", word, r->reason[0] ? ", " : "", r->reason);
}

static bool
take_state(struct health *h, const struct place_report *r, mc_ns now)
{
    enum health_admin admin = report_has(r, REPORT_ADMIN) ? (enum health_admin)r->admin : h->agent;
    bool down = report_has(r, REPORT_HEALTH) ? r->health != REPORT_UP : h->agent_down;
    char why[sizeof(h->agent_why)];

    if (!report_has(r, REPORT_ADMIN) && !report_has(r, REPORT_HEALTH))
        return false;
    put_why(r, admin, down, why, sizeof(why));
    return health_set_agent(h, admin, down, why, now, units_wall_ns());
}

/* An absolute weight is told as a share too: the operator's then still counts. */
static double
share_of(const struct entry *e, const struct place_report *r)
{
    if (report_has(r, REPORT_WEIGHT))
        return r->weight;
    if (report_has(r, REPORT_WEIGHT_UNIT) && e->conf_weight > 0)
        return (double)r->weight_unit / e->conf_weight;
    return e->share;
}

static void
on_words(void *arg, const struct place_report *r, mc_ns age)
{
    struct entry *e = arg;
    mc_ns now = loop_now(e->live->fleet->loop);
    struct health *h = open_begin(e);
    enum health_admin was = health_admin_now(h);
    bool had_share = e->share > 0;
    bool changed = take_state(h, r, now);
    bool spoke = changed || health_admin_now(h) != was;

    e->share = share_of(e, r);
    open_end(e, changed, now);
    if (had_share != (e->share > 0))
        open_recompute(e->live, now);
    if (report_has(r, REPORT_MAX_IN_FLIGHT) && r->max_in_flight != e->agent_max)
        open_limit(e, e->conf_max, r->max_in_flight);
    if (spoke)
        care_admin_changed(e);
}

static void
forget(struct entry *e)
{
    struct fleet *f = e->live->fleet;
    mc_ns now = f->loop ? loop_now(f->loop) : units_clock_ns();
    struct health *h = open_begin(e);
    bool changed = health_set_agent(h, HEALTH_ADMIN_READY, false, "no agent is asked any more", now,
                                    units_wall_ns());

    e->share = 1;
    open_end(e, changed, now);
    open_recompute(e->live, now);
    open_limit(e, e->conf_max, 0);
    care_admin_changed(e);
}

static bool
has_said(const struct entry *e)
{
    return e->s.health.agent != HEALTH_ADMIN_READY || e->s.health.agent_down || e->share != 1 ||
           e->agent_max != 0;
}

void
words_follow(struct entry *e, const struct server_conf *c, mc_ns interval)
{
    bool wanted = c->agent && c->agent_kind == WATCH_CHECK && e->live->fleet->loop;

    if (wanted && e->words && follow_is_same(e->words, c, interval))
        return;
    words_stop(e);
    if (wanted)
        e->words = follow_new(e->live->fleet, e->s.pool_name, e->s.name, c, interval, on_words, e);
    else if (has_said(e))
        forget(e);
}

void
words_stop(struct entry *e)
{
    follow_free(&e->words);
}

bool
pool_words_at(const struct pool *p, unsigned server, struct brain_server *out)
{
    const struct entry *e = entry_of(p->servers[server]);

    if (!e->words)
        return false;
    *out = (struct brain_server){.age = MC_NEVER_NS,
                                 .cores = -1,
                                 .cpu = -1,
                                 .pressure = -1,
                                 .factor = 1,
                                 .share = e->share,
                                 .max_in_flight = e->agent_max,
                                 .why = ""};
    follow_show(e->words, loop_now(e->live->fleet->loop), out);
    return true;
}
