/* SPDX-License-Identifier: BSD-2-Clause
 *
 * replica_store_priv.h - what the files of the store of replicas share.
 *
 *   replica_store.c   the store: whose a flow is, to whom it is given, what time makes of it
 *   replica_held.c    the flows that are held: found by key and by line, counted
 *   replica_lines.c   what is heard on the lines of peers' workers
 *   replica_claims.c  which of a life's flows were given away
 *
 * A flow is in two chained hash tables, by its key and by its line's number for it, in the list of
 * its line, and in an array of all, which is there to be walked.  The store owns everything; the
 * thread is its caller's.
 */
#ifndef MC_TAKEOVER_REPLICA_STORE_PRIV_H
#define MC_TAKEOVER_REPLICA_STORE_PRIV_H

#include "base/list.h"
#include "takeover/replica_priv.h"

#define REPLICA_SLOTS_MIN  256 /* of a table, a power of two */
#define REPLICA_OWNERS_MAX 64  /* lives whose claims are remembered */
#define REPLICA_PATIENCE   4   /* how often the client of what was handed over is asked to speak */

enum { BY_KEY, BY_FLOW, N_TABLES };

struct held {
    struct replica *r;
    struct replica_line *line;
    struct held *chain[N_TABLES];
    uint64_t hash[N_TABLES];
    struct list of_line;
    size_t cost; /* of r, as counted in the store's bytes */
    unsigned at; /* in all[] */
    uint32_t flow;
    uint64_t serial;      /* counts OPENs */
    struct life given_to; /* none: not given away */
    bool taken;           /* who it was given to has it */
    bool refused;         /* its owner was told that it is not kept here */
    struct life
        claimed; /* who says that it took it over, while its owner lives as far as we know */
    mc_ns given_at;
    struct list of_given; /* in the order of given_at */
    mc_ns waits_since;    /* handed over, and not taken */
    unsigned patience;    /* how often its client was asked */
    struct list of_waiting;
};

struct replica_line {
    struct replica_store *s;
    struct list link;  /* of the store's `lines`, or `ended` in the order of ended_at */
    struct list flows; /* held.of_line */
    struct life owner;
    uint64_t serial;
    uint64_t frames;
    uint32_t epoch;
    uint16_t worker;
    bool greeted, synced, ended;
    bool replaced; /* a newer line of the same worker has told all: this one is to end */
    bool lossy;  /* a flow was not kept here, or given away: frames of unknown ones are no fault */
    bool handed; /* some were handed over: what else comes of them may come too late */
    unsigned n_flows;
    uint32_t *refused; /* by the last record */
    unsigned n_refused, cap_refused;
    mc_ns ended_at;
};

/* What was given away of a life's flows. */
struct claims {
    struct life owner;
    struct flow_key *key;
    unsigned n, cap;
    bool lost; /* there were more */
};

struct replica_store {
    struct replica_conf conf;
    struct list lines, ended, given;
    struct list waiting[REPLICA_PATIENCE]; /* handed over to us; each in the order of waits_since */
    unsigned n_lines;
    struct held **slot[N_TABLES];
    size_t n_slots; /* a power of two */
    struct held **all;
    unsigned n_all, cap_all;
    uint64_t serial;
    struct claims claims[REPLICA_OWNERS_MAX];
    unsigned n_owners;
    bool owners_lost; /* more lives had claims than are remembered */
    struct replica_stats stats;
};

/* --- replica_held.c --- */

/* Of that name on the line; NULL: none. */
struct held *held_by_flow(const struct replica_line *, uint32_t flow);
/* All of that key, one after the other; NULL: no more. */
struct held *held_by_key(const struct replica_store *, const struct flow_key *);
struct held *held_next(struct held *, const struct flow_key *);
/* Whose replica it is, which must be one of the store's. */
struct held *held_of(const struct replica_store *, const struct replica *);

/* Takes the replica. */
void held_new(struct replica_line *, uint32_t flow, struct replica *);
/* Out of the store, and freed; returns the replica, whose owner is the caller. */
struct replica *held_take(struct held *);
/* The same, and the replica with it. */
void held_forget(struct held *);
/* Counts what it takes now. */
void held_weigh(struct held *);
/* Somebody has it, or nobody will. */
void held_end_waiting(struct held *);

/* --- replica_lines.c --- */

/* With its flows; out of the list in which it is. */
void replica_line_free(struct replica_line *);

/* --- replica_claims.c --- */

/* A flow of that owner was given away. */
void claims_note(struct replica_store *, struct life owner, const struct flow_key *);

#endif
