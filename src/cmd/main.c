/* SPDX-License-Identifier: BSD-2-Clause
 *
 * main.c - `meercat COMMAND ...`: finds the command and calls it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "cmd/cmd.h"
#include "base/near.h"

static const struct command {
    const char *name;
    cmd_f *fn;
    const char *args, *help;
} commands[] = {
#define X(cmd_name, cmd_fn, cmd_args, cmd_text) {cmd_name, cmd_fn, cmd_args, cmd_text},
    COMMANDS(X)
#undef X
};

char **cmd_argv;

static const struct command *
find(const char *name)
{
    for (size_t i = 0; i < MC_COUNT(commands); i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static void
list(FILE *f)
{
    fprintf(f, "usage: meercat COMMAND [OPTION ...]\n\n");
    for (size_t i = 0; i < MC_COUNT(commands); i++)
        if (commands[i].help != NULL)
            fprintf(f, "  %-10s %s\n", commands[i].name, commands[i].help);
    fprintf(f, "\nmeercat help COMMAND tells more; so do meercat(8) and meercat.conf(5).\n");
}

static int
unknown(const char *name)
{
    struct near near = {.asked = str_of(name)};

    for (size_t i = 0; i < MC_COUNT(commands); i++)
        if (commands[i].help != NULL)
            near_offer(&near, commands[i].name);
    if (near.best != NULL)
        fprintf(stderr, "meercat: no command \"%s\", did you mean \"%s\"?\n", name, near.best);
    else
        fprintf(stderr, "meercat: no command \"%s\"; `meercat help` lists them\n", name);
    return 2;
}

void
cmd_usage(FILE *f, const char *name)
{
    const struct command *c = find(name);

    MC_ASSERT(c != NULL);
    fprintf(f, "usage: meercat %s%s%s\n", c->name, c->args[0] ? " " : "", c->args);
}

int
cmd_bad_usage(const char *name)
{
    cmd_usage(stderr, name);
    return 2;
}

int
cmd_help(int argc, char **argv)
{
    const struct command *c;

    if (argc < 2) {
        list(stdout);
        return 0;
    }
    c = find(argv[1]);
    if (c == NULL)
        return unknown(argv[1]);
    cmd_usage(stdout, c->name);
    if (c->help != NULL)
        printf("%s\n", c->help);
    return 0;
}

int
cmd_version(int argc, char **argv)
{
    printf("meercat %s\n", MEERCAT_VERSION);
    return 0;
}

/* `meercat --help` and `meercat help` are one; so are --version and version. */
static const char *
without_dashes(const char *name)
{
    static const struct {
        const char *option, *command;
    } same[] = {{"--help", "help"}, {"-h", "help"}, {"--version", "version"}, {"-V", "version"}};

    for (size_t i = 0; i < MC_COUNT(same); i++)
        if (strcmp(name, same[i].option) == 0)
            return same[i].command;
    return name;
}

int
main(int argc, char **argv)
{
    const struct command *c;

    cmd_argv = argv;
    if (argc < 2) {
        list(stderr);
        return 2;
    }
    c = find(without_dashes(argv[1]));
    if (c == NULL)
        return unknown(argv[1]);
    if (argc == 3 && strcmp(argv[2], "--help") == 0)
        return cmd_help(2, argv);
    return c->fn(argc - 1, argv + 1);
}
