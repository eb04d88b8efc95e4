/* SPDX-License-Identifier: BSD-2-Clause
 *
 * home.c - cutting the ring, see home.h.
 */
#include "place/home.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/str.h"

/* An edge stays until it would move by this part of a mean server. */
#define EDGE_STICKS 0.15
/* A piece of a server that is smaller than this is left to the neighbour, who has the rest. */
#define SLIVER      0.1

struct home_cut *
home_cut_new(unsigned n_members, unsigned n_places)
{
    struct home_cut *c = mc_alloc(sizeof(*c));

    MC_ASSERT(n_members > 0);
    c->n_members = n_members;
    c->n_places = n_places;
    c->span = mc_alloc(n_members * sizeof(*c->span));
    c->edge = mc_alloc(2 * n_members * sizeof(*c->edge));
    c->before = mc_alloc((n_places + 1) * sizeof(*c->before));
    c->cover_first = mc_alloc((n_places + 1) * sizeof(*c->cover_first));
    c->cover_n = mc_alloc((n_places + 1) * sizeof(*c->cover_n));
    for (unsigned i = 0; i < 2 * n_members; i++)
        c->edge[i] = NAN;
    return c;
}

void
home_cut_free(struct home_cut **cp)
{
    struct home_cut *c = *cp;

    if (!c)
        return;
    *cp = NULL;
    free(c->span);
    free(c->edge);
    free(c->before);
    free(c->cover_first);
    free(c->cover_n);
    free(c);
}

static void
add_up(struct home_cut *c, const double *capacity)
{
    double sum = 0;

    for (unsigned p = 0; p < c->n_places; p++)
        sum += capacity[p];
    c->before[0] = 0;
    for (unsigned p = 0; p < c->n_places; p++) {
        double share = sum > 0 ? capacity[p] / sum : 1.0 / c->n_places;

        c->before[p + 1] = c->before[p] + share;
    }
    c->before[c->n_places] = 1;
}

static void
set_edge(struct home_cut *c, unsigned i, double to)
{
    if (!(fabs(c->edge[i] - to) < EDGE_STICKS / c->n_places))
        c->edge[i] = to;
}

/* A share below one unit becomes that unit, and keeps what of it lies beyond, so that the members
 * together always cover the ring. */
static void
lay_edges(struct home_cut *c, const double *rate)
{
    double units = floor((double)c->n_places / HOME_UNIT), sum = 0, at = 0;

    units = units < 1 ? 1 : units;
    for (unsigned m = 0; m < c->n_members; m++)
        sum += rate[m];
    for (unsigned m = 0; m < c->n_members; m++) {
        double share = sum > 0 ? rate[m] / sum : 1.0 / c->n_members;
        double from = at, to = m + 1 < c->n_members ? at + share : 1;

        if (share < 1 / units) {
            double unit = fmin(floor((from + share / 2) * units), units - 1);

            from = fmin(from, unit / units);
            to = fmax(to, (unit + 1) / units);
        }
        set_edge(c, 2 * m, from);
        set_edge(c, 2 * m + 1, fmin(to, 1));
        at += share;
    }
}

/* The last place that begins at or before x. */
static unsigned
place_at(const struct home_cut *c, double x)
{
    unsigned lo = 0, hi = c->n_places;

    while (hi - lo > 1) {
        unsigned mid = (lo + hi) / 2;

        if (c->before[mid] <= x)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

static void
find_span(struct home_cut *c, unsigned m)
{
    double from = c->edge[2 * m], to = c->edge[2 * m + 1];
    unsigned first = place_at(c, from), last = place_at(c, to);

    if (last > first && to - c->before[last] < SLIVER * (c->before[last + 1] - c->before[last]))
        last--;
    if (first < last &&
        c->before[first + 1] - from < SLIVER * (c->before[first + 1] - c->before[first]))
        first++;
    c->span[m] = (struct home_span){first, last - first + 1};
}

static void
find_covers(struct home_cut *c)
{
    for (unsigned p = 0; p < c->n_places; p++)
        c->cover_n[p] = 0;
    for (unsigned m = 0; m < c->n_members; m++) {
        for (uint32_t p = c->span[m].first; p < c->span[m].first + c->span[m].n; p++) {
            if (c->cover_n[p] == 0)
                c->cover_first[p] = (uint16_t)m;
            c->cover_n[p] = (uint16_t)(m - c->cover_first[p] + 1);
        }
    }
}

void
home_cut_make(struct home_cut *c, const double *capacity, const double *rate)
{
    if (c->n_places == 0)
        return;
    add_up(c, capacity);
    lay_edges(c, rate);
    for (unsigned m = 0; m < c->n_members; m++)
        find_span(c, m);
    find_covers(c);
}

unsigned
home_owner(const uint64_t *member_ids, unsigned n_members, uint64_t server_hash, unsigned rank)
{
    uint64_t first_hash = 0, second_hash = 0;
    unsigned first = 0, second = 0;

    for (unsigned m = 0; m < n_members; m++) {
        uint64_t h = str_hash((struct str){(const char *)&member_ids[m], 8}, server_hash);

        if (m == 0 || h > first_hash) {
            second = first;
            second_hash = first_hash;
            first = m;
            first_hash = h;
        } else if (second == first || h > second_hash) {
            second = m;
            second_hash = h;
        }
    }
    return rank == 0 ? first : second;
}
