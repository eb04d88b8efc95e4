/* SPDX-License-Identifier: BSD-2-Clause
 *
 * gen.c - the snapshots that a worker still uses.
 *
 * Transactions pin the one they began with by a plain count: no atomic is touched on their way.
 * Generations are released in order, so control may free everything up to the one it is told of.
 */
#include <stdlib.h>

#include "proxy/tcp.h"
#include "proxy/worker_priv.h"

static struct gen *
new_gen(struct worker *w, struct snapshot *snap)
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

    LIST_FOREACH_SAFE (it, next, &w->gens) {
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

/* The servers of a snapshot as a set of their ids. */
struct id_set {
    uint8_t *bits;
    uint32_t n;
};

static struct id_set
servers_of(const struct snapshot *snap)
{
    struct id_set set = {.n = 0};

    for (unsigned p = 0; p < snap->n_pools; p++)
        for (unsigned i = 0; i < snap->pools[p]->view.n; i++)
            if (snap->pools[p]->servers[i]->id >= set.n)
                set.n = snap->pools[p]->servers[i]->id + 1;
    set.bits = mc_alloc(set.n / 8 + 1);
    for (unsigned p = 0; p < snap->n_pools; p++)
        for (unsigned i = 0; i < snap->pools[p]->view.n; i++)
            set.bits[snap->pools[p]->servers[i]->id / 8] |=
                (uint8_t)(1u << (snap->pools[p]->servers[i]->id % 8));
    return set;
}

static bool
is_in_set(void *arg, const struct server *s)
{
    const struct id_set *set = arg;

    return s->id < set->n && (set->bits[s->id / 8] & (1u << (s->id % 8))) != 0;
}

/* Kept connections to servers that the new snapshot does not name are closed. */
static void
forget_removed_servers(struct worker *w)
{
    struct id_set used = servers_of(w->current->snap);

    idle_retain(w->idle, is_in_set, &used);
    free(used.bits);
}

void
gen_make_current(struct worker *w, struct snapshot *snap)
{
    const bool first = w->current == NULL;

    w->current = new_gen(w, snap);
    if (first)
        return;
    forget_removed_servers(w);
    tcp_adopt(w);
    release_old(w);
}

void
gen_free_all(struct worker *w)
{
    LIST_FOREACH_SAFE (it, next, &w->gens) {
        struct gen *g = LIST_ENTRY(it, struct gen, link);

        MC_ASSERT(g->n_txns == 0);
        gen_free(g);
    }
    w->current = NULL;
}
