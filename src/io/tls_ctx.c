/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tls_ctx.c - what OpenSSL is told in both roles: versions, ciphers, revoked certificates.
 */
#include <openssl/err.h>
#include <openssl/pem.h>

#include "base/check.h"
#include "base/file.h"
#include "io/tls_priv.h"

/* Forward secrecy and AEAD only (RFC 9325 4.2); RSA and ECDSA each in the order of cost. */
#define CIPHERS        "ECDHE+AESGCM:ECDHE+CHACHA20"
#define GROUPS         "X25519:P-256:P-384:P-521"
#define FILE_BYTES_MAX ((size_t)16 << 20)

void
tls_ctx_defaults(SSL_CTX *ctx)
{
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    MC_ASSERT(SSL_CTX_set_cipher_list(ctx, CIPHERS) == 1);
    MC_ASSERT(SSL_CTX_set1_groups_list(ctx, GROUPS) == 1);
}

bool
tls_ctx_set_min_version(SSL_CTX *ctx, unsigned minor)
{
    return SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION + (int)minor) == 1;
}

bool
tls_ctx_set_ciphers(SSL_CTX *ctx, const char *list, struct errbuf *e)
{
    if (SSL_CTX_set_cipher_list(ctx, list) == 1)
        return true;
    err_set(e, "\"%s\": %s, expected a list as openssl-ciphers(1) has it", list, tls_error_text());
    return false;
}

bool
tls_ctx_set_ciphersuites(SSL_CTX *ctx, const char *list, struct errbuf *e)
{
    if (SSL_CTX_set_ciphersuites(ctx, list) == 1)
        return true;
    err_set(e, "\"%s\": %s, expected like \"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384\"", list,
            tls_error_text());
    return false;
}

static void
check_crl(X509_CRL *crl, const char *path, const char *whose, tls_note_f *note, void *arg)
{
    const ASN1_TIME *next = X509_CRL_get0_nextUpdate(crl);

    if (next != NULL && X509_cmp_current_time(next) < 0)
        tls_note(note, arg, true, path,
                 "the list has expired, expected a newer one: %s of its issuer will be accepted",
                 whose);
}

bool
tls_ctx_add_crl(SSL_CTX *ctx, const char *path, const char *whose, tls_note_f *note, void *arg)
{
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    BIO *bio = BIO_new_file(path, "r");
    X509_CRL *crl;
    unsigned n = 0;

    while (bio != NULL && (crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL)) != NULL) {
        check_crl(crl, path, whose, note, arg);
        X509_STORE_add_crl(store, crl);
        X509_CRL_free(crl);
        n++;
    }
    BIO_free(bio);
    if (n == 0) {
        tls_note(note, arg, false, path, "%s, expected lists of revoked certificates in PEM",
                 tls_error_text());
        return false;
    }
    ERR_clear_error();
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
    return true;
}

void
tls_digest_file(EVP_MD_CTX *digest, const char *path)
{
    struct buf text = {0};

    if (file_load(path, FILE_BYTES_MAX, &text) && text.n > 0)
        MC_ASSERT(EVP_DigestUpdate(digest, text.p, text.n) == 1);
    if (text.n > 0)
        OPENSSL_cleanse(text.p, text.n);
    buf_free(&text);
}
