/* SPDX-License-Identifier: BSD-2-Clause
 *
 * h1_frame.h - sending body bytes on an HTTP/1 connection, either side.
 */
#ifndef MC_PROXY_H1_FRAME_H
#define MC_PROXY_H1_FRAME_H

#include "http/h1.h"
#include "io/stream.h"

/* Queues the block's bytes as they are, or as one chunk (RFC 9112 7.1).  Takes the block, or copies
 * a small one and leaves it. */
void h1_frame_send(struct stream *, struct block **, bool chunked);
/* Queues the last chunk with its trailer section. */
void h1_frame_end(struct stream *, const struct http_field *trailers, unsigned n);

#endif
