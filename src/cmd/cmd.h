/* SPDX-License-Identifier: BSD-2-Clause
 *
 * cmd.h - the commands of the program `meercat`: one function each, named in one table.
 */
#ifndef MC_CMD_CMD_H
#define MC_CMD_CMD_H

#include <stdio.h>

#ifndef MEERCAT_VERSION
#define MEERCAT_VERSION "0-dev"
#endif

/* argv[0] is the command's name.  Returns the exit status. */
typedef int cmd_f(int argc, char **argv);

/* X(name, function, arguments, one line of help); a NULL help hides the command. */
#define COMMANDS(X)                                                                      \
    X("serve", cmd_serve, "[-c FILE] [--engine auto|epoll|uring] [-t | --check]",        \
      "run the balancer")                                                                \
    X("check", cmd_check, "[-c FILE | FILE]", "check a configuration, tell every fault") \
    X("help", cmd_help, "[COMMAND]", "tell how to use a command")                        \
    X("version", cmd_version, "", "tell the version")

#define X(name, fn, args, help) cmd_f fn;
COMMANDS(X)
#undef X

/* "usage: meercat NAME ARGS" to f. */
void cmd_usage(FILE *f, const char *name);
/* For an option that getopt_long() refused: usage to standard error; returns 2. */
int cmd_bad_usage(const char *name);
/* Checks a configuration, tells its faults; returns the exit status. */
int cmd_check_file(const char *path);

#endif
