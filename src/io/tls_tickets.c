/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tls_tickets.c - the keys of session tickets (RFC 5077 4, RFC 8446 4.6.1).
 *
 * Nothing is kept here of a session: it is in the ticket, and whoever has its key can go on with
 * it.  Control replaces the keys, workers read them in handshakes only.
 */
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "io/tls_priv.h"

static_assert(sizeof(struct tls_ticket_key) == TLS_TICKET_BYTES, "bytes of a key derivation");

struct tls_tickets {
    pthread_rwlock_t lock;
    unsigned n;
    struct tls_ticket_key keys[TLS_TICKET_KEYS_MAX];
};

struct tls_tickets *
tls_tickets_new(void)
{
    struct tls_tickets *t = mc_alloc(sizeof(*t));

    pthread_rwlock_init(&t->lock, NULL);
    return t;
}

void
tls_tickets_free(struct tls_tickets **tp)
{
    struct tls_tickets *t = *tp;

    if (t == NULL)
        return;
    *tp = NULL;
    pthread_rwlock_destroy(&t->lock);
    OPENSSL_cleanse(t, sizeof(*t));
    free(t);
}

void
tls_tickets_set(struct tls_tickets *t, const struct tls_ticket_key *keys, unsigned n)
{
    MC_ASSERT(n <= TLS_TICKET_KEYS_MAX);
    pthread_rwlock_wrlock(&t->lock);
    OPENSSL_cleanse(t->keys, sizeof(t->keys));
    memcpy(t->keys, keys, n * sizeof(*keys));
    t->n = n;
    pthread_rwlock_unlock(&t->lock);
}

/* The key that seals (name NULL), or the one of that name: its place, -1 when there is none. */
static int
find_key(struct tls_tickets *t, const uint8_t *name, struct tls_ticket_key *out)
{
    int found = -1;

    pthread_rwlock_rdlock(&t->lock);
    for (unsigned i = 0; i < t->n && found < 0; i++)
        if (name == NULL || CRYPTO_memcmp(name, t->keys[i].name, sizeof(out->name)) == 0)
            found = (int)i;
    if (found >= 0)
        *out = t->keys[found];
    pthread_rwlock_unlock(&t->lock);
    return found;
}

static bool
set_mac(EVP_MAC_CTX *mac, struct tls_ticket_key *k)
{
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, k->mac, sizeof(k->mac)),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };

    return EVP_MAC_CTX_set_params(mac, params) == 1;
}

static bool
seal(struct tls_ticket_key *k, uint8_t *name, uint8_t *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac)
{
    memcpy(name, k->name, sizeof(k->name));
    return RAND_bytes(iv, 16) == 1 &&
           EVP_EncryptInit_ex2(cipher, EVP_aes_256_cbc(), k->cipher, iv, NULL) == 1 &&
           set_mac(mac, k);
}

static bool
unseal(struct tls_ticket_key *k, const uint8_t *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac)
{
    return EVP_DecryptInit_ex2(cipher, EVP_aes_256_cbc(), k->cipher, iv, NULL) == 1 &&
           set_mac(mac, k);
}

/* For SSL_CTX_set_tlsext_ticket_key_evp_cb(3): -1 fault, 0 no ticket, 1 fine, 2 fine and to be
 * replaced: it was sealed by another key than today's, or it is one of TLS 1.3, which clients use
 * once (RFC 8446 C.4). */
static int
on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
          EVP_MAC_CTX *mac, int sealing)
{
    struct tls_tickets *t = tls_domain_of(SSL_get_SSL_CTX(ssl))->tickets;
    struct tls_ticket_key k;
    int at = t != NULL ? find_key(t, sealing ? NULL : name, &k) : -1;
    bool ok;

    if (at < 0)
        return 0;
    ok = sealing ? seal(&k, name, iv, cipher, mac) : unseal(&k, iv, cipher, mac);
    OPENSSL_cleanse(&k, sizeof(k));
    if (!ok)
        return -1;
    return at == 0 && SSL_version(ssl) < TLS1_3_VERSION ? 1 : 2;
}

void
tls_tickets_use(SSL_CTX *ctx)
{
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket);
}
