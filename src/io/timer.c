/* SPDX-License-Identifier: BSD-2-Clause
 *
 * timer.c - see timer.h.
 *
 * Time is a number of ticks written in base 64.  A timer stands on the level of the highest digit
 * in which its tick differs from the current one, in the slot of that digit: so every slot in use
 * lies ahead of the current digit of its level, and the lowest level in use holds the earliest
 * timer.  When the current tick reaches the start of a slot, its timers move to lower levels or are
 * due.  A bit per slot tells which are in use.
 */
#include "io/timer.h"

#include <stdlib.h>

#include "base/check.h"

#define TICK_NS      MC_MS
#define DIGIT_BITS   6
#define N_SLOTS      (1u << DIGIT_BITS)
/* 2^48 ms are more than INT64_MAX ns, so no deadline is too far. */
#define N_LEVELS     8

#define TIMERS_MAGIC 0x74696d72u

struct timers {
    unsigned magic;
    uint64_t tick;           /* all slots up to here have been emptied */
    uint64_t used[N_LEVELS]; /* bit i: slot i is not empty */
    struct list due;         /* set with a deadline that had passed: the next run fires them */
    struct list slot[N_LEVELS][N_SLOTS];
};

struct timers *
timers_new(mc_ns now)
{
    struct timers *w = mc_alloc(sizeof(*w));

    w->magic = TIMERS_MAGIC;
    w->tick = (uint64_t)(now / TICK_NS);
    list_init(&w->due);
    for (unsigned l = 0; l < N_LEVELS; l++)
        for (unsigned i = 0; i < N_SLOTS; i++)
            list_init(&w->slot[l][i]);
    return w;
}

void
timers_free(struct timers **wp)
{
    if (*wp == NULL)
        return;
    MC_CHECK(*wp, TIMERS_MAGIC);
    (*wp)->magic = 0;
    free(*wp);
    *wp = NULL;
}

/* First tick at or after the deadline: a timer never fires early. */
static uint64_t
tick_of(mc_ns at)
{
    return at <= 0 ? 0 : ((uint64_t)at + TICK_NS - 1) / TICK_NS;
}

static void
insert(struct timers *w, struct timer *t)
{
    uint64_t tick = tick_of(t->at_ns);
    unsigned level, digit;

    if (tick <= w->tick) {
        list_push_back(&w->due, &t->link);
        return;
    }
    level = (63 - (unsigned)__builtin_clzll(tick ^ w->tick)) / DIGIT_BITS;
    digit = (unsigned)(tick >> (level * DIGIT_BITS)) % N_SLOTS;
    w->used[level] |= 1ull << digit;
    list_push_back(&w->slot[level][digit], &t->link);
}

/* Takes t out of its list; the bit of a slot that became empty is cleared. */
static void
take_out(struct timers *w, struct timer *t)
{
    struct list *next = t->link.next; /* the list's head when t is the last one */
    size_t i = ((uintptr_t)next - (uintptr_t)w->slot) / sizeof(struct list);

    list_remove(&t->link);
    t->link.next = t->link.prev = NULL;
    if (list_empty(next) && i < N_LEVELS * N_SLOTS)
        w->used[i / N_SLOTS] &= ~(1ull << (i % N_SLOTS));
}

/* hot: several times per request */
void
timers_set(struct timers *w, struct timer *t, mc_ns at_ns)
{
    MC_CHECK(w, TIMERS_MAGIC);
    MC_ASSERT(t->fn != NULL);
    if (timer_is_set(t)) {
        if (tick_of(t->at_ns) == tick_of(at_ns) && tick_of(at_ns) > w->tick) {
            t->at_ns = at_ns;
            return;
        }
        take_out(w, t);
    }
    t->at_ns = at_ns;
    insert(w, t);
}

/* hot: once per request */
void
timers_clear(struct timers *w, struct timer *t)
{
    MC_CHECK(w, TIMERS_MAGIC);
    if (timer_is_set(t))
        take_out(w, t);
}

/* The tick at which the next slot in use begins, and its level; false when no timer waits. */
static bool
next_slot(const struct timers *w, uint64_t *tick, unsigned *level)
{
    for (unsigned l = 0; l < N_LEVELS; l++) {
        unsigned shift = l * DIGIT_BITS;
        uint64_t above;

        if (w->used[l] == 0)
            continue;
        above = w->tick >> shift >> DIGIT_BITS << DIGIT_BITS;
        *tick = (above | (unsigned)__builtin_ctzll(w->used[l])) << shift;
        *level = l;
        return true;
    }
    return false;
}

/* The current tick has reached a slot: what it holds is due or moves to lower levels. */
static void
empty_slot(struct timers *w, unsigned level)
{
    unsigned digit = (unsigned)(w->tick >> (level * DIGIT_BITS)) % N_SLOTS;
    struct list moving;

    list_init(&moving);
    list_splice(&moving, &w->slot[level][digit]);
    w->used[level] &= ~(1ull << digit);
    while (!list_empty(&moving)) {
        struct timer *t = LIST_ENTRY(moving.next, struct timer, link);

        list_remove(&t->link);
        insert(w, t);
    }
}

/* Fires what is in `due` now; what its callbacks add there waits for the next run. */
static void
fire(struct timers *w)
{
    struct list firing;

    list_init(&firing);
    list_splice(&firing, &w->due);
    while (!list_empty(&firing)) {
        struct timer *t = LIST_ENTRY(firing.next, struct timer, link);

        list_remove(&t->link);
        t->link.next = t->link.prev = NULL;
        t->fn(t);
    }
}

void
timers_run(struct timers *w, mc_ns now)
{
    uint64_t now_tick = (uint64_t)(now / TICK_NS), tick;
    unsigned level;

    MC_CHECK(w, TIMERS_MAGIC);
    while (next_slot(w, &tick, &level) && tick <= now_tick) {
        w->tick = tick;
        empty_slot(w, level);
    }
    if (now_tick > w->tick)
        w->tick = now_tick;
    if (!list_empty(&w->due))
        fire(w);
}

/* hot: once per turn */
mc_ns
timers_next(const struct timers *w, mc_ns now)
{
    uint64_t tick;
    unsigned level;

    if (!list_empty(&w->due))
        return now;
    if (!next_slot(w, &tick, &level))
        return MC_NEVER_NS;
    return tick > (uint64_t)(INT64_MAX / TICK_NS) ? MC_NEVER_NS : (mc_ns)tick * TICK_NS;
}
