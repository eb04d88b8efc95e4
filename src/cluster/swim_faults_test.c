/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Schedules of random faults, each from a seed: members die, come back at the same address or at
 * another, stop, leave, change their meta; packets are lost and late, the network is torn, some
 * hear nothing or are not heard.  Whatever happened: once it is over, all agree on what is true
 * within SETTLE_NS, with nobody told, and go on agreeing.
 *
 * MC_SCHEDULES=n plays n schedules instead, SEED=n begins with that one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cluster/swim_harness.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SCHEDULES 100 /* ten times slower */
#else
#define SCHEDULES 500
#endif

#define FAULTS_NS (60 * MC_SEC)
#define SETTLE_NS (60 * MC_SEC)
#define AFTER_NS  (10 * MC_SEC)
#define HOSTS     40 /* that members move to */

typedef void (*fault_f)(struct net *, unsigned i);

static uint64_t
some_incarnation(struct net *w)
{
    return rng_below(&w->rng, 4) ? rng_below(&w->rng, 30) : (uint64_t)(w->now / MC_SEC);
}

static void
fault_kill(struct net *w, unsigned i)
{
    net_kill(w, i);
}

static void
fault_restart(struct net *w, unsigned i)
{
    unsigned host = w->node[i].host;

    net_kill(w, i);
    if (net_at(w, host))
        return; /* another one has moved there */
    net_start(w, i, host, some_incarnation(w));
}

/* Hosts below w->n belong to the member of that number. */
static void
fault_move(struct net *w, unsigned i)
{
    unsigned host = w->n + rng_below(&w->rng, HOSTS);

    if (net_at(w, host))
        return;
    net_kill(w, i);
    net_start(w, i, host, some_incarnation(w));
}

static void
fault_freeze(struct net *w, unsigned i)
{
    net_freeze(w, i, !w->node[i].frozen);
}

static void
fault_leave(struct net *w, unsigned i)
{
    if (!w->node[i].s || w->node[i].frozen)
        return;
    swim_leave(w->node[i].s, w->now);
    net_arm(&w->node[i]);
}

static void
fault_meta(struct net *w, unsigned i)
{
    uint32_t meta = rng_below(&w->rng, 1000);

    if (!w->node[i].s || w->node[i].frozen)
        return;
    swim_set_meta(w->node[i].s, &meta, sizeof(meta), w->now);
    net_arm(&w->node[i]);
}

static void
fault_tear(struct net *w, unsigned i)
{
    for (unsigned h = 0; h < NET_HOSTS; h++)
        w->side[h] = (uint8_t)rng_below(&w->rng, 2);
}

static void
fault_mend(struct net *w, unsigned i)
{
    memset(w->side, 0, sizeof(w->side));
    memset(w->cut, 0, sizeof(w->cut));
}

static void
fault_mute(struct net *w, unsigned i)
{
    w->cut[w->node[i].host] ^= true;
}

static void
fault_loss(struct net *w, unsigned i)
{
    w->loss = rng_unit(&w->rng) * 0.4;
}

static void
fault_delay(struct net *w, unsigned i)
{
    w->delay_most = w->delay_least + (mc_ns)(rng_unit(&w->rng) * 300e6);
}

static const fault_f faults[] = {fault_kill, fault_restart, fault_move, fault_freeze,
                                 fault_meta, fault_leave,   fault_tear, fault_mend,
                                 fault_mute, fault_loss,    fault_delay};

/* All faults end; who does not run stays so, but for the first member, by whose address the others
 * may have to join. */
static void
end_faults(struct net *w)
{
    fault_mend(w, 0);
    w->loss = 0;
    w->delay_most = MC_MS;
    for (unsigned i = 0; i < w->n; i++)
        net_freeze(w, i, false);
    net_kill(w, 0);
    net_start(w, 0, 0, 0);
}

static void
play_faults(struct net *w)
{
    mc_ns end = w->now + FAULTS_NS;

    while (w->now < end) {
        faults[rng_below(&w->rng, MC_COUNT(faults))](w, rng_below(&w->rng, w->n));
        net_run(w, w->now + (mc_ns)(rng_unit(&w->rng) * 3e9));
    }
}

static void
count_false_dead(struct net *w, struct net_node *node, const struct swim_member *m,
                 enum swim_state was)
{
    for (unsigned i = 0; i < w->n; i++)
        if (m->state == SWIM_DEAD && w->node[i].s && !swim_has_left(w->node[i].s) &&
            strcmp(w->node[i].name, m->name) == 0)
            *(unsigned *)w->watch_arg += 1;
}

/* NULL: all went well. */
static const char *
play(uint64_t seed)
{
    struct net w;
    unsigned n_false = 0;
    const char *fault = NULL;

    net_init(&w, 2 + (unsigned)(seed % 8), seed);
    for (unsigned i = 0; i < w.n; i++)
        net_start(&w, i, i, some_incarnation(&w));
    net_run(&w, w.now + 2 * MC_SEC);
    play_faults(&w);
    end_faults(&w);
    if (!net_settle(&w, SETTLE_NS)) {
        fault = "the members do not agree";
    } else {
        w.watch = count_false_dead;
        w.watch_arg = &n_false;
        net_run(&w, w.now + AFTER_NS);
        if (n_false > 0 || !net_agreed(&w))
            fault = "they agreed and fell out again";
    }
    if (fault)
        net_print(&w);
    net_fini(&w);
    return fault;
}

static unsigned long
from_env(const char *name, unsigned long otherwise)
{
    const char *text = getenv(name);

    return text ? strtoul(text, NULL, 10) : otherwise;
}

static void
after_any_faults_all_agree_on_what_is_true(void **unused)
{
    unsigned long n = from_env("MC_SCHEDULES", SCHEDULES), first = from_env("SEED", 1);

    for (unsigned long seed = first; seed < first + n; seed++) {
        const char *fault = play(seed);

        if (fault)
            fail_msg("SEED=%lu MC_SCHEDULES=1: %s", seed, fault);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(after_any_faults_all_agree_on_what_is_true),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
