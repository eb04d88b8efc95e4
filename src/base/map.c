/* SPDX-License-Identifier: BSD-2-Clause
 *
 * map.c - text to pointer, open addressing with linear probing.
 *
 * A removed slot keeps a tombstone so that chains stay whole; tombstones count as used for the
 * load, and growing sweeps them out.
 */
#include "base/map.h"

#include <stdlib.h>

#include "base/check.h"

static char tombstone[1];

static bool
is_live(const struct map_slot *s)
{
    return s->key != NULL && s->key != tombstone;
}

static struct map_slot *
find(const struct map *m, struct str key, uint64_t hash)
{
    if (m->cap == 0)
        return NULL;
    for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        struct map_slot *s = &m->slots[i];

        if (!s->key)
            return NULL;
        if (is_live(s) && s->hash == hash && str_eq((struct str){s->key, s->key_n}, key))
            return s;
    }
}

/* Where a key that is not in the map goes. */
static struct map_slot *
find_room(const struct map *m, uint64_t hash)
{
    size_t i = hash & (m->cap - 1);

    while (is_live(&m->slots[i]))
        i = (i + 1) & (m->cap - 1);
    return &m->slots[i];
}

static void
resize(struct map *m, size_t cap)
{
    struct map old = *m;

    m->slots = mc_alloc(cap * sizeof(*m->slots));
    m->cap = cap;
    m->n_dead = 0;
    for (size_t i = 0; i < old.cap; i++)
        if (is_live(&old.slots[i]))
            *find_room(m, old.slots[i].hash) = old.slots[i];
    free(old.slots);
}

void *
map_get(const struct map *m, struct str key)
{
    struct map_slot *s = find(m, key, str_hash(key, 0));

    return s ? s->value : NULL;
}

void *
map_put(struct map *m, struct str key, void *value)
{
    uint64_t hash = str_hash(key, 0);
    struct map_slot *s = find(m, key, hash);

    if (s) {
        void *old = s->value;

        s->value = value;
        return old;
    }
    /* at most 2/3 in use, so that a search ends soon; twice the live ones after growing */
    if ((m->n + m->n_dead + 1) * 3 > m->cap * 2) {
        size_t cap = 16;

        while (cap < (m->n + 1) * 2)
            cap *= 2;
        resize(m, cap);
    }
    s = find_room(m, hash);
    if (s->key == tombstone)
        m->n_dead--;
    *s = (struct map_slot){.key = str_dup(key), .key_n = key.n, .hash = hash, .value = value};
    m->n++;
    return NULL;
}

void *
map_remove(struct map *m, struct str key)
{
    struct map_slot *s = find(m, key, str_hash(key, 0));
    void *value;

    if (!s)
        return NULL;
    value = s->value;
    free(s->key);
    *s = (struct map_slot){.key = tombstone};
    m->n--;
    m->n_dead++;
    return value;
}

bool
map_next(const struct map *m, size_t *at, struct str *key, void **value)
{
    for (; *at < m->cap; ++*at) {
        struct map_slot *s = &m->slots[*at];

        if (!is_live(s))
            continue;
        if (key)
            *key = (struct str){s->key, s->key_n};
        if (value)
            *value = s->value;
        ++*at;
        return true;
    }
    return false;
}

void
map_free(struct map *m)
{
    for (size_t i = 0; i < m->cap; i++)
        if (is_live(&m->slots[i]))
            free(m->slots[i].key);
    free(m->slots);
    *m = (struct map){0};
}
