/* SPDX-License-Identifier: BSD-2-Clause
 *
 * watch.h - reads what servers say of their load, on the control thread's loop.
 *
 * A watcher stands before one agent: `meercat agent` (a stream), an agent for HAProxy's
 * agent-check, or node_exporter (both polled).  It connects, reads, connects again when it must,
 * and hands on what could be believed.  Several servers on one host share their watcher by a struct
 * watches.
 */
#ifndef MC_FLEET_WATCH_H
#define MC_FLEET_WATCH_H

#include "base/rand.h"
#include "base/units.h"
#include "io/addr.h"
#include "io/loop.h"
#include "io/tls.h"
#include "place/report.h"

enum watch_kind { WATCH_AGENT, WATCH_NODE, WATCH_CHECK };

struct watch_conf {
    enum watch_kind kind;
    struct tls_client *tls_client; /* by whose rules it is dialled; NULL: plain */
    const char *tls_name;          /* whom its certificate must name */
    struct addr addr;
    mc_ns interval;   /* 0: the kind's default */
    const char *path; /* of node_exporter; NULL: "/metrics" */
    const char
        *send; /* to an agent-check agent before it answers, as HAProxy's agent-send; or NULL */
};

/* age: how long ago the report was true, as far as can be told. */
typedef void watcher_f(void *arg, const struct place_report *, mc_ns age);

struct watch_stats {
    uint64_t reports;                  /* believed and handed on */
    uint64_t refused[REPORT_N_FAULTS]; /* by fault */
    uint64_t connects;                 /* connections that came about */
    uint64_t failures;                 /* ends that were not meant: refused, reset, HTTP errors */
    uint64_t stalls;                   /* ends for want of a report in time */
    mc_ns last_ns;                     /* when the last report was true; 0: none yet */
    char why[96]; /* the last failure, for people; empty: none since a report */
};

struct watcher;

/* Copies the conf; the turns are the loop's.  The first connection is made soon, at a random moment
 * within an interval. */
struct watcher *watcher_new(struct loop *, struct tls_turns *, const struct watch_conf *,
                            struct rng *, watcher_f *, void *arg);
/* No call back after this; may be called from within one. */
void watcher_free(struct watcher **);
const struct watch_stats *watcher_stats(const struct watcher *);
/* Age of what is known; MC_NEVER_NS: nothing is. */
mc_ns watcher_age(const struct watcher *, mc_ns now);

/* --- several servers, one host ------------------------------------------------------------------
 */

struct watches;
struct watch_sub; /* a server's share of a watcher */

struct watches *watches_new(struct loop *, struct tls_turns *, struct rng *);
void watches_free(struct watches **); /* every share must have been given back (asserted) */
/* A share of the watcher with this conf, which is made when there is none. */
struct watch_sub *watches_join(struct watches *, const struct watch_conf *, watcher_f *, void *arg);
/* No call back after this; may be called from within one.  The last one ends the watcher. */
void watch_sub_leave(struct watch_sub **);
struct watcher *watch_sub_watcher(struct watch_sub *);
unsigned watches_count(const struct watches *); /* watchers */
/* The i-th watcher, for lists and metrics; NULL at the end. */
struct watcher *watches_at(const struct watches *, unsigned i);
const struct watch_conf *watcher_conf(const struct watcher *);

#endif
