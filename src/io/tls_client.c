/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tls_client.c - how servers are dialled: whom we believe, what we show, versions, ciphers.
 *
 * Two clients that were told the same have one id: connections and sessions of the one are as good
 * as those of the other, though a reload has made them anew.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "io/tls_priv.h"

#define SYSTEM_CA "/etc/ssl/certs/ca-certificates.crt"

struct tls_client {
    _Atomic unsigned refs;
    SSL_CTX *ctx;
    EVP_MD_CTX *digest; /* of all that it was told; NULL once sealed */
    uint64_t id;
    bool trust_all;
};

static void
digest_more(struct tls_client *c, const char *what, const void *p, size_t n)
{
    MC_ASSERT(EVP_DigestUpdate(c->digest, what, strlen(what) + 1) == 1);
    MC_ASSERT(EVP_DigestUpdate(c->digest, &n, sizeof(n)) == 1);
    MC_ASSERT(EVP_DigestUpdate(c->digest, p, n) == 1);
}

static void
digest_text(struct tls_client *c, const char *what, const char *text)
{
    digest_more(c, what, text, strlen(text));
}

static void
digest_file(struct tls_client *c, const char *what, const char *path)
{
    digest_text(c, what, path);
    tls_digest_file(c->digest, path);
}

/* --- birth and end -------------------------------------------------------------------------------
 */

/* OpenSSL has a session to go on with; 1: it is ours now. */
static int
on_new_session(SSL *ssl, SSL_SESSION *s)
{
    tls_sessions_put(SSL_get_app_data(ssl), s);
    return 1;
}

struct tls_client *
tls_client_new(void)
{
    struct tls_client *c = mc_alloc(sizeof(*c));

    c->refs = 1;
    c->ctx = SSL_CTX_new(TLS_client_method());
    c->digest = EVP_MD_CTX_new();
    MC_ASSERT(c->ctx != NULL && c->digest != NULL);
    MC_ASSERT(EVP_DigestInit_ex2(c->digest, EVP_sha256(), NULL) == 1);
    tls_ctx_defaults(c->ctx);
    SSL_CTX_set_session_cache_mode(c->ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(c->ctx, on_new_session);
    return c;
}

struct tls_client *
tls_client_ref(struct tls_client *c)
{
    if (c != NULL)
        atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

void
tls_client_unref(struct tls_client **cp)
{
    struct tls_client *c = *cp;

    *cp = NULL;
    if (c == NULL || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
        return;
    EVP_MD_CTX_free(c->digest);
    SSL_CTX_free(c->ctx);
    free(c);
}

void
tls_client_seal(struct tls_client *c)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned n;

    SSL_CTX_set_verify(c->ctx, c->trust_all ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    MC_ASSERT(EVP_DigestFinal_ex(c->digest, digest, &n) == 1 && n >= sizeof(c->id));
    memcpy(&c->id, digest, sizeof(c->id));
    c->id |= 1; /* 0 is none */
    EVP_MD_CTX_free(c->digest);
    c->digest = NULL;
}

uint64_t
tls_client_id(const struct tls_client *c)
{
    return c != NULL ? c->id : 0;
}

SSL_CTX *
tls_client_ctx(struct tls_client *c)
{
    MC_ASSERT(c->digest == NULL);
    return c->ctx;
}

/* --- whom we believe -----------------------------------------------------------------------------
 */

static bool
add_ca_file(struct tls_client *c, const char *path, struct errbuf *e)
{
    ERR_clear_error();
    if (SSL_CTX_load_verify_file(c->ctx, path) != 1) {
        err_set(e, "%s: %s, expected certificates in PEM", path, tls_error_text());
        return false;
    }
    ERR_clear_error(); /* certificates that stand in two files are one */
    digest_file(c, "ca", path);
    return true;
}

/* Visible regular files: certificates under the names of their hashes are links to others. */
static int
is_ca(const struct dirent *d)
{
    return d->d_name[0] != '.' && (d->d_type == DT_REG || d->d_type == DT_LNK);
}

static bool
add_ca_directory(struct tls_client *c, const char *path, struct errbuf *e)
{
    struct dirent **list;
    int n = scandir(path, &list, is_ca, alphasort);
    bool ok = n > 0;

    if (n < 0)
        err_set(e, "%s: %s", path, strerror(errno));
    if (n == 0)
        err_set(e, "%s: nothing in it, expected files with certificates in PEM", path);
    for (int i = 0; i < n; i++) {
        char *file = mc_printf("%s/%s", path, list[i]->d_name);

        ok = ok && add_ca_file(c, file, e);
        free(file);
        free(list[i]);
    }
    if (n >= 0)
        free(list);
    return ok;
}

bool
tls_client_add_ca(struct tls_client *c, const char *path, struct errbuf *e)
{
    struct stat st;

    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return add_ca_directory(c, path, e);
    return add_ca_file(c, path, e);
}

bool
tls_client_add_system_ca(struct tls_client *c, struct errbuf *e)
{
    const char *path = getenv(X509_get_default_cert_file_env());

    if (path == NULL)
        path = access(SYSTEM_CA, R_OK) == 0 ? SYSTEM_CA : X509_get_default_cert_file();
    return add_ca_file(c, path, e);
}

bool
tls_client_add_crl(struct tls_client *c, const char *path, tls_note_f *note, void *arg)
{
    if (!tls_ctx_add_crl(c->ctx, path, "no certificate", note, arg))
        return false;
    digest_file(c, "crl", path);
    return true;
}

void
tls_client_trust_all(struct tls_client *c)
{
    c->trust_all = true;
    digest_text(c, "verify", "no");
}

/* --- what we show and speak ----------------------------------------------------------------------
 */

bool
tls_client_set_certificate(struct tls_client *c, const char *path, tls_note_f *note, void *arg)
{
    struct tls_cert *cert = tls_cert_load(path, false, note, arg);
    bool ok = cert != NULL;

    if (cert == NULL)
        return false;
    if (SSL_CTX_use_cert_and_key(c->ctx, cert->leaf, cert->key, cert->chain, 1) != 1) {
        tls_note(note, arg, false, path, "%s, expected a stronger one", tls_error_text());
        ok = false;
    }
    tls_cert_free(cert);
    digest_file(c, "certificate", path);
    return ok;
}

bool
tls_client_set_min_version(struct tls_client *c, unsigned minor)
{
    digest_more(c, "min-version", &minor, sizeof(minor));
    return tls_ctx_set_min_version(c->ctx, minor);
}

bool
tls_client_set_ciphers(struct tls_client *c, const char *list, struct errbuf *e)
{
    digest_text(c, "ciphers", list);
    return tls_ctx_set_ciphers(c->ctx, list, e);
}

bool
tls_client_set_ciphersuites(struct tls_client *c, const char *list, struct errbuf *e)
{
    digest_text(c, "ciphersuites", list);
    return tls_ctx_set_ciphersuites(c->ctx, list, e);
}

void
tls_client_set_alpn(struct tls_client *c, const uint8_t *protocols, unsigned n)
{
    digest_more(c, "alpn", protocols, n);
    MC_ASSERT(SSL_CTX_set_alpn_protos(c->ctx, protocols, n) == 0); /* 0 is good here */
}

/* --- one connection ------------------------------------------------------------------------------
 */

static bool
is_ip(const char *name)
{
    uint8_t bytes[16];

    return inet_pton(AF_INET, name, bytes) == 1 || inet_pton(AF_INET6, name, bytes) == 1;
}

/* RFC 6066 3: an address is no name to send. */
static void
expect_name(SSL *ssl, const char *name)
{
    if (is_ip(name)) {
        MC_ASSERT(X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1);
        return;
    }
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    MC_ASSERT(SSL_set1_host(ssl, name) == 1);
    MC_ASSERT(SSL_set_tlsext_host_name(ssl, name) == 1);
}

void
tls_client_aim(struct tls *t)
{
    SSL_SESSION *s = tls_sessions_take(t);

    MC_ASSERT(t->name != NULL || t->client->trust_all);
    SSL_set_app_data(t->ssl, t);
    SSL_set_connect_state(t->ssl);
    if (t->name != NULL)
        expect_name(t->ssl, t->name);
    if (s == NULL)
        return;
    SSL_set_session(t->ssl, s); /* should it not fit the settings, there is a full handshake */
    SSL_SESSION_free(s);
}
