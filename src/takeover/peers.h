/* SPDX-License-Identifier: BSD-2-Clause
 *
 * peers.h - who of the takeover peers lives, who holds our flows, and whether we may speak.  Pure:
 * beats, times and answers in, decisions out.  The takeover thread's.
 *
 * **Beats.**  Every life sends all others, each 20 ms, the newest beat that it knows of each life
 * (a gossip-style failure detector: van Renesse, Minsky, Hayden 1998).  A life is dead when nobody
 * told of a new beat of it for 80 ms.  So who is cut off from some lives in its neighbourhood is
 * found alive by way of the others, and the living agree.  Time during which this process itself
 * did not run does not count against others.
 *
 * **Holders.**  An owner chooses conf.replicas holders, in rendezvous order, keeps them while they
 * live, and says in its beats who they are.  Each choice has a new epoch; a holder's line is of one
 * epoch, and stale once a beat of the owner, heard from whomever, does not name it any more.
 *
 * **Lease.**  A beat of a holder says which beat of ours it knows.  It will not find us dead before
 * 80 ms have passed since we sent that; until then, and not longer, we may speak: the lease is the
 * least of that over all holders (Gray, Cheriton 1989, without a common clock).  These words, too,
 * are passed on by others, for who does not hear a holder itself.  A holder is let go with its
 * consent, when its word shows that it knows that it is no holder any more; or without, when it has
 * been silent to everybody and its grant is about to run out.  Until then it is waited for.
 *
 * A holder that gave away a flow of ours says so in its word, and grants nothing, until we have
 * asked it what was taken (RESYNC), it has told us, and those flows were dropped.  When a holder
 * dies that may have given flows away without our hearing of it, on_void() says that all flows must
 * be taken for taken.
 *
 * **Succession.**  When another process is to take our place (an upgrade), we say so: others choose
 * holders in our stead, then we let go of ours.  Who says so and has no holders is not found dead
 * before PEERS_PASSING_NS have passed, and its life ends when the next one of the same id is heard.
 *
 * **Fence.**  Who has no lease for a while says LIFE_FENCED: its flows may be given away at once.
 * It has a lease again when it has said otherwise and its holders' words show that they know.  Who
 * hears no peer, and had some, lets no holder go and has no lease while its witness does not
 * answer; without any witness it goes on.
 *
 * **What is guaranteed.**  While a holder gives away a flow, its owner has no valid lease; unless
 * the balancers are cut into sides of which one does not hear the other at all (a cut, or all beats
 * lost for 80 ms), and each goes on (hears other peers, or a witness).  peers_test.c plays random
 * faults against exactly this.
 */
#ifndef MC_TAKEOVER_PEERS_H
#define MC_TAKEOVER_PEERS_H

#include "base/units.h"
#include "takeover/wire.h"

#define PEERS_MEMBERS_MAX  16           /* besides this one; of more, those with the lowest ids */
#define PEERS_PASSING_NS   (2 * MC_SEC) /* between two processes, at most */
#define PEERS_REPLICAS_MAX 2            /* one that leaves is kept beside the one in its place */

/* Zeros mean the defaults named.  All balancers must have the same dead_ns. */
struct peers_conf {
    struct life self;
    unsigned replicas; /* 1; at most WIRE_HOLDERS_MAX */
    bool has_witness;
    mc_ns beat_ns;    /* 20 ms */
    mc_ns dead_ns;    /* 80 ms */
    mc_ns margin_ns;  /* 2 ms: the lease ends so much before a holder may act */
    mc_ns witness_ns; /* 300 ms: so long counts an answer of the witness */
    mc_ns unfit_ns;   /* 40 ms without a lease: fenced */
    void *arg;
    /* None of these may call what takes a struct peers and is not const. */
    /* A beat, for that member. */
    void (*send)(void *arg, uint64_t to, const struct wire_beat *);
    /* Ask the witness; peers_witness() with its answer.  Each beat while it matters. */
    void (*ask_witness)(void *arg);
    /* A life was found, or found dead. */
    void (*on_life)(void *arg, struct life, bool alive);
    /* A holder was chosen (make a line with this epoch to it), or need not be waited for any more
     * (end that). */
    void (*on_holder)(void *arg, struct life, uint32_t epoch, bool chosen);
    /* Ask that life what was taken from us: RESYNC with this nonce; peers_resynced() when the flows
     * that it named are gone.  Again each beat until then. */
    void (*on_resync)(void *arg, struct life, uint64_t nonce);
    /* All flows that were protected until now must be dropped without a word: others may have them.
     * There is no lease before peers_voided(). */
    void (*on_void)(void *arg);
    /* Not fit: fenced, attract no traffic. */
    void (*on_fit)(void *arg, bool fit);
};

#define PEERS_COUNTERS(X)                                             \
    X(beats_sent, "beats sent")                                       \
    X(beats_heard, "beats heard")                                     \
    X(strangers, "beats of who is no member")                         \
    X(crowded, "lives not taken note of: there were too many")        \
    X(slept, "times this process did not run for two beats and more") \
    X(deaths, "lives found dead")                                     \
    X(returns, "lives found dead that were heard of again")           \
    X(chosen, "holders chosen")                                       \
    X(let_go, "holders let go")                                       \
    X(lapses, "times the lease ran out")                              \
    X(fences, "times fenced")                                         \
    X(resyncs, "times that holders had to be asked what was taken")   \
    X(voids, "times that all flows had to be taken for taken")

struct peers_stats {
#define X(name, text) uint64_t name;
    PEERS_COUNTERS(X)
#undef X
};

struct peers;

struct peers *peers_new(const struct peers_conf *, mc_ns now);
void peers_free(struct peers **); /* NULL'ed */
const struct peers_stats *peers_stats(const struct peers *);

/* Which of n other members are peers of self: with more than PEERS_MEMBERS_MAX, those balancers
 * take part that have the lowest ids, the same everywhere, and the others go without.  Sorts ids;
 * returns how many of the first it are, 0 when self is left out.  Pure. */
unsigned peers_choose(uint64_t self, uint64_t *ids, unsigned n);
/* The members besides this one, by their ids: who else beats is no peer. */
void peers_set_members(struct peers *, const uint64_t *ids, unsigned n, mc_ns now);
/* We leave: no one chooses us any more.  Our flows stay ours until they are handed over. */
void peers_leave(struct peers *, mc_ns now);

/* Another process of this host takes our place, with a boot of its own: we go without anybody
 * finding us dead, or missing us as a holder. */
enum peers_pass {
    PEERS_STAY,  /* not, or not after all */
    PEERS_PART,  /* nobody is to rely on us; what we own is protected as ever */
    PEERS_ALONE, /* nothing is ours any more: our holders are let go */
};
void peers_pass(struct peers *, enum peers_pass, mc_ns now);
/* That is so, and the others know. */
bool peers_has_passed(const struct peers *);

/* --- events ---
 * Each may change the lease: peers_lease() behind it. */

/* To be called when due, and late is no harm but to the lease.  Returns when to call again; other
 * events make that no sooner. */
mc_ns peers_tick(struct peers *, mc_ns now);
/* Where peers_tick() was late, it must be called before beats that have waited are heard. */
void peers_hear(struct peers *, const struct wire_beat *, mc_ns now);
void peers_witness(struct peers *, mc_ns now);

/* The line to a holder broke, or it does not answer on it: it is to be let go.  Go on waiting for
 * it until on_holder(..., false). */
void peers_line_lost(struct peers *, struct life, uint32_t epoch, mc_ns now);
/* All workers have sent it their snapshots, and wait for it. */
void peers_line_synced(struct peers *, struct life, uint32_t epoch, mc_ns now);

/* We gave away a flow of that life that it did not hand over: call it before anybody can be told.
 */
void peers_gave(struct peers *, struct life owner, mc_ns now);
/* That life asks (RESYNC): nothing of it is given away from now on, while it lives.  Returns the
 * seq for RESYNCED; what was taken so far is to be told with it. */
uint64_t peers_asked(struct peers *, struct life who, mc_ns now);
/* RESYNCED has come from that life, and the flows it named were dropped.  all: those are all. */
void peers_resynced(struct peers *, struct life, uint64_t nonce, uint64_t seq, mc_ns now);
/* What on_void() wanted is done. */
void peers_voided(struct peers *, mc_ns now);

/* --- decisions --- */

/* Until when we may speak; 0: not now. */
mc_ns peers_lease(const struct peers *);
bool peers_is_fenced(const struct peers *);
/* Why there is no lease, for people; NULL: there is. */
const char *peers_why(const struct peers *, mc_ns now);

bool peers_is_alive(const struct peers *, struct life);
/* It said that it leaves. */
bool peers_is_leaving(const struct peers *, struct life);
/* The life of that member that was heard last, if it lives; else life none. */
struct life peers_life(const struct peers *, uint64_t id);
/* Who is to have our clients' packets should our lease run out; life none: nobody.  While all are
 * silent it is nobody: perhaps only the way to them is cut, and we shall go on. */
struct life peers_heir(const struct peers *, mc_ns now);

struct peers_holder {
    struct life who;
    uint32_t epoch;
    bool synced, leaving; /* leaving: being let go */
};
/* Those that must be waited for; returns how many, at most PEERS_HOLDERS_MAX. */
#define PEERS_HOLDERS_MAX (2 * WIRE_HOLDERS_MAX)
unsigned peers_holders(const struct peers *, struct peers_holder out[PEERS_HOLDERS_MAX]);

/* May flows on a line of that owner, with that epoch, be given away? */
enum owner_word peers_owner(const struct peers *, struct life owner, uint32_t epoch);

/* Of several holders of that life the first that lives gives its flows away.  False: that is not
 * us; it is to be asked before we do. */
bool peers_is_first(const struct peers *, struct life owner);

/* For display: every life that is known. */
struct peers_view {
    struct life who;
    bool alive, leaving, fenced, taken, granting;
    mc_ns heard; /* when its newest beat was told of */
};
unsigned peers_view(const struct peers *, struct peers_view *out, unsigned max);

#endif
