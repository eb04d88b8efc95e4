/* SPDX-License-Identifier: BSD-2-Clause
 *
 * keyring_priv.h - private to this room: the inside of a keyring, for those who seal with it.
 */
#ifndef MC_CLUSTER_KEYRING_PRIV_H
#define MC_CLUSTER_KEYRING_PRIV_H

#include <openssl/types.h>

#include "base/units.h"
#include "cluster/gcm.h"
#include "cluster/keyring.h"
#include "cluster/seal.h"
#include "cluster/senders.h"

#define KEYRING_MAGIC    0x6b657972u
#define KEYRING_ID_BYTES SENDERS_ID_BYTES

struct cluster_key {
    uint8_t id[KEYRING_ID_BYTES];
    uint8_t secret[KEYFILE_KEY_BYTES];
};

/* How often keys may be derived because somebody unknown says so. */
struct derive_limit {
    mc_ns spent_until_ns;
};

struct keyring {
    unsigned magic;
    unsigned n;
    struct cluster_key key[KEYFILE_KEYS_MAX];
    uint8_t boot[KEYRING_BOOT_BYTES];
    uint64_t seq;         /* the last one sealed with */
    EVP_CIPHER_CTX *seal; /* datagrams, by the first key and our boot id */
    EVP_KDF_CTX *kdf;
    struct senders senders;
    struct sender *candidate; /* for who is not among them (yet) */
    struct derive_limit datagram_limit, stream_limit;
    stat_u64 counts[SEAL_N_FAULTS];
};

/* The key with this id, or NULL.  Two keys may share one (by chance once in 150 million files of
 * eight keys): then the second opens nothing. */
const struct cluster_key *keyring_find(const struct keyring *, const uint8_t id[KEYRING_ID_BYTES]);
/* HKDF-SHA256 (RFC 5869). */
void keyring_hkdf(const struct keyring *, const struct cluster_key *, struct str salt,
                  struct str info, uint8_t *out, size_t n);
/* May a key be derived for somebody unknown now?  Takes one from what is left. */
bool keyring_may_derive(struct derive_limit *, mc_ns now);

/* --- seal.c: the envelope of datagrams and hellos ------------------------------------------------
 */

#define SEAL_LABEL_DATAGRAM STR("meercat datagram 1")
#define SEAL_LABEL_STREAM   STR("meercat stream 1")

/* Parts of the sealed bytes, and what they name. */
struct envelope {
    const struct cluster_key *key;
    const uint8_t *sender; /* id and boot, as senders.h names it */
    const uint8_t *boot;
    uint64_t seq;
};

/* Counts a fault, or a success, and returns it. */
enum seal_fault seal_counted(struct keyring *, enum seal_fault);
/* Writes the SEAL_HEAD_BYTES with our boot id and the next sequence, which it returns. */
uint64_t seal_put_head(struct keyring *, const struct cluster_key *, uint8_t *out);
/* What can be told without cryptography. */
enum seal_fault seal_read_head(const struct keyring *, const uint8_t *p, size_t n,
                               struct envelope *);
/* The key for what the owner of this boot id seals with this key under this label. */
void seal_derive_key(const struct keyring *, const struct cluster_key *,
                     const uint8_t boot[KEYRING_BOOT_BYTES], struct str label,
                     uint8_t out[GCM_KEY_BYTES]);

#endif
