/* SPDX-License-Identifier: BSD-2-Clause
 *
 * seal.h - datagrams between balancers, sealed by a keyring.
 *
 *   version 1 | flags 1 | key id 4 | boot id 16 | sequence 8 | AES-256-GCM of the plain text | tag
 * 16
 *
 * Big-endian.  The first 30 bytes are authenticated with the rest.  The key is derived from the
 * cluster's key and the boot id (HKDF-SHA256), so that a restart cannot use a nonce again; the
 * nonce is the sequence.  A receiver takes each sequence of a boot once.  It answers to nothing
 * that it cannot open.
 *
 * Called on the keyring's thread; no allocation but for a boot id not seen before.
 */
#ifndef MC_CLUSTER_SEAL_H
#define MC_CLUSTER_SEAL_H

#include "base/stats.h"
#include "base/units.h"
#include "cluster/keyring.h"

#define SEAL_VERSION    1
#define SEAL_HEAD_BYTES 30
#define SEAL_TAG_BYTES  16
#define SEAL_OVERHEAD   (SEAL_HEAD_BYTES + SEAL_TAG_BYTES)
#define SEAL_DATAGRAM_MAX \
    2048 /* sealed; longer ones are refused.  Senders keep to DGRAM_BYTES_MAX */

/* X(id, label of its counter, text) */
#define SEAL_FAULTS(X)                                                            \
    X(NONE, "none", "good")                                                       \
    X(SHORT, "short", "too short for what it claims to be")                       \
    X(OVERSIZE, "oversize", "longer than is allowed")                             \
    X(VERSION, "version", "of a version that is not spoken here")                 \
    X(KEY, "key", "sealed with a key that is not in the key file")                \
    X(OWN, "own", "sent by this process itself")                                  \
    X(REPLAY, "replay", "seen before")                                            \
    X(OLD, "old", "too old to tell whether it was seen before")                   \
    X(LIMIT, "limit", "of an unknown sender, while too many unknown ones come")   \
    X(TAG, "tag", "not sealed with the key that it names, or changed on its way") \
    X(HELLO, "hello", "no hello, or not the answer to ours")                      \
    X(ENDED, "ended", "behind the last record")                                   \
    X(CUT, "cut", "ended before its last record")

enum seal_fault {
#define X(id, label, text) SEAL_F_##id,
    SEAL_FAULTS(X)
#undef X
        SEAL_N_FAULTS
};

const char *seal_fault_text(enum seal_fault);
const char *seal_fault_label(enum seal_fault);
/* How often each was met, datagrams and streams together; any thread may read.  SEAL_F_NONE: what
 * was opened. */
uint64_t seal_count(const struct keyring *, enum seal_fault);

/* out: n + SEAL_OVERHEAD bytes, n <= SEAL_DATAGRAM_MAX - SEAL_OVERHEAD; does not overlap plain.
 * Returns how many were written. */
size_t seal_datagram(struct keyring *, const void *plain, size_t n, uint8_t *out);
/* Opens in place: *plain lies in buf, boot is the sender's.  Both are set on SEAL_F_NONE only; on a
 * fault the content of buf is undefined. */
enum seal_fault seal_open_datagram(struct keyring *, mc_ns now, uint8_t *buf, size_t n,
                                   struct str *plain, uint8_t boot[KEYRING_BOOT_BYTES]);

#endif
