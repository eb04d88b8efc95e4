/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conf_value_word.c - values that are numbers, or words of a list.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/units.h"
#include "control/conf_value_priv.h"
#include "place/policy.h"

/* --- numbers ---------------------------------------------------------------------------------- */

static bool
parse_number(struct str s, uint64_t *out)
{
    return str_u64(s, out);
}

static bool
parse_duration(struct str s, uint64_t *out)
{
    mc_ns ns;

    if (!units_parse_duration(s, &ns))
        return false;
    *out = (uint64_t)ns;
    return true;
}

/* A whole number of a kind, within "min..max" of the key. */
static bool
ranged(const struct conf_key *k, struct str text, bool (*parse)(struct str, uint64_t *),
       const char *noun, const char *like, void *field, struct errbuf *e)
{
    struct str max = str_of(k->range), min = max;
    const char *dots = strstr(k->range, "..");
    uint64_t v, lo = 0, hi = 0;

    min.n = (size_t)(dots - k->range);
    max = str_of(dots + 2);
    MC_ASSERT(parse(min, &lo) && parse(max, &hi));
    if (!parse(text, &v)) {
        err_set(e, "\"" STR_FMT "\" is not a %s, expected " STR_FMT " to " STR_FMT "%s",
                STR_ARG(text), noun, STR_ARG(min), STR_ARG(max), like);
        return false;
    }
    if (v < lo || v > hi) {
        err_set(e, "\"" STR_FMT "\" is out of range, expected " STR_FMT " to " STR_FMT,
                STR_ARG(text), STR_ARG(min), STR_ARG(max));
        return false;
    }
    value_store_uint(k, field, v);
    return true;
}

bool
value_uint(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    return ranged(k, text, parse_number, "number", "", field, e);
}

bool
value_workers(const struct conf_key *k, struct str text, void *object, void *field,
              struct errbuf *e)
{
    if (str_eq(text, STR("auto"))) {
        value_store_uint(k, field, 0);
        return true;
    }
    return ranged(k, text, parse_number, "number", ", or auto", field, e);
}

bool
value_percent(const struct conf_key *k, struct str text, void *object, void *field,
              struct errbuf *e)
{
    struct str digits = text;

    if (digits.n > 1 && digits.p[digits.n - 1] == '%')
        digits.n--;
    return ranged(k, digits, parse_number, "percentage", "", field, e);
}

bool
value_duration(const struct conf_key *k, struct str text, void *object, void *field,
               struct errbuf *e)
{
    return ranged(k, text, parse_duration, "duration", ", with a unit like \"250ms\"", field, e);
}

bool
value_size(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    return ranged(k, text, units_parse_size, "size", ", like \"16KiB\"", field, e);
}

bool
value_ratio(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    double lo = strtod(k->range, NULL), hi = strtod(strstr(k->range, "..") + 2, NULL);
    char *end;
    double v = strtod(text.p, &end);

    /* strtod alone would take "nan", "0x1p4", "-1" and " 1" too */
    if (text.n == 0 || strspn(text.p, "0123456789.") != text.n || *end != '\0') {
        err_set(e, "\"" STR_FMT "\" is not a number, expected %g to %g", STR_ARG(text), lo, hi);
        return false;
    }
    if (!(v >= lo && v <= hi)) {
        err_set(e, "\"" STR_FMT "\" is out of range, expected %g to %g", STR_ARG(text), lo, hi);
        return false;
    }
    if (field != NULL)
        *(double *)field = v;
    return true;
}

bool
value_mode(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    unsigned v = 0;
    bool ok = text.n >= 3 && text.n <= 4;

    for (size_t i = 0; i < text.n && ok; i++) {
        ok = text.p[i] >= '0' && text.p[i] <= '7';
        v = v * 8 + (unsigned)(text.p[i] - '0');
    }
    if (!ok || v == 0 || v > 0777) {
        err_set(e, "\"" STR_FMT "\" is not a mode, expected octal permission bits like \"0660\"",
                STR_ARG(text));
        return false;
    }
    value_store_uint(k, field, v);
    return true;
}

static bool
parse_status(struct str s, unsigned *out)
{
    uint64_t v;

    if (s.n != 3 || !str_u64(s, &v) || v < 100 || v > 599)
        return false;
    *out = (unsigned)v;
    return true;
}

bool
value_statuses(const struct conf_key *k, struct str text, void *object, void *field,
               struct errbuf *e)
{
    struct str rest = text, first = str_cut(&rest, '-');
    struct str last = rest.p != NULL ? rest : first;
    unsigned min, max;

    if (!parse_status(first, &min) || !parse_status(last, &max) || max < min) {
        err_set(e,
                "\"" STR_FMT "\" is not a range of statuses, expected like \"200-399\" or \"204\"",
                STR_ARG(text));
        return false;
    }
    if (field != NULL) {
        ((uint16_t *)field)[0] = (uint16_t)min;
        ((uint16_t *)field)[1] = (uint16_t)max;
    }
    return true;
}

/* --- words ------------------------------------------------------------------------------------ */

/* "a|b|c" as "a, b or c". */
static void
words_text(const char *words, char *out, size_t room)
{
    struct str rest = str_of(words), w;
    size_t n = 0;

    out[0] = '\0';
    while (rest.p != NULL && n < room) {
        w = str_cut(&rest, '|');
        n += (size_t)snprintf(out + n, room - n, "%s" STR_FMT,
                              n == 0 ? "" : (rest.p == NULL ? " or " : ", "), STR_ARG(w));
    }
}

int
value_word_index(const char *words, struct str text)
{
    struct str rest = str_of(words);

    for (int i = 0; rest.p != NULL; i++)
        if (str_eq(str_cut(&rest, '|'), text))
            return i;
    return -1;
}

static bool
unknown_word(const char *words, struct str text, struct errbuf *e)
{
    char list[160];

    words_text(words, list, sizeof(list));
    err_set(e, "\"" STR_FMT "\" is not known, expected %s", STR_ARG(text), list);
    return false;
}

bool
value_word(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    int i = value_word_index(k->range, text);

    if (i < 0)
        return unknown_word(k->range, text, e);
    value_store_uint(k, field, (uint64_t)i);
    return true;
}

bool
value_flags(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    int i = value_word_index(k->range, text);
    char words[128];

    if (str_eq(text, STR("none")))
        return true;
    if (i < 0) {
        snprintf(words, sizeof(words), "%s|none", k->range);
        return unknown_word(words, text, e);
    }
    MC_ASSERT(k->width == sizeof(unsigned));
    if (field != NULL)
        *(unsigned *)field |= 1u << i;
    return true;
}

bool
value_bool(const struct conf_key *k, struct str text, void *object, void *field, struct errbuf *e)
{
    int i = value_word_index("no|yes|false|true|off|on", text);

    if (i < 0) {
        err_set(e,
                "\"" STR_FMT "\" is neither yes nor no, expected yes, no, true, false, on or off",
                STR_ARG(text));
        return false;
    }
    if (field != NULL)
        *(bool *)field = i & 1;
    return true;
}

bool
value_balance(const struct conf_key *k, struct str text, void *object, void *field,
              struct errbuf *e)
{
    const struct policy *p = policy_find(text);
    char words[160] = "auto";
    size_t n = 4;

    if (str_eq(text, STR("auto")) || p != NULL) {
        if (field != NULL)
            *(const struct policy **)field = p; /* NULL: conf_check.c decides, by the servers */
        return true;
    }
    for (unsigned i = 0; policy_at(i) != NULL && n < sizeof(words); i++)
        n += (size_t)snprintf(words + n, sizeof(words) - n, "|%s", policy_at(i)->name);
    return unknown_word(words, text, e);
}
