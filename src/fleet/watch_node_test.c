/* SPDX-License-Identifier: BSD-2-Clause
 *
 * watch_node_test.c - a watcher before the node_exporter of Debian's package.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/log.h"
#include "fleet/watch.h"
#include "io/harness.h"

#define EXPORTER "/usr/bin/prometheus-node-exporter"

static unsigned n_told;
static struct place_report first, last;

static void
on_report(void *arg, const struct place_report *r, mc_ns age)
{
    if (n_told++ == 0)
        first = *r;
    last = *r;
    assert_true(age < MC_SEC);
}

static pid_t
start_exporter(const struct addr *a)
{
    char address[ADDR_TEXT], option[ADDR_TEXT + 32];
    pid_t pid;

    snprintf(option, sizeof(option), "--web.listen-address=%s", addr_text(a, address));
    pid = fork();
    if (pid != 0)
        return pid;
    if (freopen("/dev/null", "w", stderr) != NULL)
        execl(EXPORTER, EXPORTER, option, (char *)NULL);
    _exit(127);
}

static void
the_exporter_of_debian_is_read(void **state)
{
    struct watch_conf conf = {.kind = WATCH_NODE, .interval = 200 * MC_MS, .addr = free_address()};
    mc_ns give_up = units_clock_ns() + 60 * MC_SEC;
    struct watcher *w;
    struct rng rng;
    pid_t pid;

    if (access(EXPORTER, X_OK) != 0)
        skip();
    pid = start_exporter(&conf.addr);
    rng_seed(&rng, 1);
    w = watcher_new(L, NULL, &conf, &rng, on_report, NULL);
    while (n_told < 5 && units_clock_ns() < give_up)
        loop_turn(L, 20 * MC_MS);
    if (n_told < 5)
        fail_msg("%u reports: %s", n_told, watcher_stats(w)->why);
    watcher_free(&w);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);

    assert_true(last.cores == (double)sysconf(_SC_NPROCESSORS_ONLN));
    assert_true(last.host_cpu >= 0 && last.host_cpu <= 1 && last.run_queue >= 1);
    assert_true(last.cpu_seconds >= first.cpu_seconds && last.seq > first.seq);
    assert_true(last.boot == first.boot && last.boot > 1000000000);
    assert_true(last.mem_bytes > 0 && last.mem_bytes < last.mem_limit_bytes);
    if (access("/proc/pressure/cpu", R_OK) == 0)
        assert_true(report_has(&last, REPORT_CPU_PRESSURE));
}

static int
setup(void **state)
{
    struct errbuf e;

    L = loop_new(&(struct loop_conf){.engine = LOOP_EPOLL}, &e);
    return L == NULL;
}

static int
teardown(void **state)
{
    loop_free(&L);
    return 0;
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_exporter_of_debian_is_read, setup, teardown),
    };

    log_setup(LOG_LEVEL_ERROR, false);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
