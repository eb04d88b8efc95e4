/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tell.c - see tell.h.
 *
 * What is told is what is known here: what a proxy before us told of the client goes on.
 */
#include "proxy/tell.h"

#include "proxy/conn.h"

bool
tell_wanted(const struct pool *p, uint32_t server)
{
    return p->conf.servers[server].send_proxy != PROXY_OUT_OFF;
}

/* Of a client that trusted peers tell of in a field, the port is not known. */
static void
find_from(const struct conn *c, struct str client_ip, struct addr *from)
{
    char text[ADDR_TEXT];

    *from = conn_peer_addr(c);
    addr_set_port(from, c->peer_port);
    if (!str_eq(client_ip, conn_client_ip(c, text)))
        (void)addr_parse_ip(client_ip, 0, from);
    else if (c->peer_family == AF_UNIX && c->told != NULL)
        *from = c->told->header.from;
}

/* TLS of the client with us. */
static void
tell_tls(const struct tls_facts *f, struct proxy_header *h)
{
    const bool cert = f->client_cert.n > 0; /* then it was good */

    h->tls_client = cert ? PROXY_TLS | PROXY_TLS_CERT | PROXY_TLS_SESSION : PROXY_TLS;
    h->tls_verify = !cert;
    h->tls_version = str_of(f->version);
    h->tls_cipher = str_of(f->cipher);
}

/* TLS of the client with who told of it. */
static void
pass_tls(const struct proxy_header *told, struct proxy_header *h)
{
    h->tls_client = told->tls_client;
    h->tls_verify = told->tls_verify;
    h->tls_version = told->tls_version;
    h->tls_cipher = told->tls_cipher;
    h->tls_cn = told->tls_cn;
}

static void
add_tlvs(const struct conn *c, unsigned which, struct str id, struct proxy_header *h)
{
    static const struct proxy_header nothing;
    const struct proxy_header *told = c->told != NULL ? &c->told->header : &nothing;
    const struct tls_facts *tls = conn_tls(c);

    if (which & PROXY_OUT_AUTHORITY)
        h->authority = conn_name_asked_for(c);
    if (which & PROXY_OUT_ALPN)
        h->alpn = tls != NULL && tls->alpn.n > 0 ? tls->alpn : told->alpn;
    if ((which & PROXY_OUT_TLS) && (told->tls_client & PROXY_TLS))
        pass_tls(told, h);
    else if ((which & PROXY_OUT_TLS) && tls != NULL)
        tell_tls(tls, h);
    if (which & PROXY_OUT_UNIQUE_ID)
        h->unique_id = told->unique_id.n > 0 ? told->unique_id : id;
    h->checksum = (which & PROXY_OUT_CHECKSUM) != 0;
}

size_t
tell_client(const struct pool *p, uint32_t server, const struct conn *c, struct str client_ip,
            struct str id, uint8_t out[PROXY_HEADER_MAX])
{
    const enum proxy_out version = p->conf.servers[server].send_proxy;
    struct proxy_header h = {.version = version == PROXY_OUT_V1 ? 1 : 2};

    find_from(c, client_ip, &h.from);
    conn_local_addr(c, &h.to);
    add_tlvs(c, p->conf.proxy_tlvs, id, &h);
    return proxy_header_write(&h, out);
}
