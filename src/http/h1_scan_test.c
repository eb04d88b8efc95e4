/* SPDX-License-Identifier: BSD-2-Clause */
#include "http/h1_testkit.h"

#include "base/rand.h"

#define ROOM 100 /* more than three AVX2 vectors */

/* Runs body once for each vector unit, with `scan` set. */
#define EACH_SCAN(scan)                                                                     \
    for (unsigned u_ = 0; u_ < MC_COUNT(vector_units); u_++)                                \
        for (const struct h1_scan *scan = (h1_vector_use(vector_units[u_]), h1_scan); scan; \
             scan = NULL)

static void
classes_are_those_of_the_grammar(void **state)
{
    static const char punctuation[] = "!#$%&'*+-.^_`|~";

    for (unsigned c = 0; c < 256; c++) {
        bool alnum = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        bool vchar = c > ' ' && c < 0x7f;
        bool hex = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f' && alnum);

        assert_int_equal(h1_is((char)c, C_TOKEN), alnum || (c && strchr(punctuation, (int)c)));
        assert_int_equal(h1_is((char)c, C_VALUE), vchar || c == ' ' || c == '\t' || c >= 0x80);
        assert_int_equal(h1_is((char)c, C_TARGET), vchar && c != '#');
        assert_int_equal(h1_is((char)c, C_HOST), alnum || (c && strchr("-._~!$&'()*+;=", (int)c)));
        assert_int_equal(h1_is((char)c, C_HEX), hex);
    }
}

/* Every byte at every place of a line of every length, the line at the very end of its memory. */
static void
every_unit_stops_at_the_same_byte(void **state)
{
    EACH_SCAN(scan)
    {
        for (size_t n = 1; n <= ROOM; n += n < 40 ? 1 : 7) {
            char *p = malloc(n), *end = p + n;

            for (size_t at = 0; at < n; at += 1 + at / 8)
                for (unsigned c = 0; c < 256; c++) {
                    memset(p, 'a', n);
                    p[n - 1] = '\n';
                    p[at] = (char)(at == n - 1 ? '\n' : c);
                    assert_ptr_equal(scan->token_end(p, end),
                                     h1_is(p[at], C_TOKEN) ? end - 1 : p + at);
                    assert_ptr_equal(scan->value_end(p, end),
                                     h1_is(p[at], C_VALUE) ? end - 1 : p + at);
                    assert_ptr_equal(scan->target_end(p, end),
                                     h1_is(p[at], C_TARGET) ? end - 1 : p + at);
                }
            free(p);
        }
    }
}

static void
the_first_of_several_stops_is_found(void **state)
{
    char p[ROOM];

    memset(p, '\r', sizeof(p));
    p[ROOM - 1] = '\n';
    EACH_SCAN(scan)
    {
        assert_ptr_equal(scan->value_end(p, p + ROOM), p);
        assert_ptr_equal(scan->token_end(p, p + ROOM), p);
        assert_ptr_equal(scan->target_end(p + 1, p + ROOM), p + 1);
    }
}

/* The index of the LF that ends the first empty line, said slowly. */
static size_t
empty_line_slowly(const char *p, size_t from, size_t n)
{
    for (size_t i = from; i < n; i++)
        if (p[i] == '\n' && (p[i - 1] == '\n' || (p[i - 1] == '\r' && p[i - 2] == '\n')))
            return i;
    return n;
}

static void
every_unit_finds_the_same_empty_line(void **state)
{
    struct rng r;

    rng_seed(&r, 7);
    for (unsigned round = 0; round < 20000; round++) {
        size_t n = 2 + rng_below(&r, ROOM), from = 2 + rng_below(&r, (uint32_t)n - 1);
        uint32_t sparse = 3 + rng_below(&r, 40);
        char *p = malloc(n);

        for (size_t i = 0; i < n; i++)
            p[i] = "\r\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"[rng_below(&r, sparse)];
        EACH_SCAN(scan)
        {
            assert_int_equal(scan->empty_line(p, from, n), empty_line_slowly(p, from, n));
        }
        free(p);
    }
}

static void
a_unit_that_is_not_known_changes_nothing(void **state)
{
    h1_vector_use("scalar");
    assert_string_equal(h1_vector_use("abacus"), "scalar");
    h1_vector_use(NULL);
#if defined(__x86_64__)
    assert_string_not_equal(h1_scan->name, "scalar");
#endif
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_are_those_of_the_grammar),
        cmocka_unit_test(every_unit_stops_at_the_same_byte),
        cmocka_unit_test(the_first_of_several_stops_is_found),
        cmocka_unit_test(every_unit_finds_the_same_empty_line),
        cmocka_unit_test(a_unit_that_is_not_known_changes_nothing),
    };

    return cmocka_run_group_tests_name("http/h1_scan", tests, NULL, NULL);
}
