/* SPDX-License-Identifier: BSD-2-Clause
 *
 * untaken.c - see untaken.h.
 */
#include "proxy/untaken.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

uint64_t
untaken_bytes(const struct stream *s)
{
    int in_kernel = 0;

    if (!sock_is_open(&s->sock) || ioctl(s->sock.fd, SIOCOUTQ, &in_kernel) < 0)
        in_kernel = 0;
    return (uint64_t)in_kernel + stream_unsent(s);
}
