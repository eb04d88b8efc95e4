/* SPDX-License-Identifier: BSD-2-Clause
 *
 * guest_test.c - what is answered to peers, and to who only says that it is one.
 *
 * The store and the frames are real; the sealed connections are this file's own, so that a guest
 * may say anything, break at any moment, or not take its answers.  So are beats and guard.
 */
#include "io/harness.h"
#include "takeover/takeover_priv.h"

#define TUBES_MAX 256
#define SAID_MAX  4096

static const struct life us = {1, 10}, lb2 = {2, 20}, lb3 = {3, 30};

struct line_to_us {
    struct tube tube;
    int fd;
    enum wire_kind said[SAID_MAX]; /* to it */
    struct wire_frame last;        /* its bytes are gone */
    unsigned n_said;
    size_t waiting;
};

static struct takeover T;
static struct line_to_us *guest[TUBES_MAX];
static unsigned n_guests, n_settled, n_asked, n_gave, n_placed;
static struct addr door;
static uint64_t alive;   /* ids, by bits */
static bool known_here;  /* the guard's word of any flow */
static bool comes_first; /* of the holders of any life */
static struct member of_2;

/* --- tubes --------------------------------------------------------------------------------------
 */

struct tube *
tube_accept(struct loop *l, struct keyring *k, int fd, mc_ns within_ns, const struct tube_ops *ops,
            void *owner, unsigned *n_alive)
{
    struct line_to_us *g = calloc(1, sizeof(*g));

    assert_true(n_guests < TUBES_MAX);
    g->tube = (struct tube){.ops = ops, .owner = owner, .loop = l, .n_alive = n_alive};
    g->fd = fd;
    (*n_alive)++;
    guest[n_guests++] = g;
    return &g->tube;
}

static struct line_to_us *
line_of(struct tube *t)
{
    return container_of(t, struct line_to_us, tube);
}

void
tube_close(struct tube **tp)
{
    struct line_to_us *g = line_of(*tp);

    *tp = NULL;
    assert_false(g->tube.closed);
    g->tube.closed = true;
    close(g->fd);
    (*g->tube.n_alive)--;
}

void
tube_put_end(struct tube *t)
{
    struct line_to_us *g = line_of(t);
    struct pack_in in = {.p = (const uint8_t *)t->out.p, .n = t->out.n};
    uint64_t unknown = 0;

    assert_false(t->closed);
    while (wire_get(&in, &g->last, &unknown) == WIRE_FRAME)
        g->said[g->n_said++ % SAID_MAX] = g->last.kind;
    g->waiting += t->out.n;
    buf_skip(&t->out, t->out.n);
}

size_t
tube_waiting(const struct tube *t)
{
    return line_of((struct tube *)t)->waiting;
}

/* --- beats, guard, our own connections ----------------------------------------------------------
 */

struct member *
member_of(struct takeover *t, uint64_t id)
{
    return id == 2 ? &of_2 : NULL;
}

bool
peers_is_alive(const struct peers *p, struct life who)
{
    return alive >> who.id & 1;
}

bool
peers_is_first(const struct peers *p, struct life who)
{
    return comes_first;
}

uint64_t
peers_asked(struct peers *p, struct life who, mc_ns now)
{
    n_asked++;
    return 99;
}

bool
repair_is_known(const struct flow_key *k)
{
    return false;
}

bool
guard_flow_known(const struct guard *g, const struct flow_key *k)
{
    return known_here;
}

void
pulse_catch_up(struct takeover *t)
{
}

void
pulse_settle(struct takeover *t)
{
    n_settled++;
}

void
takeover_gave(struct takeover *t, struct life owner)
{
    n_gave++;
}

void
adopt_wait(struct takeover *t)
{
}

void
dial_placed(struct member *m, const struct wire_where *w)
{
    n_placed++;
}

static enum owner_word
owner(void *arg, struct life who, uint32_t epoch)
{
    return alive >> who.id & 1 ? OWNER_ALIVE : OWNER_DEAD;
}

/* --- the stage ----------------------------------------------------------------------------------
 */

/* On a port that is free, which another process may take first. */
static void
open_door(void)
{
    struct errbuf e = {"no port is free"};

    for (unsigned i = 0; i < 20; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(addr_parse_ip(STR("127.0.0.1"), 0, &door));
        assert_int_equal(bind(fd, &door.u.sa, door.len), 0);
        assert_int_equal(getsockname(fd, &door.u.sa, &door.len), 0);
        close(fd);
        if (door_open(&T, &door, &e) == MC_OK)
            return;
    }
    fail_msg("%s", e.text);
}

static int
setup(void **state)
{
    const struct replica_conf conf = {.self = us, .owner = owner, .total_bytes = 1 << 16};

    loop_setup(state);
    T = (struct takeover){.magic = TAKEOVER_MAGIC, .self = us, .loop = L, .tcp = -1};
    T.store = replica_store_new(&conf);
    list_init(&T.guests);
    n_guests = n_settled = n_asked = n_gave = n_placed = 0;
    known_here = false;
    comes_first = true;
    alive = 1u << 2 | 1u << 3;
    of_2 = (struct member){.takeover = &T, .id = 2, .life = lb2};
    open_door();
    door_start(&T);
    return 0;
}

static int
teardown(void **state)
{
    door_close(&T);
    UNTIL(T.n_tubes == 0);
    for (unsigned i = 0; i < n_guests; i++) {
        assert_true(guest[i]->tube.closed);
        buf_free(&guest[i]->tube.out);
        free(guest[i]);
    }
    replica_store_free(&T.store);
    return loop_teardown(state);
}

/* Somebody connects. */
static struct line_to_us *
come(void)
{
    const unsigned before = n_guests;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, &door.u.sa, door.len), 0);
    UNTIL(n_guests == before + 1);
    close(fd);
    guest[before]->tube.ready = true;
    return guest[before];
}

static void
hear(struct line_to_us *g, const struct wire_frame *f, unsigned n)
{
    struct buf b = {0};

    for (unsigned i = 0; i < n; i++)
        wire_put(&b, &f[i]);
    g->tube.ops->on_record(&g->tube, (const uint8_t *)b.p, b.n);
    buf_free(&b);
}

#define HEAR(g, ...)                                \
    do {                                            \
        const struct wire_frame f_ = {__VA_ARGS__}; \
        hear((g), &f_, 1);                          \
    } while (0)

static struct line_to_us *
thread_of(struct life who)
{
    struct line_to_us *g = come();

    HEAR(g, .kind = WIRE_HELLO, .u.hello = {.owner = who, .worker = HELLO_THREAD});
    return g;
}

static struct line_to_us *
worker_of(struct life who)
{
    struct line_to_us *g = come();

    HEAR(g, .kind = WIRE_HELLO, .u.hello = {.owner = who, .epoch = 7});
    HEAR(g, .kind = WIRE_SNAPSHOT);
    return g;
}

static struct flow_key
key(unsigned i)
{
    return (struct flow_key){.local = {1}, .remote = {2, (uint8_t)i}};
}

static void
open_flow(struct line_to_us *g, unsigned i)
{
    HEAR(g, .kind = WIRE_OPEN, .flow = i, .u.open = {.key = key(i), .params = {.mss = 1460}});
}

static void
ask(struct line_to_us *g, unsigned i)
{
    HEAR(g, .kind = WIRE_ASK, .u.ask = {.ask = 100 + i, .key = key(i)});
}

static void
die(struct life who)
{
    alive &= ~(UINT64_C(1) << who.id);
}

#define LAST(g)       ((g)->said[((g)->n_said - 1) % SAID_MAX])
#define REFUSED_IS(n) assert_int_equal(stat_get(&T.stats.refused), (n))

/* --- tests: questions ---------------------------------------------------------------------------
 */

static void
who_asks_is_told_whose_it_is(void **state)
{
    struct line_to_us *w = worker_of(lb2), *q = thread_of(lb3);

    open_flow(w, 5);
    ask(q, 5);
    assert_int_equal(LAST(q), WIRE_OWNER);
    assert_true(life_eq(q->last.u.owner.owner, lb2));
    ask(q, 6);
    assert_int_equal(LAST(q), WIRE_NONE);
    assert_int_equal(q->last.u.none.ask, 106);
    known_here = true;
    ask(q, 6);
    assert_int_equal(LAST(q), WIRE_OWNER);
    assert_true(life_eq(q->last.u.owner.owner, us));
    known_here = false;
    die(lb2);
    ask(q, 5);
    assert_int_equal(LAST(q), WIRE_GIVE);
    assert_int_equal(n_gave, 1);
    assert_int_equal(q->n_said, 4);
}

/* Its beats may come in a moment: then it asks again. */
static void
nothing_is_given_to_who_is_not_known_to_live(void **state)
{
    struct line_to_us *w = worker_of(lb2), *q = thread_of((struct life){9, 90});

    open_flow(w, 5);
    die(lb2);
    ask(q, 5);
    assert_int_equal(q->n_said, 0);
    assert_int_equal(n_gave, 0);
    alive |= 1u << 9;
    ask(q, 5);
    assert_int_equal(LAST(q), WIRE_GIVE);
}

/* Of two holders each could give it to another. */
static void
a_second_holder_gives_what_nobody_else_has(void **state)
{
    struct line_to_us *w = worker_of(lb2), *q = thread_of(lb3);

    open_flow(w, 5);
    open_flow(w, 6);
    HEAR(w, .kind = WIRE_HANDOVER, .flow = 6, .u.handover = {us});
    comes_first = false;
    ask(q, 6);
    assert_int_equal(LAST(q), WIRE_GIVE); /* it is ours alone */
    die(lb2);
    ask(q, 5);
    assert_int_equal(q->n_said, 1);
    HEAR(q, .kind = WIRE_ASK, .u.ask = {.ask = 7, .key = key(5), .last = true});
    assert_int_equal(q->n_said, 2);
    assert_int_equal(LAST(q), WIRE_GIVE);
}

static void
who_leaves_is_given_nothing_back(void **state)
{
    struct line_to_us *w = worker_of(lb2), *q = thread_of(lb2);

    of_2.leaving = true;
    open_flow(w, 5);
    HEAR(w, .kind = WIRE_HANDOVER, .flow = 5, .u.handover = {us});
    ask(q, 5);
    assert_int_equal(LAST(q), WIRE_OWNER); /* it is to send us the packet */
    assert_true(life_eq(q->last.u.owner.owner, us));
}

/* From another holder: a third one is not to get it from us. */
static void
what_a_peer_has_taken_is_not_given_away(void **state)
{
    struct line_to_us *w = worker_of(lb2), *q = thread_of(lb3), *third = thread_of(us);

    open_flow(w, 5);
    die(lb2);
    HEAR(q, .kind = WIRE_TAKEN, .u.taken = {.owner = lb2, .key = key(5)});
    ask(third, 5);
    assert_int_equal(LAST(third), WIRE_OWNER);
    assert_true(life_eq(third->last.u.owner.owner, lb3));
    ask(q, 5);
    assert_int_equal(LAST(q), WIRE_NONE);
}

static void
what_was_taken_is_told_in_full(void **state)
{
    struct line_to_us *w = worker_of(lb2), *of_3 = thread_of(lb3), *q;

    for (unsigned i = 0; i < 3; i++)
        open_flow(w, i);
    die(lb2);
    ask(of_3, 0);
    ask(of_3, 2);
    alive |= 1u << 2;
    q = thread_of(lb2);
    HEAR(q, .kind = WIRE_RESYNC, .u.resync = {.nonce = 5, .who = lb2});
    assert_int_equal(q->n_said, 2);
    assert_int_equal(q->said[0], WIRE_CLAIMED);
    assert_int_equal(LAST(q), WIRE_RESYNCED);
    assert_int_equal(q->last.u.resynced.nonce, 5);
    assert_int_equal(q->last.u.resynced.seq, 99);
    assert_false(q->last.u.resynced.all);
    assert_int_equal(n_asked, 1);
    /* for another it may not ask */
    HEAR(q, .kind = WIRE_RESYNC, .u.resync = {.nonce = 5, .who = lb3});
    assert_true(q->tube.closed);
    REFUSED_IS(1);
}

/* However small its questions are, and however many: answers do not pile up. */
static void
who_does_not_take_its_answers_gets_no_more(void **state)
{
    struct line_to_us *q = thread_of(lb3);

    q->waiting = (size_t)9 << 20;
    ask(q, 5);
    HEAR(q, .kind = WIRE_RESYNC, .u.resync = {.nonce = 5, .who = lb3});
    assert_int_equal(q->n_said, 0);
    assert_int_equal(n_asked, 0);
    q->waiting = 0;
    ask(q, 5);
    assert_int_equal(LAST(q), WIRE_NONE);
}

static void
what_is_no_question_ends_the_connection(void **state)
{
    static const struct wire_frame bad[] = {
        {.kind = WIRE_NONE}, {.kind = WIRE_ACK}, {.kind = WIRE_SNAPSHOT}, {.kind = WIRE_CLOSE}};

    for (unsigned i = 0; i < MC_COUNT(bad); i++) {
        struct line_to_us *q = thread_of(lb3);
        struct wire_frame f[] = {{.kind = WIRE_ASK}, bad[i], {.kind = WIRE_ASK}};

        hear(q, f, 3);
        assert_true(q->tube.closed);
        assert_int_equal(q->n_said, 1); /* what came before it */
        REFUSED_IS(i + 1);
    }
}

static void
half_a_frame_ends_the_connection(void **state)
{
    struct wire_frame f = {.kind = WIRE_ASK, .u.ask = {.ask = 1, .key = key(1)}};
    struct buf b = {0};

    wire_put(&b, &f);
    for (size_t n = 1; n < b.n; n++) {
        struct line_to_us *q = thread_of(lb3);

        q->tube.ops->on_record(&q->tube, (const uint8_t *)b.p, n);
        assert_true(q->tube.closed);
        assert_int_equal(q->n_said, 0);
    }
    buf_free(&b);
}

static void
where_a_peer_is_counts_for_that_life(void **state)
{
    struct wire_where where = {.n = 1, .place = {{.mac = {2, 3}}}};
    struct line_to_us *q = thread_of(lb2);
    struct buf b = {0};

    assert_null(guest_where(&T, lb2));
    wire_put_where(&b, &where);
    q->tube.ops->on_record(&q->tube, (const uint8_t *)b.p, b.n);
    assert_int_equal(n_placed, 1);
    assert_int_equal(guest_where(&T, lb2)->place[0].mac[1], 3);
    assert_null(guest_where(&T, (struct life){2, 21}));
    of_2.life.boot = 21; /* the member is another life now */
    q->tube.ops->on_record(&q->tube, (const uint8_t *)b.p, b.n);
    assert_int_equal(n_placed, 1);
    q->tube.ops->on_record(&q->tube, (const uint8_t *)b.p, b.n - 1);
    assert_true(q->tube.closed);
    assert_null(guest_where(&T, lb2));
    buf_free(&b);
}

/* --- tests: lines -------------------------------------------------------------------------------
 */

static void
what_is_kept_is_acknowledged(void **state)
{
    struct line_to_us *w = worker_of(lb2);

    open_flow(w, 5);
    assert_int_equal(LAST(w), WIRE_ACK);
    assert_int_equal(w->last.u.ack.frames, 3);
}

static void
what_is_not_kept_is_refused_before_that(void **state)
{
    static const char much[WIRE_BYTES_MAX];
    struct line_to_us *w = worker_of(lb2);
    unsigned before;

    open_flow(w, 5);
    before = w->n_said;
    HEAR(w, .kind = WIRE_IN, .flow = 5, .u.in.bytes = {much, sizeof(much)});
    assert_int_equal(w->n_said, before + 2);
    assert_int_equal(w->said[before], WIRE_REFUSED);
    assert_int_equal(w->last.u.ack.frames, 4);
}

static void
a_line_that_makes_no_sense_ends_and_its_flows_stay(void **state)
{
    struct line_to_us *w = worker_of(lb2), *q = thread_of(lb3);

    open_flow(w, 5);
    HEAR(w, .kind = WIRE_IN, .flow = 5, .u.in = {77, {"x", 1}});
    assert_true(w->tube.closed);
    assert_int_equal(stat_get(&T.stats.frames_bad), 1);
    ask(q, 5);
    assert_int_equal(LAST(q), WIRE_OWNER);
    w = worker_of(lb2);
    open_flow(w, 6);
    w->tube.ops->on_broken(&w->tube, "it vanished");
    assert_true(w->tube.closed);
    ask(q, 6);
    assert_int_equal(LAST(q), WIRE_OWNER);
}

/* --- tests: who comes ---------------------------------------------------------------------------
 */

static void
the_first_word_is_hello_in_our_version(void **state)
{
    static const uint8_t other[] = {WIRE_HELLO, 3, WIRE_VERSION + 1, 0xff, 0xff};
    struct line_to_us *g = come();

    HEAR(g, .kind = WIRE_ASK);
    assert_true(g->tube.closed);
    g = come();
    g->tube.ops->on_record(&g->tube, other, sizeof(other));
    assert_true(g->tube.closed);
    g = worker_of(lb2);
    HEAR(g, .kind = WIRE_HELLO, .u.hello = {.owner = lb2});
    assert_true(g->tube.closed); /* twice is once too often */
}

/* Whether they have the key or not. */
static void
who_never_says_who_it_is_goes_first(void **state)
{
    struct line_to_us *w = worker_of(lb2), *first = come(), *second = come();

    second->tube.ready = false;
    for (unsigned i = 2; i < 64; i++)
        come();
    assert_false(first->tube.closed);
    come();
    assert_true(first->tube.closed);
    assert_false(second->tube.closed);
    come();
    assert_true(second->tube.closed);
    assert_false(w->tube.closed);
}

static void
a_life_asks_on_one_connection(void **state)
{
    struct line_to_us *a = thread_of(lb2), *b = thread_of(lb3), *again = thread_of(lb2);

    assert_true(a->tube.closed);
    assert_false(b->tube.closed);
    ask(again, 1);
    assert_int_equal(again->n_said, 1);
}

static void
lives_that_ask_are_bounded(void **state)
{
    struct line_to_us *peer[64], *late;

    alive = UINT64_MAX;
    for (unsigned i = 0; i < 64; i++)
        peer[i] = thread_of((struct life){2, 100 + i});
    late = thread_of(lb3);
    assert_true(late->tube.closed);
    assert_false(peer[0]->tube.closed);
    alive = 1u << 3; /* those were of a dead one */
    late = thread_of(lb3);
    assert_false(late->tube.closed);
    assert_true(peer[0]->tube.closed);
    assert_false(peer[1]->tube.closed);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(who_asks_is_told_whose_it_is),
        TEST(nothing_is_given_to_who_is_not_known_to_live),
        TEST(a_second_holder_gives_what_nobody_else_has),
        TEST(who_leaves_is_given_nothing_back),
        TEST(what_a_peer_has_taken_is_not_given_away),
        TEST(what_was_taken_is_told_in_full),
        TEST(who_does_not_take_its_answers_gets_no_more),
        TEST(what_is_no_question_ends_the_connection),
        TEST(half_a_frame_ends_the_connection),
        TEST(where_a_peer_is_counts_for_that_life),
        TEST(what_is_kept_is_acknowledged),
        TEST(what_is_not_kept_is_refused_before_that),
        TEST(a_line_that_makes_no_sense_ends_and_its_flows_stay),
        TEST(the_first_word_is_hello_in_our_version),
        TEST(who_never_says_who_it_is_goes_first),
        TEST(a_life_asks_on_one_connection),
        TEST(lives_that_ask_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
