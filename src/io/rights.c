/* SPDX-License-Identifier: BSD-2-Clause
 *
 * rights.c - see rights.h.
 */
#include "io/rights.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"

union control {
    struct cmsghdr align;
    unsigned char room[CMSG_SPACE(RIGHTS_FDS_MAX * sizeof(int))];
};

bool
rights_send(int to, const void *p, size_t n, const int *fds, unsigned n_fds)
{
    union control control = {0};
    struct iovec v = {.iov_base = (void *)p, .iov_len = n};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    struct cmsghdr *c;

    MC_ASSERT(n_fds <= RIGHTS_FDS_MAX);
    if (n_fds > 0) {
        m.msg_control = control.room;
        m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
    }
    return sendmsg(to, &m, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)n;
}

/* More than asked for cannot come: the room is for no more. */
static unsigned
take_fds(struct msghdr *m, int *fds)
{
    unsigned n = 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
        size_t bytes = c->cmsg_len - CMSG_LEN(0);

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        memcpy(fds + n, CMSG_DATA(c), bytes);
        n += (unsigned)(bytes / sizeof(int));
    }
    return n;
}

ssize_t
rights_recv(int from, void *p, size_t max, int *fds, unsigned *n_fds)
{
    union control control = {0};
    struct iovec v = {.iov_base = p, .iov_len = max};
    struct msghdr m = {.msg_iov = &v,
                       .msg_iovlen = 1,
                       .msg_control = control.room,
                       .msg_controllen = sizeof(control.room)};
    ssize_t n;

    *n_fds = 0;
    do
        n = recvmsg(from, &m, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -1;
    *n_fds = take_fds(&m, fds);
    if ((m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0)
        return n;
    while (*n_fds > 0)
        close(fds[--*n_fds]);
    errno = EMSGSIZE;
    return -1;
}
