/* SPDX-License-Identifier: BSD-2-Clause
 *
 * turns.c - see turns.h.
 *
 * Deficit round robin (Shreedhar and Varghese, 1995): all lines get the same credit for a round,
 * and who took more than that pays for it in the rounds that follow.
 */
#include "io/turns.h"

#include <stdlib.h>

#include "base/check.h"
#include "io/engine.h"

static void run_lines(struct task *);

void
turns_init(struct turns *t, struct loop *l, stat_u64 *deferred)
{
    *t = (struct turns){.loop = l, .task.fn = run_lines, .deferred = deferred};
    list_init(&t->lines);
}

void
turns_fini(struct turns *t)
{
    MC_ASSERT(t->n_waiting == 0);
    loop_undefer(t->loop, &t->task);
    while (!list_empty(&t->lines)) {
        struct turns_line *line = LIST_ENTRY(t->lines.next, struct turns_line, link);

        list_remove(&line->link);
        free(line);
    }
}

static struct turns_line *
line_new(struct turns *t, const void *owner)
{
    struct turns_line *line = mc_alloc(sizeof(*line));

    line->turns = t;
    line->owner = owner;
    list_init(&line->waiting);
    list_push_back(&t->lines, &line->link);
    t->n_lines++;
    return line;
}

static struct turns_line *
line_find(const struct turns *t, const void *owner)
{
    LIST_FOREACH (it, &t->lines) {
        struct turns_line *line = LIST_ENTRY(it, struct turns_line, link);

        if (line->owner == owner)
            return line;
    }
    return NULL;
}

/* hot: once per request */
struct turns_line *
turns_line(struct turns *t, const void *owner)
{
    if (t->latest != NULL && t->latest->owner == owner)
        return t->latest;
    t->latest = line_find(t, owner);
    if (t->latest == NULL)
        t->latest = line_new(t, owner);
    return t->latest;
}

static unsigned
credit(const struct turns *t)
{
    unsigned n = t->n_waiting > 1 ? TURNS_WORK / t->n_waiting : TURNS_WORK;

    return n > 0 ? n : 1;
}

/* A new round: what was done beyond the credit is still to be paid. */
static void
look_at_round(struct turns_line *line)
{
    const unsigned n = credit(line->turns);

    if (line->round == line->turns->loop->round)
        return;
    line->round = line->turns->loop->round;
    line->done -= line->done < n ? line->done : n;
}

bool
turns_may(struct turns_line *line)
{
    struct turns *t = line->turns;

    if (line == t->last && loop_now(t->loop) >= t->shared_until_ns)
        return true;
    look_at_round(line);
    return line->done < credit(line->turns) && (line->serving || list_empty(&line->waiting));
}

void
turns_did(struct turns_line *line)
{
    struct turns *t = line->turns;

    if (line != t->last) {
        if (t->last != NULL)
            t->shared_until_ns = loop_now(t->loop) + TURNS_SHARED_NS;
        t->last = line;
    }
    look_at_round(line);
    line->done++;
}

/* --- waiting ------------------------------------------------------------------------------------
 */

void
sock_await_turn(struct sock *s)
{
    struct turns *t = s->line->turns;

    if (s->flags & SF_WAITS)
        return;
    s->flags |= SF_WAITS;
    s->line->crowded_until_ns = loop_now(t->loop) + TURNS_CROWDED_NS;
    stat_add(t->deferred, 1);
    t->n_waiting += list_empty(&s->line->waiting);
    list_push_back(&s->line->waiting, &s->turn);
    loop_defer(t->loop, &t->task);
}

bool
sock_awaits_turn(const struct sock *s)
{
    return !!(s->flags & SF_WAITS);
}

void
sock_leave_turns(struct sock *s)
{
    if (!(s->flags & SF_WAITS))
        return;
    s->flags &= ~(uint32_t)SF_WAITS;
    list_remove(&s->turn);
    s->line->turns->n_waiting -= list_empty(&s->line->waiting);
}

void
sock_take_turns(struct sock *s, struct turns_line *line)
{
    const bool waited = !!(s->flags & SF_WAITS);

    if (line == s->line)
        return;
    sock_leave_turns(s);
    s->line = line;
    if (waited && line != NULL)
        sock_await_turn(s);
    else if (waited)
        sock_queue(s);
}

bool
sock_goes_first(const struct sock *s)
{
    return s->line != NULL && s->line->turns->n_waiting > 0 && list_empty(&s->line->waiting);
}

bool
sock_is_crowded(const struct sock *s)
{
    return s->line != NULL && loop_now(s->loop) < s->line->crowded_until_ns;
}

bool
sock_its_turn(struct sock *s)
{
    if (s->line == NULL)
        return true;
    if (!turns_may(s->line)) {
        sock_await_turn(s);
        return false;
    }
    turns_did(s->line);
    return true;
}

static void
go_on(struct sock *s)
{
    sock_leave_turns(s);
    if (s->ops->on_turn)
        s->ops->on_turn(s);
    else
        sock_run(s);
}

/* One that has waited; it counts for one at least, so that this ends. */
static unsigned
run_first(struct turns_line *line)
{
    const unsigned before = line->done;

    go_on(LIST_ENTRY(line->waiting.next, struct sock, turn));
    if (line->done == before)
        turns_did(line);
    return line->done - before;
}

/* After so many things of a round; until_ns is when it shall be over. */
static bool
round_goes_on(const struct turns *t, unsigned n, mc_ns until_ns)
{
    return n == 0 || (n < TURNS_WORK && loop_now_exact(t->loop) < until_ns);
}

static void
run_line(struct turns_line *line, unsigned *n, mc_ns until_ns)
{
    line->serving = true;
    while (!list_empty(&line->waiting) && turns_may(line) &&
           round_goes_on(line->turns, *n, until_ns))
        *n += run_first(line);
    line->serving = false;
}

/* Whom a round ends before is the first of the next one. */
static void
run_round(struct turns *t)
{
    const mc_ns until_ns = loop_now_exact(t->loop) + TURNS_WORK_NS;
    unsigned n = 0;

    for (unsigned i = t->n_lines; i > 0 && round_goes_on(t, n, until_ns); i--) {
        struct turns_line *line = LIST_ENTRY(t->lines.next, struct turns_line, link);

        list_remove(&line->link);
        list_push_back(&t->lines, &line->link);
        run_line(line, &n, until_ns);
    }
}

/* Once a round. */
static void
run_lines(struct task *task)
{
    struct turns *t = container_of(task, struct turns, task);

    if (t->round != t->loop->round) {
        loop_flush(t->loop);
        run_round(t);
    }
    t->round = t->loop->round;
    if (t->n_waiting > 0)
        loop_defer(t->loop, &t->task);
}
