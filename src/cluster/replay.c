/* SPDX-License-Identifier: BSD-2-Clause
 *
 * replay.c - see replay.h.
 */
#include "cluster/replay.h"

#include "base/check.h"

static uint64_t
word_of(uint64_t seq)
{
    return seq / 64;
}

static uint64_t
bit_of(uint64_t seq)
{
    return (uint64_t)1 << seq % 64;
}

/* hot: once per datagram */
enum replay_answer
replay_check(const struct replay *r, uint64_t seq)
{
    if (seq == 0 || (seq <= r->top && r->top - seq >= REPLAY_WINDOW))
        return REPLAY_OLD;
    if (seq > r->top || !(r->seen[word_of(seq) % REPLAY_WORDS] & bit_of(seq)))
        return REPLAY_NEW;
    return REPLAY_SEEN;
}

/* hot: once per datagram */
void
replay_mark(struct replay *r, uint64_t seq)
{
    MC_ASSERT(replay_check(r, seq) == REPLAY_NEW);
    if (seq > r->top) {
        uint64_t n_words = word_of(seq) - word_of(r->top);

        for (uint64_t i = 1; i <= n_words && i <= REPLAY_WORDS; i++)
            r->seen[(word_of(r->top) + i) % REPLAY_WORDS] = 0;
        r->top = seq;
    }
    r->seen[word_of(seq) % REPLAY_WORDS] |= bit_of(seq);
}
