/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conf_grammar.c - names looked up in a grammar, and what was meant by those that are not there.
 */
#include "conf/conf_grammar.h"

#include "base/check.h"
#include "base/near.h"

bool
conf_grammar_find(const struct conf_grammar *g, unsigned place, struct str name,
                  struct conf_word *out)
{
    struct conf_word w;

    for (unsigned i = 0; g->word(i, &w); i++) {
        if (w.place != place || !str_eq(str_of(w.name), name))
            continue;
        *out = w;
        return true;
    }
    return false;
}

/* A name that exists elsewhere was put into the wrong section; else it was misspelt. */
void
conf_grammar_suggest(const struct conf_grammar *g, unsigned place, struct str name,
                     struct errbuf *e)
{
    struct near near = {.asked = name};
    const char *places[2];
    unsigned n_places = 0;
    struct conf_word w;

    for (unsigned i = 0; g->word(i, &w); i++) {
        if (w.place == place)
            near_offer(&near, w.name);
        else if (str_eq(str_of(w.name), name) && n_places < MC_COUNT(places))
            places[n_places++] = g->place_text(w.place);
    }
    if (n_places == 2)
        err_set(e, "expected in %s or %s", places[0], places[1]);
    else if (n_places == 1)
        err_set(e, "expected in %s", places[0]);
    else if (near.best != NULL)
        err_set(e, "expected \"%s\" perhaps", near.best);
    else
        err_set(e, "expected an option that %s lists", g->manual);
}
