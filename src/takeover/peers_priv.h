/* SPDX-License-Identifier: BSD-2-Clause
 *
 * peers_priv.h - what the files of peers.h share: peers.c knows lives and beats, peers_right.c
 * decides about holders, lease and fence.
 */
#ifndef MC_TAKEOVER_PEERS_PRIV_H
#define MC_TAKEOVER_PEERS_PRIV_H

#include "takeover/peers.h"

#define PEERS_LIVES_MAX 32 /* the members', and those of before */
#define PEERS_SENT_MAX  32 /* of our last beats it is known when they went */

struct peer {
    struct life who;
    /* the newest beat that anybody told of, and what it said */
    uint64_t seq;
    uint8_t flags;
    uint8_t n_holders;
    struct wire_holding holder[WIRE_HOLDERS_MAX];
    mc_ns heard_at; /* when we were told */
    mc_ns heard;    /* the same, later by what we slept since */
    mc_ns met_at;
    bool alive;
    mc_ns died;
    mc_ns avoid_until; /* no holder before: a line to it broke */
    /* the newest beat that came from it, for what it says about others */
    struct wire_beat direct;
    /* its word about us */
    struct wire_word word;
    uint64_t word_least; /* what it said up to this beat of its is settled */
    bool owes;           /* it gave away flows of ours, and has not told which */
    uint64_t nonce;      /* of our question what was taken; 0: there is none */
    mc_ns asked_at;
    /* what we did: */
    bool gave; /* some of its flows were given away, and it does not know yet */
};

/* A holder that must be waited for. */
struct choice {
    struct life who;
    uint32_t epoch;
    bool synced;
    bool dropped;
    uint64_t dropped_seq; /* our first beat that does not name it */
    bool licensed;        /* we were fenced, and it has not granted since */
};

struct peers {
    struct peers_conf conf;
    uint64_t member[PEERS_MEMBERS_MAX];
    unsigned n_members;
    struct peer peer[PEERS_LIVES_MAX];
    unsigned n_peers;
    bool forgot; /* a life from which something was taken was forgotten: strangers must ask */

    uint64_t seq; /* of our last beat */
    mc_ns sent_at[PEERS_SENT_MAX];
    mc_ns beat_at, ticked;
    bool urgent; /* there is news for others: do not wait for the next beat */

    struct choice choice[PEERS_HOLDERS_MAX];
    unsigned n_choices;
    uint32_t epoch;
    uint64_t nonce; /* of the last RESYNC */

    bool leaving, fenced, fit, voiding;
    enum peers_pass pass;
    uint64_t pass_seq;       /* of our last beat when something stood against it */
    bool alone, had_company; /* nobody is heard; somebody that heard us was */
    mc_ns first_at;          /* since when that was so */
    mc_ns alone_at;          /* since when nobody is heard */
    mc_ns company_at;        /* since when somebody is heard (again) */
    mc_ns steady_at;         /* from then on, who is not heard is silent */
    uint64_t floor; /* grants count only when they know this beat: it said that we are not fenced */
    mc_ns lease;    /* until then; may be past */
    bool held;      /* it was valid when we last looked */
    mc_ns lost_at;  /* when it was not, first */
    mc_ns witnessed;
    bool ever_witnessed;
    struct peers_stats stats;
};

/* What goes with a life's own beat. */
#define LIFE_RECORD (LIFE_LEAVING | LIFE_FENCED | LIFE_ALONE | LIFE_PASSING)

/* --- peers.c --- */

struct peer *peers_find(const struct peers *, struct life);
/* Somebody that we hear of, now. */
bool peers_is_fresh(const struct peers *, const struct peer *, mc_ns now);

/* peers_decide(), and says what cannot wait. */
void peers_settle(struct peers *, mc_ns now);

/* --- peers_right.c --- */

/* We hear again, but not yet from all that live. */
void peers_unsteady(struct peers *, mc_ns now);

/* Looks at everything again. */
void peers_decide(struct peers *, mc_ns now);
/* Lets go of all our holders. */
void peers_drop_all(struct peers *);
/* Asks whom there is something to ask, again until it has answered. */
void peers_ask(struct peers *, mc_ns now);
bool peers_is_chosen(const struct peers *, struct life);
/* As our next beat has it. */
void peers_say_holders(const struct peers *, struct wire_life *);

#endif
