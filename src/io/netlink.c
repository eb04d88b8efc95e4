/* SPDX-License-Identifier: BSD-2-Clause
 *
 * netlink.c - addresses of this host's interfaces, by rtnetlink(7).
 */
#include "io/netlink.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/check.h"

/* IFA_PROTO and rtm_protocol; values that the headers do not name. */
#define OUR_MARK         77
#define OUR_METRIC       77 /* beside the kernel's own, which has none */
#define LOOPBACK_IFINDEX 1
#define ANSWER_BYTES     16384
#define ANSWER_WAIT_S    2    /* the kernel answers at once, but for one that is broken */
#define NEWS_PER_LOOK    4096 /* what is left then is news the next time */

/* An RTM_NEWADDR or RTM_DELADDR with all attributes that we ever add. */
struct request {
    struct nlmsghdr head;
    struct ifaddrmsg addr;
    char attrs[128];
};

enum mc_err
netlink_open(struct netlink *nl, struct errbuf *e)
{
    struct timeval wait = {.tv_sec = ANSWER_WAIT_S};

    *nl = (struct netlink){.fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)};
    if (nl->fd < 0)
        return err_sys(e, "netlink");
    setsockopt(nl->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    return MC_OK;
}

void
netlink_close(struct netlink *nl)
{
    close(nl->fd);
    nl->fd = -1;
}

bool
netlink_allowed(struct errbuf *e)
{
    cap_t caps = cap_get_proc();
    cap_flag_value_t has = CAP_CLEAR;

    if (caps != NULL)
        cap_get_flag(caps, CAP_NET_ADMIN, CAP_EFFECTIVE, &has);
    cap_free(caps);
    if (has != CAP_SET)
        err_set(e, "addresses can be changed with CAP_NET_ADMIN only: start as root, or with "
                   "AmbientCapabilities=CAP_NET_ADMIN of systemd");
    return has == CAP_SET;
}

/* --- talking to the kernel ---------------------------------------------------------------------
 */

static bool
send_request(struct netlink *nl, struct nlmsghdr *h)
{
    ssize_t n;

    h->nlmsg_seq = ++nl->seq;
    do
        n = send(nl->fd, h, h->nlmsg_len, 0);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)h->nlmsg_len;
}

/* One datagram of the answer; -1 with errno. */
static ssize_t
receive(struct netlink *nl, char *room, size_t n)
{
    ssize_t got;

    do
        got = recv(nl->fd, room, n, 0);
    while (got < 0 && errno == EINTR);
    return got;
}

/* What the kernel made of the last request: 0 or an errno. */
static int
await_ack(struct netlink *nl)
{
    char room[ANSWER_BYTES] __attribute__((aligned(NLMSG_ALIGNTO)));

    while (true) {
        ssize_t got = receive(nl, room, sizeof(room));
        struct nlmsghdr *h = (struct nlmsghdr *)(void *)room;

        if (got < 0)
            return errno;
        for (unsigned left = (unsigned)got; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left))
            if (h->nlmsg_seq == nl->seq && h->nlmsg_type == NLMSG_ERROR)
                return -((struct nlmsgerr *)NLMSG_DATA(h))->error;
    }
}

/* --- addresses ---------------------------------------------------------------------------------
 */

static const void *
ip_bytes(const struct addr *a, unsigned short *n)
{
    MC_ASSERT(a->u.sa.sa_family == AF_INET || a->u.sa.sa_family == AF_INET6);
    *n = a->u.sa.sa_family == AF_INET ? 4 : 16;
    return a->u.sa.sa_family == AF_INET ? (const void *)&a->u.in.sin_addr
                                        : (const void *)&a->u.in6.sin6_addr;
}

static void
add_attr(struct nlmsghdr *h, size_t room, unsigned short type, const void *p, unsigned short n)
{
    struct rtattr *a = (struct rtattr *)(void *)((char *)h + NLMSG_ALIGN(h->nlmsg_len));
    size_t end = NLMSG_ALIGN(h->nlmsg_len) + RTA_LENGTH(n);

    MC_ASSERT(end <= room);
    a->rta_type = type;
    a->rta_len = (unsigned short)RTA_LENGTH(n);
    memcpy(RTA_DATA(a), p, n);
    h->nlmsg_len = (uint32_t)end;
}

static void
init_request(struct request *r, unsigned short type, unsigned short flags, unsigned ifindex,
             const struct addr_net *net)
{
    unsigned short n;
    const void *ip = ip_bytes(&net->base, &n);

    *r = (struct request){
        .head = {.nlmsg_len = NLMSG_LENGTH(sizeof(r->addr)),
                 .nlmsg_type = type,
                 .nlmsg_flags = (unsigned short)(NLM_F_REQUEST | NLM_F_ACK | flags)},
        .addr = {.ifa_family = (unsigned char)net->base.u.sa.sa_family,
                 .ifa_prefixlen = (unsigned char)net->prefix_bits,
                 .ifa_scope = RT_SCOPE_UNIVERSE,
                 .ifa_index = ifindex},
    };
    add_attr(&r->head, sizeof(*r), IFA_LOCAL, ip, n);
    add_attr(&r->head, sizeof(*r), IFA_ADDRESS, ip, n);
}

static int
change(struct netlink *nl, struct request *r)
{
    return send_request(nl, &r->head) ? await_ack(nl) : errno;
}

enum mc_err
netlink_addr_add(struct netlink *nl, unsigned ifindex, const struct addr_net *net, struct errbuf *e)
{
    static const uint8_t mark = OUR_MARK;
    struct ifa_cacheinfo life = {.ifa_prefered = 0, .ifa_valid = UINT32_MAX};
    struct request r;
    int err;

    init_request(&r, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, ifindex, net);
    add_attr(&r.head, sizeof(r), IFA_PROTO, &mark, sizeof(mark));
    if (net->base.u.sa.sa_family == AF_INET6) {
        r.addr.ifa_flags = IFA_F_NODAD;
        add_attr(&r.head, sizeof(r), IFA_CACHEINFO, &life, sizeof(life));
    }
    err = change(nl, &r);
    if (err == 0 || err == EEXIST)
        return err == 0 ? MC_OK : MC_EEXIST;
    errno = err;
    return err_sys(e, "adding the address");
}

enum mc_err
netlink_addr_del(struct netlink *nl, unsigned ifindex, const struct addr_net *net, struct errbuf *e)
{
    struct request r;
    int err;

    init_request(&r, RTM_DELADDR, 0, ifindex, net);
    err = change(nl, &r);
    if (err == 0)
        return MC_OK;
    if (err == EADDRNOTAVAIL || err == ENODEV)
        return MC_ENOENT;
    errno = err;
    return err_sys(e, "removing the address");
}

/* --- routes ------------------------------------------------------------------------------------
 */

struct route_request {
    struct nlmsghdr head;
    struct rtmsg route;
    char attrs[64];
};

static int
change_local(struct netlink *nl, unsigned short type, unsigned short flags,
             const struct addr_net *net)
{
    static const uint32_t metric = OUR_METRIC, lo = LOOPBACK_IFINDEX;
    unsigned short n;
    const void *ip = ip_bytes(&net->base, &n);
    struct route_request r = {
        .head = {.nlmsg_len = NLMSG_LENGTH(sizeof(r.route)),
                 .nlmsg_type = type,
                 .nlmsg_flags = (unsigned short)(NLM_F_REQUEST | NLM_F_ACK | flags)},
        .route = {.rtm_family = (unsigned char)net->base.u.sa.sa_family,
                  .rtm_dst_len = (unsigned char)(8 * n),
                  .rtm_table = RT_TABLE_LOCAL,
                  .rtm_protocol = OUR_MARK,
                  .rtm_scope = RT_SCOPE_HOST,
                  .rtm_type = RTN_LOCAL},
    };

    add_attr(&r.head, sizeof(r), RTA_DST, ip, n);
    add_attr(&r.head, sizeof(r), RTA_OIF, &lo, sizeof(lo));
    add_attr(&r.head, sizeof(r), RTA_PRIORITY, &metric, sizeof(metric));
    return send_request(nl, &r.head) ? await_ack(nl) : errno;
}

enum mc_err
netlink_local_add(struct netlink *nl, const struct addr_net *net, struct errbuf *e)
{
    int err = change_local(nl, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, net);

    if (err == 0 || err == EEXIST)
        return err == 0 ? MC_OK : MC_EEXIST;
    errno = err;
    return err_sys(e, "adding a local route");
}

enum mc_err
netlink_local_del(struct netlink *nl, const struct addr_net *net, struct errbuf *e)
{
    int err = change_local(nl, RTM_DELROUTE, 0, net);

    if (err == 0 || err == ESRCH)
        return err == 0 ? MC_OK : MC_ENOENT;
    errno = err;
    return err_sys(e, "removing a local route");
}

/* --- looking -----------------------------------------------------------------------------------
 */

/* Whose it is, when the message is about this address; else NOBODY. */
static enum netlink_owner
owner_in(const struct nlmsghdr *h, unsigned ifindex, const struct addr_net *net)
{
    const struct ifaddrmsg *m = NLMSG_DATA(h);
    const struct rtattr *a = IFA_RTA(m);
    unsigned left = (unsigned)IFA_PAYLOAD(h);
    unsigned short n;
    const void *ip = ip_bytes(&net->base, &n);
    bool same = false, local = false;
    uint8_t mark = 0;

    if (h->nlmsg_type != RTM_NEWADDR || m->ifa_index != ifindex ||
        m->ifa_family != net->base.u.sa.sa_family || m->ifa_prefixlen != net->prefix_bits)
        return NETLINK_NOBODY;
    for (; RTA_OK(a, left); a = RTA_NEXT(a, left)) {
        bool eq = RTA_PAYLOAD(a) == n && memcmp(RTA_DATA(a), ip, n) == 0;

        /* IFA_ADDRESS is the other end's where there is one, and then IFA_LOCAL is ours */
        if (a->rta_type == IFA_LOCAL)
            same = eq;
        else if (a->rta_type == IFA_ADDRESS && !local)
            same = eq;
        else if (a->rta_type == IFA_PROTO && RTA_PAYLOAD(a) >= 1)
            mark = *(const uint8_t *)RTA_DATA(a);
        local |= a->rta_type == IFA_LOCAL;
    }
    if (!same)
        return NETLINK_NOBODY;
    return mark == OUR_MARK ? NETLINK_OURS : NETLINK_OTHERS;
}

enum mc_err
netlink_addr_owner(struct netlink *nl, unsigned ifindex, const struct addr_net *net,
                   enum netlink_owner *out, struct errbuf *e)
{
    char room[ANSWER_BYTES] __attribute__((aligned(NLMSG_ALIGNTO)));
    struct request r = {
        .head = {.nlmsg_len = NLMSG_LENGTH(sizeof(r.addr)),
                 .nlmsg_type = RTM_GETADDR,
                 .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .addr = {.ifa_family = (unsigned char)net->base.u.sa.sa_family},
    };
    enum netlink_owner owner = NETLINK_NOBODY;

    if (!send_request(nl, &r.head))
        return err_sys(e, "listing addresses");
    while (true) {
        ssize_t got = receive(nl, room, sizeof(room));
        struct nlmsghdr *h = (struct nlmsghdr *)(void *)room;

        if (got < 0)
            return err_sys(e, "listing addresses");
        for (unsigned left = (unsigned)got; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
            if (h->nlmsg_seq != nl->seq)
                continue;
            if (h->nlmsg_type == NLMSG_ERROR) {
                errno = -((struct nlmsgerr *)NLMSG_DATA(h))->error;
                return err_sys(e, "listing addresses");
            }
            if (h->nlmsg_type == NLMSG_DONE) {
                *out = owner;
                return MC_OK;
            }
            if (owner == NETLINK_NOBODY)
                owner = owner_in(h, ifindex, net);
        }
    }
}

/* The route that packets to the address would take. */
static int
ask_route(struct netlink *nl, const struct addr *a)
{
    unsigned short n;
    const void *ip = ip_bytes(a, &n);
    struct route_request r = {
        .head = {.nlmsg_len = NLMSG_LENGTH(sizeof(r.route)),
                 .nlmsg_type = RTM_GETROUTE,
                 .nlmsg_flags = NLM_F_REQUEST},
        .route = {.rtm_family = (unsigned char)a->u.sa.sa_family,
                  .rtm_dst_len = (unsigned char)(8 * n)},
    };

    add_attr(&r.head, sizeof(r), RTA_DST, ip, n);
    return send_request(nl, &r.head) ? 0 : errno;
}

enum mc_err
netlink_is_local(struct netlink *nl, const struct addr *a, bool *out, struct errbuf *e)
{
    char room[ANSWER_BYTES] __attribute__((aligned(NLMSG_ALIGNTO)));

    if (ask_route(nl, a) != 0)
        return err_sys(e, "asking for a route");
    while (true) {
        ssize_t got = receive(nl, room, sizeof(room));
        struct nlmsghdr *h = (struct nlmsghdr *)(void *)room;

        if (got < 0)
            return err_sys(e, "asking for a route");
        for (unsigned left = (unsigned)got; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
            if (h->nlmsg_seq != nl->seq)
                continue;
            *out = h->nlmsg_type == RTM_NEWROUTE &&
                   ((struct rtmsg *)NLMSG_DATA(h))->rtm_type == RTN_LOCAL;
            return MC_OK; /* an error: there is no way to it at all */
        }
    }
}

/* --- news ---------------------------------------------------------------------------------------
 */

enum mc_err
netlink_listen(struct netlink *nl, struct errbuf *e)
{
    const struct sockaddr_nl at = {
        .nl_family = AF_NETLINK,
        .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR,
    };

    *nl = (struct netlink){
        .fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE)};
    if (nl->fd >= 0 && bind(nl->fd, (const struct sockaddr *)&at, sizeof(at)) == 0)
        return MC_OK;
    err_sys(e, "netlink");
    if (nl->fd >= 0)
        netlink_close(nl);
    return MC_ESYS;
}

bool
netlink_has_news(struct netlink *nl)
{
    bool news = false;
    char ignored;

    for (unsigned i = 0; i < NEWS_PER_LOOK; i++) {
        if (receive(nl, &ignored, sizeof(ignored)) < 0 && errno != ENOBUFS)
            break;
        news = true;
    }
    return news;
}
