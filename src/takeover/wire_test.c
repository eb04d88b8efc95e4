/* SPDX-License-Identifier: BSD-2-Clause
 *
 * wire_test.c - frames into bytes and back.
 */
#include "takeover/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct flow_key key = {
    .local = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1},
    .remote = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 99},
    .local_port = 0x5000,
    .remote_port = 0x3412,
};

#define KEY_HEX "00000000000000000000ffff0a000001 00000000000000000000ffff0a000063 0050 1234"

/* Each kind that has no table, with fields that are all different, and its bytes.  The next release
 * must understand this one: they are for ever. */
static const struct {
    struct wire_frame frame;
    const char *hex;
} frames[] = {
    {{.kind = WIRE_HELLO, .u.hello = {WIRE_VERSION, {0x1122334455667788, 99}, 3, 7}},
     "01 17 01 1122334455667788 0000000000000063 0003 00000007"},
    {{.kind = WIRE_SNAPSHOT}, "02 00"},
    {{.kind = WIRE_OPEN,
      .flow = 300,
      .u.open = {.params = {0x01020304, 1448, 7, 9, TCP_PARAMS_TIMESTAMPS | TCP_PARAMS_SCALE},
                 .rcv_base = 0xfffffff0,
                 .snd_base = 0x10203040,
                 .in_pos = 5,
                 .out_pos = UINT64_C(1) << 40}},
     "03 3e ac02 " KEY_HEX " 01020304 05a8 07 09 05 fffffff0 10203040 05 808080808020"},
    {{.kind = WIRE_IN, .flow = 1, .u.in = {70, {"GET /", 5}}}, "04 08 01 46 05 474554202f"},
    {{.kind = WIRE_REQ, .flow = 2, .u.req = {70, 1000, true, false}}, "05 05 02 01 46 e807"},
    {{.kind = WIRE_SENT, .flow = 3}, "06 01 03"},
    {{.kind = WIRE_HEAD, .flow = 4, .u.head = {true, {"HTTP/1.1 200 OK", 15}}},
     "07 12 04 01 0f 485454502f312e3120323030204f4b"},
    {{.kind = WIRE_OUT, .flow = 5, .u.out = {{"body", 4}}}, "08 06 05 04 626f6479"},
    {{.kind = WIRE_DONE, .flow = 6, .u.done = {90, 1300, true}}, "09 05 06 01 5a 940a"},
    {{.kind = WIRE_BARE, .flow = 7}, "0a 01 07"},
    {{.kind = WIRE_CLOSE, .flow = 8}, "0b 01 08"},
    {{.kind = WIRE_HANDOVER, .flow = UINT32_MAX, .u.handover = {{10, 11}}},
     "0c 15 ffffffff0f 000000000000000a 000000000000000b"},
    {{.kind = WIRE_ACK, .u.ack = {1u << 20}}, "0d 03 808040"},
    {{.kind = WIRE_ASK, .u.ask = {.ask = 17, .leaving = true}}, "0f 29 00000011 " KEY_HEX " 01"},
    {{.kind = WIRE_OWNER, .u.owner = {18, {4, 5}}},
     "10 14 00000012 0000000000000004 0000000000000005"},
    {{.kind = WIRE_GIVE, .u.give = {19, {6, 7}, {"frames", 6}}},
     "11 1b 00000013 0000000000000006 0000000000000007 06 6672616d6573"},
    {{.kind = WIRE_NONE, .u.none = {20}}, "12 04 00000014"},
    {{.kind = WIRE_RESYNC, .u.resync = {0xa1a2a3a4a5a6a7a8, {8, 9}}},
     "13 18 a1a2a3a4a5a6a7a8 0000000000000008 0000000000000009"},
    {{.kind = WIRE_RESYNCED, .u.resynced = {0xb1b2b3b4b5b6b7b8, 1000, true}},
     "15 0b 01 b1b2b3b4b5b6b7b8 e807"},
    {{.kind = WIRE_REFUSED, .flow = 12}, "17 01 0c"},
    {{.kind = WIRE_TAKEN, .u.taken = {.owner = {2, 3}}},
     "18 34 0000000000000002 0000000000000003 " KEY_HEX},
};

static struct wire_frame
frame_of(unsigned i)
{
    struct wire_frame f = frames[i].frame;

    if (f.kind == WIRE_OPEN)
        f.u.open.key = key;
    if (f.kind == WIRE_ASK)
        f.u.ask.key = key;
    if (f.kind == WIRE_TAKEN)
        f.u.taken.key = key;
    return f;
}

static struct pack_in
all_of(const struct buf *b)
{
    return (struct pack_in){.p = (const uint8_t *)b->p, .n = b->n};
}

/* hex: spaces do not count. */
static void
check_hex(const struct buf *b, const char *hex)
{
    char got[512], want[512];
    size_t n = 0;

    assert_true(2 * b->n < sizeof(got) && strlen(hex) < sizeof(want));
    for (size_t i = 0; i < b->n; i++)
        snprintf(got + 2 * i, 3, "%02x", (uint8_t)b->p[i]);
    for (; *hex != '\0'; hex++)
        if (*hex != ' ')
            want[n++] = *hex;
    want[n] = '\0';
    assert_string_equal(got, want);
}

static void
bytes_are_as_they_ever_were(void **state)
{
    for (unsigned i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
        struct wire_frame f = frame_of(i);
        struct buf b = {0};

        wire_put(&b, &f);
        check_hex(&b, frames[i].hex);
        buf_free(&b);
    }
}

static void
beats_are_as_they_ever_were(void **state)
{
    const struct wire_beat beat = {
        .to_boot = 77,
        .n = 2,
        .life =
            {{.who = {1, 10},
              .seq = 300,
              .flags = LIFE_LEAVING,
              .n_holders = 1,
              .holder = {{2, 9}}},
             {.who = {2, 20}, .seq = 100, .flags = LIFE_TAKEN | LIFE_WORD, .word = {99, 98, true}}},
    };
    struct buf b = {0};

    wire_put_beat(&b, &beat);
    check_hex(&b, "0e 3c 000000000000004d 02"
                  "0000000000000001 000000000000000a ac02 01 01" /* the sender */
                  "0000000000000002 09"                          /* a holder of its */
                  "0000000000000002 0000000000000014 64 0c 00"
                  "01 63 62"); /* its word */
    buf_free(&b);
}

static void
every_frame_comes_back_as_it_went(void **state)
{
    struct buf b = {0}, again = {0};
    struct wire_frame f;
    struct pack_in in;
    uint64_t n_unknown = 0;

    for (unsigned i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
        f = frame_of(i);
        wire_put(&b, &f);
    }
    in = all_of(&b);
    while (wire_get(&in, &f, &n_unknown) == WIRE_FRAME)
        wire_put(&again, &f);
    assert_int_equal(in.n, 0);
    assert_int_equal(n_unknown, 0);
    assert_int_equal(b.n, again.n);
    assert_memory_equal(b.p, again.p, b.n);
    buf_free(&b);
    buf_free(&again);
}

static void
a_question_says_two_things_of_who_asks(void **state)
{
    for (unsigned i = 0; i < 4; i++) {
        const struct wire_frame f = {
            .kind = WIRE_ASK, .u.ask = {.ask = 1, .key = key, .leaving = i & 1, .last = i & 2}};
        struct wire_frame back;
        struct buf b = {0};
        struct pack_in in;
        uint64_t unknown = 0;

        wire_put(&b, &f);
        in = (struct pack_in){.p = (const uint8_t *)b.p, .n = b.n};
        assert_int_equal(wire_get(&in, &back, &unknown), WIRE_FRAME);
        assert_int_equal(back.u.ask.leaving, f.u.ask.leaving);
        assert_int_equal(back.u.ask.last, f.u.ask.last);
        buf_free(&b);
    }
}

static void
unknown_frames_and_fields_are_passed_over(void **state)
{
    static const uint8_t bytes[] = {
        200, 3, 'n', 'e', 'w',      /* a kind of the next release */
        0,   0,                     /* another */
        6,   4, 3,   'x', 'y', 'z', /* SENT, with fields behind those we know */
        10,  1, 9,
    };
    struct pack_in in = {.p = bytes, .n = sizeof(bytes)};
    struct wire_frame f;
    uint64_t n_unknown = 0;

    assert_int_equal(wire_get(&in, &f, &n_unknown), WIRE_FRAME);
    assert_int_equal(f.kind, WIRE_SENT);
    assert_int_equal(f.flow, 3);
    assert_int_equal(n_unknown, 2);
    assert_int_equal(wire_get(&in, &f, &n_unknown), WIRE_FRAME);
    assert_int_equal(f.kind, WIRE_BARE);
    assert_int_equal(wire_get(&in, &f, &n_unknown), WIRE_END);
}

static void
what_is_cut_off_is_bad(void **state)
{
    for (unsigned i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
        struct buf b = {0};
        struct wire_frame f = frame_of(i), got;
        uint64_t n_unknown = 0;

        wire_put(&b, &f);
        for (size_t n = 1; n < b.n; n++) {
            uint8_t *cut = malloc(n); /* of its size: a read beyond it is seen */
            struct pack_in in = {.p = cut, .n = n};

            memcpy(cut, b.p, n);
            assert_int_equal(wire_get(&in, &got, &n_unknown), WIRE_BAD);
            /* the same with a length that claims to be whole */
            if (n >= 2 && b.n < 128) {
                cut[1] = (uint8_t)(n - 2);
                in = (struct pack_in){.p = cut, .n = n};
                assert_int_equal(wire_get(&in, &got, &n_unknown), WIRE_BAD);
            }
            free(cut);
        }
        buf_free(&b);
    }
}

static void
numbers_out_of_range_are_bad(void **state)
{
    static const struct {
        const char *why;
        uint8_t bytes[80];
        size_t n;
    } bad[] = {
        {"a flow beyond 32 bits", {6, 5, 0xff, 0xff, 0xff, 0xff, 0x1f}, 7},
        {"a life without an id", {16, 20}, 22},
        {"more claims than there may be", {20, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0x81, 2}, 12},
        {"claims that are not there", {20, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 11},
        {"a position beyond all",
         {5, 12, 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0},
         14},
        {"a length beyond all",
         {6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 3},
         12},
    };

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct pack_in in = {.p = bad[i].bytes, .n = bad[i].n};
        struct wire_frame f;
        uint64_t n_unknown = 0;

        if (wire_get(&in, &f, &n_unknown) != WIRE_BAD)
            fail_msg("%s", bad[i].why);
    }
}

static void
a_window_cannot_be_shifted_by_more_than_14(void **state)
{
    struct wire_frame f = frame_of(2);
    uint64_t n_unknown = 0;

    for (unsigned shift = 14; shift <= 15; shift++) {
        struct buf b = {0};
        struct pack_in in;

        f.u.open.params.send_scale = (uint8_t)shift;
        wire_put(&b, &f);
        in = all_of(&b);
        assert_int_equal(wire_get(&in, &f, &n_unknown), shift == 14 ? WIRE_FRAME : WIRE_BAD);
        buf_free(&b);
    }
}

static void
a_hello_of_another_version_is_told_as_such(void **state)
{
    static const uint8_t bytes[] = {1, 3, 9, 'a', 'b'};
    struct pack_in in = {.p = bytes, .n = sizeof(bytes)};
    struct wire_frame f;
    uint64_t n_unknown = 0;

    assert_int_equal(wire_get(&in, &f, &n_unknown), WIRE_FRAME);
    assert_int_equal(f.u.hello.version, 9);
}

static void
claims_travel_as_keys(void **state)
{
    struct flow_key keys[WIRE_CLAIMS_MAX];
    struct buf b = {0};
    struct wire_frame f;
    struct pack_in in;
    uint64_t n_unknown = 0;

    for (unsigned i = 0; i < WIRE_CLAIMS_MAX; i++) {
        keys[i] = key;
        keys[i].remote_port = (uint16_t)i;
    }
    wire_put_claimed(&b, 5, keys, WIRE_CLAIMS_MAX);
    in = all_of(&b);
    assert_int_equal(wire_get(&in, &f, &n_unknown), WIRE_FRAME);
    assert_int_equal(f.u.claimed.nonce, 5);
    assert_int_equal(f.u.claimed.n, WIRE_CLAIMS_MAX);
    for (unsigned i = 0; i < WIRE_CLAIMS_MAX; i++) {
        struct flow_key k = wire_claim(&f.u.claimed, i);

        assert_true(flow_key_eq(&k, &keys[i]));
    }
    buf_free(&b);
}

static struct wire_beat
full_beat(void)
{
    struct wire_beat beat = {.to_boot = 77, .n = WIRE_LIVES_MAX};

    for (unsigned i = 0; i < beat.n; i++) {
        beat.life[i] = (struct wire_life){
            .who = {UINT64_MAX - i, i},
            .seq = WIRE_SEQ_MAX - 1 - i,
            .flags = (uint8_t)(LIFE_WORD | i % 8),
            .n_holders = WIRE_HOLDERS_MAX,
            .word = {WIRE_SEQ_MAX - 100 - i, WIRE_SEQ_MAX - 200 - i, i % 2},
        };
        for (unsigned k = 0; k < WIRE_HOLDERS_MAX; k++)
            beat.life[i].holder[k] = (struct wire_holding){UINT64_MAX - i - k, UINT32_MAX - i};
    }
    return beat;
}

static void
the_longest_beat_fits_a_datagram(void **state)
{
    struct wire_beat beat = full_beat(), *got = calloc(1, sizeof(*got));
    struct buf b = {0};
    struct wire_frame f;
    struct pack_in in;
    uint64_t n_unknown = 0;

    wire_put_beat(&b, &beat);
    assert_in_range(b.n, 1000, WIRE_BEAT_MAX);
    in = all_of(&b);
    assert_int_equal(wire_get(&in, &f, &n_unknown), WIRE_FRAME);
    assert_int_equal(f.kind, WIRE_BEAT);
    assert_true(wire_get_beat(f.u.table, got));
    assert_int_equal(got->to_boot, 77);
    assert_int_equal(got->n, beat.n);
    for (unsigned i = 0; i < beat.n; i++) {
        assert_true(life_eq(got->life[i].who, beat.life[i].who));
        assert_int_equal(got->life[i].seq, beat.life[i].seq);
        assert_int_equal(got->life[i].flags, beat.life[i].flags);
        assert_int_equal(got->life[i].word.seq, beat.life[i].word.seq);
        assert_int_equal(got->life[i].word.echo, beat.life[i].word.echo);
        assert_int_equal(got->life[i].word.taken, i % 2);
        assert_int_equal(got->life[i].n_holders, WIRE_HOLDERS_MAX);
        for (unsigned k = 0; k < WIRE_HOLDERS_MAX; k++) {
            assert_int_equal(got->life[i].holder[k].id, beat.life[i].holder[k].id);
            assert_int_equal(got->life[i].holder[k].epoch, beat.life[i].holder[k].epoch);
        }
    }
    for (size_t n = 0; n < f.u.table.n; n++)
        assert_false(wire_get_beat((struct str){f.u.table.p, n}, got));
    free(got);
    buf_free(&b);
}

static void
a_beat_of_nobody_or_of_too_many_is_bad(void **state)
{
    static const uint8_t nobody[9] = {0}, many[9] = {[8] = WIRE_LIVES_MAX + 1};
    struct wire_beat *beat = calloc(1, sizeof(*beat));

    assert_false(wire_get_beat((struct str){(const char *)nobody, sizeof(nobody)}, beat));
    assert_false(wire_get_beat((struct str){(const char *)many, sizeof(many)}, beat));
    free(beat);
}

static void
where_tells_macs_and_networks(void **state)
{
    struct wire_where w = {.n = 2}, *got = calloc(1, sizeof(*got));
    struct buf b = {0};
    struct wire_frame f;
    struct pack_in in;
    uint64_t n_unknown = 0;

    w.place[0] = (struct wire_place){.mac = {2, 2, 3, 4, 5, 6}, .n_nets = 1};
    w.place[0].net[0] = (struct wire_net){.ip = {0xfe, 0x80}, .bits = 64};
    w.place[1] = (struct wire_place){.mac = {8}};
    wire_put_where(&b, &w);
    in = all_of(&b);
    assert_int_equal(wire_get(&in, &f, &n_unknown), WIRE_FRAME);
    assert_true(wire_get_where(f.u.table, got));
    assert_int_equal(got->n, 2);
    assert_memory_equal(got->place[0].mac, w.place[0].mac, 6);
    assert_int_equal(got->place[0].net[0].bits, 64);
    assert_memory_equal(got->place[0].net[0].ip, w.place[0].net[0].ip, 16);
    for (size_t n = 0; n < f.u.table.n; n++)
        assert_false(wire_get_where((struct str){f.u.table.p, n}, got));
    free(got);
    buf_free(&b);
}

/* Packets of clients would go to everybody on the segment. */
static void
a_group_is_nobodys_address(void **state)
{
    const struct wire_where w = {.n = 1, .place = {{.mac = {1, 0, 0x5e}}}};
    struct wire_where got;
    struct wire_frame f;
    struct buf b = {0};
    struct pack_in in;
    uint64_t unknown = 0;

    wire_put_where(&b, &w);
    in = all_of(&b);
    assert_int_equal(wire_get(&in, &f, &unknown), WIRE_FRAME);
    assert_false(wire_get_where(f.u.table, &got));
    buf_free(&b);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_as_they_ever_were),
        cmocka_unit_test(beats_are_as_they_ever_were),
        cmocka_unit_test(every_frame_comes_back_as_it_went),
        cmocka_unit_test(a_question_says_two_things_of_who_asks),
        cmocka_unit_test(unknown_frames_and_fields_are_passed_over),
        cmocka_unit_test(what_is_cut_off_is_bad),
        cmocka_unit_test(numbers_out_of_range_are_bad),
        cmocka_unit_test(a_window_cannot_be_shifted_by_more_than_14),
        cmocka_unit_test(a_hello_of_another_version_is_told_as_such),
        cmocka_unit_test(claims_travel_as_keys),
        cmocka_unit_test(the_longest_beat_fits_a_datagram),
        cmocka_unit_test(a_beat_of_nobody_or_of_too_many_is_bad),
        cmocka_unit_test(where_tells_macs_and_networks),
        cmocka_unit_test(a_group_is_nobodys_address),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
