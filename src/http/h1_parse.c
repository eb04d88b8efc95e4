/* SPDX-License-Identifier: BSD-2-Clause
 *
 * h1_parse.c - the head of an HTTP/1 message: where it ends, its start line, its field lines.
 *
 * What the fields mean together (framing, Host, Connection) is h1_framing.c, the forms of a target
 * h1_target.c, the loops over bytes h1_scan.c.  Called by the codec of a connection, on its thread.
 *
 * The way of a head, each step refusing by a named fault:
 *   1. the start line is cut into its parts;
 *   2. field lines are read, those that matter here noted on the way;
 *   3. the target's form is read;
 *   4. the notes settle Host, body and connection.
 */
#include "http/h1_priv.h"

#include "base/check.h"

#define FIELDS_AT_FIRST 32 /* browsers send 8 to 20; doubled for those who send more */

const struct h1_limits h1_default_limits = {
    .head_bytes = 16 * 1024,
    .target_bytes = 8 * 1024,
    .fields = 100,
    .trailer_bytes = 4 * 1024,
};

/* --- faults ---------------------------------------------------------------------------------- */
static const struct {
    const char *name, *text;
    unsigned status;
} faults[] = {
#define X(name, status, text, rfc) {#name, text, status},
    H1_FAULTS(X)
#undef X
};

const char *
h1_fault_name(enum h1_fault f)
{
    return f < MC_COUNT(faults) ? faults[f].name : "";
}

const char *
h1_fault_text(enum h1_fault f)
{
    return f < MC_COUNT(faults) ? faults[f].text : "";
}

unsigned
h1_fault_status(enum h1_fault f)
{
    return f < MC_COUNT(faults) ? faults[f].status : 400;
}

/* Names the fault of the byte at p, which is not what was expected there. */
__attribute__((cold)) static enum h1_fault
byte_fault(const char *p, enum h1_fault otherwise)
{
    if (*p == '\0')
        return H1_NUL;
    if (*p == '\n')
        return H1_BARE_LF;
    if (*p == '\r' && p[1] != '\n')
        return H1_BARE_CR;
    if (!h1_is(*p, C_VALUE) && *p != '\r')
        return H1_CONTROL;
    return otherwise;
}

/* --- phase 1 --------------------------------------------------------------------------------- */
/* RFC 9112 2.2: at least one empty line before a request line is skipped; some clients send one
 * after a body.  Four is generous (a guess), more is refused as a request line that is empty. */
#define LEADING_CRLF_MAX 4

/* Bytes of the empty lines at p; both phases must count alike. */
static size_t
leading_crlf(const char *p, size_t n)
{
    size_t at = 0;

    while (at + 2 <= n && at < 2 * LEADING_CRLF_MAX && p[at] == '\r' && p[at + 1] == '\n')
        at += 2;
    return at;
}

bool
h1_head_end(const char *p, size_t n, size_t *scanned, size_t *head_len) /* hot: once per read */
{
    size_t start = leading_crlf(p, n);
    size_t at;

    /* An empty first line; later ones are found by looking back two bytes. */
    for (at = start; at < n && at < start + 2; at++)
        if (p[at] == '\n' && (at == start || p[start] == '\r'))
            goto found;
    if (at < *scanned)
        at = *scanned;
    if (at < n)
        at = h1_scan->empty_line(p, at, n);
    *scanned = n;
    if (at >= n)
        return false;
found:
    *scanned = *head_len = at + 1;
    return true;
}

/* --- field lines ----------------------------------------------------------------------------- */
/* Why no name and colon were found at `line`; `stop` is the first byte that is not of a token. */
__attribute__((cold)) static enum h1_fault
name_fault(const char *line, const char *stop, const char *end)
{
    const char *eol = h1_scan->value_end(stop, end);
    const char *after = stop;

    if (*stop == ':' && stop > line)
        return H1_HEAD_TOO_LARGE; /* a name of more than 64 KiB */
    if (!h1_is(*stop, C_VALUE))
        return byte_fault(stop, H1_NO_COLON);
    while (*after == ' ' || *after == '\t')
        after++;
    if (stop > line && after > stop && *after == ':')
        return H1_SPACE_BEFORE_COLON;
    if (!memchr(stop, ':', (size_t)(eol - stop)))
        return byte_fault(eol, H1_NO_COLON);
    return H1_FIELD_NAME;
}

enum h1_fault
h1_read_field(const char **at, const char *end, struct http_field *f) /* hot: once per field */
{
    const char *name = *at, *value, *stop;
    const char *colon = h1_scan->token_end(name, end);

    if (*colon != ':' || (size_t)(colon - name) - 1 >= UINT16_MAX)
        return name_fault(name, colon, end);
    for (value = colon + 1; *value == ' ' || *value == '\t'; value++)
        ;
    stop = h1_scan->value_end(value, end);
    if (stop[0] != '\r' || stop[1] != '\n')
        return byte_fault(stop, H1_CONTROL);
    *at = stop + 2;
    while (stop > value && (stop[-1] == ' ' || stop[-1] == '\t'))
        stop--;
    f->name = name;
    f->name_len = (uint16_t)(colon - name);
    f->value = value;
    f->value_len = (uint32_t)(stop - value);
    f->id = (uint16_t)field_lookup(name, f->name_len);
    return H1_NONE;
}

/* A head on its way.  Lives on the stack of h1_parse_*(). */
struct reader {
    const char *at, *end;
    const struct h1_limits *limits;
    struct arena *arena;
    struct http_head *head;
    unsigned cap; /* of head->fields */
    struct h1_notes notes;
};

/* Room for one more.  Most heads fit into the first piece; an array for the limit would cost 2.4
 * KiB of every transaction. */
static struct http_field *
next_field(struct reader *r)
{
    struct http_head *h = r->head;

    if (h->n_fields == r->cap) {
        unsigned cap = r->cap ? 2 * r->cap : FIELDS_AT_FIRST;
        struct http_field *more = arena_alloc(r->arena, cap * sizeof(*more));

        if (r->cap)
            memcpy(more, h->fields, r->cap * sizeof(*more));
        h->fields = more;
        r->cap = cap;
    }
    return &h->fields[h->n_fields];
}

/* A line that is no field line but looks like a continued one.  RFC 9112 2.2 and 5.2. */
__attribute__((cold)) static enum h1_fault
folded_fault(const struct reader *r)
{
    return r->head->n_fields == 0 ? H1_LEADING_SPACE : H1_OBS_FOLD;
}

/* hot.  An empty line ends the section; its two bytes were found by phase 1. */
static enum h1_fault
read_fields(struct reader *r)
{
    while (r->at < r->end && !(r->at[0] == '\r' && r->at[1] == '\n')) {
        struct http_field *f;
        enum h1_fault fault;

        if (*r->at == ' ' || *r->at == '\t')
            return folded_fault(r);
        if (r->head->n_fields >= r->limits->fields)
            return H1_TOO_MANY_FIELDS;
        f = next_field(r);
        fault = h1_read_field(&r->at, r->end, f);
        if (fault)
            return fault;
        r->head->n_fields++;
        if (H1_WATCHED >> f->id & 1)
            fault = h1_note_field(&r->notes, r->head, f);
        if (fault)
            return fault;
    }
    /* Not whole, or more than a head: the caller did not ask h1_head_end(). */
    return r->at + 2 == r->end ? H1_NONE : H1_NO_COLON;
}

/* --- start lines ----------------------------------------------------------------------------- */
/* HTTP-version = "HTTP/" DIGIT "." DIGIT, in v.  A higher minor version is read as 1.1, the highest
 * that we speak (RFC 9110 2.5). */
static enum h1_fault
read_version(struct str v, uint8_t *minor)
{
    if (v.n != 8 || memcmp(v.p, "HTTP/", 5) != 0 || v.p[6] != '.' || v.p[5] < '0' || v.p[5] > '9' ||
        v.p[7] < '0' || v.p[7] > '9')
        return H1_VERSION;
    if (v.p[5] != '1')
        return H1_VERSION_UNSUPPORTED;
    *minor = v.p[7] != '0';
    return H1_NONE;
}

/* Every version but a plain HTTP/1.1. */
static enum h1_fault
read_rare_version(struct reader *r)
{
    const char *eol = h1_scan->value_end(r->at, r->end);
    struct str v = {r->at, (size_t)(eol - r->at)};

    if (*eol != '\r' || eol[1] != '\n')
        return byte_fault(eol, H1_CONTROL);
    if (v.n == 0 || memchr(v.p, ' ', v.n) || memchr(v.p, '\t', v.n))
        return H1_REQUEST_LINE;
    r->at = eol + 2;
    return read_version(v, &r->head->minor);
}

/* Nearly all requests: one comparison for version and line end. */
static enum h1_fault
read_request_version(struct reader *r)
{
    if (r->end - r->at < 10 || memcmp(r->at, "HTTP/1.1\r\n", 10) != 0)
        return read_rare_version(r);
    r->head->minor = 1;
    r->at += 10;
    return H1_NONE;
}

/* Why a word of the request line did not end in a space. */
__attribute__((cold)) static enum h1_fault
request_line_fault(const char *word, const char *stop, enum h1_fault bad_byte)
{
    bool empty_or_short = *stop == '\r' || (stop == word && (*stop == ' ' || *stop == '\t'));

    return byte_fault(stop, empty_or_short ? H1_REQUEST_LINE : bad_byte);
}

/* method SP request-target SP HTTP-version CRLF, RFC 9112 3; single spaces only. */
static enum h1_fault
read_request_line(struct reader *r)
{
    struct http_head *h = r->head;
    const char *method = r->at, *stop = method, *target;

    while (h1_is(*stop, C_TOKEN)) /* methods are shorter than a vector */
        stop++;
    if (stop == method || *stop != ' ')
        return request_line_fault(method, stop, H1_METHOD);
    h->method_text = (struct str){method, (size_t)(stop - method)};
    h->method = http_method_lookup(h->method_text);

    target = stop + 1;
    stop = h1_scan->target_end(target, r->end);
    if (stop == target || *stop != ' ')
        return request_line_fault(target, stop, H1_TARGET);
    h->target = (struct str){target, (size_t)(stop - target)};
    if (h->target.n > r->limits->target_bytes)
        return H1_TARGET_LONG;
    r->at = stop + 1;
    return read_request_version(r);
}

/* Three digits from 100 on.  600 to 999 are not registered but unambiguous, and in use. */
static bool
read_status(const char *p, uint16_t *status)
{
    for (unsigned i = 0; i < 3; i++)
        if (p[i] < '0' || p[i] > '9')
            return false;
    *status = (uint16_t)((p[0] - '0') * 100 + (p[1] - '0') * 10 + (p[2] - '0'));
    return *status >= 100;
}

/* HTTP-version SP status-code [ SP [ reason-phrase ] ] CRLF, RFC 9112 4.  The second space is
 * missing in the answers of some servers; nobody can read that in another way. */
static enum h1_fault
read_status_line(struct reader *r)
{
    struct http_head *h = r->head;
    const char *eol = h1_scan->value_end(r->at, r->end);
    struct str line = {r->at, (size_t)(eol - r->at)}, version;
    enum h1_fault fault;

    if (*eol != '\r' || eol[1] != '\n')
        return byte_fault(eol, H1_CONTROL);
    if (line.n < 5 || memcmp(line.p, "HTTP/", 5) != 0)
        return H1_STATUS_LINE;
    version = str_cut(&line, ' ');
    fault = read_version(version, &h->minor);
    if (fault)
        return fault;
    if (line.n < 3 || !read_status(line.p, &h->status) || (line.n > 3 && line.p[3] != ' '))
        return H1_STATUS_LINE;
    if (line.n > 4)
        h->reason = (struct str){line.p + 4, line.n - 4};
    else
        h->reason = (struct str){eol, 0};
    r->at = eol + 2;
    return H1_NONE;
}

/* --- phase 2 --------------------------------------------------------------------------------- */
static void
reader_init(struct reader *r, struct http_head *h, const char *p, size_t n,
            const struct h1_limits *limits, struct arena *a)
{
    *h = (struct http_head){.major = 1};
    *r = (struct reader){.at = p, .end = p + n, .limits = limits, .arena = a, .head = h};
}

static enum h1_fault
read_request(struct reader *r)
{
    enum h1_fault fault = read_request_line(r);

    if (fault)
        return fault;
    /* After the request line, so that a long target is told from many fields. */
    if ((size_t)(r->end - r->head->method_text.p) > r->limits->head_bytes)
        return H1_HEAD_TOO_LARGE;
    fault = read_fields(r);
    if (!fault)
        fault = h1_read_target(r->head, r->arena);
    return fault ? fault : h1_settle_request(r->head, &r->notes);
}

enum h1_fault
h1_parse_request(struct http_head *h, const char *p, size_t head_len,
                 const struct h1_limits *limits, struct arena *a) /* hot: once per request */
{
    struct reader r;
    size_t skip = leading_crlf(p, head_len);

    reader_init(&r, h, p + skip, head_len - skip, limits, a);
    if (r.at == r.end || r.end[-1] != '\n')
        return H1_REQUEST_LINE; /* not a whole head */
    return read_request(&r);
}

enum h1_fault
h1_parse_response(struct http_head *h, const char *p, size_t head_len,
                  enum http_method request_method, const struct h1_limits *limits,
                  struct arena *a) /* hot: once per response */
{
    struct reader r;
    enum h1_fault fault;

    reader_init(&r, h, p, head_len, limits, a);
    h->is_response = true;
    if (head_len == 0 || p[head_len - 1] != '\n')
        return H1_STATUS_LINE;
    if (head_len > limits->head_bytes)
        return H1_HEAD_TOO_LARGE;
    fault = read_status_line(&r);
    if (!fault)
        fault = read_fields(&r);
    return fault ? fault : h1_settle_response(h, &r.notes, request_method);
}
