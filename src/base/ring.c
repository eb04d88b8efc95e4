/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ring.c - making and ending a ring, see ring.h.
 */
#include "base/ring.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

void
ring_init(struct ring *r, uint32_t n_slots, size_t slot_bytes)
{
    MC_ASSERT(n_slots > 0 && (n_slots & (n_slots - 1)) == 0);
    memset(r, 0, sizeof(*r));
    r->slots = mc_alloc(n_slots * slot_bytes);
    r->slot_bytes = slot_bytes;
    r->n_slots = n_slots;
}

void
ring_fini(struct ring *r)
{
    free(r->slots);
    r->slots = NULL;
}
