/* SPDX-License-Identifier: BSD-2-Clause
 *
 * link_test.c - a worker's link and holders of its flows over the loopback, all on one loop; the
 * takeover thread is the test.
 */
#include "io/harness.h"
#include "takeover/link_priv.h"
#include "takeover/takeover_priv.h"
#include "takeover/tube.h"

#define HOLDERS 2

/* Takes the worker's line and writes down which frames come. */
struct holder_end {
    struct end door;
    struct addr at;
    struct tube *tube;
    char kinds[256]; /* a letter a frame */
    unsigned n;
    bool mute; /* acknowledges nothing */
};

static struct link_roster roster;
static struct link *L1;
static struct holder_end holder[HOLDERS];
static struct keyring *keys;
static unsigned n_tubes, n_snapshots, n_adopted, n_news;
static uint64_t told; /* by on_acked() */
static struct flow_key claimed;
static unsigned n_claimed;
static bool claimed_all;
static uint32_t refused, let_go;
static unsigned refused_at;
static uint64_t told_when_refused;
static uint32_t n_large; /* flows of a snapshot; 0: the one */

struct link_roster *
takeover_roster(struct takeover *t)
{
    return &roster;
}

/* --- the worker --------------------------------------------------------------------------------
 */

static void
on_acked(void *arg, uint64_t ticket)
{
    assert_true(ticket > told);
    told = ticket;
}

static struct wire_frame
frame(enum wire_kind kind)
{
    return (struct wire_frame){.kind = kind, .flow = 3};
}

/* One flow, that has closed meanwhile: CLOSE is the smallest frame there is.  Or many large ones.
 */
static bool
on_snapshot(void *arg, uint32_t flow)
{
    static const char bytes[WIRE_BYTES_MAX];
    struct wire_frame f = frame(WIRE_BARE);

    n_snapshots += flow == 0;
    if (n_large > 0)
        f = (struct wire_frame){
            .kind = WIRE_IN, .flow = flow, .u.in.bytes = {bytes, sizeof(bytes)}};
    if (n_large > 0 ? flow < n_large : flow == 3)
        link_tell(L1, &f);
    return flow < (n_large > 0 ? n_large : 4);
}

static void
on_refused(void *arg, uint32_t flow, unsigned place)
{
    refused = flow;
    refused_at = place;
    told_when_refused = told;
}

static void
on_let_go(void *arg, unsigned place)
{
    let_go |= 1u << place;
}

static void
on_adopted(void *arg, struct adopted **a)
{
    n_adopted++;
    adopted_free(a);
}

static void
on_claimed(void *arg, const struct flow_key *k, unsigned n)
{
    claimed_all |= k == NULL;
    n_claimed += n;
    if (n > 0)
        claimed = k[n - 1];
}

static uint64_t
say(enum wire_kind kind)
{
    struct wire_frame f = frame(kind);

    return link_put(L1, &f);
}

static void
on_news(void *arg)
{
    n_news++;
}

/* --- holders -----------------------------------------------------------------------------------
 */

static void
acknowledge(struct holder_end *h, uint64_t frames)
{
    struct wire_frame f = {.kind = WIRE_ACK, .u.ack.frames = frames};

    wire_put(tube_put_begin(h->tube), &f);
    tube_put_end(h->tube);
}

static char
letter(enum wire_kind kind)
{
    switch (kind) {
    case WIRE_HELLO: return 'h';
    case WIRE_BARE: return 'b';
    case WIRE_SNAPSHOT: return 's';
    case WIRE_SENT: return 'S';
    case WIRE_CLOSE: return 'c';
    case WIRE_IN: return 'i';
    default: return '?';
    }
}

static void
holder_ready(struct tube *t)
{
}

static void
holder_record(struct tube *t, const uint8_t *p, size_t n)
{
    struct holder_end *h = t->owner;
    struct pack_in in = {.p = p, .n = n};
    struct wire_frame f;
    uint64_t unknown = 0;

    while (wire_get(&in, &f, &unknown) == WIRE_FRAME)
        h->kinds[h->n++ % sizeof(h->kinds)] = letter(f.kind);
    if (!h->mute)
        acknowledge(h, h->n);
}

static void
holder_broken(struct tube *t, const char *why)
{
    struct holder_end *h = t->owner;

    tube_close(&h->tube);
}

static const struct tube_ops holder_end_ops = {holder_ready, holder_record, holder_broken};

static void
holder_accept(struct sock *s, int fd)
{
    struct holder_end *h = container_of(end_of(s), struct holder_end, door);

    tube_close(&h->tube);
    memset(h->kinds, 0, sizeof(h->kinds));
    h->n = 0;
    h->tube = tube_accept(L, keys, fd, 10 * MC_SEC, &holder_end_ops, h, &n_tubes);
}

static const struct sock_ops door_ops = {.on_accept = holder_accept, .on_closed = end_closed};

/* --- the thread --------------------------------------------------------------------------------
 */

/* The first n of them, chosen with these epochs. */
static void
choose(unsigned n, const uint32_t epoch[])
{
    struct link_holders hs = {0};

    for (unsigned i = 0; i < n; i++)
        if (epoch[i] != 0)
            hs.v[hs.n++] = (struct link_holder){
                .who = {.id = i + 1, .boot = 9}, .epoch = epoch[i], .addr = holder[i].at};
    link_post_holders(&roster, &hs);
}

#define CHOOSE(...) choose(MC_COUNT(((uint32_t[]){__VA_ARGS__})), (uint32_t[]){__VA_ARGS__})

static int
setup(void **state)
{
    static const struct link_hooks hooks = {.on_acked = on_acked,
                                            .on_snapshot = on_snapshot,
                                            .on_refused = on_refused,
                                            .on_let_go = on_let_go,
                                            .on_adopted = on_adopted,
                                            .on_claimed = on_claimed};
    struct errbuf e;

    loop_setup(state);
    memset(&holder, 0, sizeof(holder));
    memset(&roster, 0, sizeof(roster));
    n_tubes = n_snapshots = n_adopted = n_news = n_claimed = n_large = 0;
    told = 0;
    let_go = 0;
    claimed_all = false;
    keys = keyring_new_null();
    for (unsigned i = 0; i < HOLDERS; i++) {
        sock_open(&holder[i].door.s, L, listen_on(&holder[i].at), &door_ops);
        sock_accept(&holder[i].door.s, true);
    }
    roster.self = (struct life){.id = 77, .boot = 1};
    roster.on_news = on_news;
    link_roster_init(&roster);
    roster.silent_ns = 10 * MC_SEC; /* machines are slow; who tests silence has less */
    L1 = link_new(NULL, 0, L, &hooks, &e);
    assert_non_null(L1);
    return 0;
}

static int
teardown(void **state)
{
    link_close(L1);
    for (unsigned i = 0; i < HOLDERS; i++) {
        tube_close(&holder[i].tube);
        sock_close(&holder[i].door.s, false);
        UNTIL(holder[i].door.n_closed == 1);
    }
    UNTIL(link_is_gone(L1) && n_tubes == 0);
    link_free(&L1);
    link_roster_fini(&roster);
    keyring_free(&keys);
    return loop_teardown(state);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

/* --- tests -------------------------------------------------------------------------------------
 */

static void
without_a_holder_nobody_is_waited_for(void **state)
{
    assert_int_equal(say(WIRE_CLOSE), 1);
    assert_int_equal(say(WIRE_CLOSE), 2);
    assert_int_equal(link_acked(L1), 2);
    assert_true(life_is_none(link_heir(L1, 0)));
    assert_false(link_expects_heir(L1));
    settle();
    assert_int_equal(told, 0);
}

static void
a_new_holder_is_told_all_flows_and_then_every_frame(void **state)
{
    say(WIRE_CLOSE);
    CHOOSE(5);
    UNTIL(link_is_synced(&roster, 5));
    assert_int_equal(n_snapshots, 1);
    assert_false(life_is_none(link_heir(L1, 0)));
    say(WIRE_SENT);
    say(WIRE_CLOSE);
    UNTIL(told == 3);
    assert_string_equal(holder[0].kinds, "hbsSc");
    assert_int_equal(stat_get(&link_stats(L1)->frames), 3);
}

/* More than may wait for a holder: it is told so much as it has taken. */
static void
a_large_snapshot_goes_as_it_is_taken(void **state)
{
    const struct wire_frame first = {.kind = WIRE_CLOSE, .flow = 0};
    struct wire_frame last = {.kind = WIRE_CLOSE};
    unsigned piece;

    n_large = TUBE_WAITING_MAX / WIRE_BYTES_MAX + 100;
    last.flow = n_large - 1;
    holder[0].mute = true;
    CHOOSE(5);
    UNTIL(holder[0].n > 1);
    settle();
    piece = holder[0].n;
    assert_in_range(piece, 2, 100);
    link_put(L1, &last); /* it will not be told of that one, since there is none any more */
    settle();
    assert_int_equal(holder[0].n, piece);
    link_put(L1, &first);
    UNTIL(holder[0].n == piece + 1);
    assert_true(life_is_none(link_heir(L1, 0)));
    holder[0].mute = false;
    acknowledge(&holder[0], holder[0].n);
    UNTIL(link_is_synced(&roster, 5) || link_is_lost(&roster, 5));
    assert_false(link_is_lost(&roster, 5));
    assert_int_equal(holder[0].n, n_large + 3); /* HELLO, CLOSE, SNAPSHOT */
    assert_int_equal(link_put(L1, &last), 3);
    UNTIL(told == 3);
    assert_int_equal(n_snapshots, 1);
}

static void
a_ticket_waits_for_its_acknowledgement(void **state)
{
    CHOOSE(5);
    UNTIL(link_is_synced(&roster, 5));
    holder[0].mute = true;
    say(WIRE_SENT);
    say(WIRE_CLOSE);
    UNTIL(holder[0].n == 5);
    assert_int_equal(link_acked(L1), 0);
    acknowledge(&holder[0], 4);
    UNTIL(told == 1);
    assert_int_equal(link_acked(L1), 1);
    acknowledge(&holder[0], 5);
    UNTIL(told == 2);
}

static void
what_is_not_kept_is_known_before_it_is_acknowledged(void **state)
{
    const struct wire_frame f = {.kind = WIRE_REFUSED, .flow = 12};

    CHOOSE(5);
    UNTIL(link_is_synced(&roster, 5));
    holder[0].mute = true;
    say(WIRE_SENT);
    UNTIL(holder[0].n == 4);
    wire_put(tube_put_begin(holder[0].tube), &f);
    tube_put_end(holder[0].tube);
    acknowledge(&holder[0], 4);
    UNTIL(told == 1);
    assert_int_equal(refused, 12);
    assert_int_equal(told_when_refused, 0);
}

static void
a_refusal_says_whose_it_is(void **state)
{
    const struct wire_frame f = {.kind = WIRE_REFUSED, .flow = 12};
    struct life other = {.id = 1, .boot = 9};

    CHOOSE(5, 6);
    UNTIL(link_is_synced(&roster, 5) && link_is_synced(&roster, 6));
    refused = 0;
    wire_put(tube_put_begin(holder[1].tube), &f);
    tube_put_end(holder[1].tube);
    UNTIL(refused == 12);
    assert_int_equal(link_keepers(L1), 3);
    assert_true(link_is_at(L1, (struct life){.id = 2, .boot = 9}, refused_at));
    assert_true(life_eq(link_heir(L1, 1u << refused_at), other));
    assert_true(life_is_none(link_heir(L1, 3)));
    CHOOSE(5);
    UNTIL(let_go != 0);
    assert_int_equal(let_go, 1u << refused_at);
    assert_int_equal(link_keepers(L1), 3 & ~let_go);
}

static void
all_holders_are_waited_for(void **state)
{
    CHOOSE(5, 6);
    UNTIL(link_is_synced(&roster, 5) && link_is_synced(&roster, 6));
    holder[1].mute = true;
    say(WIRE_SENT);
    UNTIL(holder[0].n == 4 && holder[1].n == 4);
    settle();
    assert_int_equal(link_acked(L1), 0);
    acknowledge(&holder[1], 4);
    UNTIL(told == 1);
}

static void
who_was_let_go_is_waited_for_no_longer(void **state)
{
    CHOOSE(5, 6);
    UNTIL(link_is_synced(&roster, 5) && link_is_synced(&roster, 6));
    holder[1].mute = true;
    say(WIRE_SENT);
    UNTIL(holder[0].n == 4);
    CHOOSE(5);
    UNTIL(told == 1);
    UNTIL(holder[1].tube == NULL);
    assert_false(link_is_synced(&roster, 6));
}

static void
who_is_chosen_again_is_told_again(void **state)
{
    CHOOSE(5);
    UNTIL(link_is_synced(&roster, 5));
    say(WIRE_SENT);
    CHOOSE(7);
    UNTIL(link_is_synced(&roster, 7));
    assert_int_equal(n_snapshots, 2);
    assert_string_equal(holder[0].kinds, "hbs");
    say(WIRE_CLOSE);
    UNTIL(told == 2);
    assert_string_equal(holder[0].kinds, "hbsc");
}

static void
who_leaves_is_waited_for_and_handed_nothing_over(void **state)
{
    struct link_holders hs = {.n = 1};

    CHOOSE(5);
    UNTIL(link_expects_heir(L1));
    UNTIL(link_is_synced(&roster, 5));
    assert_int_equal(link_heir(L1, 0).id, 1);
    hs.v[0] = roster.holders.v[0];
    hs.v[0].leaving = true;
    link_post_holders(&roster, &hs);
    UNTIL(!link_expects_heir(L1));
    assert_true(life_is_none(link_heir(L1, 0)));
    holder[0].mute = true;
    say(WIRE_SENT);
    assert_int_equal(link_acked(L1), 0);
}

static void
a_broken_connection_is_told_and_still_waited_for(void **state)
{
    CHOOSE(5);
    UNTIL(link_is_synced(&roster, 5));
    holder[0].mute = true;
    say(WIRE_SENT);
    tube_close(&holder[0].tube);
    UNTIL(link_is_lost(&roster, 5));
    say(WIRE_CLOSE);
    settle();
    assert_int_equal(link_acked(L1), 0);
    CHOOSE(0);
    UNTIL(told == 2);
}

static void
a_holder_that_falls_silent_is_lost(void **state)
{
    roster.silent_ns = LINK_SILENT_NS;
    CHOOSE(5);
    UNTIL(stat_get(&link_stats(L1)->snapshots) == 1 || link_is_lost(&roster, 5));
    holder[0].mute = true;
    say(WIRE_SENT);
    UNTIL(link_is_lost(&roster, 5));
}

static void
who_acknowledges_more_than_was_said_is_lost(void **state)
{
    CHOOSE(5);
    UNTIL(link_is_synced(&roster, 5));
    acknowledge(&holder[0], 400);
    UNTIL(link_is_lost(&roster, 5));
}

static void
who_cannot_be_connected_to_is_lost(void **state)
{
    roster.silent_ns = LINK_SILENT_NS;
    sock_accept(&holder[0].door.s, false); /* the kernel answers, and nobody behind it */
    CHOOSE(5);
    UNTIL(link_is_lost(&roster, 5));
    assert_true(life_is_none(link_heir(L1, 0)));
    say(WIRE_CLOSE);
    assert_int_equal(link_acked(L1), 1);
}

static void
what_was_claimed_is_let_go_before_that_is_said(void **state)
{
    struct flow_key keys_of[2] = {{.local_port = 1}, {.local_port = 2}};

    UNTIL(link_claims_done(&roster));
    link_post_claimed(&roster, keys_of, 2);
    assert_false(link_claims_done(&roster));
    UNTIL(link_claims_done(&roster));
    assert_int_equal(n_claimed, 2);
    assert_memory_equal(&claimed, &keys_of[1], sizeof(claimed));
    assert_false(claimed_all);
    link_post_claimed(&roster, NULL, 0);
    UNTIL(link_claims_done(&roster));
    assert_true(claimed_all);
}

static struct adopted *
some_adopted(void)
{
    struct adopted *a = mc_alloc(sizeof(*a));

    a->fd = -1;
    return a;
}

static void
what_was_rebuilt_reaches_a_worker(void **state)
{
    struct adopted *a = some_adopted(), *b = some_adopted();

    assert_true(link_post_adopted(&roster, &a));
    assert_null(a);
    UNTIL(n_adopted == 1);
    link_close(L1);
    assert_false(link_post_adopted(&roster, &b));
    assert_non_null(b);
    adopted_free(&b);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(without_a_holder_nobody_is_waited_for),
        TEST(a_new_holder_is_told_all_flows_and_then_every_frame),
        TEST(a_large_snapshot_goes_as_it_is_taken),
        TEST(a_ticket_waits_for_its_acknowledgement),
        TEST(what_is_not_kept_is_known_before_it_is_acknowledged),
        TEST(a_refusal_says_whose_it_is),
        TEST(all_holders_are_waited_for),
        TEST(who_was_let_go_is_waited_for_no_longer),
        TEST(who_is_chosen_again_is_told_again),
        TEST(who_leaves_is_waited_for_and_handed_nothing_over),
        TEST(a_broken_connection_is_told_and_still_waited_for),
        TEST(a_holder_that_falls_silent_is_lost),
        TEST(who_acknowledges_more_than_was_said_is_lost),
        TEST(who_cannot_be_connected_to_is_lost),
        TEST(what_was_claimed_is_let_go_before_that_is_said),
        TEST(what_was_rebuilt_reaches_a_worker),
    };

    return RUN_ON_BOTH(tests);
}
