/* SPDX-License-Identifier: BSD-2-Clause
 *
 * untaken.c - see untaken.h.
 */
#include "proxy/untaken.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

uint64_t
untaken_bytes(const struct sock *s)
{
    int in_kernel = 0;

    if (!sock_is_open(s) || ioctl(s->fd, SIOCOUTQ, &in_kernel) < 0)
        in_kernel = 0;
    return (uint64_t)in_kernel + sock_unsent(s);
}
