/* SPDX-License-Identifier: BSD-2-Clause
 *
 * witness.h - who tells a balancer that hears no peer whether it is cut off itself: a router, or
 * whatever else answers pings (ICMP echo, RFC 792 and 4443).
 *
 * Raw sockets: opened with CAP_NET_RAW, used without.  The takeover's thread.
 */
#ifndef MC_TAKEOVER_WITNESS_H
#define MC_TAKEOVER_WITNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "io/addr.h"
#include "io/loop.h"

#define WITNESS_MAX 8

struct witness;

/* addrs: who to ask; n 0: the default gateways of these interfaces, as they are when asked. */
struct witness *witness_open(const struct addr *addrs, unsigned n, const char *const *interfaces,
                             unsigned n_interfaces, struct errbuf *);
void witness_close(struct witness **); /* NULL'ed */

/* How many there are to ask, now. */
unsigned witness_count(struct witness *);

/* Calls fn when one of them has answered. */
void witness_start(struct witness *, struct loop *, void (*fn)(void *arg), void *arg);
void witness_stop(struct witness *);
/* Asks all of them. */
void witness_ask(struct witness *);

/* --- pure --- */

#define WITNESS_ECHO_BYTES 24
/* family: AF_INET or AF_INET6, whose checksum the kernel makes. */
void witness_echo(int family, uint16_t id, uint16_t seq, uint64_t nonce,
                  uint8_t out[WITNESS_ECHO_BYTES]);
/* p: as the raw socket gives it, with the IPv4 header or without an IPv6 one. */
bool witness_is_answer(int family, const uint8_t *p, size_t n, uint16_t id, uint64_t nonce);
/* The gateways of default routes in the text of /proc/net/route or /proc/net/ipv6_route, through
 * interface (NULL: any).  Returns how many of at most max. */
unsigned witness_gateways(int family, struct str text, const char *interface, struct addr *out,
                          unsigned max);

#endif
