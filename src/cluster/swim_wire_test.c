/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The bytes of membership, as other releases know them, and what is not as it should be.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cluster/swim_harness.h"

#define HEX_MAX (2 * SWIM_DATAGRAM_MAX + 1)

/* What a member sent last. */
struct out {
    unsigned n_sent, n_syncs;
    char hex[HEX_MAX];
};

static void
keep(void *arg, const struct addr *to, const void *bytes, size_t n)
{
    struct out *o = arg;

    o->n_sent++;
    for (size_t i = 0; i < n; i++)
        sprintf(o->hex + 2 * i, "%02x", ((const uint8_t *)bytes)[i]);
}

static void
keep_sync(void *arg, const struct addr *to)
{
    struct out *o = arg;

    o->n_syncs++;
}

static struct swim *
member(struct out *o)
{
    struct swim_conf conf = {
        .name = STR("lb1"),
        .addr = net_addr(0),
        .incarnation = 7,
        .meta = (const uint8_t *)"meta",
        .meta_n = 4,
        .hooks = {.arg = o, .send = keep, .sync = keep_sync},
    };
    struct swim *s;

    memset(conf.boot, 0xb1, sizeof(conf.boot));
    memset(o, 0, sizeof(*o));
    assert_int_equal(swim_new(&conf, 0, &s, NULL), MC_OK);
    return s;
}

static size_t
from_hex(const char *hex, uint8_t *out)
{
    size_t n = 0;

    for (; hex[0] && hex[1]; hex += 2) {
        unsigned v;

        assert_int_equal(sscanf(hex, "%2x", &v), 1);
        out[n++] = (uint8_t)v;
    }
    return n;
}

static void
hear(struct swim *s, const char *hex, mc_ns now)
{
    uint8_t bytes[SWIM_DATAGRAM_MAX];
    struct addr from = net_addr(1);

    swim_recv(s, &from, bytes, from_hex(hex, bytes), now);
}

#define BOOT1 "b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1"
#define BOOT2 "b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2"
#define LB1   "036c6231"
#define LB2   "036c6232"
/* sender lb2, incarnation 9 */
#define FROM2 LB2 "09" BOOT2
/* entry: lb2 is alive for 1 s (e807), at 10.0.0.2:7707, meta "m" */
#define ALIVE2          \
    "0121"              \
    "01" LB2 BOOT2 "09" \
    "e807"              \
    "040a0000021e1b"    \
    "016d"
#define PING_OF(name, entries) \
    "01" FROM2 "08"            \
    "00000005" name entries

static void
a_ping_is_answered_in_these_bytes(void **unused)
{
    struct out o;
    struct swim *s = member(&o);

    hear(s, PING_OF(LB1, ALIVE2), 3 * MC_SEC);
    assert_int_equal(swim_counters(s)->malformed, 0);
    assert_int_equal(swim_live(s), 2);
    assert_int_equal(swim_find(s, STR("lb2"))->since, 2 * MC_SEC);
    assert_string_equal(o.hex, "02" LB1 "07" BOOT1 "16"
                               "00000005" BOOT1 "b817"
                               /* news: lb2 came, and we did */
                               "0121"
                               "01" LB2 BOOT2 "09"
                               "e807"
                               "040a0000021e1b"
                               "016d"
                               "0124"
                               "01" LB1 BOOT1 "07"
                               "b817"
                               "040a0000011e1b"
                               "046d657461");
    swim_free(&s);
}

static void
a_suspicion_and_its_refutation_are_these_bytes(void **unused)
{
    struct out o;
    struct swim *s = member(&o);

    /* a doubt: suspect, lb1, incarnation 7, found by lb2 */
    hear(s,
         PING_OF(LB1, ALIVE2 "020a"
                             "02" LB1 "07" LB2),
         3 * MC_SEC);
    assert_int_equal(swim_self(s)->incarnation, 8);
    assert_int_equal(swim_health(s), 1);
    assert_non_null(strstr(o.hex, "0124"
                                  "01" LB1 BOOT1 "08"));
    swim_free(&s);
}

static void
a_whole_state_is_these_bytes(void **unused)
{
    struct out o;
    struct swim *s = member(&o), *other = member(&o);
    struct buf b = {0};
    uint8_t bytes[SWIM_DATAGRAM_MAX];
    size_t n = from_hex("07" LB1 "07" BOOT1 "00"
                        "0124"
                        "01" LB1 BOOT1 "07"
                        "d00f"
                        "040a0000011e1b"
                        "046d657461",
                        bytes);

    swim_state_write(s, &b, 2 * MC_SEC);
    assert_int_equal(b.n, n);
    assert_memory_equal(b.p, bytes, n);
    assert_int_equal(swim_state_absorb(other, b.p, b.n, 0), MC_OK);
    assert_false(swim_joined(other)); /* that was itself */
    n = from_hex("07" FROM2 "00" ALIVE2, bytes);
    assert_int_equal(swim_state_absorb(other, bytes, n, 0), MC_OK);
    assert_true(swim_joined(other));
    assert_int_equal(swim_state_absorb(s, bytes, n - 1, 0), MC_ESYNTAX);
    buf_free(&b);
    swim_free(&s);
    swim_free(&other);
}

static void
what_a_later_release_adds_is_passed_over(void **unused)
{
    struct out o;
    struct swim *s = member(&o);

    /* a longer body, a longer entry, an entry of another kind, a state of another kind */
    hear(s,
         "01" FROM2 "0a"
         "00000005" LB1 "ffff"
         "0123"
         "01" LB2 BOOT2 "09"
         "e807"
         "040a0000021e1b"
         "016d"
         "ffff"
         "7f03"
         "010203"
         "020a"
         "09" LB1 "07" LB2,
         MC_SEC);
    assert_int_equal(o.n_sent, 1);
    assert_int_equal(swim_live(s), 2);
    assert_int_equal(swim_counters(s)->unknown, 2);
    assert_int_equal(swim_counters(s)->malformed, 0);
    hear(s,
         "63" FROM2 "03"
         "010203",
         MC_SEC); /* a message of another kind */
    assert_int_equal(swim_counters(s)->unknown, 3);
    assert_int_equal(o.n_sent, 1);
    swim_free(&s);
}

static void
what_cannot_be_is_refused_and_counted(void **unused)
{
    static const char *const bad[] = {
        "",
        "01",
        "01"
        "00"
        "09" BOOT2 "00", /* no name */
        "01"
        "036c6220"
        "09" BOOT2 "00",                            /* a space in it */
        "01" LB2 "ffffffffffffffffff01" BOOT2 "00", /* incarnation */
        "01" FROM2 "09"
        "00000005" LB1, /* body cut off */
        "01" FROM2 "03"
        "000000", /* body too short */
        "05" FROM2 "00"
        "01", /* entry cut off */
        "05" FROM2 "00"
        "0121"
        "01" LB2 BOOT2 "09"
        "e807"
        "05"
        "0a0000021e1b"
        "016d", /* family */
        "05" FROM2 "00"
        "0121"
        "01" LB2 BOOT2 "09"
        "e807"
        "040a0000020000"
        "016d", /* port */
        "05" FROM2 "00"
        "0121"
        "01" LB2 BOOT2 "09"
        "e807"
        "04e00000021e1b"
        "016d", /* multicast */
        "05" FROM2 "00"
        "020a"
        "04" LB1 "07" LB2, /* left, says somebody else */
    };
    struct out o;
    struct swim *s = member(&o);

    for (unsigned i = 0; i < MC_COUNT(bad); i++) {
        hear(s, bad[i], MC_SEC);
        assert_int_equal(swim_counters(s)->malformed, i + 1);
    }
    assert_int_equal(swim_live(s), 1);
    assert_int_equal(swim_self(s)->incarnation, 7);
    swim_free(&s);
}

static void
a_ping_for_another_is_not_answered(void **unused)
{
    struct out o;
    struct swim *s = member(&o);

    hear(s, PING_OF("036c6233", ""), MC_SEC);
    assert_int_equal(o.n_sent, 0);
    assert_int_equal(swim_counters(s)->misdirected, 1);
    swim_free(&s);
}

static void
a_stranger_is_asked_for_its_state_once_a_second(void **unused)
{
    struct out o;
    struct swim *s = member(&o);

    for (unsigned i = 0; i < 10; i++)
        hear(s, PING_OF(LB1, ""), MC_SEC);
    assert_int_equal(o.n_syncs, 1);
    hear(s, PING_OF(LB1, ""), 2 * MC_SEC);
    assert_int_equal(o.n_syncs, 2);
    swim_free(&s);
}

/* Pings are relayed to members only, where we know them to be. */
static void
nobody_is_made_to_ping_a_foreign_address(void **unused)
{
    struct out o;
    struct swim *s = member(&o);
    const char *nack = "04" LB1 "07" BOOT1 "04"
                       "00000005";

    hear(s, "05" FROM2 "00" ALIVE2, MC_SEC);
    hear(s,
         "03" FROM2 "0f"
         "00000005" LB2 "040a0000091e1b",
         MC_SEC);
    assert_memory_equal(o.hex, nack, strlen(nack));
    hear(s,
         "03" FROM2 "0f"
         "00000005" LB2 "040a0000021e1b",
         MC_SEC);
    assert_memory_equal(o.hex, "01", 2);
    swim_free(&s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ping_is_answered_in_these_bytes),
        cmocka_unit_test(a_suspicion_and_its_refutation_are_these_bytes),
        cmocka_unit_test(a_whole_state_is_these_bytes),
        cmocka_unit_test(what_a_later_release_adds_is_passed_over),
        cmocka_unit_test(what_cannot_be_is_refused_and_counted),
        cmocka_unit_test(a_ping_for_another_is_not_answered),
        cmocka_unit_test(a_stranger_is_asked_for_its_state_once_a_second),
        cmocka_unit_test(nobody_is_made_to_ping_a_foreign_address),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
