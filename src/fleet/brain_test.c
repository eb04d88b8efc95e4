/* SPDX-License-Identifier: BSD-2-Clause */
#include "fleet/brain.h"

#include <pthread.h>
#include <sched.h>

#include "fleet/harness.h"
#include "http/msg.h"

#define MANY 20000

static struct pool_conf
resource_of(unsigned n)
{
    struct pool_conf c = pool_of(n);

    c.policy = policy_find(STR("resource"));
    c.report_interval_ns = 100 * MC_MS;
    return c;
}

static struct pool *
pool_with_brain(unsigned n)
{
    struct pool_conf c = resource_of(n);

    return adopt(&c);
}

static struct str
look(const struct pool *p, struct brain_pipe *pipe, unsigned worker, const char *route,
     const char *path, struct brain_use *u)
{
    static _Thread_local char text[BRAIN_NAME_MAX];
    struct http_head h = {.method_text = STR("GET"), .path = str_of(path)};

    return brain_look(p, pipe, worker, str_of(route), &h, text, u);
}

/* One request from begin to end, as a worker does it. */
static struct brain_use
serve(const struct pool *p, unsigned worker, const char *path, uint32_t server,
      enum place_event_kind kind)
{
    struct brain_pipe *pipe = brains_pipe(fleet_brains(F), worker);
    struct brain_use u;

    look(p, pipe, worker, NULL, path, &u);
    brain_begin(p->brain, pipe, &u, server, units_clock_ns());
    brain_end(p->brain, pipe, &u, server, kind, 0, units_clock_ns());
    return u;
}

static int32_t
own(const struct pool *p, uint32_t server)
{
    const struct load_table *t = p->brain->table;

    return atomic_load(&t->hot[t->pos[server]].own);
}

static bool
has_class(const struct pool *p, const char *name, struct brain_class *out)
{
    for (unsigned c = 0; c < brain_n_classes(p->brain); c++)
        if (brain_class_at(p->brain, c, out) && str_eq(out->name, str_of(name)))
            return true;
    return false;
}

/* --- */

static void
only_resource_needs_a_brain(void **state)
{
    struct pool_conf c = pool_of(2);
    struct pool *p = adopt(&c);

    assert_null(p->brain);
    assert_null(p->view.table);
    pool_free(&p);
    p = pool_with_brain(2);
    assert_non_null(p->brain);
    assert_ptr_equal(p->view.table, p->brain->table);
    pool_free(&p);
}

static void
what_is_known_is_fresh_while_the_loop_turns(void **state)
{
    struct pool *p = pool_with_brain(2);
    mc_ns now = units_clock_ns() + p->brain->wall_ns;

    UNTIL(atomic_load(&p->brain->table->good_until_ns) > now);
    pool_free(&p);
}

static void
shapes_become_classes_and_are_counted(void **state)
{
    struct pool *p = pool_with_brain(2);
    struct brain_class c;

    assert_int_equal(serve(p, 0, "/users/4711", 0, PLACE_END_OK).class, 0);
    UNTIL(has_class(p, "GET /users/{}", &c));
    assert_int_not_equal(serve(p, 0, "/users/4712", 0, PLACE_END_OK).class, 0);
    assert_int_equal(serve(p, 1, "/users/1", 1, PLACE_END_OK).class,
                     serve(p, 0, "/users/2", 0, PLACE_END_OK).class);
    UNTIL(has_class(p, "GET /users/{}", &c) && c.requests == 3);
    /* by latency, for want of agents; one in a while, since old ones count less and less */
    UNTIL((serve(p, 0, "/users/3", 0, PLACE_END_OK), has_class(p, "GET /users/{}", &c)) &&
          c.cost.known);
    pool_free(&p);
}

static void
the_route_is_in_the_name_where_it_matters(void **state)
{
    struct brain_pipe *pipe = brains_pipe(fleet_brains(F), 0);
    struct pool *p = pool_with_brain(1);
    struct brain_class c;
    struct brain_use u;

    look(p, pipe, 0, "api", "/x?a=1", &u);
    UNTIL(has_class(p, "api GET /x", &c));
    pool_free(&p);
}

static void
an_attempt_counts_from_its_begin_to_its_end(void **state)
{
    struct brain_pipe *pipe = brains_pipe(fleet_brains(F), 0);
    struct pool *p = pool_with_brain(2);
    struct brain_use u;

    look(p, pipe, 0, NULL, "/", &u);
    brain_begin(p->brain, pipe, &u, 1, units_clock_ns());
    assert_int_equal(own(p, 1), COST_ONE);
    assert_int_equal(pipe->n_told, 1);
    brain_end(p->brain, pipe, &u, 1, PLACE_END_OK, 0, units_clock_ns());
    assert_int_equal(own(p, 1), 0);
    assert_int_equal(pipe->n_told, 0);
    pool_free(&p);
}

static void
a_failed_attempt_counts_for_a_while(void **state)
{
    struct pool *p = pool_with_brain(2);

    serve(p, 0, "/", 0, PLACE_END_FAILED);
    assert_int_equal(own(p, 0), COST_ONE);
    UNTIL(own(p, 0) == 0);
    pool_free(&p);
}

static void
nobody_listens_and_nothing_breaks(void **state)
{
    struct pool *p = pool_with_brain(1);
    struct brain_use u;

    look(p, NULL, 0, NULL, "/", &u);
    brain_begin(p->brain, NULL, &u, 0, units_clock_ns());
    brain_end(p->brain, NULL, &u, 0, PLACE_END_FAILED, 0, units_clock_ns());
    assert_int_equal(own(p, 0), 0);
    pool_free(&p);
}

/* With nobody to drain it the pipe fills; each begin that was told still finds room for its end. */
static void
no_end_is_lost_when_the_pipe_is_full(void **state)
{
    struct brain_pipe *pipe = brains_pipe(fleet_brains(F), 0);
    struct pool *p = pool_with_brain(1);
    unsigned n = pipe->events.n_slots, told = 0;
    struct brain_use *u = mc_alloc(n * sizeof(*u));

    look(p, pipe, 0, NULL, "/", &u[0]);
    for (unsigned i = 0; i < n; i++) {
        u[i] = u[0];
        brain_begin(p->brain, pipe, &u[i], 0, units_clock_ns());
        told += u[i].told;
    }
    assert_int_equal(told, n / 2);
    assert_int_equal(brains_lost(fleet_brains(F)), n - told);
    for (unsigned i = 0; i < n; i++)
        brain_end(p->brain, pipe, &u[i], 0, i % 2 ? PLACE_END_OK : PLACE_END_VOID, 0,
                  units_clock_ns());
    assert_int_equal(own(p, 0), 0);
    assert_true(brains_drain(fleet_brains(F)) >= 2 * told);
    free(u);
    pool_free(&p);
}

/* --- what responses say --- */

/* One request whose response says so; "": it says nothing. */
static void
hear(const struct pool *p, unsigned worker, uint32_t server, const char *text,
     enum place_event_kind kind)
{
    struct brain_pipe *pipe = brains_pipe(fleet_brains(F), worker);
    struct brain_use u;

    look(p, pipe, worker, NULL, "/told", &u);
    brain_begin(p->brain, pipe, &u, server, units_clock_ns());
    brain_hear(p->brain, pipe, worker, &u, server, str_of(text), STR_NONE, units_clock_ns());
    brain_end(p->brain, pipe, &u, server, kind, 0, units_clock_ns());
}

static struct brain_said
said(const struct pool *p, uint32_t server)
{
    struct brain_server s;

    brain_server_at(p->brain, server, &s);
    return s.said;
}

static void
what_a_response_says_of_its_server_is_known(void **state)
{
    struct pool *p = pool_with_brain(2);

    assert_int_equal(said(p, 1).age, MC_NEVER_NS);
    hear(p, 0, 1, "TEXT cpu_utilization=.75,mem_utilization=.5", PLACE_END_OK);
    UNTIL(said(p, 1).age != MC_NEVER_NS);
    assert_true(said(p, 1).cpu == .75 && said(p, 1).memory == .5 && said(p, 1).application < 0);
    assert_int_equal(said(p, 1).reports, 1);
    assert_int_equal(said(p, 0).reports, 0);
    UNTIL((hear(p, 1, 1, "JSON {\"application_utilization\": 1}", PLACE_END_OK),
           hear(p, 1, 0, "TEXT cpu_utilization=0", PLACE_END_OK), said(p, 1).price > 1.1));
    assert_true(said(p, 0).price == 1);
    pool_free(&p);
}

static void
a_servers_load_is_told_every_10_ms_at_most(void **state)
{
    struct brain_pipe *pipe = brains_pipe(fleet_brains(F), 0);
    struct pool *p = pool_with_brain(2);
    struct brain_use u = {0};
    mc_ns t = MC_SEC;

    for (int i = 0; i < 100; i++, t += MC_MS)
        for (uint32_t s = 0; s < 2; s++)
            brain_hear(p->brain, pipe, 0, &u, s, STR("TEXT cpu_utilization=1"), STR_NONE, t);
    assert_int_equal(atomic_load(&pipe->words.sent), 20);
    assert_int_equal(said(p, 0).reports, 100);
    /* and when nobody takes them, they are lost and counted */
    for (unsigned i = 0; i < pipe->words.n_slots; i++)
        brain_hear(p->brain, pipe, 0, &u, 0, STR("TEXT cpu_utilization=1"), STR_NONE,
                   t += 10 * MC_MS);
    assert_int_equal(brains_lost(fleet_brains(F)), 20);
    pool_free(&p);
}

static void
what_a_request_took_is_its_servers_word(void **state)
{
    struct pool *p = pool_with_brain(1);
    struct brain_class c;

    UNTIL((hear(p, 0, 0, "TEXT request_cost.cpu_seconds=.25", PLACE_END_OK),
           has_class(p, "GET /told", &c)) &&
          c.told);
    assert_true(c.cost.known && c.cost.cpu_s > .24f && c.cost.cpu_s < .26f);
    assert_int_equal(said(p, 0).age, MC_NEVER_NS); /* of its load it said nothing */
    pool_free(&p);
}

static void
nonsense_is_refused_and_counted(void **state)
{
    static const char *const nonsense[] = {
        "TEXT cpu_utilization=nan",
        "TEXT cpu_utilization=-1",
        "TEXT mem_utilization=2",
        "TEXT request_cost.cpu=1e9",
        "cpu_utilization=1",
        "JSON [1]",
        "BIN ////",
        "",
    };
    struct pool *p = pool_with_brain(1);
    struct brain_class c;

    for (size_t i = 0; i < MC_COUNT(nonsense); i++)
        hear(p, i % 2, 0, nonsense[i], PLACE_END_OK);
    settle();
    assert_int_equal(said(p, 0).refused, MC_COUNT(nonsense));
    assert_int_equal(said(p, 0).reports, 0);
    assert_string_not_equal(said(p, 0).why, "");
    hear(p, 0, 0, "TEXT request_cost.cpu=9e4", PLACE_END_OK); /* of a request that was there 1 us */
    UNTIL(said(p, 0).refused == MC_COUNT(nonsense) + 1);
    assert_false(has_class(p, "GET /told", &c) && c.told);
    assert_true(said(p, 0).price == 1);
    pool_free(&p);
}

static void
a_reload_with_the_same_servers_keeps_the_brain(void **state)
{
    struct pool *p = pool_with_brain(2), *q = pool_with_brain(2);

    assert_ptr_equal(p->brain, q->brain);
    pool_free(&p);
    assert_ptr_equal(q->brain->table, q->view.table);
    pool_free(&q);
}

static void
other_servers_begin_with_the_costs_of_the_last(void **state)
{
    struct pool *p = pool_with_brain(2), *q;
    struct brain_use old;
    struct brain_class c;

    while (!has_class(p, "GET /dear", &c) || !c.cost.known) {
        serve(p, 0, "/dear", 0, PLACE_END_OK);
        loop_turn(L, MC_MS);
    }
    look(p, NULL, 0, NULL, "/dear", &old);
    brain_begin(p->brain, brains_pipe(fleet_brains(F), 0), &old, 0, units_clock_ns());
    q = pool_with_brain(3);
    assert_ptr_not_equal(p->brain, q->brain);
    assert_true(has_class(q, "GET /dear", &c) && c.cost.known);
    assert_int_not_equal(serve(q, 1, "/dear", 2, PLACE_END_OK).class, 0);
    /* the old one is still good for the requests that it has */
    settle();
    brain_end(p->brain, brains_pipe(fleet_brains(F), 0), &old, 0, PLACE_END_OK, 0,
              units_clock_ns());
    pool_free(&p);
    settle();
    pool_free(&q);
}

static void
a_configuration_that_comes_to_nothing_leaves_no_brain(void **state)
{
    struct pool_conf c[2] = {resource_of(2), resource_of(2)};
    struct pool **pools;
    struct errbuf err;

    assert_int_equal(fleet_build(F, c, 2, &pools, &err), MC_EEXIST); /* one name, twice */
    settle();
}

/* The rules of a pool: name, path, name, path ... */
static void
add_rules(struct pool_conf *c, const char *const *words, unsigned n)
{
    c->rules.v = mc_alloc(n * sizeof(*c->rules.v));
    for (c->rules.n = 0; c->rules.n < n; c->rules.n++)
        c->rules.v[c->rules.n] = (struct class_rule){.name = mc_strdup(words[2 * c->rules.n]),
                                                     .path = mc_strdup(words[2 * c->rules.n + 1])};
}

static struct pool *
pool_with_rules(unsigned n_servers, unsigned n_classes, const char *const *words, unsigned n)
{
    struct pool_conf c = resource_of(n_servers);

    c.n_classes = n_classes;
    add_rules(&c, words, n);
    return adopt(&c);
}

static void
the_rule_that_fits_first_names_the_class(void **state)
{
    static const char *const rules[] = {"home", "/", "img", "/img/*", "late", "/img/a"};
    struct pool *p = pool_with_rules(1, 16, rules, 3);
    struct brain_pipe *pipe = brains_pipe(fleet_brains(F), 0);
    struct brain_use home, img, other;
    struct brain_class c;

    assert_int_equal(brain_n_classes(p->brain), 16);
    assert_true(has_class(p, "late", &c) && c.rule && c.requests == 0);
    assert_true(str_eq(look(p, pipe, 0, "route", "/?a", &home), STR("home")));
    assert_true(str_eq(look(p, pipe, 0, NULL, "/img/a", &img), STR("img")));
    assert_true(str_eq(look(p, pipe, 0, NULL, "/x/1", &other), STR("other")));
    assert_true(home.class != 0 && img.class != 0 && home.class != img.class);
    assert_int_equal(other.class, 0);
    UNTIL(has_class(p, "GET /x/{}", &c));
    assert_false(c.rule);
    pool_free(&p);
}

static void
a_rule_that_keeps_its_name_keeps_what_was_learned(void **state)
{
    static const char *const before[] = {"dear", "/dear/*", "gone", "/gone/*"};
    static const char *const after[] = {"new", "/new", "dear", "/dearer/*"};
    struct pool *p = pool_with_rules(2, 0, before, 2), *q;
    struct brain_class c;
    struct brain_use u;

    do {
        serve(p, 0, "/dear/a", 0, PLACE_END_OK);
        loop_turn(L, MC_MS);
    } while (!has_class(p, "dear", &c) || !c.cost.known);
    for (unsigned n_servers = 2; n_servers <= 3; n_servers++) { /* the same brain, and another */
        q = pool_with_rules(n_servers, 0, after, 2);
        assert_true(has_class(q, "dear", &c) && c.cost.known && c.rule && c.requests > 0);
        assert_true(has_class(q, "new", &c) && !c.cost.known);
        assert_false(has_class(q, "gone", &c));
        assert_true(str_eq(look(q, NULL, 0, NULL, "/dearer/x", &u), STR("dear")));
        UNTIL((look(q, NULL, 0, NULL, "/dearer/x", &u), u.cost.known));
        /* a request that goes by the old rules */
        assert_true(str_eq(look(p, NULL, 0, NULL, "/gone/x", &u), STR("other")));
        pool_free(&p);
        p = q;
    }
    pool_free(&p);
}

static void
fewer_classes_keep_what_fits(void **state)
{
    static const char *const rule[] = {"dear", "/dear/*"};
    struct pool *p = pool_with_rules(2, 64, rule, 1), *q;
    struct brain_class c;
    unsigned n = 0;

    while (n < 30) {
        char path[16];

        snprintf(path, sizeof(path), "/c%c/x", (char)('a' + n % 15));
        serve(p, 0, n % 2 ? "/dear/a" : path, 0, PLACE_END_OK);
        loop_turn(L, MC_MS);
        n++;
    }
    UNTIL((serve(p, 0, "/dear/a", 0, PLACE_END_OK), has_class(p, "dear", &c)) && c.cost.known);
    q = pool_with_rules(2, 4, rule, 1);
    assert_ptr_not_equal(p->brain, q->brain);
    assert_int_equal(brain_n_classes(q->brain), 4);
    assert_true(has_class(q, "dear", &c) && c.cost.known && c.requests > 0);
    pool_free(&p);
    pool_free(&q);
}

struct hand {
    const struct pool *p;
    unsigned worker;
};

static void *
work(void *arg)
{
    const struct hand *h = arg;
    char path[32];

    for (int i = 0; i < MANY; i++) {
        snprintf(path, sizeof(path), "/c%c/%d", 'a' + i / 64 % 20, i);
        serve(h->p, h->worker, path, (uint32_t)i % 3, i % 100 ? PLACE_END_OK : PLACE_END_FAILED);
        if (i % 64 == 0)
            sched_yield();
    }
    return NULL;
}

static void
workers_and_control_need_no_lock(void **state)
{
    struct pool *p = pool_with_brain(3);
    struct hand hands[2] = {{p, 0}, {p, 1}};
    pthread_t thread[2];
    uint64_t begun = 0;
    struct brain_class c;

    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, work, &hands[i]), 0);
    for (int i = 0; i < 100; i++)
        loop_turn(L, 5 * MC_MS);
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    UNTIL(own(p, 0) == 0 && own(p, 1) == 0 && own(p, 2) == 0);
    for (unsigned k = 0; k < brain_n_classes(p->brain); k++)
        begun += brain_class_at(p->brain, k, &c) ? c.requests : 0;
    assert_true(begun > 0 && begun <= 2 * MANY);
    pool_free(&p);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fleet_setup, fleet_teardown)
    const struct CMUnitTest tests[] = {
        T(only_resource_needs_a_brain),
        T(what_is_known_is_fresh_while_the_loop_turns),
        T(shapes_become_classes_and_are_counted),
        T(the_route_is_in_the_name_where_it_matters),
        T(an_attempt_counts_from_its_begin_to_its_end),
        T(a_failed_attempt_counts_for_a_while),
        T(nobody_listens_and_nothing_breaks),
        T(no_end_is_lost_when_the_pipe_is_full),
        T(what_a_response_says_of_its_server_is_known),
        T(a_servers_load_is_told_every_10_ms_at_most),
        T(what_a_request_took_is_its_servers_word),
        T(nonsense_is_refused_and_counted),
        T(a_reload_with_the_same_servers_keeps_the_brain),
        T(other_servers_begin_with_the_costs_of_the_last),
        T(a_configuration_that_comes_to_nothing_leaves_no_brain),
        T(the_rule_that_fits_first_names_the_class),
        T(a_rule_that_keeps_its_name_keeps_what_was_learned),
        T(fewer_classes_keep_what_fits),
        T(workers_and_control_need_no_lock),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
