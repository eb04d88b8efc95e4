/* SPDX-License-Identifier: BSD-2-Clause
 *
 * policy.h - which server gets this request: one small interface, one file a policy.  Pure: no
 * clock, no socket, no allocation in a pick.
 */
#ifndef MC_PLACE_POLICY_H
#define MC_PLACE_POLICY_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/rand.h"
#include "base/str.h"
#include "base/units.h"

#define PLACE_WEIGHT_UNIT 256 /* weight 1 of the configuration; slow start scales below it */

/* What placement reads of one server, in a cache line of its own.  in_flight is written by every
 * worker (relaxed atomics); the rest by fleet, seldom. */
struct place_load {
    alignas(64) _Atomic int32_t in_flight;
    _Atomic uint32_t weight; /* in 1/PLACE_WEIGHT_UNIT, slow start applied; 0 gets nothing new */
    _Atomic uint32_t open;   /* 1: may be chosen (health, drain, backup, panic are settled in it) */
    _Atomic uint32_t max_in_flight; /* 0: no limit */
};

static inline bool
place_is_open(const struct place_load *l)
{
    return atomic_load_explicit(&((struct place_load *)l)->open, memory_order_relaxed) != 0 &&
           atomic_load_explicit(&((struct place_load *)l)->weight, memory_order_relaxed) != 0;
}

static inline bool
place_is_full(const struct place_load *l)
{
    uint32_t max =
        atomic_load_explicit(&((struct place_load *)l)->max_in_flight, memory_order_relaxed);
    return max != 0 && atomic_load_explicit(&((struct place_load *)l)->in_flight,
                                            memory_order_relaxed) >= (int32_t)max;
}

/* The servers of a pool as a policy sees them; fixed for the life of a snapshot. */
struct place_view {
    struct place_load *const *load; /* [n] */
    const uint64_t *id_hash;        /* [n]: hash of the server's name, for hashing policies */
    unsigned n;
    /* For the bounded load of hash: requests in flight in the whole pool, the one being placed
     * included, and the weights of the open servers together.  NULL: the policy adds up itself. */
    const _Atomic int32_t *in_flight;
    const _Atomic uint64_t *open_weight;
    /* What is learned of the servers (load.h), for resource; NULL: nothing is. */
    struct load_table *table;
};

struct place_cost;

/* The request. */
struct place_ask {
    bool has_key;
    uint64_t key;          /* hash of address, URI, header or cookie */
    const uint32_t *tried; /* indices this request was at already; not chosen again unless nothing
                              else is open */
    unsigned n_tried;
    const struct place_cost *cost; /* of its class (cost.h), for resource; NULL: unknown */
    mc_ns now;                     /* for policies that look at the age of what they know */
};

#define PLACE_REASONS(X)                                                       \
    X(NONE, "no server is available")                                          \
    X(FULL, "every available server is at its limit")                          \
    X(ONLY, "the only one available")                                          \
    X(ROUND_ROBIN, "next in turn")                                             \
    X(RANDOM, "drawn by weight")                                               \
    X(LEAST_OF_TWO, "fewer requests in flight of two drawn")                   \
    X(LEAST_OF_ALL, "fewest requests in flight")                               \
    X(HASH, "owner of the key")                                                \
    X(HASH_NEXT, "next after the key's owner, which is unavailable")           \
    X(HASH_BOUND, "next after the key's owner, which has more than its share") \
    X(HASH_NO_KEY, "no key in the request: fewer in flight of two drawn")      \
    X(LAST_RESORT, "tried before, but nothing else is open")                   \
    X(RESOURCE, "least crowded for its speed in this balancer's home")         \
    X(RESOURCE_AWAY, "least crowded for its speed, outside of the home")       \
    X(RESOURCE_OLD, "fewer in flight of two drawn: what is known is too old")  \
    X(PEAK_EWMA, "least latency times requests in flight of two drawn")        \
    X(PREQUAL, "least latency of the probed that are not crowded")             \
    X(PREQUAL_HOT, "all probed are crowded: fewest requests in flight")

enum place_reason {
#define X(name, text) PLACE_##name,
    PLACE_REASONS(X)
#undef X
};

const char *place_reason_name(enum place_reason); /* "least-of-two" */
const char *place_reason_text(enum place_reason);

struct place_answer {
    int32_t index; /* into the view; -1: NONE or FULL */
    enum place_reason reason;
};

struct place_params {
    bool full_scan; /* least-request: look at all instead of two */
    bool maglev;    /* hash: Maglev table (Eisenbud 2016) instead of a ring (Karger 1997) */
    double bound;   /* hash: 1.25 = at most 1.25 of the mean in flight (Mirrokni 2018); 0 none */
    unsigned table_size; /* ring points per weight unit or Maglev table size; 0: default */
};

/* A policy.  shared: built once per pool and snapshot, read by all workers (Maglev table, ring).
 * state: one per worker and pool (position of a round robin).  The view of shared_new() is good for
 * that call only, and of its loads just the configured weights are read; state_new() and pick() get
 * the live one.  _new and _free may be NULL: the policy needs none. */
struct policy {
    const char *name;
    void *(*shared_new)(const struct place_view *, const struct place_params *);
    void (*shared_free)(void *);
    void *(*state_new)(const struct place_view *, struct rng *);
    void (*state_free)(void *);
    /* hot: once per attempt */
    struct place_answer (*pick)(const void *shared, void *state, const struct place_view *,
                                const struct place_ask *, struct rng *);
    /* For policies that learn by themselves, each NULL when not.  hot: once per attempt.
     * An attempt ended: how long it took from dispatch to the last byte, and whether well. */
    void (*on_end)(void *state, const struct place_view *, uint32_t index, mc_ns latency, bool ok,
                   mc_ns now);
    /* Servers that it wants to ask now how busy they are; returns how many, at most max. */
    unsigned (*probe_want)(void *state, const struct place_view *, struct rng *, uint32_t *out,
                           unsigned max);
    /* What one answered: requests in flight there, and how long they take at about that number. */
    void (*on_probe)(void *state, const struct place_view *, uint32_t index, uint32_t in_flight,
                     mc_ns latency, mc_ns now);
};

/* NULL when there is none of that name.
 * Names: round-robin random least-request hash resource peak-ewma prequal */
const struct policy *policy_find(struct str name);
/* The i-th policy, NULL at the end: for help texts. */
const struct policy *policy_at(unsigned i);

#endif
