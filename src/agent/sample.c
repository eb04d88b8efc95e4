/* SPDX-License-Identifier: BSD-2-Clause
 *
 * sample.c - what a server is doing: puts host, cgroup and processes together.
 *
 * The CPU counter of the service only grows, whatever becomes of the cgroup or the processes behind
 * it, since whoever reads it takes differences.  For the same reason the time of a report is the
 * wall clock at the start plus monotonic time: setting the clock does not disturb it.
 */
#include "agent/sample.h"

#include <math.h>
#include <stdlib.h>

#include "agent/cgroup.h"
#include "agent/host.h"
#include "base/check.h"
#include "base/log.h"

/* Where a unit is not there, or whose cgroup a process is in, is looked up so often. */
#define LOOK_EVERY_NS MC_SEC

/* What may be missing; each is said once. */
#define MISSING(X)                                                                              \
    X(STAT, "no /proc/stat: nothing is known of the host's CPU")                                \
    X(MEMINFO, "no MemAvailable in /proc/meminfo: nothing is known of the host's memory")       \
    X(PRESSURE, "no pressure here (PSI): a kernel without it, or booted with psi=0")            \
    X(OWN_PRESSURE, "the service's cgroup tells no pressure: the host's is taken")              \
    X(CGROUP_CPU, "the cgroup tells no CPU usage: the host's is taken")                         \
    X(CGROUP_MEMORY, "the cgroup tells no memory: the host's is taken")                         \
    X(UNIT, "the unit has no cgroup: it does not run; the host's figures are taken until then") \
    X(PROCS, "no such process runs; the host's figures are taken until one does")

enum missing {
#define X(id, text) MISSING_##id,
    MISSING(X)
#undef X
};

struct sampler {
    struct sample_conf conf;
    char *name;
    struct host host;
    struct host_reading host_last;
    struct cgroup *cgroup; /* of the service; of the first process, for limits and pressure */
    struct procs *procs;
    int cgroup_pid; /* whose cgroup it is */
    struct pace look_pace;
    uint32_t said; /* bits of enum missing */
    uint64_t seq, boot_ms;
    mc_ns boot_at;
    enum source { FROM_NONE, FROM_HOST, FROM_CGROUP, FROM_PROCS } cpu_from;
    double raw_cpu, cpu_seconds; /* as last read; counted up */
    mc_ns cpu_at;
};

static void
miss(struct sampler *s, enum missing what)
{
    static const char *const texts[] = {
#define X(id, text) text,
        MISSING(X)
#undef X
    };

    if (s->said & (1u << what))
        return;
    s->said |= 1u << what;
    log_info("agent: %s", texts[what]);
}

/* --- pressure -----------------------------------------------------------------------------------
 */

/* The service's own; the host's where there is none. */
static double
pressure(struct sampler *s, unsigned which)
{
    double v = -1;

    if (s->cgroup != NULL) {
        v = host_pressure(cgroup_pressure(s->cgroup, which));
        if (v < 0)
            miss(s, MISSING_OWN_PRESSURE);
    }
    if (v < 0)
        v = host_pressure(&s->host.pressure[which]);
    if (v < 0)
        miss(s, MISSING_PRESSURE);
    return v;
}

/* --- the service --------------------------------------------------------------------------------
 */

/* Counts on.  A counter that fell has begun anew; one that is read elsewhere now is another. */
static void
count_cpu(struct sampler *s, enum source from, double raw, mc_ns at)
{
    if (s->cpu_from != from)
        s->raw_cpu = raw;
    s->cpu_seconds += raw >= s->raw_cpu ? raw - s->raw_cpu : raw;
    s->raw_cpu = raw;
    s->cpu_from = from;
    s->cpu_at = at;
}

static void
take_host(struct sampler *s, struct sample *out)
{
    const struct host_reading *h = &s->host_last;

    if (h->fresh_cpu)
        count_cpu(s, FROM_HOST, h->busy_seconds, out->at);
    if (h->mem_total > 0 && h->mem_available >= 0) {
        out->mem_limit_bytes = h->mem_total;
        out->mem_bytes = h->mem_total > h->mem_available ? h->mem_total - h->mem_available : 0;
    }
}

static void
take_limits(struct sample *out, const struct cgroup_reading *r)
{
    if (r->cores > 0 && (r->cores < out->cores || out->cores <= 0))
        out->cores = r->cores;
    if (r->mem_limit > 0 && (out->mem_limit_bytes <= 0 || r->mem_limit < out->mem_limit_bytes))
        out->mem_limit_bytes = r->mem_limit;
    if (r->has_throttled)
        out->throttled_seconds = r->throttled_seconds;
}

static void
take_cgroup(struct sampler *s, struct sample *out)
{
    struct cgroup_reading r;

    cgroup_read(s->cgroup, out->at, &r);
    if (!r.has_cpu || !r.has_mem)
        take_host(s, out);
    if (!r.has_cpu)
        miss(s, MISSING_CGROUP_CPU);
    else
        count_cpu(s, FROM_CGROUP, r.cpu_seconds, out->at);
    if (!r.has_mem)
        miss(s, MISSING_CGROUP_MEMORY);
    else {
        out->mem_limit_bytes = s->host_last.mem_total;
        take_limits(out, &r);
        out->mem_bytes = r.mem_bytes;
        return;
    }
    r.mem_limit = 0; /* not without what is used of it */
    take_limits(out, &r);
}

/* Limits and pressure come from the cgroup of the first of them. */
static void
follow_process(struct sampler *s, int pid, mc_ns now)
{
    if (pid == s->cgroup_pid || !pace_is_due(&s->look_pace, now))
        return;
    pace_begin(&s->look_pace);
    cgroup_free(&s->cgroup);
    cgroup_open_pid(s->conf.root, pid, &s->cgroup, NULL);
    s->cgroup_pid = pid;
    pace_done(&s->look_pace, now, LOOK_EVERY_NS);
}

static void
take_procs(struct sampler *s, struct sample *out)
{
    struct procs_reading r;
    struct cgroup_reading limits;

    procs_read(s->procs, out->at, &r);
    if (r.n == 0) {
        miss(s, MISSING_PROCS);
        take_host(s, out);
        return;
    }
    follow_process(s, r.first_pid, out->at);
    count_cpu(s, FROM_PROCS, r.cpu_seconds, out->at);
    out->mem_limit_bytes = s->host_last.mem_total;
    out->mem_bytes = r.mem_bytes;
    if (s->cgroup != NULL) {
        cgroup_read(s->cgroup, out->at, &limits);
        take_limits(out, &limits);
    }
}

static void
look_for_unit(struct sampler *s, mc_ns now)
{
    char *path;

    if (!pace_is_due(&s->look_pace, now))
        return;
    pace_begin(&s->look_pace);
    path = cgroup_find_unit(s->conf.root, s->conf.unit);
    if (path != NULL && cgroup_open(s->conf.root, path, &s->cgroup, NULL) == MC_OK)
        log_info("agent: unit %s is cgroup %s (%s)", s->conf.unit, path, cgroup_kind(s->cgroup));
    else
        miss(s, MISSING_UNIT);
    free(path);
    pace_done(&s->look_pace, now, LOOK_EVERY_NS);
}

/* --- a sample -----------------------------------------------------------------------------------
 */

static void
take_service(struct sampler *s, struct sample *out)
{
    if (s->conf.target == SAMPLE_UNIT && s->cgroup == NULL)
        look_for_unit(s, out->at);
    if (s->procs != NULL)
        take_procs(s, out);
    else if (s->cgroup != NULL)
        take_cgroup(s, out);
    else
        take_host(s, out);
    out->cpu_seconds = s->cpu_from == FROM_NONE ? -1 : s->cpu_seconds;
    out->cpu_at = s->cpu_at;
}

void
sampler_take(struct sampler *s, mc_ns now, struct sample *out)
{
    struct host_reading *h = &s->host_last;

    *out = (struct sample){.at = now, .mem_bytes = -1, .throttled_seconds = -1};
    host_read(&s->host, now, h);
    out->host_cores = out->cores = h->cores;
    out->host_busy_seconds = h->cores ? h->busy_seconds : -1;
    out->host_seconds = h->all_seconds;
    out->run_queue = h->run_queue;
    out->load1 = h->load1;
    if (h->cores == 0)
        miss(s, MISSING_STAT);
    if (h->mem_available < 0)
        miss(s, MISSING_MEMINFO);
    take_service(s, out);
    out->cpu_wait = pressure(s, PRESSURE_CPU);
    out->mem_wait = pressure(s, PRESSURE_MEMORY);
    out->io_wait = pressure(s, PRESSURE_IO);
    out->seq = ++s->seq;
}

/* --- a report -----------------------------------------------------------------------------------
 */

/* To the millionth: more digits would be noise, and they are written out. */
static void
put(struct place_report *r, enum report_field f, double *to, double v)
{
    *to = round(v * 1e6) / 1e6;
    r->present |= 1u << f;
}

static void
put_pressure(struct place_report *r, enum report_field f, double *to, double before, double now,
             mc_ns elapsed)
{
    double share = (now - before) * 1e9 / (double)elapsed;

    if (before < 0 || now < before || elapsed <= 0)
        return;
    put(r, f, to, share > 1 ? 1 : share);
}

static void
put_cpu(struct place_report *r, const struct sample *b, const struct sample *n)
{
    double seconds = (double)(n->cpu_at - b->cpu_at) / 1e9;
    double host = n->host_seconds - b->host_seconds;

    if (n->cores > 0)
        put(r, REPORT_CORES, &r->cores, n->cores);
    if (n->host_cores > 0)
        put(r, REPORT_HOST_CORES, &r->host_cores, n->host_cores);
    if (n->cpu_seconds >= 0)
        put(r, REPORT_CPU_SECONDS, &r->cpu_seconds, n->cpu_seconds);
    if (n->cpu_seconds >= b->cpu_seconds && b->cpu_seconds >= 0 && n->cores > 0 && seconds > 0)
        put(r, REPORT_CPU_UTILIZATION, &r->cpu_utilization,
            (n->cpu_seconds - b->cpu_seconds) / seconds / n->cores);
    if (n->host_busy_seconds >= b->host_busy_seconds && b->host_busy_seconds >= 0 && host > 0)
        put(r, REPORT_HOST_CPU, &r->host_cpu,
            fmin(1, (n->host_busy_seconds - b->host_busy_seconds) / host));
    if (n->throttled_seconds >= 0)
        put(r, REPORT_THROTTLED, &r->throttled_seconds, n->throttled_seconds);
    if (n->run_queue >= 0)
        put(r, REPORT_RUN_QUEUE, &r->run_queue, n->run_queue);
}

static void
put_memory(struct place_report *r, const struct sample *n)
{
    if (n->mem_bytes < 0)
        return;
    put(r, REPORT_MEM_BYTES, &r->mem_bytes, n->mem_bytes);
    if (n->mem_limit_bytes <= 0)
        return;
    put(r, REPORT_MEM_LIMIT, &r->mem_limit_bytes, n->mem_limit_bytes);
    put(r, REPORT_MEM_UTILIZATION, &r->mem_utilization, fmin(1, n->mem_bytes / n->mem_limit_bytes));
}

void
sampler_report(const struct sampler *s, const struct sample *b, const struct sample *n,
               struct place_report *r)
{
    mc_ns elapsed = n->at - b->at;

    memset(r, 0, sizeof(*r));
    put_cpu(r, b, n);
    put_memory(r, n);
    put_pressure(r, REPORT_CPU_PRESSURE, &r->cpu_pressure, b->cpu_wait, n->cpu_wait, elapsed);
    put_pressure(r, REPORT_MEM_PRESSURE, &r->mem_pressure, b->mem_wait, n->mem_wait, elapsed);
    put_pressure(r, REPORT_IO_PRESSURE, &r->io_pressure, b->io_wait, n->io_wait, elapsed);
    r->boot = s->boot_ms;
    r->seq = n->seq;
    r->time_ms = s->boot_ms + (uint64_t)((n->at - s->boot_at) / MC_MS);
    r->present |= 1u << REPORT_BOOT | 1u << REPORT_SEQ | 1u << REPORT_TIME;
}

/* --- birth and death ----------------------------------------------------------------------------
 */

static enum mc_err
open_cgroup(struct sampler *s, struct errbuf *e)
{
    const char *path = s->conf.cgroup;
    enum mc_err err = path != NULL ? cgroup_open(s->conf.root, path, &s->cgroup, e)
                                   : cgroup_open_pid(s->conf.root, 0, &s->cgroup, e);

    if (err == MC_OK)
        s->name = mc_printf("cgroup %s (%s)", path ? path : "of our own", cgroup_kind(s->cgroup));
    return err;
}

static enum mc_err
open_target(struct sampler *s, struct errbuf *e)
{
    switch (s->conf.target) {
    case SAMPLE_AUTO:
        if (cgroup_is_contained(s->conf.root) && open_cgroup(s, NULL) == MC_OK)
            return MC_OK;
        break;
    case SAMPLE_HOST: break;
    case SAMPLE_CGROUP: return open_cgroup(s, e);
    case SAMPLE_UNIT: s->name = mc_printf("unit %s", s->conf.unit); return MC_OK;
    case SAMPLE_PROCS:
        s->procs = procs_new(s->conf.root, &s->conf.procs);
        s->name = mc_strdup("processes");
        return MC_OK;
    }
    s->name = mc_strdup("host");
    return MC_OK;
}

enum mc_err
sampler_new(const struct sample_conf *conf, struct sampler **out, struct errbuf *e)
{
    struct sampler *s = mc_alloc(sizeof(*s));
    enum mc_err err;

    s->conf = *conf;
    s->boot_ms = (uint64_t)(units_wall_ns() / MC_MS);
    s->boot_at = units_clock_ns();
    host_open(&s->host, conf->root);
    err = open_target(s, e);
    if (err != MC_OK)
        sampler_free(&s);
    else
        *out = s;
    return err;
}

void
sampler_free(struct sampler **sp)
{
    struct sampler *s = *sp;

    if (s == NULL)
        return;
    *sp = NULL;
    host_close(&s->host);
    cgroup_free(&s->cgroup);
    procs_free(&s->procs);
    free(s->name);
    free(s);
}

const char *
sampler_target(const struct sampler *s)
{
    return s->name;
}
