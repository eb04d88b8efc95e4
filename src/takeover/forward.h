/* SPDX-License-Identifier: BSD-2-Clause
 *
 * forward.h - a packet that was held here, sent on: to the balancer whose it is, as the guard sends
 * on those that follow, by its MAC address; or to this host's kernel, where the connection is by
 * now.  Without this the client would have to send it again, which it does after 200 ms at the
 * soonest.
 *
 * The packet is made anew from what was understood of it; options but timestamps are left out.
 * Packet and raw sockets: opened with CAP_NET_RAW, used without.  One thread at a time.
 */
#ifndef MC_TAKEOVER_FORWARD_H
#define MC_TAKEOVER_FORWARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "takeover/guard.h"

struct forward;

struct forward *forward_open(struct errbuf *); /* NULL: what is missing is in the errbuf */
void forward_close(struct forward **);         /* NULL'ed */

/* False: the kernel did not take it. */
bool forward_packet(struct forward *, unsigned ifindex, const uint8_t from[6], const uint8_t to[6],
                    const struct guard_packet *);
/* By way of the loopback interface.  False: the kernel did not take it. */
bool forward_home(struct forward *, const struct guard_packet *);

/* What the client sent as one may be longer than the network takes. */
#define FORWARD_PAYLOAD   1400
#define FORWARD_FRAME_MAX (14 + 40 + 32 + FORWARD_PAYLOAD)
/* Pure: the Ethernet frame with at most FORWARD_PAYLOAD bytes of the payload from `at` on. */
size_t forward_frame(const struct guard_packet *, size_t at, const uint8_t from[6],
                     const uint8_t to[6], uint8_t out[FORWARD_FRAME_MAX]);

#endif
