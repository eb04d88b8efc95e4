/* SPDX-License-Identifier: BSD-2-Clause
 *
 * h1.h - HTTP/1.0 and 1.1 on the wire: parse heads, decode bodies, write both (RFC 9112).  Pure.
 *
 * Strict: whatever two implementations could read differently is refused by a named fault.
 * Two phases: h1_head_end() finds the end of a head, h1_parse_*() reads a head known to be whole.
 */
#ifndef MC_HTTP_H1_H
#define MC_HTTP_H1_H

#include "base/arena.h"
#include "http/msg.h"

/* X(name, status to answer a client with, text for people, section of RFC 9112 unless it says
 * 9110). From a server each of them means 502. */
#define H1_FAULTS(X)                                                                \
    X(NONE, 0, "no fault", "")                                                      \
    X(BARE_LF, 400, "line feed without carriage return", "2.2")                     \
    X(BARE_CR, 400, "carriage return without line feed", "2.2")                     \
    X(NUL, 400, "NUL byte in the head", "9110 5.5")                                 \
    X(CONTROL, 400, "control character in the head", "9110 5.5")                    \
    X(LEADING_SPACE, 400, "white space before the first field", "2.2")              \
    X(REQUEST_LINE, 400, "malformed request line", "3")                             \
    X(METHOD, 400, "method is not a token", "3.1")                                  \
    X(TARGET, 400, "malformed request target", "3.2")                               \
    X(TARGET_LONG, 414, "request target too long", "3")                             \
    X(VERSION, 400, "malformed HTTP version", "2.3")                                \
    X(VERSION_UNSUPPORTED, 505, "HTTP version not supported", "9110 15.6.6")        \
    X(STATUS_LINE, 400, "malformed status line", "4")                               \
    X(FIELD_NAME, 400, "field name is not a token", "5.1")                          \
    X(SPACE_BEFORE_COLON, 400, "white space between field name and colon", "5.1")   \
    X(NO_COLON, 400, "field line without colon", "5")                               \
    X(OBS_FOLD, 400, "folded field line", "5.2")                                    \
    X(HEAD_TOO_LARGE, 431, "head too large", "3")                                   \
    X(TOO_MANY_FIELDS, 431, "too many fields", "5")                                 \
    X(HOST_MISSING, 400, "Host missing", "3.2")                                     \
    X(HOST_TWICE, 400, "more than one Host", "3.2")                                 \
    X(HOST_INVALID, 400, "malformed Host", "3.2")                                   \
    X(CL_INVALID, 400, "malformed Content-Length", "6.3")                           \
    X(CL_DIFFER, 400, "differing Content-Length values", "6.3")                     \
    X(CL_AND_TE, 400, "both Content-Length and Transfer-Encoding", "6.3")           \
    X(TE_HTTP10, 400, "Transfer-Encoding in HTTP/1.0", "6.1")                       \
    X(TE_NOT_CHUNKED, 400, "Transfer-Encoding is not chunked once and last", "6.3") \
    X(TE_UNKNOWN, 501, "transfer coding not implemented", "6.1")                    \
    X(EXPECT_UNKNOWN, 417, "expectation not known", "9110 10.1.1")                  \
    X(CHUNK_SIZE, 400, "malformed chunk size", "7.1")                               \
    X(CHUNK_SIZE_LARGE, 400, "chunk size too large", "7.1")                         \
    X(CHUNK_EXT, 400, "malformed or too long chunk extension", "7.1.1")             \
    X(CHUNK_END, 400, "chunk data not followed by CRLF", "7.1")                     \
    X(TRAILER, 400, "malformed trailer section", "7.1.2")                           \
    X(TRAILER_TOO_LARGE, 431, "trailer section too large", "7.1.2")

enum h1_fault {
#define X(name, status, text, rfc) H1_##name,
    H1_FAULTS(X)
#undef X
};

const char *h1_fault_name(enum h1_fault); /* "CL_AND_TE" */
const char *h1_fault_text(enum h1_fault);
unsigned h1_fault_status(enum h1_fault);

struct h1_limits {
    uint32_t head_bytes;    /* default 16 KiB */
    uint32_t target_bytes;  /* default 8 KiB */
    uint16_t fields;        /* default 100 */
    uint32_t trailer_bytes; /* default 4 KiB */
};
extern const struct h1_limits h1_default_limits;

/* Phase 1.  Looks for the empty line that ends a head in p[0..n).  *scanned is where to go on when
 * more has come (start with 0).  True: *head_len is its length including the empty line.  Up to
 * a few CRLF before a request line may be present and are part of the head (RFC 9112 2.2).  Lines
 * that end in a bare LF are found as ends too, so that phase 2 can refuse them at once. */
bool h1_head_end(const char *p, size_t n, size_t *scanned, size_t *head_len);

/* Phase 2.  head->fields and what is computed lie in the arena; names and values point into p.
 * After a fault the head holds what was read before it, for the log: never forward it. */
enum h1_fault h1_parse_request(struct http_head *, const char *p, size_t head_len,
                               const struct h1_limits *, struct arena *);
/* request_method decides whether a body follows (HEAD). */
enum h1_fault h1_parse_response(struct http_head *, const char *p, size_t head_len,
                                enum http_method request_method, const struct h1_limits *,
                                struct arena *);
/* token of RFC 9110 5.6.2: not empty. */
bool h1_is_token(struct str);
/* Which vector units are used: "avx2", "sse2", "scalar".  force: NULL = the best here; tests run
 * all. */
const char *h1_vector_use(const char *force);

/* --- bodies ---------------------------------------------------------------------------------- */
enum h1_body_state { H1_BODY_MORE, H1_BODY_DONE, H1_BODY_FAULT };

struct h1_body {
    enum http_body kind;
    uint8_t phase;    /* of the chunked decoder */
    uint8_t n_digits; /* of the present chunk size */
    enum h1_fault fault;
    uint64_t left;        /* of the body (LENGTH) or of the present chunk */
    uint64_t total_bytes; /* payload decoded so far */
    uint32_t ext_bytes;
    uint32_t trailer_limit_bytes;
    uint32_t trailer_len, trailer_cap;
    char *trailer; /* raw trailer section, in the arena; NULL when there is none */
    struct arena *arena;
};

/* arena: where a trailer section is gathered. */
void h1_body_init(struct h1_body *, enum http_body, uint64_t content_length,
                  const struct h1_limits *, struct arena *);
/* Decodes p[0..n) in place: payload is moved together to p[0..*payload).  *used is how much of the
 * input belonged to this body; what follows it is the next message.  HTTP_BODY_CLOSE never is DONE
 * here: the end of the connection is its end. */
enum h1_body_state h1_body_decode(struct h1_body *, char *p, size_t n, size_t *used,
                                  size_t *payload);
/* The connection ended: true when that is a proper end of this body. */
bool h1_body_eof_ok(const struct h1_body *);
/* Fields of the trailer section after DONE; 0 when there is none.  Framing and routing fields
 * (RFC 9110 6.5.1) are left out. */
unsigned h1_body_trailers(const struct h1_body *, struct http_field **, struct arena *);

/* --- writing --------------------------------------------------------------------------------- */
struct h1_write {
    /* Not copied, beside hop-by-hop and framing fields and those that Connection names (RFC 9110
     * 7.6.1).  Fields that field.h lists as end-to-end cannot be named away by Connection. */
    field_set drop;
    const struct http_field *add; /* appended after the copied ones */
    unsigned n_add;
    enum http_body body; /* framing to announce: NONE writes none, LENGTH Content-Length, CHUNKED
                            Transfer-Encoding, CLOSE none */
    uint64_t content_length;
    bool keep_content_length; /* HEAD and 304: pass the received Content-Length on as it is */
    const char *connection;   /* "close", "keep-alive" or NULL for no Connection field */
    uint8_t minor;            /* responses: version to write is always HTTP/1.1 (RFC 9110 2.5) */
};

/* Upper bound of what h1_write_* will need. */
size_t h1_write_bound(const struct http_head *, const struct h1_write *);
/* Writes the start line and fields; returns the length.  CONNECT keeps its authority-form; a
 * response whose reason is NULL gets the standard one.  dst must have h1_write_bound() bytes.
 * Requests are written in origin-form with `Host: authority`; TE: trailers is kept when asked for.
 */
size_t h1_write_request(char *dst, const struct http_head *, const struct h1_write *);
size_t h1_write_response(char *dst, const struct http_head *, const struct h1_write *);
/* "1a2b\r\n" right before `end_of_header`; returns its length (at most 18). */
size_t h1_chunk_header(char *end_of_header, uint64_t size);
/* "0\r\n" + trailers + "\r\n" into dst; returns the length; h1_last_chunk_bound() bytes suffice. */
size_t h1_last_chunk_bound(const struct http_field *, unsigned n);
size_t h1_last_chunk(char *dst, const struct http_field *, unsigned n);

#endif
