/* SPDX-License-Identifier: BSD-2-Clause
 *
 * table.c - aligned columns on a terminal.
 */
#include "cmd/table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"

void
table_init(struct table *t, const char *titles)
{
    char *copy = mc_strdup(titles), *save = NULL;

    *t = (struct table){.n_columns = 0};
    for (char *w = strtok_r(copy, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save)) {
        MC_ASSERT(t->n_columns < TABLE_COLUMNS_MAX);
        t->right[t->n_columns] = w[0] == '>';
        t->titles[t->n_columns++] = mc_strdup(w + (w[0] == '>'));
    }
    free(copy);
}

void
table_add(struct table *t, enum table_colour colour, const char *fmt, ...)
{
    va_list ap;
    char *text;

    va_start(ap, fmt);
    MC_ASSERT(vasprintf(&text, fmt, ap) >= 0);
    va_end(ap);
    if (t->n_cells == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 64;
        t->cells = mc_realloc(t->cells, t->cap * sizeof(*t->cells));
    }
    t->cells[t->n_cells++] = (struct table_cell){text, colour};
}

const char *
table_colour(FILE *f, enum table_colour c)
{
    static const char *const codes[] = {
        [TABLE_PLAIN] = "\033[0m", [TABLE_GOOD] = "\033[32m", [TABLE_BAD] = "\033[31m",
        [TABLE_ODD] = "\033[33m",  [TABLE_DIM] = "\033[2m",
    };

    return isatty(fileno(f)) && getenv("NO_COLOR") == NULL ? codes[c] : "";
}

/* The last column is not padded: no spaces at line ends. */
static void
print_cell(const struct table *t, unsigned column, const int *widths, struct table_cell cell,
           FILE *f)
{
    bool last = column + 1 == t->n_columns;
    int pad = widths[column] - (int)strlen(cell.text);

    if (t->right[column])
        fprintf(f, "%*s", pad, "");
    fprintf(f, "%s%s%s", cell.colour ? table_colour(f, cell.colour) : "", cell.text,
            cell.colour ? table_colour(f, TABLE_PLAIN) : "");
    if (!t->right[column] && !last)
        fprintf(f, "%*s", pad, "");
    fputs(last ? "\n" : "  ", f);
}

void
table_print(const struct table *t, FILE *f)
{
    int widths[TABLE_COLUMNS_MAX];

    for (unsigned i = 0; i < t->n_columns; i++)
        widths[i] = (int)strlen(t->titles[i]);
    for (unsigned i = 0; i < t->n_cells; i++) {
        int n = (int)strlen(t->cells[i].text);

        if (n > widths[i % t->n_columns])
            widths[i % t->n_columns] = n;
    }
    for (unsigned i = 0; i < t->n_columns; i++)
        print_cell(t, i, widths, (struct table_cell){t->titles[i], TABLE_DIM}, f);
    for (unsigned i = 0; i < t->n_cells; i++)
        print_cell(t, i % t->n_columns, widths, t->cells[i], f);
}

void
table_free(struct table *t)
{
    for (unsigned i = 0; i < t->n_columns; i++)
        free(t->titles[i]);
    for (unsigned i = 0; i < t->n_cells; i++)
        free(t->cells[i].text);
    free(t->cells);
    *t = (struct table){.n_columns = 0};
}
