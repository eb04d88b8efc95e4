/* SPDX-License-Identifier: BSD-2-Clause
 *
 * connect_test.c - making, accepting and refusing connections, on both engines.
 */
#include "io/harness.h"

#include "io/engine.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>

/* --- connecting and accepting ---------------------------------------------------------------- */

static void
a_connection_is_made_and_accepted(void **state)
{
    struct end c = {.in = {0}}, l, a;
    struct addr to;
    int one = 0, fd;
    socklen_t len = sizeof(one);

    end_open(&l, listen_on(&to));
    sock_accept(&l.s, true);
    assert_int_equal(sock_connect(&c.s, L, &to, &end_ops), MC_OK);
    assert_int_equal(c.n_connected, 0);
    UNTIL(c.n_connected == 1 && l.n_accepted == 1);
    assert_int_equal(c.connect_err, 0);
    fd = l.accepted[0];
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, &len), 0);
    assert_true(one); /* inherited from the listener */
    end_open(&a, fd);
    sock_recv(&a.s, true);
    sock_recv(&c.s, true);
    sock_write(&c.s, "ping", 4);
    UNTIL(end_has(&a, "ping"));
    sock_write(&a.s, "pong", 4);
    UNTIL(end_has(&c, "pong"));
    end_close(&a);
    UNTIL(c.n_eof == 1);
    end_close(&c);
    end_close(&l);
}

static void
bytes_written_before_the_connection_stands_are_sent_then(void **state)
{
    struct end c = {.in = {0}}, l, a;
    struct addr to;

    end_open(&l, listen_on(&to));
    sock_accept(&l.s, true);
    assert_int_equal(sock_connect(&c.s, L, &to, &end_ops), MC_OK);
    sock_write(&c.s, "early", 5);
    sock_shutdown(&c.s);
    UNTIL(l.n_accepted == 1);
    end_open(&a, l.accepted[0]);
    sock_recv(&a.s, true);
    UNTIL(a.n_eof == 1);
    assert_true(end_has(&a, "early"));
    end_close(&a);
    end_close(&c);
    end_close(&l);
}

/* An address that does not look near is registered before it is connected: what the server says
 * first comes with the same event as the connection. */
static void
a_server_that_speaks_first_is_heard(void **state)
{
    struct end c = {.in = {0}};
    struct addr four, to;
    struct pollfd p;
    int lfd = listen_on(&four), fd;

    assert_true(addr_parse_ip(STR("::ffff:127.0.0.1"), addr_port(&four), &to));
    if (sock_connect(&c.s, L, &to, &end_ops) != MC_OK) {
        close(lfd);
        skip(); /* no IPv6 here */
    }
    if (engine_under_test == LOOP_URING)
        loop_turn(L, 0); /* begins only now; epoll must not see the connection alone */
    p = (struct pollfd){.fd = lfd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 5000), 1);
    fd = accept(lfd, NULL, NULL);
    put(fd, "220 welcome");
    shutdown(fd, SHUT_WR);
    sock_recv(&c.s, true);
    UNTIL(c.n_eof == 1);
    assert_int_equal(c.connect_err, 0);
    assert_int_equal(c.n_connected, 1);
    assert_true(end_has(&c, "220 welcome"));
    end_close(&c);
    close(fd);
    close(lfd);
}

static void
a_refused_connection_is_told_by_on_connect(void **state)
{
    struct end c = {.in = {0}};
    struct addr to;

    close(listen_on(&to));
    assert_int_equal(sock_connect(&c.s, L, &to, &end_ops), MC_OK);
    UNTIL(c.n_connected == 1);
    assert_int_equal(c.connect_err, ECONNREFUSED);
    settle();
    assert_int_equal(c.n_error, 0);
    end_close(&c);
}

static void
a_connection_that_hangs_can_be_closed(void **state)
{
    struct end c = {.in = {0}};
    struct addr to;
    int lfd = listen_on(&to), filler[4];

    listen(lfd, 0); /* a full backlog: further SYNs are dropped */
    for (int i = 0; i < 4; i++) {
        filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect(filler[i], &to.u.sa, to.len);
    }
    assert_int_equal(sock_connect(&c.s, L, &to, &end_ops), MC_OK);
    settle();
    assert_int_equal(c.n_connected, 0);
    end_close(&c);
    for (int i = 0; i < 4; i++)
        close(filler[i]);
    close(lfd);
}

static void
an_unreachable_address_is_an_error_of_on_connect(void **state)
{
    struct end c = {.in = {0}};
    struct addr to;

    assert_true(addr_parse_ip(STR("255.255.255.255"), 9, &to));
    assert_int_equal(sock_connect(&c.s, L, &to, &end_ops), MC_OK);
    UNTIL(c.n_connected == 1);
    assert_int_not_equal(c.connect_err, 0);
    end_close(&c);
}

static void
unix_sockets_work_and_a_stale_file_is_replaced(void **state)
{
    struct sock_listen_opts o = {.unix_mode = 0600};
    struct end c = {.in = {0}}, l, a;
    struct addr at;
    struct errbuf eb;
    struct stat st;
    char path[64];
    int fd;

    snprintf(path, sizeof(path), "unix:/tmp/sock_test.%d", (int)getpid());
    assert_int_equal(addr_parse(str_of(path), &at, NULL, NULL, &eb), MC_OK);
    fd = sock_listen_fd(&at, &o, &eb);
    assert_true(fd >= 0);
    assert_int_equal(sock_listen_fd(&at, &o, &eb), -1); /* somebody listens there */
    assert_non_null(strstr(eb.text, "in use"));
    close(fd);
    fd = sock_listen_fd(&at, &o, &eb); /* nobody does */
    assert_true(fd >= 0);
    assert_int_equal(stat(path + 5, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    end_open(&l, fd);
    sock_accept(&l.s, true);
    assert_int_equal(sock_connect(&c.s, L, &at, &end_ops), MC_OK);
    UNTIL(c.n_connected == 1 && l.n_accepted == 1);
    assert_int_equal(c.connect_err, 0);
    end_open(&a, l.accepted[0]);
    sock_recv(&a.s, true);
    sock_write(&c.s, "hi", 2);
    UNTIL(end_has(&a, "hi"));
    end_close(&a);
    end_close(&c);
    end_close(&l);
    unlink(path + 5);
}

static void
ipv6_and_ipv4_wildcards_stand_side_by_side(void **state)
{
    struct sock_listen_opts o = {.reuseport = true};
    struct addr six, four;
    struct errbuf eb;
    int fd6, fd4, fd4b;

    assert_true(addr_parse_ip(STR("::"), 0, &six));
    fd6 = sock_listen_fd(&six, &o, &eb);
    if (fd6 < 0)
        skip();
    assert_return_code(getsockname(fd6, &six.u.sa, &six.len), errno);
    assert_true(addr_parse_ip(STR("0.0.0.0"), addr_port(&six), &four));
    fd4 = sock_listen_fd(&four, &o, &eb);
    fd4b = sock_listen_fd(&four, &o, &eb); /* reuseport: one per worker */
    assert_true(fd4 >= 0 && fd4b >= 0);
    close(fd6);
    close(fd4);
    close(fd4b);
}

/* --- many and few descriptors ---------------------------------------------------------------- */

static void
accepting_pauses_when_descriptors_run_out_and_can_be_resumed(void **state)
{
    struct end l;
    struct addr to;
    struct rlimit old, tight;
    int fd[3], extra;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    end_open(&l, listen_on(&to));
    for (int i = 0; i < 3; i++)
        fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    extra = dup(fd[2]);
    tight = (struct rlimit){.rlim_cur = (rlim_t)extra + 1, .rlim_max = old.rlim_max};
    close(extra); /* room for one */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    sock_accept(&l.s, true);
    settle();
    for (int i = 0; i < 3; i++)
        connect(fd[i], &to.u.sa, to.len);
    UNTIL(l.n_error == 1);
    assert_int_equal(l.err, EMFILE);
    assert_int_equal(l.n_accepted, 1);
    settle();
    assert_int_equal(l.n_error, 1); /* off: no spinning */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    sock_accept(&l.s, true);
    UNTIL(l.n_accepted == 3);
    assert_int_equal(l.n_error, 1);
    for (int i = 0; i < 3; i++) {
        close(fd[i]);
        close(l.accepted[i]);
    }
    end_close(&l);
}

/* Leaves this many free below the limit, which is set accordingly. */
static struct rlimit
tighten(int n_free)
{
    struct rlimit old, tight;
    int next = dup(0);

    close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    tight = (struct rlimit){.rlim_cur = (rlim_t)(next + n_free), .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    return old;
}

static void
is_paused(struct end *e)
{
    assert_true(e->n_accepted > 0 || !(e->s.flags & SF_ACCEPT));
}

/* The owner tries again after a while: each attempt fails once, and none of them is the last. */
static void
resuming_too_early_is_told_each_time_and_the_listener_lives(void **state)
{
    struct end l;
    struct addr to;
    struct rlimit old;
    int fd[3];

    end_open(&l, listen_on(&to));
    l.then = is_paused;
    for (int i = 0; i < 3; i++)
        fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    old = tighten(0);
    for (int i = 0; i < 3; i++)
        connect(fd[i], &to.u.sa, to.len);
    for (unsigned i = 1; i <= 20; i++) {
        sock_accept(&l.s, true);
        if (i % 3 == 0) { /* the attempt is called back, and then it is not */
            sock_accept(&l.s, false);
            sock_accept(&l.s, true);
        }
        UNTIL(l.n_error == i);
        assert_int_equal(l.err, EMFILE);
        if (i % 2 == 0) /* a pause that the owner makes itself, too */
            sock_accept(&l.s, false);
        settle();
        assert_int_equal(l.n_error, i);
        assert_int_equal(l.s.pending, 0);
    }
    assert_int_equal(l.n_accepted, 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    sock_accept(&l.s, true);
    UNTIL(l.n_accepted == 3);
    for (int i = 0; i < 3; i++) {
        close(fd[i]);
        close(l.accepted[i]);
    }
    end_close(&l);
}

/* One that turns it on again from inside on_error gets one answer a turn. */
static void
resume_at_once(struct end *e)
{
    if (e->n_error > 0 && e->n_accepted == 0)
        sock_accept(&e->s, true);
}

static void
resuming_inside_on_error_does_not_spin_within_a_turn(void **state)
{
    struct end l;
    struct addr to;
    struct rlimit old;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

    end_open(&l, listen_on(&to));
    l.then = resume_at_once;
    old = tighten(0);
    connect(fd, &to.u.sa, to.len);
    sock_accept(&l.s, true);
    for (unsigned i = 1; i <= 20; i++) {
        loop_turn(L, 0);
        assert_true(l.n_error <= i);
    }
    assert_true(l.n_error > 1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    UNTIL(l.n_accepted == 1);
    close(fd);
    close(l.accepted[0]);
    end_close(&l);
}

static void
accepting_can_be_turned_off(void **state)
{
    struct end l;
    struct addr to;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

    end_open(&l, listen_on(&to));
    sock_accept(&l.s, true);
    settle();
    sock_accept(&l.s, false);
    settle();
    connect(fd, &to.u.sa, to.len);
    settle();
    assert_int_equal(l.n_accepted, 0);
    sock_accept(&l.s, true);
    UNTIL(l.n_accepted == 1);
    close(l.accepted[0]);
    close(fd);
    end_close(&l);
}

/* The kernel closes the descriptors of a process that dies at once, and what a ring knows when it
 * gets round to it. */
static void
nothing_but_its_descriptor_keeps_a_listener_open(void **state)
{
    struct addr to;
    struct end l;
    int other = open("/dev/null", O_RDONLY), fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(other >= 0 && fd >= 0);
    end_open(&l, listen_on(&to));
    sock_accept(&l.s, true);
    settle();
    assert_return_code(dup2(other, l.s.fd), errno);
    assert_int_equal(connect(fd, &to.u.sa, to.len), -1);
    assert_int_equal(errno, ECONNREFUSED);
    close(fd);
    close(other);
    end_close(&l);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        LOOP_TEST(a_connection_is_made_and_accepted),
        LOOP_TEST(bytes_written_before_the_connection_stands_are_sent_then),
        LOOP_TEST(a_server_that_speaks_first_is_heard),
        LOOP_TEST(a_refused_connection_is_told_by_on_connect),
        LOOP_TEST(a_connection_that_hangs_can_be_closed),
        LOOP_TEST(an_unreachable_address_is_an_error_of_on_connect),
        LOOP_TEST(unix_sockets_work_and_a_stale_file_is_replaced),
        LOOP_TEST(ipv6_and_ipv4_wildcards_stand_side_by_side),
        LOOP_TEST(accepting_pauses_when_descriptors_run_out_and_can_be_resumed),
        LOOP_TEST(resuming_too_early_is_told_each_time_and_the_listener_lives),
        LOOP_TEST(resuming_inside_on_error_does_not_spin_within_a_turn),
        LOOP_TEST(accepting_can_be_turned_off),
        LOOP_TEST(nothing_but_its_descriptor_keeps_a_listener_open),
    };

    return RUN_ON_BOTH(tests);
}
