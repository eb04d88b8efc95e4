/* SPDX-License-Identifier: BSD-2-Clause
 *
 * sni_peek.h - what a TLS client says of where it wants to go, read without ending its TLS.
 *
 * In two phases, as heads of requests are read: find the end of the ClientHello (RFC 8446 4.1.2,
 * RFC 5246 7.4.1.2) in the records that carry it, which may come in any pieces; then read one that
 * is known to be whole.  Strict: what two readers could understand differently is a fault.  Pure.
 */
#ifndef MC_IO_SNI_PEEK_H
#define MC_IO_SNI_PEEK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

/* A ClientHello with the headers of its records takes no more; those of today's browsers take 2
 * KiB. */
#define SNI_PEEK_MAX 16384

enum sni_peek_state {
    SNI_PEEK_MORE,  /* so far it is one, and it goes on */
    SNI_PEEK_WHOLE, /* it is here */
    SNI_PEEK_OTHER, /* this is no TLS */
    SNI_PEEK_BAD,   /* it begins as TLS, and is none, or is too long */
};

/* Begin with zeros. */
struct sni_peek {
    uint32_t at;     /* where the next record begins */
    uint32_t got;    /* bytes of the handshake message in the records before */
    uint8_t head[4]; /* of these, the first: type and length */
};

/* p, n: all that has come since the connection began.  Looks at each record once, however often it
 * is called. */
enum sni_peek_state sni_peek_end(struct sni_peek *, const void *p, size_t n);

struct sni_hello {
    struct str name; /* as the client wrote it; empty: it named no host */
    struct str alpn; /* the list as it stands there: a byte of length, then the name, and so on; or
                        empty */
};

/* Reads a ClientHello for which sni_peek_end() has said WHOLE.  flat: SNI_PEEK_MAX bytes in which
 * it is put together, and to which *out points.  False: it is malformed. */
bool sni_peek_read(const void *p, size_t n, uint8_t *flat, struct sni_hello *out);

#endif
