/* SPDX-License-Identifier: BSD-2-Clause
 *
 * order.c - `meercat drain`, `ready`, `maint`, `weight`, `unset`, `reload`, `leave`: what a
 * balancer is told.
 */
#include <jansson.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "cmd/answer.h"
#include "cmd/client.h"
#include "cmd/cmd.h"
#include "cmd/options.h"
#include "fleet/pool.h"

/* What the balancer answered, for a script: its JSON as it is, its text as a string. */
static void
show_json(const struct client_answer *a, const struct errbuf *e)
{
    json_t *j = json_loadb(a->body.p ? a->body.p : "", a->body.n, 0, NULL);

    if (j == NULL && a->body.n > 0)
        j = json_pack("{s:b, s:s%}", "ok", a->status == 200, "text", a->body.p, a->body.n);
    if (j == NULL)
        j = a->status == 200 ? json_pack("{s:b}", "ok", 1) : json_pack("{s:s}", "error", e->text);
    answer_print(j);
}

/* For a person: nothing when all is well, but what reload has to say. */
static void
show_text(const struct client_answer *a, const struct errbuf *e)
{
    json_t *j = json_loadb(a->body.p ? a->body.p : "", a->body.n, 0, NULL);

    if (a->status == 0)
        fprintf(stderr, "meercat: %s\n", e->text);
    else if (a->status == 200 && j == NULL && a->body.n > 0)
        fputs(a->body.p, stdout);
    else if (a->status != 200 && j != NULL)
        fprintf(stderr, "meercat: %s\n", answer_word(j, "error"));
    else if (a->status != 200)
        fputs(a->body.p ? a->body.p : "meercat: refused\n", stderr);
    json_decref(j);
}

/* Sends an order; returns the exit status. */
static int
give(const struct options *o, const char *path, const char *body)
{
    struct client_answer a = {0};
    struct errbuf e = {""};
    int rv;

    if (client_ask(o->socket, path, body, &a, &e) != MC_OK)
        a = (struct client_answer){0};
    if (o->json)
        show_json(&a, &e);
    else
        show_text(&a, &e);
    rv = a.status == 200 ? 0 : 1;
    buf_free(&a.body);
    return rv;
}

/* server: POOL/SERVER, checked so far that it can stand in a path. */
static int
give_server(const char *command, const struct options *o, const char *server, const char *body)
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
    rv = give(o, path, body);
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
give_word(const char *command, const struct options *o, const char *server, const char *key,
          json_t *value)
{
    json_t *who = json_stringn(who_am_i(), strnlen(who_am_i(), 63));
    /* a name that is not UTF-8, or was cut within a letter, is left out */
    json_t *j = json_pack("{s:o, s:o}", key, value, "who", who ? who : json_string(""));
    char *body = json_dumps(j, JSON_COMPACT);
    int rv = give_server(command, o, server, body);

    free(body);
    json_decref(j);
    return rv;
}

static int
set_state(int argc, char **argv, const char *state)
{
    struct options o;
    int rv = options_read(argc, argv, false, 1, &o);

    return rv != 0 ? rv : give_word(argv[0], &o, argv[optind], "state", json_string(state));
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
    struct options o;
    int rv = options_read(argc, argv, false, 2, &o);
    uint64_t weight;

    if (rv != 0)
        return rv;
    if (!str_u64(str_of(argv[optind + 1]), &weight) || weight > FLEET_WEIGHT_MAX) {
        fprintf(stderr, "meercat: \"%s\" is no weight, expected 0 to %d\n", argv[optind + 1],
                FLEET_WEIGHT_MAX);
        return 2;
    }
    return give_word(argv[0], &o, argv[optind], "weight", json_integer((json_int_t)weight));
}

int
cmd_reload(int argc, char **argv)
{
    struct options o;
    int rv = options_read(argc, argv, false, 0, &o);

    return rv != 0 ? rv : give(&o, "/v1/reload", "");
}

int
cmd_withdraw(int argc, char **argv)
{
    struct options o;
    int rv = options_read(argc, argv, false, 0, &o);

    return rv != 0 ? rv : give(&o, "/v1/withdraw", "");
}

int
cmd_resume(int argc, char **argv)
{
    struct options o;
    int rv = options_read(argc, argv, false, 0, &o);

    return rv != 0 ? rv : give(&o, "/v1/resume", "");
}

int
cmd_leave(int argc, char **argv)
{
    struct options o;
    int rv = options_read(argc, argv, false, 0, &o);

    return rv != 0 ? rv : give(&o, "/v1/leave", "");
}
