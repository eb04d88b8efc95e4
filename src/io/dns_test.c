/* SPDX-License-Identifier: BSD-2-Clause
 *
 * dns_test.c - the resolver against a name server that lives in the same loop, on both engines.
 */
#include "io/harness.h"

#include <arpa/inet.h>
#include <ares.h>

#include "io/dns.h"

/* --- a name server --------------------------------------------------------------------------- */

enum mood { ANSWER, DENY, SILENT };

static struct server {
    struct watch w;
    enum mood mood;
    unsigned n_asked, n_silent;
    char name[32]; /* "127.0.0.1:port" */
} server;

static size_t
put_record(uint8_t *p, unsigned type, unsigned ttl, const uint8_t *data, unsigned n)
{
    const uint8_t head[12] = {
        0xc0, 12, 0, (uint8_t)type, 0, 1, 0, 0, (uint8_t)(ttl >> 8), (uint8_t)ttl, 0, (uint8_t)n};

    memcpy(p, head, 12);
    memcpy(p + 12, data, n);
    return 12 + n;
}

/* Turns a question into its answer in place; returns its length. */
static size_t
make_answer(uint8_t *p, size_t n)
{
    static const uint8_t four[3][4] = {{10, 0, 0, 9}, {10, 0, 0, 2}, {10, 0, 0, 9}};
    static const uint8_t six[16] = {0xfd, [15] = 7};
    size_t end = 12;
    unsigned type;

    while (p[end])
        end += p[end] + 1u;
    end += 5;
    assert_true(end <= n);
    type = p[end - 3];
    p[2] = 0x81;
    p[3] = server.mood == DENY ? 0x83 : 0x80;
    memset(p + 6, 0, 6); /* EDNS is left out */
    if (server.mood == DENY)
        return end;
    for (unsigned i = 0; type == 1 && i < 3; i++) {
        end += put_record(p + end, 1, 300 - i * 100, four[i], 4);
        p[7]++;
    }
    if (type == 28) {
        end += put_record(p + end, 28, 250, six, 16);
        p[7]++;
    }
    return end;
}

static void
on_question(struct watch *w, unsigned revents)
{
    uint8_t p[1024];
    struct sockaddr_in from;
    socklen_t len = sizeof(from);
    ssize_t n = recvfrom(w->fd, p, 512, MSG_DONTWAIT, (struct sockaddr *)&from, &len);

    watch_arm(w, POLLIN);
    if (n < 17)
        return;
    server.n_asked++;
    if (server.mood == SILENT || server.n_silent > 0) {
        server.n_silent -= server.n_silent > 0;
        return;
    }
    sendto(w->fd, p, make_answer(p, (size_t)n), 0, (struct sockaddr *)&from, len);
}

static int
dns_setup(void **state)
{
    struct addr a;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (loop_setup(state) != 0)
        return -1;
    addr_parse_ip(STR("127.0.0.1"), 0, &a);
    assert_return_code(bind(fd, &a.u.sa, a.len), errno);
    assert_return_code(getsockname(fd, &a.u.sa, &a.len), errno);
    server = (struct server){.mood = ANSWER};
    snprintf(server.name, sizeof(server.name), "127.0.0.1:%u", addr_port(&a));
    watch_init(&server.w, L, fd, on_question);
    watch_arm(&server.w, POLLIN);
    return 0;
}

static int
dns_teardown(void **state)
{
    watch_drop(&server.w);
    close(server.w.fd);
    return loop_teardown(state);
}

/* --- who asks -------------------------------------------------------------------------------- */

struct asker {
    unsigned n_told;
    struct dns_answer answer;
    char texts[8][ADDR_TEXT];
    struct dns **free;
};

static void
on_told(void *arg, const struct dns_answer *a)
{
    struct asker *k = arg;

    k->n_told++;
    k->answer = *a;
    for (unsigned i = 0; i < a->n_addrs && i < 8; i++)
        addr_text(&a->addrs[i], k->texts[i]);
    if (k->free)
        dns_free(k->free);
}

static struct dns *
resolver(mc_ns timeout)
{
    struct errbuf eb;
    struct dns *d = dns_new(L, server.name, timeout, &eb);

    assert_non_null(d);
    return d;
}

static void
a_name_is_looked_up_in_both_families(void **state)
{
    struct dns *d = resolver(5 * MC_SEC);
    struct asker k = {.n_told = 0};

    dns_query(d, "app.example.org.", 8080, on_told, &k);
    assert_int_equal(k.n_told, 0);
    UNTIL(k.n_told == 1);
    assert_int_equal(k.answer.status, 0);
    assert_int_equal(k.answer.n_addrs, 3); /* sorted, without the double one */
    assert_string_equal(k.texts[0], "10.0.0.2:8080");
    assert_string_equal(k.texts[1], "10.0.0.9:8080");
    assert_string_equal(k.texts[2], "[fd00::7]:8080");
    assert_int_equal(k.answer.ttl_s, 100); /* the smallest */
    assert_int_equal(server.n_asked, 2);
    dns_free(&d);
    assert_null(d);
}

static void
a_name_that_does_not_exist_is_told(void **state)
{
    struct dns *d = resolver(5 * MC_SEC);
    struct asker k = {.n_told = 0};

    server.mood = DENY;
    dns_query(d, "nowhere.example.org.", 80, on_told, &k);
    UNTIL(k.n_told == 1);
    assert_int_equal(k.answer.status, ARES_ENOTFOUND);
    assert_int_equal(k.answer.n_addrs, 0);
    assert_true(strlen(k.answer.text) > 0);
    dns_free(&d);
}

static void
a_silent_server_is_a_time_out_after_the_time_given(void **state)
{
    struct dns *d = resolver(150 * MC_MS);
    struct asker k = {.n_told = 0};
    mc_ns start = units_clock_ns(), took;

    server.mood = SILENT;
    dns_query(d, "slow.example.org.", 80, on_told, &k);
    UNTIL(k.n_told == 1);
    took = units_clock_ns() - start;
    assert_int_equal(k.answer.status, ARES_ETIMEOUT);
    assert_true(took >= 100 * MC_MS && took < 5 * MC_SEC);
    assert_true(server.n_asked >= 2);
    settle();
    assert_int_equal(k.n_told, 1);
    dns_free(&d);
}

static void
a_lost_packet_is_asked_for_again(void **state)
{
    struct dns *d = resolver(600 * MC_MS);
    struct asker k = {.n_told = 0};

    server.n_silent = 2;
    dns_query(d, "app.example.org.", 80, on_told, &k);
    UNTIL(k.n_told == 1);
    assert_int_equal(k.answer.status, 0);
    assert_int_equal(server.n_asked, 4);
    dns_free(&d);
}

static void
what_needs_no_server_is_still_told_later(void **state)
{
    struct dns *d = resolver(5 * MC_SEC);
    struct asker k = {.n_told = 0}, l = {.n_told = 0};

    dns_query(d, "192.0.2.1", 80, on_told, &k);
    dns_query(d, "bad..name", 80, on_told, &l);
    assert_int_equal(k.n_told, 0);
    UNTIL(k.n_told == 1 && l.n_told == 1);
    assert_string_equal(k.texts[0], "192.0.2.1:80");
    assert_true(k.answer.ttl_s >= 1);
    assert_int_not_equal(l.answer.status, 0);
    assert_int_equal(server.n_asked, 0);
    dns_free(&d);
}

static void
freed_with_questions_open_it_tells_nobody(void **state)
{
    struct dns *d = resolver(5 * MC_SEC);
    struct asker k = {.n_told = 0};

    server.mood = SILENT;
    dns_query(d, "a.example.org.", 80, on_told, &k);
    dns_query(d, "192.0.2.1", 80, on_told, &k);
    dns_free(&d);
    settle();
    d = resolver(5 * MC_SEC);
    dns_query(d, "a.example.org.", 80, on_told, &k);
    UNTIL(server.n_asked >= 2);
    dns_free(&d);
    settle();
    assert_int_equal(k.n_told, 0);
}

static void
it_may_be_freed_by_its_own_callback(void **state)
{
    struct dns *d = resolver(5 * MC_SEC);
    struct asker k = {.free = &d}, other = {.n_told = 0};

    dns_query(d, "192.0.2.1", 80, on_told, &k);
    dns_query(d, "b.example.org.", 80, on_told, &other);
    UNTIL(k.n_told == 1);
    assert_null(d);
    settle();
    assert_int_equal(other.n_told, 0);
}

static void
nonsense_for_resolvers_is_refused(void **state)
{
    struct errbuf eb;

    assert_null(dns_new(L, "not an address", MC_SEC, &eb));
    assert_true(strlen(eb.text) > 0);
}

#define DNS_TEST(fn) cmocka_unit_test_setup_teardown(fn, dns_setup, dns_teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        DNS_TEST(a_name_is_looked_up_in_both_families),
        DNS_TEST(a_name_that_does_not_exist_is_told),
        DNS_TEST(a_silent_server_is_a_time_out_after_the_time_given),
        DNS_TEST(a_lost_packet_is_asked_for_again),
        DNS_TEST(what_needs_no_server_is_still_told_later),
        DNS_TEST(freed_with_questions_open_it_tells_nobody),
        DNS_TEST(it_may_be_freed_by_its_own_callback),
        DNS_TEST(nonsense_for_resolvers_is_refused),
    };

    return RUN_ON_BOTH(tests);
}
