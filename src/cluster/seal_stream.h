/* SPDX-License-Identifier: BSD-2-Clause
 *
 * seal_stream.h - one end of a sealed connection between balancers.  Bytes in, bytes out: no
 * socket.
 *
 *   opener   -> hello: 16 random bytes
 *   acceptor -> hello: 16 random bytes, and those of the opener again
 *   opener   -> an empty record
 *   both     -> records; the last one each way says that it is
 *
 * A hello is sealed as a datagram is, under a label of its own.  Records are sealed with a key for
 * this connection and direction, derived from the cluster's key and the random bytes of both ends;
 * their nonce is their index.  So a record opens in its place in its connection only: it cannot be
 * replayed into another one, repeated, reordered or left out, and a connection that is cut lacks
 * its last record.  Whoever replays a hello gets one hello of the same size and no more.
 *
 *   record: length of what follows 4 | flags 1 (1: the last) | AES-256-GCM of the plain text | tag
 * 16
 *
 * Called on the keyring's thread.  The keyring must outlive it.
 */
#ifndef MC_CLUSTER_SEAL_STREAM_H
#define MC_CLUSTER_SEAL_STREAM_H

#include "base/buf.h"
#include "cluster/seal.h"

#define SEAL_RECORD_MAX   ((size_t)16 << 20) /* plain bytes of a record, unless told otherwise */
#define SEAL_RANDOM_BYTES 16

struct seal_stream;

/* max_bytes: of the plain text of a record that is accepted; 0: SEAL_RECORD_MAX. */
struct seal_stream *seal_stream_new(struct keyring *, bool opener, size_t max_bytes);
/* Pure: with these random bytes, which must never be used twice. */
struct seal_stream *seal_stream_new_with(struct keyring *, bool opener, size_t max_bytes,
                                         const uint8_t random[SEAL_RANDOM_BYTES]);
void seal_stream_free(struct seal_stream **);

/* What is to be sent; the caller takes it off by buf_skip(). */
struct buf *seal_stream_out(struct seal_stream *);
/* The other end has proved that it holds the key, now: seal_stream_put() may be called. */
bool seal_stream_ready(const struct seal_stream *);
/* The other end's boot id; only when ready. */
const uint8_t *seal_stream_boot(const struct seal_stream *);
/* Appends a record to what is to be sent; nothing may follow the last one (asserted). */
void seal_stream_put(struct seal_stream *, const void *plain, size_t n, bool last);

/* Looks at the n bytes that have come and are not used yet.  *used is how many may be dropped after
 * the plain text was read; 0: more bytes are needed.  plain->p is NULL unless a record was opened,
 * in place.  May put a hello into what is to be sent.  After a fault the connection is to be
 * closed; every further call gives the same fault. */
enum seal_fault seal_stream_open(struct seal_stream *, mc_ns now, uint8_t *p, size_t n,
                                 size_t *used, struct str *plain);
/* The other end's last record was opened. */
bool seal_stream_ended(const struct seal_stream *);
/* FIN has come: SEAL_F_CUT when that was too early. */
enum seal_fault seal_stream_eof(struct seal_stream *);

#endif
