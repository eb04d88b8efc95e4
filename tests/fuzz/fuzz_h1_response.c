/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_h1_response.c - any bytes as a response head, to each kind of request.
 *
 * Never a crash; no accepted head has CR, LF or NUL in a value; and what is written of an accepted
 * head is read again as the same response.
 */
#include <stdlib.h>

#include "base/check.h"
#include "http/h1.h"
#include "head_props.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void
check_values(const struct http_head *h)
{
    MC_ASSERT(h->status >= 100 && h->status <= 999);
    check_clean(h->reason);
    check_clean_fields(h->fields, h->n_fields);
}

static size_t
write_again(const struct http_head *h, char **out)
{
    struct h1_write w = {
        .body = h->body,
        .content_length = h->content_length,
        .keep_content_length = true,
        .connection = h->close ? "close" : NULL,
    };
    size_t bound = h1_write_bound(h, &w), n;

    *out = malloc(bound);
    n = h1_write_response(*out, h, &w);
    MC_ASSERT(n <= bound);
    return n;
}

static void
check_roundtrip(const struct http_head *h, enum http_method method, struct arena *a)
{
    struct http_head again;
    char *text, *text2;
    size_t n = write_again(h, &text), n2;

    MC_ASSERT(h1_parse_response(&again, text, n, method, &wide, a) == H1_NONE);
    MC_ASSERT(again.status == h->status && str_eq(again.reason, h->reason));
    MC_ASSERT(again.body == h->body && again.content_length == h->content_length);
    MC_ASSERT(again.has_content_length == h->has_content_length);
    MC_ASSERT(again.close == h->close);
    n2 = write_again(&again, &text2);
    MC_ASSERT(n == n2 && memcmp(text, text2, n) == 0);
    free(text2);
    free(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const enum http_method methods[] = {HTTP_M_GET, HTTP_M_HEAD, HTTP_M_CONNECT};
    const char *p = (const char *)data;
    size_t scanned = 0, len;

    if (!h1_head_end(p, n, &scanned, &len))
        return 0;
    for (unsigned m = 0; m < MC_COUNT(methods); m++) {
        struct http_head h;
        struct arena a;

        arena_init(&a, NULL);
        if (h1_parse_response(&h, p, len, methods[m], &h1_default_limits, &a) == H1_NONE) {
            check_values(&h);
            check_roundtrip(&h, methods[m], &a);
        }
        arena_drop(&a);
    }
    return 0;
}
