/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tls_domain.c - what one listener offers: certificates by name, versions, ciphers, whom it asks
 * for a certificate.
 *
 * One SSL_CTX for all names: the certificates of the name that a client asks for are put into its
 * connection when the ClientHello has been read, and OpenSSL chooses among them by the client's
 * signature algorithms.  So 10,000 names cost a look into a map.
 */
#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/check.h"
#include "base/file.h"
#include "io/tls_priv.h"

/* A ticket's key opens it for an hour after the one in which it was sealed. */
#define SESSION_S 3600

/* --- names ---------------------------------------------------------------------------------------
 */

static const struct tls_name *
find_wildcard(const struct tls_domain *d, const char *lower, size_t n)
{
    const char *dot = memchr(lower, '.', n);
    char pattern[256];
    size_t rest;

    if (dot == NULL)
        return NULL;
    rest = n - (size_t)(dot - lower);
    pattern[0] = '*';
    memcpy(pattern + 1, dot, rest);
    return map_get(&d->names, (struct str){pattern, rest + 1});
}

/* Exact, then by a wildcard, which stands for one label (RFC 6125 6.4.3); NULL: neither. */
static const struct tls_name *
find(const struct tls_domain *d, struct str name)
{
    const struct tls_name *found;
    char lower[254];

    if (name.n > 0 && name.p[name.n - 1] == '.')
        name.n--;
    if (name.n == 0 || name.n >= sizeof(lower) || name.p[0] == '*')
        return NULL;
    for (size_t i = 0; i < name.n; i++)
        lower[i] = (char)str_lower((unsigned char)name.p[i]);
    found = map_get(&d->names, (struct str){lower, name.n});
    return found != NULL ? found : find_wildcard(d, lower, name.n);
}

bool
tls_domain_knows(const struct tls_domain *d, const char *name)
{
    return find(d, str_of(name)) != NULL;
}

unsigned
tls_domain_names(const struct tls_domain *d)
{
    return (unsigned)d->names.n;
}

static const struct tls_name *
name_of(SSL *ssl)
{
    const struct tls_domain *d = tls_domain_of(SSL_get_SSL_CTX(ssl));
    const char *sni = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    const struct tls_name *found = sni != NULL ? find(d, str_of(sni)) : NULL;

    return found != NULL ? found : d->first;
}

/* --- what OpenSSL asks ---------------------------------------------------------------------------
 */

struct tls_domain *
tls_domain_of(const SSL_CTX *ctx)
{
    return SSL_CTX_get_app_data(ctx);
}

/* The ClientHello was read: 1 goes on, 0 ends the handshake. */
static int
on_choose_cert(SSL *ssl, void *arg)
{
    const struct tls_name *name = name_of(ssl);

    if (memcmp(name->cert, tls_domain_of(SSL_get_SSL_CTX(ssl))->latest.cert, sizeof(name->cert)) ==
        0)
        return 1;
    SSL_certs_clear(ssl);
    for (unsigned i = 0; i < TLS_KINDS; i++) {
        const struct tls_cert *c = name->cert[i];

        if (c != NULL && SSL_use_cert_and_key(ssl, c->leaf, c->key, c->chain, 1) != 1)
            return 0;
    }
    return 1;
}

/* Of a strict domain: called with or without a name. */
static int
on_name(SSL *ssl, int *alert, void *arg)
{
    const char *sni = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

    if (sni != NULL && find(arg, str_of(sni)) != NULL)
        return SSL_TLSEXT_ERR_OK;
    *alert = SSL_AD_UNRECOGNIZED_NAME;
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static const struct tls_cert *
chosen_cert(SSL *ssl)
{
    const struct tls_name *name = name_of(ssl);
    const X509 *leaf = SSL_get_certificate(ssl);

    for (unsigned i = 0; i < TLS_KINDS; i++)
        if (name->cert[i] != NULL && name->cert[i]->leaf == leaf)
            return name->cert[i];
    return NULL;
}

static int
on_ocsp(SSL *ssl, void *arg)
{
    const struct tls_cert *c = chosen_cert(ssl);
    uint8_t *copy;

    if (c == NULL || c->ocsp == NULL || (c->ocsp_until != 0 && c->ocsp_until < time(NULL)))
        return SSL_TLSEXT_ERR_NOACK;
    copy = OPENSSL_memdup(c->ocsp, c->ocsp_n);
    if (copy == NULL)
        return SSL_TLSEXT_ERR_NOACK;
    SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)c->ocsp_n);
    return SSL_TLSEXT_ERR_OK;
}

/* RFC 7301 3.2: who offers nothing that we speak is told so. */
static int
on_alpn(SSL *ssl, const unsigned char **out, unsigned char *n, const unsigned char *offered,
        unsigned n_offered, void *arg)
{
    const struct tls_domain *d = arg;
    unsigned char *chosen;

    if (SSL_select_next_proto(&chosen, n, d->alpn, d->n_alpn, offered, n_offered) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* --- birth and end -------------------------------------------------------------------------------
 */

static void
set_defaults(SSL_CTX *ctx)
{
    tls_ctx_defaults(ctx);
    SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* tickets carry sessions */
    SSL_CTX_set_timeout(ctx, SESSION_S);
    SSL_CTX_set_num_tickets(ctx, 0);    /* tls.c sends the one of TLS 1.3 */
    SSL_CTX_set_max_early_data(ctx, 0); /* it could be played again */
    SSL_CTX_set_cert_cb(ctx, on_choose_cert, NULL);
    SSL_CTX_set_tlsext_status_cb(ctx, on_ocsp);
    tls_tickets_use(ctx);
}

static void
digest_more(struct tls_domain *d, const void *p, size_t n)
{
    MC_ASSERT(EVP_DigestUpdate(d->context, p, n) == 1);
}

struct tls_domain *
tls_domain_new(const char *name)
{
    struct tls_domain *d = mc_alloc(sizeof(*d));

    d->refs = 1;
    d->ctx = SSL_CTX_new(TLS_server_method());
    d->context = EVP_MD_CTX_new();
    d->client_cas = sk_X509_NAME_new_null();
    MC_ASSERT(d->ctx != NULL && d->context != NULL && d->client_cas != NULL);
    MC_ASSERT(EVP_DigestInit_ex2(d->context, EVP_sha256(), NULL) == 1);
    digest_more(d, name, strlen(name) + 1);
    SSL_CTX_set_app_data(d->ctx, d);
    set_defaults(d->ctx);
    return d;
}

struct tls_domain *
tls_domain_ref(struct tls_domain *d)
{
    if (d != NULL)
        atomic_fetch_add_explicit(&d->refs, 1, memory_order_relaxed);
    return d;
}

static void
free_domain(struct tls_domain *d)
{
    size_t at = 0;
    void *name;

    while (map_next(&d->names, &at, &(struct str){0}, &name))
        free(name);
    map_free(&d->names);
    while (d->certs != NULL) {
        struct tls_cert *c = d->certs;

        d->certs = c->next;
        tls_cert_free(c);
    }
    sk_X509_NAME_pop_free(d->client_cas, X509_NAME_free);
    EVP_MD_CTX_free(d->context);
    SSL_CTX_free(d->ctx);
    free(d);
}

void
tls_domain_unref(struct tls_domain **dp)
{
    struct tls_domain *d = *dp;

    *dp = NULL;
    if (d != NULL && atomic_fetch_sub_explicit(&d->refs, 1, memory_order_acq_rel) == 1)
        free_domain(d);
}

/* --- certificates --------------------------------------------------------------------------------
 */

struct naming {
    struct tls_domain *d;
    struct tls_cert *cert;
    unsigned n_names;
    const struct tls_cert *before; /* one that had a name first */
    char taken[254];
};

static void
add_name(void *arg, struct str name)
{
    struct naming *n = arg;
    struct tls_name *found = map_get(&n->d->names, name);
    struct tls_cert **slot;

    if (found == NULL) {
        found = mc_alloc(sizeof(*found));
        map_put(&n->d->names, name, found);
    }
    if (n->d->first == NULL)
        n->d->first = found;
    n->n_names++;
    slot = &found->cert[n->cert->kind];
    if (*slot == NULL) {
        *slot = n->cert;
    } else if (*slot != n->cert && n->before == NULL) {
        n->before = *slot;
        snprintf(n->taken, sizeof(n->taken), STR_FMT, STR_ARG(name));
    }
}

static bool
add_file(struct tls_domain *d, const char *path, bool ocsp, tls_note_f *note, void *arg)
{
    struct tls_cert *c = tls_cert_load(path, ocsp, note, arg);
    struct naming n = {.d = d, .cert = c};

    if (c == NULL)
        return false;
    /* whatever OpenSSL refuses in a handshake, it refuses here */
    if (SSL_CTX_use_cert_and_key(d->ctx, c->leaf, c->key, c->chain, 1) != 1) {
        tls_note(note, arg, false, path, "%s, expected a stronger one", tls_error_text());
        tls_cert_free(c);
        return false;
    }
    c->next = d->certs;
    d->certs = c;
    d->latest.cert[c->kind] = c;
    tls_cert_names(c, add_name, &n);
    if (n.n_names == 0) {
        tls_note(note, arg, false, path,
                 "no name or address in the certificate, expected one or more");
        return false;
    }
    if (n.before != NULL)
        tls_note(note, arg, true, path, "%s has a certificate of %s already, which stands", n.taken,
                 n.before->file);
    return true;
}

static int
is_pem(const struct dirent *e)
{
    return fnmatch("*.pem", e->d_name, FNM_PERIOD) == 0;
}

static bool
add_directory(struct tls_domain *d, const char *path, bool ocsp, tls_note_f *note, void *arg)
{
    struct dirent **list;
    int n = scandir(path, &list, is_pem, alphasort);
    bool ok = n > 0;

    if (n < 0)
        tls_note(note, arg, false, path, "%s", strerror(errno));
    if (n == 0)
        tls_note(note, arg, false, path, "nothing in it, expected files whose names end in .pem");
    for (int i = 0; i < n; i++) {
        char *file = mc_printf("%s/%s", path, list[i]->d_name);

        ok &= add_file(d, file, ocsp, note, arg);
        free(file);
        free(list[i]);
    }
    if (n >= 0)
        free(list);
    return ok;
}

bool
tls_domain_add(struct tls_domain *d, const char *path, bool ocsp, tls_note_f *note, void *arg)
{
    struct stat st;

    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return add_directory(d, path, ocsp, note, arg);
    return add_file(d, path, ocsp, note, arg);
}

/* --- the rest ------------------------------------------------------------------------------------
 */

bool
tls_domain_set_min_version(struct tls_domain *d, unsigned minor)
{
    return tls_ctx_set_min_version(d->ctx, minor);
}

bool
tls_domain_set_ciphers(struct tls_domain *d, const char *list, struct errbuf *e)
{
    return tls_ctx_set_ciphers(d->ctx, list, e);
}

bool
tls_domain_set_ciphersuites(struct tls_domain *d, const char *list, struct errbuf *e)
{
    return tls_ctx_set_ciphersuites(d->ctx, list, e);
}

bool
tls_domain_add_client_ca(struct tls_domain *d, const char *path, struct errbuf *e)
{
    ERR_clear_error();
    if (SSL_CTX_load_verify_file(d->ctx, path) != 1 ||
        SSL_add_file_cert_subjects_to_stack(d->client_cas, path) != 1) {
        err_set(e, "%s: %s, expected certificates in PEM", path, tls_error_text());
        return false;
    }
    tls_digest_file(d->context, path); /* no resumption for who was asked by other rules */
    return true;
}

bool
tls_domain_add_crl(struct tls_domain *d, const char *path, tls_note_f *note, void *arg)
{
    if (!tls_ctx_add_crl(d->ctx, path, "no client certificate", note, arg))
        return false;
    tls_digest_file(d->context, path);
    return true;
}

void
tls_domain_set_verify(struct tls_domain *d, enum tls_verify verify)
{
    static const int modes[] = {
        [TLS_VERIFY_NONE] = SSL_VERIFY_NONE,
        [TLS_VERIFY_OPTIONAL] = SSL_VERIFY_PEER,
        [TLS_VERIFY_REQUIRED] = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
    };

    SSL_CTX_set_verify(d->ctx, modes[verify], NULL);
    digest_more(d, &verify, sizeof(verify));
}

void
tls_domain_set_strict(struct tls_domain *d)
{
    SSL_CTX_set_tlsext_servername_callback(d->ctx, on_name);
    SSL_CTX_set_tlsext_servername_arg(d->ctx, d);
}

void
tls_domain_set_alpn(struct tls_domain *d, const uint8_t *protocols, unsigned n)
{
    d->alpn = protocols;
    d->n_alpn = n;
    SSL_CTX_set_alpn_select_cb(d->ctx, on_alpn, d);
}

void
tls_domain_seal(struct tls_domain *d, struct tls_tickets *tickets)
{
    uint8_t context[EVP_MAX_MD_SIZE];
    unsigned n;

    MC_ASSERT(d->first != NULL);
    MC_ASSERT(EVP_DigestFinal_ex(d->context, context, &n) == 1);
    MC_ASSERT(SSL_CTX_set_session_id_context(d->ctx, context, n) == 1);
    SSL_CTX_set_client_CA_list(d->ctx, d->client_cas);
    d->client_cas = NULL;
    d->tickets = tickets;
    if (tickets == NULL)
        SSL_CTX_set_options(d->ctx, SSL_OP_NO_TICKET);
}
