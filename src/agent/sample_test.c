/* SPDX-License-Identifier: BSD-2-Clause
 *
 * sample_test.c - what is read from trees of files that look like other hosts' /proc and /sys.
 *
 * Each story works on a copy of a tree under tests/fixtures/sysfs, which its README tells of.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/cgroup.h"
#include "agent/port.h"
#include "agent/sample.h"
#include "base/check.h"
#include "base/log.h"

static char dir[] = "/tmp/meercat-agent-XXXXXX";
static char root[sizeof(dir) + 16];
static struct sampler *S;
static struct sample before, now;
static struct place_report r;
static mc_ns clock_ns;

#define has(f) report_has(&r, REPORT_##f)

static void
assert_close(double a, double b)
{
    if (fabs(a - b) > 1e-6 * (1 + fabs(b)))
        fail_msg("%.17g is not %.17g", a, b);
}

/* --- a tree --------------------------------------------------------------------------------------
 */

static void
shell(const char *fmt, ...)
{
    char command[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(command, sizeof(command), fmt, ap);
    va_end(ap);
    if (system(command) != 0)
        fail_msg("%s", command);
}

static void
tree(const char *name)
{
    shell("rm -rf %s/t && cp -a tests/fixtures/sysfs/%s %s/t", dir, name, dir);
    snprintf(root, sizeof(root), "%s/t", dir);
}

/* Writes into the file, as the kernel would: what has it open sees it. */
static void
put(const char *path, const char *text)
{
    char full[512];
    FILE *f;

    snprintf(full, sizeof(full), "%s/%s", root, path);
    f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* --- a sampler -----------------------------------------------------------------------------------
 */

static void
begin(struct sample_conf conf)
{
    struct errbuf e;

    conf.root = root;
    clock_ns = 1000 * MC_SEC;
    if (sampler_new(&conf, &S, &e) != MC_OK)
        fail_msg("%s", e.text);
    sampler_take(S, clock_ns, &now);
}

/* The next sample, and the report since the last one. */
static void
go_on(mc_ns after)
{
    before = now;
    clock_ns += after;
    sampler_take(S, clock_ns, &now);
    sampler_report(S, &before, &now, &r);
}

static int
teardown(void **state)
{
    sampler_free(&S);
    return 0;
}

/* --- the host ------------------------------------------------------------------------------------
 */

static void
the_host_is_read(void **state)
{
    tree("host");
    begin((struct sample_conf){0});
    assert_string_equal(sampler_target(S), "host");
    /* 0.4 s busy, 1.6 s idle on two cores */
    put("proc/stat", "cpu  2030 0 510 7660 0 0 0 0 0 0\ncpu0 1 0 0 0\ncpu1 1 0 0 0\nintr 5\n");
    put("proc/pressure/cpu", "some avg10=0 avg60=0 avg300=0 total=5250000\nfull avg10=0\n");
    go_on(MC_SEC);
    assert_close(r.cores, 2);
    assert_close(r.host_cores, 2);
    assert_close(r.cpu_utilization, 0.2);
    assert_close(r.host_cpu, 0.2);
    assert_close(r.cpu_seconds, 0.4);
    assert_close(r.cpu_pressure, 0.25);
    assert_close(r.io_pressure, 0);
    assert_close(r.run_queue, 3);
    assert_close(r.mem_limit_bytes, 8000000 * 1024.0);
    assert_close(r.mem_utilization, 0.25);
    assert_true(has(BOOT) && has(SEQ) && has(TIME));
    assert_int_equal(r.seq, 2);
    assert_false(has(THROTTLED));
}

static void
an_old_kernel_tells_less(void **state)
{
    tree("bare");
    begin((struct sample_conf){0});
    put("proc/stat", "cpu  2010 0 500 7590\ncpu0 2010 0 500 7590\n");
    go_on(MC_SEC);
    assert_close(r.cpu_utilization, 0.1);
    assert_close(r.run_queue, 0);
    assert_false(has(CPU_PRESSURE) || has(MEM_BYTES) || has(MEM_UTILIZATION));
    shell("rm -r %s/proc", root);
    sampler_free(&S);
    begin((struct sample_conf){0});
    go_on(MC_SEC);
    assert_int_equal(r.present, 1u << REPORT_BOOT | 1u << REPORT_SEQ | 1u << REPORT_TIME);
}

static void
nonsense_in_files_is_not_believed(void **state)
{
    tree("host");
    begin((struct sample_conf){0});
    put("proc/stat", "cpu  x y z\ncpu0\n");
    put("proc/meminfo", "MemTotal: many\n");
    put("proc/loadavg", "high\n");
    put("proc/pressure/cpu", "none\n");
    go_on(MC_SEC);
    assert_false(has(CPU_UTILIZATION) || has(MEM_BYTES) || has(RUN_QUEUE) || has(CPU_PRESSURE));
}

/* --- cgroups -------------------------------------------------------------------------------------
 */

static void
a_group_of_v2_has_limits_and_pressure_of_its_own(void **state)
{
    static const char group[] = "sys/fs/cgroup/system.slice/web.service";
    char path[128];

    tree("v2");
    begin((struct sample_conf){.target = SAMPLE_CGROUP, .cgroup = "/system.slice/web.service"});
    assert_string_equal(sampler_target(S), "cgroup /system.slice/web.service (v2)");
    snprintf(path, sizeof(path), "%s/cpu.stat", group);
    put(path, "usage_usec 10100000\nthrottled_usec 350000\n");
    snprintf(path, sizeof(path), "%s/cpu.pressure", group);
    put(path, "some avg10=0 avg60=0 avg300=0 total=7500000\n");
    go_on(MC_SEC);
    assert_close(r.cores, 0.5);
    assert_close(r.host_cores, 4);
    assert_close(r.cpu_seconds, 0.1);
    assert_close(r.cpu_utilization, 0.2); /* of half a core */
    assert_close(r.cpu_pressure, 0.5);    /* its own, not the host's */
    assert_close(r.throttled_seconds, 0.35);
    assert_close(r.mem_bytes, 400e6);     /* without inactive files */
    assert_close(r.mem_limit_bytes, 1e9); /* of the slice above */
    assert_close(r.mem_utilization, 0.4);
}

static void
a_group_of_v1_is_read_from_its_trees(void **state)
{
    static const char usage[] = "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpuacct.usage";

    tree("v1");
    begin((struct sample_conf){.target = SAMPLE_CGROUP, .cgroup = "/docker/abc"});
    assert_string_equal(sampler_target(S), "cgroup /docker/abc (v1)");
    put(usage, "10300000000\n");
    go_on(MC_SEC);
    assert_close(r.cores, 1.5); /* the quota; the set would allow three */
    assert_close(r.cpu_utilization, 0.2);
    assert_close(r.throttled_seconds, 0.3);
    assert_close(r.mem_bytes, 400e6);
    assert_close(r.mem_utilization, 0.4);
    assert_false(has(CPU_PRESSURE));
    put("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "-1\n");
    go_on(6 * MC_SEC); /* limits are looked at again */
    assert_close(r.cores, 3);
}

static void
a_host_with_both_versions_gives_each_figure_from_where_it_is(void **state)
{
    tree("hybrid");
    begin((struct sample_conf){.target = SAMPLE_CGROUP, .cgroup = "/web"});
    assert_string_equal(sampler_target(S), "cgroup /web (v1 and v2)");
    put("sys/fs/cgroup/cpuacct/web/cpuacct.usage", "11000000000\n");
    put("sys/fs/cgroup/with blank/web/cpu.pressure", "some avg10=0 total=7100000\n");
    go_on(MC_SEC);
    assert_close(r.cores, 4);
    assert_close(r.cpu_utilization, 0.25);
    assert_close(r.cpu_pressure, 0.1);
    assert_close(r.mem_bytes, 400e6);
    assert_close(r.mem_limit_bytes, 8000000 * 1024.0); /* no limit: the host's memory */
}

static void
a_container_is_measured_by_its_own_limits(void **state)
{
    static const char *const trees[] = {"container", "container-v1"};
    static const double cores[] = {2, 1.5};

    for (unsigned i = 0; i < 2; i++) {
        tree(trees[i]);
        begin((struct sample_conf){.target = SAMPLE_AUTO});
        assert_non_null(strstr(sampler_target(S), "cgroup of our own"));
        go_on(MC_SEC);
        assert_close(r.cores, cores[i]);
        assert_close(r.host_cores, 4);
        assert_close(r.mem_limit_bytes, 1e9);
        assert_close(r.mem_bytes, 400e6);
        sampler_free(&S);
    }
    tree("v2");
    assert_false(cgroup_is_contained(root));
    tree("v1");
    assert_false(cgroup_is_contained(root));
    tree("bare");
    assert_false(cgroup_is_contained(root));
}

static void
our_own_group_is_found(void **state)
{
    tree("v1");
    begin((struct sample_conf){.target = SAMPLE_CGROUP});
    go_on(MC_SEC);
    assert_close(r.cores, 1.5);
    assert_close(r.mem_limit_bytes, 1e9);
}

static void
a_group_that_is_not_there_is_an_error(void **state)
{
    struct sample_conf conf = {.root = root, .target = SAMPLE_CGROUP, .cgroup = "/nothing"};
    struct errbuf e;

    tree("v2");
    assert_int_equal(sampler_new(&conf, &S, &e), MC_ENOENT);
    assert_string_equal(e.text, "/nothing: no control group of that name");
    S = NULL;
}

static void
a_group_that_is_made_anew_is_counted_on(void **state)
{
    static const char stat[] = "sys/fs/cgroup/system.slice/web.service/cpu.stat";

    tree("v2");
    begin((struct sample_conf){.target = SAMPLE_CGROUP, .cgroup = "/system.slice/web.service"});
    put(stat, "usage_usec 11000000\n");
    go_on(MC_SEC);
    assert_close(r.cpu_seconds, 1);
    put(stat, "usage_usec 200000\n");
    go_on(MC_SEC);
    assert_close(r.cpu_seconds, 1.2);
    assert_close(r.cpu_utilization, 0.4);
}

static void
a_unit_is_found_wherever_it_is_and_whenever_it_comes(void **state)
{
    char *path;

    tree("v2");
    path = cgroup_find_unit(root, "web");
    assert_string_equal(path, "/system.slice/web.service");
    free(path);
    assert_null(cgroup_find_unit(root, "db.service"));
    begin((struct sample_conf){.target = SAMPLE_UNIT, .unit = "db.service"});
    go_on(MC_SEC);
    assert_close(r.cores, 4); /* the host's, until it runs */
    shell("cp -r %s/sys/fs/cgroup/system.slice/web.service "
          "%s/sys/fs/cgroup/system.slice/db.service",
          root, root);
    go_on(2 * MC_SEC);
    go_on(MC_SEC);
    assert_close(r.cores, 0.5);
    assert_close(r.mem_bytes, 400e6);
}

/* --- processes -----------------------------------------------------------------------------------
 */

static void
processes_are_counted_with_their_children(void **state)
{
    tree("host");
    begin((struct sample_conf){.target = SAMPLE_PROCS, .procs = {.pids = {100}, .n_pids = 1}});
    assert_close(now.mem_bytes, 1600.0 * (double)sysconf(_SC_PAGESIZE));
    put("proc/99/stat", "99 (x) S 101 1 1 0 -1 0 1 0 0 0 60 10 0 0 20 0 1 0 5002 1 1\n");
    put("proc/200/stat", "200 (x) S 1 1 1 0 -1 0 1 0 0 0 9999 10 0 0 20 0 1 0 6000 1 1\n");
    go_on(MC_SEC);
    assert_close(r.cpu_seconds, 0.5); /* of the grandchild */
    assert_close(r.cpu_utilization, 0.25);
    assert_close(r.mem_limit_bytes, 8000000 * 1024.0);
}

static void
who_listens_on_a_port_is_found(void **state)
{
    int pids[4];

    tree("host");
    assert_int_equal(port_listeners(root, 8080, pids, 4), 1);
    assert_int_equal(pids[0], 100);
    assert_int_equal(port_listeners(root, 8081, pids, 4), 0); /* nobody has its socket open */
    assert_int_equal(port_listeners(root, 80, pids, 4), 0);
    begin((struct sample_conf){.target = SAMPLE_PROCS, .procs = {.port = 8080}});
    assert_close(now.mem_bytes, 1600.0 * (double)sysconf(_SC_PAGESIZE));
}

static void
a_pid_file_is_followed(void **state)
{
    char *file;

    tree("host");
    file = mc_printf("%s/web.pid", root);
    begin((struct sample_conf){.target = SAMPLE_PROCS, .procs = {.pid_file = file}});
    go_on(MC_SEC);
    assert_close(r.mem_bytes, 2000000 * 1024.0); /* nobody yet: the host's */
    put("web.pid", "200\n");
    go_on(2 * MC_SEC);
    go_on(MC_SEC);
    assert_close(r.mem_bytes, 9999.0 * (double)sysconf(_SC_PAGESIZE));
    free(file);
}

/* --- small things --------------------------------------------------------------------------------
 */

static void
lists_of_cores_are_counted(void **state)
{
    static const struct {
        const char *text;
        unsigned n;
    } all[] = {{"0-3\n", 4}, {"0,2-3,7\n", 4}, {"5\n", 1},
               {"\n", 0},    {"", 0},          {"3-1\n", 0},
               {"a\n", 0},   {"0-\n", 0},      {"0-9999999999\n", 0}};

    for (unsigned i = 0; i < MC_COUNT(all); i++)
        assert_int_equal(file_list_count(str_of(all[i].text)), all[i].n);
}

static void
keys_are_found_at_the_start_of_lines(void **state)
{
    struct str s = STR("total_inactive_file 1\ninactive_file 2\nMemTotal:   3 kB\nx=4\nbad no\n");
    uint64_t v;

    assert_true(file_key(s, "inactive_file", &v) && v == 2);
    assert_true(file_key(s, "MemTotal", &v) && v == 3);
    assert_true(file_key(s, "x", &v) && v == 4);
    assert_false(file_key(s, "Mem", &v));
    assert_false(file_key(s, "bad", &v));
}

#define STORY(name) cmocka_unit_test_teardown(name, teardown)

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        STORY(the_host_is_read),
        STORY(an_old_kernel_tells_less),
        STORY(nonsense_in_files_is_not_believed),
        STORY(a_group_of_v2_has_limits_and_pressure_of_its_own),
        STORY(a_group_of_v1_is_read_from_its_trees),
        STORY(a_host_with_both_versions_gives_each_figure_from_where_it_is),
        STORY(a_container_is_measured_by_its_own_limits),
        STORY(our_own_group_is_found),
        STORY(a_group_that_is_not_there_is_an_error),
        STORY(a_group_that_is_made_anew_is_counted_on),
        STORY(a_unit_is_found_wherever_it_is_and_whenever_it_comes),
        STORY(processes_are_counted_with_their_children),
        STORY(who_listens_on_a_port_is_found),
        STORY(a_pid_file_is_followed),
        STORY(lists_of_cores_are_counted),
        STORY(keys_are_found_at_the_start_of_lines),
    };
    int failed;

    log_setup(LOG_LEVEL_ERROR, false);
    if (mkdtemp(dir) == NULL)
        return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    shell("rm -rf %s", dir);
    return failed;
}
