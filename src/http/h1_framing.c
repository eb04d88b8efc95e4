/* SPDX-License-Identifier: BSD-2-Clause
 *
 * h1_framing.c - what the fields of a head mean together: where the body ends, which host is meant,
 * whether the connection lives on (RFC 9112 3.2, 6, 9.3).
 *
 * Fields are noted one by one as they are read and settled when the last is known.
 */
#include "http/h1_priv.h"

/* Options of Connection that are not ours name fields to drop when the head is written; each costs
 * a comparison per field then.  Nobody honest sends more than a handful. */
#define OPTIONS_MAX 64

struct str
h1_list_next(struct str *rest)
{
    return str_trim(str_cut(rest, ','));
}

static bool
token_is(struct str s, const char *lower, size_t n)
{
    return s.n == n && str_eq_ci(s, (struct str){lower, n});
}
#define TOKEN_IS(s, literal) token_is((s), (literal), sizeof(literal) - 1)

bool
h1_is_token(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!h1_is(s.p[i], C_TOKEN))
            return false;
    return s.n > 0;
}

/* --- noting ---------------------------------------------------------------------------------- */
/* Equal values collapse into one, be they in a list or in several fields (RFC 9110 8.6).  Values
 * from 2^63 on are refused: no message has them, and signed arithmetic elsewhere takes them for
 * less. */
static enum h1_fault
note_length(struct http_head *h, struct str list)
{
    do {
        uint64_t n;

        if (!str_u64(h1_list_next(&list), &n) || n > INT64_MAX)
            return H1_CL_INVALID;
        if (h->has_content_length && h->content_length != n)
            return H1_CL_DIFFER;
        h->has_content_length = true;
        h->content_length = n;
    } while (list.p);
    return H1_NONE;
}

/* Only `chunked`, once and last, ends up good.  It has no parameters (RFC 9112 7.1), and empty
 * members are refused though RFC 9110 5.6.1 would have them skipped: that is where parsers differ.
 */
static void
note_codings(struct h1_notes *n, struct str list)
{
    n->has_coding = true;
    do {
        struct str coding = h1_list_next(&list);

        if (n->chunked)
            n->bad_coding = true; /* nothing may follow, least of all `chunked` again */
        if (TOKEN_IS(coding, "chunked"))
            n->chunked = true;
        else if (h1_is_token(coding))
            n->other_coding = true;
        else
            n->bad_coding = true;
    } while (list.p);
}

static enum h1_fault
note_connection(struct h1_notes *n, struct http_head *h, struct str list)
{
    do {
        struct str option = h1_list_next(&list);

        if (TOKEN_IS(option, "close"))
            n->opt_close = true;
        else if (TOKEN_IS(option, "keep-alive"))
            n->opt_keep_alive = true;
        else if (TOKEN_IS(option, "upgrade"))
            n->opt_upgrade = true;
        else if (option.n > 0 && field_lookup(option.p, option.n) == FIELD_OTHER) {
            h->nominates = true;
            if (++n->n_options > OPTIONS_MAX)
                return H1_TOO_MANY_FIELDS;
        }
    } while (list.p);
    return H1_NONE;
}

static void
note_te(struct http_head *h, struct str list)
{
    do {
        struct str member = h1_list_next(&list);

        if (TOKEN_IS(str_trim(str_cut(&member, ';')), "trailers"))
            h->te_trailers = true;
    } while (list.p);
}

static enum h1_fault
note_expect(struct h1_notes *n, struct str list)
{
    do {
        if (!TOKEN_IS(h1_list_next(&list), "100-continue"))
            return H1_EXPECT_UNKNOWN;
    } while (list.p);
    n->expect_continue = true;
    return H1_NONE;
}

enum h1_fault
h1_note_field(struct h1_notes *n, struct http_head *h, const struct http_field *f)
{
    struct str value = http_field_value(f);

    switch (f->id) {
    case FIELD_HOST:
        n->host = value;
        return n->n_host++ > 0 && !h->is_response ? H1_HOST_TWICE : H1_NONE;
    case FIELD_CONTENT_LENGTH: return note_length(h, value);
    case FIELD_TRANSFER_ENCODING: note_codings(n, value); return H1_NONE;
    case FIELD_CONNECTION: return note_connection(n, h, value);
    case FIELD_UPGRADE: n->has_upgrade |= value.n > 0; return H1_NONE;
    case FIELD_TE: note_te(h, value); return H1_NONE;
    case FIELD_EXPECT: return h->is_response ? H1_NONE : note_expect(n, value);
    default: return H1_NONE;
    }
}

/* --- settling -------------------------------------------------------------------------------- */
/* RFC 9112 6.3, rules 3 to 5, and 6.1.  Sets *body when the head has any framing. */
static enum h1_fault
settle_framing(struct http_head *h, const struct h1_notes *n)
{
    if (n->has_coding) {
        if (h->has_content_length)
            return H1_CL_AND_TE;
        if (h->minor == 0)
            return H1_TE_HTTP10;
        if (n->bad_coding || !n->chunked)
            return H1_TE_NOT_CHUNKED;
        if (n->other_coding)
            return H1_TE_UNKNOWN;
        h->body = HTTP_BODY_CHUNKED;
    } else if (h->has_content_length) {
        h->body = HTTP_BODY_LENGTH;
    }
    return H1_NONE;
}

/* RFC 9112 9.3. */
static void
settle_connection(struct http_head *h, const struct h1_notes *n)
{
    h->close = n->opt_close || (h->minor == 0 && !n->opt_keep_alive);
    /* RFC 9110 7.8: Upgrade in HTTP/1.0 is ignored. */
    h->upgrade = n->has_upgrade && n->opt_upgrade && h->minor > 0;
}

/* RFC 9112 3.2.  The authority of a target replaces Host, which must be good all the same (3.2.2);
 * an empty one says that the target has no authority, so it may not stand beside one. */
static enum h1_fault
settle_host(struct http_head *h, const struct h1_notes *n)
{
    bool in_target = h->authority.n > 0;

    if (n->n_host == 0)
        return h->minor == 0 ? H1_NONE : H1_HOST_MISSING;
    if (n->host.n == 0 ? in_target : !h1_authority_ok(n->host))
        return H1_HOST_INVALID;
    if (!in_target)
        h->authority = n->host;
    return H1_NONE;
}

enum h1_fault
h1_settle_request(struct http_head *h, const struct h1_notes *n)
{
    enum h1_fault fault = settle_host(h, n);

    if (!fault)
        fault = settle_framing(h, n);
    if (fault)
        return fault;
    settle_connection(h, n);
    /* RFC 9110 10.1.1: from HTTP/1.0 the expectation is ignored. */
    h->expect_continue = n->expect_continue && h->minor > 0;
    return H1_NONE;
}

/* RFC 9112 6.3, rules 1 and 2: no field gives a bodyless response a body.  Framing in a 1xx or 204
 * is forbidden to servers (6.1, RFC 9110 8.6); one that sends it may well send a body too, so
 * nothing may be read from that connection afterwards. */
static void
settle_bodyless(struct http_head *h, const struct h1_notes *n)
{
    bool framed = n->has_coding || (h->has_content_length && h->content_length > 0);

    h->body = HTTP_BODY_NONE;
    if (framed && (h->status / 100 == 1 || h->status == 204))
        h->close = true;
}

enum h1_fault
h1_settle_response(struct http_head *h, const struct h1_notes *n, enum http_method method)
{
    enum h1_fault fault;

    h->body = HTTP_BODY_CLOSE;
    fault = settle_framing(h, n);
    if (fault)
        return fault;
    settle_connection(h, n);
    if (http_response_bodyless(h->status, method))
        settle_bodyless(h, n);
    else if (h->body == HTTP_BODY_CLOSE)
        h->close = true;
    return H1_NONE;
}
