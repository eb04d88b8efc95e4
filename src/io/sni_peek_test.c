/* SPDX-License-Identifier: BSD-2-Clause
 *
 * sni_peek_test.c - ClientHellos whole, in pieces, of strange shapes, and what is none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "io/sni_peek.h"

/* --- making them --------------------------------------------------------------------------------
 */

struct bytes {
    uint8_t p[2 * SNI_PEEK_MAX];
    size_t n;
};

static void
add(struct bytes *b, const void *p, size_t n)
{
    assert_true(b->n + n <= sizeof(b->p));
    memcpy(b->p + b->n, p, n);
    b->n += n;
}

static void
add_u8(struct bytes *b, unsigned v)
{
    add(b, &(uint8_t){(uint8_t)v}, 1);
}

static void
add_u16(struct bytes *b, unsigned v)
{
    add_u8(b, v >> 8);
    add_u8(b, v & 255);
}

static void
add_ext(struct bytes *b, unsigned type, const void *p, size_t n)
{
    add_u16(b, type);
    add_u16(b, (unsigned)n);
    add(b, p, n);
}

static void
add_name(struct bytes *b, const char *name)
{
    unsigned n = (unsigned)strlen(name);

    add_u16(b, 0);
    add_u16(b, n + 5);
    add_u16(b, n + 3);
    add_u8(b, 0);
    add_u16(b, n);
    add(b, name, n);
}

static const char h2_http11[] = "\0\x0c\x02h2\x08http/1.1";
#define ALPN h2_http11, sizeof(h2_http11) - 1

/* The message around these extensions; NULL: it has none. */
static void
make_message(struct bytes *m, const struct bytes *ext)
{
    size_t body = 2 + 32 + 1 + 4 + 2 + (ext ? 2 + ext->n : 0);

    m->n = 0;
    add_u8(m, 1);
    add_u8(m, (unsigned)(body >> 16));
    add_u16(m, (unsigned)body & 0xffff);
    add_u16(m, 0x0303);
    for (unsigned i = 0; i < 32; i++)
        add_u8(m, i);
    add_u8(m, 0);
    add_u16(m, 2);
    add_u16(m, 0x1301);
    add_u8(m, 1);
    add_u8(m, 0);
    if (ext == NULL)
        return;
    add_u16(m, (unsigned)ext->n);
    add(m, ext->p, ext->n);
}

/* In records of at most `most` bytes. */
static void
add_records(struct bytes *b, const struct bytes *m, size_t most)
{
    for (size_t at = 0; at < m->n; at += most) {
        size_t n = m->n - at < most ? m->n - at : most;

        add_u8(b, 22);
        add_u16(b, 0x0301);
        add_u16(b, (unsigned)n);
        add(b, m->p + at, n);
    }
}

static void
make(struct bytes *b, const struct bytes *ext, size_t most)
{
    static struct bytes m;

    make_message(&m, ext);
    b->n = 0;
    add_records(b, &m, most);
}

static void
make_named(struct bytes *b, const char *name, size_t most)
{
    static struct bytes ext;

    ext.n = 0;
    add_ext(&ext, 43, "\x02\x03\x04", 3);
    add_name(&ext, name);
    add_ext(&ext, 16, ALPN);
    make(b, &ext, most);
}

/* --- reading them -------------------------------------------------------------------------------
 */

static uint8_t flat[SNI_PEEK_MAX];

static enum sni_peek_state
end_of(const struct bytes *b)
{
    struct sni_peek s = {0};

    return sni_peek_end(&s, b->p, b->n);
}

static bool
read_it(const struct bytes *b, struct sni_hello *h)
{
    assert_int_equal(end_of(b), SNI_PEEK_WHOLE);
    return sni_peek_read(b->p, b->n, flat, h);
}

static bool
reads(const struct bytes *ext)
{
    static struct bytes b;
    struct sni_hello h;

    make(&b, ext, SNI_PEEK_MAX);
    return read_it(&b, &h);
}

static void
name_and_protocols_are_found(void **state)
{
    static struct bytes b;
    struct sni_hello h;

    make_named(&b, "db.Example.org", SNI_PEEK_MAX);
    assert_true(read_it(&b, &h));
    assert_true(str_eq(h.name, STR("db.Example.org")));
    assert_true(str_eq(h.alpn, STR("\x02h2\x08http/1.1")));
}

static void
a_hello_need_not_name_anything(void **state)
{
    static struct bytes b, ext;
    struct sni_hello h;

    make(&b, NULL, SNI_PEEK_MAX);
    assert_true(read_it(&b, &h));
    assert_true(h.name.n == 0 && h.alpn.n == 0);
    add_ext(&ext, 43, "\x02\x03\x04", 3);
    make(&b, &ext, SNI_PEEK_MAX);
    assert_true(read_it(&b, &h));
    assert_true(h.name.n == 0 && h.alpn.n == 0);
}

static void
pieces_and_records_of_any_size_say_the_same(void **state)
{
    static struct bytes b;

    for (size_t most = 1; most < 200; most += most < 8 ? 1 : 37) {
        struct sni_peek s = {0};
        struct sni_hello h;

        make_named(&b, "a.b", most);
        for (size_t n = 0; n < b.n; n++)
            assert_int_equal(sni_peek_end(&s, b.p, n), SNI_PEEK_MORE);
        assert_int_equal(sni_peek_end(&s, b.p, b.n), SNI_PEEK_WHOLE);
        assert_true(sni_peek_read(b.p, b.n, flat, &h));
        assert_true(str_eq(h.name, STR("a.b")));
    }
}

static void
early_data_may_follow(void **state)
{
    static struct bytes b;
    struct sni_hello h;

    make_named(&b, "a.b", 50);
    add(&b, "\x17\x03\x03\x00\x01x", 6);
    assert_true(read_it(&b, &h));
    assert_true(str_eq(h.name, STR("a.b")));
}

static void
what_does_not_begin_as_tls_is_other(void **state)
{
    static const char *const texts[] = {"GET / HTTP/1.1\r\n", "SSH-2.0-x", "\x15\x03\x01",
                                        "\x80\x2e\x01\x03\x01", "\x16\x02\x00"};

    for (size_t i = 0; i < MC_COUNT(texts); i++) {
        struct sni_peek s = {0};

        assert_int_equal(sni_peek_end(&s, texts[i], strlen(texts[i])), SNI_PEEK_OTHER);
    }
}

/* From a good one, a byte changed. */
static enum sni_peek_state
end_with(size_t at, unsigned v)
{
    static struct bytes b;

    make_named(&b, "a.b", 60);
    b.p[at] = (uint8_t)v;
    return end_of(&b);
}

static void
broken_frames_are_bad(void **state)
{
    assert_int_equal(end_with(5, 2), SNI_PEEK_BAD);      /* another message */
    assert_int_equal(end_with(6, 1), SNI_PEEK_BAD);      /* 64 KiB and more */
    assert_int_equal(end_with(3, 0x41), SNI_PEEK_BAD);   /* a record of more than 16 KiB */
    assert_int_equal(end_with(65, 23), SNI_PEEK_BAD);    /* something else between its records */
    assert_int_equal(end_with(65 + 4, 0), SNI_PEEK_BAD); /* an empty record */
    assert_int_equal(end_with(8, 60), SNI_PEEK_BAD);     /* it ends within a record */
}

static void
one_that_never_ends_is_bad_at_the_bound(void **state)
{
    static struct bytes b;
    struct sni_peek s = {0};
    size_t n = 0;

    /* records of one byte, of a message that says it has 10,000 */
    add(&b, "\x16\x03\x01\x00\x04\x01\x00\x27\x10", 9);
    while (b.n + 6 <= sizeof(b.p))
        add(&b, "\x16\x03\x01\x00\x01x", 6);
    while (n < b.n && sni_peek_end(&s, b.p, n) == SNI_PEEK_MORE)
        n++;
    assert_int_equal(sni_peek_end(&s, b.p, n), SNI_PEEK_BAD);
    assert_true(n <= SNI_PEEK_MAX);
}

static void
names_that_are_none_are_refused(void **state)
{
    static const char *const names[] = {"",    ".",   "a..b",  ".a",  "a.",
                                        "a b", "a/b", "a\x80", "*.a", "[::1]"};
    static struct bytes ext, b;
    struct sni_hello h;
    char text[300];

    for (size_t i = 0; i < MC_COUNT(names); i++) {
        ext.n = 0;
        add_name(&ext, names[i]);
        assert_false(reads(&ext));
    }
    memset(text, 'a', sizeof(text));
    text[254] = '\0';
    make_named(&b, text, SNI_PEEK_MAX);
    assert_false(read_it(&b, &h));
    text[253] = '\0';
    make_named(&b, text, SNI_PEEK_MAX);
    assert_true(read_it(&b, &h));
    assert_int_equal(h.name.n, 253);
}

static void
extensions_must_fit_what_they_say(void **state)
{
    static const struct {
        unsigned type;
        const char *p;
        size_t n;
    } bad[] = {
        {0, "", 0},                          /* a client may not send an empty one */
        {0, "\0\0", 2},                      /* no names */
        {0, "\0\6\0\0\3a.b", 8},             /* good: see below */
        {0, "\0\6\1\0\3a.b", 8},             /* of an unknown type */
        {0, "\0\7\0\0\3a.b", 8},             /* the list is longer than the extension */
        {0, "\0\5\0\0\3a.b", 8},             /* and shorter */
        {0, "\0\x0c\0\0\3a.b\0\0\3c.d", 14}, /* two names */
        {16, "", 0},                         /* no list */
        {16, "\0\0", 2},                     /* an empty one */
        {16, "\0\2\0\0", 4},                 /* empty names */
        {16, "\0\3\3h2", 5},                 /* longer than the list */
    };

    for (size_t i = 0; i < MC_COUNT(bad); i++) {
        static struct bytes ext;

        ext.n = 0;
        add_ext(&ext, bad[i].type, bad[i].p, bad[i].n);
        if (reads(&ext) != (i == 2))
            fail_msg("row %zu", i);
    }
}

static void
nothing_is_said_twice_and_nothing_is_left(void **state)
{
    static struct bytes ext, b, m;
    struct sni_hello h;

    add_name(&ext, "a.b");
    assert_true(reads(&ext));
    add_name(&ext, "a.b");
    assert_false(reads(&ext));
    ext.n = 0;
    add_ext(&ext, 16, ALPN);
    add_ext(&ext, 16, ALPN);
    assert_false(reads(&ext));
    ext.n = 0;
    add(&ext, "\0", 1);
    assert_false(reads(&ext));
    make_message(&m, NULL);
    add_u8(&m, 0);
    m.p[3]++;
    b.n = 0;
    add_records(&b, &m, 100);
    assert_false(read_it(&b, &h));
}

static void
the_fixed_part_is_checked(void **state)
{
    static struct bytes b;
    struct sni_hello h;

    make_named(&b, "a.b", SNI_PEEK_MAX);
    b.p[9] = 2; /* legacy_version 2.3 */
    assert_false(read_it(&b, &h));
    make_named(&b, "a.b", SNI_PEEK_MAX);
    b.p[43] = 33; /* a session id of 33 bytes */
    assert_false(read_it(&b, &h));
    make_named(&b, "a.b", SNI_PEEK_MAX);
    b.p[45] = 1; /* half a cipher suite */
    assert_false(read_it(&b, &h));
    make_named(&b, "a.b", SNI_PEEK_MAX);
    b.p[48] = 0; /* no compression at all */
    assert_false(read_it(&b, &h));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(name_and_protocols_are_found),
        cmocka_unit_test(a_hello_need_not_name_anything),
        cmocka_unit_test(pieces_and_records_of_any_size_say_the_same),
        cmocka_unit_test(early_data_may_follow),
        cmocka_unit_test(what_does_not_begin_as_tls_is_other),
        cmocka_unit_test(broken_frames_are_bad),
        cmocka_unit_test(one_that_never_ends_is_bad_at_the_bound),
        cmocka_unit_test(names_that_are_none_are_refused),
        cmocka_unit_test(extensions_must_fit_what_they_say),
        cmocka_unit_test(nothing_is_said_twice_and_nothing_is_left),
        cmocka_unit_test(the_fixed_part_is_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
