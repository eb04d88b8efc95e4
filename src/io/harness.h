/* SPDX-License-Identifier: BSD-2-Clause
 *
 * harness.h - for the tests of this room: a loop of either engine, and a socket owner that records
 * what it is told.
 */
#ifndef MC_IO_HARNESS_H
#define MC_IO_HARNESS_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/units.h"
#include "io/loop.h"
#include "io/sock.h"

#define UNUSED __attribute__((unused))

static enum loop_engine engine_under_test = LOOP_EPOLL;
static struct loop *L;

/* Turns the loop until the condition holds; twenty seconds are a failure, not a wait. */
#define UNTIL(cond)                                        \
    do {                                                   \
        mc_ns give_up_ns = units_clock_ns() + 20 * MC_SEC; \
        while (!(cond)) {                                  \
            if (units_clock_ns() > give_up_ns)             \
                fail_msg("never: %s", #cond);              \
            loop_turn(L, 5 * MC_MS);                       \
        }                                                  \
    } while (0)

/* A few turns that do not wait: for "nothing happens". */
static void UNUSED
settle(void)
{
    for (int i = 0; i < 20; i++)
        loop_turn(L, 0);
}

static int UNUSED
loop_setup(void **state)
{
    struct loop_conf conf = {.engine = engine_under_test};
    struct errbuf note;

    L = loop_new(&conf, &note);
    assert_non_null(L);
    if (engine_under_test == LOOP_URING)
        assert_string_equal(loop_engine_name(L), "uring");
    return 0;
}

static int UNUSED
loop_teardown(void **state)
{
    assert_int_equal(block_pool_used(loop_blocks(L)) > 1000, 0);
    loop_free(&L);
    assert_null(L);
    return 0;
}

static bool UNUSED
uring_works(void)
{
    struct loop_conf conf = {.engine = LOOP_URING};
    struct errbuf note;
    struct loop *l = loop_new(&conf, &note);
    bool works = strcmp(loop_engine_name(l), "uring") == 0;

    if (!works)
        printf("io_uring is left out: %s\n", note.text);
    loop_free(&l);
    return works;
}

#define LOOP_TEST(fn) cmocka_unit_test_setup_teardown(fn, loop_setup, loop_teardown)

/* Runs the same tests on both engines. */
#define RUN_ON_BOTH(tests)                                                          \
    ({                                                                              \
        int n_failed = 0;                                                           \
        engine_under_test = LOOP_EPOLL;                                             \
        n_failed += cmocka_run_group_tests_name("epoll", tests, NULL, NULL);        \
        if (uring_works()) {                                                        \
            engine_under_test = LOOP_URING;                                         \
            n_failed += cmocka_run_group_tests_name("io_uring", tests, NULL, NULL); \
        }                                                                           \
        n_failed;                                                                   \
    })

/* --- an owner that writes down what happens -------------------------------------------------- */

struct end {
    struct sock s;
    struct buf in;
    unsigned n_recv, n_eof, n_drained, n_quiet, n_connected, n_error, n_closed, n_accepted;
    int err, connect_err;
    int accepted[64];
    bool told_after_close;
    void (*on_recv)(struct end *, struct block **b); /* instead of appending to `in` */
    void (*then)(struct end *);                      /* after each event */
};

static struct end *
end_of(struct sock *s)
{
    return container_of(s, struct end, s);
}

static void
end_event(struct end *e)
{
    if (e->then)
        e->then(e);
}

static void
end_recv(struct sock *s, struct block **b)
{
    struct end *e = end_of(s);

    e->told_after_close |= !sock_is_open(s);
    e->n_recv++;
    assert_true((*b)->len > 0);
    if (e->on_recv)
        e->on_recv(e, b);
    else
        buf_add(&e->in, block_at(*b), (*b)->len);
    end_event(e);
}

static void
end_eof(struct sock *s)
{
    end_of(s)->told_after_close |= !sock_is_open(s);
    end_of(s)->n_eof++;
    end_event(end_of(s));
}

static void
end_quiet(struct sock *s)
{
    container_of(s, struct end, s)->n_quiet++;
}

static void
end_drained(struct sock *s)
{
    end_of(s)->told_after_close |= !sock_is_open(s);
    assert_int_equal(sock_unsent(s), 0);
    end_of(s)->n_drained++;
    end_event(end_of(s));
}

static void
end_connect(struct sock *s, int err)
{
    end_of(s)->told_after_close |= !sock_is_open(s);
    end_of(s)->n_connected++;
    end_of(s)->connect_err = err;
    end_event(end_of(s));
}

static void
end_accept(struct sock *s, int fd)
{
    struct end *e = end_of(s);

    e->told_after_close |= !sock_is_open(s);
    e->accepted[e->n_accepted++ % MC_COUNT(e->accepted)] = fd;
    end_event(e);
}

static void
end_error(struct sock *s, int err)
{
    end_of(s)->told_after_close |= !sock_is_open(s);
    end_of(s)->n_error++;
    end_of(s)->err = err;
    end_event(end_of(s));
}

static void
end_closed(struct sock *s)
{
    struct end *e = end_of(s);

    assert_false(sock_is_open(s));
    assert_false(e->told_after_close);
    e->n_closed++;
    memset(&e->s, 0xa5, sizeof(e->s)); /* the memory is ours again */
    e->s.magic = 0;
}

static const struct sock_ops end_ops = {
    .on_recv = end_recv,
    .on_eof = end_eof,
    .on_drained = end_drained,
    .on_quiet = end_quiet,
    .on_connect = end_connect,
    .on_accept = end_accept,
    .on_error = end_error,
    .on_closed = end_closed,
};

static void UNUSED
end_open(struct end *e, int fd)
{
    memset(e, 0, sizeof(*e));
    sock_open(&e->s, L, fd, &end_ops);
}

static void UNUSED
end_close(struct end *e)
{
    if (sock_is_open(&e->s))
        sock_close(&e->s, false);
    UNTIL(e->n_closed == 1);
    buf_free(&e->in);
}

static bool UNUSED
end_has(const struct end *e, const char *text)
{
    return e->in.n == strlen(text) && memcmp(e->in.p, text, e->in.n) == 0;
}

/* --- plain descriptors to talk to it --------------------------------------------------------- */

static void UNUSED
set_nonblock(int fd)
{
    assert_return_code(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), errno);
}

static int UNUSED
listen_on(struct addr *a)
{
    struct sock_listen_opts o = {.backlog = 0};
    struct errbuf eb;
    int fd;

    assert_true(addr_parse_ip(STR("127.0.0.1"), 0, a));
    fd = sock_listen_fd(a, &o, &eb);
    assert_true(fd >= 0);
    assert_return_code(getsockname(fd, &a->u.sa, &a->len), errno);
    return fd;
}

/* With a port that is free; others may take it in between, which a caller sees. */
static struct addr UNUSED
free_address(void)
{
    struct addr a;

    close(listen_on(&a));
    return a;
}

/* A TCP connection over loopback: both ends nonblocking. */
static void UNUSED
tcp_pair(int fd[2])
{
    struct addr a;
    int lfd = listen_on(&a);

    fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_return_code(connect(fd[0], &a.u.sa, a.len), errno);
    set_nonblock(lfd);
    for (;;) {
        struct pollfd p = {.fd = lfd, .events = POLLIN};

        assert_int_equal(poll(&p, 1, 10000), 1);
        fd[1] = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd[1] >= 0)
            break;
    }
    set_nonblock(fd[0]);
    close(lfd);
}

static void UNUSED
put(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Pattern bytes: the content tells where in the stream it belongs. */
static char UNUSED
pattern(uint64_t at)
{
    return (char)(at * 2654435761u >> 13);
}

static void UNUSED
pattern_fill(char *p, size_t n, uint64_t at)
{
    for (size_t i = 0; i < n; i++)
        p[i] = pattern(at + i);
}

static void UNUSED
pattern_check(const char *p, size_t n, uint64_t at)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != pattern(at + i))
            fail_msg("byte %llu is wrong", (unsigned long long)(at + i));
}

/* Writes up to n pattern bytes; returns what went. */
static size_t UNUSED
pour(int fd, size_t n, uint64_t at)
{
    char chunk[65536];
    size_t done = 0;

    while (done < n) {
        size_t part = n - done < sizeof(chunk) ? n - done : sizeof(chunk);
        ssize_t r;

        pattern_fill(chunk, part, at + done);
        r = send(fd, chunk, part, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (r <= 0)
            break;
        done += (size_t)r;
    }
    return done;
}

/* Reads up to n bytes that must be the pattern; returns how many came. *eof: FIN was read. */
static size_t UNUSED
sip(int fd, size_t n, uint64_t at, bool *eof)
{
    char chunk[65536];
    size_t done = 0;

    while (done < n) {
        size_t part = n - done < sizeof(chunk) ? n - done : sizeof(chunk);
        ssize_t r = recv(fd, chunk, part, MSG_DONTWAIT);

        if (r == 0 && eof)
            *eof = true;
        if (r <= 0)
            break;
        pattern_check(chunk, (size_t)r, at + done);
        done += (size_t)r;
    }
    return done;
}

/* Small bytes one by one, as a connection has them that is idle most of the time: io_uring goes
 * over to multishot receives.  Returns how many. */
static size_t UNUSED
calm_down(struct end *e, int fd, size_t at)
{
    size_t n = 0;

    sock_recv(&e->s, true);
    for (; n < 20; n++) {
        assert_int_equal(pour(fd, 1, at + n), 1);
        UNTIL(e->in.n == at + n + 1);
    }
    return n;
}

#endif
