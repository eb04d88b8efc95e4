/* SPDX-License-Identifier: BSD-2-Clause
 *
 * seal_stream.c - see seal_stream.h.
 *
 * A hello carries, sealed: which end says it 1 | random bytes of that end 16 | random bytes of the
 * other end 16 (zeros from the opener, who does not know them).  What is longer is ignored behind
 * that, so that a later release may say more.
 *
 * An acceptor believes that the opener is there when its empty first record opens, since that takes
 * the key and the acceptor's random bytes; until then nothing above a hello's size is waited for,
 * so that nobody without the key can make us hold more.
 */
#include "cluster/seal_stream.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/pack.h"
#include "cluster/keyring_priv.h"

#define STREAM_MAGIC     0x7374726du
#define LENGTH_BYTES     4
#define RECORD_HEAD      (LENGTH_BYTES + 1)
#define RECORD_LAST      1 /* of the flags */
#define HELLO_BYTES      (1 + 2 * SEAL_RANDOM_BYTES)
#define HELLO_WIRE_BYTES (SEAL_OVERHEAD + HELLO_BYTES)
#define HELLO_WIRE_MAX   256

enum end { OPENER, ACCEPTOR };

enum stage {
    WANT_HELLO,
    WANT_PROOF, /* the acceptor: the empty record */
    OPEN,
    ENDED, /* the last record was opened */
    BROKEN /* fault says how */
};

/* What goes one way. */
struct way {
    EVP_CIPHER_CTX *gcm; /* NULL before both hellos */
    uint64_t index;      /* of the next record */
};

struct seal_stream {
    unsigned magic;
    enum end end; /* which one we are */
    enum stage stage;
    enum seal_fault fault;
    struct keyring *keyring;
    size_t max_bytes;
    uint8_t random[2][SEAL_RANDOM_BYTES]; /* by enum end */
    uint8_t peer_boot[KEYRING_BOOT_BYTES];
    uint8_t key_id[KEYRING_ID_BYTES]; /* the opener chose it: the acceptor has that key, too */
    struct way in, out;
    bool said_last;
    struct buf to_send;
};

static enum end
other(enum end e)
{
    return e == OPENER ? ACCEPTOR : OPENER;
}

/* --- hellos ---------------------------------------------------------------------------------- */

static void
put_hello(struct seal_stream *s, const struct cluster_key *key)
{
    uint8_t plain[HELLO_BYTES], wire[LENGTH_BYTES + HELLO_WIRE_BYTES], secret[GCM_KEY_BYTES];
    struct pack_out p = {.p = plain, .cap = sizeof(plain)}, w = {.p = wire, .cap = LENGTH_BYTES};
    uint8_t *sealed = wire + LENGTH_BYTES;
    EVP_CIPHER_CTX *gcm = gcm_new(GCM_SEAL);
    uint64_t seq;

    pack_u8(&p, (uint8_t)s->end);
    pack_bytes(&p, s->random[s->end], SEAL_RANDOM_BYTES);
    pack_bytes(&p, s->random[other(s->end)], SEAL_RANDOM_BYTES);
    pack_u32(&w, HELLO_WIRE_BYTES);
    seq = seal_put_head(s->keyring, key, sealed);
    seal_derive_key(s->keyring, key, s->keyring->boot, SEAL_LABEL_STREAM, secret);
    gcm_key(gcm, secret);
    gcm_seal(gcm, seq, (struct str){(const char *)sealed, SEAL_HEAD_BYTES}, plain, p.n,
             sealed + SEAL_HEAD_BYTES);
    buf_add(&s->to_send, wire, sizeof(wire));
    gcm_free(&gcm);
    OPENSSL_cleanse(secret, sizeof(secret));
}

static bool
open_hello(struct seal_stream *s, const struct envelope *e, uint8_t *p, size_t n)
{
    EVP_CIPHER_CTX *gcm = gcm_new(GCM_OPEN);
    uint8_t secret[GCM_KEY_BYTES];
    bool good;

    seal_derive_key(s->keyring, e->key, e->boot, SEAL_LABEL_STREAM, secret);
    gcm_key(gcm, secret);
    good = gcm_open(gcm, e->seq, (struct str){(const char *)p, SEAL_HEAD_BYTES},
                    p + SEAL_HEAD_BYTES, n - SEAL_HEAD_BYTES);
    gcm_free(&gcm);
    OPENSSL_cleanse(secret, sizeof(secret));
    return good;
}

/* Is it the other end's, and does the acceptor's answer our hello? */
static bool
believe_hello(struct seal_stream *s, struct str plain)
{
    struct pack_in i = {.p = (const uint8_t *)plain.p, .n = plain.n};
    uint8_t end = unpack_u8(&i);
    const uint8_t *theirs = unpack_bytes(&i, SEAL_RANDOM_BYTES),
                  *ours = unpack_bytes(&i, SEAL_RANDOM_BYTES);

    if (i.bad || end != other(s->end))
        return false;
    if (s->end == OPENER && CRYPTO_memcmp(ours, s->random[OPENER], SEAL_RANDOM_BYTES) != 0)
        return false;
    memcpy(s->random[other(s->end)], theirs, SEAL_RANDOM_BYTES);
    return true;
}

/* A key for this connection and direction. */
static EVP_CIPHER_CTX *
way_key(const struct seal_stream *s, const struct cluster_key *key, enum end from, enum gcm_way way)
{
    static const struct str label[] = {
        [OPENER] = {"meercat stream 1 opener", sizeof("meercat stream 1 opener") - 1},
        [ACCEPTOR] = {"meercat stream 1 acceptor", sizeof("meercat stream 1 acceptor") - 1}};
    EVP_CIPHER_CTX *gcm = gcm_new(way);
    uint8_t secret[GCM_KEY_BYTES];

    keyring_hkdf(s->keyring, key, (struct str){(const char *)s->random, sizeof(s->random)},
                 label[from], secret, sizeof(secret));
    gcm_key(gcm, secret);
    OPENSSL_cleanse(secret, sizeof(secret));
    return gcm;
}

static void
begin_records(struct seal_stream *s, const struct envelope *e)
{
    memcpy(s->peer_boot, e->boot, KEYRING_BOOT_BYTES);
    s->in.gcm = way_key(s, e->key, other(s->end), GCM_OPEN);
    s->out.gcm = way_key(s, e->key, s->end, GCM_SEAL);
    if (s->end == ACCEPTOR) {
        put_hello(s, e->key);
        s->stage = WANT_PROOF;
    } else {
        s->stage = OPEN;
        seal_stream_put(s, NULL, 0, false); /* the proof */
    }
}

/* n bytes behind their length. */
static enum seal_fault
take_hello(struct seal_stream *s, mc_ns now, uint8_t *p, size_t n)
{
    struct envelope e;
    enum seal_fault f = seal_read_head(s->keyring, p, n, &e);

    if (f != SEAL_F_NONE)
        return f;
    if (s->end == OPENER && memcmp(e.key->id, s->key_id, KEYRING_ID_BYTES) != 0)
        return SEAL_F_HELLO;
    if (!keyring_may_derive(&s->keyring->stream_limit, now))
        return SEAL_F_LIMIT;
    if (!open_hello(s, &e, p, n))
        return SEAL_F_TAG;
    if (!believe_hello(s, (struct str){(const char *)p + SEAL_HEAD_BYTES, n - SEAL_OVERHEAD}))
        return SEAL_F_HELLO;
    begin_records(s, &e);
    return SEAL_F_NONE;
}

/* --- records --------------------------------------------------------------------------------- */

void
seal_stream_put(struct seal_stream *s, const void *plain, size_t n, bool last)
{
    static const uint8_t no_tag[GCM_TAG_BYTES];
    uint8_t head[RECORD_HEAD], *body;
    struct pack_out o = {.p = head, .cap = sizeof(head)};

    MC_CHECK(s, STREAM_MAGIC);
    MC_ASSERT(seal_stream_ready(s) && !s->said_last && n <= SEAL_RECORD_MAX);
    pack_u32(&o, (uint32_t)(1 + n + GCM_TAG_BYTES));
    pack_u8(&o, last ? RECORD_LAST : 0);
    buf_add(&s->to_send, head, sizeof(head));
    buf_add(&s->to_send, plain, n);
    buf_add(&s->to_send, no_tag, sizeof(no_tag));
    body = (uint8_t *)s->to_send.p + s->to_send.n - GCM_TAG_BYTES - n;
    gcm_seal(s->out.gcm, s->out.index++, (struct str){(const char *)head, sizeof(head)}, body, n,
             body);
    s->said_last = last;
}

/* p: from the length on; n counts what follows the length. */
static enum seal_fault
take_record(struct seal_stream *s, uint8_t *p, size_t n, struct str *plain)
{
    uint8_t *body = p + RECORD_HEAD;
    size_t body_n = n - 1;

    if (!gcm_open(s->in.gcm, s->in.index, (struct str){(const char *)p, RECORD_HEAD}, body, body_n))
        return SEAL_F_TAG;
    s->in.index++;
    if (s->stage != WANT_PROOF)
        *plain = (struct str){(const char *)body, body_n - GCM_TAG_BYTES};
    s->stage = p[LENGTH_BYTES] & RECORD_LAST ? ENDED : OPEN;
    return SEAL_F_NONE;
}

/* --- what comes ------------------------------------------------------------------------------ */

/* How much may and must follow a length now. */
static enum seal_fault
check_length(const struct seal_stream *s, size_t n)
{
    size_t least = GCM_TAG_BYTES + 1, most = least + s->max_bytes;

    if (s->stage == WANT_HELLO) {
        least = HELLO_WIRE_BYTES;
        most = HELLO_WIRE_MAX;
    } else if (s->stage == WANT_PROOF) {
        most = least;
    }
    return n < least ? SEAL_F_SHORT : n > most ? SEAL_F_OVERSIZE : SEAL_F_NONE;
}

static enum seal_fault
open_next(struct seal_stream *s, mc_ns now, uint8_t *p, size_t n, size_t *used, struct str *plain)
{
    struct pack_in i = {.p = p, .n = n};
    size_t length;
    enum seal_fault f;

    if (n > 0 && s->stage == ENDED)
        return SEAL_F_ENDED;
    if (n < LENGTH_BYTES)
        return SEAL_F_NONE;
    length = unpack_u32(&i);
    f = check_length(s, length);
    if (f != SEAL_F_NONE || i.n < length)
        return f;
    *used = LENGTH_BYTES + length;
    return s->stage == WANT_HELLO ? take_hello(s, now, p + LENGTH_BYTES, length)
                                  : take_record(s, p, length, plain);
}

static enum seal_fault
break_with(struct seal_stream *s, enum seal_fault f)
{
    s->stage = BROKEN;
    s->fault = f;
    return seal_counted(s->keyring, f);
}

enum seal_fault
seal_stream_open(struct seal_stream *s, mc_ns now, uint8_t *p, size_t n, size_t *used,
                 struct str *plain)
{
    enum seal_fault f;

    MC_CHECK(s, STREAM_MAGIC);
    *used = 0;
    *plain = STR_NONE;
    if (s->stage == BROKEN)
        return s->fault;
    f = open_next(s, now, p, n, used, plain);
    if (f != SEAL_F_NONE)
        return break_with(s, f);
    if (*used > 0)
        seal_counted(s->keyring, SEAL_F_NONE);
    return SEAL_F_NONE;
}

enum seal_fault
seal_stream_eof(struct seal_stream *s)
{
    MC_CHECK(s, STREAM_MAGIC);
    if (s->stage == BROKEN)
        return s->fault;
    return s->stage == ENDED ? SEAL_F_NONE : break_with(s, SEAL_F_CUT);
}

/* --- the rest -------------------------------------------------------------------------------- */

struct seal_stream *
seal_stream_new_with(struct keyring *k, bool opener, size_t max_bytes,
                     const uint8_t random[SEAL_RANDOM_BYTES])
{
    struct seal_stream *s = mc_alloc(sizeof(*s));

    MC_CHECK(k, KEYRING_MAGIC);
    MC_ASSERT(max_bytes <= SEAL_RECORD_MAX);
    s->magic = STREAM_MAGIC;
    s->end = opener ? OPENER : ACCEPTOR;
    s->keyring = k;
    s->max_bytes = max_bytes ? max_bytes : SEAL_RECORD_MAX;
    memcpy(s->random[s->end], random, SEAL_RANDOM_BYTES);
    if (opener) {
        memcpy(s->key_id, k->key[0].id, KEYRING_ID_BYTES);
        put_hello(s, &k->key[0]);
    }
    return s;
}

struct seal_stream *
seal_stream_new(struct keyring *k, bool opener, size_t max_bytes)
{
    uint8_t random[SEAL_RANDOM_BYTES];

    MC_ASSERT(RAND_bytes(random, sizeof(random)) == 1);
    return seal_stream_new_with(k, opener, max_bytes, random);
}

void
seal_stream_free(struct seal_stream **sp)
{
    struct seal_stream *s = *sp;

    if (s == NULL)
        return;
    MC_CHECK(s, STREAM_MAGIC);
    gcm_free(&s->in.gcm);
    gcm_free(&s->out.gcm);
    buf_free(&s->to_send);
    OPENSSL_cleanse(s, sizeof(*s));
    free(s);
    *sp = NULL;
}

struct buf *
seal_stream_out(struct seal_stream *s)
{
    MC_CHECK(s, STREAM_MAGIC);
    return &s->to_send;
}

bool
seal_stream_ready(const struct seal_stream *s)
{
    MC_CHECK(s, STREAM_MAGIC);
    return s->stage == OPEN || s->stage == ENDED;
}

const uint8_t *
seal_stream_boot(const struct seal_stream *s)
{
    MC_ASSERT(seal_stream_ready(s));
    return s->peer_boot;
}

bool
seal_stream_ended(const struct seal_stream *s)
{
    MC_CHECK(s, STREAM_MAGIC);
    return s->stage == ENDED;
}
