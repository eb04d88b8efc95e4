/* SPDX-License-Identifier: BSD-2-Clause
 *
 * addr.h - a socket address of any family, and how people write it.  Pure.
 */
#ifndef MC_IO_ADDR_H
#define MC_IO_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/err.h"
#include "base/str.h"

struct addr {
    socklen_t len; /* 0: none */
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    } u;
};

/* A network, for "is this peer trusted": an address and a prefix length. */
struct addr_net {
    struct addr base;
    unsigned prefix_bits;
};

#define ADDR_TEXT 128 /* enough for unix:/path too */

/* "10.0.0.1:80", "[::1]:80", "unix:/run/x.sock", "*:80" (any IPv4).  Numeric only: a name is
 * MC_ENOENT and *host, *port (when not NULL) tell its two parts for a resolver. */
enum mc_err addr_parse(struct str, struct addr *, struct str *host, uint16_t *port,
                       struct errbuf *);
/* An IPv4 or IPv6 literal without port; false when it is neither. */
bool addr_parse_ip(struct str, uint16_t port, struct addr *);
/* "10.0.0.0/8", "::1", "unix" (every unix socket peer). */
enum mc_err addr_parse_net(struct str, struct addr_net *, struct errbuf *);
/* IPv4-mapped IPv6 addresses match IPv4 networks. */
bool addr_in_net(const struct addr *, const struct addr_net *);
/* IPv4 or IPv6: 0.0.0.0, [::] */
bool addr_is_any(const struct addr *);
/* 127.0.0.0/8, also mapped into IPv6, and ::1 */
bool addr_is_loopback(const struct addr *);
bool addr_eq(const struct addr *, const struct addr *); /* address and port */
uint16_t addr_port(const struct addr *);                /* 0 for unix */
void addr_set_port(struct addr *, uint16_t);
/* With port: "10.0.0.1:80", "[::1]:80", "unix:/x"; returns out. */
const char *addr_text(const struct addr *, char out[ADDR_TEXT]);
/* Without port and brackets: "10.0.0.1", "::1", "unix". */
const char *addr_ip_text(const struct addr *, char out[ADDR_TEXT]);
/* Of an address in network order, AF_INET or AF_INET6.  Once a request. */
void addr_put_ip(int family, const void *ip, char out[ADDR_TEXT]);

#endif
