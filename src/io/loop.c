/* SPDX-License-Identifier: BSD-2-Clause
 *
 * loop.c - see loop.h: the turn, and what does not depend on the engine.
 */
#include "io/loop.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"
#include "base/str.h"
#include "io/engine.h"

/* Delivering makes new work (an accepted connection is read, its request written elsewhere); as
 * often as this it is done in the same turn before the kernel is asked again. */
#define WORK_PASSES 4

/* What LOOP_AUTO means where it works.  A forwarding proxy over these engines, 64 connections,
 * where a system call costs 120 ns: small keep-alive requests 9.1 us of CPU with io_uring and 9.4
 * with epoll, new connections 22 and 24, large bodies the same. */
#define AUTO_ENGINE LOOP_URING

/* Turns in a round, when the kernel always has more: a guess, some 300 events with io_uring. */
#define ROUND_TURNS 16

/* loop_free() turns this often to bring home what was closed just before. */
#define FREE_TURNS  100

/* --- from other threads ---------------------------------------------------------------------- */

static void
woken(struct watch *w, unsigned revents)
{
    struct loop *l = container_of(w, struct loop, wake_watch);
    uint64_t n;

    while (read(w->fd, &n, sizeof(n)) < 0 && errno == EINTR)
        ;
    watch_arm(w, POLLIN);
    /* Cleared before the call: a wake that comes during it makes another one. */
    atomic_store(&l->woken, false);
    if (l->on_wake)
        l->on_wake(l->on_wake_arg);
}

void
loop_wake(struct loop *l)
{
    static const uint64_t one = 1;
    int err = errno;

    if (!atomic_exchange(&l->woken, true))
        while (write(l->wake_watch.fd, &one, sizeof(one)) < 0 && errno == EINTR)
            ;
    errno = err;
}

void
loop_on_wake(struct loop *l, void (*fn)(void *arg), void *arg)
{
    l->on_wake = fn;
    l->on_wake_arg = arg;
}

/* --- birth and death ------------------------------------------------------------------------- */

/* The first engine that works; the note keeps why another did not. */
static bool
start_engine(struct loop *l, const struct loop_conf *conf, struct errbuf *note)
{
    enum loop_engine wanted = conf->engine == LOOP_AUTO ? AUTO_ENGINE : conf->engine;
    struct errbuf why = {{0}};

    if (wanted == LOOP_URING) {
        l->engine = &engine_uring;
        if (l->engine->start(l, conf, &why))
            return true;
        err_set(note, "%s; epoll is used instead", why.text);
    }
    l->engine = &engine_epoll;
    if (l->engine->start(l, conf, &why))
        return true;
    err_set(note, "%s", why.text);
    return false;
}

static void
loop_init(struct loop *l)
{
    l->magic = LOOP_MAGIC;
    l->now_ns = units_clock_ns();
    l->blocks = block_pool_new();
    l->timers = timers_new(l->now_ns);
    list_init(&l->work);
    list_init(&l->ended);
    list_init(&l->tasks);
    list_init(&l->first);
}

static void
loop_fini(struct loop *l)
{
    timers_free(&l->timers);
    block_pool_free(&l->blocks);
    l->magic = 0;
    free(l);
}

struct loop *
loop_new(const struct loop_conf *conf, struct errbuf *note)
{
    struct loop *l;
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

    if (fd < 0) {
        err_sys(note, "eventfd");
        return NULL;
    }
    err_set(note, "%s", "");
    l = mc_alloc(sizeof(*l));
    loop_init(l);
    if (!start_engine(l, conf, note)) {
        loop_fini(l);
        close(fd);
        return NULL;
    }
    watch_init(&l->wake_watch, l, fd, woken);
    watch_arm(&l->wake_watch, POLLIN);
    return l;
}

void
loop_free(struct loop **lp)
{
    struct loop *l = *lp;

    if (l == NULL)
        return;
    MC_CHECK(l, LOOP_MAGIC);
    for (unsigned i = 0; i < FREE_TURNS && l->n_socks > 0; i++)
        loop_turn(l, MC_MS);
    MC_ASSERT(l->n_socks == 0);
    watch_drop(&l->wake_watch);
    close(l->wake_watch.fd);
    splice_free_idle(l);
    l->engine->submit(l);
    l->engine->stop(l);
    direct_free_spare(l);
    loop_fini(l);
    *lp = NULL;
}

const char *
loop_engine_name(const struct loop *l)
{
    return l->engine->name;
}

bool
loop_engine_parse(const char *text, enum loop_engine *out)
{
    static const char *const names[] = {
        [LOOP_AUTO] = "auto", [LOOP_EPOLL] = "epoll", [LOOP_URING] = "uring"};

    for (unsigned i = 0; i < MC_COUNT(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            *out = (enum loop_engine)i;
            return true;
        }
    }
    return false;
}

mc_ns
loop_now_exact(struct loop *l)
{
    return units_clock_ns();
}

struct block_pool *
loop_blocks(struct loop *l)
{
    return l->blocks;
}

/* --- timers and tasks ------------------------------------------------------------------------ */

void
loop_timer_set(struct loop *l, struct timer *t, mc_ns at_ns)
{
    timers_set(l->timers, t, at_ns);
}

void
loop_timer_clear(struct loop *l, struct timer *t)
{
    timers_clear(l->timers, t);
}

void
loop_defer(struct loop *l, struct task *t)
{
    if (t->link.next == NULL)
        list_push_back(&l->tasks, &t->link);
}

void
loop_defer_first(struct loop *l, struct task *t)
{
    if (t->link.next == NULL)
        list_push_back(&l->first, &t->link);
}

void
loop_undefer(struct loop *l, struct task *t)
{
    if (t->link.next == NULL)
        return;
    list_remove(&t->link);
    t->link.next = t->link.prev = NULL;
}

/* Those that a task defers (itself, say) wait for the next turn. */
static void
run_tasks(struct loop *l, struct list *tasks)
{
    struct list batch;

    list_init(&batch);
    list_splice(&batch, tasks);
    while (!list_empty(&batch)) {
        struct task *t = LIST_ENTRY(batch.next, struct task, link);

        loop_undefer(l, t);
        t->fn(t);
    }
}

void
loop_run_first(struct loop *l)
{
    run_tasks(l, &l->first);
}

/* --- watches --------------------------------------------------------------------------------- */

void
watch_init(struct watch *w, struct loop *l, int fd, watch_f *fn)
{
    *w = (struct watch){.loop = l, .fn = fn, .fd = fd};
}

void
watch_arm(struct watch *w, unsigned events)
{
    MC_ASSERT(events != 0 && (events & ~(unsigned)(POLLIN | POLLOUT)) == 0);
    if (w->events == events)
        return;
    w->loop->engine->watch_arm(w, events);
    w->events = events;
}

void
watch_drop(struct watch *w)
{
    if (w->engine)
        w->loop->engine->watch_drop(w);
    w->engine = NULL;
    w->events = 0;
}

/* --- the turn -------------------------------------------------------------------------------- */

/* hot: once per turn */
static void
run_work(struct loop *l)
{
    struct list batch;

    list_init(&batch);
    loop_run_first(l);
    for (unsigned pass = 0; pass < WORK_PASSES && !list_empty(&l->work); pass++) {
        list_splice(&batch, &l->work);
        while (!list_empty(&batch))
            sock_run(LIST_ENTRY(batch.next, struct sock, link));
        loop_run_first(l);
    }
}

void
loop_flush(struct loop *l)
{
    if (list_empty(&l->work))
        return;
    run_work(l);
    l->engine->submit(l);
}

/* The last call to an owner: the socket's memory is not touched afterwards. */
static void
tell_ended(struct loop *l)
{
    while (!list_empty(&l->ended)) {
        struct sock *s = LIST_ENTRY(l->ended.next, struct sock, link);

        list_remove(&s->link);
        s->magic = 0;
        l->n_socks--;
        s->ops->on_closed(s);
    }
}

static mc_ns
wait_for(const struct loop *l, mc_ns max_wait_ns)
{
    mc_ns next;

    if (!list_empty(&l->work) || !list_empty(&l->tasks) || !list_empty(&l->first) ||
        !list_empty(&l->ended))
        return 0;
    next = timers_next(l->timers, l->now_ns);
    if (next == MC_NEVER_NS)
        return max_wait_ns;
    /* The turn before may have taken long: the clock that counts is the one of now. */
    next -= units_clock_ns();
    return next < 0 ? 0 : next < max_wait_ns ? next : max_wait_ns;
}

/* A round ends when the kernel has no more, or has had more for long. */
static void
look_at_round(struct loop *l)
{
    if (l->more && ++l->n_pressed < ROUND_TURNS)
        return;
    l->n_pressed = 0;
    l->round++;
}

/* hot: once per turn */
void
loop_turn(struct loop *l, mc_ns max_wait_ns)
{
    MC_CHECK(l, LOOP_MAGIC);
    l->engine->wait(l, wait_for(l, max_wait_ns));
    look_at_round(l);
    timers_run(l->timers, l->now_ns);
    run_tasks(l, &l->tasks);
    run_work(l);
    tell_ended(l);
}

void
loop_run(struct loop *l)
{
    l->stopping = false;
    while (!l->stopping)
        loop_turn(l, MC_NEVER_NS);
    l->engine->submit(l);
}

void
loop_stop(struct loop *l)
{
    l->stopping = true;
}
