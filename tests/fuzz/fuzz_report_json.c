/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_report_json.c - any bytes as a report in ORCA's JSON.
 */
#include "report_props.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct place_report r;

    if (report_parse_json((struct str){(const char *)data, n}, &r) != REPORT_F_NONE)
        return 0;
    check_report(&r);
    check_roundtrip(&r);
    return 0;
}
