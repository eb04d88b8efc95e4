/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conf_text.h - configuration files made into one clean text for libconfuse.
 *
 * libconfuse 3.3 stops at the first option it does not know, merges sections of one name without a
 * word, counts three lines for each comment, and keeps the state of its lexer after a fault.  So
 * the files are walked here first: includes are put in place, comments dropped, unknown options and
 * sections given twice reported and left out, and each line of the result knows where it came from.
 * What passes has no syntax that libconfuse could refuse; it reads the values.
 */
#ifndef MC_CONF_CONF_TEXT_H
#define MC_CONF_CONF_TEXT_H

#include "base/buf.h"
#include "conf/conf_fault.h"
#include "conf/conf_grammar.h"

/* A place in a file: which of conf_text.files, and which line. */
struct conf_at {
    unsigned file, line;
};

struct conf_text {
    struct buf text;
    struct conf_at *lines; /* of each line of text, from 0 */
    unsigned n_lines, cap_lines;
    char **files;
    unsigned n_files;
    struct conf_at *sections[CONF_PLACES_MAX]; /* where each section begins, in order */
    unsigned n_sections[CONF_PLACES_MAX], cap_sections[CONF_PLACES_MAX];
};

/* Bounds on what somebody may hand us: a thousand pools of a hundred servers are 10 MiB. */
#define CONF_FILE_BYTES_MAX  (16u << 20)
#define CONF_TOTAL_BYTES_MAX (32u << 20)
#define CONF_FILES_MAX       1000
#define CONF_INCLUDE_DEPTH   10

/* From a file, or from memory under the name `path` (then include() is refused).  False: a fault of
 * syntax or of the system ended the walk. */
bool conf_text_load(struct conf_text *, const struct conf_grammar *, const char *path,
                    struct conf_faults *);
bool conf_text_parse(struct conf_text *, const struct conf_grammar *, const char *path,
                     struct str text, struct conf_faults *);
void conf_text_free(struct conf_text *);

#endif
