/* SPDX-License-Identifier: BSD-2-Clause
 *
 * company.h - servers that several balancers look after together.
 *
 * Each server has two owners among the live members (rendezvous hashing, place/home.h): they check
 * it and follow its agent (the second one seldom: only the first learns from it), and tell the
 * others what they find; agree.h makes a verdict of it.  The words come and go through hooks:
 * fleet knows no network.
 *
 * Control thread.
 */
#ifndef MC_FLEET_COMPANY_H
#define MC_FLEET_COMPANY_H

#include <stdint.h>

#include "base/str.h"
#include "base/units.h"
#include "fleet/agree.h"

struct fleet;
struct pool;
struct server;
struct share_msg;
struct share_map;

struct company_hooks {
    void *arg;
    /* What our checks found of a server that we own; AGREE_UNKNOWN: we own it no more. */
    void (*tell)(void *arg, const struct server *, enum agree_word, const char *why);
    /* What the others should hear of load; to: a member, or SHARE_TO_ALL.  Good for the call.
     * Returns the bytes that go out for it, to all whom it goes to. */
    size_t (*share)(void *arg, uint64_t to, const struct share_map *, const struct share_msg *);
};

struct company_conf {
    uint64_t id;        /* of this member */
    uint64_t boot;      /* grows from one start to the next */
    double bytes_per_s; /* of load that each pool may tell; see know.h */
    struct company_hooks hooks;
};

/* Before the first fleet_build(). */
void company_join(struct fleet *, const struct company_conf *);
/* The live members besides us. */
void company_set_members(struct fleet *, const uint64_t *others, unsigned n);
/* A live member is another process now: what it says of load counts from the beginning. */
void company_member_restarted(struct fleet *, uint64_t member);
/* What a server is called between members: a hash of POOL/NAME. */
uint64_t company_server_key(const struct server *);
/* Another owner's word; AGREE_UNKNOWN takes it back. */
void company_hear(struct fleet *, uint64_t member, uint64_t server_key, enum agree_word,
                  struct str why);
/* Is there a server of that key in force? */
bool company_knows(const struct fleet *, uint64_t server_key);
/* Our share of the requests that all members together may have at a server at once, in place of
 * what the configuration says.  Until the next fleet_adopt(). */
void company_limit(struct server *, uint32_t share);
/* A piece of share_wire.h from a member whose clock is skew before ours. */
void company_recv(struct fleet *, uint64_t member, mc_ns skew, const void *bytes, size_t n);

/* --- for display --- */

/* Live owners of a server; returns how many.  With no company: none. */
unsigned company_owners(const struct server *, uint64_t owner[AGREE_OWNERS]);

struct company_counts {
    uint64_t owned;          /* servers that are ours to watch (gauge) */
    uint64_t pieces_refused; /* of load that could not be read */
    uint64_t unknown_servers, unknown_pools;
    uint64_t hearsay_refused; /* verdicts of others not followed since our requests succeed */
};
void company_counts(const struct fleet *, struct company_counts *);

#endif
