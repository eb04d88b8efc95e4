/* SPDX-License-Identifier: BSD-2-Clause
 *
 * caps.h - one limit for the whole cluster, as shares of its members.  Pure; control thread.
 *
 * A limit is a number of units that all members together may use: requests at a server at once, or
 * thousandths of a request a second (then the share fills a bucket, rate.h).  No request waits for
 * another member: each uses its share, and shares follow demand.
 *
 * The division (caps_divide) is the same wherever the same is known: each member gets a floor, the
 * 1/CAPS_FLOOR part of an even share but 1 at least, so that an idle member can start at once;
 * the rest goes by demand, by largest remainder, ties to the smaller id.  The sum is the limit.
 * With more members than units each gets 1: nobody stands still, and the sum is above the limit
 * by (members - limit).
 *
 * Sharing.  Each member tells, for each limit, its demand, its claim (what it may use) and what it
 * has heard from whom.  It
 *   lowers its share at once when its part of the division shrinks, and its claim with it;
 *   raises its claim to what the claims of all others leave, and its share only when all others
 *   have told that they heard that claim, and still leave so much.
 * Of any two members that grow, the later one thus counts what the former claimed: whatever is
 * delayed, lost, doubled or reordered, shares do not sum to more than the limit, but for the 1 that
 * each has at least: the sum is at most max(limit, members) + the number of members that some other
 * does not know of yet.
 *
 * Death and partition cannot be told apart.  Who is gone counts with its last claim, and nobody
 * grows, until the hold is over:
 *   who sees more than half of the members     takes over after hold_ns;
 *   who does not                               falls to an even share (limit / members) after
 *                                              hold_ns / 2, and takes over after lone_ns.
 * So in a partition the sum stays below limit * (1 + minority / members) <= 1.5 limit (and 1 a
 * member), if members find each other gone within hold_ns / 2; beyond lone_ns, below limit * parts.
 * Members that left say so (caps_member_left) and hold nothing up.
 *
 * A member that has not told of a limit for hold_ns does not know it, and is not waited for.
 *
 * Wire, big-endian (base/pack.h), the value of a fact a limit; unknown bytes at the end are
 * skipped: u8 CAPS_FORMAT, u64 key, u64 number of the word, varint demand (1/1000 units), varint
 * claim, u64 number of the word that raised the claim, u8 n, n x (u64 member, u64 number of its
 * claim heard)
 */
#ifndef MC_CLUSTER_CAPS_H
#define MC_CLUSTER_CAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/units.h"

#define CAPS_FORMAT      1
#define CAPS_FLOOR       10  /* an idle member keeps this part of an even share */
#define CAPS_MEMBERS_MAX 48  /* so that what is told of a limit fits a fact */
#define CAPS_WORD_MAX    900 /* bytes */
#define CAPS_UNITS_MAX   1000000000u

/* Zeros mean the defaults named. */
struct caps_conf {
    uint64_t id;      /* of this member; as all ids not 0 */
    uint64_t boot_ms; /* wall clock at the start; one that is behind what was said costs a moment */
    mc_ns exchange_ns; /* 100 ms: how often it tells, at most */
    mc_ns smooth_ns;   /* 1 s: time constant of the mean of demand */
    mc_ns hold_ns;     /* 10 s */
    mc_ns lone_ns;     /* 60 s */
    /* To be told to all, and to replace what was told of this limit before.  Must not call caps. */
    void (*tell)(void *arg, uint64_t key, const void *bytes, size_t n);
    void *arg;
};

#define CAPS_COUNTERS(X)                                            \
    X(told, "words told")                                           \
    X(heard, "words heard and taken")                               \
    X(stale, "words heard late or twice")                           \
    X(malformed, "words that could not be read")                    \
    X(strangers, "words of who is no member, or of unknown limits") \
    X(raised, "shares raised")                                      \
    X(lowered, "shares lowered")                                    \
    X(taken_over, "members whose share was taken over")             \
    X(fallbacks, "times that a minority fell to its even share")    \
    X(overtaken, "times that our words from before a restart were ahead of us")

struct caps_counters {
#define X(name, text) uint64_t name;
    CAPS_COUNTERS(X)
#undef X
};

struct caps;

struct caps *caps_new(const struct caps_conf *, mc_ns now);
void caps_free(struct caps **);

/* Another limit, or other units of one that is there (share and claim shrink at once if need be);
 * the index for the calls below.  units 1..CAPS_UNITS_MAX. */
unsigned caps_set_limit(struct caps *, uint64_t key, uint32_t units, mc_ns now);
/* Indices of others stay. */
void caps_drop_limit(struct caps *, uint64_t key);

/* Who is alive, besides us (the first CAPS_MEMBERS_MAX - 1 of them); those missing are gone.  Until
 * the first call shares are 1: a member that starts is not alone only because it knows nobody yet.
 */
void caps_set_members(struct caps *, const uint64_t *ids, unsigned n, mc_ns now);
/* It said that it leaves and uses nothing any more. */
void caps_member_left(struct caps *, uint64_t id, mc_ns now);

/* What this member would use of the limit now if it could, in units: a sample, smoothed here. */
void caps_demand(struct caps *, unsigned limit, double units, mc_ns now);
/* What `tell` gave at another member. */
void caps_hear(struct caps *, uint64_t member, const void *bytes, size_t n, mc_ns now);
/* Moves shares and tells; when to call again. */
mc_ns caps_tick(struct caps *, mc_ns now);
/* What this member may use; moves in caps_tick(), caps_hear(), caps_set_limit(), and when members
 * change.  1 at least. */
uint32_t caps_share(const struct caps *, unsigned limit);
const struct caps_counters *caps_counters(const struct caps *);

/* The division alone: ids ascending, demand in any unit, n > 0. */
void caps_divide(uint32_t units, unsigned n, const uint64_t *demand, uint32_t *share);

#endif
