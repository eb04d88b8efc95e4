/* SPDX-License-Identifier: BSD-2-Clause
 *
 * serve.c - `meercat serve`: a balancer, in the foreground.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "cmd/cmd.h"
#include "control/node.h"

int
cmd_serve(int argc, char **argv)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"engine", required_argument, NULL, 'e'},
                                            {"binary", required_argument, NULL, 'b'},
                                            {"check", no_argument, NULL, 't'},
                                            {0}};
    struct node_options o = {.conf_file = CONF_DEFAULT_FILE, .argv = cmd_argv};
    char *found = NULL;
    bool check = false;
    int opt, rv;

    while ((opt = getopt_long(argc, argv, "c:t", options, NULL)) != -1) {
        switch (opt) {
        case 'c': o.conf_file = optarg; break;
        case 't': check = true; break;
        case 'b': o.binary = optarg; break;
        case 'e':
            o.engine_given = loop_engine_parse(optarg, &o.engine);
            if (!o.engine_given)
                return cmd_bad_usage("serve");
            break;
        default: return cmd_bad_usage("serve");
        }
    }
    if (optind < argc)
        return cmd_bad_usage("serve");
    if (check)
        return cmd_check_file(o.conf_file);
    if (o.binary == NULL)
        o.binary = found = upgrade_find_binary(cmd_argv[0]);
    rv = node_run(&o);
    free(found);
    return rv;
}
