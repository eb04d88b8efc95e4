/* SPDX-License-Identifier: BSD-2-Clause
 *
 * probe.c - single packets through raw sockets.
 */
#include "takeover/probe.h"

#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "takeover/checksum.h"

#define HOPS     64
#define BODY_MAX PROBE_UNREACHABLE_MAX /* behind the IP header */
#define QUOTED   8                     /* bytes of a TCP header: ports and sequence number */

struct probe {
    int fd4, fd6; /* -1: none */
};

struct probe *
probe_open(struct errbuf *eb)
{
    struct probe *p;
    int fd4 = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW);

    if (fd4 < 0) {
        if (errno == EPERM)
            err_set(eb, "CAP_NET_RAW is missing, for raw sockets");
        else
            err_sys(eb, "raw socket");
        return NULL;
    }
    p = mc_alloc(sizeof(*p));
    p->fd4 = fd4;
    p->fd6 = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW);
    return p;
}

void
probe_close(struct probe **pp)
{
    if (*pp == NULL)
        return;
    close((*pp)->fd4);
    if ((*pp)->fd6 >= 0)
        close((*pp)->fd6);
    free(*pp);
    *pp = NULL;
}

/* As hosts write them: two NOPs before the timestamps, so that these are aligned (RFC 7323 A). */
static size_t
put_timestamps(uint8_t *out, const uint32_t ts[2])
{
    uint32_t be[2] = {htonl(ts[0]), htonl(ts[1])};
    static const uint8_t head[] = {TCPOPT_NOP, TCPOPT_NOP, TCPOPT_TIMESTAMP, TCPOLEN_TIMESTAMP};

    memcpy(out, head, sizeof(head));
    memcpy(out + sizeof(head), be, sizeof(be));
    return sizeof(head) + sizeof(be);
}

size_t
probe_segment(const struct flow_key *k, uint8_t flags, uint32_t seq, uint32_t ack,
              const uint32_t ts[2], bool garbage, uint8_t out[PROBE_SEGMENT_MAX])
{
    struct tcphdr h = {
        .th_sport = k->local_port,
        .th_dport = k->remote_port,
        .th_seq = htonl(seq),
        .th_ack = htonl(ack),
        .th_flags = flags,
        .th_win = htons(UINT16_MAX),
    };
    size_t n = sizeof(h);
    uint16_t sum;

    memset(out, 0, PROBE_SEGMENT_MAX);
    if (ts != NULL)
        n += put_timestamps(out + n, ts);
    h.th_off = (n / 4) & 0xf;
    memcpy(out, &h, sizeof(h));
    n += garbage ? 1 : 0;
    sum = (uint16_t)~checksum_fold(
        checksum_add(checksum_pseudo(k->local, k->remote, IPPROTO_TCP, n), out, n));
    memcpy(out + offsetof(struct tcphdr, th_sum), &sum, sizeof(sum));
    return n;
}

/* --- ICMP ---------------------------------------------------------------------------------------
 */

/* Of a packet of the client's, as long as a header of TCP, which is the least that it can be. */
static size_t
put_quoted4(const struct flow_key *k, uint8_t *out)
{
    struct ip h = {.ip_v = 4,
                   .ip_hl = 5,
                   .ip_len = htons(sizeof(h) + sizeof(struct tcphdr)),
                   .ip_off = htons(IP_DF),
                   .ip_ttl = HOPS,
                   .ip_p = IPPROTO_TCP};

    memcpy(&h.ip_src, k->remote + 12, sizeof(h.ip_src));
    memcpy(&h.ip_dst, k->local + 12, sizeof(h.ip_dst));
    h.ip_sum = (uint16_t)~checksum_fold(checksum_add(0, &h, sizeof(h)));
    memcpy(out, &h, sizeof(h));
    return sizeof(h);
}

static size_t
put_quoted6(const struct flow_key *k, uint8_t *out)
{
    struct ip6_hdr h = {.ip6_flow = htonl(6u << 28),
                        .ip6_plen = htons(sizeof(struct tcphdr)),
                        .ip6_nxt = IPPROTO_TCP,
                        .ip6_hlim = HOPS};

    memcpy(&h.ip6_src, k->remote, sizeof(h.ip6_src));
    memcpy(&h.ip6_dst, k->local, sizeof(h.ip6_dst));
    memcpy(out, &h, sizeof(h));
    return sizeof(h);
}

/* A host, or no route to it (RFC 6069 4.1; Linux has the latter of IPv6 since 5.10). */
size_t
probe_unreachable(const struct flow_key *k, uint32_t seq, uint8_t out[PROBE_UNREACHABLE_MAX])
{
    bool ip4 = flow_key_is_ip4(k);
    struct icmphdr h = {.type = ip4 ? ICMP_DEST_UNREACH : ICMP6_DST_UNREACH,
                        .code = ip4 ? ICMP_HOST_UNREACH : ICMP6_DST_UNREACH_NOROUTE};
    struct tcphdr quoted = {
        .th_sport = k->remote_port, .th_dport = k->local_port, .th_seq = htonl(seq)};
    size_t n = sizeof(h);
    uint32_t pseudo;

    n += ip4 ? put_quoted4(k, out + n) : put_quoted6(k, out + n);
    memcpy(out + n, &quoted, QUOTED);
    n += QUOTED;
    memcpy(out, &h, sizeof(h));
    pseudo = ip4 ? 0 : checksum_pseudo(k->local, k->remote, IPPROTO_ICMPV6, n);
    h.checksum = (uint16_t)~checksum_fold(checksum_add(pseudo, out, n));
    memcpy(out, &h, sizeof(h));
    return n;
}

/* --- sending ------------------------------------------------------------------------------------
 */

/* The kernel fills in what is 0: length, checksum, identification. */
static bool
send4(int fd, const struct flow_key *k, uint8_t protocol, const uint8_t *body, size_t n)
{
    struct {
        struct ip head;
        uint8_t body[BODY_MAX];
    } packet = {.head = {.ip_v = 4, .ip_hl = 5, .ip_ttl = HOPS, .ip_p = protocol}};
    struct addr local, remote;

    flow_key_addrs(k, &local, &remote);
    packet.head.ip_src = local.u.in.sin_addr;
    packet.head.ip_dst = remote.u.in.sin_addr;
    memcpy(packet.body, body, n);
    n += sizeof(packet.head);
    return sendto(fd, &packet, n, 0, &remote.u.sa, remote.len) == (ssize_t)n;
}

static bool
send6(int fd, const struct flow_key *k, uint8_t protocol, const uint8_t *body, size_t n)
{
    struct {
        struct ip6_hdr head;
        uint8_t body[BODY_MAX];
    } packet = {.head = {.ip6_flow = htonl(6u << 28), .ip6_hlim = HOPS, .ip6_nxt = protocol}};
    struct addr local, remote;

    flow_key_addrs(k, &local, &remote);
    packet.head.ip6_plen = htons((uint16_t)n);
    packet.head.ip6_src = local.u.in6.sin6_addr;
    packet.head.ip6_dst = remote.u.in6.sin6_addr;
    remote.u.in6.sin6_port = 0; /* else it is taken for a protocol */
    memcpy(packet.body, body, n);
    n += sizeof(packet.head);
    return sendto(fd, &packet, n, 0, &remote.u.sa, remote.len) == (ssize_t)n;
}

static bool
send_segment(struct probe *p, const struct flow_key *k, const uint8_t *segment, size_t n)
{
    return flow_key_is_ip4(k) ? send4(p->fd4, k, IPPROTO_TCP, segment, n)
                              : send6(p->fd6, k, IPPROTO_TCP, segment, n);
}

bool
probe_alive(struct probe *p, const struct flow_key *k, const struct tcp_params *params,
            uint32_t send_next, uint32_t ack, uint32_t ts)
{
    uint8_t segment[PROBE_SEGMENT_MAX];
    uint32_t both[2] = {ts, 0};
    bool stamps = params->options & TCP_PARAMS_TIMESTAMPS;
    size_t n = probe_segment(k, TH_ACK, send_next - 1, ack, stamps ? both : NULL, true, segment);

    return send_segment(p, k, segment, n);
}

/* A reset needs no timestamps (RFC 7323 3.2). */
bool
probe_reset(struct probe *p, const struct flow_key *k, uint32_t send_next, uint32_t ack)
{
    uint8_t segment[PROBE_SEGMENT_MAX];
    size_t n = probe_segment(k, TH_RST | TH_ACK, send_next, ack, NULL, false, segment);

    return send_segment(p, k, segment, n);
}

bool
probe_nudge(struct probe *p, const struct flow_key *k, uint32_t unacked)
{
    uint8_t body[PROBE_UNREACHABLE_MAX];
    size_t n = probe_unreachable(k, unacked, body);

    return flow_key_is_ip4(k) ? send4(p->fd4, k, IPPROTO_ICMP, body, n)
                              : send6(p->fd6, k, IPPROTO_ICMPV6, body, n);
}
