/* SPDX-License-Identifier: BSD-2-Clause
 *
 * addr.c - see addr.h.
 */
#include "io/addr.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

/* --- reading ------------------------------------------------------------------------------- */

static enum mc_err
parse_port(struct str s, uint16_t *out, struct errbuf *eb)
{
    uint64_t v;

    if (s.n == 0 || !str_u64(s, &v)) {
        err_set(eb, "\"" STR_FMT "\" is not a port number", STR_ARG(s));
        return MC_ESYNTAX;
    }
    if (v > UINT16_MAX) {
        err_set(eb, "port " STR_FMT " is above 65535", STR_ARG(s));
        return MC_ERANGE;
    }
    *out = (uint16_t)v;
    return MC_OK;
}

static enum mc_err
parse_unix(struct str path, struct addr *out, struct errbuf *eb)
{
    struct addr a = {.len = 0};

    if (path.n == 0) {
        err_set(eb, "unix: needs a path");
        return MC_ESYNTAX;
    }
    if (path.n >= sizeof(a.u.un.sun_path)) {
        err_set(eb, "the path of a unix socket has at most %zu bytes", sizeof(a.u.un.sun_path) - 1);
        return MC_ERANGE;
    }
    a.u.un.sun_family = AF_UNIX;
    memcpy(a.u.un.sun_path, path.p, path.n);
    a.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.n + 1);
    *out = a;
    return MC_OK;
}

/* Cuts "host:port" or "[host]:port" in two; an IPv6 address without brackets is refused. */
static enum mc_err
split_host_port(struct str s, struct str *host, struct str *port, struct errbuf *eb)
{
    const char *colon = s.n ? memrchr(s.p, ':', s.n) : NULL;

    if (colon == NULL) {
        err_set(eb, "\"" STR_FMT "\" has no port", STR_ARG(s));
        return MC_ESYNTAX;
    }
    *port = (struct str){colon + 1, (size_t)(s.p + s.n - colon - 1)};
    *host = (struct str){s.p, (size_t)(colon - s.p)};
    if (host->n >= 2 && host->p[0] == '[' && host->p[host->n - 1] == ']') {
        *host = (struct str){host->p + 1, host->n - 2};
        return MC_OK;
    }
    if (host->n == 0 || memchr(host->p, ':', host->n) || memchr(host->p, '[', host->n) ||
        memchr(host->p, ']', host->n)) {
        err_set(eb, "\"" STR_FMT "\": want host:port or [ipv6]:port", STR_ARG(s));
        return MC_ESYNTAX;
    }
    return MC_OK;
}

bool
addr_parse_ip(struct str s, uint16_t port, struct addr *out)
{
    struct addr a = {.len = 0};
    char z[INET6_ADDRSTRLEN];

    if (s.n == 0 || s.n >= sizeof(z))
        return false;
    memcpy(z, s.p, s.n);
    z[s.n] = '\0';
    if (strlen(z) != s.n)
        return false;
    if (inet_pton(AF_INET, z, &a.u.in.sin_addr) == 1) {
        a.u.in.sin_family = AF_INET;
        a.len = sizeof(a.u.in);
    } else if (inet_pton(AF_INET6, z, &a.u.in6.sin6_addr) == 1) {
        a.u.in6.sin6_family = AF_INET6;
        a.len = sizeof(a.u.in6);
    } else {
        return false;
    }
    addr_set_port(&a, port);
    *out = a;
    return true;
}

enum mc_err
addr_parse(struct str s, struct addr *out, struct str *host, uint16_t *port, struct errbuf *eb)
{
    struct str h, p;
    struct addr a;
    uint16_t number;
    enum mc_err err;
    bool bracketed = s.n && s.p[0] == '[';

    if (str_starts(s, STR("unix:")))
        return parse_unix((struct str){s.p + 5, s.n - 5}, out, eb);
    err = split_host_port(s, &h, &p, eb);
    if (err == MC_OK)
        err = parse_port(p, &number, eb);
    if (err != MC_OK)
        return err;
    if (addr_parse_ip(str_eq(h, STR("*")) ? STR("0.0.0.0") : h, number, &a)) {
        if (bracketed == (a.u.sa.sa_family == AF_INET6)) {
            *out = a;
            return MC_OK;
        }
        bracketed = true; /* "[10.0.0.1]:80": brackets are for IPv6 */
    }
    if (bracketed) {
        err_set(eb, "\"" STR_FMT "\" is not an IPv6 address", STR_ARG(h));
        return MC_ESYNTAX;
    }
    if (host)
        *host = h;
    if (port)
        *port = number;
    err_set(eb, "\"" STR_FMT "\" is a name, not an address", STR_ARG(h));
    return MC_ENOENT;
}

enum mc_err
addr_parse_net(struct str s, struct addr_net *out, struct errbuf *eb)
{
    struct str ip = s, bits;
    struct addr_net net = {.prefix_bits = 0};
    uint64_t n;

    if (str_eq(s, STR("unix"))) {
        net.base.u.sa.sa_family = AF_UNIX;
        net.base.len = offsetof(struct sockaddr_un, sun_path);
        *out = net;
        return MC_OK;
    }
    bits = s;
    ip = str_cut(&bits, '/');
    if (!addr_parse_ip(ip, 0, &net.base)) {
        err_set(eb, "\"" STR_FMT "\" is not a network", STR_ARG(s));
        return MC_ESYNTAX;
    }
    n = net.base.u.sa.sa_family == AF_INET ? 32 : 128;
    net.prefix_bits = (unsigned)n;
    if (bits.p != NULL) {
        if (!str_u64(bits, &n) || n > net.prefix_bits) {
            err_set(eb, "\"" STR_FMT "\": the prefix is 0 to %u bits", STR_ARG(s), net.prefix_bits);
            return MC_ERANGE;
        }
        net.prefix_bits = (unsigned)n;
    }
    *out = net;
    return MC_OK;
}

/* --- comparing ----------------------------------------------------------------------------- */

/* The address bytes in network order; NULL for what has none. */
static const uint8_t *
ip_bytes(const struct addr *a, size_t *n)
{
    switch (a->u.sa.sa_family) {
    case AF_INET: *n = 4; return (const uint8_t *)&a->u.in.sin_addr;
    case AF_INET6: *n = 16; return a->u.in6.sin6_addr.s6_addr;
    default: return NULL;
    }
}

static bool
prefix_eq(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;
    uint8_t mask = (uint8_t)(0xff00 >> rest);

    return memcmp(a, b, whole) == 0 && (rest == 0 || ((a[whole] ^ b[whole]) & mask) == 0);
}

bool
addr_in_net(const struct addr *a, const struct addr_net *net)
{
    size_t n_ip, n_net;
    const uint8_t *ip, *base;

    if (a->len == 0 || net->base.len == 0)
        return false;
    if (net->base.u.sa.sa_family == AF_UNIX)
        return a->u.sa.sa_family == AF_UNIX;
    ip = ip_bytes(a, &n_ip);
    base = ip_bytes(&net->base, &n_net);
    if (ip == NULL || base == NULL)
        return false;
    if (n_ip == 16 && n_net == 4 && IN6_IS_ADDR_V4MAPPED(&a->u.in6.sin6_addr)) {
        ip += 12;
        n_ip = 4;
    }
    return n_ip == n_net && prefix_eq(ip, base, net->prefix_bits);
}

bool
addr_is_any(const struct addr *a)
{
    if (a->u.sa.sa_family == AF_INET)
        return a->u.in.sin_addr.s_addr == INADDR_ANY;
    return a->u.sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&a->u.in6.sin6_addr);
}

bool
addr_is_loopback(const struct addr *a)
{
    const struct in6_addr *ip6 = &a->u.in6.sin6_addr;

    if (a->u.sa.sa_family == AF_INET)
        return ntohl(a->u.in.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    if (a->u.sa.sa_family != AF_INET6)
        return false;
    return IN6_IS_ADDR_LOOPBACK(ip6) ||
           (IN6_IS_ADDR_V4MAPPED(ip6) && ip6->s6_addr[12] == IN_LOOPBACKNET);
}

bool
addr_eq(const struct addr *a, const struct addr *b)
{
    size_t n_a, n_b;
    const uint8_t *ip_a, *ip_b;

    if (a->len == 0 || b->len == 0)
        return a->len == b->len;
    if (a->u.sa.sa_family != b->u.sa.sa_family)
        return false;
    if (a->u.sa.sa_family == AF_UNIX)
        return a->len == b->len && memcmp(&a->u.un, &b->u.un, a->len) == 0;
    ip_a = ip_bytes(a, &n_a);
    ip_b = ip_bytes(b, &n_b);
    if (ip_a == NULL || memcmp(ip_a, ip_b, n_a) != 0 || addr_port(a) != addr_port(b))
        return false;
    return n_a == 4 || a->u.in6.sin6_scope_id == b->u.in6.sin6_scope_id;
}

uint16_t
addr_port(const struct addr *a)
{
    switch (a->len ? a->u.sa.sa_family : AF_UNSPEC) {
    case AF_INET: return ntohs(a->u.in.sin_port);
    case AF_INET6: return ntohs(a->u.in6.sin6_port);
    default: return 0;
    }
}

void
addr_set_port(struct addr *a, uint16_t port)
{
    if (a->u.sa.sa_family == AF_INET)
        a->u.in.sin_port = htons(port);
    else if (a->u.sa.sa_family == AF_INET6)
        a->u.in6.sin6_port = htons(port);
}

/* --- writing ------------------------------------------------------------------------------- */

/* The path of a unix socket: sun_path need not end in NUL. */
static struct str
unix_path(const struct addr *a)
{
    size_t at = offsetof(struct sockaddr_un, sun_path);
    size_t max = a->len > at ? a->len - at : 0;

    return (struct str){a->u.un.sun_path, strnlen(a->u.un.sun_path, max)};
}

static char *
put_decimal(char *to, unsigned n)
{
    if (n >= 100)
        *to++ = (char)('0' + n / 100);
    if (n >= 10)
        *to++ = (char)('0' + n / 10 % 10);
    *to++ = (char)('0' + n % 10);
    return to;
}

/* glibc's inet_ntop() goes through sprintf(), which would be a tenth of our part of a request. */
void
addr_put_ip(int family, const void *ip, char out[ADDR_TEXT])
{
    const uint8_t *byte = ip;

    if (family != AF_INET) {
        inet_ntop(family, ip, out, ADDR_TEXT);
        return;
    }
    for (int i = 0; i < 4; i++) {
        out = put_decimal(out, byte[i]);
        *out++ = i < 3 ? '.' : '\0';
    }
}

const char *
addr_ip_text(const struct addr *a, char out[ADDR_TEXT])
{
    size_t n;
    const uint8_t *ip = a->len ? ip_bytes(a, &n) : NULL;

    if (ip != NULL)
        addr_put_ip(a->u.sa.sa_family, ip, out);
    else
        snprintf(out, ADDR_TEXT, "%s", a->len ? "unix" : "-");
    return out;
}

const char *
addr_text(const struct addr *a, char out[ADDR_TEXT])
{
    char ip[ADDR_TEXT];

    switch (a->len ? a->u.sa.sa_family : AF_UNSPEC) {
    case AF_INET: snprintf(out, ADDR_TEXT, "%s:%u", addr_ip_text(a, ip), addr_port(a)); break;
    case AF_INET6: snprintf(out, ADDR_TEXT, "[%s]:%u", addr_ip_text(a, ip), addr_port(a)); break;
    case AF_UNIX: snprintf(out, ADDR_TEXT, "unix:" STR_FMT, STR_ARG(unix_path(a))); break;
    default: snprintf(out, ADDR_TEXT, "-");
    }
    return out;
}
