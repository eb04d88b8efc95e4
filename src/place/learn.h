/* SPDX-License-Identifier: BSD-2-Clause
 *
 * learn.h - what requests cost and what servers are worth, learned from what is seen anyway.
 *
 * Cost.  In each window a server's agent tells how much CPU the service used, and the balancers
 * together know which requests were in flight there, and how long (presence.h).  The change of the
 * CPU use from one window to the next, explained by the change of the presence of each class, gives
 * phi: the cores that a request of the class keeps busy.  Then all CPU used is shared out among the
 * requests that were there, by phi times presence, and divided by their number.  Likewise memory.
 * Only one balancer, the server's owner, does this for a server; the sums are added up over all.
 *
 * Factor.  How long requests take at a server, against what their class, the crowd there and the
 * number of cores let expect: slow CPUs, noisy neighbours and sick servers show alike.
 *
 * Pure; control thread.
 */
#ifndef MC_PLACE_LEARN_H
#define MC_PLACE_LEARN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/units.h"
#include "place/cost.h"
#include "place/presence.h"
#include "place/regress.h"

#define LEARN_SLOTS 8 /* windows of a server that may be waiting for somebody's share */

/* What servers themselves said of the requests of a class; sums fade. */
struct learn_told {
    double cpu_s, n;       /* CPU-seconds on the average server, of so many requests */
    double busy_s, wait_s; /* of those whose time was the server's alone: time in the system */
    mc_ns at;
};

/* Sums of one balancer's servers, as it tells them to the others: replaced, never added twice. */
struct learn_sums {
    struct regress cpu, mem;
    double *cpu_s, *ended; /* [n_classes] CPU-seconds shared out, and among how many */
};

void learn_sums_init(struct learn_sums *, unsigned n_classes);
void learn_sums_fini(struct learn_sums *);

/* One window of a server that is ours to follow. */
struct learn_slot {
    int64_t window;
    unsigned n_heard; /* balancers whose share is in */
    bool told;        /* the agent's counter is known at both ends */
    double cpu_s;     /* used in the window */
    double pressure, mem_bytes;
    double cores; /* of the server then; 0: unknown */
    unsigned n, cap;
    struct presence_row *row;
};

struct learn_server {
    double factor;
    double slow_sum, slow_n; /* of this step: how much slower than foreseen, over how many */
    mc_ns slow_at;           /* the last time anything was heard */
    /* as its owner: */
    bool owned, any_report;
    bool failed; /* since the last window: its CPU went into something else */
    uint64_t boot, seq;
    mc_ns at_ns; /* of the last report */
    double cpu_s, mem_bytes;
    int64_t next; /* the window to be taken next */
    struct learn_slot slot[LEARN_SLOTS];
    struct learn_slot *last; /* the one before, to take differences; NULL: none */
    double base_bytes;       /* memory without requests */
    double other;            /* cores wanted by what no balancer told of */
};

struct learn_class {
    double latency_s, latency_n; /* for want of reports: time in the system, crowd taken off */
    double told_s;               /* the servers' own word, overrules; 0: none */
    struct learn_told told;
    double phi, mem_mb; /* present solutions */
    double phi_prior;
    bool known;                  /* it has a cost since so many requests were seen */
    double phi_error, mem_error; /* their standard errors, at errors_at */
};

struct learn {
    unsigned n_servers, n_classes, n_members;
    mc_ns window_ns;
    struct learn_server *server;
    struct learn_class *class;
    struct learn_sums own, all; /* all: own and those of the others */
    double *x, *prior;          /* [n_classes] scratch */
    mc_ns faded_at, errors_at;
    uint64_t n_windows, n_dropped;       /* taken, and given up for want of somebody's share */
    bool no_phi, no_factor, no_presence; /* for experiments */
};

void learn_init(struct learn *, unsigned n_servers, unsigned n_classes, mc_ns window_ns, mc_ns now);
void learn_fini(struct learn *);

/* --- factor ------------------------------------------------------------------------------------
 */

/* A request ended well.  crowd: as at its begin. */
void learn_latency(struct learn *, uint32_t server, unsigned class, const struct place_cost *,
                   double latency_s, double crowd, mc_ns now);
/* The same from another balancer, summed. */
void learn_slow(struct learn *, uint32_t server, double sum, double n, mc_ns now);
/* Every 100 ms. */
void learn_factors(struct learn *, mc_ns now);
/* What to place by: a slow server of which nothing was heard for long may have become better, and
 * nobody would know if nobody tried. */
double learn_factor(const struct learn *, uint32_t server, mc_ns now);

/* --- cost by the servers' own word (learn_told.c) -----------------------------------------------
 */

/* A request took so much CPU there, it says.  alone_s: its time in the system, crowd taken off;
 * negative: unknown. */
void learn_told(struct learn *, uint32_t server, unsigned class, double cpu_s, double alone_s,
                mc_ns now);
/* Sums become keep times what they were, and what is not told any more is forgotten. */
void learn_told_fade(struct learn *, double keep, mc_ns now);

/* --- cost, for owned servers --------------------------------------------------------------------
 */

void learn_own(struct learn *, uint32_t server, bool owned);
/* The counters of the service at a moment of the common clock. */
struct learn_report {
    uint64_t boot, seq;
    mc_ns at_ns;
    double cpu_s, pressure, mem_bytes; /* negative: not known */
    double cores;                      /* 0: not known */
};
/* False when it is older than the last one, or no server of ours. */
bool learn_report(struct learn *, uint32_t server, const struct learn_report *);
/* One balancer's presence in a window; n may be 0.  Each balancer gives one for each window. */
void learn_presence(struct learn *, uint32_t server, int64_t window, const struct presence_row *,
                    unsigned n);
/* Requests failed there: what the window's CPU did is not known. */
void learn_failed(struct learn *, uint32_t server);

/* Every 200 ms.  others: the sums of the other balancers, NULLs allowed. */
void learn_solve(struct learn *, const struct learn_sums *const *others, unsigned n_others,
                 mc_ns now);
struct place_cost learn_cost(const struct learn *, unsigned class);
/* How far to trust what is known of a class: standard errors. */
struct learn_doubt {
    double cpu; /* of the CPU cost, as a share of it; 1: unknown.  Of phi's error, which decides how
                   CPU is shared out, and of chance among the requests that were counted */
    double phi; /* in cores */
    double mem; /* in MB */
};
/* For display: dear once after each learn_solve(). */
struct learn_doubt learn_doubt(struct learn *, unsigned class);
/* The class's slot was given to another shape. */
void learn_forget_class(struct learn *, unsigned class);
/* What was known before a restart: believed until there is better. */
void learn_remember(struct learn *, unsigned class, double cpu_s, double phi, double mem_mb);

#endif
