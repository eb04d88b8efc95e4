/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_announce.c - any bytes as a frame of a network.  What it announces, announced by us, is read
 * as the same.
 */
#include <string.h>

#include "base/check.h"
#include "io/announce.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct announce_mac mac, again_mac;
    uint8_t frame[ANNOUNCE_FRAME_MAX];
    struct addr addr, again;
    size_t m;

    if (!announce_read(data, n, &addr, &mac))
        return 0;
    m = announce_frame(&addr, &mac, n & 1, frame);
    MC_ASSERT(announce_read(frame, m, &again, &again_mac));
    MC_ASSERT(addr_eq(&addr, &again) && memcmp(&mac, &again_mac, sizeof(mac)) == 0);
    return 0;
}
