/* SPDX-License-Identifier: BSD-2-Clause
 *
 * arena.h - memory of one transaction: taken piece by piece, dropped in one step.  One thread.
 *
 * Chunks come from malloc through a small cache that the worker owns, so that a steady state
 * allocates nothing.
 */
#ifndef MC_BASE_ARENA_H
#define MC_BASE_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

struct arena_chunk {
    struct arena_chunk *next;
    size_t cap;
    char bytes[];
};

/* Free standard chunks, kept for the next transaction.  One per worker.  Zero-initialise;
 * max_free 0 means ARENA_CACHE_CHUNKS. */
struct arena_cache {
    struct arena_chunk *free;
    unsigned n_free, max_free;
};

struct arena {
    struct arena_chunk *chunks; /* newest first */
    struct arena_cache *cache;  /* may be NULL */
    char *at, *end;
    size_t total_bytes;
};

#define ARENA_CHUNK        4000 /* standard chunk; larger wishes get a chunk of their own */
#define ARENA_CACHE_CHUNKS 256  /* 1 MiB a worker: what some 200 requests at once use */

void arena_init(struct arena *, struct arena_cache *);
/* Aligned to 16; never NULL (panics when the system has no memory). Not zeroed. */
void *arena_alloc(struct arena *, size_t bytes);
void *arena_zalloc(struct arena *, size_t bytes);
/* The copy is NUL-terminated behind its length. */
struct str arena_str(struct arena *, struct str);
struct str arena_printf(struct arena *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Gives everything back; the arena can be used again at once. */
void arena_drop(struct arena *);
void arena_cache_free(struct arena_cache *);

#endif
