/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What a process leaves to the next, read: what is unknown, wrong, missing or named twice.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "control/heritage.h"
#include "takeover/takeover.h"

#define N_FDS 4

static int fds[N_FDS]; /* the JSON, and three that something can be told of */

static bool
is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static struct heritage *
heritage_of(const char *json, struct errbuf *e)
{
    struct heritage *h = NULL;

    fds[0] = memfd_create("test", MFD_CLOEXEC);
    assert_int_equal(write(fds[0], json, strlen(json)), (ssize_t)strlen(json));
    lseek(fds[0], 0, SEEK_SET);
    for (unsigned i = 1; i < N_FDS; i++)
        fds[i] = memfd_create("other", MFD_CLOEXEC);
    if (heritage_read(fds, N_FDS, &h, e) != MC_OK)
        assert_null(h);
    return h;
}

static struct addr
addr(const char *text)
{
    struct addr a;

    assert_int_equal(addr_parse(str_of(text), &a, NULL, NULL, NULL), MC_OK);
    return a;
}

static void
what_is_not_ours_is_refused_and_closed(void **state)
{
    static const struct {
        const char *json, *why;
    } cases[] = {
        {"", "cannot be read"},
        {"{\"version\": 1", "cannot be read"},
        {"[1]", "no object"},
        {"{}", "of version 0, this release reads 1"},
        {"{\"version\": 2, \"release\": \"9\"}", "of version 2, this release reads 1"},
        {"{\"version\": 1, \"version\": 1}", "cannot be read"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct errbuf e = {""};

        assert_null(heritage_of(cases[i].json, &e));
        assert_non_null(strstr(e.text, cases[i].why));
        for (unsigned k = 0; k < N_FDS; k++)
            assert_false(is_open(fds[k]));
    }
}

static void
a_descriptor_goes_to_who_takes_it_first_and_the_rest_is_closed(void **state)
{
    struct heritage *h =
        heritage_of("{\"version\": 1, \"new\": {\"thing\": 7},"
                    " \"access_log\": {\"file\": \"/a\", \"fd\": 1, \"colour\": \"red\"},"
                    " \"admin\": [{\"address\": \"127.0.0.1:1\", \"socket\": 1},"
                    "             {\"address\": \"unix:/x\", \"socket\": 2}]}",
                    NULL);
    struct addr tcp = addr("127.0.0.1:1"), local = addr("unix:/x"), other = addr("unix:/y");

    assert_int_equal(heritage_access_log(h, "/b"), -1);
    assert_int_equal(heritage_access_log(h, "/a"), fds[1]);
    assert_int_equal(heritage_access_log(h, "/a"), -1);
    assert_int_equal(heritage_admin(h, &tcp), -1); /* has gone */
    assert_int_equal(heritage_admin(h, &other), -1);
    assert_int_equal(heritage_admin(h, &local), fds[2]);
    heritage_free(&h);
    assert_true(is_open(fds[1]) && is_open(fds[2]));
    assert_false(is_open(fds[0]) || is_open(fds[3]));
    close(fds[1]);
    close(fds[2]);
}

static void
numbers_that_name_nothing_are_nothing(void **state)
{
    static const char *const numbers[] = {"0", "-1", "4", "1e300", "\"1\"", "null", "[1]"};
    char json[128];

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        struct heritage *h;

        snprintf(json, sizeof(json),
                 "{\"version\": 1, \"access_log\": {\"file\": \"/a\", \"fd\": %s}}", numbers[i]);
        h = heritage_of(json, NULL);
        assert_int_equal(heritage_access_log(h, "/a"), -1);
        heritage_free(&h);
    }
}

static void
members_of_other_kinds_are_passed_over(void **state)
{
    struct heritage *h = heritage_of("{\"version\": 1, \"listeners\": 5, \"admin\": {}, "
                                     "\"access_log\": [], \"cluster\": \"x\", \"tickets\": 7, "
                                     "\"costs\": [1], \"servers\": {\"pool\": 1}, "
                                     "\"takeover\": {\"bind\": 1, \"peers\": {}}}",
                                     NULL);
    struct addr a = addr("127.0.0.1:1");
    struct cluster_heritage c;
    struct takeover_heritage t;
    struct keyfile secret;
    struct buf words = {0};

    assert_int_equal(heritage_admin(h, &a), -1);
    assert_int_equal(heritage_access_log(h, "/a"), -1);
    assert_false(heritage_cluster(h, &a, &c));
    assert_null(heritage_member(h, 0));
    assert_false(heritage_secret(h, &secret));
    heritage_takeover(h, &a, &t);
    assert_true(t.udp == -1 && t.tcp == -1 && t.n_peers == 0);
    heritage_words(h, &words);
    assert_int_equal(words.n, 0);
    heritage_free(&h);
}

static void
of_a_cluster_both_sockets_are_needed(void **state)
{
    struct heritage *h = heritage_of("{\"version\": 1, \"cluster\": {\"bind\": \"127.0.0.1:1\", "
                                     "\"udp\": 1, \"tcp\": 2, \"incarnation\": 17, "
                                     "\"members\": [\"127.0.0.1:2\", 5], \"words\": [\"a\", 1]}}",
                                     NULL);
    struct addr a = addr("127.0.0.1:1"), other = addr("127.0.0.1:2");
    struct cluster_heritage c;

    assert_false(heritage_cluster(h, &other, &c));
    assert_true(heritage_cluster(h, &a, &c));
    assert_true(c.udp == fds[1] && c.tcp == fds[2] && c.incarnation == 17);
    assert_string_equal(heritage_member(h, 0), "127.0.0.1:2");
    assert_null(heritage_member(h, 1));
    assert_false(heritage_cluster(h, &a, &c));
    heritage_free(&h);
    close(fds[1]);
    close(fds[2]);
}

static void
of_takeover_peers_are_known_wherever_its_sockets_were(void **state)
{
    struct heritage *h = heritage_of(
        "{\"version\": 1, \"takeover\": {\"bind\": \"127.0.0.1:1\", \"udp\": 1, \"tcp\": 2, "
        "\"peers\": [{\"id\": -2, \"address\": \"10.0.0.2:7711\"}, {\"id\": 0, \"address\": "
        "\"10.0.0.3:7711\"}, {\"id\": 3, \"address\": \"unix:/x\"}, 7, {\"id\": 4}]}}",
        NULL);
    struct addr a = addr("127.0.0.1:1"), other = addr("127.0.0.1:2"), peer = addr("10.0.0.2:7711");
    struct takeover_heritage t;

    heritage_takeover(h, &other, &t);
    assert_true(t.udp == -1 && t.tcp == -1);
    assert_int_equal(t.n_peers, 1);
    assert_true(t.peer[0].id == UINT64_MAX - 1 && addr_eq(&t.peer[0].addr, &peer));
    heritage_takeover(h, &a, &t);
    assert_true(t.udp == fds[1] && t.tcp == fds[2] && t.n_peers == 1);
    heritage_takeover(h, &a, &t);
    assert_true(t.udp == -1 && t.tcp == -1);
    heritage_free(&h);
    close(fds[1]);
    close(fds[2]);
}

static void
who_inherits_nothing_finds_nothing(void **state)
{
    struct heritage *h = NULL;
    struct addr a = addr("127.0.0.1:1");
    struct takeover_heritage t;

    assert_int_equal(heritage_admin(NULL, &a), -1);
    assert_int_equal(heritage_access_log(NULL, "/a"), -1);
    assert_null(heritage_member(NULL, 0));
    heritage_takeover(NULL, &a, &t);
    assert_true(t.udp == -1 && t.tcp == -1 && t.n_peers == 0);
    heritage_binds(NULL, NULL);
    heritage_costs(NULL, NULL);
    heritage_servers(NULL, NULL);
    heritage_free(&h);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_ours_is_refused_and_closed),
        cmocka_unit_test(a_descriptor_goes_to_who_takes_it_first_and_the_rest_is_closed),
        cmocka_unit_test(numbers_that_name_nothing_are_nothing),
        cmocka_unit_test(members_of_other_kinds_are_passed_over),
        cmocka_unit_test(of_a_cluster_both_sockets_are_needed),
        cmocka_unit_test(of_takeover_peers_are_known_wherever_its_sockets_were),
        cmocka_unit_test(who_inherits_nothing_finds_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
