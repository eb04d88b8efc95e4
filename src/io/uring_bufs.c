/* SPDX-License-Identifier: BSD-2-Clause
 *
 * uring_bufs.c - the receive buffers that the kernel chooses from, see uring.h.
 *
 * Each is a block of the loop's pool.  One that is taken by its reader is replaced at once, so the
 * kernel has all of them again after each batch and an idle socket holds none.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/poison.h"
#include "io/uring.h"

static void
give_to_kernel(struct uring_state *u, unsigned id, struct block *b)
{
    b->off = BLOCK_HEADROOM;
    b->len = 0;
    u->block[id] = b;
    io_uring_buf_ring_add(u->bufs, block_at(b), BLOCK_RX, (unsigned short)id,
                          io_uring_buf_ring_mask(URING_BUFS), 0);
    io_uring_buf_ring_advance(u->bufs, 1);
    MC_POISON(b->data, b->cap); /* the kernel's now */
}

bool
uring_bufs_open(struct uring_state *u, struct block_pool *pool, struct errbuf *note)
{
    struct io_uring_buf_reg reg = {.ring_entries = URING_BUFS, .bgid = URING_BUF_GROUP};
    void *mem;
    int rc;

    if (posix_memalign(&mem, 4096, URING_BUFS * sizeof(struct io_uring_buf)) != 0) {
        err_set(note, "no memory for the buffers of io_uring");
        return false;
    }
    memset(mem, 0, URING_BUFS * sizeof(struct io_uring_buf));
    u->bufs = mem;
    reg.ring_addr = (uintptr_t)mem;
    rc = io_uring_register_buf_ring(&u->ring, &reg, 0);
    if (rc < 0) {
        err_set(note, "io_uring has no buffer rings here: %s", strerror(-rc));
        free(mem);
        return false;
    }
    for (unsigned id = 0; id < URING_BUFS; id++)
        give_to_kernel(u, id, block_take(pool, BLOCK_RX));
    return true;
}

/* After the ring was closed: the kernel writes no more. */
void
uring_bufs_close(struct uring_state *u, struct block_pool *pool)
{
    for (unsigned id = 0; u->bufs && id < URING_BUFS; id++) {
        MC_ASSERT(u->block[id] != NULL);
        block_give(pool, &u->block[id]);
    }
    free(u->bufs);
}

/* hot: once per received block */
struct block *
uring_buf_claim(struct uring_state *u, unsigned id, size_t n)
{
    struct block *b;

    MC_ASSERT(id < URING_BUFS && u->block[id] != NULL && n <= BLOCK_RX);
    b = u->block[id];
    u->block[id] = NULL;
    MC_UNPOISON(b->data, b->cap);
    b->len = (uint32_t)n;
    return b;
}

/* hot: the other half */
void
uring_buf_return(struct uring_state *u, struct block_pool *pool, unsigned id, struct block *left)
{
    MC_ASSERT(u->block[id] == NULL);
    give_to_kernel(u, id, left ? left : block_take(pool, BLOCK_RX));
}
