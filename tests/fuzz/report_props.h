/* SPDX-License-Identifier: BSD-2-Clause
 *
 * report_props.h - what holds of every report that was believed, whichever parser made it.
 */
#ifndef MC_FUZZ_REPORT_PROPS_H
#define MC_FUZZ_REPORT_PROPS_H

#include <math.h>

#include "base/check.h"
#include "place/report.h"

static inline void
check_map(const struct report_named *m, unsigned n)
{
    MC_ASSERT(n <= REPORT_MAPS_MAX);
    for (unsigned i = 0; i < n; i++) {
        MC_ASSERT(memchr(m[i].name, '\0', REPORT_NAME_MAX) != NULL && m[i].name[0] != '\0');
        MC_ASSERT(isfinite(m[i].value) && m[i].value >= 0);
    }
}

/* Every number is finite and in its range. */
static inline void
check_report(const struct place_report *r)
{
#define X(id, member, name, max) \
    MC_ASSERT(isfinite(r->member) && r->member >= 0 && r->member <= (max));
    REPORT_FIELDS(X)
#undef X
#define X(id, member, name, below) MC_ASSERT(r->member < (below));
    REPORT_INTS(X)
#undef X
    check_map(r->cost, r->n_costs);
    check_map(r->named, r->n_named);
}

/* What can be said in TEXT is read as it was written, to the 15 digits that are written. */
static inline void
check_roundtrip(const struct place_report *r)
{
    char text[REPORT_TEXT_MAX];
    struct place_report again;
    size_t n = report_write_text(r, text);

    if (n == 0 || n > REPORT_BYTES_MAX)
        return;
    for (unsigned i = 0; i < r->n_named; i++)
        if (strpbrk(r->named[i].name, ",=:") != NULL)
            return; /* JSON and BIN have names that TEXT has not */
    MC_ASSERT(report_parse_text((struct str){text, n}, &again) == REPORT_F_NONE);
    MC_ASSERT(again.present == r->present);
    MC_ASSERT(again.boot == r->boot && again.seq == r->seq && again.time_ms == r->time_ms);
}

#endif
