/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conf_fault.c - the list of what is wrong with a configuration.
 */
#include "conf/conf_fault.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

void
conf_fault_add(struct conf_faults *fs, bool warning, const char *file, unsigned line,
               const char *fmt, ...)
{
    char text[1024];
    va_list ap;

    fs->n_errors += !warning;
    if (fs->n == CONF_FAULTS_MAX)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    /* what is quoted from a file goes to terminals and logs */
    for (char *c = text; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    if (fs->n == fs->cap) {
        fs->cap = fs->cap ? 2 * fs->cap : 8;
        fs->v = mc_realloc(fs->v, fs->cap * sizeof(*fs->v));
    }
    fs->v[fs->n] = (struct conf_fault){
        .file = mc_strdup(file),
        .line = line,
        .warning = warning,
        .text = mc_strdup(text),
        .order = fs->n,
    };
    fs->n++;
}

static int
by_line(const void *a, const void *b)
{
    const struct conf_fault *x = a, *y = b;

    if (strcmp(x->file, y->file) != 0)
        return x->order < y->order ? -1 : 1; /* callers sort within one file */
    if (x->line != y->line)
        return x->line < y->line ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

/* Gathers the faults of each file, files in order of appearance, and sorts each gathering. */
void
conf_faults_sort(struct conf_faults *fs)
{
    unsigned begin = 0;

    while (begin < fs->n) {
        unsigned end = begin + 1;

        for (unsigned i = end; i < fs->n; i++) {
            struct conf_fault f = fs->v[i];

            if (strcmp(f.file, fs->v[begin].file) != 0)
                continue;
            memmove(&fs->v[end + 1], &fs->v[end], (i - end) * sizeof(f));
            fs->v[end++] = f;
        }
        qsort(&fs->v[begin], end - begin, sizeof(fs->v[0]), by_line);
        begin = end;
    }
}

void
conf_faults_text(const struct conf_faults *fs, struct buf *b)
{
    unsigned errors = 0;

    for (unsigned i = 0; i < fs->n; i++) {
        const struct conf_fault *f = &fs->v[i];

        errors += !f->warning;
        buf_printf(b, "%s:%u: %s%s\n", f->file, f->line, f->warning ? "warning: " : "", f->text);
    }
    if (errors < fs->n_errors)
        buf_printf(b, "... and %u more\n", fs->n_errors - errors);
}

void
conf_faults_free(struct conf_faults *fs)
{
    for (unsigned i = 0; i < fs->n; i++) {
        free(fs->v[i].file);
        free(fs->v[i].text);
    }
    free(fs->v);
    *fs = (struct conf_faults){0};
}
