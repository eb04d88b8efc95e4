/* SPDX-License-Identifier: BSD-2-Clause
 *
 * rand.c - seeding of xoshiro256**.
 */
#include "base/rand.h"

#include <sys/random.h>

#include "base/check.h"

/* splitmix64, as the authors of xoshiro advise: no seed, not even 0, gives the all-zero state. */
static uint64_t
splitmix(uint64_t *x)
{
    uint64_t z = (*x += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void
rng_seed(struct rng *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++)
        r->s[i] = splitmix(&seed);
}

void
rng_seed_os(struct rng *r)
{
    uint64_t seed;

    /* up to 256 bytes are never cut short by a signal, getrandom(2) */
    MC_ASSERT(getrandom(&seed, sizeof(seed), 0) == sizeof(seed));
    rng_seed(r, seed);
}
