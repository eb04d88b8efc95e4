/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ring.h - records of one size on their way from one thread to one other, without a lock.
 *
 * The writer fills a slot and sends it, the reader looks at the oldest and drops it: two counters
 * that run freely, each written by one side and on a cache line of its own.  A full ring takes
 * nothing more: the writer counts what it had to leave out.
 */
#ifndef MC_BASE_RING_H
#define MC_BASE_RING_H

#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/stats.h"

struct ring {
    char *slots; /* fixed after ring_init() */
    size_t slot_bytes;
    uint32_t n_slots; /* a power of two */
    /* the writer's */
    alignas(64) _Atomic uint32_t sent;
    uint32_t dropped_seen; /* what it last saw of `dropped`: the reader's line is seldom touched */
    stat_u64 n_lost;       /* found no slot */
    /* the reader's */
    alignas(64) _Atomic uint32_t dropped;
};

/* n_slots: a power of two.  Memory that no record came to yet is only reserved. */
void ring_init(struct ring *, uint32_t n_slots, size_t slot_bytes);
void ring_fini(struct ring *);

/* --- writer: hot -------------------------------------------------------------------------------
 */

/* True when `n` more can be sent now. */
static inline bool
ring_has_room(struct ring *r, uint32_t n)
{
    uint32_t sent = atomic_load_explicit(&r->sent, memory_order_relaxed);

    if (r->n_slots - (sent - r->dropped_seen) >= n)
        return true;
    r->dropped_seen = atomic_load_explicit(&r->dropped, memory_order_acquire);
    return r->n_slots - (sent - r->dropped_seen) >= n;
}

/* The slot that ring_send() will send; NULL: the ring is full, which is counted. */
static inline void *
ring_slot(struct ring *r)
{
    uint32_t sent = atomic_load_explicit(&r->sent, memory_order_relaxed);

    if (!ring_has_room(r, 1)) {
        stat_add(&r->n_lost, 1);
        return NULL;
    }
    return r->slots + (sent & (r->n_slots - 1)) * r->slot_bytes;
}

static inline void
ring_send(struct ring *r)
{
    uint32_t sent = atomic_load_explicit(&r->sent, memory_order_relaxed);

    atomic_store_explicit(&r->sent, sent + 1, memory_order_release);
}

/* --- reader ------------------------------------------------------------------------------------
 */

/* The oldest record, good until ring_drop(); NULL: there is none. */
static inline const void *
ring_oldest(struct ring *r)
{
    uint32_t at = atomic_load_explicit(&r->dropped, memory_order_relaxed);

    if (atomic_load_explicit(&r->sent, memory_order_acquire) == at)
        return NULL;
    return r->slots + (at & (r->n_slots - 1)) * r->slot_bytes;
}

static inline void
ring_drop(struct ring *r)
{
    uint32_t at = atomic_load_explicit(&r->dropped, memory_order_relaxed);

    atomic_store_explicit(&r->dropped, at + 1, memory_order_release);
}

#endif
