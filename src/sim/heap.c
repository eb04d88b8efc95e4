/* SPDX-License-Identifier: BSD-2-Clause
 *
 * heap.c - events by time, see heap.h.
 */
#include "sim/heap.h"

#include <stdlib.h>

#include "base/check.h"

static bool
before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at != b->at ? a->at < b->at : (int32_t)(a->order - b->order) < 0;
}

void
sim_heap_push(struct sim_heap *h, mc_ns at, unsigned kind, uint32_t a, uint32_t b)
{
    struct sim_event e = {at, h->order++, kind, a, b};
    unsigned i = h->n++;

    if (i == h->cap) {
        h->cap = h->cap ? 2 * h->cap : 4096;
        h->event = mc_realloc(h->event, h->cap * sizeof(*h->event));
    }
    for (; i > 0 && before(&e, &h->event[(i - 1) / 4]); i = (i - 1) / 4)
        h->event[i] = h->event[(i - 1) / 4];
    h->event[i] = e;
}

static unsigned
least_child(const struct sim_heap *h, unsigned i)
{
    unsigned best = 4 * i + 1, end = best + 4 < h->n ? best + 4 : h->n;

    for (unsigned c = best + 1; c < end; c++)
        if (before(&h->event[c], &h->event[best]))
            best = c;
    return best;
}

bool
sim_heap_pop(struct sim_heap *h, struct sim_event *out)
{
    struct sim_event last;
    unsigned i = 0;

    if (h->n == 0)
        return false;
    *out = h->event[0];
    last = h->event[--h->n];
    while (4 * i + 1 < h->n) {
        unsigned c = least_child(h, i);

        if (!before(&h->event[c], &last))
            break;
        h->event[i] = h->event[c];
        i = c;
    }
    h->event[i] = last;
    return true;
}

void
sim_heap_free(struct sim_heap *h)
{
    free(h->event);
    *h = (struct sim_heap){0};
}
