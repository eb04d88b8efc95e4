/* SPDX-License-Identifier: BSD-2-Clause
 *
 * senders.h - private to this room: whose datagrams have been opened, with the key of each and the
 * sequences that were seen.
 *
 * A sender is a boot of a balancer and the cluster key that it sealed with.  Only who has proved to
 * hold that key gets in; the one not heard for longest makes room.
 */
#ifndef MC_CLUSTER_SENDERS_H
#define MC_CLUSTER_SENDERS_H

#include <openssl/types.h>

#include "base/list.h"
#include "base/map.h"
#include "cluster/keyring.h"
#include "cluster/replay.h"

/* Above any cluster with its restarts of days; 1 MB when full. */
#define SENDERS_MAX        1024
#define SENDERS_ID_BYTES   4
#define SENDERS_NAME_BYTES (SENDERS_ID_BYTES + KEYRING_BOOT_BYTES)

struct sender {
    struct list link;
    uint8_t name[SENDERS_NAME_BYTES]; /* id of the cluster key, boot id: as in a datagram */
    EVP_CIPHER_CTX *open;
    struct replay window;
};

struct senders {
    struct map by_name;
    struct list lru; /* the first was heard last */
    unsigned n;
};

struct sender *sender_new(void);
void sender_free(struct sender **);

void senders_init(struct senders *);
void senders_fini(struct senders *);
/* NULL when there is none. */
struct sender *senders_find(struct senders *, const uint8_t name[SENDERS_NAME_BYTES]);
/* Takes it. */
void senders_add(struct senders *, struct sender **);
void senders_drop_key(struct senders *, const uint8_t id[SENDERS_ID_BYTES]);

#endif
