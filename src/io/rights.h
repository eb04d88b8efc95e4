/* SPDX-License-Identifier: BSD-2-Clause
 *
 * rights.h - messages with descriptors over a unix socket that keeps messages apart
 * (SOCK_SEQPACKET), see SCM_RIGHTS in unix(7).  Any thread.
 */
#ifndef MC_IO_RIGHTS_H
#define MC_IO_RIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define RIGHTS_FDS_MAX 200 /* of a message; the kernel takes 253 */

/* The descriptors stay ours, too.  Never waits; false: errno tells why. */
bool rights_send(int to, const void *p, size_t n, const int *fds, unsigned n_fds);
/* Room for RIGHTS_FDS_MAX descriptors, which are close-on-exec and the caller's; *n_fds is set in
 * any case.  Bytes of the message; 0: the other side has closed; -1: errno tells why, EMSGSIZE
 * that it was cut off.  Waits as long as the socket does. */
ssize_t rights_recv(int from, void *p, size_t max, int *fds, unsigned *n_fds);

#endif
