/* SPDX-License-Identifier: BSD-2-Clause
 *
 * loop.h - the event loop: one completion-style face, two engines behind it (epoll, io_uring).
 *
 * One loop per thread; everything here is called on the loop's thread unless it says otherwise.
 * A turn: wait for events; deliver them; run the timers that are due; run deferred tasks; flush the
 * send queues that were written to; deliver on_closed of what has fully ended.
 *
 * Both engines close and cancel asynchronously: an object that is embedded in a socket lives until
 * on_closed, on epoll too, so that a use-after-free cannot hide under one engine.
 */
#ifndef MC_IO_LOOP_H
#define MC_IO_LOOP_H

#include <stdbool.h>

#include "base/err.h"
#include "base/list.h"
#include "base/units.h"
#include "io/block.h"
#include "io/timer.h"

enum loop_engine { LOOP_AUTO, LOOP_EPOLL, LOOP_URING };

struct loop_conf {
    enum loop_engine engine;
};

struct loop; /* its first member is the time, see loop_now() */

/* LOOP_AUTO takes what was measured to be the better one here (io_uring).  Where io_uring is wanted
 * and missing, forbidden or too old: epoll is taken, `note` says why in one sentence (empty
 * otherwise). NULL: neither works, note says why. */
struct loop *loop_new(const struct loop_conf *, struct errbuf *note);
void loop_free(struct loop **); /* all sockets must be closed and on_closed delivered (asserted) */
/* Runs turns until loop_stop(). */
void loop_run(struct loop *);
/* One turn, waiting at most max_wait_ns (0: poll).  For tests and tools. */
void loop_turn(struct loop *, mc_ns max_wait_ns);
void loop_stop(struct loop *); /* from within the loop: ends loop_run after this turn */
const char *loop_engine_name(const struct loop *); /* "epoll" or "uring" */
bool loop_engine_parse(const char *text, enum loop_engine *out);

/* Time of this turn (monotonic, read once after waiting). */
static inline mc_ns
loop_now(const struct loop *l)
{
    return *(const mc_ns *)(const void *)l;
}
/* Reads the clock anew: for measuring phases inside a long turn. */
mc_ns loop_now_exact(struct loop *);

struct block_pool *loop_blocks(struct loop *);

/* --- timers ------------------------------------------------------------------------------- */
void loop_timer_set(struct loop *, struct timer *, mc_ns at_ns);
void loop_timer_clear(struct loop *, struct timer *);

/* --- deferred work: runs once, at the end of this turn ------------------------------------- */
struct task;
typedef void task_f(struct task *);
struct task {
    struct list link; /* {NULL, NULL}: not queued; zero-initialise */
    task_f *fn;
};
void loop_defer(struct loop *, struct task *); /* harmless when already queued */
/* Runs before what is queued at sockets is handed to the kernel; in time for what it sends itself
 * to leave before that, see sock_flush(). */
void loop_defer_first(struct loop *, struct task *);
void loop_undefer(struct loop *, struct task *); /* of either kind */

/* --- from other threads -------------------------------------------------------------------- */
/* Makes the loop call the function set here, soon; several wakes may become one call. */
void loop_on_wake(struct loop *, void (*fn)(void *arg), void *arg);
void loop_wake(struct loop *); /* any thread, async-signal-safe */

/* --- readiness of foreign descriptors (c-ares, signalfd, pipes), one shot ------------------- */
struct watch;
typedef void watch_f(struct watch *, unsigned revents);
struct watch {
    struct loop *loop;
    watch_f *fn;
    int fd;
    unsigned events; /* POLLIN | POLLOUT, armed when not 0 */
    void *engine;    /* engine's */
};
void watch_init(struct watch *, struct loop *, int fd, watch_f *);
/* Fires fn once when one of events (POLLIN, POLLOUT) or an error is there; then arm again. */
void watch_arm(struct watch *, unsigned events);
/* Forgets it at once; fn is not called afterwards and the struct may be freed.  Does not close fd.
 */
void watch_drop(struct watch *);

#endif
