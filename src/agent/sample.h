/* SPDX-License-Identifier: BSD-2-Clause
 *
 * sample.h - what a server is doing, read from /proc and /sys: the host, and one service on it.
 *
 * A sample holds counters and levels at one moment; two samples make a report.  What cannot be read
 * here is said once and left out.  One thread.
 */
#ifndef MC_AGENT_SAMPLE_H
#define MC_AGENT_SAMPLE_H

#include "agent/procs.h"
#include "base/err.h"
#include "place/report.h"

enum sample_target {
    SAMPLE_AUTO, /* our own cgroup within a container, else the host */
    SAMPLE_HOST,
    SAMPLE_CGROUP, /* cgroup: its path, or NULL: our own */
    SAMPLE_UNIT,
    SAMPLE_PROCS,
};

struct sample_conf {
    const char *root; /* before /proc and /sys; "" for the real ones */
    enum sample_target target;
    const char *cgroup, *unit;
    struct procs_conf procs;
};

/* Levels; and counters in seconds.  A counter that is below zero is not to be had here. */
struct sample {
    mc_ns at;
    uint64_t seq;
    mc_ns cpu_at;             /* when cpu_seconds was read */
    double cpu_seconds;       /* of the service, from its first sample on; no step back */
    double throttled_seconds; /* by the service's quota */
    double host_busy_seconds, host_seconds; /* of all cores together */
    double cpu_wait, mem_wait, io_wait;     /* in which some task waited (PSI) */
    double run_queue, load1;
    double mem_bytes, mem_limit_bytes;
    double cores, host_cores; /* what the service may use; what there is */
};

struct sampler;

/* MC_ENOENT: the cgroup is not there.  A unit or process may come later. */
enum mc_err sampler_new(const struct sample_conf *, struct sampler **out, struct errbuf *);
void sampler_free(struct sampler **);
/* Reads everything. */
void sampler_take(struct sampler *, mc_ns now, struct sample *out);
/* What happened between two samples of one sampler. */
void sampler_report(const struct sampler *, const struct sample *before, const struct sample *now,
                    struct place_report *out);
/* What is measured, for people: "host", "cgroup /x (v2)". */
const char *sampler_target(const struct sampler *);

#endif
