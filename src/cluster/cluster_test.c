/* SPDX-License-Identifier: BSD-2-Clause
 *
 * cluster_test.c - members over the loopback, several on one loop.
 */
#include "cluster/cluster.h"

#include "base/log.h"
#include "base/pack.h"
#include "io/harness.h"

#define NODES      3
#define KEY_ONE    "ERERERERERERERERERERERERERERERERERERERERERE=\n"
#define KEY_TWO    "IiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiI=\n"
#define NAME_BYTES 16

struct node {
    struct cluster *c;
    char name[NAME_BYTES];
    struct addr at;
    char *join[NODES];
    unsigned n_join;
    char text[NODES][ADDR_TEXT]; /* of join */
    /* what was heard */
    unsigned n_members, n_restarts, n_facts, n_words, n_loads, n_left;
    uint64_t owner, from;
    char fact[32], word[32], load[32];
    bool gone;
};

static struct node node[NODES];

/* --- hooks -------------------------------------------------------------------------------------
 */

static void
on_members(void *arg)
{
    struct node *n = arg;

    n->n_members++;
}

static void
on_restart(void *arg, uint64_t member)
{
    struct node *n = arg;

    n->n_restarts++;
}

static void
on_fact(void *arg, uint64_t owner, struct str key, const void *value, size_t bytes, mc_ns age_ns)
{
    struct node *n = arg;

    n->n_facts++;
    n->owner = owner;
    n->gone = value == NULL;
    snprintf(n->fact, sizeof(n->fact), STR_FMT "=%.*s", STR_ARG(key), (int)bytes,
             value ? (const char *)value : "");
}

static void
on_word(void *arg, const struct word *w)
{
    struct node *n = arg;

    n->n_words++;
    snprintf(n->word, sizeof(n->word), "%s " STR_FMT, word_say_text(w->say), STR_ARG(w->name));
}

static void
on_load(void *arg, uint64_t from, const void *bytes, size_t n_bytes)
{
    struct node *n = arg;

    n->n_loads++;
    n->from = from;
    snprintf(n->load, sizeof(n->load), "%.*s", (int)n_bytes, (const char *)bytes);
}

static void
on_left(void *arg)
{
    struct node *n = arg;

    n->n_left++;
}

/* --- members -----------------------------------------------------------------------------------
 */

static void
add_join(struct node *n, const struct addr *at)
{
    addr_text(at, n->text[n->n_join]);
    n->join[n->n_join] = n->text[n->n_join];
    n->n_join++;
}

static enum mc_err
try_open(struct node *n, const char *key_file, struct errbuf *e)
{
    struct cluster_conf conf = {
        .name = str_of(n->name),
        .bind = n->at,
        .join = n->join,
        .n_join = n->n_join,
        .key_file = key_file,
        .meta = n->name,
        .meta_n = strlen(n->name),
        .loop = L,
        .hooks = {.arg = n,
                  .on_members = on_members,
                  .on_restart = on_restart,
                  .on_fact = on_fact,
                  .on_word = on_word,
                  .on_load = on_load},
    };

    return cluster_new(&conf, &n->c, e);
}

/* Starts a member that is told of `of`, if any. */
static void
open_node(struct node *n, const char *name, const struct node *of, const char *key_file)
{
    struct errbuf e = {""};
    enum mc_err rv = MC_ESYS;

    memset(n, 0, sizeof(*n));
    snprintf(n->name, sizeof(n->name), "%s", name);
    if (of)
        add_join(n, &of->at);
    for (unsigned tries = 0; rv != MC_OK && tries < 20; tries++) {
        n->at = free_address();
        rv = try_open(n, key_file, &e);
    }
    if (rv != MC_OK)
        fail_msg("%s", e.text);
    cluster_start(n->c);
}

static unsigned
others(const struct node *n)
{
    unsigned k;

    cluster_others(n->c, &k);
    return k;
}

static bool
are_together(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (others(&node[i]) != n - 1)
            return false;
    return true;
}

static void
open_nodes(unsigned n)
{
    static const char *const names[] = {"a", "b", "c"};

    for (unsigned i = 0; i < n; i++)
        open_node(&node[i], names[i], i > 0 ? &node[0] : NULL, NULL);
    UNTIL(are_together(n));
}

static int
setup(void **state)
{
    log_setup(LOG_LEVEL_ERROR, false);
    memset(node, 0, sizeof(node));
    return loop_setup(state);
}

static int
teardown(void **state)
{
    for (unsigned i = 0; i < NODES; i++)
        cluster_free(&node[i].c);
    settle();
    return loop_teardown(state);
}

static enum swim_state
state_at(const struct node *n, const char *name)
{
    const struct swim_member *m = swim_find(cluster_swim(n->c), str_of(name));

    return m ? m->state : SWIM_NONE;
}

/* --- what they say -----------------------------------------------------------------------------
 */

static void
members_find_each_other(void **state)
{
    open_nodes(3);
    for (unsigned i = 0; i < 3; i++) {
        unsigned n;
        const uint64_t *ids = cluster_others(node[i].c, &n);
        struct cluster_traffic t;

        assert_true(ids[0] < ids[1]);
        assert_true(cluster_traffic(node[i].c, ids[0], &t));
        assert_false(cluster_traffic(node[i].c, cluster_id(node[i].c), &t));
        assert_true(node[i].n_members > 0);
        assert_int_equal(llabs(cluster_skew(node[i].c, ids[0])) < MC_SEC, 1);
    }
    assert_true(swim_joined(cluster_swim(node[1].c)));
    assert_true(cluster_counters(node[0].c)->syncs > 0);
}

static void
facts_are_heard_by_all(void **state)
{
    open_nodes(3);
    assert_int_equal(cluster_fact_set(node[0].c, STR("k"), FACTS_NOW, "v1", 2), MC_OK);
    for (unsigned i = 1; i < 3; i++) {
        UNTIL(node[i].n_facts > 0);
        assert_string_equal(node[i].fact, "k=v1");
        assert_int_equal(node[i].owner, cluster_id(node[0].c));
    }
    assert_int_equal(node[0].n_facts, 0);
    cluster_fact_del(node[0].c, STR("k"));
    UNTIL(node[1].gone && node[2].gone);
}

static void
as_many_facts_as_servers_fit(void **state)
{
    static char value[100];

    open_nodes(1);
    for (unsigned i = 0; i < 20000; i++) {
        char key[16];

        snprintf(key, sizeof(key), "%08u", i);
        assert_int_equal(cluster_fact_set(node[0].c, str_of(key), FACTS_NOW, value, sizeof(value)),
                         MC_OK);
    }
}

static void
words_are_heard_by_all_and_by_who_comes_later(void **state)
{
    struct word w = {.say = WORD_DRAIN, .name = STR("p/s"), .where = STR("a")};

    open_nodes(2);
    assert_int_equal(cluster_say(node[1].c, &w), MC_OK);
    assert_string_equal(node[1].word, "drain p/s"); /* at once where it is said */
    UNTIL(node[0].n_words > 0);
    assert_string_equal(node[0].word, "drain p/s");
    open_node(&node[2], "c", &node[0], NULL);
    UNTIL(node[2].n_words > 0);
    assert_string_equal(node[2].word, "drain p/s");
}

static void
words_from_the_disk_are_told_on(void **state)
{
    static const char text[] = "drain p/s at=1700000000000.0.17 when=1700000000000\nnonsense\n";
    struct errbuf e;

    open_nodes(1);
    snprintf(node[1].name, sizeof(node[1].name), "b");
    node[1].at = free_address();
    add_join(&node[1], &node[0].at);
    assert_int_equal(try_open(&node[1], NULL, &e), MC_OK);
    assert_int_equal(cluster_load_words(node[1].c, str_of(text)), 1); /* line is none */
    assert_string_equal(node[1].word, "drain p/s");
    cluster_start(node[1].c);
    UNTIL(node[0].n_words > 0);
    assert_string_equal(node[0].word, "drain p/s");
}

static void
loads_go_to_whom_they_are_for(void **state)
{
    open_nodes(3);
    cluster_send(node[0].c, cluster_id(node[1].c), "one", 3);
    UNTIL(node[1].n_loads == 1);
    assert_string_equal(node[1].load, "one");
    assert_int_equal(node[1].from, cluster_id(node[0].c));
    cluster_send_all(node[0].c, "all", 3);
    UNTIL(node[1].n_loads == 2 && node[2].n_loads == 1);
    assert_string_equal(node[2].load, "all");
    cluster_send(node[0].c, 12345, "nobody", 6);
    settle();
    assert_int_equal(node[1].n_loads + node[2].n_loads, 3);
}

/* Frames that are as large as they may be, and more than one datagram holds. */
static void
much_at_once_arrives(void **state)
{
    static char big[CLUSTER_LOAD_MAX];

    open_nodes(2);
    for (unsigned i = 0; i < 20; i++)
        cluster_send_all(node[0].c, big, sizeof(big));
    for (unsigned i = 0; i < 200; i++)
        cluster_send_all(node[0].c, "small", 5);
    UNTIL(node[1].n_loads == 220);
}

/* --- coming and going --------------------------------------------------------------------------
 */

static void
who_leaves_says_so(void **state)
{
    open_nodes(3);
    cluster_leave(node[1].c, on_left, &node[1]);
    assert_int_equal(node[1].n_left, 0);
    cluster_set_join(node[1].c, node[1].join, node[1].n_join); /* nobody is looked for any more */
    UNTIL(node[1].n_left == 1);
    UNTIL(state_at(&node[0], "b") == SWIM_LEFT && state_at(&node[2], "b") == SWIM_LEFT);
    UNTIL(others(&node[0]) == 1 && others(&node[2]) == 1);
    cluster_send_all(node[1].c, "x", 1);
    cluster_fact_set(node[1].c, STR("k"), FACTS_NOW, "v", 1);
    settle();
    assert_int_equal(node[1].n_left, 1);
    assert_int_equal(node[0].n_loads + node[0].n_facts, 0);
}

static void
who_never_began_leaves_at_once(void **state)
{
    struct errbuf e;

    node[0].at = free_address();
    snprintf(node[0].name, sizeof(node[0].name), "a");
    assert_int_equal(try_open(&node[0], NULL, &e), MC_OK);
    cluster_leave(node[0].c, on_left, &node[0]);
    assert_int_equal(node[0].n_left, 1);
}

static void
who_begins_anew_is_the_same_member(void **state)
{
    struct errbuf e;

    open_nodes(2);
    assert_int_equal(cluster_fact_set(node[1].c, STR("k"), FACTS_NOW, "old", 3), MC_OK);
    UNTIL(node[0].n_facts > 0);
    cluster_free(&node[1].c);
    settle();
    assert_int_equal(try_open(&node[1], NULL, &e), MC_OK);
    cluster_start(node[1].c);
    assert_int_equal(cluster_fact_set(node[1].c, STR("k"), FACTS_NOW, "new", 3), MC_OK);
    UNTIL(strcmp(node[0].fact, "k=new") == 0);
    assert_int_equal(others(&node[0]), 1);
    UNTIL(node[0].n_restarts == 1);
}

static bool
has_conflict(const struct node *n)
{
    return cluster_conflict(n->c);
}

/* Which of two that began at the same time keeps the name is not said. */
static void
a_name_is_one_members(void **state)
{
    struct node *loser;
    unsigned told;

    open_nodes(2);
    open_node(&node[2], "a", &node[1], NULL);
    UNTIL(has_conflict(&node[0]) || has_conflict(&node[2]));
    loser = has_conflict(&node[0]) ? &node[0] : &node[2];
    UNTIL(others(loser) == 0);
    settle();
    told = loser->n_members;
    /* it may be spoken to as before, and says nothing to anybody */
    for (unsigned i = 0; i < 5; i++) {
        cluster_fact_set(loser->c, STR("k"), FACTS_NOW, &i, sizeof(i));
        cluster_send_all(loser->c, "x", 1);
        cluster_set_join(loser->c, loser->join, loser->n_join);
        cluster_set_meta(loser->c, &i, sizeof(i));
        settle();
    }
    assert_int_equal(loser->n_members, told);
    assert_int_equal(node[1].n_facts + node[1].n_loads, 0);
    cluster_leave(loser->c, on_left, loser);
    assert_int_equal(loser->n_left, 1);
}

/* Whatever is under way. */
static void
it_may_end_at_any_time(void **state)
{
    for (unsigned turns = 0; turns < 40; turns++) {
        open_node(&node[0], "a", NULL, NULL);
        open_node(&node[1], "b", &node[0], NULL);
        for (unsigned i = 0; i < turns; i++)
            loop_turn(L, turns % 4 == 0 ? MC_MS : 0);
        cluster_free(&node[turns % 2].c);
        loop_turn(L, 0);
        cluster_free(&node[!(turns % 2)].c);
    }
}

static void
a_taken_address_is_told(void **state)
{
    struct errbuf e = {""};

    open_nodes(1);
    node[1].at = node[0].at;
    snprintf(node[1].name, sizeof(node[1].name), "b");
    assert_int_equal(try_open(&node[1], NULL, &e), MC_ESYS);
    assert_true(strlen(e.text) > 0);
    assert_null(node[1].c);
}

/* --- keys and strangers ------------------------------------------------------------------------
 */

static void
write_key(char path[64], const char *keys)
{
    FILE *f;
    int fd;

    snprintf(path, 64, "/tmp/meercat-cluster-test-XXXXXX");
    fd = mkstemp(path);
    assert_true(fd >= 0);
    f = fdopen(fd, "w");
    fputs(keys, f);
    fclose(f);
}

static void
beyond_this_host_a_key_is_needed(void **state)
{
    struct errbuf e = {""};

    assert_true(addr_parse_ip(STR("192.0.2.1"), 7707, &node[0].at));
    snprintf(node[0].name, sizeof(node[0].name), "a");
    assert_int_equal(try_open(&node[0], NULL, &e), MC_EINVAL);
    assert_non_null(strstr(e.text, "key-file"));
}

static void
another_key_is_met_with_silence(void **state)
{
    char one[64], two[64];

    write_key(one, KEY_ONE);
    write_key(two, KEY_TWO);
    open_node(&node[0], "a", NULL, one);
    open_node(&node[1], "b", &node[0], one);
    UNTIL(are_together(2));
    open_node(&node[2], "c", &node[0], two);
    UNTIL(seal_count(cluster_keyring(node[0].c), SEAL_F_KEY) > 0);
    assert_int_equal(others(&node[2]), 0);
    assert_int_equal(state_at(&node[0], "c"), SWIM_NONE);
    unlink(one);
    unlink(two);
}

static void
keys_are_replaced_while_they_speak(void **state)
{
    static const char *const steps[] = {KEY_ONE KEY_TWO, KEY_TWO KEY_ONE, KEY_TWO};
    struct errbuf e;
    char path[64];

    write_key(path, KEY_ONE);
    open_node(&node[0], "a", NULL, path);
    open_node(&node[1], "b", &node[0], path);
    UNTIL(are_together(2));
    for (size_t i = 0; i < MC_COUNT(steps); i++) {
        FILE *f = fopen(path, "w");

        fputs(steps[i], f);
        fclose(f);
        for (unsigned k = 0; k < 2; k++) {
            unsigned was = node[!k].n_loads;

            assert_int_equal(cluster_reload_keys(node[k].c, &e), MC_OK);
            cluster_send_all(node[k].c, "x", 1);
            UNTIL(node[!k].n_loads > was);
        }
    }
    unlink(path);
    assert_int_not_equal(cluster_reload_keys(node[0].c, &e), MC_OK);
    cluster_send_all(node[0].c, "y", 1);
    UNTIL(strcmp(node[1].load, "y") == 0);
}

static int
udp_to(const struct addr *a)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    assert_return_code(connect(fd, &a->u.sa, a->len), errno);
    return fd;
}

static int
tcp_to(const struct addr *a)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_return_code(connect(fd, &a->u.sa, a->len), errno);
    return fd;
}

static void
garbage_is_refused(void **state)
{
    char junk[3000];
    int udp, tcp;

    open_nodes(2);
    memset(junk, 1, sizeof(junk));
    udp = udp_to(&node[0].at);
    for (size_t n = 0; n < sizeof(junk); n += 100)
        send(udp, junk, n, MSG_DONTWAIT);
    UNTIL(seal_count(cluster_keyring(node[0].c), SEAL_F_KEY) > 0);
    UNTIL(seal_count(cluster_keyring(node[0].c), SEAL_F_SHORT) > 0);
    tcp = tcp_to(&node[0].at);
    assert_true(send(tcp, junk, sizeof(junk), MSG_NOSIGNAL) > 0);
    set_nonblock(tcp);
    UNTIL(recv(tcp, junk, 1, 0) == 0 || (errno != EAGAIN && errno != EWOULDBLOCK));
    close(udp);
    close(tcp);
    assert_true(are_together(2));
    assert_true(cluster_counters(node[0].c)->syncs_failed > 0);
}

/* Who has the key and is no member, or speaks nonsense. */
static void
sealed_garbage_is_counted(void **state)
{
    struct keyring *keys = keyring_new_null();
    uint8_t plain[256], sealed[512];
    uint8_t boot[KEYRING_BOOT_BYTES] = {7};
    int udp;

    open_nodes(2);
    udp = udp_to(&node[0].at);
    for (unsigned kind = 0; kind < 9; kind++)
        for (unsigned n = 0; n <= 40; n++) {
            struct pack_out o = {.p = plain, .cap = sizeof(plain)};

            pack_u64(&o, cluster_id(node[kind % 2].c));
            pack_u64(&o, kind == 3 ? UINT64_MAX : kind == 4 ? INT64_MAX / MC_MS : 0);
            pack_u8(&o, (uint8_t)kind);
            pack_u16(&o, (uint16_t)(n % 3 == 0 ? n + 1 : n));
            memset(plain + o.n, (int)(n * 37), n);
            send(udp, sealed, seal_datagram(keys, plain, o.n + n, sealed), 0);
        }
    /* and less than a head */
    send(udp, sealed, seal_datagram(keys, boot, 5, sealed), 0);
    UNTIL(cluster_counters(node[0].c)->malformed > 0 && cluster_counters(node[0].c)->strangers > 0);
    settle();
    assert_true(are_together(2));
    assert_int_equal(node[0].n_facts + node[0].n_words + node[0].n_loads, 0);
    close(udp);
    keyring_free(&keys);
}

/* More than are let in at a time. */
static void
who_only_connects_keeps_nobody_out(void **state)
{
    int fd[100];

    open_nodes(1);
    for (size_t i = 0; i < MC_COUNT(fd); i++) {
        fd[i] = tcp_to(&node[0].at);
        loop_turn(L, 0);
    }
    settle();
    open_node(&node[1], "b", &node[0], NULL);
    UNTIL(are_together(2));
    UNTIL(swim_joined(cluster_swim(node[1].c)));
    for (size_t i = 0; i < MC_COUNT(fd); i++)
        close(fd[i]);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(members_find_each_other),
        TEST(facts_are_heard_by_all),
        TEST(as_many_facts_as_servers_fit),
        TEST(words_are_heard_by_all_and_by_who_comes_later),
        TEST(words_from_the_disk_are_told_on),
        TEST(loads_go_to_whom_they_are_for),
        TEST(much_at_once_arrives),
        TEST(who_leaves_says_so),
        TEST(who_never_began_leaves_at_once),
        TEST(who_begins_anew_is_the_same_member),
        TEST(a_name_is_one_members),
        TEST(it_may_end_at_any_time),
        TEST(a_taken_address_is_told),
        TEST(beyond_this_host_a_key_is_needed),
        TEST(another_key_is_met_with_silence),
        TEST(keys_are_replaced_while_they_speak),
        TEST(garbage_is_refused),
        TEST(sealed_garbage_is_counted),
        TEST(who_only_connects_keeps_nobody_out),
    };

    return RUN_ON_BOTH(tests);
}
