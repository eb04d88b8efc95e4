/* SPDX-License-Identifier: BSD-2-Clause
 *
 * guard.h - stands between the kernel's TCP and the network, for flows that are to survive.
 *
 * Two programs (guard.bpf.c) at the tc hooks of the interfaces where clients' packets come in and
 * the answers go out: a way past them is a way past the guard.
 *
 * Out:  the kernel acknowledges what it receives at once.  The client is told only up to the gate
 *       of the flow, which the owner opens as its peers have the bytes.  FIN and RST of a flow
 *       leave when its owner has said that it closes: a process that is killed is silent.
 * In:   packets of known flows pass.  Others go to their live owner, when user space has found out
 *       who that is, or to user space, which finds out: the kernel must not answer with RST.
 * Lease: a process that is dead or frozen does not prolong its lease.  When that has run out its
 *       host says nothing more for it and sends what comes in on to the heir.
 *
 * A packet is sent on to another balancer once, by its MAC address, unchanged but for that: the
 * balancers must be on one Ethernet segment.
 *
 * The programs stay when the process dies, that is their point; the next guard_open() replaces
 * them, `meercat guard clear` removes them.  Needed: CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN (or
 * root), Linux 5.12. Afterwards CAP_BPF where Linux is older than 5.19, CAP_NET_ADMIN for repair.h.
 *
 * Any thread may call what takes a struct guard, but for guard_poll(): one at a time.
 */
#ifndef MC_TAKEOVER_GUARD_H
#define MC_TAKEOVER_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/units.h"
#include "io/addr.h"
#include "takeover/flow_key.h"
#include "takeover/guard_shared.h"

#define GUARD_INTERFACES_MAX 16
#define GUARD_ADDRS_MAX      16 /* of an interface */

struct guard_inner;

/* What the inline functions below need stands open; the rest is guard.c's. */
struct guard {
    unsigned magic;
    struct guard_state *state; /* memory shared with the programs */
    struct guard_slot *slots;
    struct guard_inner *inner;
};

struct guard_conf {
    const char *const *interfaces; /* their names */
    unsigned n_interfaces;
    const struct addr *ports; /* as for guard_ports_set(): known before the first packet comes */
    unsigned n_ports;
    unsigned flows;      /* protected at a time; 0: 262144 */
    unsigned away;       /* known to be another balancer's, the oldest are forgotten; 0: 65536 */
    unsigned released;   /* left to the kernel, likewise; 0: 16384 */
    unsigned ring_bytes; /* of packets held for user space, a power of two; 0: 4 MiB */
    bool later;          /* it stands where it is needed after guard_attach() only */
};

/* Replaces the guard of an earlier process: its sockets that the kernel still keeps without a
 * process (orphans on these ports) are destroyed before, while it silences them.  MC_ENOTSUP: the
 * machine cannot, and the errbuf has the one thing that is missing. */
enum mc_err guard_open(const struct guard_conf *, struct guard **, struct errbuf *);
/* Takes the place of the guard of a process that lives, without a packet in between; orphaned: it
 * has died meanwhile, and what the kernel keeps of it on these ports is destroyed first. */
enum mc_err guard_attach(struct guard *, const struct addr *ports, unsigned n_ports, bool orphaned,
                         struct errbuf *);
/* Hangs it up again where somebody has taken it away (tc(8)), or where an interface of that name
 * was made anew.  Returns at how many; eb says where it cannot be, and is empty when it stands
 * everywhere.  For whoever attaches it, from time to time. */
unsigned guard_mend(struct guard *, struct errbuf *);
/* Another process is about to do so on these interfaces; elsewhere the guard goes.  Until then, and
 * not longer than the lease, packets are judged as they are now.  guard_close() follows. */
void guard_yield(struct guard *, mc_ns lease_until, const unsigned *ifindex, unsigned n);
/* remove: the programs go, and the kernel answers by itself again.  Else they stay until the next
 * guard_open().  NULL'ed. */
void guard_close(struct guard **, bool remove);

/* The addresses on which connections are protected ("*:80": any); replaces those before. */
enum mc_err guard_ports_set(struct guard *, const struct addr *, unsigned n, struct errbuf *);

/* --- flows: a worker's calls --- */

/* Protects it from now on: acknowledgements leave up to gate.  MC_EFULL: no room, the flow is not
 * protected.  MC_EEXIST: a flow of that name is protected already.  Once a connection. */
enum mc_err guard_flow_add(struct guard *, const struct flow_key *, uint32_t gate, uint32_t *slot);
/* The kernel's TCP is as without a guard, so far as this flow goes.  Once a connection, when it has
 * been closed (its FIN may still have to be sent again) or dropped. */
void guard_flow_del(struct guard *, const struct flow_key *, uint32_t slot);

/* Protected here, whichever worker has it. */
bool guard_flow_known(const struct guard *, const struct flow_key *);

/* Acknowledgements of everything before seq may leave; a client's FIN counts for one.  Hot: some
 * times a request.  True: the kernel wanted to acknowledge that much and was kept from it, and will
 * not try again by itself: repair_ack() makes it, or the client waits for its retransmission
 * timeout.  What is about to be sent carries the acknowledgement too. */
static inline bool
guard_gate(struct guard *g, uint32_t slot, uint32_t seq)
{
    struct guard_slot *s = &g->slots[slot];

    /* the program counts in `held`, then looks at the gate again: one of us sees the other */
    __atomic_store_n(&s->gate, seq, __ATOMIC_SEQ_CST);
    return __atomic_load_n(&s->held, __ATOMIC_SEQ_CST) != 0 &&
           __atomic_exchange_n(&s->held, 0, __ATOMIC_SEQ_CST) != 0;
}

/* Sets what holds for the flow from now on, GUARD_SLOT_*: CLOSING before a close(2), shutdown(2)
 * or reset that is meant, or while its end would be one for good; OPEN while its bytes are not
 * replicated (the gate is not looked at). */
static inline void
guard_flags(struct guard *g, uint32_t slot, uint32_t flags)
{
    __atomic_store_n(&g->slots[slot].flags, flags, __ATOMIC_RELEASE);
}

static inline void
guard_closing(struct guard *g, uint32_t slot)
{
    __atomic_fetch_or(&g->slots[slot].flags, GUARD_SLOT_CLOSING, __ATOMIC_RELEASE);
}

/* A window probe of the kernel's, one before what its client expects, is no more than a reason to
 * answer: what it acknowledges is not looked at (RFC 9293 3.10.7.4).  One that leaves between these
 * is moved to where it is believed. */
static inline void
guard_ack_begin(struct guard *g, uint32_t slot)
{
    __atomic_fetch_or(&g->slots[slot].flags, GUARD_SLOT_PROBE, __ATOMIC_SEQ_CST);
}

static inline void
guard_ack_end(struct guard *g, uint32_t slot)
{
    __atomic_fetch_and(&g->slots[slot].flags, ~GUARD_SLOT_PROBE, __ATOMIC_SEQ_CST);
}

/* --- the takeover thread's calls --- */

/* This host may speak for its flows until then (CLOCK_MONOTONIC).  A time that is past: it is
 * fenced.  Before the first call, and with MC_NEVER_NS, there is no lease and nothing runs out. */
static inline void
guard_lease(struct guard *g, mc_ns until)
{
    __atomic_store_n(&g->state->lease_until_ns,
                     until == MC_NEVER_NS ? GUARD_NEVER : (uint64_t)until, __ATOMIC_RELEASE);
}

/* Whether that is so now.  Any thread. */
static inline bool
guard_may_speak(const struct guard *g, mc_ns now)
{
    const uint64_t until = __atomic_load_n(&g->state->lease_until_ns, __ATOMIC_ACQUIRE);

    return until == GUARD_NEVER || (uint64_t)now <= until;
}

/* Where packets go when the lease has run out; GUARD_PEER_NONE: nowhere. */
static inline void
guard_heir(struct guard *g, unsigned peer)
{
    __atomic_store_n(&g->state->heir, peer, __ATOMIC_RELEASE);
}

/* A balancer, by an index below GUARD_PEERS_MAX that the caller chooses: it is reached by this MAC
 * address through this interface.  Not alive: nothing is sent to it, and its flows are unknown. */
enum mc_err guard_peer_set(struct guard *, unsigned peer, bool alive, unsigned ifindex,
                           const uint8_t mac[6], struct errbuf *);

/* Packets of this flow are that peer's, until it is not alive any more (also when it comes to life
 * again), or a SYN begins another connection of that name.  Nothing while it is not alive. */
void guard_away_set(struct guard *, const struct flow_key *, unsigned peer);
/* This address, which one balancer carries at a time, is carried here: while there is no lease the
 * host does not say so, to whoever asks (ARP, NDP). */
enum mc_err guard_address_here(struct guard *, const struct addr *, struct errbuf *);
/* It is carried by another (to; not alive: nobody is known), and only connections that are here
 * already are served here: the host does not answer ARP for it, asks in the name of another address
 * (IPv4: one of that interface, where there is any), and what else comes in goes to who carries it.
 * It never answers for IPv6 addresses that are on no interface. */
enum mc_err guard_address_moved(struct guard *, const struct addr *, const struct guard_peer *to,
                                struct errbuf *);
/* Neither. */
void guard_address_gone(struct guard *, const struct addr *);
bool guard_address_is_moved(const struct guard *, const struct addr *);
/* Nobody has it: the kernel answers its packets (with RST), for GUARD_RELEASE_NS. */
void guard_release(struct guard *, const struct flow_key *);

/* A packet that was held.  Checksum and header are good; nothing else of it can be believed. */
struct guard_packet {
    struct flow_key key;
    unsigned ifindex;
    bool from_peer; /* a peer took us for the owner, or for its heir */
    bool has_ts;
    uint8_t flags;   /* TH_* */
    uint16_t window; /* as it stands in the header */
    uint32_t seq, ack;
    uint32_t ts, ts_echo;
    const uint8_t *payload; /* until the callback returns */
    size_t n_payload;       /* may be less than was sent: the client will send the rest again */
};
typedef void guard_packet_f(void *arg, const struct guard_packet *);

/* Pure: what the segment says, from the TCP header on.  False: cut off, malformed, or its checksum
 * is wrong.  n_segment: its length on the wire. */
bool guard_packet_read(const struct flow_key *, const uint8_t *segment, size_t n, size_t n_segment,
                       struct guard_packet *);

/* Readable while packets are held. */
int guard_fd(const struct guard *);
/* Gives at most max of them.  Returns how many. */
unsigned guard_poll(struct guard *, guard_packet_f *, void *arg, unsigned max);

/* Where the guard stands, for telling peers. */
struct guard_interface {
    char name[16];
    unsigned ifindex;
    uint8_t mac[6];
    unsigned n_addrs;
    struct addr_net addr[GUARD_ADDRS_MAX];
};
/* Fills at most max; addresses are as they are now. */
unsigned guard_interfaces(const struct guard *, struct guard_interface *, unsigned max);

struct guard_stats {
    uint64_t n[GUARD_N_COUNTERS]; /* by enum guard_counter */
};
void guard_stats(const struct guard *, struct guard_stats *);
/* Name and text of a counter. */
const char *guard_counter_name(enum guard_counter);
const char *guard_counter_text(enum guard_counter);

/* --- by hand --- */

/* Removes the guard of the dead from an interface; *was: there was one.  MC_EEXIST: its process
 * lives. */
enum mc_err guard_clear(const char *interface, bool *was, struct errbuf *);
/* Tells people about the guard of an interface: state, peers, counters.  MC_ENOENT: none. */
enum mc_err guard_show(const char *interface, FILE *, struct errbuf *);
/* Calls fn for each interface of the host that has a guard. */
enum mc_err guard_each(void (*fn)(void *arg, const char *interface), void *arg, struct errbuf *);

#endif
