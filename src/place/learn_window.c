/* SPDX-License-Identifier: BSD-2-Clause
 *
 * learn_window.c - windows of the servers that are ours to follow: what all balancers had in flight
 * there, beside what the agent counted.  See learn.h.
 *
 * A window is taken when each balancer's share and the agent's counter at both ends are in.  What
 * is incomplete when newer windows are waiting is given up: half of the presence would make the
 * requests in it look twice as dear.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "place/learn.h"

/* Above it the CPU is a mixture of who waits and who runs, and differences mislead. */
#define PRESSURE_MOST 0.05
#define CROWD_MOST    1.2 /* times the busy time that requests could have filled */
#define WAIT_WINDOWS  5   /* behind the newest one before a window is given up */
/* Of a window in the memory without requests; up it goes at once, since what is beyond the limit is
 * lost.  It holds what requests take beyond what was learned, too. */
#define BASE_FALL     0.05
#define MEM_SPAN      5                   /* windows */
#define MEM_RISE      0.3                 /* of a row's size when memory is expected to rise */
#define DIFFER_MOST   (2 * UINT8_MAX + 2) /* terms of a difference: rows of two windows */
#define OTHER_BLEND   0.1                 /* of a window in the CPU that nobody told of */

static struct learn_slot *
slot_of(struct learn *l, struct learn_server *s, int64_t window)
{
    struct learn_slot *slot = &s->slot[window % LEARN_SLOTS];

    if (window < s->next)
        return NULL; /* too late */
    if (slot->window != window) {
        if (s->last == slot)
            s->last = NULL;
        slot->window = window;
        slot->n_heard = slot->n = 0;
        slot->told = false;
    }
    return slot;
}

static void
forget_windows(struct learn_server *s)
{
    for (unsigned i = 0; i < LEARN_SLOTS; i++) {
        s->slot[i].window = -1;
        s->slot[i].n = 0;
    }
    s->last = NULL;
    s->next = 0;
    s->any_report = false;
}

void
learn_own(struct learn *l, uint32_t server, bool owned)
{
    struct learn_server *s = &l->server[server];

    if (s->owned == owned)
        return;
    s->owned = owned;
    forget_windows(s);
}

void
learn_failed(struct learn *l, uint32_t server)
{
    l->server[server].failed = true;
}

/* --- taking a window ----------------------------------------------------------------------------
 */

static double
length_s(const struct learn *l)
{
    return (double)l->window_ns * 1e-9;
}

/* Cores that one request can have: the quota of a container may be less than one. */
static double
lone_cores(const struct learn_slot *w)
{
    return w->cores > 0 && w->cores < 1 ? w->cores : 1;
}

/* How many times longer than with a core of its own a lone request computed in this window, as its
 * quota was used up: not at all while it had not been, 1 / cores when it always was. */
static double
held_back(const struct learn *l, const struct learn_slot *w)
{
    double least = lone_cores(w);

    if (least == 1 || w->cpu_s <= 0)
        return 1;
    return fmin(1 + w->pressure * length_s(l) / w->cpu_s, 1 / least);
}

/* A request that waits for something else w seconds and computes C keeps C / (C + w) of a core busy
 * on the average server, and C f / (C f h + w) on one that is f times slower and holds it back h
 * times: how much more that is. */
static double
phi_ratio(double phi, double factor, double held)
{
    phi = fmin(phi, 1);
    return factor / (1 - phi + phi * factor * held);
}

static double
phi_there(const struct learn *l, unsigned class, double factor, double held)
{
    return l->class[class].phi * phi_ratio(l->class[class].phi, factor, held);
}

/* Requests waited for each other, not only for the quota: by what is known of them they could have
 * kept more of the time busy than was.  With a core and more no request waits alone. */
static bool
is_crowded(const struct learn *l, const struct learn_server *s, const struct learn_slot *w)
{
    double held = held_back(l, w), wanted = 0, busy;

    if (w->pressure <= PRESSURE_MOST || lone_cores(w) == 1)
        return w->pressure > PRESSURE_MOST;
    for (unsigned i = 0; i < w->n; i++)
        wanted += phi_there(l, w->row[i].class, s->factor, held) * (double)w->row[i].seconds;
    busy = fmin(w->cpu_s + w->pressure * length_s(l), length_s(l));
    return wanted * held > CROWD_MOST * busy;
}

/* CPU by presence: who was there used it, each by its phi.  Busy windows count, too. */
static void
share_out(struct learn *l, const struct learn_server *s, const struct learn_slot *w)
{
    double sum = 0, held = held_back(l, w);

    for (unsigned i = 0; i < w->n; i++)
        sum += phi_there(l, w->row[i].class, s->factor, held) * (double)w->row[i].seconds;
    for (unsigned i = 0; i < w->n; i++) {
        const struct presence_row *r = &w->row[i];

        if (sum > 0)
            l->own.cpu_s[r->class] += w->cpu_s * phi_there(l, r->class, s->factor, held) *
                                      (double)r->seconds / sum / s->factor;
        l->own.ended[r->class] += (double)r->ended;
    }
}

static const struct presence_row *
row_of(const struct learn_slot *w, unsigned class)
{
    for (unsigned i = 0; i < w->n; i++)
        if (w->row[i].class == class)
            return &w->row[i];
    return NULL;
}

/* What a row explains: memory by requests there at the window's end, CPU by cores that they would
 * keep busy there if phi were 1. */
static float
explains(const struct learn *l, const struct learn_server *s, const struct learn_slot *w,
         const struct presence_row *r, bool levels)
{
    if (r == NULL)
        return 0;
    if (levels)
        return (float)r->level;
    return r->seconds / (float)length_s(l) *
           (float)phi_ratio(l->class[r->class].phi, s->factor, held_back(l, w));
}

static bool
is_comparable(const struct learn_slot *was, const struct learn_slot *w, unsigned windows)
{
    return was->window == w->window - windows && was->n + w->n <= DIFFER_MOST;
}

/* Differences from one window to a later one: they take out what is always there.  Returns how many
 * classes changed. */
static unsigned
differ(const struct learn *l, const struct learn_server *s, const struct learn_slot *a,
       const struct learn_slot *b, bool levels, struct regress_term *out)
{
    unsigned n = 0;

    for (unsigned i = 0; i < b->n; i++)
        out[n++] = (struct regress_term){b->row[i].class,
                                         explains(l, s, b, &b->row[i], levels) -
                                             explains(l, s, a, row_of(a, b->row[i].class), levels)};
    for (unsigned i = 0; i < a->n; i++)
        if (!row_of(b, a->row[i].class))
            out[n++] =
                (struct regress_term){a->row[i].class, -explains(l, s, a, &a->row[i], levels)};
    return n;
}

/* A request takes its memory by and by, the slower the more there is to do, and gives it back some
 * time before its end is seen here, but faster.  So memory is compared over more windows than one,
 * and those in which more begins than ends weigh little. */
static double
memory_weight(const struct learn *l, const struct regress_term *t, unsigned n)
{
    double rise = 0;

    for (unsigned i = 0; i < n; i++)
        rise += (double)t[i].a * (l->class[t[i].at].mem_mb + 1);
    return rise > 0 ? MEM_RISE : 1;
}

static void
regress_memory(struct learn *l, struct learn_server *s, const struct learn_slot *w)
{
    const struct learn_slot *was = &s->slot[(w->window + LEARN_SLOTS - MEM_SPAN) % LEARN_SLOTS];
    struct regress_term t[DIFFER_MOST];
    double weight;
    unsigned n;

    if (!is_comparable(was, w, MEM_SPAN) || !was->told || was->n_heard < l->n_members ||
        was->mem_bytes < 0 || w->mem_bytes < 0)
        return;
    n = differ(l, s, was, w, true, t);
    weight = memory_weight(l, t, n);
    for (unsigned k = 0; k < l->n_classes; k++)
        l->x[k] = l->class[k].mem_mb;
    for (unsigned i = 0; i < n; i++)
        t[i].a *= (float)weight;
    regress_add(&l->own.mem, t, n, (w->mem_bytes - was->mem_bytes) * 1e-6 * weight, l->x);
}

static void
regress_cpu(struct learn *l, struct learn_server *s, const struct learn_slot *w)
{
    struct regress_term t[DIFFER_MOST];
    const struct learn_slot *was = s->last;
    unsigned n;

    if (!was || !is_comparable(was, w, 1) || s->failed || is_crowded(l, s, w) ||
        is_crowded(l, s, was))
        return;
    for (unsigned k = 0; k < l->n_classes; k++)
        l->x[k] = l->class[k].phi;
    n = differ(l, s, was, w, false, t);
    regress_add(&l->own.cpu, t, n, (w->cpu_s - was->cpu_s) / length_s(l), l->x);
}

static void
note_rest(struct learn *l, struct learn_server *s, const struct learn_slot *w)
{
    double cores = w->cpu_s / length_s(l), held = held_back(l, w), base = w->mem_bytes;

    for (unsigned i = 0; i < w->n; i++) {
        const struct presence_row *r = &w->row[i];

        cores -= phi_there(l, r->class, s->factor, held) * (double)r->seconds / length_s(l);
        base -= l->class[r->class].mem_mb * 1e6 * r->level;
    }
    if (w->mem_bytes >= 0) {
        base = fmax(base, 0);
        s->base_bytes =
            base > s->base_bytes ? base : s->base_bytes + BASE_FALL * (base - s->base_bytes);
    }
    if (lone_cores(w) == 1 || !is_crowded(l, s, w))
        s->other += OTHER_BLEND * (cores * held - s->other);
}

static void
take(struct learn *l, struct learn_server *s, struct learn_slot *w)
{
    share_out(l, s, w);
    regress_memory(l, s, w);
    regress_cpu(l, s, w);
    note_rest(l, s, w);
    s->last = w;
    s->failed = false;
    l->n_windows++;
}

static void
take_complete(struct learn *l, struct learn_server *s, int64_t newest)
{
    if (s->next < newest - WAIT_WINDOWS) {
        l->n_dropped += s->next > 0 ? (uint64_t)(newest - WAIT_WINDOWS - s->next) : 0;
        s->next = newest - WAIT_WINDOWS;
    }
    for (; s->next <= newest; s->next++) {
        struct learn_slot *w = &s->slot[s->next % LEARN_SLOTS];
        bool complete =
            w->window == s->next && w->told && w->n_heard >= l->n_members && w->cpu_s >= 0;

        if (complete)
            take(l, s, w);
        else if (s->next > newest - WAIT_WINDOWS)
            return; /* may still come */
        else
            l->n_dropped++;
    }
}

/* --- what comes in ------------------------------------------------------------------------------
 */

/* The agent reads when it can, windows end when they must: between two reports the counter is
 * taken to run evenly. */
static void
tell_windows(struct learn *l, struct learn_server *s, const struct learn_report *r)
{
    mc_ns length = l->window_ns;
    double rate = (r->cpu_s - s->cpu_s) / (double)(r->at_ns - s->at_ns);
    int64_t newest = r->at_ns / length - 1;

    /* a report that was read a moment early is meant for the end of the window */
    if (r->at_ns % length > length - length / 50)
        newest++;
    for (int64_t w = (s->at_ns + length / 50) / length; w <= newest; w++) {
        struct learn_slot *slot = slot_of(l, s, w);

        if (!slot || slot->told)
            continue;
        slot->told = true;
        slot->cpu_s = r->cpu_s < 0 ? -1 : rate * (double)length;
        slot->pressure = r->pressure;
        slot->mem_bytes = r->mem_bytes;
        slot->cores = r->cores;
    }
    take_complete(l, s, newest);
}

bool
learn_report(struct learn *l, uint32_t server, const struct learn_report *r)
{
    struct learn_server *s = &l->server[server];
    bool follows = s->any_report && r->boot == s->boot;

    if (!s->owned || (follows && r->seq <= s->seq))
        return false;
    if (!follows || r->at_ns <= s->at_ns || r->cpu_s < s->cpu_s ||
        r->at_ns - s->at_ns > LEARN_SLOTS * l->window_ns) {
        forget_windows(s);
        s->next = r->at_ns / l->window_ns;
    } else {
        tell_windows(l, s, r);
    }
    s->any_report = true;
    s->boot = r->boot;
    s->seq = r->seq;
    s->at_ns = r->at_ns;
    s->cpu_s = r->cpu_s;
    if (s->base_bytes == 0 && r->mem_bytes > 0)
        s->base_bytes = r->mem_bytes;
    return true;
}

static void
add_row(struct learn_slot *slot, const struct presence_row *r)
{
    struct presence_row *old = (struct presence_row *)row_of(slot, r->class);

    if (old) {
        old->seconds += r->seconds;
        old->ended += r->ended;
        old->level += r->level;
        return;
    }
    if (slot->n == slot->cap) {
        slot->cap = slot->cap ? slot->cap * 2 : 8;
        slot->row = mc_realloc(slot->row, slot->cap * sizeof(*slot->row));
    }
    slot->row[slot->n++] = *r;
}

void
learn_presence(struct learn *l, uint32_t server, int64_t window, const struct presence_row *rows,
               unsigned n)
{
    struct learn_server *s = &l->server[server];
    struct learn_slot *slot;

    if (!s->owned || !s->any_report || window >= s->next + LEARN_SLOTS)
        return;
    slot = slot_of(l, s, window);
    if (!slot)
        return;
    for (unsigned i = 0; i < n; i++)
        add_row(slot, &rows[i]);
    slot->n_heard++;
    if (slot->told)
        take_complete(l, s, window);
}
