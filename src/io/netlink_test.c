/* SPDX-License-Identifier: BSD-2-Clause
 *
 * netlink_test.c - addresses come, go, and are known again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <stdio.h>

#include "io/netlink_harness.h"

static struct netlink nl;
static unsigned lo;

static enum netlink_owner
owner(const char *text)
{
    struct addr_net net = netlink_harness_net(text);
    enum netlink_owner out;

    assert_int_equal(netlink_addr_owner(&nl, lo, &net, &out, NULL), MC_OK);
    return out;
}

static enum mc_err
add(const char *text)
{
    struct addr_net net = netlink_harness_net(text);

    return netlink_addr_add(&nl, lo, &net, NULL);
}

static enum mc_err
del(const char *text)
{
    struct addr_net net = netlink_harness_net(text);

    return netlink_addr_del(&nl, lo, &net, NULL);
}

static void
addresses_come_and_go(void **state)
{
    static const char *const texts[] = {"192.0.2.10/32", "192.0.2.129/25", "2001:db8::10/128"};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_int_equal(owner(texts[i]), NETLINK_NOBODY);
        assert_int_equal(del(texts[i]), MC_ENOENT);
        assert_int_equal(add(texts[i]), MC_OK);
        assert_int_equal(owner(texts[i]), NETLINK_OURS);
        assert_int_equal(add(texts[i]), MC_EEXIST);
        assert_int_equal(del(texts[i]), MC_OK);
        assert_int_equal(owner(texts[i]), NETLINK_NOBODY);
    }
}

static void
what_others_put_there_is_theirs(void **state)
{
    assert_int_equal(owner("127.0.0.1/8"), NETLINK_OTHERS);
    assert_int_equal(owner("::1/128"), NETLINK_OTHERS);
    assert_int_equal(owner("127.0.0.1/32"), NETLINK_NOBODY);
}

static void
many_addresses_are_looked_through(void **state)
{
    char text[32];

    for (unsigned i = 0; i < 600; i++) {
        snprintf(text, sizeof(text), "10.9.%u.%u/32", i / 200, 1 + i % 200);
        assert_int_equal(add(text), MC_OK);
    }
    assert_int_equal(owner("10.9.2.200/32"), NETLINK_OURS);
    assert_int_equal(owner("10.9.2.201/32"), NETLINK_NOBODY);
    for (unsigned i = 0; i < 600; i++) {
        snprintf(text, sizeof(text), "10.9.%u.%u/32", i / 200, 1 + i % 200);
        assert_int_equal(del(text), MC_OK);
    }
}

static bool
is_local(const char *text)
{
    struct addr_net net = netlink_harness_net(text);
    bool out;

    assert_int_equal(netlink_is_local(&nl, &net.base, &out, NULL), MC_OK);
    return out;
}

/* The kernel makes the route to an IPv6 address a moment later. */
static bool
becomes_local(const char *text)
{
    for (unsigned ms = 0; ms < 10000; ms++) {
        if (is_local(text))
            return true;
        usleep(1000);
    }
    return false;
}

static void
what_is_local_is_known(void **state)
{
    static const char *const texts[] = {"192.0.2.10/32", "2001:db8::10/128"};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct addr_net net = netlink_harness_net(texts[i]);

        assert_false(is_local(texts[i]));
        assert_int_equal(add(texts[i]), MC_OK);
        assert_true(becomes_local(texts[i]));
        assert_int_equal(del(texts[i]), MC_OK);
        assert_false(is_local(texts[i]));
        assert_int_equal(netlink_local_add(&nl, &net, NULL), MC_OK);
        assert_true(is_local(texts[i]));
        assert_int_equal(netlink_local_del(&nl, &net, NULL), MC_OK);
        assert_false(is_local(texts[i]));
    }
}

static void
an_interface_that_is_not_there_is_an_error(void **state)
{
    struct addr_net net = netlink_harness_net("192.0.2.10/32");
    struct errbuf e;

    assert_int_equal(netlink_addr_add(&nl, 4711, &net, &e), MC_ESYS);
    assert_int_equal(netlink_addr_del(&nl, 4711, &net, &e), MC_ENOENT);
}

static void
expect_news(struct netlink *heard)
{
    assert_true(netlink_has_news(heard));
    assert_false(netlink_has_news(heard));
}

/* First of all: what the kernel says later of IPv6 addresses would be news, too. */
static void
changes_are_news_once(void **state)
{
    struct netlink heard;

    assert_int_equal(netlink_listen(&heard, &(struct errbuf){""}), MC_OK);
    netlink_has_news(&heard); /* lo has just come up */
    assert_int_equal(add("192.0.2.10/32"), MC_OK);
    expect_news(&heard);
    assert_int_equal(add("192.0.2.10/32"), MC_EEXIST);
    assert_false(netlink_has_news(&heard));
    assert_int_equal(del("192.0.2.10/32"), MC_OK);
    expect_news(&heard);
    netlink_close(&heard);
}

static void
more_changes_than_are_kept_are_news(void **state)
{
    struct netlink heard;
    int least = 1;

    assert_int_equal(netlink_listen(&heard, &(struct errbuf){""}), MC_OK);
    assert_int_equal(setsockopt(heard.fd, SOL_SOCKET, SO_RCVBUF, &least, sizeof(least)), 0);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(add("192.0.2.10/32"), MC_OK);
        assert_int_equal(del("192.0.2.10/32"), MC_OK);
    }
    expect_news(&heard); /* the error is read first, what was kept then */
    assert_int_equal(add("192.0.2.10/32"), MC_OK);
    expect_news(&heard);
    assert_int_equal(del("192.0.2.10/32"), MC_OK);
    netlink_close(&heard);
}

static int
enter(void **state)
{
    struct errbuf e;

    lo = if_nametoindex("lo");
    return netlink_open(&nl, &e) == MC_OK && netlink_allowed(&e) ? 0 : -1;
}

static int
leave(void **state)
{
    netlink_close(&nl);
    return 0;
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes_are_news_once),
        cmocka_unit_test(more_changes_than_are_kept_are_news),
        cmocka_unit_test(addresses_come_and_go),
        cmocka_unit_test(what_others_put_there_is_theirs),
        cmocka_unit_test(many_addresses_are_looked_through),
        cmocka_unit_test(what_is_local_is_known),
        cmocka_unit_test(an_interface_that_is_not_there_is_an_error),
    };

    if (!netlink_harness_enter()) {
        print_message("network namespaces are forbidden here: nothing is tested\n");
        return 0;
    }
    return cmocka_run_group_tests(tests, enter, leave);
}
