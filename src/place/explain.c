/* SPDX-License-Identifier: BSD-2-Clause
 *
 * explain.c - which server a request would get now, and why not another, see explain.h.
 */
#include "place/explain.h"

#include "base/check.h"
#include "place/choose.h"
#include "place/resource.h"

static const struct {
    const char *name, *text;
} verdicts[] = {
#define X(id, name, text) [EXPLAIN_##id] = {name, text},
    EXPLAIN_VERDICTS(X)
#undef X
};

const char *
explain_name(enum explain_verdict v)
{
    MC_ASSERT(v < MC_COUNT(verdicts));
    return verdicts[v].name;
}

const char *
explain_text(enum explain_verdict v)
{
    MC_ASSERT(v < MC_COUNT(verdicts));
    return verdicts[v].text;
}

/* --- all policies -------------------------------------------------------------------------------
 */

static struct place_answer
pick(const struct policy *p, const void *shared, const struct place_view *v,
     const struct place_ask *ask, struct rng *rng)
{
    void *state = p->state_new ? p->state_new(v, rng) : NULL;
    struct place_answer a = p->pick(shared, state, v, ask, rng);

    if (p->state_free)
        p->state_free(state);
    return a;
}

static bool
is_settled(const struct policy *p, const struct place_ask *ask, bool any)
{
    return !any || p == &policy_resource || (p == &policy_hash && ask->has_key);
}

/* What holds for every policy; true: it may be chosen. */
static bool
look(const struct place_view *v, uint32_t index, struct explain_server *out)
{
    const struct place_load *l = v->load[index];

    *out = (struct explain_server){.verdict = EXPLAIN_ELIGIBLE};
    if (!place_is_open(l))
        out->verdict = EXPLAIN_CLOSED;
    else if (place_is_full(l))
        out->verdict = EXPLAIN_FULL;
    return out->verdict == EXPLAIN_ELIGIBLE;
}

/* --- resource -----------------------------------------------------------------------------------
 */

struct home {
    uint32_t first, n;
    struct resource_away away;
};

static struct home
home_of(const struct load_table *t, const struct place_ask *ask)
{
    uint64_t home = atomic_load_explicit(&((struct load_table *)t)->home, memory_order_relaxed);
    struct home h = {.first = (uint32_t)(home >> 32), .n = (uint32_t)home};

    h.away = resource_away(ask->cost, h.n);
    return h;
}

static void
score(const struct load_table *t, const struct home *home, uint32_t index,
      struct explain_server *out)
{
    const uint32_t pos = t->pos[index];
    const struct load_hot *h = &t->hot[pos];

    out->scored = true;
    out->home = (pos + t->n - home->first) % t->n < home->n;
    out->price = out->home ? 1 : (double)home->away.price;
    out->score = (double)resource_score(h) * out->price;
    out->wanted = load_n(h) / (double)COST_ONE;
    out->cores = load_flags(h) & LOAD_CORES ? 1 / (double)load_per_core(h) : -1;
    out->factor = (double)load_factor(h);
}

/* Why the chosen one was taken before this one, which may be chosen.  chosen NULL: nobody was. */
static enum explain_verdict
verdict(const struct load_table *t, const struct place_ask *ask, const struct home *home,
        uint32_t index, const struct explain_server *s, const struct explain_server *chosen)
{
    const uint32_t mem_units = resource_mem_units(ask->cost);

    if (s == chosen)
        return EXPLAIN_CHOSEN;
    if (load_flags(&t->hot[t->pos[index]]) & LOAD_EJECTED)
        return EXPLAIN_EJECTED;
    if (mem_units > 0 && !load_has_room(&t->mem[t->pos[index]], mem_units))
        return EXPLAIN_MEMORY;
    if (!chosen)
        return EXPLAIN_ELIGIBLE;
    if (!s->home && home->away.looks == 0)
        return EXPLAIN_AWAY;
    return s->score < chosen->score ? EXPLAIN_UNDRAWN : EXPLAIN_SCORE;
}

static void
explain_scores(const struct place_view *v, const struct place_ask *ask, struct explain_server *out,
               const struct explain_server *chosen)
{
    const struct home home = home_of(v->table, ask);

    for (uint32_t i = 0; i < v->n; i++)
        score(v->table, &home, i, &out[i]);
    for (uint32_t i = 0; i < v->n; i++)
        if (out[i].verdict == EXPLAIN_ELIGIBLE)
            out[i].verdict = verdict(v->table, ask, &home, i, &out[i], chosen);
}

struct explain
explain_pick(const struct policy *p, const void *shared, const struct place_view *v,
             const struct place_ask *ask, struct rng *rng, struct explain_server *out)
{
    struct explain e = {.answer = {-1, PLACE_NONE}};
    struct explain_server *chosen;
    bool any = false;

    for (uint32_t i = 0; i < v->n; i++)
        any |= look(v, i, &out[i]);
    e.settled = is_settled(p, ask, any);
    if (e.settled)
        e.answer = pick(p, shared, v, ask, rng);
    chosen = e.answer.index < 0 ? NULL : &out[e.answer.index];
    if (p == &policy_resource && resource_is_good(v->table, ask->now))
        explain_scores(v, ask, out, chosen);
    else if (chosen)
        chosen->verdict = EXPLAIN_CHOSEN;
    return e;
}
