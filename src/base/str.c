/* SPDX-License-Identifier: BSD-2-Clause
 *
 * str.c - text that somebody else owns: compared, cut, hashed.
 */
#include "base/str.h"

#include <endian.h>
#include <limits.h>
#include <stdlib.h>

#include "base/check.h"

/* hot: several times a request */
bool
str_eq_ci(struct str a, struct str b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (str_lower((unsigned char)a.p[i]) != str_lower((unsigned char)b.p[i]))
            return false;
    return true;
}

bool
str_starts(struct str s, struct str prefix)
{
    return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

static bool
is_ows(char c)
{
    return c == ' ' || c == '\t';
}

struct str
str_trim(struct str s)
{
    while (s.n > 0 && is_ows(s.p[0])) {
        s.p++;
        s.n--;
    }
    while (s.n > 0 && is_ows(s.p[s.n - 1]))
        s.n--;
    return s;
}

struct str
str_cut(struct str *rest, char sep)
{
    struct str part = *rest;
    const char *at = part.n ? memchr(part.p, sep, part.n) : NULL;

    if (!at) {
        *rest = STR_NONE;
        return part;
    }
    part.n = (size_t)(at - part.p);
    *rest = (struct str){at + 1, rest->n - part.n - 1};
    return part;
}

bool
str_u64(struct str s, uint64_t *out)
{
    uint64_t v = 0;

    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        if (__builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(s.p[i] - '0'), &v))
            return false;
    }
    *out = v;
    return true;
}

char *
str_dup(struct str s)
{
    char *p = mc_alloc(s.n + 1);

    if (s.n > 0)
        memcpy(p, s.p, s.n);
    return p;
}

/* --- hashing: XXH64 (Collet 2012), whose results are the same on every machine, which balancers
 * rely on when they name things to each other by a hash. --- */

#define P1 0x9E3779B185EBCA87u
#define P2 0xC2B2AE3D27D4EB4Fu
#define P3 0x165667B19E3779F9u
#define P4 0x85EBCA77C2B2AE63u
#define P5 0x27D4EB2F165667C5u

static inline uint64_t
rotl(uint64_t x, int by)
{
    return (x << by) | (x >> (64 - by));
}

static inline uint64_t
load64(const char *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof(v));
    return le64toh(v);
}

static inline uint32_t
load32(const char *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof(v));
    return le32toh(v);
}

static inline uint64_t
hash_round(uint64_t acc, uint64_t word)
{
    return rotl(acc + word * P2, 31) * P1;
}

/* Whole stripes of 32 bytes in four lanes; *s becomes the rest. */
static uint64_t
hash_stripes(struct str *s, uint64_t seed)
{
    uint64_t lane[4] = {seed + P1 + P2, seed + P2, seed, seed - P1};
    uint64_t h;

    for (; s->n >= 32; s->p += 32, s->n -= 32)
        for (int i = 0; i < 4; i++)
            lane[i] = hash_round(lane[i], load64(s->p + 8 * i));
    h = rotl(lane[0], 1) + rotl(lane[1], 7) + rotl(lane[2], 12) + rotl(lane[3], 18);
    for (int i = 0; i < 4; i++)
        h = (h ^ hash_round(0, lane[i])) * P1 + P4;
    return h;
}

static uint64_t
hash_tail(struct str s, uint64_t h)
{
    for (; s.n >= 8; s.p += 8, s.n -= 8)
        h = rotl(h ^ hash_round(0, load64(s.p)), 27) * P1 + P4;
    if (s.n >= 4) {
        h = rotl(h ^ load32(s.p) * P1, 23) * P2 + P3;
        s.p += 4;
        s.n -= 4;
    }
    for (; s.n > 0; s.p++, s.n--)
        h = rotl(h ^ (unsigned char)*s.p * P5, 11) * P1;
    return h;
}

/* hot: once per request */
uint64_t
str_hash(struct str s, uint64_t seed)
{
    uint64_t bytes = s.n;
    uint64_t h = s.n >= 32 ? hash_stripes(&s, seed) : seed + P5;

    h = hash_tail(s, h + bytes);
    h = (h ^ (h >> 33)) * P2;
    h = (h ^ (h >> 29)) * P3;
    return h ^ (h >> 32);
}

#define DISTANCE_MAX 64

static unsigned
min3(unsigned a, unsigned b, unsigned c)
{
    unsigned m = a < b ? a : b;

    return m < c ? m : c;
}

unsigned
str_distance(struct str a, struct str b)
{
    unsigned row[DISTANCE_MAX + 1]; /* distances of the part of a so far to each prefix of b */

    if (a.n > DISTANCE_MAX || b.n > DISTANCE_MAX)
        return UINT_MAX;
    for (unsigned j = 0; j <= b.n; j++)
        row[j] = j;
    for (unsigned i = 0; i < a.n; i++) {
        unsigned diagonal = row[0];

        row[0] = i + 1;
        for (unsigned j = 0; j < b.n; j++) {
            unsigned above = row[j + 1];

            row[j + 1] = min3(above + 1, row[j] + 1, diagonal + (a.p[i] != b.p[j]));
            diagonal = above;
        }
    }
    return row[b.n];
}
