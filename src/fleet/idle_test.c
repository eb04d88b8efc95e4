/* SPDX-License-Identifier: BSD-2-Clause
 *
 * idle_test.c - connections kept for reuse: which one is taken, and which ones go.
 */
#include "fleet/idle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"

#define MANY 2000

static struct idle *P;
static struct server a = {.id = 0}, b = {.id = 40};
static struct idle_conn c[MANY];
static unsigned n_evicted;
static struct idle_conn *last_evicted;

static void
evicted(void *arg, struct idle_conn *conn)
{
    n_evicted++;
    last_evicted = conn;
    memset(conn, 0x5a, sizeof(*conn)); /* its owner may free it */
}

static int
begin(void **state)
{
    n_evicted = 0;
    a.addr_generation = b.addr_generation = 1;
    P = idle_new(evicted, NULL);
    return 0;
}

static int
end(void **state)
{
    idle_free(&P);
    return 0;
}

static void
put(unsigned i, struct server *s, mc_ns until, unsigned max)
{
    c[i] =
        (struct idle_conn){.server = s, .addr_generation = s->addr_generation, .until_ns = until};
    idle_put(P, &c[i], max);
}

static void
the_newest_is_taken_first(void **state)
{
    for (unsigned i = 0; i < 3; i++)
        put(i, &a, 100, 10);
    put(3, &b, 100, 10);
    assert_ptr_equal(idle_take(P, &a, 0), &c[2]);
    assert_ptr_equal(idle_take(P, &a, 0), &c[1]);
    put(1, &a, 100, 10);
    assert_ptr_equal(idle_take(P, &a, 0), &c[1]);
    assert_ptr_equal(idle_take(P, &a, 0), &c[0]);
    assert_null(idle_take(P, &a, 0));
    assert_ptr_equal(idle_take(P, &b, 0), &c[3]);
    assert_int_equal(n_evicted, 0);
}

static void
above_the_limit_the_servers_oldest_goes(void **state)
{
    put(9, &b, 100, 2);
    for (unsigned i = 0; i < 3; i++)
        put(i, &a, 100, 2);
    assert_int_equal(n_evicted, 1);
    assert_ptr_equal(last_evicted, &c[0]);
    put(4, &a, 100, 0); /* a limit of none keeps none, itself included */
    assert_int_equal(n_evicted, 4);
    assert_ptr_equal(idle_take(P, &b, 0), &c[9]);
}

static void
what_has_expired_is_not_taken(void **state)
{
    put(0, &a, 200, 10);
    put(1, &a, 100, 10);
    assert_ptr_equal(idle_take(P, &a, 100), &c[0]);
    assert_int_equal(n_evicted, 1);
}

static void
what_leads_to_an_old_address_is_not_taken(void **state)
{
    put(0, &a, 100, 10);
    put(1, &a, 100, 10);
    a.addr_generation = 2;
    put(2, &a, 100, 10);
    assert_ptr_equal(idle_take(P, &a, 0), &c[2]);
    assert_null(idle_take(P, &a, 0));
    assert_int_equal(n_evicted, 2);
}

static void
an_id_that_found_a_new_server_brings_no_old_connection(void **state)
{
    static struct server next; /* static: gcc's ASan aligns the stack to less than a cache line */

    next.id = a.id;
    next.addr_generation = 1;
    put(0, &a, 100, 10);
    assert_null(idle_take(P, &next, 0));
    assert_int_equal(n_evicted, 1);
}

static void
a_broken_one_is_out_of_the_lists(void **state)
{
    for (unsigned i = 0; i < 3; i++)
        put(i, &a, 100, 10);
    idle_drop(P, &c[1]);
    assert_ptr_equal(idle_take(P, &a, 0), &c[2]);
    assert_ptr_equal(idle_take(P, &a, 0), &c[0]);
    assert_null(idle_take(P, &a, 0));
    assert_int_equal(n_evicted, 0);
}

static void
a_sweep_takes_what_has_expired_and_tells_when_to_come_again(void **state)
{
    assert_int_equal(idle_sweep(P, 0), MC_NEVER_NS);
    put(0, &a, 300, 10);
    put(1, &b, 100, 10);
    put(2, &b, 200, 10);
    assert_int_equal(idle_sweep(P, 0), 100);
    assert_int_equal(idle_sweep(P, 100), 200);
    assert_int_equal(n_evicted, 1);
    assert_int_equal(idle_sweep(P, 250), 300);
    assert_int_equal(idle_sweep(P, 300), MC_NEVER_NS);
    assert_int_equal(n_evicted, 3);
}

static void
a_sweep_of_very_many_is_cut_into_pieces(void **state)
{
    mc_ns next, t = 1000;
    unsigned turns = 0;

    for (unsigned i = 0; i < MANY; i++)
        put(i, i % 2 ? &a : &b, i % 4 ? 5000 * MC_SEC : 500, MANY);
    while ((next = idle_sweep(P, t)) < MC_SEC) {
        assert_true(next > t);
        t = next;
        turns++;
        /* what is being looked at may go meanwhile */
        (void)idle_take(P, &a, t);
        idle_evict_oldest(P);
    }
    assert_in_range(turns, 2, 10);
    assert_int_equal(next, 5000 * MC_SEC);
    assert_true(n_evicted >= MANY / 4);
    assert_int_equal(idle_sweep(P, 6000 * MC_SEC), 6000 * MC_SEC + 5 * MC_MS);
}

static bool
keeps(void *arg, const struct server *s)
{
    return s == arg;
}

static void
after_a_reload_only_connections_to_kept_servers_stay(void **state)
{
    for (unsigned i = 0; i < 10; i++)
        put(i, i % 2 ? &a : &b, 100, 10);
    idle_retain(P, keeps, &a);
    assert_int_equal(n_evicted, 5);
    assert_null(idle_take(P, &b, 0));
    assert_ptr_equal(idle_take(P, &a, 0), &c[9]);
}

static void
the_oldest_of_all_makes_room(void **state)
{
    put(0, &b, 100, 10);
    put(1, &a, 100, 10);
    assert_true(idle_evict_oldest(P));
    assert_ptr_equal(last_evicted, &c[0]);
    assert_true(idle_evict_oldest(P));
    assert_false(idle_evict_oldest(P));
}

static void
the_end_evicts_all(void **state)
{
    put(0, &b, 100, 10);
    put(1, &a, 100, 10);
    idle_free(&P);
    assert_null(P);
    assert_int_equal(n_evicted, 2);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_newest_is_taken_first, begin, end),
        cmocka_unit_test_setup_teardown(above_the_limit_the_servers_oldest_goes, begin, end),
        cmocka_unit_test_setup_teardown(what_has_expired_is_not_taken, begin, end),
        cmocka_unit_test_setup_teardown(what_leads_to_an_old_address_is_not_taken, begin, end),
        cmocka_unit_test_setup_teardown(an_id_that_found_a_new_server_brings_no_old_connection,
                                        begin, end),
        cmocka_unit_test_setup_teardown(a_broken_one_is_out_of_the_lists, begin, end),
        cmocka_unit_test_setup_teardown(a_sweep_takes_what_has_expired_and_tells_when_to_come_again,
                                        begin, end),
        cmocka_unit_test_setup_teardown(a_sweep_of_very_many_is_cut_into_pieces, begin, end),
        cmocka_unit_test_setup_teardown(after_a_reload_only_connections_to_kept_servers_stay, begin,
                                        end),
        cmocka_unit_test_setup_teardown(the_oldest_of_all_makes_room, begin, end),
        cmocka_unit_test_setup_teardown(the_end_evicts_all, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
