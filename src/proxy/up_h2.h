/* SPDX-License-Identifier: BSD-2-Clause
 *
 * up_h2.h - HTTP/2 towards servers (RFC 9113): many requests of a worker on few connections.
 *
 * A struct upconn with `h2` is shared: transactions have streams on it instead of leasing it.
 * The worker's thread.
 */
#ifndef MC_PROXY_UP_H2_H
#define MC_PROXY_UP_H2_H

#include "proxy/exchange.h"
#include "proxy/reason.h"

struct block;
struct upconn;
struct worker;

struct h2_ups; /* of a worker */
void h2_ups_init(struct worker *);
/* Ends what is still being dialled; connections with streams end with these. */
void h2_ups_stop(struct worker *);
void h2_ups_fini(struct worker *); /* all are closed */

enum h2_joined {
    H2_JOINED, /* t has a stream and may send */
    H2_WAITS,  /* for a connection that is being made; txn_up_ready() or a failure follows */
    H2_ALONE,  /* this server speaks HTTP/1.1, as far as is known: t dials for itself */
    H2_FAILED, /* *why: not even a connection could be begun */
};
/* A stream for t on a connection to t->server. */
enum h2_joined up_h2_join(struct txn *, enum end_reason *why);

/* --- for upconn.c ------------------------------------------------------------------------------
 */
/* Is it, or must it be? */
bool up_h2_is_h2(const struct upconn *);
/* A connection dialled for all, or (u->txn) for one that turns out to speak HTTP/2, is there. */
void up_h2_connected(struct upconn *);
/* It could not be made. */
void up_h2_unconnected(struct upconn *, enum end_reason);
void up_h2_recv(struct upconn *, struct block **);
void up_h2_drained(struct upconn *);
/* The server's side of it has ended, or all of it is broken. */
void up_h2_broken(struct upconn *, enum end_reason);
/* It is idle and not wanted any longer. */
void up_h2_evicted(struct upconn *);
/* upconn_close(): the socket is closing. */
void up_h2_closing(struct upconn *);
/* on_closed */
void up_h2_free(struct upconn *);

#endif
