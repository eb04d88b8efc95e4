/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_sni_peek.c - any bytes as the beginning of a client's TLS.
 *
 * Never a crash; the end does not depend on how the bytes are cut; what is said to be whole is no
 * longer than the bound, and a name that is found is one.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "io/sni_peek.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

/* Each call with memory of its own size. */
static enum sni_peek_state
in_pieces(const uint8_t *p, size_t n, size_t step)
{
    enum sni_peek_state st = SNI_PEEK_MORE;
    struct sni_peek s = {0};

    for (size_t at = 0; at < n && st == SNI_PEEK_MORE;) {
        uint8_t *copy;

        at = n - at < step ? n : at + step;
        copy = malloc(at);
        memcpy(copy, p, at);
        st = sni_peek_end(&s, copy, at);
        MC_ASSERT(st != SNI_PEEK_MORE || at < SNI_PEEK_MAX);
        free(copy);
    }
    return st;
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static uint8_t flat[SNI_PEEK_MAX];
    struct sni_peek s = {0};
    struct sni_hello h;
    enum sni_peek_state st = sni_peek_end(&s, p, n);

    if (n > 0 && n < 2000) {
        MC_ASSERT(in_pieces(p, n, 1) == st);
        MC_ASSERT(in_pieces(p, n, 7) == st);
    }
    if (st != SNI_PEEK_WHOLE || !sni_peek_read(p, n, flat, &h))
        return 0;
    MC_ASSERT(h.name.n <= 253 && memchr(h.name.p ? h.name.p : "", 0, h.name.n) == NULL);
    MC_ASSERT(h.alpn.n < SNI_PEEK_MAX);
    return 0;
}
