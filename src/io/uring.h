/* SPDX-License-Identifier: BSD-2-Clause
 *
 * uring.h - private to the io_uring engine: its ring (uring_ring.c), its receive buffers
 * (uring_bufs.c), and loop_uring.c that uses both.
 */
#ifndef MC_IO_URING_H
#define MC_IO_URING_H

#include <liburing.h>

#include "io/engine.h"

/* Receive buffers of one loop: 128 * 16 KiB.  Memory is touched only as far as bytes arrive, and
 * one call of io_uring_enter(2) fills about twenty before we can put some back, unless streams are
 * large: then a starved socket is armed again at the end of the turn. */
#define URING_BUFS          128
#define URING_BUF_GROUP     0

/* Memory for messages and addresses that the kernel reads when it takes the entry. */
#define URING_SCRATCH_BYTES 32768

struct uring_state {
    struct io_uring ring;
    bool begun;              /* enabled, by the thread that turns the loop */
    pid_t owner;             /* ... which is the only one that may enter */
    int enter_fd;            /* the ring, or its index among the thread's registered ones */
    unsigned enter_flags;    /* IORING_ENTER_REGISTERED_RING in the latter case */
    uint32_t batch;          /* counts submissions: which entries the kernel has seen */
    struct list watch_nodes; /* polls of watches in the kernel */
    int accept_fd;           /* epoll: of listeners */
    struct watch accept_watch;

    struct io_uring_buf_ring *bufs;
    struct block *block[URING_BUFS]; /* by buffer id; NULL while its bytes are delivered */

    size_t scratch_used;
    char scratch[URING_SCRATCH_BYTES] __attribute__((aligned(16)));
};

/* --- uring_ring.c ----------------------------------------------------------------------------- */

bool uring_ring_open(struct uring_state *, struct errbuf *note);
void uring_ring_close(struct uring_state *);
/* An entry to be filled in; what was queued is submitted when the queue is full. */
struct io_uring_sqe *uring_sqe(struct uring_state *);
/* Memory that stays until the next submission, and room for the entry that names it. */
void *uring_scratch(struct uring_state *, size_t bytes);
/* Submits what is queued; nothing when another thread has turned the loop. */
void uring_submit(struct uring_state *);
/* Submits what is queued and waits for a completion. */
void uring_enter(struct uring_state *, mc_ns max_wait_ns);

/* --- uring_bufs.c ----------------------------------------------------------------------------- */

bool uring_bufs_open(struct uring_state *, struct block_pool *, struct errbuf *note);
void uring_bufs_close(struct uring_state *, struct block_pool *);
/* The kernel has put n bytes into this buffer. */
struct block *uring_buf_claim(struct uring_state *, unsigned id, size_t n);
/* The buffer goes back to the kernel: with what was left of it, or with a fresh block. */
void uring_buf_return(struct uring_state *, struct block_pool *, unsigned id, struct block *left);

#endif
