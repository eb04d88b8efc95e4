/* SPDX-License-Identifier: BSD-2-Clause
 *
 * host.h - CPU, memory, run queue and pressure of the whole host.  For agent/ only; one thread.
 */
#ifndef MC_AGENT_HOST_H
#define MC_AGENT_HOST_H

#include "agent/files.h"

enum { PRESSURE_CPU, PRESSURE_MEMORY, PRESSURE_IO, PRESSURE_N };

struct host {
    struct file stat, meminfo, loadavg, pressure[PRESSURE_N];
    struct pace stat_pace;
};

/* Members below zero: not to be had. */
struct host_reading {
    bool fresh_cpu; /* the next two were read now */
    double busy_seconds, all_seconds;
    unsigned cores; /* 0: not to be had */
    double mem_total, mem_available;
    double run_queue, load1;
};

void host_open(struct host *, const char *root);
void host_close(struct host *);
/* What is not fresh keeps its last value in *r. */
void host_read(struct host *, mc_ns now, struct host_reading *r);
/* Seconds in which some task waited, from the text of a pressure file; below zero: none. */
double host_pressure(struct file *);

#endif
