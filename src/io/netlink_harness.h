/* SPDX-License-Identifier: BSD-2-Clause
 *
 * netlink_harness.h - a network of the test's own, where addresses may be changed.
 */
#ifndef MC_IO_NETLINK_HARNESS_H
#define MC_IO_NETLINK_HARNESS_H

#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "io/netlink.h"

/* This process gets a network namespace of its own, whose lo is up.  False: that is forbidden here.
 * A user namespace makes it possible without root, where the system lets one be made. */
static inline bool
netlink_harness_enter(void)
{
    struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int fd;
    bool ok;

    if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)
        return false;
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ok = ioctl(fd, SIOCSIFFLAGS, &r) == 0;
    close(fd);
    return ok;
}

static inline struct addr_net
netlink_harness_net(const char *text)
{
    struct addr_net net = {.prefix_bits = 0};

    addr_parse_net(str_of(text), &net, NULL);
    return net;
}

#endif
