/* SPDX-License-Identifier: BSD-2-Clause
 *
 * announce.c - see announce.h.
 */
#include "io/announce.h"

#include <errno.h>
#include <linux/filter.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/icmp6.h>
#include <netinet/if_ether.h>
#include <netinet/ip6.h>
#include <netpacket/packet.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/check.h"

#define NS_TYPE        135 /* RFC 4861 4.3, 4.4 */
#define NA_TYPE        136
#define NA_OVERRIDE    0x20
#define NA_SOLICITED   0x40
#define OPT_TARGET_MAC 2
#define HOP_LIMIT      255

struct arp_frame {
    struct ether_header ether;
    struct ether_arp arp;
} __attribute__((packed));

struct na_frame {
    struct ether_header ether;
    struct ip6_hdr ip;
    struct nd_neighbor_advert na;
    uint8_t option, option_words, mac[6];
} __attribute__((packed));

struct ns_frame {
    struct ether_header ether;
    struct ip6_hdr ip;
    struct nd_neighbor_solicit ns;
} __attribute__((packed));

static_assert(sizeof(struct ns_frame) < sizeof(struct na_frame), "room for NDP's questions");
static_assert(sizeof(struct arp_frame) <= ANNOUNCE_FRAME_MAX, "room for ARP");
static_assert(sizeof(struct na_frame) <= ANNOUNCE_FRAME_MAX, "room for NDP");

/* --- frames ------------------------------------------------------------------------------------
 */

/* RFC 4443 2.3, over the pseudo-header and the n bytes of the message, behind both headers. */
static uint16_t
icmp6_checksum(const void *frame, size_t n)
{
    const uint8_t *ip = (const uint8_t *)frame + sizeof(struct ether_header);
    const uint8_t *ends = ip + offsetof(struct ip6_hdr, ip6_src);
    const uint8_t *body = ip + sizeof(struct ip6_hdr);
    uint32_t sum = (uint32_t)n + IPPROTO_ICMPV6;

    for (size_t i = 0; i < 32; i += 2)
        sum += (uint32_t)ends[i] << 8 | ends[i + 1];
    for (size_t i = 0; i + 1 < n; i += 2)
        sum += (uint32_t)body[i] << 8 | body[i + 1];
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    return htons((uint16_t)~sum);
}

static size_t
arp_frame(const struct in_addr *ip, const struct announce_mac *mac, bool reply, uint8_t *out)
{
    struct arp_frame f = {
        .ether = {.ether_type = htons(ETHERTYPE_ARP)},
        .arp = {.ea_hdr = {.ar_hrd = htons(ARPHRD_ETHER),
                           .ar_pro = htons(ETHERTYPE_IP),
                           .ar_hln = 6,
                           .ar_pln = 4,
                           .ar_op = htons(reply ? ARPOP_REPLY : ARPOP_REQUEST)}},
    };

    memset(f.ether.ether_dhost, 0xff, 6);
    memcpy(f.ether.ether_shost, mac, 6);
    memcpy(f.arp.arp_sha, mac, 6);
    memcpy(f.arp.arp_spa, ip, 4);
    if (reply)
        memset(f.arp.arp_tha, 0xff, 6);
    memcpy(f.arp.arp_tpa, ip, 4);
    memcpy(out, &f, sizeof(f));
    return sizeof(f);
}

static size_t
na_frame(const struct in6_addr *ip, const struct announce_mac *mac, uint8_t *out)
{
    static const uint8_t all_nodes_mac[6] = {0x33, 0x33, 0, 0, 0, 1};
    struct na_frame f = {
        .ether = {.ether_type = htons(ETHERTYPE_IPV6)},
        .ip = {.ip6_src = *ip},
        .na = {.nd_na_target = *ip},
        .option = OPT_TARGET_MAC,
        .option_words = 1,
    };

    memcpy(f.ether.ether_dhost, all_nodes_mac, 6);
    memcpy(f.ether.ether_shost, mac, 6);
    memcpy(f.mac, mac, 6);
    f.ip.ip6_flow = htonl(6u << 28);
    f.ip.ip6_plen = htons((uint16_t)(sizeof(f) - offsetof(struct na_frame, na)));
    f.ip.ip6_nxt = IPPROTO_ICMPV6;
    f.ip.ip6_hlim = HOP_LIMIT;
    f.ip.ip6_dst.s6_addr[0] = 0xff;
    f.ip.ip6_dst.s6_addr[1] = 0x02;
    f.ip.ip6_dst.s6_addr[15] = 0x01;
    f.na.nd_na_hdr.icmp6_type = NA_TYPE;
    f.na.nd_na_hdr.icmp6_dataun.icmp6_un_data8[0] = NA_OVERRIDE;
    f.na.nd_na_hdr.icmp6_cksum = icmp6_checksum(&f, sizeof(f) - offsetof(struct na_frame, na));
    memcpy(out, &f, sizeof(f));
    return sizeof(f);
}

/* To the multicast address of all whose last 24 bits are these. */
static size_t
ns_frame(const struct in6_addr *ip, const struct announce_mac *mac, uint8_t *out)
{
    static const uint8_t solicited[13] = {0xff, 0x02, [11] = 0x01, [12] = 0xff};
    struct ns_frame f = {
        .ether = {.ether_type = htons(ETHERTYPE_IPV6), .ether_dhost = {0x33, 0x33, 0xff}},
        .ns = {.nd_ns_target = *ip},
    };

    memcpy(f.ether.ether_dhost + 3, &ip->s6_addr[13], 3);
    memcpy(f.ether.ether_shost, mac, 6);
    f.ip.ip6_flow = htonl(6u << 28);
    f.ip.ip6_plen = htons((uint16_t)sizeof(f.ns));
    f.ip.ip6_nxt = IPPROTO_ICMPV6;
    f.ip.ip6_hlim = HOP_LIMIT;
    memcpy(&f.ip.ip6_dst, solicited, sizeof(solicited));
    memcpy(&f.ip.ip6_dst.s6_addr[13], &ip->s6_addr[13], 3);
    f.ns.nd_ns_hdr.icmp6_type = NS_TYPE;
    f.ns.nd_ns_hdr.icmp6_cksum = icmp6_checksum(&f, sizeof(f.ns));
    memcpy(out, &f, sizeof(f));
    return sizeof(f);
}

size_t
announce_frame(const struct addr *address, const struct announce_mac *mac, bool reply,
               uint8_t out[ANNOUNCE_FRAME_MAX])
{
    if (address->u.sa.sa_family == AF_INET)
        return arp_frame(&address->u.in.sin_addr, mac, reply, out);
    MC_ASSERT(address->u.sa.sa_family == AF_INET6);
    return na_frame(&address->u.in6.sin6_addr, mac, out);
}

size_t
announce_question(const struct addr *address, const struct announce_mac *mac,
                  uint8_t out[ANNOUNCE_FRAME_MAX])
{
    size_t n;

    if (address->u.sa.sa_family != AF_INET)
        return ns_frame(&address->u.in6.sin6_addr, mac, out);
    n = arp_frame(&address->u.in.sin_addr, mac, false, out);
    memset(out + offsetof(struct arp_frame, arp.arp_spa), 0, 4);
    return n;
}

/* Either says that the sender has his address: to all, or to who asked in nobody's name. */
static bool
is_claim(const struct arp_frame *f)
{
    static const uint8_t nobody[4];
    bool answer =
        f->arp.ea_hdr.ar_op == htons(ARPOP_REPLY) && memcmp(f->arp.arp_tpa, nobody, 4) == 0;

    return memcmp(f->arp.arp_spa, nobody, 4) != 0 &&
           (answer || memcmp(f->arp.arp_spa, f->arp.arp_tpa, 4) == 0);
}

static bool
read_arp(const uint8_t *frame, size_t n, struct addr *address, struct announce_mac *mac)
{
    struct arp_frame f;

    if (n < sizeof(f))
        return false;
    memcpy(&f, frame, sizeof(f));
    if (f.arp.ea_hdr.ar_hrd != htons(ARPHRD_ETHER) || f.arp.ea_hdr.ar_pro != htons(ETHERTYPE_IP) ||
        f.arp.ea_hdr.ar_hln != 6 || f.arp.ea_hdr.ar_pln != 4 || !is_claim(&f))
        return false;
    *address = (struct addr){.len = sizeof(address->u.in), .u.in.sin_family = AF_INET};
    memcpy(&address->u.in.sin_addr, f.arp.arp_spa, 4);
    memcpy(mac, f.arp.arp_sha, 6);
    return true;
}

static bool
read_na(const uint8_t *frame, size_t n, struct addr *address, struct announce_mac *mac)
{
    struct na_frame f;

    if (n < sizeof(f))
        return false;
    memcpy(&f, frame, sizeof(f));
    if (f.ip.ip6_nxt != IPPROTO_ICMPV6 || f.ip.ip6_hlim != HOP_LIMIT ||
        f.na.nd_na_hdr.icmp6_type != NA_TYPE ||
        (f.na.nd_na_hdr.icmp6_dataun.icmp6_un_data8[0] & NA_SOLICITED) != 0 ||
        f.option != OPT_TARGET_MAC || f.option_words != 1)
        return false;
    *address = (struct addr){.len = sizeof(address->u.in6), .u.in6.sin6_family = AF_INET6};
    address->u.in6.sin6_addr = f.na.nd_na_target;
    memcpy(mac, f.mac, 6);
    return true;
}

bool
announce_read(const uint8_t *frame, size_t n, struct addr *address, struct announce_mac *mac)
{
    struct ether_header ether;

    if (n < sizeof(ether))
        return false;
    memcpy(&ether, frame, sizeof(ether));
    if (ether.ether_type == htons(ETHERTYPE_ARP))
        return read_arp(frame, n, address, mac);
    return ether.ether_type == htons(ETHERTYPE_IPV6) && read_na(frame, n, address, mac);
}

/* --- the socket --------------------------------------------------------------------------------
 */

/* All that comes in would wake us otherwise: ARP, and neighbour advertisements without other
 * headers before them. */
static bool
hear_only_announcements(int fd)
{
    enum { TYPE = 12, NEXT_HEADER = ETH_HLEN + 6, ICMP_TYPE = ETH_HLEN + 40 };
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, TYPE),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETHERTYPE_ARP, 5, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETHERTYPE_IPV6, 0, 5),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, NEXT_HEADER),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_ICMPV6, 0, 3),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, ICMP_TYPE),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NA_TYPE, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog program = {.len = MC_COUNT(code), .filter = code};

    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) == 0;
}

static bool
bind_to(int fd, unsigned ifindex)
{
    struct sockaddr_ll a = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)ifindex};
    int on = 1;

    return setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) == 0 &&
           bind(fd, (struct sockaddr *)(void *)&a, sizeof(a)) == 0;
}

static enum mc_err
own_mac(int fd, const char *interface, struct announce_mac *mac, struct errbuf *e)
{
    struct ifreq r = {0};

    strncpy(r.ifr_name, interface, sizeof(r.ifr_name) - 1);
    if (ioctl(fd, SIOCGIFHWADDR, &r) != 0)
        return err_sys(e, interface);
    if (r.ifr_hwaddr.sa_family != ARPHRD_ETHER) {
        err_set(e, "%s has no Ethernet address: nobody can be told there", interface);
        return MC_ENOENT;
    }
    memcpy(mac, r.ifr_hwaddr.sa_data, 6);
    return MC_OK;
}

enum mc_err
announce_open(const char *interface, int *out, struct announce_mac *own, struct errbuf *e)
{
    unsigned ifindex = if_nametoindex(interface);
    enum mc_err rv;
    int fd;

    if (ifindex == 0) {
        err_set(e, "there is no interface %s", interface);
        return MC_ENOENT;
    }
    /* protocol 0: nothing is heard before the filter stands */
    fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_sys(e, "packet socket");
    rv = own_mac(fd, interface, own, e);
    if (rv == MC_OK && (!hear_only_announcements(fd) || !bind_to(fd, ifindex)))
        rv = err_sys(e, "packet socket");
    if (rv != MC_OK) {
        close(fd);
        return rv;
    }
    *out = fd;
    return MC_OK;
}

static bool
send_frame(int fd, const uint8_t *frame, size_t n)
{
    return send(fd, frame, n, MSG_DONTWAIT) == (ssize_t)n;
}

bool
announce_send(int fd, const struct addr *address, const struct announce_mac *own)
{
    uint8_t frame[ANNOUNCE_FRAME_MAX];
    size_t n = announce_frame(address, own, false, frame);
    bool ok = send_frame(fd, frame, n);

    if (address->u.sa.sa_family == AF_INET) {
        n = announce_frame(address, own, true, frame);
        ok &= send_frame(fd, frame, n);
    }
    return ok;
}

bool
announce_ask(int fd, const struct addr *address, const struct announce_mac *own)
{
    uint8_t frame[ANNOUNCE_FRAME_MAX];
    size_t n = announce_question(address, own, frame);

    return send_frame(fd, frame, n);
}
