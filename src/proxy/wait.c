/* SPDX-License-Identifier: BSD-2-Clause
 *
 * wait.c - requests and connections for which every server of their pool is at its limit.
 *
 * One queue a worker and pool, oldest first, bounded in number and time.  A slot that comes free
 * wakes one queue: this worker's own, or another's in turn, so that no worker starves.  A wake that
 * is lost between "full" and "queued" is made good by looking again: right after queueing, and by a
 * timer.
 */
#include <stdlib.h>

#include "proxy/worker_priv.h"

#define LOOK_AGAIN_NS (20 * MC_MS)

struct wait_queue *
wait_queue_of(struct worker *w, struct pool_live *live)
{
    struct wait_queue *q;

    LIST_FOREACH (it, &w->queues) {
        q = LIST_ENTRY(it, struct wait_queue, link);
        if (q->live == live)
            return q;
    }
    q = mc_alloc(sizeof(*q));
    q->live = live;
    list_init(&q->waiters);
    list_push_back(&w->queues, &q->link);
    return q;
}

static uint64_t
worker_bit(const struct worker *w)
{
    return (uint64_t)1 << w->conf.index;
}

static void
look_again(struct timer *timer)
{
    wait_wake(container_of(timer, struct worker, queue_timer));
}

static void
arm(struct worker *w)
{
    w->queue_timer.fn = look_again;
    if (!timer_is_set(&w->queue_timer))
        loop_timer_set(w->loop, &w->queue_timer, worker_now(w) + LOOK_AGAIN_NS);
}

void
wait_init(struct waiter *m, void (*turn)(struct waiter *))
{
    *m = (struct waiter){.turn = turn};
    list_init(&m->link);
}

bool
wait_enter(struct worker *w, struct pool_rt *pool, struct waiter *m)
{
    struct wait_queue *q = pool->queue;

    if (m->queue != NULL)
        return true;
    if (q->n >= pool->pool->conf.queue_max)
        return false;
    stat_add(&w->stats.queued, 1);
    list_push_back(&q->waiters, &m->link);
    m->queue = q;
    if (q->n++ == 0)
        atomic_fetch_or(&q->live->waiting_workers, worker_bit(w));
    atomic_fetch_add(&q->live->queued, 1);
    if (q->n == 1)
        loop_wake(w->loop); /* a slot may have come free since it was found full */
    arm(w);
    return true;
}

void
wait_leave(struct worker *w, struct waiter *m)
{
    struct wait_queue *q = m->queue;

    if (q == NULL)
        return;
    m->queue = NULL;
    list_remove(&m->link);
    atomic_fetch_sub(&q->live->queued, 1);
    if (--q->n == 0)
        atomic_fetch_and(&q->live->waiting_workers, ~worker_bit(w));
}

void
wait_kick(struct worker *w, const struct pool *p)
{
    uint64_t waiting;
    unsigned next = w->conf.index;

    if (atomic_load_explicit(&p->live->queued, memory_order_relaxed) == 0)
        return;
    waiting = atomic_load(&p->live->waiting_workers);
    if (waiting == 0)
        return;
    do
        next = (next + 1) % WORKER_MAX;
    while ((waiting & ((uint64_t)1 << next)) == 0);
    worker_wake_other(next); /* a lock, but only while requests wait */
}

static void
wake_queue(struct wait_queue *q)
{
    while (q->n > 0) {
        struct waiter *m = LIST_ENTRY(q->waiters.next, struct waiter, link);

        m->turn(m);
        if (q->n > 0 && LIST_ENTRY(q->waiters.next, struct waiter, link) == m)
            return; /* still full */
    }
}

void
wait_wake(struct worker *w)
{
    LIST_FOREACH (it, &w->queues) {
        struct wait_queue *q = LIST_ENTRY(it, struct wait_queue, link);

        wake_queue(q);
        if (q->n > 0)
            arm(w);
    }
}

void
wait_free_all(struct worker *w)
{
    LIST_FOREACH_SAFE (it, next, &w->queues) {
        struct wait_queue *q = LIST_ENTRY(it, struct wait_queue, link);

        MC_ASSERT(q->n == 0);
        list_remove(&q->link);
        free(q);
    }
}
