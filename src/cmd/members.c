/* SPDX-License-Identifier: BSD-2-Clause
 *
 * members.c - `meercat members`: who is in the cluster, as one of them sees it.
 */
#include <jansson.h>
#include <string.h>

#include "base/check.h"
#include "cmd/answer.h"
#include "cmd/cmd.h"
#include "cmd/options.h"
#include "cmd/table.h"

static enum table_colour
colour_of(const char *state)
{
    if (strcmp(state, "alive") == 0)
        return TABLE_GOOD;
    return strcmp(state, "dead") == 0 ? TABLE_BAD : TABLE_ODD;
}

static void
cell(struct table *t, const json_t *m, const char *name, const char *fmt, double scale)
{
    const json_t *j = json_object_get(m, name);

    if (json_is_number(j))
        table_add(t, TABLE_PLAIN, fmt, json_number_value(j) * scale);
    else
        table_add(t, TABLE_DIM, "-");
}

static void
member_row(struct table *t, const json_t *m)
{
    const char *state = answer_word(m, "state");
    const json_t *same = json_object_get(m, "same_config");

    table_add(t, TABLE_PLAIN, "%s%s", answer_word(m, "name"),
              json_is_true(json_object_get(m, "self")) ? " *" : "");
    table_add(t, TABLE_PLAIN, "%s", answer_word(m, "address"));
    table_add(t, colour_of(state), "%s", state);
    cell(t, m, "since_s", "%.0f", 1);
    cell(t, m, "rtt_ms", "%.2f", 1);
    cell(t, m, "loss", "%.1f%%", 100);
    cell(t, m, "heard_ms", "%.0f", 1);
    cell(t, m, "facts", "%.0f", 1);
    cell(t, m, "newest_fact_ms", "%.0f", 1);
    cell(t, m, "bytes_in", "%.1f", 1e-6);
    cell(t, m, "bytes_out", "%.1f", 1e-6);
    cell(t, m, "clock_ms", "%+.0f", 1);
    if (same == NULL)
        table_add(t, TABLE_DIM, "-");
    else if (json_is_true(same))
        table_add(t, TABLE_PLAIN, "same");
    else
        table_add(t, TABLE_ODD, "other");
    table_add(t, TABLE_PLAIN, "%s", answer_word(m, "version"));
}

static void
members_table(const json_t *j)
{
    struct table t;
    json_t *m;
    size_t i;

    table_init(&t, "NAME ADDRESS STATE >SINCE-S >RTT-MS >LOSS >HEARD-MS >FACTS >NEWEST-MS >MB-IN "
                   ">MB-OUT >CLOCK-MS CONFIG VERSION");
    json_array_foreach(json_object_get(j, "members"), i, m)
    {
        member_row(&t, m);
    }
    table_print(&t, stdout);
    table_free(&t);
}

static bool
all_alive(const json_t *j)
{
    json_t *m;
    size_t i;

    json_array_foreach(json_object_get(j, "members"), i, m)
    {
        const char *state = answer_word(m, "state");

        if (strcmp(state, "suspect") == 0 || strcmp(state, "dead") == 0)
            return false;
    }
    return true;
}

/* 0: all members are alive or have left; 1: some are not, or nobody answers. */
int
cmd_members(int argc, char **argv)
{
    struct options o;
    int rv = options_read(argc, argv, true, 0, &o);
    json_t *j;

    if (rv != 0)
        return rv;
    j = answer_get(o.socket, "/v1/members", o.quiet);
    if (j == NULL)
        return 1;
    rv = all_alive(j) ? 0 : 1;
    if (o.quiet || o.json) {
        if (!o.quiet)
            answer_print(j);
        else
            json_decref(j);
        return rv;
    }
    if (json_array_size(json_object_get(j, "members")) == 0)
        puts("this balancer is in no cluster");
    else
        members_table(j);
    json_decref(j);
    return rv;
}
