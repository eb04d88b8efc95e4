/* SPDX-License-Identifier: BSD-2-Clause
 *
 * class.c - the shape of a request, and rules, see class.h.
 *
 * What is folded in a segment of the path: numbers, dates and versions of digits; UUIDs; hex of 8
 * and more digits; what looks like base64 or a token; percent-encoding; runs of three and more
 * digits inside of a word ("order-{}", "photo{}.jpg").  "v2", "h264" and plain words stay.
 */
#include "place/class.h"

#include <stdlib.h>

#include "base/check.h"

#define SEGMENTS_MAX 12 /* deeper paths end in "..." */
#define HEX_LEAST    8
#define TOKEN_LEAST  16
#define DIGITS_FOLD  3
#define SHORT_WORD   4 /* h264, mp3, v100 */

/* --- segments -----------------------------------------------------------------------------------
 */

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

/* --- the shape ----------------------------------------------------------------------------------
 */

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

/* --- rules --------------------------------------------------------------------------------------
 */

static bool
is_hole(struct str rule, size_t i)
{
    return i + 1 < rule.n && rule.p[i] == '{' && rule.p[i + 1] == '}';
}

/* A hole takes as little as it can, and more when what follows it does not fit.  Only the last one
 * is tried again: the shorter those before it are, the more is left, and none reaches over a '/'.
 */
static bool
path_fits(struct str rule, struct str path)
{
    const bool open = rule.n > 0 && rule.p[rule.n - 1] == '*';
    size_t r = 0, p = 0, after_hole = 0, upto = 0;

    rule.n -= open;
    while (r < rule.n || (p < path.n && !open)) {
        const bool more = p < path.n;

        if (more && is_hole(rule, r) && path.p[p] != '/') {
            after_hole = r += 2;
            upto = ++p;
        } else if (more && r < rule.n && !is_hole(rule, r) && rule.p[r] == path.p[p]) {
            r++;
            p++;
        } else if (after_hole > 0 && upto < path.n && path.p[upto] != '/') {
            r = after_hole;
            p = ++upto;
        } else {
            return false;
        }
    }
    return true;
}

static bool
field_fits(const struct class_rule *r, const struct class_ask *ask)
{
    struct str v;

    for (unsigned i = 0; (v = ask->field(ask->arg, str_of(r->header), i)).p; i++)
        if (!r->header_is || str_eq(v, str_of(r->header_is)))
            return true;
    return false;
}

static bool
query_fits(const struct class_rule *r, struct str path)
{
    struct str query = path;

    str_cut(&query, '?');
    while (query.p) {
        struct str value = str_cut(&query, '&'), name = str_cut(&value, '=');

        if (str_eq(name, str_of(r->query)) && (!r->query_is || str_eq(value, str_of(r->query_is))))
            return true;
    }
    return false;
}

/* "application/grpc", then nothing, "+proto" or parameters: the gRPC protocol over HTTP/2,
 * "Requests". */
static bool
is_grpc(const struct class_ask *ask)
{
    const struct str type = STR("application/grpc");
    struct str v = ask->field(ask->arg, STR("content-type"), 0);

    if (v.n < type.n || !str_eq_ci((struct str){v.p, type.n}, type))
        return false;
    return v.n == type.n || v.p[type.n] == '+' || v.p[type.n] == ';';
}

static bool
grpc_fits(const struct class_rule *r, const struct class_ask *ask, struct str path)
{
    return path.n > 0 && path_fits(str_of(r->grpc), (struct str){path.p + 1, path.n - 1}) &&
           is_grpc(ask);
}

static bool
fits(const struct class_rule *r, const struct class_ask *ask, struct str path)
{
    return (!r->method || str_eq(str_of(r->method), ask->method)) &&
           (!r->path || path_fits(str_of(r->path), path)) &&
           (!r->grpc || grpc_fits(r, ask, path)) && (!r->query || query_fits(r, ask->path)) &&
           (!r->header || field_fits(r, ask));
}

const struct class_rule *
class_rule_find(const struct class_rules *rules, const struct class_ask *ask)
{
    const struct str path = without_query(ask->path);

    for (unsigned i = 0; i < rules->n; i++)
        if (fits(&rules->v[i], ask, path))
            return &rules->v[i];
    return NULL;
}

void
class_rules_fini(struct class_rules *rules)
{
    for (unsigned i = 0; i < rules->n; i++) {
        struct class_rule *r = &rules->v[i];

        free(r->name);
        free(r->method);
        free(r->path);
        free(r->header);
        free(r->header_is);
        free(r->query);
        free(r->query_is);
        free(r->grpc);
    }
    free(rules->v);
    *rules = (struct class_rules){0};
}
