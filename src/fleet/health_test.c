/* SPDX-License-Identifier: BSD-2-Clause
 *
 * health_test.c - the states of a server, under a clock of our own.
 */
#include "fleet/health.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct health h;
static mc_ns now;

static const struct health_conf usual = {
    .check = true,
    .rise = 2,
    .fall = 3,
    .eject_after = 5,
    .eject_ns = 2 * MC_SEC,
    .eject_max_ns = 32 * MC_SEC,
};

static int
begin(void **state)
{
    now = 1000 * MC_SEC;
    health_init(&h, &usual, HEALTH_ADMIN_READY, true, now, 5);
    return 0;
}

static bool
check(bool ok)
{
    now += MC_SEC;
    return health_check_result(&h, ok, ok ? "status 200" : "connection refused", now, 7);
}

static bool
eject(void)
{
    return health_eject(&h, "5 failures in a row", now, 7);
}

static bool
tick_after(mc_ns ns)
{
    now += ns;
    return health_tick(&h, now, 7);
}

static void
a_server_is_presumed_up(void **state)
{
    assert_int_equal(h.state, HEALTH_UP);
    assert_int_equal(h.since_ns, now);
    assert_int_equal(h.since_wall_ns, 5);
    assert_int_equal(health_next(&h, now), MC_NEVER_NS);
}

static void
the_first_check_is_believed_at_once(void **state)
{
    assert_true(check(false));
    assert_int_equal(h.state, HEALTH_DOWN);
    assert_string_equal(h.reason, "connection refused");
    assert_true(check(true));
    assert_int_equal(h.state, HEALTH_UP);
}

static void
a_proven_server_falls_after_three_failures_in_a_row(void **state)
{
    check(true);
    assert_false(check(false));
    assert_false(check(false));
    assert_false(check(true));
    assert_false(check(false));
    assert_false(check(false));
    assert_int_equal(h.state, HEALTH_UP);
    assert_true(check(false));
    assert_int_equal(h.state, HEALTH_DOWN);
    assert_int_equal(h.since_ns, now);
}

static void
and_rises_after_two_successes_in_a_row(void **state)
{
    check(true);
    for (int i = 0; i < 3; i++)
        check(false);
    assert_false(check(true));
    assert_false(check(false));
    assert_false(check(true));
    assert_true(check(true));
    assert_int_equal(h.state, HEALTH_UP);
    assert_string_equal(h.reason, "status 200");
}

static void
a_server_that_is_down_tells_its_latest_failure(void **state)
{
    check(false);
    assert_false(health_check_result(&h, false, "status 503, expected 200-399", now, 7));
    assert_string_equal(h.reason, "status 503, expected 200-399");
}

static void
the_operators_word_goes_before_health(void **state)
{
    assert_true(health_set_admin(&h, HEALTH_ADMIN_DRAIN, "operator", now, 7));
    assert_int_equal(h.state, HEALTH_DRAIN);
    assert_string_equal(h.reason, "operator");
    assert_false(check(false)); /* still checked, but the state stays */
    assert_int_equal(h.state, HEALTH_DRAIN);
    assert_true(health_set_admin(&h, HEALTH_ADMIN_READY, "operator", now, 7));
    assert_int_equal(h.state, HEALTH_DOWN);
    assert_string_equal(h.reason, "connection refused");
    assert_false(health_set_admin(&h, HEALTH_ADMIN_READY, "operator", now, 7));
}

static void
after_maintenance_one_check_decides(void **state)
{
    check(true);
    health_set_admin(&h, HEALTH_ADMIN_MAINT, "operator", now, 7);
    assert_int_equal(h.state, HEALTH_MAINT);
    assert_false(check(false)); /* was under way, is not counted */
    health_set_admin(&h, HEALTH_ADMIN_READY, "operator", now, 7);
    assert_int_equal(h.state, HEALTH_UP);
    assert_true(check(false));
    assert_int_equal(h.state, HEALTH_DOWN);
}

static void
without_an_address_a_server_is_down(void **state)
{
    health_init(&h, &usual, HEALTH_ADMIN_READY, false, now, 5);
    assert_int_equal(h.state, HEALTH_DOWN);
    assert_string_equal(h.reason, "no address is known yet");
    health_set_resolved(&h, false, "cannot resolve app: not found", now, 7);
    assert_string_equal(h.reason, "cannot resolve app: not found");
    assert_true(health_set_resolved(&h, true, "address found", now, 7));
    assert_int_equal(h.state, HEALTH_UP);
}

static void
an_ejection_ends_after_its_time(void **state)
{
    assert_true(eject());
    assert_int_equal(h.state, HEALTH_EJECTED);
    assert_int_equal(health_next(&h, now), now + 2 * MC_SEC);
    assert_false(eject()); /* echoes */
    assert_false(tick_after(2 * MC_SEC - 1));
    assert_true(tick_after(1));
    assert_int_equal(h.state, HEALTH_UP);
    assert_true(health_on_probation(&h));
}

static void
each_ejection_is_twice_as_long_up_to_a_limit(void **state)
{
    static const mc_ns spans[] = {2, 4, 8, 16, 32, 32, 32};

    for (unsigned i = 0; i < sizeof(spans) / sizeof(spans[0]); i++) {
        assert_true(eject());
        assert_false(tick_after(spans[i] * MC_SEC - 1));
        assert_true(tick_after(1));
    }
}

static void
probation_ends_after_a_success_and_as_long_a_time(void **state)
{
    eject();
    tick_after(2 * MC_SEC);
    health_forgive(&h, now);
    assert_true(health_on_probation(&h));
    assert_int_equal(health_next(&h, now), now + 2 * MC_SEC);
    tick_after(2 * MC_SEC);
    assert_true(health_on_probation(&h)); /* time alone does not end it */
    assert_true(health_next(&h, now) > now);
    health_forgive(&h, now);
    assert_false(health_on_probation(&h));
    eject();
    assert_int_equal(h.ejected_until_ns, now + 2 * MC_SEC); /* from the beginning */
}

static void
down_goes_before_ejected(void **state)
{
    eject();
    assert_true(check(false));
    assert_int_equal(h.state, HEALTH_DOWN);
    assert_true(check(true));
    assert_int_equal(h.state, HEALTH_UP); /* both checks took a second: the ejection is over */
}

static void
who_comes_back_starts_slowly(void **state)
{
    struct health_conf slow = usual;

    slow.slow_start_ns = 10 * MC_SEC;
    health_init(&h, &slow, HEALTH_ADMIN_READY, true, now, 5);
    assert_true(health_ramp(&h, now) == 1); /* who was never away does not */
    check(false);
    check(true);
    assert_true(health_ramp(&h, now) == 0);
    assert_true(health_ramp(&h, now + 5 * MC_SEC) == .5);
    assert_true(health_ramp(&h, now + 10 * MC_SEC) == 1);
    assert_int_equal(health_next(&h, now), now + 200 * MC_MS);
    assert_int_equal(health_next(&h, now + 10 * MC_SEC), MC_NEVER_NS);
}

static void
a_first_address_is_no_return(void **state)
{
    struct health_conf slow = usual;

    slow.slow_start_ns = 10 * MC_SEC;
    health_init(&h, &slow, HEALTH_ADMIN_READY, false, now, 5);
    health_set_resolved(&h, true, "address found", now, 7);
    assert_true(health_ramp(&h, now) == 1);
}

static void
a_conf_of_zeros_has_defaults(void **state)
{
    static const struct health_conf zeros;

    health_init(&h, &zeros, HEALTH_ADMIN_READY, true, now, 5);
    check(true);
    check(false);
    check(false);
    assert_int_equal(h.state, HEALTH_UP);
    assert_true(check(false));
    assert_true(health_ramp(&h, now) == 1);
    for (int i = 0; i < 100; i++) {
        eject();
        assert_in_range(h.ejected_until_ns - now, 2 * MC_SEC, 32 * MC_SEC);
        tick_after(32 * MC_SEC);
    }
}

static void
who_is_not_checked_any_more_is_up(void **state)
{
    struct health_conf conf = usual;

    check(false);
    conf.check = false;
    assert_true(health_set_conf(&h, &conf, now, 7));
    assert_int_equal(h.state, HEALTH_UP);
}

static void
who_is_not_ejected_any_more_is_up(void **state)
{
    struct health_conf conf = usual;

    eject();
    conf.eject_after = 0;
    assert_true(health_set_conf(&h, &conf, now, 7));
    assert_int_equal(h.state, HEALTH_UP);
    assert_false(health_on_probation(&h));
}

static bool
agent(enum health_admin admin, bool down, const char *why)
{
    now += MC_SEC;
    return health_set_agent(&h, admin, down, why, now, 7);
}

static void
an_agent_takes_its_server_out_and_back(void **state)
{
    assert_true(agent(HEALTH_ADMIN_DRAIN, false, "agent says: drain"));
    assert_int_equal(h.state, HEALTH_DRAIN);
    assert_string_equal(h.reason, "agent says: drain");
    assert_int_equal(health_admin_now(&h), HEALTH_ADMIN_DRAIN);
    assert_false(agent(HEALTH_ADMIN_DRAIN, false, "agent says: drain"));
    assert_true(agent(HEALTH_ADMIN_READY, true, "agent says: down"));
    assert_int_equal(h.state, HEALTH_DOWN);
    assert_true(agent(HEALTH_ADMIN_READY, false, "agent says: up"));
    assert_int_equal(h.state, HEALTH_UP);
}

static void
a_server_is_up_when_checks_and_agent_say_so(void **state)
{
    assert_true(agent(HEALTH_ADMIN_READY, true, "agent says: down"));
    check(false);
    assert_string_equal(h.reason, "connection refused");
    assert_false(agent(HEALTH_ADMIN_READY, false, "agent says: up"));
    assert_int_equal(h.state, HEALTH_DOWN);
    assert_false(agent(HEALTH_ADMIN_READY, true, "agent says: fail"));
    check(true);
    check(true);
    assert_int_equal(h.state, HEALTH_DOWN);
    assert_string_equal(h.reason, "agent says: fail");
}

static void
the_word_of_the_operator_is_above_the_agents(void **state)
{
    health_set_admin(&h, HEALTH_ADMIN_MAINT, "operator", now, 7);
    assert_false(agent(HEALTH_ADMIN_READY, false, "agent says: up"));
    assert_int_equal(h.state, HEALTH_MAINT);
    assert_false(agent(HEALTH_ADMIN_DRAIN, false, "agent says: drain"));
    assert_string_equal(h.reason, "operator");
    assert_true(health_set_admin(&h, HEALTH_ADMIN_READY, "operator", now, 7));
    assert_int_equal(h.state, HEALTH_UP);
    assert_false(agent(HEALTH_ADMIN_DRAIN, false, "agent says: drain"));
    assert_true(agent(HEALTH_ADMIN_MAINT, false, "agent says: maint"));
    assert_string_equal(h.reason, "agent says: maint");
}

static void
maintenance_by_the_agent_ends_as_the_operators(void **state)
{
    check(true);
    agent(HEALTH_ADMIN_MAINT, false, "agent says: maint");
    assert_false(check(false)); /* was under way: counts for nothing */
    agent(HEALTH_ADMIN_READY, false, "agent says: up");
    assert_true(check(false)); /* the first after it decides alone */
    assert_int_equal(h.state, HEALTH_DOWN);
}

static void
long_reasons_are_cut(void **state)
{
    char why[300];

    memset(why, 'x', sizeof(why) - 1);
    why[sizeof(why) - 1] = '\0';
    health_set_admin(&h, HEALTH_ADMIN_MAINT, why, now, 7);
    assert_int_equal(strlen(h.reason), sizeof(h.reason) - 1);
    health_set_admin(&h, HEALTH_ADMIN_READY, NULL, now, 7);
    assert_string_equal(h.reason, "");
}

static void
what_another_process_knew_is_known_here(void **state)
{
    struct health was, fresh;

    check(false);
    health_set_admin(&h, HEALTH_ADMIN_DRAIN, "ann", now, 7);
    eject();
    was = h;
    begin(NULL);
    now = was.since_ns + 10 * MC_SEC;
    health_carry(&h, &was, true, now, 9);
    assert_int_equal(h.state, HEALTH_DRAIN);
    assert_string_equal(h.reason, "ann");
    assert_int_equal(h.since_wall_ns, was.since_wall_ns);
    health_set_admin(&h, HEALTH_ADMIN_READY, "ann", now, 9);
    assert_int_equal(h.state, HEALTH_DOWN);
    assert_string_equal(h.reason, "connection refused");
    check(true); /* one is enough as long as none succeeded */
    assert_int_equal(h.state, HEALTH_UP);
    assert_true(health_on_probation(&h));
    health_init(&fresh, &usual, HEALTH_ADMIN_READY, true, now, 9);
    health_carry(&fresh, &was, false, now, 9); /* the configuration said something new */
    assert_int_equal(fresh.state, HEALTH_DOWN);
}

static void
what_the_new_configuration_does_not_have_is_not_carried(void **state)
{
    struct health was, fresh;
    struct health_conf none = {.check = false, .eject_after = 0};

    check(false);
    eject();
    was = h;
    health_init(&fresh, &none, HEALTH_ADMIN_READY, true, now, 9);
    health_carry(&fresh, &was, true, now, 9);
    assert_int_equal(fresh.state, HEALTH_UP);
}

static void
what_members_had_agreed_on_is_presumed_until_a_check(void **state)
{
    struct health was;

    check(true);
    health_set_agreed(&h, false, "lb2: refused", now, 7);
    was = h;
    begin(NULL);
    health_carry(&h, &was, true, now, 9);
    assert_int_equal(h.state, HEALTH_DOWN);
    assert_string_equal(h.reason, "lb2: refused");
    check(true);
    assert_int_equal(h.state, HEALTH_UP);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_server_is_presumed_up, begin),
        cmocka_unit_test_setup(the_first_check_is_believed_at_once, begin),
        cmocka_unit_test_setup(a_proven_server_falls_after_three_failures_in_a_row, begin),
        cmocka_unit_test_setup(and_rises_after_two_successes_in_a_row, begin),
        cmocka_unit_test_setup(a_server_that_is_down_tells_its_latest_failure, begin),
        cmocka_unit_test_setup(the_operators_word_goes_before_health, begin),
        cmocka_unit_test_setup(after_maintenance_one_check_decides, begin),
        cmocka_unit_test_setup(without_an_address_a_server_is_down, begin),
        cmocka_unit_test_setup(an_ejection_ends_after_its_time, begin),
        cmocka_unit_test_setup(each_ejection_is_twice_as_long_up_to_a_limit, begin),
        cmocka_unit_test_setup(probation_ends_after_a_success_and_as_long_a_time, begin),
        cmocka_unit_test_setup(down_goes_before_ejected, begin),
        cmocka_unit_test_setup(who_comes_back_starts_slowly, begin),
        cmocka_unit_test_setup(a_first_address_is_no_return, begin),
        cmocka_unit_test_setup(a_conf_of_zeros_has_defaults, begin),
        cmocka_unit_test_setup(who_is_not_checked_any_more_is_up, begin),
        cmocka_unit_test_setup(who_is_not_ejected_any_more_is_up, begin),
        cmocka_unit_test_setup(an_agent_takes_its_server_out_and_back, begin),
        cmocka_unit_test_setup(a_server_is_up_when_checks_and_agent_say_so, begin),
        cmocka_unit_test_setup(the_word_of_the_operator_is_above_the_agents, begin),
        cmocka_unit_test_setup(maintenance_by_the_agent_ends_as_the_operators, begin),
        cmocka_unit_test_setup(long_reasons_are_cut, begin),
        cmocka_unit_test_setup(what_another_process_knew_is_known_here, begin),
        cmocka_unit_test_setup(what_the_new_configuration_does_not_have_is_not_carried, begin),
        cmocka_unit_test_setup(what_members_had_agreed_on_is_presumed_until_a_check, begin),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
