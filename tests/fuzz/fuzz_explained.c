/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_explained.c - any bytes as the query of /v1/explain.
 *
 * Never a crash; what is understood is one request line and the fields that were asked for, as many
 * as there were and a Host.
 */
#include "base/check.h"
#include "control/explained.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static unsigned
count(struct str query, struct str name)
{
    unsigned n = 0;

    while (query.p != NULL) {
        struct str value = str_cut(&query, '&');

        n += str_eq(str_cut(&value, '='), name);
    }
    return n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str query = {(const char *)data, n};
    struct explained_ask a;
    struct errbuf e = {""};
    unsigned fields = count(query, STR("field"));

    if (explained_read(&a, query, &e) != MC_OK) {
        MC_ASSERT(e.text[0] != '\0');
    } else {
        MC_ASSERT(count(query, STR("url")) > 0 && a.head.path.n > 0);
        MC_ASSERT(a.head.n_fields == fields || a.head.n_fields == fields + 1);
    }
    explained_free(&a);
    return 0;
}
