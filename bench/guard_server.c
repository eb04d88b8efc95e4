/* SPDX-License-Identifier: BSD-2-Clause
 *
 * guard_server.c - the server of bench/guard: answers every request with 100 bytes, in one thread,
 * with the guard before it or without.
 *
 *   guard_server ADDRESS INTERFACE none        no guard
 *   guard_server ADDRESS INTERFACE attached    a guard that protects no connection
 *   guard_server ADDRESS INTERFACE protected   as a balancer does with a peer that answers at once:
 *                                              bases at accept, the gate opened for each request
 *
 * One request a segment, as bench/load sends them; it trusts whoever talks to it.  SIGTERM ends it,
 * and has it print a line of JSON. */
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/check.h"
#include "takeover/guard.h"
#include "takeover/repair.h"
#include "tool.h"

#define BATCH     256
#define IN_BYTES  4096
#define CONNS_MAX 65536 /* by descriptor */

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
                             "01234567890123456789012345678901234567890123456789"
                             "01234567890123456789012345678901234567890123456789";

struct conn {
    struct flow_key key;
    uint32_t slot, received; /* received: the sequence number behind it */
};

static struct guard *guard;
static bool protects;
static struct conn conns[CONNS_MAX];
static volatile sig_atomic_t ended;
static int64_t accept_ns;
static uint64_t n_accepted, n_requests, n_held;

static void
end(int signal_number)
{
    ended = 1;
}

static void
protect(int fd)
{
    struct conn *c = &conns[fd];
    struct tcp_params params;
    uint32_t send_base;
    struct errbuf eb;
    int64_t begun = clock_ns(CLOCK_MONOTONIC);

    if (!flow_key_of_socket(&c->key, fd) ||
        repair_bases(fd, &c->received, &send_base, &params, &eb) != MC_OK ||
        guard_flow_add(guard, &c->key, c->received, &c->slot) != MC_OK)
        die("protect");
    accept_ns += clock_ns(CLOCK_MONOTONIC) - begun;
    n_accepted++;
}

static void
accept_one(int listener, int ep)
{
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};

    if (fd < 0)
        return;
    MC_ASSERT(fd < CONNS_MAX);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (protects)
        protect(fd);
    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
}

static void
close_one(int fd)
{
    struct conn *c = &conns[fd];

    if (protects) {
        guard_closing(guard, c->slot);
        guard_flow_del(guard, &c->key, c->slot);
    }
    close(fd);
}

static void
serve_one(int fd)
{
    struct conn *c = &conns[fd];
    char in[IN_BYTES];
    ssize_t n = recv(fd, in, sizeof(in), 0);

    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        close_one(fd);
        return;
    }
    n_requests++;
    if (protects)
        n_held += guard_gate(guard, c->slot, c->received += (uint32_t)n);
    if (send(fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL) != (ssize_t)sizeof(answer) - 1)
        close_one(fd);
}

static void
loop(int listener)
{
    struct epoll_event e[BATCH] = {{.events = EPOLLIN, .data.fd = listener}};
    int ep = epoll_create1(EPOLL_CLOEXEC), n;

    epoll_ctl(ep, EPOLL_CTL_ADD, listener, e);
    while (!ended) {
        n = epoll_wait(ep, e, BATCH, -1);
        for (int i = 0; i < n; i++)
            if (e[i].data.fd == listener)
                accept_one(listener, ep);
            else
                serve_one(e[i].data.fd);
    }
}

int
main(int argc, char **argv)
{
    struct addr at;
    struct errbuf eb;
    const char *interface;
    char ip[ADDR_TEXT];
    struct guard_conf conf = {
        .interfaces = &interface, .n_interfaces = 1, .ports = &at, .n_ports = 1};

    if (argc != 4 || addr_parse(str_of(argv[1]), &at, NULL, NULL, &eb) != MC_OK) {
        fputs("usage: guard_server ADDRESS INTERFACE none|attached|protected\n", stderr);
        return 2;
    }
    interface = argv[2];
    protects = strcmp(argv[3], "protected") == 0;
    if (strcmp(argv[3], "none") != 0 && guard_open(&conf, &guard, &eb) != MC_OK) {
        fprintf(stderr, "guard_server: %s\n", eb.text);
        return 1;
    }
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = end}, NULL);
    raise_descriptor_limit();

    loop(listen_at(addr_ip_text(&at, ip), addr_port(&at), 0));
    guard_close(&guard, true);
    printf("{\"requests\": %llu, \"accepted\": %llu, \"accept_ns\": %lld, \"held\": %llu}\n",
           (unsigned long long)n_requests, (unsigned long long)n_accepted, (long long)accept_ns,
           (unsigned long long)n_held);
    return 0;
}
