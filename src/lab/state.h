/* SPDX-License-Identifier: BSD-2-Clause
 *
 * state.h - where laboratories keep what must be found again: a directory each, and in it a file
 * that is locked as long as it is up.  The lock goes with the processes that hold it, so that what
 * is left of a laboratory that was killed is known for what it is.
 */
#ifndef MC_LAB_STATE_H
#define MC_LAB_STATE_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "lab/group.h"

/* The directory of a laboratory, malloc'd. */
char *state_dir(const char *name);
/* Makes it.  MC_EEXIST: it is up.  *lock is for whoever keeps it up. */
enum mc_err state_claim(const char *name, int *lock, struct errbuf *);
/* Is it up? */
bool state_is_held(const char *name);
/* To wait for its end, from before that is brought about; -1: it is not up. */
int state_watch(const char *name);
/* Closes what state_watch() opened; false: it is still up after that time. */
bool state_wait_gone(int watch, unsigned ms);
/* The janitor's process id; 0: unknown. */
pid_t state_janitor(const char *name);
bool state_put_janitor(const char *name, pid_t);
/* Removes the directory and the control groups; the processes have ended. */
void state_remove(const char *name, const struct groups *);
/* Calls for every laboratory that has a directory. */
void state_each(void (*fn)(const char *name, void *arg), void *arg);
/* Removes those that are not held. */
void state_sweep(void);

#endif
