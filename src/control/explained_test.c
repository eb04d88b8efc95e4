/* SPDX-License-Identifier: BSD-2-Clause
 *
 * explained_test.c - the question of `meercat explain`, read as a request.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/check.h"
#include "control/explained.h"

static void
a_question_is_a_request(void **state)
{
    static const struct {
        const char *query, *method, *host, *path, *kind;
    } table[] = {
        {"url=/", "GET", "", "/", NULL},
        {"method=POST&url=%2Fa%3Fb%3D%25c3%26d", "POST", "", "/a?b=%c3&d", NULL},
        {"url=http://example.org:81/x", "GET", "example.org:81", "/x", NULL},
        {"url=https%3A%2F%2Fexample.org%3Fq", "GET", "example.org", "/?q", NULL},
        {"url=/&field=Host%3A%20a.test", "GET", "a.test", "/", NULL},
        {"field=X-Kind:+a+b&url=/&field=x-kind:c", "GET", "", "/", "+a+b"},
        {"url=/&field=x-kind%3A", "GET", "", "/", ""},
    };

    for (size_t i = 0; i < MC_COUNT(table); i++) {
        struct explained_ask a;
        struct errbuf e;
        struct str kind;

        if (explained_read(&a, str_of(table[i].query), &e) != MC_OK)
            fail_msg("%s: %s", table[i].query, e.text);
        assert_true(str_eq(a.head.method_text, str_of(table[i].method)));
        assert_true(str_eq(a.head.authority, str_of(table[i].host)));
        assert_true(str_eq(a.head.path, str_of(table[i].path)));
        kind = http_field_get(&a.head, STR("X-Kind"));
        assert_true(str_eq(kind, str_of(table[i].kind)));
        explained_free(&a);
    }
}

static void
nonsense_is_refused_with_a_reason(void **state)
{
    static const char *const table[][2] = {
        {"", "no url, expected url="},
        {"method=GET", "no url, expected url="},
        {"url=/&colour=red", "\"colour\" is not known, expected method, url or field"},
        {"url=%2", "url: expected a path or http://HOST/PATH, percent-encoded"},
        {"url=%zz", "url: expected a path or http://HOST/PATH, percent-encoded"},
        {"url=/%0d%0aX: y", "url: expected a path or http://HOST/PATH, percent-encoded"},
        {"url=/&method=%0a", "method: expected a word like GET"},
        {"url=/&field=X:%20a%0d%0aHost:%20b", "field: expected NAME: VALUE, percent-encoded"},
        {"url=x", "malformed request target"},
        {"url=/%20HTTP/1.1", "malformed request line"},
        {"url=/&field=&field=X:y", "field: expected NAME: VALUE, percent-encoded"},
        {"url=/&field=X", "field line without colon"},
        {"url=/&field=Host:a&field=Host:b", "more than one Host"},
        {"url=a:1&method=CONNECT&field=Host:a:1", "CONNECT is not forwarded"},
    };

    for (size_t i = 0; i < MC_COUNT(table); i++) {
        struct explained_ask a;
        struct errbuf e;

        assert_int_equal(explained_read(&a, str_of(table[i][0]), &e), MC_EINVAL);
        if (strcmp(e.text, table[i][1]) != 0)
            fail_msg("%s: %s", table[i][0], e.text);
        explained_free(&a);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_question_is_a_request),
        cmocka_unit_test(nonsense_is_refused_with_a_reason),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
