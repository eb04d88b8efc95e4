/* SPDX-License-Identifier: BSD-2-Clause
 *
 * choose.c - the scans behind the policies, for when a few looks were not enough.  Pure.
 */
#include "place/choose.h"

/* True with probability weight / total: keeps one of a stream, each in proportion to its weight
 * (Chao 1982). */
static bool
keep(struct rng *rng, uint32_t weight, uint64_t *total)
{
    *total += weight;
    return rng_unit(rng) * (double)*total < (double)weight;
}

int32_t
choose_scan_random(const struct place_view *v, const struct place_ask *ask, struct rng *rng)
{
    uint64_t total = 0;
    int32_t kept = -1;

    for (uint32_t i = 0; i < v->n; i++)
        if (choose_may(v, ask, i) && keep(rng, choose_weight(v, i), &total))
            kept = (int32_t)i;
    return kept;
}

int32_t
choose_scan_least(const struct place_view *v, const struct place_ask *ask, struct rng *rng)
{
    uint64_t tied = 0;
    int32_t best = -1;

    for (uint32_t i = 0; i < v->n; i++) {
        if (!choose_may(v, ask, i))
            continue;
        if (best < 0 || choose_less_busy(v, i, (uint32_t)best)) {
            best = (int32_t)i;
            tied = choose_weight(v, i);
        } else if (!choose_less_busy(v, (uint32_t)best, i) &&
                   keep(rng, choose_weight(v, i), &tied)) {
            best = (int32_t)i;
        }
    }
    return best;
}

static bool
another_may(const struct place_view *v, const struct place_ask *ask, uint32_t index)
{
    unsigned looks = v->n - 1 < CHOOSE_PROBES ? v->n - 1 : CHOOSE_PROBES;

    for (unsigned k = 1; k <= looks; k++) {
        uint32_t i = index + k < v->n ? index + k : index + k - v->n;

        if (choose_may(v, ask, i))
            return true;
    }
    return looks < v->n - 1; /* not proven */
}

struct place_answer
choose_done(const struct place_view *v, const struct place_ask *ask, uint32_t index,
            enum place_reason reason)
{
    return (struct place_answer){(int32_t)index, another_may(v, ask, index) ? reason : PLACE_ONLY};
}

struct place_answer
choose_failed(const struct place_view *v, const struct place_ask *ask, struct rng *rng)
{
    static const struct place_ask anything;
    bool any_open = false;
    int32_t i;

    for (uint32_t k = 0; k < v->n; k++) {
        if (!place_is_open(v->load[k]))
            continue;
        any_open = true;
        /* an open one that was not tried is full: better to wait for it than to fail again */
        if (!choose_tried(ask, k))
            return (struct place_answer){-1, PLACE_FULL};
    }
    if (!any_open)
        return (struct place_answer){-1, PLACE_NONE};
    i = choose_scan_least(v, &anything, rng);
    if (i < 0)
        return (struct place_answer){-1, PLACE_FULL};
    return (struct place_answer){i, PLACE_LAST_RESORT};
}
