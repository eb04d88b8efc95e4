/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_seal_stream.c - any bytes as a connection, at every stage of it, and in any pieces.
 *
 * The first byte is the stage at which an end is met, the second the size of the pieces; the rest
 * comes in place of what the other end says.
 */
#include <stdlib.h>

#include "base/check.h"
#include "cluster/seal_stream.h"

#define MAX_BYTES 4096

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static struct keyring *rings[2];

static void
make_rings(void)
{
    struct keyfile f = {.n = 1};
    uint8_t id[KEYRING_BOOT_BYTES];

    memset(f.key[0], 'k', KEYFILE_KEY_BYTES);
    for (int i = 0; i < 2; i++) {
        memset(id, 'a' + i, sizeof(id));
        rings[i] = keyring_new(&f, id);
    }
}

/* All that `from` has to say goes to `to`, who must like it. */
static void
pass(struct seal_stream *from, struct seal_stream *to, mc_ns now)
{
    struct buf *out = seal_stream_out(from);

    while (out->n > 0) {
        struct str plain;
        size_t used;

        MC_ASSERT(seal_stream_open(to, now, (uint8_t *)out->p, out->n, &used, &plain) ==
                  SEAL_F_NONE);
        MC_ASSERT(used > 0);
        buf_skip(out, used);
    }
}

/* Nothing but what was made with the key opens. */
static void
read_pieces(struct seal_stream *s, mc_ns now, const uint8_t *data, size_t n, size_t piece)
{
    struct buf held = {0};
    enum seal_fault f = SEAL_F_NONE;
    bool was_ready = seal_stream_ready(s);

    while (n > 0 && f == SEAL_F_NONE) {
        size_t part = piece < n ? piece : n, used;
        struct str plain;

        buf_add(&held, data, part);
        data += part;
        n -= part;
        do {
            f = seal_stream_open(s, now, (uint8_t *)held.p, held.n, &used, &plain);
            MC_ASSERT(plain.p == NULL && used <= held.n);
            buf_skip(&held, used);
        } while (f == SEAL_F_NONE && used > 0);
        MC_ASSERT(f != SEAL_F_NONE || held.n <= MAX_BYTES + 64); /* what must be kept */
    }
    MC_ASSERT(!seal_stream_ready(s) || was_ready);
    MC_ASSERT(seal_stream_eof(s) != SEAL_F_NONE);
    buf_free(&held);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static mc_ns now;
    struct seal_stream *s[2];
    unsigned stage;

    if (n < 2)
        return 0;
    if (rings[0] == NULL)
        make_rings();
    now += MC_SEC; /* derivations are not what is looked at here */
    stage = data[0] % 4;
    for (int i = 0; i < 2; i++)
        s[i] = seal_stream_new(rings[i], i == 0, MAX_BYTES);
    for (unsigned i = 0; i < stage; i++)
        pass(s[i % 2], s[1 - i % 2], now);
    /* stages 0 and 2 meet the acceptor, 1 the opener; 3 an opener in the middle of records */
    read_pieces(s[stage % 2 ? 0 : 1], now, data + 2, n - 2, data[1] + 1u);
    for (int i = 0; i < 2; i++)
        seal_stream_free(&s[i]);
    return 0;
}
