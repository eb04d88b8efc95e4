/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_report_orca.c - any bytes as the field of a response that tells of its server's load, and
 * what placement makes of it.  The first byte says which of the two fields it is.
 */
#include "place/lean.h"
#include "report_props.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

/* Whatever is believed: a price stays within its bounds, for hours. */
static void
check_price(const struct place_report *r)
{
    struct place_word w = {.cpu = (float)r->cpu_utilization,
                           .application = (float)r->application_utilization,
                           .rps = (float)r->rps,
                           .eps = (float)r->eps};
    struct lean l[2] = {{0}, {.busy = .5f, .at = MC_SEC}};
    double busy = lean_busy(&w);

    MC_ASSERT(busy >= 0 && busy <= 2);
    lean_note(&l[0], busy, MC_SEC);
    for (int i = 0; i < 3; i++) {
        lean_step(l, 2, 3600, MC_SEC);
        for (int k = 0; k < 2; k++)
            MC_ASSERT(lean_price(&l[k]) >= 1 && lean_price(&l[k]) <= LEAN_MOST * 1.0001);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str field = {(const char *)data + 1, n - 1};
    struct place_report r;
    enum report_fault f;
    double cpu_s;

    if (n == 0)
        return 0;
    f = data[0] == 'b' ? report_parse_orca(STR_NONE, field, &r)
                       : report_parse_orca(field, STR_NONE, &r);
    if (f != REPORT_F_NONE)
        return 0;
    check_report(&r);
    check_price(&r);
    if (report_cost_cpu(&r, &cpu_s) == REPORT_F_NONE)
        MC_ASSERT(cpu_s == 0 || (cpu_s >= REPORT_COST_LEAST_S && cpu_s <= REPORT_COST_MOST_S));
    return 0;
}
