/* SPDX-License-Identifier: BSD-2-Clause
 *
 * words_test.c - servers under agents that say what to send them.
 */
#include <sys/socket.h>
#include <unistd.h>

#include "fleet/harness.h"

/* --- an agent ------------------------------------------------------------------------------------
 */

static int door;
static struct addr where;
static const char *words; /* what it answers; NULL: it does not accept */
static unsigned replies;

static void
open_door(void)
{
    socklen_t len = sizeof(where.u);

    assert_int_equal(addr_parse(STR("127.0.0.1:0"), &where, NULL, NULL, NULL), MC_OK);
    door = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(door >= 0);
    assert_int_equal(bind(door, &where.u.sa, where.len), 0);
    assert_int_equal(listen(door, 16), 0);
    assert_int_equal(getsockname(door, &where.u.sa, &len), 0);
    replies = 0;
    words = NULL;
}

/* Answers who knocks; always true, for conditions. */
static bool
serve(void)
{
    int fd = words ? accept4(door, NULL, NULL, SOCK_CLOEXEC) : -1;

    if (fd < 0)
        return true;
    assert_int_equal(write(fd, words, strlen(words)), strlen(words));
    close(fd);
    replies++;
    return true;
}

/* Says it until two replies after the first have been taken. */
static void
say(const char *what)
{
    words = what;
    replies = 0;
    UNTIL(serve() && replies >= 3);
}

static int
setup(void **state)
{
    open_door();
    return fleet_setup(state);
}

static int
teardown(void **state)
{
    close(door);
    return fleet_teardown(state);
}

/* s0 with an agent, s1 without. */
static struct pool_conf
two(void)
{
    struct pool_conf c = pool_of(2);
    char text[ADDR_TEXT];

    c.servers[0].agent = mc_strdup(addr_text(&where, text));
    c.servers[0].agent_kind = WATCH_CHECK;
    c.servers[0].weight = 4;
    c.report_interval_ns = 20 * MC_MS;
    return c;
}

static double
weight_of(const struct pool *p, unsigned i)
{
    return atomic_load(&p->view.load[i]->weight) / (double)PLACE_WEIGHT_UNIT;
}

/* --- stories -------------------------------------------------------------------------------------
 */

static void
each_word_does_what_it_says(void **state)
{
    static const struct {
        const char *reply;
        enum health_state then;
        const char *why;
    } all[] = {
        {"drain\n", HEALTH_DRAIN, "agent says: drain"},
        {"ready\n", HEALTH_UP, "agent says: up"},
        {"maint # the disk is changed\r\n", HEALTH_MAINT, "agent says: maint, the disk is changed"},
        {"up\n", HEALTH_MAINT, "agent says: maint"},
        {"ready\n", HEALTH_UP, "agent says: up"},
        {"down#full\n", HEALTH_DOWN, "agent says: down, full"},
        {"ready\n", HEALTH_DOWN, "agent says: down"},
        {"50%\n", HEALTH_DOWN, "agent says: down"},
        {"up\n", HEALTH_UP, "agent says: up"},
        {"stopped\n", HEALTH_DOWN, "agent says: stopped"},
        {"fail\n", HEALTH_DOWN, "agent says: fail"},
        {"up\n", HEALTH_UP, "agent says: up"},
    };
    struct pool_conf c = two();
    struct pool *p = adopt(&c);

    for (unsigned i = 0; i < MC_COUNT(all); i++) {
        say(all[i].reply);
        if (state_of(p, 0) != all[i].then || strcmp(reason_of(p, 0), all[i].why) != 0)
            fail_msg("%s: %s, %s", all[i].reply, health_state_text(state_of(p, 0)),
                     reason_of(p, 0));
        assert_int_equal(is_open(p, 0), all[i].then == HEALTH_UP);
        assert_true(is_open(p, 1));
    }
    pool_free(&p);
}

static void
a_weight_is_a_share_of_the_configured_one(void **state)
{
    struct pool_conf c = two();
    struct pool *p = adopt(&c);

    say("50%\n");
    assert_true(weight_of(p, 0) == 2);
    say("weight:1\n");
    assert_true(weight_of(p, 0) == 1);
    say("200%\n");
    assert_true(weight_of(p, 0) == 8);
    say("25600%\n");
    assert_true(weight_of(p, 0) == FLEET_WEIGHT_MAX);
    say("0%\n");
    assert_false(is_open(p, 0));
    assert_int_equal(atomic_load(&p->live->n_open), 1);
    say("75%\n");
    assert_true(is_open(p, 0));
    assert_true(weight_of(p, 0) == 3);
    /* the operator's new weight is scaled as the old one was */
    assert_int_equal(fleet_set_weight(F, "app", "s0", 8, NULL), MC_OK);
    assert_true(weight_of(p, 0) == 6);
    pool_free(&p);
}

static void
a_limit_is_lowered_but_not_raised(void **state)
{
    struct pool_conf c = two();
    struct pool *p;
    unsigned was;

    c.servers[0].max_concurrent = 10;
    p = adopt(&c);
    say("maxconn:3\n");
    assert_int_equal(atomic_load(&p->view.load[0]->max_in_flight), 3);
    was = atomic_load(&opened);
    say("maxconn:100\n");
    assert_int_equal(atomic_load(&p->view.load[0]->max_in_flight), 10);
    assert_true(atomic_load(&opened) > was);
    pool_free(&p);
}

static void
the_operator_is_above_the_agent(void **state)
{
    struct pool_conf c = two();
    struct pool *p = adopt(&c);

    assert_int_equal(fleet_set_admin(F, "app", "s0", HEALTH_ADMIN_DRAIN, "operator", NULL), MC_OK);
    say("up ready\n");
    assert_int_equal(state_of(p, 0), HEALTH_DRAIN);
    assert_string_equal(reason_of(p, 0), "operator");
    say("drain\n");
    assert_string_equal(reason_of(p, 0), "operator");
    /* ready is said against the agent's drain, too, until that says something else */
    assert_int_equal(fleet_set_admin(F, "app", "s0", HEALTH_ADMIN_READY, "operator", NULL), MC_OK);
    say("drain\n");
    assert_int_equal(state_of(p, 0), HEALTH_UP);
    say("ready\n");
    say("drain\n");
    assert_int_equal(state_of(p, 0), HEALTH_DRAIN);
    pool_free(&p);
}

static void
silence_and_nonsense_change_nothing(void **state)
{
    struct brain_server s;
    struct pool_conf c = two();
    struct pool *p = adopt(&c);

    assert_false(pool_words_at(p, 1, &s));
    say("drain 50%\n");
    say("drain 20% frobnicate\n");
    say("up ready"); /* without an end: it may have been cut */
    assert_true(pool_words_at(p, 0, &s));
    assert_true(s.refused >= 4);
    assert_true(s.reports >= 2);
    assert_true(s.failures >= 2);
    assert_int_equal(state_of(p, 0), HEALTH_DRAIN);
    assert_true(weight_of(p, 0) == 2);
    assert_true(s.share == 0.5);
    pool_free(&p);
}

static void
what_was_said_ends_with_the_agent_of_the_configuration(void **state)
{
    struct pool_conf c = two();
    struct pool *p = adopt(&c), *q;

    say("maint 25% maxconn:2\n");
    c = two();
    q = adopt(&c);
    assert_int_equal(state_of(q, 0), HEALTH_MAINT); /* a reload changes nothing */
    pool_free(&p);
    c = two();
    free(c.servers[0].agent);
    c.servers[0].agent = NULL;
    p = adopt(&c);
    assert_int_equal(state_of(p, 0), HEALTH_UP);
    assert_true(weight_of(p, 0) == 4);
    assert_int_equal(atomic_load(&p->view.load[0]->max_in_flight), 0);
    pool_free(&p);
    pool_free(&q);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        STORY(each_word_does_what_it_says),
        STORY(a_weight_is_a_share_of_the_configured_one),
        STORY(a_limit_is_lowered_but_not_raised),
        STORY(the_operator_is_above_the_agent),
        STORY(silence_and_nonsense_change_nothing),
        STORY(what_was_said_ends_with_the_agent_of_the_configuration),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
