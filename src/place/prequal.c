/* SPDX-License-Identifier: BSD-2-Clause
 *
 * prequal.c - the policy "prequal": asks a few servers ahead of time, and takes the best answer.
 *
 * As Prequal (Wydrowski, Kleinberg, Rumble, Archer: Load is not what you should balance, NSDI
 * 2024): with each request a few random servers are probed, and their answers kept in a pool of 16.
 * A server whose requests in flight are above a quantile of what was seen lately is hot; of the
 * cold ones the least latency wins, and if all are hot the fewest requests in flight.  Answers are
 * used a few times at most, grow old after a second, and with each request the oldest and the worst
 * are removed by turns.  One worker's own state.  Who answers is the caller's: servers in the
 * simulator, in the balancer what it knows of them itself (probed.h).
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "place/choose.h"
#include "place/draw.h"

#define POOL       16
#define PROBES     3    /* with each request */
#define HOT_RANK   0.84 /* quantile of requests in flight; 2^-0.25 in the paper */
#define AGE_MOST   MC_SEC
#define POOL_LEAST 2   /* with fewer answers the choice is of two drawn */
#define SEEN       128 /* answers from which the quantile is taken */
#define USES       2.0 /* of an answer: (1 + 1) / ((1 - 16/n) * 3 - 1), see uses_most() */

struct answer {
    uint32_t index, in_flight;
    mc_ns latency, at;
    unsigned uses;
};

struct state {
    struct draw *draw;
    unsigned n, n_seen;
    bool remove_worst; /* by turns with the oldest */
    struct answer pool[POOL];
    uint32_t seen[SEEN];
    uint32_t hot; /* more in flight than this */
};

static void *
state_new(const struct place_view *v, struct rng *rng)
{
    struct state *st = mc_alloc(sizeof(*st));

    st->draw = draw_new(v);
    return st;
}

static void
state_free(void *state)
{
    struct state *st = state;

    if (!st)
        return;
    draw_free(st->draw);
    free(st);
}

/* --- the pool of answers ------------------------------------------------------------------------
 */

static void
drop(struct state *st, unsigned i)
{
    memmove(&st->pool[i], &st->pool[i + 1], (st->n - i - 1) * sizeof(st->pool[0]));
    st->n--;
}

/* Answers stand in the order of their coming, the oldest first. */
static void
drop_old(struct state *st, mc_ns now)
{
    while (st->n > 0 && now - st->pool[0].at > AGE_MOST)
        drop(st, 0);
}

static bool
is_worse(const struct state *st, const struct answer *a, const struct answer *b)
{
    bool a_hot = a->in_flight > st->hot, b_hot = b->in_flight > st->hot;

    if (a_hot != b_hot)
        return a_hot;
    return a_hot ? a->in_flight > b->in_flight : a->latency > b->latency;
}

static void
drop_one(struct state *st)
{
    unsigned worst = 0;

    if (st->n <= POOL_LEAST)
        return;
    for (unsigned i = 1; i < st->n && st->remove_worst; i++)
        if (is_worse(st, &st->pool[i], &st->pool[worst]))
            worst = i;
    drop(st, worst);
    st->remove_worst = !st->remove_worst;
}

/* How often an answer may be used, so that the pool does not run dry (equation 1 of the paper, with
 * delta 1 and one removal a request). */
static double
uses_most(unsigned n_servers)
{
    double fresh = n_servers > POOL ? (1 - (double)POOL / n_servers) * PROBES - 1 : 0;

    return fresh > 0 && USES / fresh > 1 ? USES / fresh : fresh > 0 ? 1 : USES;
}

static int
by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

static void
note_seen(struct state *st, uint32_t in_flight)
{
    st->seen[st->n_seen++ % SEEN] = in_flight;
    if (st->n_seen % 16 == 0) {
        uint32_t sorted[SEEN];
        unsigned n = st->n_seen < SEEN ? st->n_seen : SEEN;

        memcpy(sorted, st->seen, n * sizeof(sorted[0]));
        qsort(sorted, n, sizeof(sorted[0]), by_number);
        st->hot = sorted[(unsigned)(HOT_RANK * (n - 1))];
    }
}

static void
on_probe(void *state, const struct place_view *v, uint32_t index, uint32_t in_flight, mc_ns latency,
         mc_ns now)
{
    struct state *st = state;

    note_seen(st, in_flight);
    if (st->n == POOL)
        drop(st, 0);
    st->pool[st->n++] = (struct answer){index, in_flight, latency, now, 0};
}

static unsigned
probe_want(void *state, const struct place_view *v, struct rng *rng, uint32_t *out, unsigned max)
{
    unsigned n = 0;

    while (n < PROBES && n < max && v->n > 0)
        out[n++] = rng_below(rng, v->n);
    return n;
}

/* --- the policy ---------------------------------------------------------------------------------
 */

static int
best_answer(const struct state *st, const struct place_view *v, const struct place_ask *ask)
{
    int best = -1;

    for (unsigned i = 0; i < st->n; i++)
        if (choose_may(v, ask, st->pool[i].index) &&
            (best < 0 || is_worse(st, &st->pool[best], &st->pool[i])))
            best = (int)i;
    return best;
}

static struct place_answer
pick_of_two(struct state *st, const struct place_view *v, const struct place_ask *ask,
            struct rng *rng)
{
    int32_t a = draw_pick(st->draw, v, ask, -1, rng), b;

    if (a < 0)
        a = choose_scan_least(v, ask, rng);
    if (a < 0)
        return choose_failed(v, ask, rng);
    b = draw_pick(st->draw, v, ask, a, rng);
    if (b >= 0 && choose_less_busy(v, (uint32_t)b, (uint32_t)a))
        a = b;
    return choose_done(v, ask, (uint32_t)a, PLACE_LEAST_OF_TWO);
}

/* hot: once per attempt */
static struct place_answer
pick(const void *shared, void *state, const struct place_view *v, const struct place_ask *ask,
     struct rng *rng)
{
    struct state *st = state;
    uint32_t index;
    bool hot;
    int best;

    drop_old(st, ask->now);
    best = st->n < POOL_LEAST ? -1 : best_answer(st, v, ask);
    if (best < 0)
        return pick_of_two(st, v, ask, rng);
    index = st->pool[best].index;
    hot = st->pool[best].in_flight > st->hot;
    st->pool[best].in_flight++; /* ours comes on top */
    if (++st->pool[best].uses >= uses_most(v->n))
        drop(st, (unsigned)best);
    drop_one(st);
    return choose_done(v, ask, index, hot ? PLACE_PREQUAL_HOT : PLACE_PREQUAL);
}

const struct policy policy_prequal = {
    .name = "prequal",
    .state_new = state_new,
    .state_free = state_free,
    .pick = pick,
    .probe_want = probe_want,
    .on_probe = on_probe,
};
