/* SPDX-License-Identifier: BSD-2-Clause
 *
 * down_h2_priv.h - what the down_h2*.c files share.
 *
 * down_h2.c has the connection: its life, its time limits, and the one place that lets nghttp2
 * write.  down_h2_in.c is called by nghttp2 for what it reads, down_h2_out.c by transactions for
 * what they send.
 */
#ifndef MC_PROXY_DOWN_H2_PRIV_H
#define MC_PROXY_DOWN_H2_PRIV_H

#include "http/h2.h"
#include "proxy/conn.h"
#include "proxy/down_h2.h"
#include "proxy/h2_guard.h"
#include "proxy/txn.h"

#define H2_DOWN_MAGIC         0x48324457u
#define H2_STREAM_MAGIC       0x48325354u

#define H2_TINY               64 /* bytes of window, or of content, that are not worth a frame; a guess */

/* Control frames that go with work, whoever sends how much of it: libraries of gRPC tell of their
 * windows, and ask for the way's delay, with every message. */
#define H2_EARNED_BY_REQUEST  4
#define H2_EARNED_BY_RECEIVED 1
#define H2_EARNED_BY_SENT     2

enum h2_leaving { H2_STAYS, H2_NOTICED, H2_LEAVES };

struct h2_down {
    uint32_t magic;
    uint8_t leaving; /* enum h2_leaving */
    bool greeted;    /* the client's SETTINGS have come */
    bool connects;   /* the client was told that it may ask for :protocol (RFC 8441) */
    bool dead;       /* nothing is sent or answered any more */
    uint8_t abuse;   /* enum h2_abuse, H2_ABUSE_N: none */
    struct conn *conn;
    nghttp2_session *session;
    struct list streams; /* struct h2_stream */
    struct list todo;    /* those whose transaction can be given more of the request */
    unsigned n_streams, n_choked;
    struct task task;      /* does what is to do, and sends */
    mc_ns head_since_ns;   /* a head is being received; 0: none */
    mc_ns quiet_since_ns;  /* without streams */
    mc_ns moved_ns;        /* the client took something, or nothing was there to take */
    mc_ns leave_ns;        /* when it is told the last stream at the latest */
    mc_ns look_ns;         /* when time limits are looked at next; 0: nothing is under way */
    uint64_t untaken_seen; /* when that was last looked at */
    struct h2_meter resets, faults, control;
};

/* Bytes in the order in which they came. */
struct h2_queue {
    struct block *first, *last;
    uint32_t bytes;
};

struct h2_stream {
    uint32_t magic;
    int32_t id;
    struct list link, todo;
    struct h2_down *h2;
    struct txn *txn;          /* NULL: it is over, the stream has still to send */
    struct h2_fields *fields; /* a section that is being received; in the transaction's arena */
    /* the request */
    struct h2_queue in;         /* the transaction does not want it yet */
    uint32_t uncredited;        /* bytes that the client's windows have not got back */
    uint32_t window, delivered; /* the window's size; bytes since it was last set */
    uint64_t left;              /* of a declared length */
    bool has_length;
    bool want; /* the transaction takes bytes */
    bool in_end;
    struct http_field *in_trailers; /* in the transaction's arena */
    unsigned n_in_trailers;
    /* the response */
    struct h2_queue out;
    bool tunnel;            /* switched to another protocol: DATA is what it says, both ways */
    bool begun;             /* the final head was given to nghttp2 */
    bool ended;             /* the transaction has given all of it */
    bool deferred;          /* nghttp2 waits for more */
    bool choked;            /* the transaction waits for room */
    bool reset;             /* RST_STREAM is on its way */
    bool closed;            /* nghttp2 knows it no more */
    struct block *trailers; /* nghttp2_nv[n_trailers] and their text; NULL: none */
    unsigned n_trailers;
    mc_ns moved_ns; /* last time that bytes of the response went */
};

static inline struct worker *
h2_worker(const struct h2_down *h)
{
    return h->conn->worker;
}

/* --- down_h2.c --- */
/* Something is to be sent, in this turn. */
void h2_touch(struct h2_down *);
void h2_abuse(struct h2_down *, enum h2_abuse);
void h2_queue_add(struct block_pool *, struct h2_queue *, const void *, size_t n);
void h2_queue_drop(struct block_pool *, struct h2_queue *);

/* --- down_h2_in.c --- */
void h2_in_callbacks(nghttp2_session_callbacks *);
/* Gives the transactions what they want. */
void h2_in_deliver(struct h2_down *);
void h2_in_want(struct h2_stream *, bool on);
/* The windows get back what the stream held. */
void h2_in_credit(struct h2_stream *);
void h2_stream_free(struct h2_stream *);

/* --- down_h2_out.c --- */
extern const struct down_ops down_h2;
void h2_out_callbacks(nghttp2_session_callbacks *);
void h2_out_reset(struct h2_stream *, uint32_t code);
/* Those that waited for room may have it now. */
void h2_out_unchoke(struct h2_down *);

#endif
