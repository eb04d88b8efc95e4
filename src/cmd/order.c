/* SPDX-License-Identifier: BSD-2-Clause
 *
 * order.c - `meercat drain`, `ready`, `maint`, `weight`, `unset`, `reload`, `leave`: what a
 * balancer is told.
 */
#include <getopt.h>
#include <jansson.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "cmd/client.h"
#include "cmd/cmd.h"
#include "control/conf.h"

/* Leaves argv[optind...] to the caller; 0 to go on, else the exit status. */
static int
read_options(int argc, char **argv, int n_args, const char **socket)
{
    static const struct option options[] = {{"socket", required_argument, NULL, 's'}, {0}};
    int opt;

    *socket = CONF_DEFAULT_SOCKET;
    while ((opt = getopt_long(argc, argv, "s:", options, NULL)) != -1) {
        if (opt != 's')
            return cmd_bad_usage(argv[0]);
        *socket = optarg;
    }
    return argc - optind == n_args ? 0 : cmd_bad_usage(argv[0]);
}

/* Sends an order; the balancer's words go to standard error when it refuses. */
static int
give(const char *socket, const char *path, const char *body, bool show_text)
{
    struct client_answer a;
    struct errbuf e;
    json_t *j;
    int rv = 1;

    if (client_ask(socket, path, body, &a, &e) != MC_OK) {
        fprintf(stderr, "meercat: %s\n", e.text);
        return 1;
    }
    j = json_loadb(a.body.p ? a.body.p : "", a.body.n, 0, NULL);
    if (a.status == 200) {
        if (show_text && a.body.n > 0)
            fputs(a.body.p, stdout);
        rv = 0;
    } else if (j != NULL) {
        fprintf(stderr, "meercat: %s\n", json_string_value(json_object_get(j, "error")));
    } else {
        fputs(a.body.p ? a.body.p : "meercat: refused\n", stderr);
    }
    json_decref(j);
    buf_free(&a.body);
    return rv;
}

/* server: POOL/SERVER, checked so far that it can stand in a path. */
static int
give_server(const char *command, const char *socket, const char *server, const char *body)
{
    const char *slash = strchr(server, '/');
    char *path;
    int rv;

    if (slash == NULL || slash == server || slash[1] == '\0' ||
        strspn(server, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./") !=
            strlen(server)) {
        fprintf(stderr, "meercat: \"%s\" is no server, expected POOL/SERVER\n", server);
        return cmd_bad_usage(command);
    }
    path = mc_printf("/v1/servers/%s", server);
    rv = give(socket, path, body, false);
    free(path);
    return rv;
}

/* Whose word it is: the balancers tell each other. */
static const char *
who_am_i(void)
{
    const char *sudo = getenv("SUDO_USER");
    const struct passwd *pw = getpwuid(getuid());

    return sudo != NULL && getuid() == 0 ? sudo : pw != NULL ? pw->pw_name : "";
}

/* Takes over the order's value. */
static int
give_word(const char *command, const char *socket, const char *server, const char *key,
          json_t *value)
{
    json_t *j = json_pack("{s:o, s:o}", key, value, "who",
                          json_stringn(who_am_i(), strnlen(who_am_i(), 63)));
    char *body = json_dumps(j, JSON_COMPACT);
    int rv = give_server(command, socket, server, body);

    free(body);
    json_decref(j);
    return rv;
}

static int
set_state(int argc, char **argv, const char *state)
{
    const char *socket;
    int rv = read_options(argc, argv, 1, &socket);

    return rv != 0 ? rv : give_word(argv[0], socket, argv[optind], "state", json_string(state));
}

int
cmd_unset(int argc, char **argv)
{
    return set_state(argc, argv, "configured");
}

int
cmd_drain(int argc, char **argv)
{
    return set_state(argc, argv, "drain");
}

int
cmd_ready(int argc, char **argv)
{
    return set_state(argc, argv, "ready");
}

int
cmd_maint(int argc, char **argv)
{
    return set_state(argc, argv, "maint");
}

int
cmd_weight(int argc, char **argv)
{
    const char *socket;
    int rv = read_options(argc, argv, 2, &socket);
    uint64_t weight;

    if (rv != 0)
        return rv;
    if (!str_u64(str_of(argv[optind + 1]), &weight) || weight > FLEET_WEIGHT_MAX) {
        fprintf(stderr, "meercat: \"%s\" is no weight, expected 0 to %d\n", argv[optind + 1],
                FLEET_WEIGHT_MAX);
        return 2;
    }
    return give_word(argv[0], socket, argv[optind], "weight", json_integer((json_int_t)weight));
}

int
cmd_reload(int argc, char **argv)
{
    const char *socket;
    int rv = read_options(argc, argv, 0, &socket);

    return rv != 0 ? rv : give(socket, "/v1/reload", "", true);
}

int
cmd_leave(int argc, char **argv)
{
    const char *socket;
    int rv = read_options(argc, argv, 0, &socket);

    return rv != 0 ? rv : give(socket, "/v1/leave", "", false);
}
