/* SPDX-License-Identifier: BSD-2-Clause
 *
 * swim_priv.h - what the files of membership know of each other.
 *
 *   swim.c         life of an instance, its clock, joining and leaving
 *   swim_member.c  the table of members and what is believed of each: claims in, states out
 *   swim_probe.c   who answers: probes, relays, names claimed twice
 *   swim_gossip.c  news and to whom it goes
 *   swim_wire.c    bytes of messages and states; reading them
 */
#ifndef MC_CLUSTER_SWIM_PRIV_H
#define MC_CLUSTER_SWIM_PRIV_H

#include "base/check.h"
#include "base/list.h"
#include "base/map.h"
#include "base/pack.h"
#include "base/rand.h"
#include "cluster/swim.h"

/* Claims above it are nonsense: nobody can refute what nobody can exceed. */
#define INCARNATION_MAX (UINT64_C(1) << 62)
/* Independent members that must find a suspect silent until it has the least time left. */
#define CONFIRMATIONS   3
#define NEWS_TOLD_MAX   64 /* above what retransmit_mult makes of SWIM_MEMBERS_MAX */
#define HEALTH_MAX      8  /* Lifeguard's S */
#define PROBES_MAX      64 /* under way at once; those beyond are left out */
#define RELAYS_MAX      64

/* --- wire ---------------------------------------------------------------------------------------
 * A message: type u8, sender (name str, incarnation varint, boot 16 bytes), body str, entries to
 * the end.  An entry: kind u8, str.  Bodies and entries may end in more than this release reads.
 */
enum msg_type {
    MSG_PING = 1, /* seq u32, name of who is meant str */
    MSG_ACK,      /* seq u32; of who answered: boot 16 bytes, age in ms varint */
    MSG_PING_REQ, /* seq u32, name str, address */
    MSG_NACK,     /* seq u32 */
    MSG_GOSSIP,   /* nothing but entries */
    MSG_TAKEN,    /* boot of who is meant; of who holds the name: boot, age in ms, address */
    MSG_STATE,    /* by a stream: all members as entries */
};

enum entry_kind {
    /* state u8, name str, boot, incarnation varint, ms in this state varint, address, meta str */
    ENTRY_MEMBER = 1,
    /* state u8 (suspect, dead or left), name str, incarnation varint, name of who found it str
     * (empty: hearsay) */
    ENTRY_DOUBT,
};

/* What somebody says of a member. */
struct claim {
    enum swim_state state;
    struct str name;
    uint64_t incarnation;
    const uint8_t *boot; /* NULL: a doubt, which has none of the following but `by` */
    struct addr addr;
    struct str meta;
    mc_ns ago_ns;
    struct str by; /* of a doubt; empty: hearsay, which confirms nothing */
};

struct sender {
    struct str name;
    uint64_t incarnation;
    const uint8_t *boot;
};

/* --- state --------------------------------------------------------------------------------------
 */

/* A claim from another address that waits for whether the present holder of the name answers. */
struct contest {
    uint8_t boot[SWIM_BOOT_BYTES];
    uint64_t incarnation;
    struct addr addr;
    uint8_t meta[SWIM_META_MAX];
    size_t meta_n;
};

struct member {
    struct swim_member pub;
    struct list news;           /* in swim.news[n_told]; in none: nothing to tell */
    unsigned n_told;            /* times what is believed of it was told */
    char by[SWIM_NAME_MAX + 1]; /* who doubted last */
    /* suspect: */
    struct list suspects; /* in swim.suspects */
    mc_ns doubt_began, doubt_least, doubt_most;
    unsigned doubt_wanted;               /* confirmations */
    unsigned n_doubters;                 /* different ones, the first among them */
    uint64_t doubter[CONFIRMATIONS + 1]; /* their ids */
    bool challenged;                     /* our own probe failed: we ask until it refutes */
    struct contest *contest;             /* NULL: none */
    mc_ns contest_after;                 /* no other before */
    bool knows_leave;                    /* that we leave */
};

enum probe_use {
    PROBE_NONE,    /* the slot is free */
    PROBE_ALIVE,   /* is it alive? */
    PROBE_CONTEST, /* does the holder of a name that is claimed elsewhere answer? */
    PROBE_RIVAL,   /* does somebody else answer to our name? */
    PROBE_RETRY,   /* is a dead one back? */
    PROBE_LEAVE,   /* did it hear that we leave? */
};

struct probe {
    enum probe_use use;
    uint32_t seq;
    struct member *m; /* NULL: RIVAL */
    struct addr to;
    mc_ns sent, ask_at, until; /* ask_at: others are asked, MC_NEVER_NS: were or will not be */
    unsigned n_asked, n_nacks;
};

/* A probe for another member. */
struct relay {
    uint32_t seq; /* 0: the slot is free */
    struct addr from;
    uint32_t from_seq;
    mc_ns nack_at, until; /* nack_at: MC_NEVER_NS when it is sent */
};

struct swim {
    struct swim_hooks hooks;
    struct swim_times times;
    struct rng rng;
    struct swim_counters n;
    mc_ns began;
    struct member *self;
    bool joined, leaving, silent; /* silent: left, or the name was taken */

    struct member **all; /* [n_all] */
    size_t n_all, cap_all, n_live;
    struct map by_name;
    struct member **ring; /* [n_ring] all but us, in the order of probing */
    size_t n_ring, ring_at;
    bool ring_odd;

    struct list news[NEWS_TOLD_MAX]; /* by times told; newest first */
    struct list suspects;
    unsigned health;
    uint32_t seq;
    uint64_t blame_from; /* our incarnations from here on were not yet called dead */
    struct probe probe[PROBES_MAX];
    struct relay relay[RELAYS_MAX];

    struct addr join[SWIM_JOIN_MAX];
    size_t n_join, join_at;
    mc_ns leave_until;
    unsigned n_know_leave;
    mc_ns next_probe, next_gossip, next_challenge, next_sync, next_join, next_retry, next_leave;
    mc_ns stranger_after, rival_after; /* no sooner than that again */
};

/* --- swim.c */
bool swim_is_live(const struct member *);
/* ceil(log10(live + 1)), at least 1. */
unsigned swim_digits(const struct swim *);
/* Somebody older has our name. */
void swim_yield(struct swim *, const struct addr *holder);
void swim_leave_known(struct swim *, struct member *, mc_ns now);

/* --- swim_member.c */
struct member *swim_member_new(struct swim *, struct str name); /* NULL: no room */
struct member *swim_member_find(const struct swim *, struct str name);
void swim_member_free(struct member *);
/* The state changes, all that hangs on it, and everybody is told. */
void swim_member_enter(struct swim *, struct member *, enum swim_state, mc_ns since);
void swim_claim(struct swim *, const struct claim *, mc_ns now);
/* Our own probe of it failed. */
void swim_doubt(struct swim *, struct member *, mc_ns now);
/* When a suspect is dead unless it says something. */
mc_ns swim_doubt_ends(const struct member *);
void swim_contest_decide(struct swim *, struct member *, bool answered, const uint8_t *boot,
                         mc_ns age, mc_ns now);
void swim_forget_old(struct swim *, mc_ns now);

/* --- swim_probe.c */
void swim_probe_next(struct swim *, mc_ns now);
bool swim_probe_start(struct swim *, enum probe_use, struct member *, const struct addr *to,
                      mc_ns now);
void swim_probe_tick(struct swim *, mc_ns now);
mc_ns swim_probe_due(const struct swim *);
/* Time that we slept through does not count. */
void swim_probe_later(struct swim *, mc_ns slept, mc_ns now);
void swim_probe_cancel(struct swim *, const struct member *);
void swim_ring_add(struct swim *, struct member *);
void swim_ring_remove(struct swim *, const struct member *);
/* Somebody else may live under our name there. */
void swim_rival(struct swim *, const struct addr *, mc_ns now);
void swim_on_ping(struct swim *, const struct addr *from, const struct sender *, struct pack_in *,
                  mc_ns now);
void swim_on_ack(struct swim *, const struct addr *from, const struct sender *, struct pack_in *,
                 mc_ns now);
void swim_on_ping_req(struct swim *, const struct addr *from, const struct sender *,
                      struct pack_in *, mc_ns now);
void swim_on_nack(struct swim *, const struct addr *from, const struct sender *, struct pack_in *,
                  mc_ns now);
void swim_on_taken(struct swim *, const struct addr *from, const struct sender *, struct pack_in *,
                   mc_ns now);

/* --- swim_gossip.c */
/* What is believed of it is news to everybody. */
void swim_news(struct swim *, struct member *);
void swim_news_drop(struct member *);
bool swim_has_news(const struct swim *);
/* Random live members besides us, at most n; leaves out `but`. */
unsigned swim_pick(struct swim *, struct member **out, unsigned n, const struct member *but);
void swim_gossip(struct swim *, mc_ns now);
void swim_challenge(struct swim *, mc_ns now);
/* Sends a message: body, then what is believed of `about` (NULL: nobody in particular), then as
 * much news as there is room for. */
void swim_say(struct swim *, const struct addr *to, enum msg_type, const struct pack_out *body,
              struct member *about, mc_ns now);
/* What the sender should hear, since it differs from what it says of itself; NULL: nothing. */
struct member *swim_unaware(const struct swim *, const struct sender *);

/* --- swim_wire.c */
/* Others can send to it: of one host, with a port. */
bool swim_addr_ok(const struct addr *);
#define BODY_MAX 256
void pack_addr(struct pack_out *, const struct addr *);
void unpack_addr(struct pack_in *, struct addr *);
void swim_pack_head(const struct swim *, struct pack_out *, enum msg_type,
                    const struct pack_out *body);
/* False: there was no room, and nothing was written. */
bool swim_pack_doubt(struct pack_out *, const struct member *);
bool swim_pack_member(struct pack_out *, const struct member *, mc_ns now);

#endif
