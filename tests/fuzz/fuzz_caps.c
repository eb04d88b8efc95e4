/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_caps.c - any bytes as words about a limit: each is a length, then the word.  A share is
 * never 0 and never above the limit.
 */
#include "base/check.h"
#include "base/pack.h"
#include "cluster/caps.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void
drop(void *arg, uint64_t key, const void *bytes, size_t n)
{
    MC_ASSERT(key == 77 && n <= CAPS_WORD_MAX);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct caps_conf conf = {.id = 1000, .tell = drop};
    struct caps *c = caps_new(&conf, 0);
    struct pack_in in = {.p = data, .n = n};
    mc_ns now = 0;

    caps_set_limit(c, 77, 100, now);
    caps_set_members(c, (const uint64_t[]){1007, 1014}, 2, now);
    while (in.n > 0) {
        size_t k = unpack_u8(&in);

        k = k < in.n ? k : in.n;
        now += 40 * MC_MS;
        caps_hear(c, k & 1 ? 1014 : 1007, unpack_bytes(&in, k), k, now);
        caps_demand(c, 0, (double)k, now);
        caps_tick(c, now);
        MC_ASSERT(caps_share(c, 0) >= 1 && caps_share(c, 0) <= 100);
    }
    caps_free(&c);
    return 0;
}
