/* SPDX-License-Identifier: BSD-2-Clause
 *
 * buf.c - a growing byte buffer.
 */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* Room for n more bytes and the NUL behind them. */
static void
reserve(struct buf *b, size_t n)
{
    size_t cap = b->cap ? b->cap : 64;

    MC_ASSERT(n < PTRDIFF_MAX - b->n);
    while (cap < b->n + n + 1)
        cap *= 2;
    if (cap == b->cap)
        return;
    b->p = mc_realloc(b->p, cap);
    b->cap = cap;
}

void
buf_add(struct buf *b, const void *p, size_t n)
{
    reserve(b, n);
    if (n > 0)
        memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = '\0';
}

void
buf_str(struct buf *b, struct str s)
{
    buf_add(b, s.p, s.n);
}

void
buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap, again;
    int n;

    va_start(ap, fmt);
    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    MC_ASSERT(n >= 0);
    reserve(b, (size_t)n);
    vsnprintf(b->p + b->n, (size_t)n + 1, fmt, again);
    va_end(again);
    b->n += (size_t)n;
}

static bool
utf8_continues(struct str s, size_t n)
{
    if (s.n < n)
        return false;
    for (size_t i = 1; i < n; i++)
        if (((unsigned char)s.p[i] & 0xc0) != 0x80)
            return false;
    return true;
}

/* Bytes of the character that s begins with, 0 when it begins with none (RFC 3629 4: no overlong
 * forms, no surrogates, nothing above U+10FFFF). */
static size_t
utf8_char(struct str s)
{
    unsigned char first = (unsigned char)s.p[0];
    unsigned char second = s.n > 1 ? (unsigned char)s.p[1] : 0;

    if (first < 0x80)
        return 1;
    if (first >= 0xc2 && first <= 0xdf)
        return utf8_continues(s, 2) ? 2 : 0;
    if (first >= 0xe0 && first <= 0xef) {
        if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f))
            return 0;
        return utf8_continues(s, 3) ? 3 : 0;
    }
    if (first >= 0xf0 && first <= 0xf4) {
        if ((first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f))
            return 0;
        return utf8_continues(s, 4) ? 4 : 0;
    }
    return 0;
}

static void
json_ascii(struct buf *b, char c)
{
    switch (c) {
    case '"': buf_str(b, STR("\\\"")); break;
    case '\\': buf_str(b, STR("\\\\")); break;
    case '\n': buf_str(b, STR("\\n")); break;
    case '\r': buf_str(b, STR("\\r")); break;
    case '\t': buf_str(b, STR("\\t")); break;
    default:
        if ((unsigned char)c < 0x20)
            buf_printf(b, "\\u%04x", (unsigned)c);
        else
            buf_add(b, &c, 1);
    }
}

void
buf_json_text(struct buf *b, struct str s)
{
    reserve(b, s.n);
    b->p[b->n] = '\0'; /* also when s is empty */
    while (s.n > 0) {
        size_t n = utf8_char(s);

        if (n == 1)
            json_ascii(b, s.p[0]);
        else if (n > 1)
            buf_add(b, s.p, n);
        else
            buf_str(b, STR("\xef\xbf\xbd"));
        n = n ? n : 1;
        s.p += n;
        s.n -= n;
    }
}

void
buf_skip(struct buf *b, size_t n)
{
    MC_ASSERT(n <= b->n);
    if (n == 0)
        return;
    b->n -= n;
    memmove(b->p, b->p + n, b->n + 1);
}

void
buf_free(struct buf *b)
{
    free(b->p);
    *b = (struct buf){0};
}
