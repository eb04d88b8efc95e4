/* SPDX-License-Identifier: BSD-2-Clause
 *
 * forwarded.c - who asked: told to servers, and believed of trusted peers.  Pure.
 *
 * A list grows to the right: "client, proxy 1, proxy 2", each hop adding the peer that it saw. What
 * stands to the left of the first hop that is not ours may be invented, so it is read from the
 * right; and from a peer that is not ours nothing is taken over.
 */
#include "http/forwarded.h"

#include <arpa/inet.h>

#include "base/check.h"

#define RECEIVED_X                                                                             \
    (FIELD_BIT(X_FORWARDED_FOR) | FIELD_BIT(X_FORWARDED_PROTO) | FIELD_BIT(X_FORWARDED_HOST) | \
     FIELD_BIT(X_FORWARDED_PORT))

#define RECEIVED_CERT (FIELD_BIT(CLIENT_CERT) | FIELD_BIT(CLIENT_CERT_CHAIN))

struct builder {
    const struct forwarded_in *in;
    struct http_field *add;
    unsigned n;
    field_set drop;
    struct arena *arena;
};

/* The name is a literal, the value lies in the arena, the head or the caller's memory. */
static void
add_field(struct builder *b, const char *name, enum field_id id, struct str value)
{
    MC_ASSERT(b->n < FORWARDED_MAX);
    b->add[b->n++] = (struct http_field){
        .name = name,
        .value = value.p,
        .value_len = (uint32_t)value.n,
        .name_len = (uint16_t)strlen(name),
        .id = (uint16_t)id,
    };
}

/* --- extending what was received ------------------------------------------------------------- */
/* Bytes of all values with a separator each. */
static size_t
joined_len(const struct http_head *h, enum field_id id)
{
    size_t n = 0;

    for (unsigned i = 0; i < h->n_fields; i++)
        if (h->fields[i].id == id && h->fields[i].value_len)
            n += h->fields[i].value_len + 2;
    return n;
}

static char *
put_member(char *d, const char *start, struct str s)
{
    if (d > start) {
        *d++ = ',';
        *d++ = ' ';
    }
    memcpy(d, s.p, s.n);
    return d + s.n;
}

/* All values of a list field and one more as a single value (RFC 9110 5.3). */
static struct str
joined(const struct http_head *h, enum field_id id, struct str last, struct arena *a)
{
    char *start = arena_alloc(a, joined_len(h, id) + last.n + 2), *d = start;

    for (unsigned i = 0; i < h->n_fields; i++)
        if (h->fields[i].id == id && h->fields[i].value_len)
            d = put_member(d, start, http_field_value(&h->fields[i]));
    if (last.n)
        d = put_member(d, start, last);
    return (struct str){start, (size_t)(d - start)};
}

/* The received values are replaced by themselves and `last`, or by `last` alone. */
static void
extend(struct builder *b, const char *name, enum field_id id, struct str last)
{
    struct str value = last;

    if (b->in->peer_trusted)
        value = joined(b->in->request, id, last, b->arena);
    b->drop |= (field_set)1 << id;
    if (value.n)
        add_field(b, name, id, value);
}

/* A trusted peer nearer to the client knows better. */
static void
unless_told(struct builder *b, const char *name, enum field_id id, struct str value)
{
    if (b->in->peer_trusted && http_field_find(b->in->request, id))
        return;
    b->drop |= (field_set)1 << id;
    if (value.n)
        add_field(b, name, id, value);
}

/* --- X-Forwarded-* --------------------------------------------------------------------------- */
/* Peers on a unix socket are given by this word (forwarded.h). */
static bool
from_unix(const struct forwarded_in *in)
{
    return strcmp(in->peer_ip, "unix") == 0;
}

/* printf costs as much as the rest of this file: 0.3 us a request for these two (perf). */
static struct str
port_text(unsigned port, struct arena *a)
{
    char *end = (char *)arena_alloc(a, 5) + 5, *d = end;

    do
        *--d = (char)('0' + port % 10);
    while ((port /= 10) != 0);
    return (struct str){d, (size_t)(end - d)};
}

static struct str
via_text(const struct http_head *h, const char *received_by, struct arena *a)
{
    size_t n = strlen(received_by);
    char *d = arena_alloc(a, n + 4);

    memcpy(d, h->major == 2 ? "2.0 " : h->minor ? "1.1 " : "1.0 ", 4);
    memcpy(d + 4, received_by, n);
    return (struct str){d, n + 4};
}

static void
build_x(struct builder *b)
{
    const struct forwarded_in *in = b->in;
    /* A unix socket has no address, and readers of this field take nothing else. */
    struct str peer = from_unix(in) ? STR_NONE : str_of(in->peer_ip);

    extend(b, "X-Forwarded-For", FIELD_X_FORWARDED_FOR, peer);
    unless_told(b, "X-Forwarded-Proto", FIELD_X_FORWARDED_PROTO,
                in->https ? STR("https") : STR("http"));
    unless_told(b, "X-Forwarded-Host", FIELD_X_FORWARDED_HOST, in->request->authority);
    unless_told(b, "X-Forwarded-Port", FIELD_X_FORWARDED_PORT,
                in->local_port ? port_text(in->local_port, b->arena) : STR_NONE);
}

/* --- Forwarded, RFC 7239 --------------------------------------------------------------------- */
/* node: an IPv6 address has brackets and so is quoted (RFC 7239 6); "_unix" is an obfuscated
 * identifier (6.3). */
static struct str
forwarded_for(struct builder *b)
{
    const char *ip = b->in->peer_ip;

    if (from_unix(b->in))
        return STR("for=_unix");
    return arena_printf(b->arena, strchr(ip, ':') ? "for=\"[%s]\"" : "for=%s", ip);
}

/* quoted-string: a host with a port is no token. */
static struct str
quoted(struct str s, struct arena *a)
{
    char *start = arena_alloc(a, 2 * s.n + 2), *d = start;

    *d++ = '"';
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '"' || s.p[i] == '\\')
            *d++ = '\\';
        *d++ = s.p[i];
    }
    *d++ = '"';
    return (struct str){start, (size_t)(d - start)};
}

/* for=...;host=...;proto=...; `by` would tell servers nothing that they do not know. */
static void
build_forwarded(struct builder *b)
{
    struct str who = forwarded_for(b), host = b->in->request->authority, element;
    const char *proto = b->in->https ? "https" : "http";

    if (host.n) {
        host = quoted(host, b->arena);
        element = arena_printf(b->arena, STR_FMT ";host=" STR_FMT ";proto=%s", STR_ARG(who),
                               STR_ARG(host), proto);
    } else {
        element = arena_printf(b->arena, STR_FMT ";proto=%s", STR_ARG(who), proto);
    }
    extend(b, "Forwarded", FIELD_FORWARDED, element);
}

unsigned
forwarded_build(const struct forwarded_in *in, struct http_field *add, field_set *drop,
                struct arena *a)
{
    struct builder b = {.in = in, .add = add, .arena = a};

    if (!in->peer_trusted)
        b.drop = RECEIVED_X | FIELD_BIT(FORWARDED) | RECEIVED_CERT;
    if (in->client_cert.n) {
        b.drop |= RECEIVED_CERT;
        add_field(&b, "Client-Cert", FIELD_CLIENT_CERT, in->client_cert);
    }
    if (in->send_x)
        build_x(&b);
    if (in->send_forwarded)
        build_forwarded(&b);
    if (in->via) /* received ones stay before it as they are: RFC 9110 7.6.3 */
        add_field(&b, "Via", FIELD_VIA, via_text(in->request, in->via, a));
    *drop = b.drop;
    return b.n;
}

/* --- whom to believe ------------------------------------------------------------------------- */
/* The address in "1.2.3.4", "1.2.3.4:80", "2001:db8::1", "[2001:db8::1]:80"; empty if it is none.
 */
static struct str
address_in(struct str s)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr ignored;
    const char *colon = memchr(s.p, ':', s.n);

    if (s.n > 0 && s.p[0] == '[') {
        s.p++;
        s.n--;
        s = str_cut(&s, ']');
    } else if (colon && !memchr(colon + 1, ':', s.n - (size_t)(colon - s.p) - 1)) {
        s.n = (size_t)(colon - s.p);
    }
    if (s.n == 0 || s.n >= sizeof(text))
        return STR_NONE;
    memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    if (inet_pton(AF_INET, text, &ignored) != 1 && inet_pton(AF_INET6, text, &ignored) != 1)
        return STR_NONE;
    return s;
}

/* Takes the last member off a list. */
static struct str
cut_last(struct str *list)
{
    size_t n = list->n;
    struct str last;

    while (n > 0 && list->p[n - 1] != ',')
        n--;
    last = (struct str){list->p + n, list->n - n};
    list->n = n > 0 ? n - 1 : 0;
    return str_trim(last);
}

/* Walks the members from the right.  True when the walk is over: *client is set, or a member is no
 * address, behind which nothing can be believed. */
static bool
client_in(struct str list, bool (*trusted)(void *, struct str), void *arg, struct str *client)
{
    while (list.n > 0) {
        struct str ip, member = cut_last(&list);

        if (member.n == 0)
            continue;
        ip = address_in(member);
        if (ip.n == 0)
            return true;
        if (!trusted(arg, ip)) {
            *client = ip;
            return true;
        }
    }
    return false;
}

struct str
forwarded_client(const struct http_head *h, struct str peer_ip,
                 bool (*trusted)(void *arg, struct str ip), void *arg)
{
    struct str client = peer_ip;

    if (!trusted(arg, peer_ip))
        return peer_ip;
    for (unsigned i = h->n_fields; i-- > 0;)
        if (h->fields[i].id == FIELD_X_FORWARDED_FOR &&
            client_in(http_field_value(&h->fields[i]), trusted, arg, &client))
            break;
    return client;
}
