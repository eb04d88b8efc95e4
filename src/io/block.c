/* SPDX-License-Identifier: BSD-2-Clause
 *
 * block.c - see block.h.
 *
 * One malloc per block, header and data together; three free lists, last given first taken, since
 * what was used last is still in the cache.
 */
#include "io/block.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/poison.h"

enum block_cls { CLS_SMALL, CLS_RX, CLS_BULK, CLS_LARGE };
#define N_LISTS CLS_LARGE /* large ones go straight back to malloc */

static const uint32_t cls_bytes[N_LISTS] = {BLOCK_SMALL, BLOCK_RX, BLOCK_BULK};

/* What a free list keeps after a burst.  A guess: 4 MiB is a quarter of a second of one busy
 * connection at 16 MB/s, and little beside what a worker holds anyway. */
#define KEEP_BYTES (4u << 20)

#define POOL_MAGIC 0x626c6b70u

struct block_pool {
    unsigned magic;
    unsigned n_free[N_LISTS];
    struct block *free[N_LISTS];
    size_t bytes, used;
};

/* --- pool ------------------------------------------------------------------------------------ */

struct block_pool *
block_pool_new(void)
{
    struct block_pool *p = mc_alloc(sizeof(*p));

    p->magic = POOL_MAGIC;
    return p;
}

static void
block_destroy(struct block_pool *p, struct block *b)
{
    p->bytes -= sizeof(*b) + b->cap;
    MC_UNPOISON(b->data, b->cap);
    free(b);
}

void
block_pool_free(struct block_pool **pp)
{
    struct block_pool *p = *pp;

    if (p == NULL)
        return;
    MC_CHECK(p, POOL_MAGIC);
    MC_ASSERT(p->used == 0);
    for (unsigned cls = 0; cls < N_LISTS; cls++) {
        while (p->free[cls]) {
            struct block *b = p->free[cls];

            p->free[cls] = b->next;
            block_destroy(p, b);
        }
    }
    MC_ASSERT(p->bytes == 0);
    p->magic = 0;
    free(p);
    *pp = NULL;
}

static enum block_cls
class_for(size_t bytes)
{
    for (unsigned cls = 0; cls < N_LISTS; cls++)
        if (bytes <= cls_bytes[cls])
            return cls;
    return CLS_LARGE;
}

static __attribute__((cold, noinline)) struct block *
block_create(struct block_pool *p, enum block_cls cls, size_t bytes)
{
    size_t cap = BLOCK_HEADROOM + (cls < N_LISTS ? cls_bytes[cls] : bytes) + BLOCK_TAILROOM;
    struct block *b;

    MC_ASSERT(cap <= UINT32_MAX);
    b = malloc(sizeof(*b) + cap);
    MC_ASSERT(b != NULL);
    b->cap = (uint32_t)cap;
    b->cls = (uint16_t)cls;
    b->data = (char *)(b + 1);
    p->bytes += sizeof(*b) + cap;
    return b;
}

/* hot: once per received block that its taker keeps, and per send queue */
struct block *
block_take(struct block_pool *p, size_t bytes)
{
    enum block_cls cls = class_for(bytes);
    struct block *b = cls < N_LISTS ? p->free[cls] : NULL;

    if (b != NULL) {
        p->free[cls] = b->next;
        p->n_free[cls]--;
        MC_UNPOISON(b->data, b->cap);
    } else {
        b = block_create(p, cls, bytes);
    }
    p->used++;
    b->next = NULL;
    b->off = BLOCK_HEADROOM;
    b->len = 0;
    b->ring_id = 0;
    return b;
}

/* hot: the other half */
void
block_give(struct block_pool *p, struct block **bp)
{
    struct block *b = *bp;
    unsigned cls;

    if (b == NULL)
        return;
    cls = b->cls;
    MC_ASSERT(p->used > 0);
    p->used--;
    *bp = NULL;
    if (cls >= N_LISTS || (size_t)(p->n_free[cls] + 1) * cls_bytes[cls] > KEEP_BYTES) {
        block_destroy(p, b);
        return;
    }
    MC_POISON(b->data, b->cap); /* a use after the gift is found out */
    b->next = p->free[cls];
    p->free[cls] = b;
    p->n_free[cls]++;
}

size_t
block_pool_bytes(const struct block_pool *p)
{
    return p->bytes;
}

size_t
block_pool_used(const struct block_pool *p)
{
    return p->used;
}

void
block_append(struct block_pool *p, struct block **b, const void *bytes, size_t n)
{
    if (*b == NULL || block_room(*b) < n) {
        size_t have = *b != NULL ? (*b)->len : 0;
        struct block *bigger = block_take(p, have + n);

        if (*b != NULL) {
            memcpy(block_at(bigger), block_at(*b), have);
            bigger->len = (uint32_t)have;
            block_give(p, b);
        }
        *b = bigger;
    }
    memcpy(block_at(*b) + (*b)->len, bytes, n);
    (*b)->len += (uint32_t)n;
}
