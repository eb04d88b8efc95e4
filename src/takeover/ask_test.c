/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ask_test.c - packets of flows that nobody here knows, and peers that answer as they should, late,
 * twice, nonsense, or not at all.
 *
 * Peers, guard and the Ethernet are this file's own; the loop's clock is real, so that nothing is
 * said about how long something takes.
 */
#include "io/harness.h"
#include "takeover/takeover_priv.h"

#define PEERS 3

static const struct life us = {100, 1};

static struct takeover T;
static struct wire_ask asked[PEERS]; /* last */
static unsigned n_asked[PEERS];
static unsigned n_released, n_away, n_forwarded, n_home, n_adopted, n_gave, n_told_lost;
static size_t adopted_payload;
static uint32_t adopted_seq;
static struct life adopted_of;
static bool known_here, address_here, lease, first, busy;
static struct life the_heir;
static enum owner_word word;

/* --- the world ----------------------------------------------------------------------------------
 */

struct member *
member_of(struct takeover *t, uint64_t id)
{
    for (unsigned i = 0; i < PEERS; i++)
        if (t->member[i].id == id)
            return &t->member[i];
    return NULL;
}

unsigned
member_place(const struct member *m)
{
    return (unsigned)(m - T.member);
}

bool
dial_put(struct member *m, const struct wire_frame *f)
{
    assert_int_equal(f->kind, WIRE_ASK);
    asked[member_place(m)] = f->u.ask;
    n_asked[member_place(m)]++;
    return true;
}

bool
guard_flow_known(const struct guard *g, const struct flow_key *k)
{
    return known_here;
}

void
guard_release(struct guard *g, const struct flow_key *k)
{
    n_released++;
}

void
guard_away_set(struct guard *g, const struct flow_key *k, unsigned peer)
{
    n_away++;
}

bool
guard_address_is_moved(const struct guard *g, const struct addr *a)
{
    return false;
}

bool
forward_packet(struct forward *f, unsigned ifindex, const uint8_t from[6], const uint8_t to[6],
               const struct guard_packet *p)
{
    n_forwarded++;
    return true;
}

bool
forward_home(struct forward *f, const struct guard_packet *p)
{
    n_home++;
    return true;
}

enum mc_err
netlink_is_local(struct netlink *n, const struct addr *a, bool *yes, struct errbuf *e)
{
    *yes = address_here;
    return MC_OK;
}

mc_ns
peers_lease(const struct peers *p)
{
    return lease ? MC_NEVER_NS : 0;
}

bool
peers_is_first(const struct peers *p, struct life who)
{
    return first;
}

struct life
peers_heir(const struct peers *p, mc_ns now)
{
    return the_heir;
}

void
pulse_catch_up(struct takeover *t)
{
}

void
takeover_gave(struct takeover *t, struct life owner)
{
    n_gave++;
}

bool
adopt_is_busy(const struct takeover *t)
{
    return busy;
}

void
adopt_tell_lost(struct takeover *t, const struct flow_key *key, const char *whose, const char *why)
{
    assert_null(whose);
    n_told_lost++;
}

void
adopt_flow(struct takeover *t, struct replica **r, const struct guard_packet *p, mc_ns begun_ns)
{
    n_adopted++;
    adopted_of = (*r)->owner;
    adopted_payload = p->n_payload;
    adopted_seq = p->seq;
    replica_free(r);
}

static enum owner_word
owner(void *arg, struct life who, uint32_t epoch)
{
    return word;
}

/* --- the stage ----------------------------------------------------------------------------------
 */

static struct life
life_of(unsigned peer)
{
    return (struct life){peer + 1, 7};
}

static int
setup(void **state)
{
    const struct replica_conf conf = {.owner = owner};

    loop_setup(state);
    loop_turn(L, 0);
    T = (struct takeover){.magic = TAKEOVER_MAGIC, .self = us, .loop = L};
    T.started_ns = loop_now(L) - 10 * MC_SEC;
    T.store = replica_store_new(&conf);
    for (unsigned i = 0; i < PEERS; i++) {
        T.member[i] = (struct member){
            .takeover = &T, .id = i + 1, .life = life_of(i), .alive = true, .placed = true};
        n_asked[i] = 0;
    }
    n_released = n_away = n_forwarded = n_home = n_adopted = n_gave = n_told_lost = 0;
    known_here = busy = false;
    address_here = lease = first = true;
    the_heir = (struct life){0, 0};
    word = OWNER_ALIVE;
    ask_open(&T);
    return 0;
}

static int
teardown(void **state)
{
    ask_close(&T);
    replica_store_free(&T.store);
    return loop_teardown(state);
}

static struct flow_key
key(unsigned i)
{
    return (struct flow_key){.local = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 1},
                             .remote = {[10] = 0xff, [11] = 0xff, [12] = 10, [14] = 9},
                             .local_port = 80,
                             .remote_port = (uint16_t)i};
}

static struct guard_packet
packet(unsigned i)
{
    return (struct guard_packet){.key = key(i), .seq = 1000};
}

static void
comes(struct guard_packet p)
{
    ask_packet(&T, &p);
}

static void
says_none(unsigned peer)
{
    ask_none(&T.member[peer], &(struct wire_none){asked[peer].ask});
}

static void
says_owner(unsigned peer, struct life who)
{
    ask_owner(&T.member[peer], &(struct wire_owner){asked[peer].ask, who});
}

static void
gives_as(unsigned peer, unsigned i, struct life whose, uint32_t more)
{
    const struct wire_frame open = {.kind = WIRE_OPEN,
                                    .u.open = {.key = key(i), .params = {.mss = 1460}}};
    struct buf b = {0};

    wire_put(&b, &open);
    ask_give(&T.member[peer], &(struct wire_give){asked[peer].ask + more, whose, {b.p, b.n}});
    buf_free(&b);
}

/* The replica of flow i, once of lb9; a number that nobody asked is `more` above. */
static void
gives(unsigned peer, unsigned i, uint32_t more)
{
    gives_as(peer, i, (struct life){9, 9}, more);
}

#define COUNTED(name) stat_get(&T.stats.name)

/* --- tests: who answers
 * ---------------------------------------------------------------------------
 */

static void
what_nobody_knows_is_the_kernels(void **state)
{
    comes(packet(1));
    says_none(0);
    says_none(0); /* twice is once */
    says_none(1);
    assert_int_equal(n_released, 0);
    says_none(2);
    assert_int_equal(n_released, 1);
    says_none(2); /* late */
    says_owner(1, life_of(1));
    gives(0, 1, 0);
    assert_int_equal(n_released, 1);
    assert_int_equal(n_forwarded + n_adopted + n_told_lost, 0);
}

static void
what_is_lost_with_a_dead_owner_is_told(void **state)
{
    busy = true;
    comes(packet(1));
    for (unsigned i = 0; i < PEERS; i++)
        says_none(i);
    assert_int_equal(n_released, 1);
    assert_int_equal(n_told_lost, 1);
}

static void
its_owner_gets_it(void **state)
{
    comes(packet(1));
    says_none(0);
    says_owner(1, life_of(1));
    assert_int_equal(n_forwarded, 1);
    assert_int_equal(n_away, 1);
    says_none(2);
    assert_int_equal(n_released, 0);
    T.member[1].leaving = true; /* it may be gone the next moment: only this packet */
    comes(packet(2));
    says_owner(1, life_of(1));
    assert_int_equal(n_forwarded, 2);
    assert_int_equal(n_away, 1);
    T.member[1].placed = false;
    comes(packet(3));
    says_owner(1, life_of(1));
    assert_int_equal(n_forwarded, 2);
    assert_int_equal(COUNTED(unanswered), 1);
}

/* A life that has ended meanwhile is not who it names. */
static void
the_life_before_is_no_owner(void **state)
{
    comes(packet(1));
    says_owner(1, (struct life){2, 6});
    assert_int_equal(n_forwarded, 0);
    assert_int_equal(n_released, 0);
}

static void
what_is_given_is_adopted_once(void **state)
{
    struct guard_packet p = packet(1), next = packet(1), gap = packet(1);

    p.payload = next.payload = gap.payload = (const uint8_t *)"GET / HTTP/1.1";
    p.n_payload = next.n_payload = gap.n_payload = 10;
    next.seq += 10;
    gap.seq += 30;
    comes(p);
    comes(gap);
    comes(next);
    gives(2, 1, 0);
    assert_int_equal(n_adopted, 1);
    assert_true(life_eq(adopted_of, (struct life){9, 9}));
    assert_int_equal(adopted_payload, 20);
    gives(2, 1, 0);
    gives(1, 1, 0);
    assert_int_equal(n_adopted, 1);
    assert_int_equal(COUNTED(held), 3);
}

/* It says what comes next, and behind it comes what was lost. */
static void
an_answer_to_a_probe_gives_way_to_what_is_sent_again(void **state)
{
    struct guard_packet answer = packet(1), again = packet(1), old, next;

    answer.ack = again.ack = 500;
    again.payload = (const uint8_t *)"GET / HTTP/1.1";
    again.n_payload = 10;
    again.seq -= 10;
    next = old = again;
    next.seq += 10;
    old.ack--;
    comes(answer);
    comes(old); /* it was on its way for longer: the client has more by now */
    comes(again);
    comes(next);
    gives(2, 1, 0);
    assert_int_equal(n_adopted, 1);
    assert_int_equal(adopted_seq, again.seq);
    assert_int_equal(adopted_payload, 20);
}

static void
what_was_not_asked_for_is_not_adopted(void **state)
{
    comes(packet(1));
    gives(0, 1, 1); /* the number of no question */
    gives(0, 1, 8192);
    gives(0, 1, (uint32_t)-8192);
    assert_int_equal(n_adopted, 0);
    gives(0, 2, 0); /* another flow */
    assert_int_equal(COUNTED(refused), 1);
    ask_give(&T.member[0],
             &(struct wire_give){asked[0].ask, {9, 9}, {"nonsense", sizeof("nonsense") - 1}});
    ask_give(&T.member[0], &(struct wire_give){asked[0].ask, {9, 9}, {NULL, 0}});
    assert_int_equal(COUNTED(refused), 3);
    assert_int_equal(n_adopted, 0);
    gives(1, 1, 0); /* the question still stands */
    assert_int_equal(n_adopted, 1);
}

/* --- tests: who does not ------------------------------------------------------------------------
 */

static void
who_is_silent_is_asked_again_and_then_it_is_forgotten(void **state)
{
    comes(packet(1));
    says_none(0);
    says_none(1);
    UNTIL(COUNTED(unanswered) == 1);
    assert_int_equal(n_asked[0], 1);
    assert_int_equal(n_asked[2], 4);
    assert_int_equal(n_released, 0); /* it has not said that it knows nothing */
    says_none(2);
    assert_int_equal(n_released, 0);
    comes(packet(1)); /* the client sends it again */
    assert_int_equal(n_asked[0], 2);
}

static void
the_dead_may_have_been_all_that_knew(void **state)
{
    comes(packet(1));
    says_none(0);
    says_none(1);
    ask_lost(&T.member[2]); /* its connection broke: it lives, and is asked again */
    assert_int_equal(COUNTED(unanswered), 0);
    T.member[2].alive = false;
    ask_lost(&T.member[2]);
    UNTIL(COUNTED(unanswered) == 1);
    assert_int_equal(n_released, 0);
    comes(packet(2));
    assert_int_equal(n_asked[2], 1); /* not any more */
}

static void
who_is_named_is_asked_once_more(void **state)
{
    comes(packet(1));
    says_none(1);
    says_owner(0, life_of(1));
    assert_int_equal(n_asked[1], 2);
    says_none(2);
    assert_int_equal(n_released, 0);
    says_owner(1, life_of(0)); /* and takes the first for it */
    says_owner(0, life_of(1));
    assert_int_equal(n_asked[0], 1);
    assert_int_equal(n_asked[1], 2);
    assert_int_equal(n_released, 0); /* each has named the other: that is not nobody */
    says_none(1);
    says_none(0);
    assert_int_equal(n_released, 1);
    assert_int_equal(n_forwarded, 0);
}

static void
who_names_us_knows_nothing(void **state)
{
    comes(packet(1));
    for (unsigned i = 0; i < PEERS; i++)
        says_owner(i, us);
    assert_int_equal(n_released, 1);
    assert_int_equal(n_asked[0] + n_asked[1] + n_asked[2], 3);
}

/* One finds a death some milliseconds before another, who holds the dead one's flows. */
static void
who_names_the_dead_is_asked_again_and_gives_it_when_it_knows(void **state)
{
    T.member[1].alive = false;
    comes(packet(1));
    says_none(2);
    says_owner(0, life_of(1));
    assert_int_equal(n_released, 0);
    assert_int_equal(n_asked[1], 0);
    UNTIL(n_asked[0] > 1);
    assert_int_equal(n_asked[2], 1);
    gives(0, 1, 0);
    assert_int_equal(n_adopted, 1);
    comes(packet(2)); /* a life that has ended, or was never met, is no other thing */
    says_owner(0, (struct life){77, 7});
    says_owner(2, (struct life){1, 6});
    UNTIL(COUNTED(unanswered) == 1);
    assert_int_equal(n_released, 0);
}

/* And keeps the packet until then: its client would send it again after 200 ms. */
static void
who_named_one_that_is_found_dead_is_asked_at_once(void **state)
{
    comes(packet(1));
    says_owner(0, life_of(1));
    says_none(2);
    UNTIL(n_asked[0] == 4); /* nobody is asked more often than that, but for news */
    T.member[1].alive = false;
    ask_lost(&T.member[1]);
    assert_int_equal(n_asked[0], 5);
    assert_int_equal(n_asked[2], 1);
    gives(0, 1, 0);
    assert_int_equal(n_adopted, 1);
    assert_int_equal(COUNTED(unanswered), 0);
}

static void
alone_nobody_is_asked(void **state)
{
    for (unsigned i = 0; i < PEERS; i++)
        T.member[i].alive = false;
    comes(packet(1));
    assert_int_equal(n_released, 1);
    lease = false;
    comes(packet(1));
    assert_int_equal(n_released, 1); /* it is not for us to say */
    lease = true;
    T.started_ns = loop_now(L);
    comes(packet(1));
    assert_int_equal(n_released, 1); /* there may be peers that were not found yet */
    assert_int_equal(COUNTED(unanswered), 2);
}

/* --- tests: what is known here ------------------------------------------------------------------
 */

/* A line of the second peer's worker with flow i. */
static struct replica_line *
hold_flow(unsigned i)
{
    const struct wire_frame f[] = {
        {.kind = WIRE_HELLO, .u.hello = {.owner = life_of(1), .epoch = 1}},
        {.kind = WIRE_OPEN, .u.open = {.key = key(i), .params = {.mss = 1460}}},
        {.kind = WIRE_SNAPSHOT}};
    struct replica_line *l = replica_line_new(T.store, loop_now(L));
    struct buf b = {0};

    for (unsigned k = 0; k < MC_COUNT(f); k++)
        wire_put(&b, &f[k]);
    assert_int_equal(replica_line_read(l, (struct str){b.p, b.n}, loop_now(L)), REPLICA_F_NONE);
    buf_free(&b);
    return l;
}

static void
what_is_known_here_is_reset_by_nobody(void **state)
{
    struct guard_packet p = packet(1);

    hold_flow(1);
    p.from_peer = true;
    comes(p);
    for (unsigned i = 0; i < PEERS; i++)
        says_none(i); /* its owner, too: it hands it over, and we shall hear of it */
    assert_int_equal(n_released, 0);
    assert_int_equal(COUNTED(unanswered), 1);
}

static void
who_leaves_passes_on_what_is_free(void **state)
{
    hold_flow(1);
    word = OWNER_DEAD;
    T.leaving = true;
    address_here = false; /* it is somebody else's by now */
    the_heir = life_of(2);
    for (unsigned i = 0; i < PEERS - 1; i++) {
        comes(packet(1));
        assert_int_equal(n_forwarded, i + 1);
        T.member[PEERS - 1 - i].leaving = true; /* then to any other that stays */
    }
    T.member[0].leaving = true;
    comes(packet(1));
    assert_int_equal(n_forwarded, PEERS - 1);
    assert_int_equal(n_adopted, 0);
    address_here = true;
    T.here.asked_ns = 0;
    T.parting = true; /* there is nobody who would serve it */
    comes(packet(1));
    assert_int_equal(n_adopted, 0);
    T.parting = false;
    comes(packet(1));
    assert_int_equal(n_adopted, 1);
}

static void
what_is_kept_of_the_living_goes_there_and_of_the_dead_is_ours(void **state)
{
    struct guard_packet p = packet(1);

    hold_flow(1);
    comes(p);
    assert_int_equal(n_forwarded, 1);
    p.from_peer = true; /* it sent that here: only its own word counts */
    comes(p);
    assert_int_equal(n_forwarded, 1);
    assert_int_equal(n_asked[1], 1);
    says_owner(1, life_of(1));
    assert_int_equal(n_forwarded, 2);
    word = OWNER_DEAD;
    comes(packet(1));
    assert_int_equal(n_adopted, 1);
    assert_int_equal(n_gave, 1);
}

/* Two that hold it must not give it to two. */
static void
a_second_holder_takes_what_the_first_does_not_have(void **state)
{
    hold_flow(1);
    word = OWNER_DEAD;
    T.member[1].alive = false;
    first = false;
    comes(packet(1));
    assert_int_equal(n_adopted, 0);
    assert_false(asked[0].last);
    says_none(0);
    UNTIL(n_asked[2] > 1);
    assert_true(asked[2].last);
    says_none(2);
    assert_int_equal(n_adopted, 1);
    assert_true(life_eq(adopted_of, life_of(1)));
    hold_flow(2);
    comes(packet(2));
    says_none(0);
    T.member[2].alive = false; /* the first, without a word */
    ask_lost(&T.member[2]);
    UNTIL(n_adopted == 2);
    assert_int_equal(n_released, 0);
}

static void
what_is_given_is_not_kept_here_besides(void **state)
{
    hold_flow(1);
    word = OWNER_DEAD;
    first = false;
    comes(packet(1));
    gives_as(0, 1, life_of(1), 0);
    assert_int_equal(n_adopted, 1);
    first = true;
    comes(packet(1)); /* it has ended meanwhile */
    for (unsigned i = 0; i < PEERS; i++)
        says_none(i);
    assert_int_equal(n_adopted, 1);
    assert_int_equal(n_released, 1);
}

static void
what_cannot_live_here_is_forgotten(void **state)
{
    hold_flow(1);
    word = OWNER_DEAD;
    address_here = false;
    comes(packet(1));
    assert_int_equal(n_adopted, 0);
    assert_int_equal(COUNTED(elsewhere), 1);
}

/* It was held before it became known, and would not come again for 0.2 s. */
static void
what_is_known_by_now_is_the_kernels(void **state)
{
    hold_flow(1);
    word = OWNER_DEAD;
    known_here = true;
    comes(packet(1));
    assert_int_equal(n_home, 1);
    assert_int_equal(n_adopted + n_asked[0], 0);
}

/* --- tests: floods ------------------------------------------------------------------------------
 */

/* Packets with as much as there can be in them, whose senders may be anybody. */
static void
a_flood_is_bounded(void **state)
{
    static const uint8_t much[65536];
    struct guard_packet p;
    unsigned i;

    for (i = 0; i < 20000; i++) {
        p = packet(i);
        p.payload = much;
        p.n_payload = sizeof(much);
        comes(p);
        assert_true(T.asking.n_kept <= (size_t)16 << 20);
    }
    assert_true(COUNTED(flooded) > 0);
    assert_true(T.asking.n_places <= 8192);
    UNTIL(list_empty(&T.asking.open));
    assert_int_equal(T.asking.n_kept, 0);
    assert_int_equal(n_released, 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_nobody_knows_is_the_kernels),
        TEST(what_is_lost_with_a_dead_owner_is_told),
        TEST(its_owner_gets_it),
        TEST(the_life_before_is_no_owner),
        TEST(what_is_given_is_adopted_once),
        TEST(an_answer_to_a_probe_gives_way_to_what_is_sent_again),
        TEST(what_was_not_asked_for_is_not_adopted),
        TEST(who_is_silent_is_asked_again_and_then_it_is_forgotten),
        TEST(the_dead_may_have_been_all_that_knew),
        TEST(who_is_named_is_asked_once_more),
        TEST(who_names_us_knows_nothing),
        TEST(who_names_the_dead_is_asked_again_and_gives_it_when_it_knows),
        TEST(who_named_one_that_is_found_dead_is_asked_at_once),
        TEST(alone_nobody_is_asked),
        TEST(what_is_kept_of_the_living_goes_there_and_of_the_dead_is_ours),
        TEST(what_is_known_here_is_reset_by_nobody),
        TEST(who_leaves_passes_on_what_is_free),
        TEST(a_second_holder_takes_what_the_first_does_not_have),
        TEST(what_is_given_is_not_kept_here_besides),
        TEST(what_cannot_live_here_is_forgotten),
        TEST(what_is_known_by_now_is_the_kernels),
        TEST(a_flood_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
