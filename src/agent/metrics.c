/* SPDX-License-Identifier: BSD-2-Clause
 *
 * metrics.c - what the agent knows, for Prometheus: names as promtool's linter wants them.
 */
#include "agent/metrics.h"

#include <math.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent/files.h"

#ifndef MEERCAT_VERSION
#define MEERCAT_VERSION "0-dev"
#endif

static void
head(struct buf *b, const char *name, const char *type, const char *help)
{
    buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* One without labels; below zero: not to be had here. */
static void
add(struct buf *b, const char *name, const char *type, const char *help, double v)
{
    if (v < 0)
        return;
    head(b, name, type, help);
    buf_printf(b, "%s %.15g\n", name, round(v * 1e6) / 1e6); /* as in reports */
}

static void
add_info(struct buf *b, const char *target)
{
    head(b, "meercat_agent_info", "gauge", "Version, and what is measured.");
    buf_printf(b, "meercat_agent_info{version=\"%s\",target=\"", MEERCAT_VERSION);
    for (; *target; target++) {
        if (*target == '\\' || *target == '"')
            buf_add(b, "\\", 1);
        buf_add(b, *target == '\n' ? " " : target, 1);
    }
    buf_printf(b, "\"} 1\n");
}

static void
add_pressure(struct buf *b, const struct sample *s)
{
    static const char name[] = "meercat_agent_pressure_waiting_seconds_total";
    const struct {
        const char *resource;
        double v;
    } all[] = {{"cpu", s->cpu_wait}, {"memory", s->mem_wait}, {"io", s->io_wait}};

    head(b, name, "counter", "Time in which some task waited for it (PSI).");
    for (unsigned i = 0; i < 3; i++)
        if (all[i].v >= 0)
            buf_printf(b, "%s{resource=\"%s\"} %.15g\n", name, all[i].resource, all[i].v);
}

static void
add_load(struct buf *b, const struct sample *s, const struct place_report *r)
{
    add(b, "meercat_agent_cpu_seconds_total", "counter", "CPU time of the service.",
        s->cpu_seconds);
    add(b, "meercat_agent_cpu_throttled_seconds_total", "counter",
        "Time in which the quota held the service back.", s->throttled_seconds);
    add(b, "meercat_agent_cpu_cores", "gauge", "Cores that the service may use.",
        s->cores > 0 ? s->cores : -1);
    if (report_has(r, REPORT_CPU_UTILIZATION))
        add(b, "meercat_agent_cpu_utilization_ratio", "gauge",
            "Share of these cores that it used in the last interval.", r->cpu_utilization);
    add(b, "meercat_agent_memory_bytes", "gauge", "Memory of the service, without file cache.",
        s->mem_bytes);
    add(b, "meercat_agent_memory_limit_bytes", "gauge", "Memory that it may use.",
        s->mem_limit_bytes > 0 ? s->mem_limit_bytes : -1);
    add(b, "meercat_agent_host_cpu_seconds_total", "counter",
        "CPU time of the host, of all cores together.", s->host_busy_seconds);
    add(b, "meercat_agent_host_cpu_cores", "gauge", "Cores of the host.",
        s->host_cores > 0 ? s->host_cores : -1);
    add(b, "meercat_agent_host_run_queue", "gauge", "Threads of the host that can run.",
        s->run_queue);
    add(b, "meercat_agent_host_load1", "gauge", "Load average over a minute.", s->load1);
    if (s->cpu_wait >= 0 || s->mem_wait >= 0 || s->io_wait >= 0)
        add_pressure(b, s);
}

/* "refused" by reason. */
static void
add_refused(struct buf *b, const struct agent_counts *c)
{
    static const char name[] = "meercat_agent_refused_total";

    head(b, name, "counter", "Connections and streams that were refused.");
    buf_printf(b, "%s{reason=\"network\"} %llu\n", name, (unsigned long long)c->refused_network);
    buf_printf(b, "%s{reason=\"watchers\"} %llu\n", name, (unsigned long long)c->refused_watchers);
}

static double
own_cpu_seconds(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static double
own_memory_bytes(void)
{
    struct str s = file_read_path("/proc/self/statm");
    uint64_t pages;

    file_word(&s);
    return str_u64(file_word(&s), &pages) ? (double)pages * (double)sysconf(_SC_PAGESIZE) : -1;
}

void
metrics_write(struct buf *b, const char *target, const struct sample *s,
              const struct place_report *r, const struct agent_counts *c)
{
    add_info(b, target);
    add_load(b, s, r);
    add(b, "meercat_agent_samples_total", "counter", "Samples taken.", (double)s->seq);
    add(b, "meercat_agent_watchers", "gauge", "Streams being read.", c->watchers);
    add(b, "meercat_agent_reports_total", "counter", "Lines told.", (double)c->reports);
    add(b, "meercat_agent_reports_skipped_total", "counter",
        "Lines left out because the reader did not keep up.", (double)c->skipped);
    add(b, "meercat_agent_check_replies_total", "counter", "Replies to agent-check.",
        (double)c->check_replies);
    add_refused(b, c);
    add(b, "process_cpu_seconds_total", "counter", "CPU time of the agent itself.",
        own_cpu_seconds());
    add(b, "process_resident_memory_bytes", "gauge", "Memory of the agent itself.",
        own_memory_bytes());
}
