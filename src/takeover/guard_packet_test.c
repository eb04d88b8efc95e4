/* SPDX-License-Identifier: BSD-2-Clause
 *
 * guard_packet_test.c - what the guard has held is read, and what a probe says is well formed: each
 * is the other's measure.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "takeover/checksum.h"
#include "takeover/guard.h"
#include "takeover/probe.h"

static struct flow_key
key(const char *local, const char *remote)
{
    struct addr l, r;
    struct flow_key k;

    assert_int_equal(addr_parse(str_of(local), &l, NULL, NULL, NULL), MC_OK);
    assert_int_equal(addr_parse(str_of(remote), &r, NULL, NULL, NULL), MC_OK);
    assert_true(flow_key_of(&k, &l, &r));
    return k;
}

/* The same flow as the client sees it: what it sends is what we receive. */
static struct flow_key
turned(const struct flow_key *k)
{
    struct flow_key t = {.local_port = k->remote_port, .remote_port = k->local_port};

    memcpy(t.local, k->remote, sizeof(t.local));
    memcpy(t.remote, k->local, sizeof(t.remote));
    return t;
}

/* A segment of the client's with its payload: returns its length. */
static size_t
client_says(const struct flow_key *ours, const char *payload, uint8_t *out)
{
    static const uint32_t ts[2] = {1000, 2000};
    struct flow_key k = turned(ours);
    size_t n = probe_segment(&k, TH_ACK | TH_PUSH, 4294967290u, 77, ts, false, out);
    size_t n_payload = strlen(payload);
    uint16_t sum = 0;

    memcpy(out + n, payload, n_payload);
    n += n_payload;
    memcpy(out + offsetof(struct tcphdr, th_sum), &sum, sizeof(sum));
    sum = (uint16_t)~checksum_fold(
        checksum_add(checksum_pseudo(k.local, k.remote, IPPROTO_TCP, n), out, n));
    memcpy(out + offsetof(struct tcphdr, th_sum), &sum, sizeof(sum));
    return n;
}

/* In memory of its own length, so that a byte too far is seen. */
static bool
reads(const struct flow_key *k, const uint8_t *bytes, size_t n, size_t n_segment,
      struct guard_packet *p)
{
    uint8_t *copy = malloc(n != 0 ? n : 1);
    bool good;

    memcpy(copy, bytes, n);
    good = guard_packet_read(k, copy, n, n_segment, p);
    if (good)
        p->payload = bytes + (p->payload - copy);
    free(copy);
    return good;
}

static void
read_both_families(const char *local, const char *remote)
{
    struct flow_key k = key(local, remote);
    uint8_t bytes[128];
    struct guard_packet p;
    size_t n = client_says(&k, "GET / HTTP/1.1\r\n", bytes);

    assert_true(reads(&k, bytes, n, n, &p));
    assert_true(flow_key_eq(&p.key, &k));
    assert_int_equal(p.flags, TH_ACK | TH_PUSH);
    assert_int_equal(p.seq, 4294967290u);
    assert_int_equal(p.ack, 77);
    assert_int_equal(p.window, UINT16_MAX);
    assert_true(p.has_ts);
    assert_int_equal(p.ts, 1000);
    assert_int_equal(p.ts_echo, 2000);
    assert_int_equal(p.n_payload, 16);
    assert_memory_equal(p.payload, "GET / HTTP/1.1\r\n", 16);
}

static void
a_segment_is_read_whole(void **state)
{
    read_both_families("10.0.0.9:80", "10.1.2.3:4711");
    read_both_families("[2001:db8::9]:80", "[2001:db8::1]:4711");
}

static void
a_byte_that_has_changed_is_noticed(void **state)
{
    struct flow_key k = key("10.0.0.9:80", "10.1.2.3:4711");
    uint8_t bytes[128];
    struct guard_packet p;
    size_t n = client_says(&k, "GET / HTTP/1.1\r\n", bytes);

    for (size_t i = 0; i < n; i++) {
        bytes[i] ^= 0x10;
        assert_false(reads(&k, bytes, n, n, &p));
        bytes[i] ^= 0x10;
    }
    assert_true(reads(&k, bytes, n, n, &p));
}

/* Offloading leaves the sum of the pseudo header; of such a packet we may have a part only. */
static void
a_checksum_that_is_yet_to_be_made_is_taken(void **state)
{
    struct flow_key k = key("10.0.0.9:80", "10.1.2.3:4711");
    uint8_t bytes[128];
    struct guard_packet p;
    size_t n = client_says(&k, "a segment of which we shall have", bytes);
    uint16_t sum = checksum_fold(checksum_pseudo(k.remote, k.local, IPPROTO_TCP, n));

    assert_false(reads(&k, bytes, n - 10, n, &p)); /* a sum over what we do not have */
    memcpy(bytes + offsetof(struct tcphdr, th_sum), &sum, sizeof(sum));
    bytes[13] |= TH_FIN;
    assert_true(reads(&k, bytes, n, n, &p));
    assert_true(p.flags & TH_FIN);
    assert_true(reads(&k, bytes, n - 10, n, &p));
    assert_int_equal(p.n_payload, 22);
    assert_false(p.flags & TH_FIN); /* it would come behind the bytes that are cut off */
}

static void
what_is_cut_off_or_nonsense_is_refused(void **state)
{
    struct flow_key k = key("10.0.0.9:80", "10.1.2.3:4711");
    struct flow_key other = key("10.0.0.9:81", "10.1.2.3:4711");
    uint8_t bytes[128];
    struct guard_packet p;
    size_t n = client_says(&k, "", bytes);
    uint16_t sum = checksum_fold(checksum_pseudo(k.remote, k.local, IPPROTO_TCP, n));

    assert_false(reads(&other, bytes, n, n, &p));
    assert_false(reads(&k, bytes, n, n - 1, &p));
    memcpy(bytes + offsetof(struct tcphdr, th_sum), &sum, sizeof(sum));
    assert_true(reads(&k, bytes, n, n, &p));
    for (size_t cut = 0; cut < n; cut++)
        assert_false(reads(&k, bytes, cut, n, &p));
    bytes[12] = 0x40; /* a header of 16 bytes */
    assert_false(reads(&k, bytes, n, n, &p));
    bytes[12] = 0xf0; /* one of 60 */
    assert_false(reads(&k, bytes, n, n, &p));
}

static void
options_are_walked_within_their_bounds(void **state)
{
    static const struct {
        uint8_t options[12];
        bool good, has_ts;
    } cases[] = {
        {{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}, true, true},
        {{8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0}, true, true},
        {{0, 8, 10, 0, 0, 1, 0, 0, 0, 2, 0, 0}, true, false},  /* behind the end */
        {{5, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1}, true, false},  /* SACK: not ours */
        {{1, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0}, false, false}, /* cut off */
        {{8, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, false, false},  /* would never end */
        {{8, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, false, false},
        {{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 8}, false, false}, /* no length */
        {{8, 8, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, true, false},  /* a length that is not theirs */
    };
    struct flow_key k = key("10.0.0.9:80", "10.1.2.3:4711");
    uint8_t bytes[128];
    struct guard_packet p;
    size_t n = client_says(&k, "", bytes);
    uint16_t sum = checksum_fold(checksum_pseudo(k.remote, k.local, IPPROTO_TCP, n));

    memcpy(bytes + offsetof(struct tcphdr, th_sum), &sum, sizeof(sum));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        memcpy(bytes + sizeof(struct tcphdr), cases[i].options, sizeof(cases[i].options));
        assert_int_equal(reads(&k, bytes, n, n, &p), cases[i].good);
        if (cases[i].good)
            assert_int_equal(p.has_ts, cases[i].has_ts);
    }
}

static void
a_probe_is_a_byte_before_what_the_client_expects(void **state)
{
    struct flow_key k = key("10.0.0.9:80", "10.1.2.3:4711"), theirs = turned(&k);
    static const uint32_t ts[2] = {5, 0};
    uint8_t bytes[PROBE_SEGMENT_MAX];
    struct guard_packet p;
    size_t n = probe_segment(&k, TH_ACK, 999, 1, ts, true, bytes);

    assert_true(n <= PROBE_SEGMENT_MAX);
    assert_true(reads(&theirs, bytes, n, n, &p));
    assert_int_equal(p.n_payload, 1);
    assert_int_equal(p.seq, 999);
    assert_true(p.has_ts);
    n = probe_segment(&k, TH_RST | TH_ACK, 1000, 1, NULL, false, bytes);
    assert_true(reads(&theirs, bytes, n, n, &p));
    assert_int_equal(p.n_payload, 0);
    assert_int_equal(p.flags, TH_RST | TH_ACK);
    assert_false(p.has_ts);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_segment_is_read_whole),
        cmocka_unit_test(a_byte_that_has_changed_is_noticed),
        cmocka_unit_test(a_checksum_that_is_yet_to_be_made_is_taken),
        cmocka_unit_test(what_is_cut_off_or_nonsense_is_refused),
        cmocka_unit_test(options_are_walked_within_their_bounds),
        cmocka_unit_test(a_probe_is_a_byte_before_what_the_client_expects),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
