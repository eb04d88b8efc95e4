/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * guard.bpf.c - the guard's programs, run by the kernel for each packet at the tc hooks.
 *
 * guard.h tells what they are for.  Compiled for BPF, part of the binary as a file
 * (guard_object.c). A packet that is none of ours costs the header, a bit and no more.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <stdbool.h>
#include <stddef.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "takeover/guard_shared.h"

#define PASS              TC_ACT_UNSPEC /* other filters and the kernel go on with it */
#define DROP              TC_ACT_SHOT

#define TCP_FIN           0x01
#define TCP_SYN           0x02
#define TCP_RST           0x04
#define TCP_ACK           0x10

#define STATE_LISTEN      10     /* TCP_LISTEN, which no header for user space has as a macro */
#define IP_FRAGMENT       0x3fff /* more of them, or an offset */
#define TCP_SEQ_AT        4      /* offsets in the header */
#define TCP_ACK_AT        8
#define TCP_CHECK_AT      16
#define ARP_REQUEST       1
/* Of ICMPv6 where no header stands before it, as in all of NDP (RFC 4861 4.4). */
#define NDP_AT            (ETH_HLEN + sizeof(struct ipv6hdr))
#define NDP_TARGET_AT     (NDP_AT + 8)
#define NDP_ADVERTISEMENT 136
#define INLINE            static __attribute__((always_inline)) inline

/* --- maps: their sizes are set before they are loaded ------------------------------------------
 */

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct guard_state);
} state SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct guard_slot);
} slots SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, GUARD_PORT_WORDS);
    __type(key, __u32);
    __type(value, __u64);
} port_bits SEC(".maps");

/* Not preallocated: memory for as many flows as there are. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 1);
    __type(key, struct flow_key);
    __type(value, __u32);
} flows SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 1);
    __type(key, struct flow_key);
    __type(value, struct guard_away);
} away SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 1);
    __type(key, struct flow_key);
    __type(value, __u64);
} released SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, GUARD_PORTS_MAX);
    __type(key, struct guard_port);
    __type(value, __u32);
} ports SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, GUARD_PEERS_MAX);
    __type(key, __u32);
    __type(value, struct guard_peer);
} peers SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, GUARD_PEERS_MAX);
    __type(key, struct guard_mac);
    __type(value, __u32);
} macs SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, GUARD_SHARED_MAX);
    __type(key, struct guard_ip);
    __type(value, struct guard_shared);
} shared SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, GUARD_N_COUNTERS);
    __type(key, __u32);
    __type(value, __u64);
} counters SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 4096);
} ring SEC(".maps");

/* A stack has 512 bytes. */
struct scratch {
    struct guard_record record;
    __u8 segment[GUARD_SEGMENT_MAX];
};
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct scratch);
} scratch SEC(".maps");

INLINE void
count(__u32 counter)
{
    __u64 *n = bpf_map_lookup_elem(&counters, &counter);

    if (n)
        ++*n;
}

/* --- reading packets ---------------------------------------------------------------------------
 */

struct segment {
    struct flow_key key;
    __u32 at;        /* where the TCP header begins */
    __u32 n_segment; /* header and payload */
    __u32 n_payload;
    __be32 seq, ack;
    __u8 flags;
    __u8 is_ip6;
};

struct packet {
    void *data, *end;
};

/* True: n bytes can be read directly.  They may lie outside of the linear part at first. */
INLINE bool
reach(struct __sk_buff *skb, struct packet *p, __u32 n)
{
    p->data = (void *)(long)skb->data;
    p->end = (void *)(long)skb->data_end;
    if (p->data + n <= p->end)
        return true;
    if (bpf_skb_pull_data(skb, n) != 0)
        return false;
    p->data = (void *)(long)skb->data;
    p->end = (void *)(long)skb->data_end;
    return p->data + n <= p->end;
}

INLINE void
put_ip4(__u8 out[16], __be32 ip)
{
    __u32 *w = (__u32 *)out;

    w[0] = w[1] = 0;
    w[2] = bpf_htonl(0xffff);
    w[3] = ip;
}

INLINE void
put_ip6(__u8 out[16], const struct in6_addr *ip)
{
    __u32 *w = (__u32 *)out;

    w[0] = ip->s6_addr32[0];
    w[1] = ip->s6_addr32[1];
    w[2] = ip->s6_addr32[2];
    w[3] = ip->s6_addr32[3];
}

/* Where the packet comes from and goes to, as the client's end and ours. */
struct ends {
    __u8 *from, *to;
};

/* Lengths are those of the header: behind short packets Ethernet has padding.  0: so much was
 * joined that it does not fit (BIG TCP); such packets have none. */
INLINE bool
read_ip4(struct __sk_buff *skb, struct packet *p, struct segment *s, struct ends e)
{
    struct iphdr *ip;
    __u32 n_header, n_total;

    if (!reach(skb, p, ETH_HLEN + sizeof(struct iphdr) + sizeof(struct tcphdr)))
        return false;
    ip = p->data + ETH_HLEN;
    n_header = ip->ihl * 4;
    if (ip->protocol != IPPROTO_TCP || (ip->frag_off & bpf_htons(IP_FRAGMENT)) ||
        n_header < sizeof(*ip))
        return false;
    n_total = bpf_ntohs(ip->tot_len);
    if (n_total == 0)
        n_total = skb->len - ETH_HLEN;
    put_ip4(e.from, ip->saddr);
    put_ip4(e.to, ip->daddr);
    s->at = ETH_HLEN + n_header;
    s->n_segment = n_total - n_header;
    return n_total > n_header &&
           (n_header == sizeof(*ip) || reach(skb, p, s->at + sizeof(struct tcphdr)));
}

INLINE bool
read_ip6(struct __sk_buff *skb, struct packet *p, struct segment *s, struct ends e)
{
    struct ipv6hdr *ip;

    s->at = ETH_HLEN + sizeof(*ip);
    if (!reach(skb, p, ETH_HLEN + sizeof(struct ipv6hdr) + sizeof(struct tcphdr)))
        return false;
    ip = p->data + ETH_HLEN;
    if (ip->nexthdr != IPPROTO_TCP)
        return false;
    s->n_segment = bpf_ntohs(ip->payload_len);
    if (s->n_segment == 0)
        s->n_segment = skb->len - s->at;
    put_ip6(e.from, &ip->saddr);
    put_ip6(e.to, &ip->daddr);
    s->is_ip6 = 1;
    return true;
}

/* True: TCP on a port of ours. */
INLINE bool
read_segment(struct __sk_buff *skb, struct segment *s, bool in)
{
    struct ends e = in ? (struct ends){s->key.remote, s->key.local}
                       : (struct ends){s->key.local, s->key.remote};
    struct packet p;
    struct tcphdr *tcp;
    __u64 *bits;
    __u32 port, word;

    if (skb->protocol == bpf_htons(ETH_P_IP)) {
        if (!read_ip4(skb, &p, s, e))
            return false;
    } else if (skb->protocol != bpf_htons(ETH_P_IPV6) || !read_ip6(skb, &p, s, e)) {
        return false;
    }
    tcp = p.data + s->at;
    if ((void *)(tcp + 1) > p.end)
        return false;
    s->key.local_port = in ? tcp->dest : tcp->source;
    s->key.remote_port = in ? tcp->source : tcp->dest;
    s->seq = tcp->seq;
    s->ack = tcp->ack_seq;
    s->flags = ((__u8 *)tcp)[13];
    port = s->key.local_port;
    word = port / 64;
    bits = bpf_map_lookup_elem(&port_bits, &word);
    if (!bits || !(*bits >> (port % 64) & 1))
        return false;
    s->n_payload = s->n_segment - tcp->doff * 4;
    return tcp->doff * 4 >= sizeof(*tcp) && s->n_segment >= tcp->doff * 4u;
}

/* The port is ours on some address; on this one? */
INLINE bool
port_is_ours(const struct segment *s)
{
    struct guard_port port = {.port = s->key.local_port};

    __builtin_memcpy(port.addr, s->key.local, sizeof(port.addr));
    if (bpf_map_lookup_elem(&ports, &port))
        return true;
    __builtin_memset(port.addr, 0, sizeof(port.addr));
    if (!s->is_ip6)
        port.addr[10] = port.addr[11] = 0xff;
    return bpf_map_lookup_elem(&ports, &port) != NULL;
}

INLINE struct guard_state *
state_now(void)
{
    __u32 first = 0;

    return bpf_map_lookup_elem(&state, &first);
}

INLINE bool
lease_ran_out(const struct guard_state *st)
{
    __u64 until = *(const volatile __u64 *)&st->lease_until_ns;

    return until != GUARD_NEVER && bpf_ktime_get_ns() > until;
}

INLINE int
drop(__u32 counter)
{
    count(counter);
    return DROP;
}

/* --- out ---------------------------------------------------------------------------------------
 */

/* How far an acknowledgement is beyond the gate; negative and 0: it is not. */
INLINE __s32
beyond(const struct guard_slot *slot, __u32 ack)
{
    return (__s32)(ack - *(const volatile __u32 *)&slot->gate);
}

/* A number in the TCP header.  The checksum is of 16 bits' complement sums: the kernel mends it by
 * the difference, or leaves it where the hardware will make it. */
INLINE bool
renumber(struct __sk_buff *skb, const struct segment *s, __u32 at, __be32 from, __u32 number)
{
    __be32 to = bpf_htonl(number);

    return bpf_l4_csum_replace(skb, s->at + TCP_CHECK_AT, from, to, sizeof(to)) == 0 &&
           bpf_skb_store_bytes(skb, s->at + at, &to, sizeof(to), 0) == 0;
}

INLINE int
set_back(struct __sk_buff *skb, const struct segment *s, __u32 ack)
{
    if (!renumber(skb, s, TCP_ACK_AT, s->ack, ack))
        return DROP;
    count(GUARD_acks_clamped);
    return PASS;
}

INLINE bool
is_pure_ack(const struct segment *s)
{
    return s->n_payload == 0 && !(s->flags & (TCP_FIN | TCP_RST | TCP_SYN));
}

/* Says in `held` that an acknowledgement is kept back, then looks again: a gate that has been
 * opened meanwhile lets it through, one that is opened later sees `held` (guard_gate()). */
INLINE int
keep_back(struct __sk_buff *skb, const struct segment *s, struct guard_slot *slot)
{
    __sync_fetch_and_add(&slot->held, 1);
    if (beyond(slot, bpf_ntohl(s->ack)) <= 0)
        return PASS;
    if (is_pure_ack(s))
        return drop(GUARD_acks_held);
    return set_back(skb, s, *(const volatile __u32 *)&slot->gate);
}

/* The FIN of a client whose connection we are closing, too, is nobody's business but ours: who is
 * not told that it has arrived repeats it to a socket that is gone by then. */
INLINE bool
may_acknowledge(const struct guard_slot *slot, __u32 flags, __u32 ack)
{
    return beyond(slot, ack) <= (flags & GUARD_SLOT_CLOSING ? 1 : 0);
}

INLINE int
leave(struct __sk_buff *skb, const struct segment *s, __u32 index)
{
    struct guard_slot *slot = bpf_map_lookup_elem(&slots, &index);
    __u32 flags;

    if (!slot)
        return PASS;
    flags = *(const volatile __u32 *)&slot->flags;
    if ((s->flags & (TCP_FIN | TCP_RST)) && !(flags & GUARD_SLOT_CLOSING))
        return drop(GUARD_ends_silenced);
    /* another acknowledgement of the kernel's at this moment is moved, too: it is believed there */
    if ((flags & GUARD_SLOT_PROBE) && is_pure_ack(s) &&
        !renumber(skb, s, TCP_SEQ_AT, s->seq, bpf_ntohl(s->seq) + 1))
        return DROP;
    if ((flags & GUARD_SLOT_OPEN) || !(s->flags & TCP_ACK) ||
        may_acknowledge(slot, flags, bpf_ntohl(s->ack)))
        return PASS;
    return keep_back(skb, s, slot);
}

/* ARP over Ethernet, up to where its sender's addresses end (RFC 826). */
struct arp {
    __be16 hardware, protocol;
    __u8 n_mac, n_ip;
    __be16 op;
    __u8 mac[6], ip[4];
};

/* Carried here, and the process is dead, frozen or cut off: another takes it when nobody says that
 * he has it. */
INLINE bool
has_no_right(const struct guard_shared *m)
{
    const struct guard_state *st = state_now();

    return m->here && st && lease_ran_out(st);
}

/* The kernel answers for every address that it has a local route to, and asks in the name of the
 * connection that it has something to send on; either would draw packets away from who carries the
 * address.  So it asks by another name, and does not answer. */
INLINE int
leave_arp(struct __sk_buff *skb)
{
    struct guard_ip from;
    struct guard_shared *m;
    struct arp a;
    __be32 ip;

    if (bpf_skb_load_bytes(skb, ETH_HLEN, &a, sizeof(a)) != 0 ||
        a.protocol != bpf_htons(ETH_P_IP) || a.n_mac != ETH_ALEN || a.n_ip != sizeof(ip))
        return PASS;
    __builtin_memcpy(&ip, a.ip, sizeof(ip));
    put_ip4(from.b, ip);
    m = bpf_map_lookup_elem(&shared, &from);
    if (!m || (m->here && !has_no_right(m)))
        return PASS;
    if (m->here || a.op != bpf_htons(ARP_REQUEST))
        return drop(GUARD_claims_silenced);
    ip = m->stand_in;
    count(GUARD_claims_silenced);
    return bpf_skb_store_bytes(skb, ETH_HLEN + offsetof(struct arp, ip), &ip, sizeof(ip), 0) == 0
               ? PASS
               : DROP;
}

/* For an address that is on no interface the kernel answers no questions of IPv6. */
INLINE int
leave_ndp(struct __sk_buff *skb)
{
    struct guard_ip target;
    struct guard_shared *m;
    __u8 next, type;

    if (bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct ipv6hdr, nexthdr), &next, 1) != 0 ||
        next != IPPROTO_ICMPV6 || bpf_skb_load_bytes(skb, NDP_AT, &type, 1) != 0 ||
        type != NDP_ADVERTISEMENT ||
        bpf_skb_load_bytes(skb, NDP_TARGET_AT, &target, sizeof(target)) != 0)
        return PASS;
    m = bpf_map_lookup_elem(&shared, &target);
    return m && has_no_right(m) ? drop(GUARD_claims_silenced) : PASS;
}

INLINE int
leave_other(struct __sk_buff *skb)
{
    if (skb->protocol == bpf_htons(ETH_P_ARP))
        return leave_arp(skb);
    return skb->protocol == bpf_htons(ETH_P_IPV6) ? leave_ndp(skb) : PASS;
}

SEC("tc")
int
guard_egress(struct __sk_buff *skb)
{
    struct segment s = {.is_ip6 = 0};
    struct guard_state *st;
    __u32 *index;

    if (!read_segment(skb, &s, false))
        return leave_other(skb);
    st = state_now();
    if (!st)
        return PASS;
    index = bpf_map_lookup_elem(&flows, &s.key);
    if (!index && !port_is_ours(&s))
        return PASS;
    if (lease_ran_out(st))
        return drop(GUARD_lease_silenced);
    return index ? leave(skb, &s, *index) : PASS;
}

/* --- in ----------------------------------------------------------------------------------------
 */

/* A peer has taken us for the one whose packet this is: it must not be sent on again. */
INLINE bool
is_from_peer(struct __sk_buff *skb)
{
    struct guard_mac from = {.zero = {0}};

    return bpf_skb_load_bytes(skb, ETH_ALEN, from.mac, ETH_ALEN) == 0 &&
           bpf_map_lookup_elem(&macs, &from) != NULL;
}

/* The number of a peer's present life; 0: it does not live. */
INLINE __u32
life_of(__u32 index)
{
    struct guard_peer *peer = bpf_map_lookup_elem(&peers, &index);

    return peer ? *(const volatile __u32 *)&peer->alive : 0;
}

/* PASS: it does not live. */
INLINE int
send_to(struct __sk_buff *skb, const struct guard_peer *peer, __u32 counter)
{
    if (!*(const volatile __u32 *)&peer->alive)
        return PASS;
    if (bpf_skb_store_bytes(skb, 0, peer->mac, ETH_ALEN, 0) != 0 ||
        bpf_skb_store_bytes(skb, ETH_ALEN, peer->own_mac, ETH_ALEN, 0) != 0)
        return DROP;
    count(counter);
    return bpf_redirect(peer->ifindex, 0);
}

/* PASS: there is no such peer that lives. */
INLINE int
send_on(struct __sk_buff *skb, __u32 index, __u32 counter)
{
    struct guard_peer *peer = bpf_map_lookup_elem(&peers, &index);

    return peer ? send_to(skb, peer, counter) : PASS;
}

INLINE int
to_heir(struct __sk_buff *skb, const struct guard_state *st)
{
    int verdict = PASS;

    if (!is_from_peer(skb))
        verdict = send_on(skb, *(const volatile __u32 *)&st->heir, GUARD_to_heir);
    return verdict == PASS ? drop(GUARD_lease_dropped) : verdict;
}

enum found { FOUND_NONE, FOUND_LISTENER, FOUND_COOKIE, FOUND_CONNECTION };

/* The kernel believes an acknowledgement that a cookie of its own comes back with, although it has
 * kept nothing of the handshake. */
INLINE bool
is_cookie(struct __sk_buff *skb, const struct segment *s, struct bpf_sock *listener)
{
    struct packet p = {(void *)(long)skb->data, (void *)(long)skb->data_end};
    struct tcphdr *tcp = p.data + s->at;
    void *ip = p.data + ETH_HLEN;

    if (s->at > ETH_HLEN + 60 || (void *)(tcp + 1) > p.end)
        return false;
    if (s->is_ip6)
        return ip + sizeof(struct ipv6hdr) <= p.end &&
               bpf_tcp_check_syncookie(listener, ip, sizeof(struct ipv6hdr), tcp, sizeof(*tcp)) ==
                   0;
    return ip + sizeof(struct iphdr) <= p.end &&
           bpf_tcp_check_syncookie(listener, ip, sizeof(struct iphdr), tcp, sizeof(*tcp)) == 0;
}

/* What the kernel has for the packet. */
INLINE enum found
look_up(struct __sk_buff *skb, const struct segment *s)
{
    struct bpf_sock_tuple t;
    struct bpf_sock *sk;
    enum found found = FOUND_CONNECTION;

    if (s->is_ip6) {
        __builtin_memcpy(t.ipv6.saddr, s->key.remote, 16);
        __builtin_memcpy(t.ipv6.daddr, s->key.local, 16);
        t.ipv6.sport = s->key.remote_port;
        t.ipv6.dport = s->key.local_port;
        sk = bpf_skc_lookup_tcp(skb, &t, sizeof(t.ipv6), BPF_F_CURRENT_NETNS, 0);
    } else {
        __builtin_memcpy(&t.ipv4.saddr, s->key.remote + 12, 4);
        __builtin_memcpy(&t.ipv4.daddr, s->key.local + 12, 4);
        t.ipv4.sport = s->key.remote_port;
        t.ipv4.dport = s->key.local_port;
        sk = bpf_skc_lookup_tcp(skb, &t, sizeof(t.ipv4), BPF_F_CURRENT_NETNS, 0);
    }
    if (!sk)
        return FOUND_NONE;
    if (sk->state == STATE_LISTEN)
        found = (s->flags & TCP_ACK) && is_cookie(skb, s, sk) ? FOUND_COOKIE : FOUND_LISTENER;
    bpf_sk_release(sk);
    return found;
}

/* The process is dead, though its lease has not run out: nobody listens where it listened.  PASS:
 * there is no heir, or it is a peer that took us for one. */
INLINE int
bequeath(struct __sk_buff *skb, const struct guard_state *st)
{
    __u32 heir = *(const volatile __u32 *)&st->heir;

    return is_from_peer(skb) ? PASS : send_on(skb, heir, GUARD_to_heir);
}

/* Where another balancer carries the address now, what is not known here is its business.  PASS:
 * none does, or it is a peer that took us for one. */
INLINE int
to_carrier(struct __sk_buff *skb, const struct segment *s)
{
    struct guard_shared *m = bpf_map_lookup_elem(&shared, s->key.local);

    return !m || m->here || is_from_peer(skb) ? PASS : send_to(skb, &m->to, GUARD_to_carrier);
}

/* A connection begins: whoever had one of that name before, it has ended. */
INLINE int
begin(struct __sk_buff *skb, const struct segment *s, const struct guard_state *st)
{
    int verdict;

    if (bpf_map_lookup_elem(&away, &s->key))
        bpf_map_delete_elem(&away, &s->key);
    if (bpf_map_lookup_elem(&released, &s->key))
        bpf_map_delete_elem(&released, &s->key);
    verdict = to_carrier(skb, s);
    if (verdict != PASS)
        return verdict;
    return look_up(skb, s) == FOUND_NONE ? bequeath(skb, st) : PASS;
}

/* To user space, with as much of it as there is room for. */
INLINE int
hold(struct __sk_buff *skb, const struct segment *s)
{
    __u32 first = 0, n = s->n_segment;
    struct scratch *to = bpf_map_lookup_elem(&scratch, &first);

    if (!to)
        return DROP;
    if (n > skb->len - s->at)
        n = skb->len - s->at;
    if (n > GUARD_SEGMENT_MAX)
        n = GUARD_SEGMENT_MAX;
    if (n < sizeof(struct tcphdr) || bpf_skb_load_bytes(skb, s->at, to->segment, n) != 0)
        return DROP;
    to->record = (struct guard_record){
        .key = s->key,
        .ifindex = skb->ingress_ifindex ? skb->ingress_ifindex : skb->ifindex,
        .n_segment = s->n_segment,
        .n_bytes = n,
        .from_peer = is_from_peer(skb),
    };
    if (bpf_ringbuf_output(&ring, to, sizeof(to->record) + n, 0) != 0)
        return drop(GUARD_held_lost);
    return drop(GUARD_held);
}

INLINE bool
is_released(const struct flow_key *k)
{
    __u64 *until = bpf_map_lookup_elem(&released, k);

    return until && bpf_ktime_get_ns() < *until;
}

/* Of a flow that this process has not said to be its own. */
INLINE int
find_owner(struct __sk_buff *skb, const struct segment *s, const struct guard_state *st)
{
    struct guard_away *to = bpf_map_lookup_elem(&away, &s->key);
    enum found found;
    int verdict;

    if (to && to->alive == life_of(to->peer) && !is_from_peer(skb)) {
        verdict = send_on(skb, to->peer, GUARD_to_owner);
        if (verdict != PASS)
            return verdict;
    }
    found = look_up(skb, s);
    if (found == FOUND_CONNECTION || found == FOUND_COOKIE)
        return PASS;
    if (is_released(&s->key)) {
        count(GUARD_released);
        return PASS;
    }
    verdict = to_carrier(skb, s);
    if (verdict == PASS && found == FOUND_NONE)
        verdict = bequeath(skb, st);
    if (verdict != PASS)
        return verdict;
    return s->flags & TCP_RST ? PASS : hold(skb, s);
}

SEC("tc")
int
guard_ingress(struct __sk_buff *skb)
{
    struct segment s = {.is_ip6 = 0};
    struct guard_state *st;
    bool known;

    if (skb->pkt_type != PACKET_HOST || !read_segment(skb, &s, true))
        return PASS;
    st = state_now();
    if (!st)
        return PASS;
    known = bpf_map_lookup_elem(&flows, &s.key) != NULL;
    if (!known && !port_is_ours(&s))
        return PASS;
    if (lease_ran_out(st))
        return to_heir(skb, st);
    if (known)
        return PASS;
    if ((s.flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
        return begin(skb, &s, st);
    return find_owner(skb, &s, st);
}

/* The GPL's word is what the kernel wants to read before it lends bpf_tcp_check_syncookie(). */
char guard_license[] SEC("license") = "Dual BSD/GPL";
