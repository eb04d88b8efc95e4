/* SPDX-License-Identifier: BSD-2-Clause
 *
 * worker.h - a thread that serves: its loop, listeners, connections, counters.  What control sees.
 */
#ifndef MC_PROXY_WORKER_H
#define MC_PROXY_WORKER_H

#include "base/stats.h"
#include "io/loop.h"
#include "io/proxy_header.h"
#include "io/tls.h"
#include "proxy/h2_guard.h"
#include "proxy/reason.h"
#include "proxy/snapshot.h"

#define WORKER_COUNTERS(X)                                                         \
    X(connections, "client connections accepted")                                  \
    X(connections_refused, "client connections closed at once because of a limit") \
    X(requests, "requests read whole")                                             \
    X(requests_bad, "requests refused by the parser")                              \
    X(no_route, "requests that no route matched")                                  \
    X(responses_1xx, "interim responses sent to clients")                          \
    X(responses_2xx, "responses with status 2xx sent to clients")                  \
    X(responses_3xx, "responses with status 3xx sent to clients")                  \
    X(responses_4xx, "responses with status 4xx sent to clients")                  \
    X(responses_5xx, "responses with status 5xx sent to clients")                  \
    X(own_responses, "responses made by the balancer itself")                      \
    X(retries, "attempts after the first")                                         \
    X(retries_denied, "retries that the budget did not allow")                     \
    X(queued, "requests that had to wait for a server")                            \
    X(queue_timeouts, "requests that waited for too long")                         \
    X(client_gone, "requests whose client went away")                              \
    X(tcp_connections, "client connections that are passed through")               \
    X(tcp_bad_hellos, "of these, those whose TLS ClientHello could not be read")   \
    X(http2_connections, "client connections that speak HTTP/2")                   \
    X(http2_requests, "requests over HTTP/2")                                      \
    X(http2_resets_received, "streams that clients have reset")                    \
    X(http2_resets_sent, "streams that were reset because of an error")            \
    X(http2_goaways, "connections whose clients were asked to go elsewhere")       \
    X(bytes_in, "bytes of request bodies received")                                \
    X(bytes_out, "bytes of response bodies sent")                                  \
    X(spliced_bytes, "bytes of bodies moved by splice")                            \
    X(tunnels, "connections that were switched to another protocol")               \
    X(tunnel_bytes_in, "bytes from clients through tunnels")                       \
    X(tunnel_bytes_out, "bytes to clients through tunnels")                        \
    X(accept_pauses, "times that accepting paused because descriptors ran out")    \
    X(turns_deferred, "times that a connection waited since its listener had done its part")

/* A worker's counters; read by any thread. */
struct worker_stats {
#define X(name, help) stat_u64 name;
    WORKER_COUNTERS(X)
#undef X
    stat_u64 active_connections; /* gauges */
    stat_u64 active_requests;
    stat_u64 idle_upstream;
    stat_u64 proxy_headers[2][2]; /* that were good, by version; [1]: for themselves */
    stat_u64 proxy_faults[PROXY_N_FAULTS];
    stat_u64 http2_streams;
    stat_u64 http2_abuse[H2_ABUSE_N]; /* counters: connections ended for it */
    stat_u64 active_tunnels;
    stat_u64 tunnel_ends[END_N];   /* counters, by enum end_reason */
    struct stat_hist request_time; /* first byte of a request to the end of its response */
};

struct worker;
struct takeover;
struct flow_stats;
struct link_stats;

struct worker_conf {
    unsigned index; /* 0.. */
    enum loop_engine engine;
    int cpu; /* pin to this core; -1: do not */
    /* called on the worker's thread when nothing of it uses `generation` (and older) any more */
    void (*on_released)(void *arg, unsigned worker, uint64_t generation);
    /* called on the worker's thread when it has drained after worker_drain() */
    void (*on_drained)(void *arg, unsigned worker);
    /* called on the worker's thread when worker_has_released() is true; NULL: nobody asks */
    void (*on_flows_released)(void *arg, unsigned worker);
    void *arg;
    struct takeover *takeover; /* NULL: no connection is protected */
    struct brain_pipe *pipe;   /* where attempts are told, in pools that learn; NULL: nowhere */
};

/* All on the control thread. */
struct worker *worker_new(const struct worker_conf *, struct errbuf *);
/* Starts the thread with its first snapshot; engine note logged once by worker 0. */
enum mc_err worker_start(struct worker *, struct snapshot *, struct errbuf *);
/* Adopts a new snapshot between two turns. */
void worker_adopt(struct worker *, struct snapshot *);
/* Goes on as before, but tells clients with every answer to come back by another connection. */
void worker_part(struct worker *);
/* Stops accepting (queued connections are still taken in), lets requests finish; idle connections
 * have idle_ns for one more request, whose answer says that it is the last.  At deadline_ns
 * (monotonic) the rest is cut. */
void worker_drain(struct worker *, mc_ns deadline_ns, mc_ns idle_ns);
/* Before worker_hand_over(): no other balancer knows anything of its connections from then on, or
 * does after all (flow.h). */
void worker_release(struct worker *, bool on);
bool worker_has_released(const struct worker *);
/* Stops accepting: another process has the same sockets, and accepts there.  Idle connections that
 * can go on in it are sent over `heir` (pass.h; the caller keeps it open until the worker has
 * stopped); the others may ask once more, and have until deadline_ns. */
void worker_hand_over(struct worker *, int heir, mc_ns deadline_ns);
/* Another process that waited on the same listening sockets is gone: who it was woken for, and did
 * not accept, is looked for. */
void worker_look(struct worker *);
/* A connection that the process before was served on; taken. */
struct passed;
void worker_pass(struct worker *, struct passed **);
/* Ends at once, joins the thread, frees. */
void worker_stop(struct worker **);
const struct worker_stats *worker_stats(const struct worker *);
/* NULL: connections are not protected. */
const struct flow_stats *worker_flow_stats(const struct worker *);
const struct link_stats *worker_link_stats(const struct worker *);
const struct tls_stats *worker_tls_stats(const struct worker *, bool with_servers);
const char *worker_engine(const struct worker *);
/* How long the worker has not come to the last call of this, 0: it has; then calls it anew.  So the
 * length of its turns is seen from outside, when it is called regularly. */
mc_ns worker_lag(struct worker *, mc_ns now);
/* How many client connections the process takes; any thread. */
int32_t listen_connections_max(const struct snapshot *);
/* Queued requests may go on: a server became available.  Any thread. */
void worker_wake(struct worker *);

#endif
