/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_keyfile.c - any bytes as a key file: what is read is written again and read the same.
 */
#include "base/buf.h"
#include "base/check.h"
#include "cluster/keyfile.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct keyfile f, again;
    struct errbuf eb = {{0}};
    struct buf text = {0};
    char line[KEYFILE_LINE];

    if (keyfile_parse((struct str){(const char *)data, n}, "keys", &f, &eb) != MC_OK) {
        MC_ASSERT(strncmp(eb.text, "keys:", 5) == 0 && strstr(eb.text, "expected") != NULL);
        return 0;
    }
    MC_ASSERT(f.n > 0 && f.n <= KEYFILE_KEYS_MAX);
    for (unsigned i = 0; i < f.n; i++)
        buf_printf(&text, "%s\n", keyfile_text(&f, i, line));
    MC_ASSERT(keyfile_parse((struct str){text.p, text.n}, "again", &again, &eb) == MC_OK);
    MC_ASSERT(again.n == f.n && memcmp(again.key, f.key, sizeof(f.key)) == 0);
    buf_free(&text);
    return 0;
}
