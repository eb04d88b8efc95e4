/* SPDX-License-Identifier: BSD-2-Clause
 *
 * link.h - a worker's side of takeover: its frames to the holders, and what the takeover thread has
 * for it.  One a worker, on the worker's loop, called on its thread only.
 *
 * What the worker puts during a turn leaves at the end of it, in one sealed record a holder.  Every
 * frame has a ticket, counted from 1; a holder says how many frames it has, and link_acked() is the
 * ticket up to which all holders have them.  So a worker needs no list of what waits but one in the
 * order of tickets:
 *
 *     t = link_put(l, &frame);
 *     if (link_acked(l) >= t)   there is nobody to wait for
 *     else                      wait for on_acked()
 *
 * Who holds is the takeover thread's choice (peers.h).  A holder that is new is told all flows by
 * on_snapshot(), in the order of their numbers and as fast as it takes them, and every frame of
 * those it was told of; once it has acknowledged the snapshot it is waited for, until
 * the thread lets it go: when it is dead, or when this worker's connection to it broke or it was
 * silent on it for LINK_SILENT_NS.  Without a holder every ticket is acknowledged at once, and the
 * flows are as good as unprotected until the next one has its snapshot.
 *
 * A holder has a place, a small number that is another's when it is let go; sets of them are words
 * of bits.
 */
#ifndef MC_TAKEOVER_LINK_H
#define MC_TAKEOVER_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/stats.h"
#include "io/loop.h"
#include "takeover/adopted.h"
#include "takeover/wire.h"

struct link;
struct takeover;

/* As long as a peer may be silent before it is dead (peers.h). */
#define LINK_SILENT_NS (80 * MC_MS)

/* On the worker's thread, from its loop and never from inside a call of this interface. */
struct link_hooks {
    void *arg;
    /* link_acked() has risen to this. */
    void (*on_acked)(void *arg, uint64_t ticket);
    /* A holder has not heard of the flow of this number: link_tell() it everything about it, if
     * there is one (OPEN, IN, REQ ..., or OPEN and BARE), before returning.  False: neither is
     * there one with a higher number. */
    bool (*on_snapshot)(void *arg, uint32_t flow);
    /* The holder of that place keeps nothing of the flow of this number, which may have ended: it
     * does not protect it before OPEN.  Before the acknowledgement of what it could not keep. */
    void (*on_refused)(void *arg, uint32_t flow, unsigned place);
    /* Nobody has that place now. */
    void (*on_let_go)(void *arg, unsigned place);
    /* A connection was rebuilt here, and this worker is to serve it; takes it. */
    void (*on_adopted)(void *arg, struct adopted **);
    /* This process slept, and others have taken over these flows: those that are of this worker are
     * to go without a byte (repair_drop, guard_flow_del), before returning.  Others in the list are
     * other workers' and are passed over.  keys NULL: nobody knows which, all protected ones go. */
    void (*on_claimed)(void *arg, const struct flow_key *keys, unsigned n);
};

/* Writer: the worker's thread; any thread may read. */
#define LINK_COUNTERS(X)                                        \
    X(frames, "frames for holders")                             \
    X(bytes, "bytes sent to holders, sealed")                   \
    X(records, "records sent to holders")                       \
    X(snapshots, "times a holder was told all flows")           \
    X(lost, "connections to holders that broke or fell silent") \
    X(adopted, "connections given to this worker")

struct link_stats {
#define X(name, text) stat_u64 name;
    LINK_COUNTERS(X)
#undef X
    stat_u64 holders;     /* gauge: those that have their snapshot and are waited for */
    struct stat_hist ack; /* a frame put to its acknowledgement; one at a time is measured */
};

/* On the thread of the worker `index`.  NULL: no descriptor was left (errbuf). */
struct link *link_new(struct takeover *, unsigned index, struct loop *, const struct link_hooks *,
                      struct errbuf *);
/* Tells nobody that flows have ended: what is to be said of them must have been.  No hook is called
 * any more and nothing is waited for, but sockets close in turns of the loop that follow:
 * link_is_gone(). */
void link_close(struct link *);
bool link_is_gone(const struct link *);
/* When it is gone, before takeover_stop(); NULL'ed. */
void link_free(struct link **);

/* Puts the frame for all holders; returns its ticket.  Hot: some times a request. */
uint64_t link_put(struct link *, const struct wire_frame *);
/* Up to here nobody is waited for; the ticket put last when there is no holder. */
uint64_t link_acked(const struct link *);
/* From inside on_snapshot() only: a frame for the new holder alone. */
void link_tell(struct link *, const struct wire_frame *);
/* The places of those that have their snapshot and are waited for. */
uint32_t link_keepers(const struct link *);
/* The holder that connections are handed over to, but none of those places; life none: there is
 * none now. */
struct life link_heir(const struct link *, uint32_t but);
/* It has that place. */
bool link_is_at(const struct link *, struct life, unsigned place);
/* There is one, or somebody is becoming one. */
bool link_expects_heir(const struct link *);
/* HANDOVER of this flow is acknowledged, or will not be, and its socket is dropped: packets for it
 * that still come here go to that holder from now on, if it is one. */
void link_handed_over(struct link *, const struct flow_key *, struct life heir);

const struct link_stats *link_stats(const struct link *);

#endif
