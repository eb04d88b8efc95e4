/* SPDX-License-Identifier: BSD-2-Clause
 *
 * share_wire_test.c - messages into pieces and back: nothing is lost but what a lost piece held.
 */
#include "place/share_wire.h"

#include <math.h>

#include "place/harness.h"
#include "place/cost.h"

#define N_SERVERS 300
#define N_PIECES  SHARE_PIECES
#define ROOM      1150

struct piece {
    size_t n;
    uint8_t bytes[SHARE_WIRE_MOST];
};

struct pieces {
    unsigned n;
    size_t n_bytes;
    struct piece at[N_PIECES];
};

static struct pieces sent;
static struct share_wire wire;
static struct share_map *map;
static struct rng rng;

static void
keep(void *arg, const uint8_t *bytes, size_t n)
{
    struct pieces *p = arg;

    assert_true(p->n < N_PIECES && n <= SHARE_WIRE_MOST);
    memcpy(p->at[p->n].bytes, bytes, n);
    p->n_bytes += n;
    p->at[p->n++].n = n;
}

static unsigned
put(const struct share_msg *m, size_t max)
{
    unsigned n;

    sent.n = 0;
    sent.n_bytes = 0;
    n = share_wire_put(m, map, max, keep, &sent);
    assert_int_equal(n, sent.n);
    for (unsigned i = 0; i < sent.n; i++)
        assert_true(sent.at[i].n <= max);
    return sent.n;
}

static struct share_msg
get(unsigned i)
{
    struct share_msg m;

    assert_int_equal(share_wire_get(&wire, map, 42, sent.at[i].bytes, sent.at[i].n, &m),
                     SHARE_WIRE_F_NONE);
    assert_int_equal(m.from, 42);
    return m;
}

static int
setup(void **state)
{
    uint64_t id[N_SERVERS];

    rng_seed(&rng, 5);
    for (unsigned i = 0; i < N_SERVERS; i++)
        id[i] = i;
    map = share_map_new(share_pool_key(str_of("web")), id, N_SERVERS);
    memset(&wire, 0, sizeof(wire));
    return 0;
}

static int
teardown(void **state)
{
    share_map_free(&map);
    return 0;
}

/* In the order of their keys, as SLOW wants them. */
static void
make_loads(struct share_load *e, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        e[i] = (struct share_load){.server = map->by_key[i].server,
                                   .now = (int32_t)rng_below(&rng, 5000) * 16,
                                   .mean = (int32_t)rng_below(&rng, 5000) * 16,
                                   .heavy = (int32_t)rng_below(&rng, 3) * 16,
                                   .mem = (int32_t)rng_below(&rng, 3) * 1000,
                                   .slow_sum = (float)rng_below(&rng, 100),
                                   .slow_n = 64,
                                   .eject_ms = rng_below(&rng, 9) ? 0 : 2000};
}

static void
loads_come_as_they_went(void **state)
{
    struct share_load e[N_SERVERS];

    make_loads(e, N_SERVERS);
    for (enum share_kind kind = SHARE_FAST; kind <= SHARE_SLOW; kind++) {
        struct share_msg m = {.kind = kind, .seq = 1ull << 40, .n = N_SERVERS, .load = e};
        unsigned at = 0;

        m.rate = 1000;
        m.last = UINT32_MAX;
        for (unsigned i = 0, n = put(&m, ROOM); i < n; i++) {
            struct share_msg got = get(i);

            assert_int_equal(got.kind, kind);
            assert_int_equal(got.seq, m.seq + i);
            assert_true(kind != SHARE_SLOW || got.rate == 1000);
            for (unsigned k = 0; k < got.n; k++, at++) {
                assert_int_equal(got.load[k].server, e[at].server);
                assert_int_equal(got.load[k].now, e[at].now);
                assert_int_equal(got.load[k].mean, e[at].mean);
                assert_int_equal(got.load[k].heavy, e[at].heavy);
                assert_int_equal(got.load[k].mem, e[at].mem);
                assert_int_equal(got.load[k].eject_ms, e[at].eject_ms);
                assert_near(got.load[k].slow_sum, e[at].slow_sum, .002);
            }
        }
        assert_int_equal(at, N_SERVERS);
    }
}

/* Every key of the message is spoken of by exactly one piece, and that names it if it was told. */
static void
pieces_share_the_keys_among_them(void **state)
{
    static const uint32_t range[][2] = {
        {0, UINT32_MAX}, {1u << 30, 3u << 30}, {1, 0}, {0, 0}, {UINT32_MAX, UINT32_MAX}};
    struct share_load e[N_SERVERS];

    make_loads(e, N_SERVERS);
    for (unsigned r = 0; r < MC_COUNT(range); r++)
        for (unsigned n = 0; n <= N_SERVERS; n += 50) {
            struct share_msg m = {.kind = SHARE_SLOW, .n = n, .load = e};
            uint64_t next = range[r][0];

            m.first = range[r][0];
            m.last = range[r][1];
            for (unsigned i = 0, k = put(&m, SHARE_WIRE_LEAST); i < k; i++) {
                struct share_msg got = get(i);

                if (got.first > got.last)
                    continue;
                assert_int_equal(got.first, next);
                next = (uint64_t)got.last + 1;
                for (unsigned s = 0; s < n; s++) {
                    uint32_t key = map->by_key[s].key;
                    bool named = false;

                    for (unsigned x = 0; x < got.n; x++)
                        named |= got.load[x].server == e[s].server;
                    assert_true(key < got.first || key > got.last || named);
                }
            }
            assert_true(range[r][0] > range[r][1] || next == (uint64_t)range[r][1] + 1);
            assert_true(sent.n > 0); /* the rate is told in any case */
        }
}

static void
rows_of_a_server_stay_together(void **state)
{
    static struct share_row row[40 * 60];
    struct share_msg m = {.kind = SHARE_ROWS, .row = row, .window = 17000000000};
    unsigned at = 0, last = UINT32_MAX;

    for (uint32_t s = 0; s < 40; s++)
        for (unsigned c = 0; c < s + 1; c++)
            row[m.n++] = (struct share_row){
                s, s ? 1000 + c * 7919 : 0, .25f * (float)c, (float)c, -3, s % 2};
    row[0].seconds = row[0].level = 0;
    for (unsigned i = 0, n = put(&m, ROOM); i < n; i++) {
        struct share_msg got = get(i);

        assert_int_equal(got.window, m.window);
        assert_true(got.n > 0 && got.row[0].server != last);
        for (unsigned k = 0; k < got.n; k++, at++) {
            last = got.row[k].server;
            assert_int_equal(last, row[at].server);
            assert_int_equal(got.row[k].class_key, row[at].class_key);
            assert_near(got.row[k].seconds, row[at].seconds, 1e-5);
            assert_int_equal(got.row[k].ended, row[at].ended);
            assert_int_equal(got.row[k].level, row[at].level);
            assert_int_equal(got.row[k].failed, row[at].failed);
        }
    }
    assert_int_equal(at, m.n);
}

/* More classes than one piece holds: those beyond count as one that is not known. */
static void
what_finds_no_room_counts_as_other(void **state)
{
    struct share_row row[256];
    struct share_msg m = {.kind = SHARE_ROWS, .n = 256, .row = row}, got;
    double seconds = 0;

    for (unsigned c = 0; c < 256; c++)
        row[c] = (struct share_row){5, 100 + c, 1, 2, 1, false};
    assert_int_equal(put(&m, ROOM), 1);
    got = get(0);
    for (unsigned k = 0; k < got.n; k++)
        seconds += (double)got.row[k].seconds;
    assert_near(seconds, 256, 1e-5);
    assert_int_equal(got.row[got.n - 1].class_key, SHARE_CLASS_OTHER);
}

static void
reports_come_as_they_went(void **state)
{
    struct share_report r[N_SERVERS];
    struct share_msg m = {.kind = SHARE_REPORT, .n = N_SERVERS, .report = r};
    unsigned at = 0;

    for (uint32_t s = 0; s < N_SERVERS; s++)
        r[s] = (struct share_report){s,      1ull << 40 | s, 1 + s, (float)(s % 5) * .5f,
                                     17 * s, 1u << 20,       4096};
    for (unsigned i = 0, n = put(&m, ROOM); i < n; i++) {
        struct share_msg got = get(i);

        for (unsigned k = 0; k < got.n; k++, at++) {
            assert_int_equal(got.report[k].server, at);
            assert_int_equal(got.report[k].boot, (uint32_t)(256 ^ at));
            assert_int_equal(got.report[k].seq, r[at].seq);
            assert_true(got.report[k].cores == r[at].cores);
            assert_int_equal(got.report[k].mem_base, r[at].mem_base);
            assert_int_equal(got.report[k].mem_limit, r[at].mem_limit);
            assert_int_equal(got.report[k].other, r[at].other);
        }
    }
    assert_int_equal(at, N_SERVERS);
}

/* --- sums ----------------------------------------------------------------------------------------
 */

#define K 128

struct matrix {
    uint32_t key[K];
    struct share_sum sum[K];
    struct share_pair pair[K * (K + 1) / 2];
    struct share_msg m;
};

static void
make_matrix(struct matrix *x, unsigned keep_one_of)
{
    unsigned n = 0;

    for (unsigned i = 0; i < K; i++) {
        x->key[i] = 1 + i * 33000001;
        x->sum[i] = (struct share_sum){(float)i, 2 * (float)i, -3, 1e6f + (float)i};
        for (unsigned j = 0; j <= i; j++)
            if (rng_below(&rng, keep_one_of) == 0 || i == j)
                x->pair[n++] = (struct share_pair){
                    (uint16_t)i, (uint16_t)j,
                    (i == j ? 1 : -1) * (float)rng_unit(&rng) - 1e-9f * (i != j), 1 + (float)j};
    }
    x->m = (struct share_msg){.kind = SHARE_SUMS,
                              .n = K,
                              .last = UINT32_MAX,
                              .sums = {K, n, 0, UINT32_MAX, x->key, x->sum, x->pair}};
}

/* What a receiver with the same classes makes of the pieces: told[i][j] counts how often. */
static void
read_matrix(const struct matrix *x, unsigned n, float *cpu, unsigned char *told)
{
    for (unsigned i = 0; i < n; i++) {
        struct share_msg got = get(i);
        const struct share_sums *s = &got.sums;

        for (unsigned r = 0; r < K; r++)
            for (unsigned c = 0; c <= r; c++)
                told[r * K + c] += x->key[r] >= got.first && x->key[r] <= got.last &&
                                   x->key[c] >= s->col_first && x->key[c] <= s->col_last;
        for (unsigned p = 0; p < s->n_pairs; p++) {
            unsigned r = (s->class_key[s->pair[p].row] - 1) / 33000001;
            unsigned c = (s->class_key[s->pair[p].col] - 1) / 33000001;

            assert_true(x->key[r] >= got.first && x->key[r] <= got.last &&
                        x->key[c] >= s->col_first && x->key[c] <= s->col_last);
            assert_near(s->pair[p].mem, 1 + c, 1e-4);
            assert_near(s->sum[s->pair[p].row].mem_ay, 1e6 + r, 1e-6);
            cpu[r * K + c] = s->pair[p].cpu;
        }
    }
}

static void
each_pair_of_classes_is_told_once(void **state)
{
    static struct matrix x;
    static float cpu[K * K];
    static unsigned char told[K * K];

    for (unsigned keep_one_of = 1; keep_one_of < 30; keep_one_of += 7) {
        make_matrix(&x, keep_one_of);
        memset(cpu, 0, sizeof(cpu));
        memset(told, 0, sizeof(told));
        read_matrix(&x, put(&x.m, keep_one_of % 2 ? ROOM : SHARE_WIRE_LEAST), cpu, told);
        for (unsigned r = 0; r < K; r++)
            for (unsigned c = 0; c <= r; c++)
                assert_int_equal(told[r * K + c], 1);
        for (unsigned p = 0; p < x.m.sums.n_pairs; p++) {
            assert_near(fabsf(cpu[x.pair[p].row * K + x.pair[p].col]), fabsf(x.pair[p].cpu), 1e-4);
            cpu[x.pair[p].row * K + x.pair[p].col] = 0;
        }
        for (unsigned i = 0; i < K * K; i++)
            assert_true(cpu[i] == 0);
    }
}

/* --- the bytes -----------------------------------------------------------------------------------
 */

static void
check_bytes(const struct share_msg *m, const char *hex)
{
    char got[2 * SHARE_WIRE_MOST + 1];

    assert_int_equal(put(m, ROOM), 1);
    for (size_t i = 0; i < sent.at[0].n; i++)
        snprintf(got + 2 * i, 3, "%02x", sent.at[0].bytes[i]);
    assert_string_equal(got, hex);
}

/* Balancers of two releases must understand each other: what changes here needs a new version. */
static void
the_bytes_stay_what_they_are(void **state)
{
    struct share_load e = {.server = 1,
                           .now = COST_ONE,
                           .mean = 3 * COST_ONE,
                           .heavy = 80,
                           .mem = 300,
                           .slow_sum = 1.5f,
                           .slow_n = 1,
                           .eject_ms = 2000};
    struct share_row row[] = {{2, 0, 0, 0, 0, true}, {3, 77, .05f, 9, 2, false}};
    struct share_report report = {4, 9, 1000, 4, 500, 60000, 2048};
    struct share_sum sum[] = {{1, 2, 3, 4}, {5, 6, 7, 8}};
    struct share_pair pair[] = {{0, 0, 1, 2}, {1, 0, -1, .5f}, {1, 1, 3, 4}};
    uint32_t key[] = {77, 88};

    check_bytes(&(struct share_msg){.kind = SHARE_FAST, .seq = 256, .n = 1, .load = &e},
                "0100cf4b008500000000000001000001673a39a63f8002800605ac027f807f00d00f");
    check_bytes(&(struct share_msg){.kind = SHARE_HEAVY, .seq = 512, .n = 1, .load = &e},
                "0101cf4b008500000000000002000001673a39a63f8002800605ac027f807f00d00f");
    check_bytes(&(struct share_msg){.kind = SHARE_SLOW, .n = 1, .load = &e, .rate = 8, .last = 1},
                "0102cf4b008500000000000000004100000000000000000000010001673a39a63f800280"
                "0605ac027f807f00d00f");
    check_bytes(&(struct share_msg){.kind = SHARE_ROWS, .n = 2, .row = row, .window = 5},
                "0103cf4b00850000000000000000000000000000000500010000004d00028125778f0175"
                "8e7ab40200d086030904");
    check_bytes(&(struct share_msg){.kind = SHARE_REPORT, .n = 1, .report = &report},
                "0104cf4b008500000000000000000001a3ce9e7d00000009e8078008f403e0d4038001");
    check_bytes(&(struct share_msg){.kind = SHARE_SUMS,
                                    .n = 2,
                                    .last = UINT32_MAX,
                                    .sums = {2, 3, 0, UINT32_MAX, key, sum, pair}},
                "0105cf4b0085000000000000000000000000ffffffff00000000ffffffff00020000004d"
                "000000580002003f8000004000000040400000408000000001003f80004000000140a000"
                "0040c0000040e0000041000000000200bf80003f000001404000408000");
}

static void
entries_are_short(void **state)
{
    static struct share_load e[N_SERVERS];
    static struct share_row row[N_SERVERS * 4];
    struct share_msg m = {.kind = SHARE_FAST, .n = N_SERVERS, .load = e};

    for (unsigned i = 0; i < N_SERVERS; i++)
        e[i] = (struct share_load){.server = map->by_key[i].server, .now = 20000};
    put(&m, ROOM);
    assert_true(sent.n_bytes < N_SERVERS * 7.2);
    for (unsigned i = 0; i < N_SERVERS; i++) {
        e[i] = (struct share_load){.server = map->by_key[i].server,
                                   .now = 20000,
                                   .mean = 20000,
                                   .heavy = 9000,
                                   .mem = 1000,
                                   .slow_sum = 3,
                                   .slow_n = 2};
        for (unsigned c = 0; c < 4; c++)
            row[4 * i + c] = (struct share_row){i, 50 + c, .3f, 30, 3, false};
    }
    m.kind = SHARE_SLOW;
    put(&m, ROOM);
    assert_true(sent.n_bytes < N_SERVERS * 18);
    m = (struct share_msg){.kind = SHARE_ROWS, .n = 4 * N_SERVERS, .row = row};
    put(&m, ROOM);
    assert_true(sent.n_bytes < N_SERVERS * 4 * 7.6);
}

/* --- what others may send ------------------------------------------------------------------------
 */

static void
our_own_numbers_are_kept_in_bounds(void **state)
{
    struct share_load e = {.server = 1,
                           .now = -5,
                           .mean = INT32_MAX,
                           .heavy = INT32_MAX,
                           .mem = INT32_MAX,
                           .slow_sum = INFINITY,
                           .slow_n = 1e30f};
    struct share_row row = {1, 5, INFINITY, -1, 3, false};
    struct share_msg m = {.kind = SHARE_SLOW, .n = 1, .load = &e, .rate = 1}, got;

    put(&m, ROOM);
    got = get(0);
    assert_int_equal(got.load[0].now, 0);
    assert_int_equal(got.load[0].mean, SHARE_PHI_MOST);
    assert_int_equal(got.load[0].mem, SHARE_MEM_MOST);
    m = (struct share_msg){.kind = SHARE_ROWS, .n = 1, .row = &row};
    put(&m, ROOM);
    got = get(0);
    assert_true(isfinite(got.row[0].seconds) && got.row[0].ended == 0);
}

static enum share_wire_fault
fault_of(const uint8_t *bytes, size_t n)
{
    struct share_msg m;

    return share_wire_get(&wire, map, 1, bytes, n, &m);
}

static void
each_fault_has_its_name(void **state)
{
    struct share_load e = {.server = 1, .now = COST_ONE};
    struct share_msg m = {.kind = SHARE_SLOW, .n = 1, .load = &e}, got;
    struct piece p;

    put(&m, ROOM);
    p = sent.at[0];
    assert_int_equal(share_wire_pool(p.bytes, p.n), map->pool);
    assert_int_equal(share_wire_pool(p.bytes, 5), 0);
    p.bytes[p.n] = 77; /* of a later release: passed over */
    assert_int_equal(share_wire_get(&wire, map, 1, p.bytes, p.n + 1, &got), SHARE_WIRE_F_NONE);
    assert_int_equal(got.n, 1);
    assert_int_equal(fault_of(p.bytes, 13), SHARE_WIRE_F_SIZE);
    assert_int_equal(fault_of(p.bytes, SHARE_WIRE_MOST + 1), SHARE_WIRE_F_SIZE);
    for (size_t n = 14; n < p.n; n++)
        assert_int_equal(fault_of(p.bytes, n), SHARE_WIRE_F_CUT);
    p.bytes[0]++;
    assert_int_equal(fault_of(p.bytes, p.n), SHARE_WIRE_F_VERSION);
    assert_int_equal(share_wire_pool(p.bytes, p.n), 0);
    p = sent.at[0];
    p.bytes[1] = SHARE_N_KINDS;
    assert_int_equal(fault_of(p.bytes, p.n), SHARE_WIRE_F_KIND);
    p = sent.at[0];
    p.bytes[2]++;
    assert_int_equal(fault_of(p.bytes, p.n), SHARE_WIRE_F_POOL);
    p = sent.at[0];
    memset(p.bytes + 14, 0xff, 4); /* the rate: NaN */
    assert_int_equal(fault_of(p.bytes, p.n), SHARE_WIRE_F_NUMBER);
    p = sent.at[0];
    p.bytes[28]++; /* of a server that we do not have */
    assert_int_equal(share_wire_get(&wire, map, 1, p.bytes, p.n, &got), SHARE_WIRE_F_NONE);
    assert_int_equal(got.n, 0);
    assert_int_equal(wire.n_unknown, 1);
    assert_int_equal(wire.n_fault[SHARE_WIRE_F_VERSION], 1);
}

/* Whatever bytes: what is taken is in bounds. */
static void
spoiled_pieces_do_no_harm(void **state)
{
    static struct matrix x;
    struct share_load e[N_SERVERS];
    struct share_msg slow = {.kind = SHARE_SLOW, .n = N_SERVERS, .load = e, .last = UINT32_MAX}, m;

    make_loads(e, N_SERVERS);
    make_matrix(&x, 2);
    for (unsigned round = 0; round < 4000; round++) {
        if (round % 1000 == 0)
            put(round % 2000 ? &x.m : &slow, ROOM);
        struct piece p = sent.at[rng_below(&rng, sent.n)];

        for (unsigned k = 1 + rng_below(&rng, 4); k > 0; k--)
            p.bytes[6 + rng_below(&rng, (uint32_t)p.n - 6)] = (uint8_t)rng_below(&rng, 256);
        if (share_wire_get(&wire, map, 1, p.bytes, p.n, &m) != SHARE_WIRE_F_NONE)
            continue;
        for (unsigned i = 0; m.kind == SHARE_SLOW && i < m.n; i++) {
            assert_in_range(m.load[i].server, 0, N_SERVERS - 1);
            assert_in_range(m.load[i].mean, 0, SHARE_PHI_MOST);
            assert_true(isfinite(m.load[i].slow_sum));
        }
        for (unsigned i = 0; m.kind == SHARE_SUMS && i < m.sums.n_pairs; i++) {
            assert_true(m.sums.pair[i].row < m.sums.k && m.sums.pair[i].col < m.sums.k);
            assert_true(isfinite(m.sums.pair[i].cpu));
        }
    }
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(loads_come_as_they_went),
        T(pieces_share_the_keys_among_them),
        T(rows_of_a_server_stay_together),
        T(what_finds_no_room_counts_as_other),
        T(reports_come_as_they_went),
        T(each_pair_of_classes_is_told_once),
        T(the_bytes_stay_what_they_are),
        T(entries_are_short),
        T(our_own_numbers_are_kept_in_bounds),
        T(each_fault_has_its_name),
        T(spoiled_pieces_do_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
