/* SPDX-License-Identifier: BSD-2-Clause
 *
 * among.h - whether a number is one of a few.  Pure.
 */
#ifndef MC_BASE_AMONG_H
#define MC_BASE_AMONG_H

#include <stdbool.h>
#include <stdint.h>

/* ids need not be sorted. */
static inline bool
is_among(uint64_t id, const uint64_t *ids, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (ids[i] == id)
            return true;
    return false;
}

#endif
