/* SPDX-License-Identifier: BSD-2-Clause
 *
 * keeper_test.c - addresses of a process that dies, hangs or ends in order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "control/keeper.h"
#include "io/netlink_harness.h"

#define EVERY (20 * MC_MS)
#define VIP   "192.0.2.10/32"

static bool namespaces;

/* --- silence --- */

static void
a_tick_ends_the_silence(void **state)
{
    struct keeper_silence s = {.looked_ns = 0};

    assert_int_equal(keeper_look(&s, 20 * MC_MS, 0, EVERY), 20 * MC_MS);
    assert_int_equal(keeper_look(&s, 40 * MC_MS, 0, EVERY), 40 * MC_MS);
    assert_int_equal(keeper_look(&s, 60 * MC_MS, 1, EVERY), 0);
    assert_int_equal(keeper_look(&s, 80 * MC_MS, 1, EVERY), 20 * MC_MS);
}

/* Ten seconds in which nobody ran say nothing of the balancer. */
static void
a_machine_that_stood_still_is_no_silence(void **state)
{
    struct keeper_silence s = {.looked_ns = 0};

    assert_int_equal(keeper_look(&s, 20 * MC_MS, 0, EVERY), 20 * MC_MS);
    assert_int_equal(keeper_look(&s, 10 * MC_SEC, 0, EVERY), 60 * MC_MS);
    assert_int_equal(keeper_look(&s, 10 * MC_SEC + 20 * MC_MS, 1, EVERY), 0);
}

/* --- addresses --- */

static enum netlink_owner
owner(void)
{
    struct addr_net net = netlink_harness_net(VIP);
    enum netlink_owner out;
    struct netlink nl;

    assert_int_equal(netlink_open(&nl, NULL), MC_OK);
    assert_int_equal(netlink_addr_owner(&nl, if_nametoindex("lo"), &net, &out, NULL), MC_OK);
    netlink_close(&nl);
    return out;
}

static void
wait_for_owner(enum netlink_owner wanted)
{
    for (unsigned i = 0; owner() != wanted; i++) {
        assert_true(i < 10000);
        poll(NULL, 0, 2);
    }
}

static void
add(void)
{
    struct addr_net net = netlink_harness_net(VIP);
    struct netlink nl;

    assert_int_equal(netlink_open(&nl, NULL), MC_OK);
    assert_int_equal(netlink_addr_add(&nl, if_nametoindex("lo"), &net, NULL), MC_OK);
    netlink_close(&nl);
}

static struct keeper *
start(mc_ns stall_ns)
{
    struct addr_net net = netlink_harness_net(VIP);
    struct privs privs = {.wanted = false};
    struct keeper *k;

    assert_int_equal(keeper_start(&privs, stall_ns, &k, NULL), MC_OK);
    keeper_hold(k, 3, if_nametoindex("lo"), &net);
    add();
    return k;
}

/* A process that carries the address and does nothing more; its id. */
static pid_t
balancer(mc_ns stall_ns)
{
    pid_t pid = fork();

    if (pid == 0) {
        struct keeper *k = start(stall_ns);

        while (true) {
            poll(NULL, 0, (int)(keeper_tick_every(k) / MC_MS));
            keeper_tick(k);
        }
    }
    wait_for_owner(NETLINK_OURS);
    return pid;
}

static void
a_killed_process_loses_its_address(void **state)
{
    pid_t pid;

    if (!namespaces)
        skip();
    pid = balancer(3600 * MC_SEC);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    wait_for_owner(NETLINK_NOBODY);
}

static void
a_stopped_process_loses_its_address(void **state)
{
    pid_t pid;

    if (!namespaces)
        skip();
    pid = balancer(2 * MC_SEC);
    kill(pid, SIGSTOP);
    wait_for_owner(NETLINK_NOBODY);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void
the_process_learns_what_was_taken(void **state)
{
    struct keeper *k;

    if (!namespaces)
        skip();
    k = start(100 * MC_MS);
    assert_false(keeper_took(k, 3));
    wait_for_owner(NETLINK_NOBODY); /* nobody ticks */
    while (!keeper_took(k, 3))
        poll(NULL, 0, 1);
    assert_false(keeper_took(k, 3));
    keeper_stop(&k);
}

static mc_ns
now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (mc_ns)t.tv_sec * MC_SEC + t.tv_nsec;
}

/* As a process that took its time to start: the keeper knows it as silent by then. */
static void
silence_before_something_is_held_does_not_count(void **state)
{
    struct addr_net net = netlink_harness_net(VIP);
    const mc_ns stall_ns = 2 * MC_SEC;
    bool there;
    struct keeper *k;
    mc_ns since;

    if (!namespaces)
        skip();
    k = start(stall_ns);
    wait_for_owner(NETLINK_NOBODY);
    while (!keeper_took(k, 3))
        poll(NULL, 0, 1);
    since = now_ns();
    keeper_hold(k, 3, if_nametoindex("lo"), &net);
    add();
    poll(NULL, 0, 500); /* in which the keeper looks twice */
    there = owner() == NETLINK_OURS;
    assert_true(there || now_ns() - since >= stall_ns);
    wait_for_owner(NETLINK_NOBODY);
    keeper_stop(&k);
}

static void
who_says_that_he_is_busy_has_time(void **state)
{
    struct keeper *k;

    if (!namespaces)
        skip();
    k = start(1 * MC_SEC);
    keeper_busy(k, true);
    poll(NULL, 0, 1500);
    assert_int_equal(owner(), NETLINK_OURS);
    keeper_busy(k, false);
    wait_for_owner(NETLINK_NOBODY);
    keeper_stop(&k);
}

static void
after_an_orderly_end_nothing_is_removed(void **state)
{
    struct addr_net net = netlink_harness_net(VIP);
    struct netlink nl;
    struct keeper *k;

    if (!namespaces)
        skip();
    k = start(3600 * MC_SEC);
    keeper_stop(&k); /* which waits for it to end */
    assert_int_equal(owner(), NETLINK_OURS);
    assert_int_equal(netlink_open(&nl, NULL), MC_OK);
    assert_int_equal(netlink_addr_del(&nl, if_nametoindex("lo"), &net, NULL), MC_OK);
    netlink_close(&nl);
}

static void
a_dropped_address_is_left_alone(void **state)
{
    struct keeper *k;

    if (!namespaces)
        skip();
    k = start(100 * MC_MS);
    keeper_drop(k, 3);
    poll(NULL, 0, 300);
    if (!keeper_took(k, 3)) /* else it was faster than we were */
        assert_int_equal(owner(), NETLINK_OURS);
    keeper_stop(&k);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tick_ends_the_silence),
        cmocka_unit_test(a_machine_that_stood_still_is_no_silence),
        cmocka_unit_test(a_killed_process_loses_its_address),
        cmocka_unit_test(a_stopped_process_loses_its_address),
        cmocka_unit_test(the_process_learns_what_was_taken),
        cmocka_unit_test(silence_before_something_is_held_does_not_count),
        cmocka_unit_test(who_says_that_he_is_busy_has_time),
        cmocka_unit_test(after_an_orderly_end_nothing_is_removed),
        cmocka_unit_test(a_dropped_address_is_left_alone),
    };

    namespaces = netlink_harness_enter();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
