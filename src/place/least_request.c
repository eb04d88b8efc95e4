/* SPDX-License-Identifier: BSD-2-Clause
 *
 * least_request.c - the policy "least-request": the less busy of two drawn by weight.  Pure.
 *
 * Two choices take the longest queue from log n / log log n to log log n (Mitzenmacher 1996), and
 * unlike a look at all of them do not send every balancer to the same idle server at once.  With
 * full_scan all are looked at: better where one balancer stands before few servers.
 *
 * Busy is requests in flight divided by weight.
 */
#include "base/check.h"

#include <stdlib.h>

#include "place/choose.h"
#include "place/draw.h"

struct shared {
    bool full_scan;
};

static void *
shared_new(const struct place_view *v, const struct place_params *params)
{
    struct shared *s = mc_alloc(sizeof(*s));

    s->full_scan = params->full_scan;
    return s;
}

static void *
state_new(const struct place_view *v, struct rng *rng)
{
    return draw_new(v);
}

static void
state_free(void *state)
{
    draw_free(state);
}

static struct place_answer
least_of_all(const struct place_view *v, const struct place_ask *ask, struct rng *rng)
{
    int32_t i = choose_scan_least(v, ask, rng);

    if (i < 0)
        return choose_failed(v, ask, rng);
    return choose_done(v, ask, (uint32_t)i, PLACE_LEAST_OF_ALL);
}

/* hot: once per attempt */
static struct place_answer
pick(const void *shared, void *state, const struct place_view *v, const struct place_ask *ask,
     struct rng *rng)
{
    const struct shared *s = shared;
    int32_t a, b;

    if (s->full_scan)
        return least_of_all(v, ask, rng);
    a = draw_pick(state, v, ask, -1, rng);
    if (a < 0)
        return least_of_all(v, ask, rng);
    b = draw_pick(state, v, ask, a, rng);
    if (b >= 0 && choose_less_busy(v, (uint32_t)b, (uint32_t)a))
        a = b;
    return choose_done(v, ask, (uint32_t)a, PLACE_LEAST_OF_TWO);
}

const struct policy policy_least_request = {
    .name = "least-request",
    .shared_new = shared_new,
    .shared_free = free,
    .state_new = state_new,
    .state_free = state_free,
    .pick = pick,
};
