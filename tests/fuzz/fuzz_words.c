/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_words.c - any bytes as messages about words (each a length, then the message), and as lines
 * from disk: what is taken can be saved and read again.
 */
#include "base/check.h"
#include "base/pack.h"
#include "cluster/words.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void
drop(void *arg, uint64_t to, const void *bytes, size_t n)
{
    MC_ASSERT(n <= WORDS_DATAGRAM && (to == 0x11 || to == 0x12));
}

static struct words *
some_words(struct words_time t)
{
    struct words_conf conf = {.id = 0x22, .send = drop};
    struct words *w = words_new(&conf, t);

    words_set_members(w, (const uint64_t[]){0x11, 0x12}, 2, t.now);
    return w;
}

static void
check_saved(const struct words *w, struct words_time t)
{
    struct words *again = some_words(t);
    struct buf b = {0};

    words_save(w, &b);
    MC_ASSERT(words_load(again, (struct str){b.p, b.n}, t) == 0);
    MC_ASSERT(words_count(again) == words_count(w));
    buf_free(&b);
    words_free(&again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct words_time t = {.wall_ms = 1700000000000};
    struct words *w = some_words(t);
    struct pack_in in = {.p = data, .n = n};

    words_load(w, (struct str){(const char *)data, n}, t);
    while (in.n > 0) {
        size_t k = unpack_u8(&in);

        k = k < in.n ? k : in.n;
        t.now += 40 * MC_MS;
        words_recv(w, 0x11 + (k & 1), unpack_bytes(&in, k), k, t);
        words_tick(w, t);
    }
    check_saved(w, t);
    words_free(&w);
    return 0;
}
