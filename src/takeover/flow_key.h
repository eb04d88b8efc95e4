/* SPDX-License-Identifier: BSD-2-Clause
 *
 * flow_key.h - what a client's TCP connection is called, and what its two ends have agreed upon.
 *
 * The same bytes name a flow in the kernel's maps, in frames between balancers and in hash tables:
 * there is no padding, addresses and ports are in network order, IPv4 is mapped (::ffff:a.b.c.d).
 */
#ifndef MC_TAKEOVER_FLOW_KEY_H
#define MC_TAKEOVER_FLOW_KEY_H

#include <linux/types.h>

struct flow_key {
    __u8 local[16], remote[16]; /* local: the address that the client connected to */
    __be16 local_port, remote_port;
};

_Static_assert(sizeof(struct flow_key) == 36, "a flow_key has no padding");

/* Of the handshake: what sequence numbers and options mean until the connection ends. */
#define TCP_PARAMS_TIMESTAMPS 1u
#define TCP_PARAMS_SACK       2u
#define TCP_PARAMS_SCALE      4u /* windows are scaled; else both shifts are 0 */

struct tcp_params {
    __u32 ts;        /* the value of our timestamp clock (1/ms) when these were read; 0: none */
    __u16 mss;       /* of what we send, without options */
    __u8 send_scale; /* shift of the windows that the client tells */
    __u8 recv_scale; /* shift of those that we tell */
    __u8 options;    /* TCP_PARAMS_* */
};

#ifndef __bpf__
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "io/addr.h"

/* Of one address: IPv4, mapped. */
bool flow_key_ip4(const uint8_t ip[16]);

static inline bool
flow_key_is_ip4(const struct flow_key *k)
{
    return flow_key_ip4(k->local);
}

static inline bool
flow_key_eq(const struct flow_key *a, const struct flow_key *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

/* One end as a key has it; false: it is not IP. */
bool flow_key_end(const struct addr *, uint8_t ip[16], uint16_t *port_be);
/* Of a connection's two addresses; false: of different families, or not IP. */
bool flow_key_of(struct flow_key *, const struct addr *local, const struct addr *remote);
/* The two ends, as a connected or accepted socket has them. */
bool flow_key_of_socket(struct flow_key *, int fd);
void flow_key_addrs(const struct flow_key *, struct addr *local, struct addr *remote);

#define FLOW_KEY_TEXT (2 * ADDR_TEXT + 4)
/* "10.0.0.1:4711 > 10.0.0.9:80", client first; returns out. */
const char *flow_key_text(const struct flow_key *, char out[FLOW_KEY_TEXT]);
#endif

#endif
