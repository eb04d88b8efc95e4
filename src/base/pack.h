/* SPDX-License-Identifier: BSD-2-Clause
 *
 * pack.h - numbers and strings into bytes for the wire, and back.  Pure.
 *
 * Big-endian; varints carry 7 bits a byte, least first (LEB128).  Writing beyond the room and
 * reading beyond the end do nothing but set `bad`, which is looked at once at the end; reads then
 * give zeros.  So a decoder needs no check after each field, only bounds on what it uses at once.
 */
#ifndef MC_BASE_PACK_H
#define MC_BASE_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

struct pack_out {
    uint8_t *p;
    size_t n, cap; /* bytes written, and room */
    bool bad;      /* something found no room */
};

struct pack_in {
    const uint8_t *p;
    size_t n; /* bytes left */
    bool bad; /* something was cut off or out of range */
};

void pack_u8(struct pack_out *, uint8_t);
void pack_u16(struct pack_out *, uint16_t);
void pack_u32(struct pack_out *, uint32_t);
void pack_u64(struct pack_out *, uint64_t);
void pack_f32(struct pack_out *, float); /* IEEE 754 */
void pack_varint(struct pack_out *, uint64_t);
/* Zigzag: small numbers of either sign are short. */
void pack_svarint(struct pack_out *, int64_t);
void pack_bytes(struct pack_out *, const void *, size_t n);
/* A varint of the length, then the bytes. */
void pack_str(struct pack_out *, struct str);

uint8_t unpack_u8(struct pack_in *);
uint16_t unpack_u16(struct pack_in *);
uint32_t unpack_u32(struct pack_in *);
uint64_t unpack_u64(struct pack_in *);
uint64_t unpack_varint(struct pack_in *);
int64_t unpack_svarint(struct pack_in *);
/* The next n bytes where they lie; NULL when there are fewer. */
const uint8_t *unpack_bytes(struct pack_in *, size_t n);
/* What pack_str() wrote, where it lies; longer than max is bad. */
struct str unpack_str(struct pack_in *, size_t max);

#endif
