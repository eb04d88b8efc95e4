/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_guard_packet.c - whatever segment a client sends: no read beyond it, and what was read of it
 * lies within it.
 *
 * The first byte chooses how long it was on the wire, the second whether its checksum is made
 * right: else hardly an input would get past that.
 */
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "takeover/checksum.h"
#include "takeover/guard.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct flow_key
key_of(const uint8_t *segment, size_t n)
{
    struct flow_key k = {.local = {[0] = 0xfd, [15] = 1}, .remote = {[0] = 0xfd, [15] = 2}};

    if (n >= 4) {
        memcpy(&k.remote_port, segment, 2);
        memcpy(&k.local_port, segment + 2, 2);
    }
    return k;
}

static void
put_sum(const struct flow_key *k, uint8_t *segment, size_t n, size_t n_segment)
{
    uint16_t sum = checksum_fold(checksum_pseudo(k->remote, k->local, IPPROTO_TCP, n_segment));

    if (n >= sizeof(struct tcphdr))
        memcpy(segment + offsetof(struct tcphdr, th_sum), &sum, sizeof(sum));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct guard_packet p;
    struct flow_key k;
    uint8_t *segment;
    size_t n_segment;

    if (n < 2 || n > GUARD_SEGMENT_MAX)
        return 0;
    segment = malloc(n - 2 != 0 ? n - 2 : 1);
    memcpy(segment, data + 2, n - 2);
    n_segment = n - 2 + data[0];
    k = key_of(segment, n - 2);
    if (data[1] & 1)
        put_sum(&k, segment, n - 2, n_segment);
    if (guard_packet_read(&k, segment, n - 2, n_segment, &p)) {
        MC_ASSERT(flow_key_eq(&p.key, &k));
        MC_ASSERT(p.payload >= segment + sizeof(struct tcphdr));
        MC_ASSERT(p.payload + p.n_payload == segment + n - 2);
        MC_ASSERT(data[0] == 0 || !(p.flags & TH_FIN));
    }
    free(segment);
    return 0;
}
