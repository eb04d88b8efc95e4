/* SPDX-License-Identifier: BSD-2-Clause
 *
 * budget.c - how many retries a pool may make: a share of its requests, and a few besides.
 *
 * A token bucket (as Finagle's RetryBudget): each request puts in its share, each second a minimum,
 * each retry takes one out.  When servers fail together, retries cannot multiply the load.
 */
#include "proxy/worker_priv.h"

#define BURST_S 10.0 /* tokens of the minimum rate that may gather; shares are capped by it too */

static double
cap(const struct pool_conf *p)
{
    return BURST_S * (p->retry_min_per_s + 1) + p->retry_budget_percent;
}

void
budget_earn(struct retry_budget *b, const struct pool_conf *p, mc_ns now)
{
    b->tokens += p->retry_budget_percent / 100.0;
    if (b->filled_ns == 0)
        b->tokens += p->retry_min_per_s;
    else
        b->tokens += (double)(now - b->filled_ns) / (double)MC_SEC * p->retry_min_per_s;
    b->filled_ns = now;
    if (b->tokens > cap(p))
        b->tokens = cap(p);
}

bool
budget_spend(struct retry_budget *b)
{
    if (b->tokens < 1.0)
        return false;
    b->tokens -= 1.0;
    return true;
}

void
tries_avoid(struct tries *t, uint32_t index)
{
    if (t->n_avoided < TRIES_AVOIDED_MAX)
        t->avoided[t->n_avoided++] = index;
}

bool
budget_retry(struct worker *w, struct pool_rt *p, const struct server *s, uint32_t index,
             struct tries *t)
{
    if (t->n >= p->pool->conf.retries)
        return false;
    if (!budget_spend(&p->budget)) {
        stat_add(&w->stats.retries_denied, 1);
        return false;
    }
    t->n++;
    tries_avoid(t, index);
    stat_add(&w->stats.retries, 1);
    stat_add(&s->counters[w->conf.index].retries, 1);
    return true;
}
