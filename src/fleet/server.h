/* SPDX-License-Identifier: BSD-2-Clause
 *
 * server.h - one server of a pool as it lives: address, state, load, counters.
 *
 * A live server is an identity (pool name + server name + address text): it survives reloads that
 * keep these, together with its in-flight count, health and counters.  Snapshots hold references.
 */
#ifndef MC_FLEET_SERVER_H
#define MC_FLEET_SERVER_H

#include <pthread.h>

#include "base/stats.h"
#include "base/units.h"
#include "fleet/health.h"
#include "http/grpc.h"
#include "io/addr.h"
#include "place/policy.h"

/* What a worker counts at a server; one array per worker, written by that worker only. */
#define SERVER_COUNTERS(X)                                            \
    X(requests, "requests sent to the server, attempts included")     \
    X(responses_1xx, "interim responses")                             \
    X(responses_2xx, "responses with status 2xx")                     \
    X(responses_3xx, "responses with status 3xx")                     \
    X(responses_4xx, "responses with status 4xx")                     \
    X(responses_5xx, "responses with status 5xx")                     \
    X(connects, "connections opened")                                 \
    X(connect_errors, "connections that could not be opened")         \
    X(reuses, "requests sent on a kept connection")                   \
    X(response_errors, "responses that were malformed or broke off")  \
    X(unprocessed, "requests that the server gave back untouched")    \
    X(timeouts, "attempts ended by a time limit")                     \
    X(retries, "attempts here that were followed by another attempt") \
    X(bytes_in, "bytes of response bodies and tunnels received")      \
    X(bytes_out, "bytes of request bodies and tunnels sent")          \
    X(idle_conns, "connections kept idle (gauge)")                    \
    X(open_conns, "connections open (gauge)")

struct server_counters {
#define X(name, help) stat_u64 name;
    SERVER_COUNTERS(X)
#undef X
    struct stat_hist response_time; /* request sent to response head */
    stat_u64 grpc[GRPC_N_STATUSES]; /* calls of gRPC, by how the server said that they went */
} __attribute__((aligned(64)));

/* Addresses behind the server's name; replaced as a whole when DNS says something new. */
struct server_addrs {
    uint32_t generation; /* kept connections of an older one are not reused */
    unsigned n;
    struct addr addr[];
};

#define SERVER_MAGIC 0x53525652u

struct server {
    struct place_load load; /* first: aligned to a cache line */
    uint32_t magic;
    uint32_t id; /* small and dense among live servers; index into per-worker tables */
    char *pool_name, *name, *address_text;
    uint64_t name_hash;
    _Atomic(struct server_addrs *) addrs; /* NULL while a name was never resolved; read it by
                                             server_address() on any thread but control's */
    _Atomic uint32_t addr_generation;     /* of addrs; 0: none */
    _Atomic uint32_t addr_readers;        /* threads that are copying out of addrs now */
    struct server_counters *counters;     /* [n_workers] */
    struct health health;                 /* under lock */
    pthread_mutex_t lock;                 /* state changes only, never on the way of a request */
    _Atomic uint32_t refs;
    _Atomic uint32_t fails;       /* consecutive passive failures */
    _Atomic uint32_t eject_limit; /* so many set it aside; 1 on probation, 0: never */
    void *owner;                  /* fleet's bookkeeping */
};

/* How an attempt ended, for passive health.
 *   OK             a response came, status below 500
 *   ERROR_STATUS   5xx that the pool counts as failure (500, 502-504)
 *   CONNECT_ERROR  refused, unreachable, timed out while connecting
 *   TLS_FAILED     its certificate was not accepted, or it refused, or speaks no TLS
 *   BROKEN         reset, malformed, closed before the end
 *   TIMEOUT        first byte or progress missing */
#define SERVER_OUTCOMES(X)                     \
    X(OK, "success")                           \
    X(ERROR_STATUS, "error status")            \
    X(REFUSED, "connection refused")           \
    X(CONNECT_TIMEOUT, "connecting timed out") \
    X(CONNECT_ERROR, "cannot be reached")      \
    X(TLS_FAILED, "TLS failed")                \
    X(BROKEN, "connection or response broken") \
    X(TIMEOUT, "timed out")

enum server_outcome {
#define X(name, text) SERVER_##name,
    SERVER_OUTCOMES(X)
#undef X
};
const char *server_outcome_text(enum server_outcome);

/* Ends an attempt that pool_pick() began: in_flight -= 1.  Any worker. */
void server_end(struct server *);
/* Passive health; may set the server aside at once, but never the last open one of its pool: a
 * server that fails is then still the best there is.  Any worker.  hot when SERVER_OK. */
void server_note(struct server *, enum server_outcome, mc_ns now);
/* The address to dial: rotates through the answer of a name.  False: none is known yet.
 * *generation identifies the answer.  Any worker (lock-free; answers are freed after a grace time).
 */
bool server_address(struct server *, uint32_t turn, struct addr *out, uint32_t *generation);
uint32_t server_addr_generation(const struct server *);

struct server *server_ref(struct server *);
void server_unref(struct server **); /* any thread; the last one frees */

#endif
