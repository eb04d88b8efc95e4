/* SPDX-License-Identifier: BSD-2-Clause
 *
 * words.h - the operator's words about servers ("drain pool/a", "weight pool/b 5"), valid in the
 * whole cluster.  Pure; control thread.
 *
 * Any member takes a word, all keep all words; they outlive whoever said them and, saved to disk by
 * the caller, restarts of all.  A server has two words, its state and its weight; "as configured"
 * is a word like the others, and so takes one back.
 *
 * The last writer wins, by hybrid logical clock (Kulkarni, Demirbas, Madappa, Avva, Leone: Logical
 * Physical Clocks, 2014): wall ms, counter, id of the member.  Wall clocks may be wrong:
 *
 * - A new word's stamp is above our clock AND above the word that it replaces.  So whoever has seen
 * a word can replace it, whatever the clock of the member that said it.
 * - A stamp heard drags our clock along by WORDS_DRIFT_MS above our wall clock at most.  So one
 *   member whose clock is an hour ahead does not put all others an hour ahead, and what is said
 *   about other servers is stamped by clocks that are right.
 * - What remains: of two words about one server said at the same time, neither having heard the
 *   other, that of the faster clock wins, however slightly it was the earlier.  That lasts as long
 * as news takes to travel, not as long as the clock is wrong.
 *
 * A word goes to all members in the next batch, and is told three times; whoever hears something
 * new tells it to some random members, three times, too.  Once a second one random member is sent
 * the hash over all words; where it differs, 128 hashes of parts, then 128 hashes of each part that
 * differs, then the words of the leaves that differ.  Who learned something so goes on after 100
 * ms.
 *
 * A word "as configured" is forgotten after conf.forget_ms.  A member that was away for longer
 * and still holds the word before brings that back.
 *
 * Wire, big-endian (base/pack.h); words carry their length (u16), and unknown bytes behind known
 * fields, or behind the last word, are skipped:
 *   message = u8 WORDS_FORMAT, u8 kind, ...
 *   TELL (news, to be passed on), GIVE = u8 n, n words      ROOT = u64 hash
 *   HASHES = u8 part (255: the parts themselves), 128 x u64
 *   ASK = u8 n, n x u16 leaf (from 0x4000 on: whole parts)
 *   word = u8 say, varint weight, varint wall ms, varint counter, u64 node, svarint when ms, str
 * name, str who, str where A leaf is the name's hash (str_hash, seed 0, over what it is about and
 * the name) modulo 128 * 128; 128 leaves are a part; hashes are XORed hashes (seed 1) of the words'
 * bytes.
 */
#ifndef MC_CLUSTER_WORDS_H
#define MC_CLUSTER_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "base/units.h"

#define WORDS_FORMAT     1
#define WORDS_DATAGRAM   1200 /* bytes of a message */
#define WORDS_NAME_MAX   255  /* bytes of POOL/SERVER */
#define WORDS_WHO_MAX    63   /* bytes of who and where */
#define WORDS_WEIGHT_MAX 65535
#define WORDS_MAX        20000
#define WORDS_DRIFT_MS   60000

/* What can be said, about which of a server's two aspects, and the word for it on disk. */
#define WORDS_SAYS(X)                      \
    X(STATE_CONF, STATE, "unset-state")    \
    X(READY, STATE, "ready")               \
    X(DRAIN, STATE, "drain")               \
    X(MAINT, STATE, "maint")               \
    X(WEIGHT_CONF, WEIGHT, "unset-weight") \
    X(WEIGHT, WEIGHT, "weight")

enum word_say {
#define X(name, about, text) WORD_##name,
    WORDS_SAYS(X)
#undef X
        WORD_N_SAYS
};

enum word_about { WORD_ABOUT_STATE, WORD_ABOUT_WEIGHT };

struct word_stamp {
    uint64_t wall_ms;
    uint32_t counter;
    uint64_t node;
};

struct word {
    enum word_say say;
    uint32_t weight; /* WORD_WEIGHT only */
    struct word_stamp stamp;
    int64_t when_ms;  /* wall clock of who said it, for people */
    struct str name;  /* POOL/SERVER */
    struct str who;   /* user, or empty */
    struct str where; /* name of the member where it was said, or empty */
};

/* Both clocks at one moment. */
struct words_time {
    mc_ns now;
    int64_t wall_ms; /* since 1970 */
};

/* Zeros mean the defaults named. */
struct words_conf {
    uint64_t id;          /* of this member; as all ids not 0 */
    mc_ns batch_ns;       /* 10 ms */
    mc_ns again_ns;       /* 100 ms: between the three times a word is told */
    mc_ns exchange_ns;    /* 1 s */
    unsigned retell;      /* 3: to how many members a listener tells what was new */
    int64_t forget_ms;    /* 30 days */
    uint64_t bytes_per_s; /* 1 MB/s that this member sends, all receivers together */
    uint64_t seed;
    /* Must not call words. */
    void (*send)(void *arg, uint64_t to, const void *bytes, size_t n);
    /* A word holds that did not before, whoever said it.  Good for the call.  May be NULL. */
    void (*on_word)(void *arg, const struct word *);
    void *arg;
};

#define WORDS_COUNTERS(X)                                                        \
    X(sent, "messages sent")                                                     \
    X(sent_bytes, "bytes sent")                                                  \
    X(received, "messages heard")                                                \
    X(malformed, "messages that could not be read, in whole or from some point") \
    X(strangers, "messages from who is no member")                               \
    X(applied, "words taken from others")                                        \
    X(stale, "words heard that were known or older")                             \
    X(ahead, "words from more than the bound in the future")                     \
    X(refused, "words beyond the limit of words")                                \
    X(differences, "exchanges that found a difference")                          \
    X(held_back, "news or answers cut short by the bandwidth")                   \
    X(forgotten, "words as configured that were forgotten")

struct words_counters {
#define X(name, text) uint64_t name;
    WORDS_COUNTERS(X)
#undef X
};

struct words;

struct words *words_new(const struct words_conf *, struct words_time);
void words_free(struct words **);

/* say, weight, name, who and where of *w are read; it holds at once here.  MC_ERANGE: something is
 * too long or out of range; MC_EFULL: WORDS_MAX reached. */
enum mc_err words_say(struct words *, const struct word *w, struct words_time);
/* NULL: never said.  Good until the next call that is not const. */
const struct word *words_get(const struct words *, struct str name, enum word_about);
/* Walks all, "as configured" included; zero-initialise *at.  NULL at the end. */
const struct word *words_next(const struct words *, size_t *at);
unsigned words_count(const struct words *);
/* The same at two members: they hold the same words. */
uint64_t words_hash(const struct words *);
/* Of the word, as in WORDS_SAYS. */
const char *word_say_text(enum word_say);
enum word_about word_about(enum word_say);

/* Text, a word a line:
 *   drain pool/a at=1700000000000.0.17 when=1700000000000 who=ann where=lb1
 * Space, %, = and what is not printable ASCII are %XX; unknown fields are skipped. */
void words_save(const struct words *, struct buf *);
/* Merges as if heard; lines that are no words are skipped and counted.  Returns how many. */
unsigned words_load(struct words *, struct str text, struct words_time);

/* Who is alive, besides us. */
void words_set_members(struct words *, const uint64_t *ids, unsigned n, mc_ns now);
/* Whatever the bytes are. */
void words_recv(struct words *, uint64_t from, const void *bytes, size_t n, struct words_time);
/* Sends what is due; when to call again at the latest.  words_say() and words_recv() may make that
 * sooner: words_due(). */
mc_ns words_tick(struct words *, struct words_time);
mc_ns words_due(const struct words *);
const struct words_counters *words_counters(const struct words *);

#endif
