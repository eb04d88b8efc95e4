/* SPDX-License-Identifier: BSD-2-Clause
 *
 * pool.h - servers that can answer for each other, and how one of them is chosen.
 *
 * A struct pool is immutable and belongs to a snapshot; the servers in it are live (server.h).
 */
#ifndef MC_FLEET_POOL_H
#define MC_FLEET_POOL_H

#include "base/err.h"
#include "base/rand.h"
#include "fleet/brain.h"
#include "fleet/server.h"
#include "fleet/watch.h"
#include "io/loop.h"
#include "io/tls.h"
#include "place/policy.h"

enum pool_hash_by { POOL_HASH_ADDRESS, POOL_HASH_URI, POOL_HASH_HEADER, POOL_HASH_COOKIE };

/* What is spoken with servers.  AUTO: what the handshake of TLS agrees on.  TCP: what clients
 * speak; no requests are sent there. */
enum pool_protocol { POOL_HTTP1, POOL_H2, POOL_AUTO, POOL_TCP };

enum pool_check_kind { POOL_CHECK_NONE, POOL_CHECK_HTTP, POOL_CHECK_TCP, POOL_CHECK_GRPC };

/* How servers, or their agents, are dialled by TLS: files as configured; what became of them is the
 * client. */
struct pool_tls_conf {
    bool given; /* else they are dialled plain */
    bool verify;
    char **cas; /* none: those of the system */
    unsigned n_cas;
    char *crl, *certificate;      /* NULL: none */
    char *name;                   /* that certificates are for; NULL: each server's own */
    unsigned min_version;         /* 0: 1.2, 1: 1.3 */
    char *ciphers, *ciphersuites; /* NULL: good ones */
    struct tls_client *client;    /* a reference; NULL: plain, or the files were not looked at */
};

/* Does a connection to a server begin with a PROXY header? */
enum proxy_out {
    PROXY_OUT_OFF,
    PROXY_OUT_V1,
    PROXY_OUT_V2,
    PROXY_OUT_POOL /* as the pool has it */
};

/* What it tells beside addresses, in version 2. */
enum proxy_out_tlv {
    PROXY_OUT_AUTHORITY = 1,
    PROXY_OUT_ALPN = 2,
    PROXY_OUT_TLS = 4,
    PROXY_OUT_UNIQUE_ID = 8,
    PROXY_OUT_CHECKSUM = 16,
};

struct pool_check_conf {
    enum pool_check_kind kind;
    bool no_tls;                     /* plain, though requests are not */
    char *path;                      /* HTTP; default "/" */
    char *host;                      /* HTTP Host; default the server's address */
    char *service;                   /* gRPC; NULL: the server as a whole */
    char *method;                    /* default GET */
    uint16_t port;                   /* 0: the server's own */
    uint16_t status_min, status_max; /* expected; default 200..399 */
    enum proxy_out send_proxy;       /* the check's own header; set by fleet, not POOL */
    mc_ns interval_ns;               /* default 2 s, jittered by 10 % */
    mc_ns timeout_ns;                /* default 1 s */
    /* of the server, with TLS: a reference, and whom its certificate must name */
    struct tls_client *tls_client;
    char *tls_name;
};

struct server_conf {
    char *name;
    char *address;   /* "10.0.1.1:8080", "[::1]:80", "unix:/run/x.sock", "app.internal:8080" */
    unsigned weight; /* 0..256, default 1 */
    bool backup;
    unsigned max_concurrent; /* 0: no limit */
    uint16_t check_port;     /* 0: the pool's */
    enum health_admin state; /* as configured: ready, drain, maint */
    enum proxy_out send_proxy;
    char *agent; /* address of who reports the server's load; NULL: nobody */
    enum watch_kind agent_kind;
    /* Whom certificates must name, with TLS: as configured, else from the address. */
    char *tls_name, *agent_tls_name;
    /* Connections with one are as good as each other: dialled by the same settings, and the
     * certificate names the same.  0: plain. */
    uint64_t tls_id;
    struct tls_client *agent_tls; /* a reference; NULL: its agent is dialled plain */
};

struct pool_conf {
    char *name;
    const struct policy *policy;
    struct place_params params;
    enum pool_hash_by hash_by;
    char *hash_name; /* header or cookie */
    struct pool_check_conf check;
    struct health_conf health;
    unsigned
        panic_percent; /* fewer open servers than this share: all are used; default 0 = off...100 */
    unsigned retries;  /* attempts after the first; default 2 */
    unsigned retry_budget_percent; /* retries at most this share of requests; default 20 */
    unsigned retry_min_per_s;      /* allowed regardless of the share; default 10 */
    unsigned max_concurrent;       /* of the whole pool on this balancer; 0: no limit */
    unsigned queue_max;            /* requests that may wait, per worker; default 1024 */
    mc_ns queue_timeout_ns;        /* default 5 s */
    mc_ns connect_timeout_ns;      /* default 1 s */
    mc_ns first_byte_timeout_ns;   /* request sent to response head; default 60 s */
    mc_ns idle_timeout_ns;         /* no progress of a body; default 30 s */
    mc_ns user_timeout_ns;         /* nothing is acknowledged by TCP; 0: as the kernel has it */
    mc_ns total_timeout_ns;        /* of a request with all its attempts; 0: none */
    mc_ns grpc_timeout_max_ns;     /* of what calls of gRPC ask for themselves; 0: not looked at */
    char *upgrade;              /* protocols that clients may switch to: "websocket,foo/2", "any";
                                   NULL: none */
    mc_ns tunnel_timeout_ns;    /* nothing goes through after a switch; default 1 h */
    unsigned idle_max;          /* kept connections per worker and server; default 100 */
    mc_ns idle_conn_timeout_ns; /* kept at most this long; default 30 s */
    unsigned requests_per_conn; /* 0: no limit */
    enum pool_protocol protocol;
    unsigned streams_per_conn; /* of HTTP/2, at once; default 100 */
    mc_ns report_interval_ns;  /* how often agents report; default 100 ms */
    unsigned n_classes;        /* of requests, rules and "other" included; default 128 */
    struct class_rules rules;  /* fewer than classes */
    bool pass_load_reports;    /* clients get what responses tell of their server's load */
    enum proxy_out send_proxy; /* not POOL */
    unsigned proxy_tlvs;       /* enum proxy_out_tlv bits */

    struct pool_tls_conf tls, agent_tls; /* to servers, and to their agents */

    struct server_conf *servers;
    unsigned n_servers;
};

/* Has an agent that reports load, not one that only tells what to send (words.h). */
static inline bool
server_conf_reports(const struct server_conf *c)
{
    return c->agent && c->agent_kind != WATCH_CHECK;
}

/* Clients may switch to other protocols: by a way that only HTTP/1.1 has. */
static inline bool
pool_upgrades(const struct pool_conf *c)
{
    return c->upgrade != NULL && c->protocol == POOL_HTTP1;
}

#define FLEET_WEIGHT_MAX 256 /* of a server, configured or by the operator */

/* Live part shared by all snapshots that have a pool of this name. */
struct pool_live {
    char *name;
    _Atomic uint32_t refs;
    alignas(64) _Atomic int32_t in_flight;
    _Atomic uint64_t waiting_workers; /* bit per worker that has requests queued for the pool */
    _Atomic uint32_t queued;          /* requests waiting, all workers */
    _Atomic bool panic;               /* too few are healthy: all are used */
    _Atomic bool on_backup;           /* no primary is open: backups serve */
    _Atomic uint32_t n_open;
};

/* Frees what a conf holds and zeroes it; not the struct itself. */
void pool_conf_free(struct pool_conf *);

struct pool {
    struct pool_conf conf;
    struct pool_live *live;
    struct server **servers; /* [view.n], referenced */
    struct place_view view;
    struct brain *brain; /* of the policy resource; else NULL */
    void *policy_shared;
    unsigned index; /* in the snapshot; index into per-worker tables */
};

/* A worker's own part of a pool; made when it adopts a snapshot. */
struct pool_worker {
    const struct pool *pool;
    void *policy_state;
    struct probed *probed; /* what servers answer to the policy's probes; NULL: it does not probe */
};
void pool_worker_init(struct pool_worker *, const struct pool *, struct rng *);
void pool_worker_fini(struct pool_worker *);

struct pool_pick {
    struct server
        *server; /* its and the pool's in_flight are counted already; end with pool_end() */
    uint32_t index;
    uint32_t crowd;           /* requests in flight at the server, this one counted */
    enum place_reason reason; /* NONE or FULL when false was returned */
};
/* hot: once per attempt.  Chooses and claims a slot under the servers' and the pool's caps. */
bool pool_pick(struct pool_worker *, const struct place_ask *, struct rng *, struct pool_pick *);
/* What hash-by looks at; empty: the request has none. */
struct str pool_hash_key(const struct pool_conf *, const struct http_head *, struct str address);
/* How an attempt went that pool_pick() began, for policies that learn by themselves.  hot: once per
 * attempt */
void pool_learn(struct pool_worker *, uint32_t index, uint32_t crowd, mc_ns latency, bool ok,
                mc_ns now);
/* Ends the attempt: server and pool in_flight -= 1. */
void pool_end(const struct pool *, struct server *);

/* --- the fleet: all that lives; control thread -------------------------------------------------
 */
struct fleet;
struct dns;

/* n_workers: per-worker counters.  loop: the control thread's, for checks and DNS; NULL (tools): no
 * checks, no names, no ends of ejections.  dns may be NULL: names are then never resolved.
 * on_open (may be NULL) is called from any thread after a server became available, so that queued
 * requests can be woken. */
struct fleet *fleet_new(unsigned n_workers, struct loop *, struct dns *, void (*on_open)(void *arg),
                        void *arg);
/* Ends checks, lookups and timers.  dns_free() comes before (its callbacks point here), loop_free()
 * after (it brings the sockets of checks home).  Pools and servers may outlive the fleet, but no
 * worker may run any more. */
void fleet_free(struct fleet **);
/* Builds the pools of a new snapshot: takes what lives already, makes what does not.  Takes over
 * the contents of the confs (strings by malloc), on failure too: the array stays the caller's, its
 * elements are zeroed.  *out is one malloc'd array.  Nothing is published before fleet_adopt(),
 * which therefore comes before the workers get the pools. */
enum mc_err fleet_build(struct fleet *, struct pool_conf *, unsigned n, struct pool ***out,
                        struct errbuf *);
/* The snapshot is in force: checks, resolves and times now follow these pools (until the next). */
void fleet_adopt(struct fleet *, struct pool *const *, unsigned n);
/* Frees a pool of a snapshot that nobody uses any more; live parts stay as long as referenced.  Any
 * thread, but for a pool with a brain: that is the control thread's. */
void pool_free(struct pool **);
/* The operator's word on one server ("drain", why = "operator"); MC_ENOENT when unknown. */
enum mc_err fleet_set_admin(struct fleet *, const char *pool, const char *server, enum health_admin,
                            const char *why, struct errbuf *);
enum mc_err fleet_set_weight(struct fleet *, const char *pool, const char *server, unsigned weight,
                             struct errbuf *);
/* Takes the operator's word on a server back: its state, or its weight, is as configured. */
enum mc_err fleet_unset_admin(struct fleet *, const char *pool, const char *server, const char *why,
                              struct errbuf *);
enum mc_err fleet_unset_weight(struct fleet *, const char *pool, const char *server,
                               struct errbuf *);
/* A server in force; NULL: there is none, and err says which is missing. */
struct server *fleet_find(struct fleet *, const char *pool, const char *server, struct errbuf *);
/* All that is known of pools; for as long as the fleet. */
struct brains *fleet_brains(struct fleet *);
/* What is known of an agent that speaks in words; false: the server has none.  Control thread. */
bool pool_words_at(const struct pool *, unsigned server, struct brain_server *out);
/* A copy of a server's health for display.  Any thread. */
void server_health_copy(struct server *, struct health *out);

#endif
