/* SPDX-License-Identifier: BSD-2-Clause
 *
 * cgroup.h - CPU, memory, limits and pressure of one control group, of either version or both.
 * For agent/ only; one thread.
 *
 * Hosts mix the versions (a v1 tree for each controller beside a v2 tree without any), so each
 * figure is taken from where it is.
 */
#ifndef MC_AGENT_CGROUP_H
#define MC_AGENT_CGROUP_H

#include "agent/files.h"
#include "base/err.h"

struct cgroup;

/* path: of the group within the trees ("/system.slice/nginx.service").  root: what stands before
 * /proc and /sys, "" for the real ones.  MC_ENOENT: no tree has it. */
enum mc_err cgroup_open(const char *root, const char *path, struct cgroup **out, struct errbuf *);
/* The group in which a process is; 0: our own, which in a container is the container's. */
enum mc_err cgroup_open_pid(const char *root, int pid, struct cgroup **out, struct errbuf *);
void cgroup_free(struct cgroup **);
/* The path of a systemd unit's group, malloc'd; NULL when no tree has one. */
char *cgroup_find_unit(const char *root, const char *unit);
/* Is this a container with limits of its own, so that the host's figures are somebody else's? */
bool cgroup_is_contained(const char *root);

struct cgroup_reading {
    bool has_cpu, has_mem, has_throttled;
    double cpu_seconds, throttled_seconds;
    double mem_bytes; /* less what the kernel drops first: inactive file cache */
    double cores;     /* what quota and cpuset allow; 0: no limit */
    double mem_limit; /* of the group or of one above it; 0: none */
};

void cgroup_read(struct cgroup *, mc_ns now, struct cgroup_reading *out);
/* Its cpu.pressure, memory.pressure, io.pressure; path NULL where it has none. */
struct file *cgroup_pressure(struct cgroup *, unsigned which);
/* "v1", "v2", "v1 and v2": for the log. */
const char *cgroup_kind(const struct cgroup *);

#endif
