/* SPDX-License-Identifier: BSD-2-Clause
 *
 * h1_frame.c - sending body bytes on an HTTP/1 connection, either side.
 */
#include "proxy/h1_frame.h"
#include "proxy/exchange.h"

/* Room for the frame around the payload: engines leave it around what they read. */
static bool
can_frame_in_place(const struct block *b)
{
    return b->off >= 18 && block_room(b) >= 2;
}

static void
frame_in_place(struct block *b)
{
    size_t header = h1_chunk_header(block_at(b), b->len);

    memcpy(block_at(b) + b->len, "\r\n", 2);
    b->off -= (uint32_t)header;
    b->len += (uint32_t)header + 2;
}

void
h1_frame_send(struct stream *s, struct block **b, bool chunked)
{
    bool around = chunked && !can_frame_in_place(*b);

    if (around) {
        char header[20];
        size_t n = h1_chunk_header(header + sizeof(header), (*b)->len);

        stream_write(s, header + sizeof(header) - n, n);
    } else if (chunked) {
        frame_in_place(*b);
    }
    if ((*b)->len < COPY_BELOW)
        stream_write(s, block_at(*b), (*b)->len);
    else
        stream_send(s, b);
    if (around)
        stream_write(s, "\r\n", 2);
}

void
h1_frame_end(struct stream *s, const struct http_field *trailers, unsigned n)
{
    char *p = stream_reserve(s, h1_last_chunk_bound(trailers, n));

    stream_commit(s, h1_last_chunk(p, trailers, n));
}
