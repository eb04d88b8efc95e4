/* SPDX-License-Identifier: BSD-2-Clause
 *
 * run.h - a program that is run to its end in a host: ip(8), nft(8), tc(8), the commands of a
 * topology.  What it reads and what it says lie in memory, so that nobody waits for a pipe.
 */
#ifndef MC_LAB_RUN_H
#define MC_LAB_RUN_H

#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"
#include "lab/space.h"

struct run {
    pid_t pid; /* 0: not started */
    int said;  /* standard output and error */
};

/* In a child: signals as a program expects them, whatever we ignore or block. */
void run_reset_signals(void);
/* Starts it in a space (NULL: where we are) and a directory (NULL: this one), with `input` to
 * read. */
enum mc_err run_start(struct run *, const struct space *, const char *dir, const char *const argv[],
                      struct str input, struct errbuf *);
/* Waits for its end: *status is that of waitpid(2), and what it said is added to `said`. */
void run_finish(struct run *, int *status, struct buf *said);
/* Both; MC_ESYS when it did not succeed, and e has the first line that it said. */
enum mc_err run_all(const struct space *, const char *dir, const char *const argv[],
                    struct str input, struct errbuf *e);

#endif
