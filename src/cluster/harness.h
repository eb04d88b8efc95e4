/* SPDX-License-Identifier: BSD-2-Clause
 *
 * harness.h - for the tests of this room that seal: keyrings whose keys and boot ids are known.
 */
#ifndef MC_CLUSTER_HARNESS_H
#define MC_CLUSTER_HARNESS_H

#include <string.h>

#include "cluster/keyring.h"

/* Key i is 32 times key[i]. */
static inline struct keyfile
keys_of(const char *key)
{
    struct keyfile f = {.n = (unsigned)strlen(key)};

    for (unsigned i = 0; i < f.n; i++)
        memset(f.key[i], key[i], KEYFILE_KEY_BYTES);
    return f;
}

/* The boot id is 16 times `boot`. */
static inline struct keyring *
ring_of(const char *key, char boot)
{
    struct keyfile f = keys_of(key);
    uint8_t id[KEYRING_BOOT_BYTES];

    memset(id, boot, sizeof(id));
    return keyring_new(&f, id);
}

#endif
