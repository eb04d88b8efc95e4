/* SPDX-License-Identifier: BSD-2-Clause
 *
 * share_wire.h - the words of share.h as payloads of datagrams, and back.  Pure.
 *
 * A message becomes one or several pieces, and each piece is a message by itself: it says which
 * keys it speaks of, and what it does not name there is nothing.  So nothing is put together again
 * at the receiver, and a lost piece is mended by the next word about the same keys.
 *
 * The sender's id is not in a piece: who carries pieces knows whom a datagram came from, and nobody
 * speaks for another.  Names are not either: a pool and a server are hashes of 32 bits (share_map).
 * docs/cluster.md has the bytes.
 */
#ifndef MC_PLACE_SHARE_WIRE_H
#define MC_PLACE_SHARE_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "place/share.h"

#define SHARE_WIRE_VERSION 1
/* Of a piece: least room that a message may be cut to, and the most that is read. */
#define SHARE_WIRE_LEAST   256
#define SHARE_WIRE_MOST    1400

/* --- out ----------------------------------------------------------------------------------------
 */

/* The bytes are good for the call. */
typedef void share_wire_out(void *arg, const uint8_t *bytes, size_t n);

/* Encodes m in pieces of at most max bytes (SHARE_WIRE_LEAST..SHARE_WIRE_MOST) and hands each to
 * out.  Servers that the map leaves out are passed over.  What would need more than SHARE_PIECES is
 * cut off, as if lost.  Returns the number of pieces. */
unsigned share_wire_put(const struct share_msg *m, const struct share_map *, size_t max,
                        share_wire_out *out, void *arg);

/* --- in -----------------------------------------------------------------------------------------
 */

enum share_wire_fault {
    SHARE_WIRE_F_NONE,
    SHARE_WIRE_F_SIZE, /* too short or too long */
    SHARE_WIRE_F_VERSION,
    SHARE_WIRE_F_KIND,
    SHARE_WIRE_F_POOL,   /* about another pool */
    SHARE_WIRE_F_CUT,    /* cut off, or a field is out of bounds */
    SHARE_WIRE_F_NUMBER, /* one that cannot be */
    SHARE_WIRE_N_FAULTS
};

/* Entries that fit a piece of SHARE_WIRE_MOST bytes, by the least bytes that one takes. */
#define SHARE_WIRE_LOADS   (SHARE_WIRE_MOST / 5)
#define SHARE_WIRE_ROWS    (SHARE_WIRE_MOST / 4)
#define SHARE_WIRE_REPORTS (SHARE_WIRE_MOST / 10)
#define SHARE_WIRE_CLASSES 256
#define SHARE_WIRE_PAIRS   (SHARE_WIRE_MOST / 7)

/* A receiver's scratch and counters: one for all pools and senders of a thread.  Zero-initialise.
 */
struct share_wire {
    uint64_t n_fault[SHARE_WIRE_N_FAULTS]; /* pieces; NONE: good ones */
    uint64_t n_unknown;                    /* entries about servers that are not in the map */
    union {
        struct share_load load[SHARE_WIRE_LOADS];
        struct share_row row[SHARE_WIRE_ROWS];
        struct share_report report[SHARE_WIRE_REPORTS];
        struct {
            uint32_t class_key[SHARE_WIRE_CLASSES];
            struct share_sum sum[SHARE_WIRE_CLASSES];
            struct share_pair pair[SHARE_WIRE_PAIRS];
        } sums;
    } room;
};

/* The key of the pool that a piece is about, to find who knows of it; 0: no piece. */
uint32_t share_wire_pool(const void *bytes, size_t n);
/* Reads one piece into *out, whose arrays lie in the scratch: good until the next call.  Entries
 * about unknown servers are left out.  A piece is taken whole or not at all. */
enum share_wire_fault share_wire_get(struct share_wire *, const struct share_map *, uint64_t from,
                                     const void *bytes, size_t n, struct share_msg *out);

#endif
