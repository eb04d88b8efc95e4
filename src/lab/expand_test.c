/* SPDX-License-Identifier: BSD-2-Clause
 *
 * expand_test.c - what stands in braces.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "lab/expand.h"

static struct topology *topology;

static int
setup(void **state)
{
    struct conf_faults faults = {0};

    return topology_parse(
        "t",
        STR("network \"front\" { }\nnetwork \"empty\" { }\n"
            "host \"lb1\" { role = \"balancer\" link \"front\" { address = {\"10.0.0.1/24\", "
            "\"10.0.0.9/24\"} } link \"empty\" { } }\n"
            "host \"lb2\" { role = \"balancer\" link \"front\" { address = \"fd00::2/64\" } }\n"),
        &topology, &faults);
}

static int
teardown(void **state)
{
    topology_free(&topology);
    return 0;
}

static struct expand
of(unsigned host)
{
    return (struct expand){topology, &topology->hosts[host], "/d", "/l", "/h", "/bin/meercat"};
}

static void
words_in_braces_are_replaced_and_nothing_else(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"", ""},
        {"plain", "plain"},
        {"{host} {n} {dir} {lab} {here} {meercat}", "lb2 2 /d /l /h /bin/meercat"},
        {"{host.front}:80", "fd00::2:80"},
        {"{lb1.front}", "10.0.0.1"},
        {"bind = {\"{lb1.front}:80\"}", "bind = {\"10.0.0.1:80\"}"},
        {"{ host } {} {\"x\"} {a b} {", "{ host } {} {\"x\"} {a b} {"},
        {"{{host}}", "{lb2}"},
        {"[0-9]{2} {24,32}", "[0-9]{2} {24,32}"},
        {"{host", "{host"},
    };
    const struct expand x = of(1);

    for (size_t i = 0; i < MC_COUNT(cases); i++) {
        struct buf out = {0};
        struct errbuf e;
        size_t offset;

        assert_int_equal(expand(&x, str_of(cases[i].text), &out, &offset, &e), MC_OK);
        assert_string_equal(out.p ? out.p : "", cases[i].want);
        buf_free(&out);
    }
}

static void
what_is_unknown_is_named_with_its_place(void **state)
{
    static const struct {
        const char *text, *want;
        size_t offset;
    } cases[] = {
        {"a {hosst}", "{hosst} is unknown, expected {host} perhaps", 2},
        {"{xyzzyx}",
         "{xyzzyx} is unknown, expected {HOST.NETWORK} or one of {host}, {n}, {dir}, {lab}, "
         "{here}, "
         "{meercat}",
         0},
        {"{host} {lb3.front}", "{lb3.front}: no host \"lb3\"", 7},
        {"{lb1.back}", "{lb1.back}: lb1 has no address on \"back\"", 0},
        {"{lb1.empty}", "{lb1.empty}: lb1 has no address on \"empty\"", 0},
    };
    const struct expand x = of(0);

    for (size_t i = 0; i < MC_COUNT(cases); i++) {
        struct buf out = {0};
        struct errbuf e;
        size_t offset;

        assert_int_equal(expand(&x, str_of(cases[i].text), &out, &offset, &e), MC_ENOENT);
        assert_string_equal(e.text, cases[i].want);
        assert_int_equal(offset, cases[i].offset);
        buf_free(&out);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_in_braces_are_replaced_and_nothing_else),
        cmocka_unit_test(what_is_unknown_is_named_with_its_place),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
