/* SPDX-License-Identifier: BSD-2-Clause
 *
 * checksum.h - the Internet checksum (RFC 1071) of segments, for packets that we read and make
 * ourselves.  Pure.
 *
 * A sum is of 16-bit words as they lie in memory: the byte order cancels out.
 */
#ifndef MC_TAKEOVER_CHECKSUM_H
#define MC_TAKEOVER_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* Adds n bytes (64 KiB at most) to a sum; an odd one at the end is followed by a zero. */
uint32_t checksum_add(uint32_t sum, const void *, size_t n);
/* Of the pseudo header of n bytes of that protocol (IPPROTO_*), as IPv4 has it or IPv6 (addresses
 * as in a flow_key). */
uint32_t checksum_pseudo(const uint8_t from[16], const uint8_t to[16], uint8_t protocol, size_t n);
/* To 16 bits.  What a header has is the complement of this. */
uint16_t checksum_fold(uint32_t sum);

#endif
