/* SPDX-License-Identifier: BSD-2-Clause
 *
 * websocket.c - see websocket.h.
 *
 * SHA-1 proves nothing here; it shows that the other side knows RFC 6455 and has read our key.
 */
#include "proxy/websocket.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <string.h>

#include "base/check.h"

#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" /* RFC 6455 1.3 */

void
websocket_key(struct rng *rng, char key[WEBSOCKET_KEY])
{
    uint64_t nonce[2] = {rng_next(rng), rng_next(rng)};

    EVP_EncodeBlock((unsigned char *)key, (const unsigned char *)nonce, sizeof(nonce));
}

void
websocket_accept(const char *key, char accept[WEBSOCKET_ACCEPT])
{
    unsigned char text[WEBSOCKET_KEY - 1 + sizeof(GUID)], digest[SHA_DIGEST_LENGTH];

    MC_ASSERT(strlen(key) == WEBSOCKET_KEY - 1);
    memcpy(text, key, WEBSOCKET_KEY - 1);
    memcpy(text + WEBSOCKET_KEY - 1, GUID, sizeof(GUID));
    SHA1(text, sizeof(text) - 1, digest);
    EVP_EncodeBlock((unsigned char *)accept, digest, sizeof(digest));
}
