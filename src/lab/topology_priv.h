/* SPDX-License-Identifier: BSD-2-Clause
 *
 * topology_priv.h - the table of a topology's keys.  For topology*.c only.
 */
#ifndef MC_LAB_TOPOLOGY_PRIV_H
#define MC_LAB_TOPOLOGY_PRIV_H

#include "conf/conf_text.h"
#include "lab/topology.h"

enum topology_place {
    PLACE_TOP,
    PLACE_NETWORK,
    PLACE_ROLE,
    PLACE_HOST,
    PLACE_LINK,
    PLACE_FILE,
    PLACE_START,
    N_PLACES
};

/* Stores a value in its field of an object.  False: e tells what is wrong, and what was expected.
 * `at` is the value's text and place; the text is the caller's. */
typedef bool topology_value_f(const struct topology_line *at, void *field, struct errbuf *e);

struct topology_key {
    const char *name;
    enum topology_place place;
    enum topology_place inner; /* of a section: the place that it opens */
    bool titled, list, required;
    topology_value_f *value; /* NULL: a section */
    size_t offset;
    const char *expected; /* an example of what is required */
    const char *help;
};

/* In the order in which people read them; ends with a NULL name. */
extern const struct topology_key topology_keys[];
extern const struct conf_grammar topology_grammar;

/* What concerns several sections: names that are used are there, and so on; and gives hosts what
 * their role has, links what their network has.  with_files: templates are looked at. */
void topology_check(struct topology *, bool with_files, struct conf_faults *);

void topology_lines_add(struct topology_lines *, const struct topology_line *);
void topology_host_fini(struct topology_host *);

#endif
