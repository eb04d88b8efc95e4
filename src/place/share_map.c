/* SPDX-License-Identifier: BSD-2-Clause
 *
 * share_map.c - keys of servers, see share_map.h.
 */
#include "place/share_map.h"

#include <stdlib.h>

#include "base/check.h"
#include "place/hash_table.h"

#define POOL_SEED 0x706f6f6c /* apart from the hashes that policies use */

static uint32_t
fold(uint64_t hash)
{
    uint32_t key = (uint32_t)(hash ^ hash >> 32);

    return key ? key : 1;
}

uint32_t
share_pool_key(struct str name)
{
    return fold(str_hash(name, POOL_SEED));
}

static int
by_key(const void *a, const void *b)
{
    const struct share_place *x = a, *y = b;

    return x->key < y->key ? -1 : x->key > y->key;
}

/* Takes out those that share a key. */
static void
leave_out(struct share_map *m)
{
    unsigned n = 0;

    for (unsigned i = 0, end; i < m->n; i = end) {
        for (end = i + 1; end < m->n && m->by_key[end].key == m->by_key[i].key;)
            end++;
        if (end == i + 1)
            m->by_key[n++] = m->by_key[i];
        for (unsigned k = i; k < end && end > i + 1; k++)
            m->key[m->by_key[k].server] = 0;
    }
    m->n = n;
}

struct share_map *
share_map_new(uint32_t pool, const uint64_t *id_hash, unsigned n_servers)
{
    struct share_map *m = mc_alloc(sizeof(*m));

    *m = (struct share_map){.pool = pool, .n_servers = n_servers, .n = n_servers};
    m->key = mc_alloc((n_servers + 1) * sizeof(*m->key));
    m->by_key = mc_alloc((n_servers + 1) * sizeof(*m->by_key));
    for (uint32_t s = 0; s < n_servers; s++) {
        m->key[s] = fold(hash_mix(id_hash[s] ^ (uint64_t)pool << 32 ^ pool));
        m->by_key[s] = (struct share_place){m->key[s], s};
    }
    qsort(m->by_key, n_servers, sizeof(*m->by_key), by_key);
    leave_out(m);
    return m;
}

void
share_map_free(struct share_map **mp)
{
    struct share_map *m = *mp;

    if (!m)
        return;
    *mp = NULL;
    free(m->key);
    free(m->by_key);
    free(m);
}

unsigned
share_map_from(const struct share_map *m, uint32_t key)
{
    unsigned least = 0, most = m->n;

    while (least < most) {
        unsigned mid = (least + most) / 2;

        if (m->by_key[mid].key < key)
            least = mid + 1;
        else
            most = mid;
    }
    return least;
}

uint32_t
share_map_find(const struct share_map *m, uint32_t key)
{
    unsigned at = share_map_from(m, key);

    return at < m->n && m->by_key[at].key == key ? m->by_key[at].server : SHARE_NO_SERVER;
}
