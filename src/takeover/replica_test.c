/* SPDX-License-Identifier: BSD-2-Clause
 *
 * replica_test.c - one flow: what its frames make of it, and what an adopter has to do.
 */
#include "takeover/replica_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MOST   4096

#define REQ_A  "GET /a HTTP/1.1\r\n\r\n" /* 19 bytes */
#define REQ_B  "GET /b HTTP/1.1\r\n\r\n"
#define HEAD_A "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n" /* 38 bytes */
#define BODY_A "abcdef"

static const struct life owner = {7, 1};
static uint64_t in_base, out_base; /* positions at which a flow of these tests begins */
static uint32_t rcv_base, snd_base;
static struct replica *r;

/* --- telling ------------------------------------------------------------------------------------
 */

static struct str
str(const char *z)
{
    return str_of(z);
}

static void
begin(void)
{
    struct wire_open w = {.rcv_base = rcv_base,
                          .snd_base = snd_base,
                          .in_pos = in_base,
                          .out_pos = out_base,
                          .params.mss = 1448};

    replica_begin(r, &w);
}

static enum replica_fault
apply(struct wire_frame f)
{
    enum replica_fault fault;

    replica_apply(r, &f, MOST, &fault);
    return fault;
}

static void
good(struct wire_frame f)
{
    assert_int_equal(apply(f), REPLICA_F_NONE);
}

static void
in(const char *bytes)
{
    good((struct wire_frame){.kind = WIRE_IN, .u.in = {r->in_at + r->in.n, str(bytes)}});
}

static void
req(uint64_t in_start, uint64_t out_start, bool pipelined, bool repeatable)
{
    good((struct wire_frame){
        .kind = WIRE_REQ,
        .u.req = {in_base + in_start, out_base + out_start, pipelined, repeatable}});
}

static void
head(const char *bytes, bool whole)
{
    good((struct wire_frame){.kind = WIRE_HEAD, .u.head = {whole, str(bytes)}});
}

static void
out(const char *bytes)
{
    good((struct wire_frame){.kind = WIRE_OUT, .u.out = {str(bytes)}});
}

static void
sent(void)
{
    good((struct wire_frame){.kind = WIRE_SENT});
}

static void
done(uint64_t in_end, uint64_t out_end)
{
    good((struct wire_frame){.kind = WIRE_DONE,
                             .u.done = {in_base + in_end, out_base + out_end, false}});
}

/* What the client says that has n bytes of ours, and has sent m. */
static struct replica_plan
plan(uint64_t n, uint64_t m)
{
    struct replica_plan p;

    replica_plan(r, snd_base + (uint32_t)(out_base + n), rcv_base + (uint32_t)(in_base + m), &p);
    return p;
}

static void
assert_broken(struct replica_plan p, enum replica_broken why)
{
    assert_string_equal(replica_broken_text(p.broken), replica_broken_text(why));
}

static void
assert_str(struct str s, const char *z)
{
    assert_int_equal(s.n, strlen(z));
    assert_memory_equal(s.p, z, s.n);
}

/* Every test is played from these beginnings: so that numbers wrap at each point of it. */
static const struct {
    uint64_t in, out;
    uint32_t rcv, snd;
} beginnings[] = {
    {0, 0, 1, 1},
    {0, 0, 0xfffffff0, 0xffffffe0},               /* numbers wrap in the first request */
    {0, 0, UINT32_MAX, UINT32_MAX},               /* and at once */
    {0xfffffffa, 0xfffffff0, 0, 0},               /* positions pass 2^32 */
    {UINT64_C(3) << 32, UINT64_C(5) << 32, 7, 9}, /* they have */
    {(UINT64_C(3) << 32) - 9, (UINT64_C(5) << 32) - 30, 0x80000000, 0x7ffffff0}, /* signs change */
};

static void
each(void (*test)(void))
{
    for (unsigned i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++) {
        in_base = beginnings[i].in;
        out_base = beginnings[i].out;
        rcv_base = beginnings[i].rcv;
        snd_base = beginnings[i].snd;
        r = replica_new(owner, 0);
        begin();
        test();
        replica_free(&r);
    }
}

/* --- idle ---------------------------------------------------------------------------------------
 */

static void
idle(void)
{
    struct replica_plan p = plan(0, 0);

    assert_broken(p, REPLICA_BROKEN_NONE);
    assert_int_equal(p.n_steps, 0);
    assert_int_equal(p.in_from, in_base);
    assert_int_equal(p.in_pos, in_base);
    assert_int_equal(p.out_pos, out_base);

    in(REQ_A);
    req(0, 0, false, true);
    head(HEAD_A, true);
    done(19, 44);
    p = plan(44, 19);
    assert_broken(p, REPLICA_BROKEN_NONE);
    assert_int_equal(p.n_steps, 0);
    assert_int_equal(p.in_from, in_base + 19);
    assert_int_equal(p.out_pos, out_base + 44);
}

static void
nothing_is_to_be_done_for_a_client_that_has_all(void **state)
{
    each(idle);
}

static void
half(void)
{
    struct replica_plan p;

    in("GET /a HT");
    p = plan(0, 9);
    assert_broken(p, REPLICA_BROKEN_NONE);
    assert_int_equal(p.n_steps, 0);
    assert_int_equal(p.in_from, in_base);
    assert_int_equal(p.in_pos, in_base + 9);
}

static void
half_a_head_is_read_again(void **state)
{
    each(half);
}

/* --- one request --------------------------------------------------------------------------------
 */

static void
untouched(void)
{
    struct replica_plan p;

    in(REQ_A);
    req(0, 0, false, false);
    p = plan(0, 0);
    assert_broken(p, REPLICA_BROKEN_NONE);
    assert_int_equal(p.n_steps, 1);
    assert_int_equal(p.step[0].what, REPLICA_REPEAT);
    assert_int_equal(p.step[0].in_start, in_base);
    assert_int_equal(p.step[0].in_end, REPLICA_POS_NONE);
    assert_int_equal(p.step[0].n_response, REPLICA_POS_NONE);
    assert_int_equal(p.step[0].head.n, 0);
    assert_int_equal(p.in_from, in_base);
    assert_int_equal(p.in_pos, in_base + 19);
}

static void
a_request_that_was_not_sent_is_sent(void **state)
{
    each(untouched);
}

static void
in_part(void)
{
    struct replica_plan p;

    in(REQ_A);
    req(0, 0, false, true);
    sent();
    head(HEAD_A, true);
    for (unsigned n = 1; n <= 38 + 3; n++) {
        p = plan(n, 19);
        assert_broken(p, REPLICA_BROKEN_NONE);
        assert_int_equal(p.n_steps, 1);
        assert_int_equal(p.step[0].what, REPLICA_REPEAT);
        assert_str(p.step[0].head, HEAD_A);
        assert_true(p.step[0].head_whole);
        assert_str(p.step[0].say, n < 38 ? HEAD_A + n : "");
        assert_int_equal(p.step[0].skip, n > 38 ? n - 38 : 0);
        assert_int_equal(p.out_pos, out_base + n);
    }
    /* whether the response has ended by now changes nothing, but that its length is known */
    done(19, 44);
    p = plan(43, 19);
    assert_int_equal(p.step[0].skip, 5);
    assert_int_equal(p.step[0].n_response, 44);
    assert_int_equal(p.step[0].in_end, in_base + 19);
    assert_int_equal(p.in_from, in_base);
    assert_int_equal(plan(44, 19).n_steps, 0);
}

static void
what_the_client_has_is_skipped_with_the_old_head(void **state)
{
    each(in_part);
}

static void
interim(void)
{
    struct replica_plan p;

    in(REQ_A);
    req(0, 0, false, true);
    head("HTTP/1.1 103 x\r\n\r\n", false);
    p = plan(4, 19);
    assert_broken(p, REPLICA_BROKEN_NONE);
    assert_false(p.step[0].head_whole);
    assert_str(p.step[0].say, "/1.1 103 x\r\n\r\n");
    assert_int_equal(p.step[0].skip, 0);
    p = plan(18, 19);
    assert_broken(p, REPLICA_BROKEN_NONE);
    assert_int_equal(p.step[0].say.n, 0);
    assert_broken(plan(19, 19), REPLICA_BROKEN_HEAD_UNKNOWN);
    /* the final head is of the same head */
    head(HEAD_A, true);
    p = plan(18 + 36, 19);
    assert_str(p.step[0].say, "\r\n");
    assert_true(p.step[0].head_whole);
    assert_int_equal(p.step[0].head.n, 18 + 38);
}

static void
interim_responses_are_of_the_head(void **state)
{
    each(interim);
}

static void
headless(void)
{
    in(REQ_A);
    req(0, 0, false, true);
    assert_broken(plan(0, 19), REPLICA_BROKEN_NONE);
    assert_broken(plan(1, 19), REPLICA_BROKEN_HEAD_UNKNOWN);
}

static void
a_response_without_its_head_cannot_be_gone_on_with(void **state)
{
    each(headless);
}

static void
unrepeatable(void)
{
    struct replica_plan p;

    in("POST /a HTTP/1.1\r\n\r\n");
    req(0, 0, false, false);
    assert_int_equal(plan(0, 20).step[0].what, REPLICA_REPEAT);
    sent();
    p = plan(0, 20);
    assert_broken(p, REPLICA_BROKEN_NONE);
    assert_int_equal(p.step[0].what, REPLICA_REFUSE);
    head(HEAD_A, true);
    assert_int_equal(plan(0, 20).step[0].what, REPLICA_REFUSE);
    assert_broken(plan(1, 20), REPLICA_BROKEN_SENT);
    done(20, 44);
    assert_int_equal(plan(0, 20).step[0].what, REPLICA_REFUSE);
    assert_broken(plan(43, 20), REPLICA_BROKEN_SENT);
    assert_int_equal(plan(44, 20).n_steps, 0);
}

static void
what_may_not_be_repeated_is_never_sent_twice(void **state)
{
    each(unrepeatable);
}

/* --- logged responses ---------------------------------------------------------------------------
 */

static void
logged(void)
{
    struct replica_plan p;

    in("POST /a HTTP/1.1\r\n\r\n");
    req(0, 0, false, false);
    sent();
    head(HEAD_A, true);
    out("abc");
    /* not whole: the client may have of it what is logged, and no more is known */
    assert_int_equal(plan(0, 20).step[0].what, REPLICA_REFUSE);
    out("def");
    assert_broken(plan(2, 20), REPLICA_BROKEN_SENT);
    good((struct wire_frame){.kind = WIRE_DONE, .u.done = {in_base + 20, out_base + 44, true}});
    for (unsigned n = 0; n < 44; n++) {
        p = plan(n, 20);
        assert_broken(p, REPLICA_BROKEN_NONE);
        assert_int_equal(p.n_steps, 1);
        assert_int_equal(p.step[0].what, REPLICA_SAY);
        assert_str(p.step[0].say, HEAD_A BODY_A + n);
        assert_true(p.step[0].close);
        assert_int_equal(p.step[0].in_end, in_base + 20);
    }
    assert_int_equal(plan(44, 20).n_steps, 0);
}

static void
a_logged_response_is_sent_from_where_the_client_is(void **state)
{
    each(logged);
}

static void
too_long_to_log(void)
{
    char body[1024];
    struct replica_plan p;

    memset(body, 'x', sizeof(body) - 1);
    body[sizeof(body) - 1] = '\0';
    in(REQ_A);
    req(0, 0, false, true);
    head(HEAD_A, true);
    for (unsigned i = 0; i < 8; i++)
        out(body);
    assert_true(r->request[0].gap);
    assert_int_equal(r->said.n, 38);
    done(19, 38 + 8 * 1023);
    p = plan(100, 19);
    assert_int_equal(p.step[0].what, REPLICA_REPEAT);
    assert_int_equal(p.step[0].skip, 62);
    assert_false(r->bare);
}

static void
a_response_too_long_to_be_logged_is_fetched_again(void **state)
{
    each(too_long_to_log);
}

/* --- several requests ---------------------------------------------------------------------------
 */

static void
following(void)
{
    struct replica_plan p;

    in(REQ_A);
    req(0, 0, false, true);
    head(HEAD_A, true);
    done(19, 44);
    assert_int_equal(r->n_requests, 1); /* done is sent, not received */
    in(REQ_B);
    assert_int_equal(r->in.n, 38);
    /* had it been this client that asked before it had the whole answer, it would be known */
    req(19, 44, false, true);
    assert_int_equal(r->n_requests, 1);
    assert_int_equal(r->in_at, in_base + 19);
    assert_int_equal(r->out_at, out_base + 44);
    p = plan(44, 38);
    assert_int_equal(p.n_steps, 1);
    assert_int_equal(p.step[0].in_start, in_base + 19);
    assert_broken(plan(43, 38), REPLICA_BROKEN_ACK_BEHIND);
}

static void
a_request_proves_that_the_response_before_it_was_received(void **state)
{
    each(following);
}

static void
pipelined(void)
{
    struct replica_plan p;

    in(REQ_A REQ_B "POST /c HTTP/1.1\r\n\r\n");
    in(REQ_A);
    req(0, 0, false, true);
    head(HEAD_A, true);
    done(19, 44);
    req(19, 44, true, true); /* a request of which all is logged */
    head(HEAD_A, true);
    out(BODY_A);
    done(38, 88);
    req(38, 88, true, false);
    sent();
    assert_int_equal(r->n_requests, 3);

    p = plan(40, 77);
    assert_broken(p, REPLICA_BROKEN_NONE);
    assert_int_equal(p.n_steps, 3);
    assert_int_equal(p.in_from, in_base);
    assert_int_equal(p.in_pos, in_base + 77);
    assert_int_equal(p.step[0].what, REPLICA_REPEAT);
    assert_int_equal(p.step[0].skip, 2);
    assert_int_equal(p.step[1].what, REPLICA_SAY);
    assert_str(p.step[1].say, HEAD_A BODY_A);
    assert_int_equal(p.step[2].what, REPLICA_REFUSE);
    assert_int_equal(p.step[2].in_start, in_base + 38);

    p = plan(44 + 40, 77);
    assert_int_equal(p.n_steps, 2);
    assert_int_equal(p.in_from, in_base + 19);
    assert_int_equal(p.step[0].what, REPLICA_SAY);
    assert_str(p.step[0].say, "cdef");
    assert_int_equal(p.step[1].what, REPLICA_REFUSE);

    p = plan(88, 77);
    assert_int_equal(p.n_steps, 1);
    assert_int_equal(p.in_from, in_base + 38);
    assert_broken(plan(89, 77), REPLICA_BROKEN_SENT);
}

static void
pipelined_requests_each_have_a_step(void **state)
{
    each(pipelined);
}

static void
many(void)
{
    for (unsigned i = 0; i < 2 * REPLICA_REQUESTS_MAX; i++) {
        in(REQ_A);
        req(i * 19, i * 44, true, true);
        head(HEAD_A, true);
        done((i + 1) * 19, (i + 1) * 44);
    }
    assert_int_equal(r->n_requests, REPLICA_REQUESTS_MAX);
    assert_int_equal(r->out_at, out_base + REPLICA_REQUESTS_MAX * 44);
    assert_int_equal(plan(r->out_at - out_base, 0).n_steps, REPLICA_REQUESTS_MAX);
    assert_broken(plan(r->out_at - out_base - 1, 0), REPLICA_BROKEN_ACK_BEHIND);
}

static void
of_many_responses_the_oldest_are_taken_for_received(void **state)
{
    each(many);
}

/* --- clients that do not fit --------------------------------------------------------------------
 */

static void
unfit(void)
{
    in(REQ_A);
    assert_broken(plan(1, 19), REPLICA_BROKEN_ACK_AHEAD);
    req(0, 0, false, true);
    head(HEAD_A, true);
    done(19, 44);
    assert_broken(plan(45, 19), REPLICA_BROKEN_ACK_AHEAD);
    assert_broken(plan((uint64_t)-1, 19), REPLICA_BROKEN_ACK_BEHIND);
    /* what it repeats, what it sends before we told it that we have the rest, its own probes */
    assert_broken(plan(44, 0), REPLICA_BROKEN_NONE);
    assert_broken(plan(44, (uint64_t)-1), REPLICA_BROKEN_NONE);
    assert_broken(plan(44, 19 + 65535), REPLICA_BROKEN_NONE);
    assert_broken(plan(44, 19 + (1u << 30)), REPLICA_BROKEN_NONE);
    assert_broken(plan(44, 19 + (1u << 30) + 1), REPLICA_BROKEN_SEQ_AHEAD);
    if (in_base == 0)
        assert_broken(plan(44, (uint64_t)-2), REPLICA_BROKEN_SEQ_BEHIND);
}

static void
a_client_that_does_not_fit_is_found_out(void **state)
{
    each(unfit);
}

static void
bared(void)
{
    in(REQ_A);
    req(0, 0, false, true);
    good((struct wire_frame){.kind = WIRE_BARE});
    assert_broken(plan(0, 0), REPLICA_BROKEN_BARE);
    /* what was on its way is no fault */
    good((struct wire_frame){.kind = WIRE_IN, .u.in = {1, str("x")}});
    good((struct wire_frame){.kind = WIRE_DONE});
    assert_int_equal(r->in.n, 0);
    begin();
    assert_broken(plan(0, 0), REPLICA_BROKEN_NONE);
}

static void
a_bare_flow_is_protected_again_when_it_is_opened_again(void **state)
{
    each(bared);
}

/* --- limits and faults --------------------------------------------------------------------------
 */

static void
long_upload(void)
{
    char body[MOST / 2];
    enum replica_fault fault;
    struct wire_frame f;

    memset(body, 'x', sizeof(body) - 1);
    body[sizeof(body) - 1] = '\0';
    in(REQ_A);
    req(0, 0, false, true);
    head(HEAD_A, true);
    done(19, 44);
    in(body); /* the response before it, which the client is likely to have, has to go at last */
    req(19, 44, true, false);
    assert_int_equal(r->n_requests, 2);
    in(body);
    assert_int_equal(r->n_requests, 1);
    assert_false(r->bare);
    f = (struct wire_frame){.kind = WIRE_IN, .u.in = {r->in_at + r->in.n, str(body)}};
    assert_int_equal(replica_apply(r, &f, MOST, &fault), REPLICA_TOO_LONG);
    assert_true(r->bare);
    assert_int_equal(replica_cost(r), sizeof(*r));
}

static void
a_flow_with_too_many_bytes_becomes_bare(void **state)
{
    each(long_upload);
}

static void
faulty(void)
{
    assert_int_equal(apply((struct wire_frame){.kind = WIRE_SENT}), REPLICA_F_ORDER);
    assert_int_equal(apply((struct wire_frame){.kind = WIRE_HEAD}), REPLICA_F_ORDER);
    assert_int_equal(apply((struct wire_frame){.kind = WIRE_OUT}), REPLICA_F_ORDER);
    assert_int_equal(apply((struct wire_frame){.kind = WIRE_DONE}), REPLICA_F_ORDER);
    assert_int_equal(apply((struct wire_frame){.kind = WIRE_ACK}), REPLICA_F_KIND);
    assert_int_equal(apply((struct wire_frame){.kind = WIRE_IN, .u.in = {in_base + 1, str("x")}}),
                     REPLICA_F_GAP);
    in(REQ_A);
    assert_int_equal(
        apply((struct wire_frame){.kind = WIRE_REQ, .u.req = {in_base + 20, out_base, 0, 0}}),
        REPLICA_F_RANGE);
    assert_int_equal(
        apply((struct wire_frame){.kind = WIRE_REQ, .u.req = {in_base, out_base + 1, 0, 0}}),
        REPLICA_F_RANGE);
    req(0, 0, false, false);
    assert_int_equal(
        apply((struct wire_frame){.kind = WIRE_REQ, .u.req = {in_base + 19, out_base, 0, 0}}),
        REPLICA_F_ORDER);
    assert_int_equal(apply((struct wire_frame){.kind = WIRE_OUT, .u.out = {str("x")}}),
                     REPLICA_F_ORDER);
    assert_int_equal(apply((struct wire_frame){.kind = WIRE_HEAD, .u.head = {true, str("")}}),
                     REPLICA_F_RANGE);
    head(HEAD_A, true);
    assert_int_equal(apply((struct wire_frame){.kind = WIRE_HEAD, .u.head = {true, str("x")}}),
                     REPLICA_F_ORDER);
    assert_int_equal(
        apply((struct wire_frame){.kind = WIRE_DONE, .u.done = {in_base + 20, out_base + 44, 0}}),
        REPLICA_F_RANGE);
    assert_int_equal(
        apply((struct wire_frame){.kind = WIRE_DONE, .u.done = {in_base + 19, out_base + 37, 0}}),
        REPLICA_F_RANGE);
    done(19, 44);
    assert_int_equal(
        apply((struct wire_frame){.kind = WIRE_REQ, .u.req = {in_base + 18, out_base + 44, 1, 0}}),
        REPLICA_F_RANGE);
}

static void
frames_that_make_no_sense_are_faults(void **state)
{
    each(faulty);
}

/* --- given away ---------------------------------------------------------------------------------
 */

static void
assert_same(const struct replica *a, const struct replica *b)
{
    struct buf of_a = {0}, of_b = {0};

    replica_write(a, &of_a);
    replica_write(b, &of_b);
    assert_int_equal(of_a.n, of_b.n);
    assert_memory_equal(of_a.p, of_b.p, of_a.n);
    buf_free(&of_a);
    buf_free(&of_b);
}

static void
travels(void)
{
    struct buf b = {0};
    struct replica *got;
    struct replica_plan p;

    in(REQ_A REQ_B "GET /c HTTP/1.1\r\n\r\n" REQ_A);
    req(0, 0, false, true);
    head(HEAD_A, true);
    done(19, 44);
    req(19, 44, true, false);
    sent();
    head("HTTP/1.1 103 x\r\n\r\n", false);
    head(HEAD_A, true);
    out(BODY_A);
    done(38, 44 + 18 + 44);
    req(38, 106, true, true);
    head("HTTP/1.1 103 x\r\n\r\n", false);
    replica_write(r, &b);
    got = replica_read(owner, (struct str){b.p, b.n});
    assert_non_null(got);
    assert_true(life_eq(got->owner, owner));
    assert_same(r, got);
    replica_plan(got, snd_base + (uint32_t)(out_base + 40), rcv_base + (uint32_t)in_base, &p);
    assert_int_equal(p.n_steps, 3);
    assert_int_equal(p.step[1].what, REPLICA_SAY);
    assert_false(p.step[2].head_whole);
    replica_free(&got);
    for (size_t n = 0; n < b.n; n++) { /* cut off: none, or a shorter one */
        got = replica_read(owner, (struct str){b.p, n});
        replica_free(&got);
    }
    buf_free(&b);

    good((struct wire_frame){.kind = WIRE_BARE});
    replica_write(r, &b);
    got = replica_read(owner, (struct str){b.p, b.n});
    assert_non_null(got);
    assert_true(got->bare);
    replica_free(&got);
    /* two flows are none */
    replica_write(r, &b);
    assert_null(replica_read(owner, (struct str){b.p, b.n}));
    buf_free(&b);
}

static void
a_replica_given_away_is_the_same_there(void **state)
{
    each(travels);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_to_be_done_for_a_client_that_has_all),
        cmocka_unit_test(half_a_head_is_read_again),
        cmocka_unit_test(a_request_that_was_not_sent_is_sent),
        cmocka_unit_test(what_the_client_has_is_skipped_with_the_old_head),
        cmocka_unit_test(interim_responses_are_of_the_head),
        cmocka_unit_test(a_response_without_its_head_cannot_be_gone_on_with),
        cmocka_unit_test(what_may_not_be_repeated_is_never_sent_twice),
        cmocka_unit_test(a_logged_response_is_sent_from_where_the_client_is),
        cmocka_unit_test(a_response_too_long_to_be_logged_is_fetched_again),
        cmocka_unit_test(a_request_proves_that_the_response_before_it_was_received),
        cmocka_unit_test(pipelined_requests_each_have_a_step),
        cmocka_unit_test(of_many_responses_the_oldest_are_taken_for_received),
        cmocka_unit_test(a_client_that_does_not_fit_is_found_out),
        cmocka_unit_test(a_bare_flow_is_protected_again_when_it_is_opened_again),
        cmocka_unit_test(a_flow_with_too_many_bytes_becomes_bare),
        cmocka_unit_test(frames_that_make_no_sense_are_faults),
        cmocka_unit_test(a_replica_given_away_is_the_same_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
