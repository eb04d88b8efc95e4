/* SPDX-License-Identifier: BSD-2-Clause
 *
 * guard_slots.c - a stack without a lock (Treiber 1986).
 *
 * The head has the first slot's index in its lower half.  The upper half counts what was taken, so
 * that a taker that was interrupted does not mistake a head that has come back for one that has
 * stayed.
 */
#include "takeover/guard_slots.h"

#define INDEX  UINT64_C(0xffffffff)
#define A_TAKE (UINT64_C(1) << 32)

void
guard_slots_begin(struct guard_state *s, struct guard_slot *slots, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        slots[i].next = i + 1 < n ? i + 1 : GUARD_NO_SLOT;
    s->n_slots = n;
    s->free_slots = n > 0 ? 0 : GUARD_NO_SLOT;
}

uint32_t
guard_slot_take(struct guard_state *s, struct guard_slot *slots)
{
    uint64_t head = __atomic_load_n(&s->free_slots, __ATOMIC_ACQUIRE), next;

    do {
        if ((head & INDEX) == GUARD_NO_SLOT)
            return GUARD_NO_SLOT;
        next = __atomic_load_n(&slots[head & INDEX].next, __ATOMIC_RELAXED);
        next |= (head & ~INDEX) + A_TAKE;
    } while (!__atomic_compare_exchange_n(&s->free_slots, &head, next, true, __ATOMIC_ACQUIRE,
                                          __ATOMIC_ACQUIRE));
    return (uint32_t)(head & INDEX);
}

void
guard_slot_give(struct guard_state *s, struct guard_slot *slots, uint32_t slot)
{
    uint64_t head = __atomic_load_n(&s->free_slots, __ATOMIC_RELAXED);

    do {
        __atomic_store_n(&slots[slot].next, (uint32_t)(head & INDEX), __ATOMIC_RELAXED);
    } while (!__atomic_compare_exchange_n(&s->free_slots, &head, (head & ~INDEX) | slot, true,
                                          __ATOMIC_RELEASE, __ATOMIC_RELAXED));
}
