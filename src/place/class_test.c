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

#define Z(text) ((char *)(text)) /* rules own their text, and do not touch it */

/* Two fields x-kind and one content-type, as the request has them. */
struct fields {
    const char *kind[2], *type;
};

static struct str
field(const void *arg, struct str name, unsigned i)
{
    const struct fields *f = arg;

    if (str_eq_ci(name, STR("content-type")))
        return i == 0 ? str_of(f->type) : STR_NONE;
    return i < 2 && str_eq_ci(name, STR("x-kind")) ? str_of(f->kind[i]) : STR_NONE;
}

static void
rules_are_asked_in_order(void **state)
{
    static struct class_rule v[] = {
        {.name = Z("report"), .method = Z("POST"), .path = Z("/report/*")},
        {.name = Z("call"), .grpc = Z("pkg.Svc/Get")},
        {.name = Z("service"), .grpc = Z("pkg.Svc/*")},
        {.name = Z("batch"), .header = Z("X-Kind"), .header_is = Z("night batch")},
        {.name = Z("kind"), .header = Z("x-kind"), .path = Z("/kind")},
        {.name = Z("export"), .query = Z("as"), .query_is = Z("csv")},
        {.name = Z("any-x"), .query = Z("x")},
        {.name = Z("home"), .path = Z("/")},
    };
    static const struct class_rules rules = {v, MC_COUNT(v)};
    static const struct {
        const char *method, *path;
        struct fields fields;
        const char *rule;
    } table[] = {
        {"POST", "/report/1", {.type = NULL}, "report"},
        {"POST", "/report/", {.type = NULL}, "report"},
        {"POST", "/report", {.type = NULL}, NULL},
        {"post", "/report/1", {.type = NULL}, NULL},
        {"GET", "/report/1", {.type = NULL}, NULL},
        {"POST", "/pkg.Svc/Get", {.type = "application/grpc"}, "call"},
        {"POST", "/pkg.Svc/Get", {.type = "Application/gRPC+proto"}, "call"},
        {"POST", "/pkg.Svc/Get", {.type = "application/grpc;v=1"}, "call"},
        {"POST", "/pkg.Svc/Put", {.type = "application/grpc"}, "service"},
        {"POST", "/pkg.Svc/Get", {.type = "application/grpc-web"}, NULL},
        {"POST", "/pkg.Svc/Get", {.type = "application/json"}, NULL},
        {"POST", "/pkg.Svc/Get", {.type = NULL}, NULL},
        {"GET", "/", {.kind = {"night batch"}}, "batch"},
        {"GET", "/", {.kind = {"day", "night batch"}}, "batch"},
        {"GET", "/kind?a", {.kind = {"day"}}, "kind"},
        {"GET", "/kind?a", {.kind = {""}}, "kind"},
        {"GET", "/kind?a", {.type = NULL}, NULL},
        {"GET", "/a?b=1&as=csv", {.type = NULL}, "export"},
        {"GET", "/a?as=csvx", {.type = NULL}, NULL},
        {"GET", "/a?bas=csv", {.type = NULL}, NULL},
        {"GET", "/a?x", {.type = NULL}, "any-x"},
        {"GET", "/a?x=1", {.type = NULL}, "any-x"},
        {"GET", "/?", {.type = NULL}, "home"},
        {"GET", "", {.type = NULL}, NULL},
        {"OPTIONS", "*", {.type = NULL}, NULL},
    };

    for (unsigned i = 0; i < MC_COUNT(table); i++) {
        struct class_ask ask = {str_of(table[i].method), str_of(table[i].path), field,
                                &table[i].fields};
        const struct class_rule *r = class_rule_find(&rules, &ask);

        if (!r != !table[i].rule || (r && strcmp(r->name, table[i].rule) != 0))
            fail_msg("%s %s is %s", table[i].method, table[i].path, r ? r->name : "nothing");
    }
}

static void
paths_of_rules_have_holes(void **state)
{
    static const struct {
        const char *rule, *path;
        bool fits;
    } table[] = {
        {"/users/{}", "/users/7", true},
        {"/users/{}", "/users/", false},
        {"/users/{}", "/users/7/", false},
        {"/users/{}", "/users/7/orders", false},
        {"/users/{}/orders", "/users/7/orders", true},
        {"/users/{}/orders", "/users/7/x/orders", false},
        {"/users/{}/*", "/users/7/", true},
        {"/users/{}*", "/users/7/orders", true},
        {"/img/photo{}.jpg", "/img/photo1.jpg", true},
        {"/img/photo{}.jpg", "/img/photo.jpg", false},
        {"/img/photo{}.jpg", "/img/photo1.jpg.jpg", true},
        {"/img/photo{}.jpg", "/img/photo1.jpg/", false},
        {"/{}-{}/x", "/a-b-c/x", true},
        {"/{}-{}/x", "/a-/x", false},
        {"/{}{}", "/a", false},
        {"/{}{}", "/ab", true},
        {"/{}b/{}c", "/abb/c", false},
        {"/{}b/{}c", "/abb/cc", true},
        {"/search", "/search", true},
        {"/search", "/searches", false},
        {"/search*", "/searches", true},
        {"/*", "/", true},
        {"/*", "", false},
    };

    for (unsigned i = 0; i < MC_COUNT(table); i++) {
        struct class_rule r = {.name = Z("r"), .path = Z(table[i].rule)};
        struct class_rules rules = {&r, 1};
        struct class_ask ask = {STR("GET"), str_of(table[i].path), field,
                                &(struct fields){.type = NULL}};

        if ((class_rule_find(&rules, &ask) != NULL) != table[i].fits)
            fail_msg("%s and %s", table[i].rule, table[i].path);
    }
}

/* --- the set ------------------------------------------------------------------------------------
 */

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
rules_keep_their_classes(void **state)
{
    struct class_rule v[] = {{.name = Z("a")}, {.name = Z("b")}, {.name = Z("c")}};
    struct class_rules one = {v, 1}, three = {v, 3}, last = {&v[2], 1};
    uint64_t c = class_hash(STR("c"));
    struct class_set s;
    unsigned class;

    class_set_init(&s, 4);
    for (unsigned i = 0; i < 3; i++)
        note(&s, i, 1000);
    class_set_settle(&s, changed, NULL);
    changes = 0;
    assert_int_equal(class_set_pin(&s, &one, changed, NULL), 1);
    assert_int_equal(class_set_pin(&s, &one, changed, NULL), 0);
    assert_int_equal(class_set_pin(&s, &three, changed, NULL), 2);
    assert_int_equal(changes, 3);
    class = class_set_find(&s, c);
    assert_true(class_set_is_pinned(&s, class));
    /* whatever is heavy, there is no room for it */
    note(&s, 1, 1e6);
    assert_int_equal(class_set_settle(&s, changed, NULL), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(class_of(&s, i), 0);
    assert_true(str_eq(class_set_name(&s, class), STR("c")));
    /* who is not named any more makes room, who is stays where it was */
    assert_int_equal(class_set_pin(&s, &last, changed, NULL), 2);
    assert_int_equal(class_set_find(&s, c), class);
    assert_int_equal(class_set_find(&s, class_hash(STR("a"))), 0);
    assert_int_equal(class_set_settle(&s, changed, NULL), 2);
    assert_int_not_equal(class_of(&s, 1), 0);
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
        cmocka_unit_test(paths_of_rules_have_holes),
        cmocka_unit_test(the_heaviest_shapes_get_classes),
        cmocka_unit_test(weights_are_bounded),
        cmocka_unit_test(a_class_stays_until_another_is_clearly_heavier),
        cmocka_unit_test(rules_keep_their_classes),
        cmocka_unit_test(old_weights_fade),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
