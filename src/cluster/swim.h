/* SPDX-License-Identifier: BSD-2-Clause
 *
 * swim.h - who is in the cluster, and who of them is alive.
 *
 * SWIM (Das, Gupta, Motivala 2002) with the refinements of Lifeguard (Dadgar, Phillips, Currey
 * 2018): each member probes one other a period, asks some others to try when there is no answer,
 * and then suspects it; what changes is passed on with every message; who is suspected says that it
 * lives, under a higher incarnation; who is not heard to do so is dead.  docs/cluster.md tells the
 * rules and what they cost.
 *
 * Pure: time, randomness and bytes are passed in, messages leave through a callback.  Control
 * thread only.  The caller carries datagrams (sealed: what comes in here is from a member) and,
 * when asked by `sync`, whole states over a stream of its own:
 *
 *     datagram in -> swim_recv()             timer at swim_due() -> swim_tick()
 *     sync(to)    -> connect; both ends send what swim_state_write() gives and hand what they get
 *                    to swim_state_absorb()
 *
 * No hook may call a function here that takes a struct swim that is not const.
 */
#ifndef MC_CLUSTER_SWIM_H
#define MC_CLUSTER_SWIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "base/units.h"
#include "io/addr.h"

#define SWIM_DATAGRAM_MAX 1200 /* bytes of a message: with the seal below the MTU of any path */
#define SWIM_NAME_MAX     63
#define SWIM_META_MAX     256
#define SWIM_BOOT_BYTES   16
#define SWIM_MEMBERS_MAX  4096       /* alive and remembered together */
#define SWIM_JOIN_MAX     64         /* addresses to join by */
#define SWIM_STATE_MAX    (2u << 20) /* bytes of a whole state: no larger one need be read */

#define SWIM_STATES(X)    \
    X(NONE, "none")       \
    X(ALIVE, "alive")     \
    X(SUSPECT, "suspect") \
    X(DEAD, "dead")       \
    X(LEFT, "left")

enum swim_state {
#define X(id, word) SWIM_##id,
    SWIM_STATES(X)
#undef X
};

const char *swim_state_word(enum swim_state);

struct swim_member {
    char name[SWIM_NAME_MAX + 1];
    uint64_t id; /* hash of the name; below UINT64_MAX */
    bool self;
    enum swim_state state; /* NONE only in the last on_member(), when it is forgotten */
    mc_ns since;           /* of the state, on our clock; may lie before our start */
    struct addr addr;      /* udp and tcp */
    uint8_t boot[SWIM_BOOT_BYTES];
    uint64_t incarnation;
    uint8_t meta[SWIM_META_MAX];
    size_t meta_n;
    mc_ns rtt_ns;     /* mean of our own probes, recent ones count more; 0: none was answered */
    float probe_loss; /* part of our own direct probes that got no answer in time, likewise */
};

struct swim_hooks {
    void *arg;
    /* n <= SWIM_DATAGRAM_MAX; the bytes are good for the call. */
    void (*send)(void *arg, const struct addr *to, const void *bytes, size_t n);
    /* Please exchange whole states with whoever is there.  No need to tell how it went. */
    void (*sync)(void *arg, const struct addr *to);
    /* A member changed: its state was `was` (NONE: it is new); the same as now when only its
     * address, boot or meta changed.  NULL: nobody asks. */
    void (*on_member)(void *arg, const struct swim_member *, enum swim_state was);
    /* Our name belongs to a live process that is older: NAME_TAKEN.  From now on nothing is sent
     * or answered; all that is left is swim_free(). */
    void (*on_conflict)(void *arg, const struct addr *holder);
};

/* 0: the default. */
struct swim_times {
    mc_ns probe_ns;           /* 500 ms: one probe a period */
    mc_ns timeout_ns;         /* 150 ms: for an answer; as long again for the indirect one */
    mc_ns gossip_ns;          /* 100 ms: when there is news */
    mc_ns sync_ns;            /* 30 s: whole state with a random member; longer above 32 members */
    mc_ns retry_ns;           /* 5 s: tries whether a dead member is back */
    mc_ns remember_ns;        /* 24 h: a dead member */
    unsigned indirect;        /* 3: members that are asked to try */
    unsigned fanout;          /* 3: members that are told news at a time */
    unsigned retransmit_mult; /* 4: news is told so many times log10 of the members */
    unsigned suspicion_mult;  /* 1: probe periods times log10 of the members until dead */
    unsigned suspicion_max_mult; /* 6: as much longer until others have found the same */
};

struct swim_conf {
    struct str name; /* 1 to 63 of A-Z a-z 0-9 . _ - */
    struct addr addr;
    uint8_t boot[SWIM_BOOT_BYTES]; /* random at each start of the process */
    /* Where to begin; wall seconds save a round trip after a restart, 0 will do. */
    uint64_t incarnation;
    const uint8_t *meta;
    size_t meta_n;
    uint64_t seed;
    struct swim_times times;
    struct swim_hooks hooks;
};

#define SWIM_COUNTERS(X)                                                     \
    X(probes, "direct probes sent")                                          \
    X(acks, "probes answered in time, by whatever way")                      \
    X(indirect, "probes that others were asked to try")                      \
    X(failed, "probes without any answer")                                   \
    X(suspicions, "suspicions that our own probes raised or confirmed")      \
    X(deaths, "members that we declared dead")                               \
    X(refutations, "times we said that we are alive after all")              \
    X(false_deaths, "times others declared us dead while we ran")            \
    X(contests, "times a name was claimed from another address")             \
    X(late_ticks, "times we ran so late that waiting members got more time") \
    X(msgs_in, "messages received")                                          \
    X(msgs_out, "messages sent")                                             \
    X(bytes_in, "bytes of messages received")                                \
    X(bytes_out, "bytes of messages sent")                                   \
    X(state_bytes_in, "bytes of whole states received")                      \
    X(state_bytes_out, "bytes of whole states sent")                         \
    X(malformed, "messages or entries that could not be read")               \
    X(unknown, "messages or entries of a kind unknown to this release")      \
    X(misdirected, "messages meant for another process")                     \
    X(refused, "claims not taken in: no room, or names of one hash")

struct swim_counters {
#define X(name, help) uint64_t name;
    SWIM_COUNTERS(X)
#undef X
};

struct swim;

bool swim_name_ok(struct str name);
/* Member id of a name. */
uint64_t swim_name_id(struct str name);

/* EINVAL: the name, the address or the meta is not usable; eb says which. */
enum mc_err swim_new(const struct swim_conf *, mc_ns now, struct swim **out, struct errbuf *eb);
void swim_free(struct swim **);

/* Does what is due and returns when it wants to be called next. */
mc_ns swim_tick(struct swim *, mc_ns now);
/* The same time; ask again after any other call. */
mc_ns swim_due(const struct swim *);
/* A datagram: whatever it holds, it is counted and never trusted beyond its ranges. */
void swim_recv(struct swim *, const struct addr *from, const void *bytes, size_t n, mc_ns now);

/* Replaces the addresses to join by; those beyond SWIM_JOIN_MAX are left out.  They are tried until
 * one answers, and those behind which no live member is, now and then for ever. */
void swim_join(struct swim *, const struct addr *, size_t n, mc_ns now);
/* True once a whole state of another member came in. */
bool swim_joined(const struct swim *);

/* Appends our whole state; nothing when we have left or the name was taken. */
void swim_state_write(struct swim *, struct buf *, mc_ns now);
/* ESYNTAX: it is not one; what could be read of it is taken in all the same. */
enum mc_err swim_state_absorb(struct swim *, const void *bytes, size_t n, mc_ns now);

/* Changes what all members see of us; EINVAL: more than SWIM_META_MAX bytes. */
enum mc_err swim_set_meta(struct swim *, const void *meta, size_t n, mc_ns now);

/* Says goodbye; swim_has_left() once several have confirmed it or a second has passed. */
void swim_leave(struct swim *, mc_ns now);
bool swim_has_left(const struct swim *);

/* Members, us among them, in no order; at < swim_count().  Good until the next call that is not
 * const. */
size_t swim_count(const struct swim *);
const struct swim_member *swim_at(const struct swim *, size_t at);
const struct swim_member *swim_self(const struct swim *);
const struct swim_member *swim_find(const struct swim *, struct str name); /* NULL: unknown */
const struct swim_member *swim_find_id(const struct swim *, uint64_t id);
/* Alive and suspect ones, us among them. */
size_t swim_live(const struct swim *);

const struct swim_counters *swim_counters(const struct swim *);
/* 0: well, up to 8: we are slow ourselves, and so patient with others. */
unsigned swim_health(const struct swim *);

#endif
