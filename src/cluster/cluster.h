/* SPDX-License-Identifier: BSD-2-Clause
 *
 * cluster.h - a balancer's place in its cluster: the sockets, clocks and keys around what is pure.
 *
 * swim.h says who is alive, facts.h and words.h carry what changes now and then, and loads (of
 * which nothing here knows more than their bytes) go to whom they are for.  All of it travels in
 * sealed datagrams, batched by turn of the loop and receiver; whole states of the membership by
 * sealed connections (cluster_sync.c).  Addresses to join by may be names (cluster_join.c).
 *
 *   plain text of a datagram: u64 id of the sender, u64 its wall clock in ms, frames
 *   frame: u8 kind, u16 length, bytes.  Frames of unknown kinds are passed over.
 *
 * Control thread.  No hook may free the cluster.
 */
#ifndef MC_CLUSTER_CLUSTER_H
#define MC_CLUSTER_CLUSTER_H

#include "base/err.h"
#include "cluster/facts.h"
#include "cluster/seal.h"
#include "cluster/swim.h"
#include "cluster/words.h"
#include "io/dgram.h"
#include "io/dns.h"
#include "io/loop.h"

struct cluster;

/* All but on_members may be called from inside a call of cluster_say() or cluster_fact_*(). */
struct cluster_hooks {
    void *arg;
    /* A live member is another process than before, though it was not missed: whatever counts up
     * in what it says begins anew.  Before on_members(). */
    void (*on_restart)(void *arg, uint64_t member);
    /* Who is alive has changed, or what one says of itself; once a turn. */
    void (*on_members)(void *arg);
    void (*on_fact)(void *arg, uint64_t owner, struct str key, const void *value, size_t n,
                    mc_ns age_ns);
    void (*on_word)(void *arg, const struct word *);
    /* What cluster_send() gave at a live member. */
    void (*on_load)(void *arg, uint64_t from, const void *bytes, size_t n);
};

/* Of the process before, in whose place this one comes: nobody misses it in between. */
struct cluster_heritage {
    int udp, tcp; /* sockets that are bound to `bind`; taken over when cluster_new() succeeds */
    uint64_t incarnation; /* its own */
};

struct cluster_conf {
    struct str name;
    const struct cluster_heritage *heritage; /* NULL: none */
    struct addr bind;                        /* UDP and TCP */
    struct addr advertise;                   /* what the others are told; len 0: bind */
    char *const *join;                       /* [n_join] "address:port" or "name:port" */
    unsigned n_join;
    const char *key_file; /* NULL: none, and bind is on loopback */
    const void *meta;     /* see swim.h */
    size_t meta_n;
    uint64_t bytes_per_s; /* for facts and words together; loads see to themselves; 0: 1 MB/s */
    struct loop *loop;
    struct dns *dns; /* NULL: no names */
    struct cluster_hooks hooks;
};

#define CLUSTER_COUNTERS(X)                                                       \
    X(sealed, "datagrams sealed and sent")                                        \
    X(sealed_bytes, "their bytes")                                                \
    X(opened, "datagrams received and opened")                                    \
    X(opened_bytes, "their bytes")                                                \
    X(load_bytes_in, "bytes of loads received")                                   \
    X(load_bytes_out, "bytes of loads sent")                                      \
    X(strangers, "datagrams of processes that are no live members, but for SWIM") \
    X(malformed, "datagrams whose frames could not be read")                      \
    X(unknown, "frames of kinds unknown to this release")                         \
    X(syncs, "states exchanged by connections")                                   \
    X(syncs_failed, "connections that ended before both states had come over")    \
    X(syncs_refused, "connections refused because there are too many")

struct cluster_counters {
#define X(name, text) uint64_t name;
    CLUSTER_COUNTERS(X)
#undef X
};

/* Binds its sockets; MC_EINVAL without a key and beyond loopback. */
enum mc_err cluster_new(const struct cluster_conf *, struct cluster **, struct errbuf *);
/* After dns_free(), since questions cannot be taken back. */
void cluster_free(struct cluster **);

/* Begins to look for the others: after the hooks' owner is ready for them. */
void cluster_start(struct cluster *);
/* Replaces the addresses to join by. */
void cluster_set_join(struct cluster *, char *const *join, unsigned n);
/* The key file again; on an error nothing has changed. */
enum mc_err cluster_reload_keys(struct cluster *, struct errbuf *);
void cluster_set_meta(struct cluster *, const void *, size_t n);
/* Says goodbye; done(arg) when the others know, or have had a second for it. */
void cluster_leave(struct cluster *, void (*done)(void *arg), void *arg);

/* Falls silent at once and for good, without goodbye: another process goes on in our place.  What
 * is known stays readable. */
void cluster_hush(struct cluster *);
/* What that process needs; the sockets stay ours. */
void cluster_bequeath(const struct cluster *, struct cluster_heritage *out);

/* To one live member, by id; leaves at the end of the turn.  n <= CLUSTER_LOAD_MAX. */
#define CLUSTER_LOAD_MAX 1150
void cluster_send(struct cluster *, uint64_t to, const void *bytes, size_t n);
/* To all live members. */
void cluster_send_all(struct cluster *, const void *bytes, size_t n);
/* How far the member's wall clock is before ours, as heard lately; 0: unknown. */
mc_ns cluster_skew(const struct cluster *, uint64_t member);

enum mc_err cluster_fact_set(struct cluster *, struct str key, enum facts_urgency, const void *,
                             size_t n);
void cluster_fact_del(struct cluster *, struct str key);
enum mc_err cluster_say(struct cluster *, const struct word *);
/* Words from before a restart. */
unsigned cluster_load_words(struct cluster *, struct str text);

/* For reading. */
const struct swim *cluster_swim(const struct cluster *);
const struct facts *cluster_facts(const struct cluster *);
const struct words *cluster_words(const struct cluster *);
const struct keyring *cluster_keyring(const struct cluster *);
const struct cluster_counters *cluster_counters(const struct cluster *);
uint64_t cluster_id(const struct cluster *);
/* Our name belongs to another live member: the cluster was left for good, and the log said so. */
bool cluster_conflict(const struct cluster *);
/* Ids of the live members besides us, in order; good until the next turn. */
const uint64_t *cluster_others(const struct cluster *, unsigned *n);
/* Of a live member: age of the last datagram, bytes each way; false: it is none. */
struct cluster_traffic {
    mc_ns heard_ns; /* MC_NEVER_NS: never */
    uint64_t bytes_in, bytes_out;
    mc_ns skew_ns;
};
bool cluster_traffic(const struct cluster *, uint64_t member, struct cluster_traffic *);

#endif
