/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_proxy_header.c - whatever a connection begins with: no read beyond it, the same answer
 * however it is cut, and a header that is written as it was read is read as it was.
 */
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "io/proxy_header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static bool
is_same(const struct proxy_header *a, const struct proxy_header *b)
{
    return a->version == b->version && a->local == b->local && a->checksum == b->checksum &&
           addr_eq(&a->from, &b->from) && addr_eq(&a->to, &b->to) && str_eq(a->alpn, b->alpn) &&
           str_eq(a->authority, b->authority) && str_eq(a->unique_id, b->unique_id) &&
           a->tls_client == b->tls_client &&
           (a->tls_client == 0 ||
            (a->tls_verify == b->tls_verify && str_eq(a->tls_version, b->tls_version) &&
             str_eq(a->tls_cipher, b->tls_cipher) && str_eq(a->tls_cn, b->tls_cn)));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct proxy_header h, back;
    enum proxy_fault why;
    size_t used, used_back;
    enum proxy_step step = proxy_header_read(data, n, &h, &used, &why);
    uint8_t out[PROXY_HEADER_MAX];

    MC_ASSERT((step == PROXY_BAD) == (why != PROXY_FAULT_NONE));
    MC_ASSERT(step != PROXY_MORE || n < PROXY_HEADER_MAX);
    if (step != PROXY_DONE)
        return 0;
    MC_ASSERT(used > 0 && used <= n && used <= PROXY_HEADER_MAX);
    MC_ASSERT(proxy_header_read(data, used, &back, &used_back, &why) == PROXY_DONE);
    MC_ASSERT(used_back == used && is_same(&h, &back));
    MC_ASSERT(proxy_header_read(data, used - 1, &back, &used_back, &why) == PROXY_MORE);
    n = proxy_header_write(&h, out);
    MC_ASSERT(proxy_header_read(out, n, &back, &used_back, &why) == PROXY_DONE);
    MC_ASSERT(used_back == n && is_same(&h, &back));
    return 0;
}
