/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/ring.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define MANY 200000u

struct rec {
    uint64_t number, twice;
};

static bool
put(struct ring *r, uint64_t number)
{
    struct rec *rec = ring_slot(r);

    if (!rec)
        return false;
    *rec = (struct rec){number, 2 * number};
    ring_send(r);
    return true;
}

static uint64_t
take(struct ring *r)
{
    const struct rec *rec = ring_oldest(r);
    uint64_t number;

    assert_non_null(rec);
    number = rec->number;
    assert_int_equal(rec->twice, 2 * number);
    ring_drop(r);
    return number;
}

static void
records_come_out_in_order(void **state)
{
    static struct ring r; /* an instrumented stack is less aligned than the ring */

    ring_init(&r, 4, sizeof(struct rec));
    for (uint64_t i = 0; i < 100; i += 3) { /* round and round */
        assert_null(ring_oldest(&r));
        for (uint64_t k = 0; k < 3; k++)
            assert_true(put(&r, i + k));
        for (uint64_t k = 0; k < 3; k++)
            assert_int_equal(take(&r), i + k);
    }
    ring_fini(&r);
}

static void
a_full_ring_keeps_what_it_has_and_counts(void **state)
{
    static struct ring r; /* an instrumented stack is less aligned than the ring */

    ring_init(&r, 4, sizeof(struct rec));
    for (uint64_t i = 0; i < 7; i++)
        assert_int_equal(put(&r, i), i < 4);
    assert_int_equal(stat_get(&r.n_lost), 3);
    assert_int_equal(take(&r), 0);
    assert_true(put(&r, 7));
    for (uint64_t i = 1; i < 4; i++)
        assert_int_equal(take(&r), i);
    assert_int_equal(take(&r), 7);
    assert_null(ring_oldest(&r));
    ring_fini(&r);
}

static void
room_is_told_without_taking_it(void **state)
{
    static struct ring r; /* an instrumented stack is less aligned than the ring */

    ring_init(&r, 4, sizeof(struct rec));
    assert_true(ring_has_room(&r, 4));
    assert_false(ring_has_room(&r, 5));
    put(&r, 1);
    assert_true(ring_has_room(&r, 3));
    assert_false(ring_has_room(&r, 4));
    take(&r);
    assert_true(ring_has_room(&r, 4));
    assert_int_equal(stat_get(&r.n_lost), 0);
    ring_fini(&r);
}

static void
the_counters_may_overflow(void **state)
{
    static struct ring r; /* an instrumented stack is less aligned than the ring */

    ring_init(&r, 2, sizeof(struct rec));
    r.sent = r.dropped = r.dropped_seen = UINT32_MAX;
    assert_true(put(&r, 1));
    assert_true(put(&r, 2));
    assert_false(put(&r, 3));
    assert_int_equal(take(&r), 1);
    assert_int_equal(take(&r), 2);
    assert_null(ring_oldest(&r));
    ring_fini(&r);
}

static void *
write_many(void *arg)
{
    for (uint64_t i = 0; i < MANY;) {
        if (put(arg, i))
            i++;
        else
            sched_yield();
    }
    return NULL;
}

static void
two_threads_need_no_lock(void **state)
{
    static struct ring r; /* an instrumented stack is less aligned than the ring */
    pthread_t writer;

    ring_init(&r, 64, sizeof(struct rec));
    assert_int_equal(pthread_create(&writer, NULL, write_many, &r), 0);
    for (uint64_t i = 0; i < MANY; i++) {
        while (!ring_oldest(&r))
            sched_yield();
        assert_int_equal(take(&r), i);
    }
    pthread_join(writer, NULL);
    assert_null(ring_oldest(&r));
    ring_fini(&r);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_out_in_order),
        cmocka_unit_test(a_full_ring_keeps_what_it_has_and_counts),
        cmocka_unit_test(room_is_told_without_taking_it),
        cmocka_unit_test(the_counters_may_overflow),
        cmocka_unit_test(two_threads_need_no_lock),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
