/* SPDX-License-Identifier: BSD-2-Clause
 *
 * facts_priv.h - what facts.c (keeping), facts_tell.c (sending) and facts_hear.c (receiving) share.
 */
#ifndef MC_CLUSTER_FACTS_PRIV_H
#define MC_CLUSTER_FACTS_PRIV_H

#include "base/list.h"
#include "base/map.h"
#include "base/pack.h"
#include "base/rand.h"
#include "cluster/facts.h"
#include "cluster/rate.h"

#define FACTS_MAGIC     0x46616374u
#define FACTS_F_DELETED 1
#define FACTS_ECHOES    3

enum facts_kind { FACTS_DIGEST = 1, FACTS_ASK, FACTS_DELTA };

/* A fact, or the tombstone of one (value NULL). */
struct item {
    struct list link; /* in its stream by version; ours not told yet: in `untold` */
    uint64_t version; /* 0: not told yet */
    mc_ns set_ns;
    mc_ns doubt_ns; /* its stream is told anew since, and it was not yet named; 0: not */
    enum facts_urgency urgency;
    uint8_t *value;
    size_t n, cap;
    size_t key_n;
    char key[];
};

/* One owner's facts of one urgency, as far as they are known. */
struct stream {
    struct list items;
    uint64_t upto;  /* all up to there is known */
    uint64_t swept; /* tombstones up to there may be missing, as those they buried are */
};

/* Up to where deletions are reflected in what is held of the stream, however little that is. */
static inline uint64_t
facts_known(const struct stream *s)
{
    return s->upto > s->swept ? s->upto : s->swept;
}

struct owner {
    uint64_t id, epoch;
    struct map items; /* by key */
    struct stream stream[FACTS_N_URGENCIES];
    size_t bytes;
    unsigned n_live;
    bool gone;
    mc_ns gone_ns;  /* since */
    mc_ns asked_ns; /* for what was missed, last */
};

/* What another member lacks of an owner: all beyond base. */
struct want {
    const struct owner *owner;
    bool epoch; /* it does not even know the epoch */
    uint64_t base[FACTS_N_URGENCIES], swept[FACTS_N_URGENCIES];
};

/* A message being written, and whom it is for. */
struct letter {
    struct pack_out o;
    uint64_t to; /* 0: all members */
    size_t at_n; /* where its number of records stands */
    struct rate *rate;
    uint8_t room[FACTS_DATAGRAM];
};

struct facts {
    unsigned magic;
    struct facts_conf conf;
    struct facts_counters counters;
    struct owner **owner; /* by id */
    unsigned n_owners;
    struct owner *self;
    struct list untold[FACTS_N_URGENCIES]; /* ours, the longest waiting first */
    uint64_t version;                      /* last given */
    uint64_t *member;
    unsigned n_members;
    struct rng rng;
    struct rate changes, answers;
    struct want *want; /* [owners_max], of the message being read */
    struct letter letter;
    unsigned echoes;
    mc_ns batch_at, echo_at, exchange_at, sweep_at;
};

struct owner *facts_owner(const struct facts *, uint64_t id);
/* Another epoch: drops all that was said before. */
void facts_restart(struct facts *, struct owner *, uint64_t epoch);
/* Others remember more of us than we said since our start: begins a greater epoch. */
void facts_raise(struct facts *, uint64_t epoch, mc_ns now);
/* A value of NULL makes it a tombstone.  NULL: a limit, counted. */
struct item *facts_store(struct facts *, struct owner *, struct str key, const void *value,
                         size_t n);

void facts_tell_changes(struct facts *, mc_ns now);
void facts_echo(struct facts *, mc_ns now);
void facts_exchange(struct facts *, mc_ns now);
/* Asks `to` for what the first n owners of `lacks` lack. */
void facts_ask_all(struct facts *, uint64_t to, struct owner *const *lacks, unsigned n, mc_ns now);
/* Tells `to` what the first n of f->want name, as far as the bandwidth goes. */
void facts_answer(struct facts *, uint64_t to, unsigned n, mc_ns now);

#endif
