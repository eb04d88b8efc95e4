/* SPDX-License-Identifier: BSD-2-Clause
 *
 * mounts.h - where the trees of control groups are mounted, and where a process is in them.
 * For agent/cgroup.c only.
 */
#ifndef MC_AGENT_MOUNTS_H
#define MC_AGENT_MOUNTS_H

#include <stdbool.h>

#include "base/str.h"

enum cg_tree { CG_UNIFIED, CG_CPU, CG_CPUACCT, CG_MEMORY, CG_CPUSET, CG_SYSTEMD, CG_N_TREES };

struct cg_mount {
    char *dir;  /* with the root in front; NULL: not mounted */
    char *root; /* which part of the tree it shows */
};

struct cg_mounts {
    struct cg_mount tree[CG_N_TREES];
};

/* From /proc/self/mountinfo. */
void cg_mounts_read(struct cg_mounts *, const char *root);
void cg_mounts_free(struct cg_mounts *);
/* From /proc/PID/cgroup, valid until the next file is read; pid 0: our own. */
bool cg_path_of_pid(const char *root, int pid, enum cg_tree, struct str *path);

#endif
