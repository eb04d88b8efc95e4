/* SPDX-License-Identifier: BSD-2-Clause
 *
 * dgram.h - a UDP socket on a loop: batches in, batches out.
 *
 * Received in batches, a bounded number a turn, so that a flood cannot starve the loop.  What is
 * sent in a turn is queued in memory of the socket's own and leaves at the end of the turn in one
 * system call.  What finds no room, here or in the kernel, is dropped and counted: this is UDP.
 *
 * Called on the loop's thread.
 */
#ifndef MC_IO_DGRAM_H
#define MC_IO_DGRAM_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/stats.h"
#include "io/addr.h"
#include "io/loop.h"

#define DGRAM_BYTES_MAX 1400 /* to send: fits the MTU of a tunnel over Ethernet */
#define DGRAM_RECV_MAX  2048 /* received longer ones are dropped and counted */
#define DGRAM_QUEUE_MAX 1024 /* what one sendmmsg(2) takes */

struct dgram;

/* Writer: the loop's thread; any thread may read. */
#define DGRAM_COUNTERS(X)                                          \
    X(in, "datagrams received")                                    \
    X(in_bytes, "bytes received")                                  \
    X(in_long, "received ones dropped because they were too long") \
    X(in_dropped, "dropped by the kernel before they were read")   \
    X(in_errors, "errors of receiving")                            \
    X(out, "datagrams sent")                                       \
    X(out_bytes, "bytes sent")                                     \
    X(out_full, "dropped because the queue was full")              \
    X(out_dropped, "dropped because the kernel did not take them") \
    X(out_calls, "system calls that sent")

struct dgram_stats {
#define X(name, text) stat_u64 name;
    DGRAM_COUNTERS(X)
#undef X
};

/* p may be changed in place and is valid until the function returns.  It may send, but not free. */
typedef void dgram_f(void *arg, const struct addr *from, uint8_t *p, size_t n);

struct dgram_conf {
    struct addr bind;        /* IPv4 or IPv6 (then IPv6 only); port 0: any */
    const int *inherited;    /* a socket that is bound to it already, taken over; NULL: none */
    bool deaf;               /* nothing is received before dgram_listen() */
    unsigned queue;          /* datagrams to send in a turn; 0: 256 */
    unsigned per_turn;       /* datagrams to receive in a turn; 0: 256 */
    unsigned recv_buf_bytes; /* the kernel's, as far as net.core.rmem_max allows; 0: its default */
    dgram_f *fn;
    void *arg;
};

/* NULL: the reason is in the errbuf. */
struct dgram *dgram_new(struct loop *, const struct dgram_conf *, struct errbuf *);
/* What is queued is sent or dropped; NULL'ed.  Not from within its own function. */
void dgram_free(struct dgram **);
/* Copies and queues n <= DGRAM_BYTES_MAX bytes. */
void dgram_send(struct dgram *, const struct addr *to, const void *p, size_t n);

/* Receives, or leaves what comes in the socket: another process may have that, too. */
void dgram_listen(struct dgram *, bool on);

int dgram_fd(const struct dgram *);
const struct addr *dgram_addr(const struct dgram *);         /* as bound, with its port */
const struct dgram_stats *dgram_stats(const struct dgram *); /* counters */
unsigned dgram_recv_buf_bytes(const struct dgram *);         /* what the kernel gave */

#endif
