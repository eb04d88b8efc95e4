/* SPDX-License-Identifier: BSD-2-Clause
 *
 * group_test.c - control groups of both versions, in a tree of files that stands for the kernel's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "base/str.h"
#include "lab/group.h"

static char root[64];

static int
setup(void **state)
{
    strcpy(root, "/tmp/mc-group-XXXXXX");
    return mkdtemp(root) != NULL ? 0 : -1;
}

static int
remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

static int
teardown(void **state)
{
    return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* A file below the root, with the directories on its way. */
static void
put(const char *path, const char *text)
{
    char *full = mc_printf("%s/%s", root, path);
    struct buf b = {0};

    for (char *p = full + 1; (p = strchr(p, '/')) != NULL; *p++ = '/') {
        *p = '\0';
        mkdir(full, 0755);
    }
    buf_printf(&b, "%s", text);
    assert_true(file_replace(full, &b));
    buf_free(&b);
    free(full);
}

static void
holds(const char *path, const char *want)
{
    char *full = mc_printf("%s/%s", root, path);
    struct buf b = {0};

    assert_true(file_load(full, 4096, &b));
    assert_string_equal(b.p ? b.p : "", want);
    buf_free(&b);
    free(full);
}

static bool
exists(const char *path)
{
    char *full = mc_printf("%s/%s", root, path);
    bool yes = access(full, F_OK) == 0;

    free(full);
    return yes;
}

static void
a_machine_with_version_1_is_understood(void **state)
{
    struct groups g;
    struct errbuf e = {""};

    put("proc/self/mounts", "proc /proc proc rw 0 0\n"
                            "cgroup /c/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n"
                            "cgroup /c/memory cgroup rw,memory 0 0\n"
                            "cgroup2 /c/unified cgroup2 rw 0 0\n");
    put("c/unified/cgroup.controllers", "\n");
    put("c/cpu,cpuacct/x", "");
    put("c/memory/x", "");
    groups_find(root, &g);
    assert_false(g.tree[GROUP_CPU].v2);
    assert_false(g.tree[GROUP_MEMORY].v2);
    assert_true(g.tree[GROUP_FREEZER].v2); /* which is no controller there */
    assert_int_equal(group_make(&g, "lab/a", &e), MC_OK);
    put("c/cpu,cpuacct/meercat-lab/lab/a/cpu.cfs_period_us", "");
    put("c/cpu,cpuacct/meercat-lab/lab/a/cpu.cfs_quota_us", "");
    put("c/memory/meercat-lab/lab/a/memory.limit_in_bytes", "");
    put("c/unified/meercat-lab/lab/a/cgroup.freeze", "");
    assert_int_equal(group_cpu(&g, "lab/a", 200000, &e), MC_OK);
    holds("c/cpu,cpuacct/meercat-lab/lab/a/cpu.cfs_period_us", "10000");
    holds("c/cpu,cpuacct/meercat-lab/lab/a/cpu.cfs_quota_us", "2000");
    /* the kernel takes no quota below a millisecond: the period grows */
    assert_int_equal(group_cpu(&g, "lab/a", 20000, &e), MC_OK);
    holds("c/cpu,cpuacct/meercat-lab/lab/a/cpu.cfs_period_us", "50000");
    holds("c/cpu,cpuacct/meercat-lab/lab/a/cpu.cfs_quota_us", "1000");
    assert_int_equal(group_cpu(&g, "lab/a", 0, &e), MC_OK);
    holds("c/cpu,cpuacct/meercat-lab/lab/a/cpu.cfs_quota_us", "-1");
    assert_int_equal(group_memory(&g, "lab/a", 1 << 20, &e), MC_OK);
    holds("c/memory/meercat-lab/lab/a/memory.limit_in_bytes", "1048576");
    assert_int_equal(group_freeze(&g, "lab/a", true, &e), MC_OK);
    holds("c/unified/meercat-lab/lab/a/cgroup.freeze", "1");
    group_thaw_all(&g, "lab");
    holds("c/unified/meercat-lab/lab/a/cgroup.freeze", "0");
    groups_free(&g);
}

static void
a_machine_with_version_2_is_understood(void **state)
{
    struct groups g;
    struct errbuf e = {""};

    put("proc/self/mounts", "cgroup2 /two cgroup2 rw 0 0\n");
    put("two/cgroup.controllers", "cpuset cpu io memory pids\n");
    put("two/cgroup.subtree_control", "");
    groups_find(root, &g);
    assert_true(g.tree[GROUP_CPU].v2 && g.tree[GROUP_MEMORY].v2 && g.tree[GROUP_FREEZER].v2);
    assert_int_equal(group_make(&g, "lab/a", &e), MC_OK);
    holds("two/cgroup.subtree_control", "+memory"); /* a file keeps the last that was written */
    put("two/meercat-lab/lab/a/cpu.max", "");
    put("two/meercat-lab/lab/a/memory.max", "");
    assert_int_equal(group_cpu(&g, "lab/a", 500000, &e), MC_OK);
    holds("two/meercat-lab/lab/a/cpu.max", "5000 10000");
    assert_int_equal(group_cpu(&g, "lab/a", 0, &e), MC_OK);
    holds("two/meercat-lab/lab/a/cpu.max", "max");
    assert_int_equal(group_memory(&g, "lab/a", 0, &e), MC_OK);
    holds("two/meercat-lab/lab/a/memory.max", "max");
    groups_free(&g);
}

static void
what_a_machine_lacks_is_refused(void **state)
{
    struct groups g;
    struct errbuf e = {""};

    /* mounted somewhere else than we can see */
    put("proc/self/mounts", "proc /proc proc rw 0 0\ncgroup /gone cgroup rw,cpu 0 0\n");
    groups_find(root, &g);
    assert_int_equal(group_make(&g, "lab/a", &e), MC_OK);
    assert_int_equal(group_cpu(&g, "lab/a", 500000, &e), MC_ENOTSUP);
    assert_string_equal(e.text, "no control groups for cpu on this machine");
    assert_int_equal(group_freeze(&g, "lab/a", true, &e), MC_ENOTSUP);
    groups_free(&g);
}

static void
a_group_that_is_removed_leaves_nothing_but_other_laboratories(void **state)
{
    struct groups g;
    struct errbuf e = {""};

    put("proc/self/mounts", "cgroup /m cgroup rw,memory 0 0\n");
    put("m/x", "");
    groups_find(root, &g);
    assert_int_equal(group_make(&g, "one/a", &e), MC_OK);
    assert_int_equal(group_make(&g, "one/b", &e), MC_OK);
    assert_int_equal(group_make(&g, "two/a", &e), MC_OK);
    assert_true(group_remove(&g, "one"));
    assert_false(exists("m/meercat-lab/one"));
    assert_true(exists("m/meercat-lab/two/a"));
    assert_true(group_remove(&g, "two"));
    assert_false(exists("m/meercat-lab"));
    assert_true(group_remove(&g, "never"));
    groups_free(&g);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_machine_with_version_1_is_understood, setup, teardown),
        cmocka_unit_test_setup_teardown(a_machine_with_version_2_is_understood, setup, teardown),
        cmocka_unit_test_setup_teardown(what_a_machine_lacks_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_group_that_is_removed_leaves_nothing_but_other_laboratories, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
