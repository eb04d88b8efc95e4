/* SPDX-License-Identifier: BSD-2-Clause
 *
 * procs.h - CPU and memory of some processes and of their children: of pids that are given, of a
 * pid file, or of whoever listens on a port.  For agent/ only; one thread.
 */
#ifndef MC_AGENT_PROCS_H
#define MC_AGENT_PROCS_H

#include <stdint.h>

#include "base/units.h"

#define PROCS_GIVEN_MAX 64
#define PROCS_MAX       4096 /* children included; more are not counted */

struct procs_conf {
    int pids[PROCS_GIVEN_MAX];
    unsigned n_pids;
    const char *pid_file; /* NULL: none; read again when the process is gone */
    uint16_t port;        /* 0: none */
};

struct procs;

struct procs *procs_new(const char *root, const struct procs_conf *);
void procs_free(struct procs **);

struct procs_reading {
    unsigned n;         /* processes */
    int first_pid;      /* 0: none */
    double cpu_seconds; /* since they are counted, of all that ever were: never goes back */
    double mem_bytes;   /* resident; pages shared by several are counted for each */
};

void procs_read(struct procs *, mc_ns now, struct procs_reading *out);

#endif
