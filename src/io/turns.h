/* SPDX-License-Identifier: BSD-2-Clause
 *
 * turns.h - who shares a loop takes turns, so that a flood on one listener does not starve the
 * others.
 *
 * Sockets belong to lines, one for each listener.  What a line does (receives that are delivered,
 * connections that are taken in) is counted by round: a round ends when all that the kernel had has
 * been looked at.  A socket of a line that has had its part waits, oldest first, and goes on in a
 * later round.  So however much one listener is asked for, what comes in on another one is found
 * soon, and done at once.
 */
#ifndef MC_IO_TURNS_H
#define MC_IO_TURNS_H

#include "base/list.h"
#include "base/stats.h"
#include "io/loop.h"
#include "io/sock.h"

/* What those who wait do in a round, all lines together.  A receive and what comes of it take a
 * proxy 13 us, of which 9 are the kernel's for the send: so an event is not looked at for 55 us.
 * With 16 in place of 4 a request beside a flood took three times as long; the flood itself was
 * served as fast. */
#define TURNS_WORK       4u
/* No more is begun after this time, which is for things that are larger than most. */
#define TURNS_WORK_NS    (50 * MC_US)
/* So long after two lines had something to do they are held to their parts: whoever is alone does
 * all that there is. */
#define TURNS_SHARED_NS  MC_SEC
/* So long after one of a line had to wait the line is crowded. */
#define TURNS_CROWDED_NS (5 * MC_SEC)

/* One a loop. */
struct turns {
    struct loop *loop;
    struct list lines; /* struct turns_line, who went on last behind the others */
    unsigned n_lines;
    unsigned n_waiting;            /* lines in which somebody does */
    const struct turns_line *last; /* that did something */
    mc_ns shared_until_ns;
    struct task task;
    uint64_t round;            /* the last in which those who wait went on */
    struct turns_line *latest; /* that was asked for */
    stat_u64 *deferred;        /* counter: sockets that had to wait */
};

/* Lives as long as the turns. */
struct turns_line {
    struct list link;
    struct turns *turns;
    const void *owner;
    struct list waiting; /* struct sock, oldest first */
    uint64_t round;      /* in which `done` was counted */
    unsigned done;
    bool serving; /* one that has waited is going on */
    mc_ns crowded_until_ns;
};

void turns_init(struct turns *, struct loop *, stat_u64 *deferred);
void turns_fini(struct turns *); /* nobody waits */
/* The line of the owner, made when there is none. */
struct turns_line *turns_line(struct turns *, const void *owner);

/* From here on the socket belongs to the line; NULL: to none, it never waits.  After it was opened.
 */
void sock_take_turns(struct sock *, struct turns_line *);
/* May the line do one more thing in this round?  False while others of it wait, unless called from
 * on_turn().  While only one does anything it always may. */
bool turns_may(struct turns_line *);
/* It has done one, whether it might or not: what is too much counts in the rounds that follow. */
void turns_did(struct turns_line *);
/* For a listening socket: has on_turn() called in a later round; harmless when it waits already. */
void sock_await_turn(struct sock *);
bool sock_awaits_turn(const struct sock *);

#endif
