/* SPDX-License-Identifier: BSD-2-Clause
 *
 * vip_priv.h - the inside of a node's addresses: vip*.c.
 */
#ifndef MC_CONTROL_VIP_PRIV_H
#define MC_CONTROL_VIP_PRIV_H

#include "base/log.h"
#include "cluster/vip_assign.h"
#include "control/keeper.h"
#include "control/node.h"
#include "control/vip.h"
#include "io/announce.h"
#include "io/netlink.h"
#include "takeover/guard.h"

struct heritage;

#define VIP_STATES(X)     \
    X(AWAY, "away")       \
    X(CARRIED, "carried") \
    X(FOREIGN, "foreign") \
    X(FAILED, "failed")

enum vip_state {
#define X(name, text) VIP_##name,
    VIP_STATES(X)
#undef X
};

/* What another member says of an address. */
struct vip_said {
    uint64_t member;
    enum vip_claim claim;
    enum vip_rank rank;
    struct announce_mac mac;
    bool guarded; /* it is silent about the address when it has no right to it any more */
};

/* mode = cluster: an address's part in its cluster.  vip_share.c */
struct vip_share {
    struct vip_assign *assign; /* NULL: not yet, or the mode is another */
    uint64_t key;
    int fd; /* -1: the network cannot be told, see why of the address */
    struct announce_mac mac;
    struct watch watch;
    struct vip_said *said;
    unsigned n_said;
    uint8_t told_claim, told_rank;
    bool told, broken;         /* it cannot be carried here */
    unsigned n_announced;      /* since it is carried */
    mc_ns announce_ns;         /* when next; 0: not */
    mc_ns ask_ns;              /* when to ask the network who has it; 0: not */
    mc_ns read_ns;             /* when to read again what was said; 0: not */
    mc_ns linger_ns;           /* until then packets are taken in; 0: they are not */
    bool hushed;               /* the guard keeps the host from saying that it has the address */
    struct guard_peer carrier; /* as the guard was told */
    uint64_t n_conflicts;      /* announcements of others while it is carried here */
    struct log_limit stranger; /* of who is no member */
};

/* One address of a vip section.  It stays where it is in memory. */
struct vip_addr {
    struct vip *vip;
    char *name, *interface;
    struct addr_net addr;
    char text[ADDR_TEXT]; /* without the prefix */
    enum vip_mode mode;
    mc_ns return_after_ns;
    unsigned slot;    /* the keeper's */
    unsigned ifindex; /* where it is carried */
    bool local;       /* packets to it are taken in, carried or not */
    enum vip_state state;
    char why[160];
    int64_t since_wall_ns;
    uint64_t n_carried, n_taken; /* times; by the keeper */
    struct vip_share share;
};

struct vip {
    struct node *node;
    struct netlink nl;
    struct keeper *keeper;
    bool keeper_alive, started;
    struct timer tick_timer, check_timer, share_timer;
    struct task settle_task; /* something was heard */
    struct vip_addr **v;
    unsigned n;
    struct vip_left *left; /* by the process before, until vip_start() */
    unsigned n_left;
};

/* Packets to it are taken in from now on, or no more. */
void vip_take_in(struct vip_addr *);
void vip_take_in_no_more(struct vip_addr *);

/* --- vip_left.c --- */

void vip_left_note(struct vip *, const struct heritage *);
/* What was noted and is nobody's now. */
void vip_left_remove(struct vip *);
void vip_left_free(struct vip *);

/* --- vip_share.c --- */

/* What vip_member_lost() has said. */
void vip_share_hear_news(struct vip *);
/* Of every address with mode = cluster that has none yet: its part in the cluster. */
void vip_share_open(struct vip *);
/* Takes back what was told. */
void vip_share_close(struct vip_addr *);
/* Should it be carried?  *due: when to ask again at the latest. */
bool vip_share_wants(struct vip_addr *, mc_ns *due);
/* Another member has said that it carries it. */
bool vip_share_is_elsewhere(const struct vip_addr *);
/* What was made of that: tells the others and the network. */
void vip_share_settled(struct vip_addr *);
/* The keeper took it: this process did not run. */
void vip_share_slept(struct vip_addr *);
/* Its packets are not taken in any more: the host may say of it what it likes. */
void vip_share_speak(struct vip_addr *);
/* Tries what did not work again. */
void vip_share_check(struct vip_addr *);
/* Announces what is due and ends what lingers; when to call again. */
mc_ns vip_share_run(struct vip_addr *);
/* Why it is where it is; empty: no cluster.  Room for 160 bytes. */
void vip_share_why(const struct vip_addr *, char out[160]);

#endif
