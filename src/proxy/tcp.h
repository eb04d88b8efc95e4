/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tcp.h - a connection that is passed through: to a server of a pool and back, whatever its bytes
 * are.
 *
 * It stands where a transaction stands with HTTP: the client's side is struct conn (accept, TLS,
 * close), the server's side a connection of its own, never kept for another client.  One attempt of
 * the pool's policy lasts as long as it is connected.  Belongs to one worker.
 */
#ifndef MC_PROXY_TCP_H
#define MC_PROXY_TCP_H

#include "io/sni_peek.h"
#include "io/stream.h"
#include "proxy/conn.h"
#include "proxy/reason.h"
#include "proxy/txn.h"

#define TCP_STATES(X)                                 \
    X(PEEK, "reading what the client's TLS asks for") \
    X(WAIT, "waiting for a free server")              \
    X(CONNECT, "connecting to the server")            \
    X(RELAY, "relaying")                              \
    X(DONE, "done")

enum tcp_state {
#define X(name, text) TCP_##name,
    TCP_STATES(X)
#undef X
};

#define TCP_MAGIC    0x54435021u
#define TCP_UP_MAGIC 0x54435555u

/* One direction.  Bytes go through blocks while they are few, and by splice while they are many. */
struct tcp_way {
    struct stream *from, *to;
    bool ended;    /* the source has said its last, and the target was told */
    bool splicing; /* bytes pass by the kernel alone */
    uint64_t bytes;
    uint64_t spliced; /* of the present transfer, those that are in `bytes` */
    uint64_t burst;   /* bytes since burst_ns */
    mc_ns burst_ns;
    mc_ns moved_ns;      /* when bytes were last seen to move */
    uint64_t bytes_seen; /* at the last tick */
    uint64_t untaken_seen;
};

/* The connection to a server; it may outlive the attempt until its socket is closed. */
struct tcp_up {
    struct stream stream;
    uint32_t magic;
    struct worker *worker;
    struct tcp *tcp; /* NULL: nobody's any more */
    struct server *server;
    struct list link; /* worker's */
};

struct tcp {
    uint32_t magic;
    enum tcp_state state;
    struct worker *worker;
    struct conn *conn;
    struct gen *gen; /* pinned */
    const struct listener *listener;
    const struct route *route; /* NULL until routed */
    struct pool_rt *pool;      /* NULL until routed */
    struct tcp_up *up;         /* NULL between attempts */
    struct server *server;     /* claimed by pool_pick; NULL between attempts */
    enum place_reason why;

    /* what came before a server was ready */
    struct sni_peek peek;
    struct block *hold;
    bool early_end; /* and then the client has said its last */

    struct tcp_way in, out; /* from the client, from the server */

    /* attempts, as in struct txn */
    struct tries tries;
    uint32_t server_index, crowd;
    bool failed;             /* the present one, by its server's doing */
    const char *server_name; /* of the last attempt; the server lives as long as gen */
    struct brain_use use;    /* in pools that have a brain */
    struct waiter wait;

    struct timer timer;
    mc_ns deadline_ns;       /* of the state */
    mc_ns deadline_total_ns; /* MC_NEVER_NS: none */

    struct {
        mc_ns begun, routed, placed, connected, first_byte;
        int64_t begun_wall;
    } at;
    mc_ns queue_ns;
    enum end_reason end;
    uint8_t name_n;
    char name[UINT8_MAX]; /* that the client asks for in TLS; name_n 0: none */
};

/* --- made by the client's side: conn.c ----------------------------------------------------------
 */

/* The client has connected, TLS and all that comes before its own bytes is done.  May end at once,
 * and the connection with it. */
void tcp_begin(struct conn *);
/* Bytes; takes the block or leaves it. */
void tcp_client_data(struct tcp *, struct block **);
void tcp_client_end(struct tcp *);
void tcp_client_drained(struct tcp *);
void tcp_client_gone(struct tcp *, enum end_reason);

/* --- made by gen.c ------------------------------------------------------------------------------
 */

/* A snapshot has become current: connections let go of older ones where they can. */
void tcp_adopt(struct worker *);

/* --- between tcp.c and tcp_relay.c --------------------------------------------------------------
 */
const char *tcp_state_text(enum tcp_state);
/* Settles everything: the server's side, counters, the log; t is freed, the connection closed. */
void tcp_end(struct tcp *, enum end_reason);
void tcp_server_failed(struct tcp *, enum end_reason);
void tcp_set_timer(struct tcp *, mc_ns at_ns);

void tcp_relay_start(struct tcp *);
void tcp_relay_tick(struct tcp *);
void tcp_relay_data(struct tcp *, struct tcp_way *, struct block **);
void tcp_relay_end(struct tcp *, struct tcp_way *);     /* its source has said its last */
void tcp_relay_drained(struct tcp *, struct tcp_way *); /* its target has taken all */
/* Counts what goes by splice, up to now. */
void tcp_relay_settle(struct tcp *);

#endif
