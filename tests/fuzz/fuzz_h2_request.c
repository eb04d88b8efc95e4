/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_h2_request.c - any list of fields as a request of HTTP/2, or as its trailers.
 *
 * Never a crash; what is accepted, written for a server that speaks HTTP/1.1, is read there as the
 * same request: method, target, host, length and every field, and nothing more.
 *
 * A list is pairs of name and value, each of a length in one byte and so many bytes; the first byte
 * of all says whether it is a request that ends, one that does not, or trailers.
 */
#include <stdlib.h>

#include "base/check.h"
#include "http/h2.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static const struct h1_limits wide = {
    .head_bytes = 1 << 20, .target_bytes = 1 << 19, .fields = 1000, .trailer_bytes = 4096};
/* With what writing adds: Host, Content-Length or Transfer-Encoding, Connection, TE. */
static const struct h1_limits wider = {
    .head_bytes = 1 << 21, .target_bytes = 1 << 19, .fields = 1010, .trailer_bytes = 4096};

static struct str
cut(const uint8_t **p, const uint8_t *end)
{
    size_t n = *p < end ? *(*p)++ : 0;
    struct str s;

    if (n > (size_t)(end - *p))
        n = (size_t)(end - *p);
    s = (struct str){(const char *)*p, n};
    *p += n;
    return s;
}

/* Those that an HTTP/1.1 head has in other words, or not at all. */
static bool
passes(const struct http_field *f)
{
    return !((field_hop_by_hop() | FIELD_BIT(HOST) | FIELD_BIT(CONTENT_LENGTH)) >> f->id & 1);
}

static void
check_fields(const struct http_head *h, const struct http_head *again)
{
    unsigned at = 0;

    for (unsigned i = 0; i < h->n_fields; i++) {
        const struct http_field *f = &h->fields[i], *g;

        if (!passes(f))
            continue;
        while (at < again->n_fields && !passes(&again->fields[at]))
            at++;
        MC_ASSERT(at < again->n_fields);
        g = &again->fields[at++];
        MC_ASSERT(str_eq((struct str){f->name, f->name_len}, (struct str){g->name, g->name_len}));
        MC_ASSERT(str_eq(http_field_value(f), http_field_value(g)));
    }
    while (at < again->n_fields)
        MC_ASSERT(!passes(&again->fields[at++]));
}

static void
check_written(const struct http_head *h, struct arena *a)
{
    struct h1_write w = {.body = h->body, .content_length = h->content_length};
    const size_t bound = h1_write_bound(h, &w);
    char *text = malloc(bound);
    const size_t n = h1_write_request(text, h, &w);
    size_t scanned = 0, len = 0;
    struct http_head again;

    MC_ASSERT(n <= bound);
    MC_ASSERT(h1_head_end(text, n, &scanned, &len) && len == n);
    MC_ASSERT(h1_parse_request(&again, text, n, &wider, a) == H1_NONE);
    MC_ASSERT(str_eq(again.method_text, h->method_text));
    MC_ASSERT(str_eq(again.authority, h->authority) && str_eq(again.path, h->path));
    MC_ASSERT(again.body == h->body && again.content_length == h->content_length);
    MC_ASSERT(again.te_trailers == h->te_trailers && !again.upgrade && !again.close);
    check_fields(h, &again);
    free(text);
}

static void
check_trailers(const struct http_field *f, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        const struct str v = http_field_value(&f[i]);

        MC_ASSERT(f[i].name_len > 0 && f[i].name[0] != ':');
        MC_ASSERT(v.n == 0 || (memchr(v.p, '\r', v.n) == NULL && memchr(v.p, '\n', v.n) == NULL &&
                               memchr(v.p, '\0', v.n) == NULL));
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const uint8_t *p = data, *end = data + n;
    const bool trailers = n > 0 && data[0] % 3 == 2;
    struct http_head head;
    struct http_field *f;
    struct h2_fields fields;
    struct arena a;
    unsigned n_f;

    if (n == 0)
        return 0;
    p++;
    arena_init(&a, NULL);
    h2_fields_init(&fields, trailers ? H2_TRAILERS : H2_REQUEST, &wide, &a);
    while (p < end) {
        struct str name = cut(&p, end), value = cut(&p, end);

        h2_fields_add(&fields, name, value);
    }
    if (trailers) {
        if (h2_read_trailers(&fields, &f, &n_f) == H2_NONE)
            check_trailers(f, n_f);
    } else if (h2_read_request(&head, &fields, data[0] % 3 == 0) == H2_NONE &&
               head.method != HTTP_M_CONNECT) {
        check_written(&head, &a);
    }
    arena_drop(&a);
    return 0;
}
