/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conn.h - a client connection that speaks HTTP/1, or is passed through.
 *
 * Idle it is this struct and nothing else: no buffer, no transaction.  It lives from accept to
 * on_closed on one worker.
 */
#ifndef MC_PROXY_CONN_H
#define MC_PROXY_CONN_H

#include "io/stream.h"
#include "proxy/exchange.h"
#include "proxy/snapshot.h"
#include "proxy/told.h"
#include "proxy/worker_priv.h"

#define CONN_STATES(X)                                  \
    X(PROXY, "reading a PROXY header")                  \
    X(HANDSHAKE, "agreeing on TLS")                     \
    X(FIRST, "waiting for the first bytes")             \
    X(IDLE, "waiting for a request")                    \
    X(HEAD, "reading a request head")                   \
    X(BODY, "reading a request body")                   \
    X(WAIT, "waiting for the response to end")          \
    X(TCP, "passing bytes through")                     \
    X(H2, "speaking HTTP/2")                            \
    X(TUNNEL, "tunnelling another protocol")            \
    X(DISCARD, "discarding the rest of a request body") \
    X(FLUSH, "sending the last bytes")                  \
    X(LINGER, "waiting for the client to close")        \
    X(CLOSED, "closed")

enum conn_state {
#define X(name, text) CONN_##name,
    CONN_STATES(X)
#undef X
};

#define CONN_MAGIC 0x434f4e4eu

struct conn {
    struct stream stream;
    uint32_t magic;
    uint8_t state;
    bool close_after : 1; /* no further request on this connection */
    bool eof : 1;         /* the client has shut down its sending side */
    bool parsing : 1;     /* conn_run is on the stack */
    bool resp_chunked : 1;
    uint32_t requests;
    uint32_t discard_left; /* bytes of a request body nobody wants */
    struct worker *worker;
    struct listener_live *live;
    const struct listener *listener; /* of generation `listener_gen` */
    uint64_t listener_gen;
    struct txn *txn;
    const struct down_ops *down; /* of its requests of HTTP/1: down_h1, or down_flow */
    struct flow *flow;           /* others could take it over; NULL: not */
    struct h2_down *h2;          /* with HTTP/2: its streams have the transactions */
    struct tcp *tcp; /* on a listener with protocol = tcp: there is no txn, nor anything of HTTP */
    struct told *told; /* what a PROXY header told or is to tell; NULL: the peer is the client */
    struct block *in;  /* bytes not yet understood: a partial head, or pipelined requests */
    uint32_t scanned;  /* of `in`, by h1_head_end */
    uint16_t local_port;
    uint16_t peer_family;
    union {
        struct in_addr in;
        struct in6_addr in6;
    } peer_ip; /* of the client, as far as is known without reading HTTP */
    uint16_t peer_port;
    struct timer timer;
    mc_ns deadline_ns;     /* what the timer is for; it may fire early and is then set again */
    mc_ns begun_ns;        /* first byte of the request that is being read */
    uint64_t untaken_seen; /* of the last bytes, when their time limit was last looked at */
    struct list link;      /* worker's connections */
};

_Static_assert(sizeof(struct conn) <= 384, "idle connections must stay small");

/* --- between conn.c and what is spoken on it ---------------------------------------------------
 */
/* A transaction for the request that begins at begun_ns, with all that is known before its head is
 * read. */
struct txn *conn_open_txn(struct conn *, const struct down_ops *, void *down_side);
/* Sets the deadline; the timer itself only moves when it would fire too late. */
void conn_set_deadline(struct conn *, mc_ns at_ns);
/* Closes after everything queued has been sent.  linger: the client may still be sending. */
void conn_finish(struct conn *, bool linger);

/* --- between conn.c, conn_begin.c and conn_read.c ------------------------------------------------
 */
extern const struct sock_ops conn_ops;

/* How the connection begins: with a header, a handshake or a request, or not at all. */
void conn_begin(struct conn *, int fd, struct tls_domain *);
/* Nothing was asked yet on this connection.  Where nothing has to be, it is passed through from
 * here on, and may be closed when this returns. */
void conn_await_first(struct conn *);
/* Bytes of a PROXY header. */
void conn_read_header(struct conn *, const struct block *);
/* There is no good one: the connection ends. */
void conn_header_failed(struct conn *, enum proxy_fault) __attribute__((cold));

/* Appends bytes to c->in, moving to a larger block when it has to. */
void conn_gather(struct conn *, const char *, size_t n);
/* A transaction of HTTP/1: one at a time. */
struct txn *conn_open_h1(struct conn *);
/* Bytes in CONN_FIRST; in CONN_IDLE and CONN_HEAD; in CONN_BODY; in CONN_DISCARD and CONN_LINGER.
 */
void conn_read_first(struct conn *, struct block *);
void conn_read_head(struct conn *, struct block *);
void conn_feed_body(struct conn *, struct block **);
void conn_discard(struct conn *, struct block *);
/* The request's body was not read to its end: reads on when little is left; else false. */
bool conn_begin_discard(struct conn *, const struct txn *);
/* A client that asks without reading has to wait: its answers would gather here. */
bool conn_takes_answers(const struct conn *);
/* Answers as much of c->in as can be answered now. */
void conn_run(struct conn *);
/* From here on it is HTTP/2. */
void conn_begin_h2(struct conn *);
/* How long it may wait for a request. */
mc_ns conn_idle_span(const struct conn *);
/* Back to waiting for a request; pipelined ones are taken at once. */
void conn_next(struct conn *);

/* --- between conn.c and down_h1.c ---------------------------------------------------------------
 */
extern const struct down_ops down_h1;

/* Takes the listener as the current snapshot has it; false when it is there no more. */
bool conn_refresh_listener(struct conn *);
void conn_close(struct conn *, bool reset);
/* t has ended: the connection goes on with its next request, or ends. */
void conn_txn_done(struct conn *, const struct txn *t);

/* --- who it is (conn_peer.c) ---------------------------------------------------------------------
 */
void conn_learn_peer(struct conn *, int fd);
/* Without port. */
struct addr conn_peer_addr(const struct conn *);
/* The address that the client connected to; len 0: not known. */
void conn_local_addr(const struct conn *, struct addr *);
/* Is its peer in the listener's proxy-protocol-from? */
bool conn_is_from_proxy(const struct conn *);
/* Of the client's connection, with us or with a proxy that told of it; NULL: it is plain. */
const struct tls_facts *conn_tls(const struct conn *);
/* In TLS, or as a proxy told; empty: none. */
struct str conn_name_asked_for(const struct conn *);
/* The PROXY header is there: from here on the client is who it says. */
void conn_believe(struct conn *);
/* Tells t who its client is, as far as is known before the head of its request is read. */
void conn_introduce(const struct conn *, struct txn *);
/* And with the head: who asks, as trusted peers tell. */
void conn_find_client(const struct conn *, struct txn *);
/* Of the client, as far as is known without reading HTTP. */
struct str conn_client_ip(const struct conn *, char text[ADDR_TEXT]);

/* --- between conn.c and tcp.c --------------------------------------------------------------------
 */
/* c->tcp has ended.  in_order: what is queued for the client is sent first, and the end may look
 * like one; else the connection is cut. */
void conn_tcp_done(struct conn *, bool in_order);

#endif
