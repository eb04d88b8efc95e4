/* SPDX-License-Identifier: BSD-2-Clause
 *
 * guard_net.c - the interfaces at which the guard stands: their MAC and IP addresses.
 *
 * Asked of the kernel at each call, since they change under a running process; any thread.
 */
#include <ifaddrs.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/check.h"
#include "takeover/guard_priv.h"

enum mc_err
guard_interface_mac(unsigned ifindex, uint8_t mac[6], struct errbuf *eb)
{
    struct ifreq r = {.ifr_ifindex = (int)ifindex};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && ioctl(fd, SIOCGIFNAME, &r) == 0 && ioctl(fd, SIOCGIFHWADDR, &r) == 0;
    int family = ok ? r.ifr_hwaddr.sa_family : 0;

    if (!ok)
        err_sys(eb, "interface");
    if (fd >= 0)
        close(fd);
    if (ok && family != ARPHRD_ETHER && family != ARPHRD_LOOPBACK) {
        err_set(eb, "%.16s is no Ethernet interface", r.ifr_name);
        return MC_ENOTSUP;
    }
    if (ok)
        memcpy(mac, r.ifr_hwaddr.sa_data, 6);
    return ok ? MC_OK : MC_ESYS;
}

uint32_t
guard_stand_in(unsigned ifindex, const struct addr *but)
{
    struct ifaddrs *all = NULL;
    struct ifreq r = {.ifr_name = ""};
    uint32_t found = 0;

    if (but->u.sa.sa_family != AF_INET || if_indextoname(ifindex, r.ifr_name) == NULL ||
        getifaddrs(&all) != 0)
        return 0;
    for (const struct ifaddrs *i = all; i != NULL && found == 0; i = i->ifa_next) {
        struct sockaddr_in in = {.sin_family = AF_UNSPEC};

        if (i->ifa_addr == NULL || i->ifa_addr->sa_family != AF_INET ||
            strcmp(i->ifa_name, r.ifr_name) != 0)
            continue;
        memcpy(&in, i->ifa_addr, sizeof(in));
        if (in.sin_addr.s_addr != but->u.in.sin_addr.s_addr)
            found = in.sin_addr.s_addr;
    }
    freeifaddrs(all);
    return found;
}

static void
add_addr(struct guard_interface *i, const struct ifaddrs *a)
{
    struct addr_net *to = &i->addr[i->n_addrs];
    const uint8_t *mask;
    size_t n;

    if (a->ifa_netmask == NULL || i->n_addrs == GUARD_ADDRS_MAX)
        return;
    *to = (struct addr_net){.prefix_bits = 0};
    if (a->ifa_addr->sa_family == AF_INET) {
        memcpy(&to->base.u.in, a->ifa_addr, to->base.len = sizeof(to->base.u.in));
        mask = (const uint8_t *)&((const struct sockaddr_in *)a->ifa_netmask)->sin_addr;
        n = 4;
    } else {
        memcpy(&to->base.u.in6, a->ifa_addr, to->base.len = sizeof(to->base.u.in6));
        mask = (const uint8_t *)&((const struct sockaddr_in6 *)a->ifa_netmask)->sin6_addr;
        n = 16;
    }
    for (size_t k = 0; k < n; k++)
        to->prefix_bits += (unsigned)__builtin_popcount(mask[k]);
    i->n_addrs++;
}

static void
add_addrs(struct guard_interface *i, const struct ifaddrs *all)
{
    for (const struct ifaddrs *a = all; a != NULL; a = a->ifa_next)
        if (a->ifa_addr != NULL && strcmp(a->ifa_name, i->name) == 0 &&
            (a->ifa_addr->sa_family == AF_INET || a->ifa_addr->sa_family == AF_INET6))
            add_addr(i, a);
}

unsigned
guard_interfaces(const struct guard *g, struct guard_interface *out, unsigned max)
{
    struct ifaddrs *all = NULL;
    unsigned n = 0;

    MC_CHECK(g, GUARD_MAGIC);
    if (getifaddrs(&all) != 0)
        return 0;
    for (unsigned i = 0; i < g->inner->n_interfaces && n < max; i++) {
        out[n] = (struct guard_interface){.ifindex = g->inner->ifindex[i]};
        if (if_indextoname(out[n].ifindex, out[n].name) == NULL ||
            guard_interface_mac(out[n].ifindex, out[n].mac, NULL) != MC_OK)
            continue;
        add_addrs(&out[n++], all);
    }
    freeifaddrs(all);
    return n;
}
