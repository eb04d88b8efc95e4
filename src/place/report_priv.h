/* SPDX-License-Identifier: BSD-2-Clause
 *
 * report_priv.h - what the parsers of reports share: strict numbers, and one way into a report.
 *
 * For the files of place/ only.
 */
#ifndef MC_PLACE_REPORT_PRIV_H
#define MC_PLACE_REPORT_PRIV_H

#include "place/report.h"

/* Where a name stands: beside the maps, or in one of them. */
enum report_place { REPORT_TOP, REPORT_COST, REPORT_UTILIZATION, REPORT_NAMED };

struct report_maker {
    struct place_report *out;
    unsigned n;    /* entries so far */
    unsigned next; /* of the names that are ours, behind the one that came last */
    unsigned n_seen;
    struct {
        enum report_place place;
        struct str name;
    } seen[REPORT_ENTRIES_MAX]; /* of others', for duplicates: names point into the input */
};

void report_begin(struct report_maker *, struct place_report *out);
/* Takes an entry in: a field of ours, one of the maps', or a fault. */
enum report_fault report_put(struct report_maker *, enum report_place, struct str name,
                             double value);
/* A decimal number, all of s; what strtod(3) knows beyond that (hex, "infinity") is not one. */
enum report_fault report_number(struct str s, double *out);

#endif
