/* SPDX-License-Identifier: BSD-2-Clause
 *
 * adopt_test.c - connections of the dead: what is rebuilt, what is given up, and what is released
 * when something fails on the way; and whose clients are made to speak.
 *
 * Kernel, guard and workers are this file's own; the store is real.
 */
#include <netinet/tcp.h>

#include "io/harness.h"
#include "takeover/takeover_priv.h"

#define RCV_BASE 1000u
#define SND_BASE 5000u

static const struct life dead = {2, 20}, other = {3, 30};

static struct takeover T;
static struct repair built;
static struct adopted *posted;
static unsigned n_added, n_deleted, n_released, n_reset, n_built, n_taken, n_probes, n_catch_up;
static unsigned n_nudges;
static uint32_t nudged_for;
static enum mc_err add_result, build_result;
static bool no_workers;
static uint8_t built_payload[16];

/* --- the world ----------------------------------------------------------------------------------
 */

enum mc_err
guard_flow_add(struct guard *g, const struct flow_key *k, uint32_t gate, uint32_t *slot)
{
    n_added += add_result == MC_OK;
    *slot = 7;
    return add_result;
}

void
guard_flow_del(struct guard *g, const struct flow_key *k, uint32_t slot)
{
    assert_int_equal(slot, 7);
    n_deleted++;
}

void
guard_release(struct guard *g, const struct flow_key *k)
{
    n_released++;
}

enum mc_err
repair_rebuild(const struct repair *r, int *fd, size_t *taken, struct errbuf *e)
{
    n_built++;
    built = *r;
    if (r->n_payload > 0)
        memcpy(built_payload, r->payload, r->n_payload);
    if (build_result == MC_OK)
        *fd = dup(STDERR_FILENO);
    else
        err_set(e, "the kernel would not");
    *taken = r->n_payload;
    return build_result;
}

void
repair_drop(int fd)
{
}

bool
probe_reset(struct probe *p, const struct flow_key *k, uint32_t send_next, uint32_t ack)
{
    n_reset++;
    return true;
}

bool
probe_alive(struct probe *p, const struct flow_key *k, const struct tcp_params *params,
            uint32_t send_next, uint32_t ack, uint32_t ts)
{
    n_probes++;
    return true;
}

bool
probe_nudge(struct probe *p, const struct flow_key *k, uint32_t unacked)
{
    n_nudges++;
    nudged_for = unacked;
    return true;
}

bool
link_post_adopted(struct link_roster *r, struct adopted **a)
{
    if (no_workers)
        return false;
    assert_null(posted);
    posted = *a;
    *a = NULL;
    return true;
}

void
dial_tell_taken(struct takeover *t, const struct flow_key *k, struct life of)
{
    assert_true(life_eq(of, dead));
    n_taken++;
}

struct member *
member_of(struct takeover *t, uint64_t id)
{
    return t->member[0].id == id ? &t->member[0] : NULL;
}

const char *
member_name(const struct takeover *t, struct life who, char out[TAKEOVER_NAME])
{
    return strcpy(out, who.id == dead.id ? "lb2" : "somebody");
}

void
pulse_catch_up(struct takeover *t)
{
    n_catch_up++;
}

static enum owner_word
owner(void *arg, struct life who, uint32_t epoch)
{
    return life_eq(who, dead) ? OWNER_DEAD : OWNER_ALIVE;
}

/* --- the stage ----------------------------------------------------------------------------------
 */

static int
setup(void **state)
{
    const struct replica_conf conf = {.owner = owner};

    loop_setup(state);
    loop_turn(L, 0);
    T = (struct takeover){.magic = TAKEOVER_MAGIC, .self = {1, 10}, .loop = L};
    T.store = replica_store_new(&conf);
    n_added = n_deleted = n_released = n_reset = n_built = n_taken = n_probes = n_catch_up = 0;
    n_nudges = 0;
    add_result = build_result = MC_OK;
    no_workers = false;
    adopt_open(&T);
    return 0;
}

static int
teardown(void **state)
{
    adopt_close(&T);
    adopted_free(&posted);
    replica_store_free(&T.store);
    return loop_teardown(state);
}

static struct flow_key
key(unsigned i)
{
    return (struct flow_key){.local_port = 80, .remote_port = (uint16_t)i};
}

/* The flow has sent 14 bytes, half a head, and was never answered. */
static struct replica *
half_a_head(void)
{
    const struct wire_frame f[] = {{.kind = WIRE_OPEN,
                                    .u.open = {.key = key(1),
                                               .params = {.mss = 1460},
                                               .rcv_base = RCV_BASE,
                                               .snd_base = SND_BASE}},
                                   {.kind = WIRE_IN, .u.in.bytes = {"GET / HTTP/1.1", 14}}};
    struct buf b = {0};
    struct replica *r;

    wire_put(&b, &f[0]);
    wire_put(&b, &f[1]);
    r = replica_read(dead, (struct str){b.p, b.n});
    assert_non_null(r);
    buf_free(&b);
    return r;
}

static void
adopt(uint32_t seq, uint32_t ack, const char *payload)
{
    const struct guard_packet p = {.key = key(1),
                                   .seq = seq,
                                   .ack = ack,
                                   .payload = (const uint8_t *)payload,
                                   .n_payload = strlen(payload)};
    struct replica *r = half_a_head();

    adopt_flow(&T, &r, &p, loop_now(L));
    assert_null(r);
}

#define COUNTED(name) stat_get(&T.stats.name)

/* --- tests: rebuilding --------------------------------------------------------------------------
 */

static void
it_goes_on_where_both_agree(void **state)
{
    adopt(RCV_BASE + 14, SND_BASE, "\r\nHost");
    assert_non_null(posted);
    assert_int_equal(built.recv_next, RCV_BASE + 14);
    assert_int_equal(built.send_next, SND_BASE);
    assert_string_equal(posted->from, "lb2");
    assert_memory_equal(built_payload, "\r\nHost", 6);
    assert_int_equal(built.n_payload, 6);
    assert_true(posted->ack_due);
    assert_int_equal(n_taken, 1);
    assert_int_equal(COUNTED(adopted), 1);
    assert_int_equal(n_deleted + n_released + n_reset, 0);
}

/* What was sent again is kept already, in part or whole; what lies behind a gap comes again. */
static void
of_a_packet_only_what_is_new_and_follows_counts(void **state)
{
    static const struct {
        uint32_t seq;
        const char *payload;
        size_t n;
    } cases[] = {{RCV_BASE + 4, "/ HTTP/1.1", 0},
                 {RCV_BASE + 4, "/ HTTP/1.1\r\n", 2},
                 {RCV_BASE + 14, "", 0},
                 {RCV_BASE + 20, "Host", 0},
                 {RCV_BASE - 1, "x", 0}}; /* as an answer to a keep-alive has */

    for (unsigned i = 0; i < MC_COUNT(cases); i++) {
        adopt(cases[i].seq, SND_BASE, cases[i].payload);
        assert_non_null(posted);
        assert_int_equal(built.n_payload, cases[i].n);
        adopted_free(&posted);
    }
}

static void
a_client_that_knows_more_than_we_is_reset(void **state)
{
    adopt(RCV_BASE + 14, SND_BASE + 1, "");
    assert_null(posted);
    assert_int_equal(n_built + n_added, 0);
    assert_int_equal(n_reset, 1);
    assert_int_equal(n_released, 1);
    assert_int_equal(COUNTED(broken), 1);
    assert_int_equal(stat_get(&T.stats.broken_by[REPLICA_BROKEN_ACK_AHEAD]), 1);
    assert_int_equal(n_taken, 1); /* theirs is as old */
}

static void
without_room_in_the_guard_it_is_given_up(void **state)
{
    add_result = MC_EFULL;
    adopt(RCV_BASE + 14, SND_BASE, "");
    assert_null(posted);
    assert_int_equal(n_built + n_deleted, 0);
    assert_int_equal(n_reset, 1);
    assert_int_equal(COUNTED(rebuild_failed), 1);
}

static void
what_the_kernel_refuses_leaves_nothing_behind(void **state)
{
    build_result = MC_ESYS;
    adopt(RCV_BASE + 14, SND_BASE, "x");
    assert_null(posted);
    assert_int_equal(n_added, 1);
    assert_int_equal(n_deleted, 1);
    assert_int_equal(n_reset, 1);
    assert_int_equal(COUNTED(rebuild_failed), 1);
    assert_int_equal(COUNTED(adopted), 0);
}

static void
without_workers_nothing_of_it_stays(void **state)
{
    no_workers = true;
    adopt(RCV_BASE + 14, SND_BASE, "x");
    assert_int_equal(n_added, 1);
    assert_int_equal(n_deleted, 1);
    assert_int_equal(n_reset, 0); /* it goes without a word: a peer may still have it */
}

/* Its answer to a probe begins behind what it has sent. */
static void
a_client_whose_bytes_were_lost_is_nudged(void **state)
{
    adopt(RCV_BASE + 14, SND_BASE, "");
    assert_false(posted->ack_due);
    adopted_free(&posted);
    adopt(RCV_BASE + 4, SND_BASE, "/ HTTP/1.1\r\n"); /* it sends again already */
    adopted_free(&posted);
    assert_int_equal(n_nudges, 0);
    T.member[0] = (struct member){.takeover = &T, .id = dead.id, .life = dead};
    T.member[0].lost_ns = loop_now(L) - 50 * MC_MS;
    adopt(RCV_BASE + 30, SND_BASE, "");
    adopted_free(&posted);
    assert_int_equal(n_nudges, 0); /* it has not waited for long */
    T.member[0].lost_ns = loop_now(L) - MC_SEC;
    adopt(RCV_BASE + 30, SND_BASE, "");
    assert_int_equal(n_nudges, 2);
    assert_int_equal(nudged_for, RCV_BASE + 14);
    assert_true(posted->ack_due); /* should it not know of the 14 */
    assert_int_equal(COUNTED(nudged), 1);
}

/* One for each retransmission that a timer has made. */
static void
a_client_is_nudged_as_often_as_it_has_backed_off(void **state)
{
    static const struct {
        unsigned ms, steps;
    } cases[] = {{0, 0}, {99, 0}, {100, 1}, {499, 1}, {500, 2}, {1300, 3}, {2900, 4}, {60000, 4}};

    for (unsigned i = 0; i < MC_COUNT(cases); i++)
        assert_int_equal(adopt_nudges(cases[i].ms * MC_MS), cases[i].steps);
    adopt(RCV_BASE + 30, SND_BASE, "");
    assert_int_equal(n_nudges, PROBE_NUDGES); /* nobody knows since when */
}

/* --- tests: probing -----------------------------------------------------------------------------
 */

/* n flows, of which every other has a request under way, and one is bare. */
static void
hold(struct life who, unsigned n)
{
    struct replica_line *l = replica_line_new(T.store, loop_now(L));
    const struct wire_frame hello = {.kind = WIRE_HELLO, .u.hello = {.owner = who, .epoch = 1}},
                            end = {.kind = WIRE_SNAPSHOT};
    struct buf b = {0};

    wire_put(&b, &hello);
    for (unsigned i = 0; i < n; i++) {
        const struct wire_frame open = {.kind = WIRE_OPEN,
                                        .flow = i,
                                        .u.open = {.key = key(i), .params = {.mss = 1460}}},
                                req = {.kind = i == 0 ? WIRE_BARE : WIRE_REQ, .flow = i};

        wire_put(&b, &open);
        if (i % 2 == 0)
            wire_put(&b, &req);
    }
    wire_put(&b, &end);
    assert_int_equal(replica_line_read(l, (struct str){b.p, b.n}, loop_now(L)), REPLICA_F_NONE);
    buf_free(&b);
}

static void
clients_of_the_dead_are_asked_again_and_again(void **state)
{
    hold(dead, 301);
    hold(other, 50);
    adopt_probe(&T, dead);
    adopt_probe(&T, dead);         /* once is enough */
    assert_int_equal(n_probes, 0); /* not from inside the call */
    UNTIL(T.probing[0].busy_done);
    assert_int_equal(n_probes, 150); /* those first that wait for an answer */
    UNTIL(n_probes == 150 + 300);
    UNTIL(n_probes >= 150 + 3 * 300);
    assert_int_equal(COUNTED(probes), n_probes);
    assert_true(adopt_is_busy(&T));
    assert_true(n_catch_up > 0);
}

static void
who_has_been_found_is_not_asked_again(void **state)
{
    struct replica_found found;

    hold(dead, 31);
    adopt_probe(&T, dead);
    UNTIL(n_probes >= 15 + 30);
    for (unsigned i = 0; i < 31; i++) {
        struct flow_key k = key(i);
        struct replica *r;

        replica_find(T.store, &k, T.self, &found);
        r = replica_take(T.store, found.replica, T.self, loop_now(L));
        replica_free(&r);
    }
    replica_tick(T.store, loop_now(L) + 60 * MC_SEC);
    UNTIL(life_is_none(T.probing[0].of));
    assert_false(adopt_is_busy(&T));
}

/* At first so often that the way is found as soon as it is there, and bounded in all. */
static void
probes_grow_rare(void **state)
{
    mc_ns at = 0, last = 0;
    unsigned n = 0;

    for (; at < 10 * MC_SEC; n++) {
        mc_ns gap = adopt_probe_gap(at);

        assert_true(gap >= last);
        assert_in_range(gap, 30 * MC_MS, 100 * MC_MS);
        at += last = gap;
    }
    assert_int_equal(adopt_probe_gap(0), 30 * MC_MS);
    assert_int_equal(adopt_probe_gap(200 * MC_MS), 30 * MC_MS);
    assert_int_equal(adopt_probe_gap(640 * MC_MS), 80 * MC_MS);
    assert_int_equal(last, 100 * MC_MS);
    assert_true(n <= 120);
}

static void
who_is_back_is_left_alone(void **state)
{
    hold(dead, 301);
    adopt_probe(&T, dead);
    UNTIL(n_probes > 0);
    adopt_forget(&T, dead);
    assert_true(life_is_none(T.probing[0].of));
    settle();
    assert_in_range(n_probes, 1, 150);
}

/* More than there are places for: those are asked by their clients only. */
static void
so_many_deaths_are_taken_note_of(void **state)
{
    for (unsigned i = 0; i < TAKEOVER_PEERS_MAX + 3; i++)
        adopt_probe(&T, (struct life){50 + i, 1});
    for (unsigned i = 0; i < TAKEOVER_PEERS_MAX; i++)
        assert_int_equal(T.probing[i].of.id, 50 + i);
    UNTIL(life_is_none(T.probing[0].of));
    assert_int_equal(n_probes, 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(it_goes_on_where_both_agree),
        TEST(of_a_packet_only_what_is_new_and_follows_counts),
        TEST(a_client_that_knows_more_than_we_is_reset),
        TEST(without_room_in_the_guard_it_is_given_up),
        TEST(what_the_kernel_refuses_leaves_nothing_behind),
        TEST(without_workers_nothing_of_it_stays),
        TEST(a_client_whose_bytes_were_lost_is_nudged),
        TEST(a_client_is_nudged_as_often_as_it_has_backed_off),
        TEST(clients_of_the_dead_are_asked_again_and_again),
        TEST(who_has_been_found_is_not_asked_again),
        TEST(probes_grow_rare),
        TEST(who_is_back_is_left_alone),
        TEST(so_many_deaths_are_taken_note_of),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
