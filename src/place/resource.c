/* SPDX-License-Identifier: BSD-2-Clause
 *
 * resource.c - the policy "resource": where the request's need is free.  Pure.
 *
 * The score of a server, lower is better, with n the cores that are wanted there (phi of all
 * requests in flight, ours and the others'), c its cores and f its factor:
 *
 *     f * (max(1, (n + 1) / c) + 0.5 * n / c)
 *
 * The first term is how long the request will take, under processor sharing; the second keeps room
 * where two would take it equally well.  Counting cores wanted beats adding up the work that is
 * left: under processor sharing a long request takes no more of a server than a short one.
 *
 * Candidates: this balancer's home on the ring (home.h), or a run of it; from elsewhere a few, at
 * a surcharge, when the home is small; many when the request is heavy, since those are announced to
 * all at once, so that everybody's knowledge of them is fresh.  What control learned (know.c) is
 * read from the load table; when that is old, it is two choices on what this balancer sees itself.
 */
#include <stdlib.h>

#include "base/check.h"
#include "place/choose.h"
#include "place/draw.h"
#include "place/resource.h"

#define RUN          16 /* candidates from the home; all of it when it has no more */
#define TRIES        64 /* when no candidate will do */
#define SKIPS        8  /* candidates that turn out closed or full before we go another way */
#define NOT_ELIGIBLE 1e30f

struct state {
    void *two; /* of least-request, the fall-back */
    void *two_shared;
};

struct search {
    const struct place_view *v;
    const struct load_table *t;
    const struct place_ask *ask;
    uint32_t mem_units; /* 0: little enough not to look */
    float best;
    uint32_t pos;
    bool away, found;
    bool lacks_memory; /* a server was passed over for want of it */
    uint32_t skip[SKIPS];
    unsigned n_skip;
};

/* --- one candidate ------------------------------------------------------------------------------
 */

static bool __attribute__((noinline)) was_passed_over(const struct search *s, uint32_t pos)
{
    for (unsigned i = 0; i < s->n_skip; i++)
        if (s->skip[i] == pos)
            return true;
    return choose_tried(s->ask, s->t->ring[pos]);
}

static inline void
consider(struct search *s, uint32_t pos, float price, bool away)
{
    const struct load_hot *h = &s->t->hot[pos];
    float cost = resource_score(h) * price;

    if (!(cost < s->best) || (load_flags(h) & (LOAD_OPEN | LOAD_EJECTED)) != LOAD_OPEN)
        return;
    if ((s->n_skip | s->ask->n_tried) != 0 && was_passed_over(s, pos))
        return;
    if (s->mem_units > 0 && !load_has_room(&s->t->mem[pos], s->mem_units)) {
        s->lacks_memory = true;
        return;
    }
    s->best = cost;
    s->pos = pos;
    s->away = away;
    s->found = true;
}

/* --- where to look ------------------------------------------------------------------------------
 */

/* A run of the home from a place drawn, and round at its end.  Ties go to the first, so balancers
 * and workers that share a home do not all begin at the same idle server. */
static void
look_home(struct search *s, uint32_t first, uint32_t n, struct rng *rng)
{
    uint32_t at = rng_below(rng, n), run = n < RUN ? n : RUN;

    for (uint32_t i = 0; i < run; i++) {
        uint32_t pos = first + at;

        consider(s, pos < s->t->n ? pos : pos - s->t->n, 1, false);
        at = at + 1 < n ? at + 1 : 0;
    }
}

static void
look_away(struct search *s, unsigned n, float price, struct rng *rng)
{
    for (unsigned i = 0; i < n; i++)
        consider(s, rng_below(rng, s->t->n), price, true);
}

/* No candidate will do: takes the next that does, from a place drawn. */
static void __attribute__((cold, noinline)) look_on(struct search *s, struct rng *rng)
{
    uint32_t pos = rng_below(rng, s->t->n), tries = s->t->n < TRIES ? s->t->n : TRIES;

    for (unsigned i = 0; i < tries && !s->found; i++) {
        consider(s, pos, 1, true);
        pos = pos + 1 < s->t->n ? pos + 1 : 0;
    }
}

static void
look(struct search *s, struct rng *rng)
{
    uint64_t home = atomic_load_explicit(&((struct load_table *)s->t)->home, memory_order_relaxed);
    uint32_t n = (uint32_t)home;
    struct resource_away away;

    s->best = NOT_ELIGIBLE;
    s->found = false;
    if (n > 0)
        look_home(s, (uint32_t)(home >> 32), n, rng);
    if (n >= s->t->n && n <= RUN)
        return; /* that was all there is */
    away = resource_away(s->ask->cost, n);
    look_away(s, away.looks, away.price, rng);
    if (!s->found)
        look_on(s, rng);
}

/* --- the policy ---------------------------------------------------------------------------------
 */

static void *
state_new(const struct place_view *v, struct rng *rng)
{
    struct state *st = mc_alloc(sizeof(*st));
    struct place_params two = {0};

    st->two = policy_least_request.state_new(v, rng);
    st->two_shared = policy_least_request.shared_new(v, &two);
    return st;
}

static void
state_free(void *state)
{
    struct state *st = state;

    if (!st)
        return;
    policy_least_request.state_free(st->two);
    policy_least_request.shared_free(st->two_shared);
    free(st);
}

static struct place_answer __attribute__((cold, noinline))
pick_of_two(struct state *st, const struct place_view *v, const struct place_ask *ask,
            struct rng *rng)
{
    struct place_answer a = policy_least_request.pick(st->two_shared, st->two, v, ask, rng);

    if (a.reason == PLACE_LEAST_OF_TWO)
        a.reason = PLACE_RESOURCE_OLD;
    return a;
}

/* hot: once per attempt */
static struct place_answer
pick(const void *shared, void *state, const struct place_view *v, const struct place_ask *ask,
     struct rng *rng)
{
    struct search s = {
        .v = v, .t = v->table, .ask = ask, .mem_units = resource_mem_units(ask->cost)};

    if (!resource_is_good(v->table, ask->now))
        return pick_of_two(state, v, ask, rng);
    MC_ASSERT(v->table->n == v->n);
    while (s.n_skip < SKIPS) {
        look(&s, rng);
        if (!s.found)
            break;
        /* the table is a moment old in what fleet decides: its word is final */
        if (choose_may(v, ask, s.t->ring[s.pos]))
            return choose_done(v, ask, s.t->ring[s.pos],
                               s.away ? PLACE_RESOURCE_AWAY : PLACE_RESOURCE);
        s.skip[s.n_skip++] = s.pos;
    }
    /* it would drive one server out of memory, and all that is there with it: rather wait */
    if (s.lacks_memory && !s.found)
        return (struct place_answer){-1, PLACE_FULL};
    return pick_of_two(state, v, ask, rng);
}

const struct policy policy_resource = {
    .name = "resource",
    .state_new = state_new,
    .state_free = state_free,
    .pick = pick,
};
