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
#define COMMANDS(X)                                                                               \
    X("serve", cmd_serve, "[-c FILE] [--engine auto|epoll|uring] [--binary FILE] [-t | --check]", \
      "run the balancer")                                                                         \
    X("agent", cmd_agent, "[--once] [OPTION ...]",                                                \
      "tell balancers how busy this server is; see meercat-agent(8)")                             \
    X("check", cmd_check, "[-c FILE | FILE]", "check a configuration, tell every fault")          \
    X("sim", cmd_sim,                                                                             \
      "[--scenario NAME | --replay LOG] [--balancers N] [--servers N] [--cores N] [--load L] "    \
      "[--policy P,...] [--seconds S] [--seed N] [--csv | --costs | --bytes | --plot FILE.svg | " \
      "--tables | --wire] [--without PART,...] [--lose N] [--traffic +N%] [--budget BYTES]",      \
      "play a workload against the placement code")                                               \
    X("lab", cmd_lab, "COMMAND [--name NAME] [OPTION ...] ...",                                   \
      "a testbed of hosts and networks on this machine; see meercat-lab(8)")                      \
    X("status", cmd_status, "[--socket PATH] [--json | --quiet]", "what a running balancer does") \
    X("servers", cmd_servers, "[--socket PATH] [--json]", "the servers and their state")          \
    X("pools", cmd_pools, "[--socket PATH] [--json]", "the pools and how they are")               \
    X("listeners", cmd_listeners, "[--socket PATH] [--json]", "where clients connect")            \
    X("routes", cmd_routes, "[--socket PATH] [--json]", "which requests go to which pool")        \
    X("vips", cmd_vips, "[--socket PATH] [--json]", "the addresses that it carries, and why")     \
    X("costs", cmd_costs, "[--socket PATH] [--json]", "what requests need, as it was learned")    \
    X("explain", cmd_explain, "[--socket PATH] [--json] [-H 'NAME: VALUE' ...] METHOD URL",       \
      "where a request would go now, and why not elsewhere")                                      \
    X("drain", cmd_drain, "[--socket PATH] [--json] POOL/SERVER",                                 \
      "let a server finish, send nothing new")                                                    \
    X("ready", cmd_ready, "[--socket PATH] [--json] POOL/SERVER",                                 \
      "let a server take requests again")                                                         \
    X("maint", cmd_maint, "[--socket PATH] [--json] POOL/SERVER",                                 \
      "take a server out, checks included")                                                       \
    X("weight", cmd_weight, "[--socket PATH] [--json] POOL/SERVER N",                             \
      "change the weight of a server")                                                            \
    X("unset", cmd_unset, "[--socket PATH] [--json] POOL/SERVER",                                 \
      "take these words back: the server is as configured")                                       \
    X("members", cmd_members, "[--socket PATH] [--json | --quiet]",                               \
      "the balancers of the cluster")                                                             \
    X("withdraw", cmd_withdraw, "[--socket PATH] [--json]",                                       \
      "attract no more traffic, until resume")                                                    \
    X("resume", cmd_resume, "[--socket PATH] [--json]", "attract traffic again")                  \
    X("leave", cmd_leave, "[--socket PATH] [--json]",                                             \
      "leave the cluster and end, when requests have ended")                                      \
    X("reload", cmd_reload, "[--socket PATH] [--json]",                                           \
      "read the configuration again, tell its faults")                                            \
    X("guard", cmd_guard, "show [INTERFACE] | clear [INTERFACE]",                                 \
      "what protects connections in the kernel; remove it by hand")                               \
    X("upgrade", cmd_upgrade, "[--socket PATH] [--json]",                                         \
      "let a new process take over, of the program as it is on the disk now")                     \
    X("keygen", cmd_keygen, "[FILE | --add FILE]", "make a key for the balancers of a cluster")   \
    X("lab-keys", cmd_lab_keys, "", NULL)                                                         \
    X("conf-keys", cmd_conf_keys, "", NULL)                                                       \
    X("help", cmd_help, "[COMMAND]", "tell how to use a command")                                 \
    X("version", cmd_version, "", "tell the version")

#define X(name, fn, args, help) cmd_f fn;
COMMANDS(X)
#undef X

/* Of the process, as it was started. */
extern char **cmd_argv;

/* "usage: meercat NAME ARGS" to f. */
void cmd_usage(FILE *f, const char *name);
/* For an option that getopt_long() refused: usage to standard error; returns 2. */
int cmd_bad_usage(const char *name);
/* Checks a configuration, tells its faults; returns the exit status. */
int cmd_check_file(const char *path);

#endif
