/* SPDX-License-Identifier: BSD-2-Clause
 *
 * wire.h - frames between balancers that take over each other's connections: from an owner's
 * workers to the holders of their flows, back, and among takeover threads.  Pure; any thread.
 *
 * A frame is u8 kind, varint length, and that many bytes, big-endian (base/pack.h).  Kinds that are
 * unknown, and bytes behind the fields that are known, are passed over: the next release may say
 * more.  Frames travel in sealed records and datagrams, whole.  Who sent them holds the cluster's
 * key and may be broken all the same: readers check every length and every number.
 *
 * Words.  A **life** is one run of a balancer's process.  The **owner** of a flow (a client's
 * connection) is the life that serves it, a **holder** one that keeps a replica.  A **line** is the
 * stream of frames from one worker to one holder.  **Positions** count the bytes of a connection
 * from its start, in each direction; `base` is the sequence number of position 0.
 *
 * What a worker says of a flow, in this order:
 *   OPEN  it is protected from these positions on.  Said again, it begins anew: what was known of
 *         it is forgotten (after BARE, and by an adopter).
 *   IN    bytes of the client, without a gap from in_pos on
 *   REQ   a request begins at in_start, and its response will begin at out_start: where that before
 *         it ended.  Only when that is DONE.
 *   SENT  a part of it is about to leave to a server, and it may not be repeated: to be waited for
 *   HEAD  bytes of the response, as they go to the client, up to the end of the final head (`whole`
 *         in the last such frame); interim responses are of it
 *   OUT   bytes of the response behind the head, where responses are logged: to be waited for
 *   DONE  the request ended before in_end, its response before out_end, whether sent already or
 *         not.  What is logged has to be complete by then, or is of no use.
 *   BARE  it is not protected any more, until OPEN
 *   HANDOVER  the owner has given it up, and `to`, one of its holders, may give it away.  All
 *         others forget it: what two can give away, two balancers could go on with.
 *   CLOSE  it has ended, or will: nobody is to take it over
 *
 * A holder answers by ACK, and with REFUSED before it when it cannot keep a flow: that is as good
 * as BARE there, until OPEN.
 */
#ifndef MC_TAKEOVER_WIRE_H
#define MC_TAKEOVER_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/pack.h"
#include "base/str.h"
#include "takeover/flow_key.h"

#define WIRE_VERSION     1

#define WIRE_LIVES_MAX   17         /* in a beat */
#define WIRE_HOLDERS_MAX 3          /* of an owner */
#define WIRE_BYTES_MAX   65536      /* in an IN, HEAD or OUT */
#define WIRE_REPLICA_MAX (3u << 20) /* in a GIVE */
#define WIRE_CLAIMS_MAX  256        /* in a CLAIMED */
#define WIRE_PLACES_MAX  16         /* in a WHERE */
#define WIRE_NETS_MAX    16         /* of a place */
/* A beat with all it may hold fits a datagram that is not fragmented on Ethernet, once sealed. */
#define WIRE_BEAT_MAX    1400
#define WIRE_SEQ_MAX     (UINT64_C(1) << 48) /* of beats */

/* X(id, number, text): numbers are for ever. */
#define WIRE_KINDS(X)                                                                   \
    X(HELLO, 1, "whose line it is")            /* a line's first */                     \
    X(SNAPSHOT, 2, "the snapshot is complete") /* all flows that there are were told */ \
    X(OPEN, 3, "a flow begins")                                                         \
    X(IN, 4, "bytes of the client")                                                     \
    X(REQ, 5, "a request begins")                                                       \
    X(SENT, 6, "a request leaves to a server")                                          \
    X(HEAD, 7, "the head of a response")                                                \
    X(OUT, 8, "the body of a response")                                                 \
    X(DONE, 9, "a response is complete")                                                \
    X(BARE, 10, "a flow is not protected any more")                                     \
    X(CLOSE, 11, "a flow ends")                                                         \
    X(HANDOVER, 12, "a flow is given up")                                               \
    X(ACK, 13, "frames that a holder has") /* holder to worker */                       \
    X(BEAT, 14, "a heart-beat")            /* threads: a datagram of its own */         \
    X(ASK, 15, "whose flow is it")                                                      \
    X(OWNER, 16, "it is that life's")                                                   \
    X(GIVE, 17, "it is yours: here is the replica")                                     \
    X(NONE, 18, "not known here")                                                       \
    X(RESYNC, 19, "what was taken from me")                                             \
    X(CLAIMED, 20, "flows that were taken")                                             \
    X(RESYNCED, 21, "that is all")                                                      \
    X(WHERE, 22, "how packets reach me")                                                \
    X(REFUSED, 23, "nothing is kept of a flow") /* holder to worker */                  \
    X(TAKEN, 24, "I have taken a flow over")

enum wire_kind {
#define X(id, number, text) WIRE_##id = number,
    WIRE_KINDS(X)
#undef X
};

/* For people; "unknown" for others. */
const char *wire_kind_text(unsigned kind);

/* One run of a balancer's process.  Boot is drawn at random at its start. */
struct life {
    uint64_t id; /* of the member, as the cluster has it; not 0 */
    uint64_t boot;
};

static inline bool
life_eq(struct life a, struct life b)
{
    return a.id == b.id && a.boot == b.boot;
}

static inline bool
life_is_none(struct life a)
{
    return a.id == 0;
}

/* What a holder knows of an owner, and so of the flows that came on a line of it. */
enum owner_word {
    OWNER_ALIVE,
    OWNER_DEAD,  /* or fenced, and has not gone on without this line: they may be given away */
    OWNER_STALE, /* dead, and has gone on without it: they are of no use */
};

/* --- a worker's frames and the answer to them ---------------------------------------------------
 */

struct wire_hello {
    uint8_t version; /* set by wire_put() */
    struct life owner;
    uint16_t worker;
    uint32_t epoch; /* with which the owner chose this holder (peers.h) */
};

/* `flow` is the owner's number for it, small, one of each worker; numbers come again after CLOSE.
 */
struct wire_open {
    struct flow_key key;
    struct tcp_params params;
    uint32_t rcv_base, snd_base;
    uint64_t in_pos, out_pos; /* what came before is not kept: done, and the client has it */
};

struct wire_in {
    uint64_t in_pos;
    struct str bytes; /* at most WIRE_BYTES_MAX, here as in HEAD and OUT */
};

struct wire_req {
    uint64_t in_start, out_start;
    bool pipelined;  /* its first byte came before the response before it was sent whole: so it does
                        not prove that the client has that */
    bool repeatable; /* may be sent to servers again whatever has become of it (RFC 9110 9.2.2) */
};

struct wire_head {
    bool whole;
    struct str bytes;
};

struct wire_out {
    struct str bytes;
};

struct wire_done {
    uint64_t in_end, out_end;
    bool close; /* the connection is to end behind this response */
};

struct wire_handover {
    struct life to;
};

struct wire_ack {
    uint64_t frames; /* of this line, HELLO included, that were read and are kept */
};

/* --- among threads ------------------------------------------------------------------------------
 */

struct wire_holding {
    uint64_t id;    /* of a holder */
    uint32_t epoch; /* with which it was chosen: lines of it that have another are stale */
};

#define LIFE_LEAVING 1u  /* be no holder of mine, and take me for none; goes with seq, as */
#define LIFE_FENCED  2u  /* has fallen silent: its flows may be given away, it gives none away */
#define LIFE_TAKEN   4u  /* the sender has given away flows of it, and not told it yet */
#define LIFE_WORD    8u  /* `word` is there */
#define LIFE_DEAD    16u /* the sender finds it dead */
#define LIFE_ALONE   32u /* hears nobody; goes with seq */
#define LIFE_PASSING 64u /* another process takes its place: be no holder of mine; with seq */

/* What a life said of another in its beat number `seq`. */
struct wire_word {
    uint64_t seq;
    uint64_t echo; /* the newest beat of the other that it knew; 0: none */
    bool taken;    /* LIFE_TAKEN */
};

/* What the sender knows of a life. */
struct wire_life {
    struct life who;
    uint64_t seq;  /* of its newest beat that anybody has told of; below WIRE_SEQ_MAX */
    uint8_t flags; /* LIFE_* */
    uint8_t n_holders;
    struct wire_holding holder[WIRE_HOLDERS_MAX]; /* of its flows; goes with seq */
    struct wire_word word; /* of that life about the receiver, as the sender heard it itself */
};

/* The first in it is the sender.  What that says about the receiver is in the receiver's own
 * entry: seq is the echo. */
struct wire_beat {
    uint64_t to_boot; /* of the life that words are about; 0: of none */
    unsigned n;       /* 1 to WIRE_LIVES_MAX */
    struct wire_life life[WIRE_LIVES_MAX];
};

struct wire_ask {
    uint32_t ask; /* number of the question, as in the answer */
    struct flow_key key;
    bool leaving; /* the asker does not want it, but to know where the packet is to go */
    bool last;    /* all others that live know nothing of it */
};

struct wire_owner {
    uint32_t ask;
    struct life owner;
};

struct wire_give {
    uint32_t ask;
    struct life owner; /* that was */
    struct str frames; /* OPEN, IN, REQ, ... of one flow: replica_read() */
};

struct wire_none {
    uint32_t ask;
};

/* To all: what they keep of it, as that owner told it, is of use no more. */
struct wire_taken {
    struct life owner; /* that was */
    struct flow_key key;
};

struct wire_resync {
    uint64_t nonce;
    struct life who; /* asks */
};

struct wire_claimed {
    uint64_t nonce; /* of the question */
    unsigned n;
    const uint8_t *keys; /* wire_claim() */
};

struct wire_resynced {
    uint64_t nonce;
    uint64_t seq; /* what beats up to this one say about the asker counts no more */
    bool all;     /* which flows were taken is not known any more: all of them */
};

struct wire_net {
    uint8_t ip[16]; /* IPv4 mapped */
    uint8_t bits;   /* of the prefix, of 128 */
};

/* An interface where clients' packets come in. */
struct wire_place {
    uint8_t mac[6];
    unsigned n_nets;
    struct wire_net net[WIRE_NETS_MAX];
};

struct wire_where {
    unsigned n;
    struct wire_place place[WIRE_PLACES_MAX];
};

/* --- any frame, but for those with tables in them -----------------------------------------------
 */

struct wire_frame {
    enum wire_kind kind;
    uint32_t flow; /* of frames OPEN to HANDOVER, and REFUSED */
    union {
        struct wire_hello hello;
        struct wire_open open;
        struct wire_in in;
        struct wire_req req;
        struct wire_head head;
        struct wire_out out;
        struct wire_done done;
        struct wire_handover handover;
        struct wire_ack ack;
        struct wire_ask ask;
        struct wire_owner owner;
        struct wire_give give;
        struct wire_none none;
        struct wire_taken taken;
        struct wire_resync resync;
        struct wire_claimed claimed;
        struct wire_resynced resynced;
        struct str table; /* BEAT, WHERE: wire_get_beat(), wire_get_where() */
    } u;
};

/* Appends it.  Our own promises are asserted: lengths, and BEAT and WHERE are not written so.  Hot:
 * some times a request. */
void wire_put(struct buf *, const struct wire_frame *);
void wire_put_beat(struct buf *, const struct wire_beat *);
void wire_put_where(struct buf *, const struct wire_where *);
/* n of at most WIRE_CLAIMS_MAX. */
void wire_put_claimed(struct buf *, uint64_t nonce, const struct flow_key *, unsigned n);

enum wire_next {
    WIRE_FRAME, /* *out is a frame of a known kind; what it points to lies in the bytes */
    WIRE_END,   /* there was nothing more */
    WIRE_BAD    /* no frames, or a frame that makes no sense: nothing behind it can be read */
};
/* The next frame whose kind is known; *n_unknown counts those passed over (also in ACK). */
enum wire_next wire_get(struct pack_in *, struct wire_frame *out, uint64_t *n_unknown);

/* False: it makes no sense; *out is undefined then. */
bool wire_get_beat(struct str table, struct wire_beat *out);
bool wire_get_where(struct str table, struct wire_where *out);
/* The i-th key, i < claimed.n. */
struct flow_key wire_claim(const struct wire_claimed *, unsigned i);

#endif
