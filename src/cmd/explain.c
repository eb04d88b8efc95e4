/* SPDX-License-Identifier: BSD-2-Clause
 *
 * explain.c - `meercat explain`: where a request would go now, and why not elsewhere.
 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "cmd/answer.h"
#include "cmd/cmd.h"
#include "cmd/table.h"
#include "control/conf.h"

/* Percent-encodes all but the unreserved of RFC 3986 2.3. */
static void
add_encoded(struct buf *b, const char *name, const char *text)
{
    buf_printf(b, "%s=", name);
    for (const char *p = text; *p != '\0'; p++) {
        unsigned char c = (unsigned char)*p;

        if ((c >= '0' && c <= '9') || (str_lower(c) >= 'a' && str_lower(c) <= 'z') ||
            strchr("-._~", c) != NULL)
            buf_add(b, p, 1);
        else
            buf_printf(b, "%%%02X", c);
    }
}

/* Where the name of the class is from. */
static const char *
class_origin(const json_t *c)
{
    if (json_is_true(json_object_get(c, "rule")))
        return "by rule";
    return strcmp(answer_word(c, "name"), CLASS_OTHER) == 0 ? "none of its own" : "by its shape";
}

static void
class_line(const json_t *c)
{
    if (json_is_null(c))
        return;
    printf("class     %s, %s", answer_word(c, "name"), class_origin(c));
    if (json_is_true(json_object_get(c, "known")))
        printf(": %.3g ms of CPU, %.2f cores while under way, %.1f MB%s", answer_real(c, "cpu_ms"),
               answer_real(c, "phi"), answer_real(c, "memory_bytes") / 1e6,
               json_is_true(json_object_get(c, "heavy")) ? ", heavy" : "");
    else
        printf(": what it needs is not known yet");
    printf("\n");
}

static void
number_cell(struct table *t, const json_t *s, const char *name, const char *none)
{
    if (json_is_number(json_object_get(s, name)))
        table_add(t, TABLE_PLAIN, "%.2f", answer_real(s, name));
    else
        table_add(t, TABLE_DIM, "%s", none);
}

static enum table_colour
verdict_colour(const char *verdict)
{
    static const char *const usable[] = {"eligible", "score", "not-drawn", "away"};

    if (strcmp(verdict, "chosen") == 0)
        return TABLE_GOOD;
    for (size_t i = 0; i < MC_COUNT(usable); i++)
        if (strcmp(verdict, usable[i]) == 0)
            return TABLE_PLAIN;
    return TABLE_BAD;
}

static void
server_row(struct table *t, const json_t *s, bool scored)
{
    const char *verdict = answer_word(s, "verdict");

    table_add(t, TABLE_PLAIN, "%s", answer_word(s, "name"));
    table_add(t, TABLE_PLAIN, "%s", answer_word(s, "state"));
    table_add(t, TABLE_PLAIN, "%lld", answer_number(s, "in_flight"));
    if (scored) {
        number_cell(t, s, "wanted", "-");
        number_cell(t, s, "cores", "?");
        number_cell(t, s, "factor", "-");
        table_add(t, TABLE_PLAIN, "%s", json_is_true(json_object_get(s, "home")) ? "yes" : "no");
        number_cell(t, s, "score", "-");
    }
    table_add(t, verdict_colour(verdict), "%s", verdict);
    table_add(t, TABLE_PLAIN, "%s", answer_word(s, "why"));
}

static void
servers_table(const json_t *servers)
{
    bool scored = json_is_number(json_object_get(json_array_get(servers, 0), "score"));
    struct table t;
    json_t *s;
    size_t i;

    table_init(&t, scored ? "SERVER STATE >BUSY >WANTED >CORES >FACTOR HOME >SCORE VERDICT BECAUSE"
                          : "SERVER STATE >BUSY VERDICT BECAUSE");
    json_array_foreach(servers, i, s)
    {
        server_row(&t, s, scored);
    }
    table_print(&t, stdout);
    table_free(&t);
}

static void
print(const json_t *j)
{
    const json_t *request = json_object_get(j, "request");
    const char *host = answer_word(request, "host");

    printf("request   %s %s%s%s\n", answer_word(request, "method"), answer_word(request, "path"),
           host[0] ? " of " : "", host);
    if (json_is_null(json_object_get(j, "route"))) {
        printf("route     none: it would be answered with 404\n");
        return;
    }
    printf("route     %s\npool      %s, balance = %s\n", answer_word(j, "route"),
           answer_word(j, "pool"), answer_word(j, "balance"));
    class_line(json_object_get(j, "class"));
    printf("server    ");
    if (json_is_string(json_object_get(j, "server")))
        printf("%s: ", answer_word(j, "server"));
    printf("%s%s\n\n", answer_word(j, "text"),
           json_is_true(json_object_get(j, "waits")) ? "; it would wait" : "");
    servers_table(json_object_get(j, "servers"));
}

static int
ask(const char *socket, const char *path, bool json)
{
    json_t *j = answer_get(socket, path, false);

    if (j == NULL)
        return 1;
    if (json)
        return answer_print(j);
    print(j);
    json_decref(j);
    return 0;
}

int
cmd_explain(int argc, char **argv)
{
    static const struct option options[] = {{"socket", required_argument, NULL, 's'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"header", required_argument, NULL, 'H'},
                                            {0}};
    const char *socket = CONF_DEFAULT_SOCKET;
    struct buf path = {0};
    bool json = false;
    int opt, rv;

    buf_str(&path, STR("/v1/explain?"));
    while ((opt = getopt_long(argc, argv, "s:jH:", options, NULL)) != -1) {
        switch (opt) {
        case 's': socket = optarg; break;
        case 'j': json = true; break;
        case 'H':
            add_encoded(&path, "field", optarg);
            buf_str(&path, STR("&"));
            break;
        default: buf_free(&path); return cmd_bad_usage(argv[0]);
        }
    }
    if (argc - optind == 2) {
        add_encoded(&path, "method", argv[optind]);
        add_encoded(&path, "&url", argv[optind + 1]);
        rv = ask(socket, path.p, json);
    } else {
        rv = cmd_bad_usage(argv[0]);
    }
    buf_free(&path);
    return rv;
}
