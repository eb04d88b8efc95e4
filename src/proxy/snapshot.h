/* SPDX-License-Identifier: BSD-2-Clause
 *
 * snapshot.h - the immutable result of a configuration, as workers use it.
 *
 * control builds it, hands it to every worker, and frees it when each worker has said that nothing
 * of its own uses it any more.  Requests under way finish on the snapshot they began with.
 */
#ifndef MC_PROXY_SNAPSHOT_H
#define MC_PROXY_SNAPSHOT_H

#include "fleet/pool.h"
#include "http/h1.h"
#include "io/addr.h"
#include "io/tls.h"
#include "proxy/access_log.h"
#include "proxy/route.h"

/* What is spoken with clients; AUTO: HTTP/2 with those that ask for it, by ALPN or by its preface;
 * TCP: whatever it is, it is passed through. */
enum listener_protocol { LISTENER_AUTO, LISTENER_HTTP1, LISTENER_H2, LISTENER_TCP };

#define H2_FIRST_WINDOW 65535u /* of a stream, RFC 9113 6.9.2; it grows where that pays */

/* Bounds of a connection that speaks HTTP/2; rates are h2_guard.h's, 0: no limit. */
struct h2_conf {
    unsigned max_streams;       /* at once */
    uint32_t stream_window;     /* bytes of a request body that wait for its server at most */
    uint32_t connection_window; /* of all bodies together */
    unsigned resets_per_s;      /* streams that the client resets */
    unsigned faults_per_s;      /* streams that we reset for its faults */
    unsigned control_per_s;     /* control and empty frames */
};

#define H2_CONF_DEFAULT                                                                \
    {                                                                                  \
        .max_streams = 128, .stream_window = 256u << 10, .connection_window = 1 << 20, \
        .resets_per_s = 20, .faults_per_s = 10, .control_per_s = 100,                  \
    }

enum forward_style { FORWARD_X = 1, FORWARD_RFC7239 = 2 };

/* Files as configured; what became of them is the domain. */
struct tls_conf {
    bool given; /* else the listener is plain */
    char **certificates, **client_cas;
    unsigned n_certificates, n_client_cas;
    unsigned min_version;               /* 0: 1.2, 1: 1.3 */
    char *ciphers, *ciphersuites, *crl; /* NULL: OpenSSL's or none */
    enum tls_verify verify;
    bool ocsp, strict_sni;
    struct tls_domain *domain; /* a reference; NULL: plain, or the files were not looked at */
};

/* Do connections begin with a PROXY header? */
enum proxy_in {
    PROXY_IN_OFF,
    PROXY_IN_REQUIRED, /* all of them; from other networks than those of `proxy_from` none is taken
                        */
    PROXY_IN_MIXED,    /* those from these networks; from others they are clients' own */
};

/* What other balancers are told of connections, so that they can take them over. */
struct protect_conf {
    bool given; /* else nothing */
    enum { PROTECT_REQUESTS, PROTECT_RESPONSES } replicate;
    uint32_t buffer_bytes;
};

struct listener_conf {
    char *name;
    struct addr *binds;
    unsigned n_binds;
    enum listener_protocol protocol;
    unsigned unix_mode;
    unsigned max_connections;    /* of the listener, all workers; 0: no limit */
    mc_ns head_timeout_ns;       /* first byte of a request to the end of its head; default 10 s */
    mc_ns body_timeout_ns;       /* no progress of a request body; default 30 s */
    mc_ns keep_alive_timeout_ns; /* between requests, and for the first; default 60 s */
    mc_ns send_timeout_ns;       /* the client takes nothing of a response; default 30 s */
    mc_ns user_timeout_ns;       /* its host acknowledges nothing; 0: as the kernel has it */
    unsigned requests_per_conn;  /* 0: no limit */
    uint64_t body_max_bytes;     /* 0: no limit; more is 413 */
    struct h1_limits limits;
    struct h2_conf h2;
    unsigned forward;         /* enum forward_style bits; default FORWARD_X */
    bool via;                 /* add Via; default true */
    bool half_close;          /* a client may shut down its sending side and still get the answer;
                                 default false: it is taken as gone */
    struct addr_net *trusted; /* peers whose X-Forwarded-*, Forwarded and X-Request-ID count */
    unsigned n_trusted;
    char *server_header; /* Server of our own answers; NULL: none */
    enum proxy_in proxy;
    struct addr_net *proxy_from;
    unsigned n_proxy_from;
    struct tls_conf tls;
    struct protect_conf takeover;
};

struct listener {
    struct listener_conf conf;
    unsigned index;
    struct listener_live *live;  /* connections counter and sockets, shared by snapshots */
    const struct route **routes; /* with protocol = tcp: those that name it, in their order */
    unsigned n_routes;
    bool by_name; /* one of them asks for the name in the client's TLS */
};

/* Survives reloads as long as a snapshot names a listener of that name. */
struct listener_live {
    char *name;
    _Atomic uint32_t refs;
    _Atomic bool tcp; /* protocol = tcp, as far as is known */
    alignas(64) _Atomic int32_t connections;
};

/* A bound address: on its sockets arrive the connections of one listener.  Worker i of n accepts on
 * fds[i % n_fds], and on each n-th behind it. */
struct bind_fd {
    struct addr addr;
    unsigned listener; /* index */
    int *fds;          /* [n_fds]; owned by control, which keeps them over reloads */
    unsigned n_fds, n_workers;
    uint64_t id; /* same id = same sockets as in the previous snapshot */
};

struct snapshot {
    uint64_t generation;
    int64_t built_wall_ns;
    struct listener *listeners;
    unsigned n_listeners;
    struct bind_fd *binds;
    unsigned n_binds;
    struct route *routes;
    unsigned n_routes;
    struct pool **pools;
    unsigned n_pools;
    struct access_log *access_log; /* NULL: none; lives as long as the process, reopened in place */
    char *node;                    /* name for Via, Proxy-Status; default "meercat" */
    mc_ns drain_timeout_ns;        /* bound of a graceful end; default 30 s */
    uint64_t splice_bytes;         /* bodies from this size on are spliced; 0: never */
    unsigned max_connections;      /* of the process; 0: from RLIMIT_NOFILE */
    char *digest;                  /* of the configuration text, hex */
};

#endif
