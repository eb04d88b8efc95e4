/* SPDX-License-Identifier: BSD-2-Clause
 *
 * sock.h - stream sockets on a loop: accept, connect, receive, send, splice, close.
 *
 * A struct sock is embedded in its owner (a client connection, a connection to a server, a
 * listener) and belongs to the loop from sock_open() to on_closed().  Callbacks are only made from
 * the loop, never from inside a call of this interface, except where it says so.
 */
#ifndef MC_IO_SOCK_H
#define MC_IO_SOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "io/addr.h"
#include "io/block.h"
#include "io/loop.h"

struct sock;
struct splice;
struct turns_line;

struct sock_ops {
    /* Bytes have arrived: (*b)->len >= 1.  Take the block (and set *b to NULL) or read it and leave
     * it: the engine then reuses it at once.  May be called several times a turn. */
    void (*on_recv)(struct sock *, struct block **b);
    /* The peer will send no more (FIN).  Once.  Sending is still possible. */
    void (*on_eof)(struct sock *);
    /* The send queue was not empty and now is.  Called from the flush at the end of the turn (or
     * from a later turn when the kernel was full); not while a splice runs.  NULL: not interested.
     */
    void (*on_drained)(struct sock *);
    /* After sock_quiet(), once.  NULL: it is not called. */
    void (*on_quiet)(struct sock *);
    /* sock_connect() has ended: 0 or an errno. */
    void (*on_connect)(struct sock *, int err);
    /* A connection was accepted: fd is nonblocking, close-on-exec, and the callee's.  After
     * sock_accept(s, false) a few that the kernel had taken already may still come. */
    void (*on_accept)(struct sock *, int fd);
    /* For a listening socket: its line may go on, see turns.h. */
    void (*on_turn)(struct sock *);
    /* The socket is broken (ECONNRESET, EPIPE, ETIMEDOUT ...).  For a listener: accept failed with
     * EMFILE, ENFILE, ENOBUFS or ENOMEM and accepting has been turned off (sock_accept(s, true)
     * turns it on again).  At most once otherwise; nothing but on_closed follows after sock_close.
     */
    void (*on_error)(struct sock *, int err);
    /* Everything has come back; the fd is closed; the memory is the owner's again.  Last call. */
    void (*on_closed)(struct sock *);
};

struct sock {
    const struct sock_ops *ops;
    struct loop *loop;
    struct block *send_head, *send_tail; /* queue, oldest first */
    uint32_t unsent_bytes;               /* in the queue, not yet taken by the kernel */
    int fd;
    uint32_t flags;     /* engine's, as all that follows */
    uint32_t pending;   /* completions that are still to come */
    struct list link;   /* in the list of sockets to look after, or of those that have ended */
    struct block *held; /* received while reception was off */
    struct splice *source_of, *sink_of; /* transfers out of and into this socket */
    uint32_t engine_slot; /* epoll: since which turn unregistered; uring: last batch with fd */
    uint32_t magic;
    struct turns_line *line; /* whose turns it takes; NULL: none */
    struct list turn;        /* in the line, while it waits */
    uint16_t err;            /* for on_connect or on_error */
    uint16_t calm;           /* uring: small receives in a row */
};

/* Takes over fd (nonblocking, connected or listening or fresh); reception is off. */
void sock_open(struct sock *, struct loop *, int fd, const struct sock_ops *);
/* Makes a nonblocking socket for a's family (TCP_NODELAY where it is TCP), opens s with it and
 * connects; on_connect tells the end, never from inside this call.  MC_ESYS when no socket could be
 * made (s is then not open; errno is kept for EMFILE/ENFILE). */
enum mc_err sock_connect(struct sock *, struct loop *, const struct addr *,
                         const struct sock_ops *);

/* How long what was sent may stay unacknowledged until the connection is broken (ETIMEDOUT), see
 * TCP_USER_TIMEOUT in tcp(7); 0: until the kernel gives up, a quarter of an hour.  What a listening
 * socket accepts has its.  Nothing happens where it is no TCP. */
void sock_user_timeout(int fd, mc_ns);
/* The same, and when nothing was to be acknowledged for half of that, the peer's host is asked
 * whether it is there (SO_KEEPALIVE): who waits for an answer waits for somebody. */
void sock_watch_peer(int fd, mc_ns);

/* For a listening socket: accept from now on, or stop. */
void sock_accept(struct sock *, bool on);

/* Turns reception on or off.  Off: no on_recv and no on_eof until it is on again; what the engine
 * already holds is kept and delivered first then.  Callable from inside on_recv. */
void sock_recv(struct sock *, bool on);

/* Appends the block's bytes to the send queue.  The queue is flushed at the end of the turn, or at
 * once when much has gathered. */
void sock_send(struct sock *, struct block **);
/* Appends a copy. */
void sock_write(struct sock *, const void *, size_t n);
/* Room for n contiguous bytes at the end of the queue, to be written by the caller and then made
 * part of it with sock_commit().  Nothing else may be called on the socket in between. */
char *sock_reserve(struct sock *, size_t n);
void sock_commit(struct sock *, size_t n);
/* The last n bytes of the queue, which one sock_commit() made part of it; while it is held. */
const char *sock_tail(const struct sock *, size_t n);
/* Bytes queued that the kernel has not taken. */
static inline uint32_t
sock_unsent(const struct sock *s)
{
    return s->unsent_bytes;
}

/* The queue is handed to the kernel now, as far as it takes it, not at the end of the turn. */
void sock_flush(struct sock *);
/* While on, nothing of the queue is handed to the kernel, nor what is spliced to s; what the kernel
 * was given before may still leave.  Off: the queue is flushed at the end of this turn. */
void sock_hold(struct sock *, bool on);

/* Reception goes off, and on_quiet tells when the kernel brings nothing any more, so that the
 * descriptor can be given to another process: sock_close() is then no end to the peer.  Or
 * sock_recv(s, true), and it goes on as before.
 *
 * For a listening socket: accepting goes off.  From on_quiet on nobody is woken here for whoever
 * connects.  Those who connected before may be in the kernel's queue, and of others who accept from
 * it none need have been woken for them: they are the callee's to accept. */
void sock_quiet(struct sock *);
/* In on_quiet: what was received and not delivered is copied to p.  False: it is more than max, or
 * the connection has ended or is broken behind it, which sock_recv(s, true) tells. */
bool sock_rest(const struct sock *, void *p, size_t max, size_t *n);

/* Sends FIN once the queue has drained. */
void sock_shutdown(struct sock *);
/* Ends it: the queue is dropped, operations are cancelled, the fd closed; on_closed follows, in
 * this or a later turn, and no other callback.  reset: with RST instead of FIN, so that the peer
 * cannot take what it has for the whole. */
void sock_close(struct sock *, bool reset);
bool sock_is_open(const struct sock *); /* false after sock_close() */

/* --- moving bytes without touching them ----------------------------------------------------- */
/* moved: bytes handed to `to` in all.  err: 0 (all moved, or `from` ended early: moved < n), or an
 * errno; `from_failed` tells whose it is. */
typedef void splice_done_f(void *arg, uint64_t moved, int err, bool from_failed);
/* Moves the next n bytes that arrive on `from` to `to` (after what is in its send queue), by
 * splice(2) through a pipe or its io_uring twin; held blocks go first.  n = SPLICE_ALL: until
 * `from` ends.  Reception on `from` must be off, and is off afterwards.  Until done is called (from
 * the loop) nothing may be received from `from` and nothing be sent to `to`; the other direction of
 * both stays free (the server may answer while a request body is spliced to it), for a transfer of
 * its own, too.  sock_close() of either ends the transfer without done. SIGPIPE is ignored by the
 * process from the first transfer on. False: no pipe could be had; use on_recv and sock_send
 * instead. */
bool sock_splice(struct sock *from, struct sock *to, uint64_t n, splice_done_f *, void *arg);
#define SPLICE_ALL UINT64_MAX
/* Ends the transfer out of `from` without done, when nothing of it is on its way: its pipe is free
 * for others.  False: something is, or the source has ended, which done will tell. */
bool sock_splice_stop(struct sock *from);
/* Bytes moved so far by the transfer out of the socket, or when there is none by that into it, for
 * progress time-outs; 0 when no transfer runs. */
uint64_t sock_splice_moved(const struct sock *);
/* True when bytes wait for the target to take them, false when the source has none. */
bool sock_splice_blocked(const struct sock *);

/* --- listening ------------------------------------------------------------------------------- */
struct sock_listen_opts {
    int backlog;        /* 0: SOMAXCONN */
    bool reuseport;     /* one socket per worker on the same address */
    unsigned unix_mode; /* permission bits of a unix socket; 0: by umask */
    bool absent;        /* an address that this host may not have now (IP_FREEBIND) */
};
/* A bound, listening, nonblocking, close-on-exec fd, or -1 and why.  [::] is V6ONLY so that *:80
 * can stand beside it.  A unix socket file that nobody listens on is replaced. */
int sock_listen_fd(const struct addr *, const struct sock_listen_opts *, struct errbuf *);

#endif
