/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conn_peer.c - who is at the other end of a client connection, and who is behind him: by the
 * socket, by a PROXY header, by X-Forwarded-For.
 */
#include "http/forwarded.h"
#include "proxy/conn.h"
#include "proxy/txn.h"

static void
set_peer(struct conn *c, const struct addr *a)
{
    c->peer_family = AF_UNIX;
    c->peer_port = addr_port(a);
    if (a->u.sa.sa_family == AF_INET) {
        c->peer_family = AF_INET;
        c->peer_ip.in = a->u.in.sin_addr;
    } else if (a->u.sa.sa_family == AF_INET6) {
        c->peer_family = AF_INET6;
        c->peer_ip.in6 = a->u.in6.sin6_addr;
    }
}

void
conn_learn_peer(struct conn *c, int fd)
{
    struct addr a = {.len = sizeof(a.u)};

    a.u.sa.sa_family = AF_UNIX;
    (void)getpeername(fd, &a.u.sa, &a.len);
    set_peer(c, &a);
}

struct addr
conn_peer_addr(const struct conn *c)
{
    struct addr a = {.len = 0};

    a.u.sa.sa_family = c->peer_family;
    if (c->peer_family == AF_INET) {
        a.len = sizeof(a.u.in);
        a.u.in.sin_addr = c->peer_ip.in;
    } else if (c->peer_family == AF_INET6) {
        a.len = sizeof(a.u.in6);
        a.u.in6.sin6_addr = c->peer_ip.in6;
    } else {
        a.len = sizeof(a.u.un);
    }
    return a;
}

void
conn_local_addr(const struct conn *c, struct addr *out)
{
    *out = (struct addr){.len = sizeof(out->u)};
    if (c->told != NULL)
        *out = c->told->header.to;
    else if (getsockname(c->stream.sock.fd, &out->u.sa, &out->len) != 0)
        out->len = 0;
}

/* --- whom we believe -----------------------------------------------------------------------------
 */

static bool
is_in(const struct addr_net *nets, unsigned n, const struct addr *a)
{
    for (unsigned i = 0; i < n; i++)
        if (addr_in_net(a, &nets[i]))
            return true;
    return false;
}

static bool
is_trusted(const struct listener_conf *l, const struct addr *a)
{
    return is_in(l->trusted, l->n_trusted, a);
}

static bool
peer_is_trusted(const struct conn *c)
{
    struct addr a;

    if (c->listener->conf.n_trusted == 0)
        return false;
    a = conn_peer_addr(c);
    return is_trusted(&c->listener->conf, &a);
}

/* For forwarded_client(): is this address, told in X-Forwarded-For, one of ours too? */
static bool
named_is_trusted(void *listener_conf, struct str ip)
{
    struct addr a;

    return addr_parse_ip(ip, 0, &a) && is_trusted(listener_conf, &a);
}

bool
conn_is_from_proxy(const struct conn *c)
{
    const struct listener_conf *l = &c->listener->conf;
    struct addr a = conn_peer_addr(c);

    return is_in(l->proxy_from, l->n_proxy_from, &a);
}

void
conn_believe(struct conn *c)
{
    const struct proxy_header *h = &c->told->header;
    struct addr a = conn_peer_addr(c);

    stat_add(&c->worker->stats.proxy_headers[h->version - 1][h->local], 1);
    if (h->local)
        return;
    addr_set_port(&a, c->peer_port);
    if (c->peer_family == AF_UNIX)
        strcpy(c->told->via, "unix");
    else
        addr_text(&a, c->told->via);
    set_peer(c, &h->from);
    c->local_port = addr_port(&h->to);
}

struct str
conn_client_ip(const struct conn *c, char text[ADDR_TEXT])
{
    if (c->peer_family == AF_UNIX)
        return str_of(strcpy(text, "unix"));
    addr_put_ip(c->peer_family, &c->peer_ip, text);
    return str_of(text);
}

const struct tls_facts *
conn_tls(const struct conn *c)
{
    if (c->told != NULL && told_tls(c->told) != NULL)
        return told_tls(c->told); /* ours, if there is any, is with who told */
    return stream_facts(&c->stream);
}

struct str
conn_name_asked_for(const struct conn *c)
{
    const struct tls_facts *tls = conn_tls(c);

    if (tls != NULL && tls->sni.n > 0)
        return tls->sni;
    return c->told != NULL ? c->told->header.authority : STR_NONE;
}

void
conn_introduce(const struct conn *c, struct txn *t)
{
    char text[ADDR_TEXT];

    t->conn = c;
    t->local_port = c->local_port;
    t->client_port = c->peer_port;
    t->peer_ip = t->client_ip = arena_str(&t->arena, conn_client_ip(c, text));
    t->peer_trusted = peer_is_trusted(c);
    t->tls = conn_tls(c);
}

void
conn_find_client(const struct conn *c, struct txn *t)
{
    if (t->peer_trusted)
        t->client_ip = arena_str(&t->arena, forwarded_client(&t->req, t->peer_ip, named_is_trusted,
                                                             (void *)&c->listener->conf));
}
