/* SPDX-License-Identifier: BSD-2-Clause
 *
 * reason.h - every way in which a request can end: status, standard error word, text for people.
 */
#ifndef MC_PROXY_REASON_H
#define MC_PROXY_REASON_H

#include "http/grpc.h"

/* X(name, status that the client gets when no response head is out, grpc-status that it gets when
 * it speaks gRPC, error type of RFC 9209 2.3 (empty: none is sent), text).  Status 0: the
 * connection is just closed.
 *
 * The grpc-status is what clients would make of the HTTP status ("HTTP to gRPC Status Code
 * Mapping"), but for what they should know better.  UNAVAILABLE invites them to try again: it
 * stands where nothing has been done, or nobody knows.  DEADLINE_EXCEEDED: a server was at it.
 * RESOURCE_EXHAUSTED keeps them from trying again at once. */
#define END_REASONS(X)                                                                             \
    X(OK, 0, OK, "", "complete")                                                                   \
    X(BAD_REQUEST, 400, INTERNAL, "http_request_error", "malformed request")                       \
    X(NO_ROUTE, 404, UNIMPLEMENTED, "destination_not_found", "no route for this host and path")    \
    X(RATE_LIMITED, 429, RESOURCE_EXHAUSTED, "http_request_denied", "too many requests")           \
    X(BODY_TOO_LARGE, 413, RESOURCE_EXHAUSTED, "http_request_denied", "request body too large")    \
    X(UPGRADE, 501, UNIMPLEMENTED, "http_upgrade_failed",                                          \
      "upgrade to this protocol is not allowed")                                                   \
    X(BAD_UPGRADE, 502, INTERNAL, "http_upgrade_failed", "bad answer to an upgrade")               \
    X(METHOD, 501, UNIMPLEMENTED, "http_request_denied", "method is not supported")                \
    X(MAX_FORWARDS, 0, OK, "", "answered here: Max-Forwards is 0")                                 \
    X(HEAD_TIMEOUT, 408, DEADLINE_EXCEEDED, "http_request_error",                                  \
      "request head did not arrive in time")                                                       \
    X(BODY_TIMEOUT, 408, DEADLINE_EXCEEDED, "http_request_error",                                  \
      "request body made no progress in time")                                                     \
    X(CLIENT_GONE, 0, CANCELLED, "", "client went away")                                           \
    X(SEND_TIMEOUT, 0, CANCELLED, "", "client took nothing of the response in time")               \
    X(NO_SERVER, 503, UNAVAILABLE, "destination_unavailable", "no server is available")            \
    X(QUEUE_FULL, 503, UNAVAILABLE, "connection_limit_reached", "too many requests are waiting")   \
    X(QUEUE_TIMEOUT, 503, UNAVAILABLE, "connection_limit_reached",                                 \
      "waited too long for a free server")                                                         \
    X(NO_FDS, 503, UNAVAILABLE, "connection_limit_reached", "no descriptor left for a connection") \
    X(NO_ADDRESS, 503, UNAVAILABLE, "dns_error", "the server's name has no known address")         \
    X(REFUSED, 502, UNAVAILABLE, "connection_refused", "server refused the connection")            \
    X(UNREACHABLE, 502, UNAVAILABLE, "destination_ip_unroutable", "server cannot be reached")      \
    X(CONNECT_TIMEOUT, 504, UNAVAILABLE, "connection_timeout", "server did not accept in time")    \
    X(TLS_CERTIFICATE, 502, UNAVAILABLE, "tls_certificate_error",                                  \
      "the server's certificate was not accepted")                                                 \
    X(TLS_ALERT, 502, UNAVAILABLE, "tls_alert_received", "the server refused TLS")                 \
    X(TLS_PROTOCOL, 502, UNAVAILABLE, "tls_protocol_error", "TLS with the server failed")          \
    X(SERVER_CLOSED, 502, UNAVAILABLE, "connection_terminated", "server closed before answering")  \
    X(SERVER_RESET, 502, UNAVAILABLE, "connection_terminated", "connection to the server broke")   \
    X(SERVER_SILENT, 504, UNAVAILABLE, "connection_write_timeout",                                 \
      "the server's host acknowledged nothing in time")                                            \
    X(UNPROCESSED, 502, UNAVAILABLE, "connection_terminated", "server gave the request back")      \
    X(WRONG_PROTOCOL, 502, UNAVAILABLE, "http_protocol_error", "server does not speak HTTP/2")     \
    X(BAD_RESPONSE, 502, INTERNAL, "http_protocol_error", "malformed response from the server")    \
    X(RESPONSE_HEAD_LARGE, 502, INTERNAL, "http_response_header_section_size",                     \
      "response head too large")                                                                   \
    X(RESPONSE_INCOMPLETE, 502, UNAVAILABLE, "http_response_incomplete", "response broke off")     \
    X(FIRST_BYTE_TIMEOUT, 504, DEADLINE_EXCEEDED, "http_response_timeout",                         \
      "server did not answer in time")                                                             \
    X(SERVER_READ_TIMEOUT, 504, DEADLINE_EXCEEDED, "connection_read_timeout",                      \
      "response made no progress in time")                                                         \
    X(SERVER_WRITE_TIMEOUT, 504, DEADLINE_EXCEEDED, "connection_write_timeout",                    \
      "server took no request bytes in time")                                                      \
    X(TOTAL_TIMEOUT, 504, DEADLINE_EXCEEDED, "http_response_timeout",                              \
      "request took longer than allowed")                                                          \
    X(GRPC_TIMEOUT, 504, DEADLINE_EXCEEDED, "http_response_timeout",                               \
      "the time that grpc-timeout gives is over")                                                  \
    X(TUNNEL_TIMEOUT, 0, UNAVAILABLE, "", "nothing went through the tunnel in time")               \
    X(BAD_HELLO, 0, INTERNAL, "", "malformed TLS ClientHello")                                     \
    X(TAKEOVER_SENT, 502, UNAVAILABLE, "connection_terminated",                                    \
      "the balancer that had sent the request was lost, and it may not be sent again")             \
    X(TAKEOVER_BROKEN, 0, UNAVAILABLE, "", "response could not be carried on")                     \
    X(TAKEOVER_CLAIMED, 0, UNAVAILABLE, "", "another balancer goes on with the connection")        \
    X(DRAINED, 503, UNAVAILABLE, "proxy_internal_response", "the balancer is shutting down")       \
    X(INTERNAL, 500, INTERNAL, "proxy_internal_error", "the balancer failed")

enum end_reason {
#define X(name, status, grpc, error, text) END_##name,
    END_REASONS(X)
#undef X
        END_N
};

const char *end_reason_name(enum end_reason); /* "connect-timeout" */
const char *end_reason_text(enum end_reason);
const char *end_reason_error(enum end_reason);
unsigned end_reason_status(enum end_reason);
enum grpc_status end_reason_grpc(enum end_reason);

#endif
