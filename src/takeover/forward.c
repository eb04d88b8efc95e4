/* SPDX-License-Identifier: BSD-2-Clause
 *
 * forward.c - see forward.h: Ethernet, IP and TCP written by hand, in the client's name.
 */
#include "takeover/forward.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "takeover/checksum.h"

#define HOPS     64
#define TS_BYTES 12 /* two NOPs, kind, length, two numbers */

struct forward {
    int fd;           /* Ethernet */
    int home4, home6; /* IP; home6 -1: a host without */
};

static int
open_raw(int family, int protocol)
{
    return socket(family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
}

struct forward *
forward_open(struct errbuf *e)
{
    struct forward *f = mc_alloc(sizeof(*f));

    f->fd = open_raw(AF_PACKET, 0);
    f->home4 = open_raw(AF_INET, IPPROTO_RAW);
    f->home6 = open_raw(AF_INET6, IPPROTO_RAW);
    if (f->fd >= 0 && f->home4 >= 0)
        return f;
    if (errno == EPERM)
        err_set(e, "CAP_NET_RAW is missing, for packet sockets");
    else
        err_sys(e, "packet socket");
    forward_close(&f);
    return NULL;
}

static void
close_if_open(int fd)
{
    if (fd >= 0)
        close(fd);
}

void
forward_close(struct forward **fp)
{
    struct forward *f = *fp;

    *fp = NULL;
    if (f == NULL)
        return;
    close_if_open(f->fd);
    close_if_open(f->home4);
    close_if_open(f->home6);
    free(f);
}

static size_t
put_ethernet(const struct flow_key *k, const uint8_t from[6], const uint8_t to[6], uint8_t *out)
{
    struct ether_header h = {.ether_type =
                                 htons(flow_key_is_ip4(k) ? ETHERTYPE_IP : ETHERTYPE_IPV6)};

    memcpy(h.ether_dhost, to, sizeof(h.ether_dhost));
    memcpy(h.ether_shost, from, sizeof(h.ether_shost));
    memcpy(out, &h, sizeof(h));
    return sizeof(h);
}

/* From the client: a flow_key is written from the balancer's side.  It may not be taken apart on
 * its way (DF), so it needs no identification (RFC 6864). */
static size_t
put_ip4(const struct flow_key *k, size_t n_segment, uint8_t *out)
{
    struct ip h = {.ip_v = 4,
                   .ip_hl = 5,
                   .ip_len = htons((uint16_t)(sizeof(h) + n_segment)),
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
put_ip6(const struct flow_key *k, size_t n_segment, uint8_t *out)
{
    struct ip6_hdr h = {.ip6_flow = htonl(6u << 28),
                        .ip6_plen = htons((uint16_t)n_segment),
                        .ip6_nxt = IPPROTO_TCP,
                        .ip6_hlim = HOPS};

    memcpy(&h.ip6_src, k->remote, sizeof(h.ip6_src));
    memcpy(&h.ip6_dst, k->local, sizeof(h.ip6_dst));
    memcpy(out, &h, sizeof(h));
    return sizeof(h);
}

/* The n bytes of the payload from `at` on; FIN and PSH belong behind the last one. */
static size_t
put_tcp(const struct guard_packet *p, size_t at, size_t n, uint8_t *out)
{
    bool last = at + n == p->n_payload;
    size_t n_head = sizeof(struct tcphdr) + (p->has_ts ? TS_BYTES : 0);
    struct tcphdr h = {
        .th_sport = p->key.remote_port,
        .th_dport = p->key.local_port,
        .th_seq = htonl(p->seq + (uint32_t)at),
        .th_ack = htonl(p->ack),
        .th_off = (n_head / 4) & 0xf,
        .th_flags = (uint8_t)(last ? p->flags : p->flags & ~(TH_FIN | TH_PUSH)),
        .th_win = htons(p->window),
    };

    if (p->has_ts) {
        static const uint8_t kind[] = {TCPOPT_NOP, TCPOPT_NOP, TCPOPT_TIMESTAMP, TCPOLEN_TIMESTAMP};
        uint32_t ts[2] = {htonl(p->ts), htonl(p->ts_echo)};

        memcpy(out + sizeof(h), kind, sizeof(kind));
        memcpy(out + sizeof(h) + sizeof(kind), ts, sizeof(ts));
    }
    if (n > 0)
        memcpy(out + n_head, p->payload + at, n);
    memcpy(out, &h, sizeof(h));
    n_head += n;
    h.th_sum = (uint16_t)~checksum_fold(checksum_add(
        checksum_pseudo(p->key.remote, p->key.local, IPPROTO_TCP, n_head), out, n_head));
    memcpy(out, &h, sizeof(h));
    return n_head;
}

size_t
forward_frame(const struct guard_packet *p, size_t at, const uint8_t from[6], const uint8_t to[6],
              uint8_t out[FORWARD_FRAME_MAX])
{
    size_t left = p->n_payload - at, n = left < FORWARD_PAYLOAD ? left : FORWARD_PAYLOAD;
    bool ip4 = flow_key_is_ip4(&p->key);
    size_t n_head =
        sizeof(struct ether_header) + (ip4 ? sizeof(struct ip) : sizeof(struct ip6_hdr));
    size_t n_segment = put_tcp(p, at, n, out + n_head);
    uint8_t *ip = out + put_ethernet(&p->key, from, to, out);

    if (ip4)
        put_ip4(&p->key, n_segment, ip);
    else
        put_ip6(&p->key, n_segment, ip);
    return n_head + n_segment;
}

bool
forward_packet(struct forward *f, unsigned ifindex, const uint8_t from[6], const uint8_t to[6],
               const struct guard_packet *p)
{
    struct sockaddr_ll at = {.sll_family = AF_PACKET,
                             .sll_protocol =
                                 htons(flow_key_is_ip4(&p->key) ? ETH_P_IP : ETH_P_IPV6),
                             .sll_ifindex = (int)ifindex,
                             .sll_halen = 6};
    uint8_t frame[FORWARD_FRAME_MAX];
    size_t done = 0;

    memcpy(at.sll_addr, to, 6);
    do {
        size_t n = forward_frame(p, done, from, to, frame);

        if (sendto(f->fd, frame, n, 0, (struct sockaddr *)&at, sizeof(at)) != (ssize_t)n)
            return false;
        done += FORWARD_PAYLOAD;
    } while (done < p->n_payload);
    return true;
}

/* What comes from a raw socket has its route already: the kernel does not ask where a client's
 * address may come in by. */
bool
forward_home(struct forward *f, const struct guard_packet *p)
{
    static const uint8_t nobody[6];
    struct addr local, remote;
    uint8_t frame[FORWARD_FRAME_MAX];
    const uint8_t *ip = frame + sizeof(struct ether_header);
    int fd = flow_key_is_ip4(&p->key) ? f->home4 : f->home6;
    size_t done = 0;

    flow_key_addrs(&p->key, &local, &remote);
    addr_set_port(&local, 0); /* else IPv6 takes it for a protocol */
    if (local.u.sa.sa_family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&local.u.in6.sin6_addr))
        local.u.in6.sin6_scope_id = p->ifindex;
    do {
        size_t n = forward_frame(p, done, nobody, nobody, frame) - sizeof(struct ether_header);

        if (sendto(fd, ip, n, 0, &local.u.sa, local.len) != (ssize_t)n)
            return false;
        done += FORWARD_PAYLOAD;
    } while (done < p->n_payload);
    return true;
}
