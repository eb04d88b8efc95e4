/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_grpc.c - any bytes as the values of gRPC's fields.
 *
 * Never a crash; a timeout that reads is written as one that reads the same or a little more; a
 * message is printable ASCII whatever it was made of.
 */
#include "base/check.h"
#include "http/grpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void
timeouts_survive(struct str s)
{
    char text[GRPC_TIMEOUT_TEXT];
    mc_ns ns, again;
    unsigned n;

    if (!grpc_timeout_read(s, &ns))
        return;
    MC_ASSERT(ns >= 0);
    n = grpc_timeout_write(ns, text);
    MC_ASSERT(n <= 9 && grpc_timeout_read((struct str){text, n}, &again));
    MC_ASSERT(again >= ns && (again - ns <= 1 || again - ns <= ns / 10000));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str s = {(const char *)data, size}, message;
    struct arena a;

    arena_init(&a, NULL);
    timeouts_survive(s);
    grpc_content_type(s);
    MC_ASSERT(grpc_status_read(s) < GRPC_N_STATUSES);
    message = grpc_message(s, &a);
    for (size_t i = 0; i < message.n; i++)
        MC_ASSERT(message.p[i] >= ' ' && message.p[i] < 0x7f);
    arena_drop(&a);
    return 0;
}
