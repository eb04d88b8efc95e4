/* SPDX-License-Identifier: BSD-2-Clause
 *
 * class_test.c - shapes of requests, rules, and which shapes become classes.
 */
#include "place/class.h"

#include "place/harness.h"

static void
what_varies_is_folded(void **state)
{
    static const char *const table[][2] = {
        {"/", "/"},
        {"", "/"},
        {"/users/4711/orders", "/users/{}/orders"},
        {"/users/4711/orders?page=2", "/users/{}/orders"},
        {"/users/4711#top", "/users/{}"},
        {"/a/", "/a/"},
        {"/v2/things", "/v2/things"},
        {"/h264/stream", "/h264/stream"},
        {"/1", "/{}"},
        {"/2024-01-31/report", "/{}/report"},
        {"/1.2.3/changes", "/{}/changes"},
        {"/order-12345", "/order-{}"},
        {"/img/photo123.jpg", "/img/photo{}.jpg"},
        {"/o/550e8400-e29b-41d4-a716-446655440000", "/o/{}"},
        {"/commit/6a4e0730b1", "/commit/{}"},
        {"/deadbeef", "/deadbeef"}, /* a word: no digit in it */
        {"/feedface1", "/{}"},
        {"/t/eyJhbGciOiJIUzI1NiJ9", "/t/{}"},
        {"/f/dGhpcyBpcyBhIHRlc3Q5OTk", "/f/{}"},
        {"/search/caf%C3%A9", "/search/{}"},
        {"/frequently-asked-questions", "/frequently-asked-questions"},
        {"/InternationalizationUtilities", "/InternationalizationUtilities"},
        {"/pkg.Service/Method", "/pkg.Service/Method"},
        {"/a b", "/a?b"},
        {"*", "/*"},
    };
    char out[CLASS_NAME_MAX], should[CLASS_NAME_MAX];

    for (unsigned i = 0; i < MC_COUNT(table); i++) {
        unsigned n = class_fold(STR("GET"), str_of(table[i][0]), out);

        snprintf(should, sizeof(should), "GET %s", table[i][1]);
        assert_string_equal(out, should);
        assert_int_equal(n, strlen(out));
    }
}

static void
a_folded_shape_folds_to_itself(void **state)
{
    char once[CLASS_NAME_MAX], twice[CLASS_NAME_MAX];

    class_fold(STR("GET"), STR("/users/4711/photo123.jpg"), once);
    class_fold(STR("GET"), str_of(once + 4), twice);
    assert_string_equal(once, twice);
}

static void
whatever_comes_fits(void **state)
{
    char path[600], out[CLASS_NAME_MAX];
    struct rng rng;

    rng_seed(&rng, 3);
    for (int round = 0; round < 20000; round++) {
        size_t n = rng_below(&rng, sizeof(path));
        unsigned len;

        for (size_t i = 0; i < n; i++)
            path[i] = rng_below(&rng, 4) ? (char)rng_next(&rng) : '/';
        len = class_fold((struct str){path, n / 2}, (struct str){path, n}, out);
        assert_true(len < CLASS_NAME_MAX);
        assert_int_equal(strlen(out), len);
        assert_true(class_hash((struct str){out, len}) > 1);
    }
}

static struct str
header(void *arg, struct str name)
{
    return str_eq_ci(name, STR("x-kind")) ? str_of(arg) : STR_NONE;
}

static void
rules_are_asked_in_order(void **state)
{
    static const struct class_rule rules[] = {
        {.name = {"report", 6}, .method = {"POST", 4}, .path = {"/report/*", 9}},
        {.name = {"grpc", 4}, .path = {"/pkg.Svc/Get", 12}},
        {.name = {"batch", 5}, .header = {"x-kind", 6}, .header_has = {"batch", 5}},
        {.name = {"export", 6}, .query = {"as", 2}, .query_is = {"csv", 3}},
        {.name = {"any-x", 5}, .query = {"x", 1}},
    };
    static const struct {
        const char *method, *path, *query, *kind, *rule;
    } table[] = {
        {"POST", "/report/1", "", NULL, "report"},  {"GET", "/report/1", "", NULL, NULL},
        {"POST", "/pkg.Svc/Get", "", NULL, "grpc"}, {"POST", "/pkg.Svc/GetX", "", NULL, NULL},
        {"GET", "/", "", "night batch", "batch"},   {"GET", "/", "", "bat", NULL},
        {"GET", "/", "a=1&as=csv", NULL, "export"}, {"GET", "/", "as=csvx", NULL, NULL},
        {"GET", "/", "x", NULL, "any-x"},
    };

    for (unsigned i = 0; i < MC_COUNT(table); i++) {
        struct class_ask ask = {str_of(table[i].method), str_of(table[i].path),
                                str_of(table[i].query), header, (void *)table[i].kind};
        const struct class_rule *r = class_rule_find(rules, MC_COUNT(rules), &ask);

        if (table[i].rule)
            assert_true(r && str_eq(r->name, str_of(table[i].rule)));
        else
            assert_null(r);
    }
}

/* --- the set
 * ----------------------------------------------------------------------------------------- */

static unsigned changes;

static void
changed(void *arg, unsigned class, uint64_t hash)
{
    changes++;
}

static void
note(struct class_set *s, unsigned i, double weight)
{
    char name[CLASS_NAME_MAX];

    snprintf(name, sizeof(name), "GET /%u", i);
    class_set_note(s, class_hash(str_of(name)), str_of(name), weight);
}

static uint16_t
class_of(const struct class_set *s, unsigned i)
{
    struct class_map *m = class_set_map(s);
    char name[CLASS_NAME_MAX];
    uint16_t k;

    snprintf(name, sizeof(name), "GET /%u", i);
    k = class_map_find(m, class_hash(str_of(name)));
    free(m);
    return k;
}

static void
the_heaviest_shapes_get_classes(void **state)
{
    struct class_set s;

    class_set_init(&s, 8);
    for (unsigned round = 0; round < 1000; round++) {
        for (unsigned i = 0; i < 7; i++)
            note(&s, i, 1);
        note(&s, 1000 + round, 1); /* never the same twice */
    }
    class_set_settle(&s, changed, NULL);
    for (unsigned i = 0; i < 7; i++)
        assert_int_not_equal(class_of(&s, i), 0);
    assert_int_equal(class_of(&s, 1999), 0);
    assert_true(str_eq(class_set_name(&s, 0), STR("other")));
    assert_true(str_starts(class_set_name(&s, class_of(&s, 3)), STR("GET /3")));
    class_set_fini(&s);
}

/* Space-saving's promise: never too little, and too much by no more than the counter's error. */
static void
weights_are_bounded(void **state)
{
    double truth[200] = {0}, total = 0;
    struct class_set s;
    struct rng rng;

    class_set_init(&s, 10);
    rng_seed(&rng, 5);
    for (unsigned n = 0; n < 100000; n++) {
        unsigned i = (unsigned)(200 * rng_unit(&rng) * rng_unit(&rng) * rng_unit(&rng));
        double w = rng_unit(&rng);

        note(&s, i, w);
        truth[i] += w;
        total += w;
    }
    for (unsigned c = 0; c < s.n_counters; c++) {
        unsigned i = (unsigned)atoi(s.counter[c].name + 5);

        assert_true(s.counter[c].weight >= truth[i] - 1e-6);
        assert_true(s.counter[c].weight - s.counter[c].error <= truth[i] + 1e-6);
        assert_true(s.counter[c].error <= total / s.n_counters + 1e-6);
    }
    class_set_fini(&s);
}

static void
a_class_stays_until_another_is_clearly_heavier(void **state)
{
    struct class_set s;

    class_set_init(&s, 2);
    note(&s, 1, 10);
    changes = 0;
    assert_int_equal(class_set_settle(&s, changed, NULL), 1);
    note(&s, 2, 12);
    assert_int_equal(class_set_settle(&s, changed, NULL), 0);
    assert_int_equal(class_of(&s, 1), 1);
    note(&s, 2, 10);
    assert_int_equal(class_set_settle(&s, changed, NULL), 1);
    assert_int_equal(class_of(&s, 2), 1);
    assert_int_equal(class_of(&s, 1), 0);
    assert_int_equal(changes, 2);
    class_set_fini(&s);
}

static void
old_weights_fade(void **state)
{
    struct class_set s;

    class_set_init(&s, 2);
    note(&s, 1, 1000);
    class_set_settle(&s, changed, NULL);
    for (int i = 0; i < 100; i++) {
        class_set_fade(&s, .9);
        note(&s, 2, 1);
    }
    class_set_add(&s, 1, .1);
    assert_int_equal(class_set_settle(&s, changed, NULL), 1);
    assert_int_equal(class_of(&s, 2), 1);
    class_set_fini(&s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_varies_is_folded),
        cmocka_unit_test(a_folded_shape_folds_to_itself),
        cmocka_unit_test(whatever_comes_fits),
        cmocka_unit_test(rules_are_asked_in_order),
        cmocka_unit_test(the_heaviest_shapes_get_classes),
        cmocka_unit_test(weights_are_bounded),
        cmocka_unit_test(a_class_stays_until_another_is_clearly_heavier),
        cmocka_unit_test(old_weights_fade),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
