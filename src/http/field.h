/* SPDX-License-Identifier: BSD-2-Clause
 *
 * field.h - the field names that the code asks for by number.
 */
#ifndef MC_HTTP_FIELD_H
#define MC_HTTP_FIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(id, name, hop_by_hop): hop-by-hop fields are never forwarded (RFC 9110 7.6.1). */
#define HTTP_FIELDS(X)                                       \
    X(HOST, "host", false)                                   \
    X(CONNECTION, "connection", true)                        \
    X(KEEP_ALIVE, "keep-alive", true)                        \
    X(PROXY_CONNECTION, "proxy-connection", true)            \
    X(TE, "te", true)                                        \
    X(TRANSFER_ENCODING, "transfer-encoding", true)          \
    X(UPGRADE, "upgrade", true)                              \
    X(HTTP2_SETTINGS, "http2-settings", true)                \
    X(PROXY_AUTHENTICATE, "proxy-authenticate", false)       \
    X(PROXY_AUTHORIZATION, "proxy-authorization", false)     \
    X(TRAILER, "trailer", false)                             \
    X(CONTENT_LENGTH, "content-length", false)               \
    X(CONTENT_TYPE, "content-type", false)                   \
    X(CONTENT_ENCODING, "content-encoding", false)           \
    X(CONTENT_RANGE, "content-range", false)                 \
    X(CACHE_CONTROL, "cache-control", false)                 \
    X(EXPECT, "expect", false)                               \
    X(VIA, "via", false)                                     \
    X(FORWARDED, "forwarded", false)                         \
    X(X_FORWARDED_FOR, "x-forwarded-for", false)             \
    X(X_FORWARDED_PROTO, "x-forwarded-proto", false)         \
    X(X_FORWARDED_HOST, "x-forwarded-host", false)           \
    X(X_FORWARDED_PORT, "x-forwarded-port", false)           \
    X(X_REQUEST_ID, "x-request-id", false)                   \
    X(CLIENT_CERT, "client-cert", false)                     \
    X(CLIENT_CERT_CHAIN, "client-cert-chain", false)         \
    X(COOKIE, "cookie", false)                               \
    X(SET_COOKIE, "set-cookie", false)                       \
    X(DATE, "date", false)                                   \
    X(SERVER, "server", false)                               \
    X(LOCATION, "location", false)                           \
    X(RETRY_AFTER, "retry-after", false)                     \
    X(USER_AGENT, "user-agent", false)                       \
    X(REFERER, "referer", false)                             \
    X(AUTHORIZATION, "authorization", false)                 \
    X(MAX_FORWARDS, "max-forwards", false)                   \
    X(PROXY_STATUS, "proxy-status", false)                   \
    X(PRIORITY, "priority", false)                           \
    X(GRPC_TIMEOUT, "grpc-timeout", false)                   \
    X(GRPC_STATUS, "grpc-status", false)                     \
    X(ENDPOINT_LOAD_METRICS, "endpoint-load-metrics", false) \
    X(ENDPOINT_LOAD_METRICS_BIN, "endpoint-load-metrics-bin", false)

enum field_id {
    FIELD_OTHER,
#define X(id, name, hop) FIELD_##id,
    HTTP_FIELDS(X)
#undef X
        FIELD_N
};

_Static_assert(FIELD_N <= 64, "sets of fields are 64-bit masks");

/* A set of fields, for "leave these out". */
typedef uint64_t field_set;
#define FIELD_BIT(id) ((field_set)1 << FIELD_##id)

/* Case-insensitive; FIELD_OTHER when it is none of ours.  Hot: once per field. */
enum field_id field_lookup(const char *name, size_t n);
const char *field_name(enum field_id);
field_set field_hop_by_hop(void);

#endif
