/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "cluster/harness.h"
#include "cluster/seal_stream.h"

#define GOLDEN_HELLO_OPENER                                                            \
    "0000004f01005d1066356161616161616161616161616161616100000000000000018c9a785b7e80" \
    "ca2d6034650050a6fecb7b428da53b036efea077dcb68745006f80629d612225f3407e36fbf5a703" \
    "5a0d5d"
#define GOLDEN_HELLO_ACCEPTOR                                                          \
    "0000004f01005d106635626262626262626262626262626262620000000000000001f463a6608874" \
    "5f424ae1d8bd82c5c4c83efbece34ac07e0ed8930d6936761e4ed080024e5ae36163a75fd665c968" \
    "be77fd"
#define GOLDEN_OPENER                                                                  \
    "0000001100696c6ca7ee840d16864e2b85d6ceec2a0000001b0154c5b4965f6eb528f619e3011228" \
    "c769c2c1ebeb769926f0eca8"
#define GOLDEN_ACCEPTOR "0000001b01db4f3d0ff73a536b5341606744aab6d741ad9415ea8353bbd0b8"

#define NOW             (1000 * MC_SEC)
#define HELLO_WIRE      83 /* with its length */
#define PROOF_WIRE      21

/* Two ends, and what each has been told. */
struct line {
    struct keyring *k[2];
    struct seal_stream *s[2]; /* the opener and the acceptor */
    struct buf in[2];         /* on its way to that end */
    struct buf got[2];
};

static struct line
connect_with(const char *keys_a, const char *keys_b, size_t max_bytes)
{
    static const uint8_t random[2][SEAL_RANDOM_BYTES + 1] = {"OOOOOOOOOOOOOOOO",
                                                             "AAAAAAAAAAAAAAAA"};
    struct line l = {.k = {ring_of(keys_a, 'a'), ring_of(keys_b, 'b')}};

    for (int i = 0; i < 2; i++)
        l.s[i] = seal_stream_new_with(l.k[i], i == 0, max_bytes, random[i]);
    return l;
}

static void
hang_up(struct line *l)
{
    for (int i = 0; i < 2; i++) {
        seal_stream_free(&l->s[i]);
        assert_null(l->s[i]);
        keyring_free(&l->k[i]);
        buf_free(&l->in[i]);
        buf_free(&l->got[i]);
    }
}

/* What an end wants to send goes on its way to the other. */
static void
collect(struct line *l, int from)
{
    struct buf *out = seal_stream_out(l->s[from]);

    buf_add(&l->in[1 - from], out->p, out->n);
    buf_skip(out, out->n);
}

/* The end reads what is there, as it comes: a piece at a time. */
static enum seal_fault
read_pieces(struct line *l, int end, size_t piece)
{
    struct buf *in = &l->in[end], held = {0};
    enum seal_fault f = SEAL_F_NONE;

    while (in->n > 0 && f == SEAL_F_NONE) {
        size_t n = in->n < piece ? in->n : piece, used;

        buf_add(&held, in->p, n);
        buf_skip(in, n);
        do {
            struct str plain;

            f = seal_stream_open(l->s[end], NOW, (uint8_t *)held.p, held.n, &used, &plain);
            if (plain.p != NULL)
                buf_str(&l->got[end], plain);
            buf_skip(&held, used);
        } while (f == SEAL_F_NONE && used > 0);
    }
    buf_free(&held);
    return f;
}

static enum seal_fault
read_all(struct line *l, int end)
{
    return read_pieces(l, end, SIZE_MAX);
}

static void
shake_hands(struct line *l)
{
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 2; i++) {
            collect(l, i);
            assert_int_equal(read_all(l, 1 - i), SEAL_F_NONE);
        }
    }
    assert_true(seal_stream_ready(l->s[0]) && seal_stream_ready(l->s[1]));
}

static void
say(struct line *l, int from, const char *text, bool last)
{
    seal_stream_put(l->s[from], text, strlen(text), last);
    collect(l, from);
}

static void
both_ends_exchange_records_and_say_the_last(void **state)
{
    for (size_t piece = 1; piece <= 100; piece += 33) {
        struct line l = connect_with("k", "k", 0);

        assert_false(seal_stream_ready(l.s[0]) || seal_stream_ready(l.s[1]));
        collect(&l, 0);
        assert_int_equal(read_pieces(&l, 1, piece), SEAL_F_NONE);
        assert_false(seal_stream_ready(l.s[1])); /* a hello may be a replay */
        collect(&l, 1);
        assert_int_equal(read_pieces(&l, 0, piece), SEAL_F_NONE);
        assert_true(seal_stream_ready(l.s[0]));
        collect(&l, 0);
        say(&l, 0, "all ", false);
        say(&l, 0, "", false);
        say(&l, 0, "of me", true);
        assert_int_equal(read_pieces(&l, 1, piece), SEAL_F_NONE);
        assert_true(seal_stream_ready(l.s[1]) && seal_stream_ended(l.s[1]));
        assert_int_equal(seal_stream_eof(l.s[1]), SEAL_F_NONE);
        say(&l, 1, "all of you", true);
        assert_int_equal(read_pieces(&l, 0, piece), SEAL_F_NONE);
        assert_true(seal_stream_ended(l.s[0]));
        assert_string_equal(l.got[1].p, "all of me");
        assert_string_equal(l.got[0].p, "all of you");
        assert_memory_equal(seal_stream_boot(l.s[0]), keyring_boot(l.k[1]), KEYRING_BOOT_BYTES);
        assert_memory_equal(seal_stream_boot(l.s[1]), keyring_boot(l.k[0]), KEYRING_BOOT_BYTES);
        hang_up(&l);
    }
}

static void
check_hex(const struct buf *b, const char *golden)
{
    char text[1024];

    assert_true(2 * b->n < sizeof(text));
    for (size_t i = 0; i < b->n; i++)
        snprintf(text + 2 * i, 3, "%02x", (unsigned char)b->p[i]);
    assert_string_equal(text, golden);
}

/* Collects what `from` has to send, which must be this, and has it read. */
static void
pass_golden(struct line *l, int from, const char *golden)
{
    collect(l, from);
    check_hex(&l->in[1 - from], golden);
    assert_int_equal(read_all(l, 1 - from), SEAL_F_NONE);
}

/* The next release must understand these bytes.  Made by an independent implementation. */
static void
a_connection_is_these_bytes(void **state)
{
    struct line l = connect_with("k", "xk", 0);

    pass_golden(&l, 0, GOLDEN_HELLO_OPENER);
    pass_golden(&l, 1, GOLDEN_HELLO_ACCEPTOR);
    seal_stream_put(l.s[0], "state of a", 10, true);
    pass_golden(&l, 0, GOLDEN_OPENER);
    seal_stream_put(l.s[1], "state of b", 10, true);
    pass_golden(&l, 1, GOLDEN_ACCEPTOR);
    assert_string_equal(l.got[1].p, "state of a");
    assert_string_equal(l.got[0].p, "state of b");
    hang_up(&l);
}

static void
no_bit_can_be_changed(void **state)
{
    enum { ALL = HELLO_WIRE + PROOF_WIRE + PROOF_WIRE + 5 };

    for (size_t bit = 0; bit < 8 * ALL; bit++) {
        struct line l = connect_with("k", "k", 0);
        enum seal_fault f = SEAL_F_NONE;
        size_t at = bit / 8;

        collect(&l, 0);
        if (at < HELLO_WIRE) {
            l.in[1].p[at] ^= (char)(1 << bit % 8);
            f = read_all(&l, 1);
            /* a length that grows waits for more: nothing comes of it either */
            assert_false(seal_stream_ready(l.s[1]));
            assert_true(f != SEAL_F_NONE || seal_stream_out(l.s[1])->n == 0);
        } else {
            assert_int_equal(read_all(&l, 1), SEAL_F_NONE);
            collect(&l, 1);
            assert_int_equal(read_all(&l, 0), SEAL_F_NONE);
            collect(&l, 0);
            say(&l, 0, "truth", true);
            l.in[1].p[at - HELLO_WIRE] ^= (char)(1 << bit % 8);
            f = read_all(&l, 1);
            assert_true(f != SEAL_F_NONE || !seal_stream_ended(l.s[1]));
            assert_int_equal(l.got[1].n, 0);
        }
        hang_up(&l);
    }
}

static void
a_recorded_connection_cannot_be_played_again(void **state)
{
    struct line l = connect_with("k", "k", 0), again;
    struct buf tape = {0};

    collect(&l, 0);
    buf_add(&tape, l.in[1].p, l.in[1].n);
    assert_int_equal(read_all(&l, 1), SEAL_F_NONE);
    collect(&l, 1);
    assert_int_equal(read_all(&l, 0), SEAL_F_NONE);
    collect(&l, 0);
    say(&l, 0, "join me", true);
    buf_add(&tape, l.in[1].p, l.in[1].n);
    assert_int_equal(read_all(&l, 1), SEAL_F_NONE);
    assert_string_equal(l.got[1].p, "join me");
    hang_up(&l);

    again = connect_with("k", "k", 0);
    seal_stream_free(&again.s[1]);
    again.s[1] = seal_stream_new(again.k[1], false, 0); /* with random bytes of its own */
    buf_add(&again.in[1], tape.p, tape.n);
    assert_int_equal(read_all(&again, 1), SEAL_F_TAG);
    assert_false(seal_stream_ready(again.s[1]));
    assert_int_equal(again.got[1].n, 0);
    assert_int_equal(seal_stream_out(again.s[1])->n, HELLO_WIRE); /* no more than what was sent */
    buf_free(&tape);
    hang_up(&again);
}

static void
records_have_their_place(void **state)
{
    static const struct {
        const char *order;
        enum seal_fault fault;
        const char *got;
    } cases[] = {
        {"123", SEAL_F_NONE, "one two three"},
        {"132", SEAL_F_TAG, "one "},
        {"113", SEAL_F_TAG, "one "},
        {"13", SEAL_F_TAG, "one "},
        {"23", SEAL_F_TAG, ""},
        {"1233", SEAL_F_ENDED, "one two three"},
    };

    for (size_t i = 0; i < MC_COUNT(cases); i++) {
        static const char *const text[] = {"one ", "two ", "three"};
        struct line l = connect_with("k", "k", 0);
        struct buf record[3] = {{0}};

        shake_hands(&l);
        for (int r = 0; r < 3; r++) {
            struct buf *out = seal_stream_out(l.s[0]);

            seal_stream_put(l.s[0], text[r], strlen(text[r]), r == 2);
            buf_add(&record[r], out->p, out->n);
            buf_skip(out, out->n);
        }
        for (const char *c = cases[i].order; *c; c++)
            buf_add(&l.in[1], record[*c - '1'].p, record[*c - '1'].n);
        assert_int_equal(read_all(&l, 1), cases[i].fault);
        assert_string_equal(l.got[1].p ? l.got[1].p : "", cases[i].got);
        for (int r = 0; r < 3; r++)
            buf_free(&record[r]);
        hang_up(&l);
    }
}

static void
a_connection_that_is_cut_is_noticed(void **state)
{
    struct line l = connect_with("k", "k", 0);

    shake_hands(&l);
    say(&l, 0, "half", false);
    assert_int_equal(read_all(&l, 1), SEAL_F_NONE);
    assert_int_equal(seal_stream_eof(l.s[1]), SEAL_F_CUT);
    assert_int_equal(seal_stream_eof(l.s[1]), SEAL_F_CUT);
    say(&l, 0, "and half", true);
    assert_int_equal(read_all(&l, 1), SEAL_F_CUT); /* broken it stays */
    assert_int_equal(seal_count(l.k[1], SEAL_F_CUT), 1);
    hang_up(&l);
}

/* What an end says does not come back to it as the other's. */
static void
mirrors_are_refused(void **state)
{
    struct line l = connect_with("k", "k", 0);

    collect(&l, 0);
    buf_add(&l.in[0], l.in[1].p, l.in[1].n);
    assert_int_equal(read_all(&l, 0), SEAL_F_OWN);
    hang_up(&l);

    /* another opener's hello in place of an acceptor's */
    l = connect_with("k", "k", 0);
    seal_stream_free(&l.s[1]);
    l.s[1] = seal_stream_new(l.k[1], true, 0);
    collect(&l, 1);
    assert_int_equal(read_all(&l, 0), SEAL_F_HELLO);
    hang_up(&l);

    l = connect_with("k", "k", 0);
    shake_hands(&l);
    say(&l, 0, "echo", false);
    buf_add(&l.in[0], l.in[1].p, l.in[1].n);
    assert_int_equal(read_all(&l, 0), SEAL_F_TAG);
    hang_up(&l);
}

/* An acceptor's hello to another opener is no answer to ours. */
static void
a_hello_answers_one_hello(void **state)
{
    struct line l = connect_with("k", "k", 0), other = connect_with("k", "k", 0);

    seal_stream_free(&other.s[0]);
    other.s[0] = seal_stream_new(other.k[0], true, 0);
    collect(&other, 0);
    assert_int_equal(read_all(&other, 1), SEAL_F_NONE);
    collect(&other, 1);
    buf_add(&l.in[0], other.in[0].p, other.in[0].n);
    assert_int_equal(read_all(&l, 0), SEAL_F_HELLO);
    hang_up(&l);
    hang_up(&other);
}

static void
strangers_cannot_make_us_wait_for_much(void **state)
{
    static const struct {
        const char *bytes;
        enum seal_fault fault;
    } cases[] = {
        {"\x01\x00\x00\x00", SEAL_F_OVERSIZE},
        {"\x00\x00\x01\x01", SEAL_F_OVERSIZE},
        {"GET ", SEAL_F_OVERSIZE},
        {"\x00\x00\x00\x00", SEAL_F_SHORT},
        {"\x00\x00\x00\x4e", SEAL_F_SHORT},
    };
    struct line l;

    for (size_t i = 0; i < MC_COUNT(cases); i++) {
        l = connect_with("k", "k", 0);
        buf_add(&l.in[1], cases[i].bytes, 4);
        assert_int_equal(read_all(&l, 1), cases[i].fault);
        assert_int_equal(seal_stream_out(l.s[1])->n, 0); /* no answer */
        hang_up(&l);
    }
    l = connect_with("k", "k", 0); /* with a hello, which may be a replay */
    collect(&l, 0);
    assert_int_equal(read_all(&l, 1), SEAL_F_NONE);
    buf_add(&l.in[1], "\x00\x00\x00\x12", 4);
    assert_int_equal(read_all(&l, 1), SEAL_F_OVERSIZE);
    hang_up(&l);

    l = connect_with("s", "k", 0);
    collect(&l, 0);
    assert_int_equal(read_all(&l, 1), SEAL_F_KEY);
    assert_int_equal(seal_stream_out(l.s[1])->n, 0);
    hang_up(&l);
}

static void
a_record_has_a_largest_size(void **state)
{
    struct line l = connect_with("k", "k", 10);

    shake_hands(&l);
    say(&l, 0, "ten bytes!", false);
    assert_int_equal(read_all(&l, 1), SEAL_F_NONE);
    say(&l, 0, "eleven of it", false);
    assert_int_equal(read_all(&l, 1), SEAL_F_OVERSIZE);
    assert_string_equal(l.got[1].p, "ten bytes!");
    hang_up(&l);
}

static void
large_records_pass(void **state)
{
    struct line l = connect_with("k", "k", 0);
    char *big = mc_alloc(SEAL_RECORD_MAX);

    memset(big, 'x', SEAL_RECORD_MAX);
    shake_hands(&l);
    seal_stream_put(l.s[0], big, SEAL_RECORD_MAX, true);
    collect(&l, 0);
    assert_int_equal(read_all(&l, 1), SEAL_F_NONE);
    assert_int_equal(l.got[1].n, SEAL_RECORD_MAX);
    assert_memory_equal(l.got[1].p, big, SEAL_RECORD_MAX);
    free(big);
    hang_up(&l);
}

static void
keys_rotate_between_and_during_connections(void **state)
{
    struct keyfile n = keys_of("n");
    struct line l = connect_with("on", "no", 0); /* each seals with another key */

    shake_hands(&l);
    keyring_replace(l.k[0], &n);
    keyring_replace(l.k[1], &n); /* the key of this connection is gone: it goes on */
    say(&l, 0, "on we go", true);
    assert_int_equal(read_all(&l, 1), SEAL_F_NONE);
    assert_string_equal(l.got[1].p, "on we go");
    hang_up(&l);
}

static void
hellos_of_unknown_ends_are_opened_at_a_bounded_rate(void **state)
{
    struct line l = connect_with("k", "k", 0);
    unsigned n_limit = 0;

    collect(&l, 0);
    for (int i = 0; i < 300; i++) {
        struct buf copy = {0};
        struct str plain;
        size_t used;

        seal_stream_free(&l.s[1]);
        l.s[1] = seal_stream_new(l.k[1], false, 0);
        buf_add(&copy, l.in[1].p, l.in[1].n);
        if (seal_stream_open(l.s[1], NOW, (uint8_t *)copy.p, copy.n, &used, &plain) == SEAL_F_LIMIT)
            n_limit++;
        buf_free(&copy);
    }
    assert_int_equal(n_limit, 300 - 256);
    hang_up(&l);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ends_exchange_records_and_say_the_last),
        cmocka_unit_test(a_connection_is_these_bytes),
        cmocka_unit_test(no_bit_can_be_changed),
        cmocka_unit_test(a_recorded_connection_cannot_be_played_again),
        cmocka_unit_test(records_have_their_place),
        cmocka_unit_test(a_connection_that_is_cut_is_noticed),
        cmocka_unit_test(mirrors_are_refused),
        cmocka_unit_test(a_hello_answers_one_hello),
        cmocka_unit_test(strangers_cannot_make_us_wait_for_much),
        cmocka_unit_test(a_record_has_a_largest_size),
        cmocka_unit_test(large_records_pass),
        cmocka_unit_test(keys_rotate_between_and_during_connections),
        cmocka_unit_test(hellos_of_unknown_ends_are_opened_at_a_bounded_rate),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
