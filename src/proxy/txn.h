/* SPDX-License-Identifier: BSD-2-Clause
 *
 * txn.h - a transaction: one request from its head to the end of its response, whatever carries it.
 *
 * A state machine in a table (TXN_STATES): the edges CONNECT -> PLACE and RELAY -> PLACE are the
 * retry.  Belongs to one worker; its memory is a slab entry and an arena, dropped together.
 */
#ifndef MC_PROXY_TXN_H
#define MC_PROXY_TXN_H

#include "base/arena.h"
#include "base/rand.h"
#include "fleet/pool.h"
#include "http/grpc.h"
#include "http/h1.h"
#include "io/stream.h"
#include "io/timer.h"
#include "proxy/exchange.h"
#include "proxy/reason.h"
#include "proxy/snapshot.h"
#include "proxy/worker_priv.h"

#define TO(s) (1u << TXN_##s)
#define TXN_STATES(X)                                                                \
    X(READ_HEAD, "reading the request head", TO(ROUTE) | TO(REPLY) | TO(DONE))       \
    X(ROUTE, "choosing a pool", TO(PLACE) | TO(REPLY) | TO(DONE))                    \
    X(PLACE, "choosing a server", TO(CONNECT) | TO(WAIT) | TO(REPLY) | TO(DONE))     \
    X(WAIT, "waiting for a free server", TO(PLACE) | TO(REPLY) | TO(DONE))           \
    X(CONNECT, "connecting to the server",                                           \
      TO(TELL) | TO(RELAY) | TO(PLACE) | TO(REPLY) | TO(DONE))                       \
    X(TELL, "telling other balancers", TO(RELAY) | TO(PLACE) | TO(REPLY) | TO(DONE)) \
    X(RELAY, "relaying", TO(PLACE) | TO(TUNNEL) | TO(REPLY) | TO(DONE))              \
    X(TUNNEL, "tunnelling another protocol", TO(DONE))                               \
    X(REPLY, "answering for itself", TO(DONE))                                       \
    X(DONE, "done", 0)

enum txn_state {
#define X(name, text, next) TXN_##name,
    TXN_STATES(X)
#undef X
};

#define TXN_MAGIC  0x54584e21u
#define RELAY_HIGH 65536u /* stop reading from one side when the other has this much unsent */

struct worker;
struct gen;
struct pool_rt;
struct conn;
struct tunnel;

/* Moments since the request's first byte; 0: not reached. */
struct txn_times {
    mc_ns begun, head, placed, connected, sent, first_byte;
    int64_t begun_wall;
};

struct txn {
    uint32_t magic;
    enum txn_state state;
    mc_ns entered_ns;
    struct worker *worker;
    struct gen *gen; /* pinned snapshot */
    const struct listener *listener;
    const struct route *route; /* NULL until routed */
    struct pool_rt *pool;      /* NULL until routed */

    /* the two sides */
    const struct down_ops *down;
    const struct up_ops *up; /* NULL while no server side is leased */
    void *down_side;         /* struct conn with HTTP/1 */
    void *up_side;           /* struct upconn with HTTP/1, struct h2_stream with HTTP/2 */
    struct server *server;   /* claimed by pool_pick; NULL between attempts */
    enum place_reason why;

    /* the request */
    struct http_head req;
    struct h1_body req_body;     /* decoder, used by an HTTP/1 client side */
    struct str peer_ip;          /* who is connected */
    struct str client_ip;        /* who asks, as trusted peers tell; else the peer */
    const struct tls_facts *tls; /* of the client's connection; NULL: it is plain */
    const struct conn *conn;     /* that brought it */
    uint16_t client_port, local_port;
    bool peer_trusted;
    bool grpc;      /* it is a call */
    bool grpc_said; /* how that ended is known, and this: */
    enum grpc_status grpc_status;
    struct str request_id;
    const struct http_field *req_trailers;
    unsigned n_req_trailers;
    struct block *hold; /* body bytes that came before a server was ready */
    uint32_t hold_bytes;

    bool req_done;      /* the client has sent all of it */
    bool req_ended;     /* and the server's side was told */
    bool req_body_used; /* some body bytes were given to a server: cannot be sent again */
    bool head_sent;     /* the request head was given to the present server's side */
    bool heard;         /* something of an answer came from the present server's side */
    bool resp_begun;    /* a final response head went to the client */
    bool resp_done;     /* the response is whole */
    bool fresh_only;    /* the next attempt must not use a kept connection */
    bool reused;        /* the present attempt uses one */
    bool splicing_down, splicing_up;
    uint8_t interims;
    uint8_t unprocessed; /* attempts that servers gave back untouched */

    /* another protocol (tunnel.h) */
    struct tunnel *tunnel; /* the server has switched; in the arena */
    bool must_switch;      /* asked by CONNECT: a 2xx of the server would look like a switch */
    struct str accept;     /* what its 101 must say as Sec-WebSocket-Accept; empty: anything */
    struct str upgrade;    /* offered to servers; in a tunnel, what is spoken; else empty */

    /* attempts */
    struct tries tries;
    uint32_t server_index;
    uint32_t crowd; /* requests in flight there when the attempt began, itself counted */
    enum place_event_kind attempt_end; /* what the present one teaches, should it end now */
    bool client_slow;                  /* its time is the client's, too */
    struct brain_use use;              /* in pools that have a brain */
    const char *up_tls_version; /* to the server of the present attempt; NULL: plain, or not yet */
    bool up_tls_resumed;
    struct str class_name; /* there, when it goes into the log */

    /* waiting in a pool's queue */
    struct waiter wait;

    /* time limits */
    struct timer timer;
    mc_ns deadline_total_ns; /* MC_NEVER_NS: none */
    mc_ns deadline_grpc_ns;  /* of a call, as its client has it */
    mc_ns phase_deadline_ns; /* of WAIT, CONNECT and the first byte */
    mc_ns in_progress_ns;    /* last time that request bytes moved on */
    mc_ns out_progress_ns;   /* last time that response bytes moved on */
    uint64_t spliced_seen;   /* when relay_tick() last looked, as these: */
    uint64_t in_untaken_seen, out_untaken_seen;

    /* the answer */
    enum end_reason end;
    uint16_t status;
    uint64_t bytes_in, bytes_out;
    unsigned conn_requests;
    struct txn_times at;
    mc_ns queue_ns;     /* from the head until a server was chosen first */
    const char *detail; /* of a fault, for the answer's Proxy-Status */
    mc_ns wait_ns;      /* after which the client may try again */

    struct arena arena;
};

/* --- made by the client's side ------------------------------------------------------------------
 */
struct txn *txn_new(struct worker *, struct gen *, const struct listener *, const struct down_ops *,
                    void *down_side);
/* t->req is parsed, client_* are set: goes on as far as it can. */
void txn_begin(struct txn *);
/* The head or the body's framing could not be understood: answers with this status and ends. */
void txn_refuse(struct txn *, unsigned status, const char *detail);
/* The same, but the side itself tells the client. */
void txn_drop(struct txn *, const char *detail);
/* Ends with an answer of our own (or breaks the response when its head is out). */
void txn_fail(struct txn *, enum end_reason);
/* Body bytes; takes the block or leaves it. */
void txn_request_data(struct txn *, struct block **);
/* Trailers live as long as the transaction. */
void txn_request_end(struct txn *, const struct http_field *trailers, unsigned n);
void txn_down_drained(struct txn *);
/* What down_ops.tell() began has been heard. */
void txn_told(struct txn *);
/* The client cannot be answered any more. */
void txn_down_gone(struct txn *, enum end_reason);

/* --- told by the server's side ------------------------------------------------------------------
 */
void txn_up_ready(struct txn *);                   /* connected */
void txn_up_failed(struct txn *, enum end_reason); /* before or after the response head */
/* The server says that it has done nothing with the request, so that any may be sent again.  body:
 * all that was given of it, in blocks, which are taken; lost: that is not here any more.
 * elsewhere: rather not on this server. */
void txn_up_unprocessed(struct txn *, struct block **body, bool lost, bool elsewhere);
void txn_interim(struct txn *, const struct http_head *); /* 1xx */
/* A final response head.  The side goes on with txn_response_data() at once. */
void txn_response_head(struct txn *, const struct http_head *);
void txn_response_data(struct txn *, struct block **);
void txn_response_end(struct txn *, const struct http_field *trailers, unsigned n);
void txn_up_drained(struct txn *);

/* For the log: what was agreed on with the server, where TLS stands between. */
static inline void
txn_up_tls(struct txn *t, const struct stream *s)
{
    const struct tls_facts *f = stream_facts(s);

    t->up_tls_version = f != NULL ? f->version : NULL;
    t->up_tls_resumed = f != NULL && f->resumed;
}

/* --- within the room ----------------------------------------------------------------------------
 */
const char *txn_state_text(enum txn_state);
void txn_enter(struct txn *, enum txn_state);
/* Everything is settled: logs, counts, frees. */
void txn_finish(struct txn *);
/* What a failed attempt says of its server. */
enum server_outcome txn_outcome(enum end_reason);
/* Arms the timer for what the state waits for. */
void txn_arm(struct txn *);

/* relay.c */
void relay_start(struct txn *); /* a server's side is ready: send the request */
void relay_tick(struct txn *);  /* the timer fired while relaying */
/* Sets the timer for a wait that ends at end_ns. */
void relay_watch(struct txn *, mc_ns end_ns);
void relay_drop_hold(struct txn *);

/* reply.c: sends an answer of the balancer's own for t->end. */
void reply_send(struct txn *);

/* weigh.c: in pools whose policy learns; the end for all with pool_learns() */
void weigh_request(struct txn *);
void weigh_begin(struct txn *);
void weigh_end(struct txn *);

static inline bool
pool_learns(const struct pool *p)
{
    return p->brain != NULL || p->conf.policy->on_end != NULL || p->conf.policy->on_probe != NULL;
}

/* account.c: counters, access log */
void account_request(struct txn *);
void account_request_id(struct txn *);
void account_done(struct txn *);
struct access_record;
/* A line for what ran under this generation, which has an access log. */
void account_log(struct worker *, const struct gen *, const struct access_record *);

#endif
