/* SPDX-License-Identifier: BSD-2-Clause
 *
 * options.h - the options of commands that speak with a running balancer.
 */
#ifndef MC_CMD_OPTIONS_H
#define MC_CMD_OPTIONS_H

#include <stdbool.h>

struct options {
    const char *socket;
    bool json, quiet;
};

/* Leaves argv[optind...], n_args of them, to the caller; 0 to go on, else the exit status, and what
 * is wrong has been told.  may_quiet: the command has --quiet. */
int options_read(int argc, char **argv, bool may_quiet, int n_args, struct options *);

#endif
