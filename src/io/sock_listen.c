/* SPDX-License-Identifier: BSD-2-Clause
 *
 * sock_listen.c - making listening sockets, see sock.h.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/sock.h"

static bool
set_int(int fd, int level, int name, const char *what, struct errbuf *eb)
{
    int on = 1;

    if (setsockopt(fd, level, name, &on, sizeof(on)) == 0)
        return true;
    err_sys(eb, what);
    return false;
}

/* TCP_NODELAY is inherited by what is accepted: once here instead of once per connection. */
static bool
set_options(int fd, const struct addr *a, const struct sock_listen_opts *o, struct errbuf *eb)
{
    if (a->u.sa.sa_family == AF_UNIX)
        return true;
    if (a->u.sa.sa_family == AF_INET6 && !set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, "IPV6_V6ONLY", eb))
        return false;
    if (o->absent && !(a->u.sa.sa_family == AF_INET6
                           ? set_int(fd, IPPROTO_IPV6, IPV6_FREEBIND, "IPV6_FREEBIND", eb)
                           : set_int(fd, IPPROTO_IP, IP_FREEBIND, "IP_FREEBIND", eb)))
        return false;
    if (o->reuseport && !set_int(fd, SOL_SOCKET, SO_REUSEPORT, "SO_REUSEPORT", eb))
        return false;
    return set_int(fd, SOL_SOCKET, SO_REUSEADDR, "SO_REUSEADDR", eb) &&
           set_int(fd, IPPROTO_TCP, TCP_NODELAY, "TCP_NODELAY", eb);
}

/* Removes the file of a unix socket that a dead process left behind: nobody answers there. */
static bool
remove_stale(const struct addr *a)
{
    struct stat st;
    bool dead;
    int fd;

    if (lstat(a->u.un.sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return false;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    dead = connect(fd, &a->u.sa, a->len) < 0 && errno == ECONNREFUSED;
    close(fd);
    return dead && unlink(a->u.un.sun_path) == 0;
}

static bool
bind_to(int fd, const struct addr *a, struct errbuf *eb)
{
    if (bind(fd, &a->u.sa, a->len) == 0)
        return true;
    if (errno == EADDRINUSE && a->u.sa.sa_family == AF_UNIX) {
        if (remove_stale(a) && bind(fd, &a->u.sa, a->len) == 0)
            return true;
        errno = EADDRINUSE;
    }
    err_sys(eb, "bind");
    return false;
}

/* Before listen(2), so that nobody connects in between. */
static bool
set_mode(const struct addr *a, unsigned mode, struct errbuf *eb)
{
    if (a->u.sa.sa_family != AF_UNIX || mode == 0 || chmod(a->u.un.sun_path, mode) == 0)
        return true;
    err_sys(eb, "chmod");
    return false;
}

int
sock_listen_fd(const struct addr *a, const struct sock_listen_opts *o, struct errbuf *eb)
{
    char text[ADDR_TEXT];
    int fd = socket(a->u.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        err_sys(eb, "socket");
        goto fail;
    }
    if (!set_options(fd, a, o, eb) || !bind_to(fd, a, eb) || !set_mode(a, o->unix_mode, eb))
        goto fail_close;
    if (listen(fd, o->backlog > 0 ? o->backlog : SOMAXCONN) < 0) {
        err_sys(eb, "listen");
        goto fail_close;
    }
    return fd;

fail_close:
    close(fd);
fail:
    err_wrap(eb, "%s", addr_text(a, text));
    return -1;
}
