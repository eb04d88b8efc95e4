/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_report_words.c - any bytes as the reply of an HAProxy agent.
 */
#include "report_props.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct place_report r;

    if (report_parse_agent_check((struct str){(const char *)data, n}, &r) != REPORT_F_NONE)
        return 0;
    MC_ASSERT(r.present != 0 &&
              !(report_has(&r, REPORT_WEIGHT) && report_has(&r, REPORT_WEIGHT_UNIT)));
    MC_ASSERT(r.weight >= 0 && r.weight <= 256 && r.weight_unit <= 256);
    MC_ASSERT(r.admin <= REPORT_MAINT && r.health <= REPORT_STOPPED);
    return 0;
}
