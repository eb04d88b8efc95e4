/* SPDX-License-Identifier: BSD-2-Clause
 *
 * link_priv.h - between the takeover thread and the workers' links (link_roster.c): who holds,
 * which connections were rebuilt for a worker, which flows are others' now; and which holders have
 * their snapshots.
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

/* Of a holder, by the worker. */
struct link_said {
    uint32_t epoch;
    bool synced, lost;
};

/* What passes between the thread and a worker; all but event_fd under the roster's lock. */
struct link_box {
    int event_fd; /* wakes the worker */
    bool holders_new, keys_new;
    struct adopted **adopted;
    unsigned n_adopted;
    struct flow_key *claimed;
    unsigned n_claimed;
    bool claimed_all;
    bool claims;                              /* some are not let go of yet */
    struct link_said said[PEERS_HOLDERS_MAX]; /* the worker's answers, by place */
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
    struct link_box *box[LINK_WORKERS_MAX]; /* NULL: there is no link, or it has been closed */
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

/* --- a link's calls --- */

/* From here on it is posted to, and holders wait for it; it is told of the present ones first. */
void link_enlist(struct link_roster *, unsigned worker, struct link_box *);
void link_delist(struct link_roster *, unsigned worker);
/* What was posted since the last call; its arrays are the caller's to free. */
struct link_box link_box_empty(struct link_roster *, struct link_box *, struct link_holders *);
void link_say(struct link_roster *, struct link_box *, unsigned place, struct link_said);
/* What the last box claimed has been let go of. */
void link_say_let_go(struct link_roster *, struct link_box *);
/* The present keys, to be wiped; n 0: there are none. */
void link_keys(struct link_roster *, struct keyfile *out);

#endif
