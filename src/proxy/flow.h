/* SPDX-License-Identifier: BSD-2-Clause
 *
 * flow.h - a client connection that other balancers could take over (takeover/takeover.h): the side
 * of its owner.
 *
 * What a client sends is told to the holders as it comes, and acknowledged to the client when they
 * have it.  No byte of a response leaves before they know the request, and no request that may not
 * be repeated before they know that it does.  What is told, and in which order: takeover/wire.h.
 *
 * A flow lives as long as its connection.  It is **bare** while it cannot be carried on by another:
 * a tunnel, HTTP/2, more unanswered bytes than are kept.  It is protected anew when its client has
 * every answer and asks again.
 *
 * Connections without one pay a test when a request begins.  The worker's thread.
 */
#ifndef MC_PROXY_FLOW_H
#define MC_PROXY_FLOW_H

#include "base/stats.h"
#include "proxy/exchange.h"
#include "proxy/worker.h"

struct access_record;
struct conn;
struct flow;
struct flows;
struct takeover;

/* X(name, text): counters of a worker. */
#define FLOW_COUNTERS(X)                                                                         \
    X(protected, "connections that others could take over")                                      \
    X(unprotected, "connections that were to be protected and could not")                        \
    X(bared, "times that a connection was protected no more")                                    \
    X(unkept, "of these, those that no other balancer had room for")                             \
    X(half_kept, "times that one of two other balancers had no room for a connection")           \
    X(adopted, "connections that went on here")                                                  \
    X(replayed, "requests that were read again here")                                            \
    X(refused, "requests of these that may have been answered already, and may not be repeated") \
    X(said, "responses that were completed from what was replicated")                            \
    X(broken, "connections that were reset because the response was another one")                \
    X(skipped_bytes, "bytes of responses that the client had already")                           \
    X(acks_waited, "times that something had to wait for another balancer")                      \
    X(muted, "requests that were kept back, since others might have taken them over")            \
    X(handed_over, "connections given to another balancer")                                      \
    X(claimed, "connections that another balancer had taken over")

struct flow_stats {
#define X(name, text) stat_u64 name;
    FLOW_COUNTERS(X)
#undef X
    stat_u64 active, bare; /* gauges */
};

/* --- a worker's flows ----------------------------------------------------------------------------
 */

/* NULL: they cannot be protected, and why. */
struct flows *flows_new(struct worker *, struct takeover *, struct errbuf *);
/* No connection is left; more turns of the loop follow until flows_are_gone(). */
void flows_close(struct flows *);
bool flows_are_gone(const struct flows *);
void flows_free(struct flows **); /* NULL'ed */
/* Another process of this host is to serve them, and takes them one by one (pass.h): holders forget
 * all, and connections are as any others from now on; when they have heard it,
 * worker_has_released(). Not on: it is not after all, and they are protected anew as their clients
 * ask again. */
void flows_release(struct flows *, bool on);
/* The worker ends: connections without a request are handed over now, others after it. */
void flows_hand_over(struct flows *);
/* Its time is over: all that are protected are handed over as they are, as if this process died. */
void flows_hand_over_rest(struct flows *);
const struct flow_stats *flows_stats(const struct flows *);
const struct link_stats *flows_link_stats(const struct flows *);

/* --- hooks of the connection ---------------------------------------------------------------------
 */

/* Protects a connection on which nothing was sent here, and of which n_read bytes were read that
 * on_recv() is going to bring; c->flow stays NULL where that cannot be. */
void flow_open(struct conn *, int fd, size_t n_read);
/* In place of the connection's own, when it has a flow. */
extern const struct sock_ops flow_sock_ops;
extern const struct down_ops down_flow;
/* In place of txn_begin(). */
void flow_begin(struct conn *, struct txn *);
/* The connection is about to send FIN or RST, and means it. */
void flow_closing(struct flow *);
/* The same, when all that is queued has gone; true: it should linger until the client has it, or
 * nobody will take it over meanwhile. */
bool flow_finishing(struct flow *);
/* The socket is being closed; reset: at once. */
void flow_closed(struct flow *, bool reset);
/* The connection has gone. */
void flow_free(struct flow **);
/* Instead of ending for a drain: will a peer take it?  At the latest when its client has every
 * answer. */
bool flow_may_leave(const struct flow *);
/* Whom it came from, and what becomes of its present request therefore; good as long as the flow
 * and that request. */
void flow_put_log(const struct flow *, struct access_record *);
/* Nobody but us knows of it: it may go to another process. */
bool flow_is_released(const struct flow *);

#endif
