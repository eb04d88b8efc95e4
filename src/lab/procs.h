/* SPDX-License-Identifier: BSD-2-Clause
 *
 * procs.h - the processes of a laboratory, as /proc tells of them.
 *
 * Each is found by its namespaces, so that it does not matter who started it and whether it went
 * into the background: it is of the laboratory whose PID namespace it is in, and on the host whose
 * network it has.
 */
#ifndef MC_LAB_PROCS_H
#define MC_LAB_PROCS_H

#include <sys/types.h>

#define PROC_NS_TEXT 32

struct proc {
    pid_t pid, session;     /* as the laboratory sees them */
    pid_t outer;            /* as those outside see it */
    char net[PROC_NS_TEXT]; /* "net:[4026531840]" */
    char state;             /* 'R', 'S', 'T', ..., as in proc(5) */
    char name[16];
};

/* Of all processes of the PID namespace "pid:[...]", less its first one.  proc: a descriptor of the
 * /proc of those outside.  Zombies are left out.  malloc'd; returns how many. */
unsigned procs_scan(int proc, const char *pid_ns, struct proc **out);
/* The name of a namespace by a descriptor of it. */
void procs_ns_text(int fd, char out[PROC_NS_TEXT]);

#endif
