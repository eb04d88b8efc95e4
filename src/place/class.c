/* SPDX-License-Identifier: BSD-2-Clause
 *
 * class.c - the shape of a request, and rules, see class.h.
 *
 * What is folded in a segment of the path: numbers, dates and versions of digits; UUIDs; hex of 8
 * and more digits; what looks like base64 or a token; percent-encoding; runs of three and more
 * digits inside of a word ("order-{}", "photo{}.jpg").  "v2", "h264" and plain words stay.
 */
#include "place/class.h"

#include "base/check.h"

#define SEGMENTS_MAX 12 /* deeper paths end in "..." */
#define HEX_LEAST    8
#define TOKEN_LEAST  16
#define DIGITS_FOLD  3
#define SHORT_WORD   4 /* h264, mp3, v100 */

/* --- segments
 * -------------------------------------------------------------------------------------- */

enum {
    C_DIGIT = 1,
    C_HEX = 2,
    C_LOWER = 4,
    C_UPPER = 8,
    C_MARK = 16 /* of tokens */,
    C_DATE = 32,
    C_PERCENT = 64,
    C_OTHER = 128
};

static unsigned
kind_of(unsigned char c)
{
    if (c >= '0' && c <= '9')
        return C_DIGIT | C_HEX;
    if (c >= 'a' && c <= 'z')
        return C_LOWER | (c <= 'f' ? C_HEX : 0u);
    if (c >= 'A' && c <= 'Z')
        return C_UPPER | (c <= 'F' ? C_HEX : 0u);
    if (c == '-' || c == '.' || c == ':' || c == ',')
        return C_DATE | C_MARK;
    if (c == '_' || c == '=' || c == '+' || c == '~')
        return C_MARK;
    return c == '%' ? C_PERCENT : C_OTHER;
}

struct look {
    unsigned n, digits, hex, lower, upper, marks, dates;
    bool percent, other;
};

static struct look
look_at(struct str s)
{
    struct look l = {.n = (unsigned)s.n};

    for (size_t i = 0; i < s.n; i++) {
        unsigned k = kind_of((unsigned char)s.p[i]);

        l.digits += (k & C_DIGIT) != 0;
        l.hex += (k & C_HEX) != 0;
        l.lower += (k & C_LOWER) != 0;
        l.upper += (k & C_UPPER) != 0;
        l.marks += (k & C_MARK) != 0;
        l.dates += (k & C_DATE) != 0;
        l.percent |= k == C_PERCENT;
        l.other |= k == C_OTHER;
    }
    return l;
}

static bool
is_uuid(struct str s, const struct look *l)
{
    return s.n == 36 && l->hex == 32 && s.p[8] == '-' && s.p[13] == '-' && s.p[18] == '-' &&
           s.p[23] == '-';
}

/* Words seldom mix digits with letters of both cases, nor hold many digits when they are long. */
static bool
is_token(const struct look *l)
{
    if (l->n < TOKEN_LEAST || l->other || l->digits == 0)
        return false;
    return (l->lower > 0 && l->upper > 0 && l->marks * 4 < l->n) || l->digits * 4 >= l->n;
}

static bool
is_variable(struct str s)
{
    struct look l = look_at(s);

    if (l.digits > 0 && l.digits + l.dates == l.n)
        return true;
    if (l.hex == l.n && l.n >= HEX_LEAST && l.digits > 0)
        return true;
    return l.percent || is_uuid(s, &l) || is_token(&l);
}

/* --- the shape
 * ---------------------------------------------------------------------------------------- */

struct pen {
    char *out;
    unsigned n;
    bool full;
};

static void
write(struct pen *p, const char *text, size_t n)
{
    if (p->full || p->n + n > CLASS_NAME_MAX - 4) {
        p->full = true;
        return;
    }
    memcpy(p->out + p->n, text, n);
    p->n += (unsigned)n;
}

static size_t
digits_at(struct str s, size_t i)
{
    size_t n = 0;

    while (i + n < s.n && s.p[i + n] >= '0' && s.p[i + n] <= '9')
        n++;
    return n;
}

/* A space or a control byte in a name would break logs and tables that it stands in. */
static char
plain(char c)
{
    return (unsigned char)c > ' ' && (unsigned char)c < 0x7f ? c : '?';
}

static bool
is_short_word(struct str s)
{
    return s.n <= SHORT_WORD && (kind_of((unsigned char)s.p[0]) & (C_LOWER | C_UPPER));
}

static void
write_segment(struct pen *p, struct str s)
{
    if (is_variable(s)) {
        write(p, "{}", 2);
        return;
    }
    for (size_t i = 0; i < s.n;) {
        size_t n = digits_at(s, i);

        if (n >= DIGITS_FOLD && !is_short_word(s)) {
            write(p, "{}", 2);
        } else {
            char c = plain(s.p[i]);

            n = 1;
            write(p, &c, 1);
        }
        i += n;
    }
}

static struct str
without_query(struct str path)
{
    for (size_t i = 0; i < path.n; i++)
        if (path.p[i] == '?' || path.p[i] == '#')
            return (struct str){path.p, i};
    return path;
}

unsigned
class_fold(struct str method, struct str path, char out[CLASS_NAME_MAX])
{
    struct pen p = {.out = out};
    struct str rest = without_query(path);
    unsigned segments = 0;

    write_segment(&p, (struct str){method.p, method.n < 24 ? method.n : 24});
    write(&p, " ", 1);
    if (rest.n > 0 && rest.p[0] == '/')
        rest = (struct str){rest.p + 1, rest.n - 1};
    do {
        struct str s = str_cut(&rest, '/');

        write(&p, "/", 1);
        if (segments++ == SEGMENTS_MAX)
            p.full = true;
        write_segment(&p, s);
    } while (rest.p && !p.full);
    if (p.full) {
        memcpy(out + p.n, "...", 3);
        p.n += 3;
    }
    out[p.n] = '\0';
    return p.n;
}

uint64_t
class_hash(struct str shape)
{
    uint64_t h = str_hash(shape, 0x636c617373);

    return h > 1 ? h : h + 2;
}

/* --- rules
 * -------------------------------------------------------------------------------------------- */

static bool
path_fits(struct str rule, struct str path)
{
    if (rule.n > 0 && rule.p[rule.n - 1] == '*')
        return str_starts(path, (struct str){rule.p, rule.n - 1});
    return str_eq(rule, path);
}

static bool
holds(struct str value, struct str part)
{
    return part.n == 0 || (value.n >= part.n && memmem(value.p, value.n, part.p, part.n) != NULL);
}

static bool
header_fits(const struct class_rule *r, const struct class_ask *ask)
{
    struct str value = ask->header ? ask->header(ask->arg, r->header) : STR_NONE;

    return value.p && holds(value, r->header_has);
}

static bool
query_fits(const struct class_rule *r, struct str query)
{
    while (query.p) {
        struct str value = str_cut(&query, '&'), name = str_cut(&value, '=');

        if (str_eq(name, r->query) && (r->query_is.n == 0 || str_eq(value, r->query_is)))
            return true;
    }
    return false;
}

const struct class_rule *
class_rule_find(const struct class_rule *rules, unsigned n, const struct class_ask *ask)
{
    for (unsigned i = 0; i < n; i++) {
        const struct class_rule *r = &rules[i];

        if ((r->method.n == 0 || str_eq(r->method, ask->method)) &&
            (r->path.n == 0 || path_fits(r->path, ask->path)) &&
            (r->header.n == 0 || header_fits(r, ask)) &&
            (r->query.n == 0 || query_fits(r, ask->query)))
            return r;
    }
    return NULL;
}
