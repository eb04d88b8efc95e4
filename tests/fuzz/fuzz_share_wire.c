/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_share_wire.c - any bytes as a piece of another balancer: whatever is taken is in bounds, can
 * be sent on, and does what knows of the pool no harm.
 */
#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "place/know.h"
#include "place/share_wire.h"

#define N_SERVERS 8

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static struct place_load load[N_SERVERS];
static struct place_load *at[N_SERVERS];
static const uint64_t id_hash[N_SERVERS] = {1, 2, 3, 4, 5, 6, 7, 8};
static const uint64_t others[] = {2, 3};
static struct place_view view = {.load = at, .id_hash = id_hash, .n = N_SERVERS};
static struct know *know;
static struct share_wire wire, again;
static mc_ns now = MC_SEC;

static size_t
nobody(void *arg, uint64_t to, const struct share_msg *m)
{
    return 100;
}

static void
start(void)
{
    struct know_conf c = {.id = 1,
                          .boot = 1,
                          .n_classes = 4,
                          .window_ns = 100 * MC_MS,
                          .tick_ns = MC_MS,
                          .pool = share_pool_key(str_of("web")),
                          .send = nobody};

    for (unsigned i = 0; i < N_SERVERS; i++) {
        at[i] = &load[i];
        load[i].open = 1;
        load[i].weight = PLACE_WEIGHT_UNIT;
    }
    view.table = load_table_new(N_SERVERS, id_hash);
    know = know_new(&c, &view, view.table, now);
    know_set_members(know, others, 2);
    know_set_class(know, 1, 77);
    know_set_class(know, 2, 88);
}

static void
check(const struct share_msg *m)
{
    for (unsigned i = 0; m->kind <= SHARE_SLOW && i < m->n; i++) {
        const struct share_load *e = &m->load[i];

        MC_ASSERT(e->server < N_SERVERS && isfinite(e->slow_sum) && isfinite(e->slow_n));
        MC_ASSERT(e->now >= 0 && e->now <= SHARE_PHI_MOST && e->heavy <= SHARE_PHI_MOST);
        MC_ASSERT(e->mean >= 0 && e->mean <= SHARE_PHI_MOST && e->mem <= SHARE_MEM_MOST);
    }
    for (unsigned i = 0; m->kind == SHARE_ROWS && i < m->n; i++)
        MC_ASSERT(m->row[i].server < N_SERVERS && m->row[i].seconds >= 0);
    for (unsigned i = 0; m->kind == SHARE_REPORT && i < m->n; i++)
        MC_ASSERT(m->report[i].server < N_SERVERS && isfinite(m->report[i].cores));
    for (unsigned i = 0; m->kind == SHARE_SUMS && i < m->sums.n_pairs; i++)
        MC_ASSERT(m->sums.pair[i].row < m->sums.k && m->sums.pair[i].col < m->sums.k);
}

static void
read_again(void *arg, const uint8_t *bytes, size_t n)
{
    struct share_msg m;

    MC_ASSERT(share_wire_get(&again, know->map, 2, bytes, n, &m) == SHARE_WIRE_F_NONE);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct share_msg m;

    if (!know)
        start();
    share_wire_pool(data, n);
    if (share_wire_get(&wire, know->map, 2, data, n, &m) != SHARE_WIRE_F_NONE)
        return 0;
    check(&m);
    know_recv(know, &m, now);
    for (unsigned i = 0; i < 20; i++)
        know_tick(know, now += 7 * MC_MS);
    for (unsigned c = 0; c < 3; c++) {
        struct place_cost cost = cost_read(know->costs, c);

        MC_ASSERT(isfinite(cost.cpu_s) && cost.cpu_s > 0 && cost.phi > 0);
    }
    /* in the order of keys, as a sender has them, are only FAST and HEAVY without duty */
    if (m.kind == SHARE_FAST || m.kind == SHARE_HEAVY || m.kind == SHARE_REPORT)
        share_wire_put(&m, know->map, SHARE_WIRE_LEAST, read_again, NULL);
    return 0;
}
