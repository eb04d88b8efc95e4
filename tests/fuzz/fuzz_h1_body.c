/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_h1_body.c - any bytes as a chunked body.
 *
 * Never a crash; the result does not depend on how the bytes are cut; payload and trailers survive
 * being written and read again.
 */
#include <stdlib.h>

#include "base/check.h"
#include "http/h1.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

struct result {
    enum h1_body_state state;
    struct h1_body body;
    size_t used, n;
    char *payload;
};

/* Pieces of step bytes, each in memory of its own size. */
static void
decode(struct result *r, const char *p, size_t n, size_t step, struct arena *a)
{
    *r = (struct result){.payload = malloc(n + 1)};
    h1_body_init(&r->body, HTTP_BODY_CHUNKED, 0, &h1_default_limits, a);
    for (size_t at = 0; at < n && r->state == H1_BODY_MORE; at += step) {
        size_t len = step < n - at ? step : n - at, used, payload;
        char *piece = malloc(len);

        memcpy(piece, p + at, len);
        r->state = h1_body_decode(&r->body, piece, len, &used, &payload);
        MC_ASSERT(payload <= used && used <= len);
        MC_ASSERT(r->state != H1_BODY_MORE || used == len);
        memcpy(r->payload + r->n, piece, payload);
        r->n += payload;
        r->used += used;
        free(piece);
    }
    MC_ASSERT(r->n == r->body.total_bytes);
    MC_ASSERT(h1_body_eof_ok(&r->body) == (r->state == H1_BODY_DONE));
}

static void
check_same(const struct result *a, const struct result *b)
{
    MC_ASSERT(a->state == b->state && a->body.fault == b->body.fault);
    MC_ASSERT(a->n == b->n && memcmp(a->payload, b->payload, a->n) == 0);
    if (a->state == H1_BODY_DONE) /* a fault is found at once, but maybe a line is taken whole */
        MC_ASSERT(a->used == b->used);
}

static void
check_roundtrip(const struct result *r, struct arena *a)
{
    struct http_field *t = NULL, *t2 = NULL;
    unsigned n_t = h1_body_trailers(&r->body, &t, a);
    char *text = malloc(18 + r->n + 2 + h1_last_chunk_bound(t, n_t)), *end = text + 18;
    struct result again;
    size_t head = r->n ? h1_chunk_header(end, r->n) : 0;

    memcpy(end, r->payload, r->n);
    end += r->n;
    if (r->n) {
        memcpy(end, "\r\n", 2);
        end += 2;
    }
    end += h1_last_chunk(end, t, n_t);
    decode(&again, text + 18 - head, (size_t)(end - text) - 18 + head, SIZE_MAX / 2, a);
    MC_ASSERT(again.state == H1_BODY_DONE);
    MC_ASSERT(again.n == r->n && memcmp(again.payload, r->payload, r->n) == 0);
    MC_ASSERT(h1_body_trailers(&again.body, &t2, a) == n_t);
    for (unsigned i = 0; i < n_t; i++)
        MC_ASSERT(str_eq(http_field_value(&t[i]), http_field_value(&t2[i])));
    free(again.payload);
    free(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const size_t steps[] = {1, 2, 3, 7, 64};
    struct result whole, parts;
    struct arena a;

    arena_init(&a, NULL);
    decode(&whole, (const char *)data, n, n + 1, &a);
    for (unsigned i = 0; i < MC_COUNT(steps); i++) {
        decode(&parts, (const char *)data, n, steps[i], &a);
        check_same(&whole, &parts);
        free(parts.payload);
    }
    if (whole.state == H1_BODY_DONE)
        check_roundtrip(&whole, &a);
    free(whole.payload);
    arena_drop(&a);
    return 0;
}
