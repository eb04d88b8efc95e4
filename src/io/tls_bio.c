/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tls_bio.c - OpenSSL's way to the socket of a stream with TLS: it reads from the block that has
 * just come, and writes into the socket's queue.
 */
#include <openssl/bio.h>
#include <string.h>

#include "base/check.h"
#include "io/tls_priv.h"

static BIO_METHOD *bio_method;

static int
bio_read(BIO *b, char *p, int max)
{
    struct tls *t = BIO_get_data(b);
    uint32_t n;

    BIO_clear_retry_flags(b);
    if (t->in == NULL || t->in->len == 0) {
        BIO_set_retry_read(b);
        return -1;
    }
    n = t->in->len < (uint32_t)max ? t->in->len : (uint32_t)max;
    memcpy(p, block_at(t->in), n);
    block_skip(t->in, n);
    return (int)n;
}

/* Always takes everything: who sends looks at stream_unsent(). */
static int
bio_write(BIO *b, const char *p, int n)
{
    struct tls *t = BIO_get_data(b);

    BIO_clear_retry_flags(b);
    if (!t->mute)
        sock_write(&t->stream->sock, p, (size_t)n);
    return n;
}

static long
bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
    return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

static int
bio_create(BIO *b)
{
    BIO_set_init(b, 1);
    return 1;
}

static void __attribute__((constructor)) make_bio_method(void)
{
    bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "meercat stream");
    MC_ASSERT(bio_method != NULL);
    BIO_meth_set_read(bio_method, bio_read);
    BIO_meth_set_write(bio_method, bio_write);
    BIO_meth_set_ctrl(bio_method, bio_ctrl);
    BIO_meth_set_create(bio_method, bio_create);
}

void
tls_bio_use(struct tls *t)
{
    BIO *bio = BIO_new(bio_method);

    MC_ASSERT(bio != NULL);
    BIO_set_data(bio, t);
    SSL_set_bio(t->ssl, bio, bio);
}
