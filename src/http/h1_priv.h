/* SPDX-License-Identifier: BSD-2-Clause
 *
 * h1_priv.h - what the h1_*.c files share: classes of bytes, scanners, the reader of field lines.
 *
 * One promise holds everywhere below: the bytes p[0..n) that are read end with LF.  LF is in no
 * class, so a scan stops there at the latest, and p[1] may be looked at when p[0] is CR.
 */
#ifndef MC_HTTP_H1_PRIV_H
#define MC_HTTP_H1_PRIV_H

#include "http/h1.h"

#define C_TOKEN  1u /* tchar, RFC 9110 5.6.2 */
#define C_VALUE  2u /* field-value: HTAB, SP, VCHAR, obs-text, RFC 9110 5.5 */
#define C_TARGET 4u /* request target: VCHAR without '#' */
#define C_HOST   8u /* reg-name without pct-encoded and without ',' (see h1_target.c) */
#define C_HEX    16u

extern const unsigned char h1_class[256];

static inline bool
h1_is(char c, unsigned classes)
{
    return h1_class[(unsigned char)c] & classes;
}

/* One set of scanners for one kind of vector unit.  Each *_end returns the first byte that is not
 * of the class; it always exists (see above). */
struct h1_scan {
    const char *name;
    bool (*here)(void); /* can this machine run it?  NULL: always */
    const char *(*token_end)(const char *p, const char *end);
    const char *(*target_end)(const char *p, const char *end);
    const char *(*value_end)(const char *p, const char *end);
    /* Index of the LF, from p[from] on, that ends an empty line: the one before it ends in LF or
     * CR LF.  n when there is none.  from >= 2.  p[0..n) need not end with LF here. */
    size_t (*empty_line)(const char *p, size_t from, size_t n);
};
extern const struct h1_scan *h1_scan; /* in use; never NULL */

/* Reads one field line at *at; *at goes behind its CR LF. */
enum h1_fault h1_read_field(const char **at, const char *end, struct http_field *);

/* What the framing, routing and connection fields said, gathered line by line. */
struct h1_notes {
    struct str host;
    unsigned n_host, n_options;
    bool opt_close, opt_keep_alive, opt_upgrade; /* of Connection */
    bool has_upgrade, expect_continue;
    bool has_coding, chunked, other_coding, bad_coding; /* Transfer-Encoding */
};

/* Fields that h1_note_field() wants to see. */
#define H1_WATCHED                                                                            \
    (FIELD_BIT(HOST) | FIELD_BIT(CONNECTION) | FIELD_BIT(TE) | FIELD_BIT(TRANSFER_ENCODING) | \
     FIELD_BIT(UPGRADE) | FIELD_BIT(CONTENT_LENGTH) | FIELD_BIT(EXPECT))
enum h1_fault h1_note_field(struct h1_notes *, struct http_head *, const struct http_field *);
/* After the last field: what the notes mean for this message. */
enum h1_fault h1_settle_request(struct http_head *, const struct h1_notes *);
enum h1_fault h1_settle_response(struct http_head *, const struct h1_notes *, enum http_method);

/* Sets scheme, path and, where the target has one, authority (RFC 9112 3.2). */
enum h1_fault h1_read_target(struct http_head *, struct arena *);
/* uri-host [ ":" port ], not empty. */
bool h1_authority_ok(struct str);
/* A list's members (RFC 9110 5.6.1): call until rest->p is NULL.  Commas within quotes separate
 * too: none of the lists that are read here may hold a quoted string. */
struct str h1_list_next(struct str *rest);

/* --- shared with HTTP/2 --- */
/* Is f one of `drop`, or named by a Connection field?  hot: once per field */
bool h1_left_out(const struct http_head *, field_set drop, const struct http_field *);

/* Trailer fields that may be sent on: all but those that we know, since what we know frames,
 * routes, authenticates or describes the content (RFC 9110 6.5.1), except these that report. */
#define H1_TRAILER_OK                                                      \
    (FIELD_BIT(OTHER) | FIELD_BIT(PROXY_STATUS) | FIELD_BIT(GRPC_STATUS) | \
     FIELD_BIT(ENDPOINT_LOAD_METRICS) | FIELD_BIT(ENDPOINT_LOAD_METRICS_BIN))

#endif
