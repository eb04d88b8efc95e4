/* SPDX-License-Identifier: BSD-2-Clause
 *
 * load_report_test.c - what a response says of its server's load: heard, and kept from clients.
 */
#include "proxy/harness.h"

#define HEAD_AND_TRAILERS                                                                   \
    "HTTP/1.1 103 Early Hints\r\nEndpoint-Load-Metrics: TEXT eps=1\r\nLink: </x>\r\n\r\n"   \
    "HTTP/1.1 200 OK\r\nENDPOINT-load-metrics: TEXT cpu_utilization=.25\r\nX-Left: yes\r\n" \
    "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"                                 \
    "Endpoint-Load-Metrics-Bin: CQAAAAAAAOg/\r\nX-Sum: 1\r\n\r\n"

struct play {
    struct stage s;
    struct snapshot *snap;
    char answer[ANSWER_MAX];
};

/* Static: gcc's ASan aligns the stack to less than a cache line. */
static struct play p;

static void
begin(const char *balance, bool pass, const char *reply)
{
    const struct wishes w = {.balance = balance, .pass_load_reports = pass, .reply = reply};

    memset(&p, 0, sizeof(p));
    set_stage(&p.s, &w, &p.snap);
    assert_true(ask_text(p.s.port, p.answer) > 0);
}

static void
end(void)
{
    strike_stage(&p.s);
    free_snapshot(p.snap);
    end_stage(&p.s);
}

static bool
has(const char *text)
{
    return strcasestr(p.answer, text) != NULL;
}

static struct brain_said
said(void)
{
    struct brain_server b;

    brain_server_at(p.snap->pools[0]->brain, 0, &b);
    return b.said;
}

static void
reports_are_kept_from_clients_whatever_the_policy(void **state)
{
    static const char *const policies[] = {"resource", "least-request"};

    for (size_t i = 0; i < MC_COUNT(policies); i++) {
        begin(policies[i], false, HEAD_AND_TRAILERS);
        assert_false(has("endpoint-load-metrics"));
        assert_true(has("103 Early Hints") && has("Link: </x>"));
        assert_true(has("X-Left: yes") && has("X-Sum: 1"));
        end();
    }
}

static void
a_pool_may_pass_them_on(void **state)
{
    begin("resource", true, HEAD_AND_TRAILERS);
    assert_true(has("Endpoint-Load-Metrics: TEXT eps=1"));
    assert_true(has("ENDPOINT-load-metrics: TEXT cpu_utilization=.25"));
    assert_true(has("Endpoint-Load-Metrics-Bin: CQAAAAAAAOg/"));
    assert_int_equal(said().reports, 2);
    end();
}

static void
head_and_trailers_are_heard_in_a_pool_that_learns(void **state)
{
    begin("resource", false, HEAD_AND_TRAILERS);
    assert_int_equal(said().reports, 2);
    assert_int_equal(said().refused, 0);
    brains_drain(fleet_brains(p.s.fleet));
    /* the trailers' is told when it came 10 ms later */
    assert_true(said().cpu == .25 || said().cpu == .75);
    end();
}

static void
nonsense_is_counted_and_kept_from_clients_too(void **state)
{
    begin("resource", false,
          "HTTP/1.1 200 OK\r\nendpoint-load-metrics: TEXT cpu_utilization=-3\r\n"
          "Content-Length: 5\r\n\r\nhello");
    assert_false(has("endpoint-load-metrics"));
    assert_int_equal(said().reports, 0);
    assert_int_equal(said().refused, 1);
    assert_string_equal(said().why, "negative value");
    end();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reports_are_kept_from_clients_whatever_the_policy),
        cmocka_unit_test(a_pool_may_pass_them_on),
        cmocka_unit_test(head_and_trailers_are_heard_in_a_pool_that_learns),
        cmocka_unit_test(nonsense_is_counted_and_kept_from_clients_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
