/* SPDX-License-Identifier: BSD-2-Clause
 *
 * grpc.c - the fields of gRPC, see grpc.h.
 */
#include "http/grpc.h"

#include "base/check.h"

/* --- status -----------------------------------------------------------------------------------
 */

static const char *const names[GRPC_N_STATUSES] = {
#define X(name) #name,
    GRPC_STATUSES(X)
#undef X
};

const char *
grpc_status_name(enum grpc_status s)
{
    MC_ASSERT(s < GRPC_N_STATUSES);
    return names[s];
}

enum grpc_status
grpc_status_read(struct str s)
{
    uint64_t n;

    return str_u64(s, &n) && n < GRPC_N_STATUSES ? (enum grpc_status)n : GRPC_UNKNOWN;
}

/* --- content type -----------------------------------------------------------------------------
 */

bool
grpc_content_type(struct str v)
{
    const struct str type = STR("application/grpc");

    if (v.n < type.n || !str_eq_ci((struct str){v.p, type.n}, type))
        return false;
    return v.n == type.n || v.p[type.n] == '+' || v.p[type.n] == ';';
}

bool
grpc_is_call(const struct http_head *h)
{
    return grpc_content_type(http_field_value(http_field_find(h, FIELD_CONTENT_TYPE)));
}

/* --- timeout ----------------------------------------------------------------------------------
 */

#define DIGITS_MOST 8
#define VALUE_MOST  99999999

static const struct {
    char unit;
    mc_ns ns;
} units[] = {
    {'n', 1}, {'u', MC_US}, {'m', MC_MS}, {'S', MC_SEC}, {'M', 60 * MC_SEC}, {'H', 3600 * MC_SEC},
};

bool
grpc_timeout_read(struct str s, mc_ns *out)
{
    uint64_t n;

    if (s.n < 2 || s.n > DIGITS_MOST + 1 || !str_u64((struct str){s.p, s.n - 1}, &n))
        return false;
    for (unsigned i = 0; i < MC_COUNT(units); i++) {
        if (s.p[s.n - 1] != units[i].unit)
            continue;
        if (__builtin_mul_overflow((mc_ns)n, units[i].ns, out))
            *out = MC_NEVER_NS;
        return true;
    }
    return false;
}

/* In the finest unit that eight digits allow. */
unsigned
grpc_timeout_write(mc_ns ns, char out[GRPC_TIMEOUT_TEXT])
{
    char digits[DIGITS_MOST];
    unsigned u = 0, n = 0;
    mc_ns value;

    ns = ns < 1 ? 1 : ns;
    while (u + 1 < MC_COUNT(units) && (ns - 1) / units[u].ns >= VALUE_MOST)
        u++;
    value = (ns - 1) / units[u].ns + 1; /* below 2562048 hours */
    do
        digits[n++] = (char)('0' + value % 10);
    while ((value /= 10) > 0);
    for (unsigned i = 0; i < n; i++)
        out[i] = digits[n - 1 - i];
    out[n] = units[u].unit;
    return n + 1;
}

/* --- message ----------------------------------------------------------------------------------
 */

struct str
grpc_message(struct str text, struct arena *a)
{
    static const char hex[] = "0123456789ABCDEF";
    char *out = arena_alloc(a, text.n * 3 + 1), *d = out;

    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];

        if (c >= ' ' && c < 0x7f && c != '%') {
            *d++ = (char)c;
            continue;
        }
        *d++ = '%';
        *d++ = hex[c >> 4];
        *d++ = hex[c & 15];
    }
    return (struct str){out, (size_t)(d - out)};
}
