/* SPDX-License-Identifier: BSD-2-Clause
 *
 * engine.h - private to this room: the loop's inside, and what an engine must be able to do.
 *
 * sock.c and loop.c keep the parts that do not depend on the kernel interface: queues, flags, the
 * order of callbacks.  An engine (loop_epoll.c, loop_uring.c) moves the bytes and calls back
 * through the sock_*() functions below, only from within a turn.
 */
#ifndef MC_IO_ENGINE_H
#define MC_IO_ENGINE_H

#include <stdatomic.h>
#include <sys/uio.h>

#include "base/list.h"
#include "io/loop.h"
#include "io/sock.h"

#define LOOP_MAGIC 0x6c6f6f70u
#define SOCK_MAGIC 0x736f636bu

/* What a socket's flags say.  SF_EP_ and SF_UR_ belong to one engine each. */
enum sock_flag {
    SF_CLOSED = 1 << 0,      /* sock_close() was called: no callback but on_closed */
    SF_QUEUED = 1 << 1,      /* in the loop's work list */
    SF_RECV = 1 << 2,        /* reception is on */
    SF_ACCEPT = 1 << 3,      /* accepting is on */
    SF_EOF = 1 << 4,         /* FIN has come from the kernel */
    SF_EOF_TOLD = 1 << 5,    /* ... and on_eof was called */
    SF_DEAD = 1 << 6,        /* broken: nothing is sent any more */
    SF_ERROR_DUE = 1 << 7,   /* on_error(err) is to be called */
    SF_CONNECTING = 1 << 8,  /* neither sent nor received yet */
    SF_CONNECT_DUE = 1 << 9, /* on_connect(err) is to be called */
    SF_DRAIN_DUE = 1 << 10,  /* the queue became empty: on_drained is to be called */
    SF_SHUT = 1 << 11,       /* FIN is wanted behind the queue */
    SF_SHUT_DONE = 1 << 12,  /* ... and was sent */
    SF_BULK = 1 << 13,       /* the last receive was large: the next may be too */

    SF_READABLE = 1 << 14,   /* a receive may find something at once */
    SF_RECV_ERROR = 1 << 15, /* a receive failed with err, behind what is held */

    SF_EP_IN = 1 << 16,   /* registered for reading */
    SF_EP_OUT = 1 << 17,  /* registered for writing too */
    SF_EP_FULL = 1 << 18, /* the kernel took less than it was given; EPOLLOUT will tell */
    SF_EP_HUP = 1 << 19,  /* FIN or an error waits behind the data */

    SF_HELD = 1 << 20,  /* the queue stays where it is, see sock_hold() */
    SF_WAITS = 1 << 21, /* in its line: nothing is received, nor told of what was */
    SF_QUIET = 1 << 22, /* on_quiet is to be called when no receive nor accept is in the kernel */

    SF_UR_POLLED = 1 << 23,      /* its line is crowded: received from directly, in its turn */
    SF_UR_RECV = 1 << 24,        /* a receive is in the kernel */
    SF_UR_RECV_CANCEL = 1 << 25, /* ... and has been told to end */
    SF_UR_SEND = 1 << 26,        /* a send is in the kernel: its blocks must stay */
    SF_UR_POLL_IN = 1 << 28,     /* a poll for reading is in the kernel */
    SF_UR_POLL_OUT = 1 << 29,    /* a poll for writing is in the kernel */
    SF_UR_CONNECT = 1 << 30,     /* a connect is in the kernel */
};

struct engine {
    const char *name;

    /* False: not usable here, *note says why. */
    bool (*start)(struct loop *, const struct loop_conf *, struct errbuf *note);
    void (*stop)(struct loop *);
    /* Waits, reads the clock, delivers.  0: poll. */
    void (*wait)(struct loop *, mc_ns max_wait_ns);
    /* The loop is not turned for now: hand over what waits for the next turn. */
    void (*submit)(struct loop *);

    void (*accept)(struct sock *, bool on);
    /* s->fd is a fresh socket; ends in sock_connected(). */
    void (*connect)(struct sock *, const struct addr *);
    /* Hands as much of the queue to the kernel as can be; makes no callback.  Nothing while
     * SF_HELD.
     */
    void (*flush)(struct sock *);
    /* Reception is on: receive, or see to it that it goes on by itself.  True when bytes may be at
     * hand that must be delivered before an error is told. */
    bool (*receive)(struct sock *);
    /* Makes sure that nothing takes bytes from s any more, for splice: true when that is so; false:
     * sock_queue() follows when it is. */
    bool (*quiesce)(struct sock *);
    /* The last splice(2) found s not ready: sock_queue() when it is.  POLLIN or POLLOUT. */
    void (*await)(struct sock *, unsigned events);
    /* Is it worth trying a splice(2) now?  False while await() is waiting. */
    bool (*ready)(const struct sock *, unsigned events);
    /* Cancels all operations and closes the fd. */
    void (*close)(struct sock *);

    void (*watch_arm)(struct watch *, unsigned events);
    void (*watch_drop)(struct watch *);
};

extern const struct engine engine_epoll;
extern const struct engine engine_uring;

struct loop {
    mc_ns now_ns; /* first: see loop_now() */
    unsigned magic;
    bool stopping;
    const struct engine *engine;
    void *state; /* the engine's */
    struct block_pool *blocks;
    struct timers *timers;
    bool more;          /* ... and the kernel probably has more */
    unsigned n_pressed; /* turns in a row in which it had */
    uint64_t round;     /* of turns.c: what was there at its begin has been looked at */
    struct sock *large; /* its queue has grown large: flushed as soon as another one has */
    struct list work;   /* sockets with something to do at the end of the turn */
    struct list ended;  /* sockets whose on_closed is to be called */
    struct list tasks;
    struct list first;      /* tasks: before a queue goes to the kernel */
    struct block *spare[2]; /* for the next direct_read(): BLOCK_RX, BLOCK_BULK */
    size_t n_socks;         /* from sock_open() to on_closed() */

    struct splice *splices; /* idle ones with their pipes */
    unsigned n_splices_idle, n_splices;

    struct watch wake_watch; /* of an eventfd */
    atomic_bool woken;
    void (*on_wake)(void *arg);
    void *on_wake_arg;
};

/* --- loop.c, for tasks that take long, and for sock.c
 * --------------------------------------------------------- */

/* What was done in this turn for others leaves now. */
void loop_flush(struct loop *);
/* What has to leave before any queue does. */
void loop_run_first(struct loop *);

/* --- sock.c, for the engines ------------------------------------------------------------------ */

/* Has s looked after at the end of this turn (or of the next when that has begun). */
void sock_queue(struct sock *);
/* What is due for s: called by the loop for each queued socket. */
void sock_run(struct sock *);
/* May s receive now? */
static inline bool
sock_wants(const struct sock *s)
{
    return (s->flags & (SF_RECV | SF_EOF | SF_CLOSED | SF_CONNECTING | SF_WAITS)) == SF_RECV &&
           s->source_of == NULL;
}
/* n bytes of the queue have been taken by the kernel. */
void sock_sent(struct sock *, size_t n);
/* Calls on_drained and sends the FIN when the queue has become empty. */
void sock_tell_drained(struct sock *);
/* Calls on_recv; what is left of the block is *b. */
void sock_tell_recv(struct sock *, struct block **b);
/* Data that arrived while reception was off. */
void sock_keep(struct sock *, struct block **b);
/* Delivers what is held, then the FIN; false when reception went off on the way. */
bool sock_tell_held(struct sock *);
void sock_connected(struct sock *, int err);
/* The socket is broken: on_error will be called from the loop, once. */
void sock_broken(struct sock *, int err);
/* accept(2) failed in a way that will repeat itself: off, and on_error. */
void sock_accept_failed(struct sock *, int err);
/* The listener could not even be asked: off, and on_error from the loop. */
void sock_accept_refused(struct sock *, int err);
/* Will the next accept(2) probably fail in the same way? */
bool sock_accept_error_lasts(int err);
void sock_accepted(struct sock *, int fd);
/* All completions of a closed socket have come back. */
void sock_ended(struct sock *);
void sock_drop_queue(struct sock *);
/* Appends without asking whether the owner may send now. */
void sock_queue_block(struct sock *, struct block *);
/* The first blocks of the queue; their bytes are added up in *bytes. */
unsigned sock_iovecs(const struct sock *, struct iovec *, unsigned max, size_t *bytes);

/* --- turns.c ---------------------------------------------------------------------------------- */

/* May s be told of what has come, or is to be received?  It counts as one thing that its line has
 * done; false: s waits, and is run when it may. */
bool sock_its_turn(struct sock *);
/* Do others wait, and nobody of its line? */
bool sock_goes_first(const struct sock *);
/* Has one of its line had to wait lately? */
bool sock_is_crowded(const struct sock *);
/* Waits no more, and is not run either. */
void sock_leave_turns(struct sock *);

/* --- direct.c --------------------------------------------------------------------------------- */

/* While s wants to receive and is SF_READABLE: recv(2), a bounded number of times.  True when it
 * still is, and s queued for more. */
bool direct_read(struct sock *);
/* send(2) until the queue is empty: true.  False: the kernel is full, or the socket is broken. */
bool direct_send(struct sock *);
void direct_free_spare(struct loop *);
/* accept(2) so many times, for a listener of which it is known that somebody waits.  Returns how
 * often to try the next time: as often as worked, or twice that when all did; so at low rates none
 * is wasted on EAGAIN, and at high rates few waits are made. */
uint32_t direct_accept(struct sock *, uint32_t tries);

/* --- splice.c --------------------------------------------------------------------------------- */

/* Moves what can be moved. */
void splice_run(struct splice *);
/* One of its sockets is being closed: ends without done. */
void splice_abandon(struct splice *);
/* The source or the sink is broken: done is told in place of on_error. */
void splice_failed(struct splice *, int err, bool from_failed);
void splice_free_idle(struct loop *);

#endif
