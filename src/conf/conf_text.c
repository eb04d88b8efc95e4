/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conf_text.c - configuration files made into one clean text.
 *
 *     statements:  name = value            name = {value, value}      name += {value}
 *                  section { statements }  section "title" { statements }
 *                  include("pattern")
 *
 * A recursive descent whose depth is that of the grammar; blocks of unknown sections are skipped
 * by counting braces.
 */
#include "conf/conf_text.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/map.h"
#include "conf/conf_lex.h"

/* Of a pool, server, route or listener: it goes into logs and labels. */
#define TITLE_BYTES_MAX 64

/* One walk over all files. */
struct walk {
    const struct conf_grammar *grammar;
    struct conf_text *out;
    struct conf_faults *faults;
    struct conf_at at; /* of the last token written */
    unsigned mute;     /* > 0: within a section that is left out */
    bool files_allowed;
    unsigned depth; /* of includes */
    size_t total_bytes;
};

/* One file being walked. */
struct file {
    struct walk *w;
    unsigned index; /* into conf_text.files */
    struct conf_lex lx;
    struct conf_tok tok; /* the one to look at */
};

/* What a section has seen so far: names of options and titles of sections, with where that was. */
struct scope {
    unsigned place;
    struct map seen;
    unsigned opened_line;
};

static bool statements(struct file *, struct scope *, bool in_block);

/* --- faults and output ------------------------------------------------------------------------ */

/* Sets FILE:LINE before a printf-like fault.  Always false, for `return fault(...)`. */
#define fault(f, at_line, ...)                                                                    \
    (conf_fault_add((f)->w->faults, false, (f)->w->out->files[(f)->index], at_line, __VA_ARGS__), \
     false)

static void
push_at(struct conf_at **v, unsigned *n, unsigned *cap, struct conf_at at)
{
    if (*n == *cap) {
        *cap = *cap ? 2 * *cap : 16;
        *v = mc_realloc(*v, *cap * sizeof(**v));
    }
    (*v)[(*n)++] = at;
}

/* Copies a token to the output, on a line of its own when the one before came from another. */
static void
emit(struct file *f, struct conf_tok t)
{
    struct walk *w = f->w;
    struct conf_text *out = w->out;

    if (w->mute > 0)
        return;
    if (out->n_lines == 0 || w->at.file != f->index || w->at.line != t.line) {
        w->at = (struct conf_at){f->index, t.line};
        if (out->n_lines > 0)
            buf_add(&out->text, "\n", 1);
        push_at(&out->lines, &out->n_lines, &out->cap_lines, w->at);
    } else {
        buf_add(&out->text, " ", 1);
    }
    buf_str(&out->text, t.text);
}

static void
note_section(struct file *f, unsigned place, unsigned line)
{
    struct conf_text *out = f->w->out;

    if (f->w->mute == 0)
        push_at(&out->sections[place], &out->n_sections[place], &out->cap_sections[place],
                (struct conf_at){f->index, line});
}

/* --- tokens ----------------------------------------------------------------------------------- */

static void
advance(struct file *f)
{
    f->tok = conf_lex_next(&f->lx);
}

static bool
unexpected(struct file *f, const char *expected)
{
    if (f->tok.kind == CONF_TOK_BAD)
        return fault(f, f->tok.line, "%s", f->lx.fault.text);
    if (f->tok.kind == CONF_TOK_END)
        return fault(f, f->tok.line, "end of file, expected %s", expected);
    return fault(f, f->tok.line, "unexpected %s" STR_FMT "%s, expected %s",
                 f->tok.kind == CONF_TOK_STRING ? "" : "\"",
                 (int)(f->tok.text.n < 64 ? f->tok.text.n : 64), f->tok.text.p,
                 f->tok.kind == CONF_TOK_STRING ? "" : "\"", expected);
}

static bool
take_punct(struct file *f, char punct, const char *expected)
{
    if (!conf_tok_is(f->tok, punct))
        return unexpected(f, expected);
    emit(f, f->tok);
    advance(f);
    return true;
}

static bool
is_value(struct conf_tok t)
{
    return t.kind == CONF_TOK_WORD || t.kind == CONF_TOK_STRING;
}

/* --- what is skipped ---------------------------------------------------------------------------
 */

/* From an opening to its closing bracket. */
static bool
skip_nested(struct file *f, char open, char close)
{
    unsigned depth = 0, line = f->tok.line;

    do {
        if (f->tok.kind == CONF_TOK_BAD)
            return unexpected(f, "");
        if (f->tok.kind == CONF_TOK_END)
            return fault(f, line, "\"%c\" is not closed, expected \"%c\"", open, close);
        depth += conf_tok_is(f->tok, open);
        depth -= conf_tok_is(f->tok, close);
        advance(f);
    } while (depth > 0);
    return true;
}

/* What follows the name of an unknown option, whatever it is. */
static bool
skip_unknown(struct file *f)
{
    if (conf_tok_is(f->tok, '(')) /* a function */
        return skip_nested(f, '(', ')');
    if (is_value(f->tok)) { /* the title of a section */
        advance(f);
        if (!conf_tok_is(f->tok, '{'))
            return unexpected(f, "\"=\" or \"{\"");
    } else if (conf_tok_is(f->tok, '=') || f->tok.kind == CONF_TOK_APPEND) {
        advance(f);
        if (is_value(f->tok)) {
            advance(f);
            return true;
        }
    }
    if (conf_tok_is(f->tok, '{'))
        return skip_nested(f, '{', '}');
    return unexpected(f, "\"=\" or \"{\"");
}

static bool
unknown_option(struct file *f, const struct scope *sc, struct conf_tok name)
{
    struct errbuf suggest;

    conf_grammar_suggest(f->w->grammar, sc->place, name.text, &suggest);
    (void)fault(f, name.line, "unknown option \"" STR_FMT "\"%s%s, %s", STR_ARG(name.text),
                sc->place == 0 ? "" : " in ", f->w->grammar->place_name(sc->place), suggest.text);
    return skip_unknown(f);
}

/* --- options -----------------------------------------------------------------------------------
 */

/* A place as the value of a map: lines count from 1, so that it is never NULL. */
static void *
packed(unsigned file, unsigned line)
{
    static_assert(sizeof(uintptr_t) >= 8, "a file and a line fit into a pointer");
    return (void *)((uintptr_t)file << 32 | line);
}

/* False when `name` was there before, which is then a fault; `what` says what it is. */
static bool
first_of_its_name(struct file *f, struct scope *sc, struct str name, struct conf_tok at,
                  const char *what)
{
    uintptr_t first = (uintptr_t)map_get(&sc->seen, name);
    unsigned file = (unsigned)(first >> 32), line = (unsigned)first;

    if (line == 0) {
        map_put(&sc->seen, name, packed(f->index, at.line));
        return true;
    }
    if (file == f->index)
        return fault(f, at.line, "%s is given twice, expected once (first on line %u)", what, line);
    return fault(f, at.line, "%s is given twice, expected once (first at %s:%u)", what,
                 f->w->out->files[file], line);
}

static bool
list_values(struct file *f)
{
    unsigned line = f->tok.line;

    emit(f, f->tok);
    advance(f);
    while (!conf_tok_is(f->tok, '}')) {
        if (f->tok.kind == CONF_TOK_END)
            return fault(f, line, "list is not closed, expected \"}\"");
        if (!is_value(f->tok))
            return unexpected(f, "a value or \"}\"");
        emit(f, f->tok);
        advance(f);
        if (conf_tok_is(f->tok, '}'))
            break;
        if (!take_punct(f, ',', "\",\" or \"}\""))
            return false;
    }
    emit(f, f->tok);
    advance(f);
    return true;
}

static bool
option_values(struct file *f, const struct conf_word *k)
{
    char expected[96];

    snprintf(expected, sizeof(expected), "%s after \"%s\"", k->list ? "\"=\" or \"+=\"" : "\"=\"",
             k->name);
    if (!conf_tok_is(f->tok, '=') && !(k->list && f->tok.kind == CONF_TOK_APPEND))
        return unexpected(f, expected);
    emit(f, f->tok);
    advance(f);
    if (k->list && conf_tok_is(f->tok, '{'))
        return list_values(f);
    snprintf(expected, sizeof(expected), "a value for \"%s\"", k->name);
    if (!is_value(f->tok))
        return unexpected(f, expected);
    emit(f, f->tok);
    advance(f);
    return true;
}

static bool
option(struct file *f, struct scope *sc, const struct conf_word *k, struct conf_tok name)
{
    char what[64];
    bool ok, again = false;

    snprintf(what, sizeof(what), "option \"%s\"", k->name);
    if (f->tok.kind != CONF_TOK_APPEND)
        again = !first_of_its_name(f, sc, str_of(k->name), name, what);
    else if (map_get(&sc->seen, str_of(k->name)) == NULL)
        map_put(&sc->seen, str_of(k->name), packed(f->index, name.line));
    f->w->mute += again;
    emit(f, name);
    ok = option_values(f, k);
    f->w->mute -= again;
    return ok;
}

/* --- sections -----------------------------------------------------------------------------------
 */

static bool
is_title(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = str_lower((unsigned char)s.p[i]);

        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '_' && c != '.')
            return false;
    }
    return s.n > 0 && s.n <= TITLE_BYTES_MAX;
}

/* Looks at the title of a section; *left_out when the section must not reach libconfuse. */
static bool
section_title(struct file *f, struct scope *sc, const struct conf_word *k, bool *left_out)
{
    struct str title = conf_tok_inside(f->tok);
    struct errbuf what, id;

    if (!is_value(f->tok)) {
        err_set(&what, "the name of the %s", k->name);
        return unexpected(f, what.text);
    }
    if (!is_title(title)) {
        *left_out = true;
        return fault(f, f->tok.line,
                     "%s: bad name, expected 1 to %d letters, digits, \"-\", \"_\" or \".\"",
                     k->name, TITLE_BYTES_MAX) ||
               true;
    }
    /* a space cannot be in the name of an option, so that these never meet */
    err_set(&id, "%s " STR_FMT, k->name, STR_ARG(title));
    err_set(&what, "%s \"" STR_FMT "\"", k->name, STR_ARG(title));
    *left_out = !first_of_its_name(f, sc, str_of(id.text), f->tok, what.text);
    return true;
}

static bool
section_body(struct file *f, const struct conf_word *k, unsigned line)
{
    struct scope inner = {.place = k->inner, .opened_line = line};
    char expected[64];
    bool ok;

    snprintf(expected, sizeof(expected), "\"{\" after \"%s\"", k->name);
    if (!take_punct(f, '{', expected))
        return false;
    ok = statements(f, &inner, true);
    map_free(&inner.seen);
    return ok;
}

static bool
section(struct file *f, struct scope *sc, const struct conf_word *k, struct conf_tok name)
{
    struct conf_tok title = f->tok;
    bool left_out = false, ok;
    char what[64];

    if (k->titled) {
        if (!section_title(f, sc, k, &left_out))
            return false;
        advance(f);
    } else {
        snprintf(what, sizeof(what), "section \"%s\"", k->name);
        left_out = !first_of_its_name(f, sc, str_of(k->name), name, what);
    }
    f->w->mute += left_out;
    emit(f, name);
    if (k->titled)
        emit(f, title);
    note_section(f, k->inner, name.line);
    ok = section_body(f, k, name.line);
    f->w->mute -= left_out;
    return ok;
}

/* --- include ------------------------------------------------------------------------------------
 */

/* Reads all of a file; false with errno, EFBIG when it is too large. */
static bool
read_file(const char *path, struct buf *b)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    char chunk[16384];
    ssize_t n;

    if (fd < 0)
        return false;
    while ((n = read(fd, chunk, sizeof(chunk))) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 || b->n + (size_t)n > CONF_FILE_BYTES_MAX) {
            int err = n < 0 ? errno : EFBIG;

            close(fd);
            errno = err;
            return false;
        }
        buf_add(b, chunk, (size_t)n);
    }
    close(fd);
    return true;
}

static unsigned
add_file(struct conf_text *out, const char *path)
{
    out->files = mc_realloc(out->files, (out->n_files + 1) * sizeof(*out->files));
    out->files[out->n_files] = mc_strdup(path);
    return out->n_files++;
}

/* Walks a text as the inside of the section that sc tells. */
static bool
walk_text(struct walk *w, unsigned index, struct str text, struct scope *sc)
{
    struct file f = {.w = w, .index = index};

    w->total_bytes += text.n;
    conf_lex_init(&f.lx, text);
    if (w->total_bytes > CONF_TOTAL_BYTES_MAX)
        return fault(&f, 1, "too much configuration, expected at most %u MiB in all",
                     CONF_TOTAL_BYTES_MAX >> 20);
    advance(&f);
    return statements(&f, sc, false);
}

/* from: where the file was asked for, NULL for the first one. */
static bool
walk_file(struct walk *w, const char *path, struct scope *sc, struct file *from, unsigned line)
{
    struct buf b = {0};
    bool ok = false;
    unsigned index;

    if (w->out->n_files == CONF_FILES_MAX)
        return fault(from, line, "too many files, expected at most %d", CONF_FILES_MAX);
    if (read_file(path, &b)) {
        index = add_file(w->out, path);
        w->depth++;
        ok = walk_text(w, index, (struct str){b.p ? b.p : "", b.n}, sc);
        w->depth--;
    } else if (from != NULL) {
        (void)fault(from, line, "%s: %s, expected a file that can be read", path, strerror(errno));
    } else {
        conf_fault_add(w->faults, false, path, 1, "%s, expected a file that can be read",
                       strerror(errno));
    }
    buf_free(&b);
    return ok;
}

/* The pattern relative to the file that includes it. */
static char *
beside(const char *file, struct str pattern)
{
    const char *slash = strrchr(file, '/');

    if (pattern.p[0] == '/' || slash == NULL)
        return str_dup(pattern);
    return mc_printf("%.*s/" STR_FMT, (int)(slash - file), file, STR_ARG(pattern));
}

/* All files that match, in order of their names; that a pattern matches none is no fault. */
static bool
include_pattern(struct file *f, struct scope *sc, struct conf_tok arg)
{
    char *pattern = beside(f->w->out->files[f->index], conf_tok_inside(arg));
    bool wild = strpbrk(pattern, "*?[") != NULL, ok = true;
    glob_t g = {0};

    if (!wild) {
        ok = walk_file(f->w, pattern, sc, f, arg.line);
    } else {
        if (glob(pattern, 0, NULL, &g) == 0)
            for (size_t i = 0; i < g.gl_pathc && ok; i++)
                ok = walk_file(f->w, g.gl_pathv[i], sc, f, arg.line);
        globfree(&g);
    }
    free(pattern);
    return ok;
}

static bool
include(struct file *f, struct scope *sc)
{
    struct conf_tok arg;

    if (!conf_tok_is(f->tok, '('))
        return unexpected(f, "include(\"FILE\")");
    advance(f);
    arg = f->tok;
    if (arg.kind != CONF_TOK_STRING || arg.text.n == 2)
        return unexpected(f, "include(\"FILE\")");
    advance(f);
    if (!conf_tok_is(f->tok, ')'))
        return unexpected(f, "include(\"FILE\")");
    if (!f->w->files_allowed)
        return fault(f, arg.line, "include is not possible here, expected one text");
    if (f->w->depth >= CONF_INCLUDE_DEPTH)
        return fault(f, arg.line, "include within include, expected at most %d deep",
                     CONF_INCLUDE_DEPTH);
    if (!include_pattern(f, sc, arg))
        return false;
    advance(f);
    return true;
}

/* --- statements ---------------------------------------------------------------------------------
 */

static bool
statement(struct file *f, struct scope *sc)
{
    struct conf_tok name = f->tok;
    struct conf_word k;
    bool known = conf_grammar_find(f->w->grammar, sc->place, name.text, &k);

    advance(f);
    if (!known && str_eq(name.text, STR("include")))
        return include(f, sc);
    if (!known)
        return unknown_option(f, sc, name);
    if (k.section)
        return section(f, sc, &k, name);
    return option(f, sc, &k, name);
}

/* Up to the closing brace of a block, or to the end of the file. */
static bool
statements(struct file *f, struct scope *sc, bool in_block)
{
    while (true) {
        if (f->tok.kind == CONF_TOK_END && !in_block)
            return true;
        if (f->tok.kind == CONF_TOK_END)
            return fault(f, sc->opened_line, "section \"%s\" is not closed, expected \"}\"",
                         f->w->grammar->place_name(sc->place));
        if (conf_tok_is(f->tok, '}') && in_block) {
            emit(f, f->tok);
            advance(f);
            return true;
        }
        if (f->tok.kind != CONF_TOK_WORD)
            return unexpected(f, "the name of an option");
        if (!statement(f, sc))
            return false;
    }
}

/* --- in and out ----------------------------------------------------------------------------------
 */

bool
conf_text_load(struct conf_text *out, const struct conf_grammar *g, const char *path,
               struct conf_faults *faults)
{
    struct walk w = {.grammar = g, .out = out, .faults = faults, .files_allowed = true};
    struct scope top = {0};
    bool ok = walk_file(&w, path, &top, NULL, 0);

    map_free(&top.seen);
    return ok;
}

bool
conf_text_parse(struct conf_text *out, const struct conf_grammar *g, const char *path,
                struct str text, struct conf_faults *faults)
{
    struct walk w = {.grammar = g, .out = out, .faults = faults};
    struct scope top = {0};
    bool ok = walk_text(&w, add_file(out, path), text, &top);

    map_free(&top.seen);
    return ok;
}

void
conf_text_free(struct conf_text *t)
{
    for (unsigned i = 0; i < t->n_files; i++)
        free(t->files[i]);
    free(t->files);
    for (unsigned i = 0; i < CONF_PLACES_MAX; i++)
        free(t->sections[i]);
    free(t->lines);
    buf_free(&t->text);
    *t = (struct conf_text){0};
}
