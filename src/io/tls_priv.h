/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tls_priv.h - what tls*.c share.  For these files only.
 */
#ifndef MC_IO_TLS_PRIV_H
#define MC_IO_TLS_PRIV_H

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <time.h>

#include "io/stream.h"

/* --- a stream (tls.c) ----------------------------------------------------------------------------
 */
#define TLS_MAGIC 0x544c5321u

enum tls_state {
    TLS_DIALLING, /* there is no connection yet */
    TLS_SHAKING,
    TLS_OPEN,
    TLS_FAILED, /* the owner is told when the alert has gone */
    TLS_TOLD,   /* it was told of the end */
};

struct tls {
    uint32_t magic;
    uint8_t state;
    bool begun;      /* the owner knows whether it has a connection */
    bool want;       /* the owner wants to receive */
    bool lent;       /* `in` is the socket's */
    bool mute;       /* nothing may be sent any more */
    bool eof;        /* close_notify has come */
    bool finished;   /* and ours is queued */
    bool sent;       /* the owner has sent since it was last told that all has gone */
    bool ticket_due; /* TLS 1.3: one goes with the next bytes to the client */
    SSL *ssl;
    struct stream *stream;
    const struct sock_ops *ops; /* the owner's */
    struct tls_domain *domain;  /* as a server; else NULL */
    struct tls_client *client;  /* as a client; else NULL */
    struct tls_turns *turns;
    struct tls_stats *stats; /* of the role */
    struct list link;        /* in a line of turns */
    struct task later;       /* what could not be done inside a call of the owner's */
    struct block *in;        /* records, or parts of them, not yet read */
    struct block *out;       /* plain text that waits for company */
    struct tls_facts facts;
    struct tls_fault *fault; /* NULL: none */
    char *name;              /* whom it dialled; NULL: nobody by name */
    uint64_t server;         /* and which of those of that name */
};

/* Goes on after a step of any kind: delivers, and has the socket bring more. */
void tls_go_on(struct tls *);
/* OpenSSL has given up. */
void tls_fail(struct tls *);

/* tls_bio.c: between t->ssl and t->stream's socket */
void tls_bio_use(struct tls *);

/* tls_shake.c: the handshake takes a step in its turn */
void tls_shake(struct tls *);

/* tls_fault.c */
/* Counts, when it is the handshake that failed. */
void tls_fault_count(struct tls *, enum tls_failure);
/* Keeps for the owner what went wrong, when it is a client; the first word stands. */
void tls_fault_tell(struct tls *, enum tls_failure, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Both of these, from the first of OpenSSL's errors. */
void tls_fault_openssl(struct tls *);

/* tls_sessions.c */
/* Takes the session over. */
void tls_sessions_put(struct tls *, SSL_SESSION *);
/* One to go on with, the caller's; NULL: there is none. */
SSL_SESSION *tls_sessions_take(struct tls *);
void tls_sessions_fini(struct tls_sessions *);

/* --- what is told OpenSSL in both roles (tls_ctx.c) ----------------------------------------------
 */
void tls_ctx_defaults(SSL_CTX *);
bool tls_ctx_set_min_version(SSL_CTX *, unsigned minor);
bool tls_ctx_set_ciphers(SSL_CTX *, const char *list, struct errbuf *);
bool tls_ctx_set_ciphersuites(SSL_CTX *, const char *list, struct errbuf *);
/* whose: "no client certificate", for the warning that a list has expired */
bool tls_ctx_add_crl(SSL_CTX *, const char *path, const char *whose, tls_note_f *, void *arg);
/* The content of a file, as far as it can be read. */
void tls_digest_file(EVP_MD_CTX *, const char *path);

/* tls_client.c */
SSL_CTX *tls_client_ctx(struct tls_client *);
/* Tells t->ssl whom it is to reach, and with which session. */
void tls_client_aim(struct tls *);

/* --- what a listener offers (tls_domain.c) -------------------------------------------------------
 */
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
    struct tls_name latest;      /* what every connection has until its name is known */
    struct tls_tickets *tickets; /* NULL: none */
    STACK_OF(X509_NAME) * client_cas;
    EVP_MD_CTX *context; /* digest of what a session depends on */
    const uint8_t *alpn;
    unsigned n_alpn;
};

/* OpenSSL wants its queue of errors empty before a call, which it is unless something forgot to
 * empty it; to empty an empty one costs 800 instructions. */
static inline void
tls_errors_clear(void)
{
    if (ERR_peek_error() != 0)
        ERR_clear_error();
}

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

#endif
