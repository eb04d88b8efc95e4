/* SPDX-License-Identifier: BSD-2-Clause
 *
 * round_robin.c - the policy "round-robin": servers in turn, by weight, evenly interleaved.  Pure.
 *
 * Stride scheduling (Waldspurger, Weihl 1995): a server of weight w is due every 1/w, and the one
 * that is due first is next.  A heap keeps the order, so that a pick costs O(log n), where the
 * smooth round robin of nginx looks at every server.  First turns are spread over the period of
 * each server, in the order of the configuration from a random place: so no two workers are in
 * step, and weights 5, 1, 1 never give one server its turns of a round on end.
 *
 * A server that is closed, full or was tried is parked when its turn comes, and loses it.  Nobody
 * tells when it opens again or when a weight changes: every pick looks at RR_LOOKS servers in turn,
 * so it is seen within n / RR_LOOKS picks.  State of one worker, n is fixed.
 */
#include <stdlib.h>

#include "base/check.h"
#include "place/choose.h"

#define RR_LOOKS 4
#define PARKED   UINT32_MAX

struct turn {
    double due; /* in rounds: time passes by 1 while a server of weight 1 is due once */
    uint32_t index;
};

struct rr {
    unsigned n, n_heap;
    uint32_t cursor;    /* who is looked at next */
    double now;         /* when the last one served was due */
    struct turn *heap;  /* [n_heap], the first due on top */
    uint32_t *pos;      /* [n] place in the heap, or PARKED */
    uint32_t *weight;   /* [n] with which `due` was reckoned */
    double *parked_due; /* [n] */
};

/* --- the heap --------------------------------------------------------------------------------- */

static void
heap_place(struct rr *r, unsigned at, struct turn t)
{
    r->heap[at] = t;
    r->pos[t.index] = at;
}

static void
heap_up(struct rr *r, unsigned at, struct turn t)
{
    for (; at > 0 && t.due < r->heap[(at - 1) / 2].due; at = (at - 1) / 2)
        heap_place(r, at, r->heap[(at - 1) / 2]);
    heap_place(r, at, t);
}

static void
heap_down(struct rr *r, unsigned at, struct turn t)
{
    for (unsigned child; (child = 2 * at + 1) < r->n_heap; at = child) {
        if (child + 1 < r->n_heap && r->heap[child + 1].due < r->heap[child].due)
            child++;
        if (t.due <= r->heap[child].due)
            break;
        heap_place(r, at, r->heap[child]);
    }
    heap_place(r, at, t);
}

static void
heap_move(struct rr *r, unsigned at, struct turn t)
{
    if (t.due < r->heap[at].due)
        heap_up(r, at, t);
    else
        heap_down(r, at, t);
}

static void
heap_pop(struct rr *r)
{
    struct turn last = r->heap[--r->n_heap];

    r->pos[r->heap[0].index] = PARKED;
    if (r->n_heap > 0)
        heap_down(r, 0, last);
}

/* --- who takes part --------------------------------------------------------------------------- */

static double
period(uint32_t weight)
{
    return (double)PLACE_WEIGHT_UNIT / weight;
}

/* The server's turn is due, and it cannot take it. */
static void
park_first(struct rr *r)
{
    r->parked_due[r->heap[0].index] = r->heap[0].due;
    heap_pop(r);
}

/* Back into the heap.  Turns that it missed are not made up for. */
static void
unpark(struct rr *r, uint32_t i, uint32_t weight)
{
    double due = r->parked_due[i];

    r->weight[i] = weight;
    heap_up(r, r->n_heap++, (struct turn){due > r->now ? due : r->now, i});
}

/* The way that is left to its next turn shrinks as its weight grows: a server that slowly starts
 * would otherwise wait out the long period of its first moment. */
static void
reweigh(struct rr *r, uint32_t i, uint32_t weight)
{
    struct turn t = r->heap[r->pos[i]];

    t.due = r->now + (t.due - r->now) * r->weight[i] / weight;
    r->weight[i] = weight;
    heap_move(r, r->pos[i], t);
}

static void
look(struct rr *r, const struct place_view *v, uint32_t i)
{
    uint32_t weight = choose_weight(v, i);

    if (weight == 0 || !place_is_open(v->load[i]))
        return; /* parked when its turn comes */
    if (r->pos[i] != PARKED) {
        if (weight != r->weight[i])
            reweigh(r, i, weight);
    } else if (!place_is_full(v->load[i])) {
        unpark(r, i, weight);
    }
}

static void
tend(struct rr *r, const struct place_view *v, unsigned looks)
{
    for (unsigned k = 0; k < looks; k++) {
        look(r, v, r->cursor);
        r->cursor = r->cursor + 1 < r->n ? r->cursor + 1 : 0;
    }
}

/* --- the policy ------------------------------------------------------------------------------- */

static void
state_free(void *state)
{
    struct rr *r = state;

    if (!r)
        return;
    free(r->heap);
    free(r->pos);
    free(r->weight);
    free(r->parked_due);
    free(r);
}

static void *
state_new(const struct place_view *v, struct rng *rng)
{
    struct rr *r = mc_alloc(sizeof(*r));
    double start = rng_unit(rng);

    r->n = v->n;
    r->heap = mc_alloc((v->n + 1) * sizeof(*r->heap));
    r->pos = mc_alloc((v->n + 1) * sizeof(*r->pos));
    r->weight = mc_alloc((v->n + 1) * sizeof(*r->weight));
    r->parked_due = mc_alloc((v->n + 1) * sizeof(*r->parked_due));
    for (uint32_t i = 0; i < v->n; i++) {
        uint32_t weight = choose_weight(v, i);
        double phase = start + (double)i / v->n;

        r->pos[i] = PARKED;
        r->parked_due[i] = (phase < 1 ? phase : phase - 1) * period(weight ? weight : 1);
        look(r, v, i);
    }
    return r;
}

/* The server that is due first and may be chosen; -1 when the heap runs out. */
static int32_t
next_in_turn(struct rr *r, const struct place_view *v, const struct place_ask *ask)
{
    while (r->n_heap > 0) {
        struct turn t = r->heap[0];

        if (!choose_may(v, ask, t.index)) {
            park_first(r);
            continue;
        }
        r->now = t.due > r->now ? t.due : r->now;
        t.due += period(r->weight[t.index]);
        heap_down(r, 0, t);
        return (int32_t)t.index;
    }
    return -1;
}

/* hot: once per attempt */
static struct place_answer
pick(const void *shared, void *state, const struct place_view *v, const struct place_ask *ask,
     struct rng *rng)
{
    struct rr *r = state;
    int32_t i;

    MC_ASSERT(r->n == v->n);
    tend(r, v, r->n < RR_LOOKS ? r->n : RR_LOOKS);
    i = next_in_turn(r, v, ask);
    if (i < 0) {
        /* all are parked, maybe not with reason any more */
        tend(r, v, r->n);
        i = next_in_turn(r, v, ask);
    }
    if (i < 0)
        return choose_failed(v, ask, rng);
    return choose_done(v, ask, (uint32_t)i, PLACE_ROUND_ROBIN);
}

const struct policy policy_round_robin = {
    .name = "round-robin",
    .state_new = state_new,
    .state_free = state_free,
    .pick = pick,
};
