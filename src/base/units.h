/* SPDX-License-Identifier: BSD-2-Clause
 *
 * units.h - time and size: their types, their suffixes, and how people write them.
 */
#ifndef MC_BASE_UNITS_H
#define MC_BASE_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

/* Monotonic time or a duration, in nanoseconds.  Wall time appears only in logs and protocols. */
typedef int64_t mc_ns;

#define MC_US       ((mc_ns)1000)
#define MC_MS       ((mc_ns)1000000)
#define MC_SEC      ((mc_ns)1000000000)
#define MC_NEVER_NS INT64_MAX

static inline mc_ns
mc_sooner(mc_ns a, mc_ns b)
{
    return a < b ? a : b;
}

static inline mc_ns
mc_later(mc_ns a, mc_ns b)
{
    return a > b ? a : b;
}

/* Reads the monotonic clock.  The loop does it once a turn; prefer loop_now(). */
mc_ns units_clock_ns(void);
/* Wall-clock nanoseconds since 1970, for logs and protocols. */
int64_t units_wall_ns(void);

/* "250ms", "1.5s", "2m", "1h", "3d", "10us".  A bare "0" is a duration, any other bare number is
 * not. False leaves *out_ns untouched. */
bool units_parse_duration(struct str, mc_ns *out_ns);
/* "16KiB", "1MB", "512B", "4096".  KB/MB/GB are powers of 1000; KiB/MiB/GiB and k/m/g of 1024. */
bool units_parse_size(struct str, uint64_t *out_bytes);

#define UNITS_TEXT 32
/* Writes the shortest exact form ("250ms", "16KiB") into out, returns out. */
const char *units_duration_text(mc_ns, char out[UNITS_TEXT]);

#endif
