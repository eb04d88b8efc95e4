/* SPDX-License-Identifier: BSD-2-Clause
 *
 * untaken.h - how much of what was sent on a socket has its peer not taken?
 *
 * Fewer than when somebody looked last: it takes something, however slowly.  The queue alone does
 * not tell: a kernel that is full says so until a third of its buffer is free, and that is minutes
 * of a slow reader.  The worker's thread.
 */
#ifndef MC_PROXY_UNTAKEN_H
#define MC_PROXY_UNTAKEN_H

#include "io/stream.h"

/* Bytes in our queue and in the kernel's that the peer has not acknowledged.  A system call: for
 * time limits, not for each event. */
uint64_t untaken_bytes(const struct stream *);

#endif
