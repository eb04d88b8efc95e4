/* SPDX-License-Identifier: BSD-2-Clause
 *
 * know.h - all that one balancer knows of a pool: it takes in what workers, agents and the other
 * balancers tell, learns, publishes for the workers' picks, and says what the others should hear.
 *
 * Control thread alone; workers read the load table and the costs that it publishes.  Pure: time is
 * passed in, messages leave through a callback.  All balancers' times should be of about one clock
 * (wall time made monotonic), since windows are cut at whole multiples of their length on each.
 */
#ifndef MC_PLACE_KNOW_H
#define MC_PLACE_KNOW_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "place/cost.h"
#include "place/eject.h"
#include "place/home.h"
#include "place/lean.h"
#include "place/learn.h"
#include "place/load.h"
#include "place/policy.h"
#include "place/presence.h"
#include "place/report.h"
#include "place/share.h"

/* Parts that can be left out, to see what each is worth. */
#define KNOW_PARTS(X)                                                    \
    X(HOMES, "homes", "every server is everybody's")                     \
    X(PEERS, "peers", "what others have in flight is not heard")         \
    X(ANNOUNCE, "announce", "heavy requests are not told at once")       \
    X(PHI, "phi", "every request keeps one core busy")                   \
    X(FACTOR, "f", "all servers are as fast as their cores promise")     \
    X(MEMORY, "memory", "memory is not looked at")                       \
    X(FAILFAST, "failfast", "a failed request is forgotten at once")     \
    X(REPORTS, "reports", "costs come from latency, not from reports")   \
    X(OTHER, "other", "load that no balancer tells of is not looked at") \
    X(EJECT, "eject", "failing servers are not set aside, nor told")

enum know_part {
#define X(id, name, text) KNOW_##id,
    KNOW_PARTS(X)
#undef X
        KNOW_N_PARTS
};

struct know_conf {
    uint64_t id;        /* of this member; below SHARE_TO_ALL */
    uint64_t boot;      /* grows from one start to the next: wall seconds */
    unsigned n_classes; /* at most CLASS_MOST; class 0 is that of all others */
    mc_ns window_ns;    /* 100 ms; 1 s for thousands of servers.  A multiple of tick_ns */
    mc_ns tick_ns;      /* how often know_tick() is called: 1 or 2 ms */
    unsigned without;   /* 1 << enum know_part */
    uint32_t pool;      /* share_pool_key() */
    /* What messages to all others together may come to, ROWS aside: these are told in full, to one
     * each, and window_ns bounds them.  0: KNOW_BUDGET. */
    double budget_bytes_per_s;
    /* to: a member, or SHARE_TO_ALL.  The message is good for the call.  Returns the bytes that go
     * out for it, to all whom it goes to.  NULL: alone. */
    size_t (*send)(void *arg, uint64_t to, const struct share_msg *);
    void *arg;
};

#define KNOW_BUDGET 2e6

/* This balancer's requests at a server. */
struct know_mine {
    int32_t light, heavy, mem;
    float mean;  /* light, mean of the windows */
    double area; /* light, integrated since the window began, up to: */
    mc_ns area_at;
    float slow_sum, slow_n; /* not yet told */
    int32_t told_light;     /* in FAST */
    int32_t told_mean, told_heavy, told_mem;
    bool changed; /* light, since the last FAST */
    bool late;    /* heavy ones, and there was no budget to tell of them at once */
    bool failed;  /* requests, in this window */
};

/* A failed request that still counts. */
struct know_held {
    mc_ns until_ns;
    uint32_t server;
    struct place_cost cost;
};

/* What REPORT messages and our own agents say of a server. */
struct know_host {
    uint64_t boot, seq;
    mc_ns at_ns; /* when our agent's was true, or the owner's was heard; 0: nothing yet */
    float cores;
    uint32_t mem_base, mem_limit;
    int32_t other;
    bool news; /* ours, to be told */
};

/* What a server's responses say of it. */
struct know_word {
    struct place_word last; /* at_ns 0: nothing yet */
    uint64_t n_untrue;      /* costs that the request had no time for */
};

struct know {
    struct know_conf conf;
    const struct place_view *view;
    struct load_table *table;
    struct cost_table *costs;
    struct learn learn;
    struct presence presence;
    struct share share;
    struct know_mine *mine; /* [n_servers], as are: */
    struct know_host *host;
    struct know_word *word;
    struct lean *lean;
    struct eject *eject;
    uint32_t *owner;    /* index of the member that follows it */
    uint32_t *by_owner; /* servers in the order of their owners */
    uint32_t *dirty;    /* those whose mine.changed is set */
    uint32_t *late;     /* and those whose mine.late is */
    unsigned n_dirty, n_late;
    struct share_map *map;
    double purse[SHARE_N_KINDS]; /* bytes that may be sent now; negative: in debt */
    mc_ns purse_at;
    unsigned slow_at, report_at; /* where the next slice begins, in map->by_key and servers */
    uint32_t sums_from;          /* class key that the next slice begins at */
    uint64_t *member;            /* [n_members] ids in order, our own among them */
    unsigned n_members, me;
    struct home_cut *cut;
    double *rates, *capacity; /* [n_members], [n_servers]: scratch of the cut */
    double rate;              /* requests a second that are ours */
    float typical_cores;      /* mean of those that are told; 0: none is */
    uint64_t n_begun;         /* since the last window */
    mc_ns told_at;            /* the last window was told */
    uint64_t *class_key;      /* [n_classes] what it is called in messages; 0: free */
    uint64_t seq;
    struct know_held *held; /* a ring */
    unsigned held_at, n_held, held_cap;
    mc_ns next_window, next_solve, next_home, next_slow, next_reports, next_sums;
    void *scratch; /* a message under way; grows */
    size_t scratch_bytes;
    uint64_t n_sent[SHARE_N_KINDS], n_refused; /* messages; reports that were nonsense */
    uint64_t n_pushed;                         /* entries in them, for accounts */
    uint64_t n_bytes[SHARE_N_KINDS];
};

/* view and table must outlive it. */
struct know *know_new(const struct know_conf *, const struct place_view *, struct load_table *,
                      mc_ns now);
void know_free(struct know **);
/* The live members besides us. */
void know_set_members(struct know *, const uint64_t *others, unsigned n);
/* A class slot belongs to a shape from now on; key: hash of its name, the same on all balancers.
 * 0: to none.  What was known of another one is forgotten. */
void know_set_class(struct know *, unsigned class, uint64_t key);

void know_event(struct know *, const struct place_event *);
/* From the server's agent.  at: when it was true, on our clock. */
void know_report(struct know *, uint32_t server, const struct place_report *, mc_ns at);
/* Its agent is not heard any more: the load that it spoke of last may be gone. */
void know_silent(struct know *, uint32_t server);
/* A response told of its server's load.  While an agent of it is heard, that goes before. */
void know_word(struct know *, const struct place_word *);
void know_recv(struct know *, const struct share_msg *, mc_ns now);
/* Every tick_ns. */
void know_tick(struct know *, mc_ns now);

/* Is the server in a member's home? */
bool know_in_home(const struct know *, unsigned member, uint32_t server);

/* --- know_save.c: over a restart ----------------------------------------------------------------
 */

/* Costs as lines of text; name: of a class, {NULL,0} for none. */
void know_save(const struct know *, struct str (*name)(void *arg, unsigned class), void *arg,
               struct buf *out);
/* Calls seen(arg, name) for each line, which answers with the class or -1.  Returns the lines that
 * made no sense. */
unsigned know_load(struct know *, struct str text, int (*seen)(void *arg, struct str name),
                   void *arg);

#endif
