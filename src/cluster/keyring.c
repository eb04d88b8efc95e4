/* SPDX-License-Identifier: BSD-2-Clause
 *
 * keyring.c - see keyring.h.
 */
#include "cluster/keyring.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "cluster/keyring_priv.h"

/* A derivation takes 3 us (measured): 1.2 % of a core.  A flood can use that up; of newcomers then
 * only some datagrams are heard, and who is known is not touched.  The burst: a guess at a large
 * cluster that starts at once. */
#define DERIVE_PER_S 4000
#define DERIVE_BURST 256
#define DERIVE_NS    (MC_SEC / DERIVE_PER_S)

static struct str
bytes(const void *p, size_t n)
{
    return (struct str){p, n};
}

/* --- deriving -------------------------------------------------------------------------------- */

void
keyring_hkdf(const struct keyring *k, const struct cluster_key *key, struct str salt,
             struct str info, uint8_t *out, size_t n)
{
    OSSL_PARAM params[5], *p = params;

    *p++ = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0);
    *p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)key->secret,
                                             sizeof(key->secret));
    *p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)info.p, info.n);
    if (salt.n > 0)
        *p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)salt.p, salt.n);
    *p = OSSL_PARAM_construct_end();
    MC_ASSERT(EVP_KDF_derive(k->kdf, out, n, params) == 1);
    EVP_KDF_CTX_reset(k->kdf); /* it holds a copy of the secret */
}

/* The label ends with a NUL here and nowhere else in this room: so nothing derived here is what a
 * seal uses, whatever the label. */
void
keyring_derive(const struct keyring *k, unsigned index, const char *label, struct str context,
               uint8_t *out, size_t n)
{
    uint8_t info[KEYRING_INFO_MAX + 1];
    size_t label_n = strlen(label) + 1;

    MC_CHECK(k, KEYRING_MAGIC);
    MC_ASSERT(index < k->n && label_n + context.n <= sizeof(info));
    memcpy(info, label, label_n);
    if (context.n > 0)
        memcpy(info + label_n, context.p, context.n);
    keyring_hkdf(k, &k->key[index], STR_NONE, bytes(info, label_n + context.n), out, n);
}

/* Generic cell rate algorithm: what was spent runs ahead of the time by a burst at most. */
bool
keyring_may_derive(struct derive_limit *l, mc_ns now)
{
    if (l->spent_until_ns > now + (DERIVE_BURST - 1) * DERIVE_NS)
        return false;
    l->spent_until_ns = (l->spent_until_ns > now ? l->spent_until_ns : now) + DERIVE_NS;
    return true;
}

/* --- keys ------------------------------------------------------------------------------------ */

const struct cluster_key *
keyring_find(const struct keyring *k, const uint8_t id[KEYRING_ID_BYTES])
{
    for (unsigned i = 0; i < k->n; i++)
        if (memcmp(k->key[i].id, id, KEYRING_ID_BYTES) == 0)
            return &k->key[i];
    return NULL;
}

static void
set_keys(struct keyring *k, const struct keyfile *f)
{
    uint8_t key[GCM_KEY_BYTES];

    MC_ASSERT(f->n > 0 && f->n <= KEYFILE_KEYS_MAX);
    OPENSSL_cleanse(k->key, sizeof(k->key));
    k->n = f->n;
    for (unsigned i = 0; i < f->n; i++) {
        memcpy(k->key[i].secret, f->key[i], KEYFILE_KEY_BYTES);
        keyring_hkdf(k, &k->key[i], STR_NONE, STR("meercat key id"), k->key[i].id,
                     KEYRING_ID_BYTES);
    }
    seal_derive_key(k, &k->key[0], k->boot, SEAL_LABEL_DATAGRAM, key);
    gcm_key(k->seal, key);
    OPENSSL_cleanse(key, sizeof(key));
}

/* The counter goes on: a key that was taken away and comes back meets no nonce again. */
void
keyring_replace(struct keyring *k, const struct keyfile *f)
{
    uint8_t old[KEYFILE_KEYS_MAX][KEYRING_ID_BYTES];
    unsigned n_old = k->n;

    MC_CHECK(k, KEYRING_MAGIC);
    for (unsigned i = 0; i < n_old; i++)
        memcpy(old[i], k->key[i].id, KEYRING_ID_BYTES);
    set_keys(k, f);
    for (unsigned i = 0; i < n_old; i++)
        if (keyring_find(k, old[i]) == NULL)
            senders_drop_key(&k->senders, old[i]);
}

/* --- birth and death ------------------------------------------------------------------------- */

static EVP_KDF_CTX *
kdf_new(void)
{
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;

    MC_ASSERT(ctx != NULL);
    EVP_KDF_free(kdf); /* the context has a reference */
    return ctx;
}

struct keyring *
keyring_new(const struct keyfile *f, const uint8_t boot[KEYRING_BOOT_BYTES])
{
    struct keyring *k = mc_alloc(sizeof(*k));

    k->magic = KEYRING_MAGIC;
    memcpy(k->boot, boot, sizeof(k->boot));
    k->kdf = kdf_new();
    k->seal = gcm_new(GCM_SEAL);
    k->candidate = sender_new();
    senders_init(&k->senders);
    set_keys(k, f);
    return k;
}

void
keyring_separate(struct keyfile *f, const char *protocol)
{
    static const uint8_t no_boot[KEYRING_BOOT_BYTES];
    struct keyring *k = keyring_new(f, no_boot);

    for (unsigned i = 0; i < f->n; i++)
        keyring_derive(k, i, protocol, STR_NONE, f->key[i], KEYFILE_KEY_BYTES);
    keyring_free(&k);
}

static struct keyring *
new_boot(const struct keyfile *f)
{
    uint8_t boot[KEYRING_BOOT_BYTES];

    MC_ASSERT(RAND_bytes(boot, sizeof(boot)) == 1);
    return keyring_new(f, boot);
}

struct keyring *
keyring_new_null(void)
{
    return new_boot(&(struct keyfile){.n = 1});
}

enum mc_err
keyring_load(const char *path, struct keyring **out, struct errbuf *eb)
{
    struct keyfile f;
    enum mc_err err = keyfile_load(path, &f, eb);

    if (err != MC_OK)
        return err;
    *out = new_boot(&f);
    keyfile_wipe(&f);
    return MC_OK;
}

enum mc_err
keyring_reload(struct keyring *k, const char *path, struct errbuf *eb)
{
    struct keyfile f;
    enum mc_err err = keyfile_load(path, &f, eb);

    if (err != MC_OK)
        return err;
    keyring_replace(k, &f);
    keyfile_wipe(&f);
    return MC_OK;
}

void
keyring_free(struct keyring **kp)
{
    struct keyring *k = *kp;

    if (k == NULL)
        return;
    MC_CHECK(k, KEYRING_MAGIC);
    senders_fini(&k->senders);
    sender_free(&k->candidate);
    gcm_free(&k->seal);
    EVP_KDF_CTX_free(k->kdf);
    OPENSSL_cleanse(k, sizeof(*k));
    free(k);
    *kp = NULL;
}

/* --- what it is ------------------------------------------------------------------------------ */

/* No key file has this key, see keyfile_parse(). */
bool
keyring_is_null(const struct keyring *k)
{
    static const uint8_t null[KEYFILE_KEY_BYTES];

    MC_CHECK(k, KEYRING_MAGIC);
    return CRYPTO_memcmp(k->key[0].secret, null, sizeof(null)) == 0;
}

unsigned
keyring_count(const struct keyring *k)
{
    MC_CHECK(k, KEYRING_MAGIC);
    return k->n;
}

const uint8_t *
keyring_boot(const struct keyring *k)
{
    MC_CHECK(k, KEYRING_MAGIC);
    return k->boot;
}

const char *
keyring_digest(const struct keyring *k, unsigned index, char out[KEYRING_ID_TEXT])
{
    const uint8_t *id = k->key[index].id;

    MC_ASSERT(index < k->n);
    snprintf(out, KEYRING_ID_TEXT, "%02x%02x%02x%02x", id[0], id[1], id[2], id[3]);
    return out;
}
