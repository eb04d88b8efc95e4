/* SPDX-License-Identifier: BSD-2-Clause
 *
 * group.h - control groups of hosts: how much CPU and memory they have, and whether time stands
 * still for them.  Version 1 or 2, each controller where the machine has it.
 *
 * A group is named "LAB/HOST"; all are below "meercat-lab" in each tree, so that those of a
 * laboratory that was killed can be found and removed.
 */
#ifndef MC_LAB_GROUP_H
#define MC_LAB_GROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define GROUP_CONTROLLERS(X) \
    X(CPU, "cpu")            \
    X(MEMORY, "memory")      \
    X(FREEZER, "freezer")

enum group_controller {
#define X(id, name) GROUP_##id,
    GROUP_CONTROLLERS(X)
#undef X
        GROUP_N_CONTROLLERS
};

/* Where each controller's tree is; path NULL: this machine has none. */
struct groups {
    struct {
        char *path;
        bool v2;
    } tree[GROUP_N_CONTROLLERS];
};

const char *group_controller_name(enum group_controller);
/* root: what stands before /proc and /sys, "" for the real ones. */
void groups_find(const char *root, struct groups *);
void groups_free(struct groups *);

/* Makes a group in every tree there is. */
enum mc_err group_make(const struct groups *, const char *name, struct errbuf *);
/* Descriptors of the files that take in whoever writes "0"; returns how many. */
unsigned group_open(const struct groups *, const char *name, int fds[GROUP_N_CONTROLLERS]);
/* ppm: of one core; 0: all there is.  bytes 0: no limit. */
enum mc_err group_cpu(const struct groups *, const char *name, uint32_t ppm, struct errbuf *);
enum mc_err group_memory(const struct groups *, const char *name, uint64_t bytes, struct errbuf *);
enum mc_err group_freeze(const struct groups *, const char *name, bool frozen, struct errbuf *);
/* Lets time go on in all groups of a laboratory: what is frozen by version 1 cannot even be killed.
 */
void group_thaw_all(const struct groups *, const char *lab);
/* Removes the groups of a laboratory, which nobody is in.  False: some are still there. */
bool group_remove(const struct groups *, const char *lab);

#endif
