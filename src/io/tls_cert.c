/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tls_cert.c - a certificate with its chain, key and OCSP response, read from files.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/check.h"
#include "base/file.h"
#include "io/tls_priv.h"

#define FILE_BYTES_MAX ((size_t)16 << 20) /* a certificate with 100,000 names is 3 MB */
#define NAME_BYTES_MAX 253                /* RFC 1035 2.3.4 less the root's dot */
#define KEY_LINE       "PRIVATE KEY-----" /* how the first line of every kind ends */
/* Clocks of responders differ from ours. */
#define OCSP_SLACK_S   300L

/* --- what is wrong -------------------------------------------------------------------------------
 */

void
tls_note(tls_note_f *note, void *arg, bool warning, const char *path, const char *fmt, ...)
{
    char what[400], text[800];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    snprintf(text, sizeof(text), "%s: %s", path, what);
    note(arg, warning, text);
}

const char *
tls_error_text(void)
{
    const unsigned long first = ERR_peek_error(), last = ERR_peek_last_error();
    const char *text = ERR_reason_error_string(last);

    if (first != 0 && ERR_SYSTEM_ERROR(first)) /* what was made of it says less */
        text = strerror(ERR_GET_REASON(first));
    ERR_clear_error();
    return text != NULL ? text : "unknown error";
}

/* --- reading -------------------------------------------------------------------------------------
 */

/* A regular file: opening a pipe would wait for its writer. */
static bool
read_file(const char *path, struct buf *out)
{
    struct stat st;

    if (stat(path, &st) != 0)
        return false;
    if (!S_ISREG(st.st_mode)) {
        errno = S_ISDIR(st.st_mode) ? EISDIR : EINVAL;
        return false;
    }
    return file_load(path, FILE_BYTES_MAX, out);
}

/* A key behind a password is not asked for at a terminal. */
static int
no_password(char *out, int n, int writing, void *arg)
{
    return -1;
}

/* All certificates of the text, the first one apart. */
static bool
read_chain(struct tls_cert *c, const struct buf *text)
{
    BIO *bio = BIO_new_mem_buf(text->p, (int)text->n);
    X509 *x;

    c->chain = sk_X509_new_null();
    while ((x = PEM_read_bio_X509(bio, NULL, no_password, NULL)) != NULL) {
        if (c->leaf == NULL)
            c->leaf = x;
        else
            sk_X509_push(c->chain, x);
    }
    BIO_free(bio);
    return ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE && c->leaf != NULL;
}

static EVP_PKEY *
read_key(const struct buf *text)
{
    BIO *bio = BIO_new_mem_buf(text->p, (int)text->n);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);

    BIO_free(bio);
    return key;
}

static bool
kind_of(EVP_PKEY *key, enum tls_kind *out)
{
    switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_RSA: *out = TLS_RSA; return true;
    case EVP_PKEY_RSA_PSS: *out = TLS_RSA_PSS; return true;
    case EVP_PKEY_EC: *out = TLS_EC; return true;
    case EVP_PKEY_ED25519: *out = TLS_ED25519; return true;
    case EVP_PKEY_ED448: *out = TLS_ED448; return true;
    default: return false;
    }
}

/* What is wrong with the text of a PEM file; NULL: nothing, and c has it all. */
static const char *
parse_pem(struct tls_cert *c, const struct buf *text)
{
    if (!read_chain(c, text))
        return c->leaf ? "a certificate in it cannot be read, expected PEM"
                       : "no certificate in it, expected a chain in PEM, leaf first, and its key";
    ERR_clear_error();
    if (memmem(text->p, text->n, KEY_LINE, sizeof(KEY_LINE) - 1) == NULL)
        return "no private key in it, expected one beside the chain";
    c->key = read_key(text);
    if (c->key == NULL)
        return "the private key cannot be read, expected PEM without a password";
    if (X509_check_private_key(c->leaf, c->key) != 1)
        return "the private key is not that of the first certificate, expected the leaf first";
    if (!kind_of(c->key, &c->kind))
        return "a key that TLS cannot use, expected RSA, EC, Ed25519 or Ed448";
    return NULL;
}

/* --- dates ---------------------------------------------------------------------------------------
 */

static void
date_text(const ASN1_TIME *t, char out[24])
{
    struct tm tm = {0};

    if (ASN1_TIME_to_tm(t, &tm) != 1 || strftime(out, 24, "%Y-%m-%d %H:%M:%S", &tm) == 0)
        snprintf(out, 24, "a date of its own");
}

static void
check_dates(const struct tls_cert *c, tls_note_f *note, void *arg)
{
    const ASN1_TIME *from = X509_get0_notBefore(c->leaf), *to = X509_get0_notAfter(c->leaf);
    char date[24];

    if (X509_cmp_current_time(to) < 0) {
        date_text(to, date);
        tls_note(note, arg, true, c->file, "expired %s UTC, expected a certificate in force", date);
    } else if (X509_cmp_current_time(from) > 0) {
        date_text(from, date);
        tls_note(note, arg, true, c->file, "is not valid before %s UTC", date);
    }
}

/* --- OCSP ----------------------------------------------------------------------------------------
 */

static time_t
unix_time(const ASN1_TIME *t)
{
    struct tm tm = {0};

    return t != NULL && ASN1_TIME_to_tm(t, &tm) == 1 ? timegm(&tm) : 0;
}

/* NULL: it is about this certificate, and c->ocsp_until is set. */
static const char *
check_response(struct tls_cert *c, OCSP_BASICRESP *basic)
{
    X509 *issuer = sk_X509_num(c->chain) > 0 ? sk_X509_value(c->chain, 0) : NULL;
    ASN1_GENERALIZEDTIME *from = NULL, *to = NULL;
    OCSP_CERTID *id;
    int status, found;

    if (issuer == NULL)
        return "cannot be compared without the issuer's certificate, expected it in the chain";
    id = OCSP_cert_to_id(EVP_sha1(), c->leaf, issuer);
    found = OCSP_resp_find_status(basic, id, &status, NULL, NULL, &from, &to);
    OCSP_CERTID_free(id);
    if (found != 1)
        return "is about another certificate";
    if (OCSP_check_validity(from, NULL, OCSP_SLACK_S, -1) != 1)
        return "is not valid yet";
    c->ocsp_until = to != NULL ? unix_time(to) : 0;
    return NULL;
}

static const char *
parse_ocsp(struct tls_cert *c, const struct buf *der)
{
    const unsigned char *p = (const unsigned char *)der->p;
    OCSP_RESPONSE *r = d2i_OCSP_RESPONSE(NULL, &p, (long)der->n);
    OCSP_BASICRESP *basic = NULL;
    const char *wrong;

    if (r == NULL)
        return "is no OCSP response, expected one in DER";
    if (OCSP_response_status(r) == OCSP_RESPONSE_STATUS_SUCCESSFUL)
        basic = OCSP_response_get1_basic(r);
    wrong = basic != NULL ? check_response(c, basic) : "tells of a failure of the responder";
    OCSP_BASICRESP_free(basic);
    OCSP_RESPONSE_free(r);
    ERR_clear_error();
    return wrong;
}

/* The response beside the file, when there is one.  One that is of no use is not stapled. */
static void
load_ocsp(struct tls_cert *c, tls_note_f *note, void *arg)
{
    char *path = mc_printf("%s.ocsp", c->file);
    struct buf der = {0};
    const char *wrong;

    if (!read_file(path, &der)) {
        if (errno != ENOENT)
            tls_note(note, arg, true, path, "%s", strerror(errno));
    } else if ((wrong = parse_ocsp(c, &der)) != NULL) {
        tls_note(note, arg, true, path, "%s; it is not stapled", wrong);
    } else if (c->ocsp_until != 0 && c->ocsp_until < time(NULL)) {
        tls_note(note, arg, true, path, "has expired; it is not stapled");
    } else {
        c->ocsp_n = der.n;
        c->ocsp = (uint8_t *)der.p;
        der = (struct buf){0};
    }
    buf_free(&der);
    free(path);
}

/* --- in and out ----------------------------------------------------------------------------------
 */

struct tls_cert *
tls_cert_load(const char *path, bool ocsp, tls_note_f *note, void *arg)
{
    struct tls_cert *c = mc_alloc(sizeof(*c));
    struct buf text = {0};
    const char *wrong;

    c->file = mc_strdup(path);
    wrong = read_file(path, &text) ? parse_pem(c, &text) : strerror(errno);
    ERR_clear_error();
    if (text.n > 0)
        OPENSSL_cleanse(text.p, text.n);
    buf_free(&text);
    if (wrong != NULL) {
        tls_note(note, arg, false, path, "%s", wrong);
        tls_cert_free(c);
        return NULL;
    }
    check_dates(c, note, arg);
    if (ocsp)
        load_ocsp(c, note, arg);
    return c;
}

void
tls_cert_free(struct tls_cert *c)
{
    free(c->file);
    free(c->ocsp);
    X509_free(c->leaf);
    EVP_PKEY_free(c->key);
    sk_X509_pop_free(c->chain, X509_free);
    free(c);
}

/* --- names ---------------------------------------------------------------------------------------
 */

static bool
usable_name(struct str s)
{
    if (s.n == 0 || s.n > NAME_BYTES_MAX || memchr(s.p, '\0', s.n) != NULL)
        return false;
    if (str_starts(s, STR("*.")))
        s = (struct str){s.p + 2, s.n - 2};
    return s.n > 0 && memchr(s.p, '*', s.n) == NULL;
}

static void
tell_name(const ASN1_STRING *name, void (*fn)(void *, struct str), void *arg)
{
    struct str s = {(const char *)ASN1_STRING_get0_data(name), (size_t)ASN1_STRING_length(name)};
    char lower[NAME_BYTES_MAX];

    if (!usable_name(s))
        return;
    for (size_t i = 0; i < s.n; i++)
        lower[i] = (char)str_lower((unsigned char)s.p[i]);
    fn(arg, (struct str){lower, s.n});
}

static void
tell_address(const ASN1_OCTET_STRING *bytes, void (*fn)(void *, struct str), void *arg)
{
    const int n = ASN1_STRING_length(bytes), family = n == 4 ? AF_INET : AF_INET6;
    char text[INET6_ADDRSTRLEN];

    if ((n == 4 || n == 16) &&
        inet_ntop(family, ASN1_STRING_get0_data(bytes), text, sizeof(text)) != NULL)
        fn(arg, str_of(text));
}

void
tls_cert_names(const struct tls_cert *c, void (*fn)(void *arg, struct str name), void *arg)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(c->leaf, NID_subject_alt_name, NULL, NULL);
    X509_NAME *subject = X509_get_subject_name(c->leaf);
    int at = names == NULL ? X509_NAME_get_index_by_NID(subject, NID_commonName, -1) : -1;

    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);

        if (g->type == GEN_DNS)
            tell_name(g->d.dNSName, fn, arg);
        else if (g->type == GEN_IPADD)
            tell_address(g->d.iPAddress, fn, arg);
    }
    if (at >= 0)
        tell_name(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)), fn, arg);
    GENERAL_NAMES_free(names);
    ERR_clear_error();
}
