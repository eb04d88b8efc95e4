/* SPDX-License-Identifier: BSD-2-Clause
 *
 * rand.h - xoshiro256** (Blackman, Vigna 2018): fast, seedable, not for secrets.  Each belongs to
 * one thread; the same seed gives the same numbers on every machine.
 */
#ifndef MC_BASE_RAND_H
#define MC_BASE_RAND_H

#include <stdint.h>

struct rng {
    uint64_t s[4];
};

void rng_seed(struct rng *, uint64_t seed);
void rng_seed_os(struct rng *); /* from getrandom(2) */

static inline uint64_t
rng_next(struct rng *r)
{
    uint64_t x = r->s[1] * 5, out = ((x << 7) | (x >> 57)) * 9, t = r->s[1] << 17;

    r->s[2] ^= r->s[0];
    r->s[3] ^= r->s[1];
    r->s[1] ^= r->s[2];
    r->s[0] ^= r->s[3];
    r->s[2] ^= t;
    r->s[3] = (r->s[3] << 45) | (r->s[3] >> 19);
    return out;
}

/* Uniform in [0, n) by multiplication (Lemire 2019); the bias is below 2^-32 for small n. n > 0. */
static inline uint32_t
rng_below(struct rng *r, uint32_t n)
{
    return (uint32_t)(((rng_next(r) >> 32) * (uint64_t)n) >> 32);
}

/* Uniform in [0, 1). */
static inline double
rng_unit(struct rng *r)
{
    return (double)(rng_next(r) >> 11) * 0x1.0p-53;
}

#endif
