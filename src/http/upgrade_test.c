/* SPDX-License-Identifier: BSD-2-Clause */
#include "http/upgrade.h"

#include "http/h1_testkit.h"

/* What a request with these fields is offered on as; "" for nothing, with '~' when it may be
 * ignored. */
static void
assert_offer(const char *fields, const char *allowed, const char *want)
{
    struct parsed p;
    char text[1024];
    bool ignore;
    struct str got;

    snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n%s\r\n",
             fields);
    parse_request(&p, text);
    assert_fault(p.fault, NONE);
    got = upgrade_offer(&p.head, allowed, &p.arena, &ignore);
    snprintf(text, sizeof(text), STR_FMT "%s", STR_ARG(got), ignore ? "~" : "");
    assert_string_equal(text, want);
    parsed_free(&p);
}

static void
what_is_allowed_is_offered_in_the_clients_order(void **state)
{
    assert_offer("Upgrade: websocket\r\n", "websocket", "websocket");
    assert_offer("Upgrade: WebSocket\r\n", "websocket", "WebSocket");
    assert_offer("Upgrade: b/1, a ,\t, c\r\n", "a,b/1", "b/1, a");
    assert_offer("Upgrade: c\r\nUpgrade: a,b\r\n", "a,b,c", "c, a, b");
    assert_offer("Upgrade: a,b,c,d\r\n", "any", "a, b, c, d");
    assert_offer("Upgrade: foo/2\r\n", "foo", "");
    assert_offer("Upgrade: websocket\r\n", NULL, "");
    assert_offer("Upgrade: chat\r\n", "websocket", "");
    assert_offer("Upgrade: any\r\n", "websocket", "");
}

static void
http_itself_is_never_offered(void **state)
{
    assert_offer("Upgrade: h2c\r\n", "any", "~");
    assert_offer("Upgrade: H2C\r\n", "h2c", "~");
    assert_offer("Upgrade: h2c-14, HTTP/2.0, http/3, h3, websocket\r\n", "any", "websocket~");
}

static void
what_is_no_protocol_is_not_passed_on(void **state)
{
    assert_offer("Upgrade: a b, \"q\", c/, /d, e/f/g, ok\r\n", "any", "ok");
    assert_true(upgrade_is_protocol(STR("TLS/1.0")));
    assert_false(upgrade_is_protocol(STR("")));
    assert_false(upgrade_is_protocol(STR("a/")));
}

static bool
agrees(const char *fields, const char *offered)
{
    struct parsed p;
    char text[1024];
    bool ok;

    snprintf(text, sizeof(text), "HTTP/1.1 101 Switching Protocols\r\n%s\r\n", fields);
    parse_response(&p, text, HTTP_M_GET);
    assert_fault(p.fault, NONE);
    ok = upgrade_agrees(&p.head, str_of(offered));
    parsed_free(&p);
    return ok;
}

#define CU "Connection: Upgrade\r\n"

static void
a_server_switches_to_what_was_offered_and_nothing_else(void **state)
{
    assert_true(agrees(CU "Upgrade: websocket\r\n", "websocket"));
    assert_true(agrees(CU "Upgrade: WEBSOCKET\r\n", "foo, websocket"));
    assert_true(agrees(CU "Upgrade: tls/1.0, foo\r\n", "foo, TLS/1.0"));
    assert_true(agrees(CU "Upgrade: a,\r\nUpgrade: b\r\n", "a, b"));
    assert_false(agrees(CU "Upgrade: other\r\n", "websocket"));
    assert_false(agrees(CU "Upgrade: websocket, other\r\n", "websocket"));
    assert_false(agrees(CU "Upgrade: websocketx\r\n", "websocket"));
    assert_false(agrees(CU, "websocket"));
    assert_false(agrees(CU "Upgrade: ,\r\n", "websocket"));
    assert_false(agrees("Upgrade: websocket\r\n", "websocket"));
    assert_false(agrees(CU "Upgrade: websocket\r\n", NULL));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_allowed_is_offered_in_the_clients_order),
        cmocka_unit_test(http_itself_is_never_offered),
        cmocka_unit_test(what_is_no_protocol_is_not_passed_on),
        cmocka_unit_test(a_server_switches_to_what_was_offered_and_nothing_else),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
