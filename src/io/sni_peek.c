/* SPDX-License-Identifier: BSD-2-Clause
 *
 * sni_peek.c - see sni_peek.h.
 */
#include "io/sni_peek.h"

#include <string.h>

#define RECORD_HEAD      5
#define RECORD_MAX       16384 /* RFC 8446 5.1 */
#define RECORD_HANDSHAKE 22
#define CLIENT_HELLO     1
#define MESSAGE_HEAD     4

#define EXT_SERVER_NAME  0
#define EXT_ALPN         16
#define NAME_HOST        0   /* RFC 6066 3 */
#define NAME_MAX_BYTES   253 /* as in a configuration */

static unsigned
be16(const uint8_t *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

static uint32_t
message_length(const uint8_t head[4])
{
    return (uint32_t)head[1] << 16 | (uint32_t)head[2] << 8 | head[3];
}

/* --- the end ------------------------------------------------------------------------------------
 */

/* The bytes there are of a record's head fit one that carries a handshake.  The minor version is
 * whatever it likes (RFC 8446 5.1). */
static bool
is_handshake(const uint8_t *p, size_t n)
{
    return (n < 1 || p[0] == RECORD_HANDSHAKE) && (n < 2 || p[1] == 3);
}

/* Notes what a record brings of the message's head. */
static void
note_head(struct sni_peek *s, const uint8_t *payload, size_t n)
{
    for (size_t i = 0; i < n && s->got + i < MESSAGE_HEAD; i++)
        s->head[s->got + i] = payload[i];
}

/* What is known of the message, its first `got` bytes being there and `open` more in a record that
 * is not whole. */
static enum sni_peek_state
judge(const struct sni_peek *s, uint32_t got)
{
    uint32_t whole;

    if (got >= 1 && s->head[0] != CLIENT_HELLO)
        return SNI_PEEK_BAD;
    if (got < MESSAGE_HEAD)
        return SNI_PEEK_MORE;
    whole = MESSAGE_HEAD + message_length(s->head);
    if (whole > SNI_PEEK_MAX - RECORD_HEAD)
        return SNI_PEEK_BAD;
    if (got < whole)
        return SNI_PEEK_MORE;
    /* nothing may follow it in its record: the keys change behind it (RFC 8446 5.1) */
    return got == whole ? SNI_PEEK_WHOLE : SNI_PEEK_BAD;
}

enum sni_peek_state
sni_peek_end(struct sni_peek *s, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;

    for (;;) {
        const uint8_t *record = p + s->at;
        size_t have = n - s->at, len, part;
        enum sni_peek_state st;

        if (!is_handshake(record, have))
            return s->at == 0 ? SNI_PEEK_OTHER : SNI_PEEK_BAD;
        if (have < RECORD_HEAD)
            return s->at + RECORD_HEAD < SNI_PEEK_MAX ? SNI_PEEK_MORE : SNI_PEEK_BAD;
        len = be16(record + 3);
        if (len == 0 || len > RECORD_MAX || s->at + RECORD_HEAD + len > SNI_PEEK_MAX)
            return SNI_PEEK_BAD;
        part = have - RECORD_HEAD < len ? have - RECORD_HEAD : len;
        note_head(s, record + RECORD_HEAD, part);
        st = judge(s, s->got + (uint32_t)part);
        if (st == SNI_PEEK_BAD || part < len)
            return st == SNI_PEEK_WHOLE ? SNI_PEEK_BAD : st;
        if (st == SNI_PEEK_WHOLE)
            return st;
        s->got += (uint32_t)len;
        s->at += (uint32_t)(RECORD_HEAD + len);
    }
}

/* --- what is in it ------------------------------------------------------------------------------
 */

/* A piece of the message; p is NULL once something was missing. */
struct cut {
    const uint8_t *p;
    size_t n;
};

static struct cut
take(struct cut *c, size_t n)
{
    struct cut part = {c->p, n};

    if (c->p == NULL || c->n < n) {
        *c = (struct cut){NULL, 0};
        return *c;
    }
    c->p += n;
    c->n -= n;
    return part;
}

static unsigned
take_u8(struct cut *c)
{
    struct cut b = take(c, 1);

    return b.p != NULL ? b.p[0] : 0;
}

static unsigned
take_u16(struct cut *c)
{
    struct cut b = take(c, 2);

    return b.p != NULL ? be16(b.p) : 0;
}

/* A vector with its length before it, of at least `min` bytes. */
static struct cut
vector8(struct cut *c, size_t min)
{
    struct cut v = take(c, take_u8(c));

    return v.n >= min ? v : (*c = (struct cut){NULL, 0});
}

static struct cut
vector16(struct cut *c, size_t min)
{
    struct cut v = take(c, take_u16(c));

    return v.n >= min ? v : (*c = (struct cut){NULL, 0});
}

/* Letters, digits, '-', '_', and dots with something between them. */
static bool
is_name(struct cut v)
{
    unsigned char before = '.';

    if (v.n == 0 || v.n > NAME_MAX_BYTES)
        return false;
    for (size_t i = 0; i < v.n; before = v.p[i++]) {
        unsigned char c = v.p[i], low = c | 0x20;

        if (c == '.'
                ? before == '.'
                : !((low >= 'a' && low <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_'))
            return false;
    }
    return before != '.';
}

/* RFC 6066 3: one name of each type, and there is but one type. */
static bool
read_server_name(struct cut ext, struct sni_hello *out)
{
    struct cut list = vector16(&ext, 1), name;

    if (ext.p == NULL || ext.n != 0 || take_u8(&list) != NAME_HOST)
        return false;
    name = vector16(&list, 1);
    if (list.p == NULL || list.n != 0 || !is_name(name))
        return false;
    out->name = (struct str){(const char *)name.p, name.n};
    return true;
}

/* RFC 7301 3.1 */
static bool
read_alpn(struct cut ext, struct sni_hello *out)
{
    struct cut list = vector16(&ext, 2), rest = list;

    if (ext.p == NULL || ext.n != 0)
        return false;
    while (rest.n > 0)
        vector8(&rest, 1);
    if (rest.p == NULL)
        return false;
    out->alpn = (struct str){(const char *)list.p, list.n};
    return true;
}

/* RFC 8446 4.2: none twice; this looks only at those that are read here. */
static bool
read_extensions(struct cut all, struct sni_hello *out)
{
    bool named = false, alpn = false;

    while (all.n > 0) {
        unsigned type = take_u16(&all);
        struct cut ext = vector16(&all, 0);

        if (all.p == NULL)
            return false;
        if (type == EXT_SERVER_NAME) {
            if (named || !read_server_name(ext, out))
                return false;
            named = true;
        } else if (type == EXT_ALPN) {
            if (alpn || !read_alpn(ext, out))
                return false;
            alpn = true;
        }
    }
    return all.p != NULL;
}

static bool
read_hello(struct cut m, struct sni_hello *out)
{
    struct cut session, suites, all;

    if (take_u8(&m) != CLIENT_HELLO)
        return false;
    take(&m, MESSAGE_HEAD - 1);
    if (take_u16(&m) >> 8 != 3)
        return false;
    take(&m, 32); /* random */
    session = vector8(&m, 0);
    suites = vector16(&m, 2);
    vector8(&m, 1); /* compression */
    if (m.p == NULL || session.n > 32 || suites.n % 2 != 0)
        return false;
    if (m.n == 0)
        return true; /* TLS 1.2 can do without extensions */
    all = vector16(&m, 0);
    return m.p != NULL && m.n == 0 && read_extensions(all, out);
}

/* The message without the heads of the records around it. */
static size_t
flatten(const uint8_t *p, size_t n, uint8_t *flat)
{
    size_t at = 0, got = 0, whole = SIZE_MAX;

    while (got < whole && n - at >= RECORD_HEAD) {
        size_t len = be16(p + at + 3);

        if (len > n - at - RECORD_HEAD || got + len > SNI_PEEK_MAX)
            return 0;
        memcpy(flat + got, p + at + RECORD_HEAD, len);
        got += len;
        at += RECORD_HEAD + len;
        if (got >= MESSAGE_HEAD)
            whole = MESSAGE_HEAD + message_length(flat);
    }
    return got == whole ? got : 0;
}

bool
sni_peek_read(const void *p, size_t n, uint8_t *flat, struct sni_hello *out)
{
    size_t whole = flatten(p, n, flat);

    *out = (struct sni_hello){.name = STR_NONE, .alpn = STR_NONE};
    return whole > 0 && read_hello((struct cut){flat, whole}, out);
}
