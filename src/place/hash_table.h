/* SPDX-License-Identifier: BSD-2-Clause
 *
 * hash_table.h - the order in which a key asks servers: a ring or a Maglev table.  Pure; immutable.
 *
 * For hash.c.  Built once per pool and snapshot from names and configured weights, read by all
 * workers.
 */
#ifndef MC_PLACE_HASH_TABLE_H
#define MC_PLACE_HASH_TABLE_H

#include "place/policy.h"

struct hash_table;

/* size: ring points per unit of weight, or entries of the Maglev table (the next prime is taken);
 * 0: chosen by the number of servers. */
struct hash_table *hash_table_new(const struct place_view *, bool maglev, unsigned size);
void hash_table_free(struct hash_table *);
/* The server at a step down the key's order (0: the owner); the same one may come up again.  -1
 * when no server has weight. */
int32_t hash_table_at(const struct hash_table *, uint64_t key, unsigned step);
/* False for the part of the keys that a server leaves to the next while its weight is below the one
 * the table was built with (slow start, an operator's word). */
bool hash_table_takes(const struct hash_table *, const struct place_view *, uint32_t index,
                      uint64_t key);

/* The finalizer of splitmix64 (Steele, Lea, Flood 2014): every bit of x moves every bit of it. */
static inline uint64_t
hash_mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Uniform in (0, 1] by x. */
static inline double
hash_unit(uint64_t x)
{
    return (double)((hash_mix(x) >> 11) + 1) * 0x1.0p-53;
}

#endif
