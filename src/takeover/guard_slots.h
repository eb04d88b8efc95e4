/* SPDX-License-Identifier: BSD-2-Clause
 *
 * guard_slots.h - which slots of the guard are free: a list in the memory of the slots themselves,
 * any thread, no lock.
 */
#ifndef MC_TAKEOVER_GUARD_SLOTS_H
#define MC_TAKEOVER_GUARD_SLOTS_H

#include "takeover/guard_shared.h"

/* All n of them free. */
void guard_slots_begin(struct guard_state *, struct guard_slot *, uint32_t n);
/* GUARD_NO_SLOT: none is free. */
uint32_t guard_slot_take(struct guard_state *, struct guard_slot *);
void guard_slot_give(struct guard_state *, struct guard_slot *, uint32_t slot);

#endif
