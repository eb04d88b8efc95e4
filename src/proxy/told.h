/* SPDX-License-Identifier: BSD-2-Clause
 *
 * told.h - what a PROXY header told of a connection's client (io/proxy_header.h), for as long as
 * the connection lives.  Its worker's thread.
 */
#ifndef MC_PROXY_TOLD_H
#define MC_PROXY_TOLD_H

#include "io/proxy_header.h"
#include "io/tls.h"

struct told {
    struct tls_domain *domain;  /* of the handshake behind the header; a reference; NULL: plain */
    struct proxy_header header; /* its texts lie in `bytes` */
    struct tls_facts facts;     /* of the client's TLS, which ends where the header comes from */
    char via[ADDR_TEXT];        /* who told: "10.0.0.1:4711", "unix" */
    char *bytes;
};

/* For a connection on which a header is to come. */
struct told *told_new(struct tls_domain *);
void told_free(struct told **); /* NULL is fine */
/* As proxy_header_read(), but with the texts kept. */
enum proxy_step told_read(struct told *, const void *p, size_t n, size_t *used,
                          enum proxy_fault *why);

/* NULL: the client does not speak TLS, as far as was told. */
static inline const struct tls_facts *
told_tls(const struct told *t)
{
    return (t->header.tls_client & PROXY_TLS) != 0 ? &t->facts : NULL;
}

#endif
