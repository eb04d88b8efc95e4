/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/rand.h"
#include "cluster/harness.h"
#include "cluster/replay.h"
#include "cluster/seal.h"

#define GOLDEN_DATAGRAM                                                                \
    "01005d106635616161616161616161616161616161610000000000000002f5be6f7d25388168b4a8" \
    "8059689fd3c02c75b6cc1fa14ff41a250906fd72bf7d9ef9b9f76c5c98"
#define GOLDEN_FLAGS                                                                   \
    "01ff5d106635616161616161616161616161616161610000000000000007c8f99e1a710aad6edfe3" \
    "1b7e260fa670a1f6eb96ea"

#define NOW (1000 * MC_SEC)

struct wire {
    uint8_t p[SEAL_DATAGRAM_MAX + 1];
    size_t n;
};

static struct wire
seal(struct keyring *from, const char *text)
{
    struct wire w;

    w.n = seal_datagram(from, text, strlen(text), w.p);
    assert_int_equal(w.n, strlen(text) + SEAL_OVERHEAD);
    return w;
}

/* Opens a copy: the same bytes may come again. */
static enum seal_fault
open_at(struct keyring *at, mc_ns now, struct wire w, const char *expect)
{
    uint8_t boot[KEYRING_BOOT_BYTES];
    struct str plain = STR_NONE;
    enum seal_fault f;

    f = seal_open_datagram(at, now, w.p, w.n, &plain, boot);
    assert_true(seal_count(at, f) > 0);
    if (f != SEAL_F_NONE) {
        assert_null(plain.p);
        return f;
    }
    assert_true(str_eq(plain, str_of(expect)));
    assert_memory_equal(boot, w.p + 6, sizeof(boot));
    return f;
}

static enum seal_fault
opened(struct keyring *at, struct wire w, const char *expect)
{
    return open_at(at, NOW, w, expect);
}

static void
what_one_seals_another_opens_once(void **state)
{
    struct keyring *a = ring_of("k", 'a'), *b = ring_of("k", 'b'), *c = ring_of("k", 'c');
    struct wire one = seal(a, "ping"), two = seal(a, "");

    assert_int_equal(opened(b, two, ""), SEAL_F_NONE);
    assert_int_equal(opened(b, one, "ping"), SEAL_F_NONE);
    assert_int_equal(opened(b, one, "ping"), SEAL_F_REPLAY);
    assert_int_equal(opened(b, two, ""), SEAL_F_REPLAY);
    assert_int_equal(opened(c, one, "ping"), SEAL_F_NONE); /* windows are each one's own */
    assert_int_equal(opened(a, one, "ping"), SEAL_F_OWN);
    assert_int_equal(seal_count(b, SEAL_F_NONE), 2);
    assert_int_equal(seal_count(b, SEAL_F_REPLAY), 2);
    keyring_free(&a);
    keyring_free(&b);
    keyring_free(&c);
}

static void
no_bit_can_be_changed_and_no_byte_cut(void **state)
{
    struct keyring *a = ring_of("k", 'a'), *b = ring_of("k", 'b');
    struct wire good = seal(a, "the truth");

    for (size_t bit = 0; bit < 8 * good.n; bit++) {
        struct wire bad = good;

        bad.p[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_not_equal(open_at(b, NOW + (mc_ns)bit * MC_SEC, bad, ""), SEAL_F_NONE);
    }
    for (size_t n = 0; n < good.n; n++) {
        struct wire bad = good;

        bad.n = n;
        assert_int_equal(open_at(b, NOW + 2000 * MC_SEC + (mc_ns)n * MC_SEC, bad, ""),
                         n < SEAL_OVERHEAD ? SEAL_F_SHORT : SEAL_F_TAG);
    }
    good.n++;
    assert_int_equal(open_at(b, NOW + 4000 * MC_SEC, good, ""), SEAL_F_TAG);
    good.n--;
    assert_int_equal(open_at(b, NOW + 4000 * MC_SEC, good, "the truth"), SEAL_F_NONE);
    keyring_free(&a);
    keyring_free(&b);
}

static void
each_fault_has_its_name(void **state)
{
    struct keyring *a = ring_of("k", 'a'), *b = ring_of("k", 'b'), *stranger = ring_of("s", 's');
    struct wire w = seal(a, "x");

    w.p[0] = SEAL_VERSION + 1;
    assert_int_equal(opened(b, w, ""), SEAL_F_VERSION);
    w = (struct wire){.n = SEAL_DATAGRAM_MAX + 1};
    assert_int_equal(opened(b, w, ""), SEAL_F_OVERSIZE);
    assert_int_equal(opened(b, seal(stranger, "x"), ""), SEAL_F_KEY);
    for (unsigned f = 0; f < SEAL_N_FAULTS; f++) {
        assert_true(strlen(seal_fault_text(f)) > 3);
        assert_true(strlen(seal_fault_label(f)) > 2);
    }
    keyring_free(&a);
    keyring_free(&b);
    keyring_free(&stranger);
}

/* Sequence 0 would fall below any window; nobody sends it. */
static void
overtaken_datagrams_open_until_they_are_too_old(void **state)
{
    struct keyring *a = ring_of("k", 'a'), *b = ring_of("k", 'b');
    struct wire first = seal(a, "1"), second = seal(a, "2");

    for (unsigned i = 0; i < REPLAY_WINDOW - 1; i++)
        assert_int_equal(opened(b, seal(a, "more"), "more"), SEAL_F_NONE);
    assert_int_equal(opened(b, first, "1"), SEAL_F_OLD);
    assert_int_equal(opened(b, second, "2"), SEAL_F_NONE);
    keyring_free(&a);
    keyring_free(&b);
}

/* --- keys --------------------------------------------------------------------------------------
 */

static void
replace(struct keyring *k, const char *keys)
{
    struct keyfile f = keys_of(keys);

    keyring_replace(k, &f);
}

static void
talk_both_ways(struct keyring *a, struct keyring *b)
{
    assert_int_equal(opened(b, seal(a, "hi"), "hi"), SEAL_F_NONE);
    assert_int_equal(opened(a, seal(b, "ho"), "ho"), SEAL_F_NONE);
}

static void
keys_rotate_while_they_talk(void **state)
{
    static const char *const steps[] = {"o", "on", "no", "n"};
    struct keyring *a = ring_of("o", 'a'), *b = ring_of("o", 'b');
    struct wire kept = seal(a, "before");

    assert_int_equal(opened(b, kept, "before"), SEAL_F_NONE);
    for (size_t i = 0; i + 1 < MC_COUNT(steps); i++) {
        talk_both_ways(a, b);
        replace(a, steps[i + 1]); /* one is ahead of the other */
        talk_both_ways(a, b);
        assert_int_equal(opened(b, kept, "before"), SEAL_F_REPLAY); /* windows live on */
        replace(b, steps[i + 1]);
    }
    talk_both_ways(a, b);
    assert_int_equal(opened(b, kept, "before"), SEAL_F_KEY);
    keyring_free(&a);
    keyring_free(&b);
}

static void
a_key_that_comes_back_meets_no_sequence_again(void **state)
{
    struct keyring *a = ring_of("o", 'a');
    struct wire before = seal(a, "same"), after;

    replace(a, "n");
    replace(a, "o");
    after = seal(a, "same");
    assert_memory_equal(before.p, after.p, SEAL_HEAD_BYTES - 8);
    assert_memory_not_equal(before.p + SEAL_HEAD_BYTES - 8, after.p + SEAL_HEAD_BYTES - 8, 8);
    assert_memory_not_equal(before.p + SEAL_HEAD_BYTES, after.p + SEAL_HEAD_BYTES, 4);
    keyring_free(&a);
}

static void
two_boots_seal_the_same_differently(void **state)
{
    struct keyring *a = ring_of("k", 'a'), *again = ring_of("k", 'A');
    struct wire one = seal(a, "same text"), two = seal(again, "same text");

    assert_memory_not_equal(one.p + SEAL_HEAD_BYTES, two.p + SEAL_HEAD_BYTES, 9);
    keyring_free(&a);
    keyring_free(&again);
}

/* --- many senders ------------------------------------------------------------------------------
 */

/* A datagram as from boot number i, sealed with this key. */
static struct wire
seal_as(const char *keys, uint32_t i)
{
    struct keyfile f = keys_of(keys);
    uint8_t boot[KEYRING_BOOT_BYTES] = {'m'};
    struct keyring *k;
    struct wire w;

    memcpy(boot + 4, &i, sizeof(i));
    k = keyring_new(&f, boot);
    w = seal(k, "hello");
    keyring_free(&k);
    return w;
}

static void
a_flood_of_unknown_boots_does_not_touch_the_known(void **state)
{
    struct keyring *a = ring_of("k", 'a'), *b = ring_of("k", 'b');
    struct wire forged = seal(a, "forged");
    unsigned n_tag = 0, n_limit = 0;

    assert_int_equal(opened(b, seal(a, "known"), "known"), SEAL_F_NONE);
    for (uint32_t i = 0; i < 5000; i++) {
        memcpy(forged.p + 8, &i, sizeof(i)); /* another boot id */
        switch (opened(b, forged, "")) {
        case SEAL_F_TAG: n_tag++; break;
        case SEAL_F_LIMIT: n_limit++; break;
        default: fail();
        }
    }
    assert_int_equal(n_tag, 255); /* and one for the known */
    assert_int_equal(n_limit, 5000 - 255);
    assert_int_equal(opened(b, seal(a, "still"), "still"), SEAL_F_NONE);
    assert_int_equal(opened(b, seal_as("k", 1), ""), SEAL_F_LIMIT);
    assert_int_equal(open_at(b, NOW + MC_SEC, seal_as("k", 1), "hello"), SEAL_F_NONE);
    keyring_free(&a);
    keyring_free(&b);
}

/* Whoever was not heard for longest is forgotten, and learned anew when he speaks. */
static void
senders_are_remembered_up_to_a_bound(void **state)
{
    enum { BOUND = 1024 };
    struct keyring *b = ring_of("k", 'b');
    struct wire first = seal_as("k", 0), second = seal_as("k", 1);

    for (uint32_t i = 0; i < BOUND; i++)
        assert_int_equal(open_at(b, NOW + i * MC_SEC, seal_as("k", i), "hello"), SEAL_F_NONE);
    assert_int_equal(open_at(b, NOW + BOUND * MC_SEC, first, ""), SEAL_F_REPLAY); /* is heard */
    assert_int_equal(open_at(b, NOW + BOUND * MC_SEC, seal_as("k", BOUND), "hello"), SEAL_F_NONE);
    assert_int_equal(open_at(b, NOW + BOUND * MC_SEC, first, ""), SEAL_F_REPLAY);
    assert_int_equal(open_at(b, NOW + BOUND * MC_SEC, second, "hello"), SEAL_F_NONE);
    keyring_free(&b);
}

/* --- the wire ----------------------------------------------------------------------------------
 */

static void
hex(const uint8_t *p, size_t n, char *out)
{
    for (size_t i = 0; i < n; i++)
        snprintf(out + 2 * i, 3, "%02x", p[i]);
}

/* The next release must understand these bytes.  Made by an independent implementation. */
static void
a_datagram_is_these_bytes(void **state)
{
    static const char golden[] = GOLDEN_DATAGRAM;
    struct keyring *a = ring_of("k", 'a'), *b = ring_of("xk", 'b');
    char text[2 * SEAL_DATAGRAM_MAX + 1];
    struct wire w;

    seal(a, "the first has sequence 1");
    w = seal(a, "meercats stand together");
    hex(w.p, w.n, text);
    assert_string_equal(text, golden);
    assert_int_equal(opened(b, w, "meercats stand together"), SEAL_F_NONE);
    keyring_free(&a);
    keyring_free(&b);
}

/* Flags are authentic but have no meaning yet: a release that sets some is understood. */
static void
flags_of_a_later_release_are_ignored(void **state)
{
    static const char golden[] = GOLDEN_FLAGS;
    struct keyring *b = ring_of("k", 'b');
    struct wire w = {.n = (sizeof(golden) - 1) / 2};

    for (size_t i = 0; i < w.n; i++)
        assert_int_equal(sscanf(golden + 2 * i, "%2hhx", &w.p[i]), 1);
    assert_int_equal(w.p[1], 0xff);
    assert_int_equal(opened(b, w, "later"), SEAL_F_NONE);
    keyring_free(&b);
}

/* Whatever comes, in whatever size: what was sealed opens, what was not does not. */
static void
all_sizes_go_through(void **state)
{
    struct keyring *a = ring_of("k", 'a'), *b = ring_of("k", 'b');
    uint8_t text[SEAL_DATAGRAM_MAX], wire[SEAL_DATAGRAM_MAX], boot[KEYRING_BOOT_BYTES];
    struct rng rng;

    rng_seed(&rng, 1);
    for (size_t n = 0; n <= SEAL_DATAGRAM_MAX - SEAL_OVERHEAD; n++) {
        struct str plain;

        for (size_t i = 0; i < n; i++)
            text[i] = (uint8_t)rng_next(&rng);
        assert_int_equal(seal_datagram(a, text, n, wire), n + SEAL_OVERHEAD);
        assert_int_equal(seal_open_datagram(b, NOW, wire, n + SEAL_OVERHEAD, &plain, boot),
                         SEAL_F_NONE);
        assert_int_equal(plain.n, n);
        assert_memory_equal(plain.p, text, n);
    }
    keyring_free(&a);
    keyring_free(&b);
}

/* A neighbour sends it where it was not sent. */
static void
what_is_sealed_for_one_protocol_opens_in_no_other(void **state)
{
    static const uint8_t boots[3][KEYRING_BOOT_BYTES] = {{1}, {2}, {3}};
    struct keyfile shared = keys_of("x"), own = shared;
    struct keyring *cluster, *from, *to;
    uint8_t sealed[SEAL_DATAGRAM_MAX], copy[SEAL_DATAGRAM_MAX], boot[KEYRING_BOOT_BYTES];
    struct str plain;
    size_t n;

    keyring_separate(&own, "another protocol");
    cluster = keyring_new(&shared, boots[0]);
    from = keyring_new(&own, boots[1]);
    to = keyring_new(&own, boots[2]);
    n = seal_datagram(cluster, "gossip", 6, sealed);
    assert_int_equal(seal_open_datagram(to, 0, sealed, n, &plain, boot), SEAL_F_KEY);
    n = seal_datagram(from, "a beat", 6, sealed);
    memcpy(copy, sealed, n);
    assert_int_equal(seal_open_datagram(cluster, 0, copy, n, &plain, boot), SEAL_F_KEY);
    assert_int_equal(seal_open_datagram(to, 0, sealed, n, &plain, boot), SEAL_F_NONE);
    assert_true(str_eq(plain, STR("a beat")));
    keyring_free(&cluster);
    keyring_free(&from);
    keyring_free(&to);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_one_seals_another_opens_once),
        cmocka_unit_test(no_bit_can_be_changed_and_no_byte_cut),
        cmocka_unit_test(each_fault_has_its_name),
        cmocka_unit_test(overtaken_datagrams_open_until_they_are_too_old),
        cmocka_unit_test(keys_rotate_while_they_talk),
        cmocka_unit_test(a_key_that_comes_back_meets_no_sequence_again),
        cmocka_unit_test(two_boots_seal_the_same_differently),
        cmocka_unit_test(a_flood_of_unknown_boots_does_not_touch_the_known),
        cmocka_unit_test(senders_are_remembered_up_to_a_bound),
        cmocka_unit_test(a_datagram_is_these_bytes),
        cmocka_unit_test(flags_of_a_later_release_are_ignored),
        cmocka_unit_test(all_sizes_go_through),
        cmocka_unit_test(what_is_sealed_for_one_protocol_opens_in_no_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
