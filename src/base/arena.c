/* SPDX-License-Identifier: BSD-2-Clause
 *
 * arena.c - memory of one transaction.
 *
 * The newest standard chunk is filled from its start; what does not fit in its rest begins a new
 * one.  Under the address sanitizer only the bytes handed out are readable.
 */
#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/poison.h"

#define ALIGN 16

static_assert(ARENA_CHUNK % ALIGN == 0, "pieces of a chunk are aligned from its start");
static_assert(sizeof(struct arena_chunk) % ALIGN == 0, "malloc aligns to 16, and so must we");

void
arena_init(struct arena *a, struct arena_cache *cache)
{
    *a = (struct arena){.cache = cache};
}

static struct arena_chunk *
chunk_new(size_t cap)
{
    struct arena_chunk *c = malloc(sizeof(*c) + cap);

    MC_ASSERT(c != NULL);
    c->cap = cap;
    MC_POISON(c->bytes, cap);
    return c;
}

static struct arena_chunk *
chunk_take(struct arena_cache *cache)
{
    struct arena_chunk *c = cache ? cache->free : NULL;

    if (!c)
        return chunk_new(ARENA_CHUNK);
    cache->free = c->next;
    cache->n_free--;
    return c;
}

static void
chunk_give(struct arena_cache *cache, struct arena_chunk *c)
{
    unsigned max = cache && cache->max_free ? cache->max_free : ARENA_CACHE_CHUNKS;

    if (!cache || c->cap != ARENA_CHUNK || cache->n_free >= max) {
        free(c);
        return;
    }
    MC_POISON(c->bytes, c->cap);
    c->next = cache->free;
    cache->free = c;
    cache->n_free++;
}

/* A wish above the standard size gets a chunk for itself, put behind the newest one, whose rest
 * stays in use. */
static void *
alloc_large(struct arena *a, size_t bytes)
{
    struct arena_chunk *c;

    MC_ASSERT(bytes <= PTRDIFF_MAX - sizeof(*c) - ALIGN);
    /* one step more, so that no large chunk is taken for a standard one */
    c = chunk_new(bytes > ARENA_CHUNK ? bytes : ARENA_CHUNK + ALIGN);
    if (a->chunks) {
        c->next = a->chunks->next;
        a->chunks->next = c;
    } else {
        c->next = NULL;
        a->chunks = c;
    }
    return c->bytes;
}

static void *
alloc_cold(struct arena *a, size_t bytes, size_t step)
{
    struct arena_chunk *c;

    if (step > ARENA_CHUNK)
        return alloc_large(a, bytes);
    c = chunk_take(a->cache);
    c->next = a->chunks;
    a->chunks = c;
    a->at = c->bytes + step;
    a->end = c->bytes + c->cap;
    return c->bytes;
}

/* hot: several times per request */
void *
arena_alloc(struct arena *a, size_t bytes)
{
    size_t step = ((bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1)) + MC_REDZONE;
    void *p = a->at;

    MC_ASSERT(step >= bytes); /* a wish near SIZE_MAX wraps */
    if (step <= (size_t)(a->end - a->at))
        a->at += step;
    else
        p = alloc_cold(a, bytes, step);
    a->total_bytes += bytes;
    MC_UNPOISON(p, bytes);
    return p;
}

void *
arena_zalloc(struct arena *a, size_t bytes)
{
    return memset(arena_alloc(a, bytes), 0, bytes);
}

struct str
arena_str(struct arena *a, struct str s)
{
    char *p = arena_alloc(a, s.n + 1);

    if (s.n > 0)
        memcpy(p, s.p, s.n);
    p[s.n] = '\0';
    return (struct str){p, s.n};
}

struct str
arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap, again;
    char *p;
    int n;

    va_start(ap, fmt);
    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    MC_ASSERT(n >= 0);
    p = arena_alloc(a, (size_t)n + 1);
    vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return (struct str){p, (size_t)n};
}

void
arena_drop(struct arena *a)
{
    struct arena_chunk *next;

    for (struct arena_chunk *c = a->chunks; c; c = next) {
        next = c->next;
        chunk_give(a->cache, c);
    }
    arena_init(a, a->cache);
}

void
arena_cache_free(struct arena_cache *cache)
{
    struct arena_chunk *next;

    for (struct arena_chunk *c = cache->free; c; c = next) {
        next = c->next;
        free(c);
    }
    cache->free = NULL;
    cache->n_free = 0;
}
