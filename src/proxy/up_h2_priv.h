/* SPDX-License-Identifier: BSD-2-Clause
 *
 * up_h2_priv.h - what up_h2.c (sessions and streams) and up_h2_conns.c (which connection) share.
 */
#ifndef MC_PROXY_UP_H2_PRIV_H
#define MC_PROXY_UP_H2_PRIV_H

#include <nghttp2/nghttp2.h>

#include "http/h2.h"
#include "proxy/txn.h"
#include "proxy/up_h2.h"
#include "proxy/upconn.h"
#include "proxy/worker_priv.h"

/* All connections of a worker to one server. */
struct h2_peer {
    struct h2_peer *next;  /* of those with the same id */
    struct server *server; /* not referenced: its connections do that.  Without any, what is known
                              here is a guess about whoever has the address of that struct */
    struct list roomy;     /* struct h2_up that take a stream, busy ones first */
    struct list waiting;   /* struct h2_stream without a connection, oldest first */
    unsigned n_waiting;
    unsigned n_dialled; /* connections that are to serve them: dialled or greeting */
    unsigned n_conns;   /* all of them */
    uint32_t peer_max;  /* MAX_CONCURRENT_STREAMS as last heard; 0: never */
    bool speaks_h1;     /* "auto" found nothing better */
    struct h2_ups *ups;
    struct task task; /* serves those who wait */
};

struct h2_ups {
    struct worker *worker;
    struct h2_peer **by_id;
    uint32_t n_by_id;
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    struct slab streams;
};

/* A transaction hears of room when less than this is left of what it gave. */
#define H2_OUT_LOW 16384u

/* How far a connection is. */
enum h2_phase {
    H2_DIALLED,  /* its peer's waiting streams are to have it */
    H2_GREETING, /* connected; how many streams the server takes is not known yet */
    H2_OPEN,
    H2_DRAINING, /* takes no more streams, and ends with the last */
    H2_ENDING,   /* our last bytes go out */
    H2_DEAD,     /* closing */
};

struct h2_up {
    struct upconn *u;
    struct h2_peer *peer;
    enum h2_phase phase;
    bool idle;        /* in the worker's pool of idle connections */
    bool finished;    /* our last bytes are queued */
    bool must;        /* it speaks HTTP/2 or is of no use */
    struct list link; /* peer's roomy */
    nghttp2_session *session;
    struct block **in; /* what is being read; NULL: nothing */
    struct list streams;
    unsigned n_streams;
    struct list drained; /* struct h2_stream that have room again */
    struct task flush;
    struct timer timer; /* bounds dialling, greeting and ending */
    const char *fault;  /* what the server did wrong; NULL: nothing */
    unsigned chaff;     /* frames that serve nobody, in the second since: */
    mc_ns chaff_since_ns;
    /* of the pool that it was dialled for */
    unsigned streams_max, requests_max, idle_max;
    mc_ns idle_ns;
};

#define H2_STREAM_MAGIC 0x48325354u

struct h2_stream {
    uint32_t magic;
    int32_t id; /* 0: not sent yet */
    struct txn *txn;
    struct h2_peer *peer;
    struct h2_up *h;  /* NULL: waits for a connection */
    struct list link; /* peer's waiting, connection's streams */
    bool waits;       /* in the former */
    struct list drained_link;
    /* the request */
    struct block *out, *out_last; /* body, oldest first */
    uint32_t out_bytes;
    uint64_t given_bytes; /* of the body, by the transaction */
    struct block *kept;   /* a copy of all that was given, while it is short and may be refused */
    const struct http_field *trailers;
    unsigned n_trailers;
    bool ended;    /* nothing is added to it */
    bool end_sent; /* the codec has taken all */
    bool deferred; /* the codec has found nothing to send */
    bool full;     /* the transaction wants to be told of room */
    /* the response */
    struct h2_fields fields;
    uint64_t body_bytes, length;
    uint32_t owed; /* bytes for which the server gets no window yet */
    bool has_length, bodyless;
    bool paused; /* the client takes nothing at present */
    bool headed; /* the final head has come */
    bool reset_by_peer;
    bool closed;         /* the codec has forgotten it */
    uint32_t reset_code; /* NGHTTP2_NO_ERROR: CANCEL */
};

/* up_h2.c */
void h2_session_setup(struct h2_ups *);
void h2_session_forget(struct h2_ups *);
/* NULL: its transaction has left it. */
struct h2_stream *h2_stream_by_id(struct h2_up *, int32_t id);
/* The connection is there: says hello. */
void h2_session_open(struct h2_up *);
void h2_flush_soon(struct h2_up *);

/* up_h2_stream.c */
struct h2_stream *h2_stream_new(struct h2_peer *, struct txn *); /* t->up is up_h2 from now on */
void h2_stream_attach(struct h2_stream *, struct h2_up *);
/* The server has done nothing with it: the transaction goes on, elsewhere if it can. */
void h2_stream_unprocessed(struct h2_stream *, bool elsewhere);
/* As long as the client takes, the server gets window for what came. */
void h2_stream_give_window(struct h2_stream *);

/* up_h2_conns.c */
/* How many it takes is known, or will not be. */
void h2_greeted(struct h2_up *);
void h2_stream_unwait(struct h2_stream *);
/* A stream is gone: others may come, or the connection is idle (keep), or it ends. */
void h2_stream_left(struct h2_up *, bool keep);
/* It takes no more streams. */
void h2_drain(struct h2_up *);
/* Out of its peer's lists and of the idle ones. */
void h2_unlist(struct h2_up *);
/* Says goodbye, then closes; it has no streams. */
void h2_end(struct h2_up *);

#endif
