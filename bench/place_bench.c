/* SPDX-License-Identifier: BSD-2-Clause
 *
 * place_bench.c - what one pick costs: nanoseconds, by policy and number of servers.
 *
 * A pool in the midst of its work: each pick is followed by the begin of the request and the end of
 * an earlier one, so that the table changes under the picks as it does in a worker.  What those
 * cost is in the figures.  Besides, what a class costs: folding a path and looking it up, and an
 * entry of a message between balancers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "place/class.h"
#include "place/know.h"
#include "place/share_wire.h"

#define UNDER_WAY 256
#define ROUNDS    5 /* the best counts: what is slower is somebody else's doing */

struct pool {
    unsigned n;
    struct place_load *load;
    struct place_load **at;
    uint64_t *id_hash;
    struct place_view view;
    struct rng rng;
    uint32_t under_way[UNDER_WAY];
    unsigned turn;
};

static const struct place_cost cheap = {.cpu_s = .001f, .phi = COST_ONE, .known = true};
static const struct place_cost heavy = {.cpu_s = .2f, .phi = COST_ONE, .known = true};

static void
pool_init(struct pool *p, unsigned n)
{
    *p = (struct pool){.n = n};
    p->load = aligned_alloc(64, n * sizeof(*p->load));
    MC_ASSERT(p->load != NULL);
    memset(p->load, 0, n * sizeof(*p->load));
    p->at = mc_alloc(n * sizeof(struct place_load *));
    p->id_hash = mc_alloc(n * sizeof(*p->id_hash));
    rng_seed(&p->rng, 1);
    for (unsigned i = 0; i < n; i++) {
        p->at[i] = &p->load[i];
        p->id_hash[i] = rng_next(&p->rng);
        p->load[i].open = 1;
        p->load[i].weight = PLACE_WEIGHT_UNIT;
    }
    p->view = (struct place_view){.load = p->at, .id_hash = p->id_hash, .n = n};
    p->view.table = load_table_new(n, p->id_hash);
    p->view.table->good_until_ns = INT64_MAX;
    for (unsigned i = 0; i < UNDER_WAY; i++)
        p->under_way[i] = rng_below(&p->rng, n);
}

static void
pool_free(struct pool *p)
{
    load_table_free(&p->view.table);
    free(p->load);
    free(p->at);
    free(p->id_hash);
}

static void
live(struct pool *p, uint32_t server, const struct place_cost *c)
{
    uint32_t *slot = &p->under_way[p->turn++ % UNDER_WAY];

    p->load[server].in_flight++;
    load_begin(p->view.table, server, c);
    p->load[*slot].in_flight--;
    load_end(p->view.table, *slot, c);
    *slot = server;
}

static double
time_picks(struct pool *p, const struct policy *policy, const struct place_cost *c)
{
    struct place_params params = {0};
    void *shared = policy->shared_new ? policy->shared_new(&p->view, &params) : NULL;
    void *state = policy->state_new ? policy->state_new(&p->view, &p->rng) : NULL;
    unsigned picks = 300000;
    double best = 1e30;

    for (int round = 0; round < ROUNDS; round++) {
        mc_ns began = units_clock_ns(), took;

        for (unsigned i = 0; i < picks; i++) {
            struct place_ask ask = {
                .now = began, .cost = c, .has_key = true, .key = rng_next(&p->rng)};

            live(p, (uint32_t)policy->pick(shared, state, &p->view, &ask, &p->rng).index, c);
            if (policy->on_probe && i % 2)
                policy->on_probe(state, &p->view, rng_below(&p->rng, p->n), i % 7, MC_MS, began);
        }
        took = units_clock_ns() - began;
        best = (double)took / picks < best ? (double)took / picks : best;
    }
    if (policy->state_free)
        policy->state_free(state);
    if (policy->shared_free)
        policy->shared_free(shared);
    return best;
}

static void
print_policy(const char *name, const struct policy *policy, const struct place_cost *c,
             double home_share)
{
    static const unsigned sizes[] = {10, 100, 1000, 10000};

    printf("%-22s", name);
    for (unsigned i = 0; i < MC_COUNT(sizes); i++) {
        struct pool p;

        pool_init(&p, sizes[i]);
        p.view.table->home = (uint64_t)((sizes[i]) * home_share);
        printf(" %8.0f", time_picks(&p, policy, c));
        fflush(stdout);
        pool_free(&p);
    }
    printf("\n");
}

static void
print_class(void)
{
    static const char *const paths[] = {"/", "/users/4711/orders", "/static/app.js",
                                        "/o/550e8400-e29b-41d4-a716-446655440000/lines/17"};
    char name[CLASS_NAME_MAX];
    struct class_set set;
    struct class_map *map;
    uint64_t sum = 0;
    mc_ns began;

    class_set_init(&set, CLASS_DEFAULT);
    map = class_set_map(&set);
    began = units_clock_ns();
    for (unsigned i = 0; i < 1000000; i++) {
        unsigned n = class_fold(STR("GET"), str_of(paths[i % 4]), name);

        sum += class_map_find(map, class_hash((struct str){name, n}));
    }
    printf("%-22s %8.0f\n", "class of a request",
           (double)(units_clock_ns() - began) / 1e6 + (double)sum);
    free(map);
    class_set_fini(&set);
}

/* What a message costs: nanoseconds an entry, into bytes and back. */
struct pieces {
    unsigned n;
    size_t n_bytes, length[SHARE_PIECES];
    uint8_t bytes[SHARE_PIECES][SHARE_WIRE_MOST];
};

static void
keep_piece(void *arg, const uint8_t *bytes, size_t n)
{
    struct pieces *p = arg;

    memcpy(p->bytes[p->n], bytes, n);
    p->n_bytes += n;
    p->length[p->n++] = n;
}

static void
row_of_wire(const char *name, const struct share_msg *m, const struct share_map *map)
{
    static struct pieces p;
    static struct share_wire wire;
    double put = 1e9, get = 1e9;

    for (int round = 0; round < ROUNDS; round++) {
        mc_ns begin = units_clock_ns(), between;

        for (int k = 0; k < 100; k++) {
            p.n = 0;
            p.n_bytes = 0;
            share_wire_put(m, map, 1150, keep_piece, &p);
        }
        between = units_clock_ns();
        for (int k = 0; k < 100; k++)
            for (unsigned i = 0; i < p.n; i++) {
                struct share_msg got;

                if (share_wire_get(&wire, map, 1, p.bytes[i], p.length[i], &got) !=
                    SHARE_WIRE_F_NONE)
                    abort();
            }
        put = (double)(between - begin) / 100 < put ? (double)(between - begin) / 100 : put;
        get = (double)(units_clock_ns() - between) / 100 < get
                  ? (double)(units_clock_ns() - between) / 100
                  : get;
    }
    printf("%-22s %8.1f %8.1f %8.1f\n", name, put / m->n, get / m->n, (double)p.n_bytes / m->n);
}

static void
rows_of_wire(void)
{
    static struct share_load load[1000];
    static struct share_row row[4000];
    static struct share_report report[1000];
    uint64_t id[1000];
    struct share_map *map;

    for (unsigned i = 0; i < 1000; i++)
        id[i] = i;
    map = share_map_new(1, id, 1000);
    for (unsigned i = 0; i < 1000; i++) {
        load[i] = (struct share_load){.server = map->by_key[i].server, .now = 9000};
        report[i] = (struct share_report){i, 7, 100000, 8, 3000, 60000, 0};
        for (unsigned c = 0; c < 4; c++)
            row[4 * i + c] = (struct share_row){i, 50 + c, .3f, 30, 3, false};
    }
    printf("\n%-22s %8s %8s %8s\n", "an entry", "out ns", "in ns", "bytes");
    row_of_wire("FAST", &(struct share_msg){.kind = SHARE_FAST, .n = 1000, .load = load}, map);
    for (unsigned i = 0; i < 1000; i++) {
        load[i].mean = 8000;
        load[i].slow_sum = 3;
        load[i].slow_n = 2;
    }
    row_of_wire("SLOW", &(struct share_msg){.kind = SHARE_SLOW, .n = 1000, .load = load}, map);
    row_of_wire("ROWS, 4 a server", &(struct share_msg){.kind = SHARE_ROWS, .n = 4000, .row = row},
                map);
    row_of_wire("REPORT", &(struct share_msg){.kind = SHARE_REPORT, .n = 1000, .report = report},
                map);
    share_map_free(&map);
}

int
main(void)
{
    printf("%-22s %8s %8s %8s %8s   servers\n", "ns a pick", "10", "100", "1000", "10000");
    for (unsigned i = 0; policy_at(i); i++)
        print_policy(policy_at(i)->name, policy_at(i), &cheap, 1);
    print_policy("resource, a tenth home", policy_find(STR("resource")), &cheap, .1);
    print_policy("resource, heavy", policy_find(STR("resource")), &heavy, 1);
    print_class();
    rows_of_wire();
    return 0;
}
