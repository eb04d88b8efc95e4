/* SPDX-License-Identifier: BSD-2-Clause
 *
 * netlink.h - addresses of this host: put on interfaces, taken away, looked at.
 *
 * rtnetlink(7).  The kernel answers at once, so the calls block for microseconds.  What is put
 * there carries a mark (IFA_PROTO, Linux 5.18; the protocol of a route), by which a later process
 * knows it for its own. One thread at a time.  Changing wants CAP_NET_ADMIN, looking nothing.
 */
#ifndef MC_IO_NETLINK_H
#define MC_IO_NETLINK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "io/addr.h"

struct netlink {
    int fd;
    uint32_t seq;
};

enum netlink_owner {
    NETLINK_NOBODY, /* the interface has no such address */
    NETLINK_OURS,   /* with our mark */
    NETLINK_OTHERS, /* without */
};

enum mc_err netlink_open(struct netlink *, struct errbuf *);
void netlink_close(struct netlink *);
/* May this thread change addresses?  False: e says what is missing. */
bool netlink_allowed(struct errbuf *e);

/* The address with its prefix, AF_INET or AF_INET6.  It is usable at once (no duplicate address
 * detection), and an IPv6 one is nobody's source address unless asked for.  MC_EEXIST: it is there
 * already, whoever put it there. */
enum mc_err netlink_addr_add(struct netlink *, unsigned ifindex, const struct addr_net *,
                             struct errbuf *);
/* MC_ENOENT: it is not there. */
enum mc_err netlink_addr_del(struct netlink *, unsigned ifindex, const struct addr_net *,
                             struct errbuf *);
/* Whether or not an interface has the address, packets to it are for this host, and sockets may
 * send from it: a route of type local, with our mark.  Beside an address it changes nothing;
 * without one, ARP is still answered where the address is asked for. */
enum mc_err netlink_local_add(struct netlink *, const struct addr_net *, struct errbuf *);
/* MC_ENOENT: there is none of ours. */
enum mc_err netlink_local_del(struct netlink *, const struct addr_net *, struct errbuf *);
enum mc_err netlink_addr_owner(struct netlink *, unsigned ifindex, const struct addr_net *,
                               enum netlink_owner *, struct errbuf *);
/* Instead of netlink_open(): one that only hears when interfaces or their addresses change. */
enum mc_err netlink_listen(struct netlink *, struct errbuf *);
/* Has any of them changed since it was asked last?  Yes, too, when there was more to hear than the
 * kernel keeps.  Never blocks. */
bool netlink_has_news(struct netlink *);
/* Are packets to this address for this host now, whoever made them so? */
enum mc_err netlink_is_local(struct netlink *, const struct addr *, bool *, struct errbuf *);

#endif
