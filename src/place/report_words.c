/* SPDX-License-Identifier: BSD-2-Clause
 *
 * report_words.c - the reply of an HAProxy agent (agent-check in its configuration manual).
 *
 * Words separated by blanks or commas, in any case, until "#": a weight, a limit, a word of the
 * operator's, a word on health.  The last word of a kind wins; what is not mentioned stays as it
 * is.  HAProxy warns of a word it does not know and takes the rest; here that refuses the reply.
 */
#include "base/check.h"
#include "place/report.h"
#include "place/report_priv.h"

#define WEIGHT_PERCENT_MAX 25600 /* of a configured weight of 1: HAProxy's largest, 256 */
#define WEIGHT_UNIT_MAX    256
#define MAXCONN_MAX        100000000

static const struct {
    const char *word;
    bool is_admin; /* or of health */
    uint8_t value;
} words[] = {
    {"ready", true, REPORT_READY},      {"drain", true, REPORT_DRAIN},
    {"maint", true, REPORT_MAINT},      {"up", false, REPORT_UP},
    {"down", false, REPORT_DOWN},       {"fail", false, REPORT_FAIL},
    {"stopped", false, REPORT_STOPPED},
};

static const char *
word_of(bool is_admin, uint8_t value)
{
    for (unsigned i = 0; i < MC_COUNT(words); i++)
        if (words[i].is_admin == is_admin && words[i].value == value)
            return words[i].word;
    MC_NEVER("word of an agent");
}

const char *
report_admin_word(enum report_admin a)
{
    return word_of(true, (uint8_t)a);
}

const char *
report_health_word(enum report_health h)
{
    return word_of(false, (uint8_t)h);
}

static void
set(struct place_report *r, enum report_field f)
{
    r->present |= 1u << f;
}

static bool
take_word(struct str w, struct place_report *r)
{
    for (unsigned i = 0; i < MC_COUNT(words); i++) {
        if (!str_eq_ci(w, str_of(words[i].word)))
            continue;
        if (words[i].is_admin) {
            r->admin = words[i].value;
            set(r, REPORT_ADMIN);
        } else {
            r->health = words[i].value;
            set(r, REPORT_HEALTH);
        }
        return true;
    }
    return false;
}

/* "75%", or an absolute weight where `unit_allowed`. */
static enum report_fault
take_weight(struct str w, bool unit_allowed, struct place_report *r)
{
    bool percent = w.n > 0 && w.p[w.n - 1] == '%';
    uint64_t v;

    if (percent)
        w.n--;
    if (!str_u64(w, &v) || (!percent && !unit_allowed))
        return REPORT_F_NUMBER;
    if (v > (percent ? WEIGHT_PERCENT_MAX : WEIGHT_UNIT_MAX))
        return REPORT_F_RANGE;
    r->present &= ~(1u << REPORT_WEIGHT | 1u << REPORT_WEIGHT_UNIT);
    set(r, percent ? REPORT_WEIGHT : REPORT_WEIGHT_UNIT);
    r->weight = percent ? (double)v / 100 : 0;
    r->weight_unit = percent ? 0 : (uint32_t)v;
    return REPORT_F_NONE;
}

static enum report_fault
take_maxconn(struct str w, struct place_report *r)
{
    uint64_t v;

    if (!str_u64(w, &v))
        return REPORT_F_NUMBER;
    if (v > MAXCONN_MAX)
        return REPORT_F_RANGE;
    r->max_in_flight = (uint32_t)v;
    set(r, REPORT_MAX_IN_FLIGHT);
    return REPORT_F_NONE;
}

static bool
starts_ci(struct str w, struct str prefix, struct str *rest)
{
    if (w.n < prefix.n || !str_eq_ci((struct str){w.p, prefix.n}, prefix))
        return false;
    *rest = (struct str){w.p + prefix.n, w.n - prefix.n};
    return true;
}

static enum report_fault
take(struct str w, struct place_report *r)
{
    struct str rest;

    if (w.p[0] >= '0' && w.p[0] <= '9')
        return take_weight(w, false, r);
    if (starts_ci(w, STR("weight:"), &rest))
        return take_weight(rest, true, r);
    if (starts_ci(w, STR("maxconn:"), &rest))
        return take_maxconn(rest, r);
    return take_word(w, r) ? REPORT_F_NONE : REPORT_F_NAME_UNKNOWN;
}

/* It goes into logs and onto terminals. */
static void
take_reason(struct str s, char out[REPORT_REASON_MAX])
{
    size_t n = 0;

    for (s = str_trim(s); n < s.n && n < REPORT_REASON_MAX - 1; n++)
        out[n] = s.p[n] >= ' ' && s.p[n] <= '~' ? s.p[n] : '?';
    out[n] = '\0';
}

static bool
is_separator(char c)
{
    return c == ' ' || c == '\t' || c == ',';
}

enum report_fault
report_parse_agent_check(struct str s, struct place_report *out)
{
    size_t i = 0;

    memset(out, 0, sizeof(*out));
    if (s.n > REPORT_BYTES_MAX)
        return REPORT_F_TOO_LONG;
    while (i < s.n && s.p[i] != '#') {
        size_t from = i;
        enum report_fault f;

        while (i < s.n && !is_separator(s.p[i]) && s.p[i] != '#')
            i++;
        if (i > from) {
            f = take((struct str){s.p + from, i - from}, out);
            if (f != REPORT_F_NONE)
                return f;
        } else
            i++;
    }
    if (i < s.n)
        take_reason((struct str){s.p + i + 1, s.n - i - 1}, out->reason);
    return out->present ? REPORT_F_NONE : REPORT_F_EMPTY;
}
