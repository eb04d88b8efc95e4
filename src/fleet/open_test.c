/* SPDX-License-Identifier: BSD-2-Clause
 *
 * open_test.c - who may be chosen: backups, panic, ejections, slow starts.
 */
#include "fleet/open.h"

#include "fleet/harness.h"

static void
set_state(unsigned i, enum health_admin admin)
{
    char name[8];

    snprintf(name, sizeof(name), "s%u", i);
    assert_int_equal(fleet_set_admin(F, "app", name, admin, "operator", NULL), MC_OK);
}

/* As an active check would. */
static void
set_checked(const struct pool *p, unsigned i, bool ok)
{
    struct entry *e = entry_of(p->servers[i]);
    struct health *h = open_begin(e);
    bool changed = false;

    for (int k = 0; k < 3; k++)
        changed |= health_check_result(h, ok, ok ? "status 200" : "refused", loop_now(L), 0);
    open_end(e, changed, loop_now(L));
}

static unsigned
n_open(const struct pool *p)
{
    unsigned n = 0;

    for (unsigned i = 0; i < p->view.n; i++)
        n += is_open(p, i);
    assert_int_equal(p->live->n_open, n); /* the count is true */
    return n;
}

static void
all_servers_are_open_at_first(void **state)
{
    struct pool_conf c = pool_of(3);
    struct pool *p;

    c.servers[2].weight = 0;
    p = adopt(&c);
    assert_true(is_open(p, 0) && is_open(p, 1) && !is_open(p, 2));
    assert_int_equal(p->view.load[0]->weight, PLACE_WEIGHT_UNIT);
    assert_int_equal(n_open(p), 2);
    assert_int_equal(*p->view.open_weight, 2 * PLACE_WEIGHT_UNIT);
    pool_free(&p);
}

static void
drained_and_maintained_servers_are_closed(void **state)
{
    struct pool_conf c = pool_of(3);
    struct pool *p = adopt(&c);

    set_state(0, HEALTH_ADMIN_DRAIN);
    set_state(1, HEALTH_ADMIN_MAINT);
    assert_true(!is_open(p, 0) && !is_open(p, 1) && is_open(p, 2));
    assert_int_equal(state_of(p, 0), HEALTH_DRAIN);
    opened = 0;
    set_state(0, HEALTH_ADMIN_READY);
    assert_true(is_open(p, 0));
    assert_int_equal(opened, 1);
    pool_free(&p);
}

static void
backups_serve_only_when_no_primary_does(void **state)
{
    struct pool_conf c = pool_of(4);
    struct pool *p;

    c.servers[2].backup = c.servers[3].backup = true;
    p = adopt(&c);
    assert_int_equal(n_open(p), 2);
    set_checked(p, 0, false);
    assert_true(is_open(p, 1) && !is_open(p, 2));
    set_state(1, HEALTH_ADMIN_DRAIN); /* the operator's word counts as well as health */
    assert_true(!is_open(p, 0) && !is_open(p, 1) && is_open(p, 2) && is_open(p, 3));
    assert_true(p->live->on_backup);
    set_checked(p, 0, true);
    assert_true(is_open(p, 0) && !is_open(p, 2));
    assert_false(p->live->on_backup);
    pool_free(&p);
}

static void
too_few_healthy_servers_are_a_panic(void **state)
{
    struct pool_conf c = pool_of(6);
    struct pool *p;

    c.panic_percent = 50;
    c.servers[5].backup = true;
    p = adopt(&c);
    set_state(4, HEALTH_ADMIN_MAINT); /* four primaries are left in the reckoning */
    set_checked(p, 0, false);
    set_checked(p, 1, false);
    assert_false(p->live->panic);
    assert_int_equal(n_open(p), 2);
    set_checked(p, 2, false);
    assert_true(p->live->panic);
    assert_int_equal(n_open(p), 4);
    assert_false(is_open(p, 4)); /* who the operator took out stays out */
    assert_false(is_open(p, 5));
    assert_int_equal(state_of(p, 2), HEALTH_DOWN); /* and the state stays the truth */
    set_checked(p, 0, true);
    assert_false(p->live->panic);
    assert_int_equal(n_open(p), 2);
    pool_free(&p);
}

static void
healthy_backups_go_before_a_panic(void **state)
{
    struct pool_conf c = pool_of(3);
    struct pool *p;

    c.panic_percent = 50;
    c.servers[2].backup = true;
    p = adopt(&c);
    set_checked(p, 0, false);
    set_checked(p, 1, false);
    assert_true(p->live->on_backup);
    assert_false(p->live->panic);
    assert_int_equal(n_open(p), 1);
    set_checked(p, 2, false);
    assert_true(p->live->panic); /* now there is nobody: all are tried */
    assert_int_equal(n_open(p), 3);
    pool_free(&p);
}

static void
without_panic_nobody_healthy_is_nobody_open(void **state)
{
    struct pool_conf c = pool_of(2);
    struct pool *p = adopt(&c);

    set_checked(p, 0, false);
    set_checked(p, 1, false);
    assert_int_equal(n_open(p), 0);
    pool_free(&p);
}

/* --- ejection -----------------------------------------------------------------------------------
 */

static struct pool *
pool_that_ejects(unsigned n, mc_ns eject_ns)
{
    struct pool_conf c = pool_of(n);

    c.health.eject_after = 5;
    c.health.eject_ns = eject_ns;
    return adopt(&c);
}

static void
failures_in_a_row_set_a_server_aside(void **state)
{
    struct pool *p = pool_that_ejects(3, 30 * MC_MS);

    fail_requests(p, 0, 4);
    server_note(p->servers[0], SERVER_OK, loop_now(L));
    fail_requests(p, 0, 4);
    assert_true(is_open(p, 0));
    fail_requests(p, 0, 1);
    assert_false(is_open(p, 0)); /* at once, without the control thread */
    assert_int_equal(state_of(p, 0), HEALTH_EJECTED);
    assert_string_equal(reason_of(p, 0), "5 failures in a row, the last: cannot be reached");
    assert_int_equal(n_open(p), 2);
    opened = 0;
    UNTIL(is_open(p, 0));
    assert_int_equal(state_of(p, 0), HEALTH_UP);
    assert_true(opened > 0);
    pool_free(&p);
}

static void
after_its_return_one_more_failure_ejects_for_longer(void **state)
{
    struct pool *p = pool_that_ejects(3, 20 * MC_MS);
    struct health h;

    fail_requests(p, 0, 5);
    UNTIL(is_open(p, 0));
    fail_requests(p, 0, 1);
    assert_false(is_open(p, 0));
    server_health_copy(p->servers[0], &h);
    assert_int_equal(h.eject_span_ns, 40 * MC_MS);
    UNTIL(is_open(p, 0));
    server_note(p->servers[0], SERVER_OK, loop_now(L));
    fail_requests(p, 0, 1); /* one success does not make up for it */
    assert_false(is_open(p, 0));
    pool_free(&p);
}

static void
a_success_and_time_clear_the_record(void **state)
{
    struct pool *p = pool_that_ejects(3, 20 * MC_MS);

    fail_requests(p, 0, 5);
    UNTIL(is_open(p, 0));
    server_note(p->servers[0], SERVER_OK, loop_now(L));
    UNTIL(atomic_load(&p->servers[0]->eject_limit) == 5);
    fail_requests(p, 0, 4);
    assert_true(is_open(p, 0));
    pool_free(&p);
}

static void
time_alone_does_not_clear_the_record(void **state)
{
    struct pool *p = pool_that_ejects(3, 10 * MC_MS);
    struct health h;

    fail_requests(p, 0, 5);
    UNTIL(is_open(p, 0));
    server_health_copy(p->servers[0], &h);
    UNTIL(loop_now(L) > h.ejected_until_ns + 3 * h.eject_span_ns);
    fail_requests(p, 0, 1);
    assert_false(is_open(p, 0));
    pool_free(&p);
}

static void
the_last_open_server_is_kept(void **state)
{
    struct pool *p = pool_that_ejects(2, MC_SEC);

    fail_requests(p, 0, 5);
    fail_requests(p, 1, 100);
    assert_false(is_open(p, 0));
    assert_true(is_open(p, 1));
    assert_int_equal(state_of(p, 1), HEALTH_UP);
    pool_free(&p);
}

static void
the_last_primary_may_go_when_a_backup_is_there(void **state)
{
    struct pool_conf c = pool_of(2);
    struct pool *p;

    c.health.eject_after = 5;
    c.servers[1].backup = true;
    p = adopt(&c);
    opened = 0;
    fail_requests(p, 0, 5);
    assert_false(is_open(p, 0));
    assert_true(is_open(p, 1)); /* called by the very worker that ejected */
    assert_true(p->live->on_backup);
    assert_int_equal(opened, 1);
    fail_requests(p, 1, 100);
    assert_true(is_open(p, 1));
    pool_free(&p);
}

static void
ejections_can_make_a_panic(void **state)
{
    struct pool_conf c = pool_of(4);
    struct pool *p;

    c.health.eject_after = 5;
    c.panic_percent = 50;
    p = adopt(&c);
    for (unsigned i = 0; i < 2; i++)
        fail_requests(p, i, 5);
    assert_int_equal(n_open(p), 2);
    fail_requests(p, 2, 5);
    assert_true(p->live->panic);
    assert_int_equal(n_open(p), 4);
    assert_int_equal(state_of(p, 2), HEALTH_EJECTED);
    fail_requests(p, 2, 100); /* is not ejected again while it serves in a panic */
    assert_int_equal(n_open(p), 4);
    pool_free(&p);
}

static void
zero_never_ejects(void **state)
{
    struct pool_conf c = pool_of(2);
    struct pool *p = adopt(&c);

    fail_requests(p, 0, 1000);
    assert_true(is_open(p, 0));
    pool_free(&p);
}

static void
a_server_outside_the_configuration_is_not_ejected(void **state)
{
    struct pool *p = pool_that_ejects(3, MC_SEC), *q;
    struct pool_conf c = pool_of(2);

    c.health.eject_after = 5;
    q = adopt(&c);
    fail_requests(p, 2, 100); /* of the former snapshot */
    assert_int_equal(state_of(p, 2), HEALTH_UP);
    assert_int_equal(n_open(q), 2);
    pool_free(&p);
    pool_free(&q);
}

/* --- slow start ---------------------------------------------------------------------------------
 */

static void
a_returning_server_grows_to_its_weight(void **state)
{
    struct pool_conf c = pool_of(2);
    struct pool *p;
    uint32_t weight, was = 0;

    c.health.slow_start_ns = 200 * MC_MS;
    c.servers[0].weight = 10;
    p = adopt(&c);
    assert_int_equal(p->view.load[0]->weight, 10 * PLACE_WEIGHT_UNIT);
    set_state(0, HEALTH_ADMIN_DRAIN);
    set_state(0, HEALTH_ADMIN_READY);
    assert_true(is_open(p, 0)); /* with a little at once */
    assert_in_range(p->view.load[0]->weight, 1, 2 * PLACE_WEIGHT_UNIT);
    while ((weight = p->view.load[0]->weight) < 10 * PLACE_WEIGHT_UNIT) {
        assert_true(weight >= was);
        was = weight;
        assert_int_equal(*p->view.open_weight, weight + PLACE_WEIGHT_UNIT);
        UNTIL(p->view.load[0]->weight != was);
    }
    assert_true(was > 2 * PLACE_WEIGHT_UNIT);                   /* in steps */
    assert_false(timer_is_set(&entry_of(p->servers[0])->tick)); /* no timer without need */
    pool_free(&p);
}

static void
the_operators_weight_is_in_force_at_once(void **state)
{
    struct pool_conf c = pool_of(2);
    struct pool *p = adopt(&c);
    struct errbuf err;

    assert_int_equal(fleet_set_weight(F, "app", "s0", 7, NULL), MC_OK);
    assert_int_equal(p->view.load[0]->weight, 7 * PLACE_WEIGHT_UNIT);
    assert_int_equal(fleet_set_weight(F, "app", "s0", 0, NULL), MC_OK);
    assert_int_equal(n_open(p), 1);
    assert_int_equal(fleet_set_weight(F, "app", "s0", 257, &err), MC_ERANGE);
    assert_string_equal(err.text, "weight 257: above 256");
    pool_free(&p);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fleet_setup, fleet_teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(all_servers_are_open_at_first),
        TEST(drained_and_maintained_servers_are_closed),
        TEST(backups_serve_only_when_no_primary_does),
        TEST(too_few_healthy_servers_are_a_panic),
        TEST(healthy_backups_go_before_a_panic),
        TEST(without_panic_nobody_healthy_is_nobody_open),
        TEST(failures_in_a_row_set_a_server_aside),
        TEST(after_its_return_one_more_failure_ejects_for_longer),
        TEST(a_success_and_time_clear_the_record),
        TEST(time_alone_does_not_clear_the_record),
        TEST(the_last_open_server_is_kept),
        TEST(the_last_primary_may_go_when_a_backup_is_there),
        TEST(ejections_can_make_a_panic),
        TEST(zero_never_ejects),
        TEST(a_server_outside_the_configuration_is_not_ejected),
        TEST(a_returning_server_grows_to_its_weight),
        TEST(the_operators_weight_is_in_force_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
