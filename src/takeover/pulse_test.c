/* SPDX-License-Identifier: BSD-2-Clause
 *
 * pulse_test.c - what peers.h decides, put into the world; and what comes from there, which may be
 * anything.
 *
 * Decisions (peers_test.c), sockets and workers are this file's own; sealing and frames are real.
 */
#include "cluster/seal.h"
#include "io/harness.h"
#include "takeover/takeover_priv.h"

static const struct life us = {100, 1}, lb2 = {2, 20}, lb2_again = {2, 21}, lb3 = {3, 30};

static struct takeover T;
static struct guard_state state_of_guard;
static struct guard the_guard = {.state = &state_of_guard};
static struct peers_conf told; /* what peers_new() was given */
static dgram_f *heard_by;
static struct keyring *keys_of_2;
static unsigned n_sent;
static struct wire_beat last_beat;
static struct link_holders holders;
static unsigned n_beats_in, n_ticks, n_begun, n_ended, n_probed, n_forgotten, n_put, n_claimed_all,
    n_lost, n_synced, n_resynced, n_voided, n_alive_told, n_dead_told, n_fit, n_unfit;
static struct life resynced;
static uint32_t lost_epoch, synced_epochs; /* by bits */
static bool claims_done, drop_first;
static struct life leaver;

/* --- what is decided ----------------------------------------------------------------------------
 */

struct peers *
peers_new(const struct peers_conf *c, mc_ns now)
{
    told = *c;
    return NULL;
}

void
peers_free(struct peers **p)
{
}

mc_ns
peers_tick(struct peers *p, mc_ns now)
{
    n_ticks++;
    return now + 20 * MC_MS;
}

void
peers_hear(struct peers *p, const struct wire_beat *b, mc_ns now)
{
    n_beats_in++;
    last_beat = *b;
}

mc_ns
peers_lease(const struct peers *p)
{
    return 777;
}

struct life
peers_heir(const struct peers *p, mc_ns now)
{
    return lb2;
}

const char *
peers_why(const struct peers *p, mc_ns now)
{
    return "it is cut off";
}

void
peers_witness(struct peers *p, mc_ns now)
{
}

/* It is let go, and another is chosen in its place. */
void
peers_line_lost(struct peers *p, struct life who, uint32_t epoch, mc_ns now)
{
    n_lost++;
    told.on_holder(&T, who, epoch, false);
    told.on_holder(&T, lb3, 9, true);
}

void
peers_line_synced(struct peers *p, struct life who, uint32_t epoch, mc_ns now)
{
    n_synced++;
    if (drop_first) { /* the one before is not needed any more */
        drop_first = false;
        told.on_holder(&T, lb2, 5, false);
    }
}

void
peers_gave(struct peers *p, struct life owner, mc_ns now)
{
}

void
peers_resynced(struct peers *p, struct life who, uint64_t nonce, uint64_t seq, mc_ns now)
{
    n_resynced++;
    resynced = who;
}

void
peers_voided(struct peers *p, mc_ns now)
{
    n_voided++;
}

void
peers_set_members(struct peers *p, const uint64_t *ids, unsigned n, mc_ns now)
{
}

void
peers_pass(struct peers *p, enum peers_pass pass, mc_ns now)
{
}

bool
peers_is_leaving(const struct peers *p, struct life who)
{
    return life_eq(who, leaver);
}

bool
peers_has_passed(const struct peers *p)
{
    return true;
}

/* --- the world ----------------------------------------------------------------------------------
 */

struct witness *
witness_open(const struct addr *addrs, unsigned n, const char *const *interfaces, unsigned n_i,
             struct errbuf *e)
{
    static char it;

    return (struct witness *)&it;
}

void
witness_close(struct witness **w)
{
}

unsigned
witness_count(struct witness *w)
{
    return 1;
}

void
witness_start(struct witness *w, struct loop *l, void (*fn)(void *arg), void *arg)
{
}

void
witness_stop(struct witness *w)
{
}

void
witness_ask(struct witness *w)
{
}

struct dgram *
dgram_new(struct loop *l, const struct dgram_conf *c, struct errbuf *e)
{
    static char it;

    heard_by = c->fn;
    return (struct dgram *)&it;
}

void
dgram_free(struct dgram **d)
{
    *d = NULL;
}

int
dgram_fd(const struct dgram *d)
{
    return -1;
}

void
dgram_listen(struct dgram *d, bool on)
{
}

/* The other end opens it. */
void
dgram_send(struct dgram *d, const struct addr *to, const void *p, size_t n)
{
    uint8_t copy[SEAL_DATAGRAM_MAX], boot[KEYRING_BOOT_BYTES];
    struct str plain;

    memcpy(copy, p, n);
    n_sent++;
    assert_int_equal(seal_open_datagram(keys_of_2, loop_now(L), copy, n, &plain, boot),
                     SEAL_F_NONE);
    assert_int_equal(plain.p[0], WIRE_BEAT);
}

struct member *
member_of(struct takeover *t, uint64_t id)
{
    for (unsigned i = 0; i < 2; i++)
        if (t->member[i].id == id)
            return &t->member[i];
    return NULL;
}

unsigned
member_place(const struct member *m)
{
    return (unsigned)(m - T.member);
}

void
dial_begin(struct member *m)
{
    n_begun++;
}

void
dial_end(struct member *m)
{
    assert_false(m->alive);
    n_ended++;
}

bool
dial_leaving(struct member *m, bool leaving)
{
    bool news = m->leaving != leaving;

    m->leaving = leaving;
    return news;
}

bool
dial_put(struct member *m, const struct wire_frame *f)
{
    assert_int_equal(f->kind, WIRE_RESYNC);
    n_put++;
    return true;
}

void
adopt_probe(struct takeover *t, struct life who)
{
    n_probed++;
}

void
adopt_forget(struct takeover *t, struct life who)
{
    n_forgotten++;
}

bool
adopt_is_busy(const struct takeover *t)
{
    return false;
}

void
link_post_holders(struct link_roster *r, const struct link_holders *hs)
{
    holders = *hs;
}

void
link_post_claimed(struct link_roster *r, const struct flow_key *keys, unsigned n)
{
    assert_null(keys);
    n_claimed_all++;
}

bool
link_claims_done(struct link_roster *r)
{
    return claims_done;
}

bool
link_is_lost(struct link_roster *r, uint32_t epoch)
{
    return epoch == lost_epoch;
}

bool
link_is_synced(struct link_roster *r, uint32_t epoch)
{
    return synced_epochs >> epoch & 1;
}

static void
on_fit(void *arg, bool fit, const char *why)
{
    n_fit += fit;
    n_unfit += !fit;
    assert_true(fit == (why[0] == '\0'));
}

static void
on_peer(void *arg, uint64_t id, bool alive)
{
    n_alive_told += alive;
    n_dead_told += !alive;
}

static enum owner_word
owner(void *arg, struct life who, uint32_t epoch)
{
    return OWNER_DEAD;
}

/* --- the stage ----------------------------------------------------------------------------------
 */

static int
setup(void **state)
{
    const struct takeover_conf conf = {.replicas = 1};
    const struct replica_conf store = {.owner = owner};
    struct errbuf e;

    loop_setup(state);
    loop_turn(L, 0);
    T = (struct takeover){.magic = TAKEOVER_MAGIC,
                          .self = us,
                          .loop = L,
                          .guard = &the_guard,
                          .udp = -1,
                          .tcp = -1,
                          .on_fit = on_fit,
                          .on_peer = on_peer};
    pthread_mutex_init(&T.lock, NULL);
    T.keys = keyring_new_null();
    keys_of_2 = keyring_new_null();
    n_sent = 0;
    T.store = replica_store_new(&store);
    T.member[0] = (struct member){.takeover = &T, .id = 2, .placed = true};
    T.member[1] = (struct member){.takeover = &T, .id = 3};
    n_beats_in = n_ticks = n_begun = n_ended = n_probed = n_forgotten = n_put = 0;
    n_claimed_all = n_lost = n_synced = n_resynced = n_voided = 0;
    n_alive_told = n_dead_told = n_fit = n_unfit = 0;
    lost_epoch = synced_epochs = 0;
    claims_done = true;
    drop_first = false;
    leaver = (struct life){0};
    holders.n = 0;
    assert_int_equal(pulse_open(&T, &conf, &e), MC_OK);
    pulse_start(&T);
    return 0;
}

static int
teardown(void **state)
{
    pulse_close(&T);
    replica_store_free(&T.store);
    keyring_free(&T.keys);
    keyring_free(&keys_of_2);
    pthread_mutex_destroy(&T.lock);
    return loop_teardown(state);
}

/* n bytes that a peer has sealed. */
static void
hear(const void *plain, size_t n)
{
    uint8_t sealed[SEAL_DATAGRAM_MAX];

    heard_by(&T, &T.member[0].addr, sealed, seal_datagram(keys_of_2, plain, n, sealed));
}

static void
hear_beat(void)
{
    const struct wire_beat b = {.n = 1, .life = {{.who = lb2, .seq = 44}}};
    struct buf beat = {0};

    wire_put_beat(&beat, &b);
    hear(beat.p, beat.n);
    buf_free(&beat);
}

/* --- tests: beats -------------------------------------------------------------------------------
 */

static void
beats_go_out_and_come_in(void **state)
{
    const struct wire_beat b = {.to_boot = 5, .n = 1, .life = {{.who = us, .seq = 44}}};

    told.send(&T, 2, &b);
    assert_int_equal(n_sent, 1);
    told.send(&T, 77, &b); /* who has left meanwhile */
    assert_int_equal(n_sent, 1);
    hear_beat();
    assert_int_equal(n_beats_in, 1);
    assert_int_equal(last_beat.life[0].seq, 44);
    assert_int_equal(state_of_guard.lease_until_ns, 777);
    assert_int_equal(state_of_guard.heir, 0);
}

static void
what_is_no_beat_is_counted_and_changes_nothing(void **state)
{
    const struct wire_beat b = {.n = 1, .life = {{.who = us, .seq = 44}}};
    const struct wire_frame ask = {.kind = WIRE_ASK};
    struct buf beat = {0}, other = {0};
    uint8_t raw[64] = {1, 2, 3};

    wire_put_beat(&beat, &b);
    wire_put(&other, &ask);
    for (size_t n = 0; n < beat.n; n++)
        hear(beat.p, n);
    hear(other.p, other.n);
    for (size_t n = 0; n <= sizeof(raw); n++)
        heard_by(&T, &T.member[0].addr, raw, n); /* not even sealed */
    assert_int_equal(n_beats_in, 0);
    assert_int_equal(stat_get(&T.stats.refused), beat.n + 1 + sizeof(raw) + 1);
    hear(beat.p, beat.n);
    assert_int_equal(n_beats_in, 1);
    buf_free(&beat);
    buf_free(&other);
}

/* --- tests: lives -------------------------------------------------------------------------------
 */

static void
a_life_is_called_and_let_go(void **state)
{
    struct member *m = &T.member[0];

    told.on_life(&T, lb2, true);
    assert_true(m->alive && life_eq(m->life, lb2));
    assert_int_equal(n_begun, 1);
    told.on_life(&T, lb2_again, true); /* it was not found dead before it began anew */
    assert_int_equal(n_ended, 1);
    assert_int_equal(n_begun, 2);
    told.on_life(&T, lb2, false); /* that is history by now */
    assert_true(m->alive);
    assert_int_equal(n_ended, 1);
    told.on_life(&T, lb2_again, false);
    assert_false(m->alive);
    assert_int_equal(n_ended, 2);
    told.on_life(&T, (struct life){77, 7}, true); /* is no member any more */
    assert_int_equal(n_begun, 2);
    assert_int_equal(n_alive_told, 2);
    assert_int_equal(n_dead_told, 1);
    assert_int_equal(n_probed, 0); /* nothing is held of it */
    assert_int_equal(n_forgotten, 2);
}

static void
who_leaves_reports_nobody_dead(void **state)
{
    told.on_life(&T, lb2, true);
    T.leaving = true;
    told.on_life(&T, lb2, false);
    assert_int_equal(n_dead_told, 0);
    assert_int_equal(n_ended, 1);
}

/* --- tests: holders -----------------------------------------------------------------------------
 */

static void
workers_hear_who_holds(void **state)
{
    told.on_holder(&T, lb2, 5, true);
    told.on_holder(&T, lb3, 6, true);
    assert_int_equal(holders.n, 2);
    told.on_holder(&T, lb2, 5, false);
    assert_int_equal(holders.n, 1);
    assert_int_equal(holders.v[0].epoch, 6);
    assert_int_equal(holders.v[0].guard_peer, 1);
    told.on_holder(&T, lb2, 5, false); /* twice */
    told.on_holder(&T, (struct life){77, 7}, 8, true);
    assert_int_equal(holders.n, 1);
}

/* At once: what is given to who leaves may be lost with it. */
static void
workers_hear_who_leaves(void **state)
{
    told.on_life(&T, lb2, true);
    told.on_holder(&T, lb2, 5, true);
    assert_false(holders.v[0].leaving);
    leaver = lb2;
    hear_beat();
    assert_true(holders.v[0].leaving);
    assert_true(T.member[0].leaving);
    leaver = (struct life){0};
    hear_beat();
    assert_false(holders.v[0].leaving);
}

static void
each_line_is_told_of_once(void **state)
{
    told.on_holder(&T, lb2, 5, true);
    told.on_holder(&T, lb3, 6, true);
    synced_epochs = 1u << 5 | 1u << 6;
    pulse_news(&T);
    pulse_news(&T);
    assert_int_equal(n_synced, 2);
    lost_epoch = 6;
    pulse_news(&T);
    assert_int_equal(n_lost, 1);
    assert_int_equal(holders.n, 2); /* another in its place */
    pulse_news(&T);
    assert_int_equal(n_lost, 1);
    synced_epochs |= 1u << 9;
    pulse_news(&T);
    assert_int_equal(n_synced, 3);
}

/* The list moves up while it is looked at: nobody says again that the last in it is ready. */
static void
no_line_is_passed_over_when_one_goes(void **state)
{
    told.on_holder(&T, lb2, 5, true);
    told.on_holder(&T, lb3, 6, true);
    drop_first = true;
    synced_epochs = 1u << 5 | 1u << 6;
    pulse_news(&T);
    assert_int_equal(n_synced, 2);
    assert_int_equal(holders.n, 1);
}

/* --- tests: what was taken ----------------------------------------------------------------------
 */

static void
who_gave_flows_away_is_asked_until_it_has_answered(void **state)
{
    struct member *m = &T.member[0];

    told.on_life(&T, lb2, true);
    told.on_resync(&T, lb2_again, 9); /* a life that is not there */
    assert_int_equal(n_put, 0);
    told.on_resync(&T, lb2, 9);
    told.on_resync(&T, lb2, 9); /* again, each beat */
    assert_int_equal(n_put, 2);
    m->resync.answered = true;
    claims_done = false;
    told.on_resync(&T, lb2, 9);
    assert_int_equal(n_put, 2);
    pulse_news(&T);
    assert_int_equal(n_resynced, 0); /* the flows are not gone yet */
    claims_done = true;
    pulse_news(&T);
    pulse_news(&T);
    assert_int_equal(n_resynced, 1);
    assert_true(life_eq(resynced, lb2));
    assert_int_equal(m->resync.nonce, 0);
}

static void
all_that_must_be_taken_for_taken_is_dropped_first(void **state)
{
    claims_done = false;
    told.on_void(&T);
    assert_int_equal(n_claimed_all, 1);
    pulse_news(&T);
    assert_int_equal(n_voided, 0);
    claims_done = true;
    pulse_news(&T);
    pulse_news(&T);
    assert_int_equal(n_voided, 1);
}

static void
who_is_fenced_or_new_attracts_nobody(void **state)
{
    told.on_fit(&T, true);
    assert_int_equal(n_unfit, 1); /* it has not found its peers yet */
    T.settled = true;
    told.on_fit(&T, true);
    assert_int_equal(n_fit, 1);
    told.on_fit(&T, false);
    assert_int_equal(n_unfit, 2);
}

static void
time_goes_on_without_beats(void **state)
{
    const unsigned before = n_ticks;

    UNTIL(n_ticks > before + 2);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(beats_go_out_and_come_in),
        TEST(what_is_no_beat_is_counted_and_changes_nothing),
        TEST(a_life_is_called_and_let_go),
        TEST(who_leaves_reports_nobody_dead),
        TEST(workers_hear_who_holds),
        TEST(workers_hear_who_leaves),
        TEST(each_line_is_told_of_once),
        TEST(no_line_is_passed_over_when_one_goes),
        TEST(who_gave_flows_away_is_asked_until_it_has_answered),
        TEST(all_that_must_be_taken_for_taken_is_dropped_first),
        TEST(who_is_fenced_or_new_attracts_nobody),
        TEST(time_goes_on_without_beats),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
