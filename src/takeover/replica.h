/* SPDX-License-Identifier: BSD-2-Clause
 *
 * replica.h - what a holder keeps of its peers' flows, and what an adopter makes of it.  Pure: no
 * clock, no socket.  The store is the takeover thread's; a replica taken out of it is whoever's it
 * was given to.
 *
 * Each worker of a peer sends frames (wire.h) over a line of its own; a line's record goes to
 * replica_line_read().  A flow is in the store until it is closed, given away, or its line has been
 * at an end for conf.keep_ns.  A line's flows may be given away when
 *
 *   - its snapshot was complete: before, the owner did not wait for us, and may have done what we
 *     were not told;
 *   - conf.owner says that the owner is dead, and had chosen us with the epoch of this line when it
 *     was last heard of: else it may have gone on without us;
 *   - or the owner handed the flow over, to us: who is not named forgets it.  So of several
 *     holders exactly one can give it away, or take it, and that once: what is given is that
 *     life's from then on.
 *
 * Peers may be broken: a frame that makes no sense is a fault, and its line is to be closed.  What
 * is kept is bounded for a flow and in all; beyond that flows are bare (known, not to be carried
 * on), which is counted, and told to their owner.  Such a flow is not given away: another holder
 * may have it.
 */
#ifndef MC_TAKEOVER_REPLICA_H
#define MC_TAKEOVER_REPLICA_H

#include "base/units.h"
#include "takeover/wire.h"

/* Kept of a flow; of more, the client is taken to have the first. */
#define REPLICA_REQUESTS_MAX 16

/* --- a flow -------------------------------------------------------------------------------------
 */

#define REPLICA_POS_NONE     UINT64_MAX

/* A request from REQ on.  The last one of a flow may lack DONE: it is open. */
struct replica_request {
    uint64_t in_start, in_end; /* in_end, out_end: REPLICA_POS_NONE until it is DONE */
    uint64_t out_start, out_end;
    uint32_t n_said; /* bytes of the response that are kept: the head, and what was logged */
    uint32_t n_head; /* of them, in HEAD */
    bool repeatable, sent, close;
    bool head_whole; /* the final head is kept to its end */
    bool gap;        /* a part of the response was not kept: what was logged is of no use */
};

struct replica_bytes {
    uint8_t *p;
    size_t n, cap;
};

/* Read by anybody who has one; written here only. */
struct replica {
    struct flow_key key;
    struct life owner;
    uint16_t worker;
    struct tcp_params params;
    uint32_t rcv_base, snd_base;
    uint64_t in_at;            /* position of in.p[0]; in_at + in.n: where reception goes on */
    struct replica_bytes in;   /* from the oldest request kept, or what came behind the last one */
    struct replica_bytes said; /* of all requests, one behind the other */
    uint64_t out_at; /* where the response to the oldest request kept begins, or the next */
    struct replica_request *request; /* oldest first */
    unsigned n_requests, cap_requests;
    bool bare, handed_over;
};

/* Where the bytes of its response that are kept begin; NULL: none are, of any. */
const uint8_t *replica_said(const struct replica *, unsigned request);

/* The frames that make it: OPEN, IN, and REQ, SENT, HEAD, OUT, DONE of each request; or OPEN and
 * BARE; HANDOVER is left out.  At most WIRE_REPLICA_MAX bytes. */
void replica_write(const struct replica *, struct buf *);
/* Of the frames in a GIVE.  NULL: they make no sense, or more than one flow. */
struct replica *replica_read(struct life owner, struct str frames);
/* NULL'ed. */
void replica_free(struct replica **);

/* Sequence numbers for a probe: that of the next byte to the client, as far as is known, and what
 * is acknowledged. */
uint32_t replica_snd_next(const struct replica *);
uint32_t replica_rcv_next(const struct replica *);

/* --- the plan -----------------------------------------------------------------------------------
 */

/* Why a connection cannot be carried on; it is to be reset. */
#define REPLICA_BROKENS(X)                                                                      \
    X(NONE, "none", "it can be carried on")                                                     \
    X(BARE, "bare", "it was not protected")                                                     \
    X(ACK_BEHIND, "ack_behind", "the client lacks bytes that are no longer kept")               \
    X(ACK_AHEAD, "ack_ahead", "the client has bytes that we know nothing of")                   \
    X(SEQ_BEHIND, "seq_behind", "the client speaks from before the connection began")           \
    X(SEQ_AHEAD, "seq_ahead", "the client speaks from beyond any window")                       \
    X(HEAD_UNKNOWN, "head_unknown", "the client has bytes of a response whose head is unknown") \
    X(SENT, "sent", "a request that may not be repeated was sent, and answered in part")        \
    X(INPUT_LOST, "input_lost", "the request is not kept to where its response goes on")

enum replica_broken {
#define X(id, label, text) REPLICA_BROKEN_##id,
    REPLICA_BROKENS(X)
#undef X
        REPLICA_N_BROKENS
};

const char *replica_broken_text(enum replica_broken);
const char *replica_broken_label(enum replica_broken); /* for metrics */

/* What becomes of a request whose response the client has not whole. */
enum replica_do {
    REPLICA_SAY,    /* the rest of its response is known: send it, do not look at the request */
    REPLICA_REPEAT, /* read it again and send it to a server; skip what the client has */
    REPLICA_REFUSE, /* read it again and answer 502: it was sent, and may not be repeated */
};

struct replica_step {
    enum replica_do what;
    uint64_t in_start, in_end; /* of the request; in_end: REPLICA_POS_NONE where not known */
    /* SAY: the rest of the response.  REPEAT: the rest of the head as it was sent, to be sent
     * before anything of the new response; empty: the client has it.  Lies in the replica. */
    struct str say;
    /* REPEAT, when the client has a part: the whole head, to compare with the new one; else empty,
     * and any response will do. */
    struct str head;
    bool head_whole; /* nothing of the new response's head is to be sent; else `head` was interim
                        responses, and the new response goes behind them as it comes */
    uint64_t skip;   /* REPEAT: bytes behind the head that the client has */
    uint64_t n_response; /* REPEAT: of the whole response as it was sent, or REPLICA_POS_NONE */
    bool close;          /* the connection ends behind it */
};

struct replica_plan {
    enum replica_broken broken; /* else it can be carried on: */
    uint64_t out_pos;           /* the client has everything before: sending goes on here */
    uint64_t in_pos;            /* reception goes on here */
    uint64_t in_from; /* the kept bytes from here to in_pos are to be read (again): first those of
                         the steps, in their order, then what may be more */
    unsigned n_steps; /* of the last so many requests; 0: idle, or in the middle of a head */
    struct replica_step step[REPLICA_REQUESTS_MAX];
};

/* The client's word, from a packet of its: what it has (ack) and where the packet begins (seq).
 * They are the authority; that they may not fit the replica is found here.  Only the first step can
 * have a part of its response sent.  Points into the replica. */
void replica_plan(const struct replica *, uint32_t client_ack, uint32_t client_seq,
                  struct replica_plan *out);

/* --- the store ----------------------------------------------------------------------------------
 */

/* Zeros mean the defaults named. */
struct replica_conf {
    struct life self;    /* to whom flows may be handed over */
    size_t flow_bytes;   /* 1280 KiB: kept of a flow; more than any owner keeps of it itself */
    size_t total_bytes;  /* 256 MiB: of all flows, their structs included */
    unsigned flows_max;  /* 262144 */
    unsigned lines_max;  /* 1024 */
    unsigned claims_max; /* 262144 remembered */
    mc_ns keep_ns;       /* 60 s: flows of a line that has ended */
    mc_ns given_ns;      /* 5 s: what was given away, should the answer be lost */
    uint64_t seed;       /* of hashes: clients choose a part of the keys */
    void *arg;
    enum owner_word (*owner)(void *arg, struct life owner, uint32_t epoch); /* peers_owner() */
};

/* Why a line is to be closed. */
#define REPLICA_FAULTS(X)                                               \
    X(NONE, "none")                                                     \
    X(BYTES, "its bytes are no frames")                                 \
    X(KIND, "a frame that does not belong on a line, or not there")     \
    X(VERSION, "it speaks a version that is not spoken here")           \
    X(FLOW, "a flow that was not opened, or a number beyond the limit") \
    X(GAP, "bytes of the client that do not follow those before")       \
    X(ORDER, "a request or its parts out of order")                     \
    X(RANGE, "positions that cannot be")

enum replica_fault {
#define X(id, text) REPLICA_F_##id,
    REPLICA_FAULTS(X)
#undef X
        REPLICA_N_FAULTS
};

const char *replica_fault_text(enum replica_fault);

#define REPLICA_COUNTERS(X)                                              \
    X(frames, "frames read")                                             \
    X(unknown, "frames of kinds not known here")                         \
    X(faults, "lines that made no sense")                                \
    X(opened, "flows opened")                                            \
    X(bared, "flows that their owner told to be bare")                   \
    X(full_flow, "flows made bare here: more of it than is kept of one") \
    X(full_total, "flows made bare or not taken here: memory is full")   \
    X(closed, "flows closed")                                            \
    X(handed_over, "flows handed over")                                  \
    X(handed_on, "flows handed over to another holder, and forgotten")   \
    X(given, "flows given to peers, or adopted here")                    \
    X(expired, "flows forgotten: their line has ended")                  \
    X(superseded, "flows told again on a newer line")                    \
    X(claims_lost, "claims forgotten for want of memory")

struct replica_stats {
#define X(name, text) uint64_t name;
    REPLICA_COUNTERS(X)
#undef X
    /* now */
    unsigned lines, flows, bare, claims;
    unsigned waiting; /* handed over to us, for somebody to take them */
    size_t bytes;
};

struct replica_store;
struct replica_line;

struct replica_store *replica_store_new(const struct replica_conf *);
void replica_store_free(struct replica_store **); /* with all lines; NULL'ed */
const struct replica_stats *replica_stats(const struct replica_store *);

/* A connection of some peer's worker.  NULL: there are too many. */
struct replica_line *replica_line_new(struct replica_store *, mc_ns now);
/* A record: whole frames.  The first one of a line is HELLO.  After a fault the line is to be
 * ended. */
enum replica_fault replica_line_read(struct replica_line *, struct str record, mc_ns now);
/* Flows that the last record had to make bare here, or that were not taken: for REFUSED, before
 * ACK. Returns how many; *flows is good until the next record. */
unsigned replica_line_refused(const struct replica_line *, const uint32_t **flows);
/* How many frames it has read, for ACK. */
uint64_t replica_line_frames(const struct replica_line *);
/* The connection has ended.  Its flows stay for a while.  NULL'ed. */
void replica_line_end(struct replica_line **, mc_ns now);

/* Whose flow is it? */
enum replica_whose {
    REPLICA_UNKNOWN, /* not known here */
    REPLICA_ALIVE,   /* that life's, which has not given it up; or it was given to that life */
    REPLICA_FREE,    /* it may be given away: here is the replica */
};

struct replica_found {
    enum replica_whose whose;
    struct life who;         /* ALIVE: whose it is.  FREE: whose it was */
    struct replica *replica; /* FREE: the store's, good until the next call that is not const */
};

/* For a peer that asks, or for ourselves.  What was given to `asker` is FREE for it again, for
 * conf.given_ns, unless it said that it has it: the answer may have been lost.  What its own owner
 * asks for is not FREE, unless it handed it over: it has dropped that, since others may have it. */
void replica_find(struct replica_store *, const struct flow_key *, struct life asker,
                  struct replica_found *out);
/* It is given to that life from now on, and everybody is told so.  Returns the life that was its
 * owner. */
struct life replica_give(struct replica_store *, struct replica *, struct life to, mc_ns now);
/* The same, to ourselves: the store has it no more, the caller frees it. */
struct replica *replica_take(struct replica_store *, struct replica *, struct life self, mc_ns now);

/* `by` has taken over that flow of `owner`: what was kept of it is given to nobody any more, nor to
 * `by` should it have lost the flow since.  While the owner lives, as far as is known, it is the
 * owner's. */
void replica_taken(struct replica_store *, const struct flow_key *, struct life owner,
                   struct life by, mc_ns now);

/* The flows of that life that are FREE, for probing: zero-initialise *at; NULL at the end, or when
 * *looks is 0: that many flows are looked at, and it is counted down.  Calls that are not const may
 * come between, flows may then be left out or come again. */
const struct replica *replica_next(const struct replica_store *, struct life owner, size_t *at,
                                   unsigned *looks);
/* Of those that were handed over to us, one that nobody has taken though some time has passed: its
 * client is to be asked to speak.  NULL: there is none now.  Each comes again some times, later and
 * later. */
const struct replica *replica_silent(struct replica_store *, mc_ns now);
/* How many there are of a life, in whatever state. */
unsigned replica_count(const struct replica_store *, struct life owner);

/* What was given away of that life's flows, until it has been told: it was only asleep.  Returns
 * how many were put into out; zero-initialise *at. */
unsigned replica_claims(const struct replica_store *, struct life owner, size_t *at,
                        struct flow_key *out, unsigned max);
/* Some of its claims were forgotten: it must take all its flows for taken. */
bool replica_claims_lost(const struct replica_store *, struct life owner);
/* It has been told all, or is no more. */
void replica_claims_forget(struct replica_store *, struct life owner);

/* Forgets what has expired; when to call again at the latest. */
mc_ns replica_tick(struct replica_store *, mc_ns now);

#endif
