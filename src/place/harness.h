/* SPDX-License-Identifier: BSD-2-Clause
 *
 * harness.h - for the tests of this room: a pool of made-up servers and a worker that picks.
 */
#ifndef MC_PLACE_HARNESS_H
#define MC_PLACE_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "place/policy.h"

#define UNUSED __attribute__((unused))

/* Servers named s0, s1, ... */
struct rig {
    struct place_load *load; /* [n] */
    struct place_load **at;
    uint64_t *id_hash;
    struct place_view view;
    struct place_params params;
    const struct policy *policy;
    void *shared, *state;
    struct rng rng;
    unsigned *count; /* [n] picks since rig_count_reset() */
};

static void UNUSED
rig_init(struct rig *r, unsigned n)
{
    *r = (struct rig){.view.n = n};
    r->load = mc_alloc_lines(n * sizeof(*r->load));
    r->at = mc_alloc((n + 1) * sizeof(struct place_load *));
    r->id_hash = mc_alloc((n + 1) * sizeof(*r->id_hash));
    r->count = mc_alloc((n + 1) * sizeof(*r->count));
    for (unsigned i = 0; i < n; i++) {
        char name[16];

        snprintf(name, sizeof(name), "s%u", i);
        r->id_hash[i] = str_hash(str_of(name), 0);
        r->at[i] = &r->load[i];
        r->load[i].open = 1;
        r->load[i].weight = PLACE_WEIGHT_UNIT;
    }
    r->view.load = r->at;
    r->view.id_hash = r->id_hash;
    rng_seed(&r->rng, 7);
}

static void UNUSED
rig_weights(struct rig *r, const unsigned *weights)
{
    for (unsigned i = 0; i < r->view.n; i++)
        r->load[i].weight = weights[i] * PLACE_WEIGHT_UNIT;
}

/* After weights, openness and params are as they should be at the start. */
static void UNUSED
rig_start(struct rig *r, const char *policy)
{
    r->policy = policy_find(str_of(policy));
    assert_non_null(r->policy);
    if (r->policy->shared_new)
        r->shared = r->policy->shared_new(&r->view, &r->params);
    if (r->policy->state_new)
        r->state = r->policy->state_new(&r->view, &r->rng);
}

static void UNUSED
rig_stop(struct rig *r)
{
    if (r->policy->shared_free)
        r->policy->shared_free(r->shared);
    if (r->policy->state_free)
        r->policy->state_free(r->state);
    r->shared = r->state = NULL;
}

static void UNUSED
rig_free(struct rig *r)
{
    rig_stop(r);
    free(r->load);
    free(r->at);
    free(r->id_hash);
    free(r->count);
}

static struct place_answer UNUSED
rig_ask(struct rig *r, const struct place_ask *ask)
{
    struct place_answer a = r->policy->pick(r->shared, r->state, &r->view, ask, &r->rng);

    if (a.index >= 0)
        r->count[a.index]++;
    return a;
}

static struct place_answer UNUSED
rig_pick(struct rig *r)
{
    return rig_ask(r, &(struct place_ask){0});
}

static struct place_answer UNUSED
rig_key(struct rig *r, uint64_t key)
{
    return rig_ask(r, &(struct place_ask){.has_key = true, .key = key});
}

static void UNUSED
rig_count_reset(struct rig *r)
{
    memset(r->count, 0, r->view.n * sizeof(*r->count));
}

/* x is within `share` of what it should be. */
#define assert_near(x, should, share)                            \
    do {                                                         \
        double x_ = (x), s_ = (should);                          \
        if (x_ < s_ * (1 - (share)) || x_ > s_ * (1 + (share)))  \
            fail_msg("%s is %g, should be near %g", #x, x_, s_); \
    } while (0)

#endif
