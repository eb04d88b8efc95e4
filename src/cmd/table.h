/* SPDX-License-Identifier: BSD-2-Clause
 *
 * table.h - aligned columns on a terminal, with colours where a person looks on.
 */
#ifndef MC_CMD_TABLE_H
#define MC_CMD_TABLE_H

#include <stdbool.h>
#include <stdio.h>

#define TABLE_COLUMNS_MAX 20

enum table_colour { TABLE_PLAIN, TABLE_GOOD, TABLE_BAD, TABLE_ODD, TABLE_DIM };

struct table_cell {
    char *text;
    enum table_colour colour;
};

struct table {
    char *titles[TABLE_COLUMNS_MAX];
    bool right[TABLE_COLUMNS_MAX]; /* numbers */
    unsigned n_columns;
    struct table_cell *cells; /* row by row */
    unsigned n_cells, cap;
};

/* "name" or ">name" for a column that is aligned to the right, separated by spaces. */
void table_init(struct table *, const char *titles);
void table_add(struct table *, enum table_colour, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Prints the table; colours when f is a terminal and NO_COLOR is not set. */
void table_print(const struct table *, FILE *);
void table_free(struct table *);

/* The escape sequence of a colour for f, "" when f shows none; TABLE_PLAIN ends it. */
const char *table_colour(FILE *f, enum table_colour);

#endif
