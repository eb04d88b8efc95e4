/* SPDX-License-Identifier: BSD-2-Clause
 *
 * serve.h - connections accepted and waited for, in one thread: what origin.c and ledger.c share.
 *
 * Edge-triggered epoll with one epoll_ctl a connection, so that serving costs little beside what is
 * measured. */
#ifndef MC_BENCH_SERVE_H
#define MC_BENCH_SERVE_H

#include <netinet/tcp.h>
#include <stddef.h>
#include <sys/epoll.h>

#include "tool.h"

#define SERVE_BATCH 256 /* events a turn */

/* A program's connections.  Each begins with its descriptor (int), and is freed by the program. */
struct serve {
    size_t conn_bytes;
    size_t zeroed_bytes; /* of them: buffers behind need not be */
    void (*on_events)(void *conn, uint32_t epoll_events);
    int (*on_turn)(void); /* before it waits: for how many milliseconds, -1 is for ever */
};

static inline void
serve_accept(const struct serve *s, int ep, int listener)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
    int fd, one = 1;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        ev.data.ptr = malloc(s->conn_bytes);
        if (ev.data.ptr == NULL)
            die("out of memory");
        memset(ev.data.ptr, 0, s->zeroed_bytes);
        *(int *)ev.data.ptr = fd;
        if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0)
            die("epoll_ctl");
    }
    if (errno != EAGAIN && errno != ECONNABORTED)
        die("accept"); /* out of descriptors: better no measurement than a wrong one */
}

static inline _Noreturn void
serve(const struct serve *s, int listener)
{
    struct epoll_event evs[SERVE_BATCH], ev = {.events = EPOLLIN};
    int ep = epoll_create1(EPOLL_CLOEXEC), n;

    if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, listener, &ev) < 0)
        die("epoll");
    for (;;) {
        n = epoll_wait(ep, evs, SERVE_BATCH, s->on_turn());
        if (n < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < n; i++)
            if (evs[i].data.ptr == NULL)
                serve_accept(s, ep, listener);
            else
                s->on_events(evs[i].data.ptr, evs[i].events);
    }
}

#endif
