/* SPDX-License-Identifier: BSD-2-Clause
 *
 * seal.c - see seal.h.
 *
 * Cheap things first: a datagram with an unknown key, our own boot id or a sequence seen before is
 * dropped before any cryptography, and a key for an unknown boot id is derived at a bounded rate.
 */
#include "cluster/seal.h"

#include <openssl/crypto.h>

#include "base/check.h"
#include "base/pack.h"
#include "cluster/keyring_priv.h"

/* --- faults ---------------------------------------------------------------------------------- */

static const struct {
    const char *label, *text;
} faults[] = {
#define X(id, label, text) {label, text},
    SEAL_FAULTS(X)
#undef X
};

const char *
seal_fault_text(enum seal_fault f)
{
    MC_ASSERT(f < SEAL_N_FAULTS);
    return faults[f].text;
}

const char *
seal_fault_label(enum seal_fault f)
{
    MC_ASSERT(f < SEAL_N_FAULTS);
    return faults[f].label;
}

uint64_t
seal_count(const struct keyring *k, enum seal_fault f)
{
    MC_ASSERT(f < SEAL_N_FAULTS);
    return stat_get(&k->counts[f]);
}

enum seal_fault
seal_counted(struct keyring *k, enum seal_fault f)
{
    stat_add(&k->counts[f], 1);
    return f;
}

/* --- the envelope ---------------------------------------------------------------------------- */

void
seal_derive_key(const struct keyring *k, const struct cluster_key *key,
                const uint8_t boot[KEYRING_BOOT_BYTES], struct str label,
                uint8_t out[GCM_KEY_BYTES])
{
    keyring_hkdf(k, key, (struct str){(const char *)boot, KEYRING_BOOT_BYTES}, label, out,
                 GCM_KEY_BYTES);
}

uint64_t
seal_put_head(struct keyring *k, const struct cluster_key *key, uint8_t *out)
{
    struct pack_out o = {.p = out, .cap = SEAL_HEAD_BYTES};

    MC_ASSERT(k->seq < UINT64_MAX);
    k->seq++;
    pack_u8(&o, SEAL_VERSION);
    pack_u8(&o, 0); /* flags: none has a meaning yet */
    pack_bytes(&o, key->id, KEYRING_ID_BYTES);
    pack_bytes(&o, k->boot, KEYRING_BOOT_BYTES);
    pack_u64(&o, k->seq);
    MC_ASSERT(!o.bad && o.n == SEAL_HEAD_BYTES);
    return k->seq;
}

/* Flags that a later release sets are not looked at: what they announce must be optional. */
enum seal_fault
seal_read_head(const struct keyring *k, const uint8_t *p, size_t n, struct envelope *e)
{
    struct pack_in i = {.p = p, .n = n};

    if (n < SEAL_OVERHEAD)
        return SEAL_F_SHORT;
    if (unpack_u8(&i) != SEAL_VERSION)
        return SEAL_F_VERSION;
    unpack_u8(&i);
    e->sender = unpack_bytes(&i, SENDERS_NAME_BYTES);
    e->boot = e->sender + KEYRING_ID_BYTES;
    e->seq = unpack_u64(&i);
    e->key = keyring_find(k, e->sender);
    if (e->key == NULL)
        return SEAL_F_KEY;
    if (memcmp(e->boot, k->boot, KEYRING_BOOT_BYTES) == 0)
        return SEAL_F_OWN;
    return SEAL_F_NONE;
}

static struct str
head_of(const uint8_t *p)
{
    return (struct str){(const char *)p, SEAL_HEAD_BYTES};
}

/* --- datagrams ------------------------------------------------------------------------------- */

/* hot: once per datagram and receiver */
size_t
seal_datagram(struct keyring *k, const void *plain, size_t n, uint8_t *out)
{
    uint64_t seq;

    MC_CHECK(k, KEYRING_MAGIC);
    MC_ASSERT(n <= SEAL_DATAGRAM_MAX - SEAL_OVERHEAD);
    seq = seal_put_head(k, &k->key[0], out);
    gcm_seal(k->seal, seq, head_of(out), plain, n, out + SEAL_HEAD_BYTES);
    return n + SEAL_OVERHEAD;
}

/* Makes the candidate the one that this datagram claims to be from. */
static void
derive_candidate(struct keyring *k, const struct envelope *e)
{
    uint8_t key[GCM_KEY_BYTES];

    memcpy(k->candidate->name, e->sender, SENDERS_NAME_BYTES);
    seal_derive_key(k, e->key, e->boot, SEAL_LABEL_DATAGRAM, key);
    gcm_key(k->candidate->open, key);
    OPENSSL_cleanse(key, sizeof(key));
}

static void
admit_candidate(struct keyring *k)
{
    senders_add(&k->senders, &k->candidate);
    k->candidate = sender_new();
}

static const enum seal_fault fault_of[] = {
    [REPLAY_NEW] = SEAL_F_NONE, [REPLAY_SEEN] = SEAL_F_REPLAY, [REPLAY_OLD] = SEAL_F_OLD};

static enum seal_fault
open_datagram(struct keyring *k, mc_ns now, uint8_t *buf, size_t n, struct envelope *e)
{
    enum seal_fault f = n > SEAL_DATAGRAM_MAX ? SEAL_F_OVERSIZE : seal_read_head(k, buf, n, e);
    struct sender *known, *s;

    if (f != SEAL_F_NONE)
        return f;
    known = senders_find(&k->senders, e->sender);
    s = known ? known : k->candidate;
    f = fault_of[replay_check(&s->window, e->seq)];
    if (f != SEAL_F_NONE)
        return f;
    if (known == NULL) {
        if (!keyring_may_derive(&k->datagram_limit, now))
            return SEAL_F_LIMIT;
        derive_candidate(k, e);
    }
    if (!gcm_open(s->open, e->seq, head_of(buf), buf + SEAL_HEAD_BYTES, n - SEAL_HEAD_BYTES))
        return SEAL_F_TAG;
    replay_mark(&s->window, e->seq);
    if (known == NULL)
        admit_candidate(k);
    return SEAL_F_NONE;
}

/* hot: once per datagram */
enum seal_fault
seal_open_datagram(struct keyring *k, mc_ns now, uint8_t *buf, size_t n, struct str *plain,
                   uint8_t boot[KEYRING_BOOT_BYTES])
{
    struct envelope e;
    enum seal_fault f;

    MC_CHECK(k, KEYRING_MAGIC);
    f = open_datagram(k, now, buf, n, &e);
    if (f == SEAL_F_NONE) {
        *plain = (struct str){(const char *)buf + SEAL_HEAD_BYTES, n - SEAL_OVERHEAD};
        memcpy(boot, e.boot, KEYRING_BOOT_BYTES);
    }
    return seal_counted(k, f);
}
