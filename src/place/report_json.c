/* SPDX-License-Identifier: BSD-2-Clause
 *
 * report_json.c - an OrcaLoadReport in proto3's JSON mapping (RFC 8259 for the grammar).
 *
 * A reader of its own, since this runs once a response on the way of requests, where nothing
 * allocates; and the shape is fixed: one object, whose members are numbers or objects of numbers.
 * Both spellings of a name are taken (request_cost, requestCost), numbers may stand in quotes, null
 * is "not set", all by the mapping.  A name with an escape in it is refused: none of ours needs
 * one.
 */
#include "base/check.h"
#include "place/report.h"
#include "place/report_priv.h"

struct json_in {
    const char *p, *end;
};

static const struct {
    const char *snake, *camel;
    enum report_place place; /* REPORT_TOP: a number */
} members[] = {
    {"cpu_utilization", "cpuUtilization", REPORT_TOP},
    {"mem_utilization", "memUtilization", REPORT_TOP},
    {"application_utilization", "applicationUtilization", REPORT_TOP},
    {"rps_fractional", "rpsFractional", REPORT_TOP},
    {"eps", "eps", REPORT_TOP},
    {"rps", "rps", REPORT_TOP},
    {"request_cost", "requestCost", REPORT_COST},
    {"utilization", "utilization", REPORT_UTILIZATION},
    {"named_metrics", "namedMetrics", REPORT_NAMED},
};

/* One object as it is read. */
struct json_top {
    struct report_maker maker;
    uint32_t seen; /* of members */
    bool has_rps;
    double rps; /* the deprecated whole number */
};

/* --- tokens -------------------------------------------------------------------------------------
 */

static void
skip_space(struct json_in *in)
{
    while (in->p < in->end && (*in->p == ' ' || *in->p == '\t' || *in->p == '\n' || *in->p == '\r'))
        in->p++;
}

static bool
take_char(struct json_in *in, char c)
{
    skip_space(in);
    if (in->p == in->end || *in->p != c)
        return false;
    in->p++;
    return true;
}

/* The inside of a string without escapes. */
static bool
take_string(struct json_in *in, struct str *out)
{
    const char *from;

    if (!take_char(in, '"'))
        return false;
    from = in->p;
    while (in->p < in->end && *in->p != '"') {
        if (*in->p == '\\' || (unsigned char)*in->p < ' ')
            return false;
        in->p++;
    }
    if (in->p == in->end)
        return false;
    *out = (struct str){from, (size_t)(in->p - from)};
    in->p++;
    return true;
}

static bool
take_null(struct json_in *in)
{
    skip_space(in);
    if (in->end - in->p < 4 || memcmp(in->p, "null", 4) != 0)
        return false;
    in->p += 4;
    return true;
}

/* JSON's numbers are a subset: no leading zero, no leading or trailing point, no plus. */
static bool
is_json_number(struct str s)
{
    size_t i = s.n > 0 && s.p[0] == '-' ? 1 : 0;

    if (i == s.n || s.p[i] < '0' || s.p[i] > '9')
        return false;
    if (s.p[i] == '0' && i + 1 < s.n && s.p[i + 1] >= '0' && s.p[i + 1] <= '9')
        return false;
    for (; i < s.n; i++)
        if (s.p[i] == '.' && (i + 1 == s.n || s.p[i + 1] < '0' || s.p[i + 1] > '9'))
            return false;
    return true;
}

static enum report_fault
take_number(struct json_in *in, double *out)
{
    struct str s;

    skip_space(in);
    if (in->p < in->end && *in->p == '"')
        return take_string(in, &s) ? report_number(s, out) : REPORT_F_SYNTAX;
    s.p = in->p;
    while (in->p < in->end && strchr("+-.0123456789eE", *in->p) != NULL && *in->p != '\0')
        in->p++;
    s.n = (size_t)(in->p - s.p);
    if (s.n == 0)
        return REPORT_F_SYNTAX;
    return is_json_number(s) ? report_number(s, out) : REPORT_F_NUMBER;
}

/* --- objects ------------------------------------------------------------------------------------
 */

typedef enum report_fault member_f(struct json_top *, enum report_place, struct json_in *,
                                   struct str name);

/* { "name": <whatever member reads>, ... } */
static enum report_fault
take_object(struct json_in *in, struct json_top *top, enum report_place place, member_f *member)
{
    struct str name;
    enum report_fault f;

    if (!take_char(in, '{'))
        return REPORT_F_SYNTAX;
    if (take_char(in, '}'))
        return REPORT_F_NONE;
    do {
        if (!take_string(in, &name) || !take_char(in, ':'))
            return REPORT_F_SYNTAX;
        f = member(top, place, in, name);
        if (f != REPORT_F_NONE)
            return f;
    } while (take_char(in, ','));
    return take_char(in, '}') ? REPORT_F_NONE : REPORT_F_SYNTAX;
}

static enum report_fault
map_member(struct json_top *top, enum report_place place, struct json_in *in, struct str name)
{
    double value;
    enum report_fault f = take_number(in, &value);

    return f != REPORT_F_NONE ? f : report_put(&top->maker, place, name, value);
}

static enum report_fault
number_member(struct json_top *top, unsigned which, struct json_in *in)
{
    struct str name = str_of(members[which].snake);
    double value;
    enum report_fault f = take_number(in, &value);

    if (f != REPORT_F_NONE || !str_eq(name, STR("rps")))
        return f != REPORT_F_NONE ? f : report_put(&top->maker, REPORT_TOP, name, value);
    top->has_rps = true;
    top->rps = value;
    return REPORT_F_NONE;
}

static enum report_fault
top_member(struct json_top *top, enum report_place place, struct json_in *in, struct str name)
{
    for (unsigned i = 0; i < MC_COUNT(members); i++) {
        if (!str_eq(name, str_of(members[i].snake)) && !str_eq(name, str_of(members[i].camel)))
            continue;
        if (top->seen & (1u << i))
            return REPORT_F_DUPLICATE;
        top->seen |= 1u << i;
        if (take_null(in))
            return REPORT_F_NONE;
        if (members[i].place == REPORT_TOP)
            return number_member(top, i, in);
        return take_object(in, top, members[i].place, map_member);
    }
    return name.n == 0 ? REPORT_F_NAME_EMPTY : REPORT_F_NAME_UNKNOWN;
}

enum report_fault
report_parse_json(struct str s, struct place_report *out)
{
    struct json_in in = {s.p, s.p + s.n};
    struct json_top top = {0};
    enum report_fault f;

    report_begin(&top.maker, out);
    if (s.n > REPORT_BYTES_MAX)
        return REPORT_F_TOO_LONG;
    skip_space(&in);
    if (in.p == in.end)
        return REPORT_F_EMPTY;
    f = take_object(&in, &top, REPORT_TOP, top_member);
    if (f != REPORT_F_NONE)
        return f;
    skip_space(&in);
    if (in.p != in.end)
        return REPORT_F_SYNTAX;
    if (top.has_rps && !report_has(out, REPORT_RPS))
        return report_put(&top.maker, REPORT_TOP, STR("rps_fractional"), top.rps);
    return REPORT_F_NONE;
}
