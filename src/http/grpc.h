/* SPDX-License-Identifier: BSD-2-Clause
 *
 * grpc.h - what gRPC puts into the fields of HTTP ("gRPC over HTTP2"): its content type, how long a
 * caller waits, and how a call ended.  Pure.
 */
#ifndef MC_HTTP_GRPC_H
#define MC_HTTP_GRPC_H

#include "base/arena.h"
#include "base/units.h"
#include "http/msg.h"

/* In the order of their numbers, from 0 ("Status codes and their use in gRPC"). */
#define GRPC_STATUSES(X)   \
    X(OK)                  \
    X(CANCELLED)           \
    X(UNKNOWN)             \
    X(INVALID_ARGUMENT)    \
    X(DEADLINE_EXCEEDED)   \
    X(NOT_FOUND)           \
    X(ALREADY_EXISTS)      \
    X(PERMISSION_DENIED)   \
    X(RESOURCE_EXHAUSTED)  \
    X(FAILED_PRECONDITION) \
    X(ABORTED)             \
    X(OUT_OF_RANGE)        \
    X(UNIMPLEMENTED)       \
    X(INTERNAL)            \
    X(UNAVAILABLE)         \
    X(DATA_LOSS)           \
    X(UNAUTHENTICATED)

enum grpc_status {
#define X(name) GRPC_##name,
    GRPC_STATUSES(X)
#undef X
        GRPC_N_STATUSES
};

const char *grpc_status_name(enum grpc_status); /* "DEADLINE_EXCEEDED" */
/* Of a grpc-status field's value.  What is no number, or none that is known here, is UNKNOWN, as it
 * is to clients. */
enum grpc_status grpc_status_read(struct str);

/* "application/grpc", alone, with "+proto" and the like, or with parameters; not grpc-web. */
bool grpc_content_type(struct str);
/* Is the request a call?  By its content type. */
bool grpc_is_call(const struct http_head *);

/* Of a grpc-timeout field's value: one to eight digits and a unit.  MC_NEVER_NS when it is longer
 * than mc_ns can say.  False: it is none, *out is untouched. */
bool grpc_timeout_read(struct str, mc_ns *out);
#define GRPC_TIMEOUT_TEXT 10
/* As a field's value, not NUL-terminated, rounded up; at least 1 ns, since nobody agrees on what 0
 * means.  Returns its length. */
unsigned grpc_timeout_write(mc_ns, char out[GRPC_TIMEOUT_TEXT]);

/* A text as grpc-message wants it: percent-encoded but for printable ASCII. */
struct str grpc_message(struct str text, struct arena *);

#endif
