/* SPDX-License-Identifier: BSD-2-Clause
 *
 * access_log.h - one line a request, or a connection that was passed through: JSON, common or
 * combined.
 *
 * Each worker formats into its own buffer and writes it at the end of a turn; the file is opened
 * for appending, so that whole writes of several workers do not mix.  SIGUSR1 opens it anew.
 */
#ifndef MC_PROXY_ACCESS_LOG_H
#define MC_PROXY_ACCESS_LOG_H

#include "base/buf.h"
#include "base/err.h"
#include "base/units.h"
#include "http/msg.h"

enum access_format { ACCESS_JSON, ACCESS_COMMON, ACCESS_COMBINED };

struct access_log;

/* path: a file, or "stderr"/"stdout".  Control thread. */
struct access_log *access_log_open(const char *path, enum access_format, struct errbuf *);
/* The same with the file of that path open already; fd is taken over. */
struct access_log *access_log_inherit(const char *path, enum access_format, int fd);
int access_log_fd(const struct access_log *);
void access_log_close(struct access_log **);
/* Opens the path again (after a rotation); the old file stays in use when that fails. Control
 * thread. */
enum mc_err access_log_reopen(struct access_log *, struct errbuf *);
const char *access_log_path(const struct access_log *);

/* What is known of a request at its end.  Times are durations from accept of its first byte; -1:
 * the phase was not reached. */
struct access_record {
    bool tcp; /* a connection that was passed through: nothing is known of requests */
    int64_t begun_wall_ns;
    const char *client_ip;
    uint16_t client_port;
    const char *proxy;   /* who told of the client in a PROXY header; NULL: nobody */
    struct str proxy_id; /* and which id he gave the connection */
    const char *listener, *route, *pool, *server, *reason;
    struct str class_name; /* of requests, where the pool learns what they cost */
    struct str request_id, method, target, host, referer, user_agent;
    unsigned major, minor;        /* version of the request; HTTP/2 has no minor one */
    unsigned status;              /* 0: none was sent */
    uint64_t bytes_in, bytes_out; /* body bytes from and to the client */
    unsigned retries;
    unsigned conn_requests;   /* requests on this connection so far */
    bool reused;              /* a kept connection to the server was used */
    const char *adopted_from; /* the balancer that served this connection before; NULL: none */
    const char *adopted;      /* what became of a request that it has left; NULL: it came here */
    mc_ns head_ns;            /* until the request head was whole */
    mc_ns queue_ns;           /* waited for a server */
    mc_ns connect_ns;         /* until connected (0 when reused) */
    mc_ns first_byte_ns;      /* from sending the request until the response head */
    mc_ns total_ns;
    struct str tunnel; /* the protocol that was spoken behind a 101; bytes are the tunnel's, too */
    mc_ns tunnel_ns;   /* from the 101 to the end */
    const char *tls_version, *tls_cipher; /* NULL: a plain connection */
    const char *up_tls_version;           /* with the server; NULL: plain */
    bool up_tls_resumed;
    struct str sni;
    const char *grpc_status; /* "UNAVAILABLE"; NULL: no call of gRPC, or nothing was said */
    const char *end;         /* how it ended: name of the close reason, "ok" */
};

/* Worker: appends a line to its buffer. */
void access_log_add(struct access_log *, struct buf *, const struct access_record *);
/* Worker: writes what has gathered and empties the buffer. */
void access_log_flush(struct access_log *, struct buf *);

#endif
