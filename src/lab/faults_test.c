/* SPDX-License-Identifier: BSD-2-Clause
 *
 * faults_test.c - which packets each fault drops: the rules are read again and played.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "lab/faults.h"

static struct topology *topology;
static struct fault_port ports[] = {
    {"p1", 0, 0, 0}, {"p2", 1, 0, 0}, {"p3", 1, 1, 0}, {"p4", 2, 0, 0}, {"p5", 2, 1, 0},
};
static struct faults faults;

static int
setup(void **state)
{
    struct conf_faults f = {0};

    return topology_parse(
        "t",
        STR("network \"front\" { }\nnetwork \"back\" { }\n"
            "host \"c\" { role = \"client\" link \"front\" { } }\n"
            "host \"lb1\" { role = \"balancer\" link \"front\" { } link \"back\" { "
            "} }\n"
            "host \"lb2\" { role = \"balancer\" link \"front\" { } link \"back\" { "
            "} }\n"),
        &topology, &f);
}

static int
teardown(void **state)
{
    topology_free(&topology);
    return 0;
}

static struct fault_target
target(const char *text)
{
    struct fault_target t;
    struct errbuf e;

    assert_int_equal(fault_target_parse(topology, str_of(text), &t, &e), MC_OK);
    return t;
}

static enum mc_err
cut(const char *a, const char *b, bool one_way, struct errbuf *e)
{
    struct fault_target other;

    if (b != NULL)
        other = target(b);
    return faults_cut(&faults, topology, target(a), b ? &other : NULL, one_way, e);
}

/* Does a rule "[iifname X] [oifname Y] drop" drop what comes from one port for another? */
static bool
drops(const char *rule, const char *from, const char *to)
{
    char in[16] = "", out[16] = "";

    if (sscanf(rule, "iifname \"%15[^\"]\" oifname \"%15[^\"]\" drop", in, out) < 2) {
        in[0] = out[0] = '\0';
        if (sscanf(rule, "iifname \"%15[^\"]\" drop", in) != 1 &&
            sscanf(rule, "oifname \"%15[^\"]\" drop", out) != 1)
            return false;
    }
    return (in[0] == '\0' || strcmp(in, from) == 0) && (out[0] == '\0' || strcmp(out, to) == 0);
}

/* Every pair of ports of one network between which nothing passes: "1>2 2>1". */
static char *
dropped(void)
{
    struct buf rules = {0}, b = {0};

    faults_rules(&faults, ports, MC_COUNT(ports), &rules);
    for (unsigned i = 0; i < MC_COUNT(ports); i++) {
        for (unsigned k = 0; k < MC_COUNT(ports); k++) {
            char *copy = mc_strdup(rules.p), *save;
            bool hit = false;

            for (char *l = strtok_r(copy, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
                hit |= drops(l, ports[i].name, ports[k].name);
            if (i != k && ports[i].network == ports[k].network && hit)
                buf_printf(&b, "%s%s>%s", b.n ? " " : "", ports[i].name + 1, ports[k].name + 1);
            free(copy);
        }
    }
    buf_free(&rules);
    buf_add(&b, "", 0);
    return b.p;
}

static void
a_cut_drops_what_it_says_and_nothing_else(void **state)
{
    static const struct {
        const char *a, *b;
        bool one_way;
        const char *want;
    } cases[] = {
        {"c", NULL, false, "1>2 1>4 2>1 4>1"},
        {"c", NULL, true, "1>2 1>4"},
        {"lb1", NULL, false, "1>2 2>1 2>4 3>5 4>2 5>3"},
        {"lb1", "lb2", false, "2>4 3>5 4>2 5>3"},
        {"lb1", "lb2", true, "2>4 3>5"},
        {"lb1", "back", false, "3>5 5>3"},
        {"lb1.back", NULL, false, "3>5 5>3"},
        {"lb1.back", "lb2", false, "3>5 5>3"},
        {"lb1", "front", true, "2>1 2>4"},
        {"front", "lb1", true, "1>2 4>2"},
        {"back", NULL, false, "3>5 5>3"},
        {"front", NULL, false, "1>2 1>4 2>1 2>4 4>1 4>2"},
    };

    for (unsigned i = 0; i < MC_COUNT(cases); i++) {
        struct errbuf e;
        char *got;

        assert_int_equal(cut(cases[i].a, cases[i].b, cases[i].one_way, &e), MC_OK);
        got = dropped();
        assert_string_equal(got, cases[i].want);
        free(got);
        faults_heal(&faults, NULL);
        got = dropped();
        assert_string_equal(got, "");
        free(got);
    }
}

static void
healing_one_leaves_the_others_cut(void **state)
{
    struct fault_target c = target("c");
    struct errbuf e;
    char *got;

    assert_int_equal(cut("c", "lb1", false, &e), MC_OK);
    assert_int_equal(cut("lb1", "lb2", false, &e), MC_OK);
    faults_heal(&faults, &c);
    got = dropped();
    assert_string_equal(got, "2>4 3>5 4>2 5>3");
    free(got);
    faults_heal(&faults, NULL);
}

static void
hosts_that_never_meet_cannot_be_cut_from_each_other(void **state)
{
    struct errbuf e;

    assert_int_equal(cut("c", "lb1.back", false, &e), MC_EINVAL);
    assert_string_equal(e.text,
                        "c and lb1.back are on no common network: cut what is between them");
    assert_int_equal(faults.n_cuts, 0);
}

static void
a_target_that_is_none_is_told_what_was_meant(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"lb3", "no host or network \"lb3\", expected \"lb1\" perhaps"},
        {"fornt", "no host or network \"fornt\", expected \"front\" perhaps"},
        {"xyzzy", "no host or network \"xyzzy\", expected HOST, NETWORK or HOST.NETWORK"},
        {"lb1.frnt", "no host or network \"frnt\", expected \"front\" perhaps"},
        {"c.back", "c has no link to back"},
        {"", "no host or network \"\", expected \"c\" perhaps"},
    };

    for (unsigned i = 0; i < MC_COUNT(cases); i++) {
        struct fault_target t;
        struct errbuf e;

        assert_int_equal(fault_target_parse(topology, str_of(cases[i].text), &t, &e), MC_ENOENT);
        assert_string_equal(e.text, cases[i].want);
    }
}

static void
losses_are_of_one_link_each_way(void **state)
{
    struct buf rules = {0};

    ports[1].loss_ppm = 5000;
    faults_rules(&faults, ports, MC_COUNT(ports), &rules);
    ports[1].loss_ppm = 0;
    assert_non_null(strstr(rules.p, "\niifname \"p2\" numgen random mod 1000000 < 5000 drop\n"
                                    "oifname \"p2\" numgen random mod 1000000 < 5000 drop\n}\n"));
    buf_free(&rules);
    ports[1].loss_ppm = 1000000;
    faults_rules(&faults, ports, MC_COUNT(ports), &rules);
    ports[1].loss_ppm = 0;
    assert_non_null(strstr(rules.p, "\niifname \"p2\" drop\noifname \"p2\" drop\n}\n"));
    buf_free(&rules);
}

static void
targets_are_written_as_they_are_read(void **state)
{
    static const char *const names[] = {"c", "front", "lb1.back"};

    for (unsigned i = 0; i < MC_COUNT(names); i++) {
        struct buf b = {0};

        fault_target_text(topology, target(names[i]), &b);
        assert_string_equal(b.p, names[i]);
        buf_free(&b);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cut_drops_what_it_says_and_nothing_else),
        cmocka_unit_test(healing_one_leaves_the_others_cut),
        cmocka_unit_test(hosts_that_never_meet_cannot_be_cut_from_each_other),
        cmocka_unit_test(a_target_that_is_none_is_told_what_was_meant),
        cmocka_unit_test(losses_are_of_one_link_each_way),
        cmocka_unit_test(targets_are_written_as_they_are_read),
    };
    int rv = cmocka_run_group_tests(tests, setup, teardown);

    faults_free(&faults);
    return rv;
}
