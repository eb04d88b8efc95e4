/* SPDX-License-Identifier: BSD-2-Clause
 *
 * gcm.c - see gcm.h.
 *
 * libcrypto fails here only for want of memory or by our mistake: both are assertions.
 */
#include "cluster/gcm.h"

#include <openssl/evp.h>

#include "base/check.h"
#include "base/pack.h"

#define NONCE_BYTES 12

EVP_CIPHER_CTX *
gcm_new(enum gcm_way way)
{
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();

    MC_ASSERT(c != NULL);
    MC_ASSERT(EVP_CipherInit_ex2(c, EVP_aes_256_gcm(), NULL, NULL, way == GCM_SEAL, NULL) == 1);
    return c;
}

void
gcm_free(EVP_CIPHER_CTX **c)
{
    EVP_CIPHER_CTX_free(*c);
    *c = NULL;
}

void
gcm_key(EVP_CIPHER_CTX *c, const uint8_t key[GCM_KEY_BYTES])
{
    MC_ASSERT(EVP_CipherInit_ex2(c, NULL, key, NULL, -1, NULL) == 1);
}

/* The nonce, big-endian and filled up with zeros in front; then the head. */
static void
begin(EVP_CIPHER_CTX *c, uint64_t nonce, struct str head)
{
    uint8_t iv[NONCE_BYTES];
    struct pack_out o = {.p = iv, .cap = sizeof(iv)};
    int n;

    pack_u32(&o, 0);
    pack_u64(&o, nonce);
    MC_ASSERT(EVP_CipherInit_ex2(c, NULL, NULL, iv, -1, NULL) == 1);
    MC_ASSERT(EVP_CipherUpdate(c, NULL, &n, (const uint8_t *)head.p, (int)head.n) == 1);
}

/* hot: once per datagram and receiver */
void
gcm_seal(EVP_CIPHER_CTX *c, uint64_t nonce, struct str head, const void *plain, size_t n,
         uint8_t *out)
{
    int done = 0, rest;

    begin(c, nonce, head);
    if (n > 0)
        MC_ASSERT(EVP_EncryptUpdate(c, out, &done, plain, (int)n) == 1);
    MC_ASSERT((size_t)done == n && EVP_EncryptFinal_ex(c, out + n, &rest) == 1 && rest == 0);
    MC_ASSERT(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, GCM_TAG_BYTES, out + n) == 1);
}

/* hot: once per datagram */
bool
gcm_open(EVP_CIPHER_CTX *c, uint64_t nonce, struct str head, uint8_t *p, size_t n)
{
    int done = 0, rest;

    MC_ASSERT(n >= GCM_TAG_BYTES);
    n -= GCM_TAG_BYTES;
    begin(c, nonce, head);
    if (n > 0)
        MC_ASSERT(EVP_DecryptUpdate(c, p, &done, p, (int)n) == 1);
    MC_ASSERT((size_t)done == n);
    MC_ASSERT(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, GCM_TAG_BYTES, p + n) == 1);
    return EVP_DecryptFinal_ex(c, p + n, &rest) == 1;
}
