/* SPDX-License-Identifier: BSD-2-Clause
 *
 * link_priv.h - between the takeover thread and the workers' links: who holds, which connections
 * were rebuilt for a worker, which flows are others' now; and which holders have their snapshots.
 *
 * The thread posts, under the roster's lock, and wakes the worker by its eventfd; the link looks
 * into its box in a turn of its own loop, and answers the same way.
 */
#ifndef MC_TAKEOVER_LINK_PRIV_H
#define MC_TAKEOVER_LINK_PRIV_H

#include <pthread.h>

#include "cluster/keyfile.h"
#include "io/addr.h"
#include "takeover/link.h"
#include "takeover/peers.h"

#define LINK_WORKERS_MAX 64

struct guard;

/* Who the flows of this life are replicated to. */
struct link_holder {
    struct life who;
    uint32_t epoch; /* of the choice, each has another */
    unsigned guard_peer;
    bool leaving; /* waited for until another one is in its place, and handed nothing over to */
    struct addr addr;
};

struct link_holders {
    struct link_holder v[PEERS_HOLDERS_MAX];
    unsigned n;
};

/* All workers' links; part of struct takeover.  What is below the lock is under it. */
struct link_roster {
    struct life self;
    struct guard *guard;
    mc_ns silent_ns; /* LINK_SILENT_NS */
    /* Any thread, under the lock: what link_claims_done(), link_is_synced() and link_is_lost() say
     * may have changed. */
    void (*on_news)(void *arg);
    void *arg;
    pthread_mutex_t lock;
    struct keyfile keys; /* as of the thread's keyring; n 0: none, all sockets are on loopback */
    struct link *link[LINK_WORKERS_MAX]; /* NULL: there is none, or it has been closed */
    struct link_holders holders;
    unsigned next; /* whose turn it is to be given a connection */
};

void link_roster_init(struct link_roster *);
void link_roster_fini(struct link_roster *); /* no link is left */

/* --- the thread's calls --- */

void link_post_holders(struct link_roster *, const struct link_holders *);
/* To the next worker.  False: there is none; *a stays the caller's. */
bool link_post_adopted(struct link_roster *, struct adopted **);
/* To all workers, since the thread does not know whose they are.  keys NULL: all flows. */
void link_post_claimed(struct link_roster *, const struct flow_key *keys, unsigned n);
/* All workers have let go of what was claimed. */
bool link_claims_done(struct link_roster *);
/* The file may be one that workers, who are not root any more, cannot read. */
void link_post_keys(struct link_roster *, const struct keyfile *);
/* All workers wait for the holder of that epoch; there is at least one. */
bool link_is_synced(struct link_roster *, uint32_t epoch);
/* Some worker cannot talk to it any more. */
bool link_is_lost(struct link_roster *, uint32_t epoch);

#endif
