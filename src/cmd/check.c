/* SPDX-License-Identifier: BSD-2-Clause
 *
 * check.c - `meercat check`: is this configuration good?  Every fault as FILE:LINE, exit 0 or 1.
 */
#include <getopt.h>
#include <stdio.h>

#include "cmd/cmd.h"
#include "control/conf.h"
#include "control/conf_keys.h"

int
cmd_check_file(const char *path)
{
    struct conf_faults faults = {0};
    struct buf text = {0};
    struct conf *conf;
    bool good = conf_load(path, &conf, &faults) == MC_OK;

    conf_faults_text(&faults, &text);
    if (text.n > 0)
        fwrite(text.p, 1, text.n, stderr);
    if (good)
        printf("%s: ok\n", path);
    conf_faults_free(&faults);
    conf_free(&conf);
    buf_free(&text);
    return good ? 0 : 1;
}

int
cmd_check(int argc, char **argv)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'}, {0}};
    const char *file = CONF_DEFAULT_FILE;
    int opt;

    while ((opt = getopt_long(argc, argv, "c:", options, NULL)) != -1) {
        if (opt != 'c')
            return cmd_bad_usage("check");
        file = optarg;
    }
    if (optind < argc)
        file = argv[optind++];
    if (optind < argc)
        return cmd_bad_usage("check");
    return cmd_check_file(file);
}

/* Hidden: the tables of meercat.conf(5), from which `make` builds the page. */
int
cmd_conf_keys(int argc, char **argv)
{
    struct buf text = {0};

    conf_keys_mdoc(&text);
    fwrite(text.p, 1, text.n, stdout);
    buf_free(&text);
    return 0;
}
