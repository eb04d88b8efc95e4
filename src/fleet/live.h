/* SPDX-License-Identifier: BSD-2-Clause
 *
 * live.h - the inside of what lives across snapshots: fleet, pool and server.  For fleet/ only.
 *
 * References: a fleet has its owner and its live pools; a live pool has snapshots and servers; a
 * server has snapshots, the members list of its pool, its probe and lookup, requests.  The members
 * list makes a circle, which fleet_adopt() or fleet_stop() cuts.  The registry by name is weak.
 *
 * Locks, in this order: live.lock > server.lock; fleet.lock and fleet.events_lock are taken last.
 *   live.lock      who is a member, every change of a member's health, open and weight
 *   server.lock    health, for those who only copy it
 *   fleet.lock     registry and ids
 * No worker takes one on the way of a request; when it sets a server aside it takes the first two.
 */
#ifndef MC_FLEET_LIVE_H
#define MC_FLEET_LIVE_H

#include "base/list.h"
#include "base/map.h"
#include "fleet/agree.h"
#include "fleet/pool.h"

struct entry;
struct follow;
struct probe;
struct resolve;
struct company;

struct fleet {
    _Atomic uint32_t refs;
    unsigned n_workers;
    struct loop *loop;
    struct dns *dns;
    void (*on_open)(void *arg);
    void *on_open_arg;

    pthread_mutex_t lock;
    struct map pools;   /* name -> struct live */
    struct map servers; /* identity -> struct entry */
    uint64_t *ids;      /* [n_id_words] a bit per id in use */
    unsigned n_id_words;

    /* control thread */
    struct rng rng;
    struct tls_turns turns; /* of checks and agents; NULL loop: none of them */
    struct live **adopted;  /* [n_adopted], referenced */
    unsigned n_adopted;
    unsigned n_checked;        /* servers whose checks were begun by the present adoption */
    struct watches *watches;   /* agents, shared by servers; NULL: no loop */
    struct list agent_lookups; /* struct follow_lookup that the resolver has not answered yet */
    struct list lookups;       /* struct lookup that the resolver has not answered yet */
    struct brains *brains;
    struct company *company; /* NULL: this balancer is alone */

    /* what workers tell the control thread */
    pthread_mutex_t events_lock;
    struct list events; /* entry.event */
    int event_fd;
    struct watch watch;
};

struct live {
    struct pool_live pub; /* first: pools point to it */
    struct fleet *fleet;
    _Atomic uint64_t open_weight; /* of the open servers together */
    pthread_mutex_t lock;
    struct entry **members; /* [n_members] of the configuration in force, referenced */
    unsigned n_members;
    unsigned panic_percent;
    unsigned n_primary;    /* primaries that nobody has taken out */
    unsigned n_primary_up; /* of these, the healthy ones */
};

/* Addresses that were replaced, until surely nobody reads them. */
struct old_addrs {
    struct old_addrs *next;
    struct server_addrs *addrs;
};

#define REGARD_HEARD 4 /* owners, and those who were until just now */

/* What the members of a cluster say of a server.  Control thread. */
struct regard {
    uint64_t key; /* company_server_key() */
    bool mine;    /* one of its owners is this balancer */
    enum agree_word own;
    uint64_t owner[AGREE_OWNERS]; /* [n_owners] live members */
    unsigned n_owners;
    struct {
        uint64_t member;
        enum agree_word word; /* UNKNOWN: the place is free */
        char why[96];
    } heard[REGARD_HEARD];
    /* this balancer's own requests there, as seen at the last sweep */
    uint64_t responses;
    uint32_t fails;
    mc_ns success_at, failure_at;
    bool refused; /* hearsay, which was counted */
};

struct entry {
    struct server s; /* first: a server's owner is the entry */
    struct live *live;
    /* under live.lock */
    bool member;
    bool backup;
    unsigned weight; /* as configured or as the operator says */
    double share;    /* of this weight, as the server's agent says; 1 */
    /* control thread */
    bool adopted_once;
    unsigned conf_weight; /* as configured last, to see when the configuration itself changes */
    enum health_admin conf_state;
    uint32_t conf_max;            /* requests in flight, as configured, or our share; 0: no limit */
    uint32_t agent_max;           /* and as the server's agent says */
    struct follow *words;         /* its agent; NULL: it has none that speaks in words (words.h) */
    struct pool_check_conf check; /* with texts of its own */
    struct timer tick;            /* ejection ends, weight grows */
    struct probe *probe;
    struct resolve *resolve; /* NULL: the address is no name */
    struct regard regard;
    struct old_addrs *old_addrs;
    struct list event; /* under events_lock; {NULL, NULL}: not queued */
};

static inline struct entry *
entry_of(struct server *s)
{
    return container_of(s, struct entry, s);
}

static inline struct live *
live_of(struct pool_live *l)
{
    return container_of(l, struct live, pub);
}

void fleet_unref(struct fleet *);
/* The live pool of that name, made when there is none; referenced. */
struct live *live_get(struct fleet *, const char *name);
struct live *live_ref(struct live *);
void live_unref(struct live *);
/* The live server of that identity, referenced; NULL when there is none. */
struct entry *entry_find(struct live *, const char *name, const char *address_text);
/* A new one with its first reference; without address, closed, health not initialised. */
struct entry *entry_new(struct live *, const char *name, const char *address_text);
/* The last reference is gone. */
void entry_destroy(struct entry *);
/* Puts new addresses in force.  Control thread. */
void entry_set_addrs(struct entry *, const struct addr *, unsigned n);

#endif
