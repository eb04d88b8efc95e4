/* SPDX-License-Identifier: BSD-2-Clause
 *
 * checksum.c - the Internet checksum.
 */
#include "takeover/checksum.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "takeover/flow_key.h"

uint32_t
checksum_add(uint32_t sum, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    uint16_t word;

    for (; n >= sizeof(word); p += sizeof(word), n -= sizeof(word)) {
        memcpy(&word, p, sizeof(word));
        sum += word;
    }
    if (n == 1) {
        word = 0;
        memcpy(&word, p, 1);
        sum += word;
    }
    return checksum_fold(sum);
}

/* IPv4's (RFC 9293 3.1) and IPv6's (RFC 8200 8.1) differ in the widths of length and protocol,
 * which the sum does not see. */
uint32_t
checksum_pseudo(const uint8_t from[16], const uint8_t to[16], uint8_t protocol, size_t n)
{
    size_t skip = flow_key_ip4(from) ? 12 : 0;
    uint32_t rest[2] = {htonl((uint32_t)n), htonl(protocol)}, sum;

    sum = checksum_add(0, from + skip, 16 - skip);
    sum = checksum_add(sum, to + skip, 16 - skip);
    return checksum_add(sum, rest, sizeof(rest));
}

uint16_t
checksum_fold(uint32_t sum)
{
    while (sum > 0xffff)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}
