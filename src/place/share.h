/* SPDX-License-Identifier: BSD-2-Clause
 *
 * share.h - what balancers tell each other, and how one merges what it heard.  Pure.
 *
 * Every word is a state and not a change: what is lost is mended by the next, what comes twice or
 * late is recognised by its sequence number and does no harm.  The wire (elsewhere) turns these
 * structs into bytes, names of servers into indices of the receiver's view, and names of classes
 * into keys; nothing here sends or receives.
 *
 *   kind    when                             to whom                   what
 *   FAST    1-2 ms, servers that changed     who has them in its home  light requests in flight
 *   HEAVY   at once, begin and end           all                       heavy ones in flight, memory
 *   SLOW    100 ms                           all                       all of it; what is not in it
 *                                                                      is nothing.  Slowness, rate
 *   ROWS    100 ms                           each server's owner       presence by class
 *   REPORT  100 ms, by the server's owner    all                       cores, memory, other load
 *   SUMS    1 s                              all                       sums that costs come from
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

#define SHARE_TO_ALL UINT64_MAX
#define SHARE_PIECES                                                             \
    256 /* that a message may be cut into; each has a sequence number of its own \
         */
#define SHARE_SILENT_NS \
    MC_SEC /* what a member said is forgotten when it says no more for so long */

/* FAST, HEAVY, SLOW: one server.  phi in 1/COST_ONE, memory in COST_MEM_UNIT. */
struct share_load {
    uint32_t server;
    int32_t now;            /* light requests in flight this moment */
    int32_t mean;           /* the same, mean of the last windows: for who hears it seldom */
    int32_t heavy, mem;     /* heavy ones in flight, memory held by all */
    float slow_sum, slow_n; /* SLOW: how much slower than foreseen, summed; see learn.h */
    uint32_t eject_ms;      /* set aside for so long from now; 0: not */
};

/* ROWS: one class at one server.  Rows of a server stand together; one with class_key 0 says that
 * there was nothing: what is not told at all is not known. */
struct share_row {
    uint32_t server, class_key;
    float seconds, ended;
    int32_t level;
};

/* REPORT: what of a server's report concerns all. */
struct share_report {
    uint32_t server;
    uint64_t boot, seq;
    float cores; /* 0: unknown */
    uint32_t mem_base, mem_limit;
    int32_t other; /* phi that no balancer told of */
};

/* SUMS, on the wire: of one class, and of two (the diagonal too), by their numbers in the piece. */
struct share_sum {
    float cpu_s, ended, cpu_ay, mem_ay;
};

struct share_pair {
    uint16_t row, col;
    float cpu, mem;
};

/* SUMS: of k classes.  aa is the lower half with the diagonal, row by row. */
struct share_sums {
    unsigned k;
    const uint32_t *class_key;
    const float *cpu_s, *ended, *cpu_ay, *cpu_aa, *mem_ay, *mem_aa;
};

struct share_msg {
    enum share_kind kind;
    uint64_t from;  /* member id */
    uint64_t seq;   /* grows with each message of a member; its boot time in the upper half */
    double rate;    /* SLOW: requests a second that it places */
    int64_t window; /* ROWS */
    unsigned n;     /* of one of these: */
    const struct share_load *load;
    const struct share_row *row;
    const struct share_report *report;
    struct share_sums sums;
};

/* Copies of messages, for who carries them: all that belongs to one in one piece of memory. */
size_t share_msg_bytes(const struct share_msg *);
struct share_msg *share_msg_copy(const struct share_msg *, void *into);

/* --- merging ------------------------------------------------------------------------------------
 */

struct share_cell {
    uint64_t seq;
    int32_t light, heavy, mem;
};

struct share_peer {
    uint64_t id;
    uint64_t slow_seq;
    mc_ns heard_ns; /* 0: never */
    double rate;
    struct share_cell *cell; /* [n_servers] */
    struct learn_sums sums;
    uint64_t sums_seq;
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
};

void share_init(struct share *, unsigned n_servers, unsigned n_classes);
void share_fini(struct share *);
/* Who is there besides us; what is known of those who stay is kept. */
void share_set_peers(struct share *, const uint64_t *ids, unsigned n);
struct share_peer *share_peer(struct share *, uint64_t id); /* NULL: no member */
/* Merges FAST, HEAVY or SLOW.  in_home(arg, server): is its exact number told to us, or the mean?
 * Calls touched(arg, server) for each total that changed.  False: from nobody, or old. */
struct share_hooks {
    bool (*in_home)(void *arg, uint32_t server);
    void (*touched)(void *arg, uint32_t server);
    void *arg;
};
bool share_merge(struct share *, const struct share_msg *, mc_ns now, const struct share_hooks *);
/* Forgets what silent members said. */
void share_expire(struct share *, mc_ns now, const struct share_hooks *);

#endif
