/* SPDX-License-Identifier: BSD-2-Clause
 *
 * msg.h - the head of a message as a transaction sees it, whichever version carried it.  Pure.
 *
 * A head points into the bytes it was parsed from and into an arena; it owns nothing.
 */
#ifndef MC_HTTP_MSG_H
#define MC_HTTP_MSG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "http/field.h"

#define HTTP_METHODS(X)                     \
    X(GET, HTTP_SAFE | HTTP_IDEMPOTENT)     \
    X(HEAD, HTTP_SAFE | HTTP_IDEMPOTENT)    \
    X(POST, 0)                              \
    X(PUT, HTTP_IDEMPOTENT)                 \
    X(DELETE, HTTP_IDEMPOTENT)              \
    X(CONNECT, 0)                           \
    X(OPTIONS, HTTP_SAFE | HTTP_IDEMPOTENT) \
    X(TRACE, HTTP_SAFE | HTTP_IDEMPOTENT)   \
    X(PATCH, 0)

#define HTTP_SAFE       1u
#define HTTP_IDEMPOTENT 2u /* RFC 9110 9.2.2: may be repeated */

enum http_method {
    HTTP_M_OTHER,
#define X(name, props) HTTP_M_##name,
    HTTP_METHODS(X)
#undef X
};

enum http_method http_method_lookup(struct str); /* case-sensitive, RFC 9110 9.1 */
unsigned http_method_props(enum http_method);

/* How the end of the body is known. */
enum http_body {
    HTTP_BODY_NONE,
    HTTP_BODY_LENGTH, /* content_length bytes follow (may be 0) */
    HTTP_BODY_CHUNKED,
    HTTP_BODY_CLOSE, /* responses only: until the connection closes */
};

struct http_field {
    const char *name;  /* as received */
    const char *value; /* without surrounding OWS */
    uint32_t value_len;
    uint16_t name_len;
    uint16_t id; /* enum field_id */
};

struct http_head {
    bool is_response;
    uint8_t major; /* of the version that carried it: 1 or 2 */
    uint8_t minor; /* HTTP/1.minor as received: 0 or 1; 1 with HTTP/2, which can do what 1.1 can */
    /* request */
    enum http_method method;
    struct str method_text;
    struct str target;    /* as received */
    struct str scheme;    /* of absolute-form, else empty */
    struct str authority; /* of absolute-form, else the Host field's value; may be empty */
    struct str path;      /* origin-form path with query, or "*" ; what is sent on */
    /* response */
    uint16_t status;
    struct str reason;
    /* both */
    struct http_field *fields;
    uint16_t n_fields;
    enum http_body body;
    uint64_t content_length; /* valid for HTTP_BODY_LENGTH; for a response to HEAD and 304 the value
                                of the field when has_content_length */
    bool has_content_length;
    bool close;           /* the sender will close after this message (RFC 9112 9.3) */
    bool expect_continue; /* Expect: 100-continue on a 1.1 request */
    bool upgrade;         /* Upgrade with Connection: upgrade */
    bool te_trailers;     /* TE: trailers */
    bool nominates; /* Connection names fields that field.h does not know: not to be sent on */
};

/* First field with that id, NULL when absent. */
const struct http_field *http_field_find(const struct http_head *, enum field_id);
static inline struct str
http_field_value(const struct http_field *f)
{
    return f ? (struct str){f->value, f->value_len} : STR_NONE;
}
/* First value of a field by name (case-insensitive); for names that field.h does not list. */
struct str http_field_get(const struct http_head *, struct str name);
/* Value of a cookie in the request's Cookie fields (RFC 6265 4.2); empty when absent. */
struct str http_cookie_get(const struct http_head *, struct str name);
/* Path without query, and the query without '?'. */
struct str http_path_only(struct str path);
struct str http_query(struct str path);
/* Host without port and without a trailing dot; brackets of IPv6 stay. */
struct str http_host_only(struct str authority);
/* Standard reason phrase (RFC 9110 15) or "". */
const char *http_reason(unsigned status);
/* Responses that never have a body: 1xx, 204, 304, any to HEAD, 2xx to CONNECT (RFC 9112 6.3). */
bool http_response_bodyless(unsigned status, enum http_method request_method);

#endif
