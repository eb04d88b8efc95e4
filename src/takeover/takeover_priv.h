/* SPDX-License-Identifier: BSD-2-Clause
 *
 * takeover_priv.h - the inside of the takeover thread.
 *
 *   takeover.c          life
 *   takeover_inbox.c    what control tells it
 *   takeover_members.c  the other balancers, by place
 *   takeover_view.c     what is displayed
 *   pulse.c             beats, lease, holders, fence: peers.h and the world around it
 *   guest.c             connections of peers: lines of their workers, their questions
 *   dial.c              our connection to each peer's thread, and where it is on the Ethernet
 *   ask.c               packets of unknown flows: whose are they?
 *   adopt.c             connections rebuilt; clients of the dead made to speak
 *
 * All on the takeover's thread.
 */
#ifndef MC_TAKEOVER_TAKEOVER_PRIV_H
#define MC_TAKEOVER_TAKEOVER_PRIV_H

#include <stdatomic.h>

#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "cluster/keyring.h"
#include "io/dgram.h"
#include "io/loop.h"
#include "io/netlink.h"
#include "io/sock.h"
#include "takeover/forward.h"
#include "takeover/guard.h"
#include "takeover/link_priv.h"
#include "takeover/peers.h"
#include "takeover/probe.h"
#include "takeover/replica.h"
#include "takeover/takeover.h"
#include "takeover/tube.h"
#include "takeover/witness.h"

#define TAKEOVER_MAGIC 0x54616b65u
/* In the HELLO of a thread, who asks; the other numbers are workers'. */
#define HELLO_THREAD   UINT16_MAX

/* What was taken from us, as a peer tells. */
struct resync {
    uint64_t nonce; /* of our question; 0: there is none */
    uint64_t seq;   /* of its answer */
    unsigned n;     /* flows that it named */
    bool answered;  /* and they are being dropped */
    bool all;
};

/* Another balancer.  Its place in the table is its index in the guard. */
struct member {
    struct takeover *takeover;
    uint64_t id; /* 0: nobody has this place */
    struct addr addr;
    char name[TAKEOVER_NAME]; /* it stays when it is no member any more */
    struct life life;         /* heard last */
    bool alive;
    mc_ns lost_ns; /* not alive: when that was found */
    bool leaving;  /* the guard sends nothing on to it any more: it may be gone the next moment */
    struct tube *call; /* our questions, its answers; NULL: not connected */
    struct timer redial;
    bool placed; /* it said where it is, and we have an interface there */
    unsigned ifindex;
    uint8_t mac[6], own_mac[6]; /* its, and ours towards it */
    struct resync resync;
    mc_ns claims_told_ns;  /* what was taken from it; 0: nothing to forget */
    uint64_t strange_boot; /* of its life that speaks another version, as was told; 0: none */
};

struct takeover_holder {
    struct link_holder peer;
    bool synced, lost; /* as peers was told */
};

/* Flows that somebody sent a packet of, and nobody here knows. */
struct asking {
    struct map by_key; /* of those that are open */
    struct list open, free;
    size_t n_kept;           /* bytes of payload of all that are open */
    struct question **place; /* [n_places] all that there are */
    unsigned n_places;
    struct timer timer;
    double tokens;
    mc_ns filled_ns;
};

/* Clients of the dead that are to be made to speak. */
struct probing {
    struct life of; /* none: this place is free */
    bool busy_done; /* those with a request under way were asked */
    size_t at;
    mc_ns begun_ns, next_ns; /* next_ns: this pass begins then */
};

struct takeover {
    unsigned magic;
    struct life self;
    char *key_file;
    char *interfaces[GUARD_INTERFACES_MAX];
    struct errbuf unguarded; /* control: where the guard is not, as was said last; or empty */
    unsigned n_interfaces;
    void *arg;
    void (*on_fit)(void *arg, bool fit, const char *why);
    void (*on_peer)(void *arg, uint64_t id, bool alive);
    void (*on_parted)(void *arg);
    struct loop *loop;
    struct keyring *keys;
    struct guard *guard;
    struct watch held; /* packets in the guard's ring */
    struct probe *probe;
    struct forward *forward;
    struct witness *witness;
    struct dgram *beats;
    struct peers *peers;
    struct timer tick;
    mc_ns tick_due;
    struct member member[TAKEOVER_PEERS_MAX];
    struct takeover_holder holder[PEERS_HOLDERS_MAX];
    unsigned n_holders;
    bool voiding;          /* workers are dropping all flows */
    bool leaving, parting; /* parting: all that it owned has gone */
    bool fenced, settled;  /* settled: it knows its peers, or there are none */
    bool succeeds;         /* the process before us gave way to us */
    bool handed_over;      /* we gave way to the next one */
    atomic_bool elder;     /* the process before us still serves connections */
    int udp, tcp;          /* inherited, and not in use yet; -1: none */
    struct addr *ports;    /* as when we were made */
    unsigned n_ports;
    enum peers_pass passing; /* as we were told */
    void (*on_passed)(void *arg);
    struct link_roster roster;
    struct replica_store *store;
    struct netlink nl;
    struct netlink news; /* of interfaces and addresses */
    atomic_bool mended;  /* the guard stands elsewhere than before, perhaps */
    mc_ns placed_ns;     /* when we looked where we are */
    struct {
        struct addr addr;
        mc_ns asked_ns;
        bool yes;
    } here; /* whether an address is this host's, as of this turn of the loop */
    struct list guests;
    struct door *door;
    unsigned n_tubes;
    struct asking asking;
    struct log_limit lost_lines;
    struct probing probing[TAKEOVER_PEERS_MAX];
    struct timer probe_timer, silent_timer;
    struct timer slow; /* what has no hurry */
    struct timer part; /* while parting */
    uint64_t came;     /* packets that were passed on, when the timer was set */
    mc_ns came_ns;     /* when there were more */
    mc_ns started_ns;
    pthread_t thread;
    bool running;
    pthread_mutex_t lock; /* of what is below, but for the counters */
    struct {
        struct takeover_peer peer[TAKEOVER_PEERS_MAX];
        unsigned n_peers;
        bool peers_new, leave, part, reload, stop, pass_new;
        enum peers_pass pass;
    } inbox;
    struct {
        bool self;
        unsigned n;
        uint64_t id[TAKEOVER_PEERS_MAX];
    } left_out;             /* as told */
    enum peers_pass passed; /* so far */
    bool parted;
    struct takeover_view view;
    struct wire_where where; /* as the peers were told last */
    struct takeover_stats stats;
};

struct link_roster *takeover_roster(struct takeover *);
static inline void
takeover_count(stat_u64 *s)
{
    stat_add(s, 1);
}

/* The keys of the file, made those of takeover's alone: gossip that is sent to our port is as good
 * as garbage. */
enum mc_err takeover_keys_read(const char *file, struct keyfile *, struct errbuf *);

/* --- takeover_members.c --- */

/* The member of that id; NULL: there is none. */
struct member *member_of(struct takeover *, uint64_t id);
/* What that life is called, for display: its name, or its id. */
const char *member_name(const struct takeover *, struct life, char out[TAKEOVER_NAME]);
/* In the table; it is its index in the guard, too. */
unsigned member_place(const struct member *);
/* These take part, and nobody else. */
void members_set(struct takeover *, const struct takeover_peer *, unsigned n);
/* Nothing is sent to it any more, and its place is free. */
void member_drop(struct member *);

/* --- takeover_inbox.c --- */

/* Does what was told since the last call. */
void inbox_read(void *takeover);
/* Any thread: the loop is to end. */
void inbox_stop(struct takeover *);

/* --- takeover_view.c --- */

/* How things stand now. */
void view_refresh(struct takeover *);

/* --- pulse.c --- */

enum mc_err pulse_open(struct takeover *, const struct takeover_conf *, struct errbuf *);
int pulse_fd(const struct takeover *);
void pulse_start(struct takeover *);
void pulse_close(struct takeover *);
/* A flow of that life is given away now, to whomever. */
void takeover_gave(struct takeover *, struct life owner);
/* Members have changed. */
void pulse_members(struct takeover *, const uint64_t *ids, unsigned n);
/* Workers have something to say. */
void pulse_news(struct takeover *);
/* Another process is to take our place, or not. */
void pulse_pass(struct takeover *, enum peers_pass);
/* After each call that may change it: the lease and the heir, for the guard. */
void pulse_settle(struct takeover *);
/* Whether this balancer should attract traffic. */
void pulse_say_fit(struct takeover *);
/* Peers' clocks are late: they are to look at them before anything of others is heard. */
void pulse_catch_up(struct takeover *);

/* --- guest.c --- */

/* At that address, or the inherited socket. */
enum mc_err door_open(struct takeover *, const struct addr *, struct errbuf *);
int door_fd(const struct takeover *);
void door_start(struct takeover *);
void door_close(struct takeover *);
/* Where that life is, as it said; NULL: it did not. */
const struct wire_where *guest_where(const struct takeover *, struct life);

/* --- dial.c --- */

/* It lives: connects to its thread.  It does not: lets go of that, and of its flows' packets. */
void dial_begin(struct member *);
void dial_end(struct member *);
/* A question, when there is a connection. */
bool dial_put(struct member *, const struct wire_frame *);
/* All peers are told that a flow of that life was taken over here. */
void dial_tell_taken(struct takeover *, const struct flow_key *, struct life owner);
/* It leaves, or does not after all; false: that was known. */
bool dial_leaving(struct member *, bool leaving);
/* It told where it is. */
void dial_placed(struct member *, const struct wire_where *);
/* Where we are has changed, perhaps: tells all. */
void dial_tell_where(struct takeover *);

/* --- ask.c --- */

void ask_open(struct takeover *);
void ask_close(struct takeover *);
void ask_packet(void *takeover, const struct guard_packet *);
/* An answer of a peer. */
void ask_owner(struct member *, const struct wire_owner *);
void ask_give(struct member *, const struct wire_give *);
void ask_none(struct member *, const struct wire_none *);
/* That peer will not answer any more. */
void ask_lost(struct member *);

/* --- adopt.c --- */

/* Takes the replica; the packet came for it.  begun_ns: when it was held first. */
void adopt_flow(struct takeover *, struct replica **, const struct guard_packet *, mc_ns begun_ns);
/* Its clients are to speak: it is dead. */
void adopt_probe(struct takeover *, struct life);
void adopt_forget(struct takeover *, struct life);
/* A line in the log for a connection that is lost; whose: a balancer, NULL: not known. */
void adopt_tell_lost(struct takeover *, const struct flow_key *, const char *whose,
                     const char *why);
/* Somebody has just died, and clients of his are still being looked for. */
bool adopt_is_busy(const struct takeover *);
/* Pure: from the end of a pass over a dead balancer's clients to the begin of the next, when he was
 * found dead so long ago. */
mc_ns adopt_probe_gap(mc_ns since);
/* Pure: how many steps of back-off a client can have taken since then, at most PROBE_NUDGES. */
unsigned adopt_nudges(mc_ns since);
/* Flows were handed over to us: who of their clients is silent is to speak. */
void adopt_wait(struct takeover *);
void adopt_open(struct takeover *);
void adopt_close(struct takeover *);

#endif
