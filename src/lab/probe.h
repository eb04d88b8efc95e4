/* SPDX-License-Identifier: BSD-2-Clause
 *
 * probe.h - what of a laboratory this machine can do: each part is tried, not guessed.
 */
#ifndef MC_LAB_PROBE_H
#define MC_LAB_PROBE_H

#include <stdbool.h>

#include "base/err.h"

struct probe {
    const char *name;
    const char *used_for;
    bool needed; /* by every laboratory */
    bool works;
    struct errbuf why; /* what was found: a version, or why it does not work */
};

#define PROBES_MAX 24

/* Returns how many.  The calling process is in a network namespace of its own afterwards. */
unsigned probe_all(struct probe out[PROBES_MAX]);

#endif
