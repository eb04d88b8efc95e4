/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tls_priv.h - between tls.c, tls_domain.c, tls_cert.c and tls_tickets.c.
 */
#ifndef MC_IO_TLS_PRIV_H
#define MC_IO_TLS_PRIV_H

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <time.h>

#include "base/map.h"
#include "io/tls.h"

/* Kinds of keys that may stand side by side for one name. */
enum tls_kind { TLS_RSA, TLS_RSA_PSS, TLS_EC, TLS_ED25519, TLS_ED448, TLS_KINDS };

struct tls_cert {
    struct tls_cert *next; /* of the domain */
    char *file;
    enum tls_kind kind;
    X509 *leaf;
    EVP_PKEY *key;
    STACK_OF(X509) * chain; /* without the leaf; may be empty */
    uint8_t *ocsp;          /* NULL: none */
    size_t ocsp_n;
    time_t ocsp_until;
};

struct tls_name {
    struct tls_cert *cert[TLS_KINDS]; /* NULL where there is none */
};

struct tls_domain {
    _Atomic unsigned refs;
    SSL_CTX *ctx;
    struct map names;       /* lower case; "*.example.org" for a wildcard */
    struct tls_name *first; /* for clients that name none of them */
    struct tls_cert *certs;
    struct tls_tickets *tickets; /* NULL: none */
    STACK_OF(X509_NAME) * client_cas;
    EVP_MD_CTX *context; /* digest of what a session depends on */
    const uint8_t *alpn;
    unsigned n_alpn;
};

/* tls_cert.c */
/* Reads a file; NULL: it was said why. */
struct tls_cert *tls_cert_load(const char *path, bool ocsp, tls_note_f *, void *arg);
void tls_cert_free(struct tls_cert *);
/* Calls fn for each of the leaf's names that can be asked for, in lower case. */
void tls_cert_names(const struct tls_cert *, void (*fn)(void *arg, struct str name), void *arg);
/* A file's notes begin with its name. */
void tls_note(tls_note_f *, void *arg, bool warning, const char *path, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* The last of OpenSSL's errors for people; empties its queue. */
const char *tls_error_text(void);

/* tls_tickets.c */
void tls_tickets_use(SSL_CTX *);

/* tls_domain.c */
struct tls_domain *tls_domain_of(const SSL_CTX *);
/* Exact, then by a wildcard; NULL: neither. */
const struct tls_name *tls_domain_find(const struct tls_domain *, struct str name);

#endif
