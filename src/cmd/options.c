/* SPDX-License-Identifier: BSD-2-Clause
 *
 * options.c - --socket, --json, --quiet.
 */
#include "cmd/options.h"

#include <getopt.h>

#include "cmd/cmd.h"
#include "control/conf.h"

int
options_read(int argc, char **argv, bool may_quiet, int n_args, struct options *o)
{
    static const struct option known[] = {{"socket", required_argument, NULL, 's'},
                                          {"json", no_argument, NULL, 'j'},
                                          {"quiet", no_argument, NULL, 'q'},
                                          {0}};
    int opt;

    *o = (struct options){.socket = CONF_DEFAULT_SOCKET};
    while ((opt = getopt_long(argc, argv, "s:jq", known, NULL)) != -1) {
        switch (opt) {
        case 's': o->socket = optarg; break;
        case 'j': o->json = true; break;
        case 'q': o->quiet = true; break;
        default: return cmd_bad_usage(argv[0]);
        }
    }
    return argc - optind == n_args && may_quiet >= o->quiet ? 0 : cmd_bad_usage(argv[0]);
}
