/* SPDX-License-Identifier: BSD-2-Clause
 *
 * h1_body.c - where the bytes of a body end, and chunked coding undone in place (RFC 9112 6, 7).
 *
 * The decoder is fed whatever arrived and remembers where it stopped, so its results do not depend
 * on how the bytes were cut.  Payload only ever moves towards the start of the buffer.
 *
 *   chunked-body = *( 1*HEXDIG [ chunk-ext ] CRLF data CRLF ) 1*"0" [ chunk-ext ] CRLF
 *                  *( field-line CRLF ) CRLF
 *
 * Data is taken in runs and trailer lines whole; only the few bytes between go one by one, where no
 * two readers of the same bytes may disagree: no bare LF, no space or sign before a size, no "0x",
 * no size without digits.  A decoder that skips what it does not expect is how requests are
 * smuggled.
 */
#include "http/h1_priv.h"

#include "base/check.h"

/* Extensions mean nothing to us (RFC 9112 7.1.1 has them dropped); a body of one-byte chunks with
 * long extensions costs its receiver far more than its sender.  In all of one body: */
#define EXT_MAX_BYTES    1024
/* Hexadecimal digits of a chunk size, leading zeros included.  With 15 every sum of two sizes fits
 * in 63 bits. */
#define SIZE_MAX_DIGITS  15
#define TRAILER_AT_FIRST 256

enum phase {
    PH_SIZE,      /* at the first digit; what is left is 0 */
    PH_SIZE_MORE, /* behind the first */
    PH_EXT_SPACE, /* white space before ';' */
    PH_EXT_START, /* behind ';', before the first byte of a name */
    PH_EXT,
    PH_SIZE_LF,
    PH_DATA,
    PH_DATA_CR,
    PH_DATA_LF,
    PH_TRAILER, /* gathering lines up to the empty one */
    PH_DONE,
};

/* What one call has to work on; out <= at. */
struct window {
    char *at, *end; /* not yet decoded */
    char *out;      /* where payload goes */
};

void
h1_body_init(struct h1_body *b, enum http_body kind, uint64_t content_length,
             const struct h1_limits *limits, struct arena *a)
{
    *b = (struct h1_body){
        .kind = kind,
        .phase = PH_SIZE,
        .left = kind == HTTP_BODY_LENGTH ? content_length : 0,
        .trailer_limit_bytes = limits->trailer_bytes,
        .arena = a,
    };
}

/* A fault is for good: h1_body_decode() takes nothing any more. */
static void
fail(struct h1_body *b, enum h1_fault fault)
{
    b->fault = fault;
}

/* --- chunk header ---------------------------------------------------------------------------- */
/* -1 when it is none; strtoul(3) would take signs, spaces and "0x". */
static int
hex_digit(char c)
{
    if (!h1_is(c, C_HEX))
        return -1;
    return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

/* What may stand behind the size: CRLF, or white space and an extension. */
static void
size_ended(struct h1_body *b, char c)
{
    if (c == '\r')
        b->phase = PH_SIZE_LF;
    else if (c == ';')
        b->phase = PH_EXT_START;
    else if (c == ' ' || c == '\t')
        b->phase = PH_EXT_SPACE;
    else
        fail(b, H1_CHUNK_SIZE);
}

/* A digit, or the first byte behind them. */
static void
step_size(struct h1_body *b, char c)
{
    int digit = hex_digit(c);

    if (digit < 0) {
        if (b->phase == PH_SIZE)
            fail(b, H1_CHUNK_SIZE);
        else
            size_ended(b, c);
        return;
    }
    if (b->phase == PH_SIZE) {
        b->phase = PH_SIZE_MORE;
        b->n_digits = 0;
    }
    if (++b->n_digits > SIZE_MAX_DIGITS)
        fail(b, H1_CHUNK_SIZE_LARGE);
    else
        b->left = b->left << 4 | (unsigned)digit;
}

/* chunk-ext = *( BWS ";" BWS name [ BWS "=" BWS value ] ).  Behind the first byte of a name
 * anything without control characters passes: a quoted string cannot hide a line end from us. */
static void
step_ext(struct h1_body *b, char c)
{
    bool space = c == ' ' || c == '\t';

    if (++b->ext_bytes > EXT_MAX_BYTES)
        fail(b, H1_CHUNK_EXT);
    else if (b->phase == PH_EXT && c == '\r')
        b->phase = PH_SIZE_LF;
    else if (b->phase == PH_EXT_SPACE && c == ';')
        b->phase = PH_EXT_START;
    else if (b->phase == PH_EXT_START && h1_is(c, C_TOKEN))
        b->phase = PH_EXT;
    else if (b->phase == PH_EXT ? !h1_is(c, C_VALUE) : !space)
        fail(b, H1_CHUNK_EXT);
}

/* The line ends and sizes around the data: some ten bytes a chunk. */
static void
step_byte(struct h1_body *b, char c)
{
    switch (b->phase) {
    case PH_SIZE:
    case PH_SIZE_MORE: step_size(b, c); break;
    case PH_EXT_SPACE:
    case PH_EXT_START:
    case PH_EXT: step_ext(b, c); break;
    case PH_SIZE_LF:
        if (c != '\n')
            fail(b, H1_CHUNK_SIZE);
        b->phase = b->left ? PH_DATA : PH_TRAILER;
        break;
    case PH_DATA_CR:
        if (c != '\r')
            fail(b, H1_CHUNK_END);
        b->phase = PH_DATA_LF;
        break;
    case PH_DATA_LF:
        if (c != '\n')
            fail(b, H1_CHUNK_END);
        b->phase = PH_SIZE;
        break;
    default: MC_NEVER("phase of a chunk");
    }
}

/* --- trailer --------------------------------------------------------------------------------- */
/* Doubles; what was gathered before stays in the arena unused, at most as much again. */
static void
trailer_room(struct h1_body *b, size_t more)
{
    size_t cap = b->trailer_cap ? b->trailer_cap : TRAILER_AT_FIRST;
    char *p;

    if (b->trailer_len + more <= b->trailer_cap)
        return;
    while (cap < b->trailer_len + more)
        cap *= 2;
    p = arena_alloc(b->arena, cap);
    if (b->trailer_len)
        memcpy(p, b->trailer, b->trailer_len);
    b->trailer = p;
    b->trailer_cap = (uint32_t)cap;
}

/* Next field of a section whose end is the empty line; false at its end. */
static bool
trailer_next(const char **at, const char *end, struct http_field *f, enum h1_fault *fault)
{
    if (**at == '\r' && (*at)[1] == '\n')
        return false;
    *fault = h1_read_field(at, end, f);
    return *fault == H1_NONE;
}

/* The whole section is there: is it sound?  h1_body_trailers() relies on it. */
static void
trailer_check(struct h1_body *b)
{
    const char *at = b->trailer, *end = b->trailer + b->trailer_len;
    enum h1_fault fault = H1_NONE;
    struct http_field ignored;

    while (trailer_next(&at, end, &ignored, &fault))
        ;
    if (fault || at + 2 != end)
        fail(b, H1_TRAILER);
    b->phase = PH_DONE;
}

/* The section ends in CRLF: is that the whole last line? */
static bool
trailer_line_empty(const struct h1_body *b)
{
    const char *t = b->trailer;
    size_t n = b->trailer_len;

    return (n == 2 && t[0] == '\r') || (n > 2 && t[n - 2] == '\r' && t[n - 3] == '\n');
}

/* Gathers up to one line; an end in a bare LF is refused at once, or the section would not end. */
static void
trailer_gather(struct h1_body *b, struct window *w)
{
    const char *lf = memchr(w->at, '\n', (size_t)(w->end - w->at));
    size_t n = (size_t)((lf ? lf + 1 : w->end) - w->at);

    if (b->trailer_len + n > (size_t)b->trailer_limit_bytes + 2) { /* the empty line is free */
        fail(b, H1_TRAILER_TOO_LARGE);
        return;
    }
    trailer_room(b, n);
    memcpy(b->trailer + b->trailer_len, w->at, n);
    b->trailer_len += (uint32_t)n;
    w->at += n;
    if (!lf)
        return;
    if (b->trailer_len < 2 || b->trailer[b->trailer_len - 2] != '\r')
        fail(b, H1_TRAILER);
    else if (trailer_line_empty(b))
        trailer_check(b);
}

/* Room for that many fields is enough; the empty line is one too many. */
static unsigned
trailer_lines(const struct h1_body *b)
{
    unsigned n = 0;

    for (uint32_t i = 0; i < b->trailer_len; i++)
        n += b->trailer[i] == '\n';
    return n;
}

unsigned
h1_body_trailers(const struct h1_body *b, struct http_field **out, struct arena *a)
{
    const char *at = b->trailer;
    enum h1_fault fault = H1_NONE;
    struct http_field f;
    unsigned n = 0;

    if (b->kind != HTTP_BODY_CHUNKED || b->phase != PH_DONE || b->fault || b->trailer_len <= 2)
        return 0;
    *out = arena_alloc(a, trailer_lines(b) * sizeof(**out));
    while (trailer_next(&at, b->trailer + b->trailer_len, &f, &fault))
        if (H1_TRAILER_OK >> f.id & 1)
            (*out)[n++] = f;
    return n;
}

/* --- decoding -------------------------------------------------------------------------------- */
/* Chunk data goes to where the payload before it ended; the first header opens a gap of a few bytes
 * that the rest is moved over. */
static void
take_data(struct h1_body *b, struct window *w)
{
    size_t n = (size_t)(w->end - w->at);

    if (n > b->left)
        n = (size_t)b->left;
    if (w->out != w->at)
        memmove(w->out, w->at, n);
    w->at += n;
    w->out += n;
    b->left -= n;
    b->total_bytes += n;
    if (b->left == 0)
        b->phase = PH_DATA_CR;
}

static void
decode_chunked(struct h1_body *b, struct window *w)
{
    while (w->at < w->end && b->phase != PH_DONE && !b->fault) {
        if (b->phase == PH_DATA)
            take_data(b, w);
        else if (b->phase == PH_TRAILER)
            trailer_gather(b, w);
        else
            step_byte(b, *w->at++);
    }
}

/* Nothing to undo, only to count. */
static void
decode_length(struct h1_body *b, struct window *w)
{
    size_t n = (size_t)(w->end - w->at);

    if (n > b->left)
        n = (size_t)b->left;
    b->left -= n;
    b->total_bytes += n;
    w->at += n;
    w->out += n;
}

static bool
done(const struct h1_body *b)
{
    switch (b->kind) {
    case HTTP_BODY_NONE: return true;
    case HTTP_BODY_LENGTH: return b->left == 0;
    case HTTP_BODY_CHUNKED: return b->phase == PH_DONE;
    case HTTP_BODY_CLOSE: return false;
    }
    MC_NEVER("kind of a body");
}

enum h1_body_state
h1_body_decode(struct h1_body *b, char *p, size_t n, size_t *used,
               size_t *payload) /* hot: once per read */
{
    struct window w = {p, p + n, p};

    if (b->fault)
        w.end = p;
    if (b->kind == HTTP_BODY_CLOSE) {
        b->total_bytes += n;
        w.at = w.out = w.end;
    } else if (b->kind == HTTP_BODY_LENGTH) {
        decode_length(b, &w);
    } else if (b->kind == HTTP_BODY_CHUNKED) {
        decode_chunked(b, &w);
    }
    *used = (size_t)(w.at - p);
    *payload = (size_t)(w.out - p);
    if (b->fault)
        return H1_BODY_FAULT;
    return done(b) ? H1_BODY_DONE : H1_BODY_MORE;
}

bool
h1_body_eof_ok(const struct h1_body *b)
{
    return !b->fault && (b->kind == HTTP_BODY_CLOSE || done(b));
}
