/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_conf.c - whatever a configuration says: no crash, no leak, and a fault for every refusal.
 */
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "control/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static bool
ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);

    return n >= m && strcmp(text + n - m, end) == 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct conf_faults faults = {0};
    struct buf text = {0};
    struct conf *c;
    enum mc_err rv = conf_parse("f", (struct str){(const char *)data, n}, &c, &faults);

    MC_ASSERT((rv == MC_OK) == (c != NULL));
    MC_ASSERT((rv == MC_OK) == (faults.n_errors == 0));
    conf_faults_text(&faults, &text);
    for (unsigned i = 0; i < faults.n; i++) {
        MC_ASSERT(faults.v[i].line >= 1);
        MC_ASSERT(strstr(faults.v[i].text, "expected") != NULL || strlen(faults.v[i].text) > 500);
        /* what the walk over the files lets pass, libconfuse takes (conf_text.h) */
        MC_ASSERT(!ends_with(faults.v[i].text, ", expected other syntax"));
    }
    buf_free(&text);
    conf_faults_free(&faults);
    conf_free(&c);
    return 0;
}
