/* SPDX-License-Identifier: BSD-2-Clause
 *
 * words_priv.h - what words.c (keeping), words_net.c (telling) and words_text.c (disk) share.
 */
#ifndef MC_CLUSTER_WORDS_PRIV_H
#define MC_CLUSTER_WORDS_PRIV_H

#include "base/list.h"
#include "base/map.h"
#include "base/pack.h"
#include "base/rand.h"
#include "cluster/rate.h"
#include "cluster/words.h"

#define WORDS_MAGIC    0x576f7264u
#define WORDS_PARTS    128 /* of all words by hash, and leaves of each part */
#define WORDS_LEAVES   (WORDS_PARTS * WORDS_PARTS)
#define WORDS_TELLS    3
/* A stamp that leaves room to go on from. */
#define WORDS_WALL_MAX ((uint64_t)1 << 47)

struct entry {
    struct list in_part;
    struct list in_news; /* to be told */
    struct word word;
    uint64_t hash; /* of the word */
    unsigned leaf;
    unsigned tells; /* left */
    bool ours;      /* said here: told to all */
    mc_ns tell_at;
    char who[WORDS_WHO_MAX + 1], where[WORDS_WHO_MAX + 1];
    size_t key_n;
    char key[]; /* what it is about, then the name */
};

struct words {
    unsigned magic;
    struct words_conf conf;
    struct words_counters counters;
    struct map entries; /* by key */
    struct word_stamp clock;
    struct list part[WORDS_PARTS];
    uint64_t leaf_hash[WORDS_LEAVES], part_hash[WORDS_PARTS], hash; /* sums by XOR */
    struct list news;
    uint64_t *member;
    unsigned n_members;
    struct rng rng;
    struct rate rate;
    mc_ns news_at, exchange_at, forget_at;
};

/* A word that was heard or read: takes it if it is newer than what holds.  NULL: it is not. */
struct entry *words_merge(struct words *, const struct word *, struct words_time);
/* To be told, from now on. */
void words_spread(struct words *, struct entry *, bool ours, mc_ns now);

void words_pack(struct pack_out *, const struct word *);
bool words_valid(const struct word *);

void words_tell_news(struct words *, mc_ns now);
void words_exchange(struct words *, mc_ns now);

#endif
