/* SPDX-License-Identifier: BSD-2-Clause
 *
 * proxy_header.h - what a proxy tells of its client at the begin of a connection: the PROXY
 * protocol, versions 1 and 2, as doc/proxy-protocol.txt of HAProxy has it (sections 2.1 and 2.2).
 * Pure.
 *
 * Strict: what two readers could understand differently is a fault, and a fault ends the
 * connection. Whether a header has to come, and from whom one is believed, is the caller's to know.
 */
#ifndef MC_IO_PROXY_HEADER_H
#define MC_IO_PROXY_HEADER_H

#include "io/addr.h"

#define PROXY_HEADER_MAX 4096 /* bytes of one, of either version; ours to choose for version 2 */
#define PROXY_TEXT_MAX   255  /* of a name, protocol, version ... */
#define PROXY_UNIQUE_MAX 128  /* 2.2.5 */

/* X(name, label, text).  What is wrong with a header; the last ones are for who reads it from a
 * connection. */
#define PROXY_FAULTS(X)                                                            \
    X(NONE, "none", "")                                                            \
    X(NO_HEADER, "no_header", "the connection does not begin with a PROXY header") \
    X(LINE, "line", "malformed line of version 1")                                 \
    X(VERSION, "version", "unknown version or command")                            \
    X(FAMILY, "family", "unknown family or transport")                             \
    X(ADDRESS, "address", "malformed address")                                     \
    X(TLV, "tlv", "malformed or repeated TLV")                                     \
    X(CHECKSUM, "checksum", "wrong checksum")                                      \
    X(LENGTH, "length", "longer than a header may be")                             \
    X(TIMEOUT, "timeout", "the PROXY header did not arrive in time")               \
    X(CLOSED, "closed", "closed before the PROXY header was whole")                \
    X(UNTRUSTED, "untrusted", "not from a network of proxy-protocol-from")

enum proxy_fault {
#define X(name, label, text) PROXY_FAULT_##name,
    PROXY_FAULTS(X)
#undef X
        PROXY_N_FAULTS
};

const char *proxy_fault_label(enum proxy_fault);
const char *proxy_fault_text(enum proxy_fault);

/* Of `tls_client` (2.2.6). */
#define PROXY_TLS         0x01 /* the client speaks TLS */
#define PROXY_TLS_CERT    0x02 /* and has shown a certificate on this connection */
#define PROXY_TLS_SESSION 0x04 /* or in the session that it belongs to */

struct proxy_header {
    uint8_t version; /* 1 or 2 */
    bool local; /* LOCAL, UNKNOWN, or of no family that we know: the connection speaks for itself,
                   and nothing below is told */
    bool checksum; /* has one; when written: shall have one.  Version 2, as all that follows but
                      addresses */
    struct addr from, to;               /* of the client's connection; len 0: not known */
    struct str alpn, authority;         /* empty: not told; authority: the name asked for, SNI */
    struct str unique_id;               /* any bytes */
    uint8_t tls_client;                 /* PROXY_TLS ...; 0: no TLS, or not told */
    uint32_t tls_verify;                /* 0: the certificate was shown and is good */
    struct str tls_version, tls_cipher; /* printable ASCII; empty: not told */
    struct str tls_cn;                  /* common name of the client's certificate */
};

enum proxy_step {
    PROXY_MORE, /* good so far */
    PROXY_DONE,
    PROXY_BAD,
};

/* p, n: all that has come since the connection began.  DONE: *out is filled, its texts point into
 * p, and the stream begins at p + *used.  BAD: *why is set, as soon as it can be known.  More than
 * PROXY_HEADER_MAX bytes are never asked for. */
enum proxy_step proxy_header_read(const void *p, size_t n, struct proxy_header *out, size_t *used,
                                  enum proxy_fault *why);

/* Writes it, PROXY_HEADER_MAX bytes at most, and returns how many.  An address that is not known is
 * the unspecified one when the other is IPv4 or IPv6; of one IPv4 and one IPv6 the former is
 * mapped.  What the version cannot tell is left out, as are texts that are too long: version 1 says
 * UNKNOWN of unix sockets. */
size_t proxy_header_write(const struct proxy_header *, uint8_t out[PROXY_HEADER_MAX]);

#endif
