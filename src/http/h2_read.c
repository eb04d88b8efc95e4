/* SPDX-License-Identifier: BSD-2-Clause
 *
 * h2_read.c - field lists of HTTP/2 into heads (RFC 9113 8).
 *
 * Fields are copied as HTTP/1 would write them, "name: value" and CR LF, one behind the other: so
 * the scanners of HTTP/1 check them (which need a line feed to stop at), and a head that goes to an
 * HTTP/1.1 server is copied as one run.
 *
 * Called by the codec of a connection, on its thread.  Each field is checked as it comes; what they
 * mean together is settled when the section is whole.
 */
#include "http/h2.h"

#include "base/check.h"
#include "http/h1_priv.h"

#define FIELDS_AT_FIRST 24   /* browsers send 12 to 20 */
#define TEXT_AT_FIRST   1024 /* a guess: most heads of browsers fit */

/* --- faults ---------------------------------------------------------------------------------- */
static const struct {
    const char *name, *text;
    unsigned status;
} faults[] = {
#define X(name, status, text, rfc) {#name, text, status},
    H2_FAULTS(X)
#undef X
};

const char *
h2_fault_name(enum h2_fault f)
{
    return f < MC_COUNT(faults) ? faults[f].name : "";
}

const char *
h2_fault_text(enum h2_fault f)
{
    return f < MC_COUNT(faults) ? faults[f].text : "";
}

unsigned
h2_fault_status(enum h2_fault f)
{
    return f < MC_COUNT(faults) ? faults[f].status : 0;
}

/* --- field by field -------------------------------------------------------------------------- */
static const struct {
    struct str name;
    unsigned sections; /* where it may be */
} pseudos[] = {
#define X(id, text, in) [H2_PSEUDO_##id] = {{text, sizeof(text) - 1}, in},
    H2_PSEUDOS(X)
#undef X
};

/* Of a connection in HTTP/1: in HTTP/2 they make a message malformed (8.2.2).  HTTP2-Settings is
 * not among them and is dropped like all that belongs to one hop. */
#define CONNECTION_FIELDS                                                          \
    (FIELD_BIT(CONNECTION) | FIELD_BIT(KEEP_ALIVE) | FIELD_BIT(PROXY_CONNECTION) | \
     FIELD_BIT(TRANSFER_ENCODING) | FIELD_BIT(UPGRADE))

void
h2_fields_init(struct h2_fields *s, enum h2_section section, const struct h1_limits *limits,
               struct arena *a)
{
    *s = (struct h2_fields){.section = section, .limits = limits, .arena = a};
}

/* Room for n contiguous bytes of text. */
static char *
text_room(struct h2_fields *s, size_t n)
{
    char *p;

    if ((size_t)(s->end - s->at) < n) {
        size_t cap = n > TEXT_AT_FIRST ? n : TEXT_AT_FIRST;

        s->at = arena_alloc(s->arena, cap);
        s->end = s->at + cap;
    }
    p = s->at;
    s->at += n;
    return p;
}

static struct http_field *
field_room(struct h2_fields *s)
{
    if (s->n == s->cap) {
        unsigned cap = s->cap ? 2 * s->cap : FIELDS_AT_FIRST;
        struct http_field *more = arena_alloc(s->arena, cap * sizeof(*more));

        if (s->cap)
            memcpy(more, s->fields, s->cap * sizeof(*more));
        s->fields = more;
        s->cap = cap;
    }
    return &s->fields[s->n++];
}

/* A token without capital letters (8.2.1). */
static enum h2_fault
check_name(struct str name)
{
    if (name.n == 0 || name.n >= UINT16_MAX)
        return H2_NAME;
    for (size_t i = 0; i < name.n; i++) {
        if (!h1_is(name.p[i], C_TOKEN))
            return H2_NAME;
        if (name.p[i] >= 'A' && name.p[i] <= 'Z')
            return H2_NAME_CASE;
    }
    return H2_NONE;
}

static bool
is_space(char c)
{
    return c == ' ' || c == '\t';
}

/* value[n] is CR, and LF behind it: a CR or LF within stops the scan too early. */
static enum h2_fault
check_value(const char *value, size_t n)
{
    if (h1_scan->value_end(value, value + n + 2) != value + n)
        return H2_VALUE;
    if (n > 0 && (is_space(value[0]) || is_space(value[n - 1])))
        return H2_VALUE_SPACE;
    return H2_NONE;
}

/* name, ": ", value, CR LF; the value's place is told. */
static char *
put_text(struct h2_fields *s, struct str name, struct str value, char **at_value)
{
    char *p = text_room(s, name.n + value.n + 4), *v = p + name.n + 2;

    memcpy(p, name.p, name.n);
    memcpy(p + name.n, ": ", 2);
    if (value.n > 0)
        memcpy(v, value.p, value.n);
    memcpy(v + value.n, "\r\n", 2);
    *at_value = v;
    return p;
}

static enum h2_fault
add_pseudo(struct h2_fields *s, struct str name, struct str value)
{
    enum h2_fault fault;
    unsigned i;
    char *v;

    if (s->section == H2_TRAILERS)
        return H2_PSEUDO_TRAILER;
    if (s->n > 0)
        return H2_PSEUDO_LATE;
    for (i = 0; i < H2_PSEUDO_N; i++)
        if (str_eq(pseudos[i].name, name) && (pseudos[i].sections >> s->section & 1))
            break;
    if (i == H2_PSEUDO_N || (i == H2_PSEUDO_PROTOCOL && !s->connect_protocol))
        return H2_PSEUDO_UNKNOWN;
    if (s->pseudo[i].p != NULL)
        return H2_PSEUDO_TWICE;
    put_text(s, name, value, &v);
    fault = check_value(v, value.n);
    s->pseudo[i] = (struct str){v, value.n};
    return fault;
}

static enum h2_fault
add_field(struct h2_fields *s, struct str name, struct str value)
{
    const enum field_id id = field_lookup(name.p, name.n);
    enum h2_fault fault = check_name(name);
    struct http_field *f;
    const char *text;
    char *v;

    if (fault != H2_NONE)
        return fault;
    if (CONNECTION_FIELDS >> id & 1)
        return H2_CONNECTION_FIELD;
    if (id == FIELD_TE && !str_eq_ci(value, STR("trailers")))
        return H2_TE;
    if (s->n >= s->limits->fields + s->n_cookies)
        return H2_TOO_MANY_FIELDS;
    text = put_text(s, name, value, &v);
    fault = check_value(v, value.n);
    if (fault != H2_NONE)
        return fault;
    if (id == FIELD_COOKIE)
        s->n_cookies++; /* they become one field, and their bytes are bounded */
    f = field_room(s);
    *f = (struct http_field){text, v, (uint32_t)value.n, (uint16_t)name.n, (uint16_t)id};
    return H2_NONE;
}

void
h2_fields_add(struct h2_fields *s, struct str name, struct str value)
{
    const bool trailers = s->section == H2_TRAILERS;

    s->bytes += name.n + value.n + 4;
    if (s->fault != H2_NONE)
        return;
    if (s->bytes > (trailers ? s->limits->trailer_bytes : s->limits->head_bytes))
        s->fault = trailers ? H2_TRAILER_TOO_LARGE : H2_HEAD_TOO_LARGE;
    else if (name.n > 0 && name.p[0] == ':')
        s->fault = add_pseudo(s, name, value);
    else
        s->fault = add_field(s, name, value);
}

/* --- what the fields mean together ----------------------------------------------------------- */
/* The crumbs behind one another, without those that are empty; returns the end. */
static char *
put_crumbs(const struct h2_fields *s, char *v)
{
    const char *begin = v;

    for (unsigned i = 0; i < s->n; i++) {
        const struct http_field *f = &s->fields[i];

        if (f->id != FIELD_COOKIE || f->value_len == 0)
            continue;
        if (v > begin) {
            memcpy(v, "; ", 2);
            v += 2;
        }
        memcpy(v, f->value, f->value_len);
        v += f->value_len;
    }
    return v;
}

/* Cookie crumbs, which compress better, become one field again, where the first was (8.2.3). */
static void
join_cookies(struct h2_fields *s)
{
    static const char name[] = "cookie: ";
    struct http_field whole = {.name_len = 6, .id = FIELD_COOKIE};
    size_t bytes = sizeof(name) - 1 + 2;
    unsigned kept = 0;
    bool put = false;
    char *text, *end;

    if (s->n_cookies < 2)
        return;
    for (unsigned i = 0; i < s->n; i++)
        if (s->fields[i].id == FIELD_COOKIE)
            bytes += s->fields[i].value_len + 2u;
    text = text_room(s, bytes);
    memcpy(text, name, sizeof(name) - 1);
    whole.name = text;
    whole.value = text + sizeof(name) - 1;
    end = put_crumbs(s, text + sizeof(name) - 1);
    whole.value_len = (uint32_t)(end - whole.value);
    memcpy(end, "\r\n", 2);
    for (unsigned i = 0; i < s->n; i++) {
        const bool crumb = s->fields[i].id == FIELD_COOKIE;

        if (!crumb || !put)
            s->fields[kept++] = crumb ? whole : s->fields[i];
        put = put || crumb;
    }
    s->n = kept;
    s->n_cookies = 1;
}

/* As in HTTP/1: equal values collapse into one (RFC 9110 8.6), and none is above 2^63. */
static enum h2_fault
note_length(struct http_head *h, struct str list)
{
    do {
        uint64_t n;

        if (!str_u64(h1_list_next(&list), &n) || n > INT64_MAX)
            return H2_CL_INVALID;
        if (h->has_content_length && h->content_length != n)
            return H2_CL_DIFFER;
        h->has_content_length = true;
        h->content_length = n;
    } while (list.p);
    return H2_NONE;
}

static enum h2_fault
note_expect(struct http_head *h, struct str value)
{
    if (!str_eq_ci(value, STR("100-continue")))
        return H2_EXPECT_UNKNOWN;
    h->expect_continue = true;
    return H2_NONE;
}

/* The fields that frame or route, of a request. */
static enum h2_fault
note_fields(struct http_head *h, struct str *host)
{
    enum h2_fault fault = H2_NONE;

    for (unsigned i = 0; i < h->n_fields && fault == H2_NONE; i++) {
        const struct http_field *f = &h->fields[i];

        switch (f->id) {
        case FIELD_CONTENT_LENGTH: fault = note_length(h, http_field_value(f)); break;
        case FIELD_EXPECT: fault = note_expect(h, http_field_value(f)); break;
        case FIELD_TE: h->te_trailers = true; break;
        case FIELD_HOST:
            if (host->p != NULL)
                return H2_HOST_TWICE;
            *host = http_field_value(f);
            break;
        default: break;
        }
    }
    return fault;
}

static struct str
without_default_port(struct str authority, struct str scheme)
{
    const struct str port = str_eq(scheme, STR("https")) ? STR(":443") : STR(":80");

    if (authority.n > port.n && memcmp(authority.p + authority.n - port.n, port.p, port.n) == 0)
        authority.n -= port.n;
    return authority;
}

/* :authority, which a Host beside it must repeat; or else Host (8.3.1). */
static enum h2_fault
settle_authority(struct http_head *h, struct str authority, struct str host)
{
    h->authority = authority.p != NULL ? authority : host;
    if (h->authority.n == 0)
        return H2_AUTHORITY_MISSING;
    if (!h1_authority_ok(h->authority))
        return H2_AUTHORITY;
    if (authority.p != NULL && host.p != NULL &&
        !str_eq_ci(without_default_port(authority, h->scheme),
                   without_default_port(host, h->scheme)))
        return H2_AUTHORITY_DIFFERS;
    return H2_NONE;
}

static enum h2_fault
settle_path(struct http_head *h, const struct h1_limits *limits)
{
    if (h->path.n > limits->target_bytes)
        return H2_TARGET_LONG;
    for (size_t i = 0; i < h->path.n; i++)
        if (!h1_is(h->path.p[i], C_TARGET))
            return H2_PATH;
    if (h->path.n > 0 && h->path.p[0] == '/')
        return H2_NONE;
    return h->method == HTTP_M_OPTIONS && str_eq(h->path, STR("*")) ? H2_NONE : H2_PATH;
}

/* RFC 9113 8.5: a host with its port, and nothing else. */
static enum h2_fault
settle_connect(struct http_head *h, const struct h2_fields *s)
{
    const struct str a = s->pseudo[H2_PSEUDO_AUTHORITY];

    if (h->scheme.p != NULL || h->path.p != NULL)
        return H2_CONNECT;
    if (a.p == NULL)
        return H2_PSEUDO_MISSING;
    h->authority = h->target = a;
    if (!h1_authority_ok(a) || http_host_only(a).n + 1 >= a.n)
        return H2_AUTHORITY;
    return H2_NONE;
}

static enum h2_fault
settle_target(struct http_head *h, const struct h2_fields *s, struct str host)
{
    enum h2_fault fault;

    h->method_text = s->pseudo[H2_PSEUDO_METHOD];
    h->scheme = s->pseudo[H2_PSEUDO_SCHEME];
    h->path = h->target = s->pseudo[H2_PSEUDO_PATH];
    if (h->method_text.p == NULL)
        return H2_PSEUDO_MISSING;
    if (!h1_is_token(h->method_text))
        return H2_METHOD;
    h->method = http_method_lookup(h->method_text);
    if (h->method == HTTP_M_CONNECT && s->pseudo[H2_PSEUDO_PROTOCOL].p == NULL)
        return settle_connect(h, s);
    if (h->method != HTTP_M_CONNECT && s->pseudo[H2_PSEUDO_PROTOCOL].p != NULL)
        return H2_PROTOCOL;
    if (h->scheme.p == NULL || h->path.p == NULL)
        return H2_PSEUDO_MISSING;
    if (!str_eq_ci(h->scheme, STR("http")) && !str_eq_ci(h->scheme, STR("https")))
        return H2_SCHEME;
    fault = settle_path(h, s->limits);
    return fault != H2_NONE ? fault : settle_authority(h, s->pseudo[H2_PSEUDO_AUTHORITY], host);
}

/* Methods whose meaning is in what they carry: an HTTP/1.1 server is told that it is nothing
 * (RFC 9110 8.6). */
static bool
expects_content(enum http_method m)
{
    return m == HTTP_M_POST || m == HTTP_M_PUT || m == HTTP_M_PATCH;
}

static enum h2_fault
settle_body(struct http_head *h, bool end)
{
    if (end && h->has_content_length && h->content_length != 0)
        return H2_CL_DATA;
    if (h->has_content_length || (end && expects_content(h->method)))
        h->body = HTTP_BODY_LENGTH;
    else
        h->body = end ? HTTP_BODY_NONE : HTTP_BODY_CHUNKED;
    if (end)
        h->expect_continue = false; /* nothing is to come */
    return H2_NONE;
}

enum h2_fault
h2_read_request(struct http_head *h, struct h2_fields *s, bool end) /* hot: once per request */
{
    struct str host = STR_NONE;
    enum h2_fault fields, target;

    *h = (struct http_head){.major = 2, .minor = 1};
    join_cookies(s);
    h->fields = s->fields;
    h->n_fields = (uint16_t)s->n;
    fields = note_fields(h, &host);
    target = settle_target(h, s, host); /* after a fault too, for the log */
    if (s->fault != H2_NONE)
        return s->fault;
    if (fields != H2_NONE)
        return fields;
    return target != H2_NONE ? target : settle_body(h, end);
}

/* Three digits from 100 on, as in HTTP/1. */
static enum h2_fault
settle_status(struct http_head *h, struct str status)
{
    uint64_t n;

    if (status.p == NULL)
        return H2_PSEUDO_MISSING;
    if (status.n != 3 || !str_u64(status, &n) || n < 100 || n == 101)
        return H2_STATUS;
    h->status = (uint16_t)n;
    return H2_NONE;
}

/* What a length says of a response that has no body is of the one that GET would bring (RFC 9110
 * 8.6). */
static enum h2_fault
settle_content(struct http_head *h, enum http_method request_method, bool end)
{
    if (h->status < 200 && end)
        return H2_INTERIM_END;
    if (http_response_bodyless(h->status, request_method))
        return H2_NONE;
    if (end && h->has_content_length && h->content_length != 0)
        return H2_CL_DATA;
    if (h->has_content_length || end)
        h->body = HTTP_BODY_LENGTH;
    else
        h->body = HTTP_BODY_CHUNKED;
    return H2_NONE;
}

enum h2_fault
h2_read_response(struct http_head *h, struct h2_fields *s, enum http_method request_method,
                 bool end) /* hot: once per response */
{
    enum h2_fault fault = s->fault;

    *h = (struct http_head){.is_response = true, .major = 2, .minor = 1};
    h->fields = s->fields;
    h->n_fields = (uint16_t)s->n;
    for (unsigned i = 0; i < h->n_fields && fault == H2_NONE; i++)
        if (h->fields[i].id == FIELD_CONTENT_LENGTH)
            fault = note_length(h, http_field_value(&h->fields[i]));
    if (fault == H2_NONE)
        fault = settle_status(h, s->pseudo[H2_PSEUDO_STATUS]);
    return fault != H2_NONE ? fault : settle_content(h, request_method, end);
}

enum h2_fault
h2_read_trailers(struct h2_fields *s, struct http_field **out, unsigned *n)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < s->n; i++)
        if (H1_TRAILER_OK >> s->fields[i].id & 1)
            s->fields[kept++] = s->fields[i];
    *out = s->fields;
    *n = kept;
    return s->fault;
}

/* A Dictionary of RFC 8941 of which two keys matter: `u`, an integer, and `i`, a boolean.  Others
 * are passed over as far as they are spelt without strings. */
bool
h2_read_priority(struct str field, struct h2_priority *out)
{
    struct h2_priority p = {.urgency = 3};

    do {
        struct str value = h1_list_next(&field), key, item = value;

        key = str_cut(&item, '=');
        key = str_cut(&key, ';');
        item = str_cut(&item, ';');
        if (value.n > 0 && memchr(value.p, '"', value.n) != NULL)
            return false;
        if (str_eq(key, STR("u"))) {
            if (item.n != 1 || item.p[0] < '0' || item.p[0] > '7')
                return false;
            p.urgency = (uint8_t)(item.p[0] - '0');
        } else if (str_eq(key, STR("i"))) {
            if (item.n > 0 && !str_eq(item, STR("?1")) && !str_eq(item, STR("?0")))
                return false;
            p.incremental = !str_eq(item, STR("?0"));
        }
    } while (field.p != NULL);
    *out = p;
    return true;
}
