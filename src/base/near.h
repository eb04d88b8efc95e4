/* SPDX-License-Identifier: BSD-2-Clause
 *
 * near.h - "did you mean": the name that is nearest to what somebody wrote.  Pure.
 *
 *     struct near n = {.asked = str_of(text)};
 *     for (each name) near_offer(&n, name);
 *     if (n.best) ...
 */
#ifndef MC_BASE_NEAR_H
#define MC_BASE_NEAR_H

#include "base/str.h"

struct near {
    struct str asked;
    const char *best; /* NULL: nothing is near enough to be meant */
    unsigned distance;
};

static inline void
near_offer(struct near *n, const char *name)
{
    unsigned d = str_distance(n->asked, str_of(name));

    /* a third of the letters may be wrong: "retrys" means "retries", "foo" does not mean "host" */
    if (d > 1 + n->asked.n / 4 || (n->best != NULL && d >= n->distance))
        return;
    n->best = name;
    n->distance = d;
}

#endif
