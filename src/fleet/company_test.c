/* SPDX-License-Identifier: BSD-2-Clause
 *
 * company_test.c - servers that several balancers look after: who does, and what is believed.
 */
#include "fleet/company.h"

#include <sys/socket.h>
#include <unistd.h>

#include "fleet/harness.h"

#define SELF     100
#define SERVERS  32
#define STRANGER 1000 /* and above: members that own nothing here */

static struct {
    uint64_t key;
    enum agree_word word;
} told[256];
static unsigned n_told;

static void
on_tell(void *arg, const struct server *s, enum agree_word word, const char *why)
{
    assert_true(n_told < MC_COUNT(told));
    told[n_told].key = company_server_key(s);
    told[n_told++].word = word;
}

static size_t
on_share(void *arg, uint64_t to, const struct share_map *map, const struct share_msg *msg)
{
    return 0;
}

static int
setup(void **state)
{
    struct company_conf conf = {
        .id = SELF, .boot = 1, .bytes_per_s = 1e6, .hooks = {.tell = on_tell, .share = on_share}};

    n_told = 0;
    fleet_setup(state);
    company_join(F, &conf);
    return 0;
}

/* What we said of it last; UNKNOWN: nothing, or we took it back. */
static enum agree_word
told_of(const struct pool *p, unsigned i)
{
    enum agree_word last = AGREE_UNKNOWN;

    for (unsigned k = 0; k < n_told; k++)
        if (told[k].key == company_server_key(p->servers[i]))
            last = told[k].word;
    return last;
}

static bool
owns(const struct pool *p, unsigned i, uint64_t member)
{
    uint64_t owner[AGREE_OWNERS];
    unsigned n = company_owners(p->servers[i], owner);

    return (n > 0 && owner[0] == member) || (n > 1 && owner[1] == member);
}

/* A server that we look after, or not. */
static unsigned
one_that(const struct pool *p, bool mine)
{
    for (unsigned i = 0; i < p->view.n; i++)
        if (owns(p, i, SELF) == mine)
            return i;
    fail_msg("none of %u servers is %s", p->view.n, mine ? "ours" : "others'");
    return 0;
}

static void
hear(const struct pool *p, unsigned i, uint64_t member, enum agree_word word)
{
    company_hear(F, member, company_server_key(p->servers[i]), word, STR("status 500"));
}

/* The rank-th owner besides us. */
static uint64_t
other_owner(const struct pool *p, unsigned i, unsigned rank)
{
    uint64_t owner[AGREE_OWNERS];
    unsigned n = company_owners(p->servers[i], owner);

    for (unsigned k = 0; k < n; k++)
        if (owner[k] != SELF && rank-- == 0)
            return owner[k];
    fail_msg("no other owner");
    return 0;
}

static struct company_counts
counts(void)
{
    struct company_counts c;

    company_counts(F, &c);
    return c;
}

/* A port where nobody listens. */
static unsigned
closed_port(void)
{
    struct addr a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(addr_parse_ip(STR("127.0.0.1"), 0, &a));
    assert_int_equal(bind(fd, &a.u.sa, a.len), 0);
    assert_int_equal(getsockname(fd, &a.u.sa, &a.len), 0);
    close(fd);
    return ntohs(a.u.in.sin_port);
}

/* Servers whose checks fail, and fail again every 20 ms. */
static struct pool_conf
sick_pool(unsigned n)
{
    struct pool_conf c = pool_of(n);
    char address[32];

    snprintf(address, sizeof(address), "127.0.0.1:%u", closed_port());
    for (unsigned i = 0; i < n; i++)
        set_address(&c, i, address);
    c.check.kind = POOL_CHECK_TCP;
    c.check.interval_ns = 20 * MC_MS;
    c.check.timeout_ns = MC_SEC;
    c.health.check = true;
    return c;
}

static const uint64_t three[] = {7, 8, 9};

/* --- owners -------------------------------------------------------------------------------------
 */

static void
alone_all_is_ours(void **state)
{
    struct pool_conf c = sick_pool(2);
    struct pool *p = adopt(&c);
    uint64_t owner[AGREE_OWNERS];

    assert_int_equal(counts().owned, 2);
    assert_int_equal(company_owners(p->servers[0], owner), 1);
    assert_int_equal(owner[0], SELF);
    assert_int_equal(state_of(p, 0), HEALTH_UP); /* nobody has looked */
    UNTIL(state_of(p, 0) == HEALTH_DOWN && state_of(p, 1) == HEALTH_DOWN);
    assert_int_equal(told_of(p, 0), AGREE_DOWN);
    assert_int_equal(n_told, 2);
    pool_free(&p);
}

static void
each_server_has_two_owners(void **state)
{
    struct pool_conf c = pool_of(SERVERS);
    struct pool *p = adopt(&c);
    unsigned mine = 0;

    company_set_members(F, three, 3);
    for (unsigned i = 0; i < SERVERS; i++) {
        uint64_t owner[AGREE_OWNERS];

        assert_int_equal(company_owners(p->servers[i], owner), 2);
        assert_int_not_equal(owner[0], owner[1]);
        mine += owns(p, i, SELF);
    }
    assert_int_equal(counts().owned, mine);
    assert_in_range(mine, 1, SERVERS - 1);
    company_set_members(F, three, 1);
    assert_int_equal(counts().owned, SERVERS);
    company_set_members(F, NULL, 0);
    assert_int_equal(counts().owned, SERVERS);
    pool_free(&p);
}

static void
only_owners_check_and_tell(void **state)
{
    struct pool_conf c = sick_pool(SERVERS);
    struct pool *p;
    unsigned mine, theirs;

    company_set_members(F, three, 3);
    p = adopt(&c);
    mine = one_that(p, true);
    theirs = one_that(p, false);
    UNTIL(told_of(p, mine) == AGREE_DOWN);
    assert_int_equal(state_of(p, mine), HEALTH_DOWN); /* the other has not looked yet */
    for (unsigned i = 0; i < SERVERS; i++)
        assert_true(told_of(p, i) == AGREE_UNKNOWN || owns(p, i, SELF));
    assert_int_equal(state_of(p, theirs), HEALTH_UP);
    /* the others go: their servers are ours to check */
    company_set_members(F, NULL, 0);
    UNTIL(state_of(p, theirs) == HEALTH_DOWN);
    assert_int_equal(told_of(p, theirs), AGREE_DOWN);
    /* and come back: what is ours no more is taken back */
    company_set_members(F, three, 3);
    assert_int_equal(told_of(p, theirs), AGREE_UNKNOWN);
    assert_int_equal(state_of(p, theirs), HEALTH_UP);
    assert_int_equal(told_of(p, mine), AGREE_DOWN);
    pool_free(&p);
}

/* --- verdicts -----------------------------------------------------------------------------------
 */

static void
owners_decide(void **state)
{
    struct pool_conf c = pool_of(SERVERS);
    struct pool *p = adopt(&c);
    unsigned s;

    company_set_members(F, three, 3);
    s = one_that(p, false);
    hear(p, s, other_owner(p, s, 0), AGREE_DOWN);
    assert_int_equal(state_of(p, s), HEALTH_DOWN);
    assert_string_equal(reason_of(p, s), "status 500");
    hear(p, s, other_owner(p, s, 1), AGREE_UP);
    assert_int_equal(state_of(p, s), HEALTH_UP);
    hear(p, s, other_owner(p, s, 1), AGREE_DOWN);
    assert_int_equal(state_of(p, s), HEALTH_DOWN);
    hear(p, s, other_owner(p, s, 0), AGREE_UNKNOWN);
    assert_int_equal(state_of(p, s), HEALTH_DOWN);
    hear(p, s, other_owner(p, s, 1), AGREE_UNKNOWN);
    assert_int_equal(state_of(p, s), HEALTH_UP);
    pool_free(&p);
}

static void
words_of_others_take_no_owners_place(void **state)
{
    struct pool_conf c = pool_of(SERVERS);
    struct pool *p = adopt(&c);
    unsigned s;

    company_set_members(F, three, 3);
    s = one_that(p, false);
    hear(p, s, other_owner(p, s, 0), AGREE_DOWN);
    hear(p, s, other_owner(p, s, 1), AGREE_DOWN);
    for (uint64_t m = STRANGER; m < STRANGER + 9; m++)
        hear(p, s, m, AGREE_UP);
    for (uint64_t m = STRANGER; m < STRANGER + 9; m++)
        hear(p, s, m, AGREE_UNKNOWN);
    assert_int_equal(state_of(p, s), HEALTH_DOWN);
    hear(p, s, other_owner(p, s, 1), AGREE_UP);
    assert_int_equal(state_of(p, s), HEALTH_UP); /* the first one's word is there still */
    hear(p, s, other_owner(p, s, 1), AGREE_UNKNOWN);
    assert_int_equal(state_of(p, s), HEALTH_DOWN);
    pool_free(&p);
}

static void
the_word_of_who_is_gone_does_not_count(void **state)
{
    struct pool_conf c = pool_of(SERVERS);
    struct pool *p = adopt(&c);
    unsigned s;

    company_set_members(F, three, 3);
    s = one_that(p, false);
    hear(p, s, other_owner(p, s, 0), AGREE_DOWN);
    hear(p, s, other_owner(p, s, 1), AGREE_DOWN);
    company_set_members(F, NULL, 0);
    assert_int_equal(state_of(p, s), HEALTH_UP);
    company_set_members(F, three, 3); /* it was not long, and nothing was taken back */
    assert_int_equal(state_of(p, s), HEALTH_DOWN);
    pool_free(&p);
}

static void
a_server_is_spoken_of_before_it_is_known(void **state)
{
    struct pool_conf c = pool_of(1), d = pool_of(SERVERS);
    struct pool *p = adopt(&c), *q;
    uint64_t key;
    unsigned s;

    company_set_members(F, three, 3);
    company_hear(F, 7, 42, AGREE_DOWN, STR("status 500"));
    assert_false(company_knows(F, 42));
    assert_int_equal(counts().unknown_servers, 1);
    q = adopt(&d);
    s = one_that(q, false);
    key = company_server_key(q->servers[s]);
    assert_true(company_knows(F, key));
    assert_int_equal(state_of(q, s), HEALTH_UP);
    hear(q, s, other_owner(q, s, 0), AGREE_DOWN);
    assert_int_equal(state_of(q, s), HEALTH_DOWN);
    pool_free(&p);
    pool_free(&q);
}

/* Requests to it may be under way all the time, so that it is the same server that comes back. */
static void
a_server_that_was_away_is_heard_of_anew(void **state)
{
    struct pool_conf c = pool_of(SERVERS), d = pool_of(1), again = pool_of(SERVERS);
    struct pool *p = adopt(&c), *q;
    unsigned s;

    company_set_members(F, three, 3);
    s = one_that(p, false);
    if (s == 0)
        set_address(&d, 0, "127.0.0.1:9999");
    hear(p, s, other_owner(p, s, 0), AGREE_DOWN);
    q = adopt(&d);
    pool_free(&q);
    q = adopt(&again);
    assert_ptr_equal(p->servers[s], q->servers[s]);
    assert_int_equal(state_of(q, s), HEALTH_UP);
    pool_free(&p);
    pool_free(&q);
}

static void
what_we_found_is_told_anew(void **state)
{
    struct pool_conf c = sick_pool(1), d = pool_of(1), again = sick_pool(1);
    struct pool *p, *q;

    set_address(&again, 0, c.servers[0].address);
    p = adopt(&c);
    UNTIL(told_of(p, 0) == AGREE_DOWN);
    q = adopt(&d);
    pool_free(&q);
    n_told = 0;
    q = adopt(&again);
    assert_ptr_equal(p->servers[0], q->servers[0]);
    UNTIL(told_of(q, 0) == AGREE_DOWN);
    pool_free(&p);
    pool_free(&q);
}

static void
without_a_check_the_verdict_is_taken_back(void **state)
{
    struct pool_conf c = sick_pool(1), d = sick_pool(1);
    struct pool *p, *q;

    set_address(&d, 0, c.servers[0].address);
    d.check.kind = POOL_CHECK_NONE;
    d.health.check = false;
    p = adopt(&c);
    UNTIL(state_of(p, 0) == HEALTH_DOWN);
    q = adopt(&d);
    assert_ptr_equal(p->servers[0], q->servers[0]);
    assert_int_equal(state_of(q, 0), HEALTH_UP);
    assert_int_equal(told_of(q, 0), AGREE_UNKNOWN);
    pool_free(&p);
    pool_free(&q);
}

/* --- our own requests ---------------------------------------------------------------------------
 */

static void
who_sees_success_does_not_follow_hearsay(void **state)
{
    struct pool_conf c = pool_of(SERVERS);
    struct pool *p = adopt(&c);
    unsigned s, mine;

    company_set_members(F, three, 3);
    s = one_that(p, false);
    mine = one_that(p, true); /* nor does an owner that has not looked */
    hear(p, s, other_owner(p, s, 1), AGREE_DOWN);
    hear(p, mine, other_owner(p, mine, 0), AGREE_DOWN);
    assert_int_equal(state_of(p, s), HEALTH_DOWN);
    assert_int_equal(state_of(p, mine), HEALTH_DOWN);
    stat_add(&p->servers[s]->counters[1].responses_2xx, 1);
    stat_add(&p->servers[mine]->counters[0].responses_4xx, 1);
    UNTIL(state_of(p, s) == HEALTH_UP && state_of(p, mine) == HEALTH_UP);
    assert_int_equal(counts().hearsay_refused, 2);
    UNTIL(state_of(p, s) == HEALTH_DOWN && state_of(p, mine) == HEALTH_DOWN);
    assert_int_equal(counts().hearsay_refused, 2);
    pool_free(&p);
}

static void
who_sees_failures_follows_one_owner(void **state)
{
    struct pool_conf c = pool_of(SERVERS);
    struct pool *p = adopt(&c);
    unsigned s;

    company_set_members(F, three, 3);
    s = one_that(p, false);
    hear(p, s, other_owner(p, s, 0), AGREE_DOWN);
    hear(p, s, other_owner(p, s, 1), AGREE_UP);
    assert_int_equal(state_of(p, s), HEALTH_UP);
    fail_requests(p, s, 1);
    UNTIL(state_of(p, s) == HEALTH_DOWN);
    hear(p, s, other_owner(p, s, 0), AGREE_UP);
    assert_int_equal(state_of(p, s), HEALTH_UP);
    pool_free(&p);
}

static void
a_share_is_the_limit(void **state)
{
    struct pool_conf c = pool_of(1), d = pool_of(1);
    struct pool *p, *q;

    c.servers[0].max_concurrent = d.servers[0].max_concurrent = 9;
    p = adopt(&c);
    company_limit(p->servers[0], 4);
    assert_int_equal(p->view.load[0]->max_in_flight, 4);
    opened = 0;
    company_limit(p->servers[0], 4);
    assert_int_equal(opened, 0);
    company_limit(p->servers[0], 5); /* who waits has a place now */
    assert_int_equal(opened, 1);
    q = adopt(&d);
    assert_int_equal(q->view.load[0]->max_in_flight, 9);
    pool_free(&p);
    pool_free(&q);
}

static void
garbage_of_load_is_counted(void **state)
{
    struct pool_conf c = pool_of(2);
    struct pool *p = adopt(&c);
    uint8_t bytes[64];

    memset(bytes, 0xff, sizeof(bytes));
    company_set_members(F, three, 3);
    for (size_t n = 0; n <= sizeof(bytes); n++)
        company_recv(F, 7, INT64_MAX, bytes, n);
    assert_int_equal(counts().unknown_pools, sizeof(bytes) + 1);
    pool_free(&p);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, fleet_teardown)

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(alone_all_is_ours),
        TEST(each_server_has_two_owners),
        TEST(only_owners_check_and_tell),
        TEST(owners_decide),
        TEST(words_of_others_take_no_owners_place),
        TEST(the_word_of_who_is_gone_does_not_count),
        TEST(a_server_is_spoken_of_before_it_is_known),
        TEST(a_server_that_was_away_is_heard_of_anew),
        TEST(what_we_found_is_told_anew),
        TEST(without_a_check_the_verdict_is_taken_back),
        TEST(who_sees_success_does_not_follow_hearsay),
        TEST(who_sees_failures_follows_one_owner),
        TEST(a_share_is_the_limit),
        TEST(garbage_of_load_is_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
