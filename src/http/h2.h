/* SPDX-License-Identifier: BSD-2-Clause
 *
 * h2.h - the field lists of HTTP/2 as heads, and heads as field lists (RFC 9113 8).  Pure.
 *
 * Frames, HPACK and streams are nghttp2's, which is told to leave the messages alone: what they may
 * hold is decided here, for both directions.  Strict: what an HTTP/1.1 server or client could read
 * in another way is refused by a named fault.
 */
#ifndef MC_HTTP_H2_H
#define MC_HTTP_H2_H

#include <nghttp2/nghttp2.h>

#include "http/h1.h"

/* X(name, status, text for people, section of RFC 9113 unless it says otherwise).  The status is
 * what a client is answered with; 0: the message is malformed, which is a stream error of type
 * PROTOCOL_ERROR (8.1.1).  From a server each of them means 502. */
#define H2_FAULTS(X)                                                         \
    X(NONE, 0, "no fault", "")                                               \
    X(NAME, 0, "field name is not a token", "8.2.1")                         \
    X(NAME_CASE, 0, "capital letter in a field name", "8.2.1")               \
    X(VALUE, 0, "control character in a field value", "8.2.1")               \
    X(VALUE_SPACE, 0, "white space around a field value", "8.2.1")           \
    X(CONNECTION_FIELD, 0, "field of a connection in HTTP/2", "8.2.2")       \
    X(TE, 0, "TE says more than trailers", "8.2.2")                          \
    X(PSEUDO_UNKNOWN, 0, "unknown pseudo-header field", "8.3")               \
    X(PSEUDO_LATE, 0, "pseudo-header field behind others", "8.3")            \
    X(PSEUDO_TWICE, 0, "pseudo-header field sent twice", "8.3")              \
    X(PSEUDO_MISSING, 0, "pseudo-header field missing", "8.3.1")             \
    X(PSEUDO_TRAILER, 0, "pseudo-header field in a trailer section", "8.1")  \
    X(METHOD, 0, "method is not a token", "8.3.1")                           \
    X(SCHEME, 400, "scheme is neither http nor https", "8.3.1")              \
    X(PATH, 0, "malformed path", "8.3.1")                                    \
    X(AUTHORITY, 0, "malformed authority", "8.3.1")                          \
    X(AUTHORITY_MISSING, 400, "neither :authority nor Host", "8.3.1")        \
    X(AUTHORITY_DIFFERS, 0, ":authority and Host differ", "8.3.1")           \
    X(HOST_TWICE, 0, "more than one Host", "9112 3.2")                       \
    X(CONNECT, 0, "CONNECT with a scheme or a path", "8.5")                  \
    X(PROTOCOL, 0, ":protocol without CONNECT", "8441 4")                    \
    X(STATUS, 0, "malformed status", "8.3.2")                                \
    X(INTERIM_END, 0, "interim response with END_STREAM", "8.1")             \
    X(DATA_EARLY, 0, "DATA before the head of the response", "8.1")          \
    X(DATA_BODYLESS, 0, "DATA in a response that has no body", "9110 6.4.1") \
    X(CL_INVALID, 0, "malformed Content-Length", "8.1.1")                    \
    X(CL_DIFFER, 0, "differing Content-Length values", "8.1.1")              \
    X(CL_DATA, 0, "content-length does not agree with DATA", "8.1.1")        \
    X(NOT_LAST, 0, "trailer section without END_STREAM", "8.1")              \
    X(EXPECT_UNKNOWN, 417, "expectation not known", "9110 10.1.1")           \
    X(TARGET_LONG, 414, "request target too long", "9110 4.1")               \
    X(HEAD_TOO_LARGE, 431, "head too large", "10.5.1")                       \
    X(TOO_MANY_FIELDS, 431, "too many fields", "10.5.1")                     \
    X(TRAILER_TOO_LARGE, 431, "trailer section too large", "10.5.1")

enum h2_fault {
#define X(name, status, text, rfc) H2_##name,
    H2_FAULTS(X)
#undef X
};

const char *h2_fault_name(enum h2_fault); /* "NAME_CASE" */
const char *h2_fault_text(enum h2_fault);
unsigned h2_fault_status(enum h2_fault);

/* --- reading --------------------------------------------------------------------------------- */
enum h2_section { H2_REQUEST, H2_RESPONSE, H2_TRAILERS };

#define H2_PSEUDOS(X)                            \
    X(METHOD, ":method", 1u << H2_REQUEST)       \
    X(SCHEME, ":scheme", 1u << H2_REQUEST)       \
    X(AUTHORITY, ":authority", 1u << H2_REQUEST) \
    X(PATH, ":path", 1u << H2_REQUEST)           \
    X(PROTOCOL, ":protocol", 1u << H2_REQUEST)   \
    X(STATUS, ":status", 1u << H2_RESPONSE)

enum h2_pseudo {
#define X(name, text, in) H2_PSEUDO_##name,
    H2_PSEUDOS(X)
#undef X
        H2_PSEUDO_N
};

/* A field section that is being received, field by field as HPACK gives them. */
struct h2_fields {
    enum h2_section section;
    const struct h1_limits *limits;
    struct arena *arena;
    struct http_field *fields; /* all but pseudo-header fields; in the arena, as their text */
    unsigned n, cap;
    char *at, *end; /* room for more text */
    uint64_t bytes; /* received, as HTTP/1 would write them; goes on counting after a fault */
    struct str pseudo[H2_PSEUDO_N]; /* p NULL: not there */
    unsigned n_cookies;
    bool connect_protocol; /* :protocol may be there (RFC 8441) */
    enum h2_fault fault;   /* the first one; nothing is kept behind it */
};

void h2_fields_init(struct h2_fields *, enum h2_section, const struct h1_limits *, struct arena *);
/* Checks and keeps a copy.  hot: once per field. */
void h2_fields_add(struct h2_fields *, struct str name, struct str value);

/* The section is whole; end: END_STREAM came with it.  head->fields and all text lie in the arena.
 * After a fault the head holds what was read before it, for the log: never forward it.
 * A body whose length is not told is HTTP_BODY_CHUNKED, as in HTTP/1.1. */
enum h2_fault h2_read_request(struct http_head *, struct h2_fields *, bool end);
/* As above; a response without a body ends with its head.  request_method decides whether the
 * length that it tells is that of a body (HEAD).  101 does not exist in HTTP/2 (8.6). */
enum h2_fault h2_read_response(struct http_head *, struct h2_fields *, enum http_method, bool end);
/* Trailer fields that may be sent on (see h1_body_trailers()); of either side. */
enum h2_fault h2_read_trailers(struct h2_fields *, struct http_field **, unsigned *n);

/* The Priority field (RFC 9218 4): what is missing has its default; false: it is not to be
 * understood, and means nothing. */
struct h2_priority {
    uint8_t urgency; /* 0, first, to 7 */
    bool incremental;
};
bool h2_read_priority(struct str, struct h2_priority *);

/* --- writing --------------------------------------------------------------------------------- */
/* Field lists in the arena, for nghttp2 to copy: it makes the names' letters small.  Fields of the
 * connection, those that Connection names and `w->drop` are left out; w->connection means nothing
 * here.  *out gets the list; returns its length. */
unsigned h2_write_response(const struct http_head *, const struct h1_write *, struct arena *,
                           nghttp2_nv **out);
/* Of the version that a request came in, nothing is seen: what has no :scheme gets `scheme`.  TE:
 * trailers is kept when asked for. */
unsigned h2_write_request(const struct http_head *, const struct h1_write *, struct str scheme,
                          struct arena *, nghttp2_nv **out);
unsigned h2_write_trailers(const struct http_field *, unsigned n, struct arena *, nghttp2_nv **out);

#endif
