/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conf_lex.c - the words of a configuration text.
 */
#include "conf/conf_lex.h"

#include <stdlib.h>

#include "base/check.h"

void
conf_lex_init(struct conf_lex *lx, struct str text)
{
    *lx = (struct conf_lex){.rest = text, .line = 1};
}

bool
conf_tok_is(struct conf_tok t, char punct)
{
    return t.kind == CONF_TOK_PUNCT && t.text.p[0] == punct;
}

struct str
conf_tok_inside(struct conf_tok t)
{
    if (t.kind == CONF_TOK_STRING)
        return (struct str){t.text.p + 1, t.text.n - 2};
    return t.text;
}

static void
skip(struct conf_lex *lx, size_t n)
{
    lx->rest.p += n;
    lx->rest.n -= n;
}

static struct conf_tok
bad(struct conf_lex *lx, const char *why)
{
    err_set(&lx->fault, "%s", why);
    return (struct conf_tok){.kind = CONF_TOK_BAD, .line = lx->line};
}

static struct conf_tok
take(struct conf_lex *lx, enum conf_tok_kind kind, size_t n)
{
    struct conf_tok t = {kind, {lx->rest.p, n}, lx->line};

    skip(lx, n);
    return t;
}

static size_t
line_length(struct str s)
{
    const char *nl = s.n > 0 ? memchr(s.p, '\n', s.n) : NULL;

    return nl != NULL ? (size_t)(nl - s.p) : s.n;
}

/* A comment in C's manner; false when it does not end. */
static bool
skip_block_comment(struct conf_lex *lx)
{
    const char *end = memmem(lx->rest.p + 2, lx->rest.n - 2, "*/", 2);

    if (end == NULL)
        return false;
    for (const char *p = lx->rest.p; p < end; p++)
        lx->line += *p == '\n';
    skip(lx, (size_t)(end + 2 - lx->rest.p));
    return true;
}

/* White space and comments; false at a comment without end. */
static bool
skip_blank(struct conf_lex *lx)
{
    while (lx->rest.n > 0) {
        char c = lx->rest.p[0];

        if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
            lx->line += c == '\n';
            skip(lx, 1);
        } else if (c == '#' || str_starts(lx->rest, STR("//"))) {
            skip(lx, line_length(lx->rest));
        } else if (str_starts(lx->rest, STR("/*"))) {
            if (!skip_block_comment(lx))
                return false;
        } else {
            return true;
        }
    }
    return true;
}

static bool
is_control(unsigned char c)
{
    return (c < 0x20 && c != '\t') || c == 0x7f;
}

static bool
is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* Length of "\..." in a string of double quotes, 0 when libconfuse would refuse it or make a NUL.
 */
static size_t
escape_length(struct str s)
{
    size_t n = 1;

    if (s.n < 2 || is_control((unsigned char)s.p[1]))
        return 0;
    if (s.p[1] == 'x') {
        unsigned v = 0;

        for (n = 2; n < s.n && n < 4 && is_hex(s.p[n]); n++)
            v |= (unsigned)s.p[n] ^ '0';
        return n == 2 || v != 0 ? n : 0;
    }
    if (s.p[1] < '0' || s.p[1] > '9')
        return 2;
    for (unsigned v = 0; n < s.n && s.p[n] >= '0' && s.p[n] <= '9'; n++) {
        v = v * 8 + (unsigned)(s.p[n] - '0');
        if (s.p[n] > '7' || n > 3 || v > 0xff)
            return 0;
        if (v == 0 && (n + 1 == s.n || s.p[n + 1] < '0' || s.p[n + 1] > '9'))
            return 0;
    }
    return n;
}

/* Length of "${...}", 0 when it does not end before `quote` or the end of the line. */
static size_t
variable_length(struct str s, char quote)
{
    for (size_t i = 2; i < s.n && s.p[i] != quote && !is_control((unsigned char)s.p[i]); i++)
        if (s.p[i] == '}')
            return i + 1;
    return 0;
}

/* One character of a string of double quotes, or one escape or variable; 0 when it is none. */
static size_t
double_quoted_length(struct str s)
{
    if (s.p[0] == '\\')
        return escape_length(s);
    if (str_starts(s, STR("${")))
        return variable_length(s, '"');
    return is_control((unsigned char)s.p[0]) ? 0 : 1;
}

static size_t
single_quoted_length(struct str s)
{
    if (s.p[0] == '\\')
        return s.n >= 2 && !is_control((unsigned char)s.p[1]) ? 2 : 0;
    return is_control((unsigned char)s.p[0]) ? 0 : 1;
}

/* Why the string cannot go on with these bytes. */
static const char *
string_fault(struct str at)
{
    if (memchr(at.p, '\0', line_length(at)) != NULL)
        return "a NUL byte in a string, expected text";
    if (at.n > 1 && at.p[0] == '\\' && at.p[1] != '\n')
        return "no such escape in a string, expected one like \\\" or \\\\";
    if (at.n > 0 && at.p[0] == '$')
        return "variable is not closed, expected \"}\" before the end of the string";
    return "string is not closed, expected a quote before the end of the line";
}

static struct conf_tok
next_string(struct conf_lex *lx)
{
    char quote = lx->rest.p[0];
    size_t i = 1, n;

    while (i < lx->rest.n && lx->rest.p[i] != quote) {
        struct str at = {lx->rest.p + i, lx->rest.n - i};

        n = quote == '"' ? double_quoted_length(at) : single_quoted_length(at);
        if (n == 0)
            return bad(lx, string_fault(at));
        i += n;
    }
    if (i >= lx->rest.n)
        return bad(lx, string_fault((struct str){lx->rest.p + i, 0}));
    return take(lx, CONF_TOK_STRING, i + 1);
}

static bool
is_word_char(char c)
{
    return !is_control((unsigned char)c) && strchr(" \t#\"'={}()+,*", c) == NULL;
}

static struct conf_tok
next_word(struct conf_lex *lx)
{
    size_t n = 0;

    if (str_starts(lx->rest, STR("${"))) {
        n = variable_length(lx->rest, '\0');
        if (n == 0)
            return bad(lx, "variable is not closed, expected \"}\" before the end of the line");
        return take(lx, CONF_TOK_WORD, n);
    }
    while (n < lx->rest.n && is_word_char(lx->rest.p[n]))
        n++;
    MC_ASSERT(n > 0);
    return take(lx, CONF_TOK_WORD, n);
}

struct conf_tok
conf_lex_next(struct conf_lex *lx)
{
    char c;

    if (!skip_blank(lx))
        return bad(lx, "comment is not closed, expected \"*/\"");
    if (lx->rest.n == 0)
        return (struct conf_tok){.kind = CONF_TOK_END, .line = lx->line};
    c = lx->rest.p[0];
    if (c == '"' || c == '\'')
        return next_string(lx);
    if (strchr("{}()=,", c) != NULL && c != '\0')
        return take(lx, CONF_TOK_PUNCT, 1);
    if (str_starts(lx->rest, STR("+=")))
        return take(lx, CONF_TOK_APPEND, 2);
    if (c == '*' || c == '+')
        return bad(lx, "\"*\" or \"+\" outside a string, expected the value in quotes");
    if (c == '\0')
        return bad(lx, "a NUL byte, expected text");
    if (is_control((unsigned char)c))
        return bad(lx, "control character, expected text");
    return next_word(lx);
}
