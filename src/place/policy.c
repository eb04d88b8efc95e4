/* SPDX-License-Identifier: BSD-2-Clause
 *
 * policy.c - the registry of policies, and the words for their reasons.  Pure.
 */
#include "place/policy.h"

#include "base/check.h"
#include "place/choose.h"

static const struct policy *const policies[] = {
    &policy_round_robin, &policy_random,    &policy_least_request, &policy_hash,
    &policy_resource,    &policy_peak_ewma, &policy_prequal,
};

const struct policy *
policy_at(unsigned i)
{
    return i < MC_COUNT(policies) ? policies[i] : NULL;
}

const struct policy *
policy_find(struct str name)
{
    const struct policy *p;

    for (unsigned i = 0; (p = policy_at(i)); i++)
        if (str_eq(str_of(p->name), name))
            return p;
    return NULL;
}

/* Words for programs: the reason's name in lower case with dashes. */
static const char *const names[] = {
    [PLACE_NONE] = "none",
    [PLACE_FULL] = "full",
    [PLACE_ONLY] = "only",
    [PLACE_ROUND_ROBIN] = "round-robin",
    [PLACE_RANDOM] = "random",
    [PLACE_LEAST_OF_TWO] = "least-of-two",
    [PLACE_LEAST_OF_ALL] = "least-of-all",
    [PLACE_HASH] = "hash",
    [PLACE_HASH_NEXT] = "hash-next",
    [PLACE_HASH_BOUND] = "hash-bound",
    [PLACE_HASH_NO_KEY] = "hash-no-key",
    [PLACE_LAST_RESORT] = "last-resort",
    [PLACE_RESOURCE] = "resource",
    [PLACE_RESOURCE_AWAY] = "resource-away",
    [PLACE_RESOURCE_OLD] = "resource-old",
    [PLACE_PEAK_EWMA] = "peak-ewma",
    [PLACE_PREQUAL] = "prequal",
    [PLACE_PREQUAL_HOT] = "prequal-hot",
};

static const char *const texts[] = {
#define X(name, text) [PLACE_##name] = text,
    PLACE_REASONS(X)
#undef X
};

static_assert(MC_COUNT(names) == MC_COUNT(texts), "a reason has no name");

const char *
place_reason_name(enum place_reason r)
{
    MC_ASSERT(r < MC_COUNT(names));
    return names[r];
}

const char *
place_reason_text(enum place_reason r)
{
    MC_ASSERT(r < MC_COUNT(texts));
    return texts[r];
}
