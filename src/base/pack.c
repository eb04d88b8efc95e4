/* SPDX-License-Identifier: BSD-2-Clause
 *
 * pack.c - bytes for the wire, see pack.h.
 */
#include "base/pack.h"

#include <string.h>

#define VARINT_MAX 10 /* bytes of 64 bits */

/* --- out ----------------------------------------------------------------------------------------
 */

void
pack_bytes(struct pack_out *o, const void *p, size_t n)
{
    if (o->bad || o->cap - o->n < n) {
        o->bad = true;
        return;
    }
    if (n > 0)
        memcpy(o->p + o->n, p, n);
    o->n += n;
}

static void
pack_be(struct pack_out *o, uint64_t v, unsigned bytes)
{
    uint8_t b[8];

    for (unsigned i = 0; i < bytes; i++)
        b[i] = (uint8_t)(v >> (8 * (bytes - 1 - i)));
    pack_bytes(o, b, bytes);
}

void
pack_u8(struct pack_out *o, uint8_t v)
{
    pack_be(o, v, 1);
}

void
pack_u16(struct pack_out *o, uint16_t v)
{
    pack_be(o, v, 2);
}

void
pack_u32(struct pack_out *o, uint32_t v)
{
    pack_be(o, v, 4);
}

void
pack_u64(struct pack_out *o, uint64_t v)
{
    pack_be(o, v, 8);
}

void
pack_f32(struct pack_out *o, float v)
{
    uint32_t u;

    memcpy(&u, &v, sizeof(u));
    pack_u32(o, u);
}

void
pack_varint(struct pack_out *o, uint64_t v)
{
    uint8_t b[VARINT_MAX];
    size_t n = 0;

    for (; v >= 0x80; v >>= 7)
        b[n++] = (uint8_t)(v | 0x80);
    b[n++] = (uint8_t)v;
    pack_bytes(o, b, n);
}

void
pack_svarint(struct pack_out *o, int64_t v)
{
    pack_varint(o, ((uint64_t)v << 1) ^ (v < 0 ? UINT64_MAX : 0));
}

void
pack_str(struct pack_out *o, struct str s)
{
    pack_varint(o, s.n);
    pack_bytes(o, s.p, s.n);
}

/* --- in -----------------------------------------------------------------------------------------
 */

const uint8_t *
unpack_bytes(struct pack_in *i, size_t n)
{
    const uint8_t *p = i->p;

    if (i->bad || i->n < n) {
        i->bad = true;
        return NULL;
    }
    i->p += n;
    i->n -= n;
    return p;
}

static uint64_t
unpack_be(struct pack_in *i, unsigned bytes)
{
    const uint8_t *b = unpack_bytes(i, bytes);
    uint64_t v = 0;

    for (unsigned at = 0; b && at < bytes; at++)
        v = v << 8 | b[at];
    return v;
}

uint8_t
unpack_u8(struct pack_in *i)
{
    return (uint8_t)unpack_be(i, 1);
}

uint16_t
unpack_u16(struct pack_in *i)
{
    return (uint16_t)unpack_be(i, 2);
}

uint32_t
unpack_u32(struct pack_in *i)
{
    return (uint32_t)unpack_be(i, 4);
}

uint64_t
unpack_u64(struct pack_in *i)
{
    return unpack_be(i, 8);
}

uint64_t
unpack_varint(struct pack_in *i)
{
    uint64_t v = 0;

    for (unsigned at = 0; at < VARINT_MAX; at++) {
        uint8_t b = unpack_u8(i);

        if (at == VARINT_MAX - 1 && b > 1)
            break; /* beyond 64 bits */
        v |= (uint64_t)(b & 0x7f) << (7 * at);
        if (!(b & 0x80))
            return i->bad ? 0 : v;
    }
    i->bad = true;
    return 0;
}

int64_t
unpack_svarint(struct pack_in *i)
{
    uint64_t v = unpack_varint(i);

    return (int64_t)(v >> 1 ^ (v & 1 ? UINT64_MAX : 0));
}

struct str
unpack_str(struct pack_in *i, size_t max)
{
    uint64_t n = unpack_varint(i);
    const uint8_t *p;

    if (n > max)
        i->bad = true;
    p = unpack_bytes(i, i->bad ? 0 : (size_t)n);
    return i->bad ? (struct str){NULL, 0} : (struct str){(const char *)p, (size_t)n};
}
