/* SPDX-License-Identifier: BSD-2-Clause
 *
 * know_save.c - learned costs as text, to begin with after a restart.
 *
 * One line a class: cpu-seconds, phi, megabytes, a space each, and the class's name to the end of
 * the line.  A file that was cut off or meddled with costs the lines that make no sense.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "place/know_priv.h"

#define CPU_MOST_S 1e5
#define MEM_MOST   1e7 /* MB */

void
know_save(const struct know *k, struct str (*name)(void *arg, unsigned class), void *arg,
          struct buf *out)
{
    for (unsigned c = 0; c < k->conf.n_classes; c++) {
        struct place_cost cost = learn_cost(&k->learn, c);
        struct str n = name(arg, c);

        if (cost.known && n.p)
            buf_printf(out, "%.9g %.6g %.6g " STR_FMT "\n", (double)cost.cpu_s,
                       k->learn.class[c].phi, k->learn.class[c].mem_mb, STR_ARG(n));
    }
}

static bool
number(struct str word, double most, double *out)
{
    char text[40], *end;

    if (word.n == 0 || word.n >= sizeof(text))
        return false;
    memcpy(text, word.p, word.n);
    text[word.n] = '\0';
    *out = strtod(text, &end);
    return *end == '\0' && isfinite(*out) && *out >= 0 && *out <= most;
}

static bool
take_line(struct know *k, struct str line, int (*seen)(void *arg, struct str name), void *arg)
{
    struct str cpu = str_cut(&line, ' '), phi = str_cut(&line, ' '), mem = str_cut(&line, ' ');
    double c, p, m;
    int class;

    if (!line.p || line.n == 0 || !number(cpu, CPU_MOST_S, &c) || !number(phi, 64, &p) ||
        !number(mem, MEM_MOST, &m))
        return false;
    class = seen(arg, line);
    if (class < 0 || (unsigned)class >= k->conf.n_classes)
        return true; /* understood, but there is no room for it */
    learn_remember(&k->learn, (unsigned)class, c, p, m);
    return true;
}

unsigned
know_load(struct know *k, struct str text, int (*seen)(void *arg, struct str name), void *arg)
{
    unsigned bad = 0;

    while (text.p) {
        struct str line = str_cut(&text, '\n');

        if (line.n > 0 && !take_line(k, line, seen, arg))
            bad++;
    }
    know_publish_costs(k);
    return bad;
}
