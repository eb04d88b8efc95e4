/* SPDX-License-Identifier: BSD-2-Clause
 *
 * block.h - the pieces of memory in which bytes travel.  One pool per loop, one thread.
 *
 * A block has exactly one owner at any time: the engine (while a read goes into it), whoever took
 * it in on_recv, or one send queue.  A function that takes `struct block **` becomes the owner and
 * leaves NULL.
 *
 *      data            data+off         data+off+len         data+cap
 *       |<- headroom ->|<---- bytes ---->|<---- tailroom ---->|
 *
 * Blocks that the engine reads into keep BLOCK_HEADROOM bytes before the data and BLOCK_TAILROOM
 * behind it, so that a codec can frame a chunk in place.
 */
#ifndef MC_IO_BLOCK_H
#define MC_IO_BLOCK_H

#include <stddef.h>
#include <stdint.h>

#define BLOCK_HEADROOM 24 /* "ffffffffffffffff\r\n", and then some */
#define BLOCK_TAILROOM 8  /* "\r\n0\r\n\r\n" less one, see h1_chunk_frame */

#define BLOCK_SMALL    2048  /* partial heads and small writes */
#define BLOCK_RX       16384 /* what one read takes */
#define BLOCK_BULK     65536 /* one read of a socket that has shown itself to be busy */

struct block {
    struct block *next; /* in the queue that owns it */
    uint32_t cap;       /* bytes of data[] */
    uint32_t off, len;  /* the bytes in use */
    uint16_t cls;       /* which free list */
    uint16_t ring_id;   /* engine's: provided-buffer id, when the memory belongs to a ring */
    char *data;
};

struct block_pool;

struct block_pool *block_pool_new(void);
void block_pool_free(struct block_pool **); /* every block must be back (asserted) */
/* A block with at least `bytes` of room behind the headroom; off = BLOCK_HEADROOM, len = 0. */
struct block *block_take(struct block_pool *, size_t bytes);
void block_give(struct block_pool *, struct block **);
/* Appends n bytes to *b, which may be NULL; moves to a larger block when it has to. */
void block_append(struct block_pool *, struct block **b, const void *, size_t n);
/* Bytes of memory held by the pool, in use or free. */
size_t block_pool_bytes(const struct block_pool *);
/* Blocks handed out and not given back. */
size_t block_pool_used(const struct block_pool *);

static inline char *
block_at(struct block *b)
{
    return b->data + b->off;
}

/* Bytes that can still be appended. */
static inline size_t
block_room(const struct block *b)
{
    return b->cap - b->off - b->len;
}

/* Drops n bytes from the front. */
static inline void
block_skip(struct block *b, size_t n)
{
    b->off += (uint32_t)n;
    b->len -= (uint32_t)n;
}

#endif
