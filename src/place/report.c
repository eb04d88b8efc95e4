/* SPDX-License-Identifier: BSD-2-Clause
 *
 * report.c - the way into a report that all formats share, and its TEXT form (Envoy's "native HTTP"
 * encoding, source/common/orca/orca_parser.cc), read and written.
 *
 * Where Envoy is lenient (negative values, shares above 1) this is not: what comes out of here goes
 * into decisions.
 */
#include "place/report.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "place/report_priv.h"

#define NUMBER_MAX 48 /* bytes; a double written with all its digits needs 24 */

static const struct {
    size_t offset;
    double max;
} fields[] = {
#define X(id, member, text, max) {offsetof(struct place_report, member), max},
    REPORT_FIELDS(X)
#undef X
};

static const struct {
    size_t offset;
    uint64_t below;
} ints[] = {
#define X(id, member, text, below) {offsetof(struct place_report, member), below},
    REPORT_INTS(X)
#undef X
};

/* What they are called in TEXT. */
static const struct str names[] = {
#define X(id, member, text, bound) {text, sizeof(text) - 1},
    REPORT_FIELDS(X) REPORT_INTS(X)
#undef X
};

#define NAMED_PREFIX "named_metrics."

static_assert(REPORT_N_FIELDS <= 32, "present has a bit for each field");
static_assert((int)REPORT_BOOT == (int)MC_COUNT(fields), "whole numbers follow the fields");

/* --- faults -------------------------------------------------------------------------------------
 */

static const struct {
    const char *name, *text;
} faults[] = {
#define X(id, name, text) {name, text},
    REPORT_FAULTS(X)
#undef X
};

const char *
report_fault_name(enum report_fault f)
{
    MC_ASSERT(f < REPORT_N_FAULTS);
    return faults[f].name;
}

const char *
report_fault_text(enum report_fault f)
{
    MC_ASSERT(f < REPORT_N_FAULTS);
    return faults[f].text;
}

/* --- numbers ------------------------------------------------------------------------------------
 */

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static size_t
skip_digits(struct str s, size_t i)
{
    while (i < s.n && is_digit(s.p[i]))
        i++;
    return i;
}

/* digits [. digits] [e [sign] digits], with a digit before or behind the point. */
static bool
is_decimal(struct str s)
{
    size_t i = skip_digits(s, 0), n_digits = i, from;

    if (i < s.n && s.p[i] == '.') {
        from = ++i;
        i = skip_digits(s, i);
        n_digits += i - from;
    }
    if (n_digits == 0)
        return false;
    if (i < s.n && (s.p[i] | 0x20) == 'e') {
        i++;
        if (i < s.n && (s.p[i] == '+' || s.p[i] == '-'))
            i++;
        from = i;
        i = skip_digits(s, i);
        if (i == from)
            return false;
    }
    return i == s.n;
}

static bool
is_not_finite(struct str s)
{
    return str_eq_ci(s, STR("nan")) || str_eq_ci(s, STR("inf")) || str_eq_ci(s, STR("infinity"));
}

enum report_fault
report_number(struct str s, double *out)
{
    char text[NUMBER_MAX];
    bool negative = false;

    if (s.n > 0 && (s.p[0] == '-' || s.p[0] == '+')) {
        negative = s.p[0] == '-';
        s = (struct str){s.p + 1, s.n - 1};
    }
    if (is_not_finite(s))
        return REPORT_F_NOT_FINITE;
    if (s.n >= sizeof(text) || !is_decimal(s))
        return REPORT_F_NUMBER;
    memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    *out = strtod(text, NULL); /* the program never leaves the C locale */
    if (!isfinite(*out))
        return REPORT_F_NOT_FINITE; /* 1e999 */
    return negative && *out != 0 ? REPORT_F_NEGATIVE : REPORT_F_NONE;
}

/* --- entries ------------------------------------------------------------------------------------
 */

void
report_begin(struct report_maker *m, struct place_report *out)
{
    memset(out, 0, sizeof(*out));
    m->out = out;
    m->n = m->n_seen = m->next = 0;
}

/* True when this is the first of that name. */
static bool
is_new(struct report_maker *m, enum report_place place, struct str name)
{
    for (unsigned i = 0; i < m->n_seen; i++)
        if (m->seen[i].place == place && str_eq(m->seen[i].name, name))
            return false;
    m->seen[m->n_seen].place = place;
    m->seen[m->n_seen++].name = name;
    return true;
}

/* Names are shown to people and stand in tables: no control bytes. */
static enum report_fault
check_name(struct str name)
{
    if (name.n == 0)
        return REPORT_F_NAME_EMPTY;
    if (name.n >= REPORT_NAME_MAX)
        return REPORT_F_NAME_LONG;
    for (size_t i = 0; i < name.n; i++)
        if ((unsigned char)name.p[i] <= ' ' || name.p[i] == 0x7f)
            return REPORT_F_SYNTAX;
    return REPORT_F_NONE;
}

/* More than there is room for is left out: an application may well have fifty metrics of its own,
 * and that is no reason to refuse what it says of its CPU. */
static void
keep(struct report_named *map, uint8_t *n, struct str name, double value, bool utilization)
{
    struct report_named *m = &map[*n];

    if (*n == REPORT_MAPS_MAX)
        return;
    (*n)++;
    memcpy(m->name, name.p, name.n);
    m->name[name.n] = '\0';
    m->value = value;
    m->utilization = utilization;
}

static enum report_fault
put_field(struct place_report *r, unsigned i, double value)
{
    if (value > fields[i].max)
        return REPORT_F_RANGE;
    memcpy((char *)r + fields[i].offset, &value, sizeof(value));
    r->present |= 1u << i;
    return REPORT_F_NONE;
}

static enum report_fault
put_int(struct place_report *r, unsigned i, double value)
{
    uint64_t whole;

    if (value >= (double)ints[i].below || value != floor(value))
        return REPORT_F_RANGE;
    whole = (uint64_t)value;
    memcpy((char *)r + ints[i].offset, &whole, sizeof(whole));
    r->present |= 1u << ((unsigned)REPORT_BOOT + i);
    return REPORT_F_NONE;
}

static bool
is_called(struct str text, enum report_place place, struct str name)
{
    size_t skip = place == REPORT_NAMED ? sizeof(NAMED_PREFIX) - 1 : 0;

    return text.n == skip + name.n && memcmp(text.p + skip, name.p, name.n) == 0 &&
           str_starts(text, STR(NAMED_PREFIX)) == (skip > 0);
}

/* Agents of ours write in the order of the table: what follows the last one is looked at first.
 * Returns MC_COUNT(names) when the name is none of ours. */
static unsigned
find(struct report_maker *m, enum report_place place, struct str name)
{
    if (place != REPORT_TOP && place != REPORT_NAMED)
        return MC_COUNT(names);
    for (unsigned i = 0; i < MC_COUNT(names); i++) {
        unsigned at = (m->next + i) % MC_COUNT(names);

        if (is_called(names[at], place, name)) {
            m->next = at + 1;
            return at;
        }
    }
    return MC_COUNT(names);
}

static enum report_fault
put_known(struct place_report *r, unsigned at, double value)
{
    return at < MC_COUNT(fields) ? put_field(r, at, value)
                                 : put_int(r, at - (unsigned)MC_COUNT(fields), value);
}

enum report_fault
report_put(struct report_maker *m, enum report_place place, struct str name, double value)
{
    struct place_report *r = m->out;
    enum report_fault f = check_name(name);
    unsigned known;

    if (f != REPORT_F_NONE)
        return f;
    if (m->n++ == REPORT_ENTRIES_MAX)
        return REPORT_F_TOO_MANY;
    known = find(m, place, name);
    if (known < MC_COUNT(names) ? report_has(r, (enum report_field)known) : !is_new(m, place, name))
        return REPORT_F_DUPLICATE;
    if (!isfinite(value))
        return REPORT_F_NOT_FINITE;
    if (value < 0)
        return REPORT_F_NEGATIVE;
    if (known < MC_COUNT(names))
        return put_known(r, known, value);
    switch (place) {
    case REPORT_TOP: return REPORT_F_NAME_UNKNOWN;
    case REPORT_COST: keep(r->cost, &r->n_costs, name, value, false); break;
    case REPORT_NAMED: keep(r->named, &r->n_named, name, value, false); break;
    case REPORT_UTILIZATION:
        if (value > 1)
            return REPORT_F_RANGE; /* a share, by the rules in orca_load_report.proto */
        keep(r->named, &r->n_named, name, value, true);
    }
    return REPORT_F_NONE;
}

/* --- TEXT ---------------------------------------------------------------------------------------
 */

/* "named_metrics.x" is x in its map. */
static enum report_place
place_of(struct str *name)
{
    static const struct {
        struct str prefix;
        enum report_place place;
    } prefixes[] = {
        {{"named_metrics.", 14}, REPORT_NAMED},
        {{"utilization.", 12}, REPORT_UTILIZATION},
        {{"request_cost.", 13}, REPORT_COST},
    };

    for (unsigned i = 0; i < MC_COUNT(prefixes); i++)
        if (str_starts(*name, prefixes[i].prefix)) {
            name->p += prefixes[i].prefix.n;
            name->n -= prefixes[i].prefix.n;
            return prefixes[i].place;
        }
    return REPORT_TOP;
}

static enum report_fault
take_entry(struct report_maker *m, struct str entry)
{
    size_t at = 0;
    struct str name, number;
    enum report_place place;
    enum report_fault f;
    double value;

    while (at < entry.n && entry.p[at] != '=' && entry.p[at] != ':')
        at++;
    if (at == entry.n)
        return REPORT_F_SYNTAX;
    name = str_trim((struct str){entry.p, at});
    number = str_trim((struct str){entry.p + at + 1, entry.n - at - 1});
    place = place_of(&name);
    f = report_number(number, &value);
    return f != REPORT_F_NONE ? f : report_put(m, place, name, value);
}

enum report_fault
report_parse_text(struct str s, struct place_report *out)
{
    struct report_maker m;
    enum report_fault f;

    report_begin(&m, out);
    if (s.n > REPORT_BYTES_MAX)
        return REPORT_F_TOO_LONG;
    s = str_trim(s);
    if (s.n == 0)
        return REPORT_F_EMPTY;
    while (s.p != NULL) {
        struct str entry = str_trim(str_cut(&s, ','));

        if (entry.n == 0)
            continue; /* RFC 9110 5.6.1.2: empty list elements are passed over */
        f = take_entry(&m, entry);
        if (f != REPORT_F_NONE)
            return f;
    }
    return m.n > 0 ? REPORT_F_NONE : REPORT_F_EMPTY;
}

static void __attribute__((format(printf, 3, 4))) append(char *out, size_t *n, const char *fmt, ...)
{
    va_list ap;
    int added;

    va_start(ap, fmt);
    added = vsnprintf(out + *n, REPORT_TEXT_MAX - *n, fmt, ap);
    va_end(ap);
    MC_ASSERT(added >= 0 && (size_t)added < REPORT_TEXT_MAX - *n);
    *n += (size_t)added;
}

size_t
report_write_text(const struct place_report *r, char out[REPORT_TEXT_MAX])
{
    size_t n = 0;

    out[0] = '\0';
    for (unsigned i = 0; i < MC_COUNT(fields); i++) {
        double v;

        memcpy(&v, (const char *)r + fields[i].offset, sizeof(v));
        if (report_has(r, (enum report_field)i)) /* 15 digits: what a double keeps of a decimal */
            append(out, &n, "%s%s=%.15g", n ? "," : "", names[i].p, v);
    }
    for (unsigned i = 0; i < MC_COUNT(ints); i++) {
        uint64_t v;

        memcpy(&v, (const char *)r + ints[i].offset, sizeof(v));
        if (report_has(r, (enum report_field)(REPORT_BOOT + i)))
            append(out, &n, "%s%s=%llu", n ? "," : "", names[REPORT_BOOT + i].p,
                   (unsigned long long)v);
    }
    for (unsigned i = 0; i < r->n_named; i++) {
        const struct report_named *m = &r->named[i];

        append(out, &n, "%s%s.%s=%.15g", n ? "," : "",
               m->utilization ? "utilization" : "named_metrics", m->name, m->value);
    }
    return n;
}
