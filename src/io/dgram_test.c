/* SPDX-License-Identifier: BSD-2-Clause
 *
 * dgram_test.c - UDP over loopback, on both engines.
 */
#include "io/harness.h"

#include "io/dgram.h"

/* An owner that keeps what came. */
struct box {
    struct dgram *d;
    unsigned n;
    size_t n_bytes, last_n;
    uint8_t last[DGRAM_RECV_MAX];
    struct addr from;
    unsigned echo; /* how often each is sent back */
};

static void
on_datagram(void *arg, const struct addr *from, uint8_t *p, size_t n)
{
    struct box *b = arg;

    b->n++;
    b->n_bytes += n;
    b->last_n = n;
    memcpy(b->last, p, n);
    b->from = *from;
    if (n > 0)
        p[0] ^= 1; /* it is ours to change */
    for (unsigned i = 0; i < b->echo; i++)
        dgram_send(b->d, from, p, n);
}

static void
open_box(struct box *b, const char *ip, struct dgram_conf conf)
{
    struct errbuf eb = {{0}};

    memset(b, 0, sizeof(*b));
    assert_true(addr_parse_ip(str_of(ip), 0, &conf.bind));
    conf.fn = on_datagram;
    conf.arg = b;
    b->d = dgram_new(L, &conf, &eb);
    if (b->d == NULL)
        fail_msg("%s", eb.text);
    assert_int_not_equal(addr_port(dgram_addr(b->d)), 0);
}

static void
send_text(struct box *from, struct box *to, const char *text)
{
    dgram_send(from->d, dgram_addr(to->d), text, strlen(text));
}

#define STAT(box, name) stat_get(&dgram_stats((box)->d)->name)

static void
exchange(const char *ip)
{
    struct box a, b;

    open_box(&a, ip, (struct dgram_conf){0});
    open_box(&b, ip, (struct dgram_conf){0});
    b.echo = 1;
    send_text(&a, &b, "ping");
    UNTIL(a.n == 1);
    assert_int_equal(b.n, 1);
    assert_true(addr_eq(&b.from, dgram_addr(a.d)));
    assert_true(addr_eq(&a.from, dgram_addr(b.d)));
    assert_int_equal(a.last_n, 4);
    assert_memory_equal(a.last, "qing", 4);
    assert_int_equal(STAT(&a, out), 1);
    assert_int_equal(STAT(&a, out_bytes), 4);
    assert_int_equal(STAT(&b, in), 1);
    assert_int_equal(STAT(&b, in_bytes), 4);
    dgram_free(&a.d);
    dgram_free(&b.d);
    assert_null(b.d);
}

static void
datagrams_go_both_ways(void **state)
{
    exchange("127.0.0.1");
}

static bool
has_ipv6(void)
{
    struct addr a;
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool has = fd >= 0 && addr_parse_ip(STR("::1"), 0, &a) && bind(fd, &a.u.sa, a.len) == 0;

    if (fd >= 0)
        close(fd);
    return has;
}

static void
datagrams_go_both_ways_over_ipv6(void **state)
{
    if (!has_ipv6())
        skip();
    exchange("::1");
}

/* Both families may have the same port, each with a socket of its own. */
static void
an_ipv6_socket_leaves_ipv4_alone(void **state)
{
    struct dgram_conf conf = {.fn = on_datagram};
    struct box four;
    struct dgram *six;
    struct errbuf eb;

    if (!has_ipv6())
        skip();
    open_box(&four, "0.0.0.0", (struct dgram_conf){0});
    assert_true(addr_parse_ip(STR("::"), addr_port(dgram_addr(four.d)), &conf.bind));
    six = dgram_new(L, &conf, &eb);
    assert_non_null(six);
    dgram_free(&six);
    dgram_free(&four.d);
}

static void
what_is_sent_in_a_turn_leaves_in_one_call(void **state)
{
    struct box a, b;

    open_box(&a, "127.0.0.1", (struct dgram_conf){.queue = 100});
    open_box(&b, "127.0.0.1", (struct dgram_conf){0});
    for (int i = 0; i < 100; i++)
        send_text(&a, &b, "one of many");
    assert_int_equal(STAT(&a, out), 0); /* not before the end of the turn */
    UNTIL(b.n == 100);
    assert_int_equal(STAT(&a, out), 100);
    assert_int_equal(STAT(&a, out_calls), 1);
    dgram_free(&a.d);
    dgram_free(&b.d);
}

static void
what_finds_no_room_in_the_queue_is_counted(void **state)
{
    struct box a, b;

    open_box(&a, "127.0.0.1", (struct dgram_conf){.queue = 3});
    open_box(&b, "127.0.0.1", (struct dgram_conf){0});
    for (int i = 0; i < 5; i++)
        send_text(&a, &b, "x");
    UNTIL(b.n == 3);
    assert_int_equal(STAT(&a, out_full), 2);
    send_text(&a, &b, "again"); /* there is room again */
    UNTIL(b.n == 4);
    dgram_free(&a.d);
    dgram_free(&b.d);
}

/* One that the kernel refuses does not take the others with it. */
static void
a_destination_that_cannot_be_costs_only_its_own(void **state)
{
    struct box a, b;
    struct addr no_port, ten;

    open_box(&a, "127.0.0.1", (struct dgram_conf){0});
    open_box(&b, "127.0.0.1", (struct dgram_conf){0});
    assert_true(addr_parse_ip(STR("127.0.0.1"), 0, &no_port));
    assert_true(addr_parse_ip(STR("2001:db8::1"), 10, &ten)); /* another family */
    send_text(&a, &b, "first");
    dgram_send(a.d, &no_port, "x", 1);
    send_text(&a, &b, "second");
    dgram_send(a.d, &ten, "x", 1);
    send_text(&a, &b, "third");
    UNTIL(b.n == 3);
    assert_memory_equal(b.last, "third", 5);
    assert_int_equal(STAT(&a, out_dropped), 2);
    assert_int_equal(STAT(&a, out), 3);
    dgram_free(&a.d);
    dgram_free(&b.d);
}

static void
sizes_have_their_bounds(void **state)
{
    static const uint8_t bytes[DGRAM_RECV_MAX + 1];
    struct box a, b;
    const struct addr *to;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    open_box(&a, "127.0.0.1", (struct dgram_conf){0});
    open_box(&b, "127.0.0.1", (struct dgram_conf){0});
    to = dgram_addr(b.d);
    dgram_send(a.d, to, bytes, 0);
    UNTIL(b.n == 1);
    assert_int_equal(b.last_n, 0);
    dgram_send(a.d, to, bytes, DGRAM_BYTES_MAX);
    UNTIL(b.n == 2);
    assert_int_equal(b.last_n, DGRAM_BYTES_MAX);
    assert_int_equal(sendto(fd, bytes, DGRAM_RECV_MAX + 1, 0, &to->u.sa, to->len),
                     DGRAM_RECV_MAX + 1);
    assert_int_equal(sendto(fd, bytes, DGRAM_RECV_MAX, 0, &to->u.sa, to->len), DGRAM_RECV_MAX);
    UNTIL(b.n == 3);
    assert_int_equal(b.last_n, DGRAM_RECV_MAX);
    assert_int_equal(STAT(&b, in_long), 1);
    assert_int_equal(STAT(&b, in), 4);
    close(fd);
    dgram_free(&a.d);
    dgram_free(&b.d);
}

/* --- floods ---------------------------------------------------------------------------------- */

static void
flood(int fd, const struct addr *to, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(sendto(fd, "flood", 5, 0, &to->u.sa, to->len), 5);
}

static void
a_flood_gets_a_bounded_part_of_each_turn(void **state)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct box b;

    open_box(&b, "127.0.0.1", (struct dgram_conf){.per_turn = 10});
    flood(fd, dgram_addr(b.d), 95);
    for (unsigned n = 0; n < 95; n = b.n) {
        UNTIL(b.n > n);
        assert_true(b.n <= n + 10);
    }
    assert_int_equal(STAT(&b, in), 95);
    close(fd);
    dgram_free(&b.d);
}

static void
what_the_kernel_drops_is_counted(void **state)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct box b;

    open_box(&b, "127.0.0.1", (struct dgram_conf){.recv_buf_bytes = 8192});
    assert_true(dgram_recv_buf_bytes(b.d) >= 8192 && dgram_recv_buf_bytes(b.d) <= 65536);
    flood(fd, dgram_addr(b.d), 1000);
    UNTIL(b.n > 0);
    settle();
    flood(fd, dgram_addr(b.d), 1); /* it tells of those before */
    UNTIL(STAT(&b, in) + STAT(&b, in_dropped) == 1001);
    assert_true(STAT(&b, in_dropped) > 500);
    flood(fd, dgram_addr(b.d), 1);
    UNTIL(STAT(&b, in) + STAT(&b, in_dropped) == 1002); /* not counted twice */
    close(fd);
    dgram_free(&b.d);
}

/* --- beginning and end ----------------------------------------------------------------------- */

static void
an_address_that_is_taken_is_told(void **state)
{
    struct dgram_conf conf = {.fn = on_datagram};
    struct errbuf eb;
    struct box a;

    open_box(&a, "127.0.0.1", (struct dgram_conf){0});
    conf.bind = *dgram_addr(a.d);
    assert_null(dgram_new(L, &conf, &eb));
    assert_non_null(strstr(eb.text, "udp 127.0.0.1:"));
    assert_non_null(strstr(eb.text, "bind: "));
    dgram_free(&a.d);
}

static void
what_is_queued_at_the_end_is_sent(void **state)
{
    struct box a, b;

    open_box(&a, "127.0.0.1", (struct dgram_conf){0});
    open_box(&b, "127.0.0.1", (struct dgram_conf){0});
    send_text(&a, &b, "farewell");
    dgram_free(&a.d);
    UNTIL(b.n == 1);
    assert_memory_equal(b.last, "farewell", 8);
    send_text(&b, &b, "to myself"); /* arrives after the end: nobody is told */
    dgram_free(&b.d);
    settle();
    assert_int_equal(b.n, 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        LOOP_TEST(datagrams_go_both_ways),
        LOOP_TEST(datagrams_go_both_ways_over_ipv6),
        LOOP_TEST(an_ipv6_socket_leaves_ipv4_alone),
        LOOP_TEST(what_is_sent_in_a_turn_leaves_in_one_call),
        LOOP_TEST(what_finds_no_room_in_the_queue_is_counted),
        LOOP_TEST(a_destination_that_cannot_be_costs_only_its_own),
        LOOP_TEST(sizes_have_their_bounds),
        LOOP_TEST(a_flood_gets_a_bounded_part_of_each_turn),
        LOOP_TEST(what_the_kernel_drops_is_counted),
        LOOP_TEST(an_address_that_is_taken_is_told),
        LOOP_TEST(what_is_queued_at_the_end_is_sent),
    };

    return RUN_ON_BOTH(tests);
}
