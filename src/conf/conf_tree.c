/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conf_tree.c - a walked text handed to libconfuse.
 */
#include "conf/conf_tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

struct reading {
    const struct conf_text *text;
    conf_value_f *on_value;
    void *arg;
    struct conf_faults *faults;
};

/* libconfuse hands no argument to its callbacks, and can read one text at a time anyway. */
static struct reading *running;

/* Where in the files a line of the clean text came from; from 1, as libconfuse counts. */
static struct conf_at
at_line(const struct conf_text *t, int line)
{
    if (line < 1 || (unsigned)line > t->n_lines)
        return (struct conf_at){0, 1};
    return t->lines[line - 1];
}

static int
on_value(cfg_t *cfg, cfg_opt_t *opt, const char *value, void *result)
{
    struct conf_at at = at_line(running->text, cfg->line);

    *(const char **)result = running->on_value(running->arg, cfg, opt->name, value, at);
    return 0;
}

static void
fault(const struct reading *r, struct conf_at at, const char *what)
{
    conf_fault_add(r->faults, false, r->text->files[at.file], at.line, "%s, expected other syntax",
                   what);
}

/* The walk let nothing through that libconfuse would refuse; should the two disagree, this says so.
 */
static void
on_error(cfg_t *cfg, const char *fmt, va_list ap)
{
    char text[256];

    vsnprintf(text, sizeof(text), fmt, ap);
    fault(running, at_line(running->text, cfg->line), text);
}

static unsigned
count_words(const struct conf_grammar *g, unsigned place)
{
    struct conf_word w;
    unsigned n = 0;

    for (unsigned i = 0; g->word(i, &w); i++)
        n += w.place == place;
    return n;
}

/* The options of a place for libconfuse; every value is text to it.  The caller frees. */
static cfg_opt_t *
make_opts(const struct conf_grammar *g, unsigned place)
{
    cfg_opt_t *opts = mc_alloc((count_words(g, place) + 1) * sizeof(*opts)), *o = opts;
    struct conf_word w;

    for (unsigned i = 0; g->word(i, &w); i++) {
        if (w.place != place)
            continue;
        o->name = w.name;
        o->flags = CFGF_NODEFAULT;
        if (w.section) {
            o->type = CFGT_SEC;
            o->flags |= CFGF_MULTI | (w.titled ? CFGF_TITLE : 0);
            o->subopts = make_opts(g, w.inner);
        } else {
            o->type = CFGT_STR;
            o->flags |= w.list ? CFGF_LIST : 0;
            o->parsecb = on_value;
        }
        o++;
    }
    return opts;
}

static void
free_opts(cfg_opt_t *opts)
{
    for (cfg_opt_t *o = opts; o->name != NULL; o++)
        if (o->subopts != NULL)
            free_opts(o->subopts);
    free(opts);
}

cfg_t *
conf_tree_read(const struct conf_text *text, const struct conf_grammar *g, conf_value_f *value,
               void *arg, struct conf_faults *faults)
{
    struct reading r = {text, value, arg, faults};
    cfg_opt_t *opts = make_opts(g, 0);
    cfg_t *cfg = cfg_init(opts, CFGF_NONE);
    int err;

    MC_ASSERT(cfg != NULL);
    free_opts(opts);
    cfg_set_error_function(cfg, on_error);
    running = &r;
    err = cfg_parse_buf(cfg, text->text.p ? text->text.p : "");
    running = NULL;
    if (err == CFG_SUCCESS)
        return cfg;
    if (faults->n_errors == 0)
        fault(&r, (struct conf_at){0, 1}, "cannot be read");
    cfg_free(cfg);
    return NULL;
}
