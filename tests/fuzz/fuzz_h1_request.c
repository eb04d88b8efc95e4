/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_h1_request.c - any bytes as a request head.
 *
 * Never a crash; every vector unit says the same; no accepted head has CR, LF or NUL in a value;
 * what is written of an accepted head is read again as the same request; and what is offered of its
 * Upgrade is agreed on when it comes back.
 */
#include <stdlib.h>

#include "base/check.h"
#include "http/h1.h"
#include "http/upgrade.h"
#include "head_props.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void
check_values(const struct http_head *h)
{
    check_clean(h->method_text);
    check_clean(h->target);
    check_clean(h->authority);
    check_clean(h->path);
    check_clean_fields(h->fields, h->n_fields);
}

static size_t
write_again(const struct http_head *h, char **out)
{
    struct h1_write w = {.body = h->body, .content_length = h->content_length};
    size_t bound = h1_write_bound(h, &w), n;

    *out = malloc(bound);
    n = h1_write_request(*out, h, &w);
    MC_ASSERT(n <= bound);
    return n;
}

static void
check_roundtrip(const struct http_head *h, struct arena *a)
{
    struct http_head again;
    char *text, *text2;
    size_t n = write_again(h, &text), n2, scanned = 0, len = 0;

    MC_ASSERT(h1_head_end(text, n, &scanned, &len) && len == n);
    MC_ASSERT(h1_parse_request(&again, text, n, &wide, a) == H1_NONE);
    MC_ASSERT(again.method == h->method && str_eq(again.method_text, h->method_text));
    MC_ASSERT(str_eq(again.authority, h->authority) && str_eq(again.path, h->path));
    MC_ASSERT(again.body == h->body && again.content_length == h->content_length);
    MC_ASSERT(again.te_trailers == h->te_trailers && again.minor == 1);
    n2 = write_again(&again, &text2);
    MC_ASSERT(n == n2 && memcmp(text, text2, n) == 0);
    free(text2);
    free(text);
}

/* Finds the end with the bytes arriving in two parts. */
static bool
end_in_parts(const char *p, size_t n, size_t *len)
{
    size_t scanned = 0;

    return h1_head_end(p, n / 2, &scanned, len) || h1_head_end(p, n, &scanned, len);
}

static void
check_offer(const struct http_head *h, struct arena *a)
{
    bool may_ignore;
    struct str offer = upgrade_offer(h, "any", a, &may_ignore);
    struct http_field back = {"Upgrade", offer.p, (uint32_t)offer.n, 7, FIELD_UPGRADE};
    struct http_head answer = {
        .is_response = true, .status = 101, .upgrade = true, .fields = &back, .n_fields = 1};

    check_clean(offer);
    MC_ASSERT(offer.n == 0 || upgrade_agrees(&answer, offer));
    MC_ASSERT(offer.n == 0 || !upgrade_is_http(offer));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char *const units[] = {"scalar", "sse2", "avx2"};
    const char *p = (const char *)data;
    enum h1_fault first = H1_NONE;
    size_t first_len = 0;

    for (unsigned u = 0; u < MC_COUNT(units); u++) {
        struct http_head h = {0};
        struct arena a;
        enum h1_fault fault = H1_NONE;
        size_t len = 0;

        h1_vector_use(units[u]);
        arena_init(&a, NULL);
        if (end_in_parts(p, n, &len)) {
            char *head = malloc(len); /* nothing readable behind it */

            memcpy(head, p, len);
            fault = h1_parse_request(&h, head, len, &h1_default_limits, &a);
            if (fault == H1_NONE) {
                check_values(&h);
                check_roundtrip(&h, &a);
                check_offer(&h, &a);
            }
            free(head);
        }
        MC_ASSERT(u == 0 || (fault == first && len == first_len));
        first = fault;
        first_len = len;
        arena_drop(&a);
    }
    return 0;
}
