/* SPDX-License-Identifier: BSD-2-Clause
 *
 * facts.h - what each member knows first hand, told to all: (owner, key) -> bytes.  Pure; control
 * thread.  Nothing here understands a fact.
 *
 * Only its owner changes a fact.  Of two words about a key the greater (epoch, version) holds; the
 * epoch is the owner's boot, so a restarted owner replaces all that it said before, at once.
 *
 * Reconciliation is scuttlebutt (van Renesse, Dumitriu, Gough, Thomas: Efficient Reconciliation and
 * Flow Control for Anti-Entropy Protocols, 2008) with a stream of versions an urgency:
 *
 * - A change gets its version when it is told, not when it is made.  So a fact that changes while
 * it waits for bandwidth keeps its place and goes out with its newest value: nothing starves.
 * - What is told is a section: all that lives of one owner's stream in the interval of versions
 *   (base, upto].  Who holds everything up to base then holds everything up to upto.  Who does not
 *   takes the values all the same (newer is newer) but still counts as knowing only what it knew.
 * - Changes go to all members in the next batch.  An echo of the newest versions follows three
 * times, 100 ms apart; who lacks something asks the owner.  Once a second one random member is sent
 * all that is known (a digest); it answers with what we lack and asks for what it lacks.
 * - What answers does so in the order of versions, urgent streams first: cut anywhere, it leaves
 *   whoever hears it with a correct prefix.
 * - A deleted key stays as a tombstone for a while.  Who was away for longer is told the stream
 * from its beginning, and drops what is no more in it.
 *
 * Bytes sent are bounded by conf.bytes_per_s: three quarters for changes, one for answers.
 *
 * Wire, big-endian (base/pack.h); a record is preceded by its length (u16), what follows its known
 * fields is skipped, so is what follows the last record of a message:
 *   message = u8 FACTS_FORMAT, u8 kind, (DIGEST: u64 first owner, u64 last owner), u8 n, n records
 *   DIGEST, ASK record = u64 owner, u64 epoch, for each urgency: u64 upto, u64 swept
 *   DELTA record = u64 owner, u64 epoch, u8 urgency, u64 base, u64 upto, u64 swept, u64 known,
 *     u16 n, n facts
 *   fact record = varint version - version before, u8 flags (1: deleted), varint age ms, str key,
 *                 str value
 * A digest names all owners that the sender knows between its first and last.  `swept`: tombstones
 * up to there may be missing; `known`: deletions up to there are reflected.  A DELTA from base 0
 * with a `swept` beyond what the receiver has heard tells it to begin anew.
 */
#ifndef MC_CLUSTER_FACTS_H
#define MC_CLUSTER_FACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "base/units.h"

#define FACTS_FORMAT    1
#define FACTS_KEY_MAX   64   /* bytes */
#define FACTS_VALUE_MAX 1024 /* bytes */
#define FACTS_DATAGRAM  1200 /* bytes of a message: passes any path, sealed, without fragments */

/* Most urgent first. */
#define FACTS_URGENCIES(X)    \
    X(NOW, "health verdicts") \
    X(SOON, "configuration")  \
    X(SHOW, "what is displayed")

enum facts_urgency {
#define X(name, text) FACTS_##name,
    FACTS_URGENCIES(X)
#undef X
        FACTS_N_URGENCIES
};

/* Zeros mean the defaults named. */
struct facts_conf {
    uint64_t id;          /* of this member; as all ids not 0 */
    uint64_t epoch;       /* its boot, not 0: greater than at any start before */
    mc_ns batch_ns;       /* 10 ms: how long a change waits for others */
    mc_ns exchange_ns;    /* 1 s: between digests */
    mc_ns gone_ns;        /* 10 s: how long facts of a dead owner stay */
    mc_ns tombstone_ns;   /* 60 s: how long a deleted key is told */
    unsigned owners_max;  /* 256 */
    unsigned facts_max;   /* 8192 an owner, deleted ones included */
    size_t bytes_max;     /* 2 MiB of keys and values an owner */
    uint64_t bytes_per_s; /* 1 MB/s that this member sends, all receivers together */
    uint64_t seed;        /* of its random choices */
    /* Must not call facts. */
    void (*send)(void *arg, uint64_t to, const void *bytes, size_t n);
    /* Another member's fact is new, changed, deleted or dropped (value NULL).  The fact is good for
     * the call, which must not change facts.  May be NULL. */
    void (*on_fact)(void *arg, uint64_t owner, struct str key, const void *value, size_t n,
                    mc_ns age_ns);
    void *arg;
};

struct fact {
    uint64_t owner;
    struct str key;
    const void *value; /* good until the next call that is not const */
    size_t n;
    enum facts_urgency urgency;
    mc_ns age_ns; /* since its owner set it; time on the wire is not in it */
    bool dead;    /* its owner is gone */
};

#define FACTS_COUNTERS(X)                                                        \
    X(sent, "messages sent")                                                     \
    X(sent_bytes, "bytes sent")                                                  \
    X(received, "messages heard")                                                \
    X(malformed, "messages that could not be read, in whole or from some point") \
    X(strangers, "messages or records of owners that are no members")            \
    X(applied, "facts taken from others")                                        \
    X(stale, "facts heard that were known already")                              \
    X(gaps, "sections that came before what precedes them")                      \
    X(refused, "facts beyond a limit, ours or others'")                          \
    X(asked, "requests for what was missed")                                     \
    X(held_back, "batches or answers cut short by the bandwidth")                \
    X(restarts, "owners seen with a greater epoch")                              \
    X(raised, "our own epoch found too small and raised")                        \
    X(aged_out, "owners whose facts were dropped after they had gone")

struct facts_counters {
#define X(name, text) uint64_t name;
    FACTS_COUNTERS(X)
#undef X
};

struct facts;

/* Copies conf. */
struct facts *facts_new(const struct facts_conf *, mc_ns now);
void facts_free(struct facts **);

/* Ours.  Setting the value that holds already is nothing.  A key keeps its urgency for good.
 * MC_ERANGE: key empty or anything too long; MC_EINVAL: another urgency; MC_EFULL: limit of facts
 * or bytes. */
enum mc_err facts_set(struct facts *, struct str key, enum facts_urgency, const void *value,
                      size_t n, mc_ns now);
/* MC_ENOENT: there is none. */
enum mc_err facts_del(struct facts *, struct str key, mc_ns now);

/* Anybody's, own ones included; false: there is none. */
bool facts_get(const struct facts *, uint64_t owner, struct str key, mc_ns now, struct fact *out);
/* Walks all facts, owner by owner: zero-initialise *at; false at the end.  No calls that are not
 * const in between. */
struct facts_at {
    unsigned owner;
    size_t slot;
};
bool facts_next(const struct facts *, struct facts_at *, mc_ns now, struct fact *out);
/* Live facts of all owners. */
unsigned facts_count(const struct facts *);

/* Who is alive, besides us; those missing who were there before are gone. */
void facts_set_members(struct facts *, const uint64_t *ids, unsigned n, mc_ns now);

/* Whatever the bytes are. */
void facts_recv(struct facts *, uint64_t from, const void *bytes, size_t n, mc_ns now);
/* Sends what is due; when to call again at the latest.  facts_set() and facts_recv() may make that
 * sooner: facts_due(). */
mc_ns facts_tick(struct facts *, mc_ns now);
mc_ns facts_due(const struct facts *);
const struct facts_counters *facts_counters(const struct facts *);

#endif
