/* SPDX-License-Identifier: BSD-2-Clause
 *
 * announce.h - tells a network that an address is here now, and hears who else says so, unasked or
 * asked.
 *
 * Gratuitous ARP and probes (RFC 5227, RFC 826) for IPv4, unsolicited neighbour advertisements (RFC
 * 4861 7.2.6) and solicitations of who is about to take an address (RFC 4862 5.4) for IPv6, by a
 * packet socket (CAP_NET_RAW).  The frames are pure.  One thread.
 */
#ifndef MC_IO_ANNOUNCE_H
#define MC_IO_ANNOUNCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "io/addr.h"

#define ANNOUNCE_FRAME_MAX 96

struct announce_mac {
    uint8_t b[6];
};

/* A frame that says: `address` is at `mac`.  reply: of the two forms that gratuitous ARP has, the
 * answer; some hosts heed only the one, some the other.  Returns its length. */
size_t announce_frame(const struct addr *address, const struct announce_mac *, bool reply,
                      uint8_t out[ANNOUNCE_FRAME_MAX]);
/* A frame that asks who has the address, in nobody's name.  Returns its length. */
size_t announce_question(const struct addr *address, const struct announce_mac *,
                         uint8_t out[ANNOUNCE_FRAME_MAX]);
/* Does the frame announce an address, unasked, or answer announce_question()?  Whatever the bytes
 * are. */
bool announce_read(const uint8_t *frame, size_t n, struct addr *address, struct announce_mac *);

/* A socket on an interface: non-blocking, sees ARP and neighbour advertisements of others only.
 * MC_ENOENT: there is no such interface, or one without Ethernet addresses. */
enum mc_err announce_open(const char *interface, int *fd, struct announce_mac *own,
                          struct errbuf *);
/* Whether it went out. */
bool announce_send(int fd, const struct addr *address, const struct announce_mac *own);
bool announce_ask(int fd, const struct addr *address, const struct announce_mac *own);

#endif
