/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rand.h"
#include "cluster/replay.h"

static void
each_sequence_is_new_once_in_any_order(void **state)
{
    static const uint64_t order[] = {5, 1, 3, 2, 4, 1000, 64, 63, 65, 999};
    struct replay r = {0};

    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        assert_int_equal(replay_check(&r, order[i]), REPLAY_NEW);
        replay_mark(&r, order[i]);
        for (size_t j = 0; j <= i; j++)
            assert_int_equal(replay_check(&r, order[j]), REPLAY_SEEN);
    }
}

static void
what_falls_out_of_the_window_is_old(void **state)
{
    struct replay r = {0};

    assert_int_equal(replay_check(&r, 0), REPLAY_OLD);
    replay_mark(&r, 10 * REPLAY_WINDOW);
    assert_int_equal(replay_check(&r, 9 * REPLAY_WINDOW + 1), REPLAY_NEW);
    assert_int_equal(replay_check(&r, 9 * REPLAY_WINDOW), REPLAY_OLD);
    assert_int_equal(replay_check(&r, 1), REPLAY_OLD);
}

static void
a_jump_forgets_nothing_that_matters(void **state)
{
    struct replay r = {0};

    for (uint64_t seq = 1; seq <= 3 * REPLAY_WINDOW; seq++)
        replay_mark(&r, seq);
    replay_mark(&r, UINT64_MAX);
    assert_int_equal(replay_check(&r, UINT64_MAX), REPLAY_SEEN);
    assert_int_equal(replay_check(&r, UINT64_MAX - 1), REPLAY_NEW);
    assert_int_equal(replay_check(&r, UINT64_MAX - REPLAY_WINDOW + 1), REPLAY_NEW);
    assert_int_equal(replay_check(&r, 1), REPLAY_OLD);
}

/* Against a window that is a plain list of all that was ever seen. */
static void
it_agrees_with_a_window_that_remembers_everything(void **state)
{
    enum { RANGE = 40000, STEPS = 60000 };
    static uint8_t seen[RANGE + 1];
    struct replay r = {0};
    uint64_t top = 0;
    struct rng rng;

    rng_seed(&rng, 6479);
    for (unsigned i = 0; i < STEPS; i++) {
        /* creeps forward, with stragglers from behind the window and a leap now and then */
        uint64_t at = (uint64_t)i * RANGE / STEPS + rng_below(&rng, i % 500 == 0 ? 3000 : 40);
        uint64_t back = rng_below(&rng, REPLAY_WINDOW + 200);
        uint64_t seq = rng_below(&rng, 3) == 0 && at > back ? at - back : at;
        enum replay_answer expect;

        seq = seq < 1 ? 1 : seq > RANGE ? RANGE : seq;
        expect = seq + REPLAY_WINDOW <= top ? REPLAY_OLD : seen[seq] ? REPLAY_SEEN : REPLAY_NEW;
        assert_int_equal(replay_check(&r, seq), expect);
        if (expect != REPLAY_NEW)
            continue;
        replay_mark(&r, seq);
        seen[seq] = 1;
        top = seq > top ? seq : top;
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_sequence_is_new_once_in_any_order),
        cmocka_unit_test(what_falls_out_of_the_window_is_old),
        cmocka_unit_test(a_jump_forgets_nothing_that_matters),
        cmocka_unit_test(it_agrees_with_a_window_that_remembers_everything),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
