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
#define WAIT_WINDOWS  5    /* behind the newest one before a window is given up */
#define BASE_BLEND    0.2  /* of a window in the memory without requests */
#define OTHER_BLEND   0.1  /* of a window in the CPU that nobody told of */
#define OTHER_LEAST   0.25 /* cores below which that is called noise */

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

/* A request that waits for something else w seconds and computes C keeps C / (C + w) of a core busy
 * on the average server, and C f / (C f + w) on one that is f times slower: how much more that is.
 */
static double
phi_ratio(double phi, double factor)
{
    phi = fmin(phi, 1);
    return factor / (1 - phi + phi * factor);
}

static double
phi_there(const struct learn *l, unsigned class, double factor)
{
    return l->class[class].phi * phi_ratio(l->class[class].phi, factor);
}

/* CPU by presence: who was there used it, each by its phi.  Busy windows count, too. */
static void
share_out(struct learn *l, const struct learn_server *s, const struct learn_slot *w)
{
    double sum = 0;

    for (unsigned i = 0; i < w->n; i++)
        sum += phi_there(l, w->row[i].class, s->factor) * (double)w->row[i].seconds;
    for (unsigned i = 0; i < w->n; i++) {
        const struct presence_row *r = &w->row[i];

        if (sum > 0)
            l->own.cpu_s[r->class] +=
                w->cpu_s * phi_there(l, r->class, s->factor) * (double)r->seconds / sum / s->factor;
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

/* Differences from one window to the next: they take out what is always there.  Returns how many
 * classes changed. */
static unsigned
differ(const struct learn_slot *a, const struct learn_slot *b, double length_s, bool levels,
       struct regress_term *out)
{
    unsigned n = 0;

    for (unsigned i = 0; i < b->n; i++) {
        const struct presence_row *was = row_of(a, b->row[i].class);
        float now = levels ? (float)b->row[i].level : b->row[i].seconds / (float)length_s;
        float old = !was ? 0 : levels ? (float)was->level : was->seconds / (float)length_s;

        out[n++] = (struct regress_term){b->row[i].class, now - old};
    }
    for (unsigned i = 0; i < a->n; i++)
        if (!row_of(b, a->row[i].class))
            out[n++] = (struct regress_term){a->row[i].class,
                                             levels ? -(float)a->row[i].level
                                                    : -a->row[i].seconds / (float)length_s};
    return n;
}

static void
regress_window(struct learn *l, struct learn_server *s, const struct learn_slot *w)
{
    double length_s = (double)l->window_ns * 1e-9;
    struct regress_term t[2 * UINT8_MAX + 2];
    const struct learn_slot *was = s->last;
    unsigned n;

    if (!was || was->window != w->window - 1 || was->n + w->n > MC_COUNT(t))
        return;
    if (was->mem_bytes >= 0 && w->mem_bytes >= 0) {
        for (unsigned k = 0; k < l->n_classes; k++)
            l->x[k] = l->class[k].mem_mb;
        n = differ(was, w, length_s, true, t);
        regress_add(&l->own.mem, t, n, (w->mem_bytes - was->mem_bytes) * 1e-6, l->x);
    }
    if (s->failed || w->pressure > PRESSURE_MOST || was->pressure > PRESSURE_MOST)
        return;
    for (unsigned k = 0; k < l->n_classes; k++)
        l->x[k] = l->class[k].phi;
    n = differ(was, w, length_s, false, t);
    for (unsigned i = 0; i < n; i++)
        t[i].a *= (float)phi_ratio(l->x[t[i].at], s->factor);
    regress_add(&l->own.cpu, t, n, (w->cpu_s - was->cpu_s) / length_s, l->x);
}

static void
note_rest(struct learn *l, struct learn_server *s, const struct learn_slot *w)
{
    double length_s = (double)l->window_ns * 1e-9, cores = w->cpu_s / length_s;
    double base = w->mem_bytes;

    for (unsigned i = 0; i < w->n; i++) {
        const struct learn_class *k = &l->class[w->row[i].class];

        cores -= phi_there(l, w->row[i].class, s->factor) * (double)w->row[i].seconds / length_s;
        base -= k->mem_mb * 1e6 * w->row[i].level;
    }
    if (w->mem_bytes >= 0) {
        base = fmax(base, 0);
        s->base_bytes =
            s->base_bytes > 0 ? s->base_bytes + BASE_BLEND * (base - s->base_bytes) : base;
    }
    s->other += OTHER_BLEND * (cores - s->other);
}

static void
take(struct learn *l, struct learn_server *s, struct learn_slot *w)
{
    share_out(l, s, w);
    regress_window(l, s, w);
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
