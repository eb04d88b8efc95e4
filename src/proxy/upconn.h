/* SPDX-License-Identifier: BSD-2-Clause
 *
 * upconn.h - a connection to a server.
 *
 * With HTTP/1 leased by one transaction at a time; between two of them it lies in the worker's idle
 * pool.  With HTTP/2 shared by many, see up_h2.h.
 */
#ifndef MC_PROXY_UPCONN_H
#define MC_PROXY_UPCONN_H

#include "fleet/idle.h"
#include "io/stream.h"
#include "proxy/exchange.h"
#include "proxy/reason.h"
#include "proxy/worker_priv.h"

#define UPCONN_STATES(X)                   \
    X(CONNECTING, "connecting")            \
    X(IDLE, "kept for reuse")              \
    X(HEAD, "waiting for a response head") \
    X(BODY, "reading a response body")     \
    X(WHOLE, "response is whole")          \
    X(TUNNEL, "tunnelling")                \
    X(H2, "shared by streams")             \
    X(CLOSED, "closed")

enum upconn_state {
#define X(name, text) UPCONN_##name,
    UPCONN_STATES(X)
#undef X
};

#define UPCONN_MAGIC 0x5550434eu

struct upconn {
    struct stream stream;
    uint32_t magic;
    uint8_t state;
    bool keep : 1;        /* the server lets the connection be used again */
    bool told : 1;        /* a PROXY header made it one client's */
    bool req_chunked : 1; /* the request body is framed in chunks */
    uint32_t requests;
    struct worker *worker;
    struct txn *txn;       /* the lease; NULL while idle, closing, or with HTTP/2 */
    struct h2_up *h2;      /* NULL: HTTP/1, as far as is known */
    struct server *server; /* referenced */
    struct block *in;      /* a partial response head */
    uint32_t scanned;
    struct h1_body body;
    struct idle_conn idle;
    uint64_t tls_id;  /* by which settings it was dialled; 0: plain */
    struct list link; /* worker's */
};

/* Why a server was not reached, from the errno of connecting. */
enum end_reason upconn_connect_reason(int err);
/* What TLS has to say of a failure counts for more than what else is known; then *detail is set,
 * for as long as the stream is open. */
enum end_reason upconn_reason(const struct stream *, enum end_reason otherwise,
                              const char **detail);
/* A kept connection to t->server is leased to t; false when there is none. */
bool upconn_reuse(struct txn *);
/* Dials t->server; txn_up_ready() or txn_up_failed() follows, never from inside.  END_OK, or why
 * not even that was possible. */
enum end_reason upconn_dial(struct txn *);
/* The time for dialling is over: says in t->detail what it was waiting for. */
void upconn_tell_wait(struct txn *);

/* How a server of the pool is dialled: plain or with TLS. */
struct tls_target upconn_target(struct worker *, const struct pool *, uint32_t server);
/* The tls_id that connections to t->server must have now to be good for t. */
uint64_t upconn_tls_id(const struct txn *);

/* --- for up_h2 ---------------------------------------------------------------------------------
 */
/* Dials t->server without a lease; on_connect tells the end.  NULL: *why it is not possible. */
struct upconn *upconn_make(struct txn *, enum end_reason *why);
/* HTTP/1 for t. */
void upconn_lease(struct upconn *, struct txn *);
void upconn_close(struct upconn *, bool reset);

#endif
