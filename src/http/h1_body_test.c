/* SPDX-License-Identifier: BSD-2-Clause */
#include "http/h1_testkit.h"

#include "base/rand.h"

/* What came out of a body that was fed in pieces. */
struct fed {
    struct h1_body body;
    struct arena arena;
    enum h1_body_state state;
    size_t used;
    char payload[8192];
    size_t n_payload;
};

static void
fed_init(struct fed *f, enum http_body kind, uint64_t length)
{
    memset(f, 0, sizeof(*f));
    arena_init(&f->arena, NULL);
    h1_body_init(&f->body, kind, length, &h1_default_limits, &f->arena);
}

static void
feed(struct fed *f, const char *bytes, size_t n)
{
    char *p = exact((struct str){bytes, n});
    size_t used, payload;

    f->state = h1_body_decode(&f->body, p, n, &used, &payload);
    assert_true(payload <= used && used <= n);
    assert_true(used == n || f->state != H1_BODY_MORE);
    memcpy(f->payload + f->n_payload, p, payload);
    f->n_payload += payload;
    f->used += used;
    free(p);
}

/* Feeds all of it, `step` bytes at a time. */
static void
feed_in_steps(struct fed *f, struct str bytes, size_t step)
{
    for (size_t at = 0; at < bytes.n && f->state == H1_BODY_MORE; at += step)
        feed(f, bytes.p + at, at + step < bytes.n ? step : bytes.n - at);
}

static void
fed_free(struct fed *f)
{
    arena_drop(&f->arena);
}

static void
assert_payload(const struct fed *f, const char *want)
{
    assert_int_equal(f->n_payload, strlen(want));
    assert_memory_equal(f->payload, want, f->n_payload);
    assert_int_equal(f->body.total_bytes, f->n_payload);
}

/* --- other kinds ----------------------------------------------------------------------------- */
static void
a_body_of_known_length_ends_with_its_last_byte(void **state)
{
    struct fed f;

    fed_init(&f, HTTP_BODY_LENGTH, 5);
    feed(&f, "he", 2);
    assert_int_equal(f.state, H1_BODY_MORE);
    assert_false(h1_body_eof_ok(&f.body));
    feed(&f, "lloGET", 6);
    assert_int_equal(f.state, H1_BODY_DONE);
    assert_int_equal(f.used, 5);
    assert_payload(&f, "hello");
    assert_true(h1_body_eof_ok(&f.body));
    feed(&f, "GET", 3);
    assert_int_equal(f.used, 5);
    fed_free(&f);
}

static void
an_empty_body_is_done_at_once(void **state)
{
    struct fed f;

    fed_init(&f, HTTP_BODY_LENGTH, 0);
    feed(&f, "", 0);
    assert_int_equal(f.state, H1_BODY_DONE);
    fed_init(&f, HTTP_BODY_NONE, 0);
    feed(&f, "GET", 3);
    assert_int_equal(f.state, H1_BODY_DONE);
    assert_int_equal(f.used, 0);
    assert_true(h1_body_eof_ok(&f.body));
}

static void
a_body_until_close_takes_everything(void **state)
{
    struct fed f;

    fed_init(&f, HTTP_BODY_CLOSE, 0);
    assert_true(h1_body_eof_ok(&f.body));
    feed(&f, "0\r\n\r\n", 5);
    assert_int_equal(f.state, H1_BODY_MORE);
    assert_payload(&f, "0\r\n\r\n");
    assert_true(h1_body_eof_ok(&f.body));
}

/* --- chunked --------------------------------------------------------------------------------- */
static const struct {
    const char *bytes, *payload;
    unsigned n_trailers;
} good[] = {
    {"0\r\n\r\n", "", 0},
    {"5\r\nhello\r\n0\r\n\r\n", "hello", 0},
    {"5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n", "hello, world", 0},
    {"000005\r\nhello\r\n0000\r\n\r\n", "hello", 0},
    {"A\r\n0123456789\r\n0\r\n\r\n", "0123456789", 0},
    {"a\r\n01234\r\n789\r\n0\r\n\r\n", "01234\r\n789", 0},
    {"1;a\r\nx\r\n0;b=c\r\n\r\n", "x", 0},
    {"1 \t; a = \"q;\\\" z\"\r\nx\r\n0\r\n\r\n", "x", 0},
    {"1;a;b;c=\xe9\r\nx\r\n0\r\n\r\n", "x", 0},
    {"0\r\nX-Sum: 1\r\n\r\n", "", 1},
    {"1\r\nx\r\n0\r\nX-Sum: 1\r\nX-More:\r\n\r\n", "x", 2},
    {"0\r\nContent-Length: 1\r\nHost: a\r\nX-A: b\r\nTransfer-Encoding: x\r\n\r\n", "", 1},
    {"0\r\nCookie: a\r\nSet-Cookie: b\r\nAuthorization: c\r\nX-Forwarded-For: d\r\n\r\n", "", 0},
    {"0\r\nEndpoint-Load-Metrics: TEXT eps=1\r\nProxy-Status: a\r\n\r\n", "", 2},
};

static void
a_chunked_body_is_the_same_however_it_arrives(void **state)
{
    for (unsigned i = 0; i < MC_COUNT(good); i++) {
        struct str all = str_of(good[i].bytes);

        for (size_t step = 1; step <= all.n + 6; step++) {
            struct http_field *trailers;
            struct fed f;
            char text[256];
            int n = snprintf(text, sizeof(text), "%sGET / ", good[i].bytes);

            fed_init(&f, HTTP_BODY_CHUNKED, 0);
            assert_false(h1_body_eof_ok(&f.body));
            feed_in_steps(&f, (struct str){text, (size_t)n}, step);
            assert_int_equal(f.state, H1_BODY_DONE);
            assert_int_equal(f.used, all.n);
            assert_payload(&f, good[i].payload);
            assert_true(h1_body_eof_ok(&f.body));
            assert_int_equal(h1_body_trailers(&f.body, &trailers, &f.arena), good[i].n_trailers);
            fed_free(&f);
        }
    }
}

static void
trailer_fields_are_read_like_those_of_a_head(void **state)
{
    static const char bytes[] = "0\r\nX-A:  one \r\nHost: evil\r\nX-B: two\r\n\r\n";
    struct http_field *t;
    struct fed f;

    fed_init(&f, HTTP_BODY_CHUNKED, 0);
    feed(&f, bytes, sizeof(bytes) - 1);
    assert_int_equal(h1_body_trailers(&f.body, &t, &f.arena), 2);
    assert_true(str_eq(http_field_value(&t[0]), STR("one")));
    assert_true(str_eq((struct str){t[1].name, t[1].name_len}, STR("X-B")));
    assert_true(str_eq(http_field_value(&t[1]), STR("two")));
    fed_free(&f);
}

static const struct {
    const char *bytes;
    enum h1_fault fault;
} bad[] = {
    {"\r\n", H1_CHUNK_SIZE},
    {"x\r\n", H1_CHUNK_SIZE},
    {"0x5\r\nhello", H1_CHUNK_SIZE},
    {"+5\r\nhello", H1_CHUNK_SIZE},
    {"-5\r\nhello", H1_CHUNK_SIZE},
    {" 5\r\nhello", H1_CHUNK_SIZE},
    {"5\nhello", H1_CHUNK_SIZE},
    {"5\rhello", H1_CHUNK_SIZE},
    {"5_0\r\nhello", H1_CHUNK_SIZE},
    {"5,\r\nhello", H1_CHUNK_SIZE},
    {"g\r\n", H1_CHUNK_SIZE},
    {"1\r\nx\r\n\r\n", H1_CHUNK_SIZE},
    {"1\r\nx\r\n0\n\r\n", H1_CHUNK_SIZE},
    {"1000000000000000\r\n", H1_CHUNK_SIZE_LARGE},
    {"ffffffffffffffff\r\n", H1_CHUNK_SIZE_LARGE},
    {"10000000000000005\r\n", H1_CHUNK_SIZE_LARGE},
    {"0000000000000000\r\n\r\n", H1_CHUNK_SIZE_LARGE},
    {"5 \r\nhello", H1_CHUNK_EXT},
    {"5 5\r\nhello", H1_CHUNK_EXT},
    {"5;\r\nhello", H1_CHUNK_EXT},
    {"5; \r\nhello", H1_CHUNK_EXT},
    {"5;;a\r\nhello", H1_CHUNK_EXT},
    {"5;=a\r\nhello", H1_CHUNK_EXT},
    {"5;a\nhello", H1_CHUNK_EXT},
    {"5;a\x01\r\nhello", H1_CHUNK_EXT},
    {"5;a=\"\n\"\r\nhello", H1_CHUNK_EXT},
    {"5;a\rb\r\nhello", H1_CHUNK_SIZE},
    {"1\r\nxy\r\n", H1_CHUNK_END},
    {"1\r\nx\n0\r\n\r\n", H1_CHUNK_END},
    {"1\r\nx\r0\r\n\r\n", H1_CHUNK_END},
    {"1\r\nx0\r\n\r\n", H1_CHUNK_END},
    {"5\r\nhell\r\n0\r\n\r\n", H1_CHUNK_END},
    {"0\r\n\n", H1_TRAILER},
    {"0\r\nA: b\n\r\n", H1_TRAILER},
    {"0\r\nA: b\r\n c\r\n\r\n", H1_TRAILER},
    {"0\r\n A: b\r\n\r\n", H1_TRAILER},
    {"0\r\nA : b\r\n\r\n", H1_TRAILER},
    {"0\r\nA\r\n\r\n", H1_TRAILER},
    {"0\r\nA: b\rc\r\n\r\n", H1_TRAILER},
    {"0\r\n: b\r\n\r\n", H1_TRAILER},
    {"0\r\nA: \x01\r\n\r\n", H1_TRAILER},
};

static void
a_malformed_body_is_refused_however_it_arrives(void **state)
{
    for (unsigned i = 0; i < MC_COUNT(bad); i++) {
        struct str all = str_of(bad[i].bytes);
        size_t used = 0;

        for (size_t step = 1; step <= all.n; step++) {
            struct fed f;

            fed_init(&f, HTTP_BODY_CHUNKED, 0);
            feed_in_steps(&f, all, step);
            if (f.state != H1_BODY_FAULT || f.body.fault != bad[i].fault)
                fail_msg("%s instead of %s: %s", h1_fault_name(f.body.fault),
                         h1_fault_name(bad[i].fault), bad[i].bytes);
            assert_true(step == 1 || used >= f.used);
            used = f.used;
            assert_false(h1_body_eof_ok(&f.body));
            feed(&f, "0\r\n\r\n", 5); /* nothing heals it */
            assert_int_equal(f.state, H1_BODY_FAULT);
            assert_int_equal(h1_body_trailers(&f.body, NULL, &f.arena), 0);
            fed_free(&f);
        }
    }
}

static void
the_largest_chunk_size_is_believed(void **state)
{
    struct fed f;

    fed_init(&f, HTTP_BODY_CHUNKED, 0);
    feed(&f, "fffffffffffffff\r\nx", 18);
    assert_int_equal(f.state, H1_BODY_MORE);
    assert_true(f.body.left == 0xffffffffffffffe);
    assert_payload(&f, "x");
}

static void
extensions_share_one_budget_per_body(void **state)
{
    struct fed f;
    unsigned chunks = 0;

    fed_init(&f, HTTP_BODY_CHUNKED, 0);
    for (; f.state == H1_BODY_MORE && chunks < 1000; chunks++)
        feed(&f, "1;abcdefg\r\nx\r\n", 14); /* 8 bytes behind the size's ';' */
    assert_int_equal(f.state, H1_BODY_FAULT);
    assert_int_equal(f.body.fault, H1_CHUNK_EXT);
    assert_int_equal(chunks, 1024 / 8 + 1);
}

static void
a_trailer_section_has_its_limit(void **state)
{
    struct h1_limits l = h1_default_limits;
    struct fed f;

    l.trailer_bytes = 10;
    fed_init(&f, HTTP_BODY_CHUNKED, 0);
    h1_body_init(&f.body, HTTP_BODY_CHUNKED, 0, &l, &f.arena);
    feed(&f, "0\r\nA: 34567\r\n\r\n", 15);
    assert_int_equal(f.state, H1_BODY_DONE);
    fed_free(&f);

    fed_init(&f, HTTP_BODY_CHUNKED, 0);
    h1_body_init(&f.body, HTTP_BODY_CHUNKED, 0, &l, &f.arena);
    feed(&f, "0\r\nA: 345678\r\n\r\n", 16);
    assert_int_equal(f.state, H1_BODY_FAULT);
    assert_int_equal(f.body.fault, H1_TRAILER_TOO_LARGE);
    fed_free(&f);

    fed_init(&f, HTTP_BODY_CHUNKED, 0);
    for (unsigned i = 0; i < 10000 && f.state == H1_BODY_MORE; i++)
        feed(&f, i ? "aaaaaaaa" : "0\r\n", i ? 8 : 3);
    assert_int_equal(f.body.fault, H1_TRAILER_TOO_LARGE);
    assert_true(f.body.trailer_len <= h1_default_limits.trailer_bytes + 2);
    fed_free(&f);
}

static void
a_long_trailer_section_grows_as_it_comes(void **state)
{
    struct http_field *t;
    struct fed f;
    char line[64];

    fed_init(&f, HTTP_BODY_CHUNKED, 0);
    feed(&f, "0\r\n", 3);
    for (int i = 0; i < 60; i++) {
        int n = snprintf(line, sizeof(line), "X-Trailer-%d: value of the %dth\r\n", i, i);

        feed(&f, line, (size_t)n / 2);
        feed(&f, line + n / 2, (size_t)(n - n / 2));
    }
    feed(&f, "\r\nX", 3);
    assert_int_equal(f.state, H1_BODY_DONE);
    assert_int_equal(h1_body_trailers(&f.body, &t, &f.arena), 60);
    assert_true(str_eq(http_field_value(&t[59]), STR("value of the 59th")));
    fed_free(&f);
}

/* --- random bodies, random cuts -------------------------------------------------------------- */
static size_t
random_body(struct rng *r, char *out, char *payload, size_t *n_payload)
{
    char *d = out;

    *n_payload = 0;
    for (unsigned chunks = rng_below(r, 6); chunks > 0; chunks--) {
        size_t n = 1 + rng_below(r, 300);

        d += sprintf(d, rng_below(r, 2) ? "%zx\r\n" : "%05zX;ext=1\r\n", n);
        for (size_t i = 0; i < n; i++)
            payload[(*n_payload)++] = *d++ = (char)rng_next(r);
        d += sprintf(d, "\r\n");
    }
    d += sprintf(d, rng_below(r, 2) ? "0\r\n\r\n" : "0;x\r\nA: b\r\n\r\n");
    return (size_t)(d - out);
}

static void
random_bodies_survive_random_cuts(void **state)
{
    static char bytes[4096], payload[4096];
    struct rng r;

    rng_seed(&r, 99);
    for (unsigned round = 0; round < 5000; round++) {
        size_t n_payload, n = random_body(&r, bytes, payload, &n_payload);
        struct fed f;

        fed_init(&f, HTTP_BODY_CHUNKED, 0);
        for (size_t at = 0, step; at < n; at += step) {
            step = 1 + rng_below(&r, round % 2 ? 8 : 600);
            step = step < n - at ? step : n - at;
            feed(&f, bytes + at, step);
        }
        assert_int_equal(f.state, H1_BODY_DONE);
        assert_int_equal(f.used, n);
        assert_int_equal(f.n_payload, n_payload);
        assert_memory_equal(f.payload, payload, n_payload);
        fed_free(&f);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_of_known_length_ends_with_its_last_byte),
        cmocka_unit_test(an_empty_body_is_done_at_once),
        cmocka_unit_test(a_body_until_close_takes_everything),
        cmocka_unit_test(a_chunked_body_is_the_same_however_it_arrives),
        cmocka_unit_test(trailer_fields_are_read_like_those_of_a_head),
        cmocka_unit_test(a_malformed_body_is_refused_however_it_arrives),
        cmocka_unit_test(the_largest_chunk_size_is_believed),
        cmocka_unit_test(extensions_share_one_budget_per_body),
        cmocka_unit_test(a_trailer_section_has_its_limit),
        cmocka_unit_test(a_long_trailer_section_grows_as_it_comes),
        cmocka_unit_test(random_bodies_survive_random_cuts),
    };

    return RUN_ON_ALL_VECTORS(tests);
}
