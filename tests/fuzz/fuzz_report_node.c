/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_report_node.c - any bytes as two scrapes of node_exporter, one after the other; and what
 * they make as reports of an agent, in order.
 */
#include "report_props.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const uint8_t *cut = memchr(data, '\f', n);
    size_t first = cut ? (size_t)(cut - data) : n;
    struct report_order order = {0};
    struct report_node a, b;
    struct place_report r;
    mc_ns age;

    if (report_parse_node((struct str){(const char *)data, first}, &a) != REPORT_F_NONE)
        return 0;
    b = a;
    b.time_s += 1;
    b.idle_seconds += 1;
    if (cut != NULL &&
        report_parse_node((struct str){(const char *)cut + 1, n - first - 1}, &b) != REPORT_F_NONE)
        return 0;
    for (int i = 0; i < 2; i++) {
        if (report_of_node(&a, &b, MC_SEC, &r) == REPORT_F_NONE) {
            check_report(&r);
            if (report_admit(&order, &r, (100 + i) * MC_SEC, &age) == REPORT_F_NONE)
                MC_ASSERT(age >= 0);
        }
        a.cpu_seconds /= 2;
        b.time_s += 1;
    }
    return 0;
}
