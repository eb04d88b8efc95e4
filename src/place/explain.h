/* SPDX-License-Identifier: BSD-2-Clause
 *
 * explain.h - which server a request would get now, and why not another.  Pure.
 *
 * Asks the policy itself, and looks at each server with the policy's own eyes (resource.h). Nothing
 * is claimed or counted.  Control thread.
 */
#ifndef MC_PLACE_EXPLAIN_H
#define MC_PLACE_EXPLAIN_H

#include "place/policy.h"

#define EXPLAIN_VERDICTS(X)                                                      \
    X(CHOSEN, "chosen", "it would get the request")                              \
    X(ELIGIBLE, "eligible", "it may get the request")                            \
    X(CLOSED, "closed", "it is not to be used")                                  \
    X(EJECTED, "ejected", "it failed lately")                                    \
    X(FULL, "full", "it has as many requests as it may have")                    \
    X(MEMORY, "memory", "it has not the memory that the request needs")          \
    X(SCORE, "score", "it is as crowded for its speed, or more")                 \
    X(UNDRAWN, "not-drawn", "it is less crowded, but chance did not look at it") \
    X(AWAY, "away", "it is outside of this balancer's home, and the request is light")

enum explain_verdict {
#define X(id, name, text) EXPLAIN_##id,
    EXPLAIN_VERDICTS(X)
#undef X
};

const char *explain_name(enum explain_verdict); /* "not-drawn" */
const char *explain_text(enum explain_verdict);

struct explain_server {
    enum explain_verdict verdict;
    bool scored; /* what follows is known, by the policy resource */
    bool home;
    double score;  /* less is better; price included */
    double price;  /* above 1 outside of the home */
    double wanted; /* cores, by all requests there */
    double cores;  /* negative: unknown, taken for 1 */
    double factor; /* how much slower than its cores promise */
};

struct explain {
    bool settled; /* else one of those that are eligible, by chance or in turn */
    struct place_answer answer;
};

/* out: [view->n].  shared: of the pool, see struct policy. */
struct explain explain_pick(const struct policy *, const void *shared, const struct place_view *,
                            const struct place_ask *, struct rng *, struct explain_server *out);

#endif
