/* SPDX-License-Identifier: BSD-2-Clause
 *
 * presence.c - presence by class, server and window, see presence.h.
 */
#include "place/presence.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

void
presence_init(struct presence *p, unsigned n_servers, unsigned n_classes, mc_ns window_ns,
              mc_ns now)
{
    *p = (struct presence){.n_servers = n_servers,
                           .n_classes = n_classes,
                           .n_words = (n_classes + 63) / 64,
                           .window_ns = window_ns,
                           .window = now / window_ns};
    p->cell = mc_alloc((size_t)n_servers * n_classes * sizeof(*p->cell) + 1);
    p->active = mc_alloc((size_t)n_servers * p->n_words * sizeof(*p->active) + 1);
}

void
presence_fini(struct presence *p)
{
    free(p->cell);
    free(p->active);
}

/* The event's cell, the parity of its window, and how long before the window's end it came.  What
 * is older than the present window counts from its begin; what is newer than the next, from the
 * next one's end: neither happens while control turns in time. */
static struct presence_cell *
find(struct presence *p, uint32_t server, unsigned class, mc_ns at, unsigned *parity, float *left_s)
{
    mc_ns begin = p->window * p->window_ns, since = at - begin;
    unsigned next = since >= p->window_ns;

    MC_ASSERT(server < p->n_servers);
    class = class < p->n_classes ? class : 0;
    since = since < 0 ? 0 : since > 2 * p->window_ns ? 2 * p->window_ns : since;
    *parity = (unsigned)(p->window & 1) ^ next;
    *left_s = (float)(p->window_ns * (next + 1) - since) * 1e-9f;
    p->active[server * p->n_words + class / 64] |= 1ull << (class % 64);
    return &p->cell[(size_t)server * p->n_classes + class];
}

void
presence_begin(struct presence *p, uint32_t server, unsigned class, mc_ns at)
{
    unsigned parity;
    float left_s;
    struct presence_cell *c = find(p, server, class, at, &parity, &left_s);

    c->change[parity]++;
    c->sum_s[parity] += left_s;
}

void
presence_end(struct presence *p, uint32_t server, unsigned class, mc_ns at, mc_ns rtt)
{
    unsigned parity;
    float left_s;
    struct presence_cell *c = find(p, server, class, at, &parity, &left_s);

    c->change[parity]--;
    c->sum_s[parity] -= left_s + (float)rtt * 1e-9f;
    c->ended[parity]++;
}

static bool
row_of(const struct presence *p, const struct presence_cell *c, struct presence_row *out)
{
    unsigned now = (unsigned)(p->window & 1);
    float seconds = (float)c->level * (float)p->window_ns * 1e-9f + c->sum_s[now];

    out->seconds = seconds > 0 ? seconds : 0;
    out->ended = c->ended[now];
    out->level = c->level + c->change[now];
    return out->seconds > 0 || out->ended > 0 || out->level != 0;
}

unsigned
presence_rows(struct presence *p, uint32_t server, struct presence_row *out)
{
    unsigned n = 0;

    for (unsigned w = 0; w < p->n_words; w++) {
        uint64_t bits = p->active[server * p->n_words + w];

        for (; bits; bits &= bits - 1) {
            unsigned class = w * 64 + (unsigned)__builtin_ctzll(bits);

            out[n].class = (uint16_t) class;
            n += row_of(p, &p->cell[(size_t)server * p->n_classes + class], &out[n]);
        }
    }
    return n;
}

static void
next_cell(struct presence_cell *c, unsigned now)
{
    c->level += c->change[now];
    c->change[now] = 0;
    c->sum_s[now] = 0;
    c->ended[now] = 0;
}

void
presence_next(struct presence *p)
{
    static const struct presence_cell nothing;
    unsigned now = (unsigned)(p->window & 1);

    for (uint32_t s = 0; s < p->n_servers; s++) {
        for (unsigned w = 0; w < p->n_words; w++) {
            uint64_t *word = &p->active[s * p->n_words + w];

            for (uint64_t bits = *word; bits; bits &= bits - 1) {
                unsigned bit = (unsigned)__builtin_ctzll(bits);
                struct presence_cell *c = &p->cell[(size_t)s * p->n_classes + w * 64 + bit];

                next_cell(c, now);
                if (memcmp(c, &nothing, sizeof(nothing)) == 0)
                    *word &= ~(1ull << bit);
            }
        }
    }
    p->window++;
}
