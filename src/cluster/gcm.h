/* SPDX-License-Identifier: BSD-2-Clause
 *
 * gcm.h - private to this room: AES-256-GCM with a number as nonce, by libcrypto.
 *
 * NIST SP 800-38D.  A context keeps what was made of a key; each nonce is given once per key by the
 * callers.  A context is for one thread at a time, and for one way.
 */
#ifndef MC_CLUSTER_GCM_H
#define MC_CLUSTER_GCM_H

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

#define GCM_KEY_BYTES 32
#define GCM_TAG_BYTES 16

enum gcm_way { GCM_SEAL, GCM_OPEN };

EVP_CIPHER_CTX *gcm_new(enum gcm_way);
void gcm_free(EVP_CIPHER_CTX **); /* wipes */
void gcm_key(EVP_CIPHER_CTX *, const uint8_t key[GCM_KEY_BYTES]);
/* out: n + GCM_TAG_BYTES, may be plain itself.  head is authenticated and not sealed. */
void gcm_seal(EVP_CIPHER_CTX *, uint64_t nonce, struct str head, const void *plain, size_t n,
              uint8_t *out);
/* In place; n counts the tag.  False: what is in p is worth nothing. */
bool gcm_open(EVP_CIPHER_CTX *, uint64_t nonce, struct str head, uint8_t *p, size_t n);

#endif
