/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tls.h - TLS with clients and with servers (RFC 5246, RFC 8446), by OpenSSL: certificates by
 * name, the keys of session tickets, whom we believe, and what stream.h asks of a stream with TLS.
 *
 * A struct tls_domain is what one listener offers, a struct tls_client how servers are dialled:
 * immutable once workers have them, counted by references of any thread.  They are built on the
 * control thread, from files.
 */
#ifndef MC_IO_TLS_H
#define MC_IO_TLS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "base/map.h"
#include "base/stats.h"
#include "base/str.h"
#include "io/block.h"
#include "io/loop.h"

struct addr;
struct sock_ops;
struct stream;
struct tls;
struct tls_client;
struct tls_domain;

/* --- session tickets (tls_tickets.c) -------------------------------------------------------------
 */
#define TLS_TICKET_KEYS_MAX 24
#define TLS_TICKET_BYTES    80

/* name, AES-256 and HMAC-SHA-256 key of RFC 5077 4, as they come out of a key derivation */
struct tls_ticket_key {
    uint8_t name[16], cipher[32], mac[32];
};

struct tls_tickets;

/* Without keys at first: nothing is resumed then. */
struct tls_tickets *tls_tickets_new(void);
void tls_tickets_free(struct tls_tickets **);
/* Replaces all keys: the first one seals, all of them open.  n <= TLS_TICKET_KEYS_MAX.  Any thread.
 */
void tls_tickets_set(struct tls_tickets *, const struct tls_ticket_key *, unsigned n);

/* --- what a listener offers (tls_domain.c, tls_cert.c) -------------------------------------------
 */
enum tls_verify { TLS_VERIFY_NONE, TLS_VERIFY_OPTIONAL, TLS_VERIFY_REQUIRED };

/* Tells what is wrong ("FILE: text") or, as a warning, noteworthy. */
typedef void tls_note_f(void *arg, bool warning, const char *text);

/* name: of the listener; sessions are resumed under the same name only. */
struct tls_domain *tls_domain_new(const char *name);
struct tls_domain *tls_domain_ref(struct tls_domain *);
void tls_domain_unref(struct tls_domain **); /* NULL is fine */

/* All of these are told before tls_domain_seal().  False: a note or e says what is wrong. */
/* A PEM file with a chain, leaf first, and its key; or a directory whose *.pem are such files.  The
 * leaf's names, of alternative names or else its common name, lead to it; the first certificate of
 * all is for clients that name none of them.  Of two for one name and kind of key the first stands.
 * ocsp: FILE.ocsp, in DER, is stapled while it is valid. */
bool tls_domain_add(struct tls_domain *, const char *path, bool ocsp, tls_note_f *, void *arg);
bool tls_domain_set_min_version(struct tls_domain *, unsigned minor); /* TLS 1.minor */
bool tls_domain_set_ciphers(struct tls_domain *, const char *list, struct errbuf *);
bool tls_domain_set_ciphersuites(struct tls_domain *, const char *list, struct errbuf *);
bool tls_domain_add_client_ca(struct tls_domain *, const char *path, struct errbuf *);
bool tls_domain_add_crl(struct tls_domain *, const char *path, tls_note_f *, void *arg);
void tls_domain_set_verify(struct tls_domain *, enum tls_verify);
/* Clients that name none of the names, or no name, are refused (RFC 6066 3, unrecognized_name). */
void tls_domain_set_strict(struct tls_domain *);
/* protocols: as on the wire (RFC 7301 3.1), ours to choose from in this order; static. */
void tls_domain_set_alpn(struct tls_domain *, const uint8_t *protocols, unsigned n);
/* Ready for connections.  tickets live longer than the domain; NULL: no resumption. */
void tls_domain_seal(struct tls_domain *, struct tls_tickets *);
unsigned tls_domain_names(const struct tls_domain *);
/* Is there a certificate for this name, exact or by a wildcard? */
bool tls_domain_knows(const struct tls_domain *, const char *name);

/* --- how servers are dialled (tls_client.c) ------------------------------------------------------
 */
#define TLS_NAME_MAX 253 /* bytes of a server's name */

/* Believes nobody at first, and accepts only who can be believed. */
struct tls_client *tls_client_new(void);
struct tls_client *tls_client_ref(struct tls_client *);
void tls_client_unref(struct tls_client **); /* NULL is fine */

/* All of these are told before tls_client_seal().  False: a note or e says what is wrong. */
/* A PEM file with authorities, or a directory of such files. */
bool tls_client_add_ca(struct tls_client *, const char *path, struct errbuf *);
/* The authorities that the operating system believes, in a file that OpenSSL's SSL_CERT_FILE may
 * name; else that of Debian, or where OpenSSL was built to look. */
bool tls_client_add_system_ca(struct tls_client *, struct errbuf *);
bool tls_client_add_crl(struct tls_client *, const char *path, tls_note_f *, void *arg);
/* Whoever answers is taken for the server. */
void tls_client_trust_all(struct tls_client *);
/* Shown to servers that ask: a PEM file as for tls_domain_add(). */
bool tls_client_set_certificate(struct tls_client *, const char *path, tls_note_f *, void *arg);
bool tls_client_set_min_version(struct tls_client *, unsigned minor); /* TLS 1.minor */
bool tls_client_set_ciphers(struct tls_client *, const char *list, struct errbuf *);
bool tls_client_set_ciphersuites(struct tls_client *, const char *list, struct errbuf *);
/* protocols: as on the wire (RFC 7301 3.1), in the order of preference; copied. */
void tls_client_set_alpn(struct tls_client *, const uint8_t *protocols, unsigned n);
void tls_client_seal(struct tls_client *);
/* The same for two that were told the same, files' contents included; 0: c is NULL. */
uint64_t tls_client_id(const struct tls_client *c);

/* Whom a stream is to reach. */
struct tls_target {
    struct tls_client *client; /* NULL: plain */
    /* What the certificate must be for: a host name, which is also sent as SNI, or an IP address.
     * NULL: nothing, with a client that trusts all. */
    const char *name;
    uint64_t server;         /* sessions are resumed with the same server and name only */
    struct tls_turns *turns; /* the loop's */
};

/* --- handshakes of a worker ----------------------------------------------------------------------
 */
/* X(name, label, help) */
#define TLS_FAILURES(X)                                                                   \
    X(CLOSED, "closed", "the peer went away")                                             \
    X(UNFINISHED, "unfinished", "it did not end in time, or the balancer had to end")     \
    X(NOT_TLS, "not_tls", "what came was not TLS")                                        \
    X(VERSION, "version", "no version of TLS in common")                                  \
    X(CIPHER, "cipher", "no cipher, group or signature algorithm in common")              \
    X(ALPN, "alpn", "no application protocol in common")                                  \
    X(NAME, "name", "no certificate for the name that was asked for")                     \
    X(CLIENT_CERTIFICATE, "client_certificate", "none, or one that was not accepted")     \
    X(SERVER_CERTIFICATE, "server_certificate", "one that was not accepted")              \
    X(ALERT, "alert", "the peer refused, because of the certificate more often than not") \
    X(OTHER, "other", "anything else")

enum tls_failure {
#define X(name, label, help) TLS_FAILURE_##name,
    TLS_FAILURES(X)
#undef X
        TLS_N_FAILURES
};

#define TLS_VERSIONS 2 /* 1.2, 1.3 */

struct tls_stats {
    stat_u64 handshakes[TLS_VERSIONS][2]; /* by version; [1]: resumed */
    stat_u64 failures[TLS_N_FAILURES];
    stat_u64 truncated; /* connections that peers ended without close_notify */
};

const char *tls_failure_label(enum tls_failure);

/* Sessions with servers, to go on with. */
struct tls_sessions {
    struct map by_key;
    struct list lru; /* struct tls_kept */
};

/* One a loop: handshakes that have bytes to work on wait here for their turn. */
struct tls_turns {
    struct loop *loop;
    struct list lines; /* of tls_shake.c: who wait, by where they come from */
    struct task task;
    struct tls_stats stats;    /* with clients */
    struct tls_stats up_stats; /* with servers */
    struct tls_sessions sessions;
};

void tls_turns_init(struct tls_turns *, struct loop *);
void tls_turns_fini(struct tls_turns *); /* all streams are closed */

/* --- what a stream's owner may know --------------------------------------------------------------
 */
struct tls_facts {
    const char *version;    /* "TLSv1.3" */
    const char *cipher;     /* OpenSSL's name */
    struct str alpn;        /* empty: none was agreed on */
    struct str sni;         /* as the client wrote it; empty: none */
    struct str client_cert; /* value of Client-Cert (RFC 9440 2.2); empty: none was given */
    bool resumed;
};

/* Why a stream that dialled a server has failed. */
struct tls_fault {
    enum tls_failure why;
    uint8_t alert;  /* with ALERT: as on the wire */
    char text[160]; /* "certificate: hostname mismatch" */
};

/* --- stream.h's ---------------------------------------------------------------------------------
 */
void tls_open(struct stream *, struct loop *, int fd, const struct sock_ops *, struct tls_domain *,
              struct tls_turns *);
void tls_secure(struct stream *, struct block **rest, struct tls_domain *, struct tls_turns *);
enum mc_err tls_connect(struct stream *, struct loop *, const struct addr *,
                        const struct sock_ops *, const struct tls_target *);
void tls_recv(struct stream *, bool on);
void tls_send(struct stream *, struct block **);
void tls_write(struct stream *, const void *, size_t n);
char *tls_reserve(struct stream *, size_t n);
void tls_commit(struct stream *, size_t n);
void tls_push(struct stream *);
uint32_t tls_unsent(const struct stream *);
void tls_finish(struct stream *);
void tls_shutdown(struct stream *);
void tls_close(struct stream *, bool reset);
const struct tls_facts *tls_facts(const struct stream *);
const struct tls_fault *tls_fault(const struct stream *);
bool tls_is_shaking(const struct stream *);

#endif
