/* SPDX-License-Identifier: BSD-2-Clause
 *
 * proxy_header_test.c - headers of both versions, good and bad, whole and in pieces.
 */
#include "io/proxy_header.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/check.h"

#define SIGN    "\r\n\r\n\0\r\nQUIT\n"
#define IPS_4   "\xc0\x00\x02\x01\xcb\x00\x71\x09"
#define PORTS   "\x12\x67\x01\xbb" /* 4711, 443 */
#define TCP4(n) SIGN "\x21\x11\x00" n IPS_4 PORTS

/* --- reading -------------------------------------------------------------------------------------
 */

/* Bytes are given as a copy of their size, so that ASan sees a read beyond them. */
static enum proxy_step
read_copy(struct str in, size_t n, struct proxy_header *h, size_t *used, enum proxy_fault *why)
{
    char *copy = mc_alloc(n + 1);
    enum proxy_step step;

    memcpy(copy + 1, in.p, n); /* unaligned, too */
    step = proxy_header_read(copy + 1, n, h, used, why);
    free(copy);
    return step;
}

/* Of a header with something behind it: MORE until it is whole, and then it is the same. */
static void
assert_more_until(struct str in, size_t whole)
{
    for (size_t n = 0; n < in.n; n++) {
        struct proxy_header h;
        enum proxy_fault why;
        size_t used;

        assert_int_equal(read_copy(in, n, &h, &used, &why), n < whole ? PROXY_MORE : PROXY_DONE);
        assert_int_equal(used, n < whole ? 0 : whole);
        assert_int_equal(why, PROXY_FAULT_NONE);
    }
}

static void
assert_told(struct str in, const char *from, const char *to)
{
    struct proxy_header h;
    char text[ADDR_TEXT];
    enum proxy_fault why;
    size_t used;

    if (proxy_header_read(in.p, in.n, &h, &used, &why) != PROXY_DONE)
        fail_msg(STR_FMT ": %s", STR_ARG(in), proxy_fault_text(why));
    assert_int_equal(h.local, from == NULL);
    if (from == NULL) {
        assert_int_equal(h.from.len, 0);
        return;
    }
    assert_string_equal(addr_text(&h.from, text), from);
    assert_string_equal(addr_text(&h.to, text), to);
}

static void
a_line_is_read(void **state)
{
    assert_told(STR("PROXY TCP4 192.0.2.1 203.0.113.9 4711 443\r\n"), "192.0.2.1:4711",
                "203.0.113.9:443");
    assert_told(STR("PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n"), "255.255.255.255:65535",
                "0.0.0.0:0");
    assert_told(STR("PROXY TCP6 2001:DB8::1 ::1 4711 443\r\nGET"), "[2001:db8::1]:4711",
                "[::1]:443");
    assert_told(STR("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
                    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
    assert_told(STR("PROXY UNKNOWN\r\n"), NULL, NULL);
    assert_told(STR("PROXY UNKNOWN ffff::1 what \x01 ever\r\n"), NULL, NULL);
    assert_told(STR("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
                    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
                NULL, NULL);
}

static void
what_is_behind_a_header_is_left(void **state)
{
    assert_more_until(STR("PROXY TCP4 192.0.2.1 203.0.113.9 4711 443\r\n\x16\x03\x01"), 43);
    assert_more_until(STR("PROXY UNKNOWN\r\n\r\n"), 15);
    assert_more_until(STR(TCP4("\x0c") "GET / HTTP/1.1\r\n"), 28);
    assert_more_until(STR(SIGN "\x20\x00\x00\x00GET"), 16);
    assert_more_until(STR(SIGN "\x20\x11\x00\x03"
                               "abcGET"),
                      19);
}

static void
addresses_of_version_2_are_read(void **state)
{
    char unix_header[16 + 216 + 1] = SIGN "\x21\x31\x00\xd8/run/client";

    memcpy(unix_header + 16 + 108, "/run/server", 11);
    assert_told(STR(TCP4("\x0c")), "192.0.2.1:4711", "203.0.113.9:443");
    assert_told(STR(SIGN "\x21\x21\x00\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"
                         "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01" PORTS),
                "[2001:db8::1]:4711", "[::1]:443");
    assert_told((struct str){unix_header, 16 + 216}, "unix:/run/client", "unix:/run/server");
}

static void
a_connection_that_speaks_for_itself_is_good(void **state)
{
    /* LOCAL, whatever family and length it has */
    assert_told(STR(SIGN "\x20\x00\x00\x00"), NULL, NULL);
    assert_told(STR(SIGN "\x20\x11\x00\x0c" IPS_4 PORTS), NULL, NULL);
    assert_told(STR(SIGN "\x20\xff\x00\x02xx"), NULL, NULL);
    /* families and transports that TCP is none of */
    assert_told(STR(SIGN "\x21\x00\x00\x00"), NULL, NULL);
    assert_told(STR(SIGN "\x21\x01\x00\x01x"), NULL, NULL);
    assert_told(STR(SIGN "\x21\x10\x00\x0c" IPS_4 PORTS), NULL, NULL);
    assert_told(STR(SIGN "\x21\x12\x00\x0c" IPS_4 PORTS), NULL, NULL);
}

static const struct {
    struct str in;
    enum proxy_fault why;
} bad[] = {
    /* at once: nothing that follows can make it good */
    {STR("G"), PROXY_FAULT_NO_HEADER},
    {STR("\x16"), PROXY_FAULT_NO_HEADER},
    {STR("PROXY\t"), PROXY_FAULT_NO_HEADER},
    {STR("PROXYTCP4"), PROXY_FAULT_NO_HEADER},
    {STR("proxy "), PROXY_FAULT_NO_HEADER},
    {STR(" PROXY "), PROXY_FAULT_NO_HEADER},
    {STR("\r\n\r\nGET"), PROXY_FAULT_NO_HEADER},
    {STR("\r\n\r\n\0\r\nQUIT\r"), PROXY_FAULT_NO_HEADER},
    {STR(SIGN "\x22"), PROXY_FAULT_VERSION},
    {STR(SIGN "\x11"), PROXY_FAULT_VERSION},
    {STR(SIGN "\x01"), PROXY_FAULT_VERSION},
    {STR(SIGN "\x21\x41"), PROXY_FAULT_FAMILY},
    {STR(SIGN "\x21\x13"), PROXY_FAULT_FAMILY},
    {STR(SIGN "\x21\x11\x10\x00"), PROXY_FAULT_LENGTH},
    {STR(SIGN "\x20\x00\xff\xff"), PROXY_FAULT_LENGTH},
    /* lines */
    {STR("PROXY \n"), PROXY_FAULT_LINE},
    {STR("PROXY \r\n"), PROXY_FAULT_LINE},
    {STR("PROXY TCP4\r\n"), PROXY_FAULT_LINE},
    {STR("PROXY TCP4 192.0.2.1 203.0.113.9 4711 443\n"), PROXY_FAULT_LINE},
    {STR("PROXY TCP4 192.0.2.1 203.0.113.9 4711 443 \r\n"), PROXY_FAULT_LINE},
    {STR("PROXY TCP4 192.0.2.1 203.0.113.9 4711 443\r\r\n"), PROXY_FAULT_LINE},
    {STR("PROXY TCP4  192.0.2.1 203.0.113.9 4711 443\r\n"), PROXY_FAULT_LINE},
    {STR("PROXY TCP4 192.0.2.1 203.0.113.9 4711\r\n"), PROXY_FAULT_LINE},
    {STR("PROXY TCP4 192.0.2.1 203.0.113.9 4711 \r\n"), PROXY_FAULT_LINE},
    {STR("PROXY TCP4 192.0.2.1 203.0.113.9 4711 65536\r\n"), PROXY_FAULT_LINE},
    {STR("PROXY TCP4 192.0.2.1 203.0.113.9 04711 443\r\n"), PROXY_FAULT_LINE},
    {STR("PROXY TCP4 192.0.2.1 203.0.113.9 +4711 443\r\n"), PROXY_FAULT_LINE},
    {STR("PROXY TCP4 192.0.2.1 203.0.113.9 -1 443\r\n"), PROXY_FAULT_LINE},
    {STR("PROXY TCP4 192.0.02.1 203.0.113.9 4711 443\r\n"), PROXY_FAULT_LINE},
    {STR("PROXY TCP4 192.0.2 203.0.113.9 4711 443\r\n"), PROXY_FAULT_LINE},
    {STR("PROXY TCP4 192.0.2.256 203.0.113.9 4711 443\r\n"), PROXY_FAULT_LINE},
    {STR("PROXY TCP4 192.0.2.1 ::1 4711 443\r\n"), PROXY_FAULT_LINE},
    {STR("PROXY TCP4 ::1 ::1 4711 443\r\n"), PROXY_FAULT_LINE},
    {STR("PROXY TCP6 192.0.2.1 203.0.113.9 4711 443\r\n"), PROXY_FAULT_LINE},
    {STR("PROXY TCP6 1::2::3 ::1 4711 443\r\n"), PROXY_FAULT_LINE},
    {STR("PROXY TCP6 fe80::1%lo ::1 4711 443\r\n"), PROXY_FAULT_LINE},
    {STR("PROXY tcp4 192.0.2.1 203.0.113.9 4711 443\r\n"), PROXY_FAULT_LINE},
    {STR("PROXY UDP4 192.0.2.1 203.0.113.9 4711 443\r\n"), PROXY_FAULT_LINE},
    {STR("PROXY UNKNOWNS\r\n"), PROXY_FAULT_LINE},
    {STR("PROXY UNKNOWN\n\r\n"), PROXY_FAULT_LINE},
    {STR("PROXY TCP4 192.0.2.1\0 203.0.113.9 4711 443\r\n"), PROXY_FAULT_LINE},
    /* 108 bytes, and 107 without an end */
    {STR("PROXY UNKNOWN 56789012345678901234567890123456789012345678901234567890"
         "123456789012345678901234567890123456\r\n"),
     PROXY_FAULT_LINE},
    {STR("PROXY UNKNOWN 56789012345678901234567890123456789012345678901234567890"
         "1234567890123456789012345678901234567"),
     PROXY_FAULT_LINE},
    /* bodies of version 2 */
    {STR(SIGN "\x21\x11\x00\x00"), PROXY_FAULT_ADDRESS},
    {STR(TCP4("\x0b")), PROXY_FAULT_ADDRESS},
    {STR(SIGN "\x21\x21\x00\x0c" IPS_4 PORTS), PROXY_FAULT_ADDRESS},
    {STR(SIGN "\x21\x31\x00\x0c" IPS_4 PORTS), PROXY_FAULT_ADDRESS},
    {STR(TCP4("\x0d") "\x04"), PROXY_FAULT_TLV},
    {STR(TCP4("\x0e") "\x04\x00"), PROXY_FAULT_TLV},
    {STR(TCP4("\x0f") "\x04\x00\x01"), PROXY_FAULT_TLV},
    {STR(TCP4("\x16") "\x04\xff\xff"
                      "1234567"),
     PROXY_FAULT_TLV},
    {STR(TCP4("\x12") "\x03\x00\x03xxx"), PROXY_FAULT_TLV},
    {STR(TCP4("\x13") "\x03\x00\x04xxxx"), PROXY_FAULT_CHECKSUM},
    {STR(TCP4("\x14") "\x02\x00\x01"
                      "a\x02\x00\x01"
                      "a"),
     PROXY_FAULT_TLV},
    {STR(TCP4("\x10") "\x02\x00\x01\n"), PROXY_FAULT_TLV},
    {STR(TCP4("\x0f") "\x20\x00\x00"), PROXY_FAULT_TLV},
    {STR(TCP4("\x13") "\x20\x00\x04\x01\0\0\0"), PROXY_FAULT_TLV},
    {STR(TCP4("\x16") "\x20\x00\x07\x01\0\0\0\0\x21\x00"), PROXY_FAULT_TLV},
    {STR(TCP4("\x18") "\x20\x00\x09\x01\0\0\0\0\x21\x00\x01\n"), PROXY_FAULT_TLV},
};

static void
each_fault_is_named(void **state)
{
    for (size_t i = 0; i < MC_COUNT(bad); i++) {
        struct proxy_header h;
        enum proxy_fault why;
        size_t used;

        if (read_copy(bad[i].in, bad[i].in.n, &h, &used, &why) != PROXY_BAD || why != bad[i].why)
            fail_msg("row %zu: %s", i, proxy_fault_label(why));
    }
}

/* --- writing, and reading that -------------------------------------------------------------------
 */

static struct addr
addr_of(const char *text)
{
    struct addr a = {.len = 0};

    if (text != NULL)
        assert_int_equal(addr_parse(str_of(text), &a, NULL, NULL, NULL), MC_OK);
    return a;
}

/* What is written is one header, with nothing behind it. */
static struct proxy_header
written(const struct proxy_header *h, uint8_t out[PROXY_HEADER_MAX])
{
    size_t n = proxy_header_write(h, out), used;
    struct proxy_header back;
    enum proxy_fault why;

    assert_int_equal(proxy_header_read(out, n, &back, &used, &why), PROXY_DONE);
    assert_int_equal(used, n);
    return back;
}

static void
assert_line(const char *from, const char *to, const char *line)
{
    struct proxy_header h = {.version = 1, .from = addr_of(from), .to = addr_of(to)};
    uint8_t out[PROXY_HEADER_MAX];
    size_t n = proxy_header_write(&h, out);

    assert_int_equal(n, strlen(line));
    assert_memory_equal(out, line, n);
}

static void
lines_are_written(void **state)
{
    struct proxy_header local = {.version = 1, .local = true, .from = addr_of("192.0.2.1:1")};
    uint8_t out[PROXY_HEADER_MAX];

    assert_line("192.0.2.1:4711", "203.0.113.9:443",
                "PROXY TCP4 192.0.2.1 203.0.113.9 4711 443\r\n");
    assert_line("[2001:db8::1]:4711", "[::1]:443", "PROXY TCP6 2001:db8::1 ::1 4711 443\r\n");
    assert_line("[2001:db8::1]:4711", "203.0.113.9:443",
                "PROXY TCP6 2001:db8::1 ::ffff:203.0.113.9 4711 443\r\n");
    assert_line("192.0.2.1:4711", NULL, "PROXY TCP4 192.0.2.1 0.0.0.0 4711 0\r\n");
    assert_line("192.0.2.1:4711", "unix:/x", "PROXY TCP4 192.0.2.1 0.0.0.0 4711 0\r\n");
    assert_line("unix:/x", "unix:/y", "PROXY UNKNOWN\r\n");
    assert_line(NULL, "203.0.113.9:443", "PROXY UNKNOWN\r\n");
    assert_int_equal(proxy_header_write(&local, out), 15);
}

static void
addresses_come_back_from_version_2(void **state)
{
    static const struct {
        const char *from, *to, *from_back, *to_back; /* NULL: not told */
    } rows[] = {
        {"192.0.2.1:4711", "203.0.113.9:443", "192.0.2.1:4711", "203.0.113.9:443"},
        {"[2001:db8::1]:4711", "[::1]:443", "[2001:db8::1]:4711", "[::1]:443"},
        {"192.0.2.1:4711", "[::1]:443", "[::ffff:192.0.2.1]:4711", "[::1]:443"},
        {"192.0.2.1:4711", "unix:/x", "192.0.2.1:4711", "0.0.0.0:0"},
        {"unix:/x", "unix:/y", "unix:/x", "unix:/y"},
        {"unix:/x", "[::1]:443", NULL, NULL},
        {NULL, "[::1]:443", NULL, NULL},
    };

    for (size_t i = 0; i < MC_COUNT(rows); i++) {
        struct proxy_header h = {
            .version = 2, .from = addr_of(rows[i].from), .to = addr_of(rows[i].to)};
        uint8_t out[PROXY_HEADER_MAX];
        size_t n = proxy_header_write(&h, out);

        assert_told((struct str){(const char *)out, n}, rows[i].from_back, rows[i].to_back);
    }
}

static void
tlvs_come_back(void **state)
{
    struct proxy_header h = {.version = 2,
                             .checksum = true,
                             .from = addr_of("192.0.2.1:4711"),
                             .to = addr_of("203.0.113.9:443"),
                             .alpn = STR("h2"),
                             .authority = STR("b\xc3\xbc"
                                              "cher.example"),
                             .unique_id = STR("\x00\xff id"),
                             .tls_client = PROXY_TLS | PROXY_TLS_CERT,
                             .tls_verify = 0x01020304,
                             .tls_version = STR("TLSv1.3"),
                             .tls_cipher = STR("TLS_AES_128_GCM_SHA256"),
                             .tls_cn = STR("me")};
    uint8_t out[PROXY_HEADER_MAX];
    struct proxy_header back = written(&h, out);

    assert_true(back.checksum);
    assert_true(str_eq(back.alpn, h.alpn));
    assert_true(str_eq(back.authority, h.authority));
    assert_true(str_eq(back.unique_id, h.unique_id));
    assert_int_equal(back.tls_client, h.tls_client);
    assert_int_equal(back.tls_verify, h.tls_verify);
    assert_true(str_eq(back.tls_version, h.tls_version));
    assert_true(str_eq(back.tls_cipher, h.tls_cipher));
    assert_true(str_eq(back.tls_cn, h.tls_cn));
}

static void
a_checksum_sees_every_bit(void **state)
{
    struct proxy_header h = {.version = 2, .checksum = true, .authority = STR("a.example")};
    uint8_t out[PROXY_HEADER_MAX];
    enum proxy_fault why;
    size_t n, used;

    h.from = addr_of("192.0.2.1:4711");
    h.to = addr_of("203.0.113.9:443");
    n = proxy_header_write(&h, out);
    for (size_t bit = 16 * 8; bit < n * 8; bit++) {
        struct proxy_header back;

        out[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (proxy_header_read(out, n, &back, &used, &why) == PROXY_DONE)
            assert_false(back.checksum); /* it was the sum's type that changed */
        out[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void
the_checksum_is_crc32c(void **state)
{
    /* computed bit by bit, by a program that knows the sum of RFC 3720 B.4 */
    static const char known[] = TCP4("\x13") "\x03\x00\x04\xf7\xb8\xdc\xe3";
    struct proxy_header h;
    enum proxy_fault why;
    size_t used;

    assert_int_equal(proxy_header_read(known, sizeof(known) - 1, &h, &used, &why), PROXY_DONE);
    assert_true(h.checksum);
}

static void
texts_that_are_too_long_are_left_out(void **state)
{
    char text[PROXY_TEXT_MAX + 1];
    struct proxy_header h = {.version = 2, .from = addr_of("unix:/x"), .to = addr_of("unix:/y")};
    uint8_t out[PROXY_HEADER_MAX];
    struct proxy_header back;

    memset(text, 'x', sizeof(text));
    h.alpn = h.authority = h.tls_version = h.tls_cipher = h.tls_cn =
        (struct str){text, PROXY_TEXT_MAX};
    h.unique_id = (struct str){text, PROXY_UNIQUE_MAX};
    h.tls_client = PROXY_TLS;
    h.checksum = true;
    back = written(&h, out);
    assert_int_equal(back.authority.n, PROXY_TEXT_MAX);
    assert_int_equal(back.unique_id.n, PROXY_UNIQUE_MAX);
    h.authority.n++;
    h.unique_id.n++;
    back = written(&h, out);
    assert_int_equal(back.authority.n, 0);
    assert_int_equal(back.unique_id.n, 0);
    assert_int_equal(back.tls_cn.n, PROXY_TEXT_MAX);
}

static void
a_check_of_our_own_says_so(void **state)
{
    struct proxy_header h = {.version = 2, .local = true, .checksum = true};
    uint8_t out[PROXY_HEADER_MAX];

    assert_int_equal(proxy_header_write(&h, out), 16);
    assert_memory_equal(out, SIGN "\x20\x00\x00\x00", 16);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_read),
        cmocka_unit_test(what_is_behind_a_header_is_left),
        cmocka_unit_test(addresses_of_version_2_are_read),
        cmocka_unit_test(a_connection_that_speaks_for_itself_is_good),
        cmocka_unit_test(each_fault_is_named),
        cmocka_unit_test(lines_are_written),
        cmocka_unit_test(addresses_come_back_from_version_2),
        cmocka_unit_test(tlvs_come_back),
        cmocka_unit_test(a_checksum_sees_every_bit),
        cmocka_unit_test(the_checksum_is_crc32c),
        cmocka_unit_test(texts_that_are_too_long_are_left_out),
        cmocka_unit_test(a_check_of_our_own_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
