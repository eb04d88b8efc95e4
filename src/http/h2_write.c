/* SPDX-License-Identifier: BSD-2-Clause
 *
 * h2_write.c - heads and trailers as field lists of HTTP/2 (RFC 9113 8).
 *
 * Values cannot hold CR, LF or NUL: the parsers refuse them, and what the proxy adds is made of
 * parsed values, addresses and configuration.
 */
#include "http/h1_priv.h"
#include "http/h2.h"

static nghttp2_nv
pair(struct str name, struct str value)
{
    return (nghttp2_nv){.name = (uint8_t *)name.p,
                        .value = (uint8_t *)(value.n ? value.p : ""),
                        .namelen = name.n,
                        .valuelen = value.n,
                        .flags = NGHTTP2_NV_FLAG_NONE};
}

/* Secrets, and what is another value each time, are kept out of tables (RFC 7541 7.1). */
#define NOT_INDEXED                                                                  \
    (FIELD_BIT(AUTHORIZATION) | FIELD_BIT(PROXY_AUTHORIZATION) | FIELD_BIT(COOKIE) | \
     FIELD_BIT(SET_COOKIE) | FIELD_BIT(CLIENT_CERT) | FIELD_BIT(CLIENT_CERT_CHAIN) | \
     FIELD_BIT(X_REQUEST_ID) | FIELD_BIT(X_FORWARDED_FOR) | FIELD_BIT(FORWARDED))

static nghttp2_nv
pair_of(const struct http_field *f)
{
    nghttp2_nv nv = pair((struct str){f->name, f->name_len}, http_field_value(f));

    if (NOT_INDEXED >> f->id & 1)
        nv.flags = NGHTTP2_NV_FLAG_NO_INDEX;
    return nv;
}

static struct str
number_text(uint64_t v, struct arena *a)
{
    char text[20], *at = text + sizeof(text);

    do
        *--at = (char)('0' + v % 10);
    while (v /= 10);
    return arena_str(a, (struct str){at, (size_t)(text + sizeof(text) - at)});
}

/* What was received, without what belongs to the other connection, and what is added. */
static nghttp2_nv *
put_fields(nghttp2_nv *d, const struct http_head *h, const struct h1_write *w, field_set drop)
{
    drop |= w->drop | field_hop_by_hop() | FIELD_BIT(CONTENT_LENGTH);
    for (unsigned i = 0; i < h->n_fields; i++)
        if (!h1_left_out(h, drop, &h->fields[i]))
            *d++ = pair_of(&h->fields[i]);
    for (unsigned i = 0; i < w->n_add; i++)
        *d++ = pair_of(&w->add[i]);
    return d;
}

/* As the codec of HTTP/1 says it; a body of unknown length needs no word here. */
static nghttp2_nv *
put_length(nghttp2_nv *d, const struct http_head *h, const struct h1_write *w, struct arena *a)
{
    if (w->body == HTTP_BODY_LENGTH)
        *d++ = pair(STR("content-length"), number_text(w->content_length, a));
    else if (w->body == HTTP_BODY_NONE && w->keep_content_length && h->has_content_length)
        *d++ = pair(STR("content-length"), number_text(h->content_length, a));
    return d;
}

unsigned
h2_write_response(const struct http_head *h, const struct h1_write *w, struct arena *a,
                  nghttp2_nv **out) /* hot: once per response */
{
    nghttp2_nv *d = *out = arena_alloc(a, (2u + h->n_fields + w->n_add) * sizeof(*d));

    *d++ = pair(STR(":status"), number_text(h->status, a));
    d = put_fields(d, h, w, 0);
    d = put_length(d, h, w, a);
    return (unsigned)(d - *out);
}

unsigned
h2_write_request(const struct http_head *h, const struct h1_write *w, struct str scheme,
                 struct arena *a, nghttp2_nv **out) /* hot: once per request */
{
    nghttp2_nv *d = *out = arena_alloc(a, (6u + h->n_fields + w->n_add) * sizeof(*d));

    *d++ = pair(STR(":method"), h->method_text);
    *d++ = pair(STR(":scheme"), h->scheme.n > 0 ? h->scheme : scheme);
    *d++ = pair(STR(":path"), h->path);
    if (h->authority.n > 0)
        *d++ = pair(STR(":authority"), h->authority);
    d = put_fields(d, h, w, FIELD_BIT(HOST));
    d = put_length(d, h, w, a);
    if (h->te_trailers && !(w->drop & FIELD_BIT(TE)))
        *d++ = pair(STR("te"), STR("trailers"));
    return (unsigned)(d - *out);
}

unsigned
h2_write_trailers(const struct http_field *f, unsigned n, struct arena *a, nghttp2_nv **out)
{
    nghttp2_nv *d = *out = arena_alloc(a, n * sizeof(*d));

    for (unsigned i = 0; i < n; i++)
        *d++ = pair_of(&f[i]);
    return (unsigned)(d - *out);
}
