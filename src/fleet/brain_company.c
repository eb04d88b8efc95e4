/* SPDX-License-Identifier: BSD-2-Clause
 *
 * brain_company.c - a brain among those of the other balancers: what they are told and what they
 * tell.  Control thread.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "fleet/brain_priv.h"
#include "fleet/company_priv.h"

/* The second owner of a server listens so seldom: enough to know that the agent is there and can be
 * reached, when this balancer becomes the first. */
#define STANDBY_NS MC_SEC

size_t
brain_share(void *arg, uint64_t to, const struct share_msg *msg)
{
    const struct mind *m = arg;
    const struct company *c = m->of ? m->of->fleet->company : NULL;

    return c && m->in_force ? c->hooks.share(c->hooks.arg, to, m->know->map, msg) : 0;
}

/* Windows are cut by each member's own clock.  One whose clock is wrong means another window by the
 * same number; between two whose clocks are right the difference is none. */
static int64_t
same_window(const struct mind *m, int64_t window, mc_ns skew)
{
    mc_ns half = m->window_ns / 2;

    return window - (skew + (skew < 0 ? -half : half)) / m->window_ns;
}

void
mind_hear(struct mind *m, struct share_msg *msg, mc_ns skew)
{
    if (msg->kind == SHARE_ROWS)
        msg->window = same_window(m, msg->window, skew);
    know_recv(m->know, msg, loop_now(m->of->fleet->loop) + m->pub.wall_ns);
}

struct mind *
brains_find(struct brains *bs, uint32_t pool_key)
{
    LIST_FOREACH (it, &bs->all) {
        struct mind *m = LIST_ENTRY(it, struct mind, link);

        if (m->in_force && m->know->map->pool == pool_key)
            return m;
    }
    return NULL;
}

static mc_ns
interval_at(const struct entry *e, mc_ns wanted)
{
    return company_is_first(e) || wanted > STANDBY_NS ? wanted : STANDBY_NS;
}

void
brain_follow_agents(struct mind *m)
{
    const struct pool_conf *c = &m->pool->conf;

    for (unsigned i = 0; i < m->view.n; i++) {
        const struct entry *e = entry_of(m->servers[i]);

        if (company_is_mine(e))
            brain_agent_follow(&m->agents[i], m, i, &c->servers[i],
                               interval_at(e, c->report_interval_ns));
        else
            brain_agent_free(&m->agents[i]);
    }
}

/* Whoever is no member for a moment is new in the next. */
void
brains_forget(struct brains *bs, uint64_t member)
{
    uint64_t *rest = mc_alloc((bs->n_others + 1) * sizeof(*rest));
    unsigned n = 0;

    for (unsigned i = 0; i < bs->n_others; i++)
        if (bs->others[i] != member)
            rest[n++] = bs->others[i];
    LIST_FOREACH (it, &bs->all) {
        struct know *k = LIST_ENTRY(it, struct mind, link)->know;

        know_set_members(k, rest, n);
        know_set_members(k, bs->others, bs->n_others);
    }
    free(rest);
}

void
brains_members(struct brains *bs, const uint64_t *others, unsigned n)
{
    bs->others = mc_realloc(bs->others, (n + 1) * sizeof(*bs->others));
    if (n > 0)
        memcpy(bs->others, others, n * sizeof(*bs->others));
    bs->n_others = n;
    LIST_FOREACH (it, &bs->all) {
        struct mind *m = LIST_ENTRY(it, struct mind, link);

        know_set_members(m->know, others, n);
        if (m->pool)
            brain_follow_agents(m);
    }
}
