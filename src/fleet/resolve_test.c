/* SPDX-License-Identifier: BSD-2-Clause
 *
 * resolve_test.c - servers with names, under a resolver that says what the test wants.
 *
 * The resolver's functions are defined here, so the linker does not take those of io/.
 */
#include "fleet/resolve.h"

#include "fleet/harness.h"
#include "io/dns.h"

/* --- a resolver ---------------------------------------------------------------------------------
 */

static dns_f *asked_fn;
static void *asked_arg;
static char asked_host[64];
static uint16_t asked_port;
static unsigned n_asked;

void
dns_query(struct dns *d, const char *host, uint16_t port, dns_f *fn, void *arg)
{
    assert_null(asked_fn); /* one question at a time is enough for these tests */
    snprintf(asked_host, sizeof(asked_host), "%s", host);
    asked_port = port;
    asked_fn = fn;
    asked_arg = arg;
    n_asked++;
}

static void
tell(const struct dns_answer *a)
{
    dns_f *fn = asked_fn;

    assert_non_null(fn);
    asked_fn = NULL;
    fn(asked_arg, a);
}

/* Answers with addresses, separated by spaces; a time to live of a second. */
static void
say(const char *text)
{
    struct str rest = str_of(text);
    struct addr addrs[8];
    unsigned n = 0;

    while (rest.p)
        assert_true(addr_parse_ip(str_cut(&rest, ' '), asked_port, &addrs[n++]));
    tell(&(struct dns_answer){.addrs = addrs, .n_addrs = n, .ttl_s = 1});
}

static void
say_failed(void)
{
    tell(&(struct dns_answer){.status = 4, .text = "domain name not found", .ttl_s = 1});
}

/* --- a pool of one server with a name -----------------------------------------------------------
 */

static int
begin(void **state)
{
    asked_fn = NULL;
    n_asked = 0;
    return fleet_setup_dns((struct dns *)&n_asked); /* any pointer: the resolver is ours */
}

static struct pool *
adopt_named(unsigned n)
{
    struct pool_conf c = pool_of(n);

    set_address(&c, 0, "app.internal:8080");
    return adopt(&c);
}

static const char *
address_of(const struct pool *p, uint32_t turn)
{
    static char text[ADDR_TEXT];
    struct addr a;
    uint32_t generation;

    if (!server_address(p->servers[0], turn, &a, &generation))
        return "none";
    assert_int_equal(generation, server_addr_generation(p->servers[0]));
    return addr_text(&a, text);
}

static void
a_name_is_looked_up_with_its_port(void **state)
{
    struct pool *p = adopt_named(2);

    assert_string_equal(asked_host, "app.internal");
    assert_int_equal(asked_port, 8080);
    assert_int_equal(state_of(p, 0), HEALTH_DOWN);
    assert_string_equal(reason_of(p, 0), "no address is known yet");
    assert_string_equal(address_of(p, 0), "none");
    say("10.0.0.1");
    assert_int_equal(state_of(p, 0), HEALTH_UP);
    assert_true(is_open(p, 0));
    assert_string_equal(address_of(p, 0), "10.0.0.1:8080");
    pool_free(&p);
}

static void
several_addresses_are_used_in_turn(void **state)
{
    struct pool *p = adopt_named(1);

    say("10.0.0.1 10.0.0.2");
    assert_string_equal(address_of(p, 0), "10.0.0.1:8080");
    assert_string_equal(address_of(p, 1), "10.0.0.2:8080");
    assert_string_equal(address_of(p, 2), "10.0.0.1:8080");
    pool_free(&p);
}

static void
an_old_answer_is_asked_for_again(void **state)
{
    struct pool *p = adopt_named(1);
    uint32_t generation;
    mc_ns begun = units_clock_ns();

    say("10.0.0.1");
    generation = server_addr_generation(p->servers[0]);
    UNTIL(n_asked == 2);
    assert_true(units_clock_ns() - begun >= 900 * MC_MS);
    say("10.0.0.1");
    assert_int_equal(server_addr_generation(p->servers[0]), generation); /* nothing new */
    UNTIL(n_asked == 3);
    say("10.0.0.9");
    assert_int_equal(server_addr_generation(p->servers[0]), generation + 1);
    assert_string_equal(address_of(p, 0), "10.0.0.9:8080");
    pool_free(&p);
}

static void
a_failure_keeps_the_last_answer(void **state)
{
    struct pool *p = adopt_named(1);

    say("10.0.0.1");
    UNTIL(n_asked == 2);
    say_failed();
    assert_string_equal(address_of(p, 0), "10.0.0.1:8080");
    assert_int_equal(state_of(p, 0), HEALTH_UP);
    UNTIL(n_asked == 3); /* and is followed by another question */
    say("10.0.0.2");
    assert_string_equal(address_of(p, 0), "10.0.0.2:8080");
    pool_free(&p);
}

static void
a_name_that_was_never_resolved_says_why(void **state)
{
    struct pool *p = adopt_named(1);

    say_failed();
    assert_int_equal(state_of(p, 0), HEALTH_DOWN);
    assert_string_equal(reason_of(p, 0), "cannot resolve app.internal: domain name not found");
    UNTIL(n_asked == 2);
    tell(&(struct dns_answer){.ttl_s = 5});
    assert_string_equal(reason_of(p, 0),
                        "cannot resolve app.internal: the answer holds no address");
    pool_free(&p);
}

static void
a_reload_does_not_ask_again(void **state)
{
    struct pool *p = adopt_named(1), *q;

    say("10.0.0.1");
    q = adopt_named(1);
    assert_int_equal(n_asked, 1);
    assert_string_equal(address_of(q, 0), "10.0.0.1:8080");
    pool_free(&p);
    pool_free(&q);
}

static void
an_answer_after_the_server_has_gone_harms_nobody(void **state)
{
    struct pool *p = adopt_named(2), *q;
    struct pool_conf c = pool_of(1);

    q = adopt(&c);
    pool_free(&p);
    say("10.0.0.1");
    pool_free(&q);
}

static void
a_question_that_is_never_answered_harms_nobody(void **state)
{
    struct pool *p = adopt_named(2);

    assert_non_null(asked_fn);
    pool_free(&p);
}

/* --- readers and the end of addresses -----------------------------------------------------------
 */

static _Atomic bool stop, wrong;

static void *
read_addresses(void *arg)
{
    struct server *s = arg;

    for (uint32_t turn = 0; !atomic_load(&stop); turn++) {
        struct addr a;
        uint32_t generation;

        if (!server_address(s, turn, &a, &generation) || addr_port(&a) != generation)
            wrong = true;
    }
    return NULL;
}

static void
addresses_may_change_under_readers(void **state)
{
    struct pool *p = adopt_named(1);
    struct entry *e = entry_of(p->servers[0]);
    pthread_t t[2];
    struct addr a[3];

    for (unsigned i = 0; i < 3; i++) {
        assert_true(addr_parse_ip(STR("10.0.0.1"), 1, &a[i]));
    }
    entry_set_addrs(e, a, 3);
    stop = wrong = false;
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&t[i], NULL, read_addresses, &e->s), 0);
    for (uint16_t generation = 2; generation < 5000; generation++) {
        for (unsigned i = 0; i < 3; i++)
            addr_set_port(&a[i], generation);
        entry_set_addrs(e, a, 1 + generation % 3);
    }
    stop = true;
    for (unsigned i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    assert_false(wrong);
    pool_free(&p);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, fleet_teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_name_is_looked_up_with_its_port),
        TEST(several_addresses_are_used_in_turn),
        TEST(an_old_answer_is_asked_for_again),
        TEST(a_failure_keeps_the_last_answer),
        TEST(a_name_that_was_never_resolved_says_why),
        TEST(a_reload_does_not_ask_again),
        TEST(an_answer_after_the_server_has_gone_harms_nobody),
        TEST(a_question_that_is_never_answered_harms_nobody),
        TEST(addresses_may_change_under_readers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
