/* SPDX-License-Identifier: BSD-2-Clause
 *
 * takeover.h - connections that survive their balancer: the thread that sees to it.
 *
 * One thread a process.  It tells its peers every 20 ms that it lives and hears them (peers.h),
 * keeps the lease by which the guard lets this balancer speak (guard.h), holds what the workers of
 * its peers replicate (replica.h), takes packets of flows that nobody here knows, finds out whose
 * they are, and where their owner is dead rebuilds the connection and gives it to a worker
 * (link.h).  How all that fits together is told in docs/high-availability.md.
 *
 * Datagrams (beats) and connections (links of workers, questions) share one address; both are
 * sealed with the cluster's keys.
 *
 * Life:  takeover_new()    with root's rights: programs, raw sockets, ports
 *        takeover_start()  the thread; workers may make their links from then on
 *        takeover_leave()  peers are told that this one goes
 *        takeover_part()   its connections have gone
 *        takeover_stop()   after the workers and their links have gone
 *
 * An upgrade: the next process has made its own (conf.before) and waits.  takeover_pass() makes
 * this one go without being missed, takeover_hand_over() ends its thread, and takeover_start() over
 * there begins another life of the same id (peers.h, "Succession").  The guard is replaced without
 * a packet in between, and datagrams and connections of peers wait in the sockets that both have.
 *
 * What takes a struct takeover may be called from any thread, unless it says otherwise.
 */
#ifndef MC_TAKEOVER_TAKEOVER_H
#define MC_TAKEOVER_TAKEOVER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/stats.h"
#include "base/units.h"
#include "io/addr.h"
#include "takeover/link.h"
#include "takeover/peers.h"

#define TAKEOVER_PORT      7711 /* unless told otherwise */
#define TAKEOVER_PEERS_MAX 32
#define TAKEOVER_NAME      64

struct guard;

/* Another member, whether it lives or not: that is found out by its beats. */
struct takeover_peer {
    uint64_t id;
    struct addr addr;
    char name[TAKEOVER_NAME]; /* for display; empty: not known yet */
};

/* What the process before has, or leaves to the next one. */
struct takeover_heritage {
    int udp, tcp; /* sockets of its address; -1: none, or it was another address */
    struct takeover_peer peer[TAKEOVER_PEERS_MAX];
    unsigned n_peers;
};

struct takeover_conf {
    uint64_t id;                   /* of this member, as the cluster has it */
    struct addr bind;              /* UDP and TCP */
    const char *key_file;          /* NULL: none, and bind is on loopback */
    const char *const *interfaces; /* where clients' packets come in */
    unsigned n_interfaces;         /* 0: the one that has the address of bind */
    const struct addr *ports;      /* as for takeover_ports_set() */
    unsigned n_ports;
    const struct addr *witnesses; /* addresses that answer pings */
    unsigned n_witnesses;         /* 0: the default gateways of the interfaces */
    unsigned replicas;            /* peers that hold a flow; 0: 1 */
    unsigned n_workers;
    /* Another process of this host serves until takeover_start(), with a takeover or without; its
     * sockets are taken over.  NULL: there is none. */
    const struct takeover_heritage *before;
    void *arg;
    /* On the takeover's thread.  Not fit: this balancer hears neither a peer nor a witness, has
     * fenced itself and must attract no traffic. */
    void (*on_fit)(void *arg, bool fit, const char *why);
    /* On the takeover's thread.  A peer's beats have ended, or are there (again), or are not waited
     * for any more, since it is no peer; while this balancer leaves, not that they have ended.  May
     * be NULL. */
    void (*on_peer)(void *arg, uint64_t id, bool alive);
    /* On the takeover's thread.  takeover_has_passed() has changed. */
    void (*on_passed)(void *arg);
    /* On the takeover's thread: takeover_part() has been done.  May be NULL. */
    void (*on_parted)(void *arg);
};

/* Writer: the thread, and of `mended` control; any thread may read. */
#define TAKEOVER_COUNTERS(X)                                                            \
    X(refused, "datagrams and records that could not be opened or read")                \
    X(frames_in, "frames of peers' workers")                                            \
    X(frames_bad, "frames that made no sense: their line was dropped")                  \
    X(held, "packets of unknown flows")                                                 \
    X(released, "unknown flows left to the kernel, since nobody knows them")            \
    X(flooded, "packets of unknown flows forgotten, since there were too many")         \
    X(unanswered, "packets of unknown flows forgotten, since not all peers answered")   \
    X(elsewhere, "packets of unknown flows forgotten, since their address is not here") \
    X(asks_out, "questions to peers whose a flow is")                                   \
    X(asks_in, "such questions of peers")                                               \
    X(redirected, "flows whose packets are sent on to a live owner")                    \
    X(adopted, "connections rebuilt here")                                              \
    X(given, "replicas given to peers where their packets came in")                     \
    X(broken, "connections that could not be carried on, and were reset")               \
    X(rebuild_failed, "of these, those that the kernel refused")                        \
    X(probes, "clients of dead balancers that were asked to speak")                     \
    X(nudged, "clients that were asked to send again what was lost on its way")         \
    X(claimed, "flows that others had taken over while this process slept")             \
    X(mended, "times that the guard was put back, since somebody had removed it")

struct takeover_stats {
#define X(name, text) stat_u64 name;
    TAKEOVER_COUNTERS(X)
#undef X
    stat_u64 broken_by[REPLICA_N_BROKENS]; /* plans; REPLICA_BROKEN_NONE: it can be carried on */
    struct stat_hist rebuild;              /* a packet held to its connection given to a worker */
};

/* For display; some tenths of a second old. */
struct takeover_peer_view {
    uint64_t id;
    struct addr addr;
    bool alive, leaving;
    bool fenced;    /* as it says itself */
    bool placed;    /* packets can be sent on to it */
    bool holder;    /* of this balancer's flows */
    bool in_step;   /* and has them all */
    mc_ns heard_ns; /* age of its last beat; MC_NEVER_NS: never */
    unsigned flows; /* of it that are held here */
};

struct takeover_view {
    bool lease, fenced, leaving;
    char why[128]; /* there is no lease; empty: there is */
    unsigned n_peers;
    struct takeover_peer_view peer[TAKEOVER_PEERS_MAX];
    bool alone;                            /* this one is left out: nobody is its peer */
    unsigned n_left_out;                   /* members that are no peers */
    uint64_t left_out[TAKEOVER_PEERS_MAX]; /* the first of them */
    struct peers_stats peers;
    struct replica_stats replicas;
};

struct takeover;

/* MC_ENOTSUP: the kernel or the rights lack something, which the errbuf names; the balancer can go
 * on without.  Control thread, as takeover_start() and takeover_stop(). */
enum mc_err takeover_new(const struct takeover_conf *, struct takeover **, struct errbuf *);
enum mc_err takeover_start(struct takeover *, struct errbuf *);
/* With conf.before: the process before is silent from now on.  orphaned: since it has died. */
enum mc_err takeover_succeed(struct takeover *, bool orphaned, struct errbuf *);
/* It serves nobody any more. */
void takeover_be_alone(struct takeover *);
/* NULL'ed. */
void takeover_stop(struct takeover **);

/* The members of the cluster besides this one, each once.  Of more than PEERS_MEMBERS_MAX some are
 * left out (peers_choose()), which is logged and displayed. */
void takeover_peers_set(struct takeover *, const struct takeover_peer *, unsigned n);
/* Where connections are protected: the addresses of the listeners that want it. */
enum mc_err takeover_ports_set(struct takeover *, const struct addr *, unsigned n, struct errbuf *);
/* The key file has changed. */
void takeover_reload_keys(struct takeover *);
/* Peers are told that this one leaves: none makes it a holder any more, and what it holds is given
 * to whoever asks.  What it owns it keeps until its workers hand it over. */
void takeover_leave(struct takeover *);

/* How far this process has gone (peers.h): PEERS_ALONE is for when workers have let go of all their
 * flows.  Any number of times, also back. */
void takeover_pass(struct takeover *, enum peers_pass);
enum peers_pass takeover_has_passed(struct takeover *);
/* For the next process; descriptors stay ours. */
void takeover_bequeath(struct takeover *, struct takeover_heritage *);
/* From time to time: the guard is put back where somebody has removed it. */
void takeover_mend(struct takeover *);
/* Interfaces that the guard is for; returns how many, at most GUARD_INTERFACES_MAX. */
unsigned takeover_interfaces(const struct takeover *, unsigned *ifindex);
/* The thread ends.  The guard stays on these interfaces for the next process, which has
 * PEERS_PASSING_NS to replace it.  Then only what shows, workers' links, and takeover_stop(). */
void takeover_hand_over(struct takeover *, const unsigned *ifindex, unsigned n);

/* Then: it owns nothing any more, and takes nothing; what still comes it passes on.
 * conf.on_parted() when nothing came for a while, and what others handed over to it somebody has.
 */
void takeover_part(struct takeover *);
bool takeover_has_parted(struct takeover *);

/* For the workers' calls that the guard takes from any thread. */
struct guard *takeover_guard(const struct takeover *);

void takeover_view(struct takeover *, struct takeover_view *out);
const struct takeover_stats *takeover_stats(const struct takeover *);

#endif
