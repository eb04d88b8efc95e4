/* SPDX-License-Identifier: BSD-2-Clause
 *
 * httpd.h - a small HTTP/1.1 server for what a balancer tells about itself.  One loop, one thread.
 *
 * It answers from memory, at once: a handler gets a whole request and leaves a whole response.
 * Heads, bodies, connections and idle time are bounded; it is not the way of clients' requests.
 */
#ifndef MC_HTTPD_HTTPD_H
#define MC_HTTPD_HTTPD_H

#include "base/buf.h"
#include "base/err.h"
#include "http/msg.h"
#include "io/addr.h"
#include "io/loop.h"
#include "io/tls.h"

struct httpd_request {
    const struct http_head *head;
    struct str path;  /* without query */
    struct str query; /* without '?' */
    struct str rest;  /* of the path, behind the prefix of the route */
    struct str body;
    bool by_unix; /* came in by a unix socket */
    struct httpd_stream *conn;
};

struct httpd_stream;

/* Zero but for status 200 when a handler is called. */
struct httpd_response {
    unsigned status;
    const char *type;            /* NULL: application/json */
    struct buf body;             /* taken over */
    struct httpd_stream *stream; /* set by httpd_stream_begin() */
};

typedef void httpd_f(void *arg, const struct httpd_request *, struct httpd_response *);

/* path: all of it, or a prefix when it ends in '/'.  Handlers of GET answer HEAD too. */
struct httpd_route {
    enum http_method method;
    const char *path;
    httpd_f *fn;
};

struct httpd_conf {
    const struct httpd_route *routes;
    unsigned n_routes;
    void *arg; /* of the handlers, and of admit */
    /* Who may connect; NULL: everybody.  The others are closed without a word. */
    bool (*admit)(void *arg, const struct addr *peer);
    unsigned max_connections; /* of each address; 0: 64 */
    mc_ns idle_timeout_ns;    /* without progress; 0: 60 s */
};

#define HTTPD_HEAD_MAX (16 * 1024)
#define HTTPD_BODY_MAX (64 * 1024)

struct httpd;

struct httpd *httpd_new(struct loop *, const struct httpd_conf *);
enum mc_err httpd_listen(struct httpd *, const struct addr *, unsigned unix_mode, struct errbuf *);
/* From now on, or not: another process may accept on the same sockets. */
void httpd_accept(struct httpd *, bool on);
/* The same on a socket that listens already, taken over. */
void httpd_inherit(struct httpd *, int fd, bool is_unix);
/* The i-th socket that it listens on, from 0; -1: there are no more. */
int httpd_fd(const struct httpd *, unsigned i);
/* Who connects by TCP from now on speaks TLS, with a reference of the httpd's own; NULL: not. */
void httpd_set_tls(struct httpd *, struct tls_domain *);
/* Closes everything; the loop brings it home. */
void httpd_free(struct httpd **);

/* --- answers without an end ---------------------------------------------------------------------
 */

/* The connection is gone, for whatever reason but httpd_stream_end(): the stream is, too. */
typedef void httpd_stream_f(void *arg);

/* Within a handler: the response's body is only the first piece, others follow until either side
 * ends it.  NULL for a HEAD, which has no body: answer it as usual. */
struct httpd_stream *httpd_stream_begin(const struct httpd_request *, struct httpd_response *,
                                        httpd_stream_f *gone, void *arg);
/* One more piece, n > 0; not within the handler. */
void httpd_stream_write(struct httpd_stream *, const void *, size_t n);
/* Bytes that the peer's kernel has not taken: what a slow reader makes grow. */
size_t httpd_stream_unsent(const struct httpd_stream *);
/* The last piece was written. */
void httpd_stream_end(struct httpd_stream **);

/* {"error": "..."} with a status. */
void httpd_fail(struct httpd_response *, unsigned status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
