/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/rand.h"
#include "io/timer.h"

struct alarm {
    struct timer t;
    unsigned n_fired;
};

static mc_ns clock_ns; /* what timers_run() was told */
static struct timers *W;

static void
ring(struct timer *t)
{
    assert_true(t->at_ns <= clock_ns); /* never early */
    assert_false(timer_is_set(t));
    container_of(t, struct alarm, t)->n_fired++;
}

static void
run_at(mc_ns now)
{
    clock_ns = now;
    timers_run(W, now);
}

static int
setup(void **state)
{
    W = timers_new(1000 * MC_SEC);
    clock_ns = 1000 * MC_SEC;
    return 0;
}

static int
teardown(void **state)
{
    timers_free(&W);
    assert_null(W);
    return 0;
}

static void
a_timer_fires_once_when_due(void **state)
{
    struct alarm a = {.t.fn = ring};

    assert_int_equal(timers_next(W, clock_ns), MC_NEVER_NS);
    timers_set(W, &a.t, clock_ns + 10 * MC_MS);
    assert_true(timer_is_set(&a.t));
    run_at(clock_ns + 9 * MC_MS);
    assert_int_equal(a.n_fired, 0);
    run_at(clock_ns + MC_MS);
    assert_int_equal(a.n_fired, 1);
    run_at(clock_ns + MC_SEC);
    assert_int_equal(a.n_fired, 1);
}

static void
a_deadline_between_two_ticks_waits_for_the_second(void **state)
{
    struct alarm a = {.t.fn = ring};

    timers_set(W, &a.t, clock_ns + 1);
    run_at(clock_ns);
    assert_int_equal(a.n_fired, 0);
    assert_int_equal(timers_next(W, clock_ns), 1000 * MC_SEC + MC_MS);
    run_at(clock_ns + MC_MS);
    assert_int_equal(a.n_fired, 1);
}

static void
a_deadline_that_has_passed_fires_in_the_next_run(void **state)
{
    struct alarm a = {.t.fn = ring};

    timers_set(W, &a.t, clock_ns - MC_SEC);
    assert_int_equal(timers_next(W, clock_ns), clock_ns);
    run_at(clock_ns);
    assert_int_equal(a.n_fired, 1);
}

static void
a_cleared_timer_does_not_fire(void **state)
{
    struct alarm a = {.t.fn = ring};

    timers_set(W, &a.t, clock_ns + 5 * MC_MS);
    timers_clear(W, &a.t);
    timers_clear(W, &a.t);
    assert_int_equal(timers_next(W, clock_ns), MC_NEVER_NS);
    run_at(clock_ns + MC_SEC);
    assert_int_equal(a.n_fired, 0);
}

static void
a_moved_timer_keeps_only_its_last_deadline(void **state)
{
    struct alarm a = {.t.fn = ring};

    timers_set(W, &a.t, clock_ns + 5 * MC_MS);
    timers_set(W, &a.t, clock_ns + 500 * MC_SEC);
    timers_set(W, &a.t, clock_ns + 50 * MC_MS);
    run_at(clock_ns + 49 * MC_MS);
    assert_int_equal(a.n_fired, 0);
    run_at(clock_ns + MC_MS);
    assert_int_equal(a.n_fired, 1);
    run_at(clock_ns + 1000 * MC_SEC);
    assert_int_equal(a.n_fired, 1);
}

static struct alarm other;

static void
ring_and_again(struct timer *t)
{
    ring(t);
    timers_set(W, t, t->at_ns); /* has passed: the next run, not this one */
    timers_clear(W, &other.t);
}

static void
a_callback_may_set_itself_and_clear_others(void **state)
{
    struct alarm a = {.t.fn = ring_and_again};

    other = (struct alarm){.t.fn = ring};
    timers_set(W, &a.t, clock_ns + MC_MS);
    timers_set(W, &other.t, clock_ns + MC_MS); /* due in the same run, after a */
    run_at(clock_ns + 2 * MC_MS);
    assert_int_equal(a.n_fired, 1);
    assert_int_equal(other.n_fired, 0);
    run_at(clock_ns);
    assert_int_equal(a.n_fired, 2);
    timers_clear(W, &a.t);
    assert_int_equal(timers_next(W, clock_ns), MC_NEVER_NS);
}

static void
deadlines_years_away_and_never_are_kept(void **state)
{
    struct alarm far = {.t.fn = ring}, never = {.t.fn = ring};
    mc_ns ten_years = 10ll * 365 * 86400 * MC_SEC;

    timers_set(W, &far.t, clock_ns + ten_years);
    timers_set(W, &never.t, MC_NEVER_NS);
    run_at(clock_ns + ten_years - MC_MS);
    assert_int_equal(far.n_fired, 0);
    run_at(clock_ns + MC_MS);
    assert_int_equal(far.n_fired, 1);
    assert_int_equal(never.n_fired, 0);
    timers_clear(W, &never.t);
}

/* --- against a list of deadlines ------------------------------------------------------------- */

#define N_ALARMS 500

static mc_ns last_tick;

static void
ring_in_order(struct timer *t)
{
    mc_ns tick = (t->at_ns + MC_MS - 1) / MC_MS;

    ring(t);
    assert_true(tick >= last_tick); /* as a sorted list would have it, to the tick */
    last_tick = tick;
}

static mc_ns
random_delay(struct rng *r)
{
    return (mc_ns)(rng_next(r) % (1ull << (10 + rng_below(r, 32))));
}

static mc_ns
earliest(const struct alarm *a)
{
    mc_ns min = MC_NEVER_NS;

    for (int i = 0; i < N_ALARMS; i++)
        if (timer_is_set(&a[i].t) && a[i].t.at_ns < min)
            min = a[i].t.at_ns;
    return min;
}

static void
change_some(struct alarm *a, struct rng *r)
{
    for (uint32_t i = rng_below(r, 20); i > 0; i--) {
        struct alarm *one = &a[rng_below(r, N_ALARMS)];

        if (rng_below(r, 4) == 0)
            timers_clear(W, &one->t);
        else
            timers_set(W, &one->t, clock_ns + random_delay(r));
    }
}

/* What is due at `now` has fired and nothing else: compared with a plain search through all. */
static void
step_to(struct alarm *a, mc_ns now)
{
    bool due[N_ALARMS];
    unsigned fired[N_ALARMS];

    for (int i = 0; i < N_ALARMS; i++) {
        due[i] = timer_is_set(&a[i].t) &&
                 (a[i].t.at_ns + MC_MS - 1) / MC_MS * MC_MS <= now / MC_MS * MC_MS;
        due[i] |= timer_is_set(&a[i].t) && a[i].t.at_ns <= clock_ns / MC_MS * MC_MS;
        fired[i] = a[i].n_fired;
    }
    last_tick = 0;
    run_at(now);
    for (int i = 0; i < N_ALARMS; i++)
        assert_int_equal(a[i].n_fired, fired[i] + due[i]);
}

static void
the_wheel_agrees_with_a_sorted_list(void **state)
{
    struct alarm *a = calloc(N_ALARMS, sizeof(*a));
    struct rng r;

    for (int i = 0; i < N_ALARMS; i++)
        a[i].t.fn = ring_in_order;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        rng_seed(&r, seed);
        for (int i = 0; i < 3000; i++) {
            mc_ns next = timers_next(W, clock_ns), min = earliest(a);

            assert_true(next <= (min > MC_NEVER_NS - MC_MS ? min : min + MC_MS));
            step_to(a, clock_ns + random_delay(&r) / (1 + rng_below(&r, 64)));
            change_some(a, &r);
        }
    }
    for (int i = 0; i < N_ALARMS; i++)
        timers_clear(W, &a[i].t);
    assert_int_equal(timers_next(W, clock_ns), MC_NEVER_NS);
    free(a);
}

/* Whoever sleeps until timers_next() and runs then is never more than a tick late. */
static void
sleeping_until_next_is_enough(void **state)
{
    struct alarm a = {.t.fn = ring};
    struct rng r;

    rng_seed(&r, 5);
    for (int i = 0; i < 2000; i++) {
        mc_ns at = clock_ns + random_delay(&r);
        unsigned wakes = 0;

        timers_set(W, &a.t, at);
        while (timer_is_set(&a.t)) {
            mc_ns next = timers_next(W, clock_ns);

            run_at(next > clock_ns ? next : clock_ns);
            wakes++;
        }
        assert_true(clock_ns - at < MC_MS || at < clock_ns);
        assert_true(clock_ns < at + MC_MS);
        assert_true(wakes <= 8); /* once per level */
    }
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_timer_fires_once_when_due),
        T(a_deadline_between_two_ticks_waits_for_the_second),
        T(a_deadline_that_has_passed_fires_in_the_next_run),
        T(a_cleared_timer_does_not_fire),
        T(a_moved_timer_keeps_only_its_last_deadline),
        T(a_callback_may_set_itself_and_clear_others),
        T(deadlines_years_away_and_never_are_kept),
        T(the_wheel_agrees_with_a_sorted_list),
        T(sleeping_until_next_is_enough),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
