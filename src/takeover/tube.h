/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tube.h - a sealed connection between two balancers that carries frames (wire.h).
 *
 * What is put during a turn of the loop leaves at its end as one record, or some when it is much;
 * a record holds whole frames.  A tube that breaks is closed by whoever has it and opened anew:
 * what was under way is lost, what came is whole.
 *
 * On its loop's thread, as its keyring.
 */
#ifndef MC_TAKEOVER_TUBE_H
#define MC_TAKEOVER_TUBE_H

#include <stdbool.h>

#include "base/buf.h"
#include "cluster/keyring.h"
#include "io/loop.h"
#include "io/sock.h"

/* Plain bytes of a record, at most; a frame beyond has no place.  Twice a replica's bytes. */
#define TUBE_RECORD_MAX   ((size_t)4 << 20)
/* A record is ended when it has as much. */
#define TUBE_RECORD_BYTES ((size_t)128 << 10)
/* Waiting for the network: whoever does not read so much is as good as lost.  Who has more to say
 * does so in pieces. */
#define TUBE_WAITING_MAX  ((size_t)64 << 20)

struct tube;

struct tube_ops {
    /* The other end has proved that it holds the key. */
    void (*on_ready)(struct tube *);
    /* A record's plain bytes, good for the call. */
    void (*on_record)(struct tube *, const uint8_t *p, size_t n);
    /* It broke, or could not be opened: nothing more comes of it.  The owner closes it now. */
    void (*on_broken)(struct tube *, const char *why);
};

/* Each is called from the loop and may close the tube. */
struct tube {
    struct sock sock;
    const struct tube_ops *ops;
    void *owner;
    struct loop *loop;
    struct seal_stream *stream;
    struct addr peer;
    struct buf in, out; /* a record that is not whole; frames of this turn */
    struct task flush;
    struct timer deadline; /* for connecting and both hellos */
    unsigned *n_alive;     /* tubes of the loop whose memory is there */
    bool ready, closed;
    uint64_t bytes_out; /* sealed */
    uint64_t records_out;
};

/* n_alive goes up, and down when the tube's memory has gone, in a turn after tube_close().
 * on_broken() when it is not ready after within_ns. */
struct tube *tube_open(struct loop *, struct keyring *, const struct addr *to, mc_ns within_ns,
                       const struct tube_ops *, void *owner, unsigned *n_alive);
/* Takes fd. */
struct tube *tube_accept(struct loop *, struct keyring *, int fd, mc_ns within_ns,
                         const struct tube_ops *, void *owner, unsigned *n_alive);
/* The other end sees it cut.  NULL'ed; NULL is allowed. */
void tube_close(struct tube **);

/* Where the caller appends frames, whole ones: call tube_put_end() after each. */
static inline struct buf *
tube_put_begin(struct tube *t)
{
    return &t->out;
}
void tube_put_end(struct tube *);
/* What is put and has not left yet. */
size_t tube_waiting(const struct tube *);

#endif
