/* SPDX-License-Identifier: BSD-2-Clause
 *
 * dial_test.c - our connections to peers' threads: what is made of answers, and of peers that say
 * nonsense, vanish in the middle of it, or cannot be reached.
 *
 * The sealed connections are this file's own.
 */
#include "io/harness.h"
#include "takeover/takeover_priv.h"

#define OPENED_MAX 64

static struct takeover T;
static struct member *const m = &T.member[0], *const m2 = &T.member[1];
static struct tube *opened[OPENED_MAX];
static enum wire_kind said[64]; /* to any */
static unsigned n_opened, n_said, n_owner, n_give, n_none, n_lost, n_news, n_claimed, n_set;
static bool claimed_all, refuse_to_open, set_alive;
static struct wire_where *their_where;
static struct guard_interface ours[2];

/* --- the world ----------------------------------------------------------------------------------
 */

struct tube *
tube_open(struct loop *l, struct keyring *k, const struct addr *to, mc_ns within_ns,
          const struct tube_ops *ops, void *owner, unsigned *n_alive)
{
    struct tube *t;

    if (refuse_to_open)
        return NULL;
    assert_true(n_opened < OPENED_MAX);
    t = calloc(1, sizeof(*t));
    *t = (struct tube){.ops = ops, .owner = owner, .loop = l, .n_alive = n_alive};
    opened[n_opened++] = t;
    return t;
}

void
tube_close(struct tube **tp)
{
    struct tube *t = *tp;

    *tp = NULL;
    if (t == NULL)
        return;
    assert_false(t->closed);
    t->closed = true;
}

void
tube_put_end(struct tube *t)
{
    struct pack_in in = {.p = (const uint8_t *)t->out.p, .n = t->out.n};
    struct wire_frame f;
    uint64_t unknown = 0;

    assert_true(t->ready && !t->closed);
    while (wire_get(&in, &f, &unknown) == WIRE_FRAME)
        said[n_said++ % MC_COUNT(said)] = f.kind;
    buf_skip(&t->out, t->out.n);
}

unsigned
member_place(const struct member *who)
{
    return (unsigned)(who - T.member);
}

unsigned
guard_interfaces(const struct guard *g, struct guard_interface *v, unsigned max)
{
    memcpy(v, ours, sizeof(ours));
    return MC_COUNT(ours);
}

enum mc_err
guard_peer_set(struct guard *g, unsigned peer, bool alive, unsigned ifindex, const uint8_t mac[6],
               struct errbuf *e)
{
    n_set++;
    set_alive = alive;
    return MC_OK;
}

const struct wire_where *
guest_where(const struct takeover *t, struct life who)
{
    return their_where;
}

void
ask_owner(struct member *who, const struct wire_owner *w)
{
    n_owner++;
}

void
ask_give(struct member *who, const struct wire_give *w)
{
    n_give++;
}

void
ask_none(struct member *who, const struct wire_none *w)
{
    n_none++;
}

void
ask_lost(struct member *who)
{
    n_lost++;
}

void
link_post_claimed(struct link_roster *r, const struct flow_key *keys, unsigned n)
{
    n_claimed += n;
    claimed_all |= keys == NULL;
}

void
pulse_news(struct takeover *t)
{
    n_news++;
}

/* --- the stage ----------------------------------------------------------------------------------
 */

static struct addr_net
net(const char *text)
{
    struct addr_net n;

    assert_int_equal(addr_parse_net(str_of(text), &n, &(struct errbuf){""}), MC_OK);
    return n;
}

static int
setup(void **state)
{
    loop_setup(state);
    loop_turn(L, 0);
    T = (struct takeover){.magic = TAKEOVER_MAGIC, .self = {100, 1}, .loop = L};
    *m = (struct member){.takeover = &T, .id = 1, .life = {1, 7}, .alive = true};
    *m2 = (struct member){.takeover = &T, .id = 2, .life = {2, 7}, .alive = true};
    n_opened = n_said = n_owner = n_give = n_none = n_lost = n_news = n_claimed = n_set = 0;
    claimed_all = refuse_to_open = false;
    their_where = NULL;
    memset(ours, 0, sizeof(ours));
    ours[0] = (struct guard_interface){.ifindex = 5, .n_addrs = 1, .addr = {net("10.0.0.1/24")}};
    ours[1] = (struct guard_interface){.ifindex = 6, .n_addrs = 1, .addr = {net("192.0.2.1/32")}};
    return 0;
}

static int
teardown(void **state)
{
    dial_end(m);
    dial_end(m2);
    for (unsigned i = 0; i < n_opened; i++) {
        assert_true(opened[i]->closed);
        buf_free(&opened[i]->out);
        free(opened[i]);
    }
    return loop_teardown(state);
}

static struct tube *
connected(struct member *to)
{
    dial_begin(to);
    to->call->ready = true;
    to->call->ops->on_ready(to->call);
    return to->call;
}

static void
hear(struct tube *t, const struct wire_frame *f, unsigned n)
{
    struct buf b = {0};

    for (unsigned i = 0; i < n; i++)
        wire_put(&b, &f[i]);
    t->ops->on_record(t, (const uint8_t *)b.p, b.n);
    buf_free(&b);
}

static void
hear_claimed(struct tube *t, uint64_t nonce, unsigned n)
{
    static const struct flow_key keys[WIRE_CLAIMS_MAX];
    struct buf b = {0};

    wire_put_claimed(&b, nonce, keys, n);
    t->ops->on_record(t, (const uint8_t *)b.p, b.n);
    buf_free(&b);
}

static void
hear_resynced(struct tube *t, uint64_t nonce, bool all)
{
    const struct wire_frame f = {.kind = WIRE_RESYNCED, .u.resynced = {nonce, 44, all}};

    hear(t, &f, 1);
}

/* --- tests --------------------------------------------------------------------------------------
 */

static void
we_say_who_we_are_first(void **state)
{
    const struct wire_frame ask = {.kind = WIRE_ASK};

    dial_begin(m);
    assert_false(dial_put(m, &ask));
    m->call->ready = true;
    m->call->ops->on_ready(m->call);
    assert_int_equal(n_said, 2);
    assert_int_equal(said[0], WIRE_HELLO);
    assert_int_equal(said[1], WIRE_WHERE);
    assert_true(dial_put(m, &ask));
    assert_int_equal(said[2], WIRE_ASK);
    assert_false(dial_put(m2, &ask));
}

static void
answers_reach_who_asked(void **state)
{
    static const struct wire_frame f[] = {{.kind = WIRE_OWNER, .u.owner.owner = {1, 7}},
                                          {.kind = WIRE_NONE},
                                          {.kind = WIRE_GIVE, .u.give.owner = {1, 7}},
                                          {.kind = WIRE_NONE}};

    hear(connected(m), f, MC_COUNT(f));
    assert_int_equal(n_owner, 1);
    assert_int_equal(n_none, 2);
    assert_int_equal(n_give, 1);
    assert_non_null(m->call);
}

static void
what_is_no_answer_ends_the_connection_and_another_is_made(void **state)
{
    static const struct wire_frame bad[] = {{.kind = WIRE_ASK},
                                            {.kind = WIRE_ACK},
                                            {.kind = WIRE_CLOSE},
                                            {.kind = WIRE_TAKEN, .u.taken.owner = {1, 7}}};

    for (unsigned i = 0; i < MC_COUNT(bad); i++) {
        const struct wire_frame f[] = {{.kind = WIRE_NONE}, bad[i], {.kind = WIRE_NONE}};
        const unsigned before = n_opened;

        hear(connected(m), f, 3);
        assert_null(m->call);
        assert_int_equal(n_none, i + 1); /* what came behind it is not believed */
        assert_int_equal(n_lost, i + 1);
        UNTIL(n_opened == before + 2);
    }
    assert_int_equal(stat_get(&T.stats.refused), MC_COUNT(bad));
}

static void
who_vanishes_in_the_middle_of_an_answer_is_called_again(void **state)
{
    const struct wire_frame f = {.kind = WIRE_GIVE, .u.give = {1, {1, 7}, {"frames", 6}}};
    struct buf b = {0};
    struct tube *t = connected(m);

    wire_put(&b, &f);
    t->ops->on_record(t, (const uint8_t *)b.p, b.n - 1); /* records are whole: it is mad */
    assert_null(m->call);
    assert_int_equal(n_give, 0);
    buf_free(&b);
    UNTIL(n_opened == 2);
    m->call->ops->on_broken(m->call, "closed by the other end");
    UNTIL(n_opened == 3);
    assert_int_equal(n_lost, 2);
}

static void
who_cannot_be_reached_is_tried_again_while_it_lives(void **state)
{
    refuse_to_open = true;
    dial_begin(m);
    assert_null(m->call);
    refuse_to_open = false;
    UNTIL(n_opened == 1);
    m->call->ops->on_broken(m->call, "it takes too long to connect");
    m->alive = false;
    dial_end(m);
    assert_false(timer_is_set(&m->redial));
    assert_null(m->call);
}

static void
another_life_is_another_connection(void **state)
{
    struct tube *t = connected(m);

    m->life.boot++;
    dial_begin(m);
    assert_true(t->closed);
    assert_int_equal(n_opened, 2);
}

static void
what_was_taken_is_let_go_when_we_have_asked(void **state)
{
    struct tube *t = connected(m);

    hear_claimed(t, 0, 5); /* nobody asked: there is no such question */
    hear_resynced(t, 0, true);
    m->resync = (struct resync){.nonce = 9};
    hear_claimed(t, 8, 5); /* that was an older one */
    hear_resynced(t, 8, true);
    assert_int_equal(n_claimed, 0);
    assert_false(claimed_all || m->resync.answered);
    hear_claimed(t, 9, 5);
    hear_claimed(t, 9, WIRE_CLAIMS_MAX);
    assert_int_equal(n_claimed, 5 + WIRE_CLAIMS_MAX);
    assert_int_equal(n_news, 0);
    hear_resynced(t, 9, false);
    assert_true(m->resync.answered);
    assert_int_equal(m->resync.seq, 44);
    assert_int_equal(n_news, 1);
    hear_claimed(t, 9, 5); /* once more: the question was sent twice */
    hear_resynced(t, 9, true);
    assert_int_equal(n_claimed, 5 + WIRE_CLAIMS_MAX);
    assert_false(claimed_all);
    m->resync = (struct resync){.nonce = 10};
    hear_resynced(t, 10, true);
    assert_true(claimed_all);
}

static void
nobody_can_have_taken_without_end(void **state)
{
    struct tube *t = connected(m);
    unsigned n = 0;

    m->resync = (struct resync){.nonce = 9};
    while (m->call == t && n++ < 2000)
        hear_claimed(t, 9, WIRE_CLAIMS_MAX);
    assert_int_equal(n, 1025);
    assert_int_equal(n_claimed, 262144);
    assert_null(m->call);
    connected(m);
    hear_claimed(m->call, 9, WIRE_CLAIMS_MAX); /* all over again */
    assert_non_null(m->call);
}

static void
who_is_on_our_network_is_reached_there(void **state)
{
    struct wire_where near = {.n = 2, .place = {{.n_nets = 1}, {.mac = {2, 3}, .n_nets = 1}}};
    struct wire_where far = {.n = 1, .place = {{.n_nets = 1}}};

    near.place[0].net[0] = (struct wire_net){{[10] = 0xff, [11] = 0xff, 192, 0, 2, 1}, 128};
    near.place[1].net[0] = (struct wire_net){{[10] = 0xff, [11] = 0xff, 10, 0, 0, 9}, 120};
    far.place[0].net[0] = (struct wire_net){{[10] = 0xff, [11] = 0xff, 10, 0, 1, 9}, 120};
    dial_placed(m, &far);
    assert_false(m->placed);
    dial_placed(m, &near); /* both have the common address as a host's: that says nothing */
    assert_true(m->placed && set_alive);
    assert_int_equal(m->ifindex, 5);
    assert_int_equal(m->mac[1], 3);
    dial_leaving(m, true);
    assert_false(set_alive);
    dial_leaving(m, false);
    assert_true(set_alive);
    m->alive = false;
    dial_end(m);
    assert_false(set_alive);
    their_where = &near; /* it found us before we found it */
    dial_begin(m2);
    assert_true(m2->placed && set_alive);
}

static void
what_we_have_taken_over_is_told_to_all(void **state)
{
    const struct flow_key key = {.local_port = 80};

    connected(m);
    dial_begin(m2); /* is not there yet */
    n_said = 0;
    dial_tell_taken(&T, &key, (struct life){3, 3});
    assert_int_equal(n_said, 1);
    assert_int_equal(said[0], WIRE_TAKEN);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(we_say_who_we_are_first),
        TEST(answers_reach_who_asked),
        TEST(what_is_no_answer_ends_the_connection_and_another_is_made),
        TEST(who_vanishes_in_the_middle_of_an_answer_is_called_again),
        TEST(who_cannot_be_reached_is_tried_again_while_it_lives),
        TEST(another_life_is_another_connection),
        TEST(what_was_taken_is_let_go_when_we_have_asked),
        TEST(nobody_can_have_taken_without_end),
        TEST(who_is_on_our_network_is_reached_there),
        TEST(what_we_have_taken_over_is_told_to_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
