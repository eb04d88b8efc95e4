/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tls_harness.h - for the tests of TLS: certificates that are made for them, and notes.
 */
#ifndef MC_IO_TLS_HARNESS_H
#define MC_IO_TLS_HARNESS_H

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include "io/harness.h"
#include "io/stream.h"

/* --- certificates --------------------------------------------------------------------------------
 */

static char dir[] = "/tmp/tls-test-XXXXXX";

static UNUSED char *
path_of(const char *name)
{
    return mc_printf("%s/%s", dir, name);
}

static void UNUSED
add_ext(X509 *x, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *e;

    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
    e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(e);
    assert_int_equal(X509_add_ext(x, e, -1), 1);
    X509_EXTENSION_free(e);
}

/* Signed by itself; names: "DNS:a.test,DNS:*.b.test", NULL: only the common name. */
static UNUSED X509 *
make_cert(EVP_PKEY *key, const char *cn, const char *names, long from_s, long to_s)
{
    X509 *x = X509_new();
    X509_NAME *subject = X509_get_subject_name(x);

    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), from_s);
    X509_gmtime_adj(X509_getm_notAfter(x), to_s);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
    X509_set_issuer_name(x, subject);
    X509_set_pubkey(x, key);
    if (names != NULL)
        add_ext(x, NID_subject_alt_name, names);
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    return x;
}

/* key NULL: none is written. */
static UNUSED char *
write_pem(const char *file, X509 *x, EVP_PKEY *key)
{
    char *path = path_of(file);
    FILE *f = fopen(path, "we");

    assert_non_null(f);
    if (x != NULL)
        PEM_write_X509(f, x);
    if (key != NULL)
        PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
    fclose(f);
    return path;
}

static UNUSED char *
make_file(const char *file, EVP_PKEY *key, const char *cn, const char *names)
{
    X509 *x = make_cert(key, cn, names, -3600, 86400);
    char *path = write_pem(file, x, key);

    X509_free(x);
    return path;
}

static EVP_PKEY *ec, *ec2, *rsa UNUSED;

static void UNUSED
make_keys(void)
{
    MC_ASSERT(mkdtemp(dir) != NULL);
    ec = EVP_EC_gen("P-256");
    ec2 = EVP_EC_gen("P-256");
    rsa = EVP_RSA_gen(2048);
    MC_ASSERT(ec != NULL && ec2 != NULL && rsa != NULL);
}

static void UNUSED
drop_keys(void)
{
    char *command = mc_printf("rm -rf '%s'", dir);

    EVP_PKEY_free(ec);
    EVP_PKEY_free(ec2);
    EVP_PKEY_free(rsa);
    MC_ASSERT(system(command) == 0);
    free(command);
}

/* --- notes ---------------------------------------------------------------------------------------
 */

struct notes {
    unsigned n_bad, n_warnings;
    char last[800];
};

static void UNUSED
on_note(void *arg, bool warning, const char *text)
{
    struct notes *n = arg;

    n->n_bad += !warning;
    n->n_warnings += warning;
    snprintf(n->last, sizeof(n->last), "%s", text);
}

#endif
