/* SPDX-License-Identifier: BSD-2-Clause
 *
 * topology_test.c - what a topology file means, and what is said about a broken one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "lab/topology.h"
#include "lab/topology_priv.h"

#define NET           "network \"front\" { }\n"
#define HOST          "host \"a\" { role = \"server\" link \"front\" { address = \"10.0.0.1/24\" } }\n"
#define REST          NET HOST
#define HOST_WITH(s)  "host \"b\" {\n role = \"client\"\n" s "\n}\n" REST
#define LINK_WITH(s)  HOST_WITH(" link \"front\" { " s " }")
#define START_WITH(s) HOST_WITH(" start \"p\" { command = \"true\" " s " }")

static char *
faults_of(const char *text)
{
    struct conf_faults faults = {0};
    struct topology *t;
    struct buf b = {0};

    topology_parse("t", str_of(text), &t, &faults);
    conf_faults_text(&faults, &b);
    assert_int_equal(t == NULL, faults.n_errors > 0);
    topology_free(&t);
    conf_faults_free(&faults);
    buf_add(&b, "", 0);
    return b.p;
}

static struct topology *
good(const char *text)
{
    struct conf_faults faults = {0};
    struct topology *t;
    struct buf b = {0};

    if (topology_parse("t", str_of(text), &t, &faults) != MC_OK) {
        conf_faults_text(&faults, &b);
        fail_msg("%s", b.p);
    }
    conf_faults_free(&faults);
    return t;
}

static const struct {
    const char *text, *faults;
} broken[] = {
    {"", "t:1: no host, expected at least one: host \"client\" { role = \"client\" }\n"},
    {"hosts \"x\" { }\n" REST, "t:1: unknown option \"hosts\", expected \"host\" perhaps\n"},
    {"delay = \"1ms\"\n" REST, "t:1: unknown option \"delay\", expected in network or link\n"},
    {HOST_WITH(" rout = \"default via 10.0.0.2\""),
     "t:3: unknown option \"rout\" in host, expected \"route\" perhaps\n"},
    {"\nhost \"b\" { }\n" REST, "t:2: host \"b\": no role, expected role = \"server\"\n"},
    {"host \"b\" { role = \"servre\" }\n" REST,
     "t:1: role: \"servre\", expected client, router, balancer or server\n"},
    {"role \"servers\" { }\n" REST,
     "t:1: role \"servers\", expected client, router, balancer or server\n"},
    {HOST_WITH(" link \"fronts\" { }"),
     "t:3: link \"fronts\": no such network, expected \"front\" perhaps\n"},
    {HOST_WITH(" link \"xyz\" { }"),
     "t:3: link \"xyz\": no such network, expected one that is in the file\n"},
    {LINK_WITH("address = \"10.0.0.2\""),
     "t:3: address: \"10.0.0.2\" is no address, expected one with its prefix, like 10.0.0.1/24\n"},
    {LINK_WITH("address = \"10.0.0.1/24\""),
     "t:6: address \"10.0.0.1\" is b's, expected another on network \"front\"\n"},
    {LINK_WITH("delay = 5"), "t:3: delay: \"5\" is no duration, expected 0 to 60s, like 10ms\n"},
    {LINK_WITH("delay = 61s"),
     "t:3: delay: \"61s\" is no duration, expected 0 to 60s, like 10ms\n"},
    {LINK_WITH("loss = 101%"), "t:3: loss: \"101%\" is no share, expected 0% to 100%\n"},
    {LINK_WITH("loss = 5"), "t:3: loss: \"5\" is no share, expected 0% to 100%\n"},
    {LINK_WITH("bandwidth = 100"), "t:3: bandwidth: \"100\" is no bandwidth, expected 8kbit to "
                                   "1000gbit, like 100mbit\n"},
    {HOST_WITH(" cpu = \"0%\""),
     "t:3: cpu: \"0%\" is no share of a core, expected one like 50% or 200%\n"},
    {HOST_WITH(" memory = \"much\""),
     "t:3: memory: \"much\" is no size, expected one like 256MiB\n"},
    {HOST_WITH(" sysctl = \"kernel.panic=1\""),
     "t:3: sysctl: \"kernel.panic=1\", expected net.NAME=VALUE\n"},
    {HOST_WITH(" sysctl = \"net.../x=1\""),
     "t:3: sysctl: \"net.../x=1\", expected net.NAME=VALUE\n"},
    {HOST_WITH(" start \"p\" { }"),
     "t:3: start \"p\": no command, expected command = \"meercat serve -c {dir}/lb.conf\"\n"},
    {START_WITH("port = 0"), "t:3: port: \"0\" is no port, expected 1 to 65535\n"},
    {START_WITH("by-hand = maybe"), "t:3: by-hand: \"maybe\", expected yes or no\n"},
    {HOST_WITH(" file \"x\" { from = \"y\" mode = 999 }"),
     "t:3: mode: \"999\" is no mode, expected octal permission bits, like 0640\n"},
    {HOST_WITH(" file \"x\" { }"), "t:3: file \"x\": no from, expected from = \"lb.conf\"\n"},
    {HOST_WITH(" route = \"default via {a.back}\""),
     "t:3: route: {a.back}: a has no address on \"back\", expected one\n"},
    {HOST_WITH(" route = \"default via {c.front}\""),
     "t:3: route: {c.front}: no host \"c\", expected one\n"},
    {START_WITH("ready = \"test -e {dirr}/x\""),
     "t:3: ready: {dirr} is unknown, expected {dir} perhaps\n"},
    {"prepare = \"echo {host}\"\n" REST,
     "t:1: prepare: {host} is a host's, expected {lab}, {here} or {meercat}\n"},
    {"network \"toolongforanyifname\" { }\n" REST,
     "t:1: network \"toolongforanyifname\": expected at most 15 letters, interfaces have its "
     "name\n"},
    {"network \"lo\" { }\n" REST, "t:1: network \"lo\": expected another name, this one has a "
                                  "meaning\n"},
    {"host \"a.b\" { role = \"client\" }\n" REST,
     "t:1: host \"a.b\": expected a name that begins with a letter and has no dot\n"},
    {"host \"front\" { role = \"client\" }\n" REST,
     "t:1: host \"front\" has the name of a network, expected another\n"},
    {HOST_WITH(" link \"front\" { }\n link \"front\" { }"),
     "t:4: link \"front\" is given twice, expected once (first on line 3)\n"},
};

static void
each_fault_is_told_with_its_line(void **state)
{
    for (size_t i = 0; i < MC_COUNT(broken); i++) {
        char *said = faults_of(broken[i].text);

        assert_string_equal(said, broken[i].faults);
        free(said);
    }
}

static void
all_faults_of_a_file_are_told_in_one_run(void **state)
{
    char *said = faults_of("network \"front\" { loss = 7 }\n"
                           "host \"a\" {\n role = \"x\"\n start \"p\" { }\n}\n");

    assert_string_equal(said, "t:1: loss: \"7\" is no share, expected 0% to 100%\n"
                              "t:3: role: \"x\", expected client, router, balancer or server\n"
                              "t:4: start \"p\": no command, expected command = \"meercat serve -c "
                              "{dir}/lb.conf\"\n");
    free(said);
}

static void
a_host_has_what_its_role_says_and_its_own(void **state)
{
    /* the role stands behind one host and before the other */
    struct topology *t = good("host \"a\" {\n role = \"server\"\n route = \"own\"\n cpu = 50%\n"
                              " start \"p\" { command = \"mine\" }\n"
                              " file \"f\" { from = \"mine\" }\n}\n"
                              "role \"server\" {\n route = \"of all\"\n cpu = 20%\n memory = 1MiB\n"
                              " start \"p\" { command = \"of all\" port = 80 }\n"
                              " start \"q\" { command = \"more\" }\n"
                              " file \"f\" { from = \"of all\" mode = 0600 }\n}\n"
                              "host \"b\" { role = \"server\" }\n");
    const struct topology_host *a = &t->hosts[0], *b = &t->hosts[1];

    assert_int_equal(a->routes.n, 2);
    assert_string_equal(a->routes.v[0].text, "of all");
    assert_string_equal(a->routes.v[1].text, "own");
    assert_int_equal(a->routes.v[1].line, 3);
    assert_int_equal(a->cpu_ppm, 500000);
    assert_int_equal(a->memory_bytes, 1 << 20);
    assert_int_equal(a->n_starts, 2);
    assert_string_equal(a->starts[0].command.text, "mine");
    assert_int_equal(a->starts[0].at.line, 5);
    assert_int_equal(a->starts[0].port, 0);
    assert_string_equal(a->starts[1].name, "q");
    assert_int_equal(a->starts[1].at.line, 13);
    assert_int_equal(a->n_files, 1);
    assert_int_equal(a->files[0].mode, 0644);
    assert_int_equal(b->n_starts, 2);
    assert_int_equal(b->starts[0].port, 80);
    assert_int_equal(b->starts[0].within_ns, 10 * MC_SEC);
    assert_int_equal(b->files[0].mode, 0600);
    assert_int_equal(a->number, 1);
    assert_int_equal(b->number, 2);
    topology_free(&t);
}

static void
a_link_has_the_weather_of_its_network_or_its_own(void **state)
{
    struct topology *t =
        good("network \"near\" { delay = 10ms loss = 1% bandwidth = 10mbit }\n"
             "network \"far\" { }\n"
             "host \"a\" { role = \"client\"\n"
             " link \"near\" { loss = 0% }\n link \"far\" { bandwidth = 1.5GBIT }\n}\n");
    const struct topology_weather *n = &t->hosts[0].links[0].weather;
    const struct topology_weather *m = &t->hosts[0].links[1].weather;

    assert_int_equal(n->delay_ns, 10 * MC_MS);
    assert_int_equal(n->loss_ppm, 0);
    assert_int_equal(n->bits_per_s, 10000000);
    assert_int_equal(m->delay_ns, 0);
    assert_int_equal(m->loss_ppm, 0);
    assert_int_equal(m->bits_per_s, 1500000000);
    topology_free(&t);
}

static void
names_are_found(void **state)
{
    struct topology *t = good(REST);

    assert_ptr_equal(topology_host_find(t, STR("a")), &t->hosts[0]);
    assert_null(topology_host_find(t, STR("b")));
    assert_int_equal(topology_network_find(t, STR("front")), 0);
    assert_int_equal(topology_network_find(t, STR("back")), TOPOLOGY_NETWORKS_MAX);
    assert_ptr_equal(topology_link_find(&t->hosts[0], 0), &t->hosts[0].links[0]);
    assert_null(topology_link_find(&t->hosts[0], TOPOLOGY_NETWORKS_MAX));
    topology_free(&t);
}

static void
more_hosts_than_can_be_are_a_fault(void **state)
{
    struct buf b = {0};
    char *said;

    for (unsigned i = 0; i <= TOPOLOGY_HOSTS_MAX; i++)
        buf_printf(&b, "host \"h%u\" { role = \"client\" }\n", i);
    said = faults_of(b.p);
    assert_string_equal(said, "t:65: too many hosts, expected at most 64\n");
    free(said);
    buf_free(&b);
}

/* Unit tests run at the top of the source. */
static void
the_topologies_that_come_with_it_are_good(void **state)
{
    static const char *const paths[] = {"lab/small.conf", "lab/three.conf", "lab/bgp.conf",
                                        "lab/vrrp.conf", "lab/flat.conf"};

    for (unsigned i = 0; i < MC_COUNT(paths); i++) {
        struct conf_faults faults = {0};
        struct topology *t;
        struct buf b = {0};

        if (topology_load(paths[i], &t, &faults) != MC_OK) {
            conf_faults_text(&faults, &b);
            fail_msg("%s", b.p);
        }
        conf_faults_free(&faults);
        topology_free(&t);
    }
}

static void
the_manual_has_the_keys_of_the_program(void **state)
{
    struct buf page = {0}, keys = {0};

    assert_true(file_load("man/meercat-lab.8", 1 << 20, &page));
    topology_keys_mdoc(&keys);
    /* man/update puts them there */
    assert_non_null(strstr(page.p, keys.p));
    buf_free(&page);
    buf_free(&keys);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_fault_is_told_with_its_line),
        cmocka_unit_test(all_faults_of_a_file_are_told_in_one_run),
        cmocka_unit_test(a_host_has_what_its_role_says_and_its_own),
        cmocka_unit_test(a_link_has_the_weather_of_its_network_or_its_own),
        cmocka_unit_test(names_are_found),
        cmocka_unit_test(more_hosts_than_can_be_are_a_fault),
        cmocka_unit_test(the_topologies_that_come_with_it_are_good),
        cmocka_unit_test(the_manual_has_the_keys_of_the_program),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
