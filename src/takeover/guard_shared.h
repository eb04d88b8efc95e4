/* SPDX-License-Identifier: BSD-2-Clause
 *
 * guard_shared.h - what the guard's two halves share: the programs in the kernel (guard.bpf.c) and
 * the process (guard.c).  Plain structs without pointers; compiled for both.
 */
#ifndef MC_TAKEOVER_GUARD_SHARED_H
#define MC_TAKEOVER_GUARD_SHARED_H

#include <linux/types.h>

#include "takeover/flow_key.h"

/* Changes with the meaning of anything in here: a process does not go on with a guard of another
 * version, it replaces it. */
#define GUARD_VERSION     3u

#define GUARD_PEERS_MAX   64
#define GUARD_PORTS_MAX   1024 /* addresses with ports */
#define GUARD_SHARED_MAX  256  /* addresses of which one balancer carries each */
#define GUARD_PEER_NONE   GUARD_PEERS_MAX
#define GUARD_NO_SLOT     0xffffffffu
#define GUARD_NEVER       (~(__u64)0)

/* From the TCP header on.  Enough for a segment of a jumbo frame; of what the kernel has joined to
 * more than that the client sends the rest again. */
#define GUARD_SEGMENT_MAX 9216

/* How long a released flow is the kernel's: enough for the reset, too little for another
 * connection of the same name to be answered by it. */
#define GUARD_RELEASE_NS  (10 * 1000000000ull)

/* The one element of the map "state".  Written by the process, read by the programs. */
struct guard_state {
    __u64 lease_until_ns; /* CLOCK_MONOTONIC; GUARD_NEVER: no lease is kept */
    __u64 free_slots;     /* the list of them (guard_slots.h) */
    __u32 version;        /* GUARD_VERSION */
    __u32 heir;           /* index of a peer, or GUARD_PEER_NONE */
    __u32 n_slots;
    __u32 pid; /* whose guard it is, for display */
};

#define GUARD_SLOT_CLOSING 1u /* its FIN and RST may leave */
#define GUARD_SLOT_OPEN    2u /* all acknowledgements may leave */
#define GUARD_SLOT_PROBE   4u /* window probes become acknowledgements (guard_ack_begin()) */

/* An element of the map "slots": 16 bytes, so that no flow's straddles two cache lines. */
struct guard_slot {
    __u32 gate;  /* acknowledgements up to here may leave */
    __u32 flags; /* GUARD_SLOT_* */
    __u32 held;  /* the programs count here what they did not let leave */
    __u32 next;  /* in the list of free ones */
};

/* An element of the map "peers". */
struct guard_peer {
    __u8 mac[6], own_mac[6]; /* own: of the interface towards it */
    __u32 ifindex;
    __u32 alive; /* 0: not; else a number that is another one each time that it comes to life */
};

/* An element of the map "away": of the peer as it was then.  Who has begun anew knows nothing of
 * the flows that it had. */
struct guard_away {
    __u32 peer;
    __u32 alive;
};

/* A key of the map "shared": an address, as in a flow_key. */
struct guard_ip {
    __u8 b[16];
};

/* An element of the map "shared": an address that one balancer carries at a time.  Who does says
 * that it is there while it has the lease; another one, with connections of it, never does. */
struct guard_shared {
    struct guard_peer to; /* who has it, and gets what is not known here; not alive: nobody known */
    __be32 stand_in;      /* IPv4: by this name it asks for MAC addresses instead; 0: by none */
    __u32 here;           /* it is carried here */
};

/* A key of the map "macs", whose values are indexes of peers. */
struct guard_mac {
    __u8 mac[6], zero[2];
};

/* A key of the map "ports".  ::ffff:0.0.0.0 stands for every IPv4 address, :: for every one of
 * IPv6. */
struct guard_port {
    __u8 addr[16];
    __be16 port;
};

/* What the ring brings: a packet of a flow that nobody here knows. */
struct guard_record {
    struct flow_key key;
    __u32 ifindex;
    __u32 n_segment; /* bytes of TCP header and payload, as they were on the wire */
    __u16 n_bytes;   /* of them, behind this struct */
    __u8 from_peer;  /* a peer has sent it on to us */
    __u8 zero;
};

/* The map "port_bits": a bit for each port, in network order as a number, that a key of "ports"
 * has. All that most packets ever cost. */
#define GUARD_PORT_WORDS (65536 / 64)

/* Programs count for each CPU; who reads adds up. */
#define GUARD_COUNTERS(X)                                                                         \
    X(acks_held, "acknowledgements that did not leave, since no peer has the bytes")              \
    X(acks_clamped, "acknowledgements on data that were set back to what peers have")             \
    X(ends_silenced, "FIN and RST of protected flows that did not leave")                         \
    X(lease_silenced, "packets that did not leave, since the lease had run out")                  \
    X(lease_dropped, "packets from clients dropped, since the lease had run out without an heir") \
    X(to_heir, "packets sent on to the heir")                                                     \
    X(to_owner, "packets sent on to a flow's live owner")                                         \
    X(to_carrier, "packets of no flow here, sent on to who carries their address")                \
    X(claims_silenced, "ARP and NDP that would have claimed an address which is another's")       \
    X(held, "packets of unknown flows that were held")                                            \
    X(held_lost, "packets of unknown flows dropped, since too many were held")                    \
    X(released, "packets of unknown flows that were left to the kernel")

enum guard_counter {
#define X(name, text) GUARD_##name,
    GUARD_COUNTERS(X)
#undef X
        GUARD_N_COUNTERS
};

#endif
