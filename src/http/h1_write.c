/* SPDX-License-Identifier: BSD-2-Clause
 *
 * h1_write.c - heads and chunk headers as bytes (RFC 9112).
 *
 * Framing and Connection are written anew, never copied.  Fields that lie side by side as they were
 * received are copied as one run, which for most messages is nearly the whole head.
 *
 * In this order: start line, Host (requests; first as RFC 9110 7.2 asks), what was received,
 * what is added, framing, Connection.  The caller brings room for h1_write_bound() bytes, so
 * nothing below checks for an end.  Values cannot hold CR or LF: the parsers refuse them, and what
 * the proxy adds is made of parsed values, addresses and configuration.
 */
#include "http/h1_priv.h"

#include "base/check.h"

#define U64_DIGITS 20

static char *
put(char *d, const char *s, size_t n)
{
    memcpy(d, s, n);
    return d + n;
}
/* The length is known to the compiler, which makes these a few stores. */
#define PUT(d, literal) put((d), (literal), sizeof(literal) - 1)

/* s.p may be NULL when s is empty, which memcpy(3) does not allow. */
static char *
put_str(char *d, struct str s)
{
    return s.n ? put(d, s.p, s.n) : d;
}

static char *
put_u64(char *d, uint64_t v)
{
    char text[U64_DIGITS], *at = text + sizeof(text);

    do
        *--at = (char)('0' + v % 10);
    while (v /= 10);
    return put(d, at, (size_t)(text + sizeof(text) - at));
}

static char *
put_field(char *d, const struct http_field *f)
{
    d = put(d, f->name, f->name_len);
    d = PUT(d, ": ");
    d = put_str(d, http_field_value(f));
    return PUT(d, "\r\n");
}

/* --- which fields ---------------------------------------------------------------------------- */
/* Is f named by a Connection field?  Only for fields that field.h does not list: of those it lists,
 * the hop-by-hop ones are dropped anyway, and the others are for all recipients and may not be
 * nominated (RFC 9110 7.6.1), else a client could make us drop its Host or Authorization. */
static bool
nominated(const struct http_head *h, const struct http_field *f)
{
    for (unsigned i = 0; i < h->n_fields; i++) {
        struct str list = http_field_value(&h->fields[i]);

        if (h->fields[i].id != FIELD_CONNECTION)
            continue;
        do {
            if (str_eq_ci(h1_list_next(&list), (struct str){f->name, f->name_len}))
                return true;
        } while (list.p);
    }
    return false;
}

/* hot: once per field.  Nearly always a shift and a mask. */
bool
h1_left_out(const struct http_head *h, field_set drop, const struct http_field *f)
{
    if (drop >> f->id & 1)
        return true;
    return h->nominates && f->id == FIELD_OTHER && nominated(h, f);
}

/* --- copying --------------------------------------------------------------------------------- */
struct run {
    const char *from, *to; /* to: the end of the last value; from NULL: empty */
};

/* `Name: value` with one space, as we would write it.  The bytes are looked at only after the
 * pointers have said that they lie between name and value. */
static bool
as_written(const struct http_field *f)
{
    const char *v = f->name + f->name_len + 2;

    return f->value == v && v[-2] == ':' && v[-1] == ' ';
}

/* Does f begin right behind the line of the run? */
static bool
adjoins(const struct run *r, const struct http_field *f)
{
    return r->from && f->name == r->to + 2 && r->to[0] == '\r' && r->to[1] == '\n';
}

static char *
flush(char *d, struct run *r)
{
    if (r->from) {
        d = put(d, r->from, (size_t)(r->to - r->from));
        d = PUT(d, "\r\n");
        r->from = NULL;
    }
    return d;
}

/* Fields that are left out, were written oddly or come from elsewhere end a run. */
static char *
put_fields(char *d, const struct http_head *h, field_set drop)
{
    struct run run = {NULL, NULL};

    for (unsigned i = 0; i < h->n_fields; i++) {
        const struct http_field *f = &h->fields[i];

        if (h1_left_out(h, drop, f))
            continue;
        if (!as_written(f)) {
            d = put_field(flush(d, &run), f);
            continue;
        }
        if (!adjoins(&run, f)) {
            d = flush(d, &run);
            run.from = f->name;
        }
        run.to = f->value + f->value_len;
    }
    return flush(d, &run);
}

/* --- what is written anew -------------------------------------------------------------------- */
static char *
put_length(char *d, uint64_t n)
{
    d = PUT(d, "Content-Length: ");
    d = put_u64(d, n);
    return PUT(d, "\r\n");
}

/* RFC 9112 6.1 and 6.2: one of the two, or none.  A length that belongs to a body that is not sent
 * (HEAD, 304) is passed on only when asked for. */
static char *
put_framing(char *d, const struct http_head *h, const struct h1_write *w)
{
    switch (w->body) {
    case HTTP_BODY_LENGTH: return put_length(d, w->content_length);
    case HTTP_BODY_CHUNKED: return PUT(d, "Transfer-Encoding: chunked\r\n");
    case HTTP_BODY_NONE:
        if (w->keep_content_length && h->has_content_length)
            return put_length(d, h->content_length);
        return d;
    case HTTP_BODY_CLOSE: return d;
    }
    MC_NEVER("kind of a body");
}

/* RFC 9110 10.1.4: whoever sends TE names it in Connection. */
static char *
put_connection(char *d, const struct h1_write *w, bool te)
{
    if (!w->connection && !te)
        return d;
    d = PUT(d, "Connection: ");
    d = put_str(d, str_of(w->connection));
    if (te)
        d = w->connection ? PUT(d, ", TE") : PUT(d, "TE");
    d = PUT(d, "\r\n");
    return te ? PUT(d, "TE: trailers\r\n") : d;
}

static char *
put_rest(char *d, const struct http_head *h, const struct h1_write *w, field_set drop, bool te)
{
    drop |= w->drop | field_hop_by_hop() | FIELD_BIT(CONTENT_LENGTH) | FIELD_BIT(TRANSFER_ENCODING);
    d = put_fields(d, h, drop);
    for (unsigned i = 0; i < w->n_add; i++)
        d = put_field(d, &w->add[i]);
    d = put_framing(d, h, w);
    d = put_connection(d, w, te);
    return PUT(d, "\r\n");
}

/* --- heads ----------------------------------------------------------------------------------- */
/* All that can stand in a head beside what came with it, as if all did. */
#define FIXED_BYTES                                                                           \
    (sizeof("  HTTP/1.1\r\nHost: \r\n") + sizeof("HTTP/1.1 65535 \r\n") +                     \
     sizeof("Content-Length: \r\n") + U64_DIGITS + sizeof("Transfer-Encoding: chunked\r\n") + \
     sizeof("Connection: , TE\r\nTE: trailers\r\n\r\n"))

static size_t
fields_bound(const struct http_field *f, unsigned n)
{
    size_t sum = 0;

    for (unsigned i = 0; i < n; i++)
        sum += f[i].name_len + f[i].value_len + 4u;
    return sum;
}

/* What stands behind the status.  Responses made here need not name a reason. */
static struct str
reason_of(const struct http_head *h)
{
    return h->reason.p ? h->reason : str_of(http_reason(h->status));
}

/* CONNECT keeps its authority-form: there is no other (RFC 9112 3.2.3). */
static struct str
target_of(const struct http_head *h)
{
    return h->method == HTTP_M_CONNECT ? h->authority : h->path;
}

size_t
h1_write_bound(const struct http_head *h, const struct h1_write *w) /* hot: once per message */
{
    size_t start =
        h->is_response ? reason_of(h).n : h->method_text.n + target_of(h).n + h->authority.n;

    return FIXED_BYTES + start + fields_bound(h->fields, h->n_fields) +
           fields_bound(w->add, w->n_add) + (w->connection ? strlen(w->connection) : 0);
}

size_t
h1_write_request(char *dst, const struct http_head *h, const struct h1_write *w) /* hot */
{
    bool te = h->te_trailers && !(w->drop & FIELD_BIT(TE));
    char *d = put_str(dst, h->method_text);

    *d++ = ' ';
    d = put_str(d, target_of(h));
    d = PUT(d, " HTTP/1.1\r\nHost: ");
    d = put_str(d, h->authority);
    d = PUT(d, "\r\n");
    d = put_rest(d, h, w, FIELD_BIT(HOST), te);
    return (size_t)(d - dst);
}

size_t
h1_write_response(char *dst, const struct http_head *h, const struct h1_write *w) /* hot */
{
    char *d = PUT(dst, "HTTP/1.1 ");

    d = put_u64(d, h->status);
    *d++ = ' ';
    d = put_str(d, reason_of(h));
    d = PUT(d, "\r\n");
    d = put_rest(d, h, w, 0, false);
    return (size_t)(d - dst);
}

/* --- chunks ---------------------------------------------------------------------------------- */
size_t
h1_chunk_header(char *end_of_header, uint64_t size)
{
    char *at = end_of_header;

    *--at = '\n';
    *--at = '\r';
    do
        *--at = "0123456789abcdef"[size & 15];
    while (size >>= 4);
    return (size_t)(end_of_header - at);
}

size_t
h1_last_chunk_bound(const struct http_field *f, unsigned n)
{
    return sizeof("0\r\n\r\n") + fields_bound(f, n);
}

size_t
h1_last_chunk(char *dst, const struct http_field *f, unsigned n)
{
    char *d = PUT(dst, "0\r\n");

    for (unsigned i = 0; i < n; i++)
        d = put_field(d, &f[i]);
    d = PUT(d, "\r\n");
    return (size_t)(d - dst);
}
