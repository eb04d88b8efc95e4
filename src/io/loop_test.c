/* SPDX-License-Identifier: BSD-2-Clause
 *
 * loop_test.c - timers, tasks, wakes and watches on both engines; the way from io_uring to epoll.
 */
#include "io/harness.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* --- timers and tasks ------------------------------------------------------------------------ */

struct bell {
    struct timer timer;
    struct task task;
    unsigned n;
};

static void
on_timer(struct timer *t)
{
    assert_true(t->at_ns <= loop_now(L));
    container_of(t, struct bell, timer)->n++;
}

static void
a_timer_wakes_the_loop_and_is_never_early(void **state)
{
    struct bell b = {.timer.fn = on_timer};
    mc_ns start = units_clock_ns();

    loop_timer_set(L, &b.timer, start + 30 * MC_MS);
    while (b.n == 0)
        loop_turn(L, MC_NEVER_NS);
    assert_true(units_clock_ns() - start >= 30 * MC_MS);
    loop_timer_set(L, &b.timer, loop_now(L) + MC_MS);
    loop_timer_clear(L, &b.timer);
    loop_turn(L, 5 * MC_MS);
    loop_turn(L, 5 * MC_MS);
    assert_int_equal(b.n, 1);
}

static void
the_time_of_a_turn_stands_still(void **state)
{
    mc_ns now;

    loop_turn(L, 0);
    now = loop_now(L);
    assert_true(loop_now_exact(L) >= now);
    assert_int_equal(loop_now(L), now);
    loop_turn(L, MC_MS);
    assert_true(loop_now(L) > now);
}

static void
on_task(struct task *t)
{
    struct bell *b = container_of(t, struct bell, task);

    if (++b->n < 3)
        loop_defer(L, t); /* the next turn, not this one */
}

static void
deferred_work_runs_at_the_end_of_the_turn_once(void **state)
{
    struct bell b = {.task.fn = on_task}, c = {.task.fn = on_task, .n = 10};

    loop_defer(L, &b.task);
    loop_defer(L, &b.task);
    loop_defer(L, &c.task);
    loop_undefer(L, &c.task);
    loop_undefer(L, &c.task);
    for (unsigned i = 1; i <= 3; i++) {
        loop_turn(L, MC_NEVER_NS); /* does not sleep: there is work */
        assert_int_equal(b.n, i);
    }
    loop_turn(L, 0);
    assert_int_equal(b.n, 3);
    assert_int_equal(c.n, 10);
}

static void
stop_loop(struct timer *t)
{
    loop_stop(L);
}

static void
the_loop_runs_until_it_is_stopped(void **state)
{
    struct timer t = {.fn = stop_loop};

    loop_timer_set(L, &t, loop_now(L) + 2 * MC_MS);
    loop_run(L);
    loop_timer_set(L, &t, loop_now(L) + 2 * MC_MS);
    loop_run(L);
}

/* --- wakes ----------------------------------------------------------------------------------- */

static unsigned n_wakes;
static atomic_uint n_rung;

static void
on_wake(void *arg)
{
    assert_ptr_equal(arg, &n_wakes);
    n_wakes++;
}

static void
a_wake_ends_the_sleep(void **state)
{
    n_wakes = 0;
    loop_on_wake(L, on_wake, &n_wakes);
    loop_wake(L);
    loop_wake(L); /* several may become one */
    loop_turn(L, 10 * MC_SEC);
    UNTIL(n_wakes >= 1);
    assert_int_equal(n_wakes, 1);
    loop_wake(L);
    UNTIL(n_wakes == 2);
}

#define N_RINGS 2000

static void *
ring_from_elsewhere(void *arg)
{
    for (unsigned i = 0; i < N_RINGS; i++) {
        atomic_fetch_add(&n_rung, 1);
        loop_wake(arg);
    }
    return NULL;
}

static unsigned seen;

static void
see_rings(void *arg)
{
    seen = atomic_load(&n_rung);
}

/* Whatever was done before a wake is seen by a call after it: none is lost. */
static void
wakes_from_other_threads_are_not_lost(void **state)
{
    pthread_t t[2];

    atomic_store(&n_rung, 0);
    seen = 0;
    loop_on_wake(L, see_rings, NULL);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&t[i], NULL, ring_from_elsewhere, L), 0);
    UNTIL(seen == 2 * N_RINGS);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
}

static void *
turn_elsewhere(void *arg)
{
    struct loop *l = arg;

    for (int i = 0; i < 3; i++)
        loop_turn(l, MC_MS);
    return NULL;
}

/* As a worker's loop is: made by the main thread, turned by the worker, freed by the main thread.
 */
static void
a_loop_may_be_made_by_one_thread_and_turned_by_another(void **state)
{
    struct loop_conf conf = {.engine = engine_under_test};
    struct errbuf note;
    struct loop *l = loop_new(&conf, &note);
    pthread_t t;

    assert_int_equal(pthread_create(&t, NULL, turn_elsewhere, l), 0);
    pthread_join(t, NULL);
    loop_free(&l);
}

/* --- watches --------------------------------------------------------------------------------- */

struct eye {
    struct watch w;
    unsigned n, revents;
    struct watch *drop;
};

static void
on_watch(struct watch *w, unsigned revents)
{
    struct eye *e = container_of(w, struct eye, w);

    e->n++;
    e->revents = revents;
    if (e->drop) {
        watch_drop(e->drop);
        memset(e->drop, 0xa5, sizeof(*e->drop)); /* its memory is ours again */
        e->drop = NULL;
    }
}

static void
a_watch_fires_once_until_armed_again(void **state)
{
    struct eye e = {.n = 0};
    int fd = eventfd(1, EFD_NONBLOCK);

    watch_init(&e.w, L, fd, on_watch);
    settle();
    assert_int_equal(e.n, 0);
    watch_arm(&e.w, POLLIN);
    UNTIL(e.n == 1);
    assert_int_equal(e.revents, POLLIN);
    settle();
    assert_int_equal(e.n, 1);
    watch_arm(&e.w, POLLIN);
    UNTIL(e.n == 2);
    watch_arm(&e.w, POLLIN);
    watch_arm(&e.w, POLLOUT); /* replaces */
    UNTIL(e.n == 3);
    assert_int_equal(e.revents, POLLOUT);
    watch_drop(&e.w);
    watch_drop(&e.w);
    close(fd);
}

static void
a_dropped_watch_does_not_fire(void **state)
{
    struct eye e = {.n = 0};
    int fd = eventfd(1, EFD_NONBLOCK);

    watch_init(&e.w, L, fd, on_watch);
    watch_arm(&e.w, POLLIN);
    watch_drop(&e.w);
    settle();
    assert_int_equal(e.n, 0);
    watch_arm(&e.w, POLLOUT); /* it may be used again */
    UNTIL(e.n == 1);
    watch_arm(&e.w, POLLIN);
    close(fd); /* c-ares closes before it tells */
    watch_drop(&e.w);
    settle();
    assert_int_equal(e.n, 1);
}

static void
a_watch_may_drop_another_of_the_same_batch(void **state)
{
    struct eye e[3] = {{.n = 0}};
    int fd[3];

    for (int i = 0; i < 3; i++) {
        fd[i] = eventfd(1, EFD_NONBLOCK);
        watch_init(&e[i].w, L, fd[i], on_watch);
        e[i].drop = i < 2 ? &e[1 - i].w : NULL;
        watch_arm(&e[i].w, POLLIN);
    }
    UNTIL(e[2].n == 1);
    UNTIL(e[0].n + e[1].n == 1);
    settle();
    assert_int_equal(e[0].n + e[1].n, 1);
    watch_drop(&e[e[0].n ? 0 : 1].w);
    watch_drop(&e[2].w);
    for (int i = 0; i < 3; i++)
        close(fd[i]);
}

static void
a_watch_sees_the_end_of_a_pipe(void **state)
{
    struct eye e = {.n = 0};
    int fd[2];

    assert_return_code(pipe(fd), errno);
    watch_init(&e.w, L, fd[0], on_watch);
    watch_arm(&e.w, POLLIN);
    settle();
    assert_int_equal(e.n, 0);
    close(fd[1]);
    UNTIL(e.n == 1);
    assert_true(e.revents & POLLHUP);
    watch_drop(&e.w);
    close(fd[0]);
}

/* --- choosing the engine --------------------------------------------------------------------- */

static void
engines_are_named(void **state)
{
    enum loop_engine e;

    assert_true(loop_engine_parse("epoll", &e) && e == LOOP_EPOLL);
    assert_true(loop_engine_parse("uring", &e) && e == LOOP_URING);
    assert_true(loop_engine_parse("auto", &e) && e == LOOP_AUTO);
    assert_false(loop_engine_parse("kqueue", &e));
}

/* Answers this system call with this error, as a container's seccomp profile does. */
static bool
forbid(unsigned call, unsigned err)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | err),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = {.len = MC_COUNT(code), .filter = code};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0;
}

/* 0: epoll was taken and the note says what we expect. */
static int
try_forbidden(enum loop_engine engine, unsigned call, unsigned err, const char *expect)
{
    struct loop_conf conf = {.engine = engine};
    struct errbuf note;
    struct loop *l;

    if (!forbid(call, err))
        return 2;
    l = loop_new(&conf, &note);
    if (l == NULL || strcmp(loop_engine_name(l), "epoll") != 0)
        return 3;
    if (expect ? strstr(note.text, expect) == NULL : note.text[0] != '\0')
        return 4;
    loop_turn(l, 0);
    loop_free(&l);
    return 0;
}

static int
in_child(enum loop_engine engine, unsigned call, unsigned err, const char *expect)
{
    int status;
    pid_t pid = fork();

    if (pid == 0)
        _exit(try_forbidden(engine, call, err, expect));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

static void
where_io_uring_is_forbidden_epoll_is_taken_and_a_note_says_so(void **state)
{
    assert_int_equal(in_child(LOOP_URING, SYS_io_uring_setup, EPERM, "forbidden"), 0);
    assert_int_equal(in_child(LOOP_URING, SYS_io_uring_setup, ENOSYS, "has no io_uring"), 0);
    assert_int_equal(in_child(LOOP_URING, SYS_io_uring_setup, EINVAL, "too old"), 0);
    assert_int_equal(in_child(LOOP_AUTO, SYS_io_uring_setup, EPERM, "epoll is used instead"), 0);
    assert_int_equal(in_child(LOOP_EPOLL, SYS_io_uring_setup, EPERM, NULL), 0);
}

static void
one_forbidden_call_of_the_three_is_enough(void **state)
{
    if (!uring_works())
        skip();
    assert_int_equal(in_child(LOOP_AUTO, SYS_io_uring_enter, EPERM, "io_uring_enter is forbid"), 0);
    assert_int_equal(in_child(LOOP_URING, SYS_io_uring_enter, ENOSYS, "epoll is used instead"), 0);
    assert_int_equal(in_child(LOOP_AUTO, SYS_io_uring_register, EPERM, "epoll is used instead"), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        LOOP_TEST(a_timer_wakes_the_loop_and_is_never_early),
        LOOP_TEST(the_time_of_a_turn_stands_still),
        LOOP_TEST(deferred_work_runs_at_the_end_of_the_turn_once),
        LOOP_TEST(the_loop_runs_until_it_is_stopped),
        LOOP_TEST(a_wake_ends_the_sleep),
        LOOP_TEST(wakes_from_other_threads_are_not_lost),
        LOOP_TEST(a_loop_may_be_made_by_one_thread_and_turned_by_another),
        LOOP_TEST(a_watch_fires_once_until_armed_again),
        LOOP_TEST(a_dropped_watch_does_not_fire),
        LOOP_TEST(a_watch_may_drop_another_of_the_same_batch),
        LOOP_TEST(a_watch_sees_the_end_of_a_pipe),
    };
    const struct CMUnitTest once[] = {
        cmocka_unit_test(engines_are_named),
        cmocka_unit_test(where_io_uring_is_forbidden_epoll_is_taken_and_a_note_says_so),
        cmocka_unit_test(one_forbidden_call_of_the_three_is_enough),
    };

    return RUN_ON_BOTH(tests) + cmocka_run_group_tests_name("choice", once, NULL, NULL);
}
