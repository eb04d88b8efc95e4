/* SPDX-License-Identifier: BSD-2-Clause
 *
 * probe.h - single packets from an address that others have the connection of: a keep-alive that
 * makes a client speak, a nudge that makes it send again, and a reset for a connection that cannot
 * be carried on.
 *
 * Raw sockets: opened with CAP_NET_RAW, used without.  One thread at a time.
 */
#ifndef MC_TAKEOVER_PROBE_H
#define MC_TAKEOVER_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "takeover/flow_key.h"

struct probe;

/* NULL: what is missing is in the errbuf.  A host without IPv6 probes IPv4 only. */
struct probe *probe_open(struct errbuf *);
void probe_close(struct probe **); /* NULL'ed */

/* One byte of garbage before send_next, which the client has: it must answer with what it has and
 * what it sends next, its window and its timestamp.  ack: any number that the client may have sent
 * up to.  ts, where timestamps are in use: not before what the dead owner's clock may have said. */
bool probe_alive(struct probe *, const struct flow_key *, const struct tcp_params *,
                 uint32_t send_next, uint32_t ack, uint32_t ts);
/* TCP-LCD (RFC 6069): who hears that what it sends again does not arrive (ICMP, destination
 * unreachable) takes that for a gap in the network, not for too much traffic, and takes one step of
 * its back-off back; if it has waited for so long already, it sends at once.  So a client does not
 * wait for twice as long as it has, when its packets arrive again.  Each message takes back one
 * step.  Where there is none to take back, and to clients that know nothing of it, nothing happens:
 * to a connection that stands it is no error (RFC 1122 4.2.3.9).  unacked: where the client's bytes
 * begin that nobody has acknowledged, else it is not believed (RFC 5927 4.1). */
#define PROBE_NUDGES 4 /* 0.2 s doubled so often is the longest that BGP takes */
bool probe_nudge(struct probe *, const struct flow_key *, uint32_t unacked);
/* send_next: as the client expects it, that is, what it acknowledged last; else it is not
 * believed. */
bool probe_reset(struct probe *, const struct flow_key *, uint32_t send_next, uint32_t ack);

#define PROBE_SEGMENT_MAX 40 /* header, timestamps, one byte, and rounded up */
/* Pure: the segment from the TCP header on, checksum included.  Returns its length. */
size_t probe_segment(const struct flow_key *, uint8_t flags, uint32_t seq, uint32_t ack,
                     const uint32_t ts[2], bool garbage, uint8_t out[PROBE_SEGMENT_MAX]);

#define PROBE_UNREACHABLE_MAX 56 /* its header, one of IPv6, and 8 bytes of TCP's */
/* Pure: the message from the ICMP header on, checksum included, on a segment of the client's that
 * begins at seq.  Returns its length. */
size_t probe_unreachable(const struct flow_key *, uint32_t seq, uint8_t out[PROBE_UNREACHABLE_MAX]);

#endif
