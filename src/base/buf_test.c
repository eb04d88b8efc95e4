/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

static void
a_buffer_grows_as_text_is_added(void **state)
{
    struct buf b = {0};

    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "%03d,", i);
    assert_int_equal(b.n, 4000);
    assert_string_equal(b.p + 3996, "999,");
    buf_add(&b, "\0x", 2);
    buf_str(&b, STR("end"));
    assert_int_equal(b.n, 4005);
    assert_string_equal(b.p + 4002, "end");
    buf_free(&b);
    assert_null(b.p);
}

static void
adding_nothing_still_makes_text(void **state)
{
    struct buf b = {0};

    buf_str(&b, STR_NONE);
    assert_string_equal(b.p, "");
    buf_free(&b);
    buf_json_text(&b, STR_NONE);
    assert_string_equal(b.p, "");
    buf_free(&b);
}

static void
skipping_drops_the_front(void **state)
{
    struct buf b = {0};

    buf_skip(&b, 0);
    buf_str(&b, STR("one two"));
    buf_skip(&b, 4);
    assert_string_equal(b.p, "two");
    buf_skip(&b, 3);
    assert_int_equal(b.n, 0);
    buf_free(&b);
}

static void
assert_json(struct str in, const char *out)
{
    struct buf b = {0};

    buf_json_text(&b, in);
    assert_string_equal(b.p, out);
    buf_free(&b);
}

static void
json_text_is_escaped(void **state)
{
    assert_json(STR("a\"b\\c/d"), "a\\\"b\\\\c/d");
    assert_json(STR("\n\r\t\x01\0z"), "\\n\\r\\t\\u0001\\u0000z");
    assert_json(STR("stra\xc3\x9f"
                    "e \xe2\x82\xac \xf0\x9f\x90\xbe"),
                "stra\xc3\x9f"
                "e \xe2\x82\xac \xf0\x9f\x90\xbe");
}

#define FFFD "\xef\xbf\xbd"

static void
bytes_that_are_not_utf8_are_replaced_one_by_one(void **state)
{
    assert_json(STR("a\xff"
                    "b"),
                "a" FFFD "b");
    assert_json(STR("\xc0\xaf"), FFFD FFFD);          /* overlong slash */
    assert_json(STR("\xed\xa0\x80"), FFFD FFFD FFFD); /* surrogate */
    assert_json(STR("\xf4\x90\x80\x80"), FFFD FFFD FFFD FFFD);
    assert_json(STR("\xe2\x82"), FFFD FFFD); /* cut short */
    assert_json(STR("\xe0\x80\x80"), FFFD FFFD FFFD);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_buffer_grows_as_text_is_added),
        cmocka_unit_test(adding_nothing_still_makes_text),
        cmocka_unit_test(skipping_drops_the_front),
        cmocka_unit_test(json_text_is_escaped),
        cmocka_unit_test(bytes_that_are_not_utf8_are_replaced_one_by_one),
    };

    return cmocka_run_group_tests_name("base/buf", tests, NULL, NULL);
}
