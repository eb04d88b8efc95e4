/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conf_grammar.h - which options there are, and where each may stand.  Pure.
 *
 * A room that has a configuration of its own keeps a table of options; this is what the walk
 * (conf_text.h) and libconfuse (conf_tree.h) have to know of it.
 */
#ifndef MC_CONF_CONF_GRAMMAR_H
#define MC_CONF_CONF_GRAMMAR_H

#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"

#define CONF_PLACES_MAX 32

struct conf_word {
    const char *name;
    unsigned place; /* where it may stand */
    bool section;
    bool titled;    /* section "title" { }, many of them; else one of a kind */
    bool list;      /* several values may be given */
    unsigned inner; /* of a section: the place that it opens */
};

/* What may stand where.  Places are numbers below n_places; 0 is the top level. */
struct conf_grammar {
    unsigned n_places;
    /* The i-th of all options, of whatever place; false: there are no more. */
    bool (*word)(unsigned i, struct conf_word *out);
    /* The name of its section, "pool"; "" for the top level.  Places may share it. */
    const char *(*place_name)(unsigned place);
    /* The same for people, different for each place: "the top level", "tls of pool". */
    const char *(*place_text)(unsigned place);
    const char *manual; /* that lists them all: "meercat.conf(5)" */
};

/* False: there is no such option in that place. */
bool conf_grammar_find(const struct conf_grammar *, unsigned place, struct str name,
                       struct conf_word *out);
/* What was expected instead of a name that is unknown there. */
void conf_grammar_suggest(const struct conf_grammar *, unsigned place, struct str name,
                          struct errbuf *);

#endif
