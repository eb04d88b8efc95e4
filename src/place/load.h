/* SPDX-License-Identifier: BSD-2-Clause
 *
 * load.h - the load table: what a pick reads of every server, 16 bytes each, side by side.
 *
 * Workers add what they dispatch and take away what ended (relaxed atomics); control writes the
 * rest (know.c) and publishes which part of the ring is this balancer's home.  Records stand in the
 * order of the ring, on which servers lie by the hash of their names, so that a home is a run of
 * memory: 10,000 servers fit in 160 KB, and 16 candidates in four or five cache lines.
 */
#ifndef MC_PLACE_LOAD_H
#define MC_PLACE_LOAD_H

#include <assert.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/units.h"
#include "place/cost.h"

#define LOAD_OPEN    1u /* may be chosen, as fleet says */
#define LOAD_EJECTED 2u /* fails; for a while */
#define LOAD_CORES   4u /* the number of its cores is known */

struct load_hot {
    _Atomic int32_t own;   /* phi of this balancer's requests in flight there, in 1/COST_ONE */
    _Atomic int32_t peers; /* the same of the other balancers, by their last words */
    _Atomic uint32_t
        factor; /* bits of a float: how much slower than its cores promise; 1 average */
    _Atomic uint16_t per_core; /* 1 / cores: upper half of the bits of a float, exact to 0.4 % */
    _Atomic uint16_t flags;
};

static_assert(sizeof(struct load_hot) == 16, "10,000 servers must fit the second-level cache");

/* Read only when a request that needs much memory is placed; in COST_MEM_UNIT. */
struct load_mem {
    _Atomic int32_t own, peers; /* held by requests in flight */
    _Atomic uint32_t base;      /* what the service holds without them */
    _Atomic uint32_t limit;     /* what we let it come to; 0: unknown */
};

struct load_table {
    unsigned n;
    struct load_hot *hot; /* [n], by place on the ring, as is mem */
    struct load_mem *mem;
    uint32_t *pos;  /* [n] index in the view -> place */
    uint32_t *ring; /* [n] place -> index in the view */
    /* Apart from the counters that workers write. */
    alignas(64) _Atomic uint64_t home; /* first place << 32 | how many */
    _Atomic int64_t good_until_ns;     /* after it, what control wrote is too old to be trusted */
};

/* id_hash: of the view.  Everything open, one core each, home everywhere, nothing to be trusted. */
struct load_table *load_table_new(unsigned n, const uint64_t *id_hash);
void load_table_free(struct load_table **);

static inline float
load_float(uint32_t bits)
{
    float f;

    memcpy(&f, &bits, sizeof(f));
    return f;
}

static inline uint32_t
load_bits(float f)
{
    uint32_t bits;

    memcpy(&bits, &f, sizeof(bits));
    return bits;
}

static inline int32_t
load_n(const struct load_hot *h)
{
    int32_t peers = atomic_load_explicit(&((struct load_hot *)h)->peers, memory_order_relaxed);

    return atomic_load_explicit(&((struct load_hot *)h)->own, memory_order_relaxed) +
           (peers > 0 ? peers : 0);
}

static inline float
load_per_core(const struct load_hot *h)
{
    uint32_t half = atomic_load_explicit(&((struct load_hot *)h)->per_core, memory_order_relaxed);

    return load_float(half << 16);
}

static inline float
load_factor(const struct load_hot *h)
{
    return load_float(atomic_load_explicit(&((struct load_hot *)h)->factor, memory_order_relaxed));
}

static inline unsigned
load_flags(const struct load_hot *h)
{
    return atomic_load_explicit(&((struct load_hot *)h)->flags, memory_order_relaxed);
}

/* True when the server can hold so much more. */
static inline bool
load_has_room(const struct load_mem *m, uint32_t units)
{
    struct load_mem *w = (struct load_mem *)m;
    int64_t limit = atomic_load_explicit(&w->limit, memory_order_relaxed);
    int32_t peers = atomic_load_explicit(&w->peers, memory_order_relaxed);

    return limit == 0 || atomic_load_explicit(&w->own, memory_order_relaxed) +
                                 (int64_t)(peers > 0 ? peers : 0) +
                                 atomic_load_explicit(&w->base, memory_order_relaxed) + units <=
                             limit;
}

/* A request is dispatched.  Returns how crowded it finds the server: the number of times longer it
 * will take there than alone, 1 at least.  hot: once per attempt; any worker */
float load_begin(struct load_table *, uint32_t index, const struct place_cost *);
/* It ended; the cost is the one that it began with.  Returns how crowded it leaves the server,
 * itself counted: the mean of both is what the event tells, since a server that fills up meanwhile
 * is not slow by that.  A failed request is given back later, by know.c: a server that fails fast
 * must not look idle.  hot: once per attempt; any worker */
float load_end(struct load_table *, uint32_t index, const struct place_cost *);

/* --- what workers tell control -----------------------------------------------------------------
 */

enum place_event_kind {
    PLACE_BEGIN,
    PLACE_END_OK,
    PLACE_END_FAILED, /* by the server's fault: load_end() was not called */
    PLACE_END_VOID,   /* broken off by the client or for another reason: teaches nothing */
};

/* One at the begin and one at the end of each attempt.  Times are of one clock near wall time. */
struct place_event {
    mc_ns at_ns, begin_ns;
    uint32_t server; /* index in the view */
    uint16_t class;
    uint8_t kind;
    float crowd;            /* mean of what load_begin() and load_end() said */
    uint32_t rtt_us;        /* of the network, part of the latency that the server is innocent of */
    float said_s;           /* CPU-seconds by the server's own word; 0: it said nothing */
    struct place_cost cost; /* as it was counted at the begin */
};

/* What a response told of its server's load (ORCA); negative: it did not. */
struct place_word {
    mc_ns at_ns;
    uint32_t server;
    float cpu, application, memory; /* utilizations */
    float rps, eps;
};

#endif
