/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_facts.c - any bytes as messages about facts: each is a length, then the message.
 */
#include "base/check.h"
#include "base/pack.h"
#include "cluster/facts.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void
drop(void *arg, uint64_t to, const void *bytes, size_t n)
{
    MC_ASSERT(n <= FACTS_DATAGRAM && (to == 0x11 || to == 0x12));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct facts_conf conf = {
        .id = 0x22, .epoch = 1, .facts_max = 64, .bytes_max = 4096, .send = drop};
    struct facts *f = facts_new(&conf, 0);
    struct pack_in in = {.p = data, .n = n};
    struct facts_at at = {0};
    struct fact fact;
    unsigned walked = 0;
    mc_ns now = 0;

    facts_set_members(f, (const uint64_t[]){0x11, 0x12}, 2, now);
    facts_set(f, STR("ours"), FACTS_NOW, "x", 1, now);
    while (in.n > 0) {
        size_t k = unpack_u8(&in);

        k = k < in.n ? k : in.n;
        now += 40 * MC_MS;
        facts_recv(f, 0x11 + (k & 1), unpack_bytes(&in, k), k, now);
        facts_tick(f, now);
    }
    while (facts_next(f, &at, now, &fact))
        walked++;
    MC_ASSERT(walked == facts_count(f) && walked <= 1 + 2 * (64 + 16));
    MC_ASSERT(facts_get(f, 0x22, STR("ours"), now, &fact));
    facts_free(&f);
    return 0;
}
