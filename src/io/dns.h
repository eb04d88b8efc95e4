/* SPDX-License-Identifier: BSD-2-Clause
 *
 * dns.h - names to addresses by c-ares, on a loop (the control thread's).
 */
#ifndef MC_IO_DNS_H
#define MC_IO_DNS_H

#include "io/addr.h"
#include "io/loop.h"

struct dns;
#define DNS_MAX_ADDRS 64

/* status: 0, or a c-ares status; `text` says it.  addrs have the port that was asked for, sorted so
 * that equal answers compare equal.  ttl_s: the smallest of the answer, at least 1. */
struct dns_answer {
    int status;
    const char *text;
    const struct addr *addrs;
    unsigned n_addrs;
    unsigned ttl_s;
};
typedef void dns_f(void *arg, const struct dns_answer *);

/* resolvers: "ip[:port]" list separated by commas, or NULL for resolv.conf. */
struct dns *dns_new(struct loop *, const char *resolvers, mc_ns timeout, struct errbuf *);
void dns_free(struct dns **); /* calls no callback */
/* Looks up A and AAAA; fn is called once, from the loop (never from inside this call), unless
 * dns_free comes first. */
void dns_query(struct dns *, const char *host, uint16_t port, dns_f *, void *arg);

#endif
