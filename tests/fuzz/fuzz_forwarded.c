/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_forwarded.c - any bytes as the fields of a request that is told on.
 *
 * Never a crash; what is added can be read; an untrusted peer gets nothing of its own through; the
 * client that is found is the peer or an address in the request.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "http/forwarded.h"
#include "http/h1.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static const char start[] = "GET / HTTP/1.1\r\nHost: h:1\r\n", end[] = "\r\n\r\n";

/* Room for the six fields and Host. */
static const struct h1_limits wide = {
    .head_bytes = 1 << 20, .target_bytes = 1 << 19, .fields = 200, .trailer_bytes = 4096};

static bool
some_are_trusted(void *arg, struct str ip)
{
    return ip.n > 0 && (ip.p[ip.n - 1] & 1) != 0; /* odd addresses */
}

static unsigned
count(const struct http_head *h, enum field_id id)
{
    unsigned n = 0;

    for (unsigned i = 0; i < h->n_fields; i++)
        n += h->fields[i].id == id;
    return n;
}

static void
check_told(const struct http_head *h, const struct forwarded_in *in)
{
    MC_ASSERT(count(h, FIELD_X_FORWARDED_FOR) == 1 && count(h, FIELD_FORWARDED) == 1);
    if (in->peer_trusted)
        return;
    MC_ASSERT(count(h, FIELD_X_FORWARDED_PROTO) == 1 && count(h, FIELD_X_FORWARDED_PORT) == 1);
    MC_ASSERT(
        str_eq(http_field_value(http_field_find(h, FIELD_X_FORWARDED_FOR)), str_of(in->peer_ip)));
    MC_ASSERT(str_eq(http_field_value(http_field_find(h, FIELD_X_FORWARDED_HOST)), h->authority));
}

static void
tell(const struct http_head *h, bool trusted, struct arena *a)
{
    struct forwarded_in in = {.request = h,
                              .peer_ip = "2001:db8::1",
                              .local_port = 80,
                              .peer_trusted = trusted,
                              .send_x = true,
                              .send_forwarded = true,
                              .via = "m"};
    struct http_field add[FORWARDED_MAX];
    struct h1_write w = {.add = add, .body = h->body, .content_length = h->content_length};
    struct http_head again;
    char *text;
    size_t n;

    w.n_add = forwarded_build(&in, add, &w.drop, a);
    MC_ASSERT(w.n_add <= FORWARDED_MAX);
    text = malloc(h1_write_bound(h, &w));
    n = h1_write_request(text, h, &w);
    MC_ASSERT(h1_parse_request(&again, text, n, &wide, a) == H1_NONE);
    check_told(&again, &in);
    free(text);
}

static void
find_client(const struct http_head *h, const char *p, size_t n)
{
    struct str peer = STR("10.0.0.1"), client;

    client = forwarded_client(h, peer, some_are_trusted, NULL);
    MC_ASSERT(client.n > 0);
    MC_ASSERT(client.p == peer.p || (client.p >= p && client.p + client.n <= p + n));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    size_t len = sizeof(start) - 1 + n + sizeof(end) - 1, scanned = 0, head_len;
    struct http_head h;
    struct arena a;
    char *p = malloc(len + 1);

    memcpy(p, start, sizeof(start) - 1);
    memcpy(p + sizeof(start) - 1, data, n);
    memcpy(p + len - (sizeof(end) - 1), end, sizeof(end) - 1);
    arena_init(&a, NULL);
    if (h1_head_end(p, len, &scanned, &head_len) &&
        h1_parse_request(&h, p, head_len, &h1_default_limits, &a) == H1_NONE) {
        tell(&h, false, &a);
        tell(&h, true, &a);
        find_client(&h, p, len);
    }
    arena_drop(&a);
    free(p);
    return 0;
}
