/* SPDX-License-Identifier: BSD-2-Clause
 *
 * witness.c - see witness.h.
 */
#include "takeover/witness.h"

#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/file.h"
#include "base/pack.h"
#include "base/rand.h"

#define ROUTES_MAX    ((size_t)1 << 20) /* bytes of a route table */
#define INTERFACES    16
#define ECHO_READS    16 /* answers read a turn */
#define RAW_BYTES_MAX 256
#define ICMP4_FILTER  1 /* linux/icmp.h, which glibc's headers do not go with */

static const int families[] = {AF_INET, AF_INET6};
static const char *const route_files[] = {"/proc/net/route", "/proc/net/ipv6_route"};

struct witness_end {
    struct watch watch;
    struct witness *w;
    int fd, family;
};

struct witness {
    struct witness_end end[MC_COUNT(families)];
    struct addr told[WITNESS_MAX]; /* by the configuration */
    unsigned n_told;
    char interface[INTERFACES][IFNAMSIZ];
    unsigned n_interfaces;
    struct addr asked[WITNESS_MAX];
    unsigned n_asked;
    uint16_t id, seq;
    uint64_t nonce;
    void (*fn)(void *arg);
    void *arg;
};

/* --- packets ------------------------------------------------------------------------------------
 */

static uint16_t
checksum(const uint8_t *p, size_t n)
{
    uint32_t sum = 0;

    for (size_t i = 0; i + 1 < n; i += 2)
        sum += (uint32_t)p[i] << 8 | p[i + 1];
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

void
witness_echo(int family, uint16_t id, uint16_t seq, uint64_t nonce, uint8_t out[WITNESS_ECHO_BYTES])
{
    struct pack_out o = {.p = out, .cap = WITNESS_ECHO_BYTES};

    memset(out, 0, WITNESS_ECHO_BYTES);
    pack_u8(&o, family == AF_INET ? ICMP_ECHO : ICMP6_ECHO_REQUEST);
    pack_u8(&o, 0);
    pack_u16(&o, 0);
    pack_u16(&o, id);
    pack_u16(&o, seq);
    pack_u64(&o, nonce);
    if (family == AF_INET) {
        o = (struct pack_out){.p = out + 2, .cap = 2};
        pack_u16(&o, checksum(out, WITNESS_ECHO_BYTES));
    }
}

bool
witness_is_answer(int family, const uint8_t *p, size_t n, uint16_t id, uint64_t nonce)
{
    size_t skip = family == AF_INET && n > 0 ? (size_t)(p[0] & 15) * 4 : 0;
    struct pack_in in = {.p = p + skip, .n = n > skip ? n - skip : 0};
    uint8_t type = unpack_u8(&in), code = unpack_u8(&in);
    uint16_t theirs;

    unpack_u16(&in); /* checksum: the kernel has looked at it, or the nonce does not fit */
    theirs = unpack_u16(&in);
    unpack_u16(&in);
    return unpack_u64(&in) == nonce && !in.bad && theirs == id && code == 0 &&
           type == (family == AF_INET ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY);
}

/* --- who ----------------------------------------------------------------------------------------
 */

/* "eth0  00000000  0100A8C0  ...": destination and gateway as the machine has them in memory. */
static bool
read_route4(const char *line, char interface[IFNAMSIZ], struct addr *gateway)
{
    unsigned to, via;

    if (sscanf(line, "%15s %x %x", interface, &to, &via) != 3 || to != 0 || via == 0)
        return false;
    *gateway = (struct addr){.len = sizeof(gateway->u.in), .u.in.sin_family = AF_INET};
    gateway->u.in.sin_addr.s_addr = via;
    return true;
}

/* "destination/128 bits, length, source, length, next hop, metric, two counts, flags, interface" */
static bool
read_route6(const char *line, char interface[IFNAMSIZ], struct addr *gateway)
{
    char to[33], via[33];
    unsigned to_bits;
    struct in6_addr ip;

    if (sscanf(line, "%32s %x %*s %*s %32s %*s %*s %*s %*s %15s", to, &to_bits, via, interface) !=
            4 ||
        to_bits != 0 || strlen(via) != 32)
        return false;
    for (unsigned i = 0; i < 16; i++) {
        unsigned byte;

        if (sscanf(via + 2 * i, "%2x", &byte) != 1)
            return false;
        ip.s6_addr[i] = (uint8_t)byte;
    }
    if (IN6_IS_ADDR_UNSPECIFIED(&ip))
        return false;
    *gateway = (struct addr){.len = sizeof(gateway->u.in6), .u.in6.sin6_family = AF_INET6};
    gateway->u.in6.sin6_addr = ip;
    if (IN6_IS_ADDR_LINKLOCAL(&ip))
        gateway->u.in6.sin6_scope_id = if_nametoindex(interface);
    return true;
}

unsigned
witness_gateways(int family, struct str text, const char *interface, struct addr *out, unsigned max)
{
    unsigned n = 0;

    while (text.n > 0 && n < max) {
        struct str line = str_cut(&text, '\n');
        char z[256], through[IFNAMSIZ] = "";
        struct addr a;

        snprintf(z, sizeof(z), STR_FMT, STR_ARG(line));
        if ((family == AF_INET ? read_route4 : read_route6)(z, through, &a) &&
            (interface == NULL || strcmp(interface, through) == 0))
            out[n++] = a;
    }
    return n;
}

static unsigned
find_gateways(struct witness *w)
{
    unsigned n = 0;

    for (size_t f = 0; f < MC_COUNT(families); f++) {
        struct buf text = {0};

        if (file_load(route_files[f], ROUTES_MAX, &text))
            for (unsigned i = 0; i < w->n_interfaces; i++)
                n += witness_gateways(families[f], (struct str){text.p, text.n}, w->interface[i],
                                      &w->asked[n], WITNESS_MAX - n);
        buf_free(&text);
    }
    return n;
}

/* --- asking -------------------------------------------------------------------------------------
 */

static void
send_echo(struct witness *w, const struct addr *to)
{
    uint8_t echo[WITNESS_ECHO_BYTES];
    struct addr at = *to;

    addr_set_port(&at, 0);
    for (size_t f = 0; f < MC_COUNT(families); f++) {
        if (families[f] != at.u.sa.sa_family || w->end[f].fd < 0)
            continue;
        witness_echo(families[f], w->id, w->seq, w->nonce, echo);
        sendto(w->end[f].fd, echo, sizeof(echo), MSG_DONTWAIT | MSG_NOSIGNAL, &at.u.sa, at.len);
    }
}

unsigned
witness_count(struct witness *w)
{
    if (w->n_told > 0) {
        memcpy(w->asked, w->told, sizeof(w->told));
        w->n_asked = w->n_told;
    } else {
        w->n_asked = find_gateways(w);
    }
    return w->n_asked;
}

void
witness_ask(struct witness *w)
{
    unsigned n = witness_count(w);

    w->seq++;
    for (unsigned i = 0; i < n; i++)
        send_echo(w, &w->asked[i]);
}

static bool
same_ip(const struct addr *a, const struct addr *b)
{
    if (a->u.sa.sa_family != b->u.sa.sa_family)
        return false;
    if (a->u.sa.sa_family == AF_INET)
        return a->u.in.sin_addr.s_addr == b->u.in.sin_addr.s_addr;
    return IN6_ARE_ADDR_EQUAL(&a->u.in6.sin6_addr, &b->u.in6.sin6_addr);
}

static bool
was_asked(const struct witness *w, const struct addr *from)
{
    for (unsigned i = 0; i < w->n_asked; i++)
        if (same_ip(&w->asked[i], from))
            return true;
    return false;
}

static void
on_answer(struct watch *watch, unsigned revents)
{
    struct witness_end *e = container_of(watch, struct witness_end, watch);
    struct witness *w = e->w;
    uint8_t p[RAW_BYTES_MAX];
    bool answered = false;

    for (unsigned i = 0; i < ECHO_READS; i++) {
        struct addr from = {.len = sizeof(from.u)};
        ssize_t n = recvfrom(e->fd, p, sizeof(p), MSG_DONTWAIT, &from.u.sa, &from.len);

        if (n < 0)
            break;
        answered |=
            was_asked(w, &from) && witness_is_answer(e->family, p, (size_t)n, w->id, w->nonce);
    }
    watch_arm(watch, POLLIN);
    if (answered)
        w->fn(w->arg);
}

/* --- life ---------------------------------------------------------------------------------------
 */

/* Only echo replies are of interest; the kernel drops the rest. */
static void
filter(int fd, int family)
{
    if (family == AF_INET) {
        uint32_t dropped = ~(1u << ICMP_ECHOREPLY);

        setsockopt(fd, SOL_RAW, ICMP4_FILTER, &dropped, sizeof(dropped));
    } else {
        struct icmp6_filter f;

        ICMP6_FILTER_SETBLOCKALL(&f);
        ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &f);
        setsockopt(fd, IPPROTO_ICMPV6, ICMP6_FILTER, &f, sizeof(f));
    }
}

struct witness *
witness_open(const struct addr *addrs, unsigned n, const char *const *interfaces,
             unsigned n_interfaces, struct errbuf *e)
{
    struct witness *w = mc_alloc(sizeof(*w));
    struct rng rng;

    rng_seed_os(&rng);
    w->id = (uint16_t)rng_next(&rng);
    w->nonce = rng_next(&rng);
    w->n_told = n < WITNESS_MAX ? n : WITNESS_MAX;
    for (unsigned i = 0; i < w->n_told; i++)
        w->told[i] = addrs[i];
    w->n_interfaces = n_interfaces < INTERFACES ? n_interfaces : INTERFACES;
    for (unsigned i = 0; i < w->n_interfaces; i++)
        snprintf(w->interface[i], IFNAMSIZ, "%s", interfaces[i]);
    for (size_t f = 0; f < MC_COUNT(families); f++) {
        struct witness_end *end = &w->end[f];

        end->w = w;
        end->family = families[f];
        end->fd = socket(families[f], SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC,
                         families[f] == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6);
        if (end->fd >= 0)
            filter(end->fd, families[f]);
    }
    if (w->end[0].fd < 0 && w->end[1].fd < 0) { /* a host may lack one family */
        err_sys(e, "raw sockets for pings");
        witness_close(&w);
    }
    return w;
}

void
witness_close(struct witness **wp)
{
    struct witness *w = *wp;

    *wp = NULL;
    if (w == NULL)
        return;
    for (size_t f = 0; f < MC_COUNT(families); f++)
        if (w->end[f].fd >= 0)
            close(w->end[f].fd);
    free(w);
}

void
witness_start(struct witness *w, struct loop *l, void (*fn)(void *arg), void *arg)
{
    w->fn = fn;
    w->arg = arg;
    for (size_t f = 0; f < MC_COUNT(families); f++) {
        if (w->end[f].fd < 0)
            continue;
        watch_init(&w->end[f].watch, l, w->end[f].fd, on_answer);
        watch_arm(&w->end[f].watch, POLLIN);
    }
}

void
witness_stop(struct witness *w)
{
    for (size_t f = 0; f < MC_COUNT(families); f++)
        if (w->end[f].fd >= 0 && w->end[f].watch.loop != NULL)
            watch_drop(&w->end[f].watch);
}
