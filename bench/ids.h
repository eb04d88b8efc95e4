/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ids.h - bytes that follow from a request's number: what steady.c and ledger.c send each other, so
 * that each can tell whether it got all of it, in order, and nothing else. */
#ifndef MC_BENCH_IDS_H
#define MC_BENCH_IDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of a request's bytes: its body's are others than its answer's. */
enum ids_what { IDS_ASKED, IDS_ANSWERED };

/* The finalizer of splitmix64 over a counter. */
static inline uint64_t
ids_word(uint64_t id, enum ids_what what, uint64_t i)
{
    uint64_t x = id * 0x9e3779b97f4a7c15ull + (i * 2 + (uint64_t)what) * 0xd1342543de82ef95ull;

    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

static inline char
ids_byte(uint64_t id, enum ids_what what, uint64_t at)
{
    return (char)(ids_word(id, what, at / 8) >> at % 8 * 8);
}

static inline void
ids_fill(char *to, uint64_t id, enum ids_what what, uint64_t from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = ids_byte(id, what, from + i);
}

static inline bool
ids_match(const char *p, uint64_t id, enum ids_what what, uint64_t from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != ids_byte(id, what, from + i))
            return false;
    return true;
}

#endif
