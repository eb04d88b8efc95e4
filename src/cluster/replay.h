/* SPDX-License-Identifier: BSD-2-Clause
 *
 * replay.h - which sequences of one sender have been seen: a sliding window of bits.
 *
 * RFC 6479's way: a ring of words, of which the window leaves one free, so that sliding clears
 * whole words and shifts nothing.  Pure.
 */
#ifndef MC_CLUSTER_REPLAY_H
#define MC_CLUSTER_REPLAY_H

#include <stdint.h>

#define REPLAY_WORDS  32
#define REPLAY_WINDOW (64 * (REPLAY_WORDS - 1)) /* sequences that may overtake one */

/* Zero-initialise.  Sequences begin with 1; 0 is always too old. */
struct replay {
    uint64_t top; /* the highest seen */
    uint64_t seen[REPLAY_WORDS];
};

enum replay_answer { REPLAY_NEW, REPLAY_SEEN, REPLAY_OLD };

enum replay_answer replay_check(const struct replay *, uint64_t seq);
/* Call for what is new, once it has proved authentic. */
void replay_mark(struct replay *, uint64_t seq);

#endif
