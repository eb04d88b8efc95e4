/* SPDX-License-Identifier: BSD-2-Clause
 *
 * map.h - text to pointer, open addressing.  Keys are copied.  One thread, or read-only by many.
 */
#ifndef MC_BASE_MAP_H
#define MC_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

struct map_slot {
    char *key;    /* NUL-terminated copy; NULL: never used */
    size_t key_n; /* a key may hold NUL bytes */
    uint64_t hash;
    void *value;
};

/* Zero-initialise. */
struct map {
    struct map_slot *slots;
    size_t cap, n, n_dead;
};

void *map_get(const struct map *, struct str key);        /* NULL when absent */
void *map_put(struct map *, struct str key, void *value); /* returns the old value or NULL */
void *map_remove(struct map *, struct str key);           /* returns the value or NULL */
/* Walks in no particular order: start with *at = 0; false at the end. */
bool map_next(const struct map *, size_t *at, struct str *key, void **value);
void map_free(struct map *); /* keys only, not the values */

#endif
