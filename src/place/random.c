/* SPDX-License-Identifier: BSD-2-Clause
 *
 * random.c - the policy "random": a server drawn by weight.  Pure.
 *
 * Needs no knowledge and no memory, so balancers that do not know each other do not fall into step.
 */
#include "place/choose.h"
#include "place/draw.h"

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

/* hot: once per attempt */
static struct place_answer
pick(const void *shared, void *state, const struct place_view *v, const struct place_ask *ask,
     struct rng *rng)
{
    int32_t i = draw_pick(state, v, ask, -1, rng);

    if (i < 0)
        i = choose_scan_random(v, ask, rng);
    if (i < 0)
        return choose_failed(v, ask, rng);
    return choose_done(v, ask, (uint32_t)i, PLACE_RANDOM);
}

const struct policy policy_random = {
    .name = "random",
    .state_new = state_new,
    .state_free = state_free,
    .pick = pick,
};
