/* SPDX-License-Identifier: BSD-2-Clause
 *
 * reason.c - the table of reason.h as arrays.
 */
#include "proxy/reason.h"

#include <stddef.h>

#include "base/check.h"

static const struct {
    const char *ident, *error, *text;
    unsigned status;
    enum grpc_status grpc;
} reasons[] = {
#define X(name, status, grpc, error, text) [END_##name] = {#name, error, text, status, GRPC_##grpc},
    END_REASONS(X)
#undef X
};

static char names[MC_COUNT(reasons)][32];

/* FIRST_BYTE_TIMEOUT becomes "first-byte-timeout": the word in logs and metrics. */
__attribute__((constructor)) static void
spell_names(void)
{
    for (size_t r = 0; r < MC_COUNT(reasons); r++) {
        size_t i = 0;

        for (const char *p = reasons[r].ident; *p != '\0' && i < sizeof(names[r]) - 1; p++, i++)
            names[r][i] = *p == '_' ? '-' : (char)((*p >= 'A' && *p <= 'Z') ? *p | 0x20 : *p);
        names[r][i] = '\0';
    }
}

const char *
end_reason_name(enum end_reason r)
{
    MC_ASSERT(r < MC_COUNT(reasons));
    return names[r];
}

const char *
end_reason_text(enum end_reason r)
{
    MC_ASSERT(r < MC_COUNT(reasons));
    return reasons[r].text;
}

const char *
end_reason_error(enum end_reason r)
{
    MC_ASSERT(r < MC_COUNT(reasons));
    return reasons[r].error;
}

unsigned
end_reason_status(enum end_reason r)
{
    MC_ASSERT(r < MC_COUNT(reasons));
    return reasons[r].status;
}

enum grpc_status
end_reason_grpc(enum end_reason r)
{
    MC_ASSERT(r < MC_COUNT(reasons));
    return reasons[r].grpc;
}
