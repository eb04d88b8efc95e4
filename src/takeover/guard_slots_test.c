/* SPDX-License-Identifier: BSD-2-Clause */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "takeover/guard_slots.h"

#define N         64
#define N_THREADS 4
#define ROUNDS    20000
#define AT_ONCE   20 /* of each thread: more than there are for all */

static struct guard_state state;
static struct guard_slot slots[N];
static int users[N];

static void
each_slot_is_given_once(void **unused)
{
    bool had[N] = {false};
    uint32_t s;

    guard_slots_begin(&state, slots, N);
    for (unsigned i = 0; i < N; i++) {
        s = guard_slot_take(&state, slots);
        assert_true(s < N);
        assert_false(had[s]);
        had[s] = true;
    }
    assert_int_equal(guard_slot_take(&state, slots), GUARD_NO_SLOT);
    guard_slot_give(&state, slots, 7);
    assert_int_equal(guard_slot_take(&state, slots), 7);
    assert_int_equal(guard_slot_take(&state, slots), GUARD_NO_SLOT);
}

static void *
take_and_give(void *unused)
{
    uint32_t mine[AT_ONCE];
    unsigned n;

    for (unsigned r = 0; r < ROUNDS; r++) {
        for (n = 0; n < AT_ONCE && (mine[n] = guard_slot_take(&state, slots)) != GUARD_NO_SLOT; n++)
            MC_ASSERT(__atomic_fetch_add(&users[mine[n]], 1, __ATOMIC_RELAXED) == 0);
        while (n-- > 0) {
            __atomic_fetch_sub(&users[mine[n]], 1, __ATOMIC_RELAXED);
            guard_slot_give(&state, slots, mine[n]);
        }
    }
    return NULL;
}

static void
threads_never_get_the_same(void **unused)
{
    pthread_t t[N_THREADS];
    unsigned n = 0;

    guard_slots_begin(&state, slots, N);
    for (unsigned i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, take_and_give, NULL), 0);
    for (unsigned i = 0; i < N_THREADS; i++)
        pthread_join(t[i], NULL);
    while (guard_slot_take(&state, slots) != GUARD_NO_SLOT)
        n++;
    assert_int_equal(n, N);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_slot_is_given_once),
        cmocka_unit_test(threads_never_get_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
