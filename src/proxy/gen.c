/* SPDX-License-Identifier: BSD-2-Clause
 *
 * gen.c - the snapshots that a worker still uses.
 *
 * Transactions pin the one they began with by a plain count: no atomic is touched on their way.
 * Generations are released in order, so control may free everything up to the one it is told of.
 */
#include <stdlib.h>

#include "proxy/worker_priv.h"

struct gen *
gen_new(struct worker *w, struct snapshot *snap)
{
    struct gen *g = mc_alloc(sizeof(*g));

    g->snap = snap;
    g->pools = mc_alloc(sizeof(*g->pools) * (snap->n_pools + 1));
    for (unsigned i = 0; i < snap->n_pools; i++) {
        struct pool_rt *p = &g->pools[i];

        p->pool = snap->pools[i];
        p->queue = wait_queue_of(w, p->pool->live);
        pool_worker_init(&p->pick, p->pool, &w->rng);
    }
    list_push_back(&w->gens, &g->link);
    return g;
}

static void
gen_free(struct gen *g)
{
    for (unsigned i = 0; i < g->snap->n_pools; i++)
        pool_worker_fini(&g->pools[i].pick);
    free(g->pools);
    list_remove(&g->link);
    free(g);
}

void
gen_pin(struct gen *g)
{
    g->n_txns++;
}

/* Frees the oldest generations that nobody uses, and says so. */
static void
release_old(struct worker *w)
{
    uint64_t released = 0;

    LIST_FOREACH_SAFE(it, next, &w->gens)
    {
        struct gen *g = LIST_ENTRY(it, struct gen, link);

        if (g == w->current || g->n_txns > 0)
            break;
        released = g->snap->generation;
        gen_free(g);
    }
    if (released != 0 && w->conf.on_released != NULL)
        w->conf.on_released(w->conf.arg, w->conf.index, released);
}

void
gen_unpin(struct worker *w, struct gen *g)
{
    MC_ASSERT(g->n_txns > 0);
    if (--g->n_txns == 0 && g != w->current)
        release_old(w);
}

static bool
still_used(void *arg, const struct server *s)
{
    const struct snapshot *snap = ((const struct worker *)arg)->current->snap;

    for (unsigned p = 0; p < snap->n_pools; p++)
        for (unsigned i = 0; i < snap->pools[p]->view.n; i++)
            if (snap->pools[p]->servers[i] == s)
                return true;
    return false;
}

void
gen_make_current(struct worker *w, struct snapshot *snap)
{
    const bool first = w->current == NULL;

    w->current = gen_new(w, snap);
    if (first)
        return;
    idle_retain(w->idle, still_used, w);
    release_old(w);
}

void
gen_free_all(struct worker *w)
{
    LIST_FOREACH_SAFE(it, next, &w->gens)
    {
        struct gen *g = LIST_ENTRY(it, struct gen, link);

        MC_ASSERT(g->n_txns == 0);
        gen_free(g);
    }
    w->current = NULL;
}
