/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tls_fault.c - why TLS failed: counted by kind, and in words for the log.
 */
#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "io/tls_priv.h"

const char *
tls_failure_label(enum tls_failure f)
{
    static const char *const labels[] = {
#define X(name, label, help) label,
        TLS_FAILURES(X)
#undef X
    };

    return labels[f];
}

static const struct {
    int reason;
    enum tls_failure failure;
} reasons[] = {
    {SSL_R_HTTP_REQUEST, TLS_FAILURE_NOT_TLS},
    {SSL_R_HTTPS_PROXY_REQUEST, TLS_FAILURE_NOT_TLS},
    {SSL_R_WRONG_VERSION_NUMBER, TLS_FAILURE_NOT_TLS},
    {SSL_R_UNKNOWN_PROTOCOL, TLS_FAILURE_NOT_TLS},
    {SSL_R_PACKET_LENGTH_TOO_LONG, TLS_FAILURE_NOT_TLS},
    {SSL_R_UNSUPPORTED_PROTOCOL, TLS_FAILURE_VERSION},
    {SSL_R_VERSION_TOO_LOW, TLS_FAILURE_VERSION},
    {SSL_R_NO_SHARED_CIPHER, TLS_FAILURE_CIPHER},
    {SSL_R_NO_SHARED_GROUPS, TLS_FAILURE_CIPHER},
    {SSL_R_NO_SUITABLE_KEY_SHARE, TLS_FAILURE_CIPHER},
    {SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, TLS_FAILURE_CIPHER},
    {SSL_R_CALLBACK_FAILED, TLS_FAILURE_NAME}, /* on_name() is the only one that refuses */
    {SSL_R_NO_APPLICATION_PROTOCOL, TLS_FAILURE_ALPN},
    {SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, TLS_FAILURE_CLIENT_CERTIFICATE},
    {SSL_R_CERTIFICATE_VERIFY_FAILED, TLS_FAILURE_CLIENT_CERTIFICATE},
};

static enum tls_failure
failure_of(const struct tls *t, int reason)
{
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED && t->client != NULL)
        return TLS_FAILURE_SERVER_CERTIFICATE;
    for (size_t i = 0; i < MC_COUNT(reasons); i++)
        if (reasons[i].reason == reason)
            return reasons[i].failure;
    return reason > SSL_AD_REASON_OFFSET ? TLS_FAILURE_ALERT : TLS_FAILURE_OTHER;
}

void
tls_fault_count(struct tls *t, enum tls_failure why)
{
    if (t->state == TLS_SHAKING)
        stat_add(&t->stats->failures[why], 1);
}

void
tls_fault_tell(struct tls *t, enum tls_failure why, const char *fmt, ...)
{
    struct tls_fault *f;
    va_list ap;

    if (t->client == NULL || t->fault != NULL)
        return;
    f = mc_alloc(sizeof(*f));
    f->why = why;
    va_start(ap, fmt);
    vsnprintf(f->text, sizeof(f->text), fmt, ap);
    va_end(ap);
    t->fault = f;
}

static void
tell_certificate(struct tls *t)
{
    const long why = SSL_get_verify_result(t->ssl);

    tls_fault_tell(t, TLS_FAILURE_SERVER_CERTIFICATE, "certificate: %s",
                   X509_verify_cert_error_string(why));
}

void
tls_fault_openssl(struct tls *t)
{
    const unsigned long err = ERR_peek_error();
    const int reason = ERR_GET_REASON(err);
    const enum tls_failure why = failure_of(t, reason);
    const char *text = ERR_reason_error_string(err);

    tls_fault_count(t, why);
    switch (why) {
    case TLS_FAILURE_SERVER_CERTIFICATE: tell_certificate(t); break;
    case TLS_FAILURE_NOT_TLS: tls_fault_tell(t, why, "what the server sends is not TLS"); break;
    case TLS_FAILURE_ALERT:
        tls_fault_tell(t, why, "alert: %s",
                       SSL_alert_desc_string_long(reason - SSL_AD_REASON_OFFSET));
        if (t->fault != NULL)
            t->fault->alert = (uint8_t)(reason - SSL_AD_REASON_OFFSET);
        break;
    default: tls_fault_tell(t, why, "%s", text != NULL ? text : "unknown error");
    }
}
