/* SPDX-License-Identifier: BSD-2-Clause
 *
 * share.h - what balancers tell each other, and how one merges what it heard.  Pure.
 *
 * Every word is a state and not a change: what is lost is mended by the next, what comes twice or
 * late is recognised by its sequence number and does no harm.  share_wire.h turns these structs
 * into bytes and names of servers into indices of the receiver's view; nothing here sends or
 * receives.
 *
 *   kind    when                             to whom                   what
 *   FAST    1-2 ms, servers that changed     who has them in its home  light requests in flight
 *   HEAVY   at once, begin and end           all                       heavy ones in flight, memory
 *   SLOW    100 ms                           all                       all of it, slowness, rate
 *   ROWS    each window                      each server's owner       presence by class
 *   REPORT  100 ms, by the server's owner    all                       cores, memory, other load
 *   SUMS    1 s                              all                       sums that costs come from
 *
 * Where there is more to tell than may be sent (know_conf), FAST, HEAVY, SLOW and REPORT tell the
 * most changed first, and SLOW and SUMS go round in slices.  These say which keys they speak of:
 * what is within first..last and not named is nothing.
 */
#ifndef MC_PLACE_SHARE_H
#define MC_PLACE_SHARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/units.h"
#include "place/learn.h"
#include "place/share_map.h"

#define SHARE_KINDS(X) \
    X(FAST)            \
    X(HEAVY)           \
    X(SLOW)            \
    X(ROWS)            \
    X(REPORT)          \
    X(SUMS)

enum share_kind {
#define X(name) SHARE_##name,
    SHARE_KINDS(X)
#undef X
        SHARE_N_KINDS
};

#define SHARE_TO_ALL    UINT64_MAX
/* That a message may be cut into.  Each piece has a sequence number of its own. */
#define SHARE_PIECES    256
/* What a member said is forgotten when it says no more for so long. */
#define SHARE_SILENT_NS MC_SEC
/* Of one balancer at one server: 512 cores and 256 GiB.  The sum of all fits 31 bits. */
#define SHARE_PHI_MOST  (1 << 21)
#define SHARE_MEM_MOST  (1 << 22)

/* FAST, HEAVY, SLOW: one server.  phi in 1/COST_ONE, memory in COST_MEM_UNIT. */
struct share_load {
    uint32_t server;
    int32_t now;            /* light requests in flight this moment */
    int32_t mean;           /* the same, mean of the last windows: for who hears it seldom */
    int32_t heavy, mem;     /* heavy ones in flight, memory held by all */
    float slow_sum, slow_n; /* SLOW: how much slower than foreseen, summed; see learn.h */
    uint32_t eject_ms;      /* set aside for so long from now; 0: not */
};

/* The key of all classes that have none of their own. */
#define SHARE_CLASS_OTHER 1
/* ROWS: one class at one server.  Rows of a server stand together; one with class_key 0 says that
 * there was nothing: what is not told at all is not known. */
struct share_row {
    uint32_t server, class_key;
    float seconds, ended;
    int32_t level;
    bool failed; /* requests failed at the server in this window; the same in all its rows */
};

/* REPORT: what of a server's report concerns all. */
struct share_report {
    uint32_t server;
    uint64_t boot, seq;
    float cores; /* 0: unknown */
    uint32_t mem_base, mem_limit;
    int32_t other; /* phi that no balancer told of */
};

/* SUMS: of one class, and of two. */
struct share_sum {
    float cpu_s, ended, cpu_ay, mem_ay;
};

struct share_pair {
    uint16_t row, col; /* numbers in class_key; the key of col is not above that of row */
    float cpu, mem;
};

/* Classes are in the order of their keys, and so are pairs, by row and then by column.  Told are
 * the rows of the keys first..last (of the message) from column col_first to col_last: what is not
 * named there is 0.  Other classes are only named to be columns. */
struct share_sums {
    unsigned k, n_pairs;
    uint32_t col_first, col_last;
    const uint32_t *class_key;     /* [k] */
    const struct share_sum *sum;   /* [k] */
    const struct share_pair *pair; /* [n_pairs] */
};

struct share_msg {
    enum share_kind kind;
    uint64_t from;  /* member id */
    uint64_t seq;   /* grows by SHARE_PIECES with each message of a member, from its boot time in
                     * the upper half */
    double rate;    /* SLOW: requests a second that it places */
    int64_t window; /* ROWS */
    /* SLOW: of servers; SUMS: of classes.  first > last: of none.  Entries of a SLOW message are in
     * the order of the keys (share_map.h) of their servers. */
    uint32_t first, last;
    unsigned n; /* of one of these: */
    const struct share_load *load;
    const struct share_row *row;
    const struct share_report *report;
    struct share_sums sums;
};

/* --- merging ------------------------------------------------------------------------------------
 */

struct share_cell {
    uint64_t seq;
    int32_t light, heavy, mem;
};

#define SHARE_SEEN 256

struct share_peer {
    uint64_t id;
    uint64_t seen[SHARE_SEEN]; /* the last SLOW and ROWS by their sequence numbers */
    mc_ns heard_ns;            /* 0: never */
    double rate;               /* as told by: */
    uint64_t rate_seq;
    struct share_cell *cell; /* [n_servers] */
    struct learn_sums sums;
    uint64_t *sums_of; /* [n_classes] the message that a row is of; 0: none yet */
    bool any_sums;
    uint64_t n_stale; /* messages or entries that came too late */
};

/* What all others have in flight at a server. */
struct share_total {
    int32_t phi, mem;
};

struct share {
    unsigned n_servers, n_classes, n_peers;
    struct share_peer *peer;   /* in the order of their ids */
    struct share_total *total; /* [n_servers] */
    const struct share_map *map;
};

/* The map, which must outlive it, is that of all the servers. */
void share_init(struct share *, const struct share_map *, unsigned n_classes);
void share_fini(struct share *);
/* Who is there besides us; what is known of those who stay is kept. */
void share_set_peers(struct share *, const uint64_t *ids, unsigned n);
struct share_peer *share_peer(struct share *, uint64_t id); /* NULL: no member */
/* Was this SLOW or ROWS heard before?  If not, it is now. */
bool share_heard(struct share_peer *, uint64_t seq);
/* Merges FAST, HEAVY or SLOW.  in_home(arg, server): is its exact number told to us, or the mean?
 * Calls touched(arg, server) for each total that changed.  False: from nobody, or
 * heard before. */
struct share_hooks {
    bool (*in_home)(void *arg, uint32_t server);
    void (*touched)(void *arg, uint32_t server);
    void *arg;
};
bool share_merge(struct share *, const struct share_msg *, mc_ns now, const struct share_hooks *);
/* Forgets what silent members said. */
void share_expire(struct share *, mc_ns now, const struct share_hooks *);

#endif
