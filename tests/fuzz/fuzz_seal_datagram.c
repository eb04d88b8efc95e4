/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_seal_datagram.c - any bytes as a datagram, and good ones that were tampered with.
 *
 * The first byte chooses: the rest as it is; or the rest sealed, with one byte changed on its way.
 */
#include "base/check.h"
#include "cluster/seal.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static struct keyring *
ring(uint8_t boot)
{
    struct keyfile f = {.n = 2};
    uint8_t id[KEYRING_BOOT_BYTES];

    memset(f.key[0], 'k', KEYFILE_KEY_BYTES);
    memset(f.key[1], 'x', KEYFILE_KEY_BYTES);
    memset(id, boot, sizeof(id));
    return keyring_new(&f, id);
}

/* A stranger's bytes never open; what they do open came from the golden packets of the corpus. */
static void
any_bytes(const uint8_t *data, size_t n)
{
    static uint8_t buf[SEAL_DATAGRAM_MAX + 64];
    struct keyring *k = ring('b');
    uint8_t boot[KEYRING_BOOT_BYTES];
    struct str plain;

    n = n < sizeof(buf) ? n : sizeof(buf);
    for (int again = 0; again < 2; again++) {
        enum seal_fault f;

        memcpy(buf, data, n);
        f = seal_open_datagram(k, 0, buf, n, &plain, boot);
        MC_ASSERT(f != SEAL_F_NONE || (again == 0 && plain.n == n - SEAL_OVERHEAD));
    }
    keyring_free(&k);
}

static void
tampered(const uint8_t *data, size_t n)
{
    static uint8_t buf[SEAL_DATAGRAM_MAX];
    struct keyring *a = ring('a'), *b = ring('b');
    uint8_t boot[KEYRING_BOOT_BYTES], change = data[0];
    size_t at = (size_t)(data[1] << 8 | data[2]), sealed;
    struct str plain;
    enum seal_fault f;

    data += 3;
    n = n - 3 < sizeof(buf) - SEAL_OVERHEAD ? n - 3 : sizeof(buf) - SEAL_OVERHEAD;
    sealed = seal_datagram(a, data, n, buf);
    buf[at % sealed] ^= change;
    f = seal_open_datagram(b, 0, buf, sealed, &plain, boot);
    MC_ASSERT((f == SEAL_F_NONE) == (change == 0));
    if (change == 0)
        MC_ASSERT(plain.n == n && (n == 0 || memcmp(plain.p, data, n) == 0));
    keyring_free(&a);
    keyring_free(&b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 4)
        return 0;
    if (data[0] % 2 == 0)
        any_bytes(data + 1, n - 1);
    else
        tampered(data + 1, n - 1);
    return 0;
}
