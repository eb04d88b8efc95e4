/* SPDX-License-Identifier: BSD-2-Clause
 *
 * told.c - see told.h.
 */
#include "proxy/told.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

struct told *
told_new(struct tls_domain *domain)
{
    struct told *t = mc_alloc(sizeof(*t));

    t->domain = tls_domain_ref(domain);
    return t;
}

void
told_free(struct told **tp)
{
    struct told *t = *tp;

    *tp = NULL;
    if (t == NULL)
        return;
    tls_domain_unref(&t->domain);
    free((char *)t->facts.version);
    free((char *)t->facts.cipher);
    free(t->bytes);
    free(t);
}

/* So that a log and the servers hear of the client's TLS as of ours. */
static void
learn_facts(struct told *t)
{
    const struct proxy_header *h = &t->header;

    t->facts.version = str_dup(h->tls_version);
    t->facts.cipher = str_dup(h->tls_cipher);
    t->facts.alpn = h->alpn;
    t->facts.sni = h->authority;
}

enum proxy_step
told_read(struct told *t, const void *p, size_t n, size_t *used, enum proxy_fault *why)
{
    enum proxy_step step = proxy_header_read(p, n, &t->header, used, why);

    if (step != PROXY_DONE)
        return step;
    t->bytes = mc_alloc(*used);
    memcpy(t->bytes, p, *used);
    MC_ASSERT(proxy_header_read(t->bytes, *used, &t->header, used, why) == PROXY_DONE);
    if (told_tls(t) != NULL)
        learn_facts(t);
    return step;
}
