/* SPDX-License-Identifier: BSD-2-Clause
 *
 * watch_priv.h - what watch.c and the kinds of agents share.  For these files only.
 */
#ifndef MC_FLEET_WATCH_PRIV_H
#define MC_FLEET_WATCH_PRIV_H

#include "base/arena.h"
#include "base/buf.h"
#include "fleet/watch.h"
#include "http/h1.h"
#include "io/stream.h"

/* A response of an agent's HTTP server as it comes in. */
struct watch_http {
    bool has_head;
    size_t scanned;
    struct arena arena; /* of the body's trailers */
    struct h1_body body;
};

enum watch_phase { WATCH_WAITING, WATCH_CONNECTING, WATCH_READING, WATCH_CLOSING };

struct watcher {
    struct stream stream;
    struct timer timer; /* WAITING: the next connection; else the time limit */
    enum watch_phase phase;
    bool late; /* more time was given, our loop was held up */
    struct loop *loop;
    struct tls_turns *turns;
    struct rng *rng;
    watcher_f *fn; /* NULL: freed */
    void *arg;
    struct watch_conf conf; /* texts are its own */
    const struct watch_ops *ops;
    struct watch_stats stats;
    struct report_order order;
    unsigned n_failed; /* in a row */
    mc_ns began_ns;    /* this connection */
    struct buf in;     /* bytes that are no report yet */
    struct watch_http http;
    struct report_node node; /* the last scrape */
    mc_ns node_at;           /* 0: none */
};

/* What a piece of input led to. */
enum watch_step {
    WATCH_MORE,   /* go on reading */
    WATCH_DONE,   /* a poll has ended well */
    WATCH_FAILED, /* watch_fail() was called, or the watcher freed: touch nothing */
};

struct watch_ops {
    mc_ns time_limit_ns; /* of a poll; 0: a stream, which has its own */
    /* Connected: what to send. */
    void (*ask)(struct watcher *);
    enum watch_step (*feed)(struct watcher *, char *p, size_t n);
    /* The peer has closed. */
    enum watch_step (*eof)(struct watcher *);
};

extern const struct watch_ops watch_ops_agent, watch_ops_check, watch_ops_node;

/* Ends this connection as a failure. */
enum watch_step watch_fail(struct watcher *, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Counts a fault. */
void watch_refuse(struct watcher *, enum report_fault);
/* Counts a fault, or puts the report in order and hands it on.  False: the watcher was freed. */
bool watch_take(struct watcher *, enum report_fault, const struct place_report *);

#endif
