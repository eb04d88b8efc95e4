/* SPDX-License-Identifier: BSD-2-Clause
 *
 * replica_store_test.c - what a holder keeps of whom, and to whom it gives it.
 */
#include "takeover/replica.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct life us = {1, 10}, lb2 = {2, 20}, lb3 = {3, 30}, none = {0, 0};
static enum owner_word word_of_2, word_of_3;
static struct replica_store *s;
static mc_ns now;

static enum owner_word
owner(void *arg, struct life who, uint32_t epoch)
{
    enum owner_word word = who.id == 2 ? word_of_2 : who.id == 3 ? word_of_3 : OWNER_ALIVE;

    if (who.id == 2 && word == OWNER_DEAD && epoch != 7)
        return OWNER_STALE;
    return word;
}

static int
begin(void **state)
{
    struct replica_conf conf = {.self = us,
                                .flows_max = 1000,
                                .lines_max = 4,
                                .claims_max = 8,
                                .total_bytes = 1 << 20,
                                .owner = owner};

    word_of_2 = word_of_3 = OWNER_ALIVE;
    now = MC_SEC;
    s = replica_store_new(&conf);
    return 0;
}

static int
end(void **state)
{
    replica_store_free(&s);
    return 0;
}

static struct flow_key
key(unsigned i)
{
    return (struct flow_key){.local = {1}, .remote = {2, (uint8_t)(i >> 8), (uint8_t)i}};
}

static enum replica_fault
say(struct replica_line *l, struct wire_frame f)
{
    struct buf b = {0};
    enum replica_fault fault;

    wire_put(&b, &f);
    fault = replica_line_read(l, (struct str){b.p, b.n}, now);
    buf_free(&b);
    return fault;
}

static void
good(struct replica_line *l, struct wire_frame f)
{
    assert_string_equal(replica_fault_text(say(l, f)), replica_fault_text(REPLICA_F_NONE));
}

static struct replica_line *
line(struct life who, uint32_t epoch)
{
    struct replica_line *l = replica_line_new(s, now);

    assert_non_null(l);
    good(l, (struct wire_frame){.kind = WIRE_HELLO, .u.hello = {0, who, 0, epoch}});
    return l;
}

static void
synced(struct replica_line *l)
{
    good(l, (struct wire_frame){.kind = WIRE_SNAPSHOT});
}

static void
flow(struct replica_line *l, unsigned i)
{
    struct wire_frame f = {.kind = WIRE_OPEN, .flow = i, .u.open.params.mss = 1448};

    f.u.open.key = key(i);
    good(l, f);
}

static void
input(struct replica_line *l, unsigned i, const char *bytes)
{
    good(l, (struct wire_frame){.kind = WIRE_IN, .flow = i, .u.in = {0, str_of(bytes)}});
}

static struct replica_found
find(unsigned i, struct life asker)
{
    struct replica_found found;
    struct flow_key k = key(i);

    replica_find(s, &k, asker, &found);
    return found;
}

static void
assert_whose(unsigned i, enum replica_whose whose, struct life who)
{
    struct replica_found f = find(i, lb3);

    assert_int_equal(f.whose, whose);
    if (whose != REPLICA_UNKNOWN)
        assert_true(life_eq(f.who, who));
    assert_int_equal(whose == REPLICA_FREE, f.replica != NULL);
}

/* ------------------------------------------------------------------------------------------------
 */

static void
a_flow_is_its_owners_until_that_is_dead(void **state)
{
    struct replica_line *l = line(lb2, 7);

    assert_whose(5, REPLICA_UNKNOWN, none);
    synced(l);
    flow(l, 5);
    input(l, 5, "GET /");
    assert_whose(5, REPLICA_ALIVE, lb2);
    word_of_2 = OWNER_DEAD;
    assert_whose(5, REPLICA_FREE, lb2);
    assert_int_equal(find(5, lb3).replica->in.n, 5);
    word_of_2 = OWNER_ALIVE;
    good(l, (struct wire_frame){.kind = WIRE_CLOSE, .flow = 5});
    assert_whose(5, REPLICA_UNKNOWN, none);
    assert_int_equal(replica_stats(s)->flows, 0);
    assert_int_equal(replica_stats(s)->bytes, 0);
    assert_int_equal(replica_line_frames(l), 5);
}

static void
half_a_snapshot_is_not_believed(void **state)
{
    struct replica_line *l = line(lb2, 7);

    flow(l, 5);
    word_of_2 = OWNER_DEAD;
    assert_whose(5, REPLICA_UNKNOWN, none);
    synced(l);
    assert_whose(5, REPLICA_FREE, lb2);
}

static void
a_line_of_another_epoch_is_not_believed(void **state)
{
    struct replica_line *l = line(lb2, 6);

    synced(l);
    flow(l, 5);
    word_of_2 = OWNER_DEAD;
    assert_whose(5, REPLICA_UNKNOWN, none);
}

static void
a_newer_snapshot_replaces_what_was_told_before(void **state)
{
    struct replica_line *ended = line(lb2, 7), *old = line(lb2, 7), *l;

    synced(ended);
    flow(ended, 4);
    replica_line_end(&ended, now);
    synced(old);
    flow(old, 5);
    flow(old, 6);
    assert_whose(4, REPLICA_UNKNOWN, none);
    l = line(lb2, 7);
    flow(l, 5);
    assert_int_equal(replica_count(s, lb2), 3);
    synced(l);
    assert_int_equal(replica_count(s, lb2), 1);
    word_of_2 = OWNER_DEAD;
    assert_whose(6, REPLICA_UNKNOWN, none);
    assert_whose(5, REPLICA_FREE, lb2);
    assert_int_equal(say(old, (struct wire_frame){.kind = WIRE_CLOSE, .flow = 6}), REPLICA_F_ORDER);
    assert_int_equal(replica_stats(s)->superseded, 3);
}

static void
what_was_given_is_whose_it_was_given_to(void **state)
{
    struct replica_line *l = line(lb2, 7);
    struct replica_found f;
    struct flow_key k;
    size_t at = 0;

    synced(l);
    flow(l, 5);
    flow(l, 6);
    word_of_2 = OWNER_DEAD;
    f = find(5, lb3);
    assert_true(life_eq(replica_give(s, f.replica, lb3, now), lb2));
    /* the answer was lost: it asks again */
    f = find(5, lb3);
    assert_int_equal(f.whose, REPLICA_FREE);
    assert_true(life_eq(f.who, lb2));
    assert_true(life_eq(replica_give(s, f.replica, lb3, now), lb2));
    /* another hears who has it */
    f = find(5, us);
    assert_int_equal(f.whose, REPLICA_ALIVE);
    assert_true(life_eq(f.who, lb3));
    /* but if that is dead before it told anybody of it, the flow is lost */
    word_of_3 = OWNER_DEAD;
    assert_int_equal(find(5, us).whose, REPLICA_UNKNOWN);
    word_of_3 = OWNER_ALIVE;

    /* who only slept is told what was taken, and what it sends from its sleep is nothing */
    word_of_2 = OWNER_ALIVE;
    assert_whose(6, REPLICA_ALIVE, lb2);
    good(l, (struct wire_frame){.kind = WIRE_CLOSE, .flow = 5});
    assert_int_equal(find(5, us).whose, REPLICA_ALIVE);
    assert_int_equal(replica_claims(s, lb2, &at, &k, 1), 1);
    assert_int_equal(k.remote[2], 5);
    assert_int_equal(replica_claims(s, lb2, &at, &k, 1), 0);
    replica_claims_forget(s, lb2);
    at = 0;
    assert_int_equal(replica_claims(s, lb2, &at, &k, 1), 0);

    assert_int_equal(replica_tick(s, now + 4 * MC_SEC), now + 5 * MC_SEC);
    assert_int_equal(find(5, us).whose, REPLICA_ALIVE);
    assert_int_equal(replica_tick(s, now + 5 * MC_SEC), MC_NEVER_NS);
    assert_int_equal(find(5, us).whose, REPLICA_UNKNOWN);
}

static void
what_was_taken_is_out_of_the_store(void **state)
{
    struct replica_line *l = line(lb2, 7);
    struct replica *r;
    struct flow_key k;
    size_t at = 0;

    synced(l);
    flow(l, 5);
    word_of_2 = OWNER_DEAD;
    r = replica_take(s, find(5, us).replica, us, now);
    assert_true(life_eq(r->owner, lb2));
    assert_int_equal(replica_stats(s)->bytes, 0);
    assert_int_equal(replica_claims(s, lb2, &at, &k, 1), 1);
    replica_free(&r);
    /* it only slept, and what it says of that flow is no reason to lose all others */
    word_of_2 = OWNER_ALIVE;
    input(l, 5, "GET");
    good(l, (struct wire_frame){.kind = WIRE_CLOSE, .flow = 5});
    flow(l, 6);
    assert_whose(6, REPLICA_ALIVE, lb2);
}

static void
what_another_took_may_be_told_of_when_it_is_forgotten_here(void **state)
{
    struct replica_line *l = line(lb2, 7);
    const struct flow_key k = key(5);

    synced(l);
    flow(l, 5);
    word_of_2 = OWNER_DEAD;
    replica_taken(s, &k, lb2, lb3, now);
    replica_tick(s, now + 5 * MC_SEC);
    assert_int_equal(replica_count(s, lb2), 0);
    word_of_2 = OWNER_ALIVE;
    input(l, 5, "GET");
    good(l, (struct wire_frame){.kind = WIRE_CLOSE, .flow = 5});
}

static void
who_serves_a_flow_now_comes_before_who_did(void **state)
{
    struct replica_line *of_2 = line(lb2, 7), *of_3 = line(lb3, 1);

    synced(of_2);
    synced(of_3);
    flow(of_2, 5);
    word_of_2 = OWNER_DEAD;
    replica_give(s, find(5, lb3).replica, lb3, now);
    flow(of_3, 5); /* it has adopted it, and we hold it again */
    assert_int_equal(find(5, us).whose, REPLICA_ALIVE);
    word_of_3 = OWNER_DEAD;
    assert_int_equal(find(5, us).whose, REPLICA_FREE);
    assert_true(life_eq(find(5, us).who, lb3));
}

static void
what_was_handed_over_outlives_newer_lines(void **state)
{
    struct replica_line *l = line(lb2, 7);

    synced(l);
    flow(l, 5);
    flow(l, 6);
    good(l, (struct wire_frame){.kind = WIRE_HANDOVER, .flow = 5, .u.handover = {us}});
    replica_line_end(&l, now);
    synced(line(lb2, 7)); /* it has none any more */
    assert_whose(5, REPLICA_FREE, lb2);
    assert_whose(6, REPLICA_UNKNOWN, none);
    assert_int_equal(replica_count(s, lb2), 1);
    replica_tick(s, now + 60 * MC_SEC);
    assert_whose(5, REPLICA_UNKNOWN, none);
}

static void
what_was_given_may_be_handed_back_at_once(void **state)
{
    struct replica_line *of_2 = line(lb2, 7), *of_3 = line(lb3, 1);

    synced(of_2);
    synced(of_3);
    flow(of_2, 5);
    word_of_2 = OWNER_DEAD;
    replica_give(s, find(5, lb3).replica, lb3, now);
    flow(of_3, 5);
    good(of_3, (struct wire_frame){.kind = WIRE_HANDOVER, .flow = 5, .u.handover = {us}});
    /* it lives, and we gave it the flow a moment ago; yet it is ours now */
    assert_int_equal(find(5, us).whose, REPLICA_FREE);
    assert_true(life_eq(find(5, us).who, lb3));
    assert_int_equal(find(5, lb3).whose, REPLICA_FREE);
    assert_true(life_eq(find(5, lb3).who, lb3));
    assert_int_equal(replica_count(s, lb2), 0);
}

static void
who_lost_a_flow_cannot_say_that_it_has_it(void **state)
{
    struct replica_line *l = line(lb2, 7), *anew;

    synced(l);
    flow(l, 5);
    word_of_2 = OWNER_DEAD;
    replica_give(s, find(5, lb3).replica, lb3, now);
    replica_line_end(&l, now);
    anew = line(lb2, 7);
    flow(anew, 5);
    synced(anew);
    assert_int_equal(find(5, us).whose, REPLICA_ALIVE);
    assert_true(life_eq(find(5, us).who, lb3));
}

/* By who asked another holder: what we keep is old from then on. */
static void
what_was_taken_is_given_to_nobody(void **state)
{
    struct replica_line *l = line(lb2, 7);
    const struct flow_key k = key(5), k6 = key(6);
    size_t at = 0;
    unsigned looks = 10;

    synced(l);
    flow(l, 5);
    flow(l, 6);
    word_of_2 = OWNER_DEAD;
    replica_taken(s, &k, lb3, lb3, now); /* that is another's */
    assert_int_equal(find(5, us).whose, REPLICA_FREE);
    replica_taken(s, &k, lb2, lb3, now);
    assert_int_equal(find(5, us).whose, REPLICA_ALIVE);
    assert_true(life_eq(find(5, us).who, lb3));
    assert_int_equal(find(5, lb3).whose, REPLICA_UNKNOWN); /* it has lost it since */
    replica_give(s, find(6, lb3).replica, lb3, now);
    assert_int_equal(find(6, lb3).whose, REPLICA_FREE); /* the answer may have been lost */
    replica_taken(s, &k6, lb2, lb3, now);
    assert_int_equal(find(6, lb3).whose, REPLICA_UNKNOWN);
    assert_null(replica_next(s, lb2, &at, &looks));
    replica_tick(s, now + 5 * MC_SEC);
    assert_int_equal(replica_count(s, lb2), 0);
}

/* Who took it found the death before us. */
static void
what_was_taken_from_one_that_seems_to_live_is_given_to_nobody_afterwards(void **state)
{
    struct replica_line *l = line(lb2, 7);
    const struct flow_key k = key(5);
    size_t at = 0;
    unsigned looks = 10;

    synced(l);
    flow(l, 5);
    replica_taken(s, &k, lb2, lb3, now);
    assert_whose(5, REPLICA_ALIVE, lb2);
    word_of_2 = OWNER_DEAD;
    assert_int_equal(find(5, us).whose, REPLICA_ALIVE);
    assert_true(life_eq(find(5, us).who, lb3));
    assert_int_equal(find(5, lb3).whose, REPLICA_UNKNOWN);
    assert_null(replica_next(s, lb2, &at, &looks));
    word_of_3 = OWNER_DEAD;
    assert_int_equal(find(5, us).whose, REPLICA_UNKNOWN);
    word_of_2 = OWNER_ALIVE;
    flow(l, 5); /* it has it again, and says so */
    word_of_2 = OWNER_DEAD;
    assert_int_equal(find(5, us).whose, REPLICA_FREE);
}

/* Another holder may have it whole. */
static void
what_is_not_kept_is_not_given_away(void **state)
{
    char *much = malloc(1 << 20);
    struct replica_line *l = line(lb2, 7);
    struct wire_frame handover = {.kind = WIRE_HANDOVER, .flow = 5, .u.handover = {us}};
    const uint32_t *refused;

    memset(much, 'x', 1 << 20);
    synced(l);
    flow(l, 5);
    for (unsigned i = 0; i < (1 << 20) / 65536; i++)
        good(l, (struct wire_frame){
                    .kind = WIRE_IN, .flow = 5, .u.in = {i * 65536, (struct str){much, 65536}}});
    assert_int_equal(replica_stats(s)->full_total, 1);
    good(l, handover);
    assert_int_equal(replica_line_refused(l, &refused), 0);
    assert_int_equal(replica_stats(s)->waiting, 0);
    assert_whose(5, REPLICA_ALIVE, lb2);
    word_of_2 = OWNER_DEAD;
    assert_whose(5, REPLICA_UNKNOWN, none);
    word_of_2 = OWNER_ALIVE;
    flow(l, 5); /* anew */
    word_of_2 = OWNER_DEAD;
    assert_whose(5, REPLICA_FREE, lb2);
    free(much);
}

static void
who_dropped_a_flow_is_not_given_it_back(void **state)
{
    struct replica_line *l = line(lb2, 7);

    synced(l);
    flow(l, 5);
    flow(l, 6);
    good(l, (struct wire_frame){.kind = WIRE_HANDOVER, .flow = 6, .u.handover = {us}});
    word_of_2 = OWNER_DEAD; /* it asks all the same: we shall hear its beats in a moment */
    assert_int_equal(find(5, lb2).whose, REPLICA_UNKNOWN);
    assert_int_equal(find(5, lb3).whose, REPLICA_FREE);
    assert_int_equal(find(6, lb2).whose, REPLICA_FREE); /* nobody had it meanwhile */
}

static void
a_key_names_one_flow_of_a_line(void **state)
{
    struct replica_line *l = line(lb2, 7);

    synced(l);
    for (unsigned i = 0; i < 1000; i++)
        good(l, (struct wire_frame){.kind = WIRE_OPEN,
                                    .flow = i,
                                    .u.open = {.key = key(5), .params = {.mss = 1460}}});
    assert_int_equal(replica_count(s, lb2), 1);
    good(l, (struct wire_frame){.kind = WIRE_CLOSE, .flow = 3});
    assert_whose(5, REPLICA_ALIVE, lb2);
}

static void
of_two_holders_only_the_one_that_is_meant_gives_it_away(void **state)
{
    struct replica_conf other_conf = {.self = lb3, .owner = owner};
    struct replica_store *ours = s, *theirs = replica_store_new(&other_conf);
    struct replica_line *l[2];
    struct wire_frame handover = {.kind = WIRE_HANDOVER, .flow = 5, .u.handover = {lb3}};
    struct replica *r;

    for (unsigned i = 0; i < 2; i++) {
        s = i == 0 ? ours : theirs;
        l[i] = line(lb2, 7);
        synced(l[i]);
        flow(l[i], 5);
        assert_whose(5, REPLICA_ALIVE, lb2);
        good(l[i], handover);
    }
    s = theirs;
    assert_whose(5, REPLICA_FREE, lb2);
    s = ours;
    assert_whose(5, REPLICA_UNKNOWN, none);
    assert_int_equal(replica_stats(s)->handed_on, 1);
    word_of_2 = OWNER_DEAD; /* nor when it has gone */
    assert_whose(5, REPLICA_UNKNOWN, none);
    s = theirs;
    r = replica_take(s, find(5, lb3).replica, lb3, now); /* once */
    assert_whose(5, REPLICA_UNKNOWN, none);
    replica_free(&r);
    replica_store_free(&theirs);
    s = ours;
}

static void
what_comes_too_late_for_a_flow_handed_over_is_no_fault(void **state)
{
    struct replica_line *l = line(lb2, 7);
    struct wire_frame late = {.kind = WIRE_IN, .flow = 5, .u.in = {0, STR("GET")}};

    synced(l);
    flow(l, 5);
    good(l, (struct wire_frame){.kind = WIRE_HANDOVER, .flow = 5, .u.handover = {us}});
    good(l, late); /* nobody has it yet: whoever will, reads this, too */
    assert_int_equal(find(5, us).replica->in.n, 3);
    replica_give(s, find(5, lb3).replica, lb3, now);
    replica_tick(s, now + 5 * MC_SEC);
    good(l, late);
    assert_int_equal(say(l, (struct wire_frame){.kind = WIRE_SENT, .flow = 5}), REPLICA_F_FLOW);
}

static void
clients_of_flows_that_nobody_takes_are_asked_some_times(void **state)
{
    struct replica_line *l = line(lb2, 7);
    struct replica *r;
    unsigned n = 0;

    synced(l);
    for (unsigned i = 5; i < 7; i++) {
        flow(l, i);
        good(l, (struct wire_frame){.kind = WIRE_HANDOVER, .flow = i, .u.handover = {us}});
    }
    flow(l, 7);
    assert_int_equal(replica_stats(s)->waiting, 2);
    assert_null(replica_silent(s, now));
    now += 20 * MC_MS;
    assert_ptr_equal(replica_silent(s, now), find(5, us).replica);
    assert_ptr_equal(replica_silent(s, now), find(6, us).replica);
    assert_null(replica_silent(s, now));
    r = replica_take(s, find(6, us).replica, us, now);
    replica_free(&r);
    assert_int_equal(replica_stats(s)->waiting, 1);
    for (unsigned i = 0; i < 100; i++, now += 100 * MC_MS)
        n += replica_silent(s, now) != NULL;
    assert_int_equal(n, 3);
    assert_int_equal(replica_stats(s)->waiting, 0);
    assert_whose(5, REPLICA_FREE, lb2);
}

static void
a_flow_handed_over_is_free_and_no_claim(void **state)
{
    struct replica_line *l = line(lb2, 7);
    struct replica_found f;
    struct flow_key k;
    size_t at = 0;

    synced(l);
    flow(l, 5);
    good(l, (struct wire_frame){.kind = WIRE_HANDOVER, .flow = 5, .u.handover = {us}});
    assert_whose(5, REPLICA_FREE, lb2);
    f = find(5, lb3);
    replica_give(s, f.replica, lb3, now);
    assert_int_equal(replica_claims(s, lb2, &at, &k, 1), 0);
    assert_int_equal(find(5, lb2).whose, REPLICA_ALIVE);
}

static void
the_flows_of_the_dead_can_be_walked(void **state)
{
    struct replica_line *of_2 = line(lb2, 7), *of_3 = line(lb3, 1);
    const struct replica *r;
    size_t at = 0;
    unsigned n = 0, looks = 600;

    synced(of_2);
    synced(of_3);
    for (unsigned i = 0; i < 600; i++)
        flow(i % 2 ? of_2 : of_3, i);
    assert_null(replica_next(s, lb2, &at, &looks));
    assert_int_equal(looks, 0);
    word_of_2 = OWNER_DEAD;
    replica_give(s, find(7, lb3).replica, lb3, now);
    for (at = 0, looks = 300; (r = replica_next(s, lb2, &at, &looks)); n++)
        assert_true(life_eq(r->owner, lb2));
    assert_int_equal(looks, 0); /* it is not the end */
    for (looks = 301; (r = replica_next(s, lb2, &at, &looks)); n++)
        assert_true(life_eq(r->owner, lb2));
    assert_int_equal(looks, 1);
    assert_int_equal(n, 299);
    assert_int_equal(replica_count(s, lb2), 300);
}

static void
a_line_that_ended_keeps_its_flows_for_a_while(void **state)
{
    struct replica_line *l = line(lb2, 7);

    synced(l);
    flow(l, 5);
    replica_line_end(&l, now);
    assert_null(l);
    assert_whose(5, REPLICA_ALIVE, lb2);
    word_of_2 = OWNER_DEAD;
    assert_whose(5, REPLICA_FREE, lb2);
    assert_int_equal(replica_tick(s, now), now + 60 * MC_SEC);
    replica_tick(s, now + 60 * MC_SEC);
    assert_whose(5, REPLICA_UNKNOWN, none);
    assert_int_equal(replica_stats(s)->bytes, 0);
    assert_int_equal(replica_stats(s)->expired, 1);
}

static void
memory_is_bounded(void **state)
{
    char *much = malloc(40001);
    struct replica_line *l = line(lb2, 7);
    const uint32_t *refused;

    memset(much, 'x', 40000);
    much[40000] = '\0';
    synced(l);
    for (unsigned i = 0; i < 100; i++) {
        flow(l, i);
        good(l, (struct wire_frame){
                    .kind = WIRE_IN, .flow = i, .u.in = {0, (struct str){much, 40000}}});
        assert_true(replica_stats(s)->bytes <= 1 << 20);
    }
    assert_in_range(replica_stats(s)->full_total, 80, 99);
    assert_in_range(replica_stats(s)->bare, 80, 99);
    assert_int_equal(replica_stats(s)->flows, 100);
    /* the first are kept */
    word_of_2 = OWNER_DEAD;
    assert_int_equal(find(0, lb3).replica->in.n, 40000);
    assert_whose(99, REPLICA_UNKNOWN, none);
    word_of_2 = OWNER_ALIVE;
    assert_int_equal(replica_line_refused(l, &refused), 1);
    assert_int_equal(refused[0], 99);
    good(l, (struct wire_frame){.kind = WIRE_IN, .flow = 99}); /* nothing more is said of it */
    assert_int_equal(replica_line_refused(l, &refused), 0);

    for (unsigned i = 100; i < 1500; i++)
        flow(l, i);
    assert_in_range(replica_stats(s)->flows, 101, 999);
    assert_true(replica_stats(s)->bytes <= (1 << 20) + 1024);
    assert_int_equal(replica_line_refused(l, &refused), 1);
    assert_int_equal(refused[0], 1499);
    input(l, 1400, "of a flow that was not taken");
    assert_int_equal(replica_line_refused(l, &refused), 0);
    good(l, (struct wire_frame){.kind = WIRE_CLOSE, .flow = 1400});
    for (unsigned i = 0; i < 1500; i++)
        good(l, (struct wire_frame){.kind = WIRE_CLOSE, .flow = i});
    assert_int_equal(replica_stats(s)->bytes, 0);
    assert_int_equal(replica_stats(s)->bare, 0);
    for (unsigned i = 0; i < 1500; i++) /* there is memory for them, but they are too many */
        flow(l, i);
    assert_int_equal(replica_stats(s)->flows, 1000);
    free(much);
}

static void
lines_are_bounded(void **state)
{
    struct replica_line *l[4];

    for (unsigned i = 0; i < 4; i++)
        l[i] = line(lb2, 7);
    assert_null(replica_line_new(s, now));
    replica_line_end(&l[0], now);
    assert_non_null(replica_line_new(s, now));
}

static void
claims_beyond_memory_are_all(void **state)
{
    struct replica_line *l = line(lb2, 7);
    struct flow_key k[16];
    size_t at = 0;

    synced(l);
    for (unsigned i = 0; i < 9; i++)
        flow(l, i);
    word_of_2 = OWNER_DEAD;
    for (unsigned i = 0; i < 8; i++)
        replica_give(s, find(i, lb3).replica, lb3, now);
    assert_int_equal(replica_claims(s, lb2, &at, k, 16), 8);
    assert_false(replica_claims_lost(s, lb2));
    replica_give(s, find(8, lb3).replica, lb3, now);
    assert_true(replica_claims_lost(s, lb2));
    assert_int_equal(replica_stats(s)->claims, 0);
    replica_claims_forget(s, lb2);
    assert_false(replica_claims_lost(s, lb2));
}

static void
of_too_many_lives_that_lost_flows_all_are_told_so(void **state)
{
    for (unsigned i = 0; i < 70; i++) {
        struct replica_line *l = line((struct life){3, 100 + i}, 1);
        struct replica *r;

        synced(l);
        flow(l, 1);
        word_of_3 = OWNER_DEAD;
        r = replica_take(s, find(1, us).replica, us, now);
        replica_free(&r);
        word_of_3 = OWNER_ALIVE;
        replica_line_end(&l, now);
    }
    assert_true(replica_claims_lost(s, (struct life){3, 100}));
    assert_false(replica_claims_lost(s, (struct life){3, 169}));
}

static void
lines_that_make_no_sense_are_faults(void **state)
{
    struct replica_line *l = replica_line_new(s, now);

    assert_int_equal(say(l, (struct wire_frame){.kind = WIRE_SNAPSHOT}), REPLICA_F_KIND);
    replica_line_end(&l, now);
    assert_null(l);
    l = line(lb2, 7);
    assert_int_equal(say(l, (struct wire_frame){.kind = WIRE_HELLO, .u.hello.owner = lb2}),
                     REPLICA_F_KIND);
    assert_int_equal(say(l, (struct wire_frame){.kind = WIRE_SENT, .flow = 9}), REPLICA_F_FLOW);
    assert_int_equal(say(l, (struct wire_frame){.kind = WIRE_ACK}), REPLICA_F_KIND);
    assert_int_equal(replica_line_read(l, str_of("\x06"), now), REPLICA_F_BYTES);
    assert_int_equal(replica_stats(s)->faults, 5);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        T(a_flow_is_its_owners_until_that_is_dead),
        T(half_a_snapshot_is_not_believed),
        T(a_line_of_another_epoch_is_not_believed),
        T(a_newer_snapshot_replaces_what_was_told_before),
        T(what_was_given_is_whose_it_was_given_to),
        T(what_was_taken_is_out_of_the_store),
        T(what_another_took_may_be_told_of_when_it_is_forgotten_here),
        T(who_serves_a_flow_now_comes_before_who_did),
        T(what_was_handed_over_outlives_newer_lines),
        T(what_was_given_may_be_handed_back_at_once),
        T(who_lost_a_flow_cannot_say_that_it_has_it),
        T(what_was_taken_is_given_to_nobody),
        T(what_was_taken_from_one_that_seems_to_live_is_given_to_nobody_afterwards),
        T(what_is_not_kept_is_not_given_away),
        T(who_dropped_a_flow_is_not_given_it_back),
        T(a_key_names_one_flow_of_a_line),
        T(of_two_holders_only_the_one_that_is_meant_gives_it_away),
        T(what_comes_too_late_for_a_flow_handed_over_is_no_fault),
        T(clients_of_flows_that_nobody_takes_are_asked_some_times),
        T(a_flow_handed_over_is_free_and_no_claim),
        T(the_flows_of_the_dead_can_be_walked),
        T(a_line_that_ended_keeps_its_flows_for_a_while),
        T(memory_is_bounded),
        T(lines_are_bounded),
        T(claims_beyond_memory_are_all),
        T(of_too_many_lives_that_lost_flows_all_are_told_so),
        T(lines_that_make_no_sense_are_faults),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
