/* SPDX-License-Identifier: BSD-2-Clause
 *
 * share_map.h - what servers are called between balancers: keys of 32 bits.  Pure; built once a
 * view, then read only.
 *
 * Balancers may know different servers, in different orders.  A key is a hash of the pool's and the
 * server's name.  Two servers of one view whose keys are the same are both left out: nobody could
 * tell which one is meant.  Among 10,000 servers that happens once in a hundred pools.
 */
#ifndef MC_PLACE_SHARE_MAP_H
#define MC_PLACE_SHARE_MAP_H

#include <stdint.h>

#include "base/str.h"

#define SHARE_NO_SERVER UINT32_MAX

struct share_place {
    uint32_t key, server;
};

struct share_map {
    uint32_t pool;              /* its key */
    unsigned n_servers, n;      /* n: of those that have a key */
    uint32_t *key;              /* [n_servers] 0: left out */
    struct share_place *by_key; /* [n] in the order of keys */
};

/* Never 0. */
uint32_t share_pool_key(struct str name);
/* id_hash: [n_servers] of the view.  Servers left out are n_servers - n. */
struct share_map *share_map_new(uint32_t pool, const uint64_t *id_hash, unsigned n_servers);
void share_map_free(struct share_map **);
/* SHARE_NO_SERVER: none of ours. */
uint32_t share_map_find(const struct share_map *, uint32_t key);
/* The first place in by_key whose key is not below; n: none. */
unsigned share_map_from(const struct share_map *, uint32_t key);

#endif
