/* SPDX-License-Identifier: BSD-2-Clause
 *
 * head_props.h - what holds of each accepted head, of HTTP/1 or 2, request or response.
 */
#ifndef MC_FUZZ_HEAD_PROPS_H
#define MC_FUZZ_HEAD_PROPS_H

#include <string.h>

#include "base/check.h"
#include "http/h1.h"

/* For what was written again: room for what writing adds. */
static const struct h1_limits wide = {
    .head_bytes = 1 << 20, .target_bytes = 1 << 19, .fields = 200, .trailer_bytes = 4096};

static inline void
check_clean(struct str s)
{
    MC_ASSERT(s.n == 0 || !memchr(s.p, '\r', s.n));
    MC_ASSERT(s.n == 0 || !memchr(s.p, '\n', s.n));
    MC_ASSERT(s.n == 0 || !memchr(s.p, '\0', s.n));
}

static inline void
check_clean_fields(const struct http_field *f, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        check_clean((struct str){f[i].name, f[i].name_len});
        check_clean(http_field_value(&f[i]));
    }
}

#endif
