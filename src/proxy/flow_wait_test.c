/* SPDX-License-Identifier: BSD-2-Clause
 *
 * flow_wait_test.c - many connections that wait for a holder at the same time.
 *
 * Link and guard are this file's own; nothing of the connections is there but what waits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/flow_priv.h"
#include "takeover/repair.h"
#include "takeover/takeover.h"

#define MANY 10000u

static uint64_t acked;
static struct guard_slot slots[MANY];
static struct guard_state guard_state = {.lease_until_ns = GUARD_NEVER};
static struct guard the_guard = {.state = &guard_state, .slots = slots};
static struct worker worker;
static struct flows all;
static struct flow *flow;
static struct conn *conn;

/* --- the link and the kernel: only the first is asked --------------------------------------------
 */

uint64_t
link_acked(const struct link *l)
{
    return acked;
}

struct link *
link_new(struct takeover *t, unsigned index, struct loop *l, const struct link_hooks *h,
         struct errbuf *e)
{
    return NULL;
}

void
link_close(struct link *l)
{
}

bool
link_is_gone(const struct link *l)
{
    return true;
}

void
link_free(struct link **l)
{
}

uint64_t
link_put(struct link *l, const struct wire_frame *f)
{
    return 0;
}

void
link_tell(struct link *l, const struct wire_frame *f)
{
}

struct life
link_heir(const struct link *l, uint32_t but)
{
    return (struct life){0, 0};
}

uint32_t
link_keepers(const struct link *l)
{
    return 0;
}

bool
link_is_at(const struct link *l, struct life who, unsigned place)
{
    return false;
}

bool
link_expects_heir(const struct link *l)
{
    return false;
}

void
link_handed_over(struct link *l, const struct flow_key *k, struct life heir)
{
}

const struct link_stats *
link_stats(const struct link *l)
{
    return NULL;
}

struct guard *
takeover_guard(const struct takeover *t)
{
    return &the_guard;
}

enum mc_err
guard_flow_add(struct guard *g, const struct flow_key *k, uint32_t gate, uint32_t *slot)
{
    return MC_EFULL;
}

void
guard_flow_del(struct guard *g, const struct flow_key *k, uint32_t slot)
{
}

enum mc_err
repair_bases(int fd, uint32_t *rcv, uint32_t *snd, struct tcp_params *p, struct errbuf *e)
{
    return MC_ENOTSUP;
}

void
repair_drop(int fd)
{
}

void
repair_ack(int fd)
{
}

/* --- the stage -----------------------------------------------------------------------------------
 */

static int
setup(void **state)
{
    acked = 0;
    memset(slots, 0, sizeof(slots));
    all = (struct flows){.worker = &worker, .guard = &the_guard};
    list_init(&all.waiting);
    list_init(&all.letting);
    flow = calloc(MANY, sizeof(*flow));
    conn = calloc(MANY, sizeof(*conn));
    for (unsigned i = 0; i < MANY; i++) {
        flow[i] = (struct flow){.flows = &all, .conn = &conn[i], .slot = i};
        flow_init_waits(&flow[i]);
    }
    return 0;
}

static int
teardown(void **state)
{
    free(flow);
    free(conn);
    return 0;
}

static void
acknowledge(uint64_t ticket)
{
    acked = ticket;
    flows_on_acked(&all, ticket);
}

/* --- tests ---------------------------------------------------------------------------------------
 */

static void
gates_open_in_their_order(void **state)
{
    flow_gate_after(&flow[0], 1, 10);
    flow_gate_after(&flow[0], 2, 20);
    flow_gate_after(&flow[1], 3, 5);
    flow_gate_after(&flow[0], 4, 40); /* in place of what waited for 2 */
    acknowledge(1);
    assert_int_equal(slots[0].gate, 10);
    acknowledge(2);
    assert_int_equal(slots[0].gate, 10);
    assert_int_equal(slots[1].gate, 0);
    acknowledge(3);
    assert_int_equal(slots[1].gate, 5);
    acknowledge(4);
    assert_int_equal(slots[0].gate, 40);
    assert_true(list_empty(&all.waiting));
}

static void
the_next_gate_keeps_its_place(void **state)
{
    flow_gate_after(&flow[0], 1, 10);
    flow_gate_after(&flow[0], 2, 20);
    flow_gate_after(&flow[1], 3, 5);
    acknowledge(1);
    acknowledge(2);
    assert_int_equal(slots[0].gate, 20);
    assert_int_equal(slots[1].gate, 0);
    flow_stop_waiting(&flow[1]);
    assert_true(list_empty(&all.waiting));
    acknowledge(3);
    assert_int_equal(slots[1].gate, 0);
}

static void
what_is_acknowledged_waits_for_nothing(void **state)
{
    acknowledge(7);
    flow_gate_after(&flow[0], 7, 10);
    assert_int_equal(slots[0].gate, 10);
    assert_true(list_empty(&all.waiting));
}

/* Each waits twice; acknowledgements come one by one, so that each is looked at again while all
 * others wait. */
static void
ten_thousand_wait(void **state)
{
    mc_ns begun_ns;

    for (unsigned i = 0; i < MANY; i++) {
        flow_gate_after(&flow[i], 2 * i + 1, 10);
        flow_gate_after(&flow[i], 2 * i + 2, 20);
    }
    begun_ns = units_clock_ns();
    for (unsigned i = 0; i < MANY; i++) {
        acknowledge(2 * i + 1);
        assert_int_equal(slots[i].gate, 10);
        acknowledge(2 * i + 2);
        assert_int_equal(slots[i].gate, 20);
        if (i + 1 < MANY)
            assert_int_equal(slots[i + 1].gate, 0);
    }
    print_message("%u acknowledgements in %.1f ms\n", 2 * MANY,
                  (double)(units_clock_ns() - begun_ns) / MC_MS);
    assert_true(list_empty(&all.waiting));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(gates_open_in_their_order, setup, teardown),
        cmocka_unit_test_setup_teardown(the_next_gate_keeps_its_place, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_acknowledged_waits_for_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(ten_thousand_wait, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
