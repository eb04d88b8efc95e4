/* SPDX-License-Identifier: BSD-2-Clause
 *
 * vip_assign.h - which member of a cluster carries an address.  Pure; control thread.
 *
 * Each member tells the others its claim on the address and its rank.  The owner is the live member
 * of the highest rank, and among those the one with the highest hash of address and member
 * (rendezvous hashing: Thaler, Ravishankar 1998), so that all who see the same agree, and another
 * address has another owner.
 *
 * An address changes hands in steps, so that nobody else's still carries it: the owner WANTs it;
 * who HOLDs it and agrees puts it away, and says that it is FREE; then the owner HOLDs it.  Of who
 * is dead nothing is waited for, but for his answer on the address' own network.  Members that do
 * not see each other may both hold it; when they do again, who is not the owner lets go.
 */
#ifndef MC_CLUSTER_VIP_ASSIGN_H
#define MC_CLUSTER_VIP_ASSIGN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/units.h"

enum vip_claim {
    VIP_NONE, /* it does not have this one */
    VIP_FREE, /* not carried there */
    VIP_WANT, /* thinks that it is the owner */
    VIP_HOLD, /* carries it */
    VIP_N_CLAIMS
};

/* The least first. */
#define VIP_RANKS(X)                                                   \
    X(NEVER, "never")     /* cut off, or just begun */                 \
    X(LEAVING, "leaving") /* ending: somebody else, if there is one */ \
    X(POOR, "poor")       /* not fit, but better than nobody */        \
    X(NEW, "new")         /* fit, but not for long */                  \
    X(FIT, "fit")         /* for long enough, or carrying it */

enum vip_rank {
#define X(name, text) VIP_RANK_##name,
    VIP_RANKS(X)
#undef X
        VIP_N_RANKS
};

struct vip_assign_conf {
    uint64_t id;           /* of this member, not 0 */
    uint64_t key;          /* of the address, the same on all members */
    mc_ns return_after_ns; /* from NEW to FIT */
};

struct vip_assign;

struct vip_assign *vip_assign_new(const struct vip_assign_conf *, mc_ns now);
void vip_assign_free(struct vip_assign **);

/* Who is alive, besides us. */
void vip_assign_members(struct vip_assign *, const uint64_t *ids, unsigned n, mc_ns now);
/* A faster voice than the membership says that this one is dead, or that it is not.  It holds until
 * that voice says otherwise, or the membership finds the member, having found it dead before. */
void vip_assign_lost(struct vip_assign *, uint64_t id, bool lost);
/* What a member tells.  Values out of range are taken as NONE. */
void vip_assign_hear(struct vip_assign *, uint64_t id, unsigned claim, unsigned rank);
/* How fit this member is: NEVER, LEAVING, POOR or FIT. */
void vip_assign_set_level(struct vip_assign *, enum vip_rank level, mc_ns now);
/* This process did not run for a while: what it knows is old.  It carries nothing. */
void vip_assign_slept(struct vip_assign *, mc_ns now);
/* The process before this one has left the address to it, carried. */
void vip_assign_inherit(struct vip_assign *, mc_ns now);
/* Another member announces the address: if the membership does not see it, one of the two yields.
 */
void vip_assign_conflict(struct vip_assign *, uint64_t id, mc_ns now);

/* Somebody says on the network that he has the address, and is silent when he has no right to it
 * any more (guard.h): if the membership does not see this one, it is not taken from him.  To be
 * asked for while the claim is WANT, some times in each VIP_ASSIGN_ASK_NS. */
#define VIP_ASSIGN_ASK_NS (50 * MC_MS)
void vip_assign_answered(struct vip_assign *, uint64_t id, mc_ns now);

/* Decides; when to call again at the latest.  Afterwards the caller carries the address if the
 * claim is HOLD, else not, and then tells claim and rank to the others. */
mc_ns vip_assign_tick(struct vip_assign *, mc_ns now);

enum vip_claim vip_assign_claim(const struct vip_assign *);
enum vip_rank vip_assign_rank(const struct vip_assign *);
/* Who should carry it, as far as this one knows; 0: nobody. */
uint64_t vip_assign_owner(const struct vip_assign *);
const char *vip_rank_text(enum vip_rank);

#endif
